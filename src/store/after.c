/* src/store/after.c -- new jobs that are to run after others: which these are, and the record that says so. See store.h, inside.h.
 *
 * Checked with the transaction, told by an AFTER behind each SUBMIT. What is named must be there, and is not named by another action of the
 * transaction: so it is there still when the transaction is carried out.
 */
#include "store/inside.h"

size_t store_after_count(const struct store_action *a)
{
	return a->kind == STORE_SUBMIT ? a->submit.after.len / sizeof(uint64_t) : 0;
}

/* An id, or STORE_AFTER_ACTION and an index. */
static uint64_t after_at(const struct store_action *a, size_t i)
{
	uint64_t id;

	memcpy(&id, (const uint8_t *)a->submit.after.data + i * sizeof(id), sizeof(id));
	return id;
}

int store_after_check(struct store *store, const struct store_wish *wish, size_t index,
                      struct store_commit *commit)
{
	const struct store_action *a = &wish->actions[index];

	for (size_t i = 0; i < store_after_count(a); i++) {
		uint64_t id = after_at(a, i);
		int error;

		if (id & STORE_AFTER_ACTION) {
			const struct store_result *other;

			id &= ~STORE_AFTER_ACTION;
			if (id >= index || wish->actions[id].kind != STORE_SUBMIT)
				return -JOB_EVALUE;
			other = &commit->results[id];
			if (other->error == 0 && other->job == 0)
				continue;
			id = other->job; /* which had its unique key already */
		}
		error = job_check_after(store->jobs, id);
		if (error < 0) {
			commit->results[index].job = id;
			return error;
		}
	}
	return 0;
}

void store_after_checked(struct store *store, const struct store_wish *wish, size_t index,
                         const struct store_commit *commit)
{
	const struct store_action *a = &wish->actions[index];

	for (size_t i = 0; i < store_after_count(a); i++) {
		uint64_t id = after_at(a, i);

		if ((id & STORE_AFTER_ACTION) && (id & ~STORE_AFTER_ACTION) < index)
			id = commit->results[id & ~STORE_AFTER_ACTION].job;
		job_untouch(store->jobs, id);
	}
}

int store_after_room(struct store *store, const struct store_wish *wish, uint64_t submits, size_t *ret_index)
{
	size_t edges = 0, most = 0;

	for (size_t i = 0; i < wish->count; i++) {
		size_t count = store_after_count(&wish->actions[i]);

		edges += count;
		most = count > most ? count : most;
		if (edges > JOB_AFTER_ALL_MAX) {
			*ret_index = i;
			return -JOB_ETOO_LARGE;
		}
	}
	if (edges == 0)
		return 0;
	if (most > store->after_cap) {
		uint64_t *ids = realloc(store->after_ids, most * sizeof(ids[0]));

		if (!ids)
			return -ENOMEM;
		store->after_ids = ids;
		store->after_cap = most;
	}
	return job_after_room(store->jobs, submits, edges);
}

void store_after_append(struct store *store, const struct store_action *a, const struct job_record *submit,
                        const struct store_commit *commit, unsigned flags)
{
	struct job_record r = {.type = JOB_AFTER,
	                       .id = submit->id,
	                       .at_ns = submit->at_ns,
	                       .body = {store->after_ids, a->submit.after.len}};

	for (size_t i = 0; i < store_after_count(a); i++) {
		uint64_t id = after_at(a, i);

		store->after_ids[i] =
			id & STORE_AFTER_ACTION ? commit->results[id & ~STORE_AFTER_ACTION].job : id;
	}
	store_append(store, &r, flags);
}
