/* src/deliver/backend.h -- one address of a service: what is known of how it does, and whose turn it is.
 *
 * A backend is told of every call that is sent to it and how that went. Its circuit opens after so many calls in a row without
 * an answer: it gets none for a while, then a single one, the trial, which closes the circuit or opens it again. What it is worth
 * outlives a changed service: the new one goes on with the same backend if the URL is the same. Thread: loop.
 */
#ifndef WH_DELIVER_BACKEND_H
#define WH_DELIVER_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

enum { BACKEND_URL_BYTES_MAX = 2000, BACKENDS_MAX = 64 };

enum backend_state {
	BACKEND_UP,
	BACKEND_DOWN,  /* says its health check */
	BACKEND_OPEN,  /* its circuit is */
	BACKEND_TRIAL, /* its circuit is, and a call may find out, or is about to */
};

struct backend {
	uint32_t references;
	char *url;           /* as configured; NUL-terminated, like the next */
	char *base;          /* path that calls are appended to: "" or "/base" */
	char *authority;     /* "host:port" as it goes into Host */
	char *origin;        /* "http://host:port", "https://host:port" */
	const char *address; /* for the client: authority in the clear, which it finds fastest, else origin */
	/* now */
	uint32_t outstanding;
	uint32_t failures_row;  /* calls without an answer, one after the other */
	bool open, trial, down; /* trial: under way */
	int64_t open_until;     /* wh_now(): no call before, if .open */
	uint32_t checks_row;    /* health checks in a row that say otherwise than .down */
	bool checking;
	/* since it was first named */
	uint64_t calls, failures, circuits_opened, checks, checks_failed;
	int64_t last_error; /* of the last call without an answer: negative; or the status that counted as none */
};

/* backend_new() - from its URL: one reference, or NULL with a sentence in detail ("": no memory). */
struct backend *backend_new(const char *url, char *detail, size_t detail_len);
struct backend *backend_ref(struct backend *backend);
struct backend *backend_unref(struct backend *backend); /* NULL; accepts NULL */

enum backend_state backend_state(const struct backend *backend, int64_t now);
const char *backend_state_name(enum backend_state state); /* "up" */

/* How circuits open. */
struct breaker {
	uint32_t failures; /* in a row; 0: never */
	int64_t open_ns;
};

/* backend_choose() - of count backends, the one that the next call goes to: a due trial first, else that with fewest calls under way,
 * in turn where several are equal. tried: one bit each for those that are out of question. -1: none. */
int backend_choose(struct backend *const *backends, size_t count, uint64_t tried, uint32_t *turn,
                   int64_t now);

/* backend_room() - how many calls may be begun now: as many as one likes, or one for each due trial. *ret_at: 0, or when to look again,
 * INT64_MAX: when something changes. */
uint32_t backend_room(struct backend *const *backends, size_t count, int64_t now, int64_t *ret_at);

/* A call at a backend, from backend_begin() to backend_end(). */
struct backend_call {
	struct backend *backend; /* NULL: none */
	bool trial;              /* and how it goes is not known yet */
	bool was_trial;
};
void backend_begin(struct backend_call *call, struct backend *backend);
/* backend_answered() - it answers. backend_failed() - it gave no answer, broke off, or answered with what counts as none; error:
 * negative, or that status. */
void backend_answered(struct backend_call *call);
void backend_failed(struct backend_call *call, const struct breaker *breaker, int64_t error, int64_t now);
void backend_end(struct backend_call *call); /* accepts one that has ended */

/* backend_checked() - a health check has gone so. healthy, unhealthy: how many in a row change what is thought of it. true: changed. */
bool backend_checked(struct backend *backend, bool good, uint32_t healthy, uint32_t unhealthy);

#endif
