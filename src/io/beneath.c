/* src/io/beneath.c -- opens a file below a folder that nothing leads out of.
 *
 * The kernel does it where it has openat2(2). Some sandboxes refuse that call, and a simulated machine has none: there the path is
 * walked here, a segment at a time and never through a symbolic link. What a link says takes the place of its name. ".." goes back by
 * names, from the folder on, and not by the disk's own "..": a folder that is moved away meanwhile would lead out.
 *
 * Thread: any; of a simulated machine its own. Memory: on the stack.
 */
#include "io/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine.h"
#include "runtime/loop.h"

enum {
	TRIES = 100,    /* while others rename what is on the way */
	LINKS_MAX = 40, /* as in the kernel */
	PATH_ROOM = 2 * PATH_MAX
};

/* A FIFO or a device must not hold us up before it is seen to be none of ours. */
enum { OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

/* ---- calls, of a real machine or of a simulated one ------------------------------------------- */

static int64_t result_of(int64_t n)
{
	return n < 0 ? -errno : n;
}

wh_loop *wh__beneath_simulated(wh_loop *loop)
{
	return loop->engine->execute ? loop : NULL;
}

static int64_t simulate(wh_loop *loop, struct wh__op op)
{
	void *ptr = NULL;

	op.loop = loop;
	return loop->engine->execute(&op, &ptr);
}

static int64_t open_one(wh_loop *simulated, int at, const char *name, int flags)
{
	if (simulated)
		return simulate(simulated, (struct wh__op){.opcode = WH__OP_OPEN,
		                                           .fd = at,
		                                           .buf = (void *)(uintptr_t)name,
		                                           .len = (unsigned)(flags & ~O_PATH)});
	return result_of(openat(at, name, flags | O_CLOEXEC));
}

static int64_t read_link(wh_loop *simulated, int at, const char *name, char *to, size_t len)
{
	if (simulated)
		return simulate(simulated, (struct wh__op){.opcode = WH__OP_READLINK,
		                                           .fd = at,
		                                           .buf = (void *)(uintptr_t)name,
		                                           .second = to,
		                                           .len = len});
	return result_of(readlinkat(at, name, to, len));
}

void wh__close_beneath(wh_loop *simulated, int fd)
{
	if (simulated)
		(void)simulate(simulated, (struct wh__op){.opcode = WH__OP_CLOSE, .fd = fd});
	else
		close(fd);
}

static int64_t look_at(wh_loop *simulated, int fd, struct wh_stat *ret)
{
	struct stat st;

	if (simulated) {
		void *arguments = wh__stat_arguments("");
		int64_t n = -ENOMEM;

		if (arguments)
			n = simulate(simulated, (struct wh__op){.opcode = WH__OP_STAT,
			                                        .fd = fd,
			                                        .buf = arguments,
			                                        .second = ret,
			                                        .len = AT_EMPTY_PATH});
		free(arguments);
		return n;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = (struct wh_stat){.type = S_ISREG(st.st_mode)   ? WH_FILE_REGULAR
	                                : S_ISDIR(st.st_mode) ? WH_FILE_DIRECTORY
	                                                      : WH_FILE_UNKNOWN,
	                        .size = (uint64_t)st.st_size,
	                        .inode = st.st_ino,
	                        .modified_ns = wh__ns_of(st.st_mtim.tv_sec, st.st_mtim.tv_nsec)};
	return 0;
}

/* ---- a walk ------------------------------------------------------------------------------------ */

struct walk {
	wh_loop *simulated;
	int folder, at; /* at: the folder that has been reached; the first one is not ours */
	int links;
	bool ends_as_folder;      /* the last segment had a slash behind it, or was "." or ".." */
	char names[PATH_ROOM];    /* from the folder to at, none of them a link: "a/b/c" */
	char texts[2][PATH_ROOM]; /* what is still to be walked, in one of them */
	char target[PATH_MAX];
};

static void leave(struct walk *w, int to)
{
	if (w->at != w->folder)
		wh__close_beneath(w->simulated, w->at);
	w->at = to;
}

/* A name that is no link, which was looked at before; it is one by now: -ELOOP or -ENOTDIR. */
static int64_t enter(struct walk *w, const char *name)
{
	int64_t n = open_one(w->simulated, w->at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);

	if (n < 0)
		return n;
	leave(w, (int)n);
	return 0;
}

/* Once more to the folder above, by names. */
static int64_t go_up(struct walk *w)
{
	char *slash = strrchr(w->names, '/'), *name = w->names;
	int64_t n = 0;

	if (!*w->names)
		return -EXDEV;
	*(slash ? slash : w->names) = 0;
	leave(w, w->folder);
	while (n == 0 && *name) {
		size_t len = strcspn(name, "/");
		char after = name[len];

		name[len] = 0;
		n = enter(w, name);
		name[len] = after;
		name += len + (after != 0);
	}
	return n < 0 ? -EAGAIN : 0; /* it was there a moment ago */
}

static int64_t go_down(struct walk *w, const char *name)
{
	size_t used = strlen(w->names);
	int64_t n = enter(w, name);

	if (n < 0)
		return n;
	if (used + strlen(name) + 2 > sizeof(w->names))
		return -ENAMETOOLONG;
	if (used > 0)
		w->names[used++] = '/';
	memcpy(w->names + used, name, strlen(name) + 1);
	return 0;
}

/* The target of a link takes the place of its name; *rest: what comes behind it. */
static int64_t unfold(struct walk *w, size_t len, const char **rest)
{
	char *text = w->texts[++w->links % 2];

	if (w->links > LINKS_MAX)
		return -ELOOP;
	if (len == 0)
		return -ENOENT;
	if (w->target[0] == '/')
		return -EXDEV;
	if (len == sizeof(w->target) || len + strlen(*rest) + 1 > PATH_ROOM)
		return -ENAMETOOLONG;
	memcpy(text, w->target, len);
	memcpy(text + len, *rest, strlen(*rest) + 1); /* with its slash */
	*rest = text;
	return 0;
}

/* One segment. name: without slashes; *rest: what comes behind it, with its slash. n = a descriptor of the last one; 0: it goes on. */
static int64_t step(struct walk *w, const char *name, const char **rest)
{
	bool last = !**rest;
	int64_t n;

	w->ends_as_folder = true;
	if (strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") == 0)
		return go_up(w);
	n = read_link(w->simulated, w->at, name, w->target, sizeof(w->target));
	if (n >= 0)
		return unfold(w, (size_t)n, rest);
	if (n != -EINVAL)
		return n;
	if (!last)
		return go_down(w, name);
	w->ends_as_folder = false;
	n = open_one(w->simulated, w->at, name, OPEN_FLAGS | O_NOFOLLOW);
	return n == -ELOOP ? -EAGAIN : n;
}

static int64_t walk_to(struct walk *w, const char *path)
{
	char name[NAME_MAX + 1];
	const char *rest = path;
	int64_t n = 0;

	w->ends_as_folder = true;
	while (n == 0 && *(rest += strspn(rest, "/"))) {
		size_t len = strcspn(rest, "/");

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, rest, len);
		name[len] = 0;
		rest += len;
		n = step(w, name, &rest);
		if (n == 0 && !w->ends_as_folder)
			return 0; /* descriptor 0: a process without standard input */
	}
	if (n == 0 && w->ends_as_folder)
		n = open_one(w->simulated, w->at, ".", OPEN_FLAGS | O_DIRECTORY);
	return n;
}

static int64_t walk(wh_loop *simulated, int folder, const char *path)
{
	struct walk w;
	int64_t n;
	int tries = TRIES;

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (*path == '/')
		return -EXDEV;
	do {
		w.simulated = simulated;
		w.folder = w.at = folder;
		w.links = 0;
		w.names[0] = 0;
		n = walk_to(&w, path);
		leave(&w, folder);
	} while (n == -EAGAIN && --tries > 0);
	return n;
}

static int64_t open_below(int folder, const char *path)
{
	struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	int tries = TRIES;
	int64_t n;

	do
		n = result_of(syscall(SYS_openat2, folder, *path ? path : ".", &how, sizeof(how)));
	while (n == -EAGAIN && --tries > 0); /* a rename nearby, openat2(2); or a lease, which stays */
	return n == -ENOSYS || n == -EPERM ? walk(NULL, folder, path) : n;
}

int64_t wh__open_beneath(wh_loop *simulated, int folder, const char *path, struct wh_stat *ret_stat)
{
	int64_t n = simulated ? walk(simulated, folder, path) : open_below(folder, path), error;

	if (n < 0)
		return n;
	error = look_at(simulated, (int)n, ret_stat);
	if (error < 0) {
		wh__close_beneath(simulated, (int)n);
		return error;
	}
	return n;
}
