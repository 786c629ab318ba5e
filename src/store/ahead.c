/* src/store/ahead.c -- bodies too large for one commit: their parts go ahead of it, in commits of their own.
 *
 * A commit takes at most half a segment of the log. Parts that are in the log mean nothing until a record names them, so
 * what was written when a change is refused, cancelled or lost after all does no harm. See inside.h.
 */
#include "store/inside.h"

static struct job_slice body_of(const struct store_action *a)
{
	if (a->kind == STORE_SUBMIT)
		return a->submit.payload;
	if (a->kind == STORE_COMPLETE)
		return a->complete.bytes;
	return (struct job_slice){0};
}

static struct store_ahead *plan(const struct store_wish *wish)
{
	struct store_ahead *ahead;
	size_t count = 0;

	for (size_t i = 0; i < wish->count; i++)
		count += store_parts_of(body_of(&wish->actions[i]).len);
	ahead = calloc(1, sizeof(*ahead) + count * sizeof(ahead->places[0]));
	if (ahead)
		ahead->count = count;
	return ahead;
}

int store_write_ahead(struct store *store, struct store_wish *wish)
{
	struct store_ahead *ahead = wish->ahead ? wish->ahead : plan(wish);
	size_t part = 0;

	if (!ahead)
		return -ENOMEM;
	wish->ahead = ahead;
	for (size_t i = 0; i < wish->count; i++) {
		struct job_slice body = body_of(&wish->actions[i]);
		size_t parts = store_parts_of(body.len);

		for (size_t k = 0; k < parts; k++, part++) {
			int error;

			if (part < ahead->done)
				continue;
			error = store_begin(store, LOG_RECORD_BYTES + JOB_PART_BYTES + 8,
			                    wish->actions[i].kind != STORE_SUBMIT);
			if (error < 0)
				return error;
			ahead->places[ahead->done++] = store_append_part(store, body, k);
			store_end(store, STORE_ASYNC);
		}
	}
	return 0;
}

void store_use_ahead(const struct store_wish *wish, size_t index, struct job_record *r, uint64_t *to)
{
	size_t part = 0, parts = store_parts_of(r->body.len);

	if (parts == 0)
		return;
	for (size_t i = 0; i < index; i++)
		part += store_parts_of(body_of(&wish->actions[i]).len);
	to[0] = r->body.len;
	memcpy(to + 1, wish->ahead->places + part, parts * sizeof(to[0]));
	r->flags |= JOB_BODY_IN_PARTS;
	r->body = (struct job_slice){to, (1 + parts) * sizeof(to[0])};
}
