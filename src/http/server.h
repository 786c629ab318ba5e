/* src/http/server.h -- the inside of the HTTP server: server, connections, exchanges.
 *
 * Who calls whom: the loop calls connection.c (something was received, sent, or is due), which calls the handlers; the
 * handlers call exchange.c and answer.c, which only change state and mark the connection; what follows from that
 * happens in one deferred call of the server for each turn (wh__http_server_settle()). So no handler is called from within
 * a handler, and the answers of one turn leave in one send.
 *
 * Depends on: parse.h, output.h, deadline.h.  Used by: the files of the server only.
 * Thread: loop.
 */
#ifndef WH_HTTP_SERVER_H
#define WH_HTTP_SERVER_H

#include <sys/socket.h>

#include "http/deadline.h"
#include "http/known.h"
#include "http/output.h"
#include "http/parse.h"
#include "runtime/loop.h"

enum {
	WH__HTTP_DATE_LINE = 37, /* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" */
	WH__HTTP_SEND_MAX =
		256 * 1024, /* bytes of one send: what a slow client must take within write_timeout */
	WH__HTTP_DISCARD_MAX =
		64 * 1024, /* rest of a body nobody wants that is still read, to keep the connection */
	WH__HTTP_LINGER_MAX = 1024 * 1024 /* bytes read and thrown away while a client reads a last answer */
};
#define WH__HTTP_LINGER_NS (2 * WH_NS_PER_S)

struct wh__http_listener {
	struct wh__http_listener *next;
	wh_http_server *server;
	wh_tls_context *tls; /* NULL: in the clear */
	int fd;
	bool accepting, waiting /* after a failure */, closed;
	wh_future accept;
	struct wh__message again; /* when there was no memory to wait */
};

struct wh_http_server {
	wh_loop *loop;
	struct wh_http_server_options options;
	struct wh__http_limits limits;
	struct wh__http_deadlines deadlines;
	struct wh__http_listener *listeners;
	struct wh__http_connection *connections; /* open ones, newest first */
	struct wh__http_connection *dirty;       /* to be settled in this turn, newest first */
	wh_http_exchange *spare;                 /* freed exchanges, a few */
	uint32_t spare_count;
	uint32_t
		references; /* by operations, connections and the deferred call; the last frees a closed server */
	struct wh__message settle; /* the deferred call */
	bool settling, draining, closed;
	struct wh__op *drained; /* the future of drain */
	struct wh_http_server_stats stats;
	struct wh__http_hub *hub; /* threads.h: of a server with threads; NULL: without */
	struct wh__http_thread
		*thread; /* of a server that is one thread's part of another; NULL: it is not */
	int64_t date_second;
	char date[WH__HTTP_DATE_LINE];
	struct wh__http_head
		scratch; /* the head of the request whose handler runs, unless it is a known one */
	struct wh__http_known known;
};

/* A connection. What only a request needs is in its exchange, so that an idle one is small. */
struct wh__http_peer {
	struct sockaddr_storage address;
	socklen_t len;
};

struct wh__http_connection {
	struct wh__http_deadline deadline; /* first: found from it */
	wh_http_server *server;
	struct wh__http_connection *next, **link, *next_dirty;
	wh_http_exchange *first, *last; /* not answered in full, in order */
	wh_http_exchange *reading;      /* whose body is coming in; may be answered already */
	struct wh_buf *input;           /* received and not used yet, from input_at */
	char *held;                     /* of a head that came in more than one piece */
	struct wh__http_chain output;   /* not handed to the socket yet */
	struct wh__http_chain sending;
	wh_future handshake; /* while securing */
	union {
		struct wh__http_peer *peer; /* malloc'ed, once somebody has asked: it stays the same */
		struct wh__http_lane *lane; /* of a thread: what its requests have in common */
	};
	size_t output_bytes; /* unsent, wherever they wait, those of later exchanges included */
	int64_t active_at;   /* last step of what a time-out watches, on the receiving side */
	int64_t sent_at;
	uint32_t sending_bytes;
	uint32_t input_at, held_len, held_cap;
	struct wh__http_scan scan;
	uint32_t linger_left;
	struct wh__stream stream;
	uint16_t exchange_count;
	uint16_t references; /* operations, exchanges, the dirty list */
	bool receiving : 1, is_sending : 1, is_dirty : 1;
	bool served : 1;    /* a request has come in full at least once */
	bool eof : 1;       /* the client sends no more */
	bool no_more : 1;   /* no further request is read */
	bool lingering : 1; /* our side is shut down; input is thrown away */
	bool linger : 1;    /* it should be, at the end */
	bool failed : 1;    /* to be taken down */
	bool reset : 1;     /* ... with RST */
	bool cut : 1;       /* an answer said close: those behind it are not sent */
	bool down : 1;      /* descriptor closed or being closed */
	bool securing : 1;  /* TLS handshake under way: its future has the descriptor */
	bool shut : 1;      /* our side is shut down: wh_http_shutdown() */
};

enum wh__http_mode { WH__HTTP_MODE_COLLECT, WH__HTTP_MODE_STREAM };

enum wh__http_stage {
	WH__HTTP_STAGE_HEAD,   /* on_head() not called yet, or running */
	WH__HTTP_STAGE_BODY,   /* being collected */
	WH__HTTP_STAGE_HELD,   /* whole, but its turn has not come: an earlier answer is due first */
	WH__HTTP_STAGE_HANDED, /* on_request() was called: the handler's to answer */
};

/* One that waits for its answer is much of what a waiting client costs: fields stand so that there are no holes. */
struct wh_http_exchange {
	struct wh__http_connection *connection;
	wh_http_exchange *next;
	/* the request; head NULL: dropped */
	const char *base;
	struct wh__http_head *head;
	char *body; /* collected: body_seen bytes */
	size_t body_cap;
	/* the body on its way */
	union {
		struct wh__http_chunked chunked;
		struct {
			uint64_t length; /* as announced */
			uint64_t body_left;
		};
	};
	uint64_t body_seen, body_max;
	struct wh__op *read; /* pending wh_http_read() */
	int32_t read_error;
	/* the answer */
	uint16_t fields_len, fields_cap;
	char *fields;
	uint64_t fields_names;        /* answer.c: a bit for each name that was set */
	struct wh__http_chain output; /* while not first in line */
	int64_t reply_left;           /* bytes to come; WH_HTTP_CHUNKED */
	struct wh__op *writes;        /* pending wh_http_write(), oldest first */
	/* the user's */
	void *arg;
	wh_function *on_close, *on_half_close, *on_drain, *on_end;
	void *on_close_arg, *on_half_close_arg, *on_drain_arg, *on_end_arg;
	int64_t received_at;
	uint32_t head_len;
	uint32_t unsent_max; /* 0: the server's */
	uint8_t method, token, version, mode, stage;
	bool keep_alive : 1, chunked_body : 1, has_length : 1, expects : 1;
	bool parallel : 1, retained : 1, in_handler : 1;
	bool body_done : 1;
	bool head_owned : 1, base_owned : 1, body_owned : 1; /* malloc'ed; base may lie in head instead */
	bool started : 1;                                    /* the head of the answer is out */
	bool answered : 1;                                   /* the answer is complete */
	bool listed : 1;                                     /* in the connection's line */
	bool may_upgrade : 1;
	bool stream : 1; /* has been: no HTTP any more */
	bool shut : 1;   /* what was written is all */
	bool close_after : 1, no_body : 1, date_set : 1, chunk_reply : 1, until_close : 1;
	bool lacks_field : 1; /* there was no memory for one */
};

/* answer.c */
bool wh__http_answer_reserve(wh_http_exchange *x, size_t len); /* room for so much behind the fields */
uint32_t wh__http_answer_unsent_max(const wh_http_exchange *x);
/* wh__http_answer_unsent() - bytes of the connection that go out before a write of x is through: all but what later answers hold back until x has
 * ended. If x waited for those as well, neither would ever go on. */
size_t wh__http_answer_unsent(const wh_http_exchange *x);

/* server.c */
void wh__http_server_mark(struct wh__http_connection *c); /* settle c in this turn */
void wh__http_server_release(wh_http_server *server);
void wh__http_server_add(wh_http_server *server,
                         struct wh__http_listener *listener); /* malloc'ed; takes it */
void wh__http_server_begin_drain(wh_http_server *server);
void wh__http_server_connection_gone(wh_http_server *server);
void wh__http_server_handshake_over(wh_http_server *server); /* well or not */
const char *wh__http_server_date(wh_http_server *server);    /* "Date: ...\r\n", WH__HTTP_DATE_LINE bytes */

/* connection.c */
void wh__http_connection_open(wh_http_server *server, int fd, wh_tls_context *tls);
void wh__http_connection_settle(struct wh__http_connection *c);
void wh__http_connection_fail(struct wh__http_connection *c, bool reset); /* marks; taken down when settled */
int64_t wh__http_connection_look(struct wh__http_deadline *node, int64_t now);
void wh__http_connection_unref(struct wh__http_connection *c);

/* input.c: from bytes to handlers */
void wh__http_input_advance(struct wh__http_connection *c);
void wh__http_input_refuse(struct wh__http_connection *c, int status, const char *reason);
void wh__http_input_body_failed(struct wh__http_connection *c, int status, int64_t error, const char *reason);
/* Of an exchange whose handler says later how the body is to come: it was to be read in pieces, of which nothing was. */
void wh__http_input_decided(wh_http_exchange *x, bool collect, uint64_t max);
void wh__http_input_refused(wh_http_exchange *x); /* x is about to be answered with a refusal */
bool wh__http_input_wanted(const struct wh__http_connection *c); /* a part of a request is being waited for */
void wh__http_input_drop(struct wh__http_connection *c);

/* exchange.c */
wh_http_exchange *wh__http_exchange_new(struct wh__http_connection *c);
void wh__http_exchange_end(
	wh_http_exchange *x); /* its answer is complete: out of the line when its turn is there */
void wh__http_exchange_unlist(wh_http_exchange *x); /* out of the line without an answer */
void wh__http_exchange_reap(wh_http_exchange *x);   /* free it if nobody needs it any more */
bool wh__http_exchange_keep(wh_http_exchange *x);   /* head and collected body into memory of their own */
void wh__http_exchange_drop_request(wh_http_exchange *x);
struct wh__http_chain *wh__http_exchange_output(wh_http_exchange *x);

/* stream.c */
void wh__http_stream_over(wh_http_exchange *x); /* the client has ended its side */

/* answer.c */
void wh__http_answer_continue(wh_http_exchange *x);
void wh__http_answer_refusal(wh_http_exchange *x, int status, const char *detail, uint64_t limit);
void wh__http_answer_writable(wh_http_exchange *x, int64_t result); /* pending writes end */

/* The user's fn is forgotten before it is called: it may answer, and end, the exchange. */
static inline void wh__http_call_once(wh_function **fn, void *arg)
{
	wh_function *call = *fn;

	*fn = NULL;
	if (call)
		call(arg);
}

#endif
