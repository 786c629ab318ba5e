/* tests/fuzz/beanstalk_connection.c -- whole connections of the beanstalkd front: a server on a simulated machine, two peers
 * that may send anything, in pieces of any size.
 *
 * The input: two bytes that decide how it is cut up, then what is sent; TURN goes on with the other connection, and
 * PAUSE lets time pass. Whatever the bytes are: every command that came whole is answered, once, in order, with a word
 * that it can have; a peer that has said all it will is answered to the end and then let go; and afterwards the server
 * serves others, with nothing left of the two.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "front/beanstalk.h"
#include "front/beanstalk_parse.h"
#include "store/store.h"
#include "whilst/sim.h"
#include "whilst/whilst.h"

enum { PORT = 11300, BODY_MAX = 1000, INPUT_MAX = 1 << 14, TURN = 0xfe, PAUSE = 0xfd, PEERS = 2 };

#define CHECK(condition)                                                                              \
	do {                                                                                          \
		if (!(condition)) {                                                                   \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
			abort();                                                                      \
		}                                                                                     \
	} while (0)

struct peer {
	int fd;
	bool ended; /* the server has said all */
	bool reset; /* and did not want to hear more: what it said before may be lost */
	char sent[INPUT_MAX];
	size_t sent_len;
	char *in;
	size_t in_len, in_cap;
	char piece[4096];
};

static wh_sim_world *world;
static wh_sim *machine, *elsewhere;
static wh_loop *loop, *peers_loop;
static struct store *store;
static struct beanstalk *front;

/* ---- the server --------------------------------------------------------------------------- */

static wh_loop *open_loop(wh_sim *sim)
{
	wh_loop *ret = NULL;

	CHECK(wh_loop_open(&ret, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
	return ret;
}

static void start(uint64_t seed)
{
	struct store_options options = {.directory = "/data", .segment_bytes = 1 << 16};
	struct store_problem problem;
	struct beanstalk_options settings = {
		.level = STORE_LOCAL, .job_bytes_max = BODY_MAX, .connections_max = 10};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd;

	CHECK(wh_sim_world_open(&world, &(struct wh_sim_world_options){.seed = seed}) == 0);
	CHECK(wh_sim_open(&machine, &(struct wh_sim_options){.world = world}) == 0);
	CHECK(wh_sim_open(&elsewhere, &(struct wh_sim_options){.world = world}) == 0);
	loop = open_loop(machine);
	peers_loop = open_loop(elsewhere);
	CHECK(store_open(loop, &options, &store, &problem) == 0);
	CHECK(beanstalk_open(loop, store, &settings, &front) == 0);
	fd = wh_listen(loop, (struct sockaddr *)&any, sizeof(any), NULL);
	CHECK(fd >= 0 && beanstalk_listen(front, fd) == 0);
}

static void stop(void)
{
	beanstalk_close(front);
	CHECK(store_close(store) == 0);
	loop = wh_loop_close(loop);
	beanstalk_free(front);
	peers_loop = wh_loop_close(peers_loop);
	elsewhere = wh_sim_close(elsewhere);
	machine = wh_sim_close(machine);
	world = wh_sim_world_close(world);
}

/* ---- peers -------------------------------------------------------------------------------- */

static void receive(struct peer *peer);

static void received(wh_loop *l, wh_res res, void *arg)
{
	struct peer *peer = arg;

	(void)l;
	if (res.n <= 0) {
		peer->ended = true;
		peer->reset = res.n < 0;
		return;
	}
	if (peer->in_len + (size_t)res.n > peer->in_cap) {
		peer->in_cap = (peer->in_len + (size_t)res.n) * 2;
		peer->in = realloc(peer->in, peer->in_cap);
		CHECK(peer->in);
	}
	memcpy(peer->in + peer->in_len, peer->piece, (size_t)res.n);
	peer->in_len += (size_t)res.n;
	receive(peer);
}

static void receive(struct peer *peer)
{
	CHECK(wh_then(wh_recv(peers_loop, peer->fd, peer->piece, sizeof(peer->piece)), received, peer) == 0);
}

static void dial(struct peer *peer)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};

	memset(peer, 0, sizeof(*peer));
	inet_pton(AF_INET, wh_sim_address(machine), &address.sin_addr);
	peer->fd = (int)wh_await(wh_connect(peers_loop, (struct sockaddr *)&address, sizeof(address))).n;
	CHECK(peer->fd >= 0);
	receive(peer);
}

static void say(struct peer *peer, const void *bytes, size_t len)
{
	wh_res res = {0};

	CHECK(peer->sent_len + len <= sizeof(peer->sent));
	memcpy(peer->sent + peer->sent_len, bytes, len);
	peer->sent_len += len;
	if (!peer->ended)
		res = wh_await(wh_send_all(peers_loop, peer->fd, bytes, len));
	CHECK(res.n >= 0 || res.n == -EPIPE || res.n == -ECONNRESET);
}

static void hang_up(struct peer *peer)
{
	CHECK(wh_await(wh_close(peers_loop, peer->fd)).n == 0);
	CHECK(wh_sim_world_run(world, WH_NS_PER_S) == 0);
	free(peer->in);
	peer->in = NULL;
}

/* ---- what must have been answered ---------------------------------------------------------- */

static const char *const words[BEANSTALK_KINDS][4] = {
	[BEANSTALK_PUT] = {"INSERTED ", "EXPECTED_CRLF"},
	[BEANSTALK_PEEK] = {"FOUND ", "NOT_FOUND"},
	[BEANSTALK_PEEK_READY] = {"FOUND ", "NOT_FOUND"},
	[BEANSTALK_PEEK_DELAYED] = {"FOUND ", "NOT_FOUND"},
	[BEANSTALK_PEEK_BURIED] = {"FOUND ", "NOT_FOUND"},
	[BEANSTALK_RESERVE] = {"RESERVED ", "TIMED_OUT", "DEADLINE_SOON"},
	[BEANSTALK_RESERVE_TIMEOUT] = {"RESERVED ", "TIMED_OUT", "DEADLINE_SOON"},
	[BEANSTALK_RESERVE_JOB] = {"RESERVED ", "NOT_FOUND"},
	[BEANSTALK_DELETE] = {"DELETED", "NOT_FOUND"},
	[BEANSTALK_RELEASE] = {"RELEASED", "NOT_FOUND"},
	[BEANSTALK_BURY] = {"BURIED", "NOT_FOUND"},
	[BEANSTALK_KICK] = {"KICKED "},
	[BEANSTALK_KICK_JOB] = {"KICKED", "NOT_FOUND"},
	[BEANSTALK_TOUCH] = {"TOUCHED", "NOT_FOUND"},
	[BEANSTALK_STATS] = {"OK "},
	[BEANSTALK_STATS_JOB] = {"OK ", "NOT_FOUND"},
	[BEANSTALK_STATS_TUBE] = {"OK ", "NOT_FOUND"},
	[BEANSTALK_USE] = {"USING "},
	[BEANSTALK_WATCH] = {"WATCHING ", "OUT_OF_MEMORY"},
	[BEANSTALK_IGNORE] = {"WATCHING ", "NOT_IGNORED"},
	[BEANSTALK_LIST_TUBES] = {"OK "},
	[BEANSTALK_LIST_TUBE_USED] = {"USING "},
	[BEANSTALK_LIST_TUBES_WATCHED] = {"OK "},
	[BEANSTALK_PAUSE_TUBE] = {"PAUSED", "NOT_FOUND"},
	[BEANSTALK_BAD_FORMAT] = {"BAD_FORMAT"},
	[BEANSTALK_UNKNOWN] = {"UNKNOWN_COMMAND"},
};

/* The answer at *at is one of these. */
static void take_answer(const struct peer *peer, size_t *at, const char *const answers[4])
{
	const char *from = peer->in + *at;
	size_t left = peer->in_len - *at;
	const char *end = left > 0 ? memmem(from, left, "\r\n", 2) : NULL;
	unsigned long long number, bytes = 0;
	size_t line;
	bool found = false;

	CHECK(end);
	line = (size_t)(end - from);
	for (int i = 0; i < 4 && answers[i]; i++) {
		size_t len = strlen(answers[i]);
		bool more = answers[i][len - 1] == ' ';

		found |= line >= len && !memcmp(from, answers[i], len) && (more || line == len);
	}
	CHECK(found);
	*at += line + 2;
	if (sscanf(from, "RESERVED %llu %llu\r\n", &number, &bytes) == 2 ||
	    sscanf(from, "FOUND %llu %llu\r\n", &number, &bytes) == 2 ||
	    sscanf(from, "OK %llu\r\n", &bytes) == 1) {
		CHECK(bytes + 2 <= peer->in_len - *at);
		CHECK(!memcmp(peer->in + *at + bytes, "\r\n", 2));
		*at += bytes + 2;
	}
}

/* What the next command that was sent whole may be answered; NULL: that was all of them, *at is where it ended. */
static const char *const *next_answers(const struct peer *peer, size_t *at, bool *ret_quit)
{
	static const char *const too_big[4] = {"JOB_TOO_BIG"};
	const char *from = peer->sent + *at;
	size_t left = peer->sent_len - *at, line;
	const char *end = left > 0 ? memmem(from, left, "\r\n", 2) : NULL;
	struct beanstalk_command command;

	if (!end || *ret_quit)
		return NULL;
	line = (size_t)(end - from) + 2;
	*at += line;
	if (line > BEANSTALK_LINE_MAX)
		return words[BEANSTALK_BAD_FORMAT];
	beanstalk_parse(from, line - 2, &command);
	*ret_quit = command.kind == BEANSTALK_QUIT;
	if (command.kind != BEANSTALK_PUT)
		return *ret_quit ? NULL : words[command.kind];
	if (command.garbage && command.bytes <= BODY_MAX)
		return words[BEANSTALK_BAD_FORMAT];
	if (left - line < (size_t)command.bytes + 2)
		return NULL;
	*at += (size_t)command.bytes + 2;
	return command.bytes > BODY_MAX ? too_big : words[BEANSTALK_PUT];
}

/* Goes through what was sent, by the page on the protocol, and through what was answered beside it. A connection is reset
 * only if something was sent after its quit; that may take the last answers with it. */
static void check(const struct peer *peer)
{
	const char *const *answers;
	size_t at = 0, answer = 0;
	bool quit = false, lost = false;

	while ((answers = next_answers(peer, &at, &quit))) {
		lost |= peer->reset && (answer == peer->in_len ||
		                        !memmem(peer->in + answer, peer->in_len - answer, "\r\n", 2));
		if (!lost)
			take_answer(peer, &answer, answers);
	}
	CHECK(!peer->reset || (quit && at < peer->sent_len));
	CHECK(lost || answer == peer->in_len);
}

/* Somebody else is served, and knows of nobody else. */
static void check_server(void)
{
	static const char ask[] = "use other\r\nput 0 0 1 1\r\nx\r\nstats\r\n";
	static struct peer other;

	dial(&other);
	say(&other, ask, sizeof(ask) - 1);
	CHECK(wh_shutdown(peers_loop, other.fd, SHUT_WR) == 0);
	for (int i = 0; i < 100 && !other.ended; i++)
		CHECK(wh_sim_world_run(world, WH_NS_PER_S) == 0);
	CHECK(other.ended);
	check(&other);
	CHECK(memmem(other.in, other.in_len, "\ncurrent-connections: 1\n", 24));
	CHECK(memmem(other.in, other.in_len, "\ncurrent-waiting: 0\n", 20));
	CHECK(memmem(other.in, other.in_len, "\ncurrent-jobs-reserved: 0\n", 26));
	hang_up(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct peer peers[PEERS];
	struct peer *peer = &peers[0];
	uint32_t seed;
	bool all_ended = false;

	if (len < 2 || len > INPUT_MAX)
		return 0;
	seed = data[0] | (uint32_t)data[1] << 8;
	start(seed);
	for (int i = 0; i < PEERS; i++)
		dial(&peers[i]);
	for (size_t at = 2; at < len;) {
		size_t piece = 0, piece_max;

		seed = seed * 1664525 + 1013904223;
		piece_max = seed >> 31 ? len : 1 + (seed >> 20) % 300;
		if (data[at] == TURN) {
			peer = peer == &peers[0] ? &peers[1] : &peers[0];
			at++;
			continue;
		}
		if (data[at] == PAUSE) {
			CHECK(wh_sim_world_run(world, WH_NS_PER_S * 3 / 2) == 0);
			at++;
			continue;
		}
		while (at + piece < len && piece < piece_max && data[at + piece] != TURN &&
		       data[at + piece] != PAUSE)
			piece++;
		say(peer, data + at, piece);
		at += piece;
		if (seed >> 28 & 1)
			CHECK(wh_sim_world_run(world, WH_NS_PER_MS * (1 + (seed >> 10) % 5)) == 0);
	}
	for (int i = 0; i < PEERS; i++)
		if (!peers[i].ended) {
			int n = wh_shutdown(peers_loop, peers[i].fd, SHUT_WR);

			CHECK(n == 0 || n == -ENOTCONN);
		}
	for (int i = 0; i < 100 && !all_ended; i++) {
		CHECK(wh_sim_world_run(world, WH_NS_PER_S) == 0);
		all_ended = peers[0].ended && peers[1].ended;
	}
	CHECK(all_ended);
	for (int i = 0; i < PEERS; i++) {
		check(&peers[i]);
		hang_up(&peers[i]);
	}
	check_server();
	stop();
	return 0;
}
