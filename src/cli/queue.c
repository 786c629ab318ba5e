/* src/cli/queue.c -- `whilst queue`: a queue shown, configured, paused, removed; its jobs listed, purged, kicked, called back, moved.
 *
 * What is said of jobs and settings goes to the server as it is said, which judges it. Pages of a list follow each other until the last one.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: whilst queue show|pause|resume|delete NAME...\n"
	"       whilst queue put NAME [SETTING...]\n"
	"       whilst queue jobs|purge|kick|replay NAME [CHOICE...]\n"
	"       whilst queue move NAME --to OTHER [CHOICE...]\n\n"
	"Shows a queue, configures it (what is not said is the default again), lists its jobs or does "
	"something to "
	"many:\n"
	"cancels them (finished ones: forgets them), makes buried or delayed ones ready, calls failed, "
	"buried and "
	"dead ones\n"
	"back, moves them to another queue.\n\n"
	"  settings: --time-to-run D, --attempts N, --retention D, --jobs-max N, --finished-max N, --backoff "
	"D[,D...],\n"
	"            --backoff-max D, --backoff-jitter PERCENT, --dead-letter QUEUE, --concurrency N, --rate "
	"N/D,\n"
	"            --rate-burst N, --group-concurrency N, --group-rate N/D, --group-rate-burst N\n"
	"  choices:  --state STATE[,STATE...], --from ID, --until ID, --id ID (again and again), --count N, "
	"--dead\n"
	"            --error TEXT   in its newest error\n"
	"            --older D, --newer D   since its end, else its newest error, else its submit\n"
	"            --to QUEUE   of move, and of replay: not where they became dead, but there\n"
	"  --server URL, --json, --help\n";

enum { SETTINGS = 15, SETTING = 256, CHOICE = SETTING + SETTINGS, IDS_MAX = 10000 };

static const struct option longs[] = {{"id", 1, 0, 'i'},
                                      {"time-to-run", 1, 0, SETTING},
                                      {"attempts", 1, 0, SETTING + 1},
                                      {"retention", 1, 0, SETTING + 2},
                                      {"jobs-max", 1, 0, SETTING + 3},
                                      {"finished-max", 1, 0, SETTING + 4},
                                      {"backoff", 1, 0, SETTING + 5},
                                      {"backoff-max", 1, 0, SETTING + 6},
                                      {"backoff-jitter", 1, 0, SETTING + 7},
                                      {"dead-letter", 1, 0, SETTING + 8},
                                      {"concurrency", 1, 0, SETTING + 9},
                                      {"rate", 1, 0, SETTING + 10},
                                      {"rate-burst", 1, 0, SETTING + 11},
                                      {"group-concurrency", 1, 0, SETTING + 12},
                                      {"group-rate", 1, 0, SETTING + 13},
                                      {"group-rate-burst", 1, 0, SETTING + 14},
                                      {"state", 1, 0, CHOICE},
                                      {"from", 1, 0, CHOICE + 1},
                                      {"until", 1, 0, CHOICE + 2},
                                      {"count", 1, 0, CHOICE + 3},
                                      {"dead", 0, 0, CHOICE + 4},
                                      {"error", 1, 0, CHOICE + 5},
                                      {"older", 1, 0, CHOICE + 6},
                                      {"newer", 1, 0, CHOICE + 7},
                                      {"to", 1, 0, CHOICE + 8},
                                      {0}};

/* Names in JSON of what is configured; a list: of durations, with commas. */
static const struct {
	const char *name;
	enum { TEXT, NUMBER, LIST } form;
} settings[SETTINGS] = {{"time_to_run", TEXT},
                        {"attempts", NUMBER},
                        {"retention", TEXT},
                        {"jobs_max", NUMBER},
                        {"finished_max", NUMBER},
                        {"backoff", LIST},
                        {"backoff_max", TEXT},
                        {"backoff_jitter", NUMBER},
                        {"dead_letter", TEXT},
                        {"concurrency", NUMBER},
                        {"rate", TEXT},
                        {"rate_burst", NUMBER},
                        {"group_concurrency", NUMBER},
                        {"group_rate", TEXT},
                        {"group_rate_burst", NUMBER}};

static const char *const choices[] = {"state", "from",  "until", "count", "dead",
                                      "error", "older", "newer", "to"};

struct queue_command {
	const char *verb, *server;
	bool json;
	json_t *config, *ids;
	struct cli_text query;
	bool chosen;
};

static int set(struct queue_command *c, int index, const char *text)
{
	const char *name = settings[index].name;
	char *end;

	if (settings[index].form == NUMBER) {
		long long n = strtoll(text, &end, 10);

		if (end == text || *end)
			return cli_error(CLI_USAGE, "%s %s: a whole number is wanted", name, text);
		json_object_set_new(c->config, name, json_integer(n));
	} else if (settings[index].form == LIST && strchr(text, ',')) {
		json_t *list = json_array();

		for (const char *at = text; *at;) {
			size_t len = strcspn(at, ",");

			json_array_append_new(list, json_stringn(at, len));
			at += len + (at[len] == ',');
		}
		json_object_set_new(c->config, name, list);
	} else if (json_object_set_new(c->config, name, json_string(text)) < 0) {
		return cli_error(CLI_USAGE, "%s: not UTF-8", name);
	}
	return 0;
}

static void choose(struct queue_command *c, int index, const char *text)
{
	cli_text_format(&c->query, "%c%s=", c->query.len ? '&' : '?', choices[index]);
	cli_text_escaped(&c->query, text ? text : "true");
	c->chosen = true;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct queue_command *c)
{
	struct cli_options common = {.usage = usage};
	uint64_t id;
	int status = 0;

	for (int o; status == 0 && (o = cli_option(&common, argc, argv, longs)) != -1;) {
		if (o == 'i' && cli_parse_job(optarg, &id))
			json_array_append_new(c->ids, json_integer((json_int_t)id));
		else if (o == 'i')
			status = CLI_USAGE;
		else if (o >= CHOICE)
			choose(c, o - CHOICE, optarg);
		else if (o >= SETTING)
			status = set(c, o - SETTING, optarg);
	}
	c->server = common.server;
	c->json = common.json;
	return common.ended ? common.status : status ? status : -1;
}

/* One request about the queue; 0 and its answer, or an exit status, said. */
static int ask(struct cli_session *session, const char *method, const char *name, const char *rest,
               const char *body, struct wh_http_response **ret)
{
	struct cli_text path = {0};
	struct cli_request request = {.method = method, .wait_ns = 0};
	int status;

	cli_text_format(&path, "/v1/queues/");
	cli_text_escaped(&path, name);
	cli_text_format(&path, "%s", rest);
	request.path = path.bytes;
	if (body) {
		request.headers[0][0] = "Content-Type";
		request.headers[0][1] = "application/json";
		request.body = body;
		request.body_len = strlen(body);
	}
	status = cli_ask(session, &request, ret);
	cli_text_free(&path);
	if (status == 0 && (*ret)->status >= 400) {
		status = cli_refused(*ret);
		wh_http_response_free(*ret);
	}
	return status;
}

static void print_members(const json_t *queue)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)queue, name, value)
	{
		char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		const char *string = json_string_value(value);

		if (json_is_object(value)) {
			const char *state;
			json_t *count;

			json_object_foreach(value, state, count) printf("  %-18s %" JSON_INTEGER_FORMAT "\n",
			                                                state, json_integer_value(count));
		} else if (!json_is_null(value) && strcmp(name, "name") != 0) {
			printf("  %-18s %s\n", name, string ? string : text);
		}
		free(text);
	}
}

/* show, pause, resume, delete: of each queue that is named. */
static int each(struct cli_session *session, const struct queue_command *c, char **names)
{
	static const char *const done[][2] = {
		{"pause", "paused"}, {"resume", "resumed"}, {"delete", "removed"}};
	bool show = !strcmp(c->verb, "show"), remove = !strcmp(c->verb, "delete");
	int worst = 0;

	for (; *names && worst != CLI_NO_CONNECTION; names++) {
		struct wh_http_response *answer;
		int status = ask(session,
		                 show     ? "GET"
		                 : remove ? "DELETE"
		                          : "POST",
		                 *names,
		                 show || remove              ? ""
		                 : !strcmp(c->verb, "pause") ? "/pause"
		                                             : "/resume",
		                 NULL, &answer);

		worst = status > worst ? status : worst;
		if (status != 0)
			continue;
		if (session->json) {
			fwrite(answer->body.data, 1, answer->body.len, stdout);
		} else if (show) {
			json_t *queue = cli_answer_json(answer);

			printf("queue %s\n", *names);
			if (queue)
				print_members(queue);
			json_decref(queue);
		}
		for (size_t i = 0; i < 3 && !session->json && !show; i++)
			if (!strcmp(c->verb, done[i][0]))
				printf("queue %s: %s\n", *names, done[i][1]);
		wh_http_response_free(answer);
	}
	return worst;
}

static int put(struct cli_session *session, const struct queue_command *c, const char *name)
{
	char *body = json_dumps(c->config, JSON_COMPACT);
	struct wh_http_response *answer;
	int status =
		body ? ask(session, "PUT", name, "", body, &answer) : cli_error(CLI_FAILED, "out of memory");

	free(body);
	if (status != 0)
		return status;
	if (session->json)
		fwrite(answer->body.data, 1, answer->body.len, stdout);
	else
		printf("queue %s: %s\n", name, answer->status == 201 ? "made" : "configured");
	wh_http_response_free(answer);
	return 0;
}

/* purge, kick, replay, move: answered by how many. */
static int do_many(struct cli_session *session, const struct queue_command *c, const char *name)
{
	static const char *const done[][2] = {
		{"purge", "purged"}, {"kick", "kicked"}, {"replay", "called back"}, {"move", "moved"}};
	char *ids = json_array_size(c->ids) > 0 ? json_dumps(c->ids, JSON_COMPACT) : NULL;
	struct cli_text rest = {0}, body = {0};
	struct wh_http_response *answer;
	json_t *json;
	int status;

	cli_text_format(&rest, "/%s%s", c->verb, c->query.len ? c->query.bytes : "");
	if (ids)
		cli_text_format(&body, "{\"ids\":%s}", ids);
	free(ids);
	status = ask(session, "POST", name, rest.bytes, body.bytes, &answer);
	cli_text_free(&rest);
	cli_text_free(&body);
	if (status != 0)
		return status;
	json = cli_answer_json(answer);
	if (session->json)
		fwrite(answer->body.data, 1, answer->body.len, stdout);
	for (size_t i = 0; i < 4 && !session->json && json; i++)
		if (!strcmp(c->verb, done[i][0]))
			printf("%" JSON_INTEGER_FORMAT " jobs %s\n",
			       json_integer_value(json_object_get(json, "count")), done[i][1]);
	wh_http_response_free(answer);
	json_decref(json);
	return json ? 0 : CLI_FAILED;
}

static void print_job(const json_t *job, bool json)
{
	static const char *const instants[] = {"run_at", "deadline", "expires_at"};

	if (json) {
		char *line = json_dumps(job, JSON_COMPACT);

		if (line)
			puts(line);
		free(line);
		return;
	}
	printf("%10" JSON_INTEGER_FORMAT "  %-9s  priority %-10" JSON_INTEGER_FORMAT
	       "  attempts %" JSON_INTEGER_FORMAT,
	       json_integer_value(json_object_get(job, "id")),
	       json_string_value(json_object_get(job, "state")),
	       json_integer_value(json_object_get(job, "priority")),
	       json_integer_value(json_object_get(job, "attempts")));
	for (size_t i = 0; i < 3; i++) {
		const char *at = json_string_value(json_object_get(job, instants[i]));

		if (at)
			printf("  %s %s", instants[i], at);
	}
	puts(json_is_true(json_object_get(job, "dead")) ? "  dead" : "");
}

static int list_jobs(struct cli_session *session, const struct queue_command *c, const char *name)
{
	char after[40] = "";
	int status = 0;

	while (status == 0) {
		struct cli_text rest = {0};
		struct wh_http_response *answer;
		json_t *page = NULL, *job;
		const char *next;
		size_t i;

		cli_text_format(&rest, "/jobs%s%climit=1000%s", c->query.len ? c->query.bytes : "",
		                c->query.len ? '&' : '?', after);
		status = ask(session, "GET", name, rest.bytes, NULL, &answer);
		cli_text_free(&rest);
		if (status != 0)
			return status;
		page = cli_answer_json(answer);
		wh_http_response_free(answer);
		json_array_foreach(json_object_get(page, "jobs"), i, job) print_job(job, session->json);
		next = json_string_value(json_object_get(page, "next"));
		if (next)
			snprintf(after, sizeof(after), "&after=%.20s", next);
		status = !page ? CLI_FAILED : next ? 0 : -1;
		json_decref(page);
	}
	return status < 0 ? 0 : status;
}

static int run(struct queue_command *c, char **names, int count)
{
	static const char *const verbs[] = {"show", "pause", "resume", "delete", "put",
	                                    "jobs", "purge", "kick",   "replay", "move"};
	enum { EACH = 4, PUT = 4, JOBS = 5, VERBS = 10 };
	struct cli_session session = {0};
	int verb = 0, status;

	while (verb < VERBS && strcmp(c->verb, verbs[verb]) != 0)
		verb++;
	if (verb == VERBS || count == 0)
		return cli_usage(usage);
	if (verb >= EACH && count > 1)
		return cli_error(CLI_USAGE, "%s: one queue at a time", c->verb);
	if ((c->chosen || json_array_size(c->ids) > 0) && verb < JOBS)
		return cli_error(CLI_USAGE, "%s: there is nothing to choose", c->verb);
	if (json_object_size(c->config) > 0 && verb != PUT)
		return cli_error(CLI_USAGE, "%s: settings are for put", c->verb);
	if (json_array_size(c->ids) > (verb == JOBS ? 0 : IDS_MAX))
		return cli_error(CLI_USAGE, "%s: %s", c->verb,
		                 verb == JOBS ? "`whilst status` shows jobs by their ids"
		                              : "at most 10000 ids");
	status = cli_session_open(&session, c->server, c->json);
	if (status == 0)
		status = verb < EACH    ? each(&session, c, names)
		         : verb == PUT  ? put(&session, c, names[0])
		         : verb == JOBS ? list_jobs(&session, c, names[0])
		                        : do_many(&session, c, names[0]);
	cli_session_close(&session);
	return status;
}

int cli_queue(int argc, char **argv)
{
	struct queue_command c = {.config = json_object(), .ids = json_array()};
	int status = parse(argc, argv, &c);

	if (status < 0) {
		c.verb = optind < argc ? argv[optind] : "";
		status = run(&c, argv + optind + (optind < argc), argc - optind - (optind < argc));
	}
	json_decref(c.config);
	json_decref(c.ids);
	cli_text_free(&c.query);
	return status;
}
