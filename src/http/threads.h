/* src/http/threads.h -- the inside of a server whose connections are on threads of their own, while its handlers stay on one.
 *
 *     handlers' loop                               a thread's loop, one of several
 *     outer server, remote.c       <- notes ->     forward.c, an ordinary server with its connections
 *
 * On each thread an ordinary server receives, parses, sends and times out. What its handlers (forward.c) do with a
 * request is to send it as a note to the handlers' loop. There it is an exchange like any other for who handles it (remote.c), told
 * by having no connection; what is answered goes back as notes, and forward.c answers with it. So every rule of HTTP stands in
 * one place, and is that of a server without threads.
 *
 * Notes of one direction are gathered and handed over once a turn, in order, with at most one wake-up. A note is a part of what
 * it is about, so that none of those that end something needs memory; only pieces of bodies are allocated for their way.
 *
 * Memory: a ticket is one request and its answer on both sides. The thread makes and frees it, and its lane (what the requests of a
 * connection have in common). From the note NOTE_REQUEST until .released it is also the handlers' loop's, each field
 * belonging to the side that is named; then it is the thread's alone, once it has seen that no note of its own is still on the way:
 * .sent and .received. So whoever still holds a ticket may touch it, whatever has become of the client.
 *
 * Depends on: server.h.  Used by: threads, forward, remote; a few lines of the server's other files.
 * Thread: as each function says.
 */
#ifndef WH_HTTP_THREADS_H
#define WH_HTTP_THREADS_H

#include <stdatomic.h>

#include "http/server.h"

enum {
	WH__HTTP_THREADS_MAX = 64,
	/* Taken from each way in one turn: what a thread's clients flood it with does not keep the handlers' loop from its own
	 * work and from the other threads, nor many answers a thread from its connections. */
	WH__HTTP_NOTES_OF_TURN = 256
};

enum wh__http_note_kind {
	/* from a thread */
	WH__HTTP_NOTE_REQUEST, /* a request, with its body if .complete; or the refusal of one */
	WH__HTTP_NOTE_BODY,    /* it is whole, or was refused amid the body */
	WH__HTTP_NOTE_PIECE,   /* what was read of a body */
	WH__HTTP_NOTE_ROOM,    /* more may be written */
	WH__HTTP_NOTE_HALF_CLOSED,
	WH__HTTP_NOTE_CLOSED,
	WH__HTTP_NOTE_SENT,  /* of a lane that waits for that */
	WH__HTTP_NOTE_LAST,  /* nothing follows it about this ticket */
	WH__HTTP_NOTE_TAKEN, /* bytes that were borrowed have gone out */
	WH__HTTP_NOTE_DRAINED,
	WH__HTTP_NOTE_GONE, /* the last of all */
	/* to a thread */
	WH__HTTP_NOTE_DECIDED, /* how the body comes, and how much of it may */
	WH__HTTP_NOTE_READ,
	WH__HTTP_NOTE_START, /* an answer in pieces begins */
	WH__HTTP_NOTE_PART,  /* one of them; or an interim answer */
	WH__HTTP_NOTE_ASK,   /* is there room? */
	WH__HTTP_NOTE_FAIL,  /* the connection is to be taken down, for want of memory */
	WH__HTTP_NOTE_ANSWER,
	WH__HTTP_NOTE_RELEASE, /* of a ticket whose answer came before its turn */
	WH__HTTP_NOTE_FREE,    /* the answer to LAST */
	WH__HTTP_NOTE_SEEN,    /* the answer to SENT */
	WH__HTTP_NOTE_LISTEN,
	WH__HTTP_NOTE_DRAIN,
	WH__HTTP_NOTE_CLOSE,
};

struct wh__http_note {
	struct wh__http_note *next;
	uint8_t kind; /* enum wh__http_note_kind */
};

/* Notes on their way from one loop to another. */
struct wh__http_way {
	wh_loop *from, *to;
	/* the sender's: what this turn has gathered, newest first */
	struct wh__http_note *newest, *oldest;
	struct wh__message flush;
	bool flushing; /* it is deferred */
	/* the receiver's: oldest first, left for the next turn */
	struct wh__http_note *due;
	/* shared */
	_Atomic(struct wh__http_note *) notes; /* newest first */
	atomic_bool called;
	struct wh__message call; /* of the receiver: at most one is on the way */
	struct wh__http_thread *thread;
};

struct wh__http_thread {
	struct wh__http_hub *hub;
	wh_loop *loop;
	struct wh__http_way in, out; /* to the handlers; from them */
	struct wh__http_note drain, close, drained, gone;
	/* the thread's */
	wh_http_server *server; /* NULL: gone */
	struct wh__http_ticket *spare;
	uint32_t spare_count;
	uint64_t tickets; /* given out */
	struct wh__message publish;
	bool publishing; /* it is deferred */
	/* shared */
	_Atomic uint64_t stats[sizeof(struct wh_http_server_stats) / sizeof(uint64_t)];
	/* the handlers' */
	bool is_drained, is_gone;
};

struct wh__http_hub {
	wh_http_server *server; /* the outer one */
	struct wh__op *hold;    /* keeps the loop running while there may be something to do */
	struct wh__http_ticket *tickets;
	struct wh__http_lane *dirty; /* to be settled in this turn */
	struct wh__message settle;
	bool settling, closing;
	uint32_t count;
	struct wh__http_thread threads[];
};

/* What the requests of a connection have in common. */
struct wh__http_lane {
	struct wh__http_thread *thread;
	/* the thread's */
	uint32_t tickets;
	size_t ahead;                           /* bytes of requests that are not answered */
	uint64_t taken;                         /* bytes of answers, bodies only */
	struct wh__http_connection *connection; /* NULL: gone */
	bool is_telling;                        /* .sent is on its way, there or back, and holds the lane */
	/* the handlers' */
	struct wh__http_ticket *first, *last; /* not over, in order */
	struct wh__http_lane *next_dirty, **dirty_link;
	uint64_t posted; /* bytes of answers, bodies only */
	bool is_dirty, is_waiting;
	bool cut; /* an answer said close: of what is behind it nothing is begun */
	/* shared: how many of the bytes that were posted the connection holds no more; and is that waited for, since it held as
	 * many as it may? */
	_Atomic int64_t left;
	atomic_bool waits;
	struct wh__http_note sent;
	/* constant */
	const wh_tls *tls;
	int peer_error;
	socklen_t peer_len;
	uint8_t peer[];
};

enum wh__http_answer_kind {
	WH__HTTP_ANSWER_NOTHING, /* the client has gone */
	WH__HTTP_ANSWER_WHOLE,
	WH__HTTP_ANSWER_REFUSAL, /* the same of the server itself, after which the connection ends */
	WH__HTTP_ANSWER_END,
	WH__HTTP_ANSWER_ABORT,
};

/* A body that its owner wants to hear of. Made by the handlers' loop, and freed there. */
struct wh__http_borrowed {
	struct wh__http_note note;
	struct wh__http_thread *thread;
	wh_function *release;
	void *arg;
};

/* A piece of an answer, or an interim answer (status > 0) of whole field lines. Made by the handlers' loop, freed by the thread. */
struct wh__http_part {
	struct wh__http_note note;
	struct wh__http_ticket *ticket;
	int status;
	size_t len;
	char bytes[];
};

struct wh__http_ticket {
	wh_http_exchange
		x; /* first: what handlers see; x.connection is NULL. The handlers' from the request on */
	struct wh__http_lane *lane;
	/* each on the way at most once at a time: request, body and piece wait for what came of the one before */
	struct wh__http_note request, room, half_closed, closed, last;
	struct wh__http_note decided, read, start, ask, fail, answer, release;
	/* the thread's */
	wh_http_exchange *front; /* NULL: answered, or gone */
	struct wh__http_ticket *next_spare;
	uint64_t seen; /* bytes of parts */
	size_t weight; /* in lane->ahead */
	uint16_t sent; /* notes */
	bool asking, reading, is_ours;
	/* set by the thread before request, body and piece, and taken over with them */
	struct {
		char *body;
		size_t len;
		int64_t n; /* of a piece; bytes, or an error */
		struct wh_buf *piece;
		int status; /* > 0: refused */
		const char *reason;
		uint64_t limit;
		bool complete; /* the request's body is there, or has none */
	} given;
	uint64_t room_seen; /* with room */
	int64_t room_error;
	/* set by the handlers before decided, start, ask and answer, and taken over with them */
	struct {
		char *fields;
		uint16_t fields_len, fields_cap;
		uint64_t fields_names;
		int status;
		int64_t length;
		const void *body;
		size_t body_len;
		char *block;                        /* malloc'ed: body */
		struct wh__http_borrowed *borrowed; /* body is somebody's */
		uint8_t kind;                       /* enum wh__http_answer_kind */
		bool date_set, lacks_field, close_after, start_close_after;
		bool releases; /* the ticket with the answer */
	} reply;
	uint64_t decided_max;
	bool decided_collect;
	uint32_t ask_unsent_max;
	uint16_t received_at_release; /* with release, or an answer that releases */
	/* the handlers' */
	bool released;
	struct wh__http_ticket *all_next, **all_link;
	void *memory;                  /* malloc'ed: head and, if it came with that, body */
	struct wh_buf *early;          /* a piece that nobody waits for any more */
	size_t body_at;                /* of a body that is there and read in pieces */
	uint64_t posted, acknowledged; /* bytes of the body; those that the thread has reported room behind */
	uint16_t received;             /* notes */
	bool begun, complete, is_reading, is_asking, is_closed, is_half_closed, has_failed, answer_due,
		posted_answer;
};

/* ---- threads.c --------------------------------------------------------------------------- */

int wh__http_threads_open(wh_http_server *server); /* 0 or -errno */
int wh__http_threads_listen(wh_http_server *server, int fd, wh_tls_context *context);
void wh__http_threads_drain(wh_http_server *server);
void wh__http_threads_close(wh_http_server *server); /* the server is released when all threads have ended */
void wh__http_threads_stats(const wh_http_server *server, struct wh_http_server_stats *ret);
/* Of the inner server, on its thread: its figures have changed; its last connection went while it drains; it is freed. */
void wh__http_threads_changed(struct wh__http_thread *thread);
void wh__http_threads_drained(struct wh__http_thread *thread);
void wh__http_threads_server_gone(struct wh__http_thread *thread);
/* The sender's loop: note goes with this turn. */
void wh__http_way_put(struct wh__http_way *way, struct wh__http_note *note, enum wh__http_note_kind kind);
void wh__http_threads_check_gone(struct wh__http_thread *thread);

/* ---- forward.c: the thread's side --------------------------------------------------------- */

void wh__http_forward_head(wh_http_exchange *x, void *arg);
void wh__http_forward_request(wh_http_exchange *x, void *arg);
void wh__http_forward_refusal(wh_http_exchange *x, int status, const char *reason, uint64_t limit);
void wh__http_forward_take(struct wh__http_thread *thread, struct wh__http_note *note);
bool wh__http_forward_may_begin(const struct wh__http_connection *c);
void wh__http_forward_settled(struct wh__http_connection *c); /* it may hold less than before */
void wh__http_forward_connection_gone(struct wh__http_connection *c);
void wh__http_ticket_free(struct wh__http_ticket *ticket);

/* ---- remote.c: the handlers' side --------------------------------------------------------- */

void wh__http_remote_take(struct wh__http_thread *thread, struct wh__http_note *note);
void wh__http_remote_settle(void *arg); /* of wh__http_hub.settle */
void wh__http_remote_drained(struct wh__http_hub *hub);

#endif
