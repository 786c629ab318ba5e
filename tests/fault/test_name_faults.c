/* tests/fault/test_name_faults.c -- every allocation of lookups fails once: c-ares' and ours.
 *
 * c-ares takes the functions that allocate from who initialises it first, which is this program; ours are put in between by the
 * linker. A script looks up what there is to look up, and the k-th allocation fails, for each k until the script ends without
 * a failure. Every lookup ends, with its true result or a documented error; one after it, with memory, goes well; with the
 * loop closed nothing is left. What c-ares alone gets wrong without memory: documented() below.
 */
#include "../conformance/name_server.h"

#include <ares.h>

#include "allocations.h"

static struct name_server dns;

static void *ares_malloc_counted(size_t size)
{
	return malloc(size);
}

static void *ares_realloc_counted(void *old, size_t size)
{
	return realloc(old, size);
}

static void ares_free_counted(void *p)
{
	free(p);
}

/* c-ares 1.18 takes a question that it has no memory for as one without an answer. */
static bool documented(int64_t n)
{
	return n == -WH_ENAME_UNKNOWN || n == -WH_ENAME_NO_ADDRESS || n == -ENOMEM || n == -EAGAIN ||
	       n == -ENOBUFS || n == -ETIMEDOUT || n == -WH_ENAME_SERVER;
}

static void expect(int64_t n, int64_t wanted)
{
	if (n != wanted && !documented(n))
		fail_msg("allocation %d: an undocumented %lld (%s)", atomic_load(&fail_at), (long long)n,
		         wh_strerror(n));
}

static int64_t count_of(const char *host, const struct wh_lookup_options *options)
{
	wh_res res = wh_await(wh_lookup(loop, host, "80", options));
	if (res.n > 0)
		wh_addresses_free(res.ptr);
	return res.n;
}

static int64_t names_of(const struct wh_lookup_options *options)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
	wh_res res = wh_await(wh_lookup_name(loop, (struct sockaddr *)&address, sizeof address, options));
	if (res.n > 0)
		wh_names_free(res.ptr);
	return res.n;
}

/* What c-ares has no memory for it may ask again, after a time that nobody wants to wait for. */
static void script(void)
{
	const struct wh_lookup_options options = {.servers = dns.servers, .timeout_ns = 200 * WH_NS_PER_MS};
	int64_t n = count_of("both.test", &options);
	expect(n == 1 ? 2 : n, 2); /* of one family alone */
	expect(count_of("alias.test", &options), 1);
	expect(count_of("nothing.test", &options), -WH_ENAME_UNKNOWN);
	expect(names_of(&options), 1);
}

static void no_lookup_needs_the_memory_it_does_not_get(void **state)
{
	const char *one = getenv("WHILST_FAULT");
	const struct wh_lookup_options options = {.servers = dns.servers};
	for (int at = one ? atoi(one) : 1;; at++) {
		assert_int_equal(wh_loop_open(&loop, NULL), 0);
		assert_int_equal(count_of("four.test", &options), 1);
		atomic_store(&hit, false);
		atomic_store(&calls, 0);
		atomic_store(&fail_at, at);
		script();
		atomic_store(&fail_at, 0);
		assert_int_equal(count_of("both.test", &options), 2);
		loop = wh_loop_close(loop);
		if (!atomic_load(&hit) || one) {
			printf("%d allocations failed\n", at - 1);
			assert_true(one || at > 50);
			break;
		}
	}
}

/* Loop after loop, and nothing is left of any. */
static void nothing_is_left(void **state)
{
	const struct wh_lookup_options options = {.servers = dns.servers};
	long before = 0;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(wh_loop_open(&loop, NULL), 0);
		assert_int_equal(count_of("both.test", &options), 2);
		loop = wh_loop_close(loop);
		if (round > 0)
			assert_int_equal(atomic_load(&live), before);
		before = atomic_load(&live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_left),
		cmocka_unit_test(no_lookup_needs_the_memory_it_does_not_get),
		cmocka_unit_test(nothing_is_left),
	};
	if (ares_library_init_mem(ARES_LIB_INIT_ALL, ares_malloc_counted, ares_free_counted,
	                          ares_realloc_counted) != ARES_SUCCESS)
		return 1;
	need_engine();
	if (!start_name_server(&dns)) {
		printf("skipped: dnsmasq does not start\n");
		return 77;
	}
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	stop_name_server(&dns);
	return failed;
}
