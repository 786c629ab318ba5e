/* tests/unit/test_http_parse.c -- requests, responses and chunks: what is taken, what is refused and with which status.
 *
 * Every input is read whole, split in two at every position, and byte by byte: the result must be the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/known.h"
#include "http/message.h"
#include "http/parse.h"

static const struct wh__http_limits limits = {.head_bytes_max = 512, .target_bytes_max = 64, .fields_max = 8};

enum { OUTCOME_MAX = 16384 };

/* What became of an input: in words, so that two runs can be compared and a failure read. */
struct outcome {
	char text[OUTCOME_MAX];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct outcome *outcome, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	outcome->len +=
		(size_t)vsnprintf(outcome->text + outcome->len, OUTCOME_MAX - outcome->len, format, list);
	va_end(list);
	assert_true(outcome->len < OUTCOME_MAX);
}

struct reader {
	bool response, head_request;
	struct wh__http_scan scan;
	struct wh__http_chunked chunked;
	struct wh__http_head head;
	char held[8192];
	size_t held_len;
	bool in_body, over;
	uint64_t body_left;
	struct outcome outcome;
};

static void say_span(struct reader *r, const char *name, struct wh__http_span span)
{
	if (span.off)
		say(&r->outcome, "%s=%.*s\n", name, (int)span.len, r->held + span.off);
}

static void head_over(struct reader *r)
{
	const char *reason = NULL;
	struct wh__http_head *head = &r->head;
	int status = r->response ? wh__http_parse_response(r->held, r->held_len, &limits, r->head_request,
	                                                   head, &reason)
	                         : wh__http_parse_request(r->held, r->held_len, &limits, head, &reason);

	if (status) {
		say(&r->outcome, "refused %d %s\n", status, reason);
		r->over = true;
		return;
	}
	say(&r->outcome, "method=%u %.*s version=%u status=%u flags=%u length=%llu\n", head->method,
	    (int)head->method_token.len, r->held, head->version, head->status, head->flags,
	    (unsigned long long)head->content_length);
	say_span(r, "target", head->target);
	say_span(r, "path", head->path);
	say_span(r, "query", head->query);
	say_span(r, "host", head->host);
	say_span(r, "reason", head->reason);
	for (int i = 0; i < head->field_count; i++)
		say(&r->outcome, "[%.*s][%.*s]\n", (int)head->fields[i].name.len,
		    r->held + head->fields[i].name.off, (int)head->fields[i].value.len,
		    r->held + head->fields[i].value.off);
	r->held_len = 0;
	r->in_body = head->flags & WH__HTTP_CHUNKED || head->content_length > 0 ||
	             head->flags & WH__HTTP_UNTIL_CLOSE;
	r->body_left = head->content_length;
	memset(&r->chunked, 0, sizeof(r->chunked));
}

static size_t read_body(struct reader *r, char *data, size_t len)
{
	const char *reason = NULL;
	size_t consumed = len, produced = len;

	if (r->head.flags & WH__HTTP_CHUNKED) {
		int status = wh__http_chunked(&r->chunked, data, len, &consumed, &produced, &reason);

		if (status > 1) {
			/* what a refused body had before its fault depends on the split: leave it out */
			char *body = strstr(r->outcome.text, "body:");

			if (body)
				r->outcome.len = (size_t)(body - r->outcome.text);
			say(&r->outcome, "refused %d %s\n", status, reason);
			r->over = true;
			return len;
		}
		r->in_body = status == 0;
	} else if (r->head.flags & WH__HTTP_LENGTH) {
		consumed = produced = len < r->body_left ? len : (size_t)r->body_left;
		r->body_left -= consumed;
		r->in_body = r->body_left > 0;
	}
	for (size_t i = 0; i < produced; i++) {
		if (!strstr(r->outcome.text, "body:"))
			say(&r->outcome, "body:");
		say(&r->outcome, "%c", data[i]);
	}
	if (!r->in_body)
		say(&r->outcome, "\n");
	return consumed;
}

static void feed(struct reader *r, const char *bytes, size_t len)
{
	char copy[8192];
	size_t at = 0;

	assert_true(len < sizeof(copy));
	memcpy(copy, bytes, len);
	while (at < len && !r->over) {
		size_t consumed, skipped;
		const char *reason = NULL;
		bool end;
		int status;

		if (r->in_body) {
			at += read_body(r, copy + at, len - at);
			continue;
		}
		status = wh__http_scan(&r->scan, &limits, copy + at, len - at, &consumed, &skipped, &end,
		                       &reason);
		if (status) {
			say(&r->outcome, "refused %d %s\n", status, reason);
			r->over = true;
			return;
		}
		if (skipped)
			r->held_len = 0;
		memcpy(r->held + r->held_len, copy + at + skipped, consumed - skipped);
		r->held_len += consumed - skipped;
		at += consumed;
		if (end)
			head_over(r);
	}
}

static struct reader *reader_new(bool response, bool head_request)
{
	struct reader *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->response = r->scan.response = response;
	r->head_request = head_request;
	return r;
}

static char *run(const char *bytes, size_t len, size_t split, bool response, bool head_request)
{
	struct reader *r = reader_new(response, head_request);
	char *text;

	if (split == SIZE_MAX) {
		for (size_t i = 0; i < len; i++)
			feed(r, bytes + i, 1);
	} else {
		feed(r, bytes, split);
		feed(r, bytes + split, len - split);
	}
	if (!r->over && (r->in_body || r->held_len > 0))
		say(&r->outcome, "%s", "unfinished\n");
	text = strdup(r->outcome.text);
	free(r);
	assert_non_null(text);
	return text;
}

/* The outcome, the same however the input is split; free() it. */
static char *outcome_of(const char *bytes, size_t len, bool response, bool head_request)
{
	char *whole = run(bytes, len, len, response, head_request);

	for (size_t i = 1; i <= len; i++) {
		char *other = run(bytes, len, i == len ? SIZE_MAX : i, response, head_request);

		if (strcmp(whole, other) != 0)
			fail_msg("split at %zu of %zu:\n%s\nwhole: %s\nsplit: %s", i, len, bytes, whole,
			         other);
		free(other);
	}
	return whole;
}

static void expect(const char *bytes, size_t len, bool response, const char *wanted)
{
	char *text = outcome_of(bytes, len, response, false);

	if (strncmp(text, wanted, strlen(wanted)) != 0)
		fail_msg("input:\n%s\nwanted: %s\ngot: %s", bytes, wanted, text);
	free(text);
}

#define REQUEST(bytes, wanted)  expect(bytes, sizeof(bytes) - 1, false, wanted)
#define RESPONSE(bytes, wanted) expect(bytes, sizeof(bytes) - 1, true, wanted)
#define H                       "Host: a\r\n"
#define GET(fields)             "GET / HTTP/1.1\r\n" H fields "\r\n"
#define POST(fields, body)      "POST / HTTP/1.1\r\n" H fields "\r\n" body
#define CHUNKS(body)            POST("Transfer-Encoding: chunked\r\n", body)

static void test_plain(void **state)
{
	REQUEST("GET /a/b?c=d&e HTTP/1.1\r\nHost: example.org:80\r\nX-Y:  v  w \t\r\nEmpty:\r\n\r\n",
	        "method=1 GET version=11 status=0 flags=1 "
	        "length=0\ntarget=/a/b?c=d&e\npath=/a/b\nquery=c=d&e\n"
	        "host=example.org:80\n[Host][example.org:80]\n[X-Y][v  w]\n[Empty][]\n");
	REQUEST("\r\n\r\nGET /? HTTP/1.1\r\n" H "\r\n", "method=1 GET version=11 status=0 flags=1 length=0\n"
	                                                "target=/?\npath=/\nquery=\nhost=a\n");
	REQUEST(POST("Content-Length: 3\r\n", "abc"),
	        "method=3 POST version=11 status=0 flags=5 length=3\ntarget=/\n"
	        "path=/\nhost=a\n[Host][a]\n[Content-Length][3]\nbody:abc\n");
	REQUEST(GET("") "PUT /2 HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n",
	        "method=1 GET version=11 status=0 flags=1 length=0\ntarget=/\npath=/\nhost=a\n[Host][a]\n"
	        "method=4 PUT version=11 status=0 flags=5 length=0\ntarget=/2\npath=/2\n");
	REQUEST("PROPFIND / HTTP/1.1\r\n" H "\r\n", "method=0 PROPFIND version=11");
	REQUEST(GET("V: \x80\xff\r\n"), "method=1 GET");
}

static void test_keep_alive(void **state)
{
	REQUEST("GET / HTTP/1.0\r\n\r\n", "method=1 GET version=10 status=0 flags=0 ");
	REQUEST("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	        "method=1 GET version=10 status=0 flags=1 ");
	REQUEST(GET("Connection: x, Close\r\n"), "method=1 GET version=11 status=0 flags=0 ");
	REQUEST(GET("Connection: keep-alive\r\nConnection: close\r\n"),
	        "method=1 GET version=11 status=0 flags=0 ");
	REQUEST(GET("Connection: closed\r\n"), "method=1 GET version=11 status=0 flags=1 ");
	REQUEST(GET("Connection: Upgrade\r\nUpgrade: h2c\r\n"), "method=1 GET version=11 status=0 flags=33 ");
}

static void test_request_line(void **state)
{
	REQUEST("GET  / HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request line");
	REQUEST("GET /  HTTP/1.1\r\n" H "\r\n", "refused 400 ");
	REQUEST(" GET / HTTP/1.1\r\n" H "\r\n", "refused 400 malformed start line");
	REQUEST("GET / HTTP/1.1 \r\n" H "\r\n", "refused 400 ");
	REQUEST("GET\t/ HTTP/1.1\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET /a b HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request line");
	REQUEST("GET /\r\n\r\n", "refused 400 malformed request line");
	REQUEST("GET HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request line");
	REQUEST("get / HTTP/1.1\r\n" H "\r\n", "refused 501 unknown method");
	REQUEST("BREW / HTTP/1.1\r\n" H "\r\n", "refused 501 unknown method");
	REQUEST("GETS / HTTP/1.1\r\n" H "\r\n", "refused 501 unknown method");
	REQUEST("G(T / HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request line");
	REQUEST("CONNECT a:80 HTTP/1.1\r\n" H "\r\n", "refused 501 CONNECT is not supported");
	REQUEST("GET / HTTP/1.1\r\n", "unfinished");
	REQUEST("\x16\x03\x01\x02", "refused 400 malformed start line");
	REQUEST("\r\rGET / HTTP/1.1\r\n", "refused 400 carriage return without line feed");
	REQUEST("\nGET / HTTP/1.1\r\n", "refused 400 malformed start line");
	REQUEST("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
	        "refused 400 too many empty lines");
}

static void test_versions(void **state)
{
	REQUEST("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused 505 ");
	REQUEST("GET / HTTP/2.0\r\n" H "\r\n", "refused 505 ");
	REQUEST("GET / HTTP/1.2\r\n" H "\r\n", "refused 505 ");
	REQUEST("GET / HTTP/0.9\r\n" H "\r\n", "refused 505 ");
	REQUEST("GET / HTTP/3.0\r\n" H "\r\n", "refused 505 ");
	REQUEST("GET / HTTP/1.10\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET / HTTP/11\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET / http/1.1\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET / HTTQ/1.1\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET / RTSP/1.0\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET / ICE/1.0\r\n" H "\r\n", "refused 400 ");
}

static void test_targets(void **state)
{
	REQUEST("GET http://h.example:8080/p?q HTTP/1.1\r\n" H "\r\n",
	        "method=1 GET version=11 status=0 flags=1 "
	        "length=0\ntarget=http://h.example:8080/p?q\npath=/p\nquery=q\n"
	        "host=h.example:8080\n");
	REQUEST("GET http://h?q HTTP/1.1\r\n" H "\r\n", "method=1 GET");
	REQUEST("GET HTTPS://[::1]:1/ HTTP/1.1\r\n" H "\r\n", "method=1 GET");
	REQUEST("GET http:///p HTTP/1.1\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET http://u@h/p HTTP/1.1\r\n" H "\r\n", "refused 400 malformed authority");
	REQUEST("GET http://:80/p HTTP/1.1\r\n" H "\r\n", "refused 400 ");
	REQUEST("GET ftp://h/p HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request target");
	REQUEST("GET a HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request target");
	REQUEST("OPTIONS * HTTP/1.1\r\n" H "\r\n",
	        "method=7 OPTIONS version=11 status=0 flags=1 length=0\ntarget=*\npath=*\n");
	REQUEST("GET * HTTP/1.1\r\n" H "\r\n", "refused 400 the target * is for OPTIONS only");
	REQUEST("GET /#f HTTP/1.1\r\n" H "\r\n", "refused 400 character not allowed in a request target");
	REQUEST("GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", "refused 400 malformed request target");
	REQUEST("GET /a\x01 HTTP/1.1\r\n" H "\r\n", "refused 400 control character");
	REQUEST("GET /a\x7f HTTP/1.1\r\n" H "\r\n", "refused 400 control character");
	REQUEST("GET /a\0b HTTP/1.1\r\n" H "\r\n", "refused 400 control character");
	REQUEST("GET /%7Bx|y HTTP/1.1\r\n" H "\r\n", "method=1 GET");
}

static void test_hosts(void **state)
{
	REQUEST("GET / HTTP/1.1\r\n\r\n", "refused 400 missing Host");
	REQUEST("GET http://h/ HTTP/1.1\r\n\r\n", "refused 400 missing Host");
	REQUEST(GET(H), "refused 400 repeated Host");
	REQUEST("GET / HTTP/1.1\r\nHost:\r\n\r\n", "method=1 GET");
	REQUEST("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "method=1 GET");
	REQUEST("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: []\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "method=1 GET");
	REQUEST("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: a:1x\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", "refused 400 malformed Host");
	REQUEST("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "refused 400 repeated Host");
}

static void test_fields(void **state)
{
	REQUEST(GET("A : b\r\n"), "refused 400 ");
	REQUEST(GET("A\t: b\r\n"), "refused 400 ");
	REQUEST(GET(": b\r\n"), "refused 400 malformed field name");
	REQUEST(GET("A\r\n"), "refused 400 ");
	REQUEST(GET("A b: c\r\n"), "refused 400 ");
	REQUEST(GET("A(: c\r\n"), "refused 400 ");
	REQUEST(GET("A\xe4: c\r\n"), "refused 400 ");
	REQUEST(GET("A: b\r\n c\r\n"), "refused 400 obsolete line folding");
	REQUEST(GET("A: b\r\n\tc\r\n"), "refused 400 obsolete line folding");
	REQUEST("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "refused 400 obsolete line folding");
	REQUEST(GET("A: b\n"), "refused 400 line feed without carriage return");
	REQUEST(GET("A: b\rC: d\r\n"), "refused 400 carriage return without line feed");
	REQUEST("GET / HTTP/1.1\nHost: a\n\n", "refused 400 line feed without carriage return");
	REQUEST("GET / HTTP/1.1\rHost: a\r\n\r\n", "refused 400 carriage return without line feed");
	REQUEST("GET / HTTP/1.1\r\nHost: a\r\n\rX", "refused 400 carriage return without line feed");
	REQUEST(GET("A: b\0c\r\n"), "refused 400 control character");
	REQUEST(GET("A: b\x0b\r\n"), "refused 400 control character");
	REQUEST(GET("A: b\x7f\r\n"), "refused 400 control character");
	REQUEST(GET("A:\tb\tc\t\r\n"),
	        "method=1 GET version=11 status=0 flags=1 length=0\ntarget=/\npath=/\nhost=a\n"
	        "[Host][a]\n[A][b\tc]\n");
	REQUEST(GET("A: b: c\r\n"), "method=1 GET");
}

static void test_framing(void **state)
{
	REQUEST(POST("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), "refused 400 ");
	REQUEST(POST("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), "refused 400 ");
	REQUEST(POST("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), "refused 400 ");
	REQUEST(POST("Content-Length: 3, 3\r\n", "abc"), "refused 400 ");
	REQUEST(POST("Content-Length: -1\r\n", ""), "refused 400 ");
	REQUEST(POST("Content-Length: +1\r\n", "a"), "refused 400 ");
	REQUEST(POST("Content-Length: 0x1\r\n", "a"), "refused 400 ");
	REQUEST(POST("Content-Length: 1 1\r\n", "a"), "refused 400 ");
	REQUEST(POST("Content-Length:\r\n", ""), "refused 400 ");
	REQUEST(POST("Content-Length: 99999999999999999999\r\n", ""), "refused 400 ");
	REQUEST(POST("Content-Length: 18446744073709551615\r\n", ""), "refused 413 Content-Length too large");
	REQUEST(POST("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
	        "refused 501 transfer coding other than chunked");
	REQUEST(POST("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
	        "refused 501 ");
	REQUEST(POST("Transfer-Encoding: chunked, gzip\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: gzip\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: identity\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: xchunked\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: chunked;x\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: \"chunked\"\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding:\r\n", ""), "refused 400 ");
	REQUEST(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
	        "refused ");
	REQUEST("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
	        "refused 400 Transfer-Encoding in HTTP/1.0");
	REQUEST(POST("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), "method=3 POST");
	REQUEST(POST("Expect: 100-Continue\r\nContent-Length: 1\r\n", "a"),
	        "method=3 POST version=11 status=0 flags=13 ");
	REQUEST(POST("Expect: 200-ok\r\n", ""), "refused 417 unknown expectation");
	REQUEST("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
	        "method=3 POST version=10 status=0 flags=4 ");
}

static void test_chunks(void **state)
{
	const char *head =
		"method=3 POST version=11 status=0 flags=3 length=0\ntarget=/\npath=/\nhost=a\n[Host][a]\n"
		"[Transfer-Encoding][chunked]\n";
	char wanted[512];

	snprintf(wanted, sizeof(wanted), "%sbody:hello world\n", head);
	REQUEST(CHUNKS("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), wanted);
	REQUEST(CHUNKS("5;a=b\r\nhello\r\n006 ; c=\"d\"\r\n world\r\n0;x\r\nT: v\r\nU:\r\n\r\n"), wanted);
	snprintf(wanted, sizeof(wanted), "%s\n", head);
	REQUEST(CHUNKS("0\r\n\r\n"), wanted);
	snprintf(wanted, sizeof(wanted), "%sbody:0123456789\n", head);
	REQUEST(CHUNKS("A\r\n0123456789\r\n0\r\n\r\n"), wanted);
	REQUEST(CHUNKS("a\r\n0123456789\r\n0\r\n\r\n"), wanted);
#define REFUSED(body, reason)                                                   \
	do {                                                                    \
		snprintf(wanted, sizeof(wanted), "%srefused %s", head, reason); \
		REQUEST(CHUNKS(body), wanted);                                  \
	} while (0)
	REFUSED("\r\n", "400 malformed chunk size");
	REFUSED(";a\r\n", "400 malformed chunk size");
	REFUSED("-1\r\n", "400 malformed chunk size");
	REFUSED("+1\r\na", "400 malformed chunk size");
	REFUSED(" 1\r\na", "400 malformed chunk size");
	REFUSED("0x1\r\na", "400 malformed chunk size");
	REFUSED("1\na\n", "400 malformed chunk size");
	REFUSED("1 \r\na", "400 malformed chunk extension");
	REFUSED("1;a\nb\r\n", "400 malformed chunk extension");
	REFUSED("1;a\x01\r\n", "400 malformed chunk extension");
	REFUSED("1\rXa", "400 carriage return without line feed");
	REFUSED("1\r\nab\r\n", "400 chunk longer than its size");
	REFUSED("1\r\na\n0\r\n\r\n", "400 chunk longer than its size");
	REFUSED("1\r\na\rX", "400 carriage return without line feed");
	REFUSED("FFFFFFFFFFFFFFFFF\r\n", "400 chunk size too large");
	REFUSED("10000000000000000\r\n", "400 chunk size too large");
	REFUSED("00000000000000001\r\n", "400 chunk size too large");
	REFUSED("0\r\n T: v\r\n\r\n", "400 malformed trailer");
	REFUSED("0\r\nT\r\n\r\n", "400 malformed trailer");
	REFUSED("0\r\nT : v\r\n\r\n", "400 malformed trailer");
	REFUSED("0\r\nT: v\nU: w\r\n\r\n", "400 malformed trailer");
	REFUSED("0\r\nT: v\r\n\rX", "400 carriage return without line feed");
#undef REFUSED
}

/* Limits hold to the byte: one less is taken, one more is refused. */
static void test_limits(void **state)
{
	char bytes[2048];
	int n;

	n = snprintf(bytes, sizeof(bytes), "GET /%.63d HTTP/1.1\r\n" H "\r\n", 0);
	expect(bytes, (size_t)n, false, "method=1 GET");
	n = snprintf(bytes, sizeof(bytes), "GET /%.64d HTTP/1.1\r\n" H "\r\n", 0);
	expect(bytes, (size_t)n, false, "refused 414 request target too long");
	n = snprintf(bytes, sizeof(bytes), "GET /%.300d", 0);
	expect(bytes, (size_t)n, false, "refused 414 request target too long");
	n = snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\n" H "B: %.496d\r\n\r\n", 0);
	expect(bytes, (size_t)n, false, "method=1 GET");
	n = snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\n" H "B: %.497d\r\n\r\n", 0);
	expect(bytes, (size_t)n, false, "refused 431 header section too long");
	n = snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\n" H "B: %.498d\r\n", 0);
	expect(bytes, (size_t)n, false, "unfinished");
	REQUEST(GET("1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n"), "method=1 GET");
	REQUEST(GET("1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n"),
	        "refused 431 too many header fields");
}

/* One byte of content in a chunk with a long extension, again and again. */
static void test_chunk_excess(void **state)
{
	struct wh__http_chunked chunked = {0};
	char line[256];
	const char *reason = NULL;
	size_t consumed, produced, total = 0;
	int status = 0, n;

	for (int i = 0; i < 1000 && status == 0; i++) {
		n = snprintf(line, sizeof(line), "1;%.100d\r\nx\r\n", 0);
		status = wh__http_chunked(&chunked, line, (size_t)n, &consumed, &produced, &reason);
		total += 1;
	}
	assert_int_equal(status, 400);
	assert_string_equal(reason, "too much chunked framing for its content");
	assert_true(total > 10);
	/* plain one-byte chunks are poor, but allowed */
	memset(&chunked, 0, sizeof(chunked));
	for (int i = 0; i < 100000; i++) {
		memcpy(line, "1\r\nx\r\n", 6);
		assert_int_equal(wh__http_chunked(&chunked, line, 6, &consumed, &produced, &reason), 0);
		assert_int_equal(consumed, 6);
		assert_int_equal(produced, 1);
	}
	memset(&chunked, 0, sizeof(chunked));
	status = 0;
	memcpy(line, "0\r\n", 3);
	assert_int_equal(wh__http_chunked(&chunked, line, 3, &consumed, &produced, &reason), 0);
	for (int i = 0; i < 10000 && status == 0; i++) {
		memcpy(line, "T: v\r\n", 6);
		status = wh__http_chunked(&chunked, line, 6, &consumed, &produced, &reason);
	}
	assert_int_equal(status, 431);
}

static void test_responses(void **state)
{
	char *text;

	RESPONSE("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
	         "method=0  version=11 status=200 flags=5 "
	         "length=2\nreason=OK\n[Content-Length][2]\nbody:ab\n");
	RESPONSE("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	         "method=0  version=11 status=200 flags=5 length=0\n[");
	RESPONSE("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
	         "method=0  version=11 status=200 flags=5 length=0\n[");
	RESPONSE("HTTP/1.1 404 Not \xe4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
	         "method=0  version=11 status=404 flags=3 length=0\nreason=Not "
	         "\xe4\n[Transfer-Encoding][chunked]\nbody:a\n");
	RESPONSE("HTTP/1.0 200 OK\r\n\r\nabc",
	         "method=0  version=10 status=200 flags=16 length=0\nreason=OK\nbody:abc");
	RESPONSE("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
	         "method=0  version=11 status=200 flags=4 ");
	RESPONSE("HTTP/1.1 204 No Content\r\n\r\n", "method=0  version=11 status=204 flags=1 ");
	RESPONSE("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
	         "method=0  version=11 status=100 flags=1 length=0\nreason=Continue\n"
	         "method=0  version=11 status=304 flags=5 length=7\n");
	RESPONSE("HTTP/1.1 200 OK\r\nExpect: x\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
	         "method=0  version=11 status=200");
	RESPONSE("HTTP/2.0 200 OK\r\n\r\n", "refused 502 ");
	RESPONSE("HTTP/1.1 20 OK\r\n\r\n", "refused 502 ");
	RESPONSE("HTTP/1.1 2000 OK\r\n\r\n", "refused 502 ");
	RESPONSE("HTTP/1.1 099 OK\r\n\r\n", "refused 502 ");
	RESPONSE("HTTP/1.1  200 OK\r\n\r\n", "refused 502 ");
	RESPONSE("HTTP/1.1 200 OK\nA: b\n\n", "refused 400 ");
	RESPONSE("ICY 200 OK\r\n\r\n", "refused 400 malformed start line");
	RESPONSE("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "refused 400 obsolete line folding");
	RESPONSE("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	         "refused 502 ");
	RESPONSE("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "refused 502 ");
	RESPONSE("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "refused 502 ");
	text = outcome_of("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
	                  "chunked\r\n\r\n",
	                  85, true, true);
	free(text);
}

/* What a known head means is what the parser says of it. */
static void must_be_known(struct wh__http_known *known, const char *text, size_t more)
{
	static const struct wh__http_limits wide = {
		.head_bytes_max = 4096, .target_bytes_max = 64, .fields_max = 100};
	struct wh__http_head parsed, *head;
	const char *reason = NULL;
	size_t len = strlen(text), got = 0;
	char data[2048];

	memset(data, 'x', sizeof(data));
	memcpy(data, text, len);
	assert_int_equal(wh__http_parse_request(data, len, &wide, &parsed, &reason), 0);
	head = wh__http_known_find(known, data, len + more, &got);
	assert_non_null(head);
	assert_int_equal(got, len);
	assert_memory_equal(head, &parsed,
	                    offsetof(struct wh__http_head, fields) +
	                            parsed.field_count * sizeof(parsed.fields[0]));
	assert_null(wh__http_known_find(known, data, len - 1, &got));
}

static void meet(struct wh__http_known *known, const char *text)
{
	static const struct wh__http_limits wide = {
		.head_bytes_max = 4096, .target_bytes_max = 64, .fields_max = 100};
	struct wh__http_head parsed;
	const char *reason = NULL;

	assert_int_equal(wh__http_parse_request(text, strlen(text), &wide, &parsed, &reason), 0);
	wh__http_known_learn(known, text, strlen(text), &parsed);
}

#define KNOWN(path, length)                                                                               \
	"POST " path " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-" \
	"Length: " length "\r\n\r\n"

static void test_known(void **state)
{
	static const char submit[] = KNOWN("/v1/queues/q/jobs", "128");
	static const char longer[] = KNOWN("/v1/queues/q/jobs", "129");
	struct wh__http_known known = {0};
	char text[2048];
	size_t len;

	/* known when it has come twice, and then whatever else comes once */
	meet(&known, submit);
	assert_null(wh__http_known_find(&known, submit, sizeof(submit) - 1, &len));
	meet(&known, submit);
	must_be_known(&known, submit, 0);
	must_be_known(&known, submit, 128);
	assert_null(wh__http_known_find(&known, longer, sizeof(longer) - 1, &len));
	meet(&known, longer);
	must_be_known(&known, submit, 1);
	/* what comes more often takes its place */
	meet(&known, longer);
	must_be_known(&known, longer, 1);
	assert_null(wh__http_known_find(&known, submit, sizeof(submit) - 1, &len));
	/* no byte of it may differ */
	for (size_t i = 0; i < sizeof(longer) - 1; i++) {
		memcpy(text, longer, sizeof(longer));
		text[i] ^= 1;
		assert_null(wh__http_known_find(&known, text, sizeof(longer) - 1, &len));
	}
	/* a great many, and more of each than there is room for */
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text),
		         "GET /v1/jobs/%d HTTP/1.1\r\nHost: localhost\r\nX-Number: %064d\r\n\r\n", i, i);
		meet(&known, text);
		assert_null(wh__http_known_find(&known, text, strlen(text), &len));
		meet(&known, text);
		must_be_known(&known, text, (size_t)i);
	}
	/* too short, too long, too many fields: always parsed */
	for (int i = 0; i < 3; i++) {
		meet(&known, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nX: %01024d\r\n\r\n", 0);
		meet(&known, text);
		assert_null(wh__http_known_find(&known, text, strlen(text), &len));
	}
	len = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < WH__HTTP_KNOWN_FIELDS_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "A%d: b\r\n", i);
	(void)snprintf(text + len, sizeof(text) - len, "\r\n");
	meet(&known, text);
	meet(&known, text);
	assert_null(wh__http_known_find(&known, text, strlen(text), &len));
	wh__http_known_done(&known);
	assert_null(known.heads[0]);
}

static void test_words(void **state)
{
	char date[WH__HTTP_DATE_LEN + 1] = "", number[20];
	static const char tokens[] =
		"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char hosts[] =
		"-._~!$&'()*+,;=%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	for (int c = 0; c < 256; c++) {
		uint8_t class = wh__http_characters[c];

		assert_int_equal((class & WH__HTTP_TOKEN) != 0, c != 0 && strchr(tokens, c) != NULL);
		assert_int_equal((class & WH__HTTP_HOST) != 0, c != 0 && strchr(hosts, c) != NULL);
		assert_int_equal((class & WH__HTTP_VALUE) != 0, c == '\t' || (c >= ' ' && c != 0x7f));
		assert_int_equal((class & WH__HTTP_TARGET) != 0, c > ' ' && c < 0x7f && c != '#');
		assert_int_equal((class & WH__HTTP_DIGIT) != 0, c >= '0' && c <= '9');
		assert_int_equal((class & WH__HTTP_HEX) != 0,
		                 c != 0 && strchr("0123456789abcdefABCDEF", c) != NULL);
	}
	wh__http_date(784111777, date);
	assert_string_equal(date, "Sun, 06 Nov 1994 08:49:37 GMT");
	wh__http_date(951827696, date);
	assert_string_equal(date, "Tue, 29 Feb 2000 12:34:56 GMT");
	wh__http_date(0, date);
	assert_string_equal(date, "Thu, 01 Jan 1970 00:00:00 GMT");
	wh__http_date(4102444799, date);
	assert_string_equal(date, "Thu, 31 Dec 2099 23:59:59 GMT");
	assert_int_equal(wh__http_decimal(0, number), 1);
	assert_int_equal(wh__http_decimal(UINT64_MAX, number), 20);
	assert_memory_equal(number, "18446744073709551615", 20);
	assert_true(wh_slice_equal_caseless((struct wh_slice){"AbC-1", 5}, "aBc-1"));
	assert_false(wh_slice_equal_caseless((struct wh_slice){"AbC", 3}, "abcd"));
	assert_false(wh_slice_equal((struct wh_slice){"AbC", 3}, "abc"));
	assert_string_equal(wh_http_reason(503), "Service Unavailable");
	assert_string_equal(wh_http_reason(299), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),        cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_request_line), cmocka_unit_test(test_versions),
		cmocka_unit_test(test_targets),      cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_fields),       cmocka_unit_test(test_framing),
		cmocka_unit_test(test_chunks),       cmocka_unit_test(test_limits),
		cmocka_unit_test(test_chunk_excess), cmocka_unit_test(test_responses),
		cmocka_unit_test(test_known),        cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests_name("http parse", tests, NULL, NULL);
}
