/* src/runtime/stack.c -- see stack.h.
 *
 * Default stacks come from slabs of 64, mapped without reserving memory: a page is there once it is touched. Those
 * that are put back are kept warm, last in first out; beyond a thousand their memory is given back, and a slab
 * of which no stack is warm or in use is unmapped. A stack of another size is a slab of one.
 *
 * A guard region does not split the mapping. Where the kernel has none, mprotect(2) makes the guard, for the first
 * 16,000 stacks: of the mappings that a process may have it would take them all. For the others a canary at the low
 * end is checked each time the coroutine stops: late, but before anything else runs.
 *
 * Tops are staggered by a few cache lines: stacks are a whole number of pages apart, and what every coroutine touches
 * would otherwise fall into the same few sets of the cache.
 *
 * Thread: loop, but for wh__stack_guard_holds(). Memory: one small allocation for each slab.
 */
#include "runtime/stack.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/sanitizers.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { SLAB_STACKS = 64, STAGGERS = 16, STAGGER_BYTES = 128 };
#define PATTERN    UINT64_C(0x7768696c73742121)
#define ALL_OF(n)  ((n) == 64 ? UINT64_MAX : (UINT64_C(1) << (n)) - 1)
#define BIT(index) (UINT64_C(1) << (index))

struct wh__slab {
	struct wh__slab *next, *prev; /* of its pool, while some of it is cold */
	uint8_t *start;
	size_t stack_bytes, guard_bytes; /* of each */
	uint32_t count, made;
	uint64_t cold;                    /* stacks made, neither warm nor in use */
	uint64_t guarded;                 /* by a guard of its own, not by a canary */
	uint64_t protects;                /* by mprotect(2) */
	unsigned registered[SLAB_STACKS]; /* valgrind's number of each */
	struct wh__slab *all_next, *all_prev;
};

/* At the top of a warm stack. */
struct warm {
	struct wh__stack stack;
	struct warm *next;
};

struct wh__stacks {
	size_t bytes, page_bytes, mapped_bytes, used_max;
	struct wh__slab *slabs; /* of default size with stacks to give */
	struct wh__slab *all;   /* each */
	struct warm *warm;
	uint32_t warm_count;
	enum wh__guard guard;
	bool measured;
};

/* As it is mapped: whole pages, at least the minimum. */
static size_t whole(const struct wh__stacks *stacks, size_t bytes)
{
	if (bytes < WH__STACK_BYTES_MIN)
		bytes = WH__STACK_BYTES_MIN;
	return (bytes + stacks->page_bytes - 1) / stacks->page_bytes * stacks->page_bytes;
}

struct wh__stacks *wh__stacks_open(size_t bytes, bool measured, enum wh__guard guard)
{
	struct wh__stacks *stacks = calloc(1, sizeof *stacks);
	if (!stacks)
		return NULL;
	stacks->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	stacks->bytes = whole(stacks, bytes ? bytes : WH__STACK_BYTES_DEFAULT);
	stacks->measured = measured;
	stacks->guard = guard;
	return stacks;
}

static size_t slab_bytes(const struct wh__slab *slab)
{
	return slab->count * (slab->stack_bytes + slab->guard_bytes);
}

/* Guards by mprotect(2) in the process. */
static atomic_uint protected_count;

static void unmap(struct wh__stacks *stacks, struct wh__slab *slab)
{
	for (uint32_t i = 0; i < slab->made; i++)
		wh__valgrind_forget(slab->registered[i]);
	atomic_fetch_sub(&protected_count, (unsigned)__builtin_popcountll(slab->protects));
	stacks->mapped_bytes -= slab_bytes(slab);
	wh__asan_unpoison(slab->start, slab_bytes(slab));
	munmap(slab->start, slab_bytes(slab));
	*(slab->all_prev ? &slab->all_prev->all_next : &stacks->all) = slab->all_next;
	if (slab->all_next)
		slab->all_next->all_prev = slab->all_prev;
	free(slab);
}

struct wh__stacks *wh__stacks_close(struct wh__stacks *stacks)
{
	if (!stacks)
		return NULL;
	while (stacks->all)
		unmap(stacks, stacks->all);
	free(stacks);
	return NULL;
}

static bool has_some(const struct wh__slab *slab)
{
	return slab->cold != 0 || slab->made < slab->count;
}

static void offer(struct wh__stacks *stacks, struct wh__slab *slab)
{
	slab->prev = NULL;
	slab->next = stacks->slabs;
	if (slab->next)
		slab->next->prev = slab;
	stacks->slabs = slab;
}

static void withdraw(struct wh__stacks *stacks, struct wh__slab *slab)
{
	*(slab->prev ? &slab->prev->next : &stacks->slabs) = slab->next;
	if (slab->next)
		slab->next->prev = slab->prev;
	slab->next = slab->prev = NULL;
}

static struct wh__slab *map(struct wh__stacks *stacks, size_t stack_bytes, uint32_t count)
{
	struct wh__slab *slab = calloc(1, sizeof *slab);
	if (!slab)
		return NULL;
	slab->stack_bytes = stack_bytes;
	slab->guard_bytes = stacks->page_bytes;
	slab->count = count;
	size_t bytes = slab_bytes(slab);
	void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (start == MAP_FAILED) {
		free(slab);
		return NULL;
	}
	/* Before Linux 6.7 MAP_STACK does not say so: one touched page would become two megabytes. */
	(void)madvise(start, bytes, MADV_NOHUGEPAGE);
	slab->start = start;
	slab->all_next = stacks->all;
	if (slab->all_next)
		slab->all_next->all_prev = slab;
	stacks->all = slab;
	stacks->mapped_bytes += bytes;
	return slab;
}

static void stack_at(struct wh__slab *slab, uint32_t index, struct wh__stack *ret)
{
	uint8_t *start = slab->start + index * (slab->stack_bytes + slab->guard_bytes);
	*ret = (struct wh__stack){
		.low = start + slab->guard_bytes,
		.bytes = slab->stack_bytes - index % STAGGERS * STAGGER_BYTES,
		.slab = slab,
		.index = index,
		.guard = WH__GUARD_CANARY,
	};
	if (slab->guarded & BIT(index))
		ret->guard = slab->protects & BIT(index) ? WH__GUARD_PROTECTED : WH__GUARD_INSTALLED;
}

static bool protect(uint8_t *start, size_t bytes)
{
	if (atomic_fetch_add(&protected_count, 1) < WH__STACKS_PROTECTED_MAX &&
	    mprotect(start, bytes, PROT_NONE) == 0)
		return true;
	atomic_fetch_sub(&protected_count, 1);
	return false;
}

/* Once for each stack: what guards it stays with it. */
static void guard(struct wh__stacks *stacks, struct wh__slab *slab, uint32_t index)
{
	uint8_t *start = slab->start + index * (slab->stack_bytes + slab->guard_bytes);
	if (stacks->guard == WH__GUARD_INSTALLED) {
		if (madvise(start, slab->guard_bytes, MADV_GUARD_INSTALL) == 0) {
			slab->guarded |= BIT(index);
			return;
		}
		stacks->guard = WH__GUARD_PROTECTED; /* the kernel has none, or memory is locked */
	}
	if (stacks->guard == WH__GUARD_PROTECTED && protect(start, slab->guard_bytes)) {
		slab->guarded |= BIT(index);
		slab->protects |= BIT(index);
	}
}

static void fill(uint8_t *from, const uint8_t *to)
{
	for (; from < to; from += sizeof(uint64_t))
		*(uint64_t *)(void *)from = PATTERN;
}

static void make(struct wh__stacks *stacks, struct wh__slab *slab, struct wh__stack *ret)
{
	uint32_t index = slab->made++;
	guard(stacks, slab, index);
	stack_at(slab, index, ret);
	slab->registered[index] = wh__valgrind_register(ret->low, ret->low + ret->bytes);
}

static void prepare(const struct wh__stacks *stacks, const struct wh__stack *stack)
{
	/* Frames that a coroutine left without returning have left marks. */
	wh__asan_unpoison(stack->low, stack->bytes);
	if (stacks->measured)
		fill(stack->low, stack->low + stack->bytes);
	else if (stack->guard == WH__GUARD_CANARY)
		fill(stack->low, stack->low + WH__STACK_CANARY_BYTES);
}

int wh__stack_get(struct wh__stacks *stacks, size_t bytes, struct wh__stack *ret)
{
	bytes = bytes ? bytes : stacks->bytes;
	if (bytes > WH__STACK_BYTES_MAX)
		return -EINVAL;
	bytes = whole(stacks, bytes);
	bool is_default = bytes == stacks->bytes;
	struct wh__slab *slab = NULL;
	if (is_default && stacks->warm) {
		*ret = stacks->warm->stack;
		stacks->warm = stacks->warm->next;
		stacks->warm_count--;
		prepare(stacks, ret);
		return 0;
	}
	if (is_default)
		slab = stacks->slabs;
	if (!slab) {
		slab = map(stacks, bytes, is_default ? SLAB_STACKS : 1);
		if (!slab)
			return -ENOMEM;
		if (is_default)
			offer(stacks, slab);
	}
	if (slab->cold) {
		uint32_t index = (uint32_t)__builtin_ctzll(slab->cold);
		slab->cold &= ~BIT(index);
		stack_at(slab, index, ret);
	} else {
		make(stacks, slab, ret);
	}
	if (is_default && !has_some(slab))
		withdraw(stacks, slab);
	prepare(stacks, ret);
	return 0;
}

static void give_back(struct wh__stacks *stacks, const struct wh__stack *stack)
{
	struct wh__slab *slab = stack->slab;
	bool had_some = has_some(slab);
	slab->cold |= BIT(stack->index);
	if (slab->cold == ALL_OF(slab->made)) {
		if (had_some && slab->count > 1)
			withdraw(stacks, slab);
		unmap(stacks, slab);
		return;
	}
	if (!had_some)
		offer(stacks, slab);
	/* a guard region stays; memory may be locked, and then it stays as well */
	(void)madvise(stack->low, slab->stack_bytes, MADV_DONTNEED);
}

void wh__stack_put(struct wh__stacks *stacks, const struct wh__stack *stack)
{
	size_t used = wh__stack_used(stacks, stack);
	if (used > stacks->used_max)
		stacks->used_max = used;
	wh__asan_unpoison(stack->low, stack->bytes);
	if (stack->slab->count == 1 || stacks->warm_count >= WH__STACKS_WARM_MAX) {
		give_back(stacks, stack);
		return;
	}
	struct warm *warm = (void *)(stack->low + stack->bytes - sizeof *warm);
	*warm = (struct warm){.stack = *stack, .next = stacks->warm};
	stacks->warm = warm;
	stacks->warm_count++;
}

size_t wh__stack_used(const struct wh__stacks *stacks, const struct wh__stack *stack)
{
	if (!stacks->measured)
		return 0;
	const uint8_t *top = stack->low + stack->bytes, *at = stack->low;
	wh__valgrind_look_away();
	while (at < top && wh__pattern_at(at) == PATTERN)
		at += sizeof(uint64_t);
	wh__valgrind_look_again();
	return (size_t)(top - at);
}

bool wh__stack_is_whole(const struct wh__stack *stack)
{
	if (stack->guard != WH__GUARD_CANARY)
		return true;
	bool is_whole = true;
	wh__valgrind_look_away();
	for (size_t i = 0; i < WH__STACK_CANARY_BYTES; i += sizeof(uint64_t))
		is_whole &= wh__pattern_at(stack->low + i) == PATTERN;
	wh__valgrind_look_again();
	return is_whole;
}

bool wh__stack_guard_holds(const struct wh__stack *stack, const void *address)
{
	uintptr_t low = (uintptr_t)stack->low, at = (uintptr_t)address;
	return at < low && at >= low - stack->slab->guard_bytes;
}

size_t wh__stacks_mapped(const struct wh__stacks *stacks)
{
	return stacks->mapped_bytes;
}

size_t wh__stacks_used_max(const struct wh__stacks *stacks)
{
	return stacks->used_max;
}
