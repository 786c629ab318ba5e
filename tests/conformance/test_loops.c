/* tests/conformance/test_loops.c -- many loops, one for each thread, that share work: messages, asks, listening sockets. */
#include "conformance.h"

#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>

enum { LOOPS = 4 };

static wh_loop *loops[LOOPS];

static void start_loops(void)
{
	struct wh_loop_options options = {.name = "one of many"};
	for (int i = 0; i < LOOPS; i++)
		assert_int_equal(wh_loop_start(&loops[i], &options), 0);
}

static void close_loops(void)
{
	for (int i = 0; i < LOOPS; i++)
		loops[i] = wh_loop_close(loops[i]);
}

/* ---- posts in a ring ---------------------------------------------------------------------- */

enum { TOKENS = 50, LAPS = 100 };

struct token {
	int hops;
	wh_future home;
};

static void pass_on(void *arg)
{
	struct token *token = arg;
	if (++token->hops == LOOPS * LAPS) {
		if (wh_resolve(token->home, token->hops, NULL) != 0)
			abort();
	} else if (wh_post(loops[token->hops % LOOPS], pass_on, token) != 0) {
		abort();
	}
}

static void tokens_go_round(void **state)
{
	static struct token tokens[TOKENS];
	start_loops();
	for (int i = 0; i < TOKENS; i++) {
		tokens[i] = (struct token){.home = wh_promise(loop, NULL, NULL)};
		assert_int_equal(wh_post(loops[0], pass_on, &tokens[i]), 0);
	}
	for (int i = 0; i < TOKENS; i++)
		assert_int_equal(wh_await(tokens[i].home).n, LOOPS * LAPS);
	close_loops();
}

/* ---- asks --------------------------------------------------------------------------------- */

struct sum {
	wh_loop *on;
	int64_t from, to;
};

static int64_t add_up(void *arg)
{
	const struct sum *sum = arg;
	int64_t total = 0;
	for (int64_t i = sum->from; i < sum->to; i++)
		total += i;
	wh_future f = wh_promise(sum->on, NULL, NULL); /* it is that loop's thread: it may start things */
	if (wh_resolve(f, 0, NULL) != 0 || !wh_poll(f, NULL))
		abort();
	return total;
}

static void work_moves_to_other_loops(void **state)
{
	enum { PIECES = 400 };
	static struct sum sums[PIECES];
	static wh_future futures[PIECES];
	static wh_res results[PIECES];
	start_loops();
	for (int i = 0; i < PIECES; i++) {
		sums[i] = (struct sum){loops[i % LOOPS], i * 100, (i + 1) * 100};
		futures[i] = wh_ask(loop, loops[i % LOOPS], add_up, &sums[i]);
	}
	assert_int_equal(wh_await(wh_all(loop, futures, PIECES, results)).n, 0);
	int64_t total = 0;
	for (int i = 0; i < PIECES; i++)
		total += results[i].n;
	assert_int_equal(total, (int64_t)PIECES * 100 * (PIECES * 100 - 1) / 2);
	/* to oneself */
	sums[0] = (struct sum){loop, 0, 5};
	assert_int_equal(wh_await(wh_ask(loop, loop, add_up, &sums[0])).n, 10);
	assert_int_equal(wh_await(wh_ask(loop, NULL, add_up, &sums[0])).n, -EINVAL);
	assert_int_equal(wh_await(wh_ask(loop, loops[0], NULL, NULL)).n, -EINVAL);
	assert_int_equal(wh_await(wh_ask(loops[0], loop, add_up, NULL)).n, -EPERM);
	close_loops();
}

static int64_t give_error(void *arg)
{
	return -EXDEV;
}

struct gate {
	atomic_bool reached, open;
};

static void stand_at_gate(void *arg)
{
	struct gate *gate = arg;
	atomic_store(&gate->reached, true);
	while (!atomic_load(&gate->open))
		sched_yield();
}

static int64_t count_up(void *arg)
{
	return ++*(int *)arg;
}

static void an_ask_is_taken_back_before_it_has_begun(void **state)
{
	struct gate gate = {false, false};
	int count = 0;
	start_loops();
	assert_int_equal(wh_await(wh_ask(loop, loops[1], give_error, NULL)).n, -EXDEV);
	assert_int_equal(wh_post(loops[0], stand_at_gate, &gate), 0);
	while (!atomic_load(&gate.reached))
		sched_yield();
	wh_future first = wh_ask(loop, loops[0], count_up, &count);
	wh_future second = wh_ask(loop, loops[0], count_up, &count);
	assert_int_equal(wh_drop(first), -EBUSY); /* it borrows */
	wh_cancel(first);
	assert_int_equal(wh_await(first).n, -ECANCELED);
	atomic_store(&gate.open, true);
	assert_int_equal(wh_await(second).n, 1);
	/* cancelled at any moment: the result or -ECANCELED, and run or not accordingly */
	int before = count, counted = 0;
	for (int i = 0; i < 2000; i++) {
		wh_future f = wh_ask(loop, loops[0], count_up, &count);
		for (int spin = 0; spin < i % 64; spin++)
			(void)wh_done(f);
		wh_cancel(f);
		int64_t n = wh_await(f).n;
		assert_true(n == -ECANCELED || n == before + counted + 1);
		counted += n > 0;
	}
	close_loops();
	assert_int_equal(count, before + counted);
}

static void closing_answers_what_was_asked(void **state)
{
	struct gate gate = {false, false};
	int count = 0;
	wh_future futures[10];
	start_loops();
	assert_int_equal(wh_post(loops[0], stand_at_gate, &gate), 0);
	for (int i = 0; i < 10; i++)
		futures[i] = wh_ask(loop, loops[0], count_up, &count);
	atomic_store(&gate.open, true);
	close_loops();
	for (int i = 0; i < 10; i++)
		assert_int_equal(wh_await(futures[i]).n, i + 1);
}

/* ---- futures of other loops --------------------------------------------------------------- */

static wh_future theirs;
static atomic_bool is_made;

static void make_theirs(void *arg)
{
	theirs = wh_promise(arg, NULL, NULL);
	atomic_store(&is_made, true);
}

static void misuse_theirs(wh_loop *l, wh_res res, void *arg)
{
	int *wrong = arg;
	wh_res polled;
	*wrong += wh_await(theirs).n != -EDEADLK; /* nothing waits in a callback, whichever loop's */
	*wrong += !wh_poll(theirs, &polled) || polled.n != -EPERM;
	*wrong += wh_then(theirs, misuse_theirs, NULL) != -EPERM;
	*wrong += wh_drop(theirs) != -EPERM;
	wh_cancel(theirs); /* does nothing */
}

static void *await_theirs(void *arg)
{
	*(wh_res *)arg = wh_await(theirs);
	return NULL;
}

static void futures_of_other_loops(void **state)
{
	int wrong = 0;
	pthread_t thread;
	wh_res got = {0};
	start_loops();
	assert_int_equal(wh_post(loops[2], make_theirs, loops[2]), 0);
	while (!atomic_load(&is_made))
		sched_yield();
	assert_int_equal(wh_then(wh_sleep(loop, 0), misuse_theirs, &wrong), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(wrong, 0);
	assert_int_equal(pthread_create(&thread, NULL, await_theirs, &got), 0);
	assert_int_equal(wh_resolve(theirs, 99, NULL), 0); /* by a thread that is neither's */
	pthread_join(thread, NULL);
	assert_int_equal(got.n, 99);
	close_loops();
	assert_int_equal(wh_await(theirs).n, -ESTALE);
	assert_int_equal(wh_resolve(theirs, 1, NULL), -ESTALE);
}

/* ---- opening and closing ------------------------------------------------------------------ */

static void loops_come_and_go(void **state)
{
	wh_future old = {0};
	int before = open_fd_count();
	for (int i = 0; i < 1500; i++) { /* more than there are numbers */
		wh_loop *other = NULL;
		assert_int_equal(wh_loop_open(&other, NULL), 0);
		wh_future f = wh_promise(other, NULL, NULL);
		assert_true(f.id != old.id);
		assert_int_equal(wh_resolve(f, i, NULL), 0);
		if (i % 3 == 0)
			assert_int_equal(wh_await(f).n, i);
		other = wh_loop_close(other);
		assert_null(other);
		assert_int_equal(wh_await(f).n, -ESTALE);
		old = f;
	}
	for (int i = 0; i < 100; i++) { /* with threads, closed in another order than opened */
		start_loops();
		for (int k = 0; k < LOOPS; k++) {
			int which = (k * 3 + i) % LOOPS;
			loops[which] = wh_loop_close(loops[which]);
		}
	}
	assert_int_equal(open_fd_count(), before);
}

/* ---- one address, many loops -------------------------------------------------------------- */

enum { CLIENTS = 400 };

struct listener {
	wh_loop *on;
	int fd;
	atomic_int *total;
	int accepted;
};

static void on_accepted(wh_loop *l, wh_res res, void *arg)
{
	struct listener *listener = arg;
	if (res.n < 0)
		return; /* closing */
	listener->accepted++;
	(void)wh_drop(wh_close(l, (int)res.n));
	atomic_fetch_add(listener->total, 1);
	if (wh_then(wh_accept(l, listener->fd), on_accepted, listener) != 0)
		abort();
}

static int64_t begin_accepting(void *arg)
{
	struct listener *listener = arg;
	return wh_then(wh_accept(listener->on, listener->fd), on_accepted, listener);
}

static int64_t close_listener(void *arg)
{
	struct listener *listener = arg;
	return wh_drop(wh_close(listener->on, listener->fd));
}

static void loops_share_an_address(void **state)
{
	struct wh_listen_options options = {.reuse_port = true};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct listener listeners[LOOPS] = {0};
	atomic_int total = 0;
	socklen_t len = sizeof address;
	start_loops();
	for (int i = 0; i < LOOPS; i++) {
		listeners[i] = (struct listener){.on = loops[i], .total = &total};
		listeners[i].fd = wh_listen(loop, (struct sockaddr *)&address, sizeof address, &options);
		assert_true(listeners[i].fd >= 0);
		assert_int_equal(getsockname(listeners[i].fd, (struct sockaddr *)&address, &len), 0);
		assert_int_equal(wh_await(wh_ask(loop, loops[i], begin_accepting, &listeners[i])).n, 0);
	}
	for (int i = 0; i < CLIENTS; i++) {
		wh_res res = wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address));
		assert_true(res.n >= 0);
		close_fd((int)res.n);
	}
	while (atomic_load(&total) < CLIENTS)
		sched_yield();
	for (int i = 0; i < LOOPS; i++)
		assert_int_equal(wh_await(wh_ask(loop, loops[i], close_listener, &listeners[i])).n, 0);
	close_loops();
	/* The kernel spreads by hash: binomial with mean 100 and deviation 8.7; a sixth of that share is far outside. */
	for (int i = 0; i < LOOPS; i++)
		assert_true(listeners[i].accepted > CLIENTS / LOOPS / 6);
}

/* ---- processes ---------------------------------------------------------------------------- */

static void expect_exit(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* On every engine a child that inherits loops can do nothing with them, and may open its own. */
static void a_forked_child_has_no_loops(void **state)
{
	int fds[2], answer[2], wrong = -1;
	char byte;
	make_pair(fds);
	assert_int_equal(pipe(answer), 0);
	start_loops();
	wh_future receive = wh_recv(loop, fds[0], &byte, 1);
	assert_true(wh_loop_turn(loop, 0) >= 0);
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		wh_loop *own = NULL;
		wrong = wh_await(wh_sleep(loop, 0)).n != -EPERM;
		wrong += wh_loop_turn(loop, 0) != -EPERM;
		wrong += wh_await(receive).n != -EPERM;
		wrong += wh_post(loops[0], make_theirs, NULL) != -EPERM;
		wrong += wh_loop_open(&own, NULL) != 0;
		wrong += own && wh_await(wh_ask(own, loops[0], give_error, NULL)).n != -EPERM;
		wrong += own && wh_await(wh_sleep(own, 1000)).n != 0;
		wh_loop_close(own);
		if (write(answer[1], &wrong, sizeof wrong) != sizeof wrong)
			abort();
		/* An exit would have a memory checker look at what was the parent's threads' own. */
		(void)kill(getpid(), SIGKILL);
	}
	assert_int_equal(read(answer[0], &wrong, sizeof wrong), sizeof wrong);
	assert_int_equal(wrong, 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(answer[0]);
	close(answer[1]);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(wh_await(receive).n, 1);
	close_loops();
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static int64_t open_path(void *arg)
{
	int fd = open(arg, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* What is started after setuid(2) has the new rights only, whoever does it: the ring, or a worker that was there before. */
static void rights_that_are_given_up_are_gone(void **state)
{
	char path[] = "/tmp/whilst-rights-XXXXXX";
	struct passwd *nobody = getpwnam("nobody");
	if (geteuid() != 0 || !nobody)
		skip();                     /* nothing to give up */
	int fd = mkostemp(path, O_CLOEXEC); /* 0600 */
	assert_true(fd >= 0);
	close(fd);
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		wh_loop *own = NULL;
		if (wh_loop_open(&own, NULL) != 0)
			_exit(1);
		wh_res opened = wh_await(wh_open(own, path, O_RDONLY, 0));
		bool right = opened.n >= 0 && wh_await(wh_work(own, open_path, path)).n == 0;
		right = right && wh_await(wh_close(own, (int)opened.n)).n == 0;
		if (setgid(nobody->pw_gid) != 0 || setuid(nobody->pw_uid) != 0)
			_exit(77);
		right = right && wh_await(wh_open(own, path, O_RDONLY, 0)).n == -EACCES;
		right = right && wh_await(wh_work(own, open_path, path)).n == -EACCES;
		right = right && wh_await(wh_unlink(own, path)).n < 0; /* /tmp is sticky */
		wh_loop_close(own);
		_exit(right ? 0 : 1);
	}
	expect_exit(child);
	assert_int_equal(unlink(path), 0);
}

static int64_t ask_and_await_away(void *arg)
{
	const wh_future *away = arg;
	return wh_await(*away).n;
}

static void sleep_shortly(void *arg)
{
	wh_future *f = arg;
	*f = wh_sleep(loops[0], 1000);
}

static int64_t make_sleep(void *arg)
{
	sleep_shortly(arg);
	return 0;
}

/* Whoever answers still wakes the loop that has asked, which may close as soon as it has the answer. */
static void a_loop_closes_when_it_has_its_answer(void **state)
{
	assert_int_equal(wh_loop_start(&loops[0], NULL), 0);
	for (int i = 0; i < 100; i++) {
		wh_loop *asking = NULL;
		wh_future away = {0};
		int count = 0;
		assert_int_equal(wh_loop_open(&asking, NULL), 0);
		assert_int_equal(wh_await(wh_ask(asking, loops[0], make_sleep, &away)).n, 0);
		if (i % 2 == 0)
			assert_int_equal(wh_await(wh_go(asking, ask_and_await_away, &away)).n, 0);
		else
			(void)wh_await(wh_ask(asking, loops[0], count_up, &count));
		asking = wh_loop_close(asking);
	}
	loops[0] = wh_loop_close(loops[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(tokens_go_round),
		ON_LOOP(work_moves_to_other_loops),
		ON_LOOP(an_ask_is_taken_back_before_it_has_begun),
		ON_LOOP(closing_answers_what_was_asked),
		ON_LOOP(futures_of_other_loops),
		ON_LOOP(loops_come_and_go),
		ON_LOOP(a_loop_closes_when_it_has_its_answer),
		ON_LOOP(loops_share_an_address),
		ON_LOOP(a_forked_child_has_no_loops),
		ON_LOOP(rights_that_are_given_up_are_gone),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
