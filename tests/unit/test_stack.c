/* tests/unit/test_stack.c -- stacks of coroutines: guards of each kind, reuse, giving memory back, measuring. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/stack.h"

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t resident_bytes(const struct wh__stack *stack)
{
	unsigned char pages[1024];
	size_t resident = 0, count = (stack->bytes + page_bytes() - 1) / page_bytes();
	assert_int_equal(mincore(stack->low, stack->bytes, pages), 0);
	for (size_t i = 0; i < count; i++)
		resident += pages[i] & 1 ? page_bytes() : 0;
	return resident;
}

/* Writes at address in a child: the signal that ends it, 0: none. */
static int signal_of_writing(volatile uint8_t *address)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would tell at length */
		*address = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void the_page_below_a_stack_is_guarded(void **state)
{
	(void)state;
	for (enum wh__guard best = WH__GUARD_INSTALLED; best <= WH__GUARD_PROTECTED; best++) {
		struct wh__stacks *stacks = wh__stacks_open(0, false, best);
		struct wh__stack one[70]; /* more than a slab */
		for (int i = 0; i < 70; i++) {
			assert_int_equal(wh__stack_get(stacks, 0, &one[i]), 0);
			assert_true(one[i].guard == best || one[i].guard == WH__GUARD_PROTECTED);
			memset(one[i].low, 0x55, one[i].bytes);
		}
		for (int i = 0; i < 70; i += 23) {
			assert_int_equal(signal_of_writing(one[i].low - 1), SIGSEGV);
			assert_int_equal(signal_of_writing(one[i].low - page_bytes()), SIGSEGV);
			assert_int_equal(signal_of_writing(one[i].low), 0);
			assert_true(wh__stack_guard_holds(&one[i], one[i].low - 1));
			assert_true(wh__stack_guard_holds(&one[i], one[i].low - page_bytes()));
			assert_false(wh__stack_guard_holds(&one[i], one[i].low - page_bytes() - 1));
			assert_false(wh__stack_guard_holds(&one[i], one[i].low));
			assert_true(wh__stack_is_whole(&one[i])); /* whatever was written: no canary */
		}
		/* stacks do not overlap */
		for (int i = 0; i < 70; i++)
			for (size_t at = 0; at < one[i].bytes; at += 4096)
				assert_int_equal(one[i].low[at], 0x55);
		assert_null(wh__stacks_close(stacks)); /* in use or not */
	}
}

static void a_canary_tells_afterwards(void **state)
{
	(void)state;
	struct wh__stacks *stacks = wh__stacks_open(0, false, WH__GUARD_CANARY);
	struct wh__stack stack;
	assert_int_equal(wh__stack_get(stacks, 0, &stack), 0);
	assert_int_equal(stack.guard, WH__GUARD_CANARY);
	assert_true(wh__stack_is_whole(&stack));
	memset(stack.low + WH__STACK_CANARY_BYTES, 0, 1000);
	assert_true(wh__stack_is_whole(&stack));
	for (size_t i = 0; i < WH__STACK_CANARY_BYTES; i++) {
		stack.low[i] ^= 1;
		assert_false(wh__stack_is_whole(&stack));
		stack.low[i] ^= 1;
		assert_true(wh__stack_is_whole(&stack));
	}
	stack.low[0] = 0;
	wh__stack_put(stacks, &stack);
	assert_int_equal(wh__stack_get(stacks, 0, &stack), 0);
	assert_true(wh__stack_is_whole(&stack)); /* made anew */
	wh__stacks_close(stacks);
}

static void a_warm_stack_is_used_first(void **state)
{
	(void)state;
	struct wh__stacks *stacks = wh__stacks_open(0, false, WH__GUARD_INSTALLED);
	struct wh__stack a, b, again;
	assert_int_equal(wh__stack_get(stacks, 0, &a), 0);
	assert_int_equal(wh__stack_get(stacks, 0, &b), 0);
	assert_ptr_not_equal(a.low, b.low);
	size_t mapped = wh__stacks_mapped(stacks);
	for (int i = 0; i < 1000; i++) {
		wh__stack_put(stacks, &a);
		assert_int_equal(wh__stack_get(stacks, 0, &again), 0);
		assert_ptr_equal(again.low, a.low);
		assert_int_equal(again.bytes, a.bytes);
	}
	assert_int_equal(wh__stacks_mapped(stacks), mapped);
	wh__stacks_close(stacks);
}

static void a_default_of_any_size_stays_warm(void **state)
{
	(void)state;
	const size_t sizes[] = {1, 20000, 70000};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct wh__stacks *stacks = wh__stacks_open(sizes[i], false, WH__GUARD_INSTALLED);
		struct wh__stack stack, again;
		assert_int_equal(wh__stack_get(stacks, 0, &stack), 0);
		size_t mapped = wh__stacks_mapped(stacks);
		wh__stack_put(stacks, &stack);
		assert_int_equal(wh__stacks_mapped(stacks), mapped);
		assert_int_equal(wh__stack_get(stacks, 0, &again), 0);
		assert_ptr_equal(again.low, stack.low);
		wh__stacks_close(stacks);
	}
}

static void memory_of_many_is_given_back(void **state)
{
	(void)state;
	enum { COUNT = WH__STACKS_WARM_MAX * 3 };
	struct wh__stacks *stacks = wh__stacks_open(0, false, WH__GUARD_INSTALLED);
	struct wh__stack *all = calloc(COUNT, sizeof *all);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(wh__stack_get(stacks, 0, &all[i]), 0);
		all[i].low[all[i].bytes - 1] = 1;
		all[i].low[all[i].bytes - 10000] = 1;
	}
	size_t mapped = wh__stacks_mapped(stacks);
	assert_in_range(mapped, COUNT * (WH__STACK_BYTES_DEFAULT + page_bytes()),
	                (COUNT + 64) * (WH__STACK_BYTES_DEFAULT + page_bytes()));
	assert_true(resident_bytes(&all[COUNT - 1]) > 0);
	/* the last of each slab stays in use: slabs stay, and the memory of those beyond the warm ones does not */
	for (int i = 0; i < COUNT; i++)
		if (i % 64 != 63)
			wh__stack_put(stacks, &all[i]);
	assert_int_equal(wh__stacks_mapped(stacks), mapped);
	assert_true(resident_bytes(&all[0]) > 0); /* warm */
	assert_int_equal(resident_bytes(&all[COUNT - 2]), 0);
	assert_true(resident_bytes(&all[COUNT - 1]) > 0);
	/* with the last of a slab the slab goes */
	wh__stack_put(stacks, &all[COUNT - 1]);
	assert_int_equal(wh__stacks_mapped(stacks), mapped - 64 * (WH__STACK_BYTES_DEFAULT + page_bytes()));
	/* and all can be had again, guarded as before */
	for (int i = 0; i < COUNT; i++) {
		if (i % 64 == 63 && i != COUNT - 1)
			continue;
		assert_int_equal(wh__stack_get(stacks, 0, &all[i]), 0);
		assert_int_not_equal(all[i].guard, WH__GUARD_CANARY);
		memset(all[i].low + all[i].bytes - 2000, 1, 2000);
	}
	assert_int_equal(signal_of_writing(all[COUNT - 2].low - 1), SIGSEGV);
	assert_int_equal(wh__stacks_mapped(stacks), mapped);
	free(all);
	wh__stacks_close(stacks);
}

static void other_sizes(void **state)
{
	(void)state;
	struct wh__stacks *stacks = wh__stacks_open(32768, false, WH__GUARD_INSTALLED);
	struct wh__stack stack;
	assert_int_equal(wh__stack_get(stacks, 0, &stack), 0);
	assert_in_range(stack.bytes, 32768 - 2048, 32768);
	size_t mapped = wh__stacks_mapped(stacks);
	assert_int_equal(wh__stack_get(stacks, 1000001, &stack), 0);
	assert_in_range(stack.bytes, 1000001, 1000001 + page_bytes());
	memset(stack.low, 1, stack.bytes);
	assert_int_equal(signal_of_writing(stack.low - 1), SIGSEGV);
	wh__stack_put(stacks, &stack); /* not kept */
	assert_int_equal(wh__stacks_mapped(stacks), mapped);
	assert_int_equal(wh__stack_get(stacks, 1, &stack), 0);
	assert_in_range(stack.bytes, WH__STACK_BYTES_MIN, WH__STACK_BYTES_MIN + page_bytes());
	assert_int_equal(wh__stack_get(stacks, (size_t)WH__STACK_BYTES_MAX + 1, &stack), -EINVAL);
	wh__stacks_close(stacks);
}

static void tops_are_staggered(void **state)
{
	(void)state;
	struct wh__stacks *stacks = wh__stacks_open(0, false, WH__GUARD_INSTALLED);
	struct wh__stack stack;
	bool seen[4096 / 64] = {false};
	int different = 0;
	for (int i = 0; i < 64; i++) {
		assert_int_equal(wh__stack_get(stacks, 0, &stack), 0);
		assert_int_equal((uintptr_t)(stack.low + stack.bytes) % 64, 0);
		size_t line = (uintptr_t)(stack.low + stack.bytes) % 4096 / 64;
		different += !seen[line];
		seen[line] = true;
	}
	assert_int_equal(different, 16);
	wh__stacks_close(stacks);
}

static void depth_is_measured(void **state)
{
	(void)state;
	struct wh__stacks *stacks = wh__stacks_open(0, true, WH__GUARD_INSTALLED);
	struct wh__stack stack;
	for (size_t depth = 8; depth < 60000; depth = depth * 3 / 8 * 8) {
		assert_int_equal(wh__stack_get(stacks, 0, &stack), 0);
		assert_int_equal(wh__stack_used(stacks, &stack), 0);
		stack.low[stack.bytes - depth] = 1;
		assert_int_equal(wh__stack_used(stacks, &stack), depth);
		wh__stack_put(stacks, &stack);
		assert_int_equal(wh__stacks_used_max(stacks), depth);
	}
	wh__stacks_close(stacks);
}

static void mappings_are_left_to_others(void **state)
{
	(void)state;
	enum { COUNT = WH__STACKS_PROTECTED_MAX + 1000 };
	struct wh__stacks *stacks = wh__stacks_open(0, false, WH__GUARD_PROTECTED);
	struct wh__stack stack = {0};
	for (int round = 0; round < 2; round++) {
		struct wh__stacks *others = wh__stacks_open(0, false, WH__GUARD_PROTECTED);
		int kinds[3] = {0};
		for (int i = 0; i < COUNT; i++) {
			assert_int_equal(wh__stack_get(others, 0, &stack), 0);
			kinds[stack.guard]++;
		}
		assert_int_equal(kinds[WH__GUARD_PROTECTED], WH__STACKS_PROTECTED_MAX);
		assert_int_equal(kinds[WH__GUARD_CANARY], 1000);
		assert_true(wh__stack_is_whole(&stack));
		stack.low[3] = 0;
		assert_false(wh__stack_is_whole(&stack));
		assert_int_equal(wh__stack_get(stacks, 0, &stack), 0); /* the count is of the process */
		assert_int_equal(stack.guard, WH__GUARD_CANARY);
		wh__stacks_close(others);
	}
	struct wh__stacks *others = wh__stacks_open(0, false, WH__GUARD_PROTECTED);
	assert_int_equal(wh__stack_get(others, 0, &stack), 0);
	assert_int_equal(stack.guard, WH__GUARD_PROTECTED);
	wh__stacks_close(others);
	wh__stacks_close(stacks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_page_below_a_stack_is_guarded),
		cmocka_unit_test(a_canary_tells_afterwards),
		cmocka_unit_test(a_warm_stack_is_used_first),
		cmocka_unit_test(a_default_of_any_size_stays_warm),
		cmocka_unit_test(memory_of_many_is_given_back),
		cmocka_unit_test(other_sizes),
		cmocka_unit_test(tops_are_staggered),
		cmocka_unit_test(depth_is_measured),
		cmocka_unit_test(mappings_are_left_to_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
