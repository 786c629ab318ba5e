/* tests/fault/test_beanstalk_faults.c -- every allocation of the beanstalkd front and of the store below it fails once.
 *
 * One client sends a script of all commands and reads to the end. Whichever allocation fails: every line that comes is one that the
 * protocol knows, the connection ends, the next one is served, and nothing leaks or is used after it was freed (which
 * AddressSanitizer tells).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "front/beanstalk.h"
#include "store/store.h"

static long fail_at; /* count down to the allocation that fails; 0: none does */

static bool fails(void)
{
	return fail_at > 0 && --fail_at == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

struct world {
	wh_loop *loop;
	struct store *store;
	struct beanstalk *front;
	char directory[64];
	struct sockaddr_storage address;
	socklen_t address_len;
	int failures;
};

static void on_failure(int64_t error, const char *message, void *arg)
{
	(void)error, (void)message;
	((struct world *)arg)->failures++;
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct beanstalk_options options = {
		.level = STORE_LOCAL, .job_bytes_max = 65535, .connections_max = 100};
	struct store_options store = {.segment_bytes = 4 << 20,
	                              .recent_bytes = 1 << 20,
	                              .on_failure = on_failure,
	                              .failure_arg = w};
	struct store_problem problem;
	int fd;

	snprintf(w->directory, sizeof(w->directory), "/tmp/whilst-store-XXXXXX");
	assert_non_null(mkdtemp(w->directory));
	store.directory = w->directory;
	assert_int_equal(wh_loop_open(&w->loop, NULL), 0);
	assert_int_equal(store_open(w->loop, &store, &w->store, &problem), 0);
	assert_int_equal(beanstalk_open(w->loop, w->store, &options, &w->front), 0);
	fd = wh_listen(w->loop, (struct sockaddr *)&any, sizeof(any), NULL);
	assert_true(fd >= 0);
	assert_int_equal(wh_local_address(w->loop, fd, &w->address, &w->address_len), 0);
	assert_int_equal(beanstalk_listen(w->front, fd), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	char command[128];

	fail_at = 0;
	beanstalk_close(w->front);
	store_close(w->store);
	wh_loop_close(w->loop);
	beanstalk_free(w->front);
	snprintf(command, sizeof(command), "rm -rf %s", w->directory);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

/* Send it, say that there is no more, and read until the server closes. Bytes read, the text in ret. */
static size_t converse(struct world *w, const char *script, char *ret, size_t cap)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0;
	int turns = 0;

	assert_int_equal(connect(fd, (struct sockaddr *)&w->address, w->address_len), 0);
	assert_int_equal(send(fd, script, strlen(script), MSG_NOSIGNAL), strlen(script));
	shutdown(fd, SHUT_WR);
	for (;;) {
		ssize_t n = recv(fd, ret + len, cap - len - 1, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			break; /* a connection that has failed may be reset */
		if (n > 0)
			len += (size_t)n;
		else
			assert_true(wh_loop_turn(w->loop, WH_NS_PER_MS * 10) >= 0);
		assert_true(++turns < 2000);
	}
	close(fd);
	ret[len] = 0;
	return len;
}

/* Every answer is one of the protocol's; the last one may be cut off. */
static void check_answers(const char *at)
{
	static const char *const words[] = {"INSERTED ",         "RESERVED ",       "DELETED\r",
	                                    "NOT_FOUND\r",       "RELEASED\r",      "BURIED\r",
	                                    "TOUCHED\r",         "KICKED",          "USING ",
	                                    "WATCHING ",         "FOUND ",          "OK ",
	                                    "PAUSED\r",          "OUT_OF_MEMORY\r", "INTERNAL_ERROR\r",
	                                    "TIMED_OUT",         "DEADLINE_SOON",   "EXPECTED_CRLF",
	                                    "UNKNOWN_COMMAND\r", "NOT_IGNORED\r"};

	while (*at) {
		const char *end = strstr(at, "\r\n"), *space;
		bool known = false;

		if (!end)
			return;
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			known |= strncmp(at, words[i], strlen(words[i])) == 0;
		if (!known)
			fail_msg("not an answer: %.*s", (int)(end - at), at);
		space = end;
		if (strncmp(at, "OK ", 3) == 0 || strncmp(at, "FOUND ", 6) == 0 ||
		    strncmp(at, "RESERVED ", 9) == 0) {
			while (space[-1] != ' ')
				space--;
			end += 2 + strtoul(space, NULL, 10);
			if (strlen(at) < (size_t)(end - at))
				return;
		}
		at = end + 2;
	}
}

/* The next client is served. What failed may have been the log's: it has no room then, and tries again within a second. */
static void serve_again(struct world *w, char *answers, size_t cap)
{
	int64_t until = wh_clock(w->loop) + 5 * WH_NS_PER_S;

	do {
		converse(w, "list-tube-used\r\nput 0 0 60 1\r\nx\r\n", answers, cap);
		assert_int_equal(strncmp(answers, "USING default\r\n", 15), 0);
	} while (strncmp(answers + 15, "INSERTED ", 9) != 0 && wh_clock(w->loop) < until);
	assert_int_equal(strncmp(answers + 15, "INSERTED ", 9), 0);
}

static const char script[] =
	"use t%ld\r\nwatch t%ld\r\nwatch u%ld\r\nignore default\r\nignore u%ld\r\n"
	"put 1 0 60 1\r\na\r\nput 1 0 60 1\r\nb\r\nput 2 0 60 1\r\nc\r\nput 9 500 60 1\r\nd\r\nput 1 0 60 "
	"1\r\nxx\r\n"
	"peek-ready\r\npeek-delayed\r\npeek-buried\r\n"
	"reserve\r\nreserve\r\nreserve-with-timeout 0\r\nreserve-with-timeout 0\r\n"
	"stats\r\nstats-tube t%ld\r\nlist-tubes\r\nlist-tubes-watched\r\nlist-tube-used\r\n"
	"stats-job 1\r\ndelete 1\r\ndelete 2\r\ntouch 3\r\nrelease 3 5 0\r\nbury 4 5\r\nreserve-job 5\r\n"
	"kick 10\r\nkick-job 7\r\npause-tube t%ld 1\r\npause-tube t%ld 0\r\nfoo\r\n"
	"reserve\r\nreserve\r\n";

static void test_every_allocation(void **state)
{
	static char given[2048], answers[1 << 18];
	struct world *w = *state;
	bool failed = true;
	long n;

	for (n = 1; failed && w->failures == 0; n++) {
		assert_true(n < 5000);
		snprintf(given, sizeof(given), script, n, n, n, n, n, n, n);
		fail_at = n;
		converse(w, given, answers, sizeof(answers));
		failed = fail_at == 0;
		fail_at = 0;
		check_answers(answers);
		serve_again(w, answers, sizeof(answers));
	}
	assert_true(n > 50); /* there are that many */
	assert_int_equal(w->failures, 0);
	assert_int_equal(store_recount(w->store), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_allocation, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
