/* src/runtime/stack.h -- stacks for coroutines: guarded, used again while warm, measured on request.
 *
 * Used by: task.c.  Thread: loop. Memory: slabs of address space, of which only what has been touched is resident.
 */
#ifndef WH_RUNTIME_STACK_H
#define WH_RUNTIME_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WH__STACK_BYTES_DEFAULT = 64 * 1024,
	WH__STACK_BYTES_MIN = 16 * 1024,
	WH__STACK_BYTES_MAX = 1024 * 1024 * 1024,
	WH__STACKS_WARM_MAX = 1024,       /* kept with their memory; of those beyond, it is given back */
	WH__STACKS_PROTECTED_MAX = 16000, /* in a process: half of the mappings are left to others */
	WH__STACK_CANARY_BYTES = 64
};

/* What lies below a stack, best first. */
enum wh__guard {
	WH__GUARD_INSTALLED, /* a guard region (Linux 6.13): costs no mapping of its own */
	WH__GUARD_PROTECTED, /* mprotect(2): two mappings for each, of which a process has some 65,000 */
	WH__GUARD_CANARY     /* bytes that are looked at whenever the coroutine stops */
};

struct wh__stack {
	uint8_t *low; /* lowest usable byte; below it is the guard, unless that is the canary at low */
	size_t bytes; /* low + bytes is a multiple of 16 */
	struct wh__slab *slab;
	uint32_t index;
	enum wh__guard guard;
};

struct wh__stacks; /* those of one loop */

/* bytes: of a stack when nothing else is asked for; 0: the default. measured: keep track of the depth used.
 * guard: the best that is tried. NULL: no memory. */
struct wh__stacks *wh__stacks_open(size_t bytes, bool measured, enum wh__guard guard);
struct wh__stacks *wh__stacks_close(struct wh__stacks *stacks); /* all stacks, in use or not; NULL */

/* bytes 0: as at open. -ENOMEM; -EINVAL: beyond the maximum. */
int wh__stack_get(struct wh__stacks *stacks, size_t bytes, struct wh__stack *ret);
void wh__stack_put(struct wh__stacks *stacks, const struct wh__stack *stack);

/* wh__stack_used() - the deepest use so far, bytes; 0 when stacks are not measured. */
size_t wh__stack_used(const struct wh__stacks *stacks, const struct wh__stack *stack);

/* wh__stack_is_whole() - false: the canary is gone, something has written below the stack. Cheap when the guard is
 * of another kind. */
bool wh__stack_is_whole(const struct wh__stack *stack);

/* wh__stack_guard_holds() - does the guard below stack hold this address? Async-signal-safe. */
bool wh__stack_guard_holds(const struct wh__stack *stack, const void *address);

size_t wh__stacks_mapped(const struct wh__stacks *stacks); /* bytes of address space, guards included */
size_t
wh__stacks_used_max(const struct wh__stacks *stacks); /* the deepest use of any stack that was put back */

#endif
