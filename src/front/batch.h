/* src/front/batch.h -- many items in one body: application/vnd.whilst.batch and NDJSON (docs/reference/batch.md).
 *
 * Pure: bytes in, slices of them out. Thread: any.
 */
#ifndef WH_FRONT_BATCH_H
#define WH_FRONT_BATCH_H

#include "store/store.h"

#define BATCH_TYPE  "application/vnd.whilst.batch"
#define BATCH_LINES "application/x-ndjson"

enum { BATCH_ITEMS_MAX = JOB_ACTIONS_MAX };

enum batch_wrong {
	BATCH_GOOD,
	BATCH_EMPTY,
	BATCH_CUT, /* ends within an item */
	BATCH_TOO_MANY,
	BATCH_ITEM_TOO_LARGE,
	BATCH_BAD_JSON,
};

/* Items borrow the body. items is malloc'ed unless it fits into .given; batch_done() frees it. */
struct batch {
	struct store_slice *items;
	size_t count, cap;
	struct store_slice given[128];
	size_t bad; /* index of the item that is wrong */
	int line, column;
	char detail[160]; /* BATCH_BAD_JSON */
};

/* -ENOMEM, or enum batch_wrong. item_max: bytes of one. */
int batch_read(struct batch *batch, const char *body, size_t len, uint64_t item_max);
int batch_read_lines(struct batch *batch, const char *body, size_t len, uint64_t item_max);
void batch_done(struct batch *batch);

/* batch_refuse() - answer what batch_read() found wrong. */
struct request;
void batch_refuse(struct request *request, const struct batch *batch, int wrong);

/* Byte by byte without a loop, which compilers make one store of. */
static inline void batch_put_u32(char *to, uint32_t v)
{
	to[0] = (char)v;
	to[1] = (char)(v >> 8);
	to[2] = (char)(v >> 16);
	to[3] = (char)(v >> 24);
}

static inline void batch_put_u64(char *to, uint64_t v)
{
	batch_put_u32(to, (uint32_t)v);
	batch_put_u32(to + 4, (uint32_t)(v >> 32));
}

static inline uint32_t batch_get_u32(const void *from)
{
	const uint8_t *b = from;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t batch_get_u64(const void *from)
{
	return batch_get_u32(from) | (uint64_t)batch_get_u32((const uint8_t *)from + 4) << 32;
}

#endif
