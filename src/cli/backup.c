/* src/cli/backup.c -- `whilst backup DIRECTORY`: a copy of a running server's data, whole and checked, or none.
 *
 * The server sends an archive of the files that it holds still (GET /v1/log/backup). They are written under another name,
 * flushed, read again as a start would read them, and only then get the name that was asked for. What was begun and is not finished is
 * removed: at once, or, after a kill, by the next backup to the same place, which knows by a lock that nobody writes it any more. A copy that is
 * not sound stays, to be looked at. Thread: main.
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

#define LOCK_NAME "backup.lock"

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
	bool has_blobs, kept; /* kept: what was written stays, though it is not sound */
	int lock;             /* descriptor */
};

/* ---- the folder that it is written to ---------------------------------------------------- */

static const char blobs[] = "blobs/";

/* Names are those of a data folder: nothing that leads out of it. */
static bool name_is_right(const char *name)
{
	if (!strncmp(name, blobs, sizeof blobs - 1))
		name += sizeof blobs - 1;
	return *name && strlen(name) < 100 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(name) && *name != '.';
}

/* Would a backup have written this, in the folder or in blobs? */
static bool is_ours(const char *name, bool in_blobs)
{
	static const char *const begins[] = {"seg-", "checkpoint-", "manifest-", LOCK_NAME, "LOCK"};
	bool ours = in_blobs && name_is_right(name);
	for (size_t i = 0; !in_blobs && i < sizeof begins / sizeof *begins; i++)
		ours |= !strncmp(name, begins[i], strlen(begins[i]));
	return ours;
}

/* What a backup has written in a folder, and the folder if all is true. 0 or negative errno; foreign: the name of something else, which
 * stays, as the folder does. */
static int64_t clear_folder(struct backup *b, const char *path, bool in_blobs, bool all, char foreign[100])
{
	wh_loop *loop = b->session.loop;
	wh_res res = wh_await(wh_list(loop, path));
	struct wh_names *names = res.n >= 0 ? res.ptr : NULL;
	int64_t error = res.n < 0 ? res.n : 0;
	char name[PATH_BYTES + 300];
	for (size_t i = 0; names && i < names->count && error == 0; i++) {
		const char *at = names->names[i];
		snprintf(name, sizeof name, "%s/%s", path, at);
		if (!in_blobs && !strcmp(at, "blobs"))
			error = clear_folder(b, name, true, true, foreign);
		else if (!is_ours(at, in_blobs))
			snprintf(foreign, 100, "%s", at);
		else if (all || strcmp(at, LOCK_NAME) != 0)
			error = wh_await(wh_unlink(loop, name)).n;
	}
	wh_names_free(names);
	if (error == 0 && all && !*foreign)
		error = wh_await(wh_rmdir(loop, path)).n;
	return error;
}

/* The folder is made, or taken from a backup that was killed. 0 or an exit status, said. */
static int take_partial(struct backup *b)
{
	wh_loop *loop = b->session.loop;
	char path[PATH_BYTES + 20], foreign[100] = "";
	int64_t made = wh_await(wh_mkdir(loop, b->partial, 0700)).n;
	if (made < 0 && made != -EEXIST)
		return cli_error(CLI_FAILED, "cannot make %s: %s", b->partial, wh_strerror(made));
	snprintf(path, sizeof path, "%s/" LOCK_NAME, b->partial);
	int64_t n = wh_await(wh_open(loop, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600)).n;
	if (n >= 0) {
		b->lock = (int)n;
		n = wh_await(wh_lock(loop, b->lock)).n;
	}
	if (n == -EAGAIN) {
		(void)wh_await(wh_close(loop, b->lock));
		b->lock = -1;
		return cli_error(CLI_FAILED, "another backup is writing to %s", b->partial);
	}
	if (n == -ENOLCK || n == -EOPNOTSUPP || n == -ENOSYS)
		n = 0; /* a file system without locks */
	if (n >= 0 && made == -EEXIST)
		n = clear_folder(b, b->partial, false, false, foreign);
	if (*foreign)
		return cli_error(CLI_FAILED, "%s is there already, and in it %s, which is of no backup",
		                 b->partial, foreign);
	return n < 0 ? cli_error(CLI_FAILED, "cannot write to %s: %s", b->partial, wh_strerror(n)) : 0;
}

/* The end of what was begun and is not finished. */
static void leave_partial(struct backup *b)
{
	char foreign[100] = "", path[PATH_BYTES + 20];
	if (b->lock < 0)
		return;
	snprintf(path, sizeof path, "%s/" LOCK_NAME, b->partial);
	int64_t error = b->kept ? wh_await(wh_unlink(b->session.loop, path)).n
	                        : clear_folder(b, b->partial, false, true, foreign);
	if (error < 0 && error != -ENOENT)
		(void)cli_error(CLI_FAILED, "cannot remove %s: %s", b->partial, wh_strerror(error));
	(void)wh_await(wh_close(b->session.loop, b->lock));
}

/* ---- the archive ------------------------------------------------------------------------- */

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
	return error == -EINVAL ? 0 : error; /* a file system that has nothing to do for that */
}

/* ---- checking ---------------------------------------------------------------------------- */

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
	unsigned long long wanted = strtoull(b->position + strcspn(b->position, "/") + 1, NULL, 10);
	uint64_t end = found.end_lsn;
	log_look_fini(&found);
	if (error == 0 && end != wanted) {
		status = cli_error(CLI_FAILED, "the copy in %s is not sound: it ends at %llu, not at %s",
		                   b->partial, (unsigned long long)end, b->position);
	} else if (error < 0) {
		log_problem_text(&problem, text, sizeof text);
		status = cli_error(CLI_FAILED, "the copy in %s is not sound: %s", b->partial, text);
	} else if ((error = log_blobs_check(&bodies, b->session.loop, b->partial)) < 0) {
		status = cli_error(CLI_FAILED, "cannot check %s: %s", b->partial, wh_strerror(error));
	} else if (bodies.damaged > 0) {
		status = cli_error(CLI_FAILED, "the copy in %s is not sound, nor is what it was made of: %s",
		                   b->partial, bodies.problem);
	}
	store_blob_table_done(&bodies.table);
	b->kept = status != 0;
	return status;
}

/* No more of it is to be seen than the name that was asked for. */
static int64_t give_name(struct backup *b)
{
	wh_loop *loop = b->session.loop;
	char path[PATH_BYTES + 20];
	snprintf(path, sizeof path, "%s/" LOCK_NAME, b->partial);
	int64_t error = wh_await(wh_unlink(loop, path)).n;
	if (error == 0)
		error = sync_folder(loop, b->partial);
	if (error == 0)
		error = wh_await(wh_rename_at(loop, AT_FDCWD, b->partial, AT_FDCWD, b->directory,
		                              RENAME_NOREPLACE))
		                .n;
	if (error == -EINVAL) /* a file system that cannot promise that */
		error = wh_await(wh_rename(loop, b->partial, b->directory)).n;
	return error;
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
		error = give_name(b);
	if (error == 0) {
		(void)wh_await(wh_close(loop, b->lock));
		b->lock = -1;
		error = sync_folder(loop, slash ? parent : ".");
	}
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

/* Why it does not. */
static int refused(struct backup *b, const struct wh_http_response *response)
{
	struct wh_http_response whole = *response;
	struct cli_text text = {0};
	wh_res res;
	while (text.len < 4096 && (res = wh_await(wh_http_call_read(b->call))).n > 0) {
		struct wh_buf *piece = res.ptr;
		cli_text_add(&text, piece->data, piece->len);
		wh_buf_put(piece);
	}
	whole.body = (struct wh_slice){text.bytes, text.len};
	int status = cli_refused(&whole);
	cli_text_free(&text);
	return status;
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
		return refused(b, response);
	struct wh_slice position = wh_http_response_header(response, "Whilst-Position");
	snprintf(b->position, sizeof b->position, "%.*s", (int)position.len,
	         position.data ? position.data : "");
	int status = take_all(b);
	return status ? status : finish(b);
}

int cli_backup(int argc, char **argv)
{
	struct backup b = {.lock = -1};
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
		status = take_partial(&b);
	if (status == 0)
		status = run(&b);
	wh_buf_put(b.piece);
	wh_http_call_close(b.call);
	leave_partial(&b);
	cli_session_close(&b.session);
	return status;
}
