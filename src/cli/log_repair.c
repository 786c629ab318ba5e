/* src/cli/log_repair.c -- `whilst log repair`: a data folder that does not start any more, made one that starts.
 *
 * Without --skip or --cut it tells what is damaged and what either would come to, and changes nothing. Exit statuses as of `whilst log
 * verify`. Thread: main.
 */
#include "cli/log_repair.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "store/repair.h"

static const char usage_text[] =
	"usage: whilst log repair DIRECTORY [--skip | --cut] [--jobs] [--json] [--help]\n\n"
	"The way out when a start is refused because the data folder is damaged, or when files of large "
	"bodies are. The server "
	"must\nnot be running. Without --skip or --cut: tells what is damaged, and what either would come "
	"to, and changes nothing.\n\n"
	"  --skip    leave out what cannot be read and keep what is behind it. Refused where that would not "
	"be consistent\n"
	"  --cut     end the log where it cannot be read: all that was committed after it is lost\n"
	"  --jobs    name all jobs that are concerned, not the first ones only\n"
	"  --json    the same for programs\n\n"
	"Files that are replaced stay in DIRECTORY/repaired-EPOCH. A restored backup loses less often than a "
	"repair.\n"
	"Exit status: 0 repaired, or nothing to repair; 1 refused; 3 damaged; 4 unreadable or in use.\n";

enum { JOBS_SHOWN = 20, EXIT_DAMAGED = 3, EXIT_UNREADABLE = 4 };

struct repair_command {
	const char *directory;
	bool cut, skip, jobs, json;
	uint64_t shown;
	bool tell_damages;
	json_t *damages, *named, *ids;
};

static void on_found(void *arg, const char *file, uint64_t offset, const char *reason)
{
	struct repair_command *c = arg;

	if (!c->tell_damages)
		return;
	if (c->json)
		json_array_append_new(c->damages, json_pack("{s:s, s:I, s:s}", "file", file, "byte",
		                                            (json_int_t)offset, "reason", reason));
	else
		printf("%s%s%s, byte %" PRIu64 ": %s\n", c->directory, *file ? "/" : "", file, offset,
		       reason);
}

static void on_job(void *arg, uint64_t job, struct store_slice queue, const char *what)
{
	struct repair_command *c = arg;

	if (c->json)
		json_array_append_new(c->named, json_pack("{s:I, s:s%, s:s}", "id", (json_int_t)job, "queue",
		                                          queue.data, queue.len, "what", what));
	else if (c->jobs || c->shown < JOBS_SHOWN)
		printf("  job %" PRIu64 "%s%.*s: %s\n", job, queue.len ? " of queue " : "", (int)queue.len,
		       (const char *)queue.data, what);
	c->shown++;
}

static void on_ids(void *arg, uint64_t from, uint64_t until)
{
	struct repair_command *c = arg;

	if (c->json)
		json_array_append_new(c->ids, json_pack("[I, I]", (json_int_t)from, (json_int_t)until));
	else
		printf("  jobs %" PRIu64 " to %" PRIu64
		       ": as many of them as there were are lost without a trace, or none\n",
		       from, until - 1);
}

static void on_notice(int level, const char *message, void *arg)
{
	(void)arg;
	if (level >= WH_LOG_ERROR)
		fprintf(stderr, "whilst log: %s\n", message);
}

static json_t *result_json(struct repair_command *c, int how, const struct store_repair_result *r)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "how",
	                      how == STORE_REPAIR_CUT ? "cut" : "skip", "jobs_kept", (json_int_t)r->jobs_kept,
	                      "end_lsn", (json_int_t)r->end_lsn, "lost_bytes", (json_int_t)r->lost_bytes,
	                      "cut_groups", (json_int_t)r->cut_groups, "cut_records",
	                      (json_int_t)r->cut_records, "cut_to", (json_int_t)r->cut_to, "left_out",
	                      (json_int_t)r->unfit, "jobs", c->named);
	json_object_set(o, "ids", c->ids);
	json_object_set_new(o, "lost_from",
	                    r->lost_from == UINT64_MAX ? json_null()
	                                               : json_integer((json_int_t)r->lost_from));
	if (r->refused[0])
		json_object_set_new(o, "refused", json_string(r->refused));
	if (r->kept[0]) {
		json_object_set_new(o, "kept", json_string(r->kept));
		json_object_set_new(o, "epoch", json_integer((json_int_t)r->epoch));
	}
	return o;
}

static void print_result(struct repair_command *c, int how, const struct store_repair_result *r)
{
	bool done = r->kept[0];

	if (!c->jobs && c->shown > JOBS_SHOWN)
		printf("  and %" PRIu64 " more; --jobs names them all\n", c->shown - JOBS_SHOWN);
	if (r->refused[0]) {
		printf("%s is refused: %s\n", how == STORE_REPAIR_CUT ? "--cut" : "--skip", r->refused);
		return;
	}
	printf("%s %s %" PRIu64 " jobs; %" PRIu64 " are concerned",
	       how == STORE_REPAIR_CUT ? "--cut" : "--skip", done ? "has kept" : "would keep", r->jobs_kept,
	       r->jobs);
	if (r->lost_bytes > 0)
		printf("; %" PRIu64 " bytes of the log cannot be read", r->lost_bytes);
	if (how == STORE_REPAIR_CUT && r->cut_groups + r->cut_records > 0)
		printf("; %" PRIu64 " groups with %" PRIu64 " records, lsn %" PRIu64 " to %" PRIu64
		       ", are cut off",
		       r->cut_groups, r->cut_records, r->end_lsn, r->cut_to);
	if (r->unfit > 0)
		printf("; %" PRIu64 " records are left out, since what they follow is lost", r->unfit);
	printf("\n");
	if (r->lost_from != UINT64_MAX)
		printf("positions from %" PRIu64 " on, of epochs before this repair, %s answered 410 lost\n",
		       r->lost_from, done ? "are" : "would be");
	if (done)
		printf("repaired, in epoch %" PRIu32 "; what was replaced is in %s/%s\n", r->epoch,
		       c->directory, r->kept);
}

/* One way; *r is filled in. 0 or an exit status, said. */
static int one(struct repair_command *c, wh_loop *loop, int how, bool apply, struct store_repair_result *r)
{
	struct store_repair_options options = {.directory = c->directory,
	                                       .how = how,
	                                       .apply = apply,
	                                       .found = on_found,
	                                       .job = on_job,
	                                       .ids = on_ids,
	                                       .arg = c,
	                                       .log = on_notice};
	struct store_problem problem;
	int error;

	c->shown = 0;
	c->named = json_array();
	c->ids = json_array();
	error = store_repair(loop, &options, r, &problem);
	if (error == 0)
		return 0;
	cli_error(CLI_FAILED, "%s", problem.text);
	return problem.exit_status ? problem.exit_status : EXIT_UNREADABLE;
}

static int resumed(const struct repair_command *c, const struct store_repair_result *r)
{
	if (r->kept[0] == 0)
		return cli_error(CLI_FAILED, "an earlier repair was broken off: --skip or --cut finishes it"),
		       EXIT_DAMAGED;
	if (c->json)
		printf("{\"resumed\": true, \"kept\": \"%s\"}\n", r->kept);
	else
		printf("an earlier repair, which was broken off, has been finished; what was replaced is in "
		       "%s/%s\n",
		       c->directory, r->kept);
	return CLI_DONE;
}

static int apply(struct repair_command *c, wh_loop *loop)
{
	int how = c->cut ? STORE_REPAIR_CUT : STORE_REPAIR_SKIP, status;
	struct store_repair_result r;

	c->tell_damages = true;
	status = one(c, loop, how, true, &r);
	if (status == 0 && r.resumed)
		status = resumed(c, &r);
	else if (status == 0 && c->json) {
		json_t *all = result_json(c, how, &r);

		json_object_set(all, "damages", c->damages);
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else if (status == 0 && r.nothing) {
		printf("nothing to repair: %" PRIu64 " jobs\n", r.jobs_kept);
	} else if (status == 0) {
		print_result(c, how, &r);
	}
	json_decref(c->named);
	json_decref(c->ids);
	return status == 0 && r.refused[0] ? CLI_FAILED : status;
}

/* Both ways, and nothing is changed. */
static int look(struct repair_command *c, wh_loop *loop)
{
	json_t *choices = json_array();
	struct store_repair_result r = {0};
	int status = 0;
	bool nothing = false;

	for (int how = STORE_REPAIR_SKIP; how <= STORE_REPAIR_CUT && status == 0 && !nothing; how++) {
		c->tell_damages = how == STORE_REPAIR_SKIP;
		status = one(c, loop, how, false, &r);
		if (status == 0 && r.resumed)
			status = resumed(c, &r);
		else if (status == 0 && c->json)
			json_array_append_new(choices, result_json(c, how, &r));
		else if (status == 0 && !r.nothing)
			print_result(c, how, &r);
		nothing = status == 0 && r.nothing;
		json_decref(c->named);
		json_decref(c->ids);
	}
	if (status == 0 && c->json) {
		json_t *all = json_pack("{s:O, s:O}", "damages", c->damages, "choices", choices);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else if (status == 0 && nothing) {
		printf("nothing to repair: %" PRIu64 " jobs\n", r.jobs_kept);
	} else if (status == 0) {
		printf("nothing was changed: choose --skip or --cut, or restore a backup\n");
	}
	json_decref(choices);
	return status ? status : nothing ? CLI_DONE : EXIT_DAMAGED;
}

static int parse(int argc, char **argv, struct repair_command *c)
{
	static const struct option longs[] = {{"skip", 0, 0, 's'}, {"cut", 0, 0, 'c'},  {"jobs", 0, 0, 'l'},
	                                      {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0}};

	for (int o; (o = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		if (o == 'h') {
			fputs(usage_text, stdout);
			return CLI_DONE;
		}
		if (o != 's' && o != 'c' && o != 'l' && o != 'j') {
			fputs(usage_text, stderr);
			return CLI_USAGE;
		}
		c->skip |= o == 's';
		c->cut |= o == 'c';
		c->jobs |= o == 'l';
		c->json |= o == 'j';
	}
	if (argc - optind != 2 || (c->skip && c->cut)) {
		fputs(usage_text, stderr);
		return CLI_USAGE;
	}
	c->directory = argv[optind + 1];
	return -1;
}

int cli_log_repair(int argc, char **argv)
{
	struct repair_command c = {0};
	int status = parse(argc, argv, &c), error;
	wh_loop *loop;

	if (status >= 0)
		return status;
	error = wh_loop_open(&loop, NULL);
	if (error < 0)
		return cli_error(CLI_FAILED, "%s", wh_strerror(error));
	c.damages = json_array();
	status = c.skip || c.cut ? apply(&c, loop) : look(&c, loop);
	json_decref(c.damages);
	wh_loop_close(loop);
	return status;
}
