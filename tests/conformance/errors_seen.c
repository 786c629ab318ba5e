/* tests/conformance/errors_seen.c -- which errors each public function has given, for errors_seen.py to compare with what its
 * header promises.
 *
 * With WHILST_ERRORS_SEEN=FILE every error is marked in a table of bytes: a row for each function, a column for each error
 * code. It is mapped and shared, so that forked children, other users, processes that end by _exit(2) and the program run by
 * itself mark as well (WHILST_ERRORS_PART tells those of the table under way). When the program ends well the table gets the name
 * FILE: so a file is what one whole run has given. Without it the wrappers only pass on.
 *
 * A future is remembered by its number from where it is started to where it is consumed. What combinators and groups consume
 * is not followed, but for wh_deadline().
 *
 * Thread: any; one lock.
 */
#include "errors_seen.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FUNCTIONS_MAX = 512, CODES = 8192, ORIGINS = 1 << 18 };

/* Where a future comes from. */
struct origin {
	uint64_t id;
	int function;
	int inner; /* of wh_deadline(): the function whose future it limits; else -1 */
};

static uint8_t *marks; /* NULL: nobody wants to know */
static char part_path[4096];
static pid_t first;
static struct origin *origins;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void name_table(int status, void *arg)
{
	if (getpid() == first && (status != 0 || rename(part_path, arg) != 0))
		(void)unlink(part_path);
}

/* The table of whoever has started this program, or a new one. */
static int open_part(const char *path)
{
	const char *part = getenv("WHILST_ERRORS_PART");
	if (part)
		return open(part, O_RDWR | O_CLOEXEC);
	snprintf(part_path, sizeof part_path, "%s.%d", path, (int)getpid());
	int fd = open(part_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)FUNCTIONS_MAX * CODES) != 0 ||
	    setenv("WHILST_ERRORS_PART", part_path, 1) != 0)
		return -1;
	first = getpid();
	on_exit(name_table, (void *)(uintptr_t)path);
	return fd;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WHILST_ERRORS_SEEN");
	if (!path || !*path)
		return;
	int fd = open_part(path);
	if (fd >= 0) {
		void *mapped =
			mmap(NULL, (size_t)FUNCTIONS_MAX * CODES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		origins = calloc(ORIGINS, sizeof *origins);
		if (mapped != MAP_FAILED && origins)
			marks = mapped;
		close(fd);
	}
	if (!marks) {
		perror(path);
		_exit(1);
	}
}

int64_t seen_result(int function, int64_t n)
{
	if (marks && n < 0 && -n < CODES && function >= 0)
		marks[(size_t)function * CODES + (size_t)-n] = 1;
	return n;
}

static struct origin *place(uint64_t id)
{
	return &origins[(id * UINT64_C(0x9e3779b97f4a7c15)) >> 46];
}

static struct origin origin_of(wh_future f)
{
	struct origin none = {0, -1, -1}, found;
	if (!marks)
		return none;
	pthread_mutex_lock(&lock);
	found = *place(f.id);
	pthread_mutex_unlock(&lock);
	return found.id == f.id && f.id != 0 ? found : none;
}

static void remember(wh_future f, int function, int inner)
{
	pthread_mutex_lock(&lock);
	*place(f.id) = (struct origin){f.id, function, inner};
	pthread_mutex_unlock(&lock);
}

wh_future seen_future(int function, wh_future f)
{
	if (!marks)
		return f;
	if (f.id >> 54 == 0) /* it has no slot, and is the error itself: futures.md */
		seen_result(function, -(int64_t)(uint32_t)f.id);
	else
		remember(f, function, -1);
	return f;
}

static void mark(struct origin origin, int64_t n)
{
	seen_result(n == -ETIMEDOUT || origin.inner < 0 ? origin.function : origin.inner, n);
}

/* The consumer's own: of whatever future. */
static bool is_of_consumer(int64_t n)
{
	return n == -ESTALE || n == -EDEADLK;
}

wh_res __real_wh_await(wh_future f);
wh_res __wrap_wh_await(wh_future f);
wh_res __wrap_wh_await(wh_future f)
{
	struct origin origin = origin_of(f);
	wh_res res = __real_wh_await(f);
	mark(origin, res.n);
	if (is_of_consumer(res.n))
		seen_result(seen_await, res.n);
	return res;
}

bool __real_wh_poll(wh_future f, wh_res *ret);
bool __wrap_wh_poll(wh_future f, wh_res *ret);
bool __wrap_wh_poll(wh_future f, wh_res *ret)
{
	struct origin origin = origin_of(f);
	bool done = __real_wh_poll(f, ret);
	if (done && ret) {
		mark(origin, ret->n);
		if (is_of_consumer(ret->n))
			seen_result(seen_poll, ret->n);
	}
	return done;
}

struct carried {
	struct origin origin;
	wh_callback *callback;
	void *arg;
};

static void pass_on(wh_loop *loop, wh_res res, void *arg)
{
	struct carried carried = *(struct carried *)arg;
	free(arg);
	mark(carried.origin, res.n);
	carried.callback(loop, res, carried.arg);
}

int __real_wh_then(wh_future f, wh_callback *callback, void *arg);
int __wrap_wh_then(wh_future f, wh_callback *callback, void *arg);
int __wrap_wh_then(wh_future f, wh_callback *callback, void *arg)
{
	struct origin origin = origin_of(f);
	struct carried *carried = callback && origin.function >= 0 ? malloc(sizeof *carried) : NULL;
	if (!carried)
		return (int)seen_result(seen_then, __real_wh_then(f, callback, arg));
	*carried = (struct carried){origin, callback, arg};
	int error = __real_wh_then(f, pass_on, carried);
	if (error != 0)
		free(carried);
	return (int)seen_result(seen_then, error);
}

wh_future __real_wh_deadline(wh_future f, int64_t at);
wh_future __wrap_wh_deadline(wh_future f, int64_t at);
wh_future __wrap_wh_deadline(wh_future f, int64_t at)
{
	struct origin origin = origin_of(f);
	wh_future limited = __real_wh_deadline(f, at);
	if (marks && limited.id >> 54 != 0)
		remember(limited, seen_deadline, origin.function);
	else
		seen_future(seen_deadline, limited);
	return limited;
}
