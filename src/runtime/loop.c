/* src/runtime/loop.c -- open, turn, run, close.
 *
 * A turn: due timers, the callbacks that are ready (in bounded rounds, so that a loop kept busy by itself still looks
 * at its engine), deferred calls, one look at the engine, the inbox. Thread: loop, unless said otherwise.
 */
#include "runtime/probe.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "runtime/object.h"
#include "runtime/task.h"

enum { ROUNDS_MAX = 16 };

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * WH_NS_PER_S + ts.tv_nsec;
}

int64_t wh_clock(const wh_loop *loop)
{
	return loop->engine->now ? loop->engine->now(loop) : clock_ns(CLOCK_MONOTONIC);
}

int64_t wh_now(const wh_loop *loop)
{
	/* Outside callbacks there is no batch that it could be the beginning of. */
	return loop->in_callback ? loop->now : wh_clock(loop);
}

int64_t wh_wall_now(const wh_loop *loop)
{
	return loop->engine->wall_now ? loop->engine->wall_now(loop) : clock_ns(CLOCK_REALTIME);
}

void wh_random(wh_loop *loop, void *ret_bytes, size_t len)
{
	if (loop->engine->random) {
		loop->engine->random(loop, ret_bytes, len);
		return;
	}
	for (size_t done = 0; done < len;) {
		ssize_t n = getrandom((char *)ret_bytes + done, len - done, 0);
		if (n > 0)
			done += (size_t)n;
	}
}

const char *wh_engine_name(const wh_loop *loop)
{
	return loop->engine->name;
}

void wh__notice(wh_loop *loop, int level, const char *format, ...)
{
	char line[512];
	va_list args;
	if (!loop->options.log)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	loop->options.log(level, line, loop->options.log_arg);
}

struct wh__workers *wh__loop_workers(wh_loop *loop, enum wh__worker_class class)
{
	if (!loop->workers[class])
		(void)wh__workers_open(&loop->workers[class], loop, class, loop->workers_max[class]);
	return loop->workers[class]; /* NULL: no memory, which the caller turns into -ENOMEM */
}

/* ---- open --------------------------------------------------------------------------------- */

static int engine_by_name(const char *name)
{
	static const struct {
		const char *name;
		int engine;
	} names[] = {{"auto", WH_AUTO},   {"sync", WH_SYNC},   {"threads", WH_THREADS},
	             {"epoll", WH_EPOLL}, {"uring", WH_URING}, {"sim", WH_SIM}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i].name))
			return names[i].engine;
	return -EINVAL;
}

static int open_engine(wh_loop *loop, const struct wh__engine *engine)
{
	loop->engine = engine;
	return engine->init(loop, &loop->options);
}

static int select_engine(wh_loop *loop)
{
	int wanted = loop->options.engine;
	const char *named = getenv("WHILST_ENGINE");
	if (wanted == WH_AUTO && named && *named) {
		wanted = engine_by_name(named);
		if (wanted < 0 || wanted == WH_SIM) {
			wh__notice(loop, WH_LOG_ERROR,
			           "WHILST_ENGINE=%s is not one of auto, sync, threads, epoll, uring", named);
			return -EINVAL;
		}
	}
	switch (wanted) {
	case WH_SYNC:
		return open_engine(loop, &wh__engine_sync);
	case WH_THREADS:
		return open_engine(loop, &wh__engine_threads);
	case WH_EPOLL:
		return open_engine(loop, &wh__engine_epoll);
	case WH_URING:
		return open_engine(loop, &wh__engine_uring);
	case WH_SIM:
		if (!loop->options.sim)
			return -EINVAL;
		return open_engine(loop, ((const struct wh__simulated *)loop->options.sim)->engine);
	case WH_AUTO:
		break;
	default:
		return -EINVAL;
	}
	loop->choosing = true;
	int error = open_engine(loop, &wh__engine_uring);
	loop->choosing = false;
	if (error != -ENOSYS && error != -EPERM && error != -EACCES && error != -EINVAL && error != -ENOMEM)
		return error;
	const char *why =
		loop->engine && loop->engine->explain ? loop->engine->explain(error) : wh_strerror(error);
	wh__notice(loop, WH_LOG_INFO, "engine epoll, since io_uring is not available here: %s", why);
	return open_engine(loop, &wh__engine_epoll);
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

static void set_limits(wh_loop *loop)
{
	struct wh_loop_options *o = &loop->options;
	o->buffer_bytes = or_default(o->buffer_bytes, 16384);
	o->buffers_max = or_default(o->buffers_max, 65536);
	o->ring_entries = or_default(o->ring_entries, 1024);
	loop->slots_max = or_default(o->futures_max, WH__SLOTS_MAX);
	if (loop->slots_max > WH__SLOTS_MAX)
		loop->slots_max = WH__SLOTS_MAX;
	loop->workers_max[WH__WORKERS_FILES] = or_default(o->file_workers_max, 8);
	loop->workers_max[WH__WORKERS_WORK] = or_default(o->work_workers_max, 8);
	loop->workers_max[WH__WORKERS_SYNC] = or_default(o->sync_workers_max, 2);
	loop->workers_max[WH__WORKERS_SOCKETS] = or_default(o->socket_threads_max, 1024);
}

static void free_memory(wh_loop *loop)
{
	for (uint32_t i = 0; i < WH__CHUNKS_MAX && loop->chunks[i]; i++)
		if (wh__chunk_is_allocated(i))
			free(loop->chunks[i]);
	wh__arguments_fini(loop);
	for (struct wh__message *m = loop->free_messages, *next; m; m = next) {
		next = m->next;
		free(m);
	}
	wh__tasks_close(loop);
	wh__buffers_close(loop->buffers);
	wh__measure_close(loop);
	free(loop->descriptors);
	free(loop);
}

static int open_on(wh_loop *loop)
{
	int error = select_engine(loop);
	if (error != 0)
		return error;
	loop->now = wh_clock(loop);
	wh__wheel_init(&loop->wheel, loop->now);
	error = wh__watch_open(loop);
	if (error != 0)
		loop->engine->fini(loop);
	return error;
}

int wh_loop_open(wh_loop **ret, const struct wh_loop_options *options)
{
	wh_loop *loop = calloc(1, sizeof *loop);
	if (!loop)
		return -ENOMEM;
	if (options)
		loop->options = *options;
	set_limits(loop);
	snprintf(loop->name, sizeof loop->name, "%s", loop->options.name ? loop->options.name : "");
	loop->options.name = loop->name;
	loop->deferred_last = &loop->deferred;
	loop->buffers = wh__buffers_open(loop);
	loop->owner_tid = gettid();
	int error = loop->buffers ? wh__measure_open(loop) : -ENOMEM;
	if (error == 0)
		error = wh__registry_add(loop);
	if (error == 0) {
		error = open_on(loop);
		if (error != 0) {
			wh__registry_hide(loop);
			wh__registry_remove(loop);
		}
	}
	if (error != 0) {
		free_memory(loop);
		return error;
	}
	loop->next_of_thread = wh__thread.loops;
	wh__thread.loops = loop;
	*ret = loop;
	return 0;
}

/* ---- turn --------------------------------------------------------------------------------- */

static void fire_timer(struct wh__op *op)
{
	if (op->opcode == WH__OP_DEADLINE)
		wh__combine_timer(op);
	else if (op->opcode == WH__OP_TICK)
		wh__ticker_fire(op);
	else
		wh__op_complete(op, 0, NULL);
}

static void look_at_clock(wh_loop *loop)
{
	loop->now = wh_clock(loop);
	if (loop->watch)
		wh__watch_turn(loop->watch, loop->now);
	WH__PROBE1(turn_begin, loop->number);
	if (loop->wheel.armed_count > 0)
		wh__wheel_advance(&loop->wheel, loop->now, fire_timer);
}

/* What runs, for who watches: of a task its body. */
static uintptr_t function_of(const struct wh__op *op)
{
	if (op->state == WH__PENDING)
		return wh__task_body(op->engine_data);
	return op->callback == wh__task_resume ? wh__task_body(op->arg) : (uintptr_t)op->callback;
}

/* The callbacks that are ready now; those they make ready wait for the next round. */
static void run_ready(wh_loop *loop)
{
	struct wh__op *op = loop->ready.first, *next;
	struct wh__watch *watch = loop->watch;
	int64_t since = watch ? wh_clock(loop) : 0;
	loop->ready = (struct wh__queue){0};
	wh__callbacks_begin(loop);
	for (; op; op = next) {
		wh_callback *callback = op->callback;
		void *arg = op->arg;
		wh_res res = {op->n, op->ptr};
		next = op->next;
		if (watch)
			wh__watch_begin(watch, function_of(op), since);
		if (op->state == WH__PENDING) { /* a task that begins, or has yielded */
			wh__task_continue(op);
		} else {
			loop->pending_count--;
			wh__op_free(op);
			WH__PROBE4(callback_begin, loop->number, callback, arg, res.n);
			callback(loop, res, arg);
			WH__PROBE2(callback_end, loop->number, callback);
		}
		if (watch)
			since = wh__watch_end(watch);
	}
	wh__callbacks_end(loop);
}

static void run_deferred(wh_loop *loop)
{
	struct wh__message *message = loop->deferred, *next;
	loop->deferred = NULL;
	loop->deferred_last = &loop->deferred;
	wh__callbacks_begin(loop);
	for (; message; message = next) {
		wh_function *fn = message->fn;
		void *arg = message->arg;
		next = message->next;
		if (!message->embedded) {
			message->next = loop->free_messages;
			loop->free_messages = message;
		}
		wh__call(loop, fn, arg);
	}
	wh__callbacks_end(loop);
}

/* Deferred calls come when nothing is ready, or when the rounds are used up: before the loop waits in any case.
 * false: still busy after the rounds that one turn grants. */
static bool run_due(wh_loop *loop)
{
	look_at_clock(loop);
	wh__inbox_drain(loop);
	for (int round = 0; round < ROUNDS_MAX; round++) {
		if (loop->ready.first)
			run_ready(loop);
		else if (loop->deferred)
			run_deferred(loop);
		else
			return true;
	}
	if (loop->deferred)
		run_deferred(loop);
	return !loop->ready.first && !loop->deferred;
}

void wh__defer(wh_loop *loop, struct wh__message *message)
{
	assert(wh__loop_is_mine(loop));
	message->next = NULL;
	*loop->deferred_last = message;
	loop->deferred_last = &message->next;
}

int wh_defer(wh_loop *loop, wh_function *fn, void *arg)
{
	if (!fn)
		return -EINVAL;
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	struct wh__message *message = loop->free_messages;
	if (message)
		loop->free_messages = message->next;
	else
		message = malloc(sizeof *message);
	if (!message)
		return -ENOMEM;
	*message = (struct wh__message){.fn = fn, .arg = arg};
	wh__defer(loop, message);
	return 0;
}

static int64_t shorter(int64_t a, int64_t b)
{
	if (a < 0)
		return b;
	return b < 0 || a < b ? a : b;
}

static bool has_nothing(const wh_loop *loop)
{
	return loop->pending_count == 0 && !loop->ready.first && !loop->deferred && wh__inbox_is_empty(loop);
}

/* The same, but for what goes on in the background. */
static bool awaits_nothing(const wh_loop *loop)
{
	return loop->pending_count == loop->background_count && !loop->ready.first && !loop->deferred &&
	       wh__inbox_is_empty(loop);
}

/* done: what the caller turns for; once it is set there is nothing to wait for. NULL: until nothing is pending, unless the
 * loop runs until it is stopped. */
static bool is_over(const wh_loop *loop, const bool *done)
{
	return done ? *done : (!loop->started_thread || loop->closing) && awaits_nothing(loop);
}

/* What is due, then one look at the engine; what that completes is due in the next turn. A stop is for who runs or turns
 * the loop; who awaits goes on. */
static int turn(wh_loop *loop, int64_t wait_ns, const bool *done, bool awaiting)
{
	uint64_t batches = loop->batches, completed = loop->completed_count;
	bool idle = run_due(loop);
	/* Whoever turns the loop until something has happened wants to look when something has. */
	if (done && !awaiting && (batches != loop->batches || completed != loop->completed_count))
		idle = false;
	int64_t now = wh_clock(loop);
	loop->turn_count++;
	if ((uint64_t)(now - loop->now) > loop->turn_ns_max)
		loop->turn_ns_max = (uint64_t)(now - loop->now);
	WH__PROBE2(turn_end, loop->number, now - loop->now);
	if (loop->watch)
		wh__watch_turn(loop->watch, 0);
	if (is_over(loop, done) || (!awaiting && atomic_load_explicit(&loop->stop, memory_order_relaxed)))
		return 0;
	if (!idle)
		wait_ns = 0;
	else if (wait_ns != 0 && loop->wheel.armed_count > 0)
		wait_ns = shorter(wait_ns, wh__wheel_wait(&loop->wheel, now));
	bool asleep = wait_ns != 0 && wh__inbox_may_sleep(loop);
	loop->wait_count++;
	int error = loop->engine->wait(loop, asleep ? wait_ns : 0);
	if (asleep)
		wh__inbox_awake(loop);
	return error;
}

static int enter(wh_loop *loop)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (wh__thread.in_callback || loop->running)
		return -EDEADLK;
	loop->running = true;
	return 0;
}

static void leave(wh_loop *loop)
{
	if (loop->watch)
		wh__watch_turn(loop->watch, 0);
	loop->running = false;
}

static bool take_stop(wh_loop *loop)
{
	return atomic_load_explicit(&loop->stop, memory_order_relaxed) && atomic_exchange(&loop->stop, false);
}

int wh_loop_turn(wh_loop *loop, int64_t wait_ns)
{
	int error = enter(loop);
	if (error != 0)
		return error;
	const bool never = false;
	error = turn(loop, wait_ns, &never, false);
	if (error == 0) {
		(void)run_due(loop); /* what is left is for the next turn */
		error = take_stop(loop);
	}
	leave(loop);
	return error;
}

int wh_loop_run(wh_loop *loop)
{
	int result = enter(loop);
	if (result != 0)
		return result;
	while (result == 0) {
		if (take_stop(loop))
			result = 1;
		else if (is_over(loop, NULL))
			break;
		else
			result = turn(loop, -1, NULL, false);
	}
	leave(loop);
	return result;
}

void wh_loop_stop(wh_loop *loop)
{
	atomic_store(&loop->stop, true);
	wh__wake(loop);
}

/* wh_await() on the loop's thread: turn until *done. */
int wh__loop_turn_until(wh_loop *loop, const bool *done)
{
	int error = enter(loop);
	if (error != 0)
		return error;
	while (error == 0 && !*done)
		error = turn(loop, -1, done, true);
	leave(loop);
	return error;
}

/* ---- close -------------------------------------------------------------------------------- */

static void for_each_slot(wh_loop *loop, enum wh__state state, void (*act)(struct wh__op *op))
{
	for (uint32_t i = 0; i < loop->slots_made; i++) {
		struct wh__op *op = &loop->chunks[i / WH__CHUNK_SLOTS][i % WH__CHUNK_SLOTS];
		if (op->state == state)
			act(op);
	}
}

static void dispose_unconsumed(struct wh__op *op)
{
	if (op->consumer == WH__CONSUMER_NONE) {
		wh__op_dispose(op);
		wh__op_free(op);
	}
}

/* Groups, channels, ... that nobody has closed. */
static void free_object(struct wh__op *op)
{
	if (op->opcode == WH__OP_OBJECT)
		wh__object_free(op->engine_data);
}

static void note_generation(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	if (op->generation > loop->last_generation)
		loop->last_generation = op->generation;
}

static uint64_t started_count(const wh_loop *loop)
{
	uint64_t count = 0;
	for (int i = 0; i < WH__OP__MAX; i++)
		count += loop->counts[i].started;
	return count;
}

/* Everything has been told to end: turn until it has. What callbacks start meanwhile fails at once, but for the closing
 * of descriptors. */
static void finish(wh_loop *loop)
{
	uint64_t started = 0, completed = 0;
	int errors = 0;
	do {
		while (!has_nothing(loop)) {
			if (started != started_count(loop)) {
				started = started_count(loop);
				for_each_slot(loop, WH__PENDING, wh__op_cancel);
			}
			loop->closing_turns++;
			if (turn(loop, -1, NULL, true) < 0)
				errors++;
			if (completed != loop->completed_count)
				errors = 0;
			completed = loop->completed_count;
			assert(errors < 1000); /* memory of callers would stay in use */
		}
		for_each_slot(loop, WH__DONE, dispose_unconsumed); /* may close descriptors */
		for_each_slot(loop, WH__PENDING, free_object);     /* so may the disposers of a channel */
	} while (!has_nothing(loop));
}

static void leave_thread(wh_loop *loop)
{
	wh_loop **link = &wh__thread.loops;
	while (*link != loop)
		link = &(*link)->next_of_thread;
	*link = loop->next_of_thread;
}

static wh_loop *close_here(wh_loop *loop)
{
	loop->closing = true;
	loop->running = true;
	atomic_store(&loop->stop, false);
	finish(loop);
	wh__registry_hide(loop); /* from here on no other thread finds the loop by a future */
	finish(loop);            /* with what the last visitors left */
	for (int i = 0; i < WH__WORKERS__MAX; i++)
		loop->workers[i] = wh__workers_close(loop->workers[i]);
	if (loop->close_children)
		loop->close_children(loop);
	if (loop->at_close)
		loop->at_close(loop);
	wh__watch_close(loop);
	if (loop->close_names)
		loop->close_names(loop);
	loop->engine->fini(loop);
	leave_thread(loop);
	loop->last_generation = loop->first_generation;
	for (uint32_t i = WH__FREE; i <= WH__DONE; i++)
		for_each_slot(loop, (enum wh__state)i, note_generation);
	wh__registry_remove(loop);
	free_memory(loop);
	return NULL;
}

bool wh__loop_is_closed_to(const wh_loop *loop)
{
	enum { TURNS_GRANTED = 100 };
	return loop->closing_turns > TURNS_GRANTED;
}

/* ---- loops with a thread of their own ------------------------------------------------------ */

struct started {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const struct wh_loop_options *options;
	wh_loop *loop;
	int error;
	bool is_open, close;
};

static void *started_main(void *arg)
{
	struct started *started = arg;
	wh_loop *loop = NULL;
	if (started->options && started->options->name) {
		char name[16]; /* what a thread's name has room for */
		snprintf(name, sizeof name, "%s", started->options->name);
		pthread_setname_np(pthread_self(), name);
	}
	int error = wh_loop_open(&loop, started->options);
	pthread_mutex_lock(&started->lock);
	started->error = error;
	started->loop = loop;
	started->is_open = true;
	if (error == 0) {
		loop->started = started;
		loop->started_thread = true;
	}
	pthread_cond_broadcast(&started->changed);
	pthread_mutex_unlock(&started->lock);
	if (error != 0)
		return NULL;
	(void)wh_loop_run(loop); /* a failed engine ends the run; operations then end at close */
	pthread_mutex_lock(&started->lock);
	while (!started->close)
		pthread_cond_wait(&started->changed, &started->lock);
	pthread_mutex_unlock(&started->lock);
	close_here(loop);
	return NULL;
}

int wh_loop_start(wh_loop **ret, const struct wh_loop_options *options)
{
	if (options && options->engine == WH_SIM)
		return wh_loop_open(ret, options);
	struct started *started = calloc(1, sizeof *started);
	if (!started)
		return -ENOMEM;
	pthread_mutex_init(&started->lock, NULL);
	pthread_cond_init(&started->changed, NULL);
	started->options = options;
	pthread_t thread;
	int error = -pthread_create(&thread, NULL, started_main, started);
	if (error == 0) {
		pthread_mutex_lock(&started->lock);
		while (!started->is_open)
			pthread_cond_wait(&started->changed, &started->lock);
		error = started->error;
		pthread_mutex_unlock(&started->lock);
		if (error == 0) {
			started->loop->thread = thread;
			*ret = started->loop;
			return 0;
		}
		pthread_join(thread, NULL);
	}
	pthread_cond_destroy(&started->changed);
	pthread_mutex_destroy(&started->lock);
	free(started);
	return error;
}

static wh_loop *close_started(wh_loop *loop)
{
	struct started *started = loop->started;
	pthread_t thread = loop->thread;
	wh_loop_stop(loop);
	pthread_mutex_lock(&started->lock);
	started->close = true;
	pthread_cond_broadcast(&started->changed);
	pthread_mutex_unlock(&started->lock);
	pthread_join(thread, NULL);
	pthread_cond_destroy(&started->changed);
	pthread_mutex_destroy(&started->lock);
	free(started);
	return NULL;
}

wh_loop *wh_loop_close(wh_loop *loop)
{
	if (!loop)
		return NULL;
	if (atomic_load(&wh__registry[loop->number].inherited))
		return loop; /* it is the parent's */
	if (loop->started_thread) {
		assert(!wh__loop_is_mine(loop)); /* a thread cannot wait for its own end */
		return close_started(loop);
	}
	assert(wh__loop_is_mine(loop));
	assert(!wh__thread.in_callback && !loop->running);
	return close_here(loop);
}
