/* src/front/beanstalk.h -- the beanstalkd protocol over the store: what serve opens, drains and closes.
 *
 * A tube is a queue. docs/reference/beanstalk.md is the protocol, docs/migrate-from-beanstalkd.md what differs.
 * Thread: the loop of the store.
 */
#ifndef WH_FRONT_BEANSTALK_H
#define WH_FRONT_BEANSTALK_H

#include "front/front.h"

struct beanstalk;

struct beanstalk_options {
	int level;              /* of what changes jobs: STORE_LOCAL, STORE_ASYNC */
	uint32_t job_bytes_max; /* larger bodies: JOB_TOO_BIG */
	uint32_t connections_max;
	int64_t retention_ns; /* of jobs put here, once deleted; 0: none */
	front_event_function *event;
	void *event_arg;
};

/* beanstalk_open() - without listeners. store is borrowed until beanstalk_close(). Result 0 or -errno. Synchronous: awaits
 * what the system says of the host, so outside callbacks. */
int beanstalk_open(wh_loop *loop, struct store *store, const struct beanstalk_options *options,
                   struct beanstalk **ret);

/* beanstalk_listen() - takes fd. */
int beanstalk_listen(struct beanstalk *front, int fd);

/* beanstalk_refuse_puts() - drain mode: every put is answered DRAINING from now on. */
void beanstalk_refuse_puts(struct beanstalk *front);

/* beanstalk_drain() - stop accepting, let what the store is doing be answered, then close connections; their
 * reserved jobs go back. n = 0 once none is left; at the instant until (wh_now()) they are closed anyway. */
wh_future beanstalk_drain(struct beanstalk *front, int64_t until);

/* beanstalk_close() - end everything at once; before store_close(). The loop must still turn until nothing is pending
 * (wh_loop_close() does); then beanstalk_free(). */
void beanstalk_close(struct beanstalk *front);
void beanstalk_free(struct beanstalk *front);

#endif
