/* src/job/slots.c -- memory of jobs: pages of slots and of extensions, which never move. See machine.h.
 *
 * Room is made before it is needed (…_room), so that carrying out a record never allocates. Untouched pages cost
 * address space only: slots are used in order, and calloc gives large pages as zero pages of the system.
 */
#include <errno.h>

#include "job/machine.h"

int job_slots_room(struct job_machine *m, uint64_t count)
{
	/* slots_used counts those in use; the list holds the rest of what is below slots_end */
	while (((uint64_t)m->pages_count << JOB_PAGE_BITS) - 1 - m->slots_used < count ||
	       m->pages_count == 0) {
		struct job_slot *page;

		if (((uint64_t)m->pages_count << JOB_PAGE_BITS) > m->limits.jobs_max + JOB_PAGE)
			return -JOB_EMEMORY_FULL;
		if (m->pages_count == 0)
			m->slots_end = 1;
		if ((m->pages_count & (m->pages_count - 1)) == 0) {
			size_t cap = m->pages_count ? (size_t)m->pages_count * 2 : 1;
			struct job_slot **pages = realloc(m->pages, cap * sizeof(m->pages[0]));
			if (!pages)
				return -ENOMEM;
			m->pages = pages;
		}
		page = calloc(JOB_PAGE, sizeof(*page));
		if (!page)
			return -ENOMEM;
		m->pages[m->pages_count++] = page;
	}
	return m->slots_used + count > m->limits.jobs_max ? -JOB_EMEMORY_FULL : 0;
}

uint32_t job_slot_take(struct job_machine *m)
{
	uint32_t slot = m->slots_free;

	if (slot != 0) {
		m->slots_free = job_slot(m, slot)->next;
	} else {
		assert(m->slots_end >> JOB_PAGE_BITS < m->pages_count);
		slot = m->slots_end++;
	}
	*job_slot(m, slot) = (struct job_slot){0};
	m->slots_used++;
	return slot;
}

void job_slot_give(struct job_machine *m, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	*s = (struct job_slot){.next = m->slots_free};
	m->slots_free = slot;
	m->slots_used--;
}

int job_ext_room(struct job_machine *m, uint64_t count)
{
	while (((uint64_t)m->ext_pages_count << JOB_EXT_PAGE_BITS) - (m->ext_pages_count ? 1 : 0) -
	               m->ext_used <
	       count) {
		struct job_ext *page;

		if (m->ext_pages_count == 0)
			m->ext_end = 1;
		if ((m->ext_pages_count & (m->ext_pages_count - 1)) == 0) {
			size_t cap = m->ext_pages_count ? (size_t)m->ext_pages_count * 2 : 1;
			struct job_ext **pages = realloc(m->ext_pages, cap * sizeof(m->ext_pages[0]));
			if (!pages)
				return -ENOMEM;
			m->ext_pages = pages;
		}
		page = calloc(JOB_EXT_PAGE, sizeof(*page));
		if (!page)
			return -ENOMEM;
		m->ext_pages[m->ext_pages_count++] = page;
	}
	return 0;
}

struct job_ext *job_ext_need(struct job_machine *m, struct job_slot *s)
{
	uint32_t ext = s->ext;

	if (ext != 0)
		return job_ext(m, ext);
	ext = m->ext_free;
	if (ext != 0) {
		m->ext_free = job_ext(m, ext)->next_free;
	} else {
		assert(m->ext_end >> JOB_EXT_PAGE_BITS < m->ext_pages_count);
		ext = m->ext_end++;
	}
	m->ext_used++;
	s->ext = ext;
	*job_ext(m, ext) = (struct job_ext){0};
	return job_ext(m, ext);
}

void job_ext_give(struct job_machine *m, struct job_slot *s)
{
	if (!job_slot_ext(m, s))
		return;
	assert(job_ext(m, s->ext)->policy == 0);
	job_ext(m, s->ext)->next_free = m->ext_free;
	m->ext_free = s->ext;
	m->ext_used--;
	s->ext = 0;
}

void job_ext_trim(struct job_machine *m, struct job_slot *s)
{
	struct job_ext *e;

	e = job_slot_ext(m, s);
	if (!e)
		return;
	job_live_at(m, e->progress_place, -(int64_t)e->progress_bytes);
	e->claim = 0;
	e->epoch = 0;
	e->changes = 0;
	e->progress_place = 0;
	e->progress_bytes = 0;
	e->flags &= ~(uint32_t)JOB_EXT_BOUND;
	if (e->error_place == 0 && e->flags == 0 && e->time_to_run == 0 && e->attempts_max == 0 &&
	    e->timeouts == 0 && e->policy == 0 && (e->reserves | e->releases | e->buries | e->kicks) == 0)
		job_ext_give(m, s);
}

void job_slots_done(struct job_machine *m)
{
	for (uint32_t i = 0; i < m->pages_count; i++)
		free(m->pages[i]);
	for (uint32_t i = 0; i < m->ext_pages_count; i++)
		free(m->ext_pages[i]);
	free(m->pages);
	free(m->ext_pages);
}
