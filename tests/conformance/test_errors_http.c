/* tests/conformance/test_errors_http.c -- the errors of HTTP's calls that a peer has no part in; client and server on one loop. What
 * peers do wrong is in test_http_*.c.
 */
#include "errors.h"

#include "whilst/http.h"

static wh_http_server *server;
static wh_http_exchange *parked;
static int gone;
static struct sockaddr_in there;

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static void fields_that_cannot_be(wh_http_exchange *x)
{
	static char long_value[40000];
	memset(long_value, 'x', sizeof long_value - 1);
	is_now(wh_http_set(x, "Content-Length", "1"), -EINVAL);
	is_now(wh_http_setf(x, "Connection", "%s", "close"), -EINVAL);
	is_now(wh_http_set_slice(x, slice("A b"), slice("1")), -EINVAL);
	is_now(wh_http_add(x, "X-Mine", "1\r\nX-Other: 2"), -EINVAL);
	is_now(wh_http_add_slice(x, slice("Transfer-Encoding"), slice("chunked")), -EINVAL);
	is_now(wh_http_set(x, "X-Mine", long_value), -E2BIG);
	is_now(wh_http_setf(x, "X-Mine", "%s", long_value), -E2BIG);
	is_now(wh_http_set_slice(x, slice("X-Mine"), slice(long_value)), -E2BIG);
	is_now(wh_http_add(x, "X-Mine", long_value), -E2BIG);
	is_now(wh_http_add_slice(x, slice("X-Mine"), slice(long_value)), -E2BIG);
	wh_http_respond(x, 204, NULL, 0);
}

static struct wh_buf *filled_buffer(void)
{
	struct wh_buf *buf = wh_buf_get(loop);
	assert_non_null(buf);
	memset(buf->data, 'x', 4);
	buf->len = 4;
	return buf;
}

static void more_than_was_said(wh_http_exchange *x)
{
	struct wh_http_field link = {slice("Link"), slice("</a>; rel=preload")},
			     wrong_one = {slice("A b"), slice("")};
	is_now(wh_http_inform(x, 200, &link, 1), -EINVAL);
	is_now(wh_http_inform(x, 103, &wrong_one, 1), -EINVAL);
	is_now(wh_http_upgrade(x, "echo"), -EINVAL); /* nobody asks for it */
	is_now(wh_http_start(x, 200, 3), 0);
	is_now(wh_http_start(x, 200, 3), -EALREADY);
	is_now(wh_http_inform(x, 103, &link, 1), -EALREADY);
	is_now(wh_http_upgrade(x, "echo"), -EALREADY);
	is(wh_http_write(x, "four", 4), -EMSGSIZE);
	is(wh_http_write_buf(x, filled_buffer()), -EMSGSIZE);
	is(wh_http_write(x, "abc", 3), 0);
	wh_http_end(x);
}

static void answer_what_was_read(wh_loop *l, wh_res res, void *arg)
{
	wh_buf_put(res.ptr);
	wh_http_respond(arg, 204, NULL, 0);
}

static void two_reads(wh_http_exchange *x)
{
	wh_future first = wh_http_read(x);
	is(wh_http_read(x), -EBUSY);
	is_now(wh_then(first, answer_what_was_read, x), 0);
}

static void on_gone(void *arg)
{
	gone++;
}

static void on_head(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/read"))
		wh_http_stream(x, 0);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x);
	if (wh_slice_equal(path, "/fields")) {
		fields_that_cannot_be(x);
	} else if (wh_slice_equal(path, "/more")) {
		more_than_was_said(x);
	} else if (wh_slice_equal(path, "/read")) {
		two_reads(x);
	} else {
		assert_int_equal(wh_http_retain(x), 0);
		parked = x;
		wh_http_on_close(x, on_gone, NULL);
	}
}

static void open_server(void)
{
	struct wh_http_server_options options = {.on_head = on_head, .on_request = on_request};
	assert_int_equal(wh_http_server_open(loop, &options, &server), 0);
	assert_int_equal(wh_http_server_listen(server, listen_tcp(&there)), 0);
	parked = NULL;
	gone = 0;
	wrong = 0;
}

static const char *origin(void)
{
	static char text[32];
	snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(there.sin_port));
	return text;
}

static void ask(wh_http_client *client, const char *target, const void *body, size_t len, int64_t status)
{
	struct wh_http_request request = {.origin = origin(),
	                                  .method = len ? "POST" : "GET",
	                                  .target = target,
	                                  .body = body,
	                                  .body_len = len};
	wh_res res = wh_await(wh_http_request(client, &request));
	judge(target, "", res.n, status);
	if (res.n > 0)
		wh_http_response_free(res.ptr);
}

static void exchanges(void **state)
{
	wh_http_client *client;
	open_server();
	assert_int_equal(wh_http_client_open(loop, NULL, &client), 0);
	ask(client, "/fields", NULL, 0, 204);
	ask(client, "/more", NULL, 0, 200);
	ask(client, "/read", "body", 4, 204);
	wh_http_client_close(client);
	wh_http_server_close(server);
	assert_int_equal(wrong, 0);
}

/* An exchange whose client has reset the connection is still answered, and every call says so. */
static void clients_that_have_gone(void **state)
{
	static const char request[] =
		"GET /park HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
	struct wh_http_field link = {slice("Link"), slice("</a>; rel=preload")};
	open_server();
	for (int round = 0; round < 2; round++) {
		parked = NULL;
		int fd = (int)wh_await(wh_connect(loop, (struct sockaddr *)&there, sizeof there)).n;
		assert_int_equal(wh_await(wh_send_all(loop, fd, request, sizeof request - 1)).n,
		                 sizeof request - 1);
		while (!parked)
			assert_int_equal(wh_loop_turn(loop, -1), 0);
		assert_int_equal(wh_set_option(loop, fd, WH_LINGER_NS, 0), 0);
		close_fd(fd);
		run_until(&gone, round + 1);
		is_now(wh_http_inform(parked, 103, &link, 1), -EPIPE);
		if (round == 0) {
			is_now(wh_http_upgrade(parked, "echo"), -EPIPE);
			wh_http_respond(parked, 204, NULL, 0);
		} else {
			is_now(wh_http_start(parked, 200, WH_HTTP_CHUNKED), 0);
			int64_t n = wh_await(wh_http_write(parked, "x", 1)).n;
			judge("write", "gone", n == -ECONNRESET ? -EPIPE : n, -EPIPE);
			n = wh_await(wh_http_write_buf(parked, filled_buffer())).n;
			judge("write_buf", "gone", n == -ECONNRESET ? -EPIPE : n, -EPIPE);
			wh_http_end(parked);
		}
	}
	is(wh_http_server_drain(server), 0);
	is(wh_http_server_drain(server), -EALREADY);
	wh_http_server_close(server);
	assert_int_equal(wrong, 0);
}

static void calls(void **state)
{
	wh_http_client *client;
	wh_http_call *call = NULL;
	struct wh_http_request request = {.method = "POST", .target = "/fields"},
			       with_body = {.body = "x", .body_len = 1};
	struct wh_http_client_options proxy = {.proxy = "ftp://127.0.0.1:1"},
				      not_ascii = {.proxy = "http://\xc3\xa9:1"},
				      not_one = {.proxy = "http://"};
	open_server();
	is_now(wh_http_client_open(loop, &proxy, &client), -EPROTONOSUPPORT);
	is_now(wh_http_client_open(loop, &not_ascii, &client), -EILSEQ);
	is_now(wh_http_client_open(loop, &not_one, &client), -EINVAL);
	assert_int_equal(wh_http_client_open(loop, NULL, &client), 0);
	request.origin = with_body.origin = origin();
	is_now(wh_http_call_open(client, &with_body, 0, &call), -EINVAL);
	is_now(wh_http_call_open(client, &request, 3, &call), 0);
	is(wh_http_call_write_buf(call, filled_buffer()), -EMSGSIZE);
	is(wh_http_call_write(call, "four", 4), -EMSGSIZE);
	call = wh_http_call_close(call);
	wh_http_client_close(client);
	wh_http_server_close(server);
	assert_int_equal(wrong, 0);
}

/* ---- files of TLS ------------------------------------------------------------------------------ */

static void certificates_of_others(void)
{
	wh_tls_context *context = NULL;
	struct wh_tls_options authorities = {.ca_file = "closed/x"};
	int error = wh_tls_context_open(&authorities, &context);
	judge("tls_context_open", "closed/x", error == -ENOSYS ? -EACCES : error, -EACCES);
}

static void without_permission(void **state)
{
	must(wh_mkdir(loop, in_folder("closed"), 0700));
	assert_int_equal(chmod(folder, 0755), 0);
	in_another_process(become_nobody, certificates_of_others);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(exchanges),
		IN_FOLDER(clients_that_have_gone),
		IN_FOLDER(calls),
		IN_FOLDER(without_permission),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
