/* src/cli/serve_settings.c -- what `whilst serve` is told: flags, $WHILST_*, a file. See serve_settings.h. */
#include "cli/serve_settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "front/front.h"
#include "front/host.h"

enum { USAGE = 2, FILE_BYTES_MAX = 1 << 20, SOURCE_BYTES = 512 };

enum kind { TEXT, TEXTS, BYTES, NUMBER, DURATION, WORD };

static const char *const engine_words[] = {"auto", "sync", "threads", "epoll", "uring", NULL};
static const char *const queues_words[] = {"open", "declared", NULL};
static const char *const commit_words[] = {"local", "async", NULL};
static const char *const sandbox_words[] = {"auto", "yes", "no", NULL};
static const char *const half_close_words[] = {"leave", "wait", NULL};
static const char *const switch_words[] = {"on", "off", NULL};
static const char *const log_words[] = {"debug", "info", "warn", "error", NULL};

#define AT(field) offsetof(struct serve_settings, field)

static const struct setting {
	const char *name, *value, *help;
	enum kind kind;
	size_t offset;
	uint64_t min, max;
	const char *const *words;
} table[] = {
	{"listen", "ADDR:PORT", "address to listen on, or unix:PATH; repeatable (default 127.0.0.1:4480)",
         TEXTS, AT(listen), 0, 0, NULL},
	{"listen-tls", "ADDR:PORT", "the same for HTTPS; wants tls-certificate; repeatable (default: none)",
         TEXTS, AT(listen_tls), 0, 0, NULL},
	{"tls-certificate", "FILE", "certificate and chain, PEM; read again at SIGHUP", TEXT,
         AT(tls_certificate), 0, 0, NULL},
	{"tls-key", "FILE", "its key, PEM (default: in the same file)", TEXT, AT(tls_key), 0, 0, NULL},
	{"tls-client-ca", "FILE", "clients must show a certificate that one of these authorities signed",
         TEXT, AT(tls_client_ca), 0, 0, NULL},
	{"tokens", "FILE", "who may do what over HTTP, lines of `whilst token`; read again at SIGHUP", TEXT,
         AT(tokens), 0, 0, NULL},
	{"hosts", "NAME",
         "name that requests may say the server has (Host), *.NAME or *; repeatable (default: see the "
         "manual)",
         TEXTS, AT(hosts), 0, 0, NULL},
	{"beanstalk", "ADDR:PORT",
         "address for beanstalkd's protocol, or unix:PATH; repeatable (default: none)", TEXTS, AT(beanstalk),
         0, 0, NULL},
	{"data", "DIR", "folder that holds the data, made if missing (default whilst-data)", TEXT, AT(data),
         0, 0, NULL},
	{"service", "NAME=URL", "a backend that /call/NAME/ stands in front of; repeatable", TEXTS,
         AT(service), 0, 0, NULL},
	{"allow-private-targets", "NETWORK",
         "queues may be pushed into this network too, or all; repeatable (default: none that is private)",
         TEXTS, AT(private_targets), 0, 0, NULL},
	{"callback-secrets", "FILE",
         "what callbacks are signed with, lines of whsec_...; read again at SIGHUP", TEXT,
         AT(callback_secrets), 0, 0, NULL},
	{"queues", "open|declared", "may a submit create its queue? (default open)", WORD,
         AT(queues_declared), 0, 0, queues_words},
	{"max-payload", "BYTES", "largest payload or result, with KiB, MiB or GiB (default 64MiB)", BYTES,
         AT(max_payload_bytes), 1, UINT64_C(1) << 30, NULL},
	{"max-uploads", "N", "bodies over 1 MiB that are received at once (default 64)", NUMBER,
         AT(max_uploads), 1, 1024, NULL},
	{"idempotency-retention", "DURATION",
         "how long an answer is kept for its Idempotency-Key (default 1d)", DURATION,
         AT(idempotency_retention_ns), 1000000000, INT64_C(86400000000000) * 366, NULL},
	{"idempotency-keys", "N", "such keys that are kept at most (default 1000000)", NUMBER,
         AT(idempotency_keys), 1, 100000000, NULL},
	{"beanstalk-commit", "local|async", "when a beanstalkd client is answered (default local: on disk)",
         WORD, AT(beanstalk_commit), 0, 0, commit_words},
	{"beanstalk-retention", "DURATION", "how long a job put there is kept once deleted (default 0s)",
         DURATION, AT(beanstalk_retention_ns), 0, INT64_C(86400000000000) * 366, NULL},
	{"max-job-size", "BYTES", "largest body that beanstalkd's put takes (default 65535)", BYTES,
         AT(max_job_size_bytes), 1, UINT64_C(1) << 30, NULL},
	{"checkpoint-every", "BYTES", "write the state down when the log has grown by this (default 64MiB)",
         BYTES, AT(checkpoint_bytes), UINT64_C(1) << 20, UINT64_C(1) << 40, NULL},
	{"disk-slack", "BYTES",
         "disk used beyond twice what is needed before compaction hurries (default 2GiB)", BYTES,
         AT(compact_slack), UINT64_C(1) << 26, UINT64_C(1) << 46, NULL},
	{"compact-rate", "BYTES", "bytes a second that compaction writes again otherwise (default 16MiB)",
         BYTES, AT(compact_rate), UINT64_C(1) << 16, UINT64_C(1) << 34, NULL},
	{"max-wait", "DURATION", "longest Prefer: wait (default 300s)", DURATION, AT(max_wait_ns), 1000000000,
         INT64_C(86400000000000), NULL},
	{"half-close", "leave|wait",
         "is a client that waits, and sends no more, gone or waiting on? (default leave)", WORD,
         AT(half_close_waits), 0, 0, half_close_words},
	{"max-connections", "N", "connections served at once (default 20000)", NUMBER, AT(max_connections), 1,
         1000000, NULL},
	{"front-threads", "N", "threads that speak HTTP, beside the one that has the state (default 1: none)",
         NUMBER, AT(front_threads), 1, FRONT_THREADS_MAX, NULL},
	{"request-timeout", "DURATION", "a request must have arrived whole within this (default 60s)",
         DURATION, AT(request_timeout_ns), 1000000, INT64_C(86400000000000), NULL},
	{"idle-timeout", "DURATION", "a connection without a request is closed after this (default 75s)",
         DURATION, AT(idle_timeout_ns), 1000000, INT64_C(86400000000000), NULL},
	{"stream-buffer", "BYTES", "held for the reader of an event stream that is slow (default 16KiB)",
         BYTES, AT(stream_buffer_bytes), 1024, UINT64_C(1) << 20, NULL},
	{"stream-timeout", "DURATION", "in which it must make room for more, or is cut off (default 20s)",
         DURATION, AT(stream_timeout_ns), 1000000, INT64_C(86400000000000), NULL},
	{"drain-timeout", "DURATION", "calls under way may take this long when stopping (default 10s)",
         DURATION, AT(drain_timeout_ns), 0, INT64_C(86400000000000), NULL},
	{"dashboard", "on|off", "do browsers get a page at / to watch and steer with? (default on)", WORD,
         AT(dashboard_off), 0, 0, switch_words},
	{"engine", "NAME", "auto, uring, epoll, threads or sync (default auto)", WORD, AT(engine), 0, 0,
         engine_words},
	{"sandbox", "auto|yes|no",
         "give up files and system calls that are not needed; yes: or do not start (default auto)", WORD,
         AT(sandbox), 0, 0, sandbox_words},
	{"log-level", "LEVEL", "debug, info, warn or error (default info)", WORD, AT(log_level), 0, 0,
         log_words},
	{"config", "FILE", "lines of `name = value`, with the names of these flags", TEXT, AT(config), 0, 0,
         NULL},
};
enum { SETTINGS = sizeof(table) / sizeof(table[0]) };
_Static_assert((int)SETTINGS <= (int)SERVE_SETTINGS_MAX, "where each setting comes from is remembered");

/* What a running server takes over at SIGHUP; the TLS files are read again too, under their old names. */
static const size_t while_running[] = {AT(service),   AT(tokens), AT(callback_secrets),
                                       AT(log_level), AT(hosts),  AT(drain_timeout_ns)};

void serve_settings_help(void)
{
	printf("usage: whilst serve [OPTION...]\n\nRuns the server until SIGINT or SIGTERM. With "
	       "--beanstalk, SIGUSR1 makes "
	       "it refuse beanstalkd's put.\n\n");
	for (size_t i = 0; i < SETTINGS; i++) {
		int n = printf("  --%s %s", table[i].name, table[i].value);
		if (n > 31) /* the text has a line of its own */
			n = printf("\n") - 1;
		printf("%*s%s\n", 33 - n, "", table[i].help);
	}
	printf("  --help                         this text\n\n"
	       "Each is also read from the environment (--max-payload from WHILST_MAX_PAYLOAD) and from the "
	       "file of\n"
	       "--config; a flag beats the environment, which beats the file.\n\n"
	       "Exit statuses: 0 stopped as asked, 1 failed, 2 usage, 3 the log is damaged, 4 the data "
	       "folder is held by\n"
	       "another server, 5 an address is in use.\n");
}

static int usage(const char *source, const char *format, const char *a, const char *b)
{
	fprintf(stderr, "whilst serve: %s: ", source);
	/* format comes from this file only */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	fprintf(stderr, format, a, b);
#pragma GCC diagnostic pop
	fputc('\n', stderr);
	return USAGE;
}

static bool parse_bytes(const char *text, uint64_t *ret)
{
	static const struct {
		const char *unit;
		unsigned shift;
	} units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"B", 0}, {"", 0}};
	size_t digits = strspn(text, "0123456789");
	uint64_t value;

	if (!wh__parse_u64(text, digits, UINT64_MAX >> 30, &value))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + digits, units[i].unit) == 0) {
			*ret = value << units[i].shift;
			return true;
		}
	}
	return false;
}

static int add_text(struct serve_values *values, const char *text, bool many, const char *source)
{
	char *copy = strdup(text);

	if (!copy)
		return usage(source, "out of memory", "", "");
	if (!many && values->count == 1) {
		free(values->values[0]);
		values->count = 0;
	}
	if (values->count == SERVE_VALUES_MAX) {
		free(copy);
		return usage(source, "more than 64 values", "", "");
	}
	values->values[values->count++] = copy;
	return 0;
}

/* "debug, info, warn or error" */
static int usage_of_words(const struct setting *setting, const char *text, const char *source)
{
	char words[200];
	size_t len = (size_t)snprintf(words, sizeof(words), "%s is one of", setting->name);

	for (int i = 0; setting->words[i] && len < sizeof(words); i++)
		len += (size_t)snprintf(words + len, sizeof(words) - len, "%s %s",
		                        i == 0                  ? ""
		                        : setting->words[i + 1] ? ","
		                                                : " or",
		                        setting->words[i]);
	return usage(source, "there is no '%s': %s", text, words);
}

static int set_word(const struct setting *setting, void *field, const char *text, const char *source)
{
	for (int i = 0; setting->words[i]; i++) {
		if (strcmp(setting->words[i], text) != 0)
			continue;
		if (setting->offset == AT(queues_declared))
			*(bool *)field = i == 1;
		else
			*(int *)field = i;
		return 0;
	}
	return usage_of_words(setting, text, source);
}

static void put_limit(char *to, size_t size, enum kind kind, uint64_t limit)
{
	static const char *const units[] = {"", "KiB", "MiB", "GiB"};
	char duration[WH__DURATION_TEXT_BYTES];
	size_t unit = 0;

	if (kind == DURATION) {
		snprintf(to, size, "%.*s", (int)wh__put_duration(duration, (int64_t)limit), duration);
		return;
	}
	while (kind == BYTES && unit < 3 && limit > 0 && limit % 1024 == 0) {
		limit /= 1024;
		unit++;
	}
	snprintf(to, size, "%llu%s", (unsigned long long)limit, units[unit]);
}

static int out_of_range(const struct setting *setting, const char *text, const char *source)
{
	char low[WH__DURATION_TEXT_BYTES], high[WH__DURATION_TEXT_BYTES], range[200];

	put_limit(low, sizeof(low), setting->kind, setting->min);
	put_limit(high, sizeof(high), setting->kind, setting->max);
	snprintf(range, sizeof(range), "%s must be from %s to %s", setting->name, low, high);
	return usage(source, "%s is out of range: %s", text, range);
}

static int set(struct serve_settings *settings, const struct setting *setting, const char *text,
               const char *source)
{
	void *field = (char *)settings + setting->offset;
	uint64_t number = 0;
	int64_t ns = 0;
	bool good = false;

	if (!*text)
		return usage(source, "%s needs a value: %s", setting->name, setting->value);
	switch (setting->kind) {
	case TEXT:
	case TEXTS:
		return add_text(field, text, setting->kind == TEXTS, source);
	case WORD:
		return set_word(setting, field, text, source);
	case BYTES:
		good = parse_bytes(text, &number);
		break;
	case NUMBER:
		good = wh__parse_u64(text, strlen(text), UINT64_MAX, &number);
		break;
	case DURATION:
		good = wh__parse_duration(text, strlen(text), &ns);
		number = (uint64_t)ns;
		break;
	}
	if (!good)
		return usage(source, "'%s' is not %s", text,
		             setting->kind == DURATION ? "a duration with its unit, such as 30s"
		             : setting->kind == BYTES  ? "a number of bytes, such as 1000 or 64MiB"
		                                       : "a number");
	if (number < setting->min || number > setting->max)
		return out_of_range(setting, text, source);
	memcpy(field, &number, sizeof(number)); /* uint64_t or int64_t */
	return 0;
}

static const struct setting *find(const char *name, size_t len)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
			return &table[i];
	}
	return NULL;
}

/* Flags: --name value or --name=value. given[i]: setting i was set from here. */
static int read_flags(struct serve_settings *settings, int argc, char **argv, bool given[SETTINGS])
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i] + 2, *equals, *value;
		const struct setting *setting;
		char source[SOURCE_BYTES];
		int status;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			settings->help = true;
			return 0;
		}
		if (strncmp(argv[i], "--", 2) != 0)
			return usage(argv[i], "is not an option; `whilst serve --help` lists them%s%s", "",
			             "");
		equals = strchr(name, '=');
		setting = find(name, equals ? (size_t)(equals - name) : strlen(name));
		if (!setting)
			return usage(argv[i], "there is no such option; `whilst serve --help` lists them%s%s",
			             "", "");
		snprintf(source, sizeof(source), "--%s", setting->name);
		value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
		if (!value)
			return usage(source, "needs a value: %s%s", setting->value, "");
		status = set(settings, setting, value, source);
		if (status != 0)
			return status;
		given[setting - table] = true;
		settings->source[setting - table] = SERVE_BY_FLAG;
	}
	return 0;
}

static int read_environment(struct serve_settings *settings, bool given[SETTINGS])
{
	for (size_t i = 0; i < SETTINGS; i++) {
		char name[64] = "WHILST_", *value, *copy, *rest, *one;
		size_t n = 7;
		int status = 0;

		if (given[i])
			continue;
		for (const char *s = table[i].name; *s; s++)
			name[n++] = (char)(*s == '-' ? '_' : *s - 'a' + 'A');
		name[n] = 0;
		value = getenv(name);
		if (!value || !*value)
			continue;
		given[i] = true;
		settings->source[i] = SERVE_BY_ENVIRONMENT;
		if (table[i].kind != TEXTS) {
			status = set(settings, &table[i], value, name);
			if (status != 0)
				return status;
			continue;
		}
		copy = strdup(value);
		if (!copy)
			return usage(name, "out of memory%s%s", "", "");
		for (one = strtok_r(copy, " ", &rest); one && status == 0; one = strtok_r(NULL, " ", &rest))
			status = set(settings, &table[i], one, name);
		free(copy);
		if (status != 0)
			return status;
	}
	return 0;
}

static char *strip(char *text)
{
	size_t len;

	text += strspn(text, " \t\r");
	len = strlen(text);
	while (len > 0 && strchr(" \t\r", text[len - 1]))
		text[--len] = 0;
	return text;
}

static int read_lines(struct serve_settings *settings, const char *path, char *text,
                      const bool given[SETTINGS])
{
	bool seen[SETTINGS] = {false};
	unsigned number = 0;

	for (char *next, *line = text; line; line = next) {
		char source[SOURCE_BYTES], *equals, *name;
		const struct setting *setting;
		int status;

		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		snprintf(source, sizeof(source), "%s:%u", path, ++number);
		line = strip(line);
		if (!*line || *line == '#')
			continue;
		equals = strchr(line, '=');
		if (!equals)
			return usage(source, "'%s' is not `name = value`%s", line, "");
		*equals = 0;
		name = strip(line);
		setting = find(name, strlen(name));
		if (!setting || setting->offset == AT(config))
			return usage(source, "there is no setting '%s'%s", name, "");
		if (seen[setting - table] && setting->kind != TEXTS)
			return usage(source, "%s is given twice%s", setting->name, "");
		seen[setting - table] = true;
		if (given[setting - table])
			continue;
		status = set(settings, setting, strip(equals + 1), source);
		if (status != 0)
			return status;
		settings->source[setting - table] = SERVE_BY_FILE;
	}
	return 0;
}

int serve_file_read(wh_loop *loop, const char *path, char **ret, size_t *ret_len)
{
	char *text = malloc(FILE_BYTES_MAX + 1);
	int64_t fd, n;

	if (!text)
		return -ENOMEM;
	fd = wh_await(wh_open(loop, path, O_RDONLY, 0)).n;
	n = fd < 0 ? fd : wh_await(wh_pread_all(loop, (int)fd, text, FILE_BYTES_MAX, 0)).n;
	if (fd >= 0)
		wh_await(wh_close(loop, (int)fd));
	if (n == FILE_BYTES_MAX)
		n = -EFBIG;
	if (n < 0) {
		free(text);
		return (int)n;
	}
	text[n] = 0;
	*ret = text;
	*ret_len = (size_t)n;
	return 0;
}

static int read_file(struct serve_settings *settings, wh_loop *loop, const char *path,
                     const bool given[SETTINGS])
{
	char source[SOURCE_BYTES], *text = NULL;
	size_t len;
	int error = serve_file_read(loop, path, &text, &len), status;

	snprintf(source, sizeof(source), "--config %s", path);
	if (error == -EFBIG || (error == 0 && memchr(text, 0, len)))
		status = usage(source, "is not a configuration file%s%s", "", "");
	else if (error < 0)
		status = usage(source, "%s%s", wh_strerror(error), "");
	else
		status = read_lines(settings, path, text, given);
	free(text);
	return status;
}

static void set_defaults(struct serve_settings *settings)
{
	*settings = (struct serve_settings){
		.max_payload_bytes = UINT64_C(64) << 20,
		.checkpoint_bytes = UINT64_C(64) << 20,
		.compact_slack = UINT64_C(2) << 30,
		.compact_rate = UINT64_C(16) << 20,
		.max_job_size_bytes = 65535,
		.max_uploads = 64,
		.idempotency_keys = 1000000,
		.idempotency_retention_ns = INT64_C(86400000000000),
		.max_connections = 20000,
		.front_threads = 1,
		.max_wait_ns = 300 * WH_NS_PER_S,
		.request_timeout_ns = 60 * WH_NS_PER_S,
		.idle_timeout_ns = 75 * WH_NS_PER_S,
		.drain_timeout_ns = 10 * WH_NS_PER_S,
		.stream_buffer_bytes = 16 << 10,
		.stream_timeout_ns = 20 * WH_NS_PER_S,
		.log_level = WH_LOG_INFO,
	};
}

/* What only makes sense with something else. */
static int check_together(const struct serve_settings *settings)
{
	if (settings->listen_tls.count > 0 && settings->tls_certificate.count == 0)
		return usage("listen-tls", "needs tls-certificate%s%s", "", "");
	if (settings->tls_certificate.count == 0 && settings->tls_key.count > 0)
		return usage("tls-key", "needs tls-certificate%s%s", "", "");
	if (settings->tls_client_ca.count > 0 && settings->listen_tls.count == 0)
		return usage("tls-client-ca", "needs listen-tls: in the clear nobody shows a certificate%s%s",
		             "", "");
	for (unsigned i = 0; i < settings->hosts.count; i++)
		if (!host_valid(settings->hosts.values[i]))
			return usage("hosts",
			             "'%s' is no name of a host without its port, *.NAME, or * for any%s",
			             settings->hosts.values[i], "");
	return 0;
}

int serve_settings_read(struct serve_settings *settings, wh_loop *loop, int argc, char **argv)
{
	bool given[SETTINGS] = {false};
	int status;

	set_defaults(settings);
	status = read_flags(settings, argc, argv, given);
	if (status == 0 && !settings->help)
		status = read_environment(settings, given);
	if (status == 0 && !settings->help && settings->config.count > 0)
		status = read_file(settings, loop, settings->config.values[0], given);
	if (status == 0 && settings->listen.count == 0 && settings->listen_tls.count == 0)
		status = add_text(&settings->listen, "127.0.0.1:4480", true, "listen");
	if (status == 0 && settings->data.count == 0)
		status = add_text(&settings->data, "whilst-data", false, "data");
	if (status == 0 && !settings->help)
		status = check_together(settings);
	return status;
}

static void free_values(struct serve_values *values)
{
	for (unsigned i = 0; i < values->count; i++)
		free(values->values[i]);
	values->count = 0;
}

void serve_settings_done(struct serve_settings *settings)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (table[i].kind == TEXT || table[i].kind == TEXTS)
			free_values((struct serve_values *)((char *)settings + table[i].offset));
}

bool serve_settings_given(const struct serve_settings *settings, const char *name)
{
	return settings->source[find(name, strlen(name)) - table] != SERVE_BY_DEFAULT;
}

/* ---- shown and compared ------------------------------------------------------------------ */

static void print_value(const struct setting *setting, const struct serve_settings *settings, FILE *to)
{
	const void *field = (const char *)settings + setting->offset;
	uint64_t number;

	if (setting->kind == WORD) {
		fputs(setting->words[setting->offset == AT(queues_declared) ? *(const bool *)field
		                                                            : *(const int *)field],
		      to);
		return;
	}
	memcpy(&number, field, sizeof(number));
	if (setting->kind == DURATION) {
		char text[32];
		fprintf(to, "%.*s", (int)wh__put_duration(text, (int64_t)number), text);
	} else if (setting->kind == BYTES && number > 0 && number % (1 << 20) == 0)
		fprintf(to, "%lluMiB", (unsigned long long)(number >> 20));
	else
		fprintf(to, "%llu", (unsigned long long)number);
}

void serve_settings_print(const struct serve_settings *settings, FILE *to)
{
	static const char *const sources[] = {"default", "file", "environment", "flag"};

	for (size_t i = 0; i < SETTINGS; i++) {
		const char *source = sources[settings->source[i]];

		if (table[i].offset == AT(config))
			continue;
		fprintf(to, "# %s\n", source);
		if (table[i].kind != TEXT && table[i].kind != TEXTS) {
			fprintf(to, "%s = ", table[i].name);
			print_value(&table[i], settings, to);
			fputc('\n', to);
			continue;
		}
		const struct serve_values *values =
			(const struct serve_values *)((const char *)settings + table[i].offset);
		if (values->count == 0)
			fprintf(to, "# %s =\n", table[i].name);
		for (unsigned v = 0; v < values->count; v++)
			fprintf(to, "%s = %s\n", table[i].name, values->values[v]);
	}
}

static bool same_values(const struct serve_values *a, const struct serve_values *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (strcmp(a->values[i], b->values[i]) != 0)
			return false;
	return true;
}

/* Move a field; true: it was different. */
static bool take_field(const struct setting *setting, struct serve_settings *settings,
                       struct serve_settings *fresh, bool take)
{
	void *now = (char *)settings + setting->offset, *then = (char *)fresh + setting->offset;
	size_t bytes = setting->kind == WORD
	                       ? setting->offset == AT(queues_declared) ? sizeof(bool) : sizeof(int)
	                       : sizeof(uint64_t);

	if (setting->kind == TEXT || setting->kind == TEXTS) {
		struct serve_values *a = now, *b = then, kept;
		if (same_values(a, b))
			return false;
		if (take) {
			kept = *a;
			*a = *b;
			*b = kept; /* freed with fresh */
		}
		return true;
	}
	if (memcmp(now, then, bytes) == 0)
		return false;
	if (take)
		memcpy(now, then, bytes);
	return true;
}

void serve_settings_take(struct serve_settings *settings, struct serve_settings *fresh,
                         void (*changed)(const char *name, bool taken, void *arg), void *arg)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		bool take = false;

		for (size_t k = 0; k < sizeof(while_running) / sizeof(while_running[0]); k++)
			take |= while_running[k] == table[i].offset;
		if (!take_field(&table[i], settings, fresh, take))
			continue;
		if (take)
			settings->source[i] = fresh->source[i];
		changed(table[i].name, take, arg);
	}
}
