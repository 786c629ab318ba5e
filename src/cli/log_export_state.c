/* src/cli/log_export_state.c -- `whilst log export`: queues, settings and keys of a data folder, a line of JSON each. See
 * log_export_state.h; docs/reference/command-line.md describes the lines.
 *
 * Topics, subscriptions, schedules and services are settings. Of a queue what was configured is written, not what the defaults
 * make of it. Thread: main.
 */
#include "cli/log_export_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"

int log_export_write(struct wh__text *line)
{
	wh__text_str(line, "\n");
	if (line->failed || fwrite(line->data, 1, line->len, stdout) != line->len)
		return cli_error(CLI_FAILED, "cannot write: %s",
		                 wh_strerror(line->failed ? -ENOMEM : -errno));
	return 0;
}

static void put_base64(struct wh__text *t, const char *name, struct store_slice bytes)
{
	wh__text_format(t, ",\"%s\":\"", name);
	wh__text_base64(t, bytes.data, bytes.len);
	wh__text_str(t, "\"");
}

/* ---- queues ------------------------------------------------------------------------------ */

static void put_number(struct wh__text *t, const char *name, int64_t value)
{
	if (value != 0)
		wh__text_format(t, ",\"%s\":%" PRId64, name, value);
}

static void put_config(struct wh__text *t, const struct job_queue_config *c)
{
	put_number(t, "time_to_run_ms", c->time_to_run_ns / WH_NS_PER_MS);
	put_number(t, "retention_ms", c->retention_ns < 0 ? -1 : c->retention_ns / WH_NS_PER_MS);
	put_number(t, "backoff_ms", c->backoff_ns / WH_NS_PER_MS);
	put_number(t, "backoff_max_ms", c->backoff_max_ns / WH_NS_PER_MS);
	if (c->backoff_jitter != 0)
		wh__text_format(t, ",\"backoff_jitter\":%" PRIu32,
		                c->backoff_jitter == JOB_NO_JITTER ? 0 : c->backoff_jitter);
	for (uint32_t i = 0; i < c->backoffs; i++)
		wh__text_format(t, "%s%" PRIu32 "%s", i ? "," : ",\"backoffs_ms\":[", c->backoff_list_ms[i],
		                i + 1 == c->backoffs ? "]" : "");
	put_number(t, "attempts_max",
	           c->attempts_max == JOB_ATTEMPTS_UNLIMITED ? -1 : (int64_t)c->attempts_max);
	put_number(t, "jobs_max", (int64_t)c->jobs_max);
	put_number(t, "finished_max", (int64_t)c->finished_max);
	put_number(t, "concurrency", c->concurrency);
	put_number(t, "rate_count", c->rate.count);
	put_number(t, "rate_period_ms", c->rate.period_ms);
	put_number(t, "rate_burst", c->rate.burst);
	put_number(t, "group_concurrency", c->group_concurrency);
	put_number(t, "group_rate_count", c->group_rate.count);
	put_number(t, "group_rate_period_ms", c->group_rate.period_ms);
	put_number(t, "group_rate_burst", c->group_rate.burst);
}

static int put_queues(struct store *store, struct wh__text *t)
{
	wh_res res = wh_await(store_queues(store));
	struct store_queues *queues = res.ptr;
	int status = 0;

	if (res.n < 0)
		return cli_error(CLI_FAILED, "cannot read the queues: %s", job_strerror(res.n));
	for (size_t i = 0; i < queues->count && status == 0; i++) {
		const struct store_queue_view *q = &queues->queues[i];
		struct job_queue_config config = {0};

		(void)store_queue_config(store, q->name, &config); /* it is there: it was just listed */
		t->len = 0;
		wh__text_str(t, "{\"queue_config\":");
		wh__text_json(t, q->name.data, q->name.len);
		wh__text_format(t, ",\"implicit\":%s,\"paused\":%s", q->implicit ? "true" : "false",
		                q->paused ? "true" : "false");
		put_config(t, &config);
		if (q->dead_letter.len > 0) {
			wh__text_str(t, ",\"dead_letter\":");
			wh__text_json(t, q->dead_letter.data, q->dead_letter.len);
		}
		wh__text_str(t, "}");
		status = log_export_write(t);
	}
	store_queues_free(queues);
	return status;
}

/* ---- settings and keys ------------------------------------------------------------------- */

static int put_settings(struct store *store, struct wh__text *t)
{
	wh_res res = wh_await(store_settings(store, (struct store_slice){0}));
	struct store_settings *settings = res.ptr;
	int status = 0;

	if (res.n < 0)
		return cli_error(CLI_FAILED, "cannot read the settings: %s", job_strerror(res.n));
	for (size_t i = 0; i < settings->count && status == 0; i++) {
		t->len = 0;
		wh__text_str(t, "{\"setting\":");
		wh__text_json(t, settings->settings[i].key.data, settings->settings[i].key.len);
		put_base64(t, "value", settings->settings[i].value);
		wh__text_str(t, "}");
		status = log_export_write(t);
	}
	store_settings_free(settings);
	return status;
}

static int put_key(void *arg, const struct store_kept_key *kept)
{
	struct wh__text *t = arg;

	t->len = 0;
	wh__text_str(t, "{\"key\":\"");
	wh__text_base64(t, kept->key.name.data, kept->key.name.len);
	wh__text_format(t, "\",\"at_ms\":%" PRId64 ",\"position\":\"%" PRIu32 "/%" PRIu64 "\"",
	                kept->at / WH_NS_PER_MS, kept->position.epoch, kept->position.lsn);
	put_base64(t, "fingerprint", (struct store_slice){kept->key.fingerprint, STORE_FINGERPRINT_BYTES});
	if (kept->events) {
		wh__text_format(t, ",\"events_from\":%" PRIu64, kept->events_from);
		put_base64(t, "note", (struct store_slice){kept->note, STORE_NOTE_BYTES});
	}
	for (size_t i = 0; i < kept->count; i++)
		wh__text_format(t,
		                kept->runs[i].event ? "%s{\"event\":%" PRIu64 ",\"count\":%" PRIu64
		                                      ",\"jobs\":%" PRId64 ",\"state\":%u,\"duplicate\":%s}"
		                                    : "%s{\"job\":%" PRIu64 ",\"count\":%" PRIu64
		                                      ",\"at_ms\":%" PRId64 ",\"state\":%u,\"duplicate\":%s}",
		                i ? "," : ",\"results\":[", kept->runs[i].job, kept->runs[i].count,
		                kept->runs[i].at / WH_NS_PER_MS, kept->runs[i].state,
		                kept->runs[i].duplicate ? "true" : "false");
	wh__text_str(t, kept->count > 0 ? "]}" : "}");
	return log_export_write(t);
}

int log_export_state(struct store *store, struct wh__text *line)
{
	int status = put_queues(store, line);

	if (status == 0)
		status = put_settings(store, line);
	if (status == 0)
		status = store_keys_each(store, put_key, line);
	return status < 0 ? cli_error(CLI_FAILED, "%s", wh_strerror(status)) : status;
}
