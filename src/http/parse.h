/* src/http/parse.h -- HTTP/1.1 messages, from bytes to something that can be trusted.
 *
 * A head (start line and header section) is read in two steps. The scan finds its end, byte by byte, whatever way the
 * bytes are split, and already refuses what no head may contain. The parse then takes the whole head, contiguous,
 * through llhttp and through checks of our own: what both accept is a request or response; a message on which two
 * readers could disagree (request smuggling) is refused. Bodies are framed by our own decision; chunks by chunked.c.
 *
 * Depends on: message.h.  Used by: connection, client.
 * Thread: any.  Memory: nothing is allocated; results are offsets into the head, so that it can be moved.
 */
#ifndef WH_HTTP_PARSE_H
#define WH_HTTP_PARSE_H

#include "whilst/http.h"

enum { WH__HTTP_FIELDS_MAX = 200 };

struct wh__http_limits {
	uint32_t head_bytes_max;   /* header section: 431 */
	uint32_t target_bytes_max; /* 414 */
	uint32_t fields_max;       /* 431 */
	bool connect;              /* CONNECT is taken: else 501 */
};

/* Where a scan stands; all-zero before the first byte of a message. */
struct wh__http_scan {
	uint32_t start_bytes;   /* bytes of the start line so far, empty lines before it included, CRLF too */
	uint32_t section_bytes; /* bytes of the header section so far */
	uint8_t state;
	bool response;
};

struct wh__http_span {
	uint32_t off, len;
};

struct wh__http_field_span {
	struct wh__http_span name, value;
};

enum wh__http_flags {
	WH__HTTP_KEEP_ALIVE = 1 << 0, /* another message may follow on this connection */
	WH__HTTP_CHUNKED = 1 << 1,
	WH__HTTP_LENGTH = 1 << 2, /* Content-Length was there */
	WH__HTTP_EXPECT_CONTINUE = 1 << 3,
	WH__HTTP_UNTIL_CLOSE = 1 << 4, /* responses: the body ends with the connection */
	WH__HTTP_UPGRADE = 1 << 5,     /* Connection: upgrade, and Upgrade, in HTTP/1.1; or CONNECT */
};

struct wh__http_head {
	uint8_t method;  /* enum wh_http_method; requests */
	uint8_t version; /* 10 or 11 */
	uint8_t token;   /* of a method: its number at llhttp */
	uint16_t status; /* responses */
	uint16_t flags;  /* enum wh__http_flags */
	uint16_t field_count;
	uint64_t content_length;                                      /* 0 unless WH__HTTP_LENGTH */
	struct wh__http_span method_token, target, path, query, host; /* off 0: absent (but method_token) */
	struct wh__http_span reason;
	struct wh__http_field_span fields[WH__HTTP_FIELDS_MAX];
};

/* wh__http_scan() - look at the next len bytes of a message. Result: 0, and *ret_consumed bytes belong to the head, which
 * ends there if *ret_end, else with later bytes. *ret_skipped > 0: the start line begins at data[*ret_skipped]; what
 * was before, in earlier calls too, were empty lines, to be thrown away. Or the result is the HTTP status of a
 * refusal, and *ret_reason a static text. */
int wh__http_scan(struct wh__http_scan *scan, const struct wh__http_limits *limits, const char *data,
                  size_t len, size_t *ret_consumed, size_t *ret_skipped, bool *ret_end,
                  const char **ret_reason);

/* wh__http_parse_request() - a whole head as found by the scan, without empty lines before it. Result 0, or the status
 * of a refusal and *ret_reason. *ret is then undefined. */
int wh__http_parse_request(const char *data, size_t len, const struct wh__http_limits *limits,
                           struct wh__http_head *ret, const char **ret_reason);

/* wh__http_parse_response() - the same for a response; head_request: it answers HEAD. The result of a refusal is 502, or
 * 431 for a limit. */
int wh__http_parse_response(const char *data, size_t len, const struct wh__http_limits *limits,
                            bool head_request, struct wh__http_head *ret, const char **ret_reason);

/* -- chunked.c: the body of Transfer-Encoding: chunked (RFC 9112 section 7.1) */

struct wh__http_chunked {
	uint64_t left;         /* bytes of the chunk still to come */
	uint32_t excess_bytes; /* framing beyond what is reasonable for the data it came with */
	uint32_t trailer_bytes;
	uint8_t state;
	uint8_t digits;
};

/* wh__http_chunked() - decode in place: of len bytes *ret_consumed are used, and *ret_produced bytes of content are at data.
 * All-zero is the state before the first byte. Trailers are checked and dropped. Result 0: goes on; 1: the body is
 * complete; or the status of a refusal and *ret_reason. */
int wh__http_chunked(struct wh__http_chunked *chunked, char *data, size_t len, size_t *ret_consumed,
                     size_t *ret_produced, const char **ret_reason);

#endif
