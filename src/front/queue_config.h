/* src/front/queue_config.h -- the configuration of a queue as JSON, in requests and answers. Used by: src/front. */
#ifndef FRONT_QUEUE_CONFIG_H
#define FRONT_QUEUE_CONFIG_H

#include "front/api.h"

struct queue_config {
	struct job_queue_config config;
	char dead_letter[JOB_NAME_MAX]; /* name of a queue */
	size_t dead_letter_len;         /* 0: none */
};

/* queue_config_read() - from the body of a request; false: refused and answered. */
bool queue_config_read(struct request *request, struct queue_config *ret);

/* queue_config_put() - the members of a queue that it is configured by, a comma before each, as a client of this namespace is told them. */
void queue_config_put(struct wh__text *text, const struct store_queue_view *queue, struct wh_slice namespace);

#endif
