/* src/store/parked.c -- changes that cannot be made just now: copied, and made later.
 *
 * Those for which the log has no room are tried again in order. That is when 64 MiB are unwritten or the next segment is still being made. What is kept is bounded; beyond it changes
 * are refused with JOB_EBUSY. Those that bring whole bodies too large for records wait until these are in files, and
 * those that call failed jobs back until their records have been read, each for itself. See inside.h.
 */
#include "store/inside.h"

enum { PARKED_BYTES_MAX = 128 << 20 };

struct store_request {
	struct store_request *next;
	struct store_wish wish;
	uint64_t bytes;
	/* preparing */
	struct store *store;
	struct store_request *prev;
	size_t index;            /* of the action whose body is being written */
	struct store_body *body; /* that one */
	bool ending, reviving;   /* what is waited for: the end of that body; what is read of failed jobs */
	struct store_action actions[];
};

/* The slices of an action, to be copied. */
enum { SLICES_MAX = 8 };

static size_t slices_of(struct store_action *a, struct store_slice *ret[SLICES_MAX])
{
	size_t n = 0;

	switch (a->kind) {
	case STORE_SUBMIT:
		ret[n++] = &a->submit.queue;
		ret[n++] = &a->submit.payload;
		ret[n++] = &a->submit.content_type;
		ret[n++] = &a->submit.headers;
		ret[n++] = &a->submit.unique;
		ret[n++] = &a->submit.group;
		ret[n++] = &a->submit.trace;
		ret[n++] = &a->submit.after;
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
	case STORE_MOVE:
	case STORE_REPLAY:
		ret[n++] = &a->move.to;
		break;
	case STORE_SETTING_PUT:
	case STORE_SETTING_DELETE:
		ret[n++] = &a->setting.key;
		ret[n++] = &a->setting.value;
		ret[n++] = &a->setting.instead;
		break;
	default:
		if (a->kind >= STORE_QUEUE_PUT && a->kind <= STORE_QUEUE_DELETE)
			ret[n++] = &a->queue.name;
		if (a->kind == STORE_QUEUE_PUT)
			ret[n++] = &a->queue.dead_letter;
	}
	return n;
}

/* A copy of the wish, bodies counted. 0 or a negative error. */
static int request_new(struct store *store, const struct store_wish *wish, struct store_request **ret)
{
	uint64_t bytes = sizeof(struct store_request) + wish->count * sizeof(struct store_action);
	struct store_request *request;
	struct store_slice *slices[SLICES_MAX];
	uint8_t *to;

	for (size_t i = 0; i < wish->count; i++) {
		struct store_action a = wish->actions[i];
		size_t n = slices_of(&a, slices);

		while (n-- > 0)
			bytes += slices[n]->len;
	}
	bytes += wish->key.name.len + wish->asking.count * sizeof(wish->asking.items[0]);
	if (store->parked_bytes > 0 && store->parked_bytes + bytes > PARKED_BYTES_MAX)
		return -JOB_EBUSY;
	request = malloc(bytes);
	if (!request)
		return -ENOMEM;
	*request = (struct store_request){.wish = *wish, .bytes = bytes, .store = store};
	request->wish.actions = request->actions;
	store_revival_ref(request->wish.revival);
	memcpy(request->actions, wish->actions, wish->count * sizeof(struct store_action));
	to = (uint8_t *)&request->actions[wish->count];
	if (wish->asking.items) {
		size_t len = wish->asking.count * sizeof(wish->asking.items[0]);

		request->wish.asking.items = memcpy(to, wish->asking.items, len);
		to += len;
	}
	for (size_t i = 0; i < wish->count; i++) {
		size_t n = slices_of(&request->actions[i], slices);

		store_body_ref(store_body_of(&request->actions[i]));
		while (n-- > 0) {
			if (!slices[n]->data) /* absent, which is another thing than empty */
				continue;
			if (slices[n]->len > 0)
				memcpy(to, slices[n]->data, slices[n]->len);
			slices[n]->data = to;
			to += slices[n]->len;
		}
	}
	if (wish->key.name.len > 0)
		memcpy(to, wish->key.name.data, wish->key.name.len);
	request->wish.key.name.data = to;
	store->parked_bytes += bytes;
	*ret = request;
	return 0;
}

static void request_free(struct store_request *request)
{
	for (size_t i = 0; i < request->wish.count; i++)
		store_body_free(store_body_of(&request->actions[i]));
	store_body_free(request->body);
	store_revival_unref(request->wish.revival);
	free(request);
}

int store_park(struct store *store, const struct store_wish *wish)
{
	struct store_request *request;
	int error = request_new(store, wish, &request);

	if (error < 0)
		return error;
	*(store->parked_last ? &store->parked_last->next : &store->parked_first) = request;
	store->parked_last = request;
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
	request_free(request);
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
	store->stalled = false;
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

/* ---- large bodies ------------------------------------------------------------------------ */

/* The slice of a body that does not go into a record; NULL: none. */
static struct store_slice *large(const struct store *store, struct store_action *a)
{
	struct store_slice *body = a->kind == STORE_SUBMIT     ? &a->submit.payload
	                           : a->kind == STORE_COMPLETE ? &a->complete.bytes
	                                                       : NULL;

	return body && !store_body_of(a) && body->len > store->options.blob_bytes &&
	                       body->len <= store->options.payload_bytes_max
	               ? body
	               : NULL;
}

bool store_needs_preparing(const struct store *store, const struct store_wish *wish)
{
	for (size_t i = 0; i < wish->count; i++) {
		struct store_action a = wish->actions[i];

		if ((a.kind == STORE_SUBMIT || a.kind == STORE_COMPLETE) && large(store, &a))
			return !store->failed && !store->closing;
	}
	return store_revival_needed(store, wish) && !store->failed && !store->closing;
}

/* All bodies are in files, or one cannot be. */
static void prepared(struct store_request *request, int64_t error)
{
	struct store *store = request->store;

	*(request->prev ? &request->prev->next : &store->preparing) = request->next;
	if (request->next)
		request->next->prev = request->prev;
	store->parked_bytes -= request->bytes;
	if (error < 0)
		wh_resolve(request->wish.future, error, NULL);
	else if (!wh_done(request->wish.future))
		store_grant_or_park(store, &request->wish);
	request_free(request);
}

static void prepare_next(struct store_request *request);

static void on_prepared(wh_loop *loop, wh_res res, void *arg)
{
	struct store_request *request = arg;

	(void)loop;
	if (!store_operation_end(request->store)) {
		request_free(request);
	} else if (res.n < 0) {
		prepared(request, res.n);
	} else {
		if (request->reviving) {
			request->reviving = false;
		} else if (request->ending) {
			struct store_action *a = &request->actions[request->index++];

			*(a->kind == STORE_SUBMIT ? &a->submit.body : &a->complete.body) = request->body;
			*(a->kind == STORE_SUBMIT ? &a->submit.payload : &a->complete.bytes) =
				(struct store_slice){0};
			request->body = NULL;
			request->ending = false;
		}
		prepare_next(request);
	}
}

/* Bodies come first: what is read of jobs is of the moment then. */
static void revive_next(struct store_request *request)
{
	struct store *store = request->store;
	int error = 0;

	if (!request->wish.revival && store_revival_needed(store, &request->wish))
		error = store_revival_new(store, &request->wish, &request->wish.revival);
	if (error < 0 || !request->wish.revival || store_revival_ended(request->wish.revival)) {
		prepared(request, error);
		return;
	}
	request->reviving = true;
	if (wh_then(store_revival_read(request->wish.revival), on_prepared, request) == 0)
		store->operations++;
	else
		prepared(request, -ENOMEM);
}

static void prepare_next(struct store_request *request)
{
	struct store *store = request->store;
	const struct store_slice *slice = NULL;
	wh_future future;
	uint64_t at;
	int error = 0;

	if (wh_done(request->wish.future)) {
		prepared(request, 0); /* cancelled */
		return;
	}
	while (request->index < request->wish.count &&
	       !(slice = large(store, &request->actions[request->index])))
		request->index++;
	if (request->index == request->wish.count) {
		revive_next(request);
		return;
	}
	if (!request->body)
		error = store_body_open(store, (int64_t)slice->len,
		                        STORE_BODY_WAITS |
		                                (request->actions[request->index].kind == STORE_COMPLETE
		                                         ? STORE_BODY_RESULT
		                                         : 0u),
		                        &request->body);
	if (error < 0) {
		prepared(request, error);
		return;
	}
	at = store_body_bytes(request->body);
	request->ending = at == slice->len;
	if (request->ending)
		future = store_body_end(request->body);
	else
		future = store_body_write(request->body, (const uint8_t *)slice->data + at,
		                          slice->len - at < STORE_PIECE_MAX ? slice->len - at
		                                                            : STORE_PIECE_MAX);
	if (wh_then(future, on_prepared, request) == 0)
		store->operations++;
	else
		prepared(request, -ENOMEM);
}

int store_prepare(struct store *store, const struct store_wish *wish)
{
	struct store_request *request;
	int error = request_new(store, wish, &request);

	if (error < 0)
		return error;
	request->next = store->preparing;
	if (request->next)
		request->next->prev = request;
	store->preparing = request;
	prepare_next(request);
	return 0;
}
