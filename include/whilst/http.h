/* whilst/http.h -- HTTP/1.1 server and client on the loops of whilst.h.
 *
 * Source: RFC 9110 (semantics), RFC 9112 (messages on the wire). The words borrows, takes and gives are those of
 * whilst.h, and so are errors; besides those: -WH_EHTTP_SYNTAX (the peer sent a malformed message),
 * -WH_EHTTP_TOO_LARGE (a limit was passed), -WH_EHTTP_CLOSED (the peer closed within a message), -ETIMEDOUT.
 * Thread: everything here belongs to the loop's thread; callbacks come from the loop, never inline.
 *
 * Server: for each request two functions of yours are called. on_head() when the header section is there: it may
 * choose how the body comes, or answer at once. on_request() when the body is whole, or at once if it is streamed. The answer
 * may be given then, or from any later callback. An exchange must be answered exactly once, also
 * when the client has gone or the server is closed meanwhile (the answer is then discarded): until that answer the
 * exchange stays valid, and with that answer it ends.
 */
#ifndef WHILST_HTTP_H
#define WHILST_HTTP_H

#include "tls.h"
#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wh_http_server wh_http_server;     /* accepts connections and takes requests */
typedef struct wh_http_exchange wh_http_exchange; /* one request and its answer, at the server */
typedef struct wh_http_client wh_http_client;     /* keeps connections to any number of servers */
typedef struct wh_http_call wh_http_call;         /* one request and its answer, at the client, in pieces */

struct wh_http_field {
	struct wh_slice name;  /* as sent; compare without case */
	struct wh_slice value; /* without surrounding blanks */
};

enum wh_http_method {
	WH_HTTP_OTHER = 0, /* see wh_http_method_token() */
	WH_HTTP_GET,
	WH_HTTP_HEAD,
	WH_HTTP_POST,
	WH_HTTP_PUT,
	WH_HTTP_DELETE,
	WH_HTTP_PATCH,
	WH_HTTP_OPTIONS,
	WH_HTTP_TRACE,
};

#define WH_HTTP_CHUNKED (-1) /* a length that is not known beforehand */

/* wh_slice_equal() - the same bytes as the string. wh_slice_equal_caseless(): but for the case of ASCII letters. */
WH_API bool wh_slice_equal(struct wh_slice slice, const char *string);
WH_API bool wh_slice_equal_caseless(struct wh_slice slice, const char *string);
/* wh_http_reason() - "OK" for 200; "" when unknown. Static text. */
WH_API const char *wh_http_reason(int status);

/* ---- server ------------------------------------------------------------------------------ */

typedef void wh_http_handler(wh_http_exchange *x, void *arg); /* a request is there; arg: of the options */
/* Writes the body of a refusal that the server itself gives (malformed, a limit, a time-out) and returns its length, at most
 * max. status: of the answer; detail: one sentence; limit: the limit that was passed, 0: none. */
typedef size_t wh_http_problem_function(int status, const char *detail, uint64_t limit, char *to, size_t max,
                                        void *arg);

/* All-zero means defaults. Fields may be added at the end. */
struct wh_http_server_options {
	wh_http_handler *on_head; /* NULL: every body is collected (wh_http_collect() with body_bytes_max) */
	wh_http_handler *on_request; /* required */
	void *arg;                   /* of both */
	const char
		*server_name; /* value of Server:, NULL: no such field; borrowed until the server is closed */
	/* limits: the client's doing is answered with the status named, and the connection closed */
	uint32_t head_bytes_max;   /* header section, default 32 KiB: 431 */
	uint32_t target_bytes_max; /* request target, default 8 KiB: 414 */
	uint32_t fields_max;       /* header fields, default and maximum 100: 431 */
	uint64_t
		body_bytes_max; /* default 64 MiB: 413; wh_http_collect() and wh_http_stream() may say otherwise */
	uint32_t connections_max; /* default 65,536; beyond it connections wait in the listen queue */
	uint32_t pipeline_max; /* requests of a connection in hand, default 64; beyond it nothing is read */
	uint32_t output_bytes_max; /* unsent bytes of a connection, default 256 KiB; beyond it wh_http_write()
					  waits and no further request is begun */
	/* time-outs, ns; negative: none */
	int64_t head_timeout_ns; /* from its first byte to the end of a header section, default 10 s: 408; for
					  a new connection that sends nothing: closed without a word */
	int64_t body_timeout_ns; /* between pieces of a body that is wanted, default 30 s: 408 */
	int64_t idle_timeout_ns; /* between requests, default 75 s: closed */
	int64_t write_timeout_ns; /* the client takes nothing of an answer, default 30 s: closed */
	wh_http_problem_function
		*problem; /* bodies (application/problem+json) of the server's own refusals; NULL:
					      as wh_http_problem() */
	bool connect; /* requests with CONNECT come to the handlers; else 501. wh_http_target() is "host:port" */
	/* TLS handshakes under way at once, some 40 KiB each, default 1,024; beyond it connections wait in the listen queue */
	uint32_t handshakes_max;
	/* threads that receive, parse, encrypt and send, each with connections and a loop of its own, while all handlers stay on the loop of
	 * the server: 2 to 64; 0 and 1: none, the loop does it all. For a loop that is busy with what its handlers do. Limits of connections and
	 * handshakes are shared out. Differences: wh_http_tls() says only whether there is TLS, there is no
	 * wh_http_upgrade() (-ENOSYS), and a writer is told of room a little later: up to half as much again may be unsent. */
	uint32_t threads;
};

/* wh_http_server_open() - a server without listeners yet. options are copied. Result 0 or -errno; of threads those of wh_loop_start(),
 * and -ENOSYS with .connect or on WH_SIM. */
WH_API int wh_http_server_open(wh_loop *loop, const struct wh_http_server_options *options,
                               wh_http_server **ret) WH_MUST_USE;

/* wh_http_server_listen() - accept connections on fd, which is listening (wh_listen()); may be called for several
 * descriptors, TCP and UNIX. Takes fd: the server closes it. Result 0 or -errno. */
WH_API int wh_http_server_listen(wh_http_server *server, int fd) WH_MUST_USE;

/* wh_http_server_listen_tls() - the same over TLS. context is the server's own (options.server), with alpn "http/1.1" or none; borrowed until
 * the server is closed; NULL: in the clear. A failed handshake closes the connection; it is counted. */
WH_API int wh_http_server_listen_tls(wh_http_server *server, int fd, wh_tls_context *context) WH_MUST_USE;

/* wh_http_server_drain() - stop accepting, close idle connections, answer what is under way with Connection: close.
 * n = 0 once no connection is left. Dropping the future does not undo it; a second drain gives -EALREADY. */
WH_API wh_future wh_http_server_drain(wh_http_server *server);

/* wh_http_server_close() - close listeners and connections at once; wh_http_on_close() functions are called from the
 * loop. Memory goes once descriptors are closed and every exchange has been answered, so the loop must still turn
 * (wh_loop_close() does). Returns NULL; accepts NULL. */
WH_API wh_http_server *wh_http_server_close(wh_http_server *server);

struct wh_http_server_stats {
	uint64_t connections, connections_accepted; /* open now; since the server was opened */
	uint64_t requests, requests_refused; /* refused by the server itself: malformed, limits, time-outs */
	uint64_t exchanges;                  /* not answered yet */
	uint64_t bytes_received, bytes_sent;
	uint64_t handshakes_failed; /* TLS */
	uint64_t accept_failures;   /* out of descriptors or memory; tried again after 100 ms */
	uint64_t handshakes;        /* TLS, under way now */
};
/* Counters, at once; of threads as of the end of their last turn. */
WH_API void wh_http_server_stats(const wh_http_server *server, struct wh_http_server_stats *ret);

/* wh_http_server_threads() - the loops of its threads, for wh_ask() of wh_stats(); at most max of them go to ret. How many there are; they
 * are the server's, and end with it. */
WH_API size_t wh_http_server_threads(const wh_http_server *server, wh_loop **ret, size_t max);

/* -- the request. Slices and fields stay valid until on_request() returns, unless wh_http_retain() was called. Afterwards
 * an exchange that is still unanswered keeps only its method, version and times; the rest reads as absent. */

WH_API enum wh_http_method wh_http_method(const wh_http_exchange *x);   /* WH_HTTP_OTHER: see the token */
WH_API struct wh_slice wh_http_method_token(const wh_http_exchange *x); /* "GET"; static text */
WH_API int wh_http_version(const wh_http_exchange *x);                  /* 10 or 11 */
WH_API struct wh_slice wh_http_target(const wh_http_exchange *x);       /* as sent */
WH_API struct wh_slice wh_http_path(const wh_http_exchange *x); /* "/a/b", not decoded; "*" for OPTIONS * */
WH_API struct wh_slice
wh_http_query(const wh_http_exchange *x); /* after '?', not decoded; absent without '?' */
WH_API struct wh_slice
wh_http_host(const wh_http_exchange *x); /* of an absolute target, else the Host field */
WH_API struct wh_slice wh_http_header(const wh_http_exchange *x,
                                      const char *name);                         /* the first of that name */
WH_API size_t wh_http_header_count(const wh_http_exchange *x, const char *name); /* how many of that name */
WH_API size_t wh_http_field_count(const wh_http_exchange *x);                    /* all fields */
WH_API struct wh_http_field wh_http_field(const wh_http_exchange *x, size_t index); /* in the order sent */
WH_API int64_t wh_http_body_length(const wh_http_exchange *x); /* announced; 0: none; WH_HTTP_CHUNKED */
WH_API struct wh_slice
wh_http_body(const wh_http_exchange *x); /* collected; in on_request() and after a retain */
WH_API int64_t
wh_http_received_at(const wh_http_exchange *x); /* wh_now() when the header section was whole */
WH_API int wh_http_peer(const wh_http_exchange *x, struct sockaddr_storage *ret,
                        socklen_t *ret_len);                 /* getpeername(2) */
WH_API const wh_tls *wh_http_tls(const wh_http_exchange *x); /* NULL: in the clear, or the client has gone */
WH_API wh_loop *wh_http_loop(const wh_http_exchange *x);     /* the loop that it belongs to */
WH_API wh_http_server *wh_http_exchange_server(const wh_http_exchange *x); /* the server that took it */
WH_API void wh_http_set_arg(wh_http_exchange *x, void *arg); /* a pointer of yours, NULL at first */
WH_API void *wh_http_arg(const wh_http_exchange *x);         /* that pointer */

/* wh_http_retain() - keep the request (fields and collected body) until the answer, in memory of its own: slices
 * taken before stay valid only until the present handler returns, so take them anew afterwards. In on_head()
 * or on_request(). Costs one malloc of the request's size. Result 0 or -ENOMEM. */
WH_API int wh_http_retain(wh_http_exchange *x) WH_MUST_USE;

/* wh_http_parallel() - the answers of requests that a client pipelines behind this one may be worked out while this
 * one is unanswered. That is so for safe methods anyway (RFC 9112 9.3.2); for others say it when what the
 * request does is in order once on_request() has returned. In on_head(). */
WH_API void wh_http_parallel(wh_http_exchange *x);

/* wh_http_in_turn() - the opposite, for an answer that is large and made later: this request waits until those before it
 * are answered, and what a client pipelines behind it is not begun before this one is answered, and the answer has been
 * sent but for output_bytes_max. Else a client that asks for 64 such answers and reads none of them has all 64 in memory.
 * In on_head(). */
WH_API void wh_http_in_turn(wh_http_exchange *x);

/* wh_http_pipelined() - how many requests before this one, of its connection, are not answered, or have answers that wait for such a one: at
 * most 63. For who lets a few large answers be made side by side. Cost: a walk over them. In on_head(). */
WH_API unsigned wh_http_pipelined(const wh_http_exchange *x);

/* -- the body: chosen in on_head(). "Expect: 100-continue" is answered when the body is first wanted: when on_head() returns after
 * wh_http_collect() (or no choice), or at the first wh_http_read(). */

/* wh_http_collect() - on_request() is called once the body is whole; over max bytes: 413 (0: body_bytes_max). */
WH_API void wh_http_collect(wh_http_exchange *x, uint64_t max);
/* wh_http_stream() - on_request() is called at once, and the body read by wh_http_read(). max as above (UINT64_MAX: none). */
WH_API void wh_http_stream(wh_http_exchange *x, uint64_t max);

/* wh_http_read() - the next piece of a streamed body: ptr = a pooled buffer with n bytes, given: wh_buf_put(); at the end
 * n = 0 and ptr = NULL. One at a time (else -EBUSY). What is not read is not received: back-pressure. Errors
 * -WH_EHTTP_CLOSED, -WH_EHTTP_SYNTAX, -WH_EHTTP_TOO_LARGE, -ETIMEDOUT, -ECONNRESET...; the exchange is still to be
 * answered then (with 400, 413 or 408 as it may be). Completes after the handler returned. */
WH_API wh_future wh_http_read(wh_http_exchange *x);

/* -- the answer */

/* wh_http_set() - a field of the answer, in place of earlier ones of that name. wh_http_add(): beside them. Copied. Result
 * 0; -EINVAL for characters that a field may not have (CR, LF, NUL ...) and for Content-Length, Transfer-Encoding
 * and Connection, which are the server's; -E2BIG over 32 KiB of fields; -ENOMEM: then the connection is closed instead of an answer that
 * lacks the field. Date is added unless set. */
WH_API int wh_http_set(wh_http_exchange *x, const char *name, const char *value);
WH_API int wh_http_setf(wh_http_exchange *x, const char *name, const char *format, ...)
#if defined(__GNUC__)
	__attribute__((format(printf, 3, 4)))
#endif
	;
WH_API int wh_http_set_slice(wh_http_exchange *x, struct wh_slice name, struct wh_slice value);
WH_API int wh_http_add(wh_http_exchange *x, const char *name, const char *value);
WH_API int wh_http_add_slice(wh_http_exchange *x, struct wh_slice name, struct wh_slice value);
WH_API void wh_http_close_after(wh_http_exchange *x); /* the connection ends with this answer */

/* wh_http_respond() - the whole answer, and the end of x. body is copied; len is the Content-Length. For HEAD,
 * and for 204 and 304, no body is sent whatever is given. status 200..599. Never fails visibly: without memory the
 * connection is closed. If the request's body has not been read: what is left is discarded if short, else the connection
 * is closed once the client had time to read the answer. */
WH_API void wh_http_respond(wh_http_exchange *x, int status, const void *body, size_t len);
/* wh_http_respond_own() - the same without a copy: body is borrowed until release(arg) is called, which happens exactly
 * once, possibly before this returns. release may be NULL (static bytes). */
WH_API void wh_http_respond_own(wh_http_exchange *x, int status, const void *body, size_t len,
                                wh_function *release, void *arg);
/* wh_http_problem() - the same with an application/problem+json body (RFC 9457) of about:blank, the
 * status's title, and detail (UTF-8, escaped here; may be NULL). */
WH_API void wh_http_problem(wh_http_exchange *x, int status, const char *detail);

/* wh_http_start() - begin an answer whose body comes in pieces; length in bytes, or WH_HTTP_CHUNKED. Fields are fixed
 * from now on. The head goes out at once. Result 0; -EALREADY. */
WH_API int wh_http_start(wh_http_exchange *x, int status, int64_t length);
/* wh_http_write() - a piece of the body, copied; any time between start and end, also before earlier writes have completed.
 * n = 0 when more may be written: at once while less than output_bytes_max is unsent. Whoever does not wait for
 * that fills memory; may be dropped. Errors -EPIPE or -ECONNRESET (the client has gone), -ENOMEM, -EMSGSIZE (more than length).
 * wh_http_write_buf(): takes a pooled buffer instead of a copy, also on failure. */
WH_API wh_future wh_http_write(wh_http_exchange *x, const void *bytes, size_t len);
WH_API wh_future wh_http_write_buf(wh_http_exchange *x, struct wh_buf *buf);
/* wh_http_set_unsent_max() - this exchange's writes wait beyond so many unsent bytes of the connection instead of output_bytes_max: an answer that may last
 * for hours, such as a stream of events, holds less for a client that does not read. 0: output_bytes_max again. Holds for writes from now on. */
WH_API void wh_http_set_unsent_max(wh_http_exchange *x, uint32_t bytes);
/* wh_http_end() - the answer is complete; x ends. With fewer bytes than length the connection is cut off. */
WH_API void wh_http_end(wh_http_exchange *x);
/* wh_http_abort() - give up: x ends and, after what was written so far, the connection is reset, so that the client
 * cannot take what it has for the whole. */
WH_API void wh_http_abort(wh_http_exchange *x);

/* wh_http_inform() - an interim answer (1xx) before the answer itself: 103 with Link fields, 102. Nothing to clients of
 * HTTP/1.0. 100 is the server's own (it is sent when a body is wanted), 101 is wh_http_upgrade()'s. Result 0; -EALREADY (the answer has
 * begun); -EINVAL (status, or characters of a field); -EPIPE (the client has gone); -ENOMEM. */
WH_API int wh_http_inform(wh_http_exchange *x, int status, const struct wh_http_field *fields, size_t count);

/* -- another protocol: WebSocket and whatever else begins with a request of HTTP (RFC 9110 sections 7.8, 9.3.6) */

/* wh_http_asks_upgrade() - the request names that protocol in Upgrade ("websocket", without case, in whatever version), and may be
 * answered by wh_http_upgrade(). Nothing of what the client sends after such a request is taken for a request before it is
 * answered. */
WH_API bool wh_http_asks_upgrade(const wh_http_exchange *x, const char *protocol);
/* wh_http_upgrade() - in on_request(), or later: answer 101 with that protocol (fields as set so far) to a request that asks for it; or,
 * protocol NULL, 200 to CONNECT. From then on the exchange is a stream both ways: wh_http_read() gives bytes as the client sends
 * them, those that came with the request first, until its end (n = 0); wh_http_write() sends bytes as they are; wh_http_shutdown()
 * ends the sending side; wh_http_end() and wh_http_abort() end the exchange, and with it the connection, in order or with a
 * reset. wh_http_on_close() and wh_http_on_drain() tell as before. No time-out but write_timeout_ns: whoever wants one for
 * reading has wh_deadline(). Result 0; -EINVAL (not asked for, or the request's body is not read to its end);
 * -EALREADY (answered or begun); -EPIPE (the client has gone: x is still to be ended); -ENOMEM. */
WH_API int wh_http_upgrade(wh_http_exchange *x, const char *protocol) WH_MUST_USE;
/* wh_http_shutdown() - of an upgraded exchange: after what has been written, end the sending side; reading goes on. */
WH_API void wh_http_shutdown(wh_http_exchange *x);

/* wh_http_on_drain() - fn(arg) is called once when the server is drained (also if that was before): for exchanges that would otherwise
 * last: streams, parked ones. fn NULL: no call. */
WH_API void wh_http_on_drain(wh_http_exchange *x, wh_function *fn, void *arg);

/* -- files */

/* All-zero means defaults. Fields may be added at the end. Texts are borrowed for the call. */
struct wh_http_file_options {
	const char *content_type; /* NULL: by the ending of the name; "application/octet-stream" for others */
	const char *index; /* the file that stands for a folder ("index.html"); NULL: folders give 404 */
	const char *cache_control; /* value of Cache-Control, NULL: no such field */
	bool hidden; /* names that begin with a dot are served as well (".well-known" always is) */
};

/* wh_http_respond_file() - answer GET and HEAD with a file, and end x: with everything a file server owes (RFC 9110 sections 8.8, 13, 14):
 * ETag, Last-Modified, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since (304, 412), single ranges and If-Range
 * (206, 416; several ranges at once give the whole). Constant memory; the loop waits for no disk.
 *
 * folder   descriptor of the folder that nothing leads out of (openat2(2) with RESOLVE_BENEATH: symbolic links are followed within; where a
 *          sandbox refuses openat2, the same segment by segment); to stay open until x has ended.
 * path     below it, percent-encoded as wh_http_path() gives it; "..", hidden names and encoded slashes give 404.
 * options  may be NULL.
 *
 * Answers  404 nothing there, or not a regular file; 403 not readable; 405 another method; 503 out of descriptors or memory; 301 a folder
 *          without its slash. A file that becomes shorter meanwhile cuts the connection off. Fields set before are kept.
 * In on_request(), or later after wh_http_retain(). On WH_SIM files are those of the simulated machine. */
WH_API void wh_http_respond_file(wh_http_exchange *x, int folder, struct wh_slice path,
                                 const struct wh_http_file_options *options);

/* wh_http_on_close() - fn(arg) is called once if the client goes away before the answer is complete (reset, time-out, a write that
 * fails, server closed). x is still to be answered, unless its collected body failed before on_request(): then
 * the server ends it once fn has returned. Not called for a client that only ended its sending
 * side: it waits for the answer. But a client that called close(2) looks the same over TCP until something is sent:
 * wh_http_on_half_close() tells of both, and of all that wh_http_on_close() tells of where that is not set; whoever parks an exchange for long
 * and hands out something that is lost with the connection answers there at once, with nothing. fn NULL: no call. */
WH_API void wh_http_on_close(wh_http_exchange *x, wh_function *fn, void *arg);
WH_API void wh_http_on_half_close(wh_http_exchange *x, wh_function *fn, void *arg);
/* wh_http_on_end() - fn(arg) is called exactly once, when x is over: answered, by whomever, with its answer behind those of earlier
 * requests in what the connection has sent or sends next; or answered after the client has gone, or ended with the connection before
 * on_request(). For what is counted or held for each exchange under way. It may be called from within wh_http_respond(), wh_http_end() and
 * their kin, and must not use x or any other exchange. fn NULL: no call. */
WH_API void wh_http_on_end(wh_http_exchange *x, wh_function *fn, void *arg);
WH_API bool wh_http_is_closed(const wh_http_exchange *x);

/* ---- URLs -------------------------------------------------------------------------------- */

/* The parts of "http://userinfo@host:port/path?query#fragment" (RFC 3986, RFC 9110 section 4.2), as written: nothing is decoded. They
 * refer to the text that was parsed. Absent parts have data == NULL. */
struct wh_http_url {
	bool https;
	bool is_ipv6;  /* host is an IPv6 address; the brackets are not part of it */
	uint16_t port; /* 80 or 443 where the URL has none */
	struct wh_slice userinfo, host, path /* "" or from '/' on */, query, fragment;
};

/* wh_http_url_parse() - take an absolute URL apart. Result 0, or with *ret untouched: -EINVAL (malformed, over 64 KiB; bytes in path or
 * query that no request target may have), -EPROTONOSUPPORT (a scheme other than http and https), -EILSEQ (a host, path or query
 * with bytes beyond ASCII: names are to be given as DNS knows them, "xn--...", paths percent-encoded). Thread: any. */
WH_API int wh_http_url_parse(struct wh_slice text, struct wh_http_url *ret) WH_MUST_USE;

/* ---- client ------------------------------------------------------------------------------ */

/* All-zero means defaults. Fields may be added at the end. */
struct wh_http_client_options {
	const char *user_agent;   /* NULL: no such field; copied. As of a field, else -EINVAL */
	uint32_t connections_max; /* for each origin, default 256; beyond it requests wait in line */
	uint32_t waiting_max;     /* requests in line for each origin, default 16,384; beyond: -EAGAIN */
	uint32_t idle_max;        /* idle connections kept for each origin, default 64 */
	uint32_t head_bytes_max;  /* of a response, default 64 KiB: -WH_EHTTP_TOO_LARGE */
	uint32_t fields_max;      /* default and maximum 200 */
	uint64_t body_bytes_max;  /* of a collected response, default 64 MiB */
	/* time-outs of each stage, ns; negative: none. What ran out: struct wh_http_failure. They are looked at about sixteen times
	 * within the shortest of them (and at least each 625 ms), and never early. */
	int64_t connect_timeout_ns; /* name and connection, default 10 s */
	int64_t send_timeout_ns;    /* the server takes nothing, default 30 s */
	int64_t first_byte_timeout_ns; /* from the end of the request to the head of the response, default 60 s */
	int64_t read_timeout_ns;       /* between pieces of a response, default 30 s */
	int64_t idle_timeout_ns; /* an unused connection is closed after, default 4 s (below common servers') */
	int64_t waiting_timeout_ns; /* in line for a connection, default 10 s */
	int64_t tls_timeout_ns;     /* TLS handshake, default 10 s */
	int64_t proxy_timeout_ns;   /* a proxy's answer to CONNECT, default 10 s */
	int64_t continue_timeout_ns; /* expect_continue: the body is sent without being asked for after, default 1 s */
	int64_t total_timeout_ns; /* from the start of a request to the end of its response, default none */
	/* proxies; all copied, and read once, by wh_http_client_open() */
	const char *
		proxy; /* "http://[user:password@]host:port", NULL: none; for http as absolute-form, for https by CONNECT. Other
			      schemes: -EPROTONOSUPPORT. Requests to UNIX sockets never go through a proxy */
	const char *
		no_proxy; /* what does not go through it: names (and all below), addresses, networks "10.0.0.0/8", "*", each with
				 ":port" if for that only; between commas or blanks */
	const char *name_servers,
		*resolv_conf_path; /* as of wh_dial_options; borrowed until the client is closed */
	bool proxy_from_environment; /* where proxy, no_proxy are NULL: $http_proxy (never $HTTP_PROXY), $https_proxy, $HTTPS_PROXY,
					$all_proxy, $ALL_PROXY, $no_proxy, $NO_PROXY */
	/* https: certificates are verified, against what the system trusts or the authorities named here. Files are read by
	 * wh_http_client_open(), what the system trusts at the first request that needs it, by the loop's thread. */
	const char *tls_ca_file, *tls_ca_dir;
	/* shown to servers that ask for it; a key without certificate: -EINVAL */
	const char *tls_certificate_file, *tls_key_file;
	bool tls_insecure; /* not verified: whoever is in between can read and change everything */
	wh_tls_context *
		tls; /* instead of all these: a context of a client, with alpn "http/1.1" or none; borrowed until the client
				is closed */
	/* which addresses are connected to, after names have been looked up; NULL: all. Asked for UNIX sockets and proxies too. What is
	 * refused ends with -WH_EADDRESS_REFUSED. Connections that are kept were allowed when they were made. */
	wh_address_function *address_allowed;
	void *address_arg;
};

/* wh_http_client_open() - a client without connections yet; options may be NULL, and are copied. Result 0, or -EINVAL, -EILSEQ,
 * -EPROTONOSUPPORT (of a proxy), those of wh_tls_context_open(), -ENOMEM. */
WH_API int wh_http_client_open(wh_loop *loop, const struct wh_http_client_options *options,
                               wh_http_client **ret) WH_MUST_USE;
/* wh_http_client_close() - ends what is under way with -ECANCELED; open calls are still to be closed. Returns NULL. */
WH_API wh_http_client *wh_http_client_close(wh_http_client *client);

struct wh_http_client_stats {
	uint64_t connections;                                               /* now; idle ones included */
	uint64_t connections_opened, connections_reused, requests, retries; /* since it was opened */
	uint64_t redirects;                                                 /* that were followed */
};
/* Counters, at once. */
WH_API void wh_http_client_stats(const wh_http_client *client, struct wh_http_client_stats *ret);

/* Where a request was when it failed. */
enum wh_http_stage {
	WH_HTTP_STAGE_NONE = 0,
	WH_HTTP_STAGE_LINE,     /* in line for a connection */
	WH_HTTP_STAGE_CONNECT,  /* name and connection */
	WH_HTTP_STAGE_PROXY,    /* CONNECT at the proxy */
	WH_HTTP_STAGE_TLS,      /* handshake */
	WH_HTTP_STAGE_SEND,     /* of the request */
	WH_HTTP_STAGE_RESPONSE, /* waiting for the head of the response */
	WH_HTTP_STAGE_BODY,     /* of the response */
};
struct wh_http_failure {
	int64_t error;    /* as the future has it */
	int stage;        /* enum wh_http_stage */
	int proxy_status; /* -WH_EHTTP_PROXY: what the proxy answered */
	bool total;       /* -ETIMEDOUT: total_timeout_ns ran out, in that stage */
	const char *text; /* "timed out in line for a connection"; static */
	char detail[160]; /* TLS: what is wrong with the certificate, "certificate has expired"; else "" */
};

/* Everything here is borrowed for the call only (copied), but for a body with release, and failure. */
struct wh_http_request {
	const char *
		origin; /* "host:port" (port 80 if left out), "[::1]:80", "http://host", "https://host:port", "unix:/path"; or
				   NULL, and url */
	const char *method; /* NULL: "GET" */
	const char *target; /* NULL: "/"; origin form or "*"; not with url */
	const char *host;   /* Host field; NULL: the origin's ("localhost" for unix) */
	const struct wh_http_field
		*fields; /* without Host, Content-Length, Transfer-Encoding, Connection: -EINVAL */
	size_t field_count;
	const void *body; /* wh_http_request() only */
	size_t body_len;
	wh_function *
		release; /* NULL: body is copied. Else it is borrowed until release(release_arg) is called, which
				   happens exactly once, possibly before wh_http_request() returns */
	void *release_arg;
	int64_t first_byte_timeout_ns; /* 0: the client's */
	uint64_t response_body_max;    /* 0: the client's */
	bool no_retry;                 /* never try a second time, whatever the method */
	const char *
		url; /* absolute, instead of origin and target; a fragment is left out; user information becomes Authorization:
			    Basic, unless fields have one. Errors as wh_http_url_parse() */
	uint32_t
		redirects_max; /* 301, 302, 303, 307 and 308 are followed that often (RFC 9110 section 15.4); 0: handed over as
				   they are. So is one without Location, and one whose request has a body in pieces to be sent
				   again. 303, and 301 and 302 for POST, go on as GET without body. To another origin,
				   Authorization, Cookie and Proxy-Authorization stay behind. One too many, a URL that is
				   malformed, of another scheme or with user information, and https to http:
				   -WH_EHTTP_REDIRECT */
	bool redirect_insecure; /* https to http is allowed */
	bool expect_continue; /* "Expect: 100-continue": a body waits for the server's word, or for continue_timeout_ns; a 417 has
				     the request sent again without (RFC 9110 section 10.1.1) */
	const char *
		upgrade; /* "websocket": asks for another protocol; wh_http_call_open() with body_length 0 only: see there */
	int64_t total_timeout_ns; /* 0: the client's */
	struct wh_http_failure
		*failure; /* filled if the request fails; NULL: not. Borrowed until the future is complete or
					    dropped, or the call is closed */
	int64_t connect_timeout_ns; /* 0: the client's */
};

/* A response. Everything in it lives as long as it does. */
struct wh_http_response {
	int status;
	int version; /* 10 or 11 */
	struct wh_slice reason;
	size_t field_count;
	const struct wh_http_field *fields; /* in the order sent; framing fields included */
	struct wh_slice body;               /* collected; empty (data != NULL) if none */
	int64_t body_length;                /* as announced; WH_HTTP_CHUNKED: chunked, or until close */
	struct wh_slice
		url; /* that answered, redirects followed, without user information; absent unless the request had a url or
			redirects_max */
	uint32_t redirects; /* that were followed */
};
/* The value of the first field of that name, compared without case; absent without one. */
WH_API struct wh_slice wh_http_response_header(const struct wh_http_response *response, const char *name);
/* Returns NULL, accepts NULL. */
WH_API struct wh_http_response *wh_http_response_free(struct wh_http_response *response);

/* wh_http_request() - send a request, collect its response: n = status, ptr = struct wh_http_response *, given:
 * wh_http_response_free(). Interim (1xx) responses are passed over; content is handed over as it came, also if it is
 * compressed (say "Accept-Encoding: identity" to be safe). There is no pipelining. A request on a kept
 * connection that turns out to have been closed, with nothing of a response received, is sent once more on a new
 * connection if its method is idempotent or nothing of it was sent. Errors: those of wh_dial(), wh_send(),
 * wh_recv(), wh_tls_connect(), wh_http_url_parse(), and -ETIMEDOUT, -WH_EHTTP_SYNTAX, -WH_EHTTP_TOO_LARGE, -WH_EHTTP_CLOSED,
 * -WH_EHTTP_REDIRECT, -WH_EHTTP_PROXY, -WH_EADDRESS_REFUSED; -EAGAIN (waiting_max). wh_cancel(): the connection is closed if the request was
 * begun. */
WH_API wh_future wh_http_request(wh_http_client *client, const struct wh_http_request *request);

/* wh_http_get() - the plain case of it: GET a URL, follow up to 10 redirects, take at most body_max bytes of content (0: the client's
 * limit). Errors of wh_http_request(). */
WH_API wh_future wh_http_get(wh_http_client *client, const char *url, uint64_t body_max);

/* wh_http_stage_name() - "in line for a connection"; static text. */
WH_API const char *wh_http_stage_name(int stage);

/* -- in pieces: wh_http_call_open(), then in any order the request's body and the response; each half at its own pace. */

/* wh_http_call_open() - begin. body_length: bytes to come by wh_http_call_write(), 0 or WH_HTTP_CHUNKED; request->body must
 * be NULL. Tried again only if nothing was sent, or if body_length is 0 and the method idempotent. Errors of
 * the connection come out of the futures below. Result 0 or -errno. */
WH_API int wh_http_call_open(wh_http_client *client, const struct wh_http_request *request,
                             int64_t body_length, wh_http_call **ret) WH_MUST_USE;
/* wh_http_call_write() - as wh_http_write(). wh_http_call_end(): the request is complete (not needed when body_length is
 * 0); fewer bytes than announced: the call fails with -EMSGSIZE. */
WH_API wh_future wh_http_call_write(wh_http_call *call, const void *bytes, size_t len);
WH_API wh_future wh_http_call_write_buf(wh_http_call *call, struct wh_buf *buf);
WH_API void wh_http_call_end(wh_http_call *call);
/* wh_http_call_response() - the head: n = status, ptr = const struct wh_http_response *, borrowed until the call is closed. Comes
 * also while the request's body is still being sent. Once per call (-EALREADY). -EMSGSIZE: the request's body was not as long as said.
 * Errors of wh_http_request(). */
WH_API wh_future wh_http_call_response(wh_http_call *call);
/* wh_http_call_read() - as wh_http_read(), after the head. No limit on the whole. What has come with the head, or since, is
 * there at once: the future is complete. One at a time (-EBUSY); -EMSGSIZE as of wh_http_call_response(). Errors of
 * wh_http_request(). */
WH_API wh_future wh_http_call_read(wh_http_call *call);
/* A request with upgrade that is answered by 101 turns the call into a stream both ways: wh_http_call_write() sends bytes as they
 * are, wh_http_call_end() ends the sending side, wh_http_call_read() gives what the server sends, until its end (n = 0). Time-outs
 * are those of sending only. With any other answer the call goes on as usual. */
WH_API bool wh_http_call_upgraded(const wh_http_call *call);
/* wh_http_call_failure() - stage and text of a call that has failed; false: it has not. */
WH_API bool wh_http_call_failure(const wh_http_call *call, struct wh_http_failure *ret);
/* wh_http_call_close() - the connection is kept for others if both halves are complete, else closed. Futures of the call that
 * are still pending end with -ECANCELED. Returns NULL; accepts NULL. */
WH_API wh_http_call *wh_http_call_close(wh_http_call *call);

#ifdef __cplusplus
}
#endif
#endif
