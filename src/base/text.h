/* src/base/text.h -- a growing piece of text, and writing JSON into it.
 *
 * Answers are built in memory that the caller already has (stack, a request's scratch); only what does not
 * fit moves to the heap. An allocation that fails is remembered in .failed and everything after it is
 * ignored, so that callers look once, at the end. Thread: the owner's.
 */
#ifndef WH_BASE_TEXT_H
#define WH_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wh__text {
	char *data;
	size_t len, cap;
	char *given; /* the caller's memory, NULL: none */
	bool failed; /* out of memory; what is there is not whole */
};

/* wh__text_init() - start empty in cap bytes of the caller's (may be 0), borrowed until wh__text_done(). */
static inline void wh__text_init(struct wh__text *text, char *given, size_t cap)
{
	*text = (struct wh__text){.data = given, .cap = cap, .given = given};
}

/* wh__text_done() - free what was moved to the heap; the text is empty then. */
void wh__text_done(struct wh__text *text);

/* wh__text_take() - give the content as malloc'ed memory (NULL: no memory, or failed before) and be empty. */
char *wh__text_take(struct wh__text *text);

/* wh__text_room() - room for len more bytes, to be written by the caller who then adds to .len; NULL: failed.
 */
char *wh__text_room_slow(struct wh__text *text, size_t len);
static inline char *wh__text_room(struct wh__text *text, size_t len)
{
	if (text->data && text->cap - text->len >= len && !text->failed)
		return text->data + text->len;
	return wh__text_room_slow(text, len);
}

static inline void wh__text_put(struct wh__text *text, const void *bytes, size_t len)
{
	char *room = wh__text_room(text, len);
	if (room && len > 0) {
		memcpy(room, bytes, len);
		text->len += len;
	}
}

static inline void wh__text_str(struct wh__text *text, const char *string)
{
	wh__text_put(text, string, strlen(string));
}

void wh__text_u64(struct wh__text *text, uint64_t value);
void wh__text_format(struct wh__text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* wh__text_json() - a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD. */
void wh__text_json(struct wh__text *text, const char *bytes, size_t len);

/* wh__text_base64() - RFC 4648 with padding. */
void wh__text_base64(struct wh__text *text, const uint8_t *bytes, size_t len);

/* wh__unbase64() - the same backwards, in place: its bytes, whose number is *ret_len. false: not base64; what it was is lost. */
bool wh__unbase64(char *bytes, size_t len, size_t *ret_len);
/* wh__utf8_bytes() - of the well-formed character at `at` (Unicode table 3-7), of len bytes (1 at least); 0: there is none. */
size_t wh__utf8_bytes(const char *at, size_t len);

/* wh__put_u64() - decimal digits at to (room for 20); how many. */
size_t wh__put_u64(char *to, uint64_t value);

#endif
