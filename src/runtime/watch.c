/* src/runtime/watch.c -- callbacks and turns that take long, named in the log.
 *
 * One blocking call in a callback holds up everything else on its loop, and nothing shows which. Two forms: after the
 * fact, the loop itself times each call of user code (slow_ns); while it lasts, a thread of ours looks at the loops (stuck_ns),
 * since a loop that stands still cannot tell of itself. One such thread serves the process, and exists while a loop
 * with stuck_ns is open.
 *
 * Thread: loop; the fields that the watching thread reads are atomic.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/loop.h"

struct wh__watch {
	wh_loop *loop;
	int64_t slow_ns, stuck_ns;
	/* the call under way */
	atomic_llong turn_since; /* 0: the loop waits */
	atomic_llong call_since; /* 0: no call */
	atomic_uintptr_t function;
	/* since the loop was opened */
	uint64_t slow_count, call_ns_max;
	/* one line a second: what it leaves out is said by the next */
	int64_t told_at;
	uint64_t untold_count;
	/* of the watching thread */
	int64_t reported; /* since when the loop was stuck that it told of last */
	bool telling;     /* the log is being called, without the lock; under the lock */
	struct wh__watch *next;
	bool is_listed;
};

void wh__watch_symbol(uintptr_t address, char *ret_text, size_t len)
{
	Dl_info info = {0};
	void *pointer;
	memcpy(&pointer, &address, sizeof pointer);
	if (!dladdr(pointer, &info) || !info.dli_fname) {
		snprintf(ret_text, len, "0x%llx", (unsigned long long)address);
		return;
	}
	const char *slash = strrchr(info.dli_fname, '/');
	const char *file = slash ? slash + 1 : info.dli_fname;
	unsigned long long offset = address - (uintptr_t)info.dli_fbase;
	/* Only what is exported has a name at run time; for the rest: addr2line -f -e FILE OFFSET. */
	if (info.dli_sname && info.dli_saddr == pointer)
		snprintf(ret_text, len, "%s (%s+0x%llx)", info.dli_sname, file, offset);
	else
		snprintf(ret_text, len, "%s+0x%llx", file, offset);
}

static void tell(const struct wh__watch *watch, const char *event, uintptr_t function, int64_t ns,
                 uint64_t untold_count)
{
	char symbol[256], more[64] = "";
	if (function)
		wh__watch_symbol(function, symbol, sizeof symbol);
	else
		snprintf(symbol, sizeof symbol, "the library itself");
	if (untold_count > 0)
		snprintf(more, sizeof more, " (%llu more since the last line)",
		         (unsigned long long)untold_count);
	wh__notice(watch->loop, WH_LOG_WARNING, "%s: %s, %lld.%03lld ms, loop \"%s\"%s", event, symbol,
	           (long long)(ns / WH_NS_PER_MS), (long long)(ns % WH_NS_PER_MS / WH_NS_PER_US),
	           watch->loop->name, more);
}

/* ---- the loop's side ---------------------------------------------------------------------- */

void wh__watch_turn(struct wh__watch *watch, int64_t since)
{
	atomic_store_explicit(&watch->turn_since, since, memory_order_relaxed);
}

void wh__watch_begin(struct wh__watch *watch, uintptr_t function, int64_t since)
{
	atomic_store_explicit(&watch->function, function, memory_order_relaxed);
	atomic_store_explicit(&watch->call_since, since, memory_order_release);
}

int64_t wh__watch_end(struct wh__watch *watch)
{
	int64_t now = wh_clock(watch->loop);
	int64_t ns = now - atomic_load_explicit(&watch->call_since, memory_order_relaxed);
	atomic_store_explicit(&watch->call_since, 0, memory_order_relaxed);
	if ((uint64_t)ns > watch->call_ns_max)
		watch->call_ns_max = (uint64_t)ns;
	if (watch->slow_ns == 0 || ns <= watch->slow_ns)
		return now;
	watch->slow_count++;
	if (watch->told_at != 0 && now - watch->told_at < WH_NS_PER_S) {
		watch->untold_count++;
		return now;
	}
	watch->told_at = now;
	tell(watch, "slow callback", atomic_load_explicit(&watch->function, memory_order_relaxed), ns,
	     watch->untold_count);
	watch->untold_count = 0;
	return wh_clock(watch->loop); /* telling may have taken its time */
}

uintptr_t wh__watch_running(const struct wh__watch *watch, int64_t *ret_since)
{
	int64_t since = atomic_load_explicit(&watch->call_since, memory_order_acquire);
	if (since == 0)
		return 0;
	*ret_since = since;
	return atomic_load_explicit(&watch->function, memory_order_relaxed);
}

void wh__watch_stats(const struct wh__watch *watch, struct wh_stats *ret)
{
	ret->slow_callbacks = watch->slow_count;
	ret->callback_ns_max = watch->call_ns_max;
}

/* ---- the watching thread ------------------------------------------------------------------ */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of the loops in the list */
static pthread_cond_t changed;                           /* on CLOCK_MONOTONIC */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct wh__watch *watched;
static struct watcher {
	pthread_t thread;
	bool stop;
} * watcher; /* NULL: none runs */

static void prepare(void)
{
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

/* The lock is held, but not while the log's function runs: it may take its time, and open and close loops itself. true: it was,
 * and the list may have changed. */
static bool look(struct wh__watch *watch, int64_t now)
{
	int64_t since = atomic_load_explicit(&watch->turn_since, memory_order_relaxed), call_since = 0;
	uintptr_t function = wh__watch_running(watch, &call_since);
	/* Many short callbacks in a long turn are one matter, one long callback is another: tell of the call. */
	if (function && call_since > since)
		since = call_since;
	if (since == 0 || now - since <= watch->stuck_ns || since == watch->reported)
		return false;
	watch->reported = since;
	watch->telling = true;
	pthread_mutex_unlock(&lock);
	tell(watch, "loop is stuck", function, now - since, 0);
	pthread_mutex_lock(&lock);
	watch->telling = false;
	pthread_cond_broadcast(&changed);
	return true;
}

static bool look_at_all(int64_t now, int64_t *ret_shortest)
{
	*ret_shortest = INT64_MAX;
	for (struct wh__watch *watch = watched; watch; watch = watch->next) {
		if (look(watch, now))
			return true;
		if (watch->stuck_ns < *ret_shortest)
			*ret_shortest = watch->stuck_ns;
	}
	return false;
}

/* Looks four times as often as the shortest limit asks. */
static void *watch_main(void *arg)
{
	const struct watcher *self = arg;
	pthread_setname_np(pthread_self(), "whilst/watch");
	pthread_mutex_lock(&lock);
	while (!self->stop) {
		int64_t shortest;
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		int64_t now = (int64_t)until.tv_sec * WH_NS_PER_S + until.tv_nsec;
		if (look_at_all(now, &shortest))
			continue;
		if (shortest > WH_NS_PER_S * 40)
			shortest = WH_NS_PER_S * 40;
		int64_t next = now + (shortest / 4 > WH_NS_PER_MS ? shortest / 4 : WH_NS_PER_MS);
		until.tv_sec = next / WH_NS_PER_S;
		until.tv_nsec = next % WH_NS_PER_S;
		(void)pthread_cond_timedwait(&changed, &lock, &until);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static int start_watcher(void)
{
	struct watcher *new = calloc(1, sizeof *new);
	if (!new)
		return -ENOMEM;
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&new->thread, NULL, watch_main, new);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		free(new);
	else
		watcher = new;
	return -error;
}

static int add_watched(struct wh__watch *watch)
{
	int error = 0;
	(void)pthread_once(&once, prepare);
	pthread_mutex_lock(&lock);
	if (!watcher)
		error = start_watcher();
	if (error == 0) {
		watch->next = watched;
		watched = watch;
		pthread_cond_signal(&changed);
	}
	pthread_mutex_unlock(&lock);
	return error;
}

static void remove_watched(struct wh__watch *watch)
{
	struct watcher *ended = NULL;
	pthread_mutex_lock(&lock);
	while (watch->telling) /* of this loop, on the watching thread */
		pthread_cond_wait(&changed, &lock);
	struct wh__watch **link = &watched;
	while (*link != watch)
		link = &(*link)->next;
	*link = watch->next;
	if (!watched) {
		ended = watcher;
		watcher = NULL; /* who opens a loop meanwhile starts another */
		ended->stop = true;
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	if (ended)
		pthread_join(ended->thread, NULL);
	free(ended);
}

void wh__watch_forked(void)
{
	pthread_mutex_init(&lock, NULL); /* it may have been held by a thread that is not here */
	once = (pthread_once_t)PTHREAD_ONCE_INIT;
	watched = NULL; /* the loops are the parent's */
	watcher = NULL;
}

int wh__watch_open(wh_loop *loop)
{
	const struct wh_loop_options *options = &loop->options;
	if (options->slow_ns < 0 || options->stuck_ns < 0)
		return -EINVAL;
	if (options->slow_ns == 0 && options->stuck_ns == 0)
		return 0;
	struct wh__watch *watch = calloc(1, sizeof *watch);
	if (!watch)
		return -ENOMEM;
	watch->loop = loop;
	watch->slow_ns = options->slow_ns;
	watch->stuck_ns = options->stuck_ns;
	watch->is_listed = watch->stuck_ns > 0 && !loop->engine->now; /* virtual time does not stand still */
	int error = watch->is_listed ? add_watched(watch) : 0;
	if (error)
		free(watch);
	else
		loop->watch = watch;
	return error;
}

void wh__watch_close(wh_loop *loop)
{
	struct wh__watch *watch = loop->watch;
	if (!watch)
		return;
	loop->watch = NULL;
	if (watch->is_listed)
		remove_watched(watch);
	free(watch);
}
