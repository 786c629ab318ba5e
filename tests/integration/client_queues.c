/* tests/integration/client_queues.c -- queues, services and topics, by the C client against the real server. */
#include "client_calls.h"

/* ---- queues -------------------------------------------------------------------------------- */

static void many_jobs(void **state)
{
	uint64_t ids[6];
	struct wh_many some = {.state = "ready", .error = "\"bro & ken\""},
		       move = {.ids = ids, .id_count = 2};
	char other[64];

	(void)state;
	snprintf(other, sizeof(other), "%.40s.other", queue);
	for (int i = 0; i < 6; i++)
		ids[i] = submit("x", NULL);
	for (int i = 0; i < 3; i++)
		NEED(wh_client_fail(client, lease_one(), i ? "\"bro & ken\"" : "else", WH_RETRY_NEVER, &how),
		     WH_JOB_FAILED);
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 0);
	some.state = "failed";
	NEED(wh_client_many(client, queue, WH_MANY_REPLAY, &some, &how), 2);
	assert_true(receipt.position.lsn > 0);
	NEED(wh_client_many(client, queue, WH_MANY_REPLAY, NULL, &how), 1);
	NEED(wh_client_many(client, queue, WH_MANY_MOVE, &move, &how), -WH_ECALL_REFUSED);
	move.to = other;
	NEED(wh_client_many(client, queue, WH_MANY_MOVE, &move, &how), 2);
	some = (struct wh_many){.from = ids[2], .until = ids[4], .count = 2, .newer_ns = 3600 * S};
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 2);
	some = (struct wh_many){.older_ns = 3600 * S};
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 0);
	some = (struct wh_many){.dead = true};
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 0);
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, NULL, &how), 2);
	NEED(wh_client_many(client, queue, WH_MANY_KICK, NULL, &how), 0);
	NEED(wh_client_many(client, "nowhere", WH_MANY_KICK, NULL, &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_many(client, queue, 7, NULL, &how), -EINVAL);
	NEED(wh_client_many(client, "", WH_MANY_KICK, NULL, &how), -EINVAL);
}

static void queues(void **state)
{
	struct wh_queue_settings settings = {
		.time_to_run_ns = 90 * S, .attempts = 4, .retention_ns = 7200 * S, .jobs_max = 2};
	struct wh_payload payload = bytes_of("x");
	struct wh_queues *list;
	uint64_t job;
	bool found = false;

	(void)state;
	NEED(wh_client_queue_put(client, queue, &settings, &how), 1);
	NEED(wh_client_queue_put(client, queue, &settings, &how), 0);
	job = submit("x", NULL);
	submit("x", NULL);
	NEED(wh_client_submit(client, queue, &payload, NULL, &how), -WH_ECALL_QUEUE_FULL);
	assert_int_equal(problem.limit, 2);
	assert_int_equal(problem.status, 429);
	assert_true(problem.retry_after_ns > 0);
	list = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	assert_string_equal(list->queues[0].name, queue);
	assert_int_equal(list->queues[0].jobs[WH_JOB_READY], 2);
	assert_int_equal(list->queues[0].submitted, 2);
	assert_false(list->queues[0].paused);
	assert_int_equal(list->queues[0].settings.time_to_run_ns, 90 * S);
	assert_int_equal(list->queues[0].settings.attempts, 4);
	assert_int_equal(list->queues[0].settings.retention_ns, 7200 * S);
	assert_int_equal(list->queues[0].settings.jobs_max, 2);
	wh_queues_free(list);
	NEED(wh_client_queue_pause(client, queue, &how), 0);
	NEED(wh_client_reserve(client, queue, 1, 0, &how), 0);
	list = wh_await(wh_client_queues(client, NULL, &how)).ptr;
	assert_non_null(list);
	for (size_t i = 0; i < list->count; i++)
		found |= !strcmp(list->queues[i].name, queue) && list->queues[i].paused;
	assert_true(found);
	wh_queues_free(list);
	NEED(wh_client_queue_resume(client, queue, &how), 0);
	NEED(wh_client_queue_delete(client, queue, &how), -WH_ECALL_QUEUE_NOT_EMPTY);
	NEED(wh_client_cancel(client, job, &how), WH_JOB_CANCELLED);
	NEED(wh_client_complete(client, lease_one(), 0, NULL, &how), 0);
	NEED(wh_client_queue_put(client, queue, NULL, &how), 0);
	list = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	assert_int_equal(list->queues[0].settings.jobs_max, 0);
	wh_queues_free(list);
	NEED(wh_client_queue_delete(client, queue, &how), 0);
	NEED(wh_client_queues(client, "nothing", &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_delete(client, "nothing", &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_pause(client, "nothing", &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_put(client, "", NULL, &how), -EINVAL);
	settings.attempts = 2000;
	NEED(wh_client_queue_put(client, queue, &settings, &how), -WH_ECALL_BAD_VALUE);
}

/* ---- services ------------------------------------------------------------------------------ */

static void backend_later(wh_loop *l, wh_res res, void *arg)
{
	(void)l, (void)res;
	wh_http_respond(arg, 200, "late", 4);
}

static void backend(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x), body = wh_http_body(x);

	(void)arg;
	if (equals(path, "/base/slow")) {
		wh_then(wh_sleep(loop, 1500 * MS), backend_later, x);
	} else if (equals(path, "/base/none")) {
		wh_http_problem(x, 404, "not here");
	} else if (equals(path, "/base/broken")) {
		wh_http_abort(x);
	} else {
		(void)wh_http_set(x, "Content-Type", "text/echo");
		(void)wh_http_set_slice(x, (struct wh_slice){"X-Method", 8}, wh_http_method_token(x));
		(void)wh_http_set_slice(x, (struct wh_slice){"X-Own", 5}, wh_http_header(x, "X-Own"));
		wh_http_respond(x, 203, body.data, body.len);
	}
}

static wh_http_server *open_backend(char *url, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wh_http_server_options options = {.on_request = backend};
	socklen_t len = sizeof(address);
	wh_http_server *http;
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);

	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(url, size, "http://127.0.0.1:%u/base", ntohs(address.sin_port));
	assert_int_equal(wh_http_server_open(loop, &options, &http), 0);
	assert_int_equal(wh_http_server_listen(http, fd), 0);
	return http;
}

static void passes_through(const char *service)
{
	struct wh_http_field own = {{"X-Own", 5}, {"mine", 4}};
	struct wh_service_call call = {
		.service = service, .path = "echo?a=b", .fields = &own, .field_count = 1};
	struct wh_result *result;

	call.body = bytes_of("hello");
	result = NEED_PTR(wh_client_call(client, &call, &how), 203);
	assert_true(equals(result->body, "hello") && equals(result->type, "text/echo"));
	assert_int_equal(result->job, 0);
	wh_result_free(result);
	call.method = "DELETE";
	call.body = (struct wh_payload){0};
	result = NEED_PTR(wh_client_call(client, &call, &how), 203);
	for (size_t i = 0, found = 0; i <= result->field_count; i++) {
		if (i == result->field_count)
			assert_int_equal(found, 2);
		else
			found += equals(result->fields[i].value, "DELETE") ||
			         equals(result->fields[i].value, "mine");
	}
	wh_result_free(result);
	call.method = "FETCH";
	NEED(wh_client_call(client, &call, &how), -EINVAL);
	call.method = NULL;
	call.path = "/none";
	wh_result_free(NEED_PTR(wh_client_call(client, &call, &how), 404)); /* the service's own */
	call.path = "/broken";
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_BACKEND);
}

static void recorded(const char *service)
{
	struct wh_service_call call = {.service = service, .path = "/echo", .respond_async = true};
	struct wh_result *result;
	uint64_t first = 0;

	call.body = bytes_of("later");
	result = NEED_PTR(wh_client_call(client, &call, &how), 202);
	assert_true(result->accepted && result->job > 0 && receipt.job == result->job);
	wh_result_free(NEED_PTR(wh_client_result(client, result->job, 20 * S, &how), 203));
	wh_result_free(result);
	call.respond_async = false;
	call.wait_ns = 20 * S;
	result = NEED_PTR(wh_client_call(client, &call, &how), 203);
	assert_true(!result->accepted && result->job > 0 && equals(result->body, "later"));
	wh_result_free(result);
	for (int i = 0; i < 2; i++) {
		struct wh_how once = {.problem = &problem, .key = "call"};

		result = NEED_PTR(wh_client_call(client, &call, &once), 203);
		assert_true(i == 0 || result->job == first);
		first = result->job;
		wh_result_free(result);
	}
	call.path = "/slow";
	call.wait_ns = MS; /* at least a second, which is not enough */
	result = NEED_PTR(wh_client_call(client, &call, &how), 202);
	assert_true(result->accepted && result->job > 0);
	wh_result_free(NEED_PTR(wh_client_result(client, result->job, 20 * S, &how), 200));
	wh_result_free(result);
}

static void services(void **state)
{
	struct wh_service_settings settings = {.concurrency = 3, .attempts = 1, .timeout_ns = 30 * S};
	struct wh_service_call call = {.service = "nobody", .path = "/"};
	char url[64], service[40];
	wh_http_server *http = open_backend(url, sizeof(url));

	(void)state;
	snprintf(service, sizeof(service), "s%s", queue + 2);
	settings.url = url;
	NEED(wh_client_service_put(client, service, &settings, &how), 1);
	NEED(wh_client_service_put(client, service, &settings, &how), 0);
	passes_through(service);
	recorded(service);
	wh_http_server_close(http);
	call.service = service;
	call.method = "POST";
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_BACKEND);
	assert_int_equal(strncmp(problem.code, "backend-", 8),
	                 0); /* refused, or a kept connection that has ended */
	call.wait_ns = 20 * S;
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_JOB_FAILED);
	assert_true(problem.job > 0 && problem.job == receipt.job);
	NEED(wh_client_service_delete(client, service, &how), 0);
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_UNKNOWN_SERVICE);
	NEED(wh_client_service_delete(client, service, &how), -WH_ECALL_UNKNOWN_SERVICE);
	settings.url = "ftp://x";
	NEED(wh_client_service_put(client, service, &settings, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_service_put(client, service, NULL, &how), -EINVAL);
}

/* ---- topics -------------------------------------------------------------------------------- */

static bool has_field(const struct wh_leased *job, const char *name, const char *value)
{
	for (size_t i = 0; i < job->field_count; i++) {
		if (wh_slice_equal_caseless(job->fields[i].name, name))
			return equals(job->fields[i].value, value);
	}
	return false;
}

/* ---- schedules ----------------------------------------------------------------------------- */

static void schedules(void **state)
{
	static const struct wh_schedule_field fields[] = {{"X-Report", "daily, \"all\""}, {"X-Empty", ""}};
	struct wh_schedule_settings settings = {.cron = "30 4 * * mon-fri",
	                                        .time_zone = "UTC",
	                                        .missed = WH_MISSED_ALL,
	                                        .missed_max = 7,
	                                        .queue = queue,
	                                        .payload = bytes_of("daily"),
	                                        .options = {.group = "g", .attempts = 2},
	                                        .field_count = 2,
	                                        .fields = fields};
	char quick[48];
	struct wh_schedules *list;
	struct wh_leases *leases;
	int64_t due = 0;

	(void)state;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), 1);
	NEED(wh_client_schedule_put(client, queue, &settings, &how), 0);
	list = NEED_PTR(wh_client_schedules(client, queue, &how), 1);
	assert_true(strcmp(list->schedules->name, queue) == 0 && strcmp(list->schedules->queue, queue) == 0);
	assert_true(strcmp(list->schedules->cron, settings.cron) == 0 &&
	            strcmp(list->schedules->time_zone, "UTC") == 0 && list->schedules->every_ns == 0);
	assert_true(list->schedules->missed == WH_MISSED_ALL && list->schedules->missed_max == 7 &&
	            !list->schedules->paused && !list->schedules->error);
	assert_true(list->schedules->next_count == 5 && list->schedules->last_at == 0);
	for (int i = 0; i < 5; i++) {
		assert_true(list->schedules->next[i] > due);
		due = list->schedules->next[i];
	}
	wh_schedules_free(list);
	NEED(wh_client_schedule_pause(client, queue, &how), 0);
	list = NEED_PTR(wh_client_schedules(client, queue, &how), 1);
	assert_true(list->schedules->paused && list->schedules->next_count == 0);
	assert_true(strcmp(list->schedules->cron, settings.cron) == 0 && list->schedules->missed_max == 7);
	assert_non_null(strstr(list->json, "\"group\":\"g\""));
	wh_schedules_free(list);
	NEED(wh_client_schedule_resume(client, queue, &how), 0);
	/* another one, which runs: its job is what was said */
	settings.cron = settings.time_zone = NULL;
	settings.every_ns = S;
	settings.missed = WH_MISSED_ONCE;
	settings.missed_max = 0;
	snprintf(quick, sizeof(quick), "quick-%s", queue);
	NEED(wh_client_schedule_put(client, quick, &settings, &how), 1);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 60 * S, &how), 1);
	assert_true(equals(leases->jobs[0].payload, "daily") && leases->jobs[0].attempt == 1);
	assert_true(has_field(&leases->jobs[0], "Whilst-Schedule", quick) &&
	            has_field(&leases->jobs[0], "X-Report", "daily, \"all\"") &&
	            has_field(&leases->jobs[0], "X-Empty", ""));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	NEED(wh_client_schedule_pause(client, quick, &how), 0);
	list = NEED_PTR(wh_client_schedules(client, NULL, &how), 2);
	for (size_t i = 0; i < list->count; i++) {
		const struct wh_schedule *s = &list->schedules[i];

		assert_true(s->paused == (strcmp(s->name, quick) == 0));
		assert_true(!s->paused || (s->every_ns == S && !s->cron && s->runs > 0 && s->last_at > 0 &&
		                           s->last_due > 0 && s->last_job > 0));
	}
	wh_schedules_free(list);
	NEED(wh_client_schedule_delete(client, quick, &how), 0);
	NEED(wh_client_schedule_delete(client, queue, &how), 0);
	wh_schedules_free(NEED_PTR(wh_client_schedules(client, NULL, &how), 0));
}

static void schedule_that_publishes(void **state)
{
	static const struct wh_event_attribute attributes[] = {{"region", "50% \"eu\""}, {"n", "7"}};
	struct wh_subscription to = {.queue = queue};
	struct wh_event event = {.type = "day.over",
	                         .source = "/office",
	                         .subject = "today",
	                         .attribute_count = 2,
	                         .attributes = attributes,
	                         .data = bytes_of("data")};
	struct wh_schedule_settings settings = {
		.every_ns = S, .missed = WH_MISSED_ALL, .topic = queue, .event = &event};
	struct wh_schedules *list;
	struct wh_leases *leases;
	char id[80];

	(void)state;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -WH_ECALL_UNKNOWN_TOPIC);
	NEED(wh_client_subscribe(client, queue, "s", &to, &how), 1);
	NEED(wh_client_schedule_put(client, queue, &settings, &how), 1);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 60 * S, &how), 1);
	assert_true(equals(leases->jobs[0].payload, "data"));
	assert_true(has_field(&leases->jobs[0], "ce-type", "day.over") &&
	            has_field(&leases->jobs[0], "ce-source", "/office") &&
	            has_field(&leases->jobs[0], "ce-subject", "today") &&
	            has_field(&leases->jobs[0], "ce-region", "50%25%20%22eu%22") &&
	            has_field(&leases->jobs[0], "ce-n", "7"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	NEED(wh_client_schedule_pause(client, queue, &how), 0);
	list = NEED_PTR(wh_client_schedules(client, queue, &how), 1);
	assert_true(list->schedules->paused && !list->schedules->queue && !list->schedules->error);
	assert_string_equal(list->schedules->topic, queue);
	assert_true(list->schedules->last_job == 0 && list->schedules->last_event.epoch > 0 &&
	            list->schedules->last_event.lsn > 0 && list->schedules->last_jobs == 1 &&
	            !list->schedules->last_duplicate);
	snprintf(id, sizeof(id), "\"id\":\"%s/", queue);
	assert_non_null(strstr(list->json, id));
	wh_schedules_free(list);
	/* nothing but where */
	settings.event = NULL;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), 0);
	NEED(wh_client_schedule_delete(client, queue, &how), 0);
}

/* ---- keys of events -------------------------------------------------------------------------- */

static void event_keys(void **state)
{
	static const struct wh_event_attribute tenant[] = {{"tenant", "a"}};
	struct wh_event event = {.id = "1",
	                         .source = "/shop",
	                         .type = "t",
	                         .attributes = tenant,
	                         .attribute_count = 1,
	                         .data = bytes_of("x")};
	struct wh_subscription one = {
		.queue = queue, .group = "tenant", .unique = "subject", .unique_while_ns = WH_UNIQUE_QUEUED};
	struct wh_topic_settings kept = {.retention_ns = 60 * S, .deduplicate_ns = 61 * S};
	struct wh_action publish[2] = {{.kind = WH_ACTION_PUBLISH, .event = &event},
	                               {.kind = WH_ACTION_PUBLISH, .event = &event}};
	struct wh_transaction *done;
	struct wh_leases *leases;
	char topic[40];

	(void)state;
	snprintf(topic, sizeof(topic), "keys-%s", queue);
	publish[0].queue = publish[1].queue = topic;
	NEED(wh_client_topic_put(client, topic, &kept, &how), -WH_ECALL_BAD_VALUE);
	kept.deduplicate_ns = 60 * S;
	NEED(wh_client_topic_put(client, topic, &kept, &how), 1);
	one.group = "No Attribute";
	NEED(wh_client_subscribe(client, topic, "one", &one, &how), -WH_ECALL_BAD_VALUE);
	one.group = "tenant";
	NEED(wh_client_subscribe(client, topic, "one", &one, &how), 1);
	NEED(wh_client_publish(client, topic, &event, &how), 1);
	assert_false(receipt.duplicate);
	NEED(wh_client_publish(client, topic, &event, &how), 0);
	assert_true(receipt.duplicate);
	event.id = "2"; /* the same event twice in one commit, and of a group that waits */
	done = NEED_PTR(wh_client_transact(client, publish, 2, &how), 2);
	assert_true(done->results[0].jobs == 1 && !done->results[0].duplicate);
	assert_true(done->results[1].jobs == 0 && done->results[1].duplicate);
	assert_true(done->results[0].event.lsn == done->results[1].event.lsn &&
	            done->results[0].event.epoch == done->results[1].event.epoch);
	wh_transaction_free(done);
	leases = NEED_PTR(wh_client_reserve(client, queue, 10, 20 * S, &how), 1);
	assert_true(has_field(&leases->jobs[0], "ce-id", "1"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	leases = NEED_PTR(wh_client_reserve(client, queue, 10, 20 * S, &how), 1);
	assert_true(has_field(&leases->jobs[0], "ce-id", "2"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	/* one job for a subject, for as long as none is begun; or for a time */
	event.subject = "s";
	event.id = "3";
	NEED(wh_client_publish(client, topic, &event, &how), 1);
	event.id = "4";
	NEED(wh_client_publish(client, topic, &event, &how), 0);
	assert_false(receipt.duplicate);
	one.unique_while_ns = 60 * S;
	NEED(wh_client_subscribe(client, topic, "one", &one, &how), 0);
	one.unique_while_ns = WH_UNIQUE_ACTIVE;
	NEED(wh_client_subscribe(client, topic, "one", &one, &how), 0);
	NEED(wh_client_unsubscribe(client, topic, "one", &how), 0);
}

static void events(void **state)
{
	static const struct wh_event_attribute more[] = {{"region", "\xc3\xa9 \"u\" 100%"}, {"n", ""}};
	static const struct wh_event_attribute odd[] = {{"A", "x"}, {"b", "c"}};
	struct wh_event event = {.type = "order.placed", .data = bytes_of("seventeen")}, bad;
	struct wh_subscription subscription = {.filters = "[{\"prefix\":{\"type\":\"order.\"}}]"};
	struct wh_topic_settings kept = {.retention_ns = 3600 * S, .events_max = 1000};
	struct wh_how once = how;
	struct wh_leases *leases;
	char topic[40];

	(void)state;
	snprintf(topic, sizeof(topic), "topic-%s", queue);
	NEED(wh_client_publish(client, topic, &event, &how), -WH_ECALL_UNKNOWN_TOPIC);
	NEED(wh_client_topic_put(client, topic, &kept, &how), 1);
	kept.events_max = 0;
	NEED(wh_client_topic_put(client, topic, &kept, &how), 0);
	NEED(wh_client_publish(client, topic, &event, &how), 0);
	subscription.queue = queue;
	NEED(wh_client_subscribe(client, topic, "mail", &subscription, &how), 1);
	subscription.from = "beginning";
	NEED(wh_client_subscribe(client, topic, "mail", &subscription, &how), 0);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 20 * S, &how), 1);
	assert_true(has_field(&leases->jobs[0], "ce-type", "order.placed"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	event.id = "A 1";
	event.source = "/shop";
	event.subject = "order/17";
	event.time = INT64_C(1700000000) * S;
	event.attributes = more;
	event.attribute_count = 2;
	NEED(wh_client_publish(client, topic, &event, &how), 1);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 20 * S, &how), 1);
	assert_true(equals(leases->jobs[0].payload, "seventeen"));
	assert_true(has_field(&leases->jobs[0], "ce-id", "A%201") &&
	            has_field(&leases->jobs[0], "ce-source", "/shop") &&
	            has_field(&leases->jobs[0], "ce-subject", "order/17") &&
	            has_field(&leases->jobs[0], "ce-time", "2023-11-14T22:13:20.000Z") &&
	            has_field(&leases->jobs[0], "ce-region", "%C3%A9%20%22u%22%20100%25"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	once.key = topic;
	NEED(wh_client_publish(client, topic, &event, &once), 1);
	NEED(wh_client_publish(client, topic, &event, &once), 1);
	{
		struct wh_event bare = {.type = "order.b", .source = "/b", .data = bytes_of("x")};
		struct wh_action actions[3] = {
			{.kind = WH_ACTION_PUBLISH, .queue = topic, .event = &event},
			{.kind = WH_ACTION_SUBMIT, .queue = queue, .payload = bytes_of("y")},
			{.kind = WH_ACTION_PUBLISH, .queue = topic, .event = &bare}};
		struct wh_transaction *done = NEED_PTR(wh_client_transact(client, actions, 3, &how), 3);

		assert_true(done->results[0].jobs == 1 && done->results[2].jobs == 1);
		assert_true(done->results[2].event.lsn > done->results[0].event.lsn &&
		            done->results[0].event.epoch > 0);
		assert_true(done->results[1].job > 0 && done->results[1].state == WH_JOB_READY);
		wh_transaction_free(done);
		for (int i = 0; i < 4; i++) {
			leases = NEED_PTR(wh_client_reserve(client, queue, 1, 20 * S, &how), 1);
			assert_true(i != 1 || equals(leases->jobs[0].payload, "seventeen"));
			assert_true(i != 1 ||
			            has_field(&leases->jobs[0], "ce-region", "%C3%A9%20%22u%22%20100%25"));
			assert_true(i != 3 || has_field(&leases->jobs[0], "ce-source", "/b"));
			wh_leases_free(leases);
		}
		/* leased together they have their fields, too; what is no event has none */
		wh_transaction_free(NEED_PTR(wh_client_transact(client, actions, 3, &how), 3));
		leases = NEED_PTR(wh_client_reserve(client, queue, 3, 20 * S, &how), 3);
		assert_true(has_field(&leases->jobs[0], "ce-region", "%C3%A9%20%22u%22%20100%25") &&
		            has_field(&leases->jobs[0], "ce-id", "A%201") &&
		            equals(leases->jobs[0].payload, "seventeen"));
		assert_int_equal(leases->jobs[1].field_count, 0);
		assert_true(has_field(&leases->jobs[2], "ce-source", "/b") &&
		            equals(leases->jobs[2].payload, "x"));
		for (size_t i = 0; i < 3; i += 2) {
			const struct wh_leased *job = &leases->jobs[i];

			for (size_t k = 0; k < job->field_count; k++)
				assert_true(job->fields[k].name.data[job->fields[k].name.len] == 0);
			assert_true(job->fields[job->field_count - 1].value.len >= 3);
			assert_true(wh_slice_equal(job->fields[job->field_count - 1].name, "Whilst-Event"));
		}
		wh_leases_free(leases);
		bare.type = "other";
		wh_transaction_free(NEED_PTR(wh_client_transact(client, actions + 2, 1, &how), 1));
		actions[0].queue = "no-such-topic";
		NEED(wh_client_transact(client, actions, 1, &how), -WH_ECALL_UNKNOWN_TOPIC);
		assert_true(problem.action == 0 && strcmp(problem.code, "unknown-topic") == 0);
		for (int i = 0; i < 6; i++) {
			struct wh_event wrong = i % 2 ? event : bare;
			struct wh_action publish = {
				.kind = WH_ACTION_PUBLISH, .queue = topic, .event = &wrong};

			if (i == 0)
				wrong.time = 1;
			else if (i == 1)
				wrong.source = NULL;
			else if (i == 2)
				wrong.type = NULL;
			else if (i == 3)
				wrong.attributes = odd;
			else if (i == 4)
				publish.event = NULL;
			else
				publish.queue = "";
			NEED(wh_client_transact(client, &publish, 1, &how), -EINVAL);
		}
	}
	once.key = "a b";
	NEED(wh_client_publish(client, topic, &event, &once), -EINVAL);
	event.type = "item.sold";
	NEED(wh_client_publish(client, topic, &event, &how), 0);
	event.source = "not a uri";
	NEED(wh_client_publish(client, topic, &event, &how), -WH_ECALL_REFUSED);
	event.source = NULL;
	NEED(wh_client_publish(client, topic, &event, &how), -EINVAL);
	bad = (struct wh_event){.type = "a", .time = 1};
	NEED(wh_client_publish(client, topic, &bad, &how), -EINVAL);
	bad = (struct wh_event){.id = "1", .source = "/a"};
	NEED(wh_client_publish(client, topic, &bad, &how), -EINVAL);
	bad = (struct wh_event){.type = "a",
	                        .id = "1",
	                        .source = "/a",
	                        .attributes = (struct wh_event_attribute[]){{"A", "x"}},
	                        .attribute_count = 1};
	NEED(wh_client_publish(client, topic, &bad, &how), -EINVAL);
	NEED(wh_client_publish(client, topic, NULL, &how), -EINVAL);
	NEED(wh_client_subscribe(client, topic, "", NULL, &how), -EINVAL);
	subscription.filters = "[{\"sql\":\"x\"}]";
	NEED(wh_client_subscribe(client, topic, "mail", &subscription, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_unsubscribe(client, topic, "mail", &how), 0);
	NEED(wh_client_unsubscribe(client, topic, "mail", &how), -WH_ECALL_UNKNOWN_TOPIC);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(many_jobs), ONE(queues),     ONE(services), ONE(schedules), ONE(schedule_that_publishes),
		ONE(events),    ONE(event_keys),
	};

	return RUN_OVER_BOTH(tests);
}
