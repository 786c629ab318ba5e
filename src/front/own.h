/* src/front/own.h -- queues that the server itself fills: what may not be done to them. Thread: the loop of the store. */
#ifndef WH_FRONT_OWN_H
#define WH_FRONT_OWN_H

#include "front/api.h"

enum own_use { OWN_REMOVE, OWN_CONFIGURE, OWN_PAUSE, OWN_JOBS };

/* own_refused() - is the request's queue one to which this is not done? true: refused and answered. */
bool own_refused(struct request *request, enum own_use use);
/* own_is_promise() - is it the queue of callbacks that wait for the end of their job? */
bool own_is_promise(const char *queue, size_t len);

#endif
