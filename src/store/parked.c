/* src/store/parked.c -- changes for which the log has no room just now: copied, and tried again in order.
 *
 * That is when 64 MiB are unwritten or the next segment is still being made. What is kept is bounded; beyond it changes
 * are refused with JOB_EBUSY. See inside.h.
 */
#include "store/inside.h"

enum { PARKED_BYTES_MAX = 128 << 20 };

struct store_request {
	struct store_request *next;
	struct store_wish wish;
	uint64_t bytes;
	struct store_action actions[];
};

/* The slices of an action, to be copied. */
static size_t slices_of(struct store_action *a, struct store_slice *ret[4])
{
	size_t n = 0;

	switch (a->kind) {
	case STORE_SUBMIT:
		ret[n++] = &a->submit.queue;
		ret[n++] = &a->submit.payload;
		ret[n++] = &a->submit.content_type;
		ret[n++] = &a->submit.headers;
		break;
	case STORE_COMPLETE:
		ret[n++] = &a->complete.bytes;
		ret[n++] = &a->complete.content_type;
		ret[n++] = &a->complete.headers;
		break;
	case STORE_FAIL:
		ret[n++] = &a->fail.error;
		break;
	case STORE_PROGRESS:
		ret[n++] = &a->progress.bytes;
		break;
	case STORE_BURY:
		ret[n++] = &a->bury.error;
		break;
	case STORE_SETTING_PUT:
	case STORE_SETTING_DELETE:
		ret[n++] = &a->setting.key;
		ret[n++] = &a->setting.value;
		break;
	default:
		if (a->kind >= STORE_QUEUE_PUT && a->kind <= STORE_QUEUE_DELETE)
			ret[n++] = &a->queue.name;
	}
	return n;
}

int store_park(struct store *store, const struct store_wish *wish)
{
	uint64_t bytes = sizeof(struct store_request) + wish->count * sizeof(struct store_action);
	struct store_request *request;
	struct store_slice *slices[4];
	uint8_t *to;

	for (size_t i = 0; i < wish->count; i++) {
		struct store_action a = wish->actions[i];
		size_t n = slices_of(&a, slices);

		while (n-- > 0)
			bytes += slices[n]->len;
	}
	if (store->parked_first && store->parked_bytes + bytes > PARKED_BYTES_MAX)
		return -JOB_EBUSY;
	request = malloc(bytes);
	if (!request)
		return -ENOMEM;
	*request = (struct store_request){.wish = *wish, .bytes = bytes};
	request->wish.actions = request->actions;
	memcpy(request->actions, wish->actions, wish->count * sizeof(struct store_action));
	to = (uint8_t *)&request->actions[wish->count];
	for (size_t i = 0; i < wish->count; i++) {
		size_t n = slices_of(&request->actions[i], slices);

		while (n-- > 0) {
			if (slices[n]->len > 0)
				memcpy(to, slices[n]->data, slices[n]->len);
			slices[n]->data = to;
			to += slices[n]->len;
		}
	}
	*(store->parked_last ? &store->parked_last->next : &store->parked_first) = request;
	store->parked_last = request;
	store->parked_bytes += bytes;
	store_wait_for_room(store);
	return 0;
}

static void unpark(struct store *store)
{
	struct store_request *request = store->parked_first;

	store->parked_first = request->next;
	if (!store->parked_first)
		store->parked_last = NULL;
	store->parked_bytes -= request->bytes;
	free(request->wish.ahead);
	free(request);
}

void store_parked_run(struct store *store)
{
	while (store->parked_first && !store->failed) {
		struct store_wish *wish = &store->parked_first->wish;

		if (wh_done(wish->future)) {
			unpark(store); /* cancelled: not begun, or a purge that stops here */
			continue;
		}
		if (store_grant_wish(store, wish) == -EAGAIN) {
			store_wait_for_room(store);
			return;
		}
		unpark(store);
	}
}

void store_parked_fail(struct store *store, int64_t error)
{
	while (store->parked_first) {
		wh_resolve(store->parked_first->wish.future, error, NULL);
		unpark(store);
	}
}

static void on_room(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;

	(void)loop;
	store->room_waiting = false;
	if (!store_operation_end(store) || store->failed || store->closing)
		return;
	if (store_lacks_memory(store, res.n)) {
		store_again(store);
	} else if (res.n == 0) {
		store_parked_run(store);
		store_later(store);
	}
}

void store_wait_for_room(struct store *store)
{
	if (store->room_waiting || store->failed || store->closing)
		return;
	if (wh_then(log_room_wait(store->log), on_room, store) == 0) {
		store->room_waiting = true;
		store->operations++;
	} else {
		store_again(store);
	}
}
