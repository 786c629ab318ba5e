/* src/front/after.h -- which jobs a new one is to run after, as clients say it.
 *
 * Used by: api_submit.c, upload.c, transaction.c, api_transaction.c, answer.c. Thread: the front's.
 */
#ifndef WH_FRONT_AFTER_H
#define WH_FRONT_AFTER_H

#include "base/text.h"
#include "store/store.h"
#include "whilst/http.h"

struct api;
struct once;

enum { AFTER_QUERY_MAX = 1000 }; /* ids in a query; a transaction may have JOB_AFTER_MAX */
struct after {
	size_t count;
	uint64_t ids[AFTER_QUERY_MAX];
};

/* after_read() - "12,13,17". false: it is not that, or there are too many. */
bool after_read(struct wh_slice text, struct after *ret);

/* after_failure() - "cancel", ... of an enum job_after_failure. after_failure_read(): and back; false: none of them. */
const char *after_failure(int failure);
bool after_failure_read(const char *text, size_t len, uint8_t *ret);

/* after_refused() - the first of the jobs that whoever sends x may not have others wait for, since there is none of that id, or since the token
 * may neither look at it nor hand it over nor work on it: so nobody learns which of these it is. 0: none is; or the server has no
 * tokens, and the store says what is not there; or what is asked for under this key (NULL: none) has been answered before. Judged in the turn in
 * which it is done. x may have been read whole, if it was retained. */
uint64_t after_refused(struct api *api, wh_http_exchange *x, struct store_slice after, struct once *once);

/* after_put() - what an awaiting job waits for, as JSON; null of any other. */
void after_put(struct wh__text *text, const struct store_view *view);

#endif
