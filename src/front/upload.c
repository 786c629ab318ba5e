/* src/front/upload.c -- a change whose body is too large to be in memory whole: received piece by piece into the store.
 *
 * One piece is asked for when the store has taken the last, so a slow disk slows its client down and nothing piles up here. When
 * the body is whole and on the disk, the change is applied. Whatever breaks off before leaves nothing behind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/after.h"
#include "front/once.h"

struct upload {
	struct call *call;
	struct store_body *body;
	struct wh_buf *piece;
	struct store_action
		action; /* of a SUBMIT or COMPLETE; its texts are in .texts, the queue's name in the call */
	struct wh_slice url; /* to be called back */
	int level;
	struct once *once; /* NULL: no key */
	wh_callback *then;
	char texts[];
};

static void read_next(struct upload *upload);

bool upload_needed(const wh_http_exchange *x)
{
	int64_t length = wh_http_body_length(x);

	return length == WH_HTTP_CHUNKED || length > FRONT_STREAM_BYTES;
}

static void then(struct upload *upload, wh_future future, wh_callback *callback)
{
	wh_loop *loop = upload->call->api->loop;

	if (wh_then(future, callback, upload) == 0 ||
	    wh_then(wh_failed(loop, -ENOMEM), callback, upload) == 0)
		return;
	/* no memory to say so later: whoever calls this does nothing else with it */
	callback(loop, (wh_res){-ENOMEM, NULL}, upload);
}

static void end(struct upload *upload)
{
	wh_buf_put(upload->piece);
	store_body_free(upload->body);
	free(upload->once);
	free(upload);
}

/* The body cannot be taken: its sender's fault, or for want of something here. */
static void refuse(struct upload *upload, int64_t error)
{
	struct call *call = upload->call;
	struct api *api = call->api;
	char subject[TARGET_NAME_BYTES_MAX + 20];

	end(upload);
	if (error == -JOB_ETOO_LARGE || error == -WH_EHTTP_TOO_LARGE) {
		answer_limit(api, call->x, PROBLEM_TOO_LARGE, api->options.payload_bytes_max, NULL,
		             "the body has more than %llu bytes",
		             (unsigned long long)api->options.payload_bytes_max);
	} else if (error == -JOB_EBUSY) {
		answer_limit(api, call->x, PROBLEM_TOO_BUSY, store_bodies_max(api->store), NULL,
		             "as many large bodies as max-uploads says are being received: try again soon");
	} else {
		if (call->job)
			snprintf(subject, sizeof(subject), "job %llu", (unsigned long long)call->job);
		else
			snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
		answer_error(api, call->x, error, NULL, JOB_NONE, subject);
	}
	call_end(call);
}

static void broke_off(struct upload *upload, int64_t error)
{
	struct call *call = upload->call;

	if (error == -WH_EHTTP_TOO_LARGE || error == -ENOMEM) {
		refuse(upload, error);
		return;
	}
	end(upload);
	answer_problem(call->api, call->x,
	               error == -ETIMEDOUT ? PROBLEM_REQUEST_TIMEOUT : PROBLEM_BAD_REQUEST, NULL,
	               error == -WH_EHTTP_SYNTAX ? "the body of the request: malformed chunked framing"
	                                         : "the body of the request did not arrive whole");
	call_end(call);
}

/* What was there when the body began to come may have gone, or gone elsewhere. */
static bool may_await(struct upload *upload)
{
	struct call *call = upload->call;
	uint64_t job = upload->action.kind == STORE_SUBMIT
	                       ? after_refused(call->api, call->x, upload->action.submit.after, upload->once)
	                       : 0;

	if (job != 0)
		call->job = job;
	return job == 0;
}

/* It is on the disk. */
static void ended(wh_loop *loop, wh_res res, void *arg)
{
	struct upload *upload = arg;
	struct call *call = upload->call;

	if (res.n < 0) {
		refuse(upload, res.n);
		return;
	}
	*(upload->action.kind == STORE_SUBMIT ? &upload->action.submit.body : &upload->action.complete.body) =
		upload->body;
	if (upload->action.kind == STORE_SUBMIT)
		upload->action.submit.queue = (struct store_slice){call->name, call->name_len};
	if (upload->once)
		store_key_mix_body(upload->once->key.fingerprint, upload->body);
	if (!may_await(upload)) {
		call_then(call, wh_failed(loop, -JOB_EAWAITED), upload->then);
		end(upload);
		return;
	}
	call_then(call,
	          upload->url.data
	                  ? callback_submit(call->api->store, &upload->action.submit, upload->url,
	                                    upload->level, upload->once)
	                  : once_apply(call->api->store, &upload->action, 1, upload->level, upload->once),
	          upload->then);
	end(upload);
}

static void written(wh_loop *loop, wh_res res, void *arg)
{
	struct upload *upload = arg;

	upload->piece = wh_buf_put(upload->piece);
	if (res.n < 0)
		refuse(upload, res.n);
	else
		read_next(upload);
}

static void got_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct upload *upload = arg;

	if (res.n < 0) {
		broke_off(upload, res.n);
	} else if (res.n == 0) {
		then(upload, store_body_end(upload->body), ended);
	} else {
		upload->piece = res.ptr;
		then(upload, store_body_write(upload->body, upload->piece->data, upload->piece->len),
		     written);
	}
}

static void read_next(struct upload *upload)
{
	then(upload, wh_http_read(upload->call->x), got_piece);
}

static void keep(struct store_slice *slice, char **to)
{
	if (slice->len > 0)
		memcpy(*to, slice->data, slice->len);
	slice->data = *to;
	*to += slice->len;
}

static struct once *copy_once(const struct once *once)
{
	struct once *copy = malloc(sizeof(*copy));

	if (copy)
		*copy = *once;
	return copy;
}

void upload_start(struct call *call, const struct store_action *action, const struct wh__text *before,
                  struct wh_slice url, int level, const struct once *once, wh_callback *callback)
{
	bool submit = action->kind == STORE_SUBMIT;
	const struct store_slice *type =
		submit ? &action->submit.content_type : &action->complete.content_type;
	size_t texts = type->len + (submit ? action->submit.unique.len + action->submit.group.len +
	                                             action->submit.trace.len + action->submit.after.len
	                                   : 0);
	struct upload *upload = malloc(sizeof(*upload) + texts + url.len);
	int64_t length = wh_http_body_length(call->x);
	char *to;
	int error = -ENOMEM;

	if (!upload) {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
		return;
	}
	*upload = (struct upload){
		.call = call, .action = *action, .url = url, .level = level, .then = callback};
	to = upload->texts;
	keep(submit ? &upload->action.submit.content_type : &upload->action.complete.content_type, &to);
	if (submit) {
		keep(&upload->action.submit.unique, &to);
		keep(&upload->action.submit.group, &to);
		keep(&upload->action.submit.trace, &to);
		keep(&upload->action.submit.after, &to);
	}
	if (url.data) {
		memcpy(to, url.data, url.len);
		upload->url.data = to;
	}
	if (length >= 0)
		length += before ? (int64_t)before->len : 0;
	if (once && once->given)
		upload->once = copy_once(once);
	/* the token is asked for once more at the end */
	if (submit && upload->action.submit.after.len > 0 && call->api->tokens &&
	    wh_http_retain(call->x) != 0)
		error = -ENOMEM;
	else if ((!before || !before->failed) && (!once || !once->given || upload->once))
		error = store_body_open(call->api->store, length < 0 ? -1 : length,
		                        submit ? 0u : STORE_BODY_RESULT, &upload->body);
	if (error < 0) {
		refuse(upload, error);
	} else if (before) {
		wh_future future = store_body_write(upload->body, before->data, before->len);

		/* the key's fingerprint is of the client's part alone */
		error = upload->once ? store_body_mark(upload->body) : 0;
		then(upload, error < 0 ? wh_failed(call->api->loop, error) : future, written);
		if (error < 0)
			(void)wh_drop(future);
	} else {
		read_next(upload);
	}
}
