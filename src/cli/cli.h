/* src/cli/cli.h -- what the sub-commands share: their table, common options, messages, requests to a server.
 *
 * Exit statuses, for all of them: 0 done; 1 the job failed or the request was refused; 2 usage; 3 the time to
 * wait ran out; 4 no connection to the server. `serve` has its own, see docs/operations.md.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <getopt.h>
#include <jansson.h>

#include "whilst/client.h"
#include "whilst/http.h"
#include "whilst/whilst.h"

enum cli_status {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_TIMED_OUT = 3,
	CLI_NO_CONNECTION = 4,
};

int cli_submit(int argc, char **argv);
int cli_publish(int argc, char **argv);
int cli_subscribe(int argc, char **argv);
int cli_wait(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_cancel(int argc, char **argv);
int cli_call(int argc, char **argv);
int cli_work(int argc, char **argv);
int cli_queue(int argc, char **argv);
int cli_queues(int argc, char **argv);
int cli_schedule(int argc, char **argv);
int cli_tail(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_config(int argc, char **argv);
int cli_token(int argc, char **argv);
int cli_log(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_backup(int argc, char **argv);
int cli_fsync_test(int argc, char **argv);

/* One line on standard error: "whilst COMMAND: ..."; returns status, so that a command can return it. */
int cli_error(enum cli_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern const char *cli_command; /* the name of the running sub-command, for messages */

/* The options of a command that asks a server: its own, and --server, --json, --help (-h). .usage is its text, borrowed. */
struct cli_options {
	const char *usage, *server;
	bool json, ended; /* ended: the command is over, with .status */
	int status;
};
/* The next of the command's own options (as getopt_long(3), which sets optarg and optind); -1: there are no more, or it is over: look at .ended.
 * own ends with an entry of zeros; NULL: it has none. */
int cli_option(struct cli_options *options, int argc, char **argv, const struct option *own);
/* The text on standard error; returns CLI_USAGE. */
int cli_usage(const char *usage);

/* The name of the file system of a path whose files lie on another machine or in another process; NULL: not so. */
const char *cli_network_file_system(const char *path);

/* A job id; said if it is none. */
bool cli_parse_job(const char *text, uint64_t *ret);
/* The value of an option that is a duration; said if it is none. */
bool cli_parse_duration(const char *option, const char *text, int64_t *ret_ns);

/* A string that grows; out of memory ends the program with a message, as everywhere in the command line. */
struct cli_text {
	char *bytes; /* always ends in NUL; NULL: empty */
	size_t len, cap;
};
void cli_text_add(struct cli_text *text, const void *bytes, size_t len);
void cli_text_format(struct cli_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_text_escaped(struct cli_text *text, const char *segment); /* percent-encoded as a path segment */
void cli_text_free(struct cli_text *text);

/* A server, for one command: a loop, the server's address, and clients: of its calls, and of HTTP where what the user says is
 * handed to the server as it is. */
struct cli_session {
	wh_loop *loop;
	wh_client *calls;
	wh_http_client *client;
	const char *server; /* URL without a slash at its end, or a UNIX socket "unix:/path" */
	bool json;
	const char *traceparent,
		*tracestate; /* $TRACEPARENT, $TRACESTATE, that each request says; NULL: none that is well-formed */
};
/* server: --server, else $WHILST_SERVER, else http://127.0.0.1:4480. 0 or an exit status, said. */
int cli_session_open(struct cli_session *session, const char *server, bool json);
void cli_session_close(struct cli_session *session);

struct cli_request {
	const char *method, *path;  /* path with its query */
	const char *headers[16][2]; /* name, value; up to the first NULL name */
	const void *body;
	size_t body_len;
	int64_t wait_ns; /* how long the answer may take beyond the usual; adds Prefer: wait=N */
};
wh_future cli_start(struct cli_session *session, const struct cli_request *request);
/* Waits; 0 and the answer (free it by wh_http_response_free()), or an exit status, said. */
int cli_ask(struct cli_session *session, const struct cli_request *request, struct wh_http_response **ret);
/* A refusal in one line: the problem's detail, else the status. Returns CLI_FAILED. */
int cli_refused(const struct wh_http_response *response);
/* The same for a call that has failed, or CLI_NO_CONNECTION where there was no answer. */
int cli_failed(const struct cli_session *session, const struct wh_problem *problem);
/* A line of JSON as the server says it. */
void cli_print_json(const char *json);
/* The body as JSON; NULL, said: it is none. */
json_t *cli_answer_json(const struct wh_http_response *response);

/* Standard input or a file, whole. 0 or an exit status, said. */
int cli_read_all(struct cli_session *session, const char *path, struct cli_text *ret);
/* All of it to standard output. 0 or an exit status, said. */
int cli_write_out(struct cli_session *session, const void *bytes, size_t len);

#endif
