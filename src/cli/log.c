/* src/cli/log.c -- `whilst log verify` and `whilst log inspect`: what a data folder holds, read as a start would read it.
 *
 * Nothing is changed in the folder. Every byte of the log is checked; a record is also read as the job store would. Exit
 * statuses are the server's: 3 for damage, 4 for everything else that would keep it from starting. Thread: main.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/log_blobs.h"
#include "cli/log_export.h"
#include "cli/log_repair.h"
#include "job/record.h"
#include "log/log.h"

static const char usage_text[] =
	"usage: whilst log verify DIRECTORY [--json] [--help]\n"
	"       whilst log inspect DIRECTORY [--records] [--json] [--help]\n"
	"       whilst log repair DIRECTORY [--skip | --cut] [--jobs] [--json] [--help]\n"
	"       whilst log export DIRECTORY [--jobs] [--queue NAME] [--state STATE] [--bodies FOLDER] "
	"[--salvage] [--help]\n\n"
	"Reads the log of a data folder as a start of the server would, and the "
	"files of large bodies, checks "
	"every byte, and changes nothing. The "
	"server must\nnot be running. verify says in one line whether the log is "
	"sound; inspect shows what is in it, "
	"with --records each\nrecord on a line of its own. repair is for a folder that is damaged: `whilst "
	"log repair --help`.\n"
	"Exit status: 0 sound (a torn tail, which the next start cuts off, "
	"included), 3 damaged, 4 unreadable or in use.\n";

enum { EXIT_DAMAGED = 3, EXIT_UNREADABLE = 4 };

struct log_command {
	bool inspect, records, json;
	uint64_t counts[JOB_RECORD_TYPES_END]; /* by type */
	uint64_t unreadable;                   /* records that the store would refuse */
	struct log_blobs blobs;
};

/* ---- records ----------------------------------------------------------------------------- */

static void print_record(const struct log_record *record, const struct job_record *r)
{
	printf("%" PRIu32 "/%" PRIu64 " segment %" PRIu64 " byte %" PRIu64 " %s", record->epoch,
	       record->location, record->segment, record->file_offset, job_record_name(record->type));
	if (r->id)
		printf(" id=%" PRIu64, r->id);
	if (r->queue)
		printf(" queue=%" PRIu32, r->queue);
	if (record->type == JOB_QUEUE)
		printf(" name=%.*s", (int)r->body.len, (const char *)r->body.data);
	if (record->type == JOB_SETTING)
		printf(" key=%.*s", (int)r->text.len, (const char *)r->text.data);
	if (r->claim)
		printf(record->type == JOB_IDS ? " until=%" PRIu64 : " claim=%" PRIu64, r->claim);
	if (record->type == JOB_SUBMIT || record->type == JOB_FINISH)
		printf(" body=%" PRIu64, job_body_bytes(r));
	printf(" bytes=%" PRIu64 "\n", (uint64_t)record->fixed_bytes + record->payload_bytes);
}

static int on_record(void *arg, const struct log_record *record)
{
	struct log_command *c = arg;
	struct job_record r;
	struct job_slice fixed = {record->fixed, record->fixed_bytes};
	struct job_slice rest = {record->payload, record->payload_bytes};
	if (record->type == LOG_TYPE_LOST)
		return 0;
	if (record->type >= JOB_RECORD_TYPES_END || record->type < JOB_IDS)
		return -ENOTSUP;
	c->counts[record->type]++;
	int error = job_record_get(record->type, record->version, fixed, rest, &r);
	if (error < 0) {
		c->unreadable++;
		return error;
	}
	if (c->records)
		print_record(record, &r);
	return log_blobs_record(&c->blobs, &r);
}

/* ---- for people -------------------------------------------------------------------------- */

static const char *reason_of(uint32_t reason)
{
	return reason == LOG_EPOCH_CREATED ? "created"
	       : reason == LOG_EPOCH_START ? "start after a clean end"
	                                   : "start after a crash";
}

static void print_look(const struct log_command *c, const struct log_look *look)
{
	for (int i = 0; i < 2; i++) {
		const struct log_look_manifest *m = &look->manifests[i];
		if (m->valid)
			printf("manifest-%c: number %" PRIu64 ", epoch %" PRIu32 ", segments %" PRIu64
			       " to %" PRIu64 ", durable up to %" PRIu64 "%s\n",
			       'a' + i, m->sequence, m->epoch, m->first_segment, m->last_segment,
			       m->durable_lsn, m->clean ? ", closed in order" : "");
		else
			printf("manifest-%c: not valid, or not there\n", 'a' + i);
	}
	for (size_t i = 0; i < look->epochs_count; i++)
		printf("epoch %" PRIu32 ": from %" PRIu64 ", %s\n", look->epochs[i].epoch,
		       look->epochs[i].start, reason_of(look->epochs[i].reason));
	if (look->checkpoint_lsn > 0)
		printf("checkpoint: at %" PRIu64 ", %" PRIu64 " records in %" PRIu64 " bytes; %" PRIu64
		       " segments before it were released since\n",
		       look->checkpoint_lsn, look->checkpoint_records, look->checkpoint_bytes, look->missing);
	for (size_t i = 0; i < look->segments_count; i++) {
		const struct log_look_segment *s = &look->segments[i];
		if (s->below)
			printf("segment %" PRIu64 ": from %" PRIu64 ", before the checkpoint, %" PRIu64
			       " of %" PRIu64 " bytes used\n",
			       s->number, s->base_lsn, s->used_bytes, s->file_bytes);
		else if (s->opened)
			printf("segment %" PRIu64 ": from %" PRIu64 ", epoch %" PRIu32 ", %" PRIu64
			       " of %" PRIu64 " bytes used\n",
			       s->number, s->base_lsn, s->epoch, s->used_bytes, s->file_bytes);
		else
			printf("segment %" PRIu64 ": made ahead, %" PRIu64 " bytes\n", s->number,
			       s->file_bytes);
	}
	for (int type = JOB_IDS; type < JOB_RECORD_TYPES_END; type++)
		if (c->counts[type])
			printf("%-12s %12" PRIu64 "\n", job_record_name(type), c->counts[type]);
	printf("end: %" PRIu64 ", %" PRIu64 " records in %" PRIu64 " bytes\n", look->end_lsn, look->records,
	       look->bytes);
}

/* ---- for programs ------------------------------------------------------------------------ */

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *look_json(const struct log_command *c, const struct log_look *look)
{
	json_t *manifests = json_array(), *epochs = json_array(), *segments = json_array(),
	       *records = json_object();
	for (int i = 0; i < 2; i++) {
		const struct log_look_manifest *m = &look->manifests[i];
		json_array_append_new(
			manifests,
			m->valid
				? json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "checkpoint",
		                            number(m->checkpoint_lsn), "sequence", number(m->sequence),
		                            "epoch", number(m->epoch), "first_segment",
		                            number(m->first_segment), "last_segment", number(m->last_segment),
		                            "durable_lsn", number(m->durable_lsn), "clean", m->clean)
				: json_null());
	}
	for (size_t i = 0; i < look->epochs_count; i++)
		json_array_append_new(epochs,
		                      json_pack("{s:o, s:o, s:s}", "epoch", number(look->epochs[i].epoch),
		                                "start", number(look->epochs[i].start), "reason",
		                                reason_of(look->epochs[i].reason)));
	for (size_t i = 0; i < look->segments_count; i++) {
		const struct log_look_segment *s = &look->segments[i];
		json_array_append_new(segments, json_pack("{s:o, s:o, s:b, s:b, s:o, s:o, s:o}", "number",
		                                          number(s->number), "bytes", number(s->file_bytes),
		                                          "opened", s->opened, "below", s->below, "epoch",
		                                          number(s->epoch), "base_lsn", number(s->base_lsn),
		                                          "used_bytes", number(s->used_bytes)));
	}
	for (int type = JOB_IDS; type < JOB_RECORD_TYPES_END; type++)
		if (c->counts[type])
			json_object_set_new(records, job_record_name(type), number(c->counts[type]));
	json_t *checkpoint =
		look->checkpoint_lsn > 0
			? json_pack("{s:o, s:o, s:o, s:o}", "lsn", number(look->checkpoint_lsn), "bytes",
	                            number(look->checkpoint_bytes), "records",
	                            number(look->checkpoint_records), "released_since", number(look->missing))
			: json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "checkpoint", checkpoint,
	                 "manifests", manifests, "epochs", epochs, "segments", segments, "records_by_type",
	                 records, "end_lsn", number(look->end_lsn), "records", number(look->records), "bytes",
	                 number(look->bytes), "torn_bytes", number(look->torn_bytes));
}

static void print_json(const struct log_command *c, const struct log_look *look, const char *verdict,
                       const char *problem)
{
	json_t *all = c->inspect ? look_json(c, look)
	                         : json_pack("{s:o, s:o, s:o, s:o}", "end_lsn", number(look->end_lsn),
	                                     "records", number(look->records), "bytes", number(look->bytes),
	                                     "torn_bytes", number(look->torn_bytes));
	json_object_set_new(all, "blobs", number(c->blobs.files));
	json_object_set_new(all, "blob_bytes", number(c->blobs.bytes));
	json_object_set_new(all, "blobs_damaged", number(c->blobs.damaged));
	json_object_set_new(all, "verdict", json_string(verdict));
	if (problem)
		json_object_set_new(all, "problem", json_string(problem));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

/* ---- enter ------------------------------------------------------------------------------- */

static void on_notice(int level, const char *message, void *arg)
{
	(void)arg;
	if (level >= WH_LOG_WARNING || level == WH_LOG_INFO)
		fprintf(stderr, "whilst log: %s\n", message);
}

static int look(struct log_command *c, wh_loop *loop, const char *directory)
{
	struct log_look found;
	struct log_problem problem = {0};
	char text[4600] = "";
	struct log_options options = {
		.path = directory, .replay = on_record, .replay_arg = c, .notice = on_notice};
	int error = log_look(loop, &options, &found, &problem);
	if (error == 0)
		error = log_blobs_check(&c->blobs, loop, directory);
	bool damaged = error == 0 && c->blobs.damaged > 0;
	const char *verdict = damaged ? "damaged"
	                      : problem.kind == LOG_PROBLEM_DAMAGED || (error < 0 && c->unreadable)
	                              ? "damaged"
	                      : error < 0        ? "unreadable"
	                      : found.torn_bytes ? "torn tail"
	                                         : "sound";
	if (damaged)
		snprintf(text, sizeof text,
		         "%s (%" PRIu64 " of %" PRIu64 " files; a start goes on without them)",
		         c->blobs.problem, c->blobs.damaged, c->blobs.files);
	else if (error < 0)
		log_problem_text(&problem, text, sizeof text);
	if (c->json) {
		print_json(c, &found, verdict, text[0] ? text : NULL);
	} else {
		if (c->inspect)
			print_look(c, &found);
		if (error == 0 && !damaged && found.torn_bytes)
			printf("sound up to %" PRIu64 "; a torn tail of %" PRIu64
			       " bytes behind that was never flushed for anybody: the next start keeps it "
			       "aside and cuts it off\n",
			       found.end_lsn, found.torn_bytes);
		else if (error == 0 && !damaged)
			printf("sound: %" PRIu64 " records, up to %" PRIu64 "\n", found.records,
			       found.end_lsn);
	}
	log_look_fini(&found);
	store_blob_table_done(&c->blobs.table);
	if (error == 0 && !damaged)
		return CLI_DONE;
	cli_error(CLI_FAILED, "%s", text);
	return damaged ? EXIT_DAMAGED : problem.exit_status ? problem.exit_status : EXIT_UNREADABLE;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct log_command *c)
{
	static const struct option longs[] = {
		{"records", 0, 0, 'r'}, {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0}};
	for (int o; (o = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (o) {
		case 'r':
			c->records = true;
			break;
		case 'j':
			c->json = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return CLI_DONE;
		default:
			fputs(usage_text, stderr);
			return CLI_USAGE;
		}
	}
	const char *what = optind < argc ? argv[optind] : "";
	c->inspect = !strcmp(what, "inspect");
	if ((!c->inspect && strcmp(what, "verify") != 0) || argc - optind != 2 ||
	    (c->records && (!c->inspect || c->json))) {
		fputs(usage_text, stderr);
		return CLI_USAGE;
	}
	return -1;
}

int cli_log(int argc, char **argv)
{
	struct log_command c = {0};
	wh_loop *loop;
	int status;

	for (int i = 1; i < argc; i++)
		if (argv[i][0] != '-') {
			if (!strcmp(argv[i], "repair"))
				return cli_log_repair(argc, argv);
			if (!strcmp(argv[i], "export"))
				return cli_log_export(argc, argv);
			break;
		}
	status = parse(argc, argv, &c);
	if (status >= 0)
		return status;
	int error = wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SYNC});
	if (error < 0)
		return cli_error(CLI_FAILED, "%s", wh_strerror(error));
	status = look(&c, loop, argv[optind + 1]);
	wh_loop_close(loop);
	return status;
}
