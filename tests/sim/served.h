/* tests/sim/served.h -- a server on a simulated machine whose power fails, for test programs whose clients are on others.
 *
 * The program says what is served: server_open() to server_free(). It may say how, before this: #define SERVED_CHECKPOINT_BYTES and
 * SERVED_COMPACT_SLACK, and SERVED_BLOB_BYTES, as of struct store_options.
 */
#ifndef TESTS_SIM_SERVED_H
#define TESTS_SIM_SERVED_H

#include "plan.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "store/store.h"

enum { LIVES_MAX = 20 };

#ifndef SERVED_CHECKPOINT_BYTES
#define SERVED_CHECKPOINT_BYTES 0
#define SERVED_COMPACT_SLACK    0
#endif
#ifndef SERVED_BLOB_BYTES
#define SERVED_BLOB_BYTES 0
#endif

static wh_sim_world *world;
static wh_sim *machine;
static wh_loop *loop; /* the server's */
static struct store *store;
static bool has_failed, drains;
static uint64_t life;

static int server_open(void);     /* over loop and store; 0 or -errno */
static int server_listen(int fd); /* takes fd; 0 or -errno */
static void server_close(void);   /* nothing opened: nothing */
static void server_free(void);    /* once the loop is closed */

static uint64_t draw(uint64_t below)
{
	return chance(below);
}

static void on_failure(int64_t error, const char *message, void *arg)
{
	has_failed = true; /* serve ends the process here */
}

static void stop_server(void)
{
	server_close();
	if (store)
		(void)store_close(store);
	loop = wh_loop_close(loop);
	server_free();
	store = NULL;
}

static bool start_server(int port)
{
	struct store_options options = {.directory = "/data",
	                                .segment_bytes = 1 << 16,
	                                .checkpoint_bytes = SERVED_CHECKPOINT_BYTES,
	                                .compact_slack = SERVED_COMPACT_SLACK,
	                                .blob_bytes = SERVED_BLOB_BYTES,
	                                .on_failure = on_failure};
	struct store_problem problem = {0};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	has_failed = false;
	loop = plan_loop(machine);
	int error = store_open(loop, &options, &store, &problem);
	must(error != -WH_EDAMAGED, "a crash was taken for damage: %s", problem.text);
	if (error == 0)
		error = server_open();
	if (error == 0) {
		int fd = wh_listen(loop, (struct sockaddr *)&any, sizeof any, NULL);
		error = fd < 0 ? fd : server_listen(fd);
	}
	must(error == 0 || !wh_sim_has_power(machine), "%s %s", wh_strerror(error), problem.text);
	return error == 0;
}

/* Power goes, or only the process; it comes back after a while, in which clients go on, and may go again at any disk
 * call, of recovery, too. */
static void restart_server(int port)
{
	static const int damages[] = {WH_SIM_RANDOM, WH_SIM_RANDOM,  WH_SIM_KEEP_NEW, WH_SIM_KEEP_OLD,
	                              WH_SIM_ZERO,   WH_SIM_GARBAGE, WH_SIM_KILLED};
	int crashes = 0;
	do {
		wh_sim_power_cut(machine);
		stop_server();
		tally.crashes++;
		must(wh_sim_world_run(world, (int64_t)draw(8000) * WH_NS_PER_MS) == 0, "run");
		struct wh_sim_options options = {.seed = plan.seed * 1000 + ++life};
		if (!drains && life < LIVES_MAX && draw(2))
			options.crash_at_io = 1 + draw(draw(2) ? 40 : 400);
		int damage = damages[draw(sizeof damages / sizeof *damages)];
		if (plan.crash_at > 0 && life == 1)
			damage = plan.damage;
		must(wh_sim_restart(machine, &options, damage) == 0, "restart");
		tally.crashes_in_recovery += crashes++ > 0;
		tally.recoveries++;
	} while (!start_server(port));
}

static void start_machine(int port)
{
	life = 0;
	drains = false;
	plan_watch();
	must(wh_sim_world_open(&world, &(struct wh_sim_world_options){.seed = plan.seed}) == 0, "world");
	struct wh_sim_options options = {.seed = plan.seed, .world = world, .crash_at_io = plan.crash_at};
	must(wh_sim_open(&machine, &options) == 0, "machine");
	if (start_server(port))
		return;
	must(plan.crash_at > 0, "first start");
	restart_server(port);
}

static void end_machine(void)
{
	stop_server();
	machine = wh_sim_close(machine);
	world = wh_sim_world_close(world);
}

/* Something happens to the server, or between it and the client. */
static inline void trouble(wh_sim *client)
{
	struct wh_sim_link bad = {.delay_min_ns = WH_NS_PER_US * 100,
	                          .delay_max_ns = (int64_t)(1 + draw(50)) * WH_NS_PER_MS,
	                          .lose_percent = (uint32_t)draw(20)};
	switch (draw(9)) {
	case 0:
		wh_sim_cut(world, client, machine);
		break;
	case 1:
		wh_sim_cut(world, machine, client);
		break;
	case 2:
		wh_sim_isolate(client);
		break;
	case 3:
		wh_sim_reset(world, client, machine);
		break;
	case 4:
		must(wh_sim_link(world, client, machine, &bad) == 0, "link");
		break;
	case 5:
		wh_sim_pause(machine, (int64_t)draw(3000) * WH_NS_PER_MS);
		break;
	case 6:
		if (life < LIVES_MAX)
			wh_sim_power_cut(machine);
		break;
	default:
		wh_sim_heal(world, NULL, NULL);
		must(wh_sim_link(world, NULL, NULL, NULL) == 0, "link");
		break;
	}
}

#endif
