/* src/cli/serve.c -- `whilst serve`: the server from its flags to its exit status.
 *
 * One loop does it all. On standard output exactly one line, when the server is ready; on standard error one line in
 * logfmt for each event. Exit statuses: docs/operations.md.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/notify.h"
#include "cli/serve.h"
#include "cli/serve_event.h"
#include "cli/serve_listen.h"
#include "cli/serve_sandbox.h"
#include "cli/serve_settings.h"
#include "deliver/ranges.h"
#include "deliver/service.h"
#include "deliver/sign.h"
#include "front/beanstalk.h"
#include "front/front.h"
#include "front/namespace.h"
#include "front/token.h"
#include "store/store.h"
#include "whilst/task.h"
#include "whilst/tls.h"

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
	struct serve_listeners listeners;
	wh_tls_context *tls;
	struct token_table *tokens; /* until the front has them */
	struct secrets secrets;     /* of callbacks */
	struct ranges ranges;       /* that pushes may lead into */
	struct notify notify;
	struct serve_sandbox_state sandbox;
	int argc; /* to read the settings again */
	char **argv;
	bool reloading, reload_wanted;
	wh_future reload_over; /* promise, while closing */
	unsigned draining;     /* fronts */
	bool stopping, closing;
	char early[256]; /* a notice from before there was a clock to stamp it with */
};

/* ---- events ------------------------------------------------------------------------------ */

static void event(struct server *server, int level, const char *name, const char *members)
{
	if (level >= server->settings.log_level)
		serve_event(server->loop, level, name, members);
}

static void message_event(struct server *server, int level, const char *name, const char *message)
{
	if (level >= server->settings.log_level)
		serve_event_message(server->loop, level, name, message);
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
	va_list list;

	va_start(list, format);
	serve_event_failed(server->loop, status, name, format, list);
	va_end(list);
	return status;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int check_services(struct server *server, const struct serve_settings *settings)
{
	for (unsigned i = 0; i < settings->service.count; i++) {
		const char *text = settings->service.values[i], *equals = strchr(text, '=');
		struct service_refusal refusal;
		struct service *service;

		if (!equals || !namespace_full_valid(text, (size_t)(equals - text)))
			return fail(server, SERVE_USAGE, "usage", "--service %s: wanted is NAME=URL", text);
		service = service_from_url(text, (size_t)(equals - text), equals + 1, &refusal);
		if (!service)
			return fail(server, SERVE_USAGE, "usage", "--service %s: %s", text, refusal.detail);
		service_unref(service);
	}
	return 0;
}

static int read_ranges(struct server *server, const struct serve_settings *settings, struct ranges *ranges)
{
	for (unsigned i = 0; i < settings->private_targets.count; i++) {
		const char *text = settings->private_targets.values[i];

		if (!ranges_add(ranges, text))
			return fail(server, SERVE_USAGE, "usage",
			            "--allow-private-targets %s: wanted is a network such as 10.0.0.0/8 or "
			            "fd00::/8, an "
			            "address, or all",
			            text);
	}
	return 0;
}

/* ---- listening --------------------------------------------------------------------------- */

static int bad_address(struct server *server, const char *text, enum serve_front front)
{
	static const char *const names[] = {"listen", "listen-tls", "beanstalk"};

	return fail(server, SERVE_USAGE, "usage",
	            "--%s %s: wanted is ADDR:PORT with a numeric address, such as 127.0.0.1:%s, or unix:PATH",
	            names[front], text, front == SERVE_BEANSTALK ? "11300" : "4480");
}

static int listen_on(struct server *server, const struct serve_values *values, enum serve_front front)
{
	for (unsigned i = 0; i < values->count; i++) {
		const char *text = values->values[i];
		int error = 0;

		error = serve_listen(&server->listeners, server->loop, text, front);
		if (error != 0)
			return fail(server, error == -EADDRINUSE ? SERVE_ADDRESS_IN_USE : SERVE_FAILED,
			            "cannot-listen", "%s: %s%s", text, wh_strerror(error),
			            error == -EADDRINUSE ? "; is another server running there?" : "");
	}
	return 0;
}

/* The addresses of the settings; but where a service manager has opened HTTP sockets for us, those in place of the default. */
static int open_listeners(struct server *server)
{
	const struct serve_settings *settings = &server->settings;
	int bad = -1, inherited = serve_inherit(&server->listeners, server->loop, &bad), status = 0;

	if (inherited == -EINVAL)
		return fail(server, SERVE_USAGE, "usage",
		            "descriptor %d, given by LISTEN_FDS, is not a stream socket that listens", bad);
	if (inherited < 0)
		return fail(server, SERVE_USAGE, "usage", "LISTEN_FDS: more sockets than can be served");
	if (inherited == 0 || serve_settings_given(settings, "listen"))
		status = listen_on(server, &settings->listen, SERVE_HTTP);
	if (status == 0)
		status = listen_on(server, &settings->listen_tls, SERVE_HTTPS);
	if (status == 0)
		status = listen_on(server, &settings->beanstalk, SERVE_BEANSTALK);
	for (unsigned i = 0; status == 0 && !server->tls && i < server->listeners.count; i++)
		if (server->listeners.all[i].front == SERVE_HTTPS)
			status = fail(server, SERVE_USAGE, "usage",
			              "a socket for HTTPS was given by LISTEN_FDS, but no tls-certificate");
	return status;
}

static const char *only(const struct serve_values *values)
{
	return values->count > 0 ? values->values[0] : NULL;
}

static int open_tls(struct server *server)
{
	const struct serve_settings *settings = &server->settings;
	struct wh_tls_certificate certificate = {.chain_file = only(&settings->tls_certificate),
	                                         .key_file = only(&settings->tls_key)};
	struct wh_tls_options options = {
		.server = true,
		.certificates = &certificate,
		.certificate_count = 1,
		.ca_file = only(&settings->tls_client_ca),
		.verify = settings->tls_client_ca.count > 0 ? WH_TLS_VERIFY_REQUIRED : WH_TLS_VERIFY_DEFAULT,
		.alpn = "http/1.1",
	};
	int error;

	if (!certificate.chain_file)
		return 0;
	error = wh_tls_context_open(&options, &server->tls);
	if (error == 0)
		return 0;
	return fail(server, SERVE_USAGE, "usage", "--tls-certificate %s%s%s%s%s: %s", certificate.chain_file,
	            certificate.key_file ? ", --tls-key " : "",
	            certificate.key_file ? certificate.key_file : "",
	            options.ca_file ? ", --tls-client-ca " : "", options.ca_file ? options.ca_file : "",
	            wh_strerror(error));
}

/* To the message of a file that could not be read. */
static const char *sandbox_hint(const struct server *server, int error)
{
	return server->sandbox.entered && error == -EACCES ? "; with the sandbox only those folders are read "
	                                                     "whose files the server was started with"
	                                                   : "";
}

/* *ret NULL: no tokens are wanted. */
static int read_tokens(struct server *server, const struct serve_settings *settings, struct token_table **ret)
{
	const char *path = only(&settings->tokens);
	struct token_refusal refusal = {0};
	char *text = NULL;
	size_t len;
	int error;

	*ret = NULL;
	if (!path)
		return 0;
	error = serve_file_read(server->loop, path, &text, &len);
	if (error == 0)
		error = token_table_read(text, len, ret, &refusal);
	free(text);
	if (error == 0)
		return 0;
	if (refusal.detail[0])
		return fail(server, SERVE_USAGE, "usage", "--tokens %s:%u: %s", path, refusal.line,
		            refusal.detail);
	return fail(server, SERVE_USAGE, "usage", "--tokens %s: %s%s", path, wh_strerror(error),
	            sandbox_hint(server, error));
}

/* count 0: no callbacks. */
static int read_secrets(struct server *server, const struct serve_settings *settings, struct secrets *ret)
{
	const char *path = only(&settings->callback_secrets), *detail = NULL;
	unsigned line = 0;
	char *text = NULL;
	size_t len = 0;
	int error;

	*ret = (struct secrets){0};
	if (!path)
		return 0;
	error = serve_file_read(server->loop, path, &text, &len);
	if (error == 0)
		error = secrets_read(text, len, ret, &line, &detail);
	if (text)
		explicit_bzero(text, len);
	free(text);
	if (error == 0)
		return 0;
	if (detail)
		return fail(server, SERVE_USAGE, "usage", "--callback-secrets %s:%u: %s", path, line, detail);
	return fail(server, SERVE_USAGE, "usage", "--callback-secrets %s: %s%s", path, wh_strerror(error),
	            sandbox_hint(server, error));
}

/* Hand the sockets of some fronts over. */
static int give_listeners(struct server *server, bool beanstalk)
{
	for (unsigned i = 0; i < server->listeners.count; i++) {
		struct serve_listener *listener = &server->listeners.all[i];
		int error, fd = listener->fd;

		if ((listener->front == SERVE_BEANSTALK) != beanstalk)
			continue;
		listener->fd = -1;
		error = beanstalk ? beanstalk_listen(server->beanstalk, fd)
		                  : front_listen(server->front, fd,
		                                 listener->front == SERVE_HTTPS ? server->tls : NULL);
		if (error != 0)
			return fail(server, SERVE_FAILED, "cannot-listen", "%s", wh_strerror(error));
	}
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Not refused: some of them keep their promises. But their word is not the disk's. */
static void warn_of_network(struct server *server, const char *data)
{
	const char *type = cli_network_file_system(data);
	char message[512];

	if (!type)
		return;
	snprintf(message, sizeof(message),
	         "%.200s is on %s: whether a flush reaches a disk, and whether the lock keeps a second "
	         "server out, "
	         "is up to another machine or process; a local disk is safer and faster",
	         data, type);
	message_event(server, WH_LOG_WARNING, "network-file-system", message);
}

static int open_store(struct server *server)
{
	const char *data = server->settings.data.values[0];
	struct store_options options = {
		.directory = data,
		.queues_declared = server->settings.queues_declared,
		.checkpoint_bytes = server->settings.checkpoint_bytes,
		.compact_slack = server->settings.compact_slack,
		.compact_rate = server->settings.compact_rate,
		.payload_bytes_max = server->settings.max_payload_bytes > server->settings.max_job_size_bytes
	                                     ? server->settings.max_payload_bytes
	                                     : server->settings.max_job_size_bytes,
		.bodies_max = (uint32_t)server->settings.max_uploads,
		.keys_max = server->settings.idempotency_keys,
		.keys_retention_ns = server->settings.idempotency_retention_ns,
		.on_failure = on_failure,
		.failure_arg = server,
		.on_progress = on_progress,
		.progress_arg = server,
		.log = on_notice,
		.log_arg = server,
	};
	struct store_problem problem = {0};
	int error = store_open(server->loop, &options, &server->store, &problem);

	if (error == 0) {
		warn_of_network(server, data);
		return 0;
	}
	if (error == -EBUSY)
		return fail(server, SERVE_HELD, "data-held", "%s: another server holds this data folder (%s)",
		            data, problem.text);
	if (error == -WH_EDAMAGED)
		return fail(server, SERVE_DAMAGED, "data-damaged", "%s: durable data is damaged: %s", data,
		            problem.text);
	return fail(server, SERVE_FAILED, "cannot-open", "%s: %s", data,
	            problem.text[0] ? problem.text : wh_strerror(error));
}

static void use_hosts(struct server *server)
{
	const struct serve_values *hosts = &server->settings.hosts;

	front_use_hosts(server->front, (const char *const *)hosts->values, hosts->count);
}

static int open_front(struct server *server)
{
	const struct serve_settings *settings = &server->settings;
	struct front_options options = {
		.ranges = &server->ranges,
		.payload_bytes_max = settings->max_payload_bytes,
		.wait_ns_max = settings->max_wait_ns,
		.request_timeout_ns = settings->request_timeout_ns,
		.idle_timeout_ns = settings->idle_timeout_ns,
		.stream_bytes_max = (uint32_t)settings->stream_buffer_bytes,
		.stream_timeout_ns = settings->stream_timeout_ns,
		.dashboard = !settings->dashboard_off,
		.half_close_waits = settings->half_close_waits,
		.files_restricted = server->sandbox.entered,
		.calls_restricted = server->sandbox.calls_restricted,
		.connections_max = (uint32_t)settings->max_connections,
		.threads = (uint32_t)settings->front_threads,
		.zone_directory = getenv("TZDIR"),
		.event = on_event,
		.event_arg = server,
	};
	char name[TARGET_NAME_BYTES_MAX + 1], detail[300] = "";
	int error = front_open(server->loop, server->store, &options, &server->front);

	if (error == 0)
		error = front_use_secrets(server->front, server->secrets.count > 0 ? &server->secrets : NULL);
	if (error != 0)
		return fail(server, SERVE_FAILED, "cannot-start", "%s", wh_strerror(error));
	for (unsigned i = 0; i < settings->service.count; i++) {
		const char *text = settings->service.values[i], *equals = strchr(text, '=');
		snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
		if (front_service(server->front, name, equals + 1, detail, sizeof(detail)) != 0)
			return fail(server, SERVE_FAILED, "cannot-start", "--service %s: %s", text, detail);
	}
	if (front_use_tokens(server->front, server->tokens) != 0)
		return fail(server, SERVE_FAILED, "cannot-start", "out of memory");
	server->tokens = NULL;
	use_hosts(server);
	error = give_listeners(server, false);
	if (error == 0 && front_schedules(server->front) != 0)
		error = fail(server, SERVE_FAILED, "cannot-start", "out of memory");
	return error;
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
	bool wanted = false;
	int error;

	for (unsigned i = 0; i < server->listeners.count; i++)
		wanted |= server->listeners.all[i].front == SERVE_BEANSTALK;
	if (!wanted)
		return 0;
	error = beanstalk_open(server->loop, server->store, &options, &server->beanstalk);
	if (error != 0)
		return fail(server, SERVE_FAILED, "cannot-start", "%s", wh_strerror(error));
	return give_listeners(server, true);
}

static void say_ready(struct server *server)
{
	const char *addresses;

	wh__text_put(&server->listeners.addresses, "", 1);
	addresses = server->listeners.addresses.data;
	printf("whilst: listening on %s, data in %s, engine %s\n", addresses, server->settings.data.values[0],
	       wh_engine_name(server->loop));
	fflush(stdout);
	message_event(server, WH_LOG_INFO, "ready", addresses);
	notify_say(&server->notify, "READY=1");
}

/* ---- reloading --------------------------------------------------------------------------- */

static void on_changed(const char *name, bool taken, void *arg)
{
	char members[128];

	snprintf(members, sizeof(members), "setting=%s taken=%s", name, taken ? "now" : "at-the-next-start");
	event(arg, taken ? WH_LOG_INFO : WH_LOG_WARNING, "setting-changed", members);
}

/* Services that are told now; those that no setting tells any more stay, as the store knows them. */
static void declare_services(struct server *server)
{
	for (unsigned i = 0; i < server->settings.service.count; i++) {
		char name[TARGET_NAME_BYTES_MAX + 1], detail[300] = "", message[512];
		const char *text = server->settings.service.values[i], *equals = strchr(text, '=');

		snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
		if (front_service(server->front, name, equals + 1, detail, sizeof(detail)) == 0)
			continue;
		snprintf(message, sizeof(message), "--service %s: %s", text, detail);
		message_event(server, WH_LOG_ERROR, "cannot-reload", message);
	}
}

/* All of it is judged before any of it is taken. */
static void reload(struct server *server)
{
	struct serve_settings fresh = {0};
	struct token_table *tokens = NULL;
	struct secrets secrets;
	int error = 0;

	if (serve_settings_read(&fresh, server->loop, server->argc, server->argv) != 0 ||
	    check_services(server, &fresh) != 0 || read_tokens(server, &fresh, &tokens) != 0 ||
	    read_secrets(server, &fresh, &secrets) != 0) {
		message_event(server, WH_LOG_ERROR, "cannot-reload",
		              "the settings are wrong, see above; nothing was changed");
	} else if (server->tls && (error = wh_tls_context_reload(server->tls)) != 0) {
		fail(server, 0, "cannot-reload",
		     "the files of tls-certificate, tls-key, tls-client-ca: %s%s; nothing was changed",
		     wh_strerror(error), sandbox_hint(server, error));
	} else {
		serve_settings_take(&server->settings, &fresh, on_changed, server);
		use_hosts(server);
		error = front_use_tokens(server->front, tokens);
		tokens = error == 0 ? NULL : tokens;
		server->secrets = secrets;
		if (error == 0)
			error = front_use_secrets(server->front, secrets.count > 0 ? &secrets : NULL);
		if (error != 0)
			fail(server, 0, "cannot-reload", "tokens, callbacks: %s", wh_strerror(error));
		declare_services(server);
		front_reload_zones(server->front);
		event(server, WH_LOG_INFO, "reloaded", "");
	}
	token_table_free(tokens);
	serve_settings_done(&fresh);
}

static int64_t reload_task(void *arg)
{
	struct server *server = arg;

	do {
		server->reload_wanted = false;
		notify_reloading(&server->notify);
		reload(server);
		notify_say(&server->notify, "READY=1");
	} while (server->reload_wanted && !server->stopping);
	return 0;
}

/* Whether it ran or could not be begun. */
static void on_reloaded(wh_loop *loop, wh_res res, void *arg)
{
	struct server *server = arg;

	(void)loop;
	server->reloading = false;
	if (server->closing)
		wh_resolve(server->reload_over, 0, NULL);
	if (res.n < 0 && res.n != -ECANCELED)
		message_event(server, WH_LOG_ERROR, "cannot-reload", wh_strerror(res.n));
}

static void on_reload(wh_loop *loop, wh_res res, void *arg)
{
	struct server *server = arg;

	if (res.n < 0)
		return;
	(void)!wh_then(wh_signal(loop, SIGHUP), on_reload, server);
	server->reload_wanted = true;
	if (server->reloading || server->stopping)
		return;
	server->reloading = true;
	if (wh_then(wh_go(loop, reload_task, server), on_reloaded, server) != 0)
		server->reloading = false;
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
	notify_say(&server->notify, "STOPPING=1");
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
	int status = open_listeners(server);

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
	(void)!wh_then(wh_signal(server->loop, SIGHUP), on_reload, server);
	(void)!wh_dump_on_signal(SIGUSR2, STDERR_FILENO);
	say_ready(server);
	if (wh_loop_run(server->loop) < 0)
		status = fail(server, SERVE_FAILED, "loop-failed", "the engine failed");
	return status;
}

static int stop(struct server *server, int status)
{
	int64_t error = 0;

	server->stopping = server->closing = true;
	if (server->reloading) { /* it uses what is closed here */
		server->reload_over = wh_promise(server->loop, NULL, NULL);
		(void)wh_await(server->reload_over);
	}
	serve_listeners_done(&server->listeners, server->loop);
	beanstalk_close(server->beanstalk);
	if (server->front)
		front_close(server->front);
	if (server->store)
		error = store_close(server->store);
	if (error < 0 && status == SERVE_STOPPED)
		status = fail(server, SERVE_FAILED, "cannot-close", "%s", wh_strerror(error));
	if (status == SERVE_STOPPED)
		event(server, WH_LOG_INFO, "stopped", "");
	notify_close(&server->notify);
	return status;
}

/* The loop that settings are read on: which engine serves is one of them. */
static int open_settings_loop(wh_loop **ret)
{
	struct wh_loop_options options = {.engine = WH_SYNC, .name = "settings"};
	int error = wh_loop_open(ret, &options);

	if (error != 0)
		fprintf(stderr, "whilst serve: %s\n", wh_strerror(error));
	return error == 0 ? 0 : SERVE_FAILED;
}

static int check_addresses(struct server *server, const struct serve_values *values, enum serve_front front)
{
	for (unsigned i = 0; i < values->count; i++)
		if (!serve_address_valid(values->values[i]))
			return bad_address(server, values->values[i], front);
	return 0;
}

/* Nothing is changed. What was read is kept. */
static int judge(struct server *server)
{
	const struct serve_settings *settings = &server->settings;
	int status = check_services(server, settings);

	if (status == 0)
		status = check_addresses(server, &settings->listen, SERVE_HTTP);
	if (status == 0)
		status = check_addresses(server, &settings->listen_tls, SERVE_HTTPS);
	if (status == 0)
		status = check_addresses(server, &settings->beanstalk, SERVE_BEANSTALK);
	if (status == 0)
		status = open_tls(server);
	if (status == 0)
		status = read_tokens(server, settings, &server->tokens);
	if (status == 0)
		status = read_secrets(server, settings, &server->secrets);
	if (status == 0)
		status = read_ranges(server, settings, &server->ranges);
	return status;
}

int serve_check(int argc, char **argv)
{
	struct server server = {0};
	char why[SERVE_SANDBOX_TEXT_BYTES];
	int status = open_settings_loop(&server.loop);

	if (status != 0)
		return status;
	status = serve_settings_read(&server.settings, server.loop, argc, argv);
	if (status == 0 && server.settings.help)
		serve_settings_help();
	else if (status == 0)
		status = judge(&server);
	if (status == 0 && serve_sandbox_look(&server.settings, why) != 0)
		status = fail(&server, SERVE_USAGE, "usage", "--sandbox yes: %s", why);
	if (status == 0 && !server.settings.help)
		serve_settings_print(&server.settings, stdout);
	wh_tls_context_close(server.tls);
	token_table_free(server.tokens);
	wh_loop_close(server.loop);
	serve_settings_done(&server.settings);
	return status;
}

/* The folder has to be there to be excepted from what is given up. */
static int enter_sandbox(struct server *server)
{
	const char *data = server->settings.data.values[0];
	char why[SERVE_SANDBOX_TEXT_BYTES];
	int64_t made = wh_await(wh_mkdir(server->loop, data, 0700)).n;

	if (made < 0 && made != -EEXIST)
		return fail(server, SERVE_FAILED, "cannot-open", "%s: cannot make the folder: %s", data,
		            wh_strerror(made));
	if (serve_sandbox_enter(&server->settings, server->loop, &server->sandbox, why) != 0)
		return fail(server, SERVE_FAILED, "cannot-start", "--sandbox %s: %s",
		            server->settings.sandbox == SERVE_SANDBOX_YES ? "yes" : "auto", why);
	return 0;
}

/* All that is done before there are threads. Help is told as well. */
static int prepare(struct server *server)
{
	int status = open_settings_loop(&server->loop);

	if (status != 0)
		return status;
	status = serve_settings_read(&server->settings, server->loop, server->argc, server->argv);
	if (status == 0 && server->settings.help)
		serve_settings_help();
	else if (status == 0)
		status = judge(server);
	if (status == 0 && !server->settings.help)
		status = enter_sandbox(server);
	server->loop = wh_loop_close(server->loop);
	return status;
}

int cli_serve(int argc, char **argv)
{
	struct server server = {0};
	struct wh_loop_options options = {
		.name = "whilst", .log = on_notice, .log_arg = &server, .slow_ns = 100 * WH_NS_PER_MS};
	int status, error = 0;

	server.argc = argc;
	server.argv = argv;
	status = prepare(&server);
	serve_listeners_init(&server.listeners);
	options.engine = server.settings.engine;
	if (status == 0 && !server.settings.help)
		error = wh_loop_open(&server.loop, &options);
	if (error != 0) {
		fprintf(stderr, "whilst serve: the loop cannot be opened: %s\n", wh_strerror(error));
		status = SERVE_FAILED;
	}
	if (server.loop) {
		if (server.early[0])
			message_event(&server, WH_LOG_INFO, "notice", server.early);
		event(&server, WH_LOG_INFO, "sandbox", server.sandbox.members);
		notify_open(&server.notify, server.loop);
		status = stop(&server, run(&server));
		wh_loop_close(server.loop);
		front_free(server.front);
		beanstalk_free(server.beanstalk);
	}
	wh_tls_context_close(server.tls);
	token_table_free(server.tokens);
	serve_settings_done(&server.settings);
	return status;
}
