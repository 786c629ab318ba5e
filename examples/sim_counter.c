/* sim_counter.c -- a small server and its clients, tested on simulated machines; docs/testing-with-sim.md explains it.
 *
 *     sim_counter [SEEDS [FIRST]]              nothing is found
 *     sim_counter SEEDS FIRST answer-early     the server answers before the disk has it: found
 *     sim_counter SEEDS FIRST forget-ids       the server does not know a repeated request: found
 *
 * The server adds numbers and keeps the sum on disk. A request is "ID AMOUNT\n", its answer "ok\n"; a client that got no
 * answer asks again, with the same id. The promise: when all clients have their answers, the sum is what they have added,
 * whatever happened to machines and network meanwhile.
 *
 * Program and test are one file here. Nothing in the first half knows that it is simulated: it would run on any engine.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/sim.h>

enum { PORT = 9000, RECORD = 512 /* a sector: two records never share one */, IDS_MAX = 1000 };

static bool answer_early, forget_ids;

/* ---- the server -------------------------------------------------------------------------- */

struct record {
	uint64_t id, amount, check;
	char padding[RECORD - 24];
};

struct server {
	wh_loop *loop;
	int listener, disk;
	uint64_t records, sum;
	bool seen[IDS_MAX];
	struct record record;
	bool busy;
	struct connection *current; /* whose request is being written; NULL: has its answer already */
	struct connection *first;   /* those that wait behind it */
};

struct connection {
	struct server *server;
	struct connection *next;
	int fd;
	char line[64];
	size_t len;
};

static void receive(struct connection *c);
static void write_next(struct server *s);

static uint64_t check_of(const struct record *r)
{
	return (r->id * 31 + r->amount) * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void hang_up(struct connection *c)
{
	wh_drop(wh_close(c->server->loop, c->fd));
	free(c);
}

static void on_answered(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop;
	if (res.n < 0)
		hang_up(arg);
	else
		receive(arg);
}

static void answer(struct connection *c)
{
	wh_then(wh_send_all(c->server->loop, c->fd, "ok\n", 3), on_answered, c);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct server *s = arg;
	struct connection *c = s->current;
	(void)loop;
	s->busy = false;
	if (res.n >= 0) {
		s->records++;
		s->sum += s->record.amount;
		s->seen[s->record.id] = true;
	}
	if (c && res.n < 0)
		hang_up(c); /* the client will ask again */
	else if (c)
		answer(c);
	write_next(s);
}

static void on_in_cache(wh_loop *loop, wh_res res, void *arg)
{
	struct server *s = arg;
	if (res.n < 0)
		on_written(loop, res, arg);
	else
		wh_then(wh_fsync(loop, s->disk, true), on_written, s);
}

static void write_next(struct server *s)
{
	struct connection *c;
	while (!s->busy && (c = s->first)) {
		uint64_t id = strtoull(c->line, NULL, 10) % IDS_MAX;
		const char *amount = strchr(c->line, ' ');
		s->first = c->next;
		if (s->seen[id] && !forget_ids) {
			answer(c); /* done before; that answer was lost */
			continue;
		}
		s->busy = true;
		s->current = c;
		s->record.id = id;
		s->record.amount = amount ? strtoull(amount, NULL, 10) : 0;
		s->record.check = check_of(&s->record);
		wh_then(wh_pwrite_all(s->loop, s->disk, &s->record, RECORD, s->records * RECORD), on_in_cache,
		        s);
		if (answer_early) {
			s->current = NULL;
			answer(c);
		}
	}
}

static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	struct connection *c = arg, **last = &c->server->first;
	(void)loop;
	if (res.n <= 0) {
		hang_up(c);
		return;
	}
	c->len += (size_t)res.n;
	if (c->line[c->len - 1] != '\n') { /* a part of a line: that comes true here */
		receive(c);
		return;
	}
	c->line[c->len - 1] = 0;
	c->len = 0;
	c->next = NULL;
	while (*last)
		last = &(*last)->next;
	*last = c;
	write_next(c->server);
}

static void receive(struct connection *c)
{
	wh_then(wh_recv(c->server->loop, c->fd, c->line + c->len, sizeof c->line - c->len), on_received, c);
}

static void on_accepted(wh_loop *loop, wh_res res, void *arg)
{
	struct server *s = arg;
	struct connection *c;
	if (res.n < 0)
		return;
	c = calloc(1, sizeof *c);
	c->server = s;
	c->fd = (int)res.n;
	receive(c);
	wh_then(wh_accept(loop, s->listener), on_accepted, s);
}

/* 0, or why it cannot start: on a simulated machine, that power went again. */
static int64_t start(struct server *s, wh_loop *loop)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	*s = (struct server){.loop = loop};
	wh_res folder, file = wh_await(wh_open(loop, "/sum", O_RDWR | O_CREAT, 0600));
	if (file.n < 0)
		return file.n;
	s->disk = (int)file.n;
	folder = wh_await(wh_open(loop, "/", O_RDONLY | O_DIRECTORY, 0));
	if (folder.n < 0)
		return folder.n;
	int64_t n = wh_await(wh_fsync(loop, (int)folder.n, false)).n; /* the file's name is on disk, too */
	while (n >= 0) {
		n = wh_await(wh_pread_all(loop, s->disk, &s->record, RECORD, s->records * RECORD)).n;
		if (n != RECORD || s->record.check != check_of(&s->record) || s->record.id >= IDS_MAX)
			break; /* what was being written when power went */
		s->seen[s->record.id] = true;
		s->sum += s->record.amount;
		s->records++;
	}
	memset(&s->record, 0, sizeof s->record);
	if (n < 0)
		return n;
	s->listener = wh_listen(loop, (struct sockaddr *)&any, sizeof any, NULL);
	if (s->listener < 0)
		return s->listener;
	wh_then(wh_accept(loop, s->listener), on_accepted, s);
	return 0;
}

/* ---- a client ---------------------------------------------------------------------------- */

struct client {
	wh_loop *loop;
	int fd; /* -1: not connected */
	uint64_t next_id, amount, added;
	bool idle;
	char line[64], answer[4];
	size_t len;
};

static void ask(struct client *c);

static void again(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop;
	if (res.n >= 0)
		ask(arg);
}

/* No answer: the request may have been done or not. Ask again, with the same id. */
static void lost(struct client *c)
{
	if (c->fd >= 0)
		wh_drop(wh_close(c->loop, c->fd));
	c->fd = -1;
	wh_then(wh_sleep(c->loop, 300 * WH_NS_PER_MS), again, c);
}

static void on_answer(wh_loop *loop, wh_res res, void *arg)
{
	struct client *c = arg;
	if (res.n == -WH_ESIM_POWER_CUT || res.n == -ECANCELED)
		return;
	c->len += res.n > 0 ? (size_t)res.n : 0;
	if (res.n > 0 && c->len < 3) {
		wh_then(wh_recv(loop, c->fd, c->answer + c->len, 3 - c->len), on_answer, c);
	} else if (res.n > 0 && memcmp(c->answer, "ok\n", 3) == 0) {
		c->added += c->amount;
		c->idle = true;
	} else {
		lost(c);
	}
}

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct client *c = arg;
	if (res.n < 0) {
		lost(c);
		return;
	}
	c->len = 0;
	wh_then(wh_deadline(wh_recv(loop, c->fd, c->answer, 3), wh_now(loop) + 2 * WH_NS_PER_S), on_answer,
	        c);
}

static void on_connected(wh_loop *loop, wh_res res, void *arg)
{
	struct client *c = arg;
	(void)loop;
	c->fd = res.n < 0 ? -1 : (int)res.n;
	if (res.n < 0)
		lost(c);
	else
		ask(c);
}

static void ask(struct client *c)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	address.sin_addr.s_addr = htonl(0x0a000001); /* 10.0.0.1, the first machine of a world */
	if (c->fd < 0)
		wh_then(wh_deadline(wh_connect(c->loop, (struct sockaddr *)&address, sizeof address),
		                    wh_now(c->loop) + 2 * WH_NS_PER_S),
		        on_connected, c);
	else
		wh_then(wh_send_all(c->loop, c->fd, c->line, strlen(c->line)), on_sent, c);
}

/* ---- the test ---------------------------------------------------------------------------- */

enum { CLIENTS = 2, ROUNDS = 300 };

static wh_loop *open_loop(wh_sim *machine)
{
	wh_loop *loop = NULL;
	struct wh_loop_options options = {.engine = WH_SIM, .sim = machine};
	if (wh_loop_open(&loop, &options) != 0)
		abort();
	return loop;
}

/* The server's machine loses power, and starts until it is up: power may go again meanwhile. */
static void restart(wh_sim_world *world, wh_sim *machine, struct server *server, bool peace)
{
	do {
		struct wh_sim_options options = {.seed = wh_sim_world_draw(world, 1000000)};
		if (!peace && wh_sim_world_draw(world, 2))
			options.crash_at_io = 1 + wh_sim_world_draw(world, 60);
		wh_sim_power_cut(machine);
		server->loop = wh_loop_close(server->loop);
		if (wh_sim_restart(machine, &options, WH_SIM_RANDOM) != 0)
			abort();
	} while (start(server, open_loop(machine)) != 0);
}

static void trouble(wh_sim_world *world, wh_sim *server, wh_sim *client)
{
	switch (wh_sim_world_draw(world, 8)) {
	case 0:
		wh_sim_power_cut(server);
		break;
	case 1:
		wh_sim_cut(world, client, server); /* requests do not arrive */
		break;
	case 2:
		wh_sim_cut(world, server, client); /* answers do not */
		break;
	case 3:
		wh_sim_reset(world, client, server);
		break;
	default:
		wh_sim_heal(world, NULL, NULL);
	}
}

static bool run(uint64_t seed)
{
	wh_sim_world *world;
	wh_sim *machine, *machines[CLIENTS];
	static struct server server;
	static struct client clients[CLIENTS];
	struct wh_sim_world_options world_options = {.seed = seed};
	uint64_t ids = 0, added = 0;
	bool idle = false;

	if (wh_sim_world_open(&world, &world_options) != 0)
		abort();
	struct wh_sim_options options = {.seed = seed, .world = world};
	if (wh_sim_open(&machine, &options) != 0)
		abort();
	if (start(&server, open_loop(machine)) != 0)
		abort();
	for (int i = 0; i < CLIENTS; i++) {
		if (wh_sim_open(&machines[i], &options) != 0)
			abort();
		clients[i] = (struct client){.loop = open_loop(machines[i]), .fd = -1, .idle = true};
	}
	for (int round = 0; round < ROUNDS || !idle; round++) {
		bool peace = round >= ROUNDS;
		idle = true;
		for (int i = 0; i < CLIENTS; i++) {
			struct client *c = &clients[i];
			if (c->idle && !peace && ids < IDS_MAX) {
				c->amount = 1 + wh_sim_world_draw(world, 100);
				snprintf(c->line, sizeof c->line, "%" PRIu64 " %" PRIu64 "\n", ids++,
				         c->amount);
				c->idle = false;
				ask(c);
			}
			idle = idle && c->idle;
		}
		if (peace)
			wh_sim_heal(world, NULL, NULL);
		else if (wh_sim_world_draw(world, 6) == 0)
			trouble(world, machine, machines[wh_sim_world_draw(world, CLIENTS)]);
		wh_sim_world_run(world, (int64_t)wh_sim_world_draw(world, 100) * WH_NS_PER_MS);
		if (!wh_sim_has_power(machine))
			restart(world, machine, &server, peace);
	}
	restart(world, machine, &server, true); /* what is not on disk is gone */
	for (int i = 0; i < CLIENTS; i++)
		added += clients[i].added;
	bool good = added == server.sum;
	if (!good)
		printf("seed %" PRIu64 ": clients have added %" PRIu64 ", the server's sum is %" PRIu64 "\n",
		       seed, added, server.sum);
	for (int i = 0; i < CLIENTS; i++) {
		wh_loop_close(clients[i].loop);
		wh_sim_close(machines[i]);
	}
	wh_loop_close(server.loop);
	wh_sim_close(machine);
	wh_sim_world_close(world);
	return good;
}

int main(int argc, char **argv)
{
	uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 50;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	answer_early = argc > 3 && strcmp(argv[3], "answer-early") == 0;
	forget_ids = argc > 3 && strcmp(argv[3], "forget-ids") == 0;
	for (uint64_t seed = first; seed < first + seeds; seed++)
		if (!run(seed))
			return 1; /* see it again: sim_counter 1 SEED */
	printf("%" PRIu64 " seeds, nothing found\n", seeds);
	return 0;
}
