/* src/cli/import.c -- `whilst import beanstalkd DIR`: the jobs of a beanstalkd binlog into a data folder.
 *
 * The whole binlog is read and judged before anything is written. Jobs are submitted in the order of their ids, some at a time; each
 * commit carries, as a setting, how far it has come for a binlog of just this content. So an import that was interrupted goes on where it
 * was, and one that is done does nothing when it is repeated.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/units.h"
#include "cli/binlog.h"
#include "cli/cli.h"
#include "cli/import_jobs.h"
#include "deliver/service.h"
#include "store/store.h"

enum { AT_ONCE = 1000, BYTES_AT_ONCE = 4 << 20, FILE_MAX = 1 << 30 };

static const char usage[] =
	"usage: whilst import beanstalkd DIR [OPTION...]\n"
	"       whilst import jobs FILE [OPTION...]\n\n"
	"Takes the jobs of a beanstalkd binlog folder over into a data folder. Neither may be in use: stop "
	"both servers\n"
	"first. Ready, delayed and buried jobs keep tube, body, pri, ttr and the rest of their delay; "
	"reserved ones become\n"
	"ready. They get new ids, in the order of the old ones. Doing it again does nothing.\n"
	"Or what is in a file of `whilst log export`: queues and settings that are not there yet, and jobs, "
	"finished ones with\n"
	"their results; running ones become ready.\n\n"
	"  --data DIR     the data folder of the server, made if missing (default $WHILST_DATA or "
	"whilst-data)\n"
	"  --salvage      take what can be read of a damaged binlog; jobs whose end cannot be read come "
	"back\n"
	"  --dry-run      read and tell, write nothing\n"
	"  --help         this text\n\n"
	"Exit statuses: 0 done, 1 refused (damage, named with its file and byte) or failed, 2 usage, 4 the "
	"data folder is\n"
	"held by a server.\n";

struct file {
	char *path;
	uint64_t number;
	uint8_t *bytes;
	size_t len;
};

struct import {
	wh_loop *loop;
	const char *directory, *data;
	bool salvage, dry_run, of_jobs;
	struct file *files;
	size_t count;
	struct binlog binlog;
	struct store *store;
	char key[64];
	uint64_t done; /* jobs of an earlier, interrupted import */
	uint64_t tally[5], problems;
	char **renamed; /* tubes that are called as queues of the server are, by their new names */
	size_t renamed_count;
};

/* ---- reading -------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static int read_file(struct import *im, struct file *file)
{
	wh_res opened = wh_await(wh_open(im->loop, file->path, O_RDONLY, 0)), size = opened, got = opened;

	if (opened.n >= 0)
		size = wh_await(wh_size(im->loop, (int)opened.n));
	if (size.n > FILE_MAX)
		return cli_error(CLI_FAILED, "%s: larger than 1 GiB", file->path);
	if (size.n >= 0) {
		file->bytes = malloc((size_t)size.n + 1);
		if (!file->bytes)
			return cli_error(CLI_FAILED, "%s: %s", file->path, wh_strerror(-ENOMEM));
		got = wh_await(wh_pread_all(im->loop, (int)opened.n, file->bytes, (size_t)size.n, 0));
	}
	if (opened.n >= 0)
		(void)wh_await(wh_close(im->loop, (int)opened.n)); /* it was only read */
	if (size.n < 0 || got.n < 0)
		return cli_error(CLI_FAILED, "%s: %s", file->path, wh_strerror(size.n < 0 ? size.n : got.n));
	file->len = (size_t)got.n;
	return 0;
}

static int find_files(struct import *im)
{
	wh_res res = wh_await(wh_list(im->loop, im->directory));
	struct wh_names *names = res.n >= 0 ? res.ptr : NULL;

	if (!names)
		return cli_error(CLI_FAILED, "%s: %s", im->directory, wh_strerror(res.n));
	im->files = calloc(names->count ? names->count : 1, sizeof(im->files[0]));
	for (size_t i = 0; im->files && i < names->count; i++) {
		struct file *file = &im->files[im->count];
		const char *name = names->names[i];
		size_t bytes = strlen(im->directory) + strlen(name) + 2;

		if (strncmp(name, "binlog.", 7) != 0 ||
		    !wh__parse_u64(name + 7, strlen(name + 7), INT32_MAX, &file->number))
			continue;
		file->path = malloc(bytes);
		if (!file->path)
			break;
		snprintf(file->path, bytes, "%s/%s", im->directory, name);
		im->count++;
	}
	wh_names_free(names);
	if (!im->files)
		return cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));
	if (im->count == 0)
		return cli_error(CLI_FAILED, "%s: no files binlog.1, binlog.2, ... here", im->directory);
	qsort(im->files, im->count, sizeof(im->files[0]), by_number);
	return 0;
}

static int read_binlog(struct import *im)
{
	struct binlog_problem problem;
	int status = find_files(im);

	for (size_t i = 0; status == 0 && i < im->count; i++) {
		struct file *file = &im->files[i];
		int error;

		status = read_file(im, file);
		if (status != 0)
			break;
		error = binlog_read(&im->binlog, file->bytes, file->len, i + 1 == im->count, &problem);
		if (error == 0)
			continue;
		if (error != -EPROTO)
			return cli_error(CLI_FAILED, "%s: %s", file->path, wh_strerror(error));
		fprintf(stderr, "%s: byte %zu: %s%s\n", file->path, problem.offset, problem.text,
		        problem.torn ? ": what a crash leaves; up to there it is whole" : "");
		im->problems += !problem.torn;
	}
	if (status == 0 && im->problems > 0 && !im->salvage)
		return cli_error(
			CLI_FAILED,
			"the binlog is damaged, so nothing was imported; --salvage takes what can be read, "
			"with jobs that may have been deleted since");
	binlog_sort(&im->binlog);
	for (size_t i = 0; status == 0 && i < im->binlog.count; i++)
		im->tally[im->binlog.jobs[i].state]++;
	return status;
}

static const char own_prefix[] = "tube/";

/* Where the jobs of such a tube go; NULL: no memory. */
static const char *new_name(struct import *im, const struct binlog_job *job)
{
	size_t prefix = sizeof(own_prefix) - 1;
	char **more, *name;

	for (size_t i = 0; i < im->renamed_count; i++) {
		name = im->renamed[i];
		if (strlen(name) == prefix + job->tube_len &&
		    memcmp(name + prefix, job->tube, job->tube_len) == 0)
			return name;
	}
	name = malloc(prefix + job->tube_len + 1);
	more = name ? realloc(im->renamed, (im->renamed_count + 1) * sizeof(*more)) : NULL;
	if (!more) {
		free(name);
		return NULL;
	}
	memcpy(name, own_prefix, prefix);
	memcpy(name + prefix, job->tube, job->tube_len);
	name[prefix + job->tube_len] = 0;
	im->renamed = more;
	im->renamed[im->renamed_count++] = name;
	fprintf(stderr, "tube %s is called as a queue of the server's own is: its jobs go to the queue %s\n",
	        name + prefix, name);
	return name;
}

/* What the server would take for calls, events or callbacks of its own is none. */
static int rename_own(struct import *im)
{
	for (size_t i = 0; i < im->binlog.count; i++) {
		struct binlog_job *job = &im->binlog.jobs[i];
		const char *name;

		if (!service_owns_queue(job->tube, job->tube_len))
			continue;
		if (job->tube_len + sizeof(own_prefix) - 1 > JOB_NAME_MAX)
			return cli_error(
				CLI_FAILED,
				"tube %.*s is called as a queue of the server's own is, and too long for "
				"another name; nothing was imported",
				(int)job->tube_len, job->tube);
		name = new_name(im, job);
		if (!name)
			return cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));
		job->tube = name;
		job->tube_len = (uint32_t)strlen(name);
	}
	return 0;
}

static void name_content(struct import *im)
{
	XXH128_hash_t sum = {0};

	for (size_t i = 0; i < im->count; i++) {
		XXH128_hash_t parts[2] = {sum, XXH3_128bits(im->files[i].bytes, im->files[i].len)};

		sum = XXH3_128bits(parts, sizeof(parts));
	}
	snprintf(im->key, sizeof(im->key), "import/beanstalkd/%016llx%016llx", (unsigned long long)sum.high64,
	         (unsigned long long)sum.low64);
}

/* ---- writing -------------------------------------------------------------------------------- */

static int open_store(struct import *im)
{
	struct store_options options = {.directory = im->data, .payload_bytes_max = FILE_MAX};
	struct store_problem problem = {0};
	int error = store_open(im->loop, &options, &im->store, &problem);

	if (error < 0)
		return cli_error(error == -EBUSY ? CLI_NO_CONNECTION : CLI_FAILED, "%s: %s", im->data,
		                 problem.text[0] ? problem.text : wh_strerror(error));
	return 0;
}

/* How far has an import of this very binlog come? */
static int read_progress(struct import *im)
{
	wh_res res = wh_await(store_settings(im->store, (struct store_slice){im->key, strlen(im->key)}));
	struct store_settings *settings = res.n >= 0 ? res.ptr : NULL;

	if (!settings && res.n < 0)
		return cli_error(CLI_FAILED, "%s: %s", im->data, job_strerror(res.n));
	if (settings && settings->count > 0 &&
	    !wh__parse_u64(settings->settings[0].value.data, settings->settings[0].value.len, UINT64_MAX,
	                   &im->done))
		im->done = UINT64_MAX;
	store_settings_free(settings);
	if (im->done > im->binlog.count)
		return cli_error(CLI_FAILED, "%s: the note about an earlier import cannot be read", im->data);
	return 0;
}

static void put_action(const struct binlog_job *job, struct store_action *a)
{
	*a = (struct store_action){.kind = STORE_SUBMIT};
	a->submit = (struct store_submit){
		.queue = {job->tube, job->tube_len},
		.payload = {job->body, job->body_len},
		.priority = job->priority,
		.attempts_max = JOB_ATTEMPTS_UNLIMITED,
		.run_at = job->state == BINLOG_DELAYED && job->deadline_ns > 0 ? job->deadline_ns : 0,
		.time_to_run_ns = job->ttr_ns > WH_NS_PER_S ? job->ttr_ns : WH_NS_PER_S,
		.retention_ns = -1,
		.buried = job->state == BINLOG_BURIED,
	};
}

/* The next commit: some jobs, and how far it has come with them. */
static int import_some(struct import *im, struct store_action *actions)
{
	size_t count = 0, bytes = 0;
	char progress[24];
	struct store_commit *commit;
	int64_t error;
	wh_res res;

	while (count < AT_ONCE && im->done + count < im->binlog.count &&
	       (count == 0 || bytes < BYTES_AT_ONCE)) {
		const struct binlog_job *job = &im->binlog.jobs[im->done + count];

		put_action(job, &actions[count++]);
		bytes += job->body_len;
	}
	snprintf(progress, sizeof(progress), "%llu", (unsigned long long)im->done + count);
	actions[count] = (struct store_action){
		.kind = STORE_SETTING_PUT,
		.setting = {.key = {im->key, strlen(im->key)}, .value = {progress, strlen(progress)}}};
	res = wh_await(store_apply(im->store, actions, count + 1, 0, STORE_LOCAL));
	commit = res.n >= 0 ? res.ptr : NULL;
	error = commit ? commit->error : res.n;
	store_commit_free(commit);
	if (error < 0)
		return cli_error(CLI_FAILED, "%s: after %llu jobs: %s", im->data,
		                 (unsigned long long)im->done, job_strerror(error));
	im->done += count;
	return 0;
}

static int import_all(struct import *im)
{
	struct store_action *actions = calloc(AT_ONCE + 1, sizeof(*actions));
	uint64_t before;
	int status = actions ? open_store(im) : cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));
	int error;

	if (status == 0)
		status = read_progress(im);
	before = im->done;
	while (status == 0 && im->done < im->binlog.count)
		status = import_some(im, actions);
	free(actions);
	error = store_close(im->store);
	im->store = NULL;
	if (status == 0 && error < 0)
		return cli_error(CLI_FAILED, "%s: %s", im->data, wh_strerror(error));
	if (status == 0 && before > 0)
		printf("%llu of the %llu jobs had been imported before\n", (unsigned long long)before,
		       (unsigned long long)im->binlog.count);
	return status;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int run(struct import *im)
{
	int status = read_binlog(im);

	if (status == 0)
		status = rename_own(im);
	if (status != 0)
		return status;
	name_content(im);
	if (!im->dry_run)
		status = import_all(im);
	if (status == 0)
		printf("%s %llu jobs: %llu ready, %llu delayed, %llu buried\n",
		       im->dry_run ? "found" : "imported", (unsigned long long)im->binlog.count,
		       (unsigned long long)im->tally[BINLOG_READY],
		       (unsigned long long)im->tally[BINLOG_DELAYED],
		       (unsigned long long)im->tally[BINLOG_BURIED]);
	return status;
}

static int read_options(struct import *im, int argc, char **argv)
{
	static const struct option names[] = {{"data", 1, 0, 'd'},
	                                      {"salvage", 0, 0, 's'},
	                                      {"dry-run", 0, 0, 'n'},
	                                      {"help", 0, 0, 'h'},
	                                      {0}};
	int option;

	while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
		switch (option) {
		case 'd':
			im->data = optarg;
			break;
		case 's':
			im->salvage = true;
			break;
		case 'n':
			im->dry_run = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return -1;
		default:
			return CLI_USAGE;
		}
	}
	im->of_jobs = argc - optind == 2 && strcmp(argv[optind], "jobs") == 0;
	if (argc - optind != 2 || (!im->of_jobs && strcmp(argv[optind], "beanstalkd") != 0) ||
	    (im->of_jobs && im->salvage))
		return cli_error(CLI_USAGE,
		                 "wanted is: whilst import beanstalkd DIR, or whilst import jobs FILE; "
		                 "--help tells more");
	im->directory = argv[optind + 1];
	return 0;
}

int cli_import(int argc, char **argv)
{
	const char *data = getenv("WHILST_DATA");
	struct import im = {.data = data && *data ? data : "whilst-data"};
	int status = read_options(&im, argc, argv), error;

	if (status != 0)
		return status < 0 ? CLI_DONE : status;
	if (im.of_jobs)
		return cli_import_jobs(im.directory, im.data, im.dry_run);
	error = wh_loop_open(&im.loop, NULL);
	if (error < 0)
		return cli_error(CLI_FAILED, "%s", wh_strerror(error));
	status = run(&im);
	wh_loop_close(im.loop);
	for (size_t i = 0; i < im.count; i++) {
		free(im.files[i].path);
		free(im.files[i].bytes);
	}
	free(im.files);
	binlog_done(&im.binlog);
	for (size_t i = 0; i < im.renamed_count; i++)
		free(im.renamed[i]);
	free(im.renamed);
	return status;
}
