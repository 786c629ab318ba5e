/* src/runtime/channel.c -- a bounded queue between the tasks and callbacks of one loop.
 *
 * A send completes when its item is in the channel or with a receiver; until then the item lies in the waiting
 * operation and is the sender's. So cancelling either side moves no item: one that has not been accepted is still the
 * sender's, one that has not been given out is still in the channel. Both sides are served first come, first served.
 *
 * Thread: loop. Memory: one allocation, with room for capacity items.
 */
#include <stdlib.h>

#include "runtime/object.h"

enum { CAPACITY_MAX = 1 << 24 };

struct channel {
	struct wh__object object;
	uint32_t capacity, count, first;
	bool shut;
	wh_disposer *dispose;
	void *dispose_arg;
	struct wh__waits senders, receivers; /* senders: op->buf and op->len are the item */
	wh_res items[];
};

static void fini(struct wh__object *object)
{
	struct channel *channel = (struct channel *)object;
	for (; channel->count > 0; channel->count--) {
		if (channel->dispose)
			channel->dispose(channel->items[channel->first], channel->dispose_arg);
		channel->first = (channel->first + 1) % channel->capacity;
	}
}

int wh_channel_open(wh_loop *loop, wh_channel *ret, uint32_t capacity, wh_disposer *dispose, void *arg)
{
	struct channel *channel;
	if (capacity > CAPACITY_MAX)
		return -EINVAL;
	int error = wh__object_new(loop, WH__CHANNEL, sizeof *channel + capacity * sizeof(wh_res), fini,
	                           &channel);
	if (error != 0)
		return error;
	channel->capacity = capacity;
	channel->dispose = dispose;
	channel->dispose_arg = arg;
	ret->id = wh__object_id(&channel->object);
	return 0;
}

static struct channel *find(wh_channel handle, int *ret_error)
{
	return wh__object_find(handle.id, WH__CHANNEL, ret_error);
}

static void put(struct channel *channel, wh_res item)
{
	channel->items[(channel->first + channel->count++) % channel->capacity] = item;
}

static wh_res get(struct channel *channel)
{
	wh_res item = channel->items[channel->first];
	channel->first = (channel->first + 1) % channel->capacity;
	channel->count--;
	return item;
}

/* Who waits first receives item. */
static void give(struct channel *channel, struct wh__op *op, wh_res item)
{
	op->dispose = channel->dispose; /* of a receive that is dropped with its item */
	op->dispose_arg = channel->dispose_arg;
	wh__op_complete(op, item.n, item.ptr);
}

/* The item of the first sender that waits, which is told. */
static wh_res accept_one(struct channel *channel)
{
	struct wh__op *op = channel->senders.first;
	wh_res item = {(int64_t)op->len, op->buf};
	wh__waits_remove(&channel->senders, op);
	wh__op_complete(op, 0, NULL);
	return item;
}

static void cancel_send(struct wh__op *op)
{
	struct channel *channel = op->second;
	wh__waits_remove(&channel->senders, op);
	wh__op_complete(op, -ECANCELED, NULL);
}

static void cancel_receive(struct wh__op *op)
{
	struct channel *channel = op->second;
	wh__waits_remove(&channel->receivers, op);
	wh__op_complete(op, -ECANCELED, NULL);
}

wh_future wh_channel_send(wh_channel handle, int64_t n, void *ptr)
{
	int error;
	wh_future f;
	struct channel *channel = find(handle, &error);
	if (!channel)
		return wh__fail_at(handle.id, error);
	struct wh__op *op = wh__wait_new(&channel->object, cancel_send, &f);
	if (!op)
		return f;
	if (n < 0)
		return wh__end(op, -EINVAL);
	if (channel->shut)
		return wh__end(op, -EPIPE);
	if (channel->receivers.first) {
		struct wh__op *receiver = channel->receivers.first;
		wh__waits_remove(&channel->receivers, receiver);
		give(channel, receiver, (wh_res){n, ptr});
		return wh__end(op, 0);
	}
	if (channel->count < channel->capacity) {
		put(channel, (wh_res){n, ptr});
		return wh__end(op, 0);
	}
	op->buf = ptr;
	op->len = (uint64_t)n;
	op->flags = WH__BORROWS; /* the item: dropping the send would forget whose it is */
	wh__waits_append(&channel->senders, op);
	return f;
}

wh_future wh_channel_receive(wh_channel handle)
{
	int error;
	wh_future f;
	struct channel *channel = find(handle, &error);
	if (!channel)
		return wh__fail_at(handle.id, error);
	struct wh__op *op = wh__wait_new(&channel->object, cancel_receive, &f);
	if (!op)
		return f;
	wh__object_hold(&channel->object);
	if (channel->count > 0) {
		wh_res item = get(channel);
		if (channel->senders.first)
			put(channel, accept_one(channel));
		give(channel, op, item);
	} else if (channel->senders.first) {
		give(channel, op, accept_one(channel));
	} else if (channel->shut) {
		wh__op_complete(op, -EPIPE, NULL);
	} else {
		wh__waits_append(&channel->receivers, op);
	}
	wh__object_release(&channel->object);
	return f;
}

int wh_channel_shut(wh_channel handle)
{
	int error;
	struct channel *channel = find(handle, &error);
	if (!channel)
		return error;
	channel->shut = true;
	wh__object_hold(&channel->object);
	wh__waits_end(&channel->senders, -EPIPE);
	wh__waits_end(&channel->receivers, -EPIPE); /* if there are any, nothing is left */
	wh__object_release(&channel->object);
	return 0;
}

int64_t wh_channel_count(wh_channel handle)
{
	int error;
	const struct channel *channel = find(handle, &error);
	return channel ? (int64_t)channel->count : error;
}

int wh_channel_close(wh_channel handle)
{
	int error;
	struct channel *channel = find(handle, &error);
	if (!channel)
		return error;
	channel->object.closing = true; /* ending one may end others, through combinators */
	wh__waits_end(&channel->senders, -ECANCELED);
	wh__waits_end(&channel->receivers, -ECANCELED);
	wh__object_free(&channel->object);
	return 0;
}
