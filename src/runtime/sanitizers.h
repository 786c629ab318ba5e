/* src/runtime/sanitizers.h -- what AddressSanitizer, ThreadSanitizer and valgrind must be told of stacks of our own.
 *
 * Nothing of it remains in a plain build, but for valgrind's few instructions when its headers were there.
 *
 * Used by: stack.c, task.c.
 */
#ifndef WH_RUNTIME_SANITIZERS_H
#define WH_RUNTIME_SANITIZERS_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WH__ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define WH__TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define WH__ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define WH__TSAN 1
#endif

#ifdef WH__ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef WH__TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if WH_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

static inline void wh__asan_unpoison(const void *at, size_t bytes)
{
#ifdef WH__ASAN
	__asan_unpoison_memory_region(at, bytes);
#else
	(void)at, (void)bytes;
#endif
}

static inline unsigned wh__valgrind_register(const void *low, const void *high)
{
#if WH_HAVE_VALGRIND
	return VALGRIND_STACK_REGISTER(low, high);
#else
	(void)low, (void)high;
	return 0;
#endif
}

static inline void wh__valgrind_forget(unsigned number)
{
#if WH_HAVE_VALGRIND
	VALGRIND_STACK_DEREGISTER(number);
#else
	(void)number;
#endif
}

/* Around a look at what lies below the stack pointer. */
static inline void wh__valgrind_look_away(void)
{
#if WH_HAVE_VALGRIND
	VALGRIND_DISABLE_ERROR_REPORTING;
#endif
}

static inline void wh__valgrind_look_again(void)
{
#if WH_HAVE_VALGRIND
	VALGRIND_ENABLE_ERROR_REPORTING;
#endif
}

/* A word of a stack that is in use: it may lie in what a sanitizer keeps between two variables. */
#ifdef WH__ASAN
__attribute__((no_sanitize("address")))
#endif
static inline uint64_t
wh__pattern_at(const uint8_t *at)
{
	return *(const uint64_t *)(const void *)at;
}

#endif
