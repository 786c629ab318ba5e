/* src/front/routes.c -- which handler a method and a path belong to.
 *
 * The table is the whole surface but for /call/, in the order of how often it is asked for; openapi.json describes every row
 * (tests/integration/test_openapi_routes.py compares them). Thread: any; read only.
 */
#include <string.h>

#include "front/api.h"
#include "front/transaction.h"

static const struct route routes[] = {
	{WH_HTTP_POST, "v1/queues/{}/jobs", ROUTE_QUEUE, api_submit, 0, TOKEN_SUBMIT, REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/reserve", ROUTE_QUEUE, api_reserve, API_CONFIG_BODY_MAX, TOKEN_WORK,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/complete", ROUTE_JOB, api_complete, 0, TOKEN_WORK, REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/complete", ROUTE_QUEUE, api_complete_many, API_BATCH_BODY_MAX,
         TOKEN_WORK, REACH_WITHIN},
	{WH_HTTP_POST, "v1/transactions", ROUTE_NONE, api_transaction, TRANSACTION_BYTES_MAX, TOKEN_ANY,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/jobs/{}", ROUTE_JOB, api_job_get, API_CONFIG_BODY_MAX, TOKEN_READ, REACH_WITHIN},
	{WH_HTTP_GET, "v1/jobs/{}/result", ROUTE_JOB, api_job_result, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN, true},
	{WH_HTTP_GET, "v1/jobs/{}/payload", ROUTE_JOB, api_job_payload, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN, true},
	{WH_HTTP_DELETE, "v1/jobs/{}", ROUTE_JOB, api_job_cancel, API_CONFIG_BODY_MAX, TOKEN_SUBMIT,
         REACH_WITHIN},
	{WH_HTTP_PATCH, "v1/jobs/{}", ROUTE_JOB, api_job_edit, API_CONFIG_BODY_MAX, TOKEN_SUBMIT,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/fail", ROUTE_JOB, api_fail, API_TEXT_BODY_MAX, TOKEN_WORK, REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/release", ROUTE_JOB, api_release, API_CONFIG_BODY_MAX, TOKEN_WORK,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/extend", ROUTE_JOB, api_extend, API_CONFIG_BODY_MAX, TOKEN_WORK,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/progress", ROUTE_JOB, api_progress, JOB_PROGRESS_MAX, TOKEN_WORK,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/bury", ROUTE_JOB, api_bury, API_TEXT_BODY_MAX, TOKEN_WORK, REACH_WITHIN},
	{WH_HTTP_POST, "v1/jobs/{}/kick", ROUTE_JOB, api_job_kick, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/queues", ROUTE_NONE, api_queue_list, API_CONFIG_BODY_MAX, TOKEN_READ, REACH_WITHIN,
         true},
	{WH_HTTP_GET, "v1/queues/{}", ROUTE_QUEUE, api_queue_get, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/queues/{}/events", ROUTE_QUEUE, api_queue_events, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN},
	{WH_HTTP_PUT, "v1/queues/{}", ROUTE_QUEUE, api_queue_put, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_DELETE, "v1/queues/{}", ROUTE_QUEUE, api_queue_delete, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/pause", ROUTE_QUEUE, api_queue_pause, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/purge", ROUTE_QUEUE, api_queue_purge, API_IDS_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/kick", ROUTE_QUEUE, api_queue_kick, API_IDS_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/replay", ROUTE_QUEUE, api_queue_replay, API_IDS_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_POST, "v1/queues/{}/move", ROUTE_QUEUE, api_queue_move, API_IDS_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/queues/{}/jobs", ROUTE_QUEUE, api_queue_jobs, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN, true},
	{WH_HTTP_POST, "v1/queues/{}/resume", ROUTE_QUEUE, api_queue_resume, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/queues/{}/target", ROUTE_QUEUE, api_target_get, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_PUT, "v1/queues/{}/target", ROUTE_QUEUE, api_target_put, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_DELETE, "v1/queues/{}/target", ROUTE_QUEUE, api_target_delete, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_POST, "v1/topics/{}/events", ROUTE_TOPIC, api_publish, API_BATCH_BODY_MAX, TOKEN_PUBLISH,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/topics/{}/events", ROUTE_TOPIC, api_topic_stream, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/topics", ROUTE_NONE, api_topic_list, API_CONFIG_BODY_MAX, TOKEN_READ, REACH_WITHIN,
         true},
	{WH_HTTP_GET, "v1/topics/{}", ROUTE_TOPIC, api_topic_get, API_CONFIG_BODY_MAX, TOKEN_READ,
         REACH_WITHIN},
	{WH_HTTP_PUT, "v1/topics/{}", ROUTE_TOPIC, api_topic_put, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_DELETE, "v1/topics/{}", ROUTE_TOPIC, api_topic_delete, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_GET, "v1/topics/{}/subscriptions/{}", ROUTE_TOPIC, api_subscription_get, API_CONFIG_BODY_MAX,
         TOKEN_READ, REACH_WITHIN},
	{WH_HTTP_PUT, "v1/topics/{}/subscriptions/{}", ROUTE_TOPIC, api_subscription_put, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_DELETE, "v1/topics/{}/subscriptions/{}", ROUTE_TOPIC, api_subscription_delete,
         API_CONFIG_BODY_MAX, TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_POST, "v1/topics/{}/subscriptions/{}/replay", ROUTE_TOPIC, api_subscription_replay,
         API_CONFIG_BODY_MAX, TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_GET, "v1/schedules", ROUTE_NONE, api_schedule_list, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN, true},
	{WH_HTTP_GET, "v1/schedules/{}", ROUTE_SCHEDULE, api_schedule_get, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_PUT, "v1/schedules/{}", ROUTE_SCHEDULE, api_schedule_put, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_DELETE, "v1/schedules/{}", ROUTE_SCHEDULE, api_schedule_delete, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_POST, "v1/schedules/{}/pause", ROUTE_SCHEDULE, api_schedule_pause, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_POST, "v1/schedules/{}/resume", ROUTE_SCHEDULE, api_schedule_resume, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_POST, "v1/schedules/{}/run", ROUTE_SCHEDULE, api_schedule_run, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_WITHIN},
	{WH_HTTP_GET, "v1/services", ROUTE_NONE, api_service_list, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN, true},
	{WH_HTTP_GET, "v1/services/{}", ROUTE_SERVICE, api_service_get, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_WITHIN},
	{WH_HTTP_PUT, "v1/services/{}", ROUTE_SERVICE, api_service_put, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_ALL},
	{WH_HTTP_DELETE, "v1/services/{}", ROUTE_SERVICE, api_service_delete, API_CONFIG_BODY_MAX,
         TOKEN_ADMIN, REACH_ALL},
	{WH_HTTP_GET, "v1/log", ROUTE_NONE, api_log_get, API_CONFIG_BODY_MAX, TOKEN_ANY, REACH_NOTHING},
	{WH_HTTP_GET, "v1/log/backup", ROUTE_NONE, api_log_backup, API_CONFIG_BODY_MAX, TOKEN_ADMIN,
         REACH_ALL},
	{WH_HTTP_GET, "livez", ROUTE_NONE, api_live, API_CONFIG_BODY_MAX, TOKEN_OPEN, REACH_NOTHING},
	{WH_HTTP_GET, "readyz", ROUTE_NONE, api_ready, API_CONFIG_BODY_MAX, TOKEN_OPEN, REACH_NOTHING},
	{WH_HTTP_GET, "metrics", ROUTE_NONE, api_metrics, API_CONFIG_BODY_MAX, TOKEN_METRICS, REACH_ALL,
         true},
	{WH_HTTP_GET, "openapi.json", ROUTE_NONE, api_openapi, API_CONFIG_BODY_MAX, TOKEN_ANY, REACH_NOTHING},
	{WH_HTTP_GET, "", ROUTE_NONE, api_index, API_CONFIG_BODY_MAX, TOKEN_ANY, REACH_NOTHING},
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static bool matches(const char *path, const struct target *target)
{
	unsigned i = 0;

	for (;; i++) {
		size_t len = strcspn(path, "/");
		if (i == target->segments_count)
			return false;
		if (!(len == 2 && path[0] == '{') &&
		    (len != target->segments[i].len || memcmp(path, target->segments[i].data, len) != 0))
			return false;
		if (path[len] == 0)
			return i + 1 == target->segments_count;
		path += len + 1;
	}
}

const struct route *route_find(const struct target *target, enum wh_http_method method, unsigned *ret_methods)
{
	/* HEAD is GET whose body is not sent */
	enum wh_http_method as = method == WH_HTTP_HEAD ? WH_HTTP_GET : method;
	unsigned methods = 0;

	if (target->segments_count > TARGET_SEGMENTS_MAX)
		target = NULL;
	for (size_t i = 0; target && i < ROUTES; i++) {
		if (!matches(routes[i].path, target))
			continue;
		if (routes[i].method == as)
			return &routes[i];
		methods |= 1u << routes[i].method;
		if (routes[i].method == WH_HTTP_GET)
			methods |= 1u << WH_HTTP_HEAD;
	}
	*ret_methods = methods;
	return NULL;
}
