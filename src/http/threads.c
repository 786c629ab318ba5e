/* src/http/threads.c -- a server with threads: opened, drained, closed; how notes go from loop to loop. See threads.h.
 *
 * Listeners are shared: each thread has a descriptor of its own for the same socket, so whichever is idle takes the next connection, and
 * an address that is in use is still told from one that is free.
 *
 * Thread: the handlers' loop, unless said otherwise.  Memory: a hub for the life of the server; it goes when all threads have said
 * that they have nothing left, which is when they are joined.
 */
#include "http/threads.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A listener on its way to a thread: one of several that are allocated together, the last frees them. */
struct listen_note {
	struct wh__http_note note;
	struct wh__http_listener *listener;
};

/* ---- notes -------------------------------------------------------------------------------- */

static void flush(void *arg)
{
	struct wh__http_way *way = arg;
	struct wh__http_note *newest = way->newest, *oldest = way->oldest;

	way->flushing = false;
	if (!newest)
		return;
	way->newest = way->oldest = NULL;
	oldest->next = atomic_load_explicit(&way->notes, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&way->notes, &oldest->next, newest)) {
	}
	if (!atomic_exchange(&way->called, true))
		wh__inbox_push(way->to, &way->call);
}

void wh__http_way_put(struct wh__http_way *way, struct wh__http_note *note, enum wh__http_note_kind kind)
{
	note->kind = (uint8_t)kind;
	note->next = way->newest;
	way->newest = note;
	if (!note->next)
		way->oldest = note;
	if (way->flushing)
		return;
	way->flushing = true;
	wh__defer(way->from, &way->flush);
}

/* The oldest that has not been taken; NULL: there is none. */
static struct wh__http_note *take(struct wh__http_way *way)
{
	struct wh__http_note *note = way->due, *next;

	if (!note && atomic_load_explicit(&way->notes, memory_order_relaxed)) {
		for (note = atomic_exchange(&way->notes, NULL); note; note = next) {
			next = note->next;
			note->next = way->due;
			way->due = note;
		}
		note = way->due;
	}
	if (note)
		way->due = note->next;
	return note;
}

/* The receiver has as many as one turn may take. What is left, and what came while it was known to be called, is for the next. */
static void call_again(struct wh__http_way *way)
{
	if ((way->due || atomic_load(&way->notes)) && !atomic_exchange(&way->called, true))
		wh__inbox_push(way->to, &way->call);
}

/* ---- the thread's side -------------------------------------------------------------------- */

static void publish(void *arg)
{
	struct wh__http_thread *thread = arg;
	uint64_t values[sizeof(struct wh_http_server_stats) / sizeof(uint64_t)];
	struct wh_http_server_stats stats;

	thread->publishing = false;
	if (!thread->server)
		return;
	stats = thread->server->stats;
	memcpy(values, &stats, sizeof(values));
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		atomic_store_explicit(&thread->stats[i], values[i], memory_order_relaxed);
}

void wh__http_threads_changed(struct wh__http_thread *thread)
{
	if (thread->publishing)
		return;
	thread->publishing = true;
	thread->publish = (struct wh__message){.fn = publish, .arg = thread, .embedded = true};
	wh__defer(thread->loop, &thread->publish);
}

void wh__http_threads_check_gone(struct wh__http_thread *thread)
{
	if (!thread->server && thread->tickets == 0)
		wh__http_way_put(&thread->in, &thread->gone, WH__HTTP_NOTE_GONE);
}

void wh__http_threads_server_gone(struct wh__http_thread *thread)
{
	thread->server = NULL;
	wh__http_threads_check_gone(thread);
}

void wh__http_threads_drained(struct wh__http_thread *thread)
{
	wh__http_way_put(&thread->in, &thread->drained, WH__HTTP_NOTE_DRAINED);
}

static void thread_takes(struct wh__http_thread *thread, struct wh__http_note *note)
{
	switch (note->kind) {
	case WH__HTTP_NOTE_LISTEN:
		wh__http_server_add(thread->server, ((struct listen_note *)(void *)note)->listener);
		free(note);
		break;
	case WH__HTTP_NOTE_DRAIN:
		wh__http_server_begin_drain(thread->server);
		break;
	case WH__HTTP_NOTE_CLOSE:
		(void)wh_http_server_close(thread->server);
		break;
	default:
		wh__http_forward_take(thread, note);
		break;
	}
}

static void thread_called(void *arg)
{
	struct wh__http_thread *thread = arg;
	struct wh__http_note *note;

	atomic_store(&thread->out.called, false);
	wh__callbacks_begin(thread->loop);
	for (int i = 0; i < WH__HTTP_NOTES_OF_TURN && (note = take(&thread->out)); i++)
		thread_takes(thread, note);
	wh__callbacks_end(thread->loop);
	call_again(&thread->out);
}

/* ---- the handlers' side ------------------------------------------------------------------- */

static void free_thread(struct wh__http_thread *thread)
{
	thread->loop = wh_loop_close(thread->loop);
	while (thread->spare) {
		struct wh__http_ticket *t = thread->spare;

		thread->spare = t->next_spare;
		wh__http_ticket_free(t);
	}
}

/* All threads have said that they have nothing left. */
static void free_hub(struct wh__http_hub *hub)
{
	wh_http_server *server = hub->server;

	for (uint32_t i = 0; i < hub->count; i++)
		free_thread(&hub->threads[i]);
	wh__op_complete(hub->hold, 0, NULL);
	server->hub = NULL;
	free(hub);
	if (server->closed)
		wh__http_server_release(server);
}

static void took_gone(struct wh__http_hub *hub)
{
	for (uint32_t i = 0; i < hub->count; i++)
		if (!hub->threads[i].is_gone)
			return;
	free_hub(hub);
}

static void took_drained(struct wh__http_thread *thread)
{
	struct wh__http_hub *hub = thread->hub;
	struct wh__op *drained = hub->server->drained;

	thread->is_drained = true;
	for (uint32_t i = 0; i < hub->count; i++)
		if (!hub->threads[i].is_drained)
			return;
	hub->server->drained = NULL;
	if (drained)
		wh__op_complete(drained, 0, NULL);
	if (!hub->closing)
		wh__op_background(hub->hold, true);
}

struct taken {
	struct wh__http_thread *thread;
	struct wh__http_note *note;
};

static void handlers_take(void *arg)
{
	struct taken *taken = arg;

	wh__http_remote_take(taken->thread, taken->note);
}

static void handlers_called(void *arg)
{
	struct wh__http_thread *thread = arg;
	struct wh__http_hub *hub = thread->hub;
	struct wh__http_note *note;
	wh_loop *loop = hub->server->loop;

	atomic_store(&thread->in.called, false);
	wh__callbacks_begin(loop);
	for (int i = 0; i < WH__HTTP_NOTES_OF_TURN && (note = take(&thread->in)); i++) {
		struct taken taken = {thread, note};

		if (note->kind == WH__HTTP_NOTE_DRAINED)
			took_drained(thread);
		else if (note->kind == WH__HTTP_NOTE_GONE)
			thread->is_gone = true;
		else
			wh__call(loop, handlers_take, &taken);
	}
	wh__callbacks_end(loop);
	call_again(&thread->in);
	if (thread->is_gone)
		took_gone(hub);
}

/* ---- open --------------------------------------------------------------------------------- */

static void way_init(struct wh__http_way *way, struct wh__http_thread *thread, wh_loop *from, wh_loop *to,
                     wh_function *called)
{
	*way = (struct wh__http_way){.from = from, .to = to, .thread = thread};
	way->call = (struct wh__message){.fn = called, .arg = thread, .embedded = true};
	way->flush = (struct wh__message){.fn = flush, .arg = way, .embedded = true};
}

/* The share of thread i in a limit of all. */
static uint32_t share(uint32_t limit, uint32_t count, uint32_t i)
{
	return limit / count + (i < limit % count ? 1 : 0);
}

static int open_thread(struct wh__http_hub *hub, uint32_t i)
{
	struct wh__http_thread *thread = &hub->threads[i];
	wh_http_server *outer = hub->server;
	struct wh_http_server_options options = outer->options;
	struct wh_loop_options loop_options = outer->loop->options;
	char name[32];
	int error;

	loop_options.name = name;
	loop_options.log = NULL; /* its owner expects it in its own thread */
	(void)snprintf(name, sizeof(name), "%.10s/http%u", outer->loop->name, i % 100);
	error = wh_loop_start(&thread->loop, &loop_options);
	if (error != 0)
		return error;
	thread->hub = hub;
	way_init(&thread->in, thread, thread->loop, outer->loop, handlers_called);
	way_init(&thread->out, thread, outer->loop, thread->loop, thread_called);
	options.on_head = wh__http_forward_head;
	options.on_request = wh__http_forward_request;
	options.arg = thread;
	options.problem = NULL;
	options.threads = 0;
	options.connections_max = share(options.connections_max, hub->count, i);
	options.handshakes_max = share(options.handshakes_max, hub->count, i);
	if (options.handshakes_max == 0)
		options.handshakes_max = 1;
	/* nothing of it is begun here: the thread is the first to use it */
	error = wh_http_server_open(thread->loop, &options, &thread->server);
	if (error == 0)
		thread->server->thread = thread;
	else
		thread->loop = wh_loop_close(thread->loop);
	return error;
}

/* Of a hub that has never listened: its threads are idle. */
static void abandon(struct wh__http_hub *hub, uint32_t opened)
{
	for (uint32_t i = 0; i < opened; i++) {
		free(hub->threads[i].server);
		free_thread(&hub->threads[i]);
	}
	if (hub->hold)
		wh__op_complete(hub->hold, 0, NULL);
	free(hub);
}

static void begin_close(struct wh__http_hub *hub)
{
	hub->closing = true;
	wh__op_background(hub->hold, false);
	for (uint32_t i = 0; i < hub->count; i++)
		wh__http_way_put(&hub->threads[i].out, &hub->threads[i].close, WH__HTTP_NOTE_CLOSE);
}

/* The loop closes. The operation ends when the threads have. */
static void hold_cancelled(struct wh__op *op)
{
	struct wh__http_hub *hub = op->buf;

	if (!hub->closing)
		begin_close(hub);
}

int wh__http_threads_open(wh_http_server *server)
{
	uint32_t count = server->options.threads;
	struct wh__http_hub *hub;
	uint32_t opened = 0;
	int error = 0;

	if (server->loop->options.engine == WH_SIM || server->options.connect)
		return -ENOSYS;
	if (count > server->options.connections_max)
		count = server->options.connections_max;
	hub = calloc(1, sizeof(*hub) + count * sizeof(hub->threads[0]));
	if (!hub)
		return -ENOMEM;
	hub->server = server;
	hub->count = count;
	hub->settle = (struct wh__message){.fn = wh__http_remote_settle, .arg = hub, .embedded = true};
	hub->hold = wh__op_new(server->loop, WH__OP_HTTP);
	if (!hub->hold)
		error = -EAGAIN;
	for (uint32_t i = 0; i < count && error == 0; i++) {
		error = open_thread(hub, i);
		if (error == 0)
			opened++;
	}
	if (error != 0) {
		abandon(hub, opened);
		return error;
	}
	hub->hold->buf = hub;
	hub->hold->cancel_inner = hold_cancelled;
	(void)wh_detach(wh__op_future(hub->hold));
	wh__op_background(hub->hold, true);
	server->hub = hub;
	return 0;
}

/* ---- listen, drain, close ----------------------------------------------------------------- */

struct listening {
	struct listen_note *notes[WH__HTTP_THREADS_MAX];
	uint32_t count;
};

static void stop_listening(struct listening *listening)
{
	while (listening->count > 0) {
		struct listen_note *note = listening->notes[--listening->count];

		if (listening->count > 0) /* the first has the caller's */
			close(note->listener->fd);
		free(note->listener);
		free(note);
	}
}

static int listen_one(struct listening *listening, int fd, wh_tls_context *context)
{
	struct listen_note *note = malloc(sizeof(*note));
	struct wh__http_listener *listener = calloc(1, sizeof(*listener));

	if (!note || !listener) {
		free(note);
		free(listener);
		return -ENOMEM;
	}
	listener->fd = listening->count == 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (listener->fd < 0) {
		free(note);
		free(listener);
		return -errno;
	}
	listener->tls = context;
	note->listener = listener;
	listening->notes[listening->count++] = note;
	return 0;
}

int wh__http_threads_listen(wh_http_server *server, int fd, wh_tls_context *context)
{
	struct wh__http_hub *hub = server->hub;
	struct listening listening = {.count = 0};
	int flags = fcntl(fd, F_GETFL);

	/* another thread may take the connection that one was woken for */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	for (uint32_t i = 0; i < hub->count; i++) {
		int error = listen_one(&listening, fd, context);

		if (error != 0) {
			stop_listening(&listening);
			return error;
		}
	}
	for (uint32_t i = 0; i < hub->count; i++)
		wh__http_way_put(&hub->threads[i].out, &listening.notes[i]->note, WH__HTTP_NOTE_LISTEN);
	wh__op_background(hub->hold, false);
	return 0;
}

void wh__http_threads_drain(wh_http_server *server)
{
	struct wh__http_hub *hub = server->hub;

	for (uint32_t i = 0; i < hub->count; i++)
		wh__http_way_put(&hub->threads[i].out, &hub->threads[i].drain, WH__HTTP_NOTE_DRAIN);
	wh__http_remote_drained(hub);
}

void wh__http_threads_close(wh_http_server *server)
{
	if (!server->hub)
		wh__http_server_release(server);
	else if (!server->hub->closing)
		begin_close(server->hub);
}

void wh__http_threads_stats(const wh_http_server *server, struct wh_http_server_stats *ret)
{
	const struct wh__http_hub *hub = server->hub;
	uint64_t values[sizeof(*ret) / sizeof(uint64_t)] = {0};

	for (uint32_t i = 0; i < hub->count; i++)
		for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
			values[k] += atomic_load_explicit(&hub->threads[i].stats[k], memory_order_relaxed);
	memcpy(ret, values, sizeof(values));
}

size_t wh_http_server_threads(const wh_http_server *server, wh_loop **ret, size_t max)
{
	const struct wh__http_hub *hub = server->hub;
	size_t count = hub ? hub->count : 0;

	for (size_t i = 0; i < count && i < max; i++)
		ret[i] = hub->threads[i].loop;
	return count;
}
