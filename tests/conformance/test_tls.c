/* tests/conformance/test_tls.c -- TLS connections: what they carry, how they end, how they are cancelled. */
#include "tls_authority.h"

#include <openssl/ssl.h>

static wh_tls_context *client, *server;

static int open_both(void **state)
{
	client = client_of_ca();
	server = server_of("good");
	return open_loop(state);
}

static int close_both(void **state)
{
	assert_null(wh_tls_context_close(client));
	assert_null(wh_tls_context_close(server));
	return close_loop(state);
}

#define ON_BOTH(f) cmocka_unit_test_setup_teardown(f, open_both, close_both)

static void open_pair(struct tls_pair *pair)
{
	connect_pair(pair, client, server, "good.test");
	assert_int_equal(pair->client_error, 0);
	assert_int_equal(pair->server_error, 0);
}

static void exchange(wh_tls *from, wh_tls *to, const char *text)
{
	char got[64] = "";
	size_t len = strlen(text);
	assert_int_equal(wh_await(wh_tls_send_all(from, text, len)).n, len);
	for (size_t done = 0; done < len;) {
		int64_t n = wh_await(wh_tls_recv(to, got + done, sizeof got - done)).n;
		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_string_equal(got, text);
}

static void bytes_go_both_ways(void **state)
{
	struct tls_pair pair;
	int before = open_fd_count();
	open_pair(&pair);
	exchange(pair.client, pair.server, "from the client");
	exchange(pair.server, pair.client, "from the server");
	assert_string_equal(wh_tls_version(pair.client), "TLSv1.3");
	assert_string_equal(wh_tls_cipher(pair.client), wh_tls_cipher(pair.server));
	assert_string_equal(wh_tls_alpn(pair.client), "");
	assert_string_equal(wh_tls_server_name(pair.server), "good.test");
	char name[64];
	assert_int_equal(wh_tls_peer_name(pair.client, name, sizeof name), strlen("CN = good"));
	assert_string_equal(name, "CN = good");
	assert_int_equal(wh_tls_peer_name(pair.client, name, 3), 2);
	assert_string_equal(name, "CN");
	assert_int_equal(wh_tls_peer_name(pair.server, name, sizeof name), 0);
	assert_true(wh_tls_fd(pair.client) >= 0);
	close_pair(&pair);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void vectors_and_pooled_buffers(void **state)
{
	struct tls_pair pair;
	open_pair(&pair);
	static char big[40000], head[] = "head", tail[] = "tail";
	memset(big, 'b', sizeof big);
	struct iovec iov[4] = {{head, 4}, {NULL, 0}, {big, sizeof big}, {tail, 4}};
	wh_future sent = wh_tls_sendv_all(pair.client, iov, 4);
	size_t done = 0;
	while (done < 8 + sizeof big) {
		wh_res res = wh_await(wh_tls_recv_buf(pair.server));
		assert_true(res.n > 0);
		const struct wh_buf *buf = res.ptr;
		assert_int_equal(buf->len, res.n);
		for (uint32_t i = 0; i < buf->len; i++, done++) {
			char expected = done < 4                ? "head"[done]
			                : done < 4 + sizeof big ? 'b'
			                                        : "tail"[done - 4 - sizeof big];
			assert_int_equal(buf->data[i], expected);
		}
		wh_buf_put(res.ptr);
	}
	assert_int_equal(wh_await(sent).n, 8 + sizeof big);
	assert_int_equal(wh_await(wh_tls_sendv_all(pair.client, iov, 17)).n, -EINVAL);
	assert_int_equal(wh_await(wh_tls_sendv_all(pair.client, NULL, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_tls_send_all(pair.client, NULL, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_tls_recv(pair.client, NULL, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_tls_send_all(pair.client, "", 0)).n, 0);
	close_pair(&pair);
}

/* ---- much, at once, in pieces -------------------------------------------------------------- */

enum { MUCH = 3 * 1024 * 1024 };

struct flow {
	wh_tls *tls;
	size_t received;
	bool wrong;
	wh_future sending;
};

static void on_bytes(wh_loop *l, wh_res res, void *arg)
{
	struct flow *flow = arg;
	if (res.n <= 0) {
		flow->wrong = true;
		return;
	}
	const struct wh_buf *buf = res.ptr;
	for (uint32_t i = 0; i < buf->len; i++, flow->received++)
		flow->wrong |= buf->data[i] != (uint8_t)(flow->received * 7 % 251);
	wh_buf_put(res.ptr);
	if (flow->received < MUCH)
		wh_then(wh_tls_recv_buf(flow->tls), on_bytes, flow);
}

static void much_flows_both_ways_at_once(void **state)
{
	struct tls_pair pair;
	int fds[2];
	uint8_t *bytes = malloc(MUCH);
	for (size_t i = 0; i < MUCH; i++)
		bytes[i] = (uint8_t)(i * 7 % 251);
	make_tcp(fds);
	shake_hands(&pair, fds, client, server, "good.test");
	assert_int_equal(pair.client_error, 0);
	struct flow flows[2] = {{.tls = pair.client}, {.tls = pair.server}};
	for (int i = 0; i < 2; i++) {
		flows[i].sending = wh_tls_send_all(flows[i].tls, bytes, MUCH);
		wh_then(wh_tls_recv_buf(flows[i].tls), on_bytes, &flows[i]);
	}
	while ((flows[0].received < MUCH || flows[1].received < MUCH) && !flows[0].wrong && !flows[1].wrong)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(flows[i].received, MUCH);
		assert_false(flows[i].wrong);
		assert_int_equal(wh_await(flows[i].sending).n, MUCH);
	}
	close_pair(&pair);
	free(bytes);
}

/* Passes on what comes one way, one byte at a time. */
static void *drip(void *arg)
{
	const int *fds = arg;
	char byte;
	while (read(fds[0], &byte, 1) == 1 && send(fds[1], &byte, 1, MSG_NOSIGNAL) == 1)
		;
	shutdown(fds[1], SHUT_WR);
	return NULL;
}

static void one_byte_at_a_time(void **state)
{
	struct tls_pair pair;
	int left[2], right[2], ends[2], ways[2][2];
	pthread_t threads[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right), 0);
	fcntl(left[0], F_SETFL, O_NONBLOCK);
	fcntl(right[0], F_SETFL, O_NONBLOCK);
	ends[0] = left[0];
	ends[1] = right[0];
	for (int i = 0; i < 2; i++) {
		ways[i][0] = i ? right[1] : left[1];
		ways[i][1] = i ? left[1] : right[1];
		assert_int_equal(pthread_create(&threads[i], NULL, drip, ways[i]), 0);
	}
	shake_hands(&pair, ends, client, server, "good.test");
	assert_int_equal(pair.client_error, 0);
	assert_int_equal(pair.server_error, 0);
	exchange(pair.client, pair.server, "byte by byte");
	exchange(pair.server, pair.client, "and back again");
	assert_int_equal(wh_await(wh_tls_shutdown(pair.client)).n, 0);
	char byte;
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, 0);
	close_pair(&pair);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	close(left[1]);
	close(right[1]);
}

/* ---- ends ---------------------------------------------------------------------------------- */

static void a_proper_end(void **state)
{
	struct tls_pair pair;
	char byte;
	open_pair(&pair);
	assert_int_equal(wh_await(wh_tls_shutdown(pair.client)).n, 0);
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, 0);
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, 0); /* and again */
	wh_res res = wh_await(wh_tls_recv_buf(pair.server));
	assert_int_equal(res.n, 0);
	assert_null(res.ptr);
	assert_int_equal(wh_await(wh_tls_send_all(pair.client, "x", 1)).n, -EPIPE);
	assert_int_equal(wh_await(wh_tls_shutdown(pair.client)).n, -EPIPE);
	exchange(pair.server, pair.client, "the other way is open");
	assert_int_equal(wh_await(wh_tls_close(pair.server)).n, 0); /* says so, too */
	pair.server = NULL;
	assert_int_equal(wh_await(wh_tls_recv(pair.client, &byte, 1)).n, 0);
	close_pair(&pair);
}

static void a_truncated_stream_is_an_error(void **state)
{
	struct tls_pair pair;
	char byte;
	open_pair(&pair);
	assert_int_equal(shutdown(wh_tls_fd(pair.client), SHUT_WR), 0); /* without a word */
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, -WH_ETLS_TRUNCATED);
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, -WH_ETLS_TRUNCATED);
	assert_int_equal(wh_await(wh_tls_send_all(pair.server, "x", 1)).n, -WH_ETLS_TRUNCATED);
	close_pair(&pair);
}

static void garbage_within_a_stream(void **state)
{
	struct tls_pair pair;
	static const char garbage[100] = "\x17\x03\x03\x00\x20 this is no record of this connection";
	char byte;
	open_pair(&pair);
	assert_int_equal(write(wh_tls_fd(pair.client), garbage, sizeof garbage), sizeof garbage);
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, -WH_ETLS_PROTOCOL);
	assert_int_equal(wh_await(wh_tls_recv(pair.client, &byte, 1)).n, -WH_ETLS_REFUSED); /* the alert */
	close_pair(&pair);
}

static void a_reset_is_told(void **state)
{
	struct tls_pair pair;
	int fds[2];
	char byte;
	make_tcp(fds);
	shake_hands(&pair, fds, client, server, "good.test");
	struct linger now = {.l_onoff = 1};
	/* the tickets that the client has not read would make it a reset anyway */
	setsockopt(wh_tls_fd(pair.client), SOL_SOCKET, SO_LINGER, &now, sizeof now);
	wh_future f = wh_tls_recv(pair.server, &byte, 1);
	assert_int_equal(shutdown(wh_tls_fd(pair.client), SHUT_RD), 0);
	assert_int_equal(wh_await(wh_tls_close(pair.client)).n, 0);
	pair.client = NULL;
	int64_t n = wh_await(f).n;
	assert_true(n == -ECONNRESET || n == 0); /* the close_notify may come through before it */
	close_pair(&pair);
}

/* A peer that asks for ever more answers and takes none is not read any more, instead of filling memory. */
static void answers_that_nobody_takes(void **state)
{
	enum { WAITS = 50, BYTES_MAX = 1 << 20 };
	int fds[2], waits = 0, n;
	struct wh_tls_problem problem;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *peer = SSL_new(ctx);
	assert_int_equal(SSL_set_fd(peer, fds[0]), 1);
	SSL_set_connect_state(peer);
	wh_future f = wh_tls_accept(loop, fds[1], server, &problem);
	while (SSL_do_handshake(peer) != 1)
		(void)wh_loop_turn(loop, WH_NS_PER_MS);
	wh_tls *tls = wh_await(f).ptr;
	assert_non_null(tls);
	f = wh_tls_recv_buf(tls);
	while (waits < WAITS && BIO_number_written(SSL_get_wbio(peer)) < BYTES_MAX) {
		(void)SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED);
		n = SSL_do_handshake(peer);
		waits = n == 1 ? 0 : waits + 1;
		if (n != 1)
			(void)wh_loop_turn(loop, WH_NS_PER_MS);
	}
	assert_int_equal(waits, WAITS);
	(void)wh_await(wh_tls_close(tls));
	assert_int_equal(wh_await(f).n, -ECANCELED);
	SSL_free(peer);
	SSL_CTX_free(ctx);
	close(fds[0]);
}

/* ---- rules of operations ------------------------------------------------------------------- */

static void one_of_a_kind_at_a_time(void **state)
{
	struct tls_pair pair;
	char bytes[2][16];
	static char big[8 * 1024 * 1024];
	open_pair(&pair);
	wh_future first = wh_tls_recv(pair.server, bytes[0], sizeof bytes[0]);
	assert_int_equal(wh_await(wh_tls_recv(pair.server, bytes[1], 1)).n, -EBUSY);
	assert_int_equal(wh_await(wh_tls_recv_buf(pair.server)).n, -EBUSY);
	assert_int_equal(wh_drop(first), -EBUSY); /* it borrows */
	wh_cancel(first);
	assert_int_equal(wh_await(first).n, -ECANCELED);
	wh_future sending = wh_tls_send_all(pair.server, big, sizeof big);
	assert_int_equal(wh_await(wh_tls_send_all(pair.server, "x", 1)).n, -EBUSY);
	assert_int_equal(wh_await(wh_tls_shutdown(pair.server)).n, -EBUSY);
	assert_int_equal(wh_drop(sending), -EBUSY);
	wh_cancel(sending);
	assert_int_equal(wh_await(sending).n, -ECANCELED);
	assert_int_equal(wh_drop(wh_tls_recv_buf(pair.server)), 0);
	close_pair(&pair);
}

static void a_cancelled_receive_loses_nothing(void **state)
{
	struct tls_pair pair;
	char bytes[16];
	open_pair(&pair);
	for (int i = 0; i < 20; i++) {
		wh_future f = wh_tls_recv(pair.server, bytes, sizeof bytes);
		for (int turn = 0; turn < i % 4; turn++)
			assert_int_equal(wh_loop_turn(loop, 0), 0);
		wh_cancel(f);
		assert_int_equal(wh_await(f).n, -ECANCELED);
		assert_int_equal(wh_drop(wh_tls_recv_buf(pair.server)), 0);
		exchange(pair.client, pair.server, "whole");
	}
	assert_int_equal(wh_loop_run(loop), 0); /* nothing is pending where nobody waits */
	close_pair(&pair);
}

static void closing_ends_operations(void **state)
{
	struct tls_pair pair;
	char bytes[16];
	static char big[8 * 1024 * 1024];
	open_pair(&pair);
	wh_future receiving = wh_tls_recv(pair.server, bytes, sizeof bytes);
	wh_future sending = wh_tls_send_all(pair.server, big, sizeof big);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_int_equal(wh_await(wh_tls_close(pair.server)).n, 0);
	pair.server = NULL;
	assert_int_equal(wh_await(receiving).n, -ECANCELED);
	assert_int_equal(wh_await(sending).n, -ECANCELED);
	close_pair(&pair);
}

static void on_end(wh_loop *l, wh_res res, void *arg)
{
	note(l, res, arg);
}

static void closing_the_loop_ends_operations(void **state)
{
	struct tls_pair pair;
	struct seen seen = {0};
	char bytes[16];
	int fds[2];
	open_pair(&pair);
	make_pair(fds);
	wh_then(wh_tls_recv(pair.server, bytes, sizeof bytes), on_end, &seen);
	wh_then(wh_tls_connect(loop, fds[0], client, "good.test", NULL), on_end, &seen);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	close_pair(&pair);
	wh_then(wh_tls_accept(loop, fds[1], server, NULL), on_end, &seen);
	loop = wh_loop_close(loop);
	assert_int_equal(seen.count, 3);
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
}

/* ---- handshakes that do not come to an end -------------------------------------------------- */

static void cancelled_at_every_step(void **state)
{
	int before = open_fd_count();
	bool went_through = false;
	for (int steps = 0; steps < 200 && !went_through; steps++)
		for (int which = 0; which < 2; which++) {
			int fds[2];
			make_pair(fds);
			wh_future f[2] = {wh_tls_connect(loop, fds[0], client, "good.test", NULL),
			                  wh_tls_accept(loop, fds[1], server, NULL)};
			for (int i = 0; i < steps && !wh_done(f[which]); i++)
				assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
			went_through = wh_done(f[which]);
			wh_cancel(f[which]);
			wh_res res = wh_await(f[which]);
			assert_true(went_through ? res.n == 0 : res.n == -ECANCELED);
			wh_res peer = wh_await(f[!which]); /* which learns of it */
			assert_true(peer.n == 0 || peer.n == -WH_ETLS_TRUNCATED || peer.n == -ECONNRESET ||
			            peer.n == -EPIPE);
			if (res.n == 0)
				assert_int_equal(wh_await(wh_tls_close(res.ptr)).n, 0);
			if (peer.n == 0)
				assert_int_equal(wh_await(wh_tls_close(peer.ptr)).n, 0);
		}
	assert_true(went_through);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void a_dropped_handshake_is_closed(void **state)
{
	int fds[2], before = open_fd_count();
	make_pair(fds);
	wh_future a = wh_tls_connect(loop, fds[0], client, "good.test", NULL);
	wh_future b = wh_tls_accept(loop, fds[1], server, NULL);
	while (!wh_done(a) || !wh_done(b))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(a), 0); /* complete */
	assert_int_equal(wh_drop(b), 0);
	make_pair(fds);
	assert_int_equal(wh_drop(wh_tls_connect(loop, fds[0], client, "good.test", NULL)), 0); /* pending */
	assert_int_equal(wh_drop(wh_tls_accept(loop, fds[1], server, NULL)), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void a_silent_peer_times_out(void **state)
{
	int fds[2];
	struct wh_tls_problem problem;
	wh_tls_context *hasty = open_context(&(struct wh_tls_options){
		.ca_file = tls_path("ca.pem"), .handshake_timeout_ns = 30 * WH_NS_PER_MS});
	make_pair(fds);
	int64_t begin = monotonic();
	assert_int_equal(wh_await(wh_tls_connect(loop, fds[0], hasty, "good.test", &problem)).n, -ETIMEDOUT);
	assert_true(monotonic() - begin >= 30 * WH_NS_PER_MS);
	assert_int_equal(problem.error, -ETIMEDOUT);
	close_fd(fds[1]);
	wh_tls_context_close(hasty);
}

static void garbage_in_place_of_a_handshake(void **state)
{
	static const char *const garbage[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	                                      "\x16\x03\x01\x00\x05\x02\x00\x00\x01z",
	                                      "\x15\x03\x01\x00\x02\x02\x28", "\x80\x2e\x01\x00\x02nonsense"};
	static const int64_t errors[] = {-WH_ETLS_PROTOCOL, -WH_ETLS_PROTOCOL, -WH_ETLS_PROTOCOL,
	                                 -WH_ETLS_TRUNCATED};
	static const size_t lens[] = {27, 10, 7, 13};
	for (size_t i = 0; i < 4; i++) {
		int fds[2];
		struct wh_tls_problem problem = {0};
		make_pair(fds);
		assert_int_equal(write(fds[1], garbage[i], lens[i]), lens[i]);
		assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
		wh_res res = wh_await(wh_tls_accept(loop, fds[0], server, &problem));
		assert_int_equal(res.n, errors[i]);
		assert_int_equal(problem.error, res.n);
		assert_true(problem.text[0] != 0);
		close_fd(fds[1]);
	}
	for (size_t len = 0; len < 2; len++) { /* the end, within the first record */
		int fds[2];
		make_pair(fds);
		assert_int_equal(write(fds[1], "\x16", len), len);
		close_fd(fds[1]);
		assert_int_equal(wh_await(wh_tls_accept(loop, fds[0], server, NULL)).n, -WH_ETLS_TRUNCATED);
	}
}

static void what_cannot_be_started(void **state)
{
	int fds[2];
	make_pair(fds);
	assert_int_equal(wh_await(wh_tls_connect(loop, -1, client, "a", NULL)).n, -EBADF);
	int before = open_fd_count();
	assert_int_equal(wh_await(wh_tls_connect(loop, fds[0], client, NULL, NULL)).n, -EINVAL); /* whom? */
	assert_int_equal(wh_await(wh_tls_accept(loop, fds[1], client, NULL)).n, -EINVAL); /* no server's */
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before - 2); /* taken all the same */
}

int main(void)
{
	need_engine();
	make_authority();
	const struct CMUnitTest tests[] = {
		ON_BOTH(bytes_go_both_ways),
		ON_BOTH(vectors_and_pooled_buffers),
		ON_BOTH(much_flows_both_ways_at_once),
		ON_BOTH(one_byte_at_a_time),
		ON_BOTH(a_proper_end),
		ON_BOTH(a_truncated_stream_is_an_error),
		ON_BOTH(garbage_within_a_stream),
		ON_BOTH(a_reset_is_told),
		ON_BOTH(answers_that_nobody_takes),
		ON_BOTH(one_of_a_kind_at_a_time),
		ON_BOTH(a_cancelled_receive_loses_nothing),
		ON_BOTH(closing_ends_operations),
		ON_BOTH(closing_the_loop_ends_operations),
		ON_BOTH(cancelled_at_every_step),
		ON_BOTH(a_dropped_handshake_is_closed),
		ON_BOTH(a_silent_peer_times_out),
		ON_BOTH(garbage_in_place_of_a_handshake),
		ON_BOTH(what_cannot_be_started),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	remove_authority();
	return failed;
}
