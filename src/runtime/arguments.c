/* src/runtime/arguments.c -- see arguments.h. */
#include "runtime/arguments.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/loop.h"

struct wh__arguments *wh__arguments_get(wh_loop *loop)
{
	struct wh__arguments *arguments = loop->free_arguments;
	if (arguments)
		loop->free_arguments = arguments->next;
	else
		arguments = malloc(sizeof *arguments);
	return arguments;
}

void wh__arguments_put(wh_loop *loop, struct wh__arguments *arguments)
{
	arguments->next = loop->free_arguments;
	loop->free_arguments = arguments;
}

void wh__arguments_fini(wh_loop *loop)
{
	while (loop->free_arguments) {
		struct wh__arguments *arguments = loop->free_arguments;
		loop->free_arguments = arguments->next;
		free(arguments);
	}
}

uint64_t wh__vector_bytes(const struct iovec *iov, uint64_t count)
{
	uint64_t bytes = 0;
	for (uint64_t i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

void wh__vector_advance(struct iovec *iov, uint64_t *count, uint64_t n)
{
	uint64_t first = 0;
	while (first < *count && n >= iov[first].iov_len)
		n -= iov[first++].iov_len;
	*count -= first;
	if (*count == 0)
		return;
	memmove(iov, iov + first, *count * sizeof *iov);
	iov[0].iov_base = (char *)iov[0].iov_base + n;
	iov[0].iov_len -= n;
}
