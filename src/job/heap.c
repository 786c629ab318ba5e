/* src/job/heap.c -- things by an instant of theirs, the first one on top. See machine.h.
 *
 * Each knows where it stands, so that it can be taken out. Room is made ahead.
 */
#include <errno.h>

#include "job/machine.h"

int job_heap_room(struct job_heap *heap, uint64_t count)
{
	uint64_t cap = heap->cap ? heap->cap : 64;
	uint32_t *all;

	if (count + 1 <= heap->cap)
		return 0;
	while (cap < count + 1)
		cap *= 2;
	if (cap > UINT32_MAX)
		return -ENOMEM;
	all = realloc(heap->all, cap * sizeof(all[0]));
	if (!all)
		return -ENOMEM;
	heap->all = all;
	heap->cap = (uint32_t)cap;
	return 0;
}

static int64_t key_at(const struct job_machine *m, const struct job_heap *heap, job_heap_key *key,
                      uint32_t at)
{
	uint32_t *where;

	return key(m, heap->all[at], &where);
}

static void put(const struct job_machine *m, struct job_heap *heap, job_heap_key *key, uint32_t at,
                uint32_t number)
{
	uint32_t *where;

	key(m, number, &where);
	*where = at;
	heap->all[at] = number;
}

/* From a hole at `at` to where number belongs. */
static void settle(const struct job_machine *m, struct job_heap *heap, job_heap_key *key, uint32_t at,
                   uint32_t number)
{
	uint32_t *where;
	int64_t when = key(m, number, &where);

	for (; at > 1 && when < key_at(m, heap, key, at / 2); at /= 2)
		put(m, heap, key, at, heap->all[at / 2]);
	for (;;) {
		uint32_t child = 2 * at;

		if (child > heap->count)
			break;
		child += child < heap->count && key_at(m, heap, key, child + 1) < key_at(m, heap, key, child);
		if (when <= key_at(m, heap, key, child))
			break;
		put(m, heap, key, at, heap->all[child]);
		at = child;
	}
	put(m, heap, key, at, number);
}

void job_heap_add(struct job_machine *m, struct job_heap *heap, job_heap_key *key, uint32_t number)
{
	assert(heap->count + 1 < heap->cap);
	heap->count++;
	settle(m, heap, key, heap->count, number);
}

void job_heap_remove(struct job_machine *m, struct job_heap *heap, job_heap_key *key, uint32_t number)
{
	uint32_t *where, at, last = heap->all[heap->count--];

	key(m, number, &where);
	at = *where;
	*where = 0;
	if (last != number)
		settle(m, heap, key, at, last);
}
