/* tests/fault/test_tls_faults.c -- every allocation of a TLS connection fails once: OpenSSL's and ours.
 *
 * A script opens contexts, shakes hands, exchanges bytes both ways and closes. The k-th allocation fails, for each k until the
 * script ends without a failure. Every future completes, with its true result or an error that is documented; nothing is
 * leaked, neither memory (sanitizers say so) nor descriptors; nothing hangs, and no handshake succeeds without the bytes
 * getting through. In the gate every 61st k is taken, TLS_FAULTS_ALL=1 takes every one.
 */
#include "../conformance/tls_authority.h"

#include <openssl/crypto.h>

static long allocations, fail_at; /* of this thread: the engines' workers do not allocate */
static _Thread_local bool counts;
static bool hit;

static bool fails(void)
{
	if (!counts || fail_at == 0 || ++allocations != fail_at)
		return false;
	hit = true;
	return true;
}

static void *openssl_malloc(size_t size, const char *file, int line)
{
	return fails() ? NULL : malloc(size);
}

static void *openssl_realloc(void *old, size_t size, const char *file, int line)
{
	return fails() ? NULL : realloc(old, size);
}

static void openssl_free(void *memory, const char *file, int line)
{
	free(memory);
}

/* What the library calls, put in between by the linker. */
#define WRAP(name, parameters, arguments)                        \
	void *__real_##name parameters;                          \
	void *__wrap_##name parameters;                          \
	void *__wrap_##name parameters                           \
	{                                                        \
		return fails() ? NULL : __real_##name arguments; \
	}
WRAP(malloc, (size_t size), (size))
WRAP(calloc, (size_t count, size_t size), (count, size))
WRAP(realloc, (void *old, size_t size), (old, size))
WRAP(strdup, (const char *text), (text))
WRAP(strndup, (const char *text, size_t len), (text, len))

static bool documented(int64_t n)
{
	return n == -ENOMEM || n == -ENOBUFS || n == -EAGAIN || n == -ECANCELED || n == -EPIPE ||
	       n == -ECONNRESET || (n <= -WH_ETLS_CERTIFICATE && n >= -WH_ETLS_CONFIG);
}

/* true: it is as when nothing fails. */
static bool expect(int64_t n, int64_t wanted)
{
	if (n != wanted && !documented(n))
		fail_msg("allocation %ld: an undocumented %lld (%s)", fail_at, (long long)n, wh_strerror(n));
	return n == wanted;
}

static bool send_and_receive(wh_tls *from, wh_tls *to)
{
	wh_future sent = wh_tls_send_all(from, "whilst", 6);
	wh_res res = wh_await(sent);
	if (!expect(res.n, 6))
		return false;
	res = wh_await(wh_tls_recv_buf(to));
	if (!expect(res.n, 6))
		return false;
	const struct wh_buf *buf = res.ptr;
	assert_memory_equal(buf->data, "whilst", 6);
	wh_buf_put(res.ptr);
	return true;
}

static bool connection(wh_tls_context *client, wh_tls_context *server)
{
	int fds[2];
	make_pair(fds);
	struct wh_tls_problem problem;
	wh_future a = wh_tls_connect(loop, fds[0], client, "good.test", &problem);
	wh_future b = wh_tls_accept(loop, fds[1], server, NULL);
	wh_res of_client = wh_await(a), of_server = wh_await(b);
	bool good = expect(of_client.n, 0) && expect(of_server.n, 0);
	good = good && send_and_receive(of_client.ptr, of_server.ptr);
	good = good && send_and_receive(of_server.ptr, of_client.ptr);
	for (int i = 0; i < 2; i++) {
		wh_res *res = i ? &of_server : &of_client;
		if (res->n >= 0)
			(void)expect(wh_await(wh_tls_close(res->ptr)).n, 0);
	}
	return good;
}

static bool script(void)
{
	wh_tls_context *client = NULL, *server = NULL;
	struct wh_tls_certificate good = certificate_of("good");
	int error = wh_tls_context_open(
		&(struct wh_tls_options){.ca_file = tls_path("ca.pem"), .alpn = "a,b"}, &client);
	bool well = expect(error, 0);
	error = wh_tls_context_open(
		&(struct wh_tls_options){
			.server = true, .certificates = &good, .certificate_count = 1, .alpn = "b"},
		&server);
	well &= expect(error, 0);
	well = well && connection(client, server);
	well = well && connection(client, server); /* resumed, if the session could be kept */
	if (server)
		well &= expect(wh_tls_context_reload(server), 0);
	wh_tls_context_close(client);
	wh_tls_context_close(server);
	return well;
}

static void every_allocation_fails_once(void **state)
{
	long step = getenv("TLS_FAULTS_ALL") ? 1 : 61, at = 1;
	fail_at = 0;
	assert_true(script()); /* what is made once for all is made now */
	int before = open_fd_count();
	do {
		hit = false;
		allocations = 0;
		fail_at = at;
		counts = true;
		bool well = script();
		counts = false;
		assert_int_equal(wh_loop_run(loop), 0);
		assert_int_equal(open_fd_count(), before);
		if (!hit)
			assert_true(well);
		at += step;
	} while (hit);
	print_message("%ld allocations\n", allocations);
	assert_true(allocations > 500);
	assert_true(script()); /* and nothing of it is left */
}

int main(void)
{
	if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
		abort();
	need_engine();
	make_authority();
	const struct CMUnitTest tests[] = {ON_LOOP(every_allocation_fails_once)};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	remove_authority();
	return failed;
}
