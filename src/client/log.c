/* src/client/log.c -- how far the server's log has come, and whether a position is reached. Thread: loop. */
#include <errno.h>
#include <stdlib.h>

#include "client/ask.h"

struct wh_log_state *wh_log_state_free(struct wh_log_state *log)
{
	free(log);
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_log_state_free(res.ptr);
}

static bool take_epoch(struct wh_slice json, uint32_t *ret)
{
	uint64_t epoch;

	if (!wh__json_u64(json, &epoch) || epoch > UINT32_MAX)
		return false;
	*ret = (uint32_t)epoch;
	return true;
}

static bool take_mark(struct wh_slice json, uint32_t epoch, uint64_t *ret)
{
	struct wh_position position;

	if (!wh__read_position(json, &position) || position.epoch != epoch)
		return false;
	*ret = position.lsn;
	return true;
}

static int64_t read_log(struct wh_slice json, struct wh_log_state **ret)
{
	struct wh_slice list = wh__json_member(json, "epochs"), at = {NULL, 0};
	struct wh_log_state *log;
	struct wh_log_epoch *epoch;
	size_t count = 0;
	bool good;

	while (wh__json_next(list, &at))
		count++;
	log = calloc(1, sizeof(*log) + count * sizeof(*epoch));
	if (!log)
		return -ENOMEM;
	epoch = (struct wh_log_epoch *)(void *)(log + 1);
	log->epochs = epoch;
	log->epoch_count = count;
	good = take_epoch(wh__json_member(json, "epoch"), &log->epoch) &&
	       take_mark(wh__json_member(json, "appended"), log->epoch, &log->appended) &&
	       take_mark(wh__json_member(json, "written"), log->epoch, &log->written) &&
	       take_mark(wh__json_member(json, "flushed"), log->epoch, &log->flushed);
	at.data = NULL;
	for (; good && wh__json_next(list, &at); epoch++)
		good = take_epoch(wh__json_member(at, "epoch"), &epoch->epoch) &&
		       wh__json_u64(wh__json_member(at, "end"), &epoch->end);
	if (!good) {
		free(log);
		return -WH_EHTTP_SYNTAX;
	}
	*ret = log;
	return 0;
}

static void told(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice json = wh__body_json(response);
	struct wh_log_state *log = NULL;
	int64_t error = response->status == 200 && json.data ? read_log(json, &log) : -WH_EHTTP_SYNTAX;

	if (error == -ENOMEM) {
		wh__ask_out_of_memory(ask, response);
	} else if (error != 0) {
		wh__ask_garbled(ask, response);
	} else {
		wh_http_response_free(response);
		wh__ask_end(ask, log->epoch, log, dispose);
	}
}

wh_future wh_client_log(wh_client *client, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "GET", how, told, &failed);

	if (!ask)
		return failed;
	wh__ask_path(ask, "/v1/log");
	return wh__ask_start(ask);
}

static void looked(struct wh__ask *ask, struct wh_http_response *response)
{
	bool reached;

	if (response->status != 200 ||
	    !wh__json_bool(wh__json_member(wh__body_json(response), "reached"), &reached)) {
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	if (!reached && wh__ask_is_waiting(ask))
		wh__ask_again(ask);
	else
		wh__ask_end(ask, reached, NULL, NULL);
}

wh_future wh_client_reached(wh_client *client, struct wh_position position, int level, int64_t wait_ns,
                            const struct wh_how *how)
{
	static const char *const names[] = {"local", "async", "local", "remote-write", "remote-flush"};
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "GET", how, looked, &failed);

	if (!ask)
		return failed;
	if (level < WH_LEVEL_DEFAULT || level > WH_LEVEL_REMOTE_FLUSH)
		return wh__ask_refuse(ask, -EINVAL);
	ask->level = WH_LEVEL_DEFAULT; /* the level is a part of the question here */
	wh__ask_path(ask, "/v1/log");
	wh__ask_query(ask, "position");
	wh__ask_number(ask, position.epoch);
	wh__ask_path(ask, "/");
	wh__ask_number(ask, position.lsn);
	wh__ask_query(ask, "level");
	wh__ask_path(ask, names[level]);
	wh__ask_wait(ask, wait_ns);
	return wh__ask_start(ask);
}
