/* tests/sim/asking.h -- the whole server behind served.h, and client machines that ask it over HTTP, one request each at a time.
 *
 * A client knows of nothing but answers. The program says what its clients do next: begin(). If it says, before this, #define ASKING_STARTED
 * FUNCTION, that one looks at each store that has started before anybody asks it; 0 or -errno.
 */
#ifndef TESTS_SIM_ASKING_H
#define TESTS_SIM_ASKING_H

#include "fronted.h"

#include "deliver/ranges.h"
#include "deliver/sign.h"
#include "whilst/http.h"

enum { PORT = 4480, CLIENTS = 3 };

#define ORIGIN "10.0.0.1:4480"

struct client {
	wh_sim *machine;
	wh_loop *loop;
	wh_http_client *http;
	bool idle;
	int what;          /* for the program: of the request under way */
	uint64_t at, more; /* likewise */
	char path[160], body[1024], fields[3][160];
};

static bool calls_back;
static struct client clients[CLIENTS];
static bool has_been_cut; /* in this run, before its peace */

static void begin(struct client *client);
#ifdef ASKING_STARTED
static int ASKING_STARTED(void);
#endif

/* ---- the server --------------------------------------------------------------------------- */

static int server_open(void)
{
	static const char text[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr\n";
	struct ranges ranges = {.allow_all = true};
	struct secrets secrets;
	const char *detail = "";
	unsigned line;
	int error = front_begin(&ranges);

#ifdef ASKING_STARTED
	if (error == 0)
		error = ASKING_STARTED();
#endif
	if (error < 0)
		return error;
	error = secrets_read(text, sizeof text - 1, &secrets, &line, &detail);
	must(error == 0 || error == -ENOSYS, "%s", detail);
	calls_back = error == 0; /* built with OpenSSL */
	return calls_back ? front_use_secrets(front, &secrets) : 0;
}

/* ---- asking ------------------------------------------------------------------------------- */

/* Texts are copied, but for those in the client itself. fields: name, value, name ..., NULL. */
static inline void ask(struct client *client, const char *method, const char *path, const char *body,
                       const char *const *fields, wh_callback *callback)
{
	struct wh_http_field given[4];
	size_t count = 0;

	for (; fields && fields[2 * count]; count++)
		given[count] = (struct wh_http_field){{fields[2 * count], strlen(fields[2 * count])},
		                                      {fields[2 * count + 1], strlen(fields[2 * count + 1])}};
	struct wh_http_request request = {.origin = ORIGIN,
	                                  .method = method,
	                                  .target = path,
	                                  .fields = given,
	                                  .field_count = count,
	                                  .body = body,
	                                  .body_len = body ? strlen(body) : 0,
	                                  .no_retry = true};
	client->idle = false;
	must(wh_then(wh_http_request(client->http, &request), callback, client) == 0, "then");
}

/* Whatever was asked, the answer is there or will never be. */
static inline void rest(struct client *client, wh_res res)
{
	if (res.n >= 0)
		wh_http_response_free(res.ptr);
	client->idle = true;
}

static inline struct wh_slice body_of(wh_res res)
{
	return res.n > 0 ? ((const struct wh_http_response *)res.ptr)->body : (struct wh_slice){"", 0};
}

/* The number behind the first place of some text; absent: what is given. */
static inline uint64_t number_behind(struct wh_slice text, const char *before, uint64_t otherwise)
{
	const char *at = text.data ? memmem(text.data, text.len, before, strlen(before)) : NULL;
	uint64_t number = 0;

	if (!at || at + strlen(before) == text.data + text.len)
		return otherwise;
	for (at += strlen(before); at < text.data + text.len && *at >= '0' && *at <= '9'; at++)
		number = number * 10 + (uint64_t)(*at - '0');
	return number;
}

static inline uint64_t must_number(struct wh_slice text, const char *before)
{
	uint64_t number = number_behind(text, before, UINT64_MAX);

	must(number != UINT64_MAX, "no %s in %.*s", before, (int)text.len, text.data);
	return number;
}

static inline bool has(struct wh_slice text, const char *part)
{
	return text.data && memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* Unanswered, or refused for now. */
static inline bool is_unknown(wh_res res)
{
	return res.n < 0 || res.n == 503;
}

/* ---- the world ---------------------------------------------------------------------------- */

static inline void start_clients(void)
{
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

static inline void end_clients(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		wh_http_client_close(clients[i].http);
		clients[i].loop = wh_loop_close(clients[i].loop);
		clients[i].machine = wh_sim_close(clients[i].machine);
	}
}

static inline void step(int64_t ms_max)
{
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].idle)
			begin(&clients[i]);
	must(wh_sim_world_run(world, (int64_t)(1 + draw((uint64_t)ms_max)) * WH_NS_PER_MS) == 0, "run");
	if (!wh_sim_has_power(machine) || has_failed) {
		has_been_cut |= !drains;
		restart_server(PORT);
	}
}

/* Peace, after one more power cut. */
static inline void make_peace(void)
{
	drains = true;
	wh_sim_heal(world, NULL, NULL);
	must(wh_sim_link(world, NULL, NULL, NULL) == 0, "link");
	wh_sim_power_cut(machine);
	restart_server(PORT);
}

/* The life of a plan: trouble, unless power is cut at a call, as long as goes_on(steps so far); then drain(), which makes peace and sees what has come
 * of it all. Returns the trace. */
static inline uint64_t live(bool (*goes_on)(uint64_t steps), void (*drain)(void))
{
	uint64_t trace;

	chance_state = plan.seed * 77;
	start_machine(PORT);
	has_been_cut = life > 0;
	start_clients();
	for (uint64_t i = 0; goes_on(i); i++) {
		if (plan.crash_at == 0 && draw(8) == 0)
			trouble(clients[draw(CLIENTS)].machine);
		step(40);
	}
	drain();
	trace = wh_sim_world_trace(world);
	end_clients();
	end_machine();
	tally.runs++;
	return trace;
}

/* ---- plans -------------------------------------------------------------------------------- */

/* Runs by seeds, with trouble, the first one twice; and runs without it, but for a power cut at each stride-th disk call of
 * their first life, until that has ended before it comes to so many. */
static inline void try_all(const char *name, plan_run *run_once, uint64_t seeds_otherwise, uint64_t stride)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1);
	uint64_t seeds = env_number("WHILST_SIM_SEEDS", seeds_otherwise);
	uint64_t begin_at = first % stride + 1, cuts = 0;
	double from = seconds();

	plan_each_seed(run_once, first, seeds);
	if (seeds > seeds_otherwise)
		begin_at = stride = 1;
	for (uint64_t at = begin_at; cuts == 0 || has_been_cut; at += stride, cuts++) {
		plan = (struct plan){
			.seed = first, .crash_at = at, .damage = (int)(at / stride % (WH_SIM_KILLED + 1))};
		(void)run_once();
	}
	printf("%" PRIu64 " runs with a power cut each, at every disk call that is a multiple of %" PRIu64
	       "\n",
	       cuts, stride);
	must(cuts > 10, "hardly any disk calls");
	tally_print(name, first, seeds, from);
}

#endif
