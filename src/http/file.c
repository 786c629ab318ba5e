/* src/http/file.c -- a file as an answer: opened beneath a folder, conditional, in ranges, a piece at a time.
 *
 * Opening (io/beneath.c) is a worker's, reading goes through the loop; what is read ahead of the client is bounded by output_bytes_max.
 *
 * Thread: loop, but for open_it(), which a worker runs.  Memory: one allocation for each answer, until it is given.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/conditions.h"
#include "http/message.h"
#include "http/server.h"
#include "io/beneath.h"

#define PAUSE_NS (10 * WH_NS_PER_MS) /* no buffer is free: tried again after */

struct job {
	wh_http_exchange *x;
	wh_loop *loop;
	int folder, fd;
	wh_loop *simulated; /* NULL: a real machine */
	struct wh_stat st;
	bool head;
	const char *content_type, *index, *cache_control; /* in text */
	struct wh__http_conditions conditions;            /* likewise */
	uint64_t at, left;
	struct wh_buf *buf;
	struct wh_slice segment; /* the last one of the path, as asked for */
	bool needs_slash; /* a folder, and the path does not end in a slash: links in its index would go astray */
	char *path, *text;
};

/* ---- names -------------------------------------------------------------------------------- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded, without slashes before and after; false: not the name of a file. The result is never longer. */
static bool decode_path(struct wh_slice path, char *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < path.len; i++) {
		unsigned char c = (unsigned char)path.data[i];

		if (c == '%') {
			int high = path.len - i > 2 ? hex(path.data[i + 1]) : -1;
			int low = high >= 0 ? hex(path.data[i + 2]) : -1;

			if (low < 0)
				return false;
			c = (unsigned char)(high << 4 | low);
			i += 2;
			if (c == '/')
				return false; /* not a separator, and no file has it in its name */
		}
		if (c < 0x20 || c == 0x7f)
			return false;
		if (c != '/' || (n > 0 && ret[n - 1] != '/'))
			ret[n++] = (char)c;
	}
	ret[n] = 0;
	return true;
}

/* Every segment is a plain name: not "..", and nothing hidden unless that is wanted. */
static bool segments_allowed(const char *path, bool hidden)
{
	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");

		if (at[0] == '.' && (!hidden || len == 1 || (len == 2 && at[1] == '.')) &&
		    !(len == 11 && memcmp(at, ".well-known", 11) == 0)) /* RFC 8615 */
			return false;
		at += len + (at[len] == '/');
	}
	return true;
}

static const char *type_of(const char *path)
{
	static const char *const types[][2] = {
		{"html", "text/html; charset=utf-8"},
		{"htm", "text/html; charset=utf-8"},
		{"css", "text/css; charset=utf-8"},
		{"js", "text/javascript; charset=utf-8"},
		{"mjs", "text/javascript; charset=utf-8"},
		{"txt", "text/plain; charset=utf-8"},
		{"md", "text/markdown; charset=utf-8"},
		{"csv", "text/csv; charset=utf-8"},
		{"json", "application/json"},
		{"xml", "application/xml"},
		{"pdf", "application/pdf"},
		{"wasm", "application/wasm"},
		{"zip", "application/zip"},
		{"gz", "application/gzip"},
		{"png", "image/png"},
		{"jpg", "image/jpeg"},
		{"jpeg", "image/jpeg"},
		{"gif", "image/gif"},
		{"svg", "image/svg+xml"},
		{"webp", "image/webp"},
		{"avif", "image/avif"},
		{"ico", "image/x-icon"},
		{"woff2", "font/woff2"},
		{"mp3", "audio/mpeg"},
		{"mp4", "video/mp4"},
		{"webm", "video/webm"},
	};
	const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');

	for (size_t i = 0; dot && i < sizeof(types) / sizeof(*types); i++)
		if (strcasecmp(dot + 1, types[i][0]) == 0)
			return types[i][1];
	return "application/octet-stream";
}

/* ---- opening, on a worker's thread -------------------------------------------------------- */

static bool ends_in_slash(const char *path)
{
	return path[strlen(path) - 1] == '/';
}

static int64_t open_it(void *arg)
{
	struct job *job = arg;
	int64_t n = wh__open_beneath(job->simulated, job->folder, job->path, &job->st);
	int error = 0;

	if (n < 0)
		return n;
	job->fd = (int)n;
	if (job->st.type == WH_FILE_DIRECTORY && job->index && *job->path && !ends_in_slash(job->path)) {
		job->needs_slash = true;
	} else if (job->st.type == WH_FILE_DIRECTORY && job->index) {
		wh__close_beneath(job->simulated, job->fd);
		job->fd = -1;
		(void)stpcpy(stpcpy(job->path + strlen(job->path), *job->path ? "/" : ""), job->index);
		job->index = NULL;
		return open_it(job);
	} else if (job->st.type != WH_FILE_REGULAR) {
		error = -ENOENT;
	}
	if (error != 0) {
		wh__close_beneath(job->simulated, job->fd);
		job->fd = -1;
	}
	return error;
}

/* ---- the answer --------------------------------------------------------------------------- */

static void end_job(struct job *job)
{
	if (job->fd >= 0)
		(void)wh_drop(wh_close(job->loop, job->fd));
	wh_buf_put(job->buf);
	free(job->text);
	free(job);
}

static void give_up(struct job *job)
{
	wh_http_abort(job->x);
	end_job(job);
}

static void next_piece(struct job *job);

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	if (res.n < 0)
		give_up(arg);
	else
		next_piece(arg);
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct job *job = arg;
	struct wh_buf *buf = job->buf;

	if (res.n <= 0) { /* 0: the file has become shorter than was said */
		give_up(job);
		return;
	}
	job->buf = NULL;
	buf->len = (uint32_t)res.n;
	job->at += (uint64_t)res.n;
	job->left -= (uint64_t)res.n;
	if (wh_then(wh_http_write_buf(job->x, buf), on_written, job) != 0)
		give_up(job);
}

static void next_piece(struct job *job)
{
	if (job->left == 0) {
		wh_http_end(job->x);
		end_job(job);
		return;
	}
	if (!job->buf)
		job->buf = wh_buf_get(job->loop);
	if (!job->buf) {
		if (wh_then(wh_sleep(job->loop, PAUSE_NS), on_written, job) != 0)
			give_up(job);
		return;
	}
	if (wh_then(wh_pread(job->loop, job->fd, job->buf->data,
	                     job->left < job->buf->cap ? (size_t)job->left : job->buf->cap, job->at),
	            on_read, job) != 0)
		give_up(job);
}

static void describe(const struct job *job, struct wh__http_representation *ret)
{
	int64_t now = wh_wall_now(job->loop) / WH_NS_PER_S, ns = job->st.modified_ns % WH_NS_PER_S;
	int64_t at = job->st.modified_ns / WH_NS_PER_S;
	const char *weak = "";

	if (ns < 0) { /* before 1970 */
		ns += WH_NS_PER_S;
		at--;
	}
	/* RFC 9110 section 8.8.2.2: within the same moments it may change again and look the same */
	ret->is_fresh = now - at < 2;
	if (ret->is_fresh)
		weak = "W/";
	ret->bytes = job->st.size;
	ret->modified_at = at;
	snprintf(ret->etag, sizeof(ret->etag), "%s\"%llx-%llx-%llx.%lx\"", weak,
	         (unsigned long long)job->st.inode, (unsigned long long)job->st.size, (unsigned long long)at,
	         (unsigned long)ns);
}

static int set_fields(struct job *job, const struct wh__http_representation *of, int status)
{
	char date[WH__HTTP_DATE_LEN + 1] = "";
	wh_http_exchange *x = job->x;
	int error;

	wh__http_date(of->modified_at, date);
	error = wh_http_set(x, "ETag", of->etag);
	if (error == 0)
		error = wh_http_set(x, "Last-Modified", date);
	if (error == 0)
		error = wh_http_set(x, "Accept-Ranges", "bytes");
	if (error == 0 && job->cache_control)
		error = wh_http_set(x, "Cache-Control", job->cache_control);
	if (error == 0 && (status == 200 || status == 206))
		error = wh_http_set(x, "Content-Type",
		                    job->content_type ? job->content_type : type_of(job->path));
	if (error == 0 && status == 206)
		error = wh_http_setf(x, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)job->at,
		                     (unsigned long long)(job->at + job->left - 1),
		                     (unsigned long long)of->bytes);
	if (error == 0 && status == 416)
		error = wh_http_setf(x, "Content-Range", "bytes */%llu", (unsigned long long)of->bytes);
	return error;
}

static void begin(struct job *job)
{
	struct wh__http_representation of;
	int status;

	describe(job, &of);
	status = wh__http_conditions_check(&job->conditions, &of, job->head, &job->at, &job->left);
	if (set_fields(job, &of, status) != 0) {
		give_up(job);
		return;
	}
	if (status == 200 || status == 206) {
		/* a length over INT64_MAX is no file's */
		if (wh_http_start(job->x, status, (int64_t)job->left) != 0) {
			give_up(job);
			return;
		}
		if (job->head)
			job->left = 0;
		next_piece(job);
	} else {
		if (status == 304)
			wh_http_respond(job->x, status, NULL, 0);
		else
			wh_http_problem(job->x, status, NULL);
		end_job(job);
	}
}

static int status_of(int64_t error)
{
	switch (-error) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EXDEV: /* RESOLVE_BENEATH */
	case ENAMETOOLONG:
	case ENXIO:
		return 404;
	case EACCES:
	case EPERM:
		return 403;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
		return 503;
	default:
		return 500;
	}
}

static void on_opened(wh_loop *loop, wh_res res, void *arg)
{
	struct job *job = arg;

	if (res.n == 0 && job->needs_slash) {
		/* relative, so that it is right below any prefix; "./" for names with a colon */
		(void)wh_http_setf(job->x, "Location", "./%.*s/", (int)job->segment.len, job->segment.data);
		wh_http_respond(job->x, 301, NULL, 0);
		end_job(job);
	} else if (res.n == 0) {
		begin(job);
	} else {
		wh_http_problem(job->x, status_of(res.n), NULL);
		end_job(job);
	}
}

/* ---- the call ----------------------------------------------------------------------------- */

static struct wh_slice keep(char **at, struct wh_slice value)
{
	struct wh_slice kept = {*at, value.len};

	if (!value.data)
		return value;
	memcpy(*at, value.data, value.len);
	*at += value.len;
	return kept;
}

static const char *keep_text(char **at, const char *text)
{
	char *start = *at;

	if (!text)
		return NULL;
	*at = stpcpy(start, text) + 1;
	return start;
}

static struct wh_slice last_segment(struct wh_slice path)
{
	size_t start = path.len;

	while (start > 0 && path.data[start - 1] != '/')
		start--;
	return (struct wh_slice){path.data + start, path.len - start};
}

static size_t length(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static struct job *make_job(wh_http_exchange *x, struct wh_slice path, const struct wh_http_file_options *o)
{
	struct wh__http_conditions c = {
		.if_match = wh_http_header(x, "If-Match"),
		.if_none_match = wh_http_header(x, "If-None-Match"),
		.if_modified_since = wh_http_header(x, "If-Modified-Since"),
		.if_unmodified_since = wh_http_header(x, "If-Unmodified-Since"),
		.if_range = wh_http_header(x, "If-Range"),
		.range = wh_http_header(x, "Range"),
	};
	size_t room = c.if_match.len + c.if_none_match.len + c.if_modified_since.len +
	              c.if_unmodified_since.len + c.if_range.len + c.range.len + 2 * path.len + 2 +
	              length(o->content_type) + 2 * length(o->index) + length(o->cache_control);
	struct job *job = calloc(1, sizeof(*job));
	char *at;

	if (!job)
		return NULL;
	job->text = at = malloc(room);
	if (!at) {
		free(job);
		return NULL;
	}
	job->conditions = (struct wh__http_conditions){
		.if_match = keep(&at, c.if_match),
		.if_none_match = keep(&at, c.if_none_match),
		.if_modified_since = keep(&at, c.if_modified_since),
		.if_unmodified_since = keep(&at, c.if_unmodified_since),
		.if_range = keep(&at, c.if_range),
		.range = keep(&at, c.range),
	};
	job->content_type = keep_text(&at, o->content_type);
	job->index = keep_text(&at, o->index);
	job->cache_control = keep_text(&at, o->cache_control);
	job->segment = keep(&at, last_segment(path));
	job->path = at; /* last, with room for the index's name */
	job->x = x;
	job->loop = wh_http_loop(x);
	job->simulated = wh__beneath_simulated(job->loop);
	job->fd = -1;
	job->head = wh_http_method(x) == WH_HTTP_HEAD;
	return job;
}

void wh_http_respond_file(wh_http_exchange *x, int folder, struct wh_slice path,
                          const struct wh_http_file_options *options)
{
	static const struct wh_http_file_options defaults;
	enum wh_http_method method = wh_http_method(x);
	struct job *job;

	if (!options)
		options = &defaults;
	if (method != WH_HTTP_GET && method != WH_HTTP_HEAD) {
		(void)wh_http_set(x, "Allow", "GET, HEAD"); /* without memory: without it */
		wh_http_problem(x, 405, NULL);
		return;
	}
	job = make_job(x, path, options);
	if (!job) {
		wh_http_problem(x, 503, NULL);
		return;
	}
	job->folder = folder;
	if (!decode_path(path, job->path) || !segments_allowed(job->path, options->hidden)) {
		wh_http_problem(x, 404, NULL);
		end_job(job);
		return;
	}
	if (job->simulated) {
		/* its disk is at hand, and none of its workers may touch it */
		on_opened(job->loop, (wh_res){.n = open_it(job)}, job);
	} else if (wh_then(wh_work(job->loop, open_it, job), on_opened, job) != 0) {
		wh_http_problem(x, 503, NULL);
		end_job(job);
	}
}
