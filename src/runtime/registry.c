/* src/runtime/registry.c -- see registry.h. */
#include <assert.h>
#include <pthread.h>
#include <sched.h>

#include "runtime/loop.h"

_Thread_local struct wh__thread wh__thread __attribute__((tls_model("initial-exec")));
struct wh__registry_entry wh__registry[WH__LOOPS_MAX];

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of giving out numbers */
static uint32_t last_number;

/* Only the forking thread lives on in the child, and the engine's descriptors are shared with the parent. */
static void in_forked_child(void)
{
	for (uint32_t i = 1; i < WH__LOOPS_MAX; i++) {
		struct wh__registry_entry *entry = &wh__registry[i];
		if (!entry->own)
			continue;
		atomic_store(&entry->inherited, true);
		atomic_store(&entry->owner, NULL);
		atomic_store(&entry->loop, NULL);
	}
	pthread_mutex_init(&lock, NULL); /* it may have been held by a thread that is not here */
	wh__watch_forked();
}

static void prepare(void)
{
	int error = pthread_atfork(NULL, NULL, in_forked_child);
	assert(error == 0); /* without it a child would write into its parent's engine */
}

int wh__registry_add(wh_loop *loop)
{
	int result = -EMFILE;
	(void)pthread_once(&once, prepare);
	pthread_mutex_lock(&lock);
	/* The next number, not the lowest: a stale future finds no loop rather than another one. */
	for (uint32_t tried = 1; tried < WH__LOOPS_MAX && result != 0; tried++) {
		last_number = last_number % (WH__LOOPS_MAX - 1) + 1;
		struct wh__registry_entry *entry = &wh__registry[last_number];
		if (entry->own || entry->generation >= WH__GENERATION_MAX)
			continue;
		entry->own = loop;
		loop->number = last_number;
		loop->first_generation = entry->generation + 1;
		atomic_store(&entry->owner, &wh__thread);
		atomic_store(&entry->loop, loop);
		result = 0;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

void wh__registry_hide(wh_loop *loop)
{
	struct wh__registry_entry *entry = &wh__registry[loop->number];
	atomic_store(&entry->loop, NULL);
	/* A visit is a few instructions and perhaps the one system call of a wake-up. */
	while (atomic_load(&entry->visitor_count) > 0)
		sched_yield();
}

void wh__registry_remove(wh_loop *loop)
{
	struct wh__registry_entry *entry = &wh__registry[loop->number];
	assert(!atomic_load(&entry->loop));
	pthread_mutex_lock(&lock);
	atomic_store(&entry->owner, NULL);
	entry->generation = loop->last_generation;
	entry->own = NULL;
	pthread_mutex_unlock(&lock);
}

wh_loop *wh__registry_enter(uint32_t number, int *ret_error)
{
	struct wh__registry_entry *entry = &wh__registry[number];
	if (atomic_load(&entry->inherited)) {
		*ret_error = -EPERM;
		return NULL;
	}
	/* Announce, then look; hide() takes away, then counts. One of the two sees the other. */
	atomic_fetch_add(&entry->visitor_count, 1);
	wh_loop *loop = atomic_load(&entry->loop);
	if (!loop) {
		atomic_fetch_sub(&entry->visitor_count, 1);
		*ret_error = -ESTALE;
	}
	return loop;
}

void wh__registry_leave(uint32_t number)
{
	atomic_fetch_sub(&wh__registry[number].visitor_count, 1);
}

void wh__registry_disown(wh_loop *loop)
{
	atomic_store(&wh__registry[loop->number].owner, NULL);
	wh__thread.in_callback = true;
}

void wh__registry_reown(wh_loop *loop)
{
	atomic_store(&wh__registry[loop->number].owner, &wh__thread);
	wh__thread.in_callback = loop->in_callback;
}
