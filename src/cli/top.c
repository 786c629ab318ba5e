/* src/cli/top.c -- `whilst top`: queues, rates, what is under way and the log, drawn anew every second.
 *
 * Everything is asked of the server's HTTP interface: the queues, the log, and /metrics, which a token may not be good for; what
 * cannot be had is a dash. Rates are differences between two looks, by the clock of whoever looks.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "cli/cli.h"
#include "cli/screen.h"

/* What is read of /metrics. */
enum figure {
	COMPLETED,
	FAILED,
	ATTEMPTS_FAILED,
	CONNECTIONS,
	PARKED,
	STREAMS,
	REQUESTS,
	FLUSHES,
	DISK,
	FIGURES
};
static const struct {
	const char *metric, *name; /* metric: of all its series the sum */
	bool is_rate;
} figures[FIGURES] = {
	[COMPLETED] = {"whilst_jobs_completed_total", "completed", true},
	[FAILED] = {"whilst_jobs_failed_total", "failed", true},
	[ATTEMPTS_FAILED] = {"whilst_attempts_failed_total", "attempts_failed", true},
	[CONNECTIONS] = {"whilst_http_connections", "connections", false},
	[PARKED] = {"whilst_http_parked", "waiting", false},
	[STREAMS] = {"whilst_http_streams", "streams", false},
	[REQUESTS] = {"whilst_http_requests_total", "requests", true},
	[FLUSHES] = {"whilst_log_flushes_total", "flushes", true},
	[DISK] = {"whilst_log_disk_bytes", "log_disk_bytes", false},
};

/* One look at the server. */
struct look {
	int64_t at; /* wh_clock() */
	struct wh_queues *queues;
	struct wh_log_state *log;
	bool has_figures;
	double figures[FIGURES];
};

struct top {
	struct cli_session session;
	struct look now, before;
	int64_t interval_ns;
	bool once;
	bool tick, drawn_wrong, quit; /* drawn_wrong: the window has another size */
	char key;
};

static void look_free(struct look *look)
{
	wh_queues_free(look->queues);
	wh_log_state_free(look->log);
	*look = (struct look){0};
}

/* ---- asking ------------------------------------------------------------------------------ */

static void read_figures(struct look *look, char *text)
{
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		size_t len = strcspn(line, "{ ");

		for (int i = 0; i < FIGURES; i++) {
			if (strlen(figures[i].metric) == len && strncmp(line, figures[i].metric, len) == 0)
				look->figures[i] += strtod(strrchr(line, ' ') + 1, NULL);
		}
	}
	look->has_figures = true;
}

static int ask_figures(struct top *top, struct look *look)
{
	struct cli_request request = {.method = "GET", .path = "/metrics"};
	struct wh_http_response *response = NULL;
	struct cli_text text = {0};
	int status = cli_ask(&top->session, &request, &response);

	if (status != 0)
		return status;
	if (response->status == 200) {
		cli_text_add(&text, response->body.data, response->body.len);
		read_figures(look, text.bytes);
	}
	cli_text_free(&text);
	wh_http_response_free(response);
	return 0;
}

static int take_look(struct top *top)
{
	struct wh_problem problem = {0};
	struct wh_how how = {.problem = &problem};
	struct look look = {.at = wh_clock(top->session.loop)};
	wh_res res = wh_await(wh_client_queues(top->session.calls, NULL, &how));
	int status = 0;

	if (res.n >= 0) {
		look.queues = res.ptr;
		res = wh_await(wh_client_log(top->session.calls, &how));
	}
	if (res.n >= 0)
		look.log = res.ptr;
	else
		status = cli_failed(&top->session, &problem);
	if (status == 0)
		status = ask_figures(top, &look);
	if (status != 0) {
		look_free(&look);
		return status;
	}
	look_free(&top->before);
	top->before = top->now;
	top->now = look;
	return 0;
}

/* ---- rates ------------------------------------------------------------------------------- */

static double seconds(const struct top *top)
{
	return top->before.at ? (double)(top->now.at - top->before.at) / 1e9 : 0;
}

/* Per second; negative: there was no look before. */
static double rate_of(const struct top *top, enum figure figure)
{
	double passed = seconds(top), grown = top->now.figures[figure] - top->before.figures[figure];

	if (passed <= 0 || !top->now.has_figures || !top->before.has_figures)
		return -1;
	return grown < 0 ? 0 : grown / passed; /* the server began anew */
}

static double submitted_rate(const struct top *top, const struct wh_queue *queue)
{
	double passed = seconds(top);

	if (passed <= 0)
		return -1;
	for (size_t i = 0; i < top->before.queues->count; i++) {
		const struct wh_queue *old = &top->before.queues->queues[i];

		if (!strcmp(old->name, queue->name) && old->submitted <= queue->submitted)
			return (double)(queue->submitted - old->submitted) / passed;
	}
	return (double)queue->submitted / passed;
}

static double submitted_rate_of_all(const struct top *top)
{
	double sum = 0;

	if (seconds(top) <= 0)
		return -1;
	for (size_t i = 0; i < top->now.queues->count; i++)
		sum += submitted_rate(top, &top->now.queues->queues[i]);
	return sum;
}

/* ---- drawing ----------------------------------------------------------------------------- */

/* "12", "3456", "12.3k", "4.56M": at most six characters. */
static void put_count(struct cli_text *text, const char *before, double value, const char *after)
{
	static const char units[] = " kMGTP";
	char number[32] = "-";
	int unit = 0;

	if (value >= 0) {
		while (value >= 9999.5 && units[unit + 1]) {
			value /= 1000;
			unit++;
		}
		if (unit > 0 || (value > 0 && value < 9.95 && value != (double)(long long)value))
			snprintf(number, sizeof number, "%.*f%.1s",
			         value < 9.995   ? 2
			         : value < 99.95 ? 1
			                         : 0,
			         value, unit > 0 ? &units[unit] : "");
		else
			snprintf(number, sizeof number, "%.0f", value);
	}
	cli_text_format(text, "%s%s%s", before, number, after);
}

static void put_column(struct cli_text *text, double value)
{
	struct cli_text number = {0};

	put_count(&number, "", value, "");
	cli_text_format(text, " %8s", number.bytes);
	cli_text_free(&number);
}

static double total_of(const struct top *top, int state)
{
	double sum = 0;

	for (size_t i = 0; i < top->now.queues->count; i++)
		sum += (double)top->now.queues->queues[i].jobs[state];
	return sum;
}

static double figure(const struct top *top, enum figure figure)
{
	return top->now.has_figures ? top->now.figures[figure] : -1;
}

static void put_head(struct cli_text *text, const struct top *top)
{
	const struct wh_log_state *log = top->now.log;
	char at[WH__INSTANT_TEXT_BYTES];
	int len = (int)wh__put_instant(at, wh_wall_now(top->session.loop));

	cli_text_format(text, "whilst at %.40s, %.*s\n", top->session.server, len, at);
	put_count(text, "jobs  running ", total_of(top, WH_JOB_RUNNING), "");
	put_count(text, "  ready ", total_of(top, WH_JOB_READY), "");
	put_count(text, "  delayed ", total_of(top, WH_JOB_DELAYED), "");
	put_count(text, "  awaiting ", total_of(top, WH_JOB_AWAITING), "");
	put_count(text, "  buried ", total_of(top, WH_JOB_BURIED), "");
	put_count(text, "  failed ", total_of(top, WH_JOB_FAILED), "\n");
	put_count(text, "rate  submitted ", submitted_rate_of_all(top), "/s");
	put_count(text, "  done ", rate_of(top, COMPLETED), "/s");
	put_count(text, "  failed ", rate_of(top, FAILED), "/s");
	put_count(text, "  attempts failed ", rate_of(top, ATTEMPTS_FAILED), "/s\n");
	put_count(text, "http  connections ", figure(top, CONNECTIONS), "");
	put_count(text, "  waiting ", figure(top, PARKED), "");
	put_count(text, "  streams ", figure(top, STREAMS), "");
	put_count(text, "  requests ", rate_of(top, REQUESTS), "/s\n");
	cli_text_format(text, "log   flushed %u/%llu", log->epoch, (unsigned long long)log->flushed);
	put_count(text, "  behind ", (double)(log->appended - log->flushed), " B");
	put_count(text, "  flushes ", rate_of(top, FLUSHES), "/s");
	put_count(text, "  on disk ", figure(top, DISK), "B\n\n");
}

/* Where most is going on comes first. */
static int by_load(const void *a, const void *b)
{
	const struct wh_queue *x = *(const struct wh_queue *const *)a,
			      *y = *(const struct wh_queue *const *)b;
	uint64_t of_x = x->jobs[WH_JOB_RUNNING] + x->jobs[WH_JOB_READY],
		 of_y = y->jobs[WH_JOB_RUNNING] + y->jobs[WH_JOB_READY];

	return of_x != of_y ? (of_x < of_y ? 1 : -1) : strcmp(x->name, y->name);
}

static void put_queues(struct cli_text *text, const struct top *top)
{
	static const int columns[] = {WH_JOB_RUNNING,  WH_JOB_READY,  WH_JOB_DELAYED,
	                              WH_JOB_AWAITING, WH_JOB_BURIED, WH_JOB_FAILED};
	size_t count = top->now.queues->count;
	const struct wh_queue **sorted = calloc(count + 1, sizeof *sorted);

	if (!sorted)
		exit(cli_error(CLI_FAILED, "out of memory"));
	for (size_t i = 0; i < count; i++)
		sorted[i] = &top->now.queues->queues[i];
	qsort(sorted, count, sizeof *sorted, by_load);
	cli_text_format(text, "%-24s  running    ready  delayed awaiting   buried   failed     in/s\n",
	                "queue");
	for (size_t i = 0; i < count; i++) {
		cli_text_format(text, "%-23.23s%s", sorted[i]->name, sorted[i]->paused ? "P" : " ");
		for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
			put_column(text, (double)sorted[i]->jobs[columns[j]]);
		put_column(text, submitted_rate(top, sorted[i]));
		cli_text_format(text, "\n");
	}
	free(sorted);
}

static int draw(struct top *top, bool on_screen)
{
	struct cli_text text = {0};
	int status;

	put_head(&text, top);
	put_queues(&text, top);
	status = on_screen ? screen_draw(&top->session, text.bytes)
	                   : cli_write_out(&top->session, text.bytes, text.len);
	cli_text_free(&text);
	return status;
}

static void print_json(const struct top *top)
{
	const struct wh_log_state *log = top->now.log;

	printf("{\"queues\":%.*s,\"log\":{\"epoch\":%u,\"appended\":%llu,\"written\":%llu,\"flushed\":%llu},"
	       "\"figures\":",
	       (int)strcspn(top->now.queues->json, "\n"), top->now.queues->json, log->epoch,
	       (unsigned long long)log->appended, (unsigned long long)log->written,
	       (unsigned long long)log->flushed);
	for (int i = 0; i < FIGURES && top->now.has_figures; i++)
		printf("%s\"%s\":%.0f", i ? "," : "{", figures[i].name, top->now.figures[i]);
	fputs(top->now.has_figures ? "}" : "null", stdout);
	fputs(",\"per_second\":", stdout);
	if (seconds(top) > 0) {
		printf("{\"submitted\":%.3f", submitted_rate_of_all(top));
		for (int i = 0; i < FIGURES; i++) {
			if (figures[i].is_rate && rate_of(top, (enum figure)i) >= 0)
				printf(",\"%s\":%.3f", figures[i].name, rate_of(top, (enum figure)i));
		}
		fputs("}}\n", stdout);
	} else {
		fputs("null}\n", stdout);
	}
	fflush(stdout);
}

/* ---- turning ----------------------------------------------------------------------------- */

static void on_tick(wh_loop *loop, wh_res res, void *arg)
{
	((struct top *)arg)->tick = true;
}

static void on_stop(wh_loop *loop, wh_res res, void *arg)
{
	((struct top *)arg)->quit = true;
}

static void on_resized(wh_loop *loop, wh_res res, void *arg)
{
	struct top *top = arg;

	if (res.n < 0)
		return;
	top->drawn_wrong = true;
	(void)!wh_then(wh_signal(loop, SIGWINCH), on_resized, top);
}

static void on_key(wh_loop *loop, wh_res res, void *arg)
{
	struct top *top = arg;

	/* the end of the terminal is one as well */
	top->quit = top->quit || res.n <= 0 || top->key == 'q' || top->key == 'Q';
	if (!top->quit)
		(void)!wh_then(wh_read(loop, STDIN_FILENO, &top->key, 1), on_key, top);
}

static int show(struct top *top, bool on_screen)
{
	int status = take_look(top);

	if (status == 0 && top->session.json)
		print_json(top);
	else if (status == 0)
		status = draw(top, on_screen);
	return status;
}

static int turn(struct top *top)
{
	wh_loop *loop = top->session.loop;
	bool on_screen;
	int status;

	/* before the screen is another one: an interrupt in between would leave it so */
	(void)!wh_then(wh_signal(loop, SIGINT), on_stop, top);
	(void)!wh_then(wh_signal(loop, SIGTERM), on_stop, top);
	on_screen = !top->session.json && screen_begin();
	if (on_screen) {
		(void)!wh_then(wh_signal(loop, SIGWINCH), on_resized, top);
		(void)!wh_then(wh_read(loop, STDIN_FILENO, &top->key, 1), on_key, top);
	}
	status = show(top, on_screen);
	while (status == 0 && !top->quit) {
		top->tick = top->drawn_wrong = false;
		wh_future timer = wh_sleep(loop, top->interval_ns);
		(void)!wh_then(timer, on_tick, top);
		while (!top->tick && !top->quit && wh_loop_turn(loop, -1) >= 0) {
			if (top->drawn_wrong && on_screen)
				status = draw(top, true);
			top->drawn_wrong = false;
		}
		if (!top->quit && status == 0)
			status = show(top, on_screen);
	}
	screen_end();
	return status;
}

static const char usage[] =
	"usage: whilst top [--interval TIME] [--once] [--json] [--server URL] [--help]\n\n"
	"Shows queues, rates, connections and the log, anew every second; q ends it. Rates are over the last "
	"interval. A P stands behind the\n"
	"name of a paused queue. With tokens ($WHILST_TOKEN) it needs read, and metrics for some of the "
	"figures.\n\n"
	"  --interval TIME    between two looks, such as 500ms or 5s (default 1s)\n"
	"  --once             look once, print, and end\n"
	"  --json             a line of JSON for each look\n"
	"  --server URL       the server's address\n"
	"  --help             this text\n";

int cli_top(int argc, char **argv)
{
	static const struct option longs[] = {{"interval", 1, 0, 'i'}, {"once", 0, 0, 'o'}, {0}};
	struct top top = {.interval_ns = WH_NS_PER_S};
	struct cli_options common = {.usage = usage};
	int status;

	for (int c; (c = cli_option(&common, argc, argv, longs)) != -1;) {
		switch (c) {
		case 'i':
			if (!cli_parse_duration("--interval", optarg, &top.interval_ns))
				return CLI_USAGE;
			if (top.interval_ns < 100 * WH_NS_PER_MS)
				return cli_error(CLI_USAGE, "--interval: at least 100ms");
			break;
		case 'o':
			top.once = true;
			break;
		}
	}
	if (common.ended)
		return common.status;
	if (optind != argc)
		return cli_usage(usage);
	status = cli_session_open(&top.session, common.server, common.json);
	if (status == 0)
		status = top.once ? show(&top, false) : turn(&top);
	look_free(&top.now);
	look_free(&top.before);
	cli_session_close(&top.session);
	return status;
}
