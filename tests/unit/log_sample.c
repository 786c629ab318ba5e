/* tests/unit/log_sample.c -- writes a log into a folder and prints, a line each, the records that it must hold.
 *
 * For the decoder that knows nothing of this code (test_log_format.py). Four lives, several segments, transactions, a checkpoint.
 * A line: location, lsn of the commit, epoch, type, version, flags, fixed part and payload in hexadecimal.
 */
#include "log_help.h"

static void print_hex(const uint8_t *bytes, size_t len)
{
	putchar(len == 0 ? '-' : ' ');
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
}

static int show(struct log *log, const struct help_record *record)
{
	wh_res res = wh_await(log_read(log, record->location, 0));
	struct log_data *data = res.ptr;
	if (res.n < 0)
		return (int)res.n;
	printf("%llu %llu %u %u %u %u ", (unsigned long long)record->location,
	       (unsigned long long)record->lsn, record->epoch, data->type, data->version, data->flags);
	print_hex(data->fixed, data->fixed_bytes);
	putchar(' ');
	print_hex(data->payload, data->payload_bytes);
	putchar('\n');
	log_data_free(data);
	return 0;
}

int main(int argc, char **argv)
{
	struct help_model model;
	struct log *log = NULL;
	help_init(&model, 2000);
	if (argc != 2 || wh_loop_open(&loop, NULL) < 0)
		return 1;
	for (int life = 0; life < 4; life++) {
		struct log_options options = help_options(argv[1], &model);
		struct log_commit commit = {0};
		options.group_bytes = 8192;
		if (log_open(loop, &options, &log, NULL) < 0 || model.wrong || model.replayed != model.count)
			return 1;
		for (uint32_t i = 0; i < 30; i++)
			if (help_commit(log, &model, i % 10 == 9 ? 20 : 1 + i % 3,
			                i % 2 ? LOG_ASYNC : LOG_LOCAL, &commit) < 0 ||
			    wh_await(wh_mark_wait(commit.mark, commit.lsn)).n < 0)
				return 1;
		if (life == 2 && help_checkpoint(log, &model) < 0)
			return 1;
		if (log_close(log) < 0)
			return 1;
	}
	/* What is printed has been read back by the log itself and found to be what was appended. */
	struct log_options options = help_options(argv[1], &model);
	if (log_open(loop, &options, &log, NULL) < 0 || model.wrong || model.replayed != model.count)
		return 1;
	for (uint32_t i = 0; i < model.count; i++)
		if (show(log, &model.records[i]) < 0)
			return 1;
	printf("checkpoint of %u\n", model.in_checkpoint);
	if (log_close(log) < 0)
		return 1;
	wh_loop_close(loop);
	help_fini(&model);
	return 0;
}
