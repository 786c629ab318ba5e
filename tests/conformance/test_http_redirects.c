/* tests/conformance/test_http_redirects.c -- URLs, redirects, expectations, proxies and the stages at which requests of the HTTP client
 * fail, on the engine of WHILST_ENGINE.
 */
#define WH_TESTS_HTTP_ON_SIM

#include "http_script.h"

static char url_text[3][160];

static const char *url_of(const struct script *script, const char *path)
{
	static int next;
	char *text = url_text[next++ % 3];

	snprintf(text, sizeof(url_text[0]), "http://%s%s", script->origin, path);
	return text;
}

static void reopen(const struct wh_http_client_options *options)
{
	stop(NULL);
	open_with(options);
}

/* ---- URLs ------------------------------------------------------------------------------------ */

static void urls(void **state)
{
	static const struct step steps[] = {
		{.say = OK}, {.say = OK},
		{.say = OK}, {.say = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"},
		END,         END};
	struct script *script = script_start(steps);
	struct wh_http_request request = {0};
	struct wh_http_response *response;
	char text[200], wanted[400];
	wh_res res = wh_await(wh_http_get(client, url_of(script, "/a?b=%41#fragment"), 0));

	response = res.ptr;
	assert_int_equal(res.n, 200);
	snprintf(wanted, sizeof(wanted), "http://%s/a?b=%%41", script->origin);
	assert_true(wh_slice_equal(response->url, wanted));
	assert_int_equal(response->redirects, 0);
	wh_http_response_free(response);
	snprintf(wanted, sizeof(wanted), "GET /a?b=%%41 HTTP/1.1\r\nHost: %s\r\n\r\n", script->origin);
	assert_string_equal(script->last_head, wanted);
	/* no path, user information; the same connection */
	snprintf(text, sizeof(text), "HTTP://u:p@%s?q", script->origin);
	request.url = text;
	res = wh_await(wh_http_request(client, &request));
	snprintf(wanted, sizeof(wanted), "HTTP://%s?q", script->origin); /* without the secret */
	assert_int_equal(res.n, 200);
	assert_true(wh_slice_equal(((struct wh_http_response *)res.ptr)->url, wanted));
	expect_answer(res, 200, "ok");
	snprintf(wanted, sizeof(wanted), "GET /?q HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic dTpw\r\n\r\n",
	         script->origin);
	assert_string_equal(script->last_head, wanted);
	snprintf(text, sizeof(text), "http://%s", script->origin);
	request = (struct wh_http_request){.origin = text, .target = "/x"};
	expect_answer(wh_await(wh_http_request(client, &request)), 200, "ok");
	assert_int_equal(stats().connections_opened, 1);
	assert_int_equal(wh_await(wh_http_get(client, text, 99)).n, -WH_EHTTP_TOO_LARGE);
	script_end(script);
	assert_int_equal(wh_await(wh_http_get(client, "ftp://a/", 0)).n, -EPROTONOSUPPORT);
	assert_int_equal(wh_await(wh_http_get(client, "http://\xc3\xa4/", 0)).n, -EILSEQ);
	assert_int_equal(wh_await(wh_http_get(client, "http:///", 0)).n, -EINVAL);
	request = (struct wh_http_request){.url = "http://a/", .origin = "a"};
	assert_int_equal(wh_await(wh_http_request(client, &request)).n, -EINVAL);
	request = (struct wh_http_request){.url = "http://a/", .target = "/"};
	assert_int_equal(wh_await(wh_http_request(client, &request)).n, -EINVAL);
	request = (struct wh_http_request){.url = "http://a/", .upgrade = "x"};
	assert_int_equal(wh_await(wh_http_request(client, &request)).n, -EINVAL);
}

/* Origins that nobody uses do not stay for ever: more of them than are kept, each refused at once. */
static void many_origins(void **state)
{
	char text[64];

	for (int i = 0; i < 3000; i++) {
		snprintf(text, sizeof(text), "http://127.%d.%d.1:1/", i / 200 + 1, i % 200);
		assert_int_equal(wh_await(wh_http_get(client, text, 0)).n, -ECONNREFUSED);
	}
	assert_int_equal(stats().connections, 0);
}

/* ---- redirects ------------------------------------------------------------------------------- */

#define TO(status, location) \
	"HTTP/1.1 " status " Moved\r\nLocation: " location "\r\nContent-Length: 4\r\n\r\nmove"

/* Which method and body arrive where a redirect leads. */
static void methods(void **state)
{
	static const struct {
		const char *answer, *method, *then;
		bool body;
	} cases[] = {
		{TO("301", "/to"), "GET", "GET", false},       {TO("301", "/to"), "POST", "GET", false},
		{TO("302", "/to"), "POST", "GET", false},      {TO("303", "/to"), "POST", "GET", false},
		{TO("303", "/to"), "PUT", "GET", false},       {TO("303", "/to"), "HEAD", "HEAD", false},
		{TO("301", "/to"), "PUT", "PUT", true},        {TO("307", "/to"), "POST", "POST", true},
		{TO("308", "/to"), "POST", "POST", true},      {TO("308", "/to"), "GET", "GET", false},
		{TO("307", "/to"), "DELETE", "DELETE", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool head = strcmp(cases[i].method, "HEAD") == 0,
		     sends = strncmp(cases[i].method, "P", 1) == 0;
		struct step steps[] = {
			{.say = head ? "HTTP/1.1 303 See Other\r\nLocation: /to\r\nContent-Length: 4\r\n\r\n"
		                     : cases[i].answer,
		         .body = sends ? 4 : 0},
			{.say = head ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" : OK,
		         .body = cases[i].body ? 4 : 0},
			END,
			END,
		};
		struct script *script = script_start(steps);
		struct wh_http_field fields[] = {{{"Content-Type", 12}, {"text/x", 6}},
		                                 {{"X-Kept", 6}, {"1", 1}}};
		struct wh_http_request request = {.url = url_of(script, "/from"),
		                                  .method = cases[i].method,
		                                  .fields = fields,
		                                  .field_count = 2,
		                                  .redirects_max = 1,
		                                  .body = sends ? "body" : NULL,
		                                  .body_len = sends ? 4 : 0};
		wh_res res = wh_await(wh_http_request(client, &request));
		struct wh_http_response *response = res.ptr;
		char start[100];

		assert_int_equal(res.n, 200);
		assert_int_equal(response->redirects, 1);
		assert_int_equal(memcmp(response->url.data + response->url.len - 3, "/to", 3), 0);
		wh_http_response_free(response);
		snprintf(start, sizeof(start), "%s /to HTTP/1.1\r\n", cases[i].then);
		if (strncmp(script->last_head, start, strlen(start)) != 0)
			fail_msg("case %zu: %s", i, script->last_head);
		assert_non_null(strstr(script->last_head, "X-Kept: 1\r\n"));
		assert_true(!strstr(script->last_head, "Content-Type") ==
		            (strcmp(cases[i].then, "GET") == 0 && sends));
		assert_true(!strstr(script->last_head, "Content-Length: 4") == !cases[i].body);
		script_end(script);
	}
	/* one connection for each pair: the content of a redirect is read over */
	assert_int_equal(stats().connections_opened, sizeof(cases) / sizeof(*cases));
	assert_int_equal(stats().redirects, sizeof(cases) / sizeof(*cases));
}

/* Secrets stay behind when the origin changes, and come along when it does not. */
static void secrets(void **state)
{
	for (int foreign = 0; foreign < 2; foreign++) {
		static const struct step there[] = {{.say = OK}, END, END};
		struct script *target = script_start(there);
		char answer[200];
		struct step here[] = {{.say = answer}, {.say = OK}, END, END};
		struct script *script;
		struct wh_http_field fields[] = {{{"Authorization", 13}, {"secret-a", 8}},
		                                 {{"cookie", 6}, {"secret-b", 8}},
		                                 {{"Proxy-Authorization", 19}, {"secret-c", 8}},
		                                 {{"X-Other", 7}, {"kept", 4}}};
		struct wh_http_request request;
		const char *arrived;

		snprintf(answer, sizeof(answer),
		         "HTTP/1.1 302 Found\r\nLocation: %s%s/x\r\nContent-Length: 0\r\n\r\n",
		         foreign ? "//" : "", foreign ? target->origin : "");
		if (!foreign)
			here[1].say = OK;
		else
			here[1] = (struct step)END;
		script = script_start(here);
		request = (struct wh_http_request){
			.url = url_of(script, "/"), .fields = fields, .field_count = 4, .redirects_max = 5};
		expect_answer(wh_await(wh_http_request(client, &request)), 200, "ok");
		arrived = foreign ? target->last_head : script->last_head;
		assert_int_equal(!strstr(arrived, "secret"), foreign);
		assert_non_null(strstr(arrived, "X-Other: kept\r\n"));
		if (foreign) {
			char host[100];

			snprintf(host, sizeof(host), "Host: %s\r\n", target->origin);
			assert_non_null(strstr(arrived, host));
		} else {
			expect_answer(wh_await(wh_http_get(client, url_of(target, "/"), 0)), 200, "ok");
		}
		script_end(script);
		script_end(target);
	}
}

static void bad_redirects(void **state)
{
	static const struct step steps[] = {{.say = TO("302", "/2")},
	                                    {.say = TO("302", "/3")},
	                                    END, /* one too many */
	                                    {.say = TO("302", "ftp://a/")},
	                                    END,
	                                    {.say = TO("302", "http://u:p@127.0.0.1:1/")},
	                                    END,
	                                    {.say = TO("302", "http://a b/")},
	                                    END,
	                                    {.say = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"},
	                                    END, /* no Location: as it is */
	                                    {.say = TO("302", "/2")},
	                                    END, /* not asked to follow */
	                                    {.say = "HTTP/1.1 304 Not Modified\r\nLocation: /2\r\n\r\n"},
	                                    END,
	                                    {.say = TO("300", "/2")},
	                                    END,
	                                    {.say = TO("302", "http://127.0.0.1:1/")},
	                                    END, /* nobody there */
	                                    END};
	static const int64_t wanted[] = {-WH_EHTTP_REDIRECT,
	                                 -WH_EHTTP_REDIRECT,
	                                 -WH_EHTTP_REDIRECT,
	                                 -WH_EHTTP_REDIRECT,
	                                 302,
	                                 302,
	                                 304,
	                                 300,
	                                 -ECONNREFUSED};
	struct script *script = script_start(steps);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		struct wh_http_failure failure = {0};
		struct wh_http_request request = {
			.url = url_of(script, "/"), .redirects_max = i != 5, .failure = &failure};
		wh_res res = wh_await(wh_http_request(client, &request));

		if (res.n != wanted[i])
			fail_msg("case %zu: %lld", i, (long long)res.n);
		assert_int_equal(failure.error, res.n < 0 ? res.n : 0);
		if (res.n > 0)
			wh_http_response_free(res.ptr);
		/* each case has a connection of its own */
		while (stats().connections > 0)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
	}
	script_end(script);
}

/* A redirect whose content never ends, is cut off, or is too much: followed on another connection. */
static void endless_content(void **state)
{
	static char much[70 * 1024];
	struct step steps[] = {{.say = "HTTP/1.1 302 Found\r\nLocation: /2\r\n\r\nuntil"},
	                       {.keep = true},
	                       {.say = OK},
	                       END,
	                       {.say = "HTTP/1.1 302 Found\r\nLocation: /2\r\nContent-Length: 70000\r\n\r\n"},
	                       {.keep = true},
	                       {.say = OK},
	                       END,
	                       {.say = "HTTP/1.1 302 Found\r\nLocation: /2\r\nContent-Length: 7\r\n\r\ncut"},
	                       END,
	                       {.say = OK},
	                       END,
	                       {.say = much},
	                       {.keep = true},
	                       {.say = OK},
	                       END,
	                       END};
	struct script *script;
	int n = snprintf(much, sizeof(much),
	                 "HTTP/1.1 302 Found\r\nLocation: /2\r\nTransfer-Encoding: "
	                 "chunked\r\n\r\nfffff\r\n");

	memset(much + n, 'x', sizeof(much) - (size_t)n - 1);
	script = script_start(steps);
	for (int i = 0; i < 4; i++)
		expect_answer(wh_await(wh_http_get(client, url_of(script, "/1"), 0)), 200, "ok");
	script_end(script);
}

/* In pieces: GET is followed; what has a body to be sent again is handed over. */
static void in_pieces(void **state)
{
	static const struct step steps[] = {{.say = TO("302", "/2")},
	                                    {.say = OK},
	                                    {.say = TO("307", "/2"), .body = 4},
	                                    {.say = TO("303", "/2"), .body = 4},
	                                    {.say = OK},
	                                    END,
	                                    END};
	struct script *script = script_start(steps);
	struct wh_http_request request = {.url = url_of(script, "/"), .redirects_max = 3};
	static const int wanted[] = {200, 307, 200};

	for (int i = 0; i < 3; i++) {
		wh_http_call *call;
		wh_res res;
		size_t len = 0;

		request.method = i == 0 ? "GET" : "POST";
		assert_int_equal(wh_http_call_open(client, &request, i == 0 ? 0 : 4, &call), 0);
		if (i > 0)
			assert_int_equal(wh_await(wh_http_call_write(call, "body", 4)).n, 0);
		res = wh_await(wh_http_call_response(call));
		assert_int_equal(res.n, wanted[i]);
		do {
			res = wh_await(wh_http_call_read(call));
			assert_true(res.n >= 0);
			len += (size_t)res.n;
			wh_buf_put(res.ptr);
		} while (res.n > 0);
		assert_int_equal(len, wanted[i] == 200 ? 2 : 4);
		wh_http_call_close(call);
	}
	assert_int_equal(stats().connections_opened, 1);
	script_end(script);
}

/* ---- Expect: 100-continue ---------------------------------------------------------------------- */

static void expectations(void **state)
{
	static const struct step steps[] = {
		/* asked for; refused, and never sent; without an answer; the server does not do that */
		{.say = "HTTP/1.1 100 Continue\r\n\r\n"},
		{.say = OK, .no_request = true, .body = 4},
		END,
		{.say = "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"},
		END,
		{.say = ""},
		{.say = OK, .no_request = true, .body = 4},
		END,
		{.say = "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"},
		END,
		{.say = OK, .body = 4},
		END,
		END};
	static const int wanted[] = {200, 413, 200, 200};
	struct script *script;

	script = script_start(steps);
	for (int i = 0; i < 4; i++) {
		/* only of the server that says nothing time decides */
		struct wh_http_client_options options = {.continue_timeout_ns = i == 2 ? 20 * WH_NS_PER_MS
		                                                                       : 30 * WH_NS_PER_S};
		struct wh_http_request request = {.url = url_of(script, "/"),
		                                  .method = "PUT",
		                                  .body = "body",
		                                  .body_len = 4,
		                                  .expect_continue = true};

		reopen(&options);
		expect_answer(wh_await(wh_http_request(client, &request)), wanted[i], NULL);
		assert_int_equal(!strstr(script->last_head, "Expect: 100-continue\r\n"), i == 3);
		while (stats().connections > 0)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
	}
	script_end(script);
}

static void expectations_in_pieces(void **state)
{
	static const struct step steps[] = {{.say = "HTTP/1.1 100 Continue\r\n\r\n"},
	                                    {.say = OK, .no_request = true, .body = 4},
	                                    {.say = "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"},
	                                    END,
	                                    {.say = OK, .body = 4},
	                                    END,
	                                    END};
	struct script *script = script_start(steps);

	for (int i = 0; i < 2; i++) {
		struct wh_http_request request = {
			.url = url_of(script, "/"), .method = "PUT", .expect_continue = true};
		wh_http_call *call;
		wh_res res;

		assert_int_equal(wh_http_call_open(client, &request, 4, &call), 0);
		assert_int_equal(wh_await(wh_http_call_write(call, "bo", 2)).n, 0);
		assert_int_equal(wh_await(wh_http_call_write(call, "dy", 2)).n, 0);
		assert_int_equal(wh_await(wh_http_call_response(call)).n, 200);
		res = wh_await(wh_http_call_read(call));
		assert_int_equal(res.n, 2);
		wh_buf_put(res.ptr);
		assert_int_equal(wh_await(wh_http_call_read(call)).n, 0);
		wh_http_call_close(call);
	}
	script_end(script);
}

/* What was written and withheld when the redirect came must not follow the GET: it would be a request of its own. */
static void withheld_pieces_stay_behind(void **state)
{
	static const struct step steps[] = {
		{.say = "HTTP/1.1 303 See Other\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"},
		END,
		{.say = OK},
		{.say = OK},
		END,
		END};
	struct script *script = script_start(steps);
	struct wh_http_request request = {
		.url = url_of(script, "/"), .method = "POST", .expect_continue = true, .redirects_max = 1};
	char wanted[200];
	wh_http_call *call;
	wh_res res;

	assert_int_equal(wh_http_call_open(client, &request, 4, &call), 0);
	assert_int_equal(wh_await(wh_http_call_write(call, "body", 4)).n, 0);
	assert_int_equal(wh_await(wh_http_call_response(call)).n, 200);
	res = wh_await(wh_http_call_read(call));
	wh_buf_put(res.ptr);
	assert_int_equal(wh_await(wh_http_call_read(call)).n, 0);
	wh_http_call_close(call);
	expect_answer(wh_await(wh_http_get(client, url_of(script, "/c"), 0)), 200, "ok");
	snprintf(wanted, sizeof(wanted), "GET /c HTTP/1.1\r\nHost: %s\r\n\r\n", script->origin);
	assert_string_equal(script->last_head, wanted);
	assert_int_equal(stats().connections_opened, 2);
	script_end(script);
}

static void agents(void **state)
{
	struct wh_http_client_options options = {.user_agent = "a\r\nX: y"};
	wh_http_client *other = NULL;

	assert_int_equal(wh_http_client_open(loop, &options, &other), -EINVAL);
	assert_null(other);
}

/* A connection that is being closed still knows where it led to, also when its origin is the oldest of too many. */
static void origins_outlive_their_connections(void **state)
{
	enum { ORIGINS_MAX = 1024 };
	int listener = peer_listen();
	struct wh_http_request request = {0};
	char text[64];
	wh_future f;

	snprintf(text, sizeof(text), "127.0.0.1:%u", peer_port(listener));
	request.origin = text;
	f = wh_http_request(client, &request);
	for (int i = 1; i < ORIGINS_MAX; i++) {
		char other[32];

		snprintf(other, sizeof(other), "unix:/nowhere/%d", i);
		request.origin = other;
		assert_true(wh_await(wh_http_request(client, &request)).n < 0);
	}
	wh_cancel(f);
	request.origin = "unix:/nowhere/at-all";
	assert_true(wh_await(wh_http_request(client, &request)).n < 0);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	close(listener);
}

/* ---- stages ------------------------------------------------------------------------------------ */

static void expect_stage(struct wh_http_request *request, int64_t error, int stage, bool total)
{
	struct wh_http_failure failure = {0};
	wh_http_call *call;
	wh_res res;

	request->failure = &failure;
	res = wh_await(wh_http_request(client, request));
	assert_int_equal(res.n, error);
	assert_int_equal(failure.error, error);
	if (failure.stage != stage)
		fail_msg("stage %d (%s), wanted %d", failure.stage, failure.text, stage);
	assert_int_equal(failure.total, total);
	if (error == -ETIMEDOUT) {
		assert_int_equal(strncmp(failure.text, "timed out ", 10), 0);
		assert_string_equal(failure.text + 10, wh_http_stage_name(stage));
	}
	/* the same in pieces */
	if (!request->body) {
		assert_int_equal(wh_http_call_open(client, request, 0, &call), 0);
		res = wh_await(wh_http_call_response(call));
		if (stage == WH_HTTP_STAGE_BODY && res.n > 0)
			while ((res = wh_await(wh_http_call_read(call))).n > 0)
				wh_buf_put(res.ptr);
		assert_int_equal(res.n, error);
		assert_true(wh_http_call_failure(call, &failure));
		assert_int_equal(failure.stage, stage);
		wh_http_call_close(call);
	}
}

/* A listener whose queue is full: nobody else gets to connect. */
static int full_listener(int *fillers, int max)
{
	struct sockaddr_in address = peer_address(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 0), 0);
	address = peer_address(peer_port(fd));
	for (int i = 0; i < max; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fillers[i], (struct sockaddr *)&address, sizeof(address));
	}
	return fd;
}

static void long_stages(void **state)
{
	static const struct step steps[] = {{.say = ""},
	                                    {.keep = true},
	                                    {.say = ""},
	                                    {.keep = true}, /* no answer */
	                                    {.say = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"},
	                                    {.keep = true}, /* half an answer */
	                                    {.say = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"},
	                                    {.keep = true},
	                                    {.say = "", .no_request = true},
	                                    {.keep = true}, /* takes nothing */
	                                    END};
	const int64_t soon = 60 * WH_NS_PER_MS;
	struct wh_http_client_options options = {.connections_max = 1,
	                                         .first_byte_timeout_ns = soon,
	                                         .read_timeout_ns = soon,
	                                         .send_timeout_ns = soon,
	                                         .connect_timeout_ns = soon,
	                                         .waiting_timeout_ns = soon};
	static char body[32 * MIB];
	struct wh_http_request request = {0};
	struct script *script;
	int fillers[4], fd = full_listener(fillers, 4);
	char origin[64];

	reopen(&options);
	script = script_start(steps);
	request.origin = script->origin;
	expect_stage(&request, -ETIMEDOUT, WH_HTTP_STAGE_RESPONSE, false);
	expect_stage(&request, -ETIMEDOUT, WH_HTTP_STAGE_BODY, false);
	request.method = "PUT";
	request.body = body;
	request.body_len = sizeof(body);
	expect_stage(&request, -ETIMEDOUT, WH_HTTP_STAGE_SEND, false);
	script_end(script);
	snprintf(origin, sizeof(origin), "127.0.0.1:%u", peer_port(fd));
	request = (struct wh_http_request){.origin = origin};
	expect_stage(&request, -ETIMEDOUT, WH_HTTP_STAGE_CONNECT, false);
	/* a request's own comes before the client's */
	options.connect_timeout_ns = -1;
	reopen(&options);
	request.connect_timeout_ns = soon;
	expect_stage(&request, -ETIMEDOUT, WH_HTTP_STAGE_CONNECT, false);
	for (int i = 0; i < 4; i++)
		close(fillers[i]);
	close(fd);
	request.origin = "127.0.0.1:1";
	expect_stage(&request, -ECONNREFUSED, WH_HTTP_STAGE_CONNECT, false);
	assert_string_equal(wh_http_stage_name(99), "");
}

/* In line behind one that keeps the only connection. */
static void stage_in_line(void **state)
{
	static const struct step steps[] = {{.say = ""}, {.keep = true}, END};
	struct wh_http_client_options options = {.connections_max = 1,
	                                         .waiting_timeout_ns = 50 * WH_NS_PER_MS};
	struct script *script;
	struct wh_http_request request;
	wh_future first;

	reopen(&options);
	script = script_start(steps);
	request = (struct wh_http_request){.origin = script->origin};
	first = wh_http_request(client, &request);
	expect_stage(&request, -ETIMEDOUT, WH_HTTP_STAGE_LINE, false);
	wh_cancel(first);
	assert_int_equal(wh_await(first).n, -ECANCELED);
	script_end(script);
}

/* The total runs out though every stage is within its time, redirects included. */
static void *trickle(void *arg)
{
	int listener = *(int *)arg, fd = accept(listener, NULL, NULL);
	char head[4096];

	assert_true(fd >= 0);
	peer_be_patient(fd);
	peer_read_head(fd, head, sizeof(head));
	peer_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
	while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
		poll(NULL, 0, 5); /* slow, not stuck: what the client's total is for */
	close(fd);
	return NULL;
}

static void long_total(void **state)
{
	int listener = peer_listen();
	struct wh_http_failure failure;
	struct wh_http_request request = {.total_timeout_ns = 100 * WH_NS_PER_MS, .failure = &failure};
	struct wh_http_client_options options = {.idle_timeout_ns = 100 * WH_NS_PER_MS};
	char origin[64];
	pthread_t thread;

	reopen(&options);
	snprintf(origin, sizeof(origin), "127.0.0.1:%u", peer_port(listener));
	request.origin = origin;
	assert_int_equal(pthread_create(&thread, NULL, trickle, &listener), 0);
	assert_int_equal(wh_await(wh_http_request(client, &request)).n, -ETIMEDOUT);
	assert_int_equal(failure.stage, WH_HTTP_STAGE_BODY);
	assert_true(failure.total);
	assert_int_equal(wh_loop_run(loop), 0); /* the connection is closed: the server goes */
	pthread_join(thread, NULL);
	close(listener);
}

/* ---- proxies ----------------------------------------------------------------------------------- */

static void through_proxy(void **state)
{
	static const struct step steps[] = {{.say = OK}, {.say = OK}, {.say = OK}, END, END};
	struct script *script = script_start(steps);
	char proxy[100];
	struct wh_http_client_options options = {.proxy = proxy, .no_proxy = "127.0.0.0/8"};
	struct wh_http_request star = {.origin = "a.example", .method = "OPTIONS", .target = "*"};

	snprintf(proxy, sizeof(proxy), "http://u:p@%s", script->origin);
	reopen(&options);
	expect_answer(wh_await(wh_http_get(client, "http://a.example/x?y", 0)), 200, "ok");
	assert_string_equal(script->last_head, "GET http://a.example/x?y HTTP/1.1\r\nHost: "
	                                       "a.example\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
	expect_answer(wh_await(wh_http_get(client, "http://b.example:81", 0)), 200, "ok");
	assert_string_equal(script->last_head, "GET http://b.example:81/ HTTP/1.1\r\nHost: b.example:81\r\n"
	                                       "Proxy-Authorization: Basic dTpw\r\n\r\n");
	expect_answer(wh_await(wh_http_request(client, &star)), 200, "ok");
	assert_int_equal(strncmp(script->last_head, "OPTIONS http://a.example HTTP/1.1\r\n", 35), 0);
	assert_int_equal(stats().connections_opened, 1); /* one pool for all that the proxy reaches */
	assert_int_equal(wh_await(wh_http_get(client, "http://127.0.0.1:1/", 0)).n,
	                 -ECONNREFUSED); /* past it */
	script_end(script);
}

static void proxy_refuses(void **state)
{
	static const struct step steps[] = {
		{.say = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 Who?\r\nContent-Length: 100\r\n\r\n"},
		END,
		{.say = "nonsense"},
		END,
		{.say = ""},
		END,
		{.say = "HTTP/1.1 200 OK\r\n\r\nand more"},
		END,
		{.say = ""},
		{.keep = true},
		END};
	static const int64_t wanted[] = {-WH_EHTTP_PROXY, -WH_EHTTP_SYNTAX, -WH_EHTTP_CLOSED,
	                                 -WH_EHTTP_SYNTAX, -ETIMEDOUT};
	struct script *script = script_start(steps);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		/* only of the last one time decides */
		struct wh_http_client_options options = {
			.proxy = script->origin,
			.proxy_timeout_ns = wanted[i] == -ETIMEDOUT ? 50 * WH_NS_PER_MS : 30 * WH_NS_PER_S};
		struct wh_http_failure failure;
		struct wh_http_request request = {.url = "https://a.example/", .failure = &failure};

		reopen(&options);
		wh_res res = wh_await(wh_http_request(client, &request));

		if (res.n != wanted[i])
			fail_msg("case %zu: %lld", i, (long long)res.n);
		assert_int_equal(failure.stage, WH_HTTP_STAGE_PROXY);
		assert_int_equal(failure.proxy_status, i == 0 ? 407 : 0);
		assert_string_equal(script->last_head,
		                    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
	}
	script_end(script);
}

static void proxy_options(void **state)
{
	struct wh_http_client_options options = {.proxy = "socks5://a"};
	wh_http_client *other;

	assert_int_equal(wh_http_client_open(loop, &options, &other), -EPROTONOSUPPORT);
	options.proxy = "http://a:b";
	assert_int_equal(wh_http_client_open(loop, &options, &other), -EINVAL);
	options.proxy = "http://\xff";
	assert_int_equal(wh_http_client_open(loop, &options, &other), -EILSEQ);
}

/* ---- another protocol ---------------------------------------------------------------------------- */

static void upgrade(void **state)
{
	static const struct step steps[] = {
		{.say = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nread ahead"},
		{.say = "second", .no_request = true, .body = 5},
		END,
		{.say = OK},
		{.say = "HTTP/1.1 101 Why\r\n\r\n"},
		END,
		END};
	struct script *script = script_start(steps);
	struct wh_http_request request = {.url = url_of(script, "/"), .upgrade = "echo"};
	char got[64] = "";
	size_t len = 0;
	wh_http_call *call;
	wh_res res;

	assert_int_equal(wh_http_call_open(client, &request, 1, &call), -EINVAL);
	assert_int_equal(wh_http_call_open(client, &request, 0, &call), 0);
	assert_int_equal(wh_await(wh_http_call_response(call)).n, 101);
	assert_non_null(strstr(script->last_head, "Connection: Upgrade\r\nUpgrade: echo\r\n"));
	assert_true(wh_http_call_upgraded(call));
	assert_int_equal(wh_await(wh_http_call_write(call, "hello", 5)).n, 0);
	while ((res = wh_await(wh_http_call_read(call))).n > 0) {
		struct wh_buf *buf = res.ptr;

		assert_true(len + buf->len < sizeof(got));
		memcpy(got + len, buf->data, buf->len);
		len += buf->len;
		wh_buf_put(buf);
	}
	assert_int_equal(res.n, 0);
	assert_string_equal(got, "read aheadsecond");
	wh_http_call_end(call);
	wh_http_call_close(call);
	/* the server stays with HTTP */
	assert_int_equal(wh_http_call_open(client, &request, 0, &call), 0);
	assert_int_equal(wh_await(wh_http_call_response(call)).n, 200);
	assert_false(wh_http_call_upgraded(call));
	res = wh_await(wh_http_call_read(call));
	assert_int_equal(res.n, 2);
	wh_buf_put(res.ptr);
	wh_http_call_close(call);
	/* 101 to somebody who did not ask */
	assert_int_equal(ask(script->origin, NULL, NULL).n, -WH_EHTTP_SYNTAX);
	script_end(script);
}

/* Usage: [quick], which leaves out what is long. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(urls),          TEST(many_origins),  TEST(methods),
		TEST(secrets),       TEST(bad_redirects), TEST(endless_content),
		TEST(in_pieces),     TEST(expectations),  TEST(expectations_in_pieces),
		TEST(in_pieces),     TEST(expectations),  TEST(withheld_pieces_stay_behind),
		TEST(in_pieces),     TEST(expectations),  TEST(agents),
		TEST(in_pieces),     TEST(expectations),  TEST(origins_outlive_their_connections),
		TEST(long_stages),   TEST(stage_in_line), TEST(long_total),
		TEST(through_proxy), TEST(proxy_refuses), TEST(proxy_options),
		TEST(upgrade),
	};

	if (argc > 1 && strcmp(argv[1], "quick") == 0)
		cmocka_set_skip_filter("long_*");
	return on_sim_end(cmocka_run_group_tests_name("http redirects", tests, NULL, NULL));
}
