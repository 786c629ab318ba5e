/* src/cli/serve_settings.h -- what `whilst serve` is told: flags, $WHILST_*, a file; one table, one set of names.
 *
 * A flag beats the environment, which beats the file. A setting that may be given several times is taken
 * wholly from the strongest source that has it; in the environment its values are separated by spaces.
 */
#ifndef WH_CLI_SERVE_SETTINGS_H
#define WH_CLI_SERVE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "whilst/whilst.h"

enum { SERVE_VALUES_MAX = 64 };

struct serve_values {
	unsigned count;
	char *values[SERVE_VALUES_MAX]; /* owned */
};

enum serve_source { SERVE_BY_DEFAULT, SERVE_BY_FILE, SERVE_BY_ENVIRONMENT, SERVE_BY_FLAG };

enum { SERVE_SETTINGS_MAX = 64 };

struct serve_settings {
	struct serve_values listen, listen_tls, beanstalk, service, data, config;
	struct serve_values private_targets, callback_secrets, hosts;
	struct serve_values tls_certificate, tls_key, tls_client_ca, tokens;
	uint64_t max_payload_bytes, max_connections;
	uint64_t front_threads;
	int64_t max_wait_ns, request_timeout_ns, idle_timeout_ns, drain_timeout_ns;
	uint64_t stream_buffer_bytes;
	int64_t stream_timeout_ns;
	uint64_t max_job_size_bytes; /* of the beanstalkd front */
	uint64_t max_uploads;
	uint64_t idempotency_keys;
	int64_t idempotency_retention_ns;
	int64_t beanstalk_retention_ns;
	uint64_t checkpoint_bytes, compact_slack, compact_rate; /* of the store */
	int engine, log_level, beanstalk_commit;
	int half_close_waits;
	int dashboard_off;
	int sandbox; /* enum serve_sandbox */
	bool queues_declared, help;
	uint8_t source[SERVE_SETTINGS_MAX]; /* enum serve_source, of each in the order of the table */
};

/* serve_settings_read() - 0, or 2 (usage) after one line on standard error that names the source and the value. The
 * configuration file is read through loop. */
int serve_settings_read(struct serve_settings *settings, wh_loop *loop, int argc, char **argv);
/* serve_file_read() - a file of at most 1 MiB, with a NUL after it; free(). -EFBIG, -ENOMEM, or of reading. Synchronous, or in
 * a task. */
int serve_file_read(wh_loop *loop, const char *path, char **ret, size_t *ret_len);
void serve_settings_done(struct serve_settings *settings);
void serve_settings_help(void);

/* serve_settings_given() - did anybody say it, or is it the default? */
bool serve_settings_given(const struct serve_settings *settings, const char *name);

/* serve_settings_print() - all of them as lines of a configuration file, with where each comes from. */
void serve_settings_print(const struct serve_settings *settings, FILE *to);

/* serve_settings_take() - what may change while the server runs is moved from fresh to settings. changed is told the name of each
 * setting that differs, and whether it was taken; what was not holds from the next start on. */
void serve_settings_take(struct serve_settings *settings, struct serve_settings *fresh,
                         void (*changed)(const char *name, bool taken, void *arg), void *arg);

#endif
