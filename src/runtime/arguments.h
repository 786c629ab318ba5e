/* src/runtime/arguments.h -- room for what does not fit into a slot: a vector, a message, an address.
 *
 * Depends on: nothing.  Used by: io, which fills them in; engines, which hand them to the kernel.
 * Thread: loop; a worker reads those of its operation.
 * Memory: kept by the loop for the next operation when one has ended, so that a program in its stride allocates none.
 * op->buf points to one while WH__POOLED is set: to its vector, which is the first member.
 */
#ifndef WH_RUNTIME_ARGUMENTS_H
#define WH_RUNTIME_ARGUMENTS_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "whilst/whilst.h"

enum { WH__VECTOR_MAX = 16, WH__DESCRIPTORS_MAX = 16 };

struct wh__arguments {
	struct iovec iov[WH__VECTOR_MAX];
	struct msghdr message;
	struct sockaddr_storage address;
	union { /* of the alignment that a header of control data needs */
		size_t alignment;
		char bytes[CMSG_SPACE(WH__DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct { /* where bytes come from */
		int fd;
		uint64_t off;
	} source;
	struct wh__arguments *next; /* of the free ones */
};

/* NULL: no memory. What is in it is undefined. */
struct wh__arguments *wh__arguments_get(wh_loop *loop);
void wh__arguments_put(wh_loop *loop, struct wh__arguments *arguments);
void wh__arguments_fini(wh_loop *loop);

/* wh__vector_bytes() - what a vector holds. */
uint64_t wh__vector_bytes(const struct iovec *iov, uint64_t count);

/* wh__vector_advance() - n bytes at its start are done with: shrinks it, and its count. */
void wh__vector_advance(struct iovec *iov, uint64_t *count, uint64_t n);

#endif
