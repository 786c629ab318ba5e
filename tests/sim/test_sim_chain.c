/* tests/sim/test_sim_chain.c -- chains of jobs whose links are transactions, while machines lose power and paths are cut: each link is there
 * exactly once.
 *
 * The first link of a chain is submitted under a key, by everybody and until it is known. Workers lease a link, and complete it and submit the next in one transaction; some are too slow, some die, all send a transaction
 * again whose answer they do not know. What must hold, as far as clients can see it:
 *
 * - a link that was seen has one id for ever: no successor is there twice;
 * - a transaction that was answered 200 is there after any crash, both halves of it; one that was not is there whole or not at all;
 * - at the end every chain has come to its last link: no successor is missing; and the queue counts as many jobs as there are links.
 *
 * One seed is one run: the traces of two runs are compared.
 */
#include "fronted.h"

#include "whilst/http.h"

enum { CLIENTS = 3, CHAINS = 12, LINKS = 8, PORT = 4480, STEPS = 900 };

#define ORIGIN "10.0.0.1:4480"

struct chain {
	uint64_t ids[LINKS]; /* 0: not seen yet */
	double done[LINKS];  /* a transaction that ends it was answered: the claim of its lease */
	bool begun;          /* its first link was answered */
};

struct client {
	wh_sim *machine;
	wh_loop *loop;
	wh_http_client *http;
	bool idle, again;     /* again: the outcome of the transaction in .body is not known */
	unsigned chain, link; /* of the request */
	double claim;         /* of the lease: rises with it */
	char body[256];
};

static struct client clients[CLIENTS];
static struct chain chains[CHAINS];
static uint64_t links_done, repeated, refused, unknown;

/* ---- the server --------------------------------------------------------------------------- */

static int server_open(void)
{
	return front_begin(NULL);
}

/* ---- clients ------------------------------------------------------------------------------ */

static void ask(struct client *client, const char *path, const char *key, const char *body,
                wh_callback *callback)
{
	struct wh_http_field field = {{"Idempotency-Key", 15}, {key, key ? strlen(key) : 0}};
	struct wh_http_request request = {.origin = ORIGIN,
	                                  .method = "POST",
	                                  .target = path,
	                                  .fields = &field,
	                                  .field_count = key != NULL,
	                                  .body = body,
	                                  .body_len = body ? strlen(body) : 0};
	client->idle = false;
	must(wh_then(wh_http_request(client->http, &request), callback, client) == 0, "then");
}

static void rest(struct client *client, wh_res res)
{
	wh_http_response_free(res.ptr);
	client->idle = true;
}

static uint64_t id_in(struct wh_slice text, const char *before)
{
	const char *at = memmem(text.data, text.len, before, strlen(before));

	must(at, "no %s in %.*s", before, (int)text.len, text.data);
	return strtoull(at + strlen(before), NULL, 10);
}

static double claim_of(struct wh_slice lease)
{
	const char *dot = memchr(lease.data, '.', lease.len);

	must(dot, "a lease without claim");
	return (double)strtoull(lease.data, NULL, 10) * 1e9 + (double)strtoull(dot + 1, NULL, 10);
}

static void see(unsigned chain, unsigned link, uint64_t id)
{
	uint64_t *known = &chains[chain].ids[link];

	must(*known == 0 || *known == id, "link %u of chain %u is there twice: %" PRIu64 " and %" PRIu64,
	     link, chain, *known, id);
	for (unsigned i = 0; i < CHAINS * LINKS; i++)
		must(chains[i / LINKS].ids[i % LINKS] != id || i == chain * LINKS + link,
		     "id %" PRIu64 " was given twice", id);
	*known = id;
}

static void on_begun(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(res.n < 0 || res.n == 202 || res.n == 503, "a first link was answered with %d", (int)res.n);
	if (res.n == 202) {
		see(client->chain, 0, id_in(((struct wh_http_response *)res.ptr)->body, "\"id\":"));
		chains[client->chain].begun = true;
	}
	rest(client, res);
}

static void on_acted(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct wh_slice body = res.n > 0 ? ((struct wh_http_response *)res.ptr)->body : (struct wh_slice){0};

	must(res.n < 0 || res.n == 200 || res.n == 409 || res.n == 503,
	     "a transaction was answered with %d: %.*s", (int)res.n, (int)body.len, body.data);
	client->again = res.n < 0 || res.n == 503;
	unknown += client->again;
	if (res.n == 200) {
		const char *second = memmem(body.data, body.len, "},{", 3);

		must(chains[client->chain].done[client->link] == 0, "link %u of chain %u ended twice",
		     client->link, client->chain);
		chains[client->chain].done[client->link] = client->claim;
		must((second != NULL) == (client->link + 1 < LINKS), "%.*s", (int)body.len, body.data);
		if (second)
			see(client->chain, client->link + 1,
			    id_in((struct wh_slice){second, body.len - (size_t)(second - body.data)},
			          "\"id\":"));
		links_done++;
	} else if (res.n == 409) {
		must(memmem(body.data, body.len, "\"cause\":\"lease-lost\"", 20), "%.*s", (int)body.len,
		     body.data);
		refused++;
	}
	rest(client, res);
}

static void on_reserved(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	const struct wh_http_response *response = res.ptr;
	uint64_t id;

	must(res.n < 0 || res.n == 200 || res.n == 204 || res.n == 503 || res.n == 404,
	     "a reservation was answered with %d", (int)res.n);
	if (res.n != 200) {
		rest(client, res);
		return;
	}
	must(response->body.len == 3 && response->body.data[0] >= 'a', "a payload that nobody sent");
	client->chain = (unsigned)(response->body.data[0] - 'a');
	client->link = (unsigned)(response->body.data[2] - '0');
	struct wh_slice lease = wh_http_response_header(response, "Whilst-Lease");
	id = id_in(wh_http_response_header(response, "Whilst-Job"), "");
	see(client->chain, client->link, id);
	/* an answer may have been on its way for longer than its lease */
	client->claim = claim_of(lease);
	must(chains[client->chain].done[client->link] == 0 ||
	             client->claim < chains[client->chain].done[client->link],
	     "link %u of chain %u had ended, and was given out again", client->link, client->chain);
	int len = snprintf(client->body, sizeof client->body,
	                   "{\"actions\":[{\"action\":\"complete\",\"job\":%" PRIu64 ",\"lease\":\"%.*s\"}",
	                   id, (int)lease.len, lease.data);
	if (client->link + 1 < LINKS)
		len += snprintf(
			client->body + len, sizeof client->body - (size_t)len,
			",{\"action\":\"submit\",\"queue\":\"links\",\"payload\":\"%c-%u\",\"attempts\":"
			"1000,\"time_to_run\":\"2s\",\"retention\":\"30d\"}",
			'a' + client->chain, client->link + 1);
	snprintf(client->body + len, sizeof client->body - (size_t)len, "]}");
	rest(client, res);
	client->again = drains || draw(6) > 0; /* else: a worker that died */
}

static void begin(struct client *client)
{
	if (client->again && draw(3) > 0) { /* now, or later, perhaps too late */
		repeated++;
		ask(client, "/v1/transactions", NULL, client->body, on_acted);
		return;
	}
	client->again = false;
	for (unsigned i = 0; i < CHAINS && draw(4) == 0; i++) {
		client->chain = (unsigned)draw(CHAINS);
		/* under its key, by anybody, until it is known to have begun; and now and then again */
		if (chains[client->chain].begun && draw(8) > 0)
			continue;
		snprintf(client->body, sizeof client->body, "%c-0", 'a' + client->chain);
		ask(client, "/v1/queues/links/jobs?attempts=1000&time-to-run=2s&retention=30d", client->body,
		    client->body, on_begun);
		return;
	}
	ask(client, "/v1/queues/links/reserve", NULL, NULL, on_reserved);
}

/* ---- the world ---------------------------------------------------------------------------- */

static void start_world(void)
{
	start_machine(PORT);
	for (int i = 0; i < CLIENTS; i++) {
		struct client *client = &clients[i];
		const struct wh_http_client_options options = {.connect_timeout_ns = 2 * WH_NS_PER_S,
		                                               .first_byte_timeout_ns = 5 * WH_NS_PER_S,
		                                               .read_timeout_ns = 2 * WH_NS_PER_S};
		*client = (struct client){.idle = true};
		must(wh_sim_open(&client->machine, &(struct wh_sim_options){.world = world}) == 0, "machine");
		client->loop = plan_loop(client->machine);
		must(wh_http_client_open(client->loop, &options, &client->http) == 0, "client");
	}
}

static void end_world(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		wh_http_client_close(clients[i].http);
		clients[i].loop = wh_loop_close(clients[i].loop);
		clients[i].machine = wh_sim_close(clients[i].machine);
	}
	end_machine();
}

static void step(void)
{
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].idle)
			begin(&clients[i]);
	must(wh_sim_world_run(world, (int64_t)(1 + draw(40)) * WH_NS_PER_MS) == 0, "run");
	if (!wh_sim_has_power(machine) || has_failed)
		restart_server(PORT);
}

/* As the server counts: jobs that are not finished; -1: none is known. */
static int64_t unfinished(struct store_queue_view *view)
{
	if (store_queue_now(store, STORE_SLICE("links"), view) != 0)
		return -1;
	return (int64_t)(view->jobs[JOB_DELAYED] + view->jobs[JOB_READY] + view->jobs[JOB_RUNNING]);
}

static bool all_done(struct store_queue_view *view)
{
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].again)
			return false;
	for (int i = 0; i < CHAINS; i++)
		if (!chains[i].begun)
			return false;
	return unfinished(view) == 0;
}

/* Peace: what was begun comes to its end. */
static void drain(void)
{
	struct store_queue_view view;
	uint64_t wanted = 0;

	drains = true;
	wh_sim_heal(world, NULL, NULL);
	must(wh_sim_link(world, NULL, NULL, NULL) == 0, "link");
	wh_sim_power_cut(machine);
	restart_server(PORT);
	int64_t until = wh_sim_world_now(world) + 1800 * WH_NS_PER_S;
	while (!all_done(&view)) {
		must(wh_sim_world_now(world) < until, "links are missing");
		step();
	}
	for (unsigned i = 0; i < CHAINS; i++) {
		for (unsigned k = 0; k < LINKS; k++) {
			must(chains[i].ids[k] != 0, "link %u of chain %u is missing", k, i);
			wanted++;
		}
	}
	must(view.submitted == wanted && view.jobs[JOB_DONE] == wanted,
	     "%" PRIu64 " links were submitted, %" PRIu64 " are done, %" PRIu64 " wanted", view.submitted,
	     view.jobs[JOB_DONE], wanted);
	tally.checked += wanted;
	tally.kept += wanted;
}

static uint64_t run_once(void)
{
	memset(chains, 0, sizeof chains);
	chance_state = plan.seed * 77;
	start_world();
	for (int i = 0; i < STEPS; i++) {
		if (draw(8) == 0)
			trouble(clients[draw(CLIENTS)].machine);
		step();
	}
	drain();
	uint64_t trace = wh_sim_world_trace(world);
	end_world();
	tally.runs++;
	return trace;
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	plan_seeds("chain", run_once, 30);
	printf("%" PRIu64 " links done, %" PRIu64 " transactions sent, %" PRIu64 " refused, %" PRIu64
	       " of unknown outcome\n",
	       links_done, repeated, refused, unknown);
	must(links_done > 0 && refused > 0 && unknown > 0, "nothing was tried");
	return 0;
}
