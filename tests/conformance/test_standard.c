/* tests/conformance/test_standard.c -- standard input and output may be anything: a terminal, a pipe, a file, a socket,
 * /dev/null, or closed; shared with others, blocking or not.
 *
 * The program spawns itself as a child that has the descriptors in question for its own 0 to 2, does one thing with them
 * (the roles below) and tells on descriptor 3 what came of it.
 */
#include "conformance.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

enum { REPORT_FD = 3, FILL_BYTES = 1 << 20, TICKS = 5 };

static uint8_t pattern(size_t i)
{
	return (uint8_t)('a' + i % 26); /* what a terminal leaves alone */
}

/* ---- the child --------------------------------------------------------------------------------- */

/* Reads until the end or an error; everything goes to standard output if copy. */
static void read_all(bool copy)
{
	char buf[4096];
	int64_t n, wrote = 0;
	size_t total = 0;
	while ((n = wh_await(wh_read(loop, 0, buf, sizeof buf)).n) > 0) {
		total += (size_t)n;
		if (copy && (wrote = wh_await(wh_write_all(loop, 1, buf, (size_t)n)).n) < 0)
			break;
	}
	dprintf(REPORT_FD, "read %zu, end %d, wrote %d\n", total, (int)n, wrote < 0 ? (int)wrote : 0);
}

/* Writes more than anything holds. The loop goes on meanwhile. */
static void fill(void)
{
	uint8_t *bytes = malloc(FILL_BYTES);
	for (size_t i = 0; i < FILL_BYTES; i++)
		bytes[i] = pattern(i);
	wh_future written = wh_write_all(loop, 1, bytes, FILL_BYTES);
	for (int i = 0; i < TICKS && !wh_done(written); i++) {
		wh_await(wh_sleep(loop, WH_NS_PER_MS));
		dprintf(REPORT_FD, "tick\n");
	}
	dprintf(REPORT_FD, "wrote %d\n", (int)wh_await(written).n);
	free(bytes);
}

/* The terminal goes while it is read from: its session is told, readers see the end, writers an error. */
static void be_hung_up(void)
{
	char buf[16];
	if (ioctl(0, TIOCSCTTY, 0) != 0)
		dprintf(REPORT_FD, "no terminal: %s\n", strerror(errno));
	wh_future signalled = wh_signal(loop, SIGHUP), line = wh_read(loop, 0, buf, sizeof buf);
	wh_loop_turn(loop, 0);
	dprintf(REPORT_FD, "ready\n");
	int64_t n = wh_await(line).n;
	/* the kernel hangs up first and tells after; a reader between the two is told -EIO */
	dprintf(REPORT_FD, "read %s, ", n == 0 || n == -EIO ? "ended" : wh_strerror(n));
	dprintf(REPORT_FD, "signal %d, ", (int)wh_await(signalled).n == SIGHUP);
	dprintf(REPORT_FD, "wrote %d\n", (int)wh_await(wh_write(loop, 1, "x", 1)).n);
}

/* What the library keeps for itself takes no number from 0 to 2: others would print into it. */
static void use_closed(void)
{
	char byte;
	wh_future term = wh_signal(loop, SIGTERM);
	wh_future read = wh_read(loop, 0, &byte, 1);
	int64_t n = wh_await(read).n;
	dprintf(REPORT_FD, "read %d, wrote %d %d", (int)n, (int)wh_await(wh_write(loop, 1, "x", 1)).n,
	        (int)wh_await(wh_write_all(loop, 2, "x", 1)).n);
	kill(getpid(), SIGTERM);
	dprintf(REPORT_FD, ", signal %d, open", (int)wh_await(term).n == SIGTERM);
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			dprintf(REPORT_FD, " %d", fd);
	/* what the program opens gets the lowest number, as from open(2) */
	dprintf(REPORT_FD, ", next %d\n", (int)wh_await(wh_open(loop, "/dev/null", O_RDWR, 0)).n);
}

/* Takes a byte at a time of what another takes from as well. */
static void share(void)
{
	char byte;
	int count = 0;
	int64_t n;
	while ((n = wh_await(wh_read(loop, 0, &byte, 1)).n) == 1)
		count++;
	dprintf(REPORT_FD, "%d %d\n", count, (int)n);
}

static int be_child(const char *role)
{
	alarm(60); /* rather than for ever */
	if (strcmp(role, "closed") == 0)
		for (int fd = 0; fd < 3; fd++)
			close(fd);
	int error = wh_loop_open(&loop, NULL);
	if (error != 0) {
		dprintf(REPORT_FD, "no loop: %s\n", wh_strerror(error));
		return 1;
	}
	if (strcmp(role, "read") == 0)
		read_all(false);
	else if (strcmp(role, "copy") == 0)
		read_all(true);
	else if (strcmp(role, "fill") == 0)
		fill();
	else if (strcmp(role, "hang up") == 0)
		be_hung_up();
	else if (strcmp(role, "closed") == 0)
		use_closed();
	else if (strcmp(role, "share") == 0)
		share();
	loop = wh_loop_close(loop);
	return 0;
}

/* ---- the parent --------------------------------------------------------------------------------- */

struct child {
	pid_t pid;
	int report;
};

static void start(struct child *child, const char *role, int in, int out)
{
	int report[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const char *const argv[] = {"/proc/self/exe", role, NULL};
	assert_int_equal(wh_pipe(loop, report), 0);
	const struct wh_spawn_descriptor descriptors[] = {
		{in < 0 ? null : in, 0}, {out < 0 ? null : out, 1}, {2, 2}, {report[1], REPORT_FD}};
	struct wh_child spawned;
	assert_int_equal(wh_spawn(loop,
	                          &(struct wh_spawn_options){.argv = argv,
	                                                     .descriptors = descriptors,
	                                                     .descriptors_count = 4,
	                                                     .new_session = true},
	                          &spawned),
	                 0);
	close(null);
	close_fd(report[1]);
	child->pid = spawned.pid;
	child->report = report[0];
}

static void expect_report(struct child *child, const char *text)
{
	char got[128] = {0};
	size_t len = strlen(text);
	assert_true(len < sizeof got);
	for (size_t n = 0; n < len;) {
		int64_t r = wh_await(wh_read(loop, child->report, got + n, len - n)).n;
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	assert_string_equal(got, text);
}

static void expect_end(struct child *child)
{
	assert_int_equal(wh_await(wh_child_wait(loop, child->pid)).n, 0);
	close_fd(child->report);
}

/* Both ends of a terminal: [0] is ours. Raw: bytes pass as they are. */
static void make_terminal(int ends[2], bool raw)
{
	char name[64];
	int unlocked = 0, number;
	ends[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	assert_true(ends[0] >= 0);
	assert_int_equal(ioctl(ends[0], TIOCSPTLCK, &unlocked), 0);
	assert_int_equal(ioctl(ends[0], TIOCGPTN, &number), 0);
	snprintf(name, sizeof name, "/dev/pts/%d", number);
	ends[1] = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(ends[1] >= 0);
	if (raw) {
		struct termios settings;
		assert_int_equal(tcgetattr(ends[1], &settings), 0);
		cfmakeraw(&settings);
		assert_int_equal(tcsetattr(ends[1], TCSANOW, &settings), 0);
	}
}

/* A pair as a shell makes them: blocking. [0] is ours, and not. */
enum kind { PIPE, SOCKET, TERMINAL };
static void make_output(enum kind kind, int ends[2])
{
	if (kind == TERMINAL) {
		make_terminal(ends, true);
		return;
	}
	if (kind == PIPE)
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
}

static void input_of_every_kind(void **state)
{
	struct child child;
	int pipe_ends[2], pair[2], before[4];
	const char text[] = "seven bytes, and more of them";
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	int file = make_file(text), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	lseek(file, 0, SEEK_SET);
	int inputs[4] = {pipe_ends[0], pair[0], file, null};
	for (int i = 0; i < 4; i++) {
		char expected[64];
		before[i] = fcntl(inputs[i], F_GETFL);
		start(&child, "read", inputs[i], -1);
		if (i < 2) {
			int to = i == 0 ? pipe_ends[1] : pair[1];
			assert_int_equal(write(to, text, sizeof text - 1), sizeof text - 1);
			close(to);
		}
		snprintf(expected, sizeof expected, "read %zu, end 0, wrote 0\n",
		         i < 3 ? sizeof text - 1 : 0);
		expect_report(&child, expected);
		expect_end(&child);
		assert_int_equal(fcntl(inputs[i], F_GETFL), before[i]); /* it is not the child's alone */
		close(inputs[i]);
	}
}

static void output_of_every_kind(void **state)
{
	struct child child;
	int out[2], in[2];
	char got[64];
	for (int kind = PIPE; kind <= TERMINAL; kind++) {
		make_output((enum kind)kind, out);
		assert_int_equal(pipe2(in, O_CLOEXEC), 0);
		int before = fcntl(out[1], F_GETFL);
		start(&child, "copy", in[0], out[1]);
		assert_int_equal(write(in[1], "to and fro", 10), 10);
		close(in[1]);
		expect_report(&child, "read 10, end 0, wrote 0\n");
		assert_int_equal(wh_await(wh_read(loop, out[0], got, sizeof got)).n, 10);
		assert_memory_equal(got, "to and fro", 10);
		expect_end(&child);
		assert_int_equal(fcntl(out[1], F_GETFL), before);
		close(in[0]);
		close(out[1]);
		close_fd(out[0]);
	}
	/* what cannot be waited for takes everything at once */
	int file = make_file("");
	int inputs[2] = {make_file("from a file"), make_file("for nobody")};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		char expected[64];
		lseek(inputs[i], 0, SEEK_SET);
		start(&child, "copy", inputs[i], i == 0 ? file : null);
		snprintf(expected, sizeof expected, "read %d, end 0, wrote 0\n", i == 0 ? 11 : 10);
		expect_report(&child, expected);
		expect_end(&child);
		close(inputs[i]);
	}
	assert_int_equal(pread(file, got, sizeof got, 0), 11);
	assert_memory_equal(got, "from a file", 11);
	close(file);
	close(null);
}

static void a_terminal_gives_lines_and_ends(void **state)
{
	struct child child;
	int ends[2];
	char echoed[64];
	make_terminal(ends, false);
	int before = fcntl(ends[1], F_GETFL);
	start(&child, "read", ends[1], ends[1]);
	/* a line, another whose end is the key for the end of input, and that key at the start of a line */
	assert_int_equal(write(ends[0], "one\ntwo\x04\x04", 9), 9);
	expect_report(&child, "read 7, end 0, wrote 0\n");
	expect_end(&child);
	assert_int_equal(fcntl(ends[1], F_GETFL), before);
	assert_true(wh_await(wh_read(loop, ends[0], echoed, sizeof echoed)).n > 0);
	close(ends[1]);
	close_fd(ends[0]);
}

/* Nobody reads: the write waits, the loop does not, whether the descriptor blocks or not. */
static void a_full_output_holds_no_loop(enum kind kind, bool blocking)
{
	struct child child;
	int out[2];
	uint8_t got[4096];
	make_output(kind, out);
	if (!blocking)
		assert_int_equal(fcntl(out[1], F_SETFL, O_NONBLOCK), 0);
	int before = fcntl(out[1], F_GETFL);
	start(&child, "fill", -1, out[1]);
	for (int i = 0; i < TICKS; i++)
		expect_report(&child, "tick\n");
	for (size_t total = 0; total < FILL_BYTES;) {
		int64_t n = wh_await(wh_read(loop, out[0], got, sizeof got)).n;
		assert_true(n > 0);
		for (size_t i = 0; i < (size_t)n; i++)
			assert_int_equal(got[i], pattern(total + i));
		total += (size_t)n;
	}
	expect_report(&child, "wrote 1048576\n");
	expect_end(&child);
	assert_int_equal(fcntl(out[1], F_GETFL), before);
	close(out[1]);
	close_fd(out[0]);
}

static void a_full_pipe_holds_no_loop(void **state)
{
	a_full_output_holds_no_loop(PIPE, true);
	a_full_output_holds_no_loop(PIPE, false);
}

static void a_full_socket_holds_no_loop(void **state)
{
	a_full_output_holds_no_loop(SOCKET, true);
	a_full_output_holds_no_loop(SOCKET, false);
}

static void a_full_terminal_holds_no_loop(void **state)
{
	a_full_output_holds_no_loop(TERMINAL, true);
	a_full_output_holds_no_loop(TERMINAL, false);
}

/* A program may put another terminal in the place of one, as dup2(2) does for its standard output. */
static void another_terminal_takes_its_place(void **state)
{
	int first[2], second[2];
	char byte = 0;
	make_terminal(first, true);
	make_terminal(second, true);
	assert_int_equal(wh_await(wh_write(loop, first[1], "1", 1)).n, 1);
	assert_int_equal(dup3(second[1], first[1], O_CLOEXEC), first[1]);
	assert_int_equal(wh_await(wh_write(loop, first[1], "2", 1)).n, 1);
	assert_int_equal(wh_await(wh_read(loop, first[0], &byte, 1)).n, 1);
	assert_int_equal(byte, '1');
	assert_int_equal(wh_await(wh_read(loop, second[0], &byte, 1)).n, 1);
	assert_int_equal(byte, '2');
	/* nothing of the first is open any more: its reader is told */
	assert_int_equal(wh_await(wh_read(loop, first[0], &byte, 1)).n, -EIO);
	for (int i = 0; i < 2; i++) {
		close_fd(first[i]);
		close_fd(second[i]);
	}
}

/* A reader that has gone is an error, and no signal ends the program. */
static void nobody_reads(void **state)
{
	struct child child;
	for (int kind = PIPE; kind <= SOCKET; kind++) {
		int out[2];
		int file = make_file("not read by anybody");
		lseek(file, 0, SEEK_SET);
		make_output((enum kind)kind, out);
		close(out[0]);
		start(&child, "copy", file, out[1]);
		expect_report(&child, "read 19, end 19, wrote -32\n");
		expect_end(&child);
		close(file);
		close(out[1]);
	}
}

static void a_terminal_hangs_up(void **state)
{
	struct child child;
	int ends[2];
	make_terminal(ends, false);
	start(&child, "hang up", ends[1], ends[1]);
	close(ends[1]);
	expect_report(&child, "ready\n");
	close(ends[0]);
	expect_report(&child, "read ended, signal 1, wrote -5\n");
	expect_end(&child);
}

/* What one has been told is there the other may have taken: it waits again. */
static void two_share_an_input(void **state)
{
	enum { BYTES = 2000 };
	struct child children[2];
	int ends[2], sum = 0;
	char report[32] = {0};
	for (int blocking = 0; blocking < 2; blocking++, sum = 0) {
		assert_int_equal(pipe2(ends, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK)), 0);
		for (int i = 0; i < 2; i++)
			start(&children[i], "share", ends[0], -1);
		for (int i = 0; i < BYTES; i++)
			assert_int_equal(wh_await(wh_write(loop, ends[1], "x", 1)).n, 1);
		close_fd(ends[1]);
		for (int i = 0; i < 2; i++) {
			int count = -1, end = -1;
			assert_true(wh_await(wh_read(loop, children[i].report, report, sizeof report - 1)).n >
			            0);
			assert_int_equal(sscanf(report, "%d %d", &count, &end), 2);
			assert_int_equal(end, 0);
			sum += count;
			expect_end(&children[i]);
		}
		assert_int_equal(sum, BYTES);
		close(ends[0]);
	}
}

static void closed_ones_stay_closed(void **state)
{
	struct child child;
	start(&child, "closed", -1, -1);
	expect_report(&child, "read -9, wrote -9 -9, signal 1, open, next 0\n");
	expect_end(&child);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(input_of_every_kind),
		ON_LOOP(output_of_every_kind),
		ON_LOOP(a_terminal_gives_lines_and_ends),
		ON_LOOP(a_full_pipe_holds_no_loop),
		ON_LOOP(a_full_socket_holds_no_loop),
		ON_LOOP(a_full_terminal_holds_no_loop),
		ON_LOOP(nobody_reads),
		ON_LOOP(a_terminal_hangs_up),
		ON_LOOP(two_share_an_input),
		ON_LOOP(closed_ones_stay_closed),
		ON_LOOP(another_terminal_takes_its_place),
	};
	if (strcmp(argv[0], "/proc/self/exe") == 0)
		return be_child(argv[1]);
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
