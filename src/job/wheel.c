/* src/job/wheel.c -- what becomes due when: four levels of 256 lists, a millisecond wide at the first level.
 *
 * Adding, removing and finding what is due cost O(1) each; an instant beyond 49 days waits in the last level and is
 * put in anew when that list's turn comes. An instant is due at its millisecond, never before. See machine.h.
 */
#include "job/machine.h"

enum { LIST_BITS = 8, LIST_MASK = JOB_WHEEL_LISTS - 1, WORDS = JOB_WHEEL_LISTS / 64 };
#define HORIZON                                            \
	((UINT64_C(1) << (LIST_BITS * JOB_WHEEL_LEVELS)) - \
	 (UINT64_C(1) << (LIST_BITS * (JOB_WHEEL_LEVELS - 1))))

void job_wheel_init(struct job_wheel *w, int64_t now_ms)
{
	*w = (struct job_wheel){.base = (uint64_t)(now_ms > 0 ? now_ms : 0)};
}

/* Which list an instant belongs to, seen from base. */
static uint32_t list_of(const struct job_wheel *w, uint64_t at)
{
	uint64_t delta;

	if (at <= w->base)
		at = w->base + 1;
	delta = at - w->base;
	if (delta > HORIZON) {
		at = w->base + HORIZON;
		delta = HORIZON;
	}
	for (uint32_t level = 0; level < JOB_WHEEL_LEVELS - 1; level++)
		if (delta < UINT64_C(1) << (LIST_BITS * (level + 1)))
			return level * JOB_WHEEL_LISTS + (uint32_t)((at >> (LIST_BITS * level)) & LIST_MASK);
	return (JOB_WHEEL_LEVELS - 1) * JOB_WHEEL_LISTS +
	       (uint32_t)((at >> (LIST_BITS * (JOB_WHEEL_LEVELS - 1))) & LIST_MASK);
}

void job_wheel_add(struct job_machine *m, struct job_wheel *w, uint32_t slot, int where)
{
	struct job_slot *s = job_slot(m, slot);
	uint32_t list = list_of(w, (uint64_t)job_slot_when(s));

	s->where = (uint32_t)where & 0xf;
	s->bucket = list & 0x3ff;
	job_list_append(m, &w->first[list], &w->last[list], slot);
	w->bits[list >> LIST_BITS][(list & LIST_MASK) / 64] |= UINT64_C(1) << (list % 64);
	w->count++;
}

void job_wheel_remove(struct job_machine *m, struct job_wheel *w, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	uint32_t list = s->bucket;

	job_list_remove(m, &w->first[list], &w->last[list], slot);
	if (w->first[list] == 0)
		w->bits[list >> LIST_BITS][(list & LIST_MASK) / 64] &= ~(UINT64_C(1) << (list % 64));
	s->where = JOB_AT_NONE;
	w->count--;
}

/* How many lists after index the next non-empty one of a level comes, 1 to 256; 0: the level is empty. */
static uint32_t distance(const uint64_t bits[WORDS], uint32_t index)
{
	uint32_t start = (index + 1) & LIST_MASK;

	for (uint32_t i = 0; i <= WORDS; i++) {
		uint32_t word = (start / 64 + i) % WORDS;
		uint64_t set = bits[word];

		if (i == 0)
			set &= ~UINT64_C(0) << (start % 64);
		if (i == WORDS)
			set &= (UINT64_C(1) << (start % 64)) - 1;
		if (set != 0) {
			uint32_t at = word * 64 + (uint32_t)__builtin_ctzll(set);
			return ((at - start) & LIST_MASK) + 1;
		}
	}
	return 0;
}

/* The first instant after base at which a list has its turn, and which list. */
static uint64_t next_turn(const struct job_wheel *w, uint32_t *ret_list)
{
	uint64_t best = UINT64_MAX;

	for (uint32_t level = JOB_WHEEL_LEVELS; level-- > 0;) {
		uint64_t index = w->base >> (LIST_BITS * level);
		uint32_t far = distance(w->bits[level], (uint32_t)(index & LIST_MASK));
		uint64_t at = (index + far) << (LIST_BITS * level);

		if (far != 0 &&
		    at < best) { /* of equals the higher level: its jobs go to the lower one first */
			best = at;
			*ret_list = level * JOB_WHEEL_LISTS + (uint32_t)((index + far) & LIST_MASK);
		}
	}
	return best;
}

uint32_t job_wheel_due(struct job_machine *m, struct job_wheel *w, int64_t now_ms)
{
	uint64_t now = (uint64_t)(now_ms > 0 ? now_ms : 0);

	while (w->count > 0) {
		uint32_t list = 0, slot;
		uint64_t at = next_turn(w, &list);

		if (at > now)
			break;
		/* base stays before the list's turn until it is empty */
		w->base = at - 1;
		slot = w->first[list];
		if (list < JOB_WHEEL_LISTS && job_slot_when(job_slot(m, slot)) <= (int64_t)at) {
			job_wheel_remove(m, w, slot);
			return slot;
		}
		w->base =
			at; /* seen from the turn itself all of the list's span fits into the levels below */
		while (slot != 0) {
			struct job_slot *s = job_slot(m, slot);
			uint32_t next = s->next;
			int where = s->where;

			job_wheel_remove(m, w, slot);
			if (job_slot_when(s) <= (int64_t)at)
				w->base = at - 1; /* keeps its own ms */
			job_wheel_add(m, w, slot, where);
			w->base = at;
			slot = next;
		}
		w->base = at - 1;
	}
	if (now > w->base)
		w->base = now; /* nothing is due up to now */
	return 0;
}

int64_t job_wheel_next(const struct job_wheel *w)
{
	uint32_t list;

	return w->count == 0 ? INT64_MAX : (int64_t)next_turn(w, &list);
}

uint32_t job_wheel_earliest(const struct job_machine *m, const struct job_wheel *w)
{
	uint32_t list = 0;

	if (w->count == 0)
		return 0;
	next_turn(w, &list);
	return w->first[list];
}

static int by_turn(const void *a, const void *b)
{
	const struct job_wheel_turn *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

uint32_t job_wheel_turns(const struct job_wheel *w, struct job_wheel_turn *ret)
{
	uint32_t count = 0;

	for (uint32_t level = 0; level < JOB_WHEEL_LEVELS; level++) {
		uint64_t index = w->base >> (LIST_BITS * level);

		for (uint32_t far = 1; far <= JOB_WHEEL_LISTS; far++) {
			uint32_t list = level * JOB_WHEEL_LISTS + (uint32_t)((index + far) & LIST_MASK);

			if (w->first[list] != 0)
				ret[count++] =
					(struct job_wheel_turn){(index + far) << (LIST_BITS * level), list};
		}
	}
	qsort(ret, count, sizeof(ret[0]), by_turn);
	return count;
}
