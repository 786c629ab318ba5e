/* tests/fault/allocations.h -- functions that allocate fail when they are told to, and what they gave is counted.
 *
 * tests/fault/meson.build has the linker put them before those of the C library (--wrap), for a file that includes this once. The
 * fail_at-th call fails, 0: none; then hit is set. fail_each not 0: so does each fail_each-th after it, before the fail_end-th. live: what was
 * not freed yet.
 */
#ifndef WH_TESTS_ALLOCATIONS_H
#define WH_TESTS_ALLOCATIONS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static atomic_int calls, fail_at, fail_each, fail_end;
static atomic_long live;
static atomic_bool hit;

static bool fails(void)
{
	int from = atomic_load(&fail_at), each = atomic_load(&fail_each), at;

	if (from == 0)
		return false;
	at = atomic_fetch_add(&calls, 1) + 1;
	if (at != from && (each == 0 || at < from || at >= atomic_load(&fail_end) || (at - from) % each != 0))
		return false;
	atomic_store(&hit, true);
	errno = ENOMEM;
	return true;
}

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add(&live, 1);
	return p;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void __real_free(void *p);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
void __wrap_free(void *p);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	void *p;

	if (fails())
		return NULL;
	p = __real_realloc(old, size);
	if (!old)
		counted(p);
	return p;
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t len)
{
	return fails() ? NULL : counted(__real_strndup(text, len));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	void *p;

	if (fails())
		return NULL;
	p = __real_reallocarray(old, count, size);
	if (!old)
		counted(p);
	return p;
}

void __wrap_free(void *p)
{
	if (p)
		atomic_fetch_sub(&live, 1);
	__real_free(p);
}

#endif
