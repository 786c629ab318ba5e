/* src/cli/serve_sandbox.c -- what `whilst serve` needs of a machine. See serve_sandbox.h; docs/design/sandbox.md says why each.
 *
 * A file that is read again later is named by its folder: what takes its place when it is renewed is another file. So is a file that
 * a link leads to, as well as the link: renewing may change either.
 * Thread: main, before any other exists.
 */
#include "cli/serve_sandbox.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "whilst/file.h"

/* Of the system, and only to be read. */
static const char *const system_paths[] = {
	/* name servers, hosts, services, what the system trusts, openssl.cnf: replaced by others while we run */
	"/etc",
	/* what openssl.cnf has loaded; where it looks for certificates; where certificates lie that /etc links to */
	"/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/ca-certificates",
	"/usr/local/share/ca-certificates", "/usr/share/pki",
	/* time zones */
	"/usr/share/zoneinfo",
	/* who we are and what this machine is called (beanstalkd's `stats`); how many processors there are */
	"/proc/self", "/proc/sys/kernel", "/sys/devices/system/cpu",
	/* randomness, for libraries that are older than getrandom(2) */
	"/dev/null", "/dev/random", "/dev/urandom"};

/* Files of the system that may be links out of /etc. */
static const char *const system_links[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/localtime",
                                           "/etc/ssl/openssl.cnf"};

/* Variables that name others instead: of OpenSSL, of c-ares, of the C library. */
static const char *const variables[] = {"SSL_CERT_FILE", "OPENSSL_CONF", "CARES_HOSTS", "HOSTALIASES"};
static const char *const folder_variables[] = {"SSL_CERT_DIR", "OPENSSL_MODULES", "TZDIR"};

struct rules {
	struct sandbox_rule *all;
	size_t count, cap;
	bool failed;  /* out of memory */
	bool sockets; /* UNIX sockets are listened on */
	wh_loop *loop;
};

static void add_bytes(struct rules *rules, const char *path, size_t len, enum sandbox_access access)
{
	char *copy = strndup(path, len);

	if (rules->count == rules->cap) {
		size_t cap = rules->cap ? 2 * rules->cap : 64;
		struct sandbox_rule *more = realloc(rules->all, cap * sizeof(*more));
		if (more) {
			rules->all = more;
			rules->cap = cap;
		}
	}
	if (!copy || rules->count == rules->cap) {
		rules->failed = true;
		free(copy);
		return;
	}
	rules->all[rules->count++] = (struct sandbox_rule){.path = copy, .access = access};
}

static void add(struct rules *rules, const char *path, enum sandbox_access access)
{
	add_bytes(rules, path, strlen(path), access);
}

static void rules_done(struct rules *rules)
{
	while (rules->count > 0)
		free((char *)rules->all[--rules->count].path);
	free(rules->all);
}

/* Not the root: then the file alone, which must not be replaced. */
static void add_folder(struct rules *rules, const char *path, enum sandbox_access access)
{
	const char *slash = strrchr(path, '/');

	if (slash == path)
		add(rules, path, access);
	else if (slash)
		add_bytes(rules, path, (size_t)(slash - path), access);
	else
		add(rules, ".", access);
}

/* A file that is read now and, perhaps, again. */
static void add_file(struct rules *rules, const char *path)
{
	char real[PATH_MAX];

	add_folder(rules, path, SANDBOX_READ);
	if (wh_await(wh_realpath(rules->loop, path, real, sizeof(real))).n > 0)
		add_folder(rules, real, SANDBOX_READ);
}

static void add_files(struct rules *rules, const struct serve_values *values)
{
	for (unsigned i = 0; i < values->count; i++)
		add_file(rules, values->values[i]);
}

/* true: there are any. */
static bool add_sockets(struct rules *rules, const struct serve_values *values)
{
	static const char prefix[] = "unix:";
	size_t len = sizeof(prefix) - 1;
	bool found = false;

	for (unsigned i = 0; i < values->count; i++) {
		if (strncmp(values->values[i], prefix, len) != 0)
			continue;
		found = true;
		if (values->values[i][len] != '@')
			add_folder(rules, values->values[i] + len, SANDBOX_SOCKET);
	}
	return found;
}

/* As long as there is no log, the folder above is opened, so that the name of this one is flushed. */
static void add_data(struct rules *rules, const char *data)
{
	static const char *const manifests[] = {"manifest-a", "manifest-b"};
	char path[PATH_MAX];
	struct wh_stat st;
	bool found = false;

	add(rules, data, SANDBOX_KEEP);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", data, manifests[i]);
		found |= wh_await(wh_stat(rules->loop, path, &st)).n == 0;
	}
	snprintf(path, sizeof(path), "%s/..", data);
	if (!found)
		add(rules, path, SANDBOX_LIST);
}

static void add_variables(struct rules *rules)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *path = getenv(variables[i]);
		if (path && *path)
			add_file(rules, path);
	}
	for (size_t i = 0; i < sizeof(folder_variables) / sizeof(folder_variables[0]); i++) {
		const char *path = getenv(folder_variables[i]);
		for (size_t len; path && *path; path += len + (path[len] == ':')) {
			len = strcspn(path, ":");
			if (len > 0)
				add_bytes(rules, path, len, SANDBOX_READ);
		}
	}
}

static void collect(struct rules *rules, const struct serve_settings *settings)
{
	const struct serve_values *const files[] = {&settings->config,  &settings->tls_certificate,
	                                            &settings->tls_key, &settings->tls_client_ca,
	                                            &settings->tokens,  &settings->callback_secrets};

	add_data(rules, settings->data.values[0]);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		add_files(rules, files[i]);
	rules->sockets = add_sockets(rules, &settings->listen);
	rules->sockets |= add_sockets(rules, &settings->listen_tls);
	rules->sockets |= add_sockets(rules, &settings->beanstalk);
	for (size_t i = 0; i < sizeof(system_paths) / sizeof(system_paths[0]); i++)
		add(rules, system_paths[i], SANDBOX_READ);
	for (size_t i = 0; i < sizeof(system_links) / sizeof(system_links[0]); i++)
		add_file(rules, system_links[i]);
	add_variables(rules);
}

/* ---- what is said ------------------------------------------------------------------------ */

static const char *why_not(int error)
{
	return error == -ENOSYS       ? "this kernel does not have it"
	       : error == -EOPNOTSUPP ? "it was not chosen when this kernel was started (lsm=)"
	       : error == -EPERM      ? "another sandbox, of a container perhaps, keeps it from us"
	                              : wh_strerror(error);
}

static int explain(const struct sandbox_state *state, char why[SERVE_SANDBOX_TEXT_BYTES])
{
	if (state->files < 0)
		snprintf(why, SERVE_SANDBOX_TEXT_BYTES, "Landlock, which restricts files: %s%s",
		         why_not(state->files),
		         state->files == -ENOSYS ? "; Linux 5.19 and later may have it" : "");
	else if (state->calls < 0)
		snprintf(why, SERVE_SANDBOX_TEXT_BYTES, "seccomp, which restricts system calls: %s",
		         why_not(state->calls));
	return state->files < 0 ? state->files : state->calls < 0 ? state->calls : 0;
}

int serve_sandbox_look(const struct serve_settings *settings, char ret_why[SERVE_SANDBOX_TEXT_BYTES])
{
	const char *unfit = sandbox_unfit();
	struct sandbox_state state;

	if (settings->sandbox != SERVE_SANDBOX_YES)
		return 0;
	if (unfit) {
		snprintf(ret_why, SERVE_SANDBOX_TEXT_BYTES, "not in a build such as this one: %s", unfit);
		return -EOPNOTSUPP;
	}
	state = sandbox_look();
	return explain(&state, ret_why);
}

static void describe(const struct sandbox_state *state, struct serve_sandbox_state *to)
{
	char why[SERVE_SANDBOX_TEXT_BYTES] = "";
	int n = snprintf(to->members, sizeof(to->members), "files=%s calls=%s",
	                 state->files > 0 ? "restricted" : "any", state->calls > 0 ? "restricted" : "any");

	if (state->files > 0)
		n += snprintf(to->members + n, sizeof(to->members) - (size_t)n, " landlock=%d", state->files);
	if (explain(state, why) != 0) /* no quotes are in it */
		snprintf(to->members + n, sizeof(to->members) - (size_t)n, " msg=\"%s\"", why);
	to->entered = state->files > 0;
	to->calls_restricted = state->calls > 0;
}

/* ---- all of it --------------------------------------------------------------------------- */

/* Landlock would not hold for threads that exist. */
static bool is_alone(wh_loop *loop)
{
	struct wh_stat st;

	/* a folder has two links more than it has folders in it */
	return wh_await(wh_stat(loop, "/proc/self/task", &st)).n != 0 || st.links == 2 + 1;
}

static int enter(const struct serve_settings *settings, wh_loop *loop, struct sandbox_state *ret)
{
	const char *manager = getenv("NOTIFY_SOCKET");
	struct rules rules = {.loop = loop};
	struct sandbox_options options = {.rings =
	                                          settings->engine == WH_AUTO || settings->engine == WH_URING,
	                                  .abstract_names = manager && manager[0] == '@'};

	collect(&rules, settings);
	if (rules.failed || !is_alone(loop)) {
		bool alone = !rules.failed;
		rules_done(&rules);
		return alone ? -EBUSY : -ENOMEM;
	}
	options.rules = rules.all;
	options.rules_count = rules.count;
	options.modes = rules.sockets;
	sandbox_enter(&options, ret);
	rules_done(&rules);
	return 0;
}

int serve_sandbox_enter(const struct serve_settings *settings, wh_loop *loop, struct serve_sandbox_state *ret,
                        char ret_why[SERVE_SANDBOX_TEXT_BYTES])
{
	const char *unfit = sandbox_unfit();
	struct sandbox_state state = {0};
	int error = serve_sandbox_look(settings, ret_why);

	*ret = (struct serve_sandbox_state){0};
	if (error != 0)
		return error;
	if (settings->sandbox == SERVE_SANDBOX_NO || unfit) {
		snprintf(ret->members, sizeof(ret->members), "files=any calls=any msg=\"%s\"",
		         unfit ? unfit : "not wanted");
		return 0;
	}
	error = enter(settings, loop, &state);
	if (error != 0) {
		snprintf(ret_why, SERVE_SANDBOX_TEXT_BYTES, "%s",
		         error == -EBUSY ? "there are threads already" : wh_strerror(error));
		return error;
	}
	describe(&state, ret);
	error = explain(&state, ret_why);
	return settings->sandbox == SERVE_SANDBOX_YES ? error : 0;
}
