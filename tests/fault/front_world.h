/* tests/fault/front_world.h -- a front with its store and backends, asked by hand while the n-th allocation fails, or so many from that one on.
 *
 * For a program that includes it once. LIBRARY_FAILS: it is linked with a static library, whose allocations fail, too.
 */
#ifndef WH_TESTS_FRONT_WORLD_H
#define WH_TESTS_FRONT_WORLD_H

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "deliver/ranges.h"
#include "deliver/sign.h"
#include "front/front.h"
#include "store/store.h"
#include "whilst/http.h"

#include "allocations.h"

#ifndef LIBRARY_FAILS
#define LIBRARY_FAILS 0
#endif

static int in_a_row; /* allocations that fail */

enum {
	ANSWER_BYTES = 1 << 18,
	ROUNDS_MAX = 4000,
	GOOD_AFTER = 3,
	BLOB_BYTES = 8192, /* larger bodies are in files */
	LARGE_BYTES = 20000,
	CHUNK_BYTES = 4000
};

struct world {
	wh_loop *loop;
	struct store *store;
	struct api *front;
	wh_http_server *backend;
	char directory[64], backend_url[2][64];
	struct sockaddr_storage address;
	socklen_t address_len;
	int failures;
	/* of the round */
	long round;
	bool spoilt; /* something of it was not done */
	char large;  /* not 0: a body is LARGE_BYTES of these, and sent in chunks */
	int status;  /* of the last answer; 0: none */
	size_t answer_len;
	char answer[ANSWER_BYTES];
};

static void on_failure(int64_t error, const char *message, void *arg)
{
	(void)error, (void)message;
	((struct world *)arg)->failures++;
}

static void on_backend(wh_http_exchange *x, void *arg)
{
	(void)arg;
	wh_http_respond(x, 200, "backend", 7);
}

static int listen_at(struct world *w, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = wh_listen(w->loop, (struct sockaddr *)&any, sizeof(any), NULL);

	assert_true(fd >= 0);
	assert_int_equal(wh_local_address(w->loop, fd, ret, ret_len), 0);
	return fd;
}

static void open_world(struct world *w)
{
	struct front_options options = {.payload_bytes_max = 1 << 20,
	                                .wait_ns_max = 60 * WH_NS_PER_S,
	                                .request_timeout_ns = 30 * WH_NS_PER_S,
	                                .idle_timeout_ns = 60 * WH_NS_PER_S,
	                                .connections_max = 100};
	static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
	struct ranges ranges = {.count = 0};
	struct secrets secrets;
	const char *detail;
	unsigned line;
	struct store_options store = {.segment_bytes = 4 << 20,
	                              .recent_bytes = 1 << 20,
	                              .blob_bytes = BLOB_BYTES,
	                              .on_failure = on_failure,
	                              .failure_arg = w};
	struct wh_http_server_options backend = {.on_request = on_backend};
	struct sockaddr_storage address;
	struct store_problem problem;
	socklen_t len;
	int fd;

	/* a folder in memory, where there is one: it is not the disk that is tried here */
	snprintf(w->directory, sizeof(w->directory), "%s/whilst-store-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(w->directory));
	store.directory = w->directory;
	assert_int_equal(wh_loop_open(&w->loop, NULL), 0);
	assert_int_equal(store_open(w->loop, &store, &w->store, &problem), 0);
	assert_true(ranges_add(&ranges, "127.0.0.0/8"));
	options.ranges = &ranges;
	assert_int_equal(front_open(w->loop, w->store, &options, &w->front), 0);
	assert_int_equal(secrets_read(secret, sizeof(secret) - 1, &secrets, &line, &detail), 0);
	assert_int_equal(front_use_secrets(w->front, &secrets), 0);
	assert_int_equal(front_listen(w->front, listen_at(w, &w->address, &w->address_len), NULL), 0);
	assert_int_equal(wh_http_server_open(w->loop, &backend, &w->backend), 0);
	for (int i = 0; i < 2; i++) {
		fd = listen_at(w, &address, &len);
		assert_int_equal(wh_http_server_listen(w->backend, fd), 0);
		snprintf(w->backend_url[i], sizeof(w->backend_url[i]), "http://127.0.0.1:%u",
		         ntohs(((struct sockaddr_in *)&address)->sin_port));
	}
}

static void close_world(struct world *w)
{
	char command[128];

	front_close(w->front);
	w->backend = wh_http_server_close(w->backend);
	store_close(w->store);
	w->loop = wh_loop_close(w->loop);
	front_free(w->front);
	snprintf(command, sizeof(command), "rm -rf %s", w->directory);
	assert_int_equal(system(command), 0);
}

/* ---- asking ------------------------------------------------------------------------------ */

/* '@' is the number of the round, '$' and '^' the URLs of the backends. */
static size_t expand(const struct world *w, const char *from, char *to, size_t cap)
{
	size_t len = 0;

	for (; from && *from; from++) {
		if (*from == '@')
			len += (size_t)snprintf(to + len, cap - len, "%ld", w->round);
		else if (*from == '$' || *from == '^')
			len += (size_t)snprintf(to + len, cap - len, "%s", w->backend_url[*from == '^']);
		else
			to[len++] = *from;
		assert_true(len < cap - 80);
	}
	to[len] = 0;
	return len;
}

/* The whole answer, or of a stream what has come by the time that it has until; then the connection is closed. */
static void receive(struct world *w, int fd, const char *until)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;
	size_t len = 0;

	w->answer[0] = 0;
	w->answer_len = 0;
	for (;;) {
		ssize_t n = recv(fd, w->answer + len, sizeof(w->answer) - len - 1, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		if (n > 0) {
			len += (size_t)n;
			w->answer[len] = 0;
			w->answer_len = len;
			if (until && strstr(w->answer, until))
				break;
		} else {
			assert_true(wh_loop_turn(w->loop, WH_NS_PER_MS * 10) >= 0);
		}
		if (wh_clock(w->loop) > end)
			fail_msg("WHILST_FAULT=%ld (%d): no answer", w->round, in_a_row);
	}
}

/* A body whose length nobody knows beforehand. */
static size_t put_chunks(const struct world *w, char *to, size_t cap)
{
	size_t len = 0;

	for (size_t at = 0; at < LARGE_BYTES; at += CHUNK_BYTES) {
		len += (size_t)snprintf(to + len, cap - len, "%x\r\n", CHUNK_BYTES);
		memset(to + len, w->large, CHUNK_BYTES);
		len += CHUNK_BYTES;
		len += (size_t)snprintf(to + len, cap - len, "\r\n");
	}
	return len + (size_t)snprintf(to + len, cap - len, "0\r\n\r\n");
}

/* The server is of this thread, so that it has to run while it is sent to. It may end the connection before it has read all. */
static void send_all(struct world *w, int fd, const char *bytes, size_t len)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;

	for (size_t at = 0; at < len;) {
		ssize_t n = send(fd, bytes + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		at += n > 0 ? (size_t)n : 0;
		assert_true(n > 0 || wh_loop_turn(w->loop, WH_NS_PER_MS * 10) >= 0);
		assert_true(wh_clock(w->loop) < end);
	}
}

static void ask(struct world *w, const char *method, const char *path, const char *fields, const char *body,
                const char *until)
{
	static char request[32768], text[8192];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0, body_len = expand(w, body, text, sizeof(text));

	assert_true(fd >= 0);
	len += (size_t)snprintf(request, sizeof(request), "%s ", method);
	len += expand(w, path, request + len, sizeof(request) - len);
	len += (size_t)snprintf(request + len, sizeof(request) - len,
	                        " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
	if (w->large)
		len += (size_t)snprintf(request + len, sizeof(request) - len,
		                        "Transfer-Encoding: chunked\r\n");
	else
		len += (size_t)snprintf(request + len, sizeof(request) - len, "Content-Length: %zu\r\n",
		                        body_len);
	len += expand(w, fields, request + len, sizeof(request) - len);
	len += (size_t)snprintf(request + len, sizeof(request) - len, "\r\n%s", text);
	if (w->large)
		len += put_chunks(w, request + len, sizeof(request) - len);
	assert_int_equal(connect(fd, (struct sockaddr *)&w->address, w->address_len), 0);
	send_all(w, fd, request, len);
	receive(w, fd, until);
	close(fd);
	w->status = strncmp(w->answer, "HTTP/1.1 ", 9) == 0 ? atoi(w->answer + 9) : 0;
	if (w->answer[0] && !strstr(w->answer, "\r\n\r\n"))
		w->status = 0; /* cut off */
}

/* Whole, as far as it says how long it is? */
static bool is_whole(const struct world *w)
{
	const char *body = strstr(w->answer, "\r\n\r\n"), *length = strstr(w->answer, "Content-Length: ");

	return body && (!length || length > body ||
	                (size_t)(w->answer + w->answer_len - body - 4) == strtoul(length + 16, NULL, 10));
}

/* Asked while memory may be short. Was it done? good: the status that says so. */
static bool did(struct world *w, const char *method, const char *path, const char *fields, const char *body,
                int good)
{
	bool before = atomic_load(&hit);

	ask(w, method, path, fields, body, NULL);
	if ((w->status == good || w->status + 1 == good) && is_whole(w)) /* 201 or 200 */
		return true;
	/* once something has not been done, what builds on it is refused for other reasons */
	if (w->status >= 200 && is_whole(w) && w->status != 500 && w->status != 503 && w->status != 502 &&
	    !w->spoilt)
		fail_msg("WHILST_FAULT=%ld (%d): %s %s gives %s", w->round, in_a_row, method, path,
		         w->answer);
	if (!before && !atomic_load(&hit))
		fail_msg("round %ld (%d): %s %s fails, and no allocation did: %s", w->round, in_a_row, method,
		         path, w->answer);
	if (w->status >= 400 && is_whole(w) && !strstr(w->answer, "application/problem+json"))
		fail_msg("WHILST_FAULT=%ld (%d): not a problem: %s", w->round, in_a_row, w->answer);
	w->spoilt = true;
	return false;
}

#define JSON "Content-Type: application/json\r\n"

/* With memory: it must be so. */
static void must_do(struct world *w, const char *method, const char *path, const char *fields,
                    const char *body, int good)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;

	do /* what failed may have been the log's: it has no room then, and tries again within a second */
		ask(w, method, path, fields, body, NULL);
	while ((w->status == 503 || w->status == 0) && wh_clock(w->loop) < end);
	if (w->status != good && w->status + 1 != good)
		fail_msg("WHILST_FAULT=%ld (%d): afterwards %s %s gives %s", w->round, in_a_row, method, path,
		         w->answer);
}

static unsigned long number(const struct world *w, const char *before)
{
	const char *at = strstr(w->answer, before);

	return at ? strtoul(at + strlen(before), NULL, 10) : 0;
}

static void memory_is_short(struct world *w)
{
	w->spoilt = false;
	atomic_store(&calls, 0);
	atomic_store(&hit, false);
	atomic_store(&fail_each, 1);
	atomic_store(&fail_end, (int)w->round + in_a_row);
	atomic_store(&fail_at, (int)w->round);
}

static void memory_is_back(void)
{
	atomic_store(&fail_at, 0);
}

/* ---- the rounds -------------------------------------------------------------------------- */

static void same(const struct world *w, const char *what, unsigned long is, unsigned long wanted)
{
	if (is != wanted)
		fail_msg("WHILST_FAULT=%ld (%d): %s: %lu, not %lu; %s", w->round, in_a_row, what, is, wanted,
		         w->answer);
}

/* No file of a body is left that no job has. */
static void check_files(struct world *w)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;
	struct store_stats stats;
	char path[128];
	uint64_t there;

	snprintf(path, sizeof(path), "%s/blobs", w->directory);
	do { /* they are removed in the background */
		DIR *dir = opendir(path);

		assert_non_null(dir);
		there = 0;
		for (const struct dirent *e; (e = readdir(dir));)
			there += e->d_name[0] != '.';
		closedir(dir);
		store_stats(w->store, &stats);
		assert_true(wh_loop_turn(w->loop, WH_NS_PER_MS * 10) >= 0);
	} while (there != stats.blobs && wh_clock(w->loop) < end && !LIBRARY_FAILS);
	/* for want of memory in the library a file may stay until the next start */
	assert_true(there == stats.blobs || (LIBRARY_FAILS && there > stats.blobs));
}

typedef void round_function(struct world *w);

static void every_allocation_of(round_function *one_round, long at_least)
{
	static struct world world;
	struct world *w = &world;
	const char *only = getenv("WHILST_FAULT");
	long before, in_vain = 0, rounds = 0;

	memset(w, 0, sizeof(*w));
	for (int warm = 0; warm < 2;
	     warm++) { /* what is kept for the life of the process is made in the first */
		before = atomic_load(&live);
		open_world(w);
		w->round = ROUNDS_MAX + 1; /* so that none fails */
		one_round(w);
		assert_false(w->spoilt);
		for (w->round = only ? atol(only) : 1; warm && in_vain < GOOD_AFTER; w->round++) {
			assert_true(w->round < ROUNDS_MAX);
			one_round(w);
			rounds++;
			in_vain = only ? GOOD_AFTER : atomic_load(&hit) ? 0 : in_vain + 1;
		}
		assert_int_equal(w->failures, 0);
		assert_int_equal(store_recount(w->store), 0);
		check_files(w);
		close_world(w);
		if (warm)
			assert_int_equal(atomic_load(&live), before);
	}
	assert_true(only || rounds - GOOD_AFTER >= at_least);
	print_message("%ld allocations failed\n", rounds - GOOD_AFTER);
}

/* One, and several that follow one another, as they do when memory is short. */
static void every_allocation(round_function *one_round, long at_least)
{
	static const int rows[] = {1, 3};
	const char *only = getenv("WHILST_FAULTS");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (only && atoi(only) != rows[i])
			continue;
		in_a_row = rows[i];
		every_allocation_of(one_round, at_least);
	}
}

#endif
