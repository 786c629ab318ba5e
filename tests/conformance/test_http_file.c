/* tests/conformance/test_http_file.c -- files as answers: what is found and what is not, conditions, ranges, large ones, ones that
 * change; on the engine of WHILST_ENGINE. Files are made and changed through a loop, so that they may be a simulated machine's.
 *
 * Argument "ENOSYS" or "EPERM": openat2(2) is refused with that, as some sandboxes do.
 */
#define WH_TESTS_HTTP_ON_SIM

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

struct wh_http_exchange;
static bool serve_file(struct wh_http_exchange *x);
#define ON_REQUEST(x) serve_file(x)

#include "http_served.h"

static wh_loop *files; /* of the test itself */
static char folder[64];
static int folder_fd = -1;
static struct wh_http_file_options file_options;

static bool serve_file(wh_http_exchange *x)
{
	struct wh_slice path = wh_http_path(x);

	if (wh_slice_equal(path, "/livez"))
		return false;
	assert_int_equal(wh_http_set(x, "X-Mine", "1"), 0);
	wh_http_respond_file(x, folder_fd, path, &file_options);
	return true;
}

/* ---- a folder ------------------------------------------------------------------------------ */

static int open_file(const char *name, int flags)
{
	int64_t fd = wh_await(wh_open_at(files, folder_fd, name, flags, 0644)).n;

	assert_true(fd >= 0);
	return (int)fd;
}

static void close_file(int fd)
{
	assert_int_equal(wh_await(wh_close(files, fd)).n, 0);
}

static void put_file(const char *name, const char *content, size_t len)
{
	static const int64_t old = 784111777 * WH_NS_PER_S; /* Sun, 06 Nov 1994 08:49:37 GMT */
	int fd = open_file(name, O_WRONLY | O_CREAT | O_TRUNC);

	assert_int_equal(wh_await(wh_pwrite_all(files, fd, content, len, 0)).n, len);
	assert_int_equal(wh_await(wh_fset_times(files, fd, old, old)).n, 0);
	close_file(fd);
}

static void make_below(const char *name)
{
	assert_int_equal(wh_await(wh_mkdir_at(files, folder_fd, name, 0755)).n, 0);
}

static void link_to(const char *target, const char *name)
{
	assert_int_equal(wh_await(wh_symlink_at(files, target, folder_fd, name)).n, 0);
}

static int make_folder(void **state)
{
	int64_t fd;

	assert_int_equal(wh_loop_open(&files, NULL), 0);
	snprintf(folder, sizeof(folder), "/tmp/whilst-files-XXXXXX");
	assert_int_equal(wh_await(wh_make_temporary_directory(files, folder)).n, 0);
	fd = wh_await(wh_open(files, folder, O_RDONLY | O_DIRECTORY, 0)).n;
	assert_true(fd >= 0);
	folder_fd = (int)fd;
	put_file("page.html", "0123456789", 10);
	put_file("empty", "", 0);
	put_file("a b+c%", "blank", 5);
	put_file(".secret", "secret", 6);
	make_below("sub");
	make_below("bare");
	make_below(".well-known");
	put_file("sub/index.html", "the index", 9);
	put_file(".well-known/x", "known", 5);
	link_to("page.html", "link");
	link_to("../page.html", "sub/link");
	link_to("bare/../sub", "sub-link");
	link_to("/etc/passwd", "out");
	link_to("..", "up");
	link_to("../../x", "sub/far");
	link_to("loop", "loop");
	if (!is_on_sim()) /* which has none */
		assert_int_equal(mkfifoat(folder_fd, "fifo", 0644), 0);
	file_options = (struct wh_http_file_options){.index = "index.html"};
	return start(state);
}

static int remove_folder(void **state)
{
	static const char *const names[] = {
		"page.html", "empty",    "a b+c%", ".secret", "sub/index.html", ".well-known/x", "link",
		"out",       "up",       "fifo",   "large",   "shrinks",        "fresh",         "sub/link",
		"sub/far",   "sub-link", "loop"};
	static const char *const folders[] = {"sub", "bare", ".well-known"};

	stop(state);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		(void)wh_await(wh_unlink_at(files, folder_fd, names[i], 0));
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		(void)wh_await(wh_unlink_at(files, folder_fd, folders[i], AT_REMOVEDIR));
	close_file(folder_fd);
	assert_int_equal(wh_await(wh_rmdir(files, folder)).n, 0);
	files = wh_loop_close(files);
	return 0;
}

/* ---- requests ------------------------------------------------------------------------------ */

static struct peer_answer last;

static int ask(int fd, const char *method, const char *path, const char *fields)
{
	char head[4096];

	snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n", method, path, fields);
	peer_say(fd, head);
	free(last.body);
	last = peer_read_answer(fd, strcmp(method, "HEAD") != 0);
	return last.status;
}

static void expect(int fd, const char *path, const char *fields, int status, const char *body)
{
	int got = ask(fd, "GET", path, fields);

	if (got != status)
		fail_msg("%s %s: %d, wanted %d", path, fields, got, status);
	if (body)
		assert_string_equal(last.body, body);
}

static bool says(const char *line)
{
	char whole[300];

	snprintf(whole, sizeof(whole), "\r\n%s\r\n", line);
	return strstr(last.head, whole) != NULL;
}

static void names(void **state)
{
	int fd = peer_connect(fixture->port);

	expect(fd, "/page.html", "", 200, "0123456789");
	assert_true(says("Content-Type: text/html; charset=utf-8"));
	assert_true(says("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"));
	assert_true(says("Accept-Ranges: bytes"));
	assert_true(says("X-Mine: 1"));
	expect(fd, "//page.html?query", "", 200, "0123456789");
	expect(fd, "/%70age%2ehtml", "", 200, "0123456789");
	expect(fd, "/a%20b+c%25", "", 200, "blank");
	assert_true(says("Content-Type: application/octet-stream"));
	expect(fd, "/empty", "", 200, "");
	expect(fd, "/link", "", 200, "0123456789"); /* within */
	expect(fd, "/sub/link", "", 200, "0123456789");
	expect(fd, "/sub-link/", "", 200, "the index");
	expect(fd, "/sub-link/link", "", 200, "0123456789");
	expect(fd, "/sub/", "", 200, "the index");
	expect(fd, "/sub", "", 301, NULL);
	assert_true(says("Location: ./sub/"));
	expect(fd, "/.well-known/x", "", 200, "known");
	assert_int_equal(ask(fd, "HEAD", "/page.html", ""), 200);
	assert_true(says("Content-Length: 10"));
	assert_int_equal(ask(fd, "POST", "/page.html", "Content-Length: 0\r\n"), 405);
	assert_true(says("Allow: GET, HEAD"));
	close(fd);
}

/* Nothing leads out, nothing that is no file is served, and nothing hidden. */
static void nothing_there(void **state)
{
	static const char *const paths[] = {"/none",
	                                    "/page.html/",
	                                    "/page.html/x",
	                                    "/bare/",
	                                    "/out",
	                                    "/up/",
	                                    "/sub/far",
	                                    "/sub-link/far",
	                                    "/loop",
	                                    "/up/etc/passwd",
	                                    "/../etc/passwd",
	                                    "/..",
	                                    "/sub/../page.html",
	                                    "/%2e%2e/etc/passwd",
	                                    "/%2E./x",
	                                    "/.",
	                                    "/sub/.",
	                                    "/..%2f..%2fetc/passwd",
	                                    "/sub%2findex.html",
	                                    "/%00",
	                                    "/page.html%00",
	                                    "/page%0ahtml",
	                                    "/%zz",
	                                    "/%2",
	                                    "/.secret",
	                                    "/%2esecret",
	                                    "/fifo",
	                                    "/",
	                                    "//..//..//etc/passwd",
	                                    "/..;/..;/etc/passwd",
	                                    "/\\..\\..\\etc\\passwd"};
	char longest[5000] = "/";
	int fd = peer_connect(fixture->port);

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		expect(fd, paths[i], "", 404, NULL);
	memset(longest + 1, 'a', 3000);
	expect(fd, longest, "", 404, NULL);
	file_options.hidden = true;
	expect(fd, "/.secret", "", 200, "secret");
	expect(fd, "/..", "", 404, NULL);
	expect(fd, "/.", "", 404, NULL);
	file_options.index = NULL;
	expect(fd, "/sub/", "", 404, NULL);
	file_options = (struct wh_http_file_options){.content_type = "x/y", .cache_control = "no-cache"};
	expect(fd, "/page.html", "", 200, NULL);
	assert_true(says("Content-Type: x/y"));
	assert_true(says("Cache-Control: no-cache"));
	if (geteuid() != 0 && !is_on_sim()) { /* root reads everything */
		assert_int_equal(wh_await(wh_chmod_at(files, folder_fd, "page.html", 0)).n, 0);
		expect(fd, "/page.html", "", 403, NULL);
	}
	close(fd);
}

static void conditions(void **state)
{
	int fd = peer_connect(fixture->port);
	char etag[100], fields[300];
	const char *at;

	expect(fd, "/page.html", "", 200, NULL);
	at = strstr(last.head, "\r\nETag: ");
	assert_non_null(at);
	snprintf(etag, sizeof(etag), "%.*s", (int)strcspn(at + 8, "\r"), at + 8);
	assert_int_equal(etag[0], '"');
#define WITH(status, ...)                              \
	snprintf(fields, sizeof(fields), __VA_ARGS__); \
	expect(fd, "/page.html", fields, status, NULL);
	WITH(304, "If-None-Match: %s\r\n", etag);
	assert_true(says("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"));
	WITH(304, "If-None-Match: W/%s\r\n", etag);
	WITH(304, "If-None-Match: \"a,b\", %s\r\n", etag);
	WITH(304, "If-None-Match: *\r\n");
	WITH(200, "If-None-Match: \"other\"\r\n");
	WITH(200, "If-None-Match: nonsense\r\n");
	WITH(304, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	WITH(304, "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n");
	WITH(304, "If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n");
	WITH(200, "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n");
	WITH(200, "If-Modified-Since: Sun, 31 Feb 2094 08:49:36 GMT\r\n"); /* no date */
	WITH(200, "If-None-Match: \"other\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	WITH(200, "If-Match: %s\r\n", etag);
	WITH(200, "If-Match: *\r\n");
	WITH(412, "If-Match: \"other\"\r\n");
	WITH(412, "If-Match: W/%s\r\n", etag);
	WITH(412, "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n");
	WITH(200, "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	WITH(206, "Range: bytes=0-0\r\nIf-Range: %s\r\n", etag);
	WITH(200, "Range: bytes=0-0\r\nIf-Range: W/%s\r\n", etag);
	WITH(200, "Range: bytes=0-0\r\nIf-Range: \"other\"\r\n");
	WITH(206, "Range: bytes=0-0\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	WITH(200, "Range: bytes=0-0\r\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
	WITH(304, "Range: bytes=0-0\r\nIf-None-Match: %s\r\n", etag);
	/* what may change again within its second has no strong validator */
	close_file(open_file("fresh", O_CREAT | O_WRONLY));
	expect(fd, "/fresh", "", 200, NULL);
	assert_non_null(strstr(last.head, "\r\nETag: W/\""));
	close(fd);
}

static void ranges(void **state)
{
	static const struct {
		const char *range, *body, *content_range;
		int status;
	} cases[] = {
		{"bytes=0-3", "0123", "bytes 0-3/10", 206},
		{"bytes=5-", "56789", "bytes 5-9/10", 206},
		{"bytes=-3", "789", "bytes 7-9/10", 206},
		{"bytes=-100", "0123456789", "bytes 0-9/10", 206},
		{"bytes=9-9", "9", "bytes 9-9/10", 206},
		{"bytes=3-1000", "3456789", "bytes 3-9/10", 206},
		{"Bytes= 0-1 ", "01", "bytes 0-1/10", 206},
		{"bytes=0-99999999999999999999999", "0123456789", "bytes 0-9/10", 206},
		{"bytes=10-", NULL, "bytes */10", 416},
		{"bytes=10-20", NULL, "bytes */10", 416},
		{"bytes=-0", NULL, "bytes */10", 416},
		{"bytes=99999999999999999999999-", NULL, "bytes */10", 416},
		{"bytes=0-1,3-4", "0123456789", NULL, 200},
		{"bytes=3-1", "0123456789", NULL, 200},
		{"bytes=", "0123456789", NULL, 200},
		{"bytes=-", "0123456789", NULL, 200},
		{"bytes=a-b", "0123456789", NULL, 200},
		{"lines=0-1", "0123456789", NULL, 200},
		{"bytes=1", "0123456789", NULL, 200},
	};
	int fd = peer_connect(fixture->port);
	char fields[200], line[100];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(fields, sizeof(fields), "Range: %s\r\n", cases[i].range);
		expect(fd, "/page.html", fields, cases[i].status, cases[i].body);
		snprintf(line, sizeof(line), "Content-Range: %s", cases[i].content_range);
		if (cases[i].content_range)
			assert_true(says(line));
		else
			assert_null(strstr(last.head, "Content-Range"));
	}
	expect(fd, "/empty", "Range: bytes=0-\r\n", 416, NULL);
	expect(fd, "/empty", "Range: bytes=-5\r\n", 416, NULL);
	assert_int_equal(ask(fd, "HEAD", "/page.html", "Range: bytes=0-1\r\n"), 200); /* for GET only */
	close(fd);
}

enum { LARGE = 20 * MIB };

static void put_large(const char *name)
{
	char *content = malloc(LARGE);

	assert_non_null(content);
	for (size_t i = 0; i < LARGE; i++)
		content[i] = (char)(i * 2654435761u >> 13);
	put_file(name, content, LARGE);
	free(content);
}

static void large(void **state)
{
	int fd = peer_connect(fixture->port);

	put_large("large");
	assert_int_equal(ask(fd, "GET", "/large", ""), 200);
	assert_int_equal(last.len, LARGE);
	for (size_t i = 0; i < LARGE; i++)
		if (last.body[i] != (char)(i * 2654435761u >> 13))
			fail_msg("byte %zu", i);
	assert_int_equal(ask(fd, "GET", "/large", "Range: bytes=1000000-2999999\r\n"), 206);
	assert_int_equal(last.len, 2000000);
	assert_int_equal(last.body[0], (char)(1000000 * 2654435761u >> 13));
	/* many at once, behind each other and side by side; one that leaves, one that is cut off */
	for (int i = 0; i < 3; i++)
		peer_say(fd, "GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n");
	for (int i = 0; i < 3; i++)
		peer_expect(fd, 200, "0123456789");
	peer_say(fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
	peer_read(fd, last.head, 100);
	peer_reset(fd);
	wait_for_connections(0);
}

/* A client that reads nothing holds a bounded number of bytes; a file that shrinks meanwhile ends in a cut, never in a wrong length. */
static void shrinking(void **state)
{
	int fd = peer_connect(fixture->port), file;
	size_t got = 0;
	char piece[65536];
	ssize_t n;

	put_large("shrinks");
	peer_say(fd, "GET /shrinks HTTP/1.1\r\nHost: a\r\n\r\n");
	peer_read_head(fd, last.head, sizeof(last.head));
	file = open_file("shrinks", O_WRONLY);
	assert_int_equal(wh_await(wh_truncate(files, file, 1000)).n, 0);
	close_file(file);
	while ((n = peer_recv(fd, piece, sizeof(piece))) > 0)
		got += (size_t)n;
	assert_true(got < LARGE);
	close(fd);
	wait_for_connections(0);
}

static void closed_amid(void **state)
{
	int fd = peer_connect(fixture->port);

	put_large("large");
	peer_say(fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
	peer_read_head(fd, last.head, sizeof(last.head));
	close(fd); /* and the server is closed with the answer under way */
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

/* From now on the call gives error instead of running, on the threads to come as well. */
static void forbid_openat2(int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		perror("seccomp");
		exit(77);
	}
	assert_int_equal(syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0), -1);
	assert_int_equal(errno, error);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(names), TEST(nothing_there), TEST(conditions),  TEST(ranges),
		TEST(large), TEST(shrinking),     TEST(closed_amid),
	};
	int failed;

	if (argc > 1 && (strcmp(argv[1], "ENOSYS") == 0 || strcmp(argv[1], "EPERM") == 0))
		forbid_openat2(argv[1][1] == 'N' ? ENOSYS : EPERM);
	failed = cmocka_run_group_tests_name("http file", tests, NULL, NULL);
	free(last.body);
	return on_sim_end(failed);
}
