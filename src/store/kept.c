/* src/store/kept.c -- events that are kept: the done jobs of a topic's queue, in order, and who waits for the next one. See store.h.
 *
 * A line is the ids of a queue's events, oldest first, so that events go on behind a job without a search through all jobs. What has gone
 * in the meantime is noticed at its head when somebody looks. Positions of this run are known, those of earlier runs stand in the records:
 * a position is found among them by halves.
 */
#include "store/inside.h"

static int compare(const struct store_kept_line *line, struct store_slice name)
{
	size_t len = line->name_len < name.len ? line->name_len : name.len;
	int order = memcmp(line->name, name.data, len);

	return order ? order : line->name_len < name.len ? -1 : line->name_len > name.len;
}

/* Where the line of that name is or would be. */
static size_t find_line(const struct store *store, struct store_slice name, bool *ret_there)
{
	size_t low = 0, high = store->kept.count;

	*ret_there = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare(store->kept.lines[middle], name);

		if (order == 0) {
			*ret_there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct store_kept_line *line_of(const struct store *store, struct store_slice name)
{
	bool there;
	size_t at = find_line(store, name, &there);

	return there ? store->kept.lines[at] : NULL;
}

static int make_line(struct store *store, struct store_slice name, struct store_kept_line **ret)
{
	struct store_kept_lines *all = &store->kept;
	struct store_kept_line *line;
	bool there;
	size_t at = find_line(store, name, &there);
	int error;

	if (there) {
		*ret = all->lines[at];
		return 0;
	}
	if (name.len == 0 || name.len > JOB_NAME_MAX)
		return -JOB_EVALUE;
	if (all->count == all->cap) {
		size_t cap = all->cap ? all->cap * 2 : 16;
		struct store_kept_line **lines = realloc(all->lines, cap * sizeof(lines[0]));

		if (!lines)
			return -ENOMEM;
		all->lines = lines;
		all->cap = cap;
	}
	line = calloc(1, sizeof(*line));
	if (!line)
		return -ENOMEM;
	error = wh_mark_open(store->loop, &line->mark, 0);
	if (error < 0) {
		free(line);
		return error;
	}
	memcpy(line->name, name.data, name.len);
	line->name_len = name.len;
	memmove(&all->lines[at + 1], &all->lines[at], (all->count - at) * sizeof(all->lines[0]));
	all->lines[at] = line;
	all->count++;
	*ret = line;
	return 0;
}

static struct store_kept *event_at(const struct store_kept_line *line, size_t index)
{
	return &line->ring[(line->first + index) & (line->cap - 1)];
}

static void note_gone(struct store_kept_line *line, struct store_kept event)
{
	if (event.job > line->gone.job)
		line->gone = event;
}

/* Those at the head that have gone. */
static void trim(struct store *store, struct store_kept_line *line)
{
	while (line->count > 0 && store_state(store, event_at(line, 0)->job) == JOB_NONE) {
		note_gone(line, *event_at(line, 0));
		line->first = (line->first + 1) & (line->cap - 1);
		line->count--;
	}
}

/* The first one behind a job. */
static size_t behind(const struct store_kept_line *line, uint64_t after)
{
	size_t low = 0, high = line->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (event_at(line, middle)->job <= after)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- kept ---------------------------------------------------------------------------------- */

/* Without those that have gone, wherever they stand: a retention that was made shorter lets newer ones go first. */
static void squeeze(struct store *store, struct store_kept_line *line)
{
	size_t kept = 0;

	for (size_t i = 0; i < line->count; i++) {
		struct store_kept event = *event_at(line, i);

		if (store_state(store, event.job) == JOB_NONE)
			note_gone(line, event);
		else
			*event_at(line, kept++) = event;
	}
	line->count = kept;
}

static int line_room(struct store *store, struct store_kept_line *line, size_t count)
{
	size_t cap = line->cap ? line->cap : 64;
	struct store_kept *ring;

	trim(store, line);
	if (line->count + count <= line->cap)
		return 0;
	squeeze(store, line);
	while (cap < (line->count + count) * 2) /* so that what was squeezed pays for the next time */
		cap *= 2;
	ring = malloc(cap * sizeof(ring[0]));
	if (!ring)
		return line->count + count <= line->cap ? 0 : -ENOMEM;
	for (size_t i = 0; i < line->count; i++)
		ring[i] = *event_at(line, i);
	free(line->ring);
	line->ring = ring;
	line->cap = cap;
	line->first = 0;
	return 0;
}

int store_kept_room(struct store *store, const struct store_wish *wish)
{
	struct store_kept_line *line;
	size_t count = 0;
	int error = 0;

	for (size_t i = 0; i < wish->count; i++)
		count += wish->actions[i].kind == STORE_SUBMIT && wish->actions[i].submit.done;
	for (size_t i = 0; i < wish->count && count > 0 && error == 0; i++) {
		if (wish->actions[i].kind != STORE_SUBMIT || !wish->actions[i].submit.done)
			continue;
		error = make_line(store, wish->actions[i].submit.queue, &line);
		if (error == 0)
			error = line_room(store, line, count);
	}
	return error;
}

void store_kept_add(struct store *store, struct store_slice queue, const struct job_record *submit)
{
	struct store_kept_line *line = line_of(store, queue);
	struct job_record r;
	int error = job_check_done(store->jobs, submit->id, submit->at_ns, &r);

	assert(error == 0 && line && line->count < line->cap);
	if (error < 0)
		return;
	store_append(store, &r, 0);
	*event_at(line, line->count++) = (struct store_kept){submit->id, submit->event_lsn};
	wh_mark_raise(line->mark, submit->id);
}

/* ---- after a start --------------------------------------------------------------------------- */

static bool is_topic(const struct job_queue *q)
{
	size_t prefix = sizeof(STORE_EVENTS_PREFIX) - 1, skip = job_name_skip(q->name, q->name_len);

	return q->name_len > skip + prefix && memcmp(q->name + skip, STORE_EVENTS_PREFIX, prefix) == 0;
}

static int find_again(void *arg, uint64_t id, const struct job_queue *q, const struct job_places *places)
{
	struct store *store = arg;
	struct store_kept_line *line;
	int error;

	if (places->state != JOB_DONE || !is_topic(q))
		return 0;
	error = make_line(store, (struct store_slice){q->name, q->name_len}, &line);
	if (error == 0)
		error = line_room(store, line, 1);
	if (error == 0)
		line->ring[line->count++] = (struct store_kept){id, 0};
	return error;
}

static int by_job(const void *a, const void *b)
{
	uint64_t x = ((const struct store_kept *)a)->job, y = ((const struct store_kept *)b)->job;

	return x < y ? -1 : x > y;
}

int store_kept_open(struct store *store)
{
	bool any = false;
	int error;

	for (uint32_t i = 1; !any && i < job_queues_end(store->jobs); i++) {
		const struct job_queue *q = job_queue_at(store->jobs, i);

		any = q && is_topic(q) && q->jobs[JOB_DONE] > 0;
	}
	error = any ? job_places_each(store->jobs, find_again, store) : 0;
	for (size_t i = 0; error == 0 && i < store->kept.count; i++) {
		struct store_kept_line *line = store->kept.lines[i];

		qsort(line->ring, line->count, sizeof(line->ring[0]), by_job);
		if (line->count > 0)
			wh_mark_raise(line->mark, event_at(line, line->count - 1)->job);
	}
	return error;
}

void store_kept_done(struct store *store)
{
	for (size_t i = 0; i < store->kept.count; i++) {
		wh_mark_close(store->kept.lines[i]->mark);
		free(store->kept.lines[i]->ring);
		free(store->kept.lines[i]);
	}
	free(store->kept.lines);
}

/* ---- looking --------------------------------------------------------------------------------- */

uint64_t store_kept_next(struct store *store, struct store_slice queue, uint64_t after)
{
	struct store_kept_line *line = line_of(store, queue);

	if (!line)
		return 0;
	trim(store, line);
	for (size_t i = behind(line, after); i < line->count; i++) {
		uint64_t job = event_at(line, i)->job;

		if (store_state(store, job) != JOB_NONE)
			return job;
	}
	return 0;
}

uint64_t store_kept_last(struct store *store, struct store_slice queue)
{
	const struct store_kept_line *line = line_of(store, queue);

	return line ? wh_mark_read(line->mark) : 0;
}

uint64_t store_kept_gone(struct store *store, struct store_slice queue)
{
	struct store_kept_line *line = line_of(store, queue);

	if (!line)
		return 0;
	trim(store, line);
	return line->gone.job;
}

uint64_t store_kept_count(struct store *store, struct store_slice queue, uint64_t after)
{
	struct store_kept_line *line = line_of(store, queue);

	if (!line)
		return 0;
	trim(store, line);
	return line->count - behind(line, after);
}

bool store_kept_position(struct store *store, struct store_slice queue, uint64_t job,
                         struct store_position *ret)
{
	const struct store_kept_line *line = line_of(store, queue);
	size_t at = line && job > 0 ? behind(line, job - 1) : 0;

	if (!line || at == line->count || event_at(line, at)->job != job || event_at(line, at)->lsn == 0)
		return false;
	*ret = (struct store_position){log_epoch(store->log), event_at(line, at)->lsn};
	return true;
}

wh_future store_kept_wait(struct store *store, struct store_slice queue, uint64_t after)
{
	struct store_kept_line *line;
	int error = store->failed ? (int)store->failed : make_line(store, queue, &line);

	return error < 0 ? wh_failed(store->loop, error) : wh_mark_wait(line->mark, after + 1);
}

/* ---- by position ----------------------------------------------------------------------------- */

struct finding {
	struct store *store;
	wh_future future;
	struct store_position position;
	uint64_t low, high; /* jobs: at or before the position, behind it */
	uint64_t looked_at;
	bool any; /* one at or before it is kept */
	struct store_slice queue;
	char name[JOB_NAME_MAX];
};

static void look(struct finding *finding);

static bool is_before(struct store_position a, struct store_position b)
{
	return a.epoch != b.epoch ? a.epoch < b.epoch : a.lsn < b.lsn;
}

/* Nothing at or before the position is kept any more: has one behind it gone, too? Not known of what earlier runs saw go. */
static bool is_gap(struct store *store, const struct store_kept_line *line, struct store_position position)
{
	uint32_t epoch = log_epoch(store->log);

	if (position.epoch != epoch)
		return true;
	return line && line->gone.lsn > position.lsn;
}

static void found(struct finding *finding)
{
	static char gap;
	const struct store_kept_line *line = line_of(finding->store, finding->queue);
	bool lost = !finding->any && is_gap(finding->store, line, finding->position);

	wh_resolve(finding->future, (int64_t)finding->low, lost ? &gap : NULL);
	free(finding);
}

static void judge(struct finding *finding, struct store_position position)
{
	if (is_before(finding->position, position)) {
		finding->high = finding->looked_at;
	} else {
		finding->low = finding->looked_at;
		finding->any = true;
	}
	look(finding);
}

static void on_payload(wh_loop *loop, wh_res res, void *arg)
{
	struct finding *finding = arg;
	struct store *store = finding->store;
	struct store_bytes *bytes = res.n >= 0 ? res.ptr : NULL;
	struct store_position position = bytes ? bytes->event : (struct store_position){0};

	(void)loop;
	store_bytes_unref(bytes);
	if (!store_operation_end(store)) {
		free(finding);
	} else if (res.n == -JOB_EEXPIRED || res.n == -JOB_EUNKNOWN_JOB) {
		finding->low =
			finding->looked_at; /* gone in the meantime, as those before it are or will be */
		look(finding);
	} else if (res.n < 0) {
		wh_resolve(finding->future, res.n, NULL);
		free(finding);
	} else {
		judge(finding, position);
	}
}

/* The middle one of those that may be on either side. */
static void look(struct finding *finding)
{
	struct store *store = finding->store;
	const struct store_kept_line *line = line_of(store, finding->queue);
	size_t from = line ? behind(line, finding->low) : 0, to = line ? behind(line, finding->high - 1) : 0;
	const struct store_kept *event;

	if (from >= to) {
		found(finding);
		return;
	}
	event = event_at(line, from + (to - from) / 2);
	finding->looked_at = event->job;
	if (event->lsn != 0) {
		judge(finding, (struct store_position){log_epoch(store->log), event->lsn});
	} else if (finding->position.epoch >= log_epoch(store->log)) {
		judge(finding, (struct store_position){1, 0}); /* of an earlier run */
	} else if (wh_then(store_payload(store, event->job, STORE_ASYNC), on_payload, finding) == 0) {
		store->operations++;
	} else {
		wh_resolve(finding->future, -ENOMEM, NULL);
		free(finding);
	}
}

wh_future store_kept_find(struct store *store, struct store_slice queue, struct store_position position)
{
	struct store_kept_line *line = line_of(store, queue);
	struct finding *finding;
	wh_future future;

	if (store->failed)
		return wh_failed(store->loop, store->failed);
	if (position.epoch > log_epoch(store->log) || (position.epoch == log_epoch(store->log) &&
	                                               position.lsn > wh_mark_read(log_appended(store->log))))
		return wh_failed(store->loop, -JOB_EVALUE);
	finding = malloc(sizeof(*finding));
	if (!finding || queue.len > JOB_NAME_MAX) {
		free(finding);
		return wh_failed(store->loop, -ENOMEM);
	}
	if (line)
		trim(store, line);
	future = wh_promise(store->loop, NULL, NULL);
	*finding =
		(struct finding){.store = store, .future = future, .position = position, .high = UINT64_MAX};
	memcpy(finding->name, queue.data, queue.len);
	finding->queue = (struct store_slice){finding->name, queue.len};
	look(finding);
	return future;
}
