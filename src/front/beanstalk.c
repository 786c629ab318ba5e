/* src/front/beanstalk.c -- the beanstalkd front: opened over a store, accepts, keeps tubes and reserved jobs, ends.
 *
 * See beanstalk.h, beanstalk_inside.h. Tubes here are those that a connection uses or watches; jobs are the store's.
 * Thread: loop.
 */
#include "front/beanstalk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/beanstalk_inside.h"

#define ACCEPT_PAUSE_NS (100 * WH_NS_PER_MS)
#define SWEEP_NS        (5 * WH_NS_PER_S)

/* ---- tubes -------------------------------------------------------------------------------- */

static uint32_t hash_name(const char *name, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	return hash;
}

struct beanstalk_tube *beanstalk_tube_find(const struct beanstalk *front, const char *name, size_t len)
{
	struct beanstalk_tube *tube;

	if (front->tubes_cap == 0)
		return NULL;
	for (tube = front->tubes[hash_name(name, len) & (front->tubes_cap - 1)]; tube; tube = tube->next_hash)
		if (tube->len == len && memcmp(tube->name, name, len) == 0)
			return tube;
	return NULL;
}

static void tubes_grow(struct beanstalk *front)
{
	uint32_t cap = front->tubes_cap ? front->tubes_cap * 2 : 64;
	struct beanstalk_tube **tubes = calloc(cap, sizeof(tubes[0]));

	if (!tubes)
		return; /* longer chains then */
	free(front->tubes);
	front->tubes = tubes;
	front->tubes_cap = cap;
	for (struct beanstalk_tube *tube = front->tubes_first; tube; tube = tube->next) {
		uint32_t at = hash_name(tube->name, tube->len) & (cap - 1);

		tube->next_hash = tubes[at];
		tubes[at] = tube;
	}
}

/* Somebody names it again. */
static void unretire(struct beanstalk *front, const char *name, size_t len)
{
	for (struct beanstalk_retired **at = &front->retired; *at; at = &(*at)->next) {
		struct beanstalk_retired *this = *at;

		if (this->len == len && memcmp(this->name, name, len) == 0) {
			*at = this->next;
			free(this);
			return;
		}
	}
}

struct beanstalk_tube *beanstalk_tube_get(struct beanstalk *front, const char *name, size_t len)
{
	struct beanstalk_tube *tube = beanstalk_tube_find(front, name, len);
	uint32_t at;

	if (tube)
		return tube;
	if (front->tubes_count >= front->tubes_cap)
		tubes_grow(front);
	tube = front->tubes_cap > 0 ? calloc(1, sizeof(*tube) + len + 1) : NULL;
	if (!tube)
		return NULL;
	tube->len = (uint32_t)len;
	memcpy(tube->name, name, len);
	at = hash_name(name, len) & (front->tubes_cap - 1);
	tube->next_hash = front->tubes[at];
	front->tubes[at] = tube;
	tube->prev = front->tubes_last;
	*(tube->prev ? &tube->prev->next : &front->tubes_first) = tube;
	front->tubes_last = tube;
	front->tubes_count++;
	unretire(front, name, len);
	return tube;
}

static void on_sweep(wh_loop *loop, wh_res res, void *arg);

static void sweep_later(struct beanstalk *front)
{
	if (front->sweeping || front->closed || !front->retired)
		return;
	front->sweep = wh_sleep(front->loop, SWEEP_NS);
	front->sweeping = wh_then(front->sweep, on_sweep, front) == 0;
}

/* Does the store's queue have to stay? If it is empty and nobody ever configured it, it goes as beanstalkd's tube would. */
static bool still_needed(struct beanstalk *front, const struct beanstalk_retired *retired)
{
	struct store_action action = {.kind = STORE_QUEUE_DELETE,
	                              .queue.name = {retired->name, retired->len}};
	struct store_queue_view view;
	uint64_t jobs = 0;

	if (store_queue_now(front->store, action.queue.name, &view) < 0 || !view.implicit)
		return false;
	for (int state = JOB_NONE; state < JOB_STATES; state++)
		jobs += view.jobs[state];
	if (jobs > 0 || view.waiting > 0 || view.paused || view.pause_left_ns > 0)
		return true;
	(void)wh_drop(store_apply(front->store, &action, 1, 0, STORE_LOCAL));
	return false;
}

static void on_sweep(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk *front = arg;

	(void)loop;
	front->sweeping = false;
	if (front->closed || res.n < 0)
		return;
	for (struct beanstalk_retired **at = &front->retired; *at;) {
		struct beanstalk_retired *this = *at;

		if (this->fresh || still_needed(front, this)) {
			this->fresh = false;
			at = &this->next;
			continue;
		}
		*at = this->next;
		free(this);
	}
	sweep_later(front);
}

void beanstalk_tube_release(struct beanstalk *front, struct beanstalk_tube *tube)
{
	struct beanstalk_retired *retired;
	struct beanstalk_tube **at;

	if (tube->using + tube->watching > 0)
		return;
	at = &front->tubes[hash_name(tube->name, tube->len) & (front->tubes_cap - 1)];
	while (*at != tube)
		at = &(*at)->next_hash;
	*at = tube->next_hash;
	*(tube->prev ? &tube->prev->next : &front->tubes_first) = tube->next;
	*(tube->next ? &tube->next->prev : &front->tubes_last) = tube->prev;
	front->tubes_count--;
	retired = front->closed ? NULL : malloc(sizeof(*retired) + tube->len + 1);
	if (retired) {
		*retired =
			(struct beanstalk_retired){.next = front->retired, .fresh = true, .len = tube->len};
		memcpy(retired->name, tube->name, tube->len);
		front->retired = retired;
		sweep_later(front);
	}
	free(tube);
}

/* ---- reserved jobs ------------------------------------------------------------------------ */

static uint32_t hold_at(const struct beanstalk *front, uint64_t job)
{
	return (uint32_t)((job * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (front->holds_cap - 1);
}

static bool holds_grow(struct beanstalk *front)
{
	uint32_t cap = front->holds_cap ? front->holds_cap * 2 : 256, before = front->holds_cap;
	struct beanstalk_hold **old = front->holds, **holds = calloc(cap, sizeof(holds[0]));

	if (!holds)
		return before > 0;
	front->holds = holds;
	front->holds_cap = cap;
	for (uint32_t i = 0; i < before; i++) {
		for (struct beanstalk_hold *hold = old[i], *next; hold; hold = next) {
			uint32_t at = hold_at(front, hold->job);

			next = hold->next_hash;
			hold->next_hash = holds[at];
			holds[at] = hold;
		}
	}
	free(old);
	return true;
}

struct beanstalk_hold *beanstalk_hold_add(struct beanstalk_connection *c, const struct store_leased *leased)
{
	struct beanstalk *front = c->front;
	struct beanstalk_hold *hold = front->holds_spare;
	uint32_t at;

	if (front->holds_count >= front->holds_cap && !holds_grow(front))
		return NULL;
	if (hold)
		front->holds_spare = hold->next;
	else
		hold = malloc(sizeof(*hold));
	if (!hold)
		return NULL;
	*hold = (struct beanstalk_hold){.connection = c,
	                                .job = leased->job,
	                                .lease = leased->lease,
	                                .time_to_run_ns = leased->time_to_run_ns,
	                                .deadline = wh_now(front->loop) + leased->time_to_run_ns,
	                                .prev = c->holds_last};
	at = hold_at(front, hold->job);
	hold->next_hash = front->holds[at];
	front->holds[at] = hold;
	*(hold->prev ? &hold->prev->next : &c->holds_first) = hold;
	c->holds_last = hold;
	front->holds_count++;
	if (hold->deadline < c->deadline_min)
		c->deadline_min = hold->deadline;
	return hold;
}

/* Several connections may have an entry for one job: of those whose lease has passed and who have not noticed. */
struct beanstalk_hold *beanstalk_hold_find(const struct beanstalk_connection *c, uint64_t job)
{
	const struct beanstalk *front = c->front;
	struct beanstalk_hold *hold = front->holds_cap ? front->holds[hold_at(front, job)] : NULL;

	while (hold && (hold->job != job || hold->connection != c))
		hold = hold->next_hash;
	return hold;
}

struct beanstalk_hold *beanstalk_hold_remove(struct beanstalk_hold *hold)
{
	struct beanstalk_connection *c;
	struct beanstalk_hold **at;
	struct beanstalk *front;

	if (!hold)
		return NULL;
	c = hold->connection;
	front = c->front;
	at = &front->holds[hold_at(front, hold->job)];
	while (*at != hold)
		at = &(*at)->next_hash;
	*at = hold->next_hash;
	*(hold->prev ? &hold->prev->next : &c->holds_first) = hold->next;
	*(hold->next ? &hold->next->prev : &c->holds_last) = hold->prev;
	front->holds_count--;
	if (!c->holds_first)
		c->deadline_min = INT64_MAX;
	hold->next = front->holds_spare;
	front->holds_spare = hold;
	return NULL;
}

int64_t beanstalk_deadline(struct beanstalk_connection *c, int64_t now, int64_t margin)
{
	int64_t first = INT64_MAX;

	if (c->deadline_min > now + margin)
		return c->deadline_min;
	for (struct beanstalk_hold *hold = c->holds_first, *next; hold; hold = next) {
		next = hold->next;
		if (hold->deadline <= now)
			beanstalk_hold_remove(hold);
		else if (hold->deadline < first)
			first = hold->deadline;
	}
	c->deadline_min = first;
	return first;
}

/* ---- accepting ---------------------------------------------------------------------------- */

static void accept_next(struct beanstalk_listener *l);

static void listener_free(struct beanstalk_listener *l)
{
	struct beanstalk_listener **at = &l->front->listeners;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	free(l);
}

static void on_pause_over(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_listener *l = arg;

	(void)loop, (void)res;
	l->accepting = false;
	if (l->closed)
		listener_free(l);
	else
		accept_next(l);
}

static void on_accepted(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_listener *l = arg;
	struct beanstalk *front = l->front;

	l->accepting = false;
	if (l->closed) {
		if (res.n >= 0)
			(void)wh_drop(wh_close(loop, (int)res.n));
		listener_free(l);
		beanstalk_check_drained(front);
		return;
	}
	if (res.n >= 0) {
		beanstalk_connection_new(front, (int)res.n);
	} else if (res.n != -ECONNABORTED && res.n != -EINTR && res.n != -EAGAIN) {
		/* out of descriptors or memory: whoever waits in the backlog waits a little longer */
		l->future = wh_sleep(loop, ACCEPT_PAUSE_NS);
		l->accepting = wh_then(l->future, on_pause_over, l) == 0;
		return;
	}
	accept_next(l);
}

static void accept_next(struct beanstalk_listener *l)
{
	struct beanstalk *front = l->front;

	if (l->accepting || l->closed || front->connections_count >= front->options.connections_max)
		return;
	l->future = wh_accept(front->loop, l->fd);
	l->accepting = wh_then(l->future, on_accepted, l) == 0;
}

void beanstalk_accept(struct beanstalk *front)
{
	for (struct beanstalk_listener *l = front->listeners; l; l = l->next)
		accept_next(l);
}

int beanstalk_listen(struct beanstalk *front, int fd)
{
	struct beanstalk_listener *l = calloc(1, sizeof(*l));

	if (!l) {
		(void)wh_drop(wh_close(front->loop, fd));
		return -ENOMEM;
	}
	l->front = front;
	l->fd = fd;
	l->next = front->listeners;
	front->listeners = l;
	accept_next(l);
	return 0;
}

/* ---- life --------------------------------------------------------------------------------- */

/* One line of a file of /proc, without its newline; empty when it cannot be had, as on a simulated machine. */
static void read_line(wh_loop *loop, const char *path, char *to, size_t cap)
{
	int64_t fd = wh_await(wh_open(loop, path, O_RDONLY, 0)).n, n = 0;

	if (fd >= 0) {
		n = wh_await(wh_pread(loop, (int)fd, to, cap - 1, 0)).n;
		wh_await(wh_close(loop, (int)fd));
	}
	to[n > 0 ? n : 0] = 0;
	to[strcspn(to, "\n")] = 0;
}

int beanstalk_open(wh_loop *loop, struct store *store, const struct beanstalk_options *options,
                   struct beanstalk **ret)
{
	struct beanstalk *front = calloc(1, sizeof(*front));
	uint8_t random[8];

	if (!front)
		return -ENOMEM;
	front->loop = loop;
	front->store = store;
	front->options = *options;
	front->opened_at = wh_now(loop);
	front->tube_default = beanstalk_tube_get(front, "default", 7);
	if (!front->tube_default) {
		free(front->tubes);
		free(front);
		return -ENOMEM;
	}
	front->tube_default->watching = 1; /* it always exists; not shown in figures */
	wh_random(loop, random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(front->id + 2 * i, 3, "%02x", random[i]);
	read_line(loop, "/proc/sys/kernel/hostname", front->host_name, sizeof(front->host_name));
	read_line(loop, "/proc/sys/kernel/version", front->host_version, sizeof(front->host_version));
	front->proc_fd = (int)wh_await(wh_open(loop, "/proc/self/stat", O_RDONLY, 0)).n;
	*ret = front;
	return 0;
}

void beanstalk_refuse_puts(struct beanstalk *front)
{
	front->refusing = true;
}

static void stop_accepting(struct beanstalk *front)
{
	for (struct beanstalk_listener *l = front->listeners, *next; l; l = next) {
		next = l->next;
		if (l->closed)
			continue;
		l->closed = true;
		(void)wh_drop(wh_close(front->loop, l->fd)); /* ends the accept */
		if (!l->accepting)
			listener_free(l);
		else
			wh_cancel(l->future);
	}
}

void beanstalk_check_drained(struct beanstalk *front)
{
	if (front->draining && front->connections_count == 0)
		wh_resolve(front->drained, 0, NULL);
}

static void close_connections(struct beanstalk *front, bool idle_only)
{
	for (struct beanstalk_connection *c = front->connections, *next; c; c = next) {
		bool waits = c->first && c->first->waits;

		next = c->next;
		if (!idle_only || waits || (!c->first && !c->sending.data && c->out.len == 0))
			beanstalk_connection_end(c);
	}
}

static void on_drain_over(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk *front = arg;

	(void)loop, (void)res;
	if (!front->closed)
		close_connections(front, false);
}

wh_future beanstalk_drain(struct beanstalk *front, int64_t until)
{
	wh_future over = wh_sleep_until(front->loop, until);

	front->drained = wh_promise(front->loop, NULL, NULL);
	front->draining = true;
	stop_accepting(front);
	(void)!wh_then(over, on_drain_over, front);
	close_connections(front, true);
	beanstalk_check_drained(front);
	return front->drained;
}

void beanstalk_close(struct beanstalk *front)
{
	if (!front || front->closed)
		return;
	stop_accepting(front);
	close_connections(front, false);
	front->closed = true;
	if (front->sweeping)
		wh_cancel(front->sweep);
	if (front->proc_fd >= 0)
		(void)wh_drop(wh_close(front->loop, front->proc_fd));
}

void beanstalk_free(struct beanstalk *front)
{
	if (!front)
		return;
	for (struct beanstalk_tube *tube = front->tubes_first, *next; tube; tube = next) {
		next = tube->next;
		free(tube);
	}
	for (struct beanstalk_retired *retired = front->retired, *next; retired; retired = next) {
		next = retired->next;
		free(retired);
	}
	for (struct beanstalk_hold *hold = front->holds_spare, *next; hold; hold = next) {
		next = hold->next;
		free(hold);
	}
	while (front->chunks_count > 0)
		free(front->chunks[--front->chunks_count]);
	free(front->holds);
	free(front->tubes);
	free(front);
}
