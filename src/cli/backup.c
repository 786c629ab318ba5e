/* src/cli/backup.c -- `whilst backup DIRECTORY`: a copy of a running server's data, whole and checked, or none.
 *
 * The server sends an archive of the files that it holds still (GET /v1/log/backup). They are written under another name,
 * flushed, read again as a start would read them, and only then get the name that was asked for. Thread: main.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/log_blobs.h"
#include "log/log.h"

static const char usage[] =
	"usage: whilst backup DIRECTORY [--server URL] [--json] [--help]\n\n"
	"Copies the data of a running server into DIRECTORY, which must not be there yet: everything that "
	"was "
	"flushed when\nthe copy began, and nothing after it. The copy is flushed and checked before it gets "
	"its "
	"name. To restore it, stop\nthe server and let it start with DIRECTORY, or a copy of it, as its data "
	"folder.\n";

enum { TAR_BLOCK = 512, PATH_BYTES = 4200 };

struct backup {
	struct cli_session session;
	wh_http_call *call;
	const char *directory;
	char partial[PATH_BYTES];
	char position[40];
	struct wh_buf *piece; /* what has come and is not used yet */
	size_t used;
	uint64_t bytes;
	unsigned files;
	bool has_blobs;
};

/* Exactly len bytes of the archive, to a place or to a file at its offset, or to nowhere. 0 or an exit status, said. */
static int take(struct backup *b, uint64_t len, uint8_t *to, int fd)
{
	uint64_t at = 0;
	while (at < len) {
		if (!b->piece || b->used == b->piece->len) {
			wh_buf_put(b->piece);
			b->piece = NULL;
			wh_res res = wh_await(wh_http_call_read(b->call));
			if (res.n <= 0)
				return cli_error(CLI_FAILED, "the server's answer broke off: %s",
				                 res.n < 0 ? wh_strerror(res.n) : "too short");
			b->piece = res.ptr;
			b->used = 0;
		}
		size_t left = b->piece->len - b->used;
		size_t n = len - at < left ? (size_t)(len - at) : left;
		const uint8_t *from = b->piece->data + b->used;
		if (to)
			memcpy(to + at, from, n);
		if (fd >= 0) {
			int64_t error = wh_await(wh_pwrite_all(b->session.loop, fd, from, n, at)).n;
			if (error < 0)
				return cli_error(CLI_FAILED, "cannot write to %s: %s", b->partial,
				                 wh_strerror(error));
		}
		b->used += n;
		at += n;
	}
	b->bytes += len;
	return 0;
}

static const char blobs[] = "blobs/";

/* Names are those of a data folder: nothing that leads out of it. */
static bool name_is_right(const char *name)
{
	if (!strncmp(name, blobs, sizeof blobs - 1))
		name += sizeof blobs - 1;
	return *name && strlen(name) < 100 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(name) && *name != '.';
}

static int take_file(struct backup *b, const char *name, uint64_t bytes)
{
	char path[PATH_BYTES + 101];
	snprintf(path, sizeof path, "%s/%s", b->partial, name);
	wh_loop *loop = b->session.loop;
	int64_t fd;
	if (!b->has_blobs && !strncmp(name, blobs, sizeof blobs - 1)) {
		char folder[PATH_BYTES + 10];
		snprintf(folder, sizeof folder, "%s/blobs", b->partial);
		fd = wh_await(wh_mkdir(loop, folder, 0700)).n;
		if (fd < 0)
			return cli_error(CLI_FAILED, "cannot make %s: %s", folder, wh_strerror(fd));
		b->has_blobs = true;
	}
	fd = wh_await(wh_open(loop, path, O_WRONLY | O_CREAT | O_EXCL, 0600)).n;
	if (fd < 0)
		return cli_error(CLI_FAILED, "cannot make %s: %s", path, wh_strerror(fd));
	int status = take(b, bytes, NULL, (int)fd);
	int64_t error = status == 0 ? wh_await(wh_fsync(loop, (int)fd, false)).n : 0;
	int64_t closed = wh_await(wh_close(loop, (int)fd)).n;
	if (error == 0)
		error = closed;
	if (error < 0)
		status = cli_error(CLI_FAILED, "cannot flush %s: %s", path, wh_strerror(error));
	b->files++;
	return status ? status : take(b, (TAR_BLOCK - bytes % TAR_BLOCK) % TAR_BLOCK, NULL, -1);
}

static int take_all(struct backup *b)
{
	char header[TAR_BLOCK + 1] = "", *end;
	for (;;) {
		int status = take(b, TAR_BLOCK, (uint8_t *)header, -1);
		if (status != 0)
			return status;
		if (header[0] == 0) /* the end: one more block of zeros, and nothing after it */
			break;
		header[135] = 0;
		unsigned long long bytes = strtoull(header + 124, &end, 8);
		header[100] = 0;
		if (*end || !name_is_right(header))
			return cli_error(CLI_FAILED,
			                 "the server's answer is not an archive of a data folder");
		status = take_file(b, header, bytes);
		if (status != 0)
			return status;
	}
	return take(b, TAR_BLOCK, NULL, -1);
}

static int64_t sync_folder(wh_loop *loop, const char *path)
{
	int64_t fd = wh_await(wh_open(loop, path, O_RDONLY | O_DIRECTORY, 0)).n;
	if (fd < 0)
		return fd;
	int64_t error = wh_await(wh_fsync(loop, (int)fd, false)).n;
	(void)wh_await(wh_close(loop, (int)fd));
	return error;
}

static int on_record(void *arg, const struct log_record *record)
{
	struct job_record r;
	if (record->type == LOG_TYPE_LOST)
		return 0;
	if (record->type >= JOB_RECORD_TYPES_END)
		return -ENOTSUP;
	int error = job_record_get(record->type, record->version,
	                           (struct job_slice){record->fixed, record->fixed_bytes},
	                           (struct job_slice){record->payload, record->payload_bytes}, &r);
	return error < 0 ? error : log_blobs_record(arg, &r);
}

/* As a start would read it, and every file of a body that its jobs name. 0 or an exit status, said. */
static int check(struct backup *b)
{
	char text[1024];
	struct log_blobs bodies = {0};
	struct log_look found;
	struct log_problem problem = {0};
	struct log_options options = {.path = b->partial, .replay = on_record, .replay_arg = &bodies};
	int error = log_look(b->session.loop, &options, &found, &problem), status = 0;
	log_look_fini(&found);
	if (error < 0) {
		log_problem_text(&problem, text, sizeof text);
		status = cli_error(CLI_FAILED, "the copy in %s is not sound: %s", b->partial, text);
	} else if ((error = log_blobs_check(&bodies, b->session.loop, b->partial)) < 0) {
		status = cli_error(CLI_FAILED, "cannot check %s: %s", b->partial, wh_strerror(error));
	} else if (bodies.damaged > 0) {
		status = cli_error(CLI_FAILED, "the copy in %s is not sound, nor is what it was made of: %s",
		                   b->partial, bodies.problem);
	}
	store_blob_table_done(&bodies.table);
	return status;
}

/* Check it, then give it its name. */
static int finish(struct backup *b)
{
	wh_loop *loop = b->session.loop;
	char parent[PATH_BYTES];
	char folder[PATH_BYTES + 10];
	snprintf(folder, sizeof folder, "%s/blobs", b->partial);
	int64_t error = b->has_blobs ? sync_folder(loop, folder) : 0;
	if (error == 0)
		error = sync_folder(loop, b->partial);
	int status = error == 0 ? check(b) : 0;
	if (status != 0)
		return status;
	snprintf(parent, sizeof parent, "%s", b->directory);
	char *slash = strrchr(parent, '/');
	if (slash == parent)
		slash[1] = 0;
	else if (slash)
		*slash = 0;
	if (error == 0)
		error = wh_await(wh_rename(loop, b->partial, b->directory)).n;
	if (error == 0)
		error = sync_folder(loop, slash ? parent : ".");
	if (error < 0)
		return cli_error(CLI_FAILED, "cannot finish %s: %s", b->directory, wh_strerror(error));
	if (b->session.json)
		printf("{\"directory\":\"%s\",\"position\":\"%s\",\"files\":%u,\"bytes\":%llu}\n",
		       b->directory, b->position, b->files, (unsigned long long)b->bytes);
	else
		printf("%s: %u files, %.1f MiB, everything up to position %s; checked\n", b->directory,
		       b->files, (double)b->bytes / (1 << 20), b->position);
	return CLI_DONE;
}

static int run(struct backup *b)
{
	const char *token = getenv("WHILST_TOKEN");
	struct wh_http_field field = {{"Whilst-Token", 12}, {token, token ? strlen(token) : 0}};
	struct wh_http_request request = {.origin = b->session.server,
	                                  .method = "GET",
	                                  .target = "/v1/log/backup",
	                                  .fields = &field,
	                                  .field_count = token && *token ? 1 : 0};
	int error = wh_http_call_open(b->session.client, &request, 0, &b->call);
	wh_res res = error == 0 ? wh_await(wh_http_call_response(b->call)) : (wh_res){error, NULL};
	if (res.n < 0)
		return cli_error(CLI_NO_CONNECTION, "no answer from %s: %s", b->session.server,
		                 wh_strerror(res.n));
	const struct wh_http_response *response = res.ptr;
	if (res.n != 200)
		return cli_error(CLI_FAILED, "the server answered %d %s", (int)res.n,
		                 wh_http_reason((int)res.n));
	struct wh_slice position = wh_http_response_header(response, "Whilst-Position");
	snprintf(b->position, sizeof b->position, "%.*s", (int)position.len,
	         position.data ? position.data : "");
	int64_t made = wh_await(wh_mkdir(b->session.loop, b->partial, 0700)).n;
	if (made < 0)
		return cli_error(CLI_FAILED, "cannot make %s: %s", b->partial, wh_strerror(made));
	int status = take_all(b);
	return status ? status : finish(b);
}

int cli_backup(int argc, char **argv)
{
	struct backup b = {0};
	struct cli_options common = {.usage = usage};
	(void)cli_option(&common, argc, argv, NULL);
	if (common.ended)
		return common.status;
	if (argc - optind != 1 || strlen(argv[optind]) >= PATH_BYTES - 16)
		return cli_usage(usage);
	b.directory = argv[optind];
	for (size_t len = strlen(b.directory); len > 1 && b.directory[len - 1] == '/';)
		argv[optind][--len] = 0;
	snprintf(b.partial, sizeof b.partial, "%s.partial", b.directory);
	int status = cli_session_open(&b.session, common.server, common.json);
	if (status == 0 && wh_await(wh_access(b.session.loop, b.directory, F_OK)).n != -ENOENT)
		status = cli_error(CLI_FAILED, "%s is there already", b.directory);
	if (status == 0)
		status = run(&b);
	wh_buf_put(b.piece);
	wh_http_call_close(b.call);
	cli_session_close(&b.session);
	return status;
}
