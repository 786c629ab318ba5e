/* src/runtime/switch_ucontext.c -- wh__context_switch() and wh__context_init() by the C library; see context.h.
 *
 * For processors without a switch of our own, and for systems that enforce shadow stacks, which the C library switches.
 * Thread: any. Memory: none.
 */
#include "runtime/context.h"

#include <assert.h>
#include <stdint.h>

/* makecontext(3) hands on ints. */
static void begin(unsigned fn_high, unsigned fn_low, unsigned arg_high, unsigned arg_low)
{
	uint64_t fn = (uint64_t)fn_high << 32 | fn_low, arg = (uint64_t)arg_high << 32 | arg_low;
	((wh__context_function *)(uintptr_t)fn)((void *)(uintptr_t)arg);
	__builtin_trap();
}

void wh__context_init(struct wh__context *context, void *low, size_t bytes, wh__context_function *fn,
                      void *arg)
{
	/* POSIX has withdrawn these, and has nothing for threads of execution that are not threads. */
	/* cppcheck-suppress getcontextCalled */
	int error = getcontext(&context->saved);
	assert(error == 0); /* it has no way to fail on Linux */
	context->saved.uc_stack.ss_sp = low;
	context->saved.uc_stack.ss_size = bytes;
	context->saved.uc_link = NULL;
	uint64_t f = (uintptr_t)fn, a = (uintptr_t)arg;
	/* cppcheck-suppress makecontextCalled */
	makecontext(&context->saved, (void (*)(void))begin, 4, (unsigned)(f >> 32), (unsigned)f,
	            (unsigned)(a >> 32), (unsigned)a);
}

void wh__context_switch(struct wh__context *from, struct wh__context *to)
{
	/* cppcheck-suppress swapcontextCalled */
	int error = swapcontext(&from->saved, &to->saved);
	assert(error == 0);
}
