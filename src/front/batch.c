/* src/front/batch.c -- many items in one body. See batch.h. */
#include "front/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "front/json_words.h"

static void start(struct batch *batch)
{
	batch->items = batch->given;
	batch->count = 0;
	batch->cap = sizeof(batch->given) / sizeof(batch->given[0]);
	batch->bad = 0;
	batch->line = batch->column = 0;
	batch->detail[0] = 0;
}

void batch_done(struct batch *batch)
{
	if (batch->items != batch->given)
		free(batch->items);
	batch->items = batch->given;
}

static int add(struct batch *batch, const char *bytes, size_t len)
{
	if (batch->count == BATCH_ITEMS_MAX)
		return BATCH_TOO_MANY;
	if (batch->count == batch->cap) {
		size_t cap = batch->cap * 8 < BATCH_ITEMS_MAX ? batch->cap * 8 : BATCH_ITEMS_MAX;
		struct store_slice *items = batch->items == batch->given
		                                    ? malloc(cap * sizeof(*items))
		                                    : realloc(batch->items, cap * sizeof(*items));
		if (!items)
			return -ENOMEM;
		if (batch->items == batch->given)
			memcpy(items, batch->given, sizeof(batch->given));
		batch->items = items;
		batch->cap = cap;
	}
	batch->items[batch->count++] = (struct store_slice){bytes, len};
	return BATCH_GOOD;
}

int batch_read(struct batch *batch, const char *body, size_t len, uint64_t item_max)
{
	int wrong = BATCH_GOOD;

	start(batch);
	while (len > 0 && wrong == BATCH_GOOD) {
		uint32_t n;
		batch->bad = batch->count;
		if (len < 4)
			return BATCH_CUT;
		n = batch_get_u32(body);
		if (n > item_max)
			return BATCH_ITEM_TOO_LARGE;
		if (n > len - 4)
			return BATCH_CUT;
		if (batch->count < batch->cap)
			batch->items[batch->count++] = (struct store_slice){body + 4, n};
		else
			wrong = add(batch, body + 4, n);
		body += 4 + n;
		len -= 4 + n;
	}
	return wrong == BATCH_GOOD && batch->count == 0 ? BATCH_EMPTY : wrong;
}

static int check_json(struct batch *batch, const char *line, size_t len)
{
	json_error_t error;
	json_t *value = json_loadb(line, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	if (!value) {
		batch->line = (int)batch->count + 1;
		batch->column = error.column;
		snprintf(batch->detail, sizeof(batch->detail), "%s",
		         len == 0 ? "the line is empty: each line is a payload" : json_words(&error));
		return BATCH_BAD_JSON;
	}
	json_decref(value);
	return BATCH_GOOD;
}

int batch_read_lines(struct batch *batch, const char *body, size_t len, uint64_t item_max)
{
	int wrong = BATCH_GOOD;

	start(batch);
	while (len > 0 && wrong == BATCH_GOOD) {
		const char *end = memchr(body, '\n', len);
		size_t n = end ? (size_t)(end - body) : len, line = n;
		batch->bad = batch->count;
		if (line > 0 && body[line - 1] == '\r')
			line--;
		if (line > item_max)
			return BATCH_ITEM_TOO_LARGE;
		if (batch->count == BATCH_ITEMS_MAX)
			return BATCH_TOO_MANY;
		wrong = check_json(batch, body, line);
		if (wrong == BATCH_GOOD)
			wrong = add(batch, body, line);
		n += end != NULL;
		body += n;
		len -= n;
	}
	return wrong == BATCH_GOOD && batch->count == 0 ? BATCH_EMPTY : wrong;
}
