/* src/runtime/registry.c -- the open loops by number, so that a future is a plain value.
 *
 * A lock for each entry keeps a loop from being freed while another thread, which has only a number, speaks to it.
 * The loop's own thread needs none: nobody else closes it, and wh__registry_own() costs two plain loads.
 */
#include "runtime/loop.h"

#include <pthread.h>

enum { LOOPS_MAX = 1024 }; /* number 0 stands for failures without a slot */

static struct entry {
	pthread_mutex_t lock;
	wh_loop *loop;
	_Atomic uintptr_t owner; /* the loop's thread; 0: no loop */
} entries[LOOPS_MAX];

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t last_number;
static _Atomic uint32_t fork_generation;

static void on_fork_child(void)
{
	atomic_fetch_add_explicit(&fork_generation, 1, memory_order_relaxed);
}

static void prepare(void)
{
	for (uint32_t i = 0; i < LOOPS_MAX; i++)
		pthread_mutex_init(&entries[i].lock, NULL);
	(void)pthread_atfork(NULL, NULL, on_fork_child); /* without memory for it a child goes unnoticed */
}

uint32_t wh__fork_generation(void)
{
	return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

int wh__registry_add(wh_loop *loop)
{
	int result = -EMFILE;
	(void)pthread_once(&once, prepare);
	pthread_mutex_lock(&lock);
	/* the next number, not the lowest: a stale future finds no loop rather than another one */
	for (uint32_t tried = 0; tried < LOOPS_MAX && result != 0; tried++) {
		last_number = last_number % (LOOPS_MAX - 1) + 1;
		pthread_mutex_lock(&entries[last_number].lock);
		if (!entries[last_number].loop) {
			entries[last_number].loop = loop;
			atomic_store(&entries[last_number].owner, (uintptr_t)loop->thread);
			loop->number = last_number;
			result = 0;
		}
		pthread_mutex_unlock(&entries[last_number].lock);
	}
	pthread_mutex_unlock(&lock);
	return result;
}

void wh__registry_remove(wh_loop *loop)
{
	pthread_mutex_lock(&entries[loop->number].lock);
	entries[loop->number].loop = NULL;
	atomic_store(&entries[loop->number].owner, 0);
	pthread_mutex_unlock(&entries[loop->number].lock);
}

wh_loop *wh__registry_enter(uint32_t number)
{
	(void)pthread_once(&once, prepare);
	pthread_mutex_lock(&entries[number].lock);
	if (entries[number].loop)
		return entries[number].loop;
	pthread_mutex_unlock(&entries[number].lock);
	return NULL;
}

void wh__registry_leave(uint32_t number)
{
	pthread_mutex_unlock(&entries[number].lock);
}

wh_loop *wh__registry_own(uint32_t number, int *ret_error)
{
	uintptr_t owner = atomic_load_explicit(&entries[number].owner, memory_order_relaxed);
	if (owner == (uintptr_t)pthread_self()) {
		wh_loop *loop = entries[number].loop;
		if (loop->fork_generation == wh__fork_generation())
			return loop;
	}
	*ret_error = owner == 0 ? -ESTALE : -EPERM;
	return NULL;
}
