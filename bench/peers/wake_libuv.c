/* bench/peers/wake_libuv.c -- two loops on two threads that wake each other by uv_async_send(). Usage: wake_libuv SECONDS */
#include <uv.h>

#include "../measure.h"

static struct measure measure;
static uv_loop_t there;
static uv_async_t to_here, to_there;
static int64_t started;

static void on_there(uv_async_t *handle)
{
	(void)handle;
	uv_async_send(&to_here);
}

static void on_here(uv_async_t *handle)
{
	(void)handle;
	if (measure_goes_on(&measure, started, &started))
		uv_async_send(&to_there);
	else
		uv_stop(uv_default_loop());
}

static void thread(void *arg)
{
	(void)arg;
	uv_run(&there, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
	uv_thread_t id;
	uv_loop_init(&there);
	uv_async_init(uv_default_loop(), &to_here, on_here);
	uv_async_init(&there, &to_there, on_there);
	uv_thread_create(&id, thread, NULL);
	measure_begin(&measure, argc > 1 ? atof(argv[1]) : 1);
	started = measure.began;
	uv_async_send(&to_there);
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	measure_end(&measure);
	measure_print(&measure);
	exit(0); /* the other loop waits for ever */
}
