/* src/front/beanstalk_inside.h -- what the files of the beanstalkd front share.
 *
 * Used by: src/front/beanstalk*.c. Thread: the loop of the store. A connection is freed with the last of its operations;
 * what it has reserved is found by job id.
 */
#ifndef WH_FRONT_BEANSTALK_INSIDE_H
#define WH_FRONT_BEANSTALK_INSIDE_H

#include "front/beanstalk.h"
#include "front/beanstalk_parse.h"
#include "store/store.h"

enum {
	BEANSTALK_BATCH = 256,           /* commands of one kind that go to the store together */
	BEANSTALK_OPS_MAX = 64,          /* under way at once for a connection */
	BEANSTALK_OUT_MAX = 1 << 20,     /* unsent bytes beyond which no command is begun */
	BEANSTALK_LOT_BYTES = 1 << 20,   /* bodies of one reservation of several jobs */
	BEANSTALK_LARGE_BYTES = 1 << 20, /* larger bodies go through in pieces */
	BEANSTALK_LARGE_OUT = 256 << 10, /* unsent bytes of such a body */
	BEANSTALK_CHUNK = 4096,          /* of output buffers that are kept */
	BEANSTALK_CHUNKS_KEPT = 256,
};

/* A tube that somebody uses or watches. */
struct beanstalk_tube {
	struct beanstalk_tube *next, *prev; /* in the order in which they came into being */
	struct beanstalk_tube *next_hash;
	uint32_t using, watching;
	uint32_t len;
	char name[];
};

/* A reserved job and who may finish it. */
struct beanstalk_hold {
	struct beanstalk_hold *next_hash;
	struct beanstalk_hold *next, *prev; /* of the connection */
	struct beanstalk_connection *connection;
	uint64_t job;
	struct job_lease lease;
	int64_t time_to_run_ns;
	int64_t deadline; /* wh_now() */
};

/* Commands of one kind that the store works on, or has worked on while an earlier one has not. */
struct beanstalk_op {
	struct beanstalk_op *next;
	struct beanstalk_connection *connection;
	uint8_t kind; /* enum beanstalk_kind */
	bool done;
	bool waits; /* a reservation that is in line */
	bool asked; /* it would have waited */
	uint32_t count;
	int64_t until;    /* RESERVE_TIMEOUT: wh_now() at which it ends; INT64_MAX: never */
	wh_future future; /* of a reservation */
	wh_res res;
	uint64_t job;   /* PEEK and so on */
	char *memory;   /* STATS: what is being read */
	uint64_t ids[]; /* of the changes of jobs */
};

struct beanstalk_out {
	char *data;
	uint32_t len, cap;
};

struct beanstalk_connection {
	struct beanstalk *front;
	struct beanstalk_connection *next, *prev;
	int fd;
	bool receiving, half_closed, closed, quit, failed, dirty;
	bool discarding, discarding_cr; /* a line that was too long, up to its end */
	bool producer, worker;
	bool advancing;
	uint32_t ops_count;
	uint64_t skip;                 /* bytes of a body that is refused */
	int skip_error;                /* why */
	struct beanstalk_large *large; /* a large body on its way, in or out */
	uint64_t wanted;               /* bytes that the put which has begun needs in all */
	struct beanstalk_op *first, *last;
	char *in; /* what was received and not used yet */
	size_t in_at, in_len, in_cap;
	struct beanstalk_out out, sending;
	struct beanstalk_tube *use;
	struct beanstalk_tube **watch;
	uint32_t watch_count, watch_cap;
	/* of a run of reservations, those that are not begun yet */
	uint32_t reserves_left;
	uint8_t reserves_kind;
	bool reserves_waiting; /* the next of them waits in line */
	uint32_t reserves_s;
	struct beanstalk_hold *holds_first, *holds_last;
	int64_t deadline_min; /* no hold ends before this */
	struct beanstalk_connection *next_dirty;
	struct beanstalk_tube *watch_one; /* room for the usual case */
};

struct beanstalk_listener {
	struct beanstalk_listener *next;
	struct beanstalk *front;
	int fd;
	bool accepting, closed;
	wh_future future;
};

struct beanstalk_retired { /* a tube that nobody uses any more */
	struct beanstalk_retired *next;
	bool fresh;
	uint32_t len;
	char name[];
};

struct beanstalk {
	wh_loop *loop;
	struct store *store;
	struct beanstalk_options options;
	struct beanstalk_listener *listeners;
	struct beanstalk_connection *connections;
	uint32_t connections_count;
	uint64_t connections_total;
	bool refusing, draining, closed;
	wh_future drained;
	bool flush_deferred;
	struct beanstalk_connection *dirty;
	/* tubes */
	struct beanstalk_tube *tubes_first, *tubes_last, *tube_default;
	struct beanstalk_tube **tubes;
	uint32_t tubes_count, tubes_cap;
	struct beanstalk_retired *retired;
	wh_future sweep;
	bool sweeping;
	/* holds */
	struct beanstalk_hold **holds;
	uint32_t holds_cap, holds_count;
	struct beanstalk_hold *holds_spare;
	/* output buffers that are not in use */
	char *chunks[BEANSTALK_CHUNKS_KEPT];
	uint32_t chunks_count;
	/* for gathering */
	struct store_slice payloads[BEANSTALK_BATCH];
	struct store_action actions[BEANSTALK_BATCH];
	/* what stats tell */
	uint64_t commands[BEANSTALK_KINDS];
	uint64_t waiting;
	int64_t opened_at;
	int proc_fd;
	char id[17];
	char host_name[256], host_version[256];
};

/* ---- beanstalk.c: tubes, holds ------------------------------------------------------------ */

/* NULL: no memory. Counted by the caller in using or watching; then let go. */
struct beanstalk_tube *beanstalk_tube_get(struct beanstalk *front, const char *name, size_t len);
struct beanstalk_tube *beanstalk_tube_find(const struct beanstalk *front, const char *name, size_t len);
void beanstalk_tube_release(struct beanstalk *front, struct beanstalk_tube *tube);

struct beanstalk_hold *beanstalk_hold_add(struct beanstalk_connection *c, const struct store_leased *leased);
struct beanstalk_hold *beanstalk_hold_find(const struct beanstalk_connection *c, uint64_t job);
struct beanstalk_hold *beanstalk_hold_remove(struct beanstalk_hold *hold); /* NULL; accepts NULL */
/* When the first of the connection's leases ends, INT64_MAX: none; those that have ended are let go. Exact when it is
 * not after now + margin. */
int64_t beanstalk_deadline(struct beanstalk_connection *c, int64_t now, int64_t margin);
void beanstalk_accept(struct beanstalk *front);
void beanstalk_check_drained(struct beanstalk *front);

/* ---- beanstalk_connection.c --------------------------------------------------------------- */

void beanstalk_connection_new(struct beanstalk *front, int fd);
void beanstalk_connection_close(struct beanstalk_connection *c); /* within its own callbacks */
void beanstalk_connection_end(
	struct beanstalk_connection *c); /* from elsewhere: freed if nothing is pending */
void beanstalk_reply(struct beanstalk_connection *c, const char *bytes, size_t len);
#define BEANSTALK_REPLY(c, literal) beanstalk_reply(c, literal "\r\n", sizeof(literal "\r\n") - 1)
/* NULL: the connection has failed. */
char *beanstalk_reply_room(struct beanstalk_connection *c, size_t len);
struct beanstalk_op *beanstalk_op_new(struct beanstalk_connection *c, int kind, uint32_t count);
void beanstalk_op_start(struct beanstalk_op *op, wh_future future);
void beanstalk_op_abandon(struct beanstalk_op *op); /* that was made and not started */

/* Something that the connection waited for has ended, in a callback of its own: go on, or end. */
void beanstalk_resume(struct beanstalk_connection *c);

/* ---- beanstalk_large.c -------------------------------------------------------------------- */

/* A put over BEANSTALK_LARGE_BYTES begins; its bytes are given to beanstalk_large_take(). false: the connection has failed. */
bool beanstalk_large_put(struct beanstalk_connection *c, const struct beanstalk_command *put);
size_t beanstalk_large_take(struct beanstalk_connection *c, const char *data, size_t len); /* bytes used */
bool beanstalk_large_received(const struct beanstalk_connection *c); /* nothing more of its peer is needed */
/* Answer with a job whose body is in a file; leased: of a reservation, else NULL. Nothing else is answered meanwhile. */
void beanstalk_large_reply(struct beanstalk_connection *c, struct store_bytes *bytes,
                           const struct store_leased *leased);
void beanstalk_large_go_on(struct beanstalk_connection *c);
void beanstalk_large_close(struct beanstalk_connection *c);

/* ---- beanstalk_commands.c ----------------------------------------------------------------- */

/* Carry out a command that is not a put and not one of those gathered. */
void beanstalk_command(struct beanstalk_connection *c, const struct beanstalk_command *command);
void beanstalk_put(struct beanstalk_connection *c, const struct beanstalk_command *put, uint32_t count);
/* The same for one put whose body has been taken by the store. */
void beanstalk_put_body(struct beanstalk_connection *c, const struct beanstalk_command *put,
                        struct store_body *body);
/* What the store refused for a reason that is not the client's. */
void beanstalk_reply_failure(struct beanstalk_connection *c, int64_t error);
/* One action for a command on a job, into the front's actions[at]. */
void beanstalk_action(struct beanstalk_connection *c, const struct beanstalk_command *command, uint32_t at);
void beanstalk_apply(struct beanstalk_connection *c, int kind, uint32_t count);
void beanstalk_reserve(struct beanstalk_connection *c);
/* Is there such a job, as far as beanstalkd's clients are concerned? */
bool beanstalk_job_shown(const struct beanstalk *front, uint64_t job);
/* op is done and its turn has come: answer it. */
void beanstalk_answer(struct beanstalk_connection *c, struct beanstalk_op *op);
/* Its connection is gone: free what it brought. */
void beanstalk_answer_nobody(struct beanstalk *front, struct beanstalk_op *op);

/* ---- beanstalk_stats.c -------------------------------------------------------------------- */

/* Does the queue count as a tube although nobody uses it? */
bool beanstalk_queue_shown(const struct store_queue_view *view);
void beanstalk_stats(struct beanstalk_connection *c);
void beanstalk_stats_job(struct beanstalk_connection *c, uint64_t job);
void beanstalk_stats_tube(struct beanstalk_connection *c, const char *name, size_t len);
void beanstalk_list_tubes(struct beanstalk_connection *c);
void beanstalk_list_watched(struct beanstalk_connection *c);
void beanstalk_stats_answer(struct beanstalk_connection *c, struct beanstalk_op *op);

#endif
