/* tests/sim/test_sim_moves.c -- transactions that move a job, call another one back and edit a third, asked of a whole server while power is cut at any
 * disk call and paths are cut: each is there whole, and once, or not at all.
 *
 * Jobs come in threes: one wanders between two queues, one ends badly and is called back (it fails, or dies into another queue, or is buried), and
 * one has the number of the latest round for its priority. A round is one transaction about all three, under a key, sent until it is
 * answered. Between two of them the three are looked at. What must hold:
 *
 * - all three are where one and the same round has left them: no earlier one than was answered, no later one than was sent;
 * - what is called back has its payload, and can be leased; what is refused (a lease was lost) has changed none of the three;
 * - in the end there are as many jobs as were submitted, and the counters agree with a recount.
 *
 * One seed is one run: the traces of two runs are compared.
 */
#define SERVED_CHECKPOINT_BYTES (24 << 10)
#define SERVED_COMPACT_SLACK    (64 << 10)
#include "asking.h"

enum { TRIOS = 6, STEPS = 700, STEPS_CUT = 100, SET_UP = 4, ROUNDS_LEAST = 4, SHOWN_MAX = 4096 };
enum { WANDERS, RETURNS, COUNTS }; /* the three */
enum { FAILS, DIES, IS_BURIED };   /* how the second one ends: trio % 3 */

struct trio {
	uint64_t ids[3]; /* 0: not answered yet */
	unsigned set_up; /* requests of it that were answered */
	uint64_t round;  /* that was answered; odd: the second one has ended, the first one is on the right */
	uint64_t tries;  /* of the next one; each has a key of its own */
	bool sent;       /* .body is the next round, whose outcome is not known */
	bool leased;
	char lease[48], body[600], key[48];
	/* a look: the number before, the first two, and the number again */
	unsigned look;
	uint64_t seen;
	char bytes[2][SHOWN_MAX];
	struct wh_slice shown[2]; /* in .bytes */
	bool agrees;              /* since all is peaceful */
};

static struct trio trios[TRIOS];
static uint64_t rounds, refused, unknown, looked, steps_max;

static struct trio *trio_of(const struct client *client)
{
	return &trios[client->what];
}

static int end_of(const struct trio *trio)
{
	return (int)((trio - trios) % 3);
}

/* ---- setting up --------------------------------------------------------------------------- */

static void on_set_up(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 200 || res.n == 201, "setting up: %d %.*s", (int)res.n,
	     (int)body_of(res).len, body_of(res).data);
	unknown += is_unknown(res);
	if (!is_unknown(res))
		trio_of(client)->set_up++;
	rest(client, res);
}

static void on_submitted(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct wh_slice body = body_of(res);

	must(is_unknown(res) || res.n == 200, "submitting: %d %.*s", (int)res.n, (int)body.len, body.data);
	for (int i = 0; i < 3 && res.n == 200; i++) {
		trio_of(client)->ids[i] = must_number(body, "\"id\":");
		const char *next = memmem(body.data, body.len, "\"id\":", 5);
		body = (struct wh_slice){next + 5, body.len - (size_t)(next + 5 - body.data)};
	}
	rest(client, res);
}

static void set_up(struct client *client)
{
	static const char *const fields[] = {"Content-Type", "application/json", NULL};
	struct trio *trio = trio_of(client);
	char json[80] = "{}";

	if (trio->set_up < 2)
		snprintf(client->path, sizeof client->path, "/v1/queues/%s", trio->set_up ? "right" : "left");
	else if (trio->set_up == 2)
		snprintf(client->path, sizeof client->path, "/v1/queues/dead");
	else
		snprintf(client->path, sizeof client->path, "/v1/queues/again-%d", client->what);
	if (trio->set_up == 3 && end_of(trio) == DIES)
		snprintf(json, sizeof json, "{\"dead_letter\":\"dead\"}");
	ask(client, "PUT", client->path, json, fields, on_set_up);
}

static void submit(struct client *client)
{
	const char *const fields[] = {"Content-Type", "application/json", "Idempotency-Key",
	                              trio_of(client)->key, NULL};
	int n = client->what;

	snprintf(trio_of(client)->key, sizeof trio_of(client)->key, "new-%d", n);
	snprintf(client->body, sizeof client->body,
	         "{\"actions\":[{\"action\":\"submit\",\"queue\":\"left\",\"payload\":\"w-%d\",\"delay\":"
	         "\"300d\"},"
	         "{\"action\":\"submit\",\"queue\":\"again-%d\",\"payload\":\"r-%d\",\"attempts\":1000,"
	         "\"time_to_run\":\"2s\",\"retention\":\"300d\"},"
	         "{\"action\":\"submit\",\"queue\":\"numbers\",\"payload\":\"n-%d\",\"priority\":0}]}",
	         n, n, n, n);
	ask(client, "POST", "/v1/transactions", client->body, fields, on_submitted);
}

/* ---- rounds ------------------------------------------------------------------------------- */

static void on_reserved(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct trio *trio = trio_of(client);
	const struct wh_http_response *response = res.ptr;
	char payload[16];

	must(is_unknown(res) || res.n == 200 || res.n == 204, "a reservation was answered with %d",
	     (int)res.n);
	if (res.n == 200) {
		struct wh_slice lease = wh_http_response_header(response, "Whilst-Lease");
		int len = snprintf(payload, sizeof payload, "r-%d", client->what);

		must(number_behind(wh_http_response_header(response, "Whilst-Job"), "", 0) ==
		             trio->ids[RETURNS],
		     "another job");
		must(response->body.len == (size_t)len && !memcmp(response->body.data, payload, (size_t)len),
		     "its payload is '%.*s'", (int)response->body.len, response->body.data);
		must(trio->round % 2 == 0, "it has ended, and was leased");
		snprintf(trio->lease, sizeof trio->lease, "%.*s", (int)lease.len, lease.data);
		trio->leased = true;
	}
	rest(client, res);
}

/* The three actions, in an order of chance. */
static void write_round(struct client *client)
{
	struct trio *trio = trio_of(client);
	uint64_t next = trio->round + 1, turn = draw(3);
	char parts[3][200];
	static const char *const ends[] = {[FAILS] = "\"fail\",\"retry\":false",
	                                   [DIES] = "\"fail\",\"retry\":false",
	                                   [IS_BURIED] = "\"bury\""};

	snprintf(parts[WANDERS], sizeof parts[0], "{\"action\":\"move\",\"job\":%" PRIu64 ",\"to\":\"%s\"}",
	         trio->ids[WANDERS], next % 2 ? "right" : "left");
	if (next % 2)
		snprintf(parts[RETURNS], sizeof parts[0],
		         "{\"action\":%s,\"job\":%" PRIu64 ",\"lease\":\"%s\",\"error\":\"round %" PRIu64
		         "\"}",
		         ends[end_of(trio)], trio->ids[RETURNS], trio->lease, next);
	else
		snprintf(parts[RETURNS], sizeof parts[0], "{\"action\":\"replay\",\"job\":%" PRIu64 "}",
		         trio->ids[RETURNS]);
	snprintf(parts[COUNTS], sizeof parts[0],
	         "{\"action\":\"edit\",\"job\":%" PRIu64 ",\"priority\":%" PRIu64 "}", trio->ids[COUNTS],
	         next);
	snprintf(trio->body, sizeof trio->body, "{\"actions\":[%s,%s,%s]}", parts[turn],
	         parts[(turn + 1) % 3], parts[(turn + 2) % 3]);
	snprintf(trio->key, sizeof trio->key, "round-%d-%" PRIu64 "-%" PRIu64, client->what, next,
	         trio->tries++);
	trio->sent = true;
	trio->leased = false;
}

static void on_round(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct trio *trio = trio_of(client);
	struct wh_slice body = body_of(res);

	must(is_unknown(res) || res.n == 200 || res.n == 409, "a round was answered with %d: %.*s",
	     (int)res.n, (int)body.len, body.data);
	unknown += is_unknown(res);
	if (res.n == 200) {
		trio->round++;
		trio->tries = 0;
		trio->sent = false;
		rounds++;
	} else if (res.n ==
	           409) { /* and so for ever: the job came back before, whatever is still on its way */
		must(trio->round % 2 == 0 && has(body, "\"cause\":\"lease-lost\""), "%.*s", (int)body.len,
		     body.data);
		trio->sent = false;
		refused++;
	}
	rest(client, res);
}

static void send_round(struct client *client)
{
	const char *const fields[] = {"Content-Type", "application/json", "Idempotency-Key",
	                              trio_of(client)->key, NULL};

	ask(client, "POST", "/v1/transactions", trio_of(client)->body, fields, on_round);
}

static void reserve(struct client *client)
{
	snprintf(client->path, sizeof client->path, "/v1/queues/again-%d/reserve", client->what);
	ask(client, "POST", client->path, NULL, NULL, on_reserved);
}

static void go_on_with(struct client *client)
{
	if (!trio_of(client)->sent)
		write_round(client);
	send_round(client);
}

/* ---- looking ------------------------------------------------------------------------------ */

static void check_wanders(const struct trio *trio, struct wh_slice body)
{
	must(has(body, trio->seen % 2 ? "\"queue\":\"right\"" : "\"queue\":\"left\"") &&
	             has(body, "\"state\":\"delayed\""),
	     "round %" PRIu64 ", and another place: %.*s", trio->seen, (int)body.len, body.data);
}

static void check_returns(const struct trio *trio, struct wh_slice body)
{
	static const char *const ended[] = {[FAILS] = "\"state\":\"failed\"",
	                                    [DIES] = "\"queue\":\"dead\"",
	                                    [IS_BURIED] = "\"state\":\"buried\""};
	bool waits = has(body, "\"state\":\"ready\"") || has(body, "\"state\":\"running\"") ||
	             has(body, "\"state\":\"delayed\"");
	char queue[40];

	snprintf(queue, sizeof queue, "\"queue\":\"again-%d\"", (int)(trio - trios));
	if (trio->seen % 2)
		must(has(body, ended[end_of(trio)]), "round %" PRIu64 ", and has not ended: %.*s", trio->seen,
		     (int)body.len, body.data);
	else
		must(waits && has(body, queue), "round %" PRIu64 ", and not called back: %.*s", trio->seen,
		     (int)body.len, body.data);
}

/* What was seen between two looks at the same number belongs to that round. */
static void on_looked(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct trio *trio = trio_of(client);
	struct wh_slice body = body_of(res);
	unsigned at = trio->look;

	must(is_unknown(res) || res.n == 200, "a job was answered with %d", (int)res.n);
	trio->look = is_unknown(res) ? 0 : (at + 1) % 4;
	if (res.n == 200 && at % 3 == 0) {
		uint64_t number = must_number(body, "\"priority\":");

		must(number >= trio->round && number <= trio->round + trio->sent,
		     "round %" PRIu64 " was answered, %d sent, and it is %" PRIu64, trio->round, trio->sent,
		     number);
		if (at == 3 && number == trio->seen) {
			check_wanders(trio, trio->shown[0]);
			check_returns(trio, trio->shown[1]);
			trio->agrees = drains;
			looked++;
		}
		trio->seen = number;
	} else if (res.n == 200) {
		must(body.len < SHOWN_MAX, "a long answer");
		memcpy(trio->bytes[at - 1], body.data, body.len);
		trio->shown[at - 1] = (struct wh_slice){trio->bytes[at - 1], body.len};
	}
	rest(client, res);
}

static void look(struct client *client)
{
	static const int which[] = {COUNTS, WANDERS, RETURNS, COUNTS};
	struct trio *trio = trio_of(client);

	snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64, trio->ids[which[trio->look]]);
	ask(client, "GET", client->path, NULL, NULL, on_looked);
}

/* ---- the world ---------------------------------------------------------------------------- */

static void begin(struct client *client)
{
	int own = (int)(client - clients);
	struct trio *trio;

	client->what = own + CLIENTS * (int)draw(TRIOS / CLIENTS);
	trio = trio_of(client);
	if (trio->set_up < SET_UP)
		set_up(client);
	else if (trio->ids[0] == 0)
		submit(client);
	else if (trio->look != 0 || draw(3) == 0)
		look(client);
	else if (trio->round % 2 == 1 && !trio->sent && draw(6) == 0)
		reserve(client); /* in vain */
	else if (trio->sent || trio->round % 2 == 1 || trio->leased)
		go_on_with(client);
	else if (!drains || trio->round < ROUNDS_LEAST)
		reserve(client);
	else
		look(client);
}

static bool all_done(void)
{
	for (int i = 0; i < TRIOS; i++)
		if (trios[i].sent || trios[i].round < ROUNDS_LEAST || !trios[i].agrees)
			return false;
	return true;
}

static void drain(void)
{
	struct store_stats stats;
	uint64_t jobs = 0;

	make_peace();
	int64_t until = wh_sim_world_now(world) + 1800 * WH_NS_PER_S;
	while (!all_done()) {
		must(wh_sim_world_now(world) < until, "rounds are not answered");
		step(20);
	}
	store_stats(store, &stats);
	for (int state = 1; state < JOB_STATES; state++)
		jobs += stats.jobs[state];
	must(jobs == 3 * TRIOS, "%" PRIu64 " jobs of %d", jobs, 3 * TRIOS);
	must(store_recount(store) == 0, "recount");
	for (int i = 0; i < TRIOS; i++) {
		tally.checked += trios[i].round;
		tally.kept += trios[i].round;
	}
}

static bool goes_on(uint64_t steps)
{
	return steps < steps_max;
}

static uint64_t run_once(void)
{
	memset(trios, 0, sizeof trios);
	steps_max = plan.crash_at > 0 ? STEPS_CUT : STEPS;
	return live(goes_on, drain);
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	try_all("moves", run_once, 6, 7);
	printf("%" PRIu64 " rounds of three actions, %" PRIu64 " refused, %" PRIu64
	       " requests of unknown outcome, %" PRIu64 " looks at all three\n",
	       rounds, refused, unknown, looked);
	must(rounds > 0 && refused > 0 && unknown > 0 && looked > 0, "nothing was tried");
	return 0;
}
