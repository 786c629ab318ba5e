/* src/http/client.h -- the inside of the HTTP client: origins with their connections, calls.
 *
 * A call waits for a connection of its origin, has it for itself until its response is complete, and gives it back or
 * has it closed. What the user does only changes state; sends leave in one deferred call for each turn.
 *
 * Depends on: parse.h, output.h, deadline.h.  Used by: the files of the client only.
 * Thread: loop.
 */
#ifndef WH_HTTP_CLIENT_H
#define WH_HTTP_CLIENT_H

#include "http/deadline.h"
#include "http/output.h"
#include "http/parse.h"
#include "http/proxy.h"
#include "runtime/loop.h"

enum { WH__HTTP_CLIENT_SEND_MAX = 256 * 1024, WH__HTTP_CLIENT_OUTPUT_MAX = 256 * 1024 };

/* What hangs in the ring of time-outs: a call, or an idle connection. */
struct wh__http_client_node {
	struct wh__http_deadline hang; /* first: found from it */
	bool is_call;
};

/* Where connections of a pool lead. */
struct wh__http_origin {
	struct wh__http_origin *next;
	wh_http_client *client;
	struct sockaddr_storage address; /* if it needs no name: address_len > 0 */
	socklen_t address_len;
	const struct wh__http_proxy *proxy; /* connected to instead; NULL: none */
	char *alias;                        /* how the first request named it */
	char *host;                         /* that is connected to */
	uint16_t port;
	bool tls;                   /* over TLS; with a proxy: by CONNECT */
	bool shared;                /* by all origins that a proxy speaks to for us */
	struct wh__http_link *idle; /* used last, first */
	uint32_t idle_count, link_count, waiting_count;
	uint32_t call_count; /* that refer to it */
	uint32_t down_count; /* connections that are down, and still refer to it */
	wh_http_call *waiting_first, *waiting_last;
	char name[]; /* "http://host:port", "unix:/path", "proxy" */
};

/* Where a request goes, as it was asked for. */
struct wh__http_place {
	struct wh__http_origin *origin;
	bool has_url;           /* not so for UNIX sockets, and where nobody asks */
	struct wh_http_url url; /* refers to the request's text */
	const char *host;       /* for the Host field; NULL: from url */
};

/* A connection of the client. */
struct wh__http_link {
	struct wh__http_client_node node; /* while idle */
	struct wh__http_origin *origin;
	struct wh__http_link *next, **list; /* all of the client */
	struct wh__http_link *next_idle, *next_dirty;
	wh_http_call *call;
	struct wh_buf *input;
	char *held;
	struct wh__http_chain output, sending;
	size_t output_bytes;
	uint32_t input_at, held_len, held_cap;
	struct wh__http_scan scan;
	uint32_t sending_bytes;
	int64_t idle_since;
	wh_future connecting; /* or securing */
	wh_future received;   /* while receiving */
	struct wh__stream stream;
	struct wh_tls_problem *problem; /* of the handshake */
	uint16_t references;            /* operations, the dirty list, until it is down */
	bool is_connecting : 1, is_securing : 1, receiving : 1, is_sending : 1, is_dirty : 1, is_idle : 1;
	bool reused : 1;              /* has carried a response in full */
	bool shut : 1, shut_done : 1; /* the sending side of a stream is to be ended once all is sent */
	bool eof : 1, down : 1;
	bool secure_next : 1; /* the proxy has connected: TLS comes next */
};

enum wh__http_call_stage {
	WH__HTTP_CALL_WAITING, /* for a connection */
	WH__HTTP_CALL_CONNECTING,
	WH__HTTP_CALL_PROXY, /* CONNECT was sent */
	WH__HTTP_CALL_TLS,   /* handshake */
	WH__HTTP_CALL_HEAD,  /* of the response is to come */
	WH__HTTP_CALL_BODY,
	WH__HTTP_CALL_COMPLETE, /* the response is */
	WH__HTTP_CALL_FAILED,
};

struct wh_http_call {
	struct wh__http_client_node node;
	wh_http_client *client;
	struct wh__http_origin *origin;
	struct wh__http_link *link;
	wh_http_call *next_waiting;
	wh_http_call *next, **list; /* all of the client */
	uint32_t references;        /* the user, or the future; pieces of output that lie in it */
	/* the request */
	char *head;
	size_t head_len;
	uint32_t method_len, fields_at, fields_len; /* in head: the user's fields, kept by a redirect */
	int64_t body_length;                        /* as announced */
	char *url;                                  /* that is asked; NULL if nobody wants to know */
	char *location; /* where a redirect leads, while its content is read over */
	uint32_t redirects, redirects_max;
	uint32_t skipped_bytes; /* of that content */
	const void *body;       /* whole requests */
	size_t body_len;
	wh_function *release;
	void *release_arg;
	int64_t request_left;        /* bytes to be written; WH_HTTP_CHUNKED */
	struct wh__http_chain early; /* written before there is a connection */
	size_t early_bytes;
	struct wh__op *writes;
	/* the response */
	struct wh_http_response *response;
	struct wh__op *result;   /* whole: the future of wh_http_request() */
	struct wh__op *answered; /* pieces: wh_http_call_response() */
	struct wh__op *read;
	struct wh__http_chunked chunked;
	uint64_t body_left, body_max;
	size_t body_cap;
	/* time */
	int64_t started_at; /* of all; begun_at: of the present stage until the request is sent */
	int64_t begun_at, sent_at, active_at, first_byte_ns, connect_ns, total_ns;
	int64_t error;
	struct wh_http_failure failure, *ret_failure;
	int proxy_status;
	uint8_t stage;
	bool whole : 1; /* from wh_http_request() */
	bool head_request : 1, idempotent : 1, no_retry : 1, retried : 1;
	bool request_done : 1; /* all of it has been handed to the connection */
	bool chunked_request : 1;
	bool sent_any : 1; /* a send was begun */
	bool received_any : 1;
	bool chunked_body : 1, until_close : 1, keep_alive : 1;
	bool response_taken : 1, ended : 1;
	bool closed : 1;
	bool redirect_insecure : 1;
	bool expects : 1;  /* the head says Expect: 100-continue */
	bool withheld : 1; /* the body waits for the server's word */
	bool upgrade : 1, upgraded : 1;
};

struct wh_http_client {
	wh_loop *loop;
	struct wh_http_client_options options;
	struct wh__http_limits limits;
	struct wh__http_deadlines deadlines;
	wh_tls_context *tls; /* NULL until the first need */
	bool owns_tls;
	struct wh__http_proxies proxies;
	struct wh__http_origin *origins; /* used last, first */
	uint32_t origin_count;
	struct wh__http_link *links, *dirty;
	wh_http_call *calls;
	uint32_t references;      /* the user, links, calls, the deferred call, the timer at the end */
	struct wh__message flush; /* the deferred call */
	bool flushing, closed;
	char *user_agent;
	struct wh_http_client_stats stats;
	struct wh__http_head scratch;
};

/* origin.c */
int wh__http_place_find(wh_http_client *client, const struct wh_http_request *request,
                        struct wh__http_place *ret);
int wh__http_place_of_url(wh_http_client *client, const char *url, struct wh__http_place *ret);
void wh__http_origins_free(wh_http_client *client);

/* head.c: the request on the wire. Result 0 or -errno. */
int wh__http_head_write(wh_http_call *call, const struct wh_http_request *request,
                        const struct wh__http_place *place);
/* ... once more: for another place (NULL: the same), as GET without content if `get`; foreign: of another origin. */
int wh__http_head_rewrite(wh_http_call *call, const struct wh__http_place *place, bool get, bool foreign);
bool wh__http_head_connect(const struct wh__http_origin *origin, struct wh__http_chain *ret_chain,
                           size_t *ret_len);

/* redirect.c */
int wh__http_redirect_begin(wh_http_call *call); /* 1: call->location is set; 0: nothing to follow; -errno */
void wh__http_redirect_follow(wh_http_call *call, bool reusable);

/* failure.c */
void wh__http_failure_note(wh_http_call *call, int64_t error);

/* client.c */
int wh__http_client_tls(wh_http_client *client, wh_tls_context **ret); /* made if need be */
void wh__http_client_release(wh_http_client *client);
void wh__http_client_node_remove(wh_http_client *client, struct wh__http_client_node *node);

/* link.c */
void wh__http_link_serve(struct wh__http_origin *origin); /* gives connections to those who wait */
void wh__http_link_attach(struct wh__http_link *link, wh_http_call *call);
struct wh__http_link *wh__http_link_open(struct wh__http_origin *origin, wh_http_call *call);
void wh__http_link_close(struct wh__http_link *link);
void wh__http_link_done(struct wh__http_link *link, bool reusable); /* its call is over */
void wh__http_link_mark(struct wh__http_link *link);                /* there is something to send */
void wh__http_link_flush(struct wh__http_link *link);
void wh__http_link_receive(struct wh__http_link *link);
void wh__http_link_secure(struct wh__http_link *link); /* TLS, then the request */
void wh__http_link_unref(struct wh__http_link *link);
void wh__http_link_drop_input(struct wh__http_link *link);

/* reply.c */
void wh__http_reply_advance(struct wh__http_link *link); /* use what was received */
void wh__http_reply_eof(struct wh__http_link *link);

/* call.c */
void wh__http_call_begin(wh_http_call *call);               /* find a connection */
void wh__http_call_send(wh_http_call *call);                /* the request goes to the call's connection */
void wh__http_call_fail(wh_http_call *call, int64_t error); /* or try again */
void wh__http_call_answered(wh_http_call *call);            /* the head of the response is there */
void wh__http_call_complete(wh_http_call *call);            /* the response is whole */
void wh__http_call_writable(wh_http_call *call, int64_t result);
void wh__http_call_unref(wh_http_call *call);
void wh__http_call_maybe_finish(wh_http_call *call);
void wh__http_call_upgrade(wh_http_call *call); /* 101: a stream from now on */
void wh__http_call_again(wh_http_call *call,
                         bool reusable);        /* from the start, its head has been written anew */
void wh__http_call_proceed(wh_http_call *call); /* the withheld body goes out */
void wh__http_call_stage(wh_http_call *call, enum wh__http_call_stage stage);
int64_t wh__http_call_deadline(const wh_http_call *call);

#endif
