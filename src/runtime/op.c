/* src/runtime/op.c -- slots: made, found, completed, freed.
 *
 * Thread: loop, except wh__op_complete_from_worker() and _from_afar().
 */
#include "runtime/loop.h"
#include "runtime/probe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Where a loop needs so many, memory comes in blocks of the size of a huge page: page after page would cost more than all else
 * of an operation that is the first on its slot. */
enum {
	CHUNK_BYTES = WH__CHUNK_SLOTS * (int)sizeof(struct wh__op),
	BLOCK_BYTES = WH__CHUNKS_OF_BLOCK * CHUNK_BYTES
};
_Static_assert(BLOCK_BYTES == 2 << 20, "a block is a huge page");

static struct wh__op *make_chunk(wh_loop *loop, uint32_t chunk)
{
	if (!wh__chunk_is_allocated(chunk))
		return atomic_load_explicit(&loop->chunks[chunk - 1], memory_order_relaxed) + WH__CHUNK_SLOTS;
	if (chunk < WH__CHUNKS_ALONE)
		return aligned_alloc(64, CHUNK_BYTES);
	struct wh__op *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	if (block)
		(void)madvise(block, BLOCK_BYTES, MADV_HUGEPAGE); /* or pages as they are */
	return block;
}

/* Slots are touched when first used, not when their chunk is made: a small loop stays small. */
static struct wh__op *make_slot(wh_loop *loop)
{
	uint32_t slot = atomic_load_explicit(&loop->slots_made, memory_order_relaxed);
	if (slot > WH__SLOTS_MAX)
		return NULL;
	struct wh__op *chunk = loop->chunks[slot / WH__CHUNK_SLOTS];
	if (!chunk) {
		if (loop->measure && wh__measure_chunk(loop, slot / WH__CHUNK_SLOTS) != 0)
			return NULL;
		chunk = make_chunk(loop, slot / WH__CHUNK_SLOTS);
		if (!chunk)
			return NULL;
		atomic_store_explicit(&loop->chunks[slot / WH__CHUNK_SLOTS], chunk, memory_order_release);
	}
	struct wh__op *op = &chunk[slot % WH__CHUNK_SLOTS];
	op->slot = slot;
	op->generation = loop->first_generation;
	op->state = WH__FREE;
	op->loop = loop;
	op->run = NULL;
	atomic_init(&op->claim, 0);
	/* from here on other threads may look at it */
	atomic_store_explicit(&loop->slots_made, slot + 1, memory_order_release);
	return op;
}

static inline struct wh__op *fill(wh_loop *loop, struct wh__op *op, enum wh__opcode opcode)
{
	loop->live_count++;
	loop->pending_count++;
	loop->counts[opcode].started++;
	op->fd = -1;
	op->buf = NULL;
	op->len = 0;
	op->off = 0;
	op->done = 0;
	op->next = op->prev = NULL;
	op->callback = NULL;
	op->arg = NULL;
	op->dispose = NULL;
	op->dispose_arg = NULL;
	op->engine_data = NULL;
	op->engine_state = 0;
	/* a dump may come at any moment, and follows what state and consumer say is there */
	atomic_signal_fence(memory_order_seq_cst);
	op->consumer = WH__CONSUMER_NONE;
	op->background = 0;
	op->opcode = (uint8_t)opcode;
	op->flags = 0;
	op->state = WH__PENDING;
	WH__PROBE4(op_start, loop->number, op->slot, op->generation, opcode);
	return op;
}

/* A new slot, or a measured one. Apart, as what is rare at completion is: so that the usual way is without calls and keeps
 * no registers for them. */
static __attribute__((noinline)) struct wh__op *new_rarely(wh_loop *loop, enum wh__opcode opcode)
{
	struct wh__op *op = loop->free_slots;
	if (op)
		loop->free_slots = op->next;
	else if (!(op = make_slot(loop)))
		return NULL;
	if (loop->measure)
		wh__measure_start(op);
	return fill(loop, op, opcode);
}

struct wh__op *wh__op_new(wh_loop *loop, enum wh__opcode opcode)
{
	struct wh__op *op = loop->free_slots;
	if (loop->live_count >= loop->slots_max)
		return NULL;
	if (!op || loop->measure)
		return new_rarely(loop, opcode);
	loop->free_slots = op->next;
	return fill(loop, op, opcode);
}

struct wh__op *wh__op_new_beyond(wh_loop *loop, enum wh__opcode opcode)
{
	uint32_t max = loop->slots_max;
	loop->slots_max = UINT32_MAX;
	struct wh__op *op = wh__op_new(loop, opcode);
	loop->slots_max = max;
	return op;
}

struct wh__op *wh__begin(wh_loop *loop, enum wh__opcode opcode, wh_future *ret_failed)
{
	struct wh__op *op = NULL;
	int error;
	if (!wh__loop_is_mine(loop))
		error = -EPERM;
	else if (loop->closing && opcode != WH__OP_CLOSE) /* a descriptor is not left open */
		error = -ECANCELED;
	else if ((op = opcode == WH__OP_CLOSE ? wh__op_new_beyond(loop, opcode) : wh__op_new(loop, opcode)))
		return op;
	else
		error = loop->live_count >= loop->slots_max ? -EAGAIN : -ENOMEM;
	*ret_failed = wh__fail(loop, error);
	return NULL;
}

wh_future wh__end(struct wh__op *op, int64_t error)
{
	wh_future f = wh__op_future(op);
	wh__op_complete(op, error, NULL);
	return f;
}

void wh__op_background(struct wh__op *op, bool background)
{
	assert(op->state == WH__PENDING);
	if (op->background == background)
		return;
	op->background = background;
	if (background)
		op->loop->background_count++;
	else
		op->loop->background_count--;
}

void wh__background(wh_loop *loop, wh_future f, bool background)
{
	struct wh__op *op = wh__op_find(loop, f);
	if (op && op->state == WH__PENDING)
		wh__op_background(op, background);
}

void wh__op_dispose(struct wh__op *op)
{
	assert(op->state == WH__DONE);
	if (op->n >= 0 && op->dispose)
		op->dispose((wh_res){op->n, op->ptr}, op->dispose_arg);
}

/* What is made of others ends with the last of them, and may be a part of something itself, and so on: a chain of any
 * length, walked here and not by recursion. */
static void tell_outer(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	wh__queue_append(&loop->ended, op);
	if (loop->telling)
		return;
	loop->telling = true;
	while ((op = loop->ended.first)) {
		wh_res res = {op->n, op->ptr};
		wh_disposer *dispose = op->dispose;
		void *dispose_arg = op->dispose_arg, *member = op->arg;
		struct wh__op *parent = op->consumer == WH__CONSUMER_PARENT ? op->parent : NULL;
		uint64_t index = op->index;
		loop->ended.first = op->next;
		if (!op->next)
			loop->ended.last = NULL;
		wh__op_free(op);
		if (parent)
			wh__combine_child(parent, index, res, dispose, dispose_arg);
		else
			wh__group_ended(member, res, dispose, dispose_arg);
	}
	loop->telling = false;
}

/* Everyone but a callback, which waits for its turn. */
static __attribute__((noinline)) void tell(struct wh__op *op, int64_t n, void *ptr)
{
	wh_loop *loop = op->loop;
	wh_res res = {n, ptr};
	loop->pending_count--;
	switch ((enum wh__consumer)op->consumer) {
	case WH__CONSUMER_NONE:
	case WH__CONSUMER_THEN:
		break;
	case WH__CONSUMER_AWAIT:
		wh__waiter_wake(op, res);
		break;
	case WH__CONSUMER_PARENT:
	case WH__CONSUMER_GROUP:
		tell_outer(op);
		break;
	case WH__CONSUMER_DROP:
		wh__op_dispose(op);
		wh__op_free(op);
		break;
	case WH__CONSUMER_INTERNAL: {
		wh_callback *callback = op->callback;
		void *arg = op->arg;
		wh__op_free(op);
		callback(loop, res, arg);
		break;
	}
	}
}

static inline void end(struct wh__op *op, int64_t n, void *ptr)
{
	wh_loop *loop = op->loop;
	op->flags = 0;
	op->n = n;
	op->ptr = ptr;
	op->state = WH__DONE;
	loop->completed_count++;
	loop->counts[op->opcode].completed++;
	WH__PROBE5(op_complete, loop->number, op->slot, op->generation, op->opcode, n);
	if (op->consumer == WH__CONSUMER_NONE)
		loop->pending_count--;
	else if (op->consumer == WH__CONSUMER_THEN)
		wh__queue_append(&loop->ready, op);
	else
		tell(op, n, ptr);
}

static bool gives_descriptor(const struct wh__op *op)
{
	return op->opcode == WH__OP_ACCEPT || op->opcode == WH__OP_OPEN || op->opcode == WH__OP_TEMPORARY;
}

static __attribute__((noinline)) void complete_rarely(struct wh__op *op, int64_t n, void *ptr)
{
	wh_loop *loop = op->loop;
	if (op->flags & WH__NO_SLOT) {
		op->n = n;
		op->state = WH__DONE;
		return;
	}
	if (op->flags & WH__OWNS_BUF)
		free(op->buf);
	else if (op->flags & WH__POOLED)
		wh__arguments_put(loop, op->buf);
	if (n == -ECANCELED)
		loop->counts[op->opcode].cancelled++;
	else if (n < 0)
		loop->counts[op->opcode].failed++;
	if (gives_descriptor(op) && n >= 0 && loop->descriptors)
		wh__descriptor_given(loop, (int)n);
	wh__op_background(op, false);
	if (loop->measure)
		wh__measure_end(op);
	end(op, n, ptr);
}

static bool is_rare(const struct wh__op *op, int64_t n)
{
	return n < 0 || (op->flags & (WH__OWNS_BUF | WH__POOLED | WH__NO_SLOT)) ||
	       op->opcode == WH__OP_ACCEPT || op->opcode == WH__OP_OPEN || op->opcode == WH__OP_TEMPORARY ||
	       op->background || op->loop->measure;
}

void wh__op_complete(struct wh__op *op, int64_t n, void *ptr)
{
	assert(op->state == WH__PENDING);
	if (is_rare(op, n))
		complete_rarely(op, n, ptr);
	else
		end(op, n, ptr);
}

void wh__op_complete_from_worker(struct wh__op *op, int64_t n, void *ptr)
{
	op->returned_n = n;
	op->returned_ptr = ptr;
	wh__inbox_push_op(op->loop, op);
}

void wh__op_complete_from_afar(struct wh__op *op, int64_t n, void *ptr)
{
	uint32_t number = op->loop->number;
	int error = 0;
	/* Until op has ended its loop stays; from then on, until the loop is woken, this visit keeps it. */
	const wh_loop *loop = wh__registry_enter(number, &error);
	assert(loop == op->loop);
	(void)loop;
	wh__op_complete_from_worker(op, n, ptr);
	wh__registry_leave(number);
}
