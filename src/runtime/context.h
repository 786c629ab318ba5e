/* src/runtime/context.h -- a point where a thread's execution stands still, and the switch from one to another.
 *
 * Of the thread's state a context holds what a called function must preserve: the stack pointer, the callee-saved
 * registers and the floating-point control words (rounding, exceptions masked). Signal masks are the thread's.
 *
 * The switch is a few instructions of assembler (switch_x86_64.S, switch_aarch64.S); elsewhere, and with the build
 * option coroutines=ucontext, it is swapcontext(3), which makes two system calls each time.
 *
 * Used by: task.c.  Thread: any, one at a time. Memory: none but the stack that is handed in.
 */
#ifndef WH_RUNTIME_CONTEXT_H
#define WH_RUNTIME_CONTEXT_H

#include <stddef.h>

typedef void wh__context_function(void *arg); /* never returns: its end is a switch to elsewhere */

#ifdef WH_SWITCH_UCONTEXT

#include <ucontext.h>

struct wh__context {
	ucontext_t saved;
};

#else

struct wh__context {
	void *saved; /* the stack pointer; what else there is lies on the stack */
};

#endif

/* wh__context_init() - ready to run fn(arg) on the stack low..low+bytes, with the caller's floating-point control
 * words. low + bytes is a multiple of 16. */
void wh__context_init(struct wh__context *context, void *low, size_t bytes, wh__context_function *fn,
                      void *arg);

/* wh__context_switch() - stand still in *from, go on in *to. */
void wh__context_switch(struct wh__context *from, struct wh__context *to);

#endif
