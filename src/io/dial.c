/* src/io/dial.c -- connecting by name: Happy Eyeballs version 2 (RFC 8305).
 *
 * Both families are asked at once. Attempts begin when the addresses of IPv6 are there; if those of IPv4 come first, a moment
 * later (section 3). The families alternate (section 4). An attempt begins when none is under way, when one has
 * failed, or when the last one has not answered for a while (section 5). The first connection wins.
 *
 * Thread: loop. Memory: one struct dial from start to the end of its last part; a part is a question, an attempt.
 */
#include "io/address.h"
#include "io/inner.h"
#include "io/name.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define TIMEOUT_NS       (30 * WH_NS_PER_S)
#define RESOLUTION_NS    (50 * WH_NS_PER_MS)
#define ATTEMPT_NS       (250 * WH_NS_PER_MS)
#define ATTEMPT_LEAST_NS (10 * WH_NS_PER_MS)
static const char unix_prefix[] = "unix:";

enum { V6, V4, FAMILIES };

struct family {
	struct dial *dial;
	wh_future question;
	bool asked, answered;
	int64_t error; /* why there are no addresses */
	struct wh_addresses *addresses;
	size_t tried_count;
};

/* An attempt under way. */
struct attempt {
	struct attempt *next;
	struct dial *dial;
	wh_future connecting;
};

struct dial {
	struct wh__op *outer; /* NULL: it has ended */
	wh_loop *loop;
	struct family families[FAMILIES];
	struct attempt *attempts;
	struct wh__op *timeout, *delay; /* delay: of the resolution, then of the next attempt */
	int64_t attempt_delay_ns;
	int64_t error; /* of attempts */
	wh_address_function *allowed;
	void *allowed_arg;
	uint32_t parts_count; /* questions and attempts under way, + 1 while the dial itself works */
	int last_family;
	bool begun;  /* attempts are being made */
	bool trying; /* go_on() begins some, and sees for itself how they end at once */
};

static void go_on(struct dial *dial);

static void hold(struct dial *dial)
{
	dial->parts_count++;
}

static void release(struct dial *dial)
{
	if (--dial->parts_count > 0)
		return;
	assert(!dial->outer && !dial->attempts);
	for (int i = 0; i < FAMILIES; i++)
		wh_addresses_free(dial->families[i].addresses);
	free(dial);
}

static void close_dropped(wh_res res, void *arg)
{
	(void)wh_drop(wh_close(arg, (int)res.n));
}

/* The caller's future ends now; the parts end by themselves, soon. */
static void end(struct dial *dial, int64_t n)
{
	struct wh__op *outer = dial->outer;
	dial->outer = NULL;
	dial->timeout = wh__inner_timer_stop(dial->timeout);
	dial->delay = wh__inner_timer_stop(dial->delay);
	hold(dial);
	for (int i = 0; i < FAMILIES; i++)
		if (dial->families[i].asked && !dial->families[i].answered)
			wh_cancel(dial->families[i].question);
	for (struct attempt *attempt = dial->attempts, *next; attempt; attempt = next) {
		next = attempt->next;
		wh_cancel(attempt->connecting); /* may free this one */
	}
	wh__op_complete(outer, n, NULL);
	release(dial);
}

static void on_timeout(wh_loop *loop, wh_res res, void *arg)
{
	struct dial *dial = arg;
	dial->timeout = NULL;
	end(dial, res.n < 0 ? res.n : -ETIMEDOUT);
}

static void cancel(struct wh__op *outer)
{
	end(outer->second, -ECANCELED);
}

/* ---- attempts ----------------------------------------------------------------------------- */

/* That the machine has no such network says little when it has another. */
static bool is_unreachable(int64_t error)
{
	return error == -ENETUNREACH || error == -EHOSTUNREACH || error == -EADDRNOTAVAIL ||
	       error == -EAFNOSUPPORT;
}

static void note_error(struct dial *dial, int64_t error)
{
	if (dial->error == 0 || dial->error == -WH_EADDRESS_REFUSED || is_unreachable(dial->error) ||
	    !is_unreachable(error))
		dial->error = error;
}

static void take_out(struct attempt *attempt)
{
	struct attempt **link = &attempt->dial->attempts;
	while (*link != attempt)
		link = &(*link)->next;
	*link = attempt->next;
}

static void on_connected(wh_loop *loop, wh_res res, void *arg)
{
	struct attempt *attempt = arg;
	struct dial *dial = attempt->dial;
	take_out(attempt);
	free(attempt);
	if (!dial->outer) {
		if (res.n >= 0)
			close_dropped(res, loop);
	} else if (res.n >= 0) {
		end(dial, res.n);
	} else if (res.n == -ECANCELED) {
		end(dial, res.n); /* the loop is being closed */
	} else {
		note_error(dial, res.n);
		dial->delay = wh__inner_timer_stop(dial->delay);
		if (!dial->trying)
			go_on(dial);
	}
	release(dial);
}

static bool is_allowed(const struct dial *dial, const struct wh_address *address)
{
	return !dial->allowed ||
	       dial->allowed((const struct sockaddr *)&address->address, address->len, dial->allowed_arg);
}

static const struct wh_address *next_of_all(struct dial *dial)
{
	for (int i = 1; i <= FAMILIES; i++) {
		int which = (dial->last_family + i) % FAMILIES;
		struct family *family = &dial->families[which];
		if (family->addresses && family->tried_count < family->addresses->count) {
			dial->last_family = which;
			return &family->addresses->addresses[family->tried_count++];
		}
	}
	return NULL;
}

/* Those that may not be connected to are passed over; one that was tried and failed says more than they do. */
static const struct wh_address *next_address(struct dial *dial)
{
	const struct wh_address *address = next_of_all(dial);
	while (address && !is_allowed(dial, address)) {
		if (dial->error == 0)
			dial->error = -WH_EADDRESS_REFUSED;
		address = next_of_all(dial);
	}
	return address;
}

static void on_delay(wh_loop *loop, wh_res res, void *arg)
{
	struct dial *dial = arg;
	dial->delay = NULL;
	if (res.n < 0) {
		end(dial, res.n);
		return;
	}
	dial->begun = true;
	go_on(dial);
}

static void try_address(struct dial *dial, const struct wh_address *address)
{
	struct attempt *attempt = malloc(sizeof *attempt);
	if (!attempt) {
		end(dial, -ENOMEM);
		return;
	}
	*attempt = (struct attempt){.next = dial->attempts, .dial = dial};
	dial->attempts = attempt;
	hold(dial);
	wh_future f = wh_connect(dial->loop, (const struct sockaddr *)&address->address, address->len);
	attempt->connecting = f;
	wh__inner_then(dial->loop, f, on_connected, attempt);
}

/* ---- what to do next ---------------------------------------------------------------------- */

static bool is_answered(const struct dial *dial, int which)
{
	return !dial->families[which].asked || dial->families[which].answered;
}

/* Nothing more will come: the error that says most. */
static int64_t final_error(const struct dial *dial)
{
	int64_t error = 0;
	if (dial->error != 0)
		return dial->error;
	for (int i = 0; i < FAMILIES; i++) {
		int64_t of_family = dial->families[i].error;
		if (of_family != 0 && (error == 0 || error == -WH_ENAME_NO_ADDRESS))
			error = of_family;
	}
	return error != 0 ? error : -WH_ENAME_NO_ADDRESS;
}

static void wait_for(struct dial *dial, int64_t ns)
{
	dial->delay = wh__inner_timer(dial->loop, wh_clock(dial->loop) + ns, on_delay, dial);
	if (!dial->delay)
		end(dial, -EAGAIN);
}

static bool may_begin(struct dial *dial, bool all_answered)
{
	if (dial->begun || all_answered || dial->families[V6].addresses) {
		if (!dial->begun)
			dial->delay = wh__inner_timer_stop(dial->delay);
		dial->begun = true;
		return true;
	}
	if (dial->families[V4].addresses && !dial->delay)
		wait_for(dial, RESOLUTION_NS);
	return false;
}

static void go_on(struct dial *dial)
{
	bool all_answered = is_answered(dial, V6) && is_answered(dial, V4);
	const struct wh_address *address = NULL;
	if (!may_begin(dial, all_answered))
		return;
	hold(dial);
	dial->trying = true;
	/* a delay: the last attempt still has its time */
	while (dial->outer && !dial->delay && (address = next_address(dial))) {
		uint32_t parts_count = dial->parts_count;
		try_address(dial, address);
		if (dial->outer && dial->parts_count > parts_count)
			wait_for(dial, dial->attempt_delay_ns);
	}
	dial->trying = false;
	if (dial->outer && !dial->delay && !dial->attempts && all_answered)
		end(dial, final_error(dial));
	release(dial);
}

/* ---- addresses ---------------------------------------------------------------------------- */

static void on_addresses(wh_loop *loop, wh_res res, void *arg)
{
	struct family *family = arg;
	struct dial *dial = family->dial;
	family->answered = true;
	if (res.n > 0)
		family->addresses = res.ptr;
	else
		family->error = res.n;
	if (dial->outer && res.n == -ECANCELED)
		end(dial, res.n); /* the loop is being closed */
	else if (dial->outer)
		go_on(dial);
	release(dial);
}

static void ask(struct dial *dial, int which, const char *host, const char *service,
                const struct wh_dial_options *options)
{
	struct family *family = &dial->families[which];
	struct wh_lookup_options lookup = {.family = which == V6 ? AF_INET6 : AF_INET,
	                                   .timeout_ns = options->timeout_ns,
	                                   .servers = options->servers,
	                                   .resolv_conf_path = options->resolv_conf_path};
	hold(dial);
	wh_future f = wh_lookup(dial->loop, host, service, &lookup);
	family->question = f;
	wh__inner_then(dial->loop, f, on_addresses, family);
}

static wh_future start(struct wh__op *outer, const char *host, const char *service,
                       const struct wh_dial_options *options)
{
	wh_loop *loop = outer->loop;
	wh_future f = wh__op_future(outer);
	struct dial *dial = calloc(1, sizeof *dial);
	if (!dial)
		return wh__end(outer, -ENOMEM);
	int64_t now = wh_clock(loop), timeout_ns = options->timeout_ns > 0 ? options->timeout_ns : TIMEOUT_NS;
	dial->outer = outer;
	dial->loop = loop;
	dial->last_family = V4; /* the next is V6 */
	dial->parts_count = 1;
	dial->allowed = options->allowed;
	dial->allowed_arg = options->allowed_arg;
	dial->attempt_delay_ns = options->attempt_delay_ns > 0 ? options->attempt_delay_ns : ATTEMPT_NS;
	if (dial->attempt_delay_ns < ATTEMPT_LEAST_NS)
		dial->attempt_delay_ns = ATTEMPT_LEAST_NS;
	outer->second = dial;
	outer->cancel_inner = cancel;
	outer->dispose = close_dropped;
	outer->dispose_arg = loop;
	dial->timeout = wh__inner_timer(loop, timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns,
	                                on_timeout, dial);
	for (int i = 0; i < FAMILIES; i++) {
		dial->families[i].dial = dial;
		dial->families[i].asked =
			options->family == AF_UNSPEC || options->family == (i == V6 ? AF_INET6 : AF_INET);
	}
	if (!dial->timeout)
		end(dial, -EAGAIN);
	for (int i = 0; i < FAMILIES && dial->outer; i++)
		if (dial->families[i].asked)
			ask(dial, i, host, service, options);
	release(dial);
	return f;
}

/* ---- UNIX sockets ------------------------------------------------------------------------- */

static wh_future dial_unix(wh_loop *loop, const char *path, int64_t timeout_ns)
{
	struct wh_address address;
	int64_t now = wh_clock(loop);
	int error = wh__address_unix(path, &address);
	if (error != 0)
		return wh_failed(loop, error);
	if (timeout_ns <= 0)
		timeout_ns = TIMEOUT_NS;
	return wh_deadline(wh_connect(loop, (struct sockaddr *)&address.address, address.len),
	                   timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns);
}

wh_future wh_dial(wh_loop *loop, const char *host, const char *service, const struct wh_dial_options *options)
{
	static const struct wh_dial_options defaults;
	wh_future f;
	bool is_unix = host && !strncmp(host, unix_prefix, sizeof unix_prefix - 1);
	if (!options)
		options = &defaults;
	if (is_unix && !service && wh__loop_is_mine(loop))
		return dial_unix(loop, host + sizeof unix_prefix - 1, options->timeout_ns);
	struct wh__op *outer = wh__begin(loop, WH__OP_CONNECTION, &f);
	if (!outer)
		return f;
	bool good_family =
		options->family == AF_UNSPEC || options->family == AF_INET || options->family == AF_INET6;
	if (!host || !service || is_unix || !good_family)
		return wh__end(outer, -EINVAL);
	return start(outer, host, service, options);
}
