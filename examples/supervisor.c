/* supervisor.c -- keep programs running: start them, start them again when they end, stop them all in good order.
 *
 *	supervisor COMMAND...		each COMMAND is a line for sh(1)
 *
 * A program that ends is started again after a pause, which doubles from 100 ms to 5 s while it keeps ending early. SIGTERM
 * or SIGINT ends all: SIGTERM to each program and everything that it started, then SIGKILL to those that take longer than 3 s.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <whilst/whilst.h>

#define PAUSE_MIN_NS (100 * WH_NS_PER_MS)
#define PAUSE_MAX_NS (5 * WH_NS_PER_S)
#define GRACE_NS     (3 * WH_NS_PER_S)

struct program {
	struct supervisor *supervisor;
	const char *command;
	pid_t pid; /* 0: not running */
	int64_t started_at, pause_ns;
	wh_future pause;
};

struct supervisor {
	wh_loop *loop;
	struct program *programs;
	int program_count, running;
	bool stopping;
};

static void say(const struct program *p, const char *what, int64_t number)
{
	printf("%s: %s %" PRId64 "\n", p->command, what, number);
	fflush(stdout);
}

static void start(wh_loop *loop, wh_res res, void *arg);

static void on_ended(wh_loop *loop, wh_res res, void *arg)
{
	struct program *p = arg;
	struct supervisor *s = p->supervisor;
	if (res.n == -ECANCELED)
		return;
	p->pid = 0;
	s->running--;
	if (WIFSIGNALED(res.n))
		say(p, "ended by signal", WTERMSIG(res.n));
	else
		say(p, "ended with status", WEXITSTATUS(res.n));
	if (s->stopping) {
		if (s->running == 0)
			wh_loop_stop(loop);
		return;
	}
	/* It ran for a while: the next end is a new story. */
	if (wh_now(loop) - p->started_at > 2 * PAUSE_MAX_NS)
		p->pause_ns = PAUSE_MIN_NS;
	say(p, "again in ms:", p->pause_ns / WH_NS_PER_MS);
	p->pause = wh_sleep(loop, p->pause_ns);
	wh_then(p->pause, start, p);
	p->pause_ns = p->pause_ns * 2 < PAUSE_MAX_NS ? p->pause_ns * 2 : PAUSE_MAX_NS;
}

static void start(wh_loop *loop, wh_res res, void *arg)
{
	struct program *p = arg;
	struct supervisor *s = p->supervisor;
	if (res.n < 0 || s->stopping)
		return;
	const char *const argv[] = {"sh", "-c", p->command, NULL};
	struct wh_spawn_options options = {.argv = argv, .null_in = true, .new_group = true};
	struct wh_child child;
	int r = wh_spawn(loop, &options, &child);
	if (r < 0) {
		say(p, wh_strerror(r), r);
		p->pause = wh_sleep(loop, PAUSE_MAX_NS);
		wh_then(p->pause, start, p);
		return;
	}
	p->pid = child.pid;
	p->started_at = wh_now(loop);
	s->running++;
	say(p, "started, process", child.pid);
	wh_then(wh_child_wait(loop, child.pid), on_ended, p);
}

static void on_grace_over(wh_loop *loop, wh_res res, void *arg)
{
	struct supervisor *s = arg;
	for (int i = 0; res.n == 0 && i < s->program_count; i++) {
		struct program *p = &s->programs[i];
		if (p->pid == 0)
			continue;
		say(p, "took too long, killed:", p->pid);
		wh_child_kill(loop, -p->pid, SIGKILL);
	}
}

static void on_signal(wh_loop *loop, wh_res res, void *arg)
{
	struct supervisor *s = arg;
	if (res.n < 0 || s->stopping)
		return;
	s->stopping = true;
	for (int i = 0; i < s->program_count; i++) {
		struct program *p = &s->programs[i];
		if (p->pid != 0)
			wh_child_kill(loop, -p->pid, SIGTERM); /* negative: the whole group */
		else
			wh_cancel(p->pause); /* start() will be called, and see -ECANCELED */
	}
	if (s->running == 0)
		wh_loop_stop(loop);
	else
		wh_then(wh_sleep(loop, GRACE_NS), on_grace_over, s);
}

int main(int argc, char **argv)
{
	struct supervisor s = {.program_count = argc - 1};
	if (argc < 2) {
		fprintf(stderr, "usage: supervisor COMMAND...\n");
		return 2;
	}
	s.programs = calloc((size_t)s.program_count, sizeof *s.programs);
	int r = s.programs ? wh_loop_open(&s.loop, NULL) : -ENOMEM;
	if (r < 0) {
		fprintf(stderr, "supervisor: %s\n", wh_strerror(r));
		free(s.programs);
		return 1;
	}
	/* The signals first: from here on none of them ends this program. */
	wh_then(wh_signal(s.loop, SIGTERM), on_signal, &s);
	wh_then(wh_signal(s.loop, SIGINT), on_signal, &s);
	for (int i = 0; i < s.program_count; i++) {
		s.programs[i] = (struct program){&s, argv[i + 1], 0, 0, PAUSE_MIN_NS, {0}};
		start(s.loop, (wh_res){0, NULL}, &s.programs[i]);
	}
	wh_loop_run(s.loop);
	wh_loop_close(s.loop);
	free(s.programs);
	puts("all ended");
	return 0;
}
