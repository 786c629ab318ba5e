/* tests/unit/test_backend.c -- whose turn it is: balance, circuits, health, and what outlives a changed service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "deliver/service.h"

static const struct breaker breaker = {.failures = 3, .open_ns = 100};
static struct backend *backends[3];
static uint32_t turn;

static int make(void **state)
{
	char detail[100];

	turn = 0;
	backends[0] = backend_new("http://a", detail, sizeof(detail));
	backends[1] = backend_new("http://b", detail, sizeof(detail));
	backends[2] = backend_new("http://c", detail, sizeof(detail));
	return backends[2] ? 0 : -1;
}

static int unmake(void **state)
{
	for (int i = 0; i < 3; i++)
		backends[i] = backend_unref(backends[i]);
	return 0;
}

static int choose(uint64_t tried, int64_t now)
{
	return backend_choose(backends, 3, tried, &turn, now);
}

static void fail_once(int i, int64_t now)
{
	struct backend_call call = {0};

	backend_begin(&call, backends[i]);
	backend_failed(&call, &breaker, -111, now);
	backend_end(&call);
}

static void least_outstanding(void **state)
{
	struct backend_call calls[30] = {0}, more[10] = {0};

	for (int i = 0; i < 30; i++) {
		int at = choose(0, 0);
		assert_true(at >= 0);
		backend_begin(&calls[i], backends[at]);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(backends[i]->outstanding, 10);
	/* the one that is done with its calls is next, until it has as many as the others */
	for (int i = 0; i < 30; i++)
		if (calls[i].backend == backends[1])
			backend_end(&calls[i]);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(choose(0, 0), 1);
		backend_begin(&more[i], backends[1]);
	}
	for (int i = 0; i < 10; i++)
		backend_end(&more[i]);
	for (int i = 0; i < 30; i++)
		backend_end(&calls[i]);
}

static void in_turn(void **state)
{
	int seen[3] = {0};

	for (int i = 0; i < 9; i++)
		seen[choose(0, 0)]++;
	for (int i = 0; i < 3; i++)
		assert_int_equal(seen[i], 3);
	assert_int_equal(choose(3, 0), 2);
	assert_int_equal(choose(7, 0), -1);
}

static void circuit(void **state)
{
	struct backend_call trial = {0}, late = {0};
	int64_t at;

	backend_begin(&late, backends[0]);
	fail_once(0, 10);
	fail_once(0, 11);
	assert_int_equal(backend_state(backends[0], 12), BACKEND_UP);
	fail_once(0, 12);
	assert_int_equal(backend_state(backends[0], 12), BACKEND_OPEN);
	assert_int_equal(backends[0]->circuits_opened, 1);
	for (int i = 0; i < 6; i++)
		assert_int_not_equal(choose(0, 50), 0);
	assert_int_equal(backend_room(backends, 3, 50, &at), UINT32_MAX);
	assert_int_equal(backend_room(backends, 1, 50, &at), 0);
	assert_int_equal(at, 112);
	/* one call finds out */
	assert_int_equal(backend_room(backends, 1, 112, &at), 1);
	assert_int_equal(choose(0, 112), 0);
	backend_begin(&trial, backends[0]);
	assert_int_equal(backend_state(backends[0], 112), BACKEND_TRIAL);
	assert_int_equal(backend_room(backends, 1, 112, &at), 0);
	assert_true(at == INT64_MAX);
	assert_int_not_equal(choose(0, 112), 0);
	/* in vain: open again, and counted as the same opening */
	backend_failed(&trial, &breaker, -110, 120);
	backend_end(&trial);
	assert_int_equal(backend_state(backends[0], 120), BACKEND_OPEN);
	assert_int_equal(backend_state(backends[0], 220), BACKEND_TRIAL);
	assert_int_equal(backends[0]->circuits_opened, 1);
	/* one that nobody waited for says nothing: another may try */
	backend_begin(&trial, backends[0]);
	backend_end(&trial);
	assert_int_equal(backend_room(backends, 1, 220, &at), 1);
	backend_begin(&trial, backends[0]);
	backend_answered(&trial);
	assert_int_equal(backend_state(backends[0], 220), BACKEND_UP);
	assert_int_equal(backends[0]->failures_row, 0);
	backend_end(&trial);
	backend_answered(&late);
	backend_end(&late);
	assert_int_equal(backends[0]->outstanding, 0);
	assert_int_equal(backends[0]->failures, 4);
}

static void never_opens(void **state)
{
	static const struct breaker off = {.failures = 0, .open_ns = 100};

	for (int i = 0; i < 100; i++) {
		struct backend_call call = {0};
		backend_begin(&call, backends[0]);
		backend_failed(&call, &off, -111, i);
		backend_end(&call);
	}
	assert_int_equal(backend_state(backends[0], 100), BACKEND_UP);
}

static void health(void **state)
{
	int64_t at;

	assert_false(backend_checked(backends[0], false, 2, 3));
	assert_false(backend_checked(backends[0], false, 2, 3));
	assert_false(backend_checked(backends[0], true, 2, 3)); /* begins anew */
	assert_false(backend_checked(backends[0], false, 2, 3));
	assert_false(backend_checked(backends[0], false, 2, 3));
	assert_true(backend_checked(backends[0], false, 2, 3));
	assert_int_equal(backend_state(backends[0], 0), BACKEND_DOWN);
	assert_int_equal(backend_room(backends, 1, 0, &at), 0);
	assert_true(at == INT64_MAX);
	for (int i = 0; i < 6; i++)
		assert_int_not_equal(choose(0, 0), 0);
	assert_false(backend_checked(backends[0], true, 2, 3));
	assert_true(backend_checked(backends[0], true, 2, 3));
	assert_int_equal(backend_state(backends[0], 0), BACKEND_UP);
	assert_int_equal(backends[0]->checks, 8);
	assert_int_equal(backends[0]->checks_failed, 5);
}

static struct service *parse(const char *json)
{
	struct service_refusal refusal;
	struct service *service = service_parse("s", 1, false, json, strlen(json), &refusal);

	if (!service)
		fail_msg("%s", refusal.detail);
	return service;
}

/* A changed service goes on with the backends that it had. */
static void changed_service(void **state)
{
	struct service_table table = {0};
	struct service *old = parse(
			       "{\"urls\": [\"http://a\", \"http://b\"], \"health\": {\"path\": \"/\"}}"),
		       *new;
	struct backend_call call = {0};

	service_put(&table, service_ref(old));
	backend_begin(&call, old->backends[1]);
	old->backends[0]->down = true;
	old->backends[1]->open = true;
	new = parse("{\"urls\": [\"http://b\", \"http://c\"], \"breaker\": {\"failures\": 2}}");
	service_put(&table, new);
	assert_ptr_equal(new->backends[0], old->backends[1]);
	assert_int_equal(new->backends[0]->outstanding, 1);
	assert_true(new->backends[0]->open);
	backend_end(&call);
	assert_int_equal(new->backends[0]->outstanding, 0);
	service_put(&table, parse("{\"url\": \"http://b\", \"breaker\": {\"failures\": 0}}"));
	assert_false(table.first->backends[0]->open);
	/* who asks nobody for its health cannot be found down for ever */
	service_put(&table, parse("{\"url\": \"http://b\", \"health\": {\"path\": \"/\"}}"));
	table.first->backends[0]->down = true;
	service_put(&table, parse("{\"url\": \"http://b\"}"));
	assert_false(table.first->backends[0]->down);
	service_unref(old);
	service_clear(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(least_outstanding, make, unmake),
		cmocka_unit_test_setup_teardown(in_turn, make, unmake),
		cmocka_unit_test_setup_teardown(circuit, make, unmake),
		cmocka_unit_test_setup_teardown(never_opens, make, unmake),
		cmocka_unit_test_setup_teardown(health, make, unmake),
		cmocka_unit_test(changed_service),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
