/* src/job/space.c -- namespaces: what their queues hold in all, and how much that may be. See job.h.
 *
 * A namespace is there while a queue, or one that is gone and whose finished jobs are kept, has a name in it, or while it has limits. These are the
 * server's settings, not its state: no record holds them, and what is there already when they come stays.
 */
#include <errno.h>
#include <xxhash.h>

#include "job/machine.h"

static struct job_space **space_at(struct job_machine *m, struct job_slice name)
{
	struct job_space **at = &m->spaces[XXH3_64bits(name.data, name.len) % JOB_SPACE_BUCKETS];

	while (*at && ((*at)->name_len != name.len || memcmp((*at)->name, name.data, name.len) != 0))
		at = &(*at)->next;
	return at;
}

const struct job_space *job_space_find(struct job_machine *m, struct job_slice name)
{
	return name.len > 0 ? *space_at(m, name) : NULL;
}

const struct job_space *job_space_of(struct job_machine *m, struct job_slice queue)
{
	size_t skip = job_name_skip(queue.data, queue.len);

	return job_space_find(m, (struct job_slice){queue.data, skip > 0 ? skip - 1 : 0});
}

int job_space_room(struct job_machine *m)
{
	if (!m->space_spare)
		m->space_spare = calloc(1, sizeof(*m->space_spare) + JOB_NAME_MAX);
	return m->space_spare ? 0 : -ENOMEM;
}

/* Needs job_space_room(). */
static struct job_space *space_need(struct job_machine *m, struct job_slice name)
{
	struct job_space **at = space_at(m, name);

	if (!*at) {
		assert(m->space_spare);
		*at = m->space_spare;
		m->space_spare = NULL;
		(*at)->name_len = (uint32_t)name.len;
		memcpy((*at)->name, name.data, name.len);
	}
	return *at;
}

void job_space_enter(struct job_machine *m, struct job_queue *q)
{
	size_t skip = job_name_skip(q->name, q->name_len);

	if (skip == 0)
		return;
	q->space = space_need(m, (struct job_slice){q->name, skip - 1});
	q->space->named++;
}

static void free_if_unused(struct job_machine *m, struct job_space *space)
{
	struct job_space **at;

	if (space->named > 0 || space->jobs_max > 0 || space->queues_max > 0)
		return;
	at = space_at(m, (struct job_slice){space->name, space->name_len});
	*at = space->next;
	free(space);
}

void job_space_leave(struct job_machine *m, struct job_queue *q)
{
	if (!q->space)
		return;
	q->space->named--;
	free_if_unused(m, q->space);
	q->space = NULL;
}

static void settle(struct job_machine *m, bool taken)
{
	for (size_t i = 0; i < JOB_SPACE_BUCKETS; i++) {
		for (struct job_space *space = m->spaces[i], *next; space; space = next) {
			next = space->next;
			if (taken && !space->listed)
				space->jobs_max = space->queues_max = 0;
			space->listed = false;
			free_if_unused(m, space);
		}
	}
}

int job_spaces_limit(struct job_machine *m, const struct job_space_limit *limits, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (job_space_room(m) < 0) {
			settle(m, false);
			return -ENOMEM;
		}
		space_need(m, limits[i].name)->listed = true;
	}
	for (size_t i = 0; i < count; i++) {
		struct job_space *space = space_need(m, limits[i].name);

		space->jobs_max = limits[i].jobs_max;
		space->queues_max = limits[i].queues_max;
	}
	settle(m, true);
	return 0;
}

bool job_spaces_sound(const struct job_machine *m)
{
	for (size_t i = 0; i < JOB_SPACE_BUCKETS; i++) {
		for (const struct job_space *space = m->spaces[i]; space; space = space->next) {
			uint64_t unfinished = 0, queues = 0, named = 0;

			for (uint32_t k = 1; k < m->queues_end; k++) {
				const struct job_queue *q = m->queues[k];

				if (!q || q->space != space)
					continue;
				named++;
				queues += !q->gone;
				for (int state = 1; state < JOB_STATES; state++)
					unfinished += job_is_unfinished((uint32_t)state) ? q->jobs[state] : 0;
			}
			if (unfinished != space->unfinished || queues != space->queues ||
			    named != space->named || space->pending != 0)
				return false;
		}
	}
	return true;
}

void job_spaces_done(struct job_machine *m)
{
	for (size_t i = 0; i < JOB_SPACE_BUCKETS; i++) {
		for (struct job_space *space = m->spaces[i], *next; space; space = next) {
			next = space->next;
			free(space);
		}
	}
	free(m->space_spare);
}
