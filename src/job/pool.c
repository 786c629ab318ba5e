/* src/job/pool.c -- memory of what only some jobs have: policies, groups, unique keys; and tables of it. See machine.h.
 *
 * Room is made before it is needed, so that carrying out a record never allocates. What is given back is used again. The
 * first four bytes of what is free lead to the next one that is.
 */
#include <errno.h>

#include "job/machine.h"

enum { PAGE = 1 << JOB_POOL_PAGE_BITS };

int job_pool_room(struct job_pool *pool, uint64_t count)
{
	while (((uint64_t)pool->pages_count << JOB_POOL_PAGE_BITS) - (pool->pages_count ? 1 : 0) -
	               pool->used <
	       count) {
		uint8_t *page;

		if (pool->pages_count == 0)
			pool->end = 1;
		if ((pool->pages_count & (pool->pages_count - 1)) == 0) {
			size_t cap = pool->pages_count ? (size_t)pool->pages_count * 2 : 1;
			uint8_t **pages = realloc(pool->pages, cap * sizeof(pages[0]));

			if (!pages)
				return -ENOMEM;
			pool->pages = pages;
		}
		page = calloc(PAGE, pool->each);
		if (!page)
			return -ENOMEM;
		pool->pages[pool->pages_count++] = page;
	}
	return 0;
}

uint32_t job_pool_take(struct job_pool *pool)
{
	uint32_t number = pool->free;

	if (number != 0) {
		memcpy(&pool->free, job_pool_at(pool, number), sizeof(pool->free));
	} else {
		assert(pool->end >> JOB_POOL_PAGE_BITS < pool->pages_count);
		number = pool->end++;
	}
	memset(job_pool_at(pool, number), 0, pool->each);
	pool->used++;
	return number;
}

void job_pool_give(struct job_pool *pool, uint32_t number)
{
	memset(job_pool_at(pool, number), 0, pool->each);
	memcpy(job_pool_at(pool, number), &pool->free, sizeof(pool->free));
	pool->free = number;
	pool->used--;
}

uint64_t job_pool_bytes(const struct job_pool *pool)
{
	return (uint64_t)pool->end * pool->each;
}

void job_pool_done(struct job_pool *pool)
{
	for (uint32_t i = 0; i < pool->pages_count; i++)
		free(pool->pages[i]);
	free(pool->pages);
	*pool = (struct job_pool){0};
}

/* ---- tables ------------------------------------------------------------------------------ */

int job_table_room(struct job_table *t, const struct job_pool *pool, uint64_t count)
{
	uint64_t cap = t->cap ? t->cap : 64;
	struct job_table larger;

	if (pool->used + count <= t->cap)
		return 0;
	while (cap < pool->used + count)
		cap *= 2;
	larger.chains = cap <= UINT32_MAX ? calloc(cap, sizeof(larger.chains[0])) : NULL;
	if (!larger.chains)
		return -ENOMEM;
	larger.cap = (uint32_t)cap;
	for (uint32_t i = 0; i < t->cap; i++) {
		for (uint32_t number = t->chains[i], next; number != 0; number = next) {
			struct job_keyed *thing = job_pool_at(pool, number);
			uint32_t *chain = job_table_chain(&larger, thing->hash);

			next = thing->next;
			thing->next = *chain;
			*chain = number;
		}
	}
	free(t->chains);
	*t = larger;
	return 0;
}

uint32_t job_table_find(const struct job_table *t, const struct job_pool *pool, uint32_t own,
                        const uint64_t hash[2])
{
	uint32_t number = t->cap > 0 ? *job_table_chain(t, hash) : 0;

	while (number != 0) {
		const struct job_keyed *thing = job_pool_at(pool, number);

		if (thing->own == own && thing->hash[0] == hash[0] && thing->hash[1] == hash[1])
			break;
		number = thing->next;
	}
	return number;
}

void job_table_remove(struct job_table *t, const struct job_pool *pool, uint32_t number)
{
	const struct job_keyed *thing = job_pool_at(pool, number);
	uint32_t *at = job_table_chain(t, thing->hash);

	while (*at != number)
		at = &((struct job_keyed *)job_pool_at(pool, *at))->next;
	*at = thing->next;
}
