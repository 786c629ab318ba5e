/* src/http/known.c -- heads that came before. See known.h. */
#include "http/known.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A head shorter than this is parsed faster than it is looked for. */
enum { WINDOW_BYTES = 64 };

struct wh__http_known_head {
	uint32_t len;
	const char *bytes;         /* behind .head's fields */
	struct wh__http_head head; /* of its fields only those that it has */
};

/* Of a window's bytes: the request line, mostly. */
static uint64_t mix(const char *data, uint64_t hash)
{
	for (size_t i = 0; i < WINDOW_BYTES; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, data + i, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	return hash;
}

static size_t place_of(uint64_t hash)
{
	return hash >> 32 & (WH__HTTP_KNOWN_MAX - 1);
}

struct wh__http_head *wh__http_known_find(struct wh__http_known *known, const char *data, size_t len,
                                          size_t *ret_len)
{
	struct wh__http_known_head *h;

	if (len < WINDOW_BYTES)
		return NULL;
	h = known->heads[place_of(mix(data, 0))];
	if (!h || len < h->len || memcmp(data, h->bytes, h->len) != 0)
		return NULL;
	*ret_len = h->len;
	return &h->head;
}

void wh__http_known_learn(struct wh__http_known *known, const char *data, size_t len,
                          const struct wh__http_head *head)
{
	size_t meta = offsetof(struct wh__http_known_head, head.fields) +
	              head->field_count * sizeof(head->fields[0]);
	struct wh__http_known_head *h;
	uint64_t hash;
	size_t place;

	if (len < WINDOW_BYTES || len > WH__HTTP_KNOWN_BYTES_MAX ||
	    head->field_count > WH__HTTP_KNOWN_FIELDS_MAX)
		return;
	hash = mix(data, 0);
	place = place_of(hash);
	hash = mix(data + len - WINDOW_BYTES, hash ^ len);
	if (known->seen[place] != hash) {
		known->seen[place] = hash;
		return;
	}
	h = malloc(meta + len);
	if (!h)
		return;
	h->len = (uint32_t)len;
	h->bytes = memcpy((char *)h + meta, data, len);
	memcpy(&h->head, head, meta - offsetof(struct wh__http_known_head, head));
	free(known->heads[place]);
	known->heads[place] = h;
}

void wh__http_known_done(struct wh__http_known *known)
{
	for (size_t i = 0; i < WH__HTTP_KNOWN_MAX; i++)
		free(known->heads[i]);
	*known = (struct wh__http_known){0};
}
