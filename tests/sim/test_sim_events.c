/* tests/sim/test_sim_events.c -- topics of the whole server on a simulated machine: events are published, handed over to subscriptions and
 * handed over again, while power is cut at any disk call and paths are cut; then each is where it was promised.
 *
 * Clients publish, singly and in batches, make subscriptions that begin in the past, have events handed over again, and work on the jobs that come of
 * it. What must hold, as far as clients can see it:
 *
 * - an event that was answered at `local` becomes exactly one job in the queue of each subscription that it matches, with its position;
 * - an event of unknown outcome is in all of these queues or in none, and so are the events of one batch;
 * - a subscription that begins at a position, or at the beginning, gets each event behind it, and none before it; once for each time
 *   that this was asked for, and not once more, whatever ends the server on the way;
 * - events come into a queue in the order of their positions;
 * - an event, or a batch, that is published again, after whatever answer or none, is the one that it was, at the position of then.
 *
 * One seed is one run: the traces of two runs are compared.
 */
#include "asking.h"

enum { EVENTS_MAX = 2000, STEPS = 900, STEPS_CUT = 60, COPIES_MAX = 12, BATCH_MAX = 3 };
enum { ALL, ODD, TWIN, LATE, FROM, SUBSCRIPTIONS };

static const char *const names[SUBSCRIPTIONS] = {"all", "odd", "twin", "late", "from"};

struct copy {
	uint64_t job;
	bool done;
};

struct event {
	bool answered;
	uint64_t batch; /* number of its first event */
	uint64_t epoch, lsn;
	uint64_t
		asked_again; /* how many replays of ALL had been asked for when it was answered: those after it bring it again */
	struct copy copies[SUBSCRIPTIONS][COPIES_MAX];
};

static struct event events[EVENTS_MAX];
static uint64_t events_count;
static uint64_t set_up; /* how many requests of it have been answered */
static bool asked[SUBSCRIPTIONS], answered[SUBSCRIPTIONS];
static uint64_t begins[SUBSCRIPTIONS];         /* how often a beginning was asked for */
static uint64_t replays_sent, replay_answered; /* of ALL; the latest that was answered */
static uint64_t from_epoch, from_lsn;          /* where FROM begins */
static uint64_t published, replayed, unknown, again, steps_max;

/* ---- what is known ------------------------------------------------------------------------ */

static bool is_odd(uint64_t n)
{
	return n % 2 == 1;
}

static bool is_behind(const struct event *event)
{
	return event->epoch != from_epoch ? event->epoch > from_epoch : event->lsn > from_lsn;
}

static uint64_t count_copies(const struct event *event, int subscription)
{
	uint64_t count = 0;

	while (count < COPIES_MAX && event->copies[subscription][count].job != 0)
		count++;
	return count;
}

/* At least so many jobs of an answered event. */
static uint64_t wanted(const struct event *event, int subscription)
{
	switch (subscription) {
	case ALL:
		return replay_answered > event->asked_again ? 2 : 1;
	case ODD:
		return is_odd((uint64_t)(event - events));
	case TWIN:
		return 1;
	case LATE:
		return answered[LATE];
	default:
		return answered[FROM] && is_behind(event);
	}
}

static uint64_t allowed(const struct event *event, int subscription)
{
	switch (subscription) {
	case ALL:
		return 1 + replays_sent;
	case ODD:
		return is_odd((uint64_t)(event - events));
	case TWIN:
		return 1;
	case LATE:
		return begins[LATE];
	default:
		return event->answered && !is_behind(event) ? 0 : begins[FROM];
	}
}

static struct copy *copy_of(struct event *event, int subscription, uint64_t job)
{
	for (int i = 0; i < COPIES_MAX; i++) {
		struct copy *copy = &event->copies[subscription][i];

		if (copy->job == job)
			return copy;
		if (copy->job == 0) {
			copy->job = job;
			return copy;
		}
	}
	must(false, "event %d has more than %d jobs in %s", (int)(event - events), COPIES_MAX,
	     names[subscription]);
	return NULL;
}

/* ---- setting up --------------------------------------------------------------------------- */

static void on_set_up(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 200 || res.n == 201, "request %d of setting up: %d %.*s",
	     (int)client->at, (int)res.n, (int)body_of(res).len, body_of(res).data);
	if (!is_unknown(res) && client->at == set_up)
		set_up++;
	rest(client, res);
}

static void put(struct client *client, const char *path, const char *json, wh_callback *callback)
{
	static const char *const fields[] = {"Content-Type", "application/json", NULL};

	snprintf(client->path, sizeof client->path, "%s", path);
	ask(client, "PUT", client->path, json, fields, callback);
}

/* The topic, the queues of all subscriptions, and those that are there from the beginning. */
enum { SET_UP = 1 + SUBSCRIPTIONS + LATE };

static void set_up_next(struct client *client)
{
	char path[80];

	client->at = set_up;
	if (set_up == 0) {
		put(client, "/v1/topics/t", "{\"retention\":\"30d\",\"deduplicate\":\"30d\"}", on_set_up);
	} else if (set_up <= SUBSCRIPTIONS) {
		snprintf(path, sizeof path, "/v1/queues/t%%2F%s", names[set_up - 1]);
		put(client, path, "{\"attempts\":1000,\"time_to_run\":\"20s\",\"retention\":\"30d\"}",
		    on_set_up);
	} else {
		uint64_t which = set_up - 1 - SUBSCRIPTIONS;

		snprintf(path, sizeof path, "/v1/topics/t/subscriptions/%s", names[which]);
		put(client, path, which == ODD ? "{\"filters\":[{\"exact\":{\"kind\":\"odd\"}}]}" : "{}",
		    on_set_up);
	}
}

/* ---- publishing --------------------------------------------------------------------------- */

static void on_published(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct wh_slice body = body_of(res);

	must(is_unknown(res) || res.n == 202, "publishing: %d %.*s", (int)res.n, (int)body.len, body.data);
	unknown += is_unknown(res);
	for (uint64_t i = 0; !is_unknown(res) && i < client->more; i++) {
		struct event *event = &events[client->at + i];
		uint64_t epoch = event->epoch, lsn = event->lsn;
		char member[60];

		snprintf(member, sizeof member, "\"id\":\"%" PRIu64 "\",\"event\":\"", client->at + i);
		event->epoch = must_number(body, member);
		snprintf(member, sizeof member, "\"id\":\"%" PRIu64 "\",\"event\":\"%" PRIu64 "/",
		         client->at + i, event->epoch);
		event->lsn = must_number(body, member);
		must(!event->answered || (event->epoch == epoch && event->lsn == lsn),
		     "event %" PRIu64 " was published again, and is another one: %.*s", client->at + i,
		     (int)body.len, body.data);
		again += event->answered;
		if (!event->answered)
			event->asked_again = replays_sent;
		event->answered = true;
		published++;
	}
	rest(client, res);
}

static void send_events(struct client *client, uint64_t first, uint64_t count)
{
	static const char *const batch[] = {"Content-Type", "application/cloudevents-batch+json", NULL};
	static const char *const single[] = {"Content-Type", "application/cloudevents+json", NULL};
	bool is_batch = count > 1 || draw(2);
	size_t len = 0;

	client->at = first;
	client->more = count;
	if (is_batch)
		client->body[len++] = '[';
	for (uint64_t i = 0; i < count; i++) {
		uint64_t n = first + i;

		events[n].batch = first;
		len += (size_t)snprintf(
			client->body + len, sizeof client->body - len,
			"%s{\"specversion\":\"1.0\",\"id\":\"%" PRIu64
			"\",\"source\":\"/s\",\"type\":\"e\",\"kind\":\"%s\",\"data\":%" PRIu64 "}",
			i ? "," : "", n, is_odd(n) ? "odd" : "even", n);
	}
	snprintf(client->body + len, sizeof client->body - len, is_batch ? "]" : "");
	ask(client, "POST", "/v1/topics/t/events", client->body, is_batch ? batch : single, on_published);
}

static void publish(struct client *client)
{
	uint64_t count = draw(3) ? 1 : 2 + draw(BATCH_MAX - 1);

	if (events_count + count > EVENTS_MAX)
		return;
	events_count += count;
	send_events(client, events_count - count, count);
}

/* What was published before, whatever came of it: as a batch, if it was one. */
static void publish_again(struct client *client)
{
	uint64_t first = events[draw(events_count)].batch, count = 1;

	while (first + count < events_count && events[first + count].batch == first)
		count++;
	send_events(client, first, count);
}

/* ---- subscriptions that begin in the past ------------------------------------------------- */

static void on_subscribed(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 200 || res.n == 201, "a subscription: %d %.*s", (int)res.n,
	     (int)body_of(res).len, body_of(res).data);
	if (!is_unknown(res))
		answered[client->what] = true;
	else
		asked[client->what] = false; /* once more, which may have it begin twice */
	rest(client, res);
}

static bool subscribe(struct client *client, int which)
{
	char path[80], json[60];
	uint64_t n = events_count > 0 ? draw(events_count) : 0;

	if (asked[which] || events_count == 0)
		return false;
	if (which == FROM && begins[FROM] == 0) {
		if (!events[n].answered)
			return false;
		from_epoch = events[n].epoch;
		from_lsn = events[n].lsn;
	}
	asked[which] = true;
	begins[which]++;
	client->what = which;
	if (which == LATE)
		snprintf(json, sizeof json, "{\"from\":\"beginning\"}");
	else
		snprintf(json, sizeof json, "{\"from\":\"%" PRIu64 "/%" PRIu64 "\"}", from_epoch, from_lsn);
	snprintf(path, sizeof path, "/v1/topics/t/subscriptions/%s", names[which]);
	put(client, path, json, on_subscribed);
	return true;
}

static void on_again(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 202, "a replay: %d %.*s", (int)res.n, (int)body_of(res).len,
	     body_of(res).data);
	if (res.n == 202 && replay_answered < client->at)
		replay_answered = client->at;
	rest(client, res);
}

/* ---- working ------------------------------------------------------------------------------ */

static void on_completed(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 200 || res.n == 409, "a completion: %d", (int)res.n);
	if (res.n == 200)
		copy_of(&events[client->at], client->what, client->more)->done = true;
	rest(client, res);
}

static void on_reserved(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	const struct wh_http_response *response = res.ptr;
	char lease[64];
	const char *fields[] = {"Whilst-Lease", lease, NULL};

	must(is_unknown(res) || res.n == 200 || res.n == 204, "a reservation: %d", (int)res.n);
	if (res.n != 200) {
		rest(client, res);
		return;
	}
	struct wh_slice id = wh_http_response_header(response, "Whilst-Job");
	struct wh_slice position = wh_http_response_header(response, "Whilst-Event");
	struct wh_slice token = wh_http_response_header(response, "Whilst-Lease");
	uint64_t n = must_number(wh_http_response_header(response, "ce-id"), "");
	uint64_t epoch = must_number(position, ""), lsn = must_number(position, "/");
	must(n < events_count && must_number(response->body, "") == n, "an event that nobody published");
	struct event *event = &events[n];
	must(!event->answered || (event->epoch == epoch && event->lsn == lsn),
	     "event %" PRIu64 " was at %" PRIu64 "/%" PRIu64 ", and is at %.*s", n, event->epoch, event->lsn,
	     (int)position.len, position.data);
	must(client->what != ODD || is_odd(n), "event %" PRIu64 " does not pass", n);
	client->at = n;
	client->more = must_number(id, "");
	struct copy *copy = copy_of(event, client->what, client->more);
	must(!copy->done, "job %" PRIu64 " is done, and was given out again", client->more);
	must(count_copies(event, client->what) <= allowed(event, client->what),
	     "event %" PRIu64 " became %" PRIu64 " jobs of %s, of which %" PRIu64 " were asked for", n,
	     count_copies(event, client->what), names[client->what], allowed(event, client->what));
	snprintf(lease, sizeof lease, "%.*s", (int)token.len, token.data);
	rest(client, res);
	if (!drains && draw(8) == 0)
		return; /* a worker that died */
	snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64 "/complete", client->more);
	ask(client, "POST", client->path, "", fields, on_completed);
}

static void reserve(struct client *client)
{
	client->what = (int)draw(SUBSCRIPTIONS);
	snprintf(client->path, sizeof client->path, "/v1/queues/t%%2F%s/reserve", names[client->what]);
	ask(client, "POST", client->path, NULL, NULL, on_reserved);
}

static void begin(struct client *client)
{
	if (set_up < SET_UP) {
		set_up_next(client);
		return;
	}
	if (!drains && draw(5) == 0) {
		publish(client);
		if (!client->idle)
			return;
	}
	if (events_count > 0 && draw(drains ? 300 : 12) == 0) {
		publish_again(client);
		return;
	}
	if ((drains || draw(50) == 0) && subscribe(client, draw(2) ? LATE : FROM))
		return;
	if (!drains && replays_sent < 3 && draw(100) == 0) {
		client->at = ++replays_sent;
		ask(client, "POST", "/v1/topics/t/subscriptions/all/replay", NULL, NULL, on_again);
		return;
	}
	reserve(client);
}

/* ---- the end ------------------------------------------------------------------------------ */

/* In the queues, as the server counts. */
static uint64_t unfinished(void)
{
	uint64_t count = 0;

	for (int i = 0; i < SUBSCRIPTIONS; i++) {
		struct store_queue_view view;
		char name[20];
		int len = snprintf(name, sizeof name, "t/%s", names[i]);

		if (store_queue_now(store, (struct store_slice){name, (size_t)len}, &view) == 0)
			count += view.jobs[JOB_DELAYED] + view.jobs[JOB_READY] + view.jobs[JOB_RUNNING];
	}
	return count;
}

static bool all_there(void)
{
	for (uint64_t n = 0; n < events_count; n++) {
		const struct event *event = &events[n];

		for (int i = 0; event->answered && i < SUBSCRIPTIONS; i++)
			if (count_copies(event, i) < wanted(event, i))
				return false;
	}
	return unfinished() == 0;
}

static void check_event(uint64_t n)
{
	const struct event *event = &events[n], *first = &events[event->batch];
	uint64_t twin = count_copies(event, TWIN);

	must(!event->answered || twin == 1, "event %" PRIu64 " is lost", n);
	must(twin == count_copies(first, TWIN), "event %" PRIu64 " is there, or not, without its batch", n);
	must((count_copies(event, ALL) > 0) == (twin > 0), "event %" PRIu64 " came to one of two", n);
	must(count_copies(event, ODD) == (is_odd(n) ? twin : 0), "event %" PRIu64 " came to one of three", n);
	must(!answered[LATE] || (count_copies(event, LATE) > 0) == (twin > 0),
	     "event %" PRIu64 " is not what was kept", n);
	for (int i = 0; i < SUBSCRIPTIONS; i++)
		must(count_copies(event, i) <= allowed(event, i),
		     "event %" PRIu64 " was handed over too often", n);
	tally.checked++;
	tally.kept += event->answered;
	tally.lost += twin == 0;
}

/* Of two events that were answered, the later one is behind the other in each queue that neither came to by a replay. */
static void check_order(void)
{
	static const int queues[] = {ODD, TWIN};

	for (uint64_t a = 0; a < events_count; a++) {
		for (uint64_t b = 0; b < events_count && events[a].answered; b++) {
			if (!events[b].answered || events[a].epoch > events[b].epoch ||
			    (events[a].epoch == events[b].epoch && events[a].lsn >= events[b].lsn))
				continue;
			for (size_t i = 0; i < sizeof queues / sizeof *queues; i++) {
				uint64_t x = events[a].copies[queues[i]][0].job,
					 y = events[b].copies[queues[i]][0].job;

				must(x == 0 || y == 0 || x < y,
				     "events %" PRIu64 " and %" PRIu64 " are out of order", a, b);
			}
		}
	}
}

static void drain(void)
{
	make_peace();
	int64_t until = wh_sim_world_now(world) + 1800 * WH_NS_PER_S;
	while (set_up < SET_UP || !all_there() || (events_count > 0 && !answered[LATE])) {
		must(wh_sim_world_now(world) < until, "events that were promised do not come");
		step(20);
	}
	/* what comes too often, or out of nowhere, would come now */
	until = wh_sim_world_now(world) + 8 * WH_NS_PER_S;
	while (wh_sim_world_now(world) < until)
		step(100);
	for (uint64_t n = 0; n < events_count; n++)
		check_event(n);
	check_order();
	must(store_recount(store) == 0, "recount");
	replayed += replay_answered + answered[LATE] + answered[FROM];
}

static bool goes_on(uint64_t steps)
{
	return steps < steps_max || set_up < SET_UP;
}

static uint64_t run_once(void)
{
	memset(events, 0, sizeof events);
	memset(asked, 0, sizeof asked);
	memset(answered, 0, sizeof answered);
	memset(begins, 0, sizeof begins);
	events_count = set_up = replays_sent = replay_answered = from_epoch = from_lsn = 0;
	steps_max = plan.crash_at > 0 ? STEPS_CUT : STEPS;
	return live(goes_on, drain);
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	try_all("events", run_once, 6, 7);
	printf("%" PRIu64 " events published, %" PRIu64 " of them again, %" PRIu64
	       " requests of unknown outcome, %" PRIu64 " times handed over again\n",
	       published, again, unknown, replayed);
	must(published > 0 && again > 0 && unknown > 0 && replayed > 0, "nothing was tried");
	return 0;
}
