/* src/cli/serve.c -- `whilst serve`: the server from its flags to its exit status.
 *
 * One loop does it all. On standard output exactly one line, when the server is ready; on standard error one line in
 * logfmt for each event. Exit statuses: docs/operations.md.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "base/units.h"
#include "cli/serve.h"
#include "cli/serve_settings.h"
#include "deliver/service.h"
#include "front/beanstalk.h"
#include "front/front.h"
#include "front/target.h"
#include "store/store.h"

enum serve_status {
	SERVE_STOPPED = 0,
	SERVE_FAILED = 1,
	SERVE_USAGE = 2,
	SERVE_DAMAGED = 3,
	SERVE_HELD = 4,
	SERVE_ADDRESS_IN_USE = 5,
};

struct server {
	wh_loop *loop;
	struct store *store;
	struct api *front;
	struct beanstalk *beanstalk;
	struct serve_settings settings;
	int fds[SERVE_VALUES_MAX];
	unsigned fds_count;
	int beanstalk_fds[SERVE_VALUES_MAX];
	unsigned beanstalk_fds_count;
	unsigned draining; /* fronts */
	struct wh__text addresses;
	bool stopping, closing;
	char early[256]; /* a notice from before there was a clock to stamp it with */
};

/* ---- events ------------------------------------------------------------------------------ */

static void event(struct server *server, int level, const char *name, const char *members)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	char given[1024], instant[WH__INSTANT_TEXT_BYTES];
	struct wh__text text;

	if (level < server->settings.log_level)
		return;
	wh__text_init(&text, given, sizeof(given));
	wh__text_format(&text, "ts=%.*s lvl=%s ev=%s",
	                (int)wh__put_instant(instant, wh_wall_now(server->loop)), instant, levels[level],
	                name);
	if (members && *members) {
		wh__text_put(&text, " ", 1);
		wh__text_str(&text, members);
	}
	wh__text_put(&text, "\n", 1);
	/* one call, one line: lines of several threads or processes do not mix */
	if (!text.failed)
		fwrite(text.data, 1, text.len, stderr);
	wh__text_done(&text);
}

static void message_event(struct server *server, int level, const char *name, const char *message)
{
	struct wh__text text;

	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "msg=");
	wh__text_json(&text, message, strlen(message));
	wh__text_put(&text, "", 1);
	event(server, level, name, text.failed ? "" : text.data);
	wh__text_done(&text);
}

static void on_notice(int level, const char *message, void *arg)
{
	struct server *server = arg;

	if (server->loop)
		message_event(server, level, "notice", message);
	else
		snprintf(server->early, sizeof(server->early), "%s", message);
}

static void on_event(int level, const char *name, const char *members, void *arg)
{
	event(arg, level, name, members);
}

static void on_progress(uint64_t done, uint64_t all, uint64_t jobs, void *arg)
{
	char members[128];

	snprintf(members, sizeof(members), "read_bytes=%llu of_bytes=%llu jobs=%llu",
	         (unsigned long long)done, (unsigned long long)all, (unsigned long long)jobs);
	event(arg, WH_LOG_INFO, "recovering", members);
}

/* What was acknowledged is true; nothing more will be: the process ends before it can say anything else. */
static void on_failure(int64_t error, const char *message, void *arg)
{
	message_event(arg, WH_LOG_ERROR, "log-failed", message);
	_exit(SERVE_FAILED);
}

static int fail(struct server *server, int status, const char *name, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int fail(struct server *server, int status, const char *name, const char *format, ...)
{
	struct wh__text text;
	char message[2048];
	va_list list;

	va_start(list, format);
	vsnprintf(message, sizeof(message), format, list);
	va_end(list);
	wh__text_init(&text, NULL, 0);
	wh__text_format(&text, "status=%d msg=", status);
	wh__text_json(&text, message, strlen(message));
	wh__text_put(&text, "", 1);
	event(server, WH_LOG_ERROR, name, text.failed ? "" : text.data);
	wh__text_done(&text);
	return status;
}

/* ---- addresses --------------------------------------------------------------------------- */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
	struct sockaddr_storage room;
};

static bool parse_unix(const char *path, union address *ret, socklen_t *ret_len)
{
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(ret->local.sun_path))
		return false;
	ret->local.sun_family = AF_UNIX;
	memcpy(ret->local.sun_path, path, len + 1);
	*ret_len = (socklen_t)sizeof(ret->local);
	return true;
}

/* 127.0.0.1:4480, [::1]:4480, localhost:4480, *:4480 (every address), unix:/path */
static bool parse_address(const char *text, union address *ret, socklen_t *ret_len)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;

	memset(ret, 0, sizeof(*ret));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, ret, ret_len);
	if (!colon || (size_t)(colon - text) >= sizeof(host) ||
	    !wh__parse_u64(colon + 1, strlen(colon + 1), 65535, &port))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (strcmp(host, "localhost") == 0)
		snprintf(host, sizeof(host), "127.0.0.1");
	if (strcmp(host, "*") == 0)
		snprintf(host, sizeof(host), "0.0.0.0");
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = 0;
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(ret->v6);
		return inet_pton(AF_INET6, host + 1, &ret->v6.sin6_addr) == 1;
	}
	ret->v4.sin_family = AF_INET;
	ret->v4.sin_port = htons((uint16_t)port);
	*ret_len = sizeof(ret->v4);
	return inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1;
}

/* What a client is told to connect to, with the port that was chosen. */
static void put_address(struct server *server, const union address *address, const char *scheme)
{
	char ip[INET6_ADDRSTRLEN] = "";

	if (server->addresses.len > 0)
		wh__text_put(&server->addresses, ", ", 2);
	if (address->any.sa_family == AF_UNIX) {
		wh__text_format(&server->addresses, "%s%sunix:%s", scheme, *scheme ? ":" : "",
		                address->local.sun_path);
	} else if (address->any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, ip, sizeof(ip));
		wh__text_format(&server->addresses, "%s://[%s]:%u", *scheme ? scheme : "http", ip,
		                ntohs(address->v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &address->v4.sin_addr, ip, sizeof(ip));
		wh__text_format(&server->addresses, "%s://%s:%u", *scheme ? scheme : "http", ip,
		                ntohs(address->v4.sin_port));
	}
}

/* scheme: of the front, "" for HTTP. */
static int listen_on(struct server *server, const char *text, const char *scheme)
{
	union address address;
	socklen_t len;
	int fd;

	if (!parse_address(text, &address, &len))
		return fail(server, SERVE_USAGE, "usage",
		            "--%s %s: wanted is ADDR:PORT with a numeric address, such as "
		            "127.0.0.1:%s, or unix:PATH",
		            *scheme ? scheme : "listen", text, *scheme ? "11300" : "4480");
	fd = wh_listen(server->loop, &address.any, len, NULL);
	if (fd < 0)
		return fail(server, fd == -EADDRINUSE ? SERVE_ADDRESS_IN_USE : SERVE_FAILED, "cannot-listen",
		            "%s: %s%s", text, wh_strerror(fd),
		            fd == -EADDRINUSE ? "; is another server running there?" : "");
	if (*scheme)
		server->beanstalk_fds[server->beanstalk_fds_count++] = fd;
	else
		server->fds[server->fds_count++] = fd;
	if (address.any.sa_family != AF_UNIX && wh_local_address(server->loop, fd, &address.room, &len) != 0)
		return fail(server, SERVE_FAILED, "cannot-listen", "%s: no address", text);
	put_address(server, &address, scheme);
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int check_services(struct server *server)
{
	for (unsigned i = 0; i < server->settings.service.count; i++) {
		const char *text = server->settings.service.values[i], *equals = strchr(text, '=');
		struct service_refusal refusal;
		struct service *service;

		if (!equals || !target_name_valid(text, (size_t)(equals - text)))
			return fail(server, SERVE_USAGE, "usage", "--service %s: wanted is NAME=URL", text);
		service = service_from_url(text, (size_t)(equals - text), equals + 1, &refusal);
		if (!service)
			return fail(server, SERVE_USAGE, "usage", "--service %s: %s", text, refusal.detail);
		service_unref(service);
	}
	return 0;
}

static int open_store(struct server *server)
{
	const char *data = server->settings.data.values[0];
	struct store_options options = {
		.directory = data,
		.queues_declared = server->settings.queues_declared,
		.payload_bytes_max = server->settings.max_payload_bytes > server->settings.max_job_size_bytes
	                                     ? server->settings.max_payload_bytes
	                                     : server->settings.max_job_size_bytes,
		.on_failure = on_failure,
		.failure_arg = server,
		.on_progress = on_progress,
		.progress_arg = server,
		.log = on_notice,
		.log_arg = server,
	};
	struct store_problem problem = {0};
	int error = store_open(server->loop, &options, &server->store, &problem);

	if (error == 0)
		return 0;
	if (error == -EBUSY)
		return fail(server, SERVE_HELD, "data-held", "%s: another server holds this data folder (%s)",
		            data, problem.text);
	if (error == -WH_EDAMAGED)
		return fail(server, SERVE_DAMAGED, "data-damaged", "%s: durable data is damaged: %s", data,
		            problem.text);
	return fail(server, SERVE_FAILED, "cannot-open", "%s: %s", data,
	            problem.text[0] ? problem.text : wh_strerror(error));
}

static int open_front(struct server *server)
{
	const struct serve_settings *settings = &server->settings;
	struct front_options options = {
		.payload_bytes_max = settings->max_payload_bytes,
		.wait_ns_max = settings->max_wait_ns,
		.request_timeout_ns = settings->request_timeout_ns,
		.idle_timeout_ns = settings->idle_timeout_ns,
		.connections_max = (uint32_t)settings->max_connections,
		.event = on_event,
		.event_arg = server,
	};
	char name[TARGET_NAME_BYTES_MAX + 1], detail[300] = "";
	int error = front_open(server->loop, server->store, &options, &server->front);

	if (error != 0)
		return fail(server, SERVE_FAILED, "cannot-start", "%s", wh_strerror(error));
	for (unsigned i = 0; i < settings->service.count; i++) {
		const char *text = settings->service.values[i], *equals = strchr(text, '=');
		snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
		if (front_service(server->front, name, equals + 1, detail, sizeof(detail)) != 0)
			return fail(server, SERVE_FAILED, "cannot-start", "--service %s: %s", text, detail);
	}
	while (server->fds_count > 0) {
		error = front_listen(server->front, server->fds[--server->fds_count]);
		if (error != 0)
			return fail(server, SERVE_FAILED, "cannot-listen", "%s", wh_strerror(error));
	}
	return 0;
}

static int open_beanstalk(struct server *server)
{
	const struct serve_settings *settings = &server->settings;
	struct beanstalk_options options = {
		.level = settings->beanstalk_commit == 1 ? STORE_ASYNC : STORE_LOCAL,
		.job_bytes_max = (uint32_t)settings->max_job_size_bytes,
		.retention_ns = settings->beanstalk_retention_ns,
		.connections_max = (uint32_t)settings->max_connections,
		.event = on_event,
		.event_arg = server,
	};
	int error;

	if (server->beanstalk_fds_count == 0)
		return 0;
	error = beanstalk_open(server->loop, server->store, &options, &server->beanstalk);
	if (error != 0)
		return fail(server, SERVE_FAILED, "cannot-start", "%s", wh_strerror(error));
	while (server->beanstalk_fds_count > 0) {
		error = beanstalk_listen(server->beanstalk,
		                         server->beanstalk_fds[--server->beanstalk_fds_count]);
		if (error != 0)
			return fail(server, SERVE_FAILED, "cannot-listen", "%s", wh_strerror(error));
	}
	return 0;
}

static void say_ready(struct server *server)
{
	wh__text_put(&server->addresses, "", 1);
	printf("whilst: listening on %s, data in %s, engine %s\n", server->addresses.data,
	       server->settings.data.values[0], wh_engine_name(server->loop));
	fflush(stdout);
	message_event(server, WH_LOG_INFO, "ready", server->addresses.data);
}

/* ---- stopping ---------------------------------------------------------------------------- */

static void on_signal(wh_loop *loop, wh_res res, void *arg);

static void await_signal(struct server *server, int which)
{
	static const int numbers[] = {SIGINT, SIGTERM};

	(void)!wh_then(wh_signal(server->loop, numbers[which]), on_signal, server);
}

static void on_drained(wh_loop *loop, wh_res res, void *arg)
{
	struct server *server = arg;

	/* a second signal may have ended the run already */
	if (--server->draining == 0 && !server->closing)
		wh_loop_stop(loop);
}

static void on_signal(wh_loop *loop, wh_res res, void *arg)
{
	struct server *server = arg;
	char members[64];

	if (res.n < 0)
		return;
	if (server->stopping) {
		event(server, WH_LOG_WARNING, "stop-at-once", "");
		wh_loop_stop(loop);
		return;
	}
	server->stopping = true;
	snprintf(members, sizeof(members), "signal=%d", (int)res.n);
	event(server, WH_LOG_INFO, "drain", members);
	await_signal(server, res.n == SIGTERM);
	server->draining = server->beanstalk ? 2 : 1;
	(void)!wh_then(front_drain(server->front, wh_now(loop) + server->settings.drain_timeout_ns),
	               on_drained, server);
	if (server->beanstalk)
		(void)!wh_then(
			beanstalk_drain(server->beanstalk, wh_now(loop) + server->settings.drain_timeout_ns),
			on_drained, server);
}

/* beanstalkd's way into drain mode. */
static void on_refuse_puts(wh_loop *loop, wh_res res, void *arg)
{
	struct server *server = arg;

	if (res.n < 0)
		return;
	event(server, WH_LOG_INFO, "beanstalk-refuses-puts", "");
	beanstalk_refuse_puts(server->beanstalk);
	(void)!wh_then(wh_signal(loop, SIGUSR1), on_refuse_puts, server);
}

/* ---- all of it --------------------------------------------------------------------------- */

static int run(struct server *server)
{
	int status = check_services(server);

	for (unsigned i = 0; status == 0 && i < server->settings.listen.count; i++)
		status = listen_on(server, server->settings.listen.values[i], "");
	for (unsigned i = 0; status == 0 && i < server->settings.beanstalk.count; i++)
		status = listen_on(server, server->settings.beanstalk.values[i], "beanstalk");
	if (status == 0)
		status = open_store(server);
	if (status == 0)
		status = open_front(server);
	if (status == 0)
		status = open_beanstalk(server);
	if (status != 0)
		return status;
	await_signal(server, 0);
	await_signal(server, 1);
	if (server->beanstalk)
		(void)!wh_then(wh_signal(server->loop, SIGUSR1), on_refuse_puts, server);
	(void)!wh_dump_on_signal(SIGUSR2, STDERR_FILENO);
	say_ready(server);
	if (wh_loop_run(server->loop) < 0)
		status = fail(server, SERVE_FAILED, "loop-failed", "the engine failed");
	return status;
}

static int stop(struct server *server, int status)
{
	int64_t error = 0;

	server->closing = true;
	while (server->fds_count > 0)
		wh_await(wh_close(server->loop, server->fds[--server->fds_count]));
	while (server->beanstalk_fds_count > 0)
		wh_await(wh_close(server->loop, server->beanstalk_fds[--server->beanstalk_fds_count]));
	beanstalk_close(server->beanstalk);
	if (server->front)
		front_close(server->front);
	if (server->store)
		error = store_close(server->store);
	if (error < 0 && status == SERVE_STOPPED)
		status = fail(server, SERVE_FAILED, "cannot-close", "%s", wh_strerror(error));
	if (status == SERVE_STOPPED)
		event(server, WH_LOG_INFO, "stopped", "");
	return status;
}

static int read_settings(struct server *server, int argc, char **argv)
{
	struct wh_loop_options options = {.engine = WH_SYNC, .name = "settings"};
	wh_loop *loop;
	int status, error = wh_loop_open(&loop, &options);

	if (error != 0) {
		fprintf(stderr, "whilst serve: %s\n", wh_strerror(error));
		return SERVE_FAILED;
	}
	status = serve_settings_read(&server->settings, loop, argc, argv);
	wh_loop_close(loop);
	return status;
}

int cli_serve(int argc, char **argv)
{
	struct server server = {0};
	struct wh_loop_options options = {
		.name = "whilst", .log = on_notice, .log_arg = &server, .slow_ns = 100 * WH_NS_PER_MS};
	int status = read_settings(&server, argc, argv);
	int error;

	if (status != 0 || server.settings.help) {
		if (status == 0)
			serve_settings_help();
		serve_settings_done(&server.settings);
		return status;
	}
	wh__text_init(&server.addresses, NULL, 0);
	options.engine = server.settings.engine;
	error = wh_loop_open(&server.loop, &options);
	if (error != 0) {
		fprintf(stderr, "whilst serve: the loop cannot be opened: %s\n", wh_strerror(error));
		status = SERVE_FAILED;
	} else {
		if (server.early[0])
			message_event(&server, WH_LOG_INFO, "notice", server.early);
		status = stop(&server, run(&server));
		wh_loop_close(server.loop);
		front_free(server.front);
		beanstalk_free(server.beanstalk);
	}
	wh__text_done(&server.addresses);
	serve_settings_done(&server.settings);
	return status;
}
