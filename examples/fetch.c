/* fetch.c -- fetch many pages over HTTP: one after another, and then all of them with a limit on how many at once.
 *
 *	fetch [-n AT-ONCE] [-a CA-FILE] URL...
 *	fetch [-n AT-ONCE] [-a CA-FILE] -c COUNT URL	the same page COUNT times
 *
 * CA-FILE: certificates, PEM, that are trusted instead of the system's.
 *
 * Prints what came of each in the first round, and how long both rounds took.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <whilst/http.h>

struct round {
	wh_http_client *client;
	char **urls;
	size_t url_count;   /* taken again from the first when there are more requests */
	size_t count, next; /* next: the first that was not begun */
	size_t good;
	uint64_t bytes;
};

static const char *url_of(const struct round *round, size_t i)
{
	return round->urls[i % round->url_count];
}

static wh_future request(struct round *round, size_t i)
{
	struct wh_http_request request = {.url = url_of(round, i), .redirects_max = 5};
	return wh_http_request(round->client, &request);
}

static void take(struct round *round, const char *url, wh_res res)
{
	struct wh_http_response *response = res.ptr;
	if (res.n >= 0) {
		round->good += res.n == 200;
		round->bytes += response->body.len;
	}
	if (url && res.n >= 0)
		printf("%" PRId64 " %zu bytes %s\n", res.n, response->body.len, url);
	else if (url)
		printf("%s %s\n", wh_strerror(res.n), url);
	wh_http_response_free(response);
}

/* ---- one after another ---- */

static void fetch_in_turn(struct round *round)
{
	for (; round->next < round->count; round->next++)
		take(round, url_of(round, round->next), wh_await(request(round, round->next)));
}

/* ---- at most so many at once ---- */

static void begin_next(struct round *round);

static void on_response(wh_loop *loop, wh_res res, void *arg)
{
	struct round *round = arg;
	(void)loop;
	take(round, NULL, res);
	begin_next(round); /* each that ends begins another: the number under way stays the same */
}

static void begin_next(struct round *round)
{
	if (round->next == round->count)
		return;
	wh_then(request(round, round->next++), on_response, round);
}

static void fetch_at_once(wh_loop *loop, struct round *round, int limit)
{
	for (int i = 0; i < limit; i++)
		begin_next(round);
	wh_loop_run(loop); /* until no request is pending; connections that the client keeps do not count */
}

int main(int argc, char **argv)
{
	struct wh_http_client_options options = {0};
	int limit = 10, option;
	size_t count = 0;
	while ((option = getopt(argc, argv, "a:n:c:")) != -1)
		if (option == 'n')
			limit = atoi(optarg);
		else if (option == 'c')
			count = (size_t)atoi(optarg);
		else if (option == 'a')
			options.tls_ca_file = optarg;
	if (optind >= argc || limit < 1) {
		fprintf(stderr, "usage: fetch [-n AT-ONCE] [-c COUNT] [-a CA-FILE] URL...\n");
		return 2;
	}
	struct round in_turn = {.urls = argv + optind, .url_count = (size_t)(argc - optind)};
	in_turn.count = count > 0 ? count : in_turn.url_count;

	wh_loop *loop = NULL;
	int r = wh_loop_open(&loop, NULL);
	if (r == 0)
		r = wh_http_client_open(loop, &options, &in_turn.client);
	if (r < 0) {
		fprintf(stderr, "fetch: %s\n", wh_strerror(r));
		return 1;
	}
	struct round at_once = in_turn;

	int64_t begin = wh_clock(loop);
	fetch_in_turn(&in_turn);
	int64_t between = wh_clock(loop);
	fetch_at_once(loop, &at_once, limit);
	int64_t end = wh_clock(loop);

	printf("one after another: %zu of %zu, %" PRIu64 " bytes, %" PRId64 " ms\n", in_turn.good,
	       in_turn.count, in_turn.bytes, (between - begin) / WH_NS_PER_MS);
	printf("%d at once: %zu of %zu, %" PRIu64 " bytes, %" PRId64 " ms\n", limit, at_once.good,
	       at_once.count, at_once.bytes, (end - between) / WH_NS_PER_MS);
	wh_http_client_close(in_turn.client);
	wh_loop_close(loop);
	return in_turn.good == in_turn.count && at_once.good == at_once.count ? 0 : 1;
}
