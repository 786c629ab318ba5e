/* tests/sim/test_sim_beanstalk.c -- the beanstalkd front on a simulated machine, its clients on others, while paths between
 * them are cut and machines lose power; then every promise is checked.
 *
 * Clients send several commands at once, cut into pieces anywhere, and know of nothing but answers. What must hold, at
 * `local`:
 *
 * order         answers come in the order of the commands, each one that the command can have, with the bytes that were put;
 * I1            a job whose put was answered is there until a delete of it is sent, and after any crash;
 * I4            a job whose delete was answered is never seen again, and one whose bury was answered is not given out;
 * I6            an id is never given twice;
 * one holder    who can touch, release or bury a job is the last one who was given it;
 * at least once every job that was answered and not deleted is given out again, until it is deleted.
 *
 * Answers overtake each other on different paths, so "after" means: the command was sent when the answer had come.
 * One seed is one run: the traces of two runs are compared.
 */
#include "served.h"

#include "front/beanstalk.h"
#include "whilst/socket.h"

enum {
	CLIENTS = 3,
	JOBS_MAX = 4096,
	HOLDS_MAX = 32,
	HOLDS_ENOUGH = 16,
	COMMANDS_MAX = 16,
	OUT_MAX = 64 << 10,
	IN_MAX = 64 << 10,
	BODY_MAX = 6000,
	PORT = 11300,
	STEPS = 1500,
	SILENCE_S = 20, /* after which a client gives a connection up */
};

enum kind {
	PUT,
	PUT_TOO_BIG,
	PUT_BAD_END,
	RESERVE,
	RESERVE_JOB,
	DELETE,
	RELEASE,
	BURY,
	TOUCH,
	KICK,
	KICK_JOB,
	PEEK,
	STATS_JOB,
	NONSENSE,
	TOO_LONG,
};

struct job {
	uint64_t id;      /* 0: not answered */
	uint64_t deleted; /* when the answer came; 0: not */
	uint64_t buried;
	bool delete_sent, bury_sent, freed; /* freed: something was sent that may take it out of its bury */
	struct given {
		uint64_t link, sent, came; /* the reservation that was answered last */
	} given;
};

struct command {
	enum kind kind;
	uint64_t sent;
	struct job *job;
};

struct link {
	struct client *client;
	uint64_t number;
	int fd;
	bool connecting, receiving, sending, closed;
	char out[OUT_MAX];
	size_t out_len, out_at;
	char in[IN_MAX];
	size_t in_len;
	struct command commands[COMMANDS_MAX];
	size_t commands_count;
	struct {
		struct job *job;
		uint64_t came;
	} holds[HOLDS_MAX];
	size_t holds_count;
	int64_t heard;
};

struct client {
	wh_sim *machine;
	wh_loop *loop;
	struct link *link;
};

static struct beanstalk *front;
static struct client clients[CLIENTS];
static struct job jobs[JOBS_MAX];
static uint64_t jobs_count, instant, links_count;
static uint64_t put_count, given_count, deleted_count, refused_count, lost_count;

/* ---- the server --------------------------------------------------------------------------- */

static int server_open(void)
{
	struct beanstalk_options options = {
		.level = STORE_LOCAL, .job_bytes_max = BODY_MAX, .connections_max = 100};
	return beanstalk_open(loop, store, &options, &front);
}

static int server_listen(int fd)
{
	return beanstalk_listen(front, fd);
}

static void server_close(void)
{
	beanstalk_close(front);
}

static void server_free(void)
{
	beanstalk_free(front);
	front = NULL;
}

/* ---- what is sent ------------------------------------------------------------------------- */

static size_t body_of(uint64_t number, char *body)
{
	size_t len = (size_t)snprintf(body, 32, "job-%" PRIu64 "\r\ndelete 1\r\n", number);
	size_t all = number % 7 == 0 ? number * 977 % BODY_MAX : number * 31 % 200;
	for (; len < all; len++)
		body[len] = (char)(number * 131 + len * 7 + len / 256);
	return len;
}

static void say(struct link *link, const char *bytes, size_t len)
{
	must(link->out_len + len <= OUT_MAX, "room to send");
	memcpy(link->out + link->out_len, bytes, len);
	link->out_len += len;
}

__attribute__((format(printf, 2, 3))) static void say_line(struct link *link, const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	say(link, line, (size_t)len);
}

static struct job *job_of_id(uint64_t id)
{
	for (uint64_t i = 0; i < jobs_count; i++)
		if (jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

/* One that is known by its id; NULL: none. */
static struct job *some_job(void)
{
	for (int i = 0; i < 8 && jobs_count > 0; i++) {
		struct job *job = &jobs[draw(jobs_count)];
		if (job->id != 0)
			return job;
	}
	return NULL;
}

static void say_put(struct link *link, struct job *job)
{
	static char body[BODY_MAX + 32];
	size_t len = body_of((uint64_t)(job - jobs), body);
	say_line(link, "put %d %d 20 %zu\r\n", (int)draw(3), draw(6) == 0 ? (int)draw(5) : 0, len);
	say(link, body, len);
	say(link, "\r\n", 2);
}

static void add(struct link *link, enum kind kind, struct job *job)
{
	link->commands[link->commands_count++] =
		(struct command){.kind = kind, .sent = ++instant, .job = job};
}

static void ask_about_held(struct link *link, struct job *job)
{
	switch (drains ? 0 : draw(8)) {
	case 0:
	case 1:
	case 2:
	case 3:
		job->delete_sent = true;
		add(link, DELETE, job);
		say_line(link, "delete %" PRIu64 "\r\n", job->id);
		break;
	case 4:
	case 5:
		add(link, RELEASE, job);
		say_line(link, "release %" PRIu64 " %d %d\r\n", job->id, (int)draw(3), (int)draw(2));
		break;
	case 6:
		job->bury_sent = true;
		add(link, BURY, job);
		say_line(link, "bury %" PRIu64 " 1\r\n", job->id);
		break;
	default:
		add(link, TOUCH, job);
		say_line(link, "touch %" PRIu64 "\r\n", job->id);
	}
}

static void ask_about_any(struct link *link, struct job *job)
{
	switch (draw(drains ? 2 : 10)) {
	case 0:
	case 2:
	case 3:
		add(link, STATS_JOB, job);
		say_line(link, "stats-job %" PRIu64 "\r\n", job->id);
		break;
	case 1:
	case 4:
		add(link, PEEK, job);
		say_line(link, "peek %" PRIu64 "\r\n", job->id);
		break;
	case 5:
		job->freed = true;
		add(link, KICK_JOB, job);
		say_line(link, "kick-job %" PRIu64 "\r\n", job->id);
		break;
	case 6:
		if (link->holds_count >= HOLDS_ENOUGH)
			break;
		job->freed = true;
		add(link, RESERVE_JOB, job);
		say_line(link, "reserve-job %" PRIu64 "\r\n", job->id);
		break;
	case 7:
		job->delete_sent = true;
		add(link, DELETE, job);
		say_line(link, "delete %" PRIu64 "\r\n", job->id);
		break;
	default: /* not the one who holds it, as a rule */
		add(link, TOUCH, job);
		say_line(link, "touch %" PRIu64 "\r\n", job->id);
	}
}

static void ask_nonsense(struct link *link)
{
	char line[400];
	switch (draw(4)) {
	case 0:
		add(link, NONSENSE, NULL);
		say_line(link, "nonsense\r\n");
		break;
	case 1:
		memset(line, 'p', sizeof line);
		add(link, TOO_LONG, NULL);
		say(link, line, 223 + draw(170));
		say(link, "\r\n", 2);
		break;
	case 2:
		add(link, PUT_BAD_END, NULL);
		say_line(link, "put 0 0 10 1\r\nabc");
		break;
	default:
		add(link, PUT_TOO_BIG, NULL);
		say_line(link, "put 0 0 10 %d\r\n", BODY_MAX + 1);
		for (int left = BODY_MAX + 1; left > 0; left -= (int)sizeof line)
			say(link, line, (size_t)(left < (int)sizeof line ? left : (int)sizeof line));
		say(link, "\r\n", 2);
	}
}

static void ask_something(struct link *link)
{
	uint64_t what = draw(20);
	struct job *job = some_job();
	for (uint64_t i = 0; drains && i < jobs_count; i++) /* whose delete was never answered */
		if (jobs[i].id != 0 && jobs[i].delete_sent && !jobs[i].deleted)
			job = &jobs[i];
	if (drains && what < 2) {
		add(link, KICK, NULL);
		say_line(link, "kick 100\r\n");
	} else if (what < 7 && link->holds_count > 0) {
		ask_about_held(link, link->holds[draw(link->holds_count)].job);
	} else if (what < 12 && link->holds_count < HOLDS_ENOUGH) {
		add(link, RESERVE, NULL);
		say_line(link, "reserve-with-timeout %d\r\n", (int)draw(3));
	} else if (what < 16 && !drains && jobs_count < JOBS_MAX) {
		add(link, PUT, &jobs[jobs_count]);
		say_put(link, &jobs[jobs_count++]);
	} else if (what < 19 && job) {
		ask_about_any(link, job);
	} else if (what == 19) {
		ask_nonsense(link);
	}
}

/* ---- a connection ------------------------------------------------------------------------- */

static void send_more(struct link *link);
static void receive_more(struct link *link);
static void take_answers(struct link *link);

static void maybe_free(struct link *link)
{
	if (link->closed && !link->connecting && !link->receiving && !link->sending)
		free(link);
}

/* What was asked and not answered may have been done or not. */
static void give_up(struct link *link)
{
	if (link->closed)
		return;
	link->closed = true;
	link->client->link = NULL;
	if (!link->connecting)
		(void)wh_drop(wh_close(link->client->loop, link->fd));
	lost_count += link->commands_count;
}

static void on_sent(wh_loop *l, wh_res res, void *arg)
{
	struct link *link = arg;
	link->sending = false;
	if (res.n < 0)
		give_up(link);
	else
		send_more(link);
	maybe_free(link);
}

/* A piece of what is to be sent, and the next one once it is gone, or a moment later. */
static void send_more(struct link *link)
{
	wh_loop *on = link->client->loop;
	size_t left = link->out_len - link->out_at;
	if (link->closed || link->sending || link->connecting)
		return;
	if (left == 0) {
		link->out_len = link->out_at = 0;
		return;
	}
	wh_future future;
	if (draw(4) == 0) {
		future = wh_sleep(on, (int64_t)draw(3) * WH_NS_PER_MS);
	} else {
		size_t len = 1 + draw(draw(2) ? left : left < 20 ? left : 20);
		future = wh_send_all(on, link->fd, link->out + link->out_at, len);
		link->out_at += len;
	}
	must(wh_then(future, on_sent, link) == 0, "then");
	link->sending = true;
}

static void on_received(wh_loop *l, wh_res res, void *arg)
{
	struct link *link = arg;
	link->receiving = false;
	if (res.n <= 0) {
		give_up(link);
	} else if (!link->closed) {
		link->in_len += (size_t)res.n;
		link->heard = wh_sim_world_now(world);
		take_answers(link);
		receive_more(link);
	}
	maybe_free(link);
}

static void receive_more(struct link *link)
{
	size_t room = IN_MAX - link->in_len;
	must(room > 0, "an answer without end");
	wh_future future = wh_recv(link->client->loop, link->fd, link->in + link->in_len,
	                           draw(3) ? room : 1 + draw(room < 30 ? room : 30));
	must(wh_then(future, on_received, link) == 0, "then");
	link->receiving = true;
}

static void on_connected(wh_loop *l, wh_res res, void *arg)
{
	struct link *link = arg;
	link->connecting = false;
	link->fd = (int)res.n;
	if (link->closed && res.n >= 0)
		(void)wh_drop(wh_close(l, link->fd));
	if (!link->closed && res.n < 0) {
		link->closed = true;
		link->client->link = NULL;
	} else if (!link->closed) {
		link->heard = wh_sim_world_now(world);
		receive_more(link);
	}
	maybe_free(link);
}

static void dial(struct client *client)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct link *link = calloc(1, sizeof *link);
	must(link != NULL, "memory");
	inet_pton(AF_INET, wh_sim_address(machine), &address.sin_addr);
	link->client = client;
	link->number = ++links_count;
	link->connecting = true;
	link->heard = wh_sim_world_now(world);
	client->link = link;
	must(wh_then(wh_connect(client->loop, (struct sockaddr *)&address, sizeof address), on_connected,
	             link) == 0,
	     "then");
}

/* ---- what is answered --------------------------------------------------------------------- */

struct answer {
	char word[32];
	uint64_t numbers[2];
	int count;
	const char *body;
	size_t body_len;
};

/* Bytes of the answer at the start of what was received; 0: it is not whole. */
static size_t read_answer(const struct link *link, struct answer *ret)
{
	const char *end = memmem(link->in, link->in_len, "\r\n", 2);
	char line[256];
	if (!end)
		return 0;
	size_t len = (size_t)(end - link->in);
	must(len < sizeof line, "a line of %zu bytes", len);
	memcpy(line, link->in, len);
	line[len] = 0;
	*ret = (struct answer){0};
	ret->count =
		sscanf(line, "%31s %" SCNu64 " %" SCNu64, ret->word, &ret->numbers[0], &ret->numbers[1]) - 1;
	len += 2;
	bool job = !strcmp(ret->word, "RESERVED") || !strcmp(ret->word, "FOUND");
	if (!job && strcmp(ret->word, "OK") != 0)
		return len;
	ret->body = link->in + len;
	ret->body_len = ret->numbers[job ? 1 : 0];
	if (link->in_len < len + ret->body_len + 2)
		return 0;
	must(!memcmp(ret->body + ret->body_len, "\r\n", 2), "the end of a body");
	return len + ret->body_len + 2;
}

static bool is(const struct answer *answer, const char *word)
{
	return strcmp(answer->word, word) == 0;
}

static void unhold(struct link *link, const struct job *job)
{
	for (size_t i = 0; i < link->holds_count; i++)
		if (link->holds[i].job == job)
			link->holds[i--] = link->holds[--link->holds_count];
}

static struct job *job_of_body(const struct answer *answer)
{
	static char body[BODY_MAX + 32];
	uint64_t number = 0;
	must(answer->body_len > 4 && sscanf(answer->body, "job-%" SCNu64, &number) == 1 &&
	             number < jobs_count,
	     "a body that nobody put");
	size_t len = body_of(number, body);
	must(len == answer->body_len && !memcmp(body, answer->body, len), "the body of job %" PRIu64, number);
	struct job *job = &jobs[number];
	must(job->id == 0 || job->id == answer->numbers[0], "I6: job %" PRIu64 " has become %" PRIu64,
	     job->id, answer->numbers[0]);
	must(!job_of_id(answer->numbers[0]) || job_of_id(answer->numbers[0]) == job,
	     "I6: two jobs have id %" PRIu64, answer->numbers[0]);
	job->id = answer->numbers[0];
	return job;
}

static void was_given(struct link *link, const struct command *command, const struct answer *answer)
{
	struct job *job = job_of_body(answer);
	must(!job->deleted || command->sent < job->deleted, "I4: job %" PRIu64 " was deleted", job->id);
	must(!job->buried || command->sent < job->buried || job->freed || drains,
	     "I4: job %" PRIu64 " was buried", job->id);
	job->given = (struct given){link->number, command->sent, instant};
	unhold(link, job);
	must(link->holds_count < HOLDS_MAX, "too many jobs held");
	link->holds[link->holds_count].job = job;
	link->holds[link->holds_count++].came = instant;
	given_count++;
}

/* It was done, so this connection held the job: nobody else was given it since. */
static void held(struct link *link, const struct command *command)
{
	const struct job *job = command->job;
	uint64_t came = 0;
	for (size_t i = 0; i < link->holds_count; i++)
		if (link->holds[i].job == job)
			came = link->holds[i].came;
	must(came != 0, "job %" PRIu64 " was not held", job->id);
	must(job->given.link == link->number || job->given.sent < came || job->given.came > command->sent,
	     "job %" PRIu64 " has two holders", job->id);
}

static void job_is_gone(const struct command *command)
{
	must(command->job->delete_sent, "I1: job %" PRIu64 " is not there, and nobody deleted it",
	     command->job->id);
	if (drains && (command->kind == STATS_JOB || command->kind == PEEK))
		command->job->deleted = command->job->deleted ? command->job->deleted : instant;
}

static void job_is_there(const struct command *command)
{
	must(!command->job->deleted || command->sent < command->job->deleted,
	     "I4: job %" PRIu64 " was deleted", command->job->id);
}

static void take_put(const struct command *command, const struct answer *answer)
{
	uint64_t id = answer->numbers[0];
	must(is(answer, "INSERTED") && answer->count == 1, "put: %s", answer->word);
	must(!job_of_id(id) || job_of_id(id) == command->job, "I6: id %" PRIu64 " was given twice", id);
	must(command->job->id == 0 || command->job->id == id, "one put, two ids");
	command->job->id = id;
	put_count++;
}

/* A change of a job: done, or it is not this connection's. */
static void take_change(struct link *link, const struct command *command, const struct answer *answer)
{
	static const char *const words[] = {
		[DELETE] = "DELETED", [RELEASE] = "RELEASED", [BURY] = "BURIED", [TOUCH] = "TOUCHED"};
	struct job *job = command->job;
	bool done = is(answer, words[command->kind]);
	must(done || is(answer, "NOT_FOUND"), "%s: %s", words[command->kind], answer->word);
	if (!done)
		refused_count++;
	else if (command->kind != DELETE)
		held(link, command);
	if (done && command->kind == DELETE) {
		must(!job->deleted || command->sent < job->deleted, "job %" PRIu64 " was deleted twice",
		     job->id);
		job->deleted = instant;
		deleted_count++;
	}
	if (done && command->kind == BURY)
		job->buried = instant;
	if (!done || command->kind != TOUCH)
		unhold(link, job);
}

static void take(struct link *link, const struct command *command, const struct answer *answer)
{
	++instant;
	if (verbose)
		fprintf(stderr, "\tlink %" PRIu64 ", command %d: %s %" PRIu64 "\n", link->number,
		        command->kind, answer->word, answer->numbers[0]);
	switch (command->kind) {
	case PUT:
		take_put(command, answer);
		break;
	case RESERVE:
		if (is(answer, "RESERVED"))
			was_given(link, command, answer);
		else
			must(is(answer, "TIMED_OUT") || is(answer, "DEADLINE_SOON"), "reserve: %s",
			     answer->word);
		break;
	case RESERVE_JOB:
		if (is(answer, "RESERVED"))
			was_given(link, command, answer);
		else
			must(is(answer, "NOT_FOUND"), "reserve-job: %s", answer->word);
		break;
	case KICK:
		must(is(answer, "KICKED") && answer->count == 1, "kick: %s", answer->word);
		break;
	case KICK_JOB:
		must(is(answer, "KICKED") || is(answer, "NOT_FOUND"), "kick-job: %s", answer->word);
		break;
	case PEEK:
		must(is(answer, "FOUND") || is(answer, "NOT_FOUND"), "peek: %s", answer->word);
		if (is(answer, "FOUND"))
			must(job_of_body(answer) == command->job, "peek: another job");
		(is(answer, "FOUND") ? job_is_there : job_is_gone)(command);
		break;
	case STATS_JOB:
		must(is(answer, "OK") || is(answer, "NOT_FOUND"), "stats-job: %s", answer->word);
		(is(answer, "OK") ? job_is_there : job_is_gone)(command);
		break;
	case PUT_TOO_BIG:
		must(is(answer, "JOB_TOO_BIG"), "a large put: %s", answer->word);
		break;
	case PUT_BAD_END:
		must(is(answer, "EXPECTED_CRLF"), "a put with a bad end: %s", answer->word);
		break;
	case NONSENSE:
		must(is(answer, "UNKNOWN_COMMAND"), "nonsense: %s", answer->word);
		break;
	case TOO_LONG:
		must(is(answer, "BAD_FORMAT"), "a long line: %s", answer->word);
		break;
	default:
		take_change(link, command, answer);
	}
}

static void take_answers(struct link *link)
{
	struct answer answer;
	size_t len;
	while ((len = read_answer(link, &answer)) > 0) {
		must(link->commands_count > 0, "an answer to nothing: %s", answer.word);
		take(link, &link->commands[0], &answer);
		link->commands_count--;
		memmove(link->commands, link->commands + 1, link->commands_count * sizeof link->commands[0]);
		link->in_len -= len;
		memmove(link->in, link->in + len, link->in_len);
	}
}

/* ---- the world ---------------------------------------------------------------------------- */

static void start_world(void)
{
	start_machine(PORT);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){0};
		must(wh_sim_open(&clients[i].machine, &(struct wh_sim_options){.world = world}) == 0,
		     "machine");
		clients[i].loop = plan_loop(clients[i].machine);
	}
}

static void end_world(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		if (clients[i].link)
			give_up(clients[i].link);
		clients[i].loop = wh_loop_close(clients[i].loop);
		clients[i].machine = wh_sim_close(clients[i].machine);
	}
	end_machine();
}

static void step_client(struct client *client)
{
	struct link *link = client->link;
	if (!link) {
		dial(client);
		return;
	}
	if (link->connecting)
		return;
	if (link->commands_count == 0) {
		for (uint64_t left = 1 + draw(6); left > 0; left--)
			ask_something(link);
		link->heard = wh_sim_world_now(world);
	}
	if (wh_sim_world_now(world) - link->heard > SILENCE_S * WH_NS_PER_S || (!drains && draw(150) == 0))
		give_up(link); /* freed by what is under way */
	else
		send_more(link);
}

static void step(void)
{
	for (int i = 0; i < CLIENTS; i++)
		step_client(&clients[i]);
	must(wh_sim_world_run(world, (int64_t)(1 + draw(40)) * WH_NS_PER_MS) == 0, "run");
	if (!wh_sim_has_power(machine) || has_failed)
		restart_server(PORT);
}

static bool all_done(void)
{
	for (uint64_t i = 0; i < jobs_count; i++)
		if (jobs[i].id != 0 && !jobs[i].deleted)
			return false;
	return true;
}

/* Peace: what was promised is given out until it is deleted. */
static void drain(void)
{
	drains = true;
	wh_sim_heal(world, NULL, NULL);
	must(wh_sim_link(world, NULL, NULL, NULL) == 0, "link");
	wh_sim_power_cut(machine);
	restart_server(PORT);
	int64_t until = wh_sim_world_now(world) + 1800 * WH_NS_PER_S;
	while (!all_done()) {
		must(wh_sim_world_now(world) < until,
		     "at least once: jobs that were promised are not given out");
		step();
	}
	for (uint64_t i = 0; i < jobs_count; i++) {
		tally.checked += jobs[i].id != 0;
		tally.kept += jobs[i].deleted != 0;
	}
}

static uint64_t run_once(void)
{
	memset(jobs, 0, sizeof jobs);
	jobs_count = instant = links_count = 0;
	chance_state = plan.seed * 77;
	start_world();
	for (int i = 0; i < STEPS; i++) {
		if (draw(10) == 0)
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
	plan_seeds("beanstalk", run_once, 4);
	printf("%" PRIu64 " puts answered, %" PRIu64 " jobs given out, %" PRIu64 " deleted, %" PRIu64
	       " changes refused, %" PRIu64 " commands lost\n",
	       put_count, given_count, deleted_count, refused_count, lost_count);
	must(put_count > 0 && given_count > 0 && deleted_count > 0 && refused_count > 0 && lost_count > 0,
	     "nothing was tried");
	return 0;
}
