/* src/deliver/callback.c -- callbacks that wait for the end of their job, and what is to be said when it has come. See push.h.
 *
 * That somebody is to be told is on the disk with the job itself, and each step is one commit: a crash at any moment leaves either the
 * pending callback, which a start finds and waits for anew, or what is to be sent. A wait reads the state first, so an end that came
 * while no server ran is seen. Thread: the loop of the store. Memory: one struct pending, and a wait of the store, for each.
 */
#include "deliver/push_inside.h"

struct pending {
	struct pending *next, **link;
	struct push *push;
	uint64_t job, id; /* whose end; of the pending callback itself */
	int state;        /* enum job_state that the job has come to */
	wh_future waiting;
	struct store_view *view; /* NULL: the job's retention has passed */
	struct store_bytes *url;
	bool stalled; /* nothing is awaited, for want of memory: callbacks_rouse() */
};

static void wait_for(struct pending *pending);
static void look(struct pending *pending);

/* Without memory for the callback it is called at once, so that nothing of pending is touched behind this. */
static void then(struct pending *pending, wh_future future, wh_callback *callback)
{
	struct push *push = pending->push;
	wh_res res = {-ENOMEM, NULL};

	push->references++;
	if (wh_then(future, callback, pending) == 0)
		return;
	(void)wh_poll(future, &res);
	callback(push->loop, res, pending);
}

static void pending_free(struct pending *pending)
{
	struct push *push = pending->push;

	*pending->link = pending->next;
	if (pending->next)
		pending->next->link = pending->link;
	push->pending_count--;
	store_view_free(pending->view);
	store_bytes_unref(pending->url);
	free(pending);
}

/* ---- what is said ------------------------------------------------------------------------ */

static void put_instant(struct wh__text *text, int64_t wall_ns)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_format(text, "\"%.*s\"", (int)wh__put_instant(instant, wall_ns), instant);
}

static const char *state_name(int state)
{
	return state == JOB_DONE        ? "done"
	       : state == JOB_FAILED    ? "failed"
	       : state == JOB_CANCELLED ? "cancelled"
	                                : "expired";
}

static void put_view(struct wh__text *text, const struct store_view *view)
{
	size_t skip = job_name_skip(view->queue.data, view->queue.len);

	wh__text_str(text, ",\"queue\":"); /* as its namespace calls it */
	wh__text_json(text, (const char *)view->queue.data + skip, view->queue.len - skip);
	wh__text_format(text, ",\"attempts\":%u,\"finished_at\":", view->attempts);
	put_instant(text, view->finished_at);
	if (view->state == JOB_DONE) {
		wh__text_format(text,
		                ",\"result\":{\"url\":\"/v1/jobs/%llu/"
		                "result\",\"status\":%u,\"bytes\":%llu,\"content_type\":",
		                (unsigned long long)view->job, view->result_status,
		                (unsigned long long)view->result_bytes);
		wh__text_json(text, view->result_content_type.data, view->result_content_type.len);
		wh__text_put(text, "}", 1);
	}
	if (view->state == JOB_FAILED && view->errors_count > 0) {
		const struct store_slice *error = &view->errors[view->errors_count - 1].text;

		wh__text_str(text, ",\"error\":");
		wh__text_json(text, error->data, error->len);
	}
}

/* Small, and the same at each attempt: what it stands for can be asked for. */
static void put_event(struct wh__text *text, const struct pending *pending)
{
	int64_t now = wh_wall_now(pending->push->loop);

	wh__text_format(text, "{\"type\":\"job.%s\",\"timestamp\":", state_name(pending->state));
	put_instant(text, pending->view && pending->view->finished_at > 0 ? pending->view->finished_at : now);
	wh__text_format(text, ",\"data\":{\"id\":%llu,\"state\":", (unsigned long long)pending->job);
	if (job_state_finished(pending->state))
		wh__text_format(text, "\"%s\"", state_name(pending->state));
	else
		wh__text_str(text, "null");
	if (pending->view)
		put_view(text, pending->view);
	wh__text_str(text, "}}");
}

/* ---- from pending to be sent ------------------------------------------------------------- */

static void again(wh_loop *loop, wh_res res, void *arg)
{
	struct pending *pending = arg;
	struct push *push = pending->push;

	if (res.n < 0 || push->closing)
		pending_free(pending);
	else
		wait_for(pending);
	push_unref(push);
}

/* The next start, or another try, does it. */
static void later(struct pending *pending)
{
	struct push *push = pending->push;

	if (push->closing) {
		pending_free(pending);
	} else if (wh_then(wh_sleep(push->loop, PUSH_AGAIN_NS), again, pending) == 0) {
		push->references++;
	} else {
		pending->stalled = true;
		push_rouse(push);
	}
}

static void moved(wh_loop *loop, wh_res res, void *arg)
{
	struct pending *pending = arg;
	struct push *push = pending->push;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->error;

	if (res.n >= 0)
		store_commit_free(commit);
	if (error == 0 || error == -JOB_EUNKNOWN_JOB || error == -JOB_EEXPIRED) /* taken out by hand */
		pending_free(pending);
	else
		later(pending);
	push_unref(push);
}

static void move(struct pending *pending)
{
	struct push *push = pending->push;
	struct wh__text event, kept;
	wh_future moving;
	struct store_action actions[2] = {{.kind = STORE_DELETE, .job = pending->id},
	                                  {.kind = STORE_SUBMIT,
	                                   .submit = {.queue = STORE_SLICE(CALLBACKS),
	                                              .content_type = STORE_SLICE("application/json"),
	                                              .priority = JOB_PRIORITY_DEFAULT,
	                                              .attempts_max = JOB_ATTEMPTS_UNLIMITED}}};

	wh__text_init(&event, NULL, 0);
	put_event(&event, pending);
	wh__text_init(&kept, NULL, 0);
	wh__text_str(&kept, "Whilst-Callback: ");
	wh__text_put(&kept, pending->url->body.data, pending->url->body.len);
	wh__text_str(&kept, "\r\n");
	actions[1].submit.payload = (struct store_slice){event.data, event.len};
	actions[1].submit.headers = (struct store_slice){kept.data, kept.len};
	actions[1].submit.trace = pending->url->trace;
	moving = event.failed || kept.failed ? wh_failed(push->loop, -ENOMEM)
	                                     : store_apply(push->store, actions, 2, 0, STORE_LOCAL);
	wh__text_done(&event);
	wh__text_done(&kept);
	then(pending, moving, moved);
}

static void got_view(wh_loop *loop, wh_res res, void *arg)
{
	struct pending *pending = arg;
	struct push *push = pending->push;

	pending->view = store_view_free(pending->view);
	if (res.n >= 0)
		pending->view = res.ptr;
	if (res.n < 0 && res.n != -JOB_EEXPIRED && res.n != -JOB_EUNKNOWN_JOB)
		later(pending);
	else if (pending->view && !job_state_finished(pending->view->state))
		wait_for(pending); /* run again meanwhile */
	else
		move(pending);
	push_unref(push);
}

static void got_url(wh_loop *loop, wh_res res, void *arg)
{
	struct pending *pending = arg;
	struct push *push = pending->push;

	if (res.n >= 0)
		pending->url = res.ptr;
	if (res.n >= 0)
		look(pending);
	else if (res.n == -JOB_EUNKNOWN_JOB || res.n == -JOB_EEXPIRED)
		pending_free(pending);
	else
		later(pending);
	push_unref(push);
}

static void look(struct pending *pending)
{
	struct push *push = pending->push;

	if (pending->url)
		then(pending, store_get(push->store, pending->job, STORE_LOCAL), got_view);
	else
		then(pending, store_payload(push->store, pending->id, STORE_LOCAL), got_url);
}

static void finished(wh_loop *loop, wh_res res, void *arg)
{
	struct pending *pending = arg;
	struct push *push = pending->push;

	pending->waiting = (wh_future){0};
	if (push->closing || res.n == -ECANCELED) {
		pending_free(pending);
	} else if (res.n >= 0 || res.n == -JOB_EEXPIRED || res.n == -JOB_EUNKNOWN_JOB) {
		if (res.n > 0)
			pending->state = (int)res.n;
		look(pending);
	} else {
		later(pending);
	}
	push_unref(push);
}

static void wait_for(struct pending *pending)
{
	struct push *push = pending->push;

	pending->waiting = store_wait(push->store, pending->job, STORE_WAIT_FINISHED, 0, STORE_LOCAL);
	then(pending, pending->waiting, finished);
}

void push_callback(struct push *push, uint64_t job, uint64_t pending_id)
{
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending && push->missed_count < PUSH_LATE_MAX) {
		push->missed[push->missed_count++] = (struct push_missed){job, pending_id};
		push_rouse(push);
		return;
	}
	if (!pending) { /* the next start finds it */
		push_event(push, WH_LOG_WARNING, "callback-postponed", NULL, job, "out of memory");
		return;
	}
	*pending = (struct pending){
		.next = push->pending, .link = &push->pending, .push = push, .job = job, .id = pending_id};
	if (pending->next)
		pending->next->link = &pending->next;
	push->pending = pending;
	push->pending_count++;
	wait_for(pending);
}

/* ---- open, close ------------------------------------------------------------------------- */

static int make_queue(struct push *push, struct store_slice name)
{
	struct store_action action = {.kind = STORE_QUEUE_PUT, .queue.name = name};
	struct store_queue_view view;
	struct store_commit *commit;
	int64_t error;
	wh_res res;

	if (store_queue_now(push->store, name, &view) == 0)
		return 0;
	res = wh_await(store_apply(push->store, &action, 1, 0, STORE_LOCAL));
	commit = res.ptr;
	error = res.n < 0 ? res.n : commit->error;
	if (res.n >= 0)
		store_commit_free(commit);
	return (int)error;
}

/* Queues are made when there are secrets: before that nobody can ask for a callback. */
static int begin(struct push *push)
{
	struct service_refusal refusal;
	struct service *service;
	int error = make_queue(push, STORE_SLICE(CALLBACKS_PENDING));

	if (error == 0)
		error = make_queue(push, STORE_SLICE(CALLBACKS));
	if (error < 0)
		return error;
	service = service_new(CALLBACKS, sizeof(CALLBACKS) - 1, true, &refusal);
	if (!service || push_prepare(service) != 0) {
		service_unref(service);
		return -ENOMEM;
	}
	service->callbacks = true;
	service->concurrency = 64;
	service->timeout_ns = 20 * WH_NS_PER_S;
	service->breaker.failures = 0;
	push->callbacks = service;
	push_service(push, service);
	return 0;
}

int push_callbacks_open(struct push *push)
{
	struct store_slice queue = STORE_SLICE(CALLBACKS_PENDING);
	struct store_queue_view view;
	uint32_t cursor = 0;
	uint64_t id;

	if (store_queue_now(push->store, queue, &view) != 0)
		return 0;
	while ((id = store_next_in(push->store, queue, JOB_READY, &cursor)) != 0)
		push_callback(push, id - 1, id);
	return 0;
}

int push_use_secrets(struct push *push, const struct secrets *secrets)
{
	push->secrets = secrets ? *secrets : (struct secrets){0};
	return secrets && !push->callbacks ? begin(push) : 0;
}

bool push_has_secrets(const struct push *push)
{
	return push->secrets.count > 0;
}

uint64_t push_callbacks_pending(const struct push *push)
{
	return push->pending_count;
}

void callbacks_rouse(struct push *push)
{
	struct push_missed missed[PUSH_LATE_MAX];
	unsigned count = push->missed_count;

	for (struct pending *pending = push->pending, *next; pending; pending = next) {
		next = pending->next;
		if (pending->stalled) {
			pending->stalled = false;
			wait_for(pending);
		}
	}
	memcpy(missed, push->missed, count * sizeof(missed[0]));
	push->missed_count = 0;
	for (unsigned i = 0; i < count; i++)
		push_callback(push, missed[i].job, missed[i].id);
}

void callbacks_close(struct push *push)
{
	/* what waits for nothing but the end of a job ends by being cancelled, the rest when its answer comes */
	for (struct pending *pending = push->pending, *next; pending; pending = next) {
		next = pending->next;
		if (pending->stalled)
			pending_free(pending);
		else if (pending->waiting.id != 0)
			wh_cancel(pending->waiting);
	}
}
