/* src/front/zone_file.c -- a time zone from the machine's tz database. See scheduler.h.
 *
 * Read anew each time: a file is 3 KB at most but for odd ones, and a package that brings new rules replaces it. Thread: the loop of the
 * store. Memory: one struct loading while it goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/scheduler.h"

#define DIRECTORY "/usr/share/zoneinfo"

struct loading {
	wh_loop *loop;
	wh_future promise;
	int fd;
	int64_t error;
	struct zone *zone;
	uint8_t bytes[ZONE_FILE_BYTES_MAX + 1];
};

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	if (res.n >= 0)
		zone_free(res.ptr);
}

static void end(struct loading *l)
{
	if (wh_resolve(l->promise, l->error, l->zone) < 0)
		zone_free(l->zone);
	free(l);
}

static void closed(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop, (void)res; /* nothing was written */
	end(arg);
}

static void got_bytes(wh_loop *loop, wh_res res, void *arg)
{
	struct loading *l = arg;

	l->error = res.n < 0 ? res.n : zone_read(l->bytes, (size_t)res.n, &l->zone);
	if (wh_then(wh_close(loop, l->fd), closed, l) != 0)
		end(l);
}

static void opened(wh_loop *loop, wh_res res, void *arg)
{
	struct loading *l = arg;

	l->error = res.n;
	l->fd = (int)res.n;
	if (res.n < 0) {
		end(l);
	} else if (wh_then(wh_pread_all(loop, l->fd, l->bytes, sizeof(l->bytes), 0), got_bytes, l) != 0) {
		l->error = -ENOMEM;
		if (wh_then(wh_close(loop, l->fd), closed, l) != 0)
			end(l);
	}
}

static bool is_utc(const char *name)
{
	return strcmp(name, "UTC") == 0 || strcmp(name, "Etc/UTC") == 0;
}

wh_future zone_load(wh_loop *loop, const char *directory, const char *name)
{
	char path[4096];
	struct loading *l = calloc(1, sizeof(*l));
	wh_future future;
	int n;

	if (!l)
		return wh_failed(loop, -ENOMEM);
	*l = (struct loading){.loop = loop, .fd = -1};
	future = l->promise = wh_promise(loop, dispose, NULL);
	if (is_utc(name)) { /* there without a database, too */
		l->zone = zone_utc();
		l->error = l->zone ? 0 : -ENOMEM;
		end(l);
		return future;
	}
	n = snprintf(path, sizeof(path), "%s/%s", directory ? directory : DIRECTORY, name);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		l->error = -ENAMETOOLONG;
		end(l);
	} else if (wh_then(wh_open(loop, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0), opened, l) != 0) {
		l->error = -ENOMEM;
		end(l);
	}
	return future;
}
