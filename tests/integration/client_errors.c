/* tests/integration/client_errors.c -- every refusal that client.h names of a call, from the real server.
 *
 * What the header says of each is compared with what was given here and in the other programs of the client
 * (tests/conformance/errors_seen.py).
 */
#include "client_calls.h"

#define NOBODY ((UINT64_C(1) << 53) - 1)

static char large[2 << 20]; /* the server takes half of it */

static wh_future complete(struct wh_lease lease)
{
	return wh_client_complete(client, lease, 0, NULL, &how);
}

static wh_future give_up(struct wh_lease lease)
{
	return wh_client_fail(client, lease, "no", WH_RETRY_NEVER, &how);
}

static wh_future release(struct wh_lease lease)
{
	return wh_client_release(client, lease, 0, NULL, &how);
}

static wh_future extend(struct wh_lease lease)
{
	return wh_client_extend(client, lease, 0, &how);
}

static wh_future progress(struct wh_lease lease)
{
	return wh_client_progress(client, lease, "1", &how);
}

static wh_future bury(struct wh_lease lease)
{
	return wh_client_bury(client, lease, NULL, NULL, &how);
}

static wh_future (*const with_lease[])(struct wh_lease lease) = {complete, give_up,  release,
                                                                 extend,   progress, bury};
enum { WITH_LEASE = sizeof(with_lease) / sizeof(with_lease[0]) };

static void leases(void **state)
{
	(void)state;
	for (int i = 0; i < WITH_LEASE; i++) {
		uint64_t job = submit("x", NULL);
		struct wh_lease lease = lease_one(), other = lease;

		other.claim += 1000000;
		NEED(with_lease[i](other), -WH_ECALL_LEASE_LOST);
		NEED(wh_client_cancel(client, job, &how), WH_JOB_RUNNING);
		NEED(with_lease[i](lease), -WH_ECALL_JOB_CANCELLED);
		wh_job_free(NEED_PTR(wh_client_look(client, job, &how), WH_JOB_CANCELLED));
	}
}

static wh_future look(uint64_t job)
{
	return wh_client_look(client, job, &how);
}

static wh_future wait_for(uint64_t job)
{
	return wh_client_wait(client, job, S, &how);
}

static wh_future result(uint64_t job)
{
	return wh_client_result(client, job, 0, &how);
}

static wh_future payload(uint64_t job)
{
	return wh_client_payload(client, job, &how);
}

static wh_future cancel(uint64_t job)
{
	return wh_client_cancel(client, job, &how);
}

static wh_future kick(uint64_t job)
{
	return wh_client_kick(client, job, &how);
}

static wh_future edit(uint64_t job)
{
	struct wh_edit some = {.fields = WH_EDIT_PRIORITY, .priority = 3};

	return wh_client_edit(client, job, &some, &how);
}

static wh_future (*const of_a_job[])(uint64_t job) = {look, wait_for, result, payload, cancel, kick, edit};

static void jobs(void **state)
{
	struct wh_submit_options gone = {.retention_ns = -1};
	struct wh_edit bad = {.fields = WH_EDIT_ATTEMPTS, .attempts = 5000};
	uint64_t job = submit("x", &gone);

	(void)state;
	NEED(complete(lease_one()), 0);
	for (size_t i = 0; i < sizeof(of_a_job) / sizeof(of_a_job[0]); i++) {
		NEED(of_a_job[i](job), -WH_ECALL_EXPIRED);
		NEED(of_a_job[i](NOBODY), -WH_ECALL_UNKNOWN_JOB);
	}
	job = submit("x", NULL);
	NEED(wh_client_edit(client, job, &bad, &how), -WH_ECALL_BAD_VALUE);
	NEED(give_up(lease_one()), WH_JOB_FAILED);
	NEED(result(job), -WH_ECALL_JOB_FAILED);
	NEED(edit(job), -WH_ECALL_JOB_FINISHED);
}

static void what_is_too_large(void **state)
{
	static char json[8192];
	struct wh_payload whole = {.bytes = large, .len = sizeof(large)};
	struct wh_lease lease;

	(void)state;
	NEED(wh_client_submit(client, queue, &whole, NULL, &how), -WH_ECALL_TOO_LARGE);
	assert_int_equal(problem.status, 413);
	assert_int_equal(problem.limit, sizeof(large) / 2);
	submit("x", NULL);
	lease = lease_one();
	NEED(wh_client_complete(client, lease, 0, &whole, &how), -WH_ECALL_TOO_LARGE);
	memset(json, '1', sizeof(json) - 1);
	NEED(wh_client_progress(client, lease, json, &how), -WH_ECALL_TOO_LARGE);
	NEED(complete(lease), 0);
}

static void queues(void **state)
{
	struct wh_many strange = {.state = "asleep"};

	(void)state;
	NEED(wh_client_queue_pause(client, queue, &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_resume(client, queue, &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_put(client, queue, NULL, &how), 1);
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &strange, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_reserve_bare(client, "call/x", 1, 0, &how), -WH_ECALL_BAD_VALUE);
}

static void schedules(void **state)
{
	static const struct wh_schedule_field reserved = {"Host", "elsewhere"};
	struct wh_schedule_settings settings = {.cron = "never", .queue = queue};

	(void)state;
	NEED(wh_client_schedules(client, queue, &how), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "unknown-schedule");
	NEED(wh_client_schedule_delete(client, queue, &how), -WH_ECALL_REFUSED);
	NEED(wh_client_schedule_pause(client, queue, &how), -WH_ECALL_REFUSED);
	NEED(wh_client_schedule_resume(client, queue, &how), -WH_ECALL_REFUSED);
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -WH_ECALL_BAD_VALUE);
	settings.every_ns = S;
	settings.cron = "@daily";
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -WH_ECALL_REFUSED);
	settings.every_ns = 0;
	settings.field_count = 1;
	settings.fields = &reserved;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -WH_ECALL_BAD_VALUE);
	settings.missed = 3;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	settings.missed = WH_MISSED_ALL;
	settings.queue = NULL;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	NEED(wh_client_schedule_put(client, "", &settings, &how), -EINVAL);
	NEED(wh_client_schedule_put(client, queue, NULL, &how), -EINVAL);
}

static void schedules_that_publish(void **state)
{
	static const struct wh_event_attribute upper = {"Region", "x"}, none = {"region", NULL};
	struct wh_event event = {.type = "a"};
	struct wh_schedule_settings settings = {.every_ns = S, .topic = queue, .event = &event};

	(void)state;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -WH_ECALL_UNKNOWN_TOPIC);
	/* what would be passed over */
	settings.topic = "";
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	settings.topic = settings.queue = queue;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	settings.queue = NULL;
	settings.payload = (struct wh_payload){.bytes = "x", .len = 1};
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	settings.payload = (struct wh_payload){0};
	event.id = "1";
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	event = (struct wh_event){.time = 1};
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	event = (struct wh_event){.attribute_count = 1, .attributes = &upper};
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	event.attributes = &none;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	event.attribute_count = WH_ATTRIBUTES_MAX + 1;
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -EINVAL);
	/* what the server refuses */
	NEED(wh_client_topic_put(client, queue, NULL, &how), 1);
	event = (struct wh_event){.source = "a b"};
	NEED(wh_client_schedule_put(client, queue, &settings, &how), -WH_ECALL_BAD_VALUE);
}

static void topics(void **state)
{
	struct wh_queue_settings one = {.jobs_max = 1};
	struct wh_subscription to = {.queue = queue};
	struct wh_event event = {.type = "happened", .data = bytes_of("x")};
	char topic[40];

	(void)state;
	snprintf(topic, sizeof(topic), "errors-%s", queue);
	{
		struct wh_topic_settings too_many = {.events_max = UINT64_MAX};

		NEED(wh_client_topic_put(client, topic, &too_many, &how), -WH_ECALL_BAD_VALUE);
	}
	NEED(wh_client_queue_put(client, queue, &one, &how), 1);
	NEED(wh_client_subscribe(client, topic, "all", &to, &how), 1);
	NEED(wh_client_publish(client, topic, &event, &how), 1);
	NEED(wh_client_publish(client, topic, &event, &how), -WH_ECALL_QUEUE_FULL);
	event.data = (struct wh_payload){.bytes = large, .len = sizeof(large)};
	NEED(wh_client_publish(client, topic, &event, &how), -WH_ECALL_TOO_LARGE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(leases), ONE(jobs),      ONE(what_is_too_large),      ONE(queues),
		ONE(topics), ONE(schedules), ONE(schedules_that_publish),
	};

	server.more[0] = "--max-payload";
	server.more[1] = "1MiB";
	return RUN_OVER_BOTH(tests);
}
