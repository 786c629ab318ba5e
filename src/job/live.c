/* src/job/live.c -- which bytes of the log are needed: told as they begin and cease to be, and asked for. See job.h.
 *
 * A slot knows the class of size of its record, two classes to a power of two, which is enough to choose by. A finished
 * job's payload is known by 27 bits of its place and its class, in the field that an unfinished one has for its extension.
 */
#include <errno.h>

#include "job/machine.h"

enum { SIZE_MIN_BITS = 6, SIZES = 32 };

uint32_t job_size_class(uint64_t bytes)
{
	uint32_t bits, size;

	if (bytes < 1u << SIZE_MIN_BITS)
		bytes = 1u << SIZE_MIN_BITS;
	bits = 63 - (uint32_t)__builtin_clzll(bytes);
	size = 1 + (bits - SIZE_MIN_BITS) * 2 + (uint32_t)(bytes >> (bits - 1) & 1);
	return size < SIZES ? size : SIZES - 1;
}

/* The middle of the class. */
uint64_t job_class_bytes(uint32_t size)
{
	if (size == 0)
		return 0;
	return (UINT64_C(5) + 2 * ((size - 1) & 1)) << ((size - 1) / 2 + SIZE_MIN_BITS - 2);
}

uint32_t job_submit_about(const struct job_slot *s)
{
	uint64_t about = job_slot_place(s) >> JOB_SUBMIT_SHIFT;

	return (uint32_t)(about & ((1u << JOB_SUBMIT_BITS) - 1)) | job_slot_size(s) << JOB_SUBMIT_BITS;
}

/* The beginning of the unit that it is in. */
static uint64_t submit_place(const struct job_slot *s)
{
	return (uint64_t)(s->ext & ((1u << JOB_SUBMIT_BITS) - 1)) << JOB_SUBMIT_SHIFT;
}

static void tell(const struct job_machine *m, const struct job_slot *s, int sign, job_live_function *live,
                 void *arg)
{
	const struct job_ext *e = job_slot_ext(m, s);
	uint64_t place = job_slot_place(s);

	live(arg, place, sign * (int64_t)job_class_bytes(job_slot_size(s)));
	if (e && e->error_bytes > 0)
		live(arg, e->error_place, sign * (int64_t)e->error_bytes);
	if (e && e->progress_bytes > 0)
		live(arg, e->progress_place, sign * (int64_t)e->progress_bytes);
	if (job_state_finished(s->state) && s->ext != 0) {
		live(arg, submit_place(s), sign * (int64_t)job_class_bytes(s->ext >> JOB_SUBMIT_BITS));
	}
}

void job_live_tell(const struct job_machine *m, const struct job_slot *s, int sign)
{
	tell(m, s, sign, m->live, m->live_arg);
}

void job_live(struct job_machine *m, job_live_function *live, void *arg)
{
	m->live = live;
	m->live_arg = arg;
}

void job_live_each(const struct job_machine *m, job_live_function *live, void *arg)
{
	for (uint32_t slot = 1; slot < m->slots_end; slot++)
		if (job_slot(m, slot)->state != JOB_NONE)
			tell(m, job_slot(m, slot), 1, live, arg);
}

/* ---- places ------------------------------------------------------------------------------ */

static void places_of(const struct job_machine *m, const struct job_slot *s, struct job_places *ret)
{
	const struct job_ext *e = job_slot_ext(m, s);

	*ret = (struct job_places){.base = job_slot_place(s),
	                           .error = e ? e->error_place : 0,
	                           .progress = e ? e->progress_place : 0,
	                           .state = (uint8_t)s->state};
	if (job_state_finished(s->state) && s->ext != 0) {
		ret->submit = submit_place(s);
		ret->submit_until = ret->submit + (UINT64_C(1) << JOB_SUBMIT_SHIFT);
	}
}

int job_places(const struct job_machine *m, uint64_t id, struct job_places *ret)
{
	uint32_t slot = job_find(m, id);

	if (slot == 0)
		return job_missing(m, id);
	places_of(m, job_slot(m, slot), ret);
	return 0;
}

int job_places_each(const struct job_machine *m, job_places_function *each, void *arg)
{
	int error = 0;

	for (uint32_t slot = 1; slot < m->slots_end && error >= 0; slot++) {
		const struct job_slot *s = job_slot(m, slot);
		struct job_places places;

		if (s->state == JOB_NONE)
			continue;
		places_of(m, s, &places);
		error = each(arg, job_slot_id(s), job_slot_queue(m, s), &places);
	}
	return error < 0 ? error : 0;
}

static unsigned needed_of_finished(const struct job_slot *s, const struct job_record *r, uint64_t place)
{
	uint32_t mask = (1u << JOB_SUBMIT_BITS) - 1;

	if (r->type == JOB_FINISH || r->type == JOB_WHOLE)
		if (job_slot_place(s) == place)
			return JOB_WHOLE_RESULT;
	if (s->ext == 0 || place >= job_slot_place(s))
		return 0; /* all of it is in one record */
	if (job_record_is_error(r))
		return JOB_WHOLE_RESULT;
	if (r->type != JOB_SUBMIT && r->type != JOB_WHOLE)
		return 0;
	/* a WHOLE that holds errors alone stands where nothing is remembered of it */
	if (r->type == JOB_WHOLE && (r->flags & JOB_WHOLE_ERRORS))
		return JOB_WHOLE_RESULT;
	return (uint32_t)(place >> JOB_SUBMIT_SHIFT & mask) == (s->ext & mask) ? JOB_WHOLE_RESULT : 0;
}

unsigned job_needed(const struct job_machine *m, const struct job_record *r, uint64_t place)
{
	uint32_t slot = r->id == 0 || r->type == JOB_IDS ? 0 : job_find(m, r->id);
	const struct job_slot *s = slot ? job_slot(m, slot) : NULL;
	struct job_places now;
	unsigned parts = 0;

	if (!s || (r->type == JOB_BURY && r->text.len == 0)) /* a burial without a text is in no chain */
		return 0;
	if (job_state_finished(s->state))
		return needed_of_finished(s, r, place);
	places_of(m, s, &now);
	switch (r->type) {
	case JOB_SUBMIT:
		return now.base == place ? JOB_WHOLE_PAYLOAD : 0;
	case JOB_RETRY:
	case JOB_BURY:
	case JOB_DEAD:
	case JOB_REVIVE:
		return now.error >= place ? JOB_WHOLE_ERRORS : 0;
	case JOB_PROGRESS:
		return now.progress == place ? JOB_WHOLE_PROGRESS : 0;
	case JOB_WHOLE:
		parts |= now.base == place ? JOB_WHOLE_PAYLOAD : 0;
		parts |= (r->flags & JOB_WHOLE_ERRORS) && now.error >= place ? JOB_WHOLE_ERRORS : 0;
		parts |= now.progress == place ? JOB_WHOLE_PROGRESS : 0;
		return parts;
	default:
		return 0;
	}
}
