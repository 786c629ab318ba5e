/* src/front/own.c -- queues that the server itself fills: what is done to them by whoever may configure queues, and what is not.
 *
 * Submitting and reserving is refused where it happens (api_submit.c, api_reserve.c). callbacks/pending is a list of promises, which are called off one by
 * one; callbacks is the messages, which may be stopped, sent once more and thrown away; a queue of a service or a topic goes with it.
 * Thread: the loop of the store.
 */
#include <stdio.h>
#include <string.h>

#include "front/own.h"

static bool is(const char *name, size_t len, const char *wanted)
{
	return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

/* NAME of "call/NAME" in its namespace, as services are called; 0: it is no such queue. */
static size_t name_behind(const char *queue, size_t len, const char *prefix, char name[TARGET_NAME_BYTES_MAX])
{
	size_t skip = job_name_skip(queue, len), prefix_len = strlen(prefix);

	if (len <= skip + prefix_len || memcmp(queue + skip, prefix, prefix_len) != 0)
		return 0;
	memcpy(name, queue, skip);
	memcpy(name + skip, queue + skip + prefix_len, len - skip - prefix_len);
	return len - prefix_len;
}

static bool refuse(struct request *request, const char *why)
{
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL, "queue '%.*s': %s", SHOWN(request),
	               why);
	return true;
}

bool own_is_promise(const char *queue, size_t len)
{
	return is(queue, len, CALLBACKS_PENDING);
}

bool own_refused(struct request *request, enum own_use use)
{
	const char *queue = request->name;
	size_t len = request->name_len, name_len;
	char name[TARGET_NAME_BYTES_MAX];
	struct topic *topic;

	if (!service_owns_queue(queue, len))
		return false;
	if (own_is_promise(queue, len))
		return refuse(request, "what waits there is promised to those who asked to be called back: "
		                       "the server keeps it; DELETE /v1/jobs/{id} calls one off");
	name_len = name_behind(queue, len, SERVICE_QUEUE_PREFIX, name);
	if (name_len > 0) {
		if (use == OWN_REMOVE && service_find(&request->api->services, name, name_len))
			return refuse(request, "it is that of a service: DELETE /v1/services/{name} first");
		return false;
	}
	name_len = name_behind(queue, len, TOPIC_QUEUE_PREFIX, name);
	topic = name_len > 0 ? topic_find(&request->api->topics, name, name_len) : NULL;
	if (name_len > 0) {
		if (use == OWN_CONFIGURE)
			return refuse(request,
			              "PUT /v1/topics/{topic} says how long and how many events are kept");
		if (use == OWN_REMOVE && topic && topic_is_there(topic))
			return refuse(request, "it is that of a topic: DELETE /v1/topics/{topic} first");
		return false;
	}
	if (use == OWN_REMOVE || use == OWN_CONFIGURE)
		return refuse(request,
		              "callbacks, and what begins with callbacks/, are the server's own; they can be "
		              "paused, kicked and purged");
	return false;
}
