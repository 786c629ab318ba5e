/* tests/fault/test_transaction_faults.c -- every allocation of ours while a transaction is read fails once (those of the JSON library
 * are its own affair): it is refused, and nothing is left.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "front/transaction.h"

static long fail_at, calls, live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *p);

static bool fails(void)
{
	return fail_at > 0 && ++calls == fail_at;
}

static void *counted(void *p)
{
	live += p != NULL;
	return p;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	void *p = fails() ? NULL : __real_realloc(old, size);

	live += p && !old;
	return p;
}

void __wrap_free(void *p)
{
	live -= p != NULL;
	__real_free(p);
}

static const char text[] = "{\"actions\": [{\"action\": \"complete\", \"job\": 17, \"lease\": \"3.42\", "
			   "\"result\": {\"a\": [1, 2.5]}},"
			   "{\"action\": \"submit\", \"queue\": \"a\", \"payload_base64\": \"AAEC\"},"
			   "{\"action\": \"submit\", \"queue\": \"b\", \"payload\": [\"x\"], "
			   "\"after\": [{\"action\": 1}, 7], \"callback\": \"http://h/\"},"
			   "{\"action\": \"edit\", \"job\": 9, \"priority\": null, \"if_match\": \"*\"},"
			   "{\"action\": \"move\", \"job\": 10, \"to\": \"c\"},"
			   "{\"action\": \"replay\", \"job\": 11},"
			   "{\"action\": \"progress\", \"job\": 4, \"lease\": \"1.4\", \"progress\": [1]},"
			   "{\"action\": \"publish\", \"topic\": \"t\", \"event\": {\"id\": \"1\"}},"
			   "{\"action\": \"publish\", \"topic\": \"t\", \"payload\": {}, \"type\": \"x\"}]}";

static void each_allocation(void **state)
{
	struct transaction transaction;
	struct transaction_refusal refusal;
	bool good = false;

	(void)state;
	for (fail_at = 1; !good; fail_at++) {
		long before = live;

		calls = 0;
		good = transaction_read(&transaction, (struct wh_slice){NULL, 0}, text, sizeof(text) - 1,
		                        1000, &refusal);
		if (good) {
			assert_true(calls < fail_at); /* nothing was left to fail */
			assert_int_equal(transaction.count, 9);
		} else {
			assert_int_equal(refusal.problem, PROBLEM_TOO_BUSY);
			assert_string_not_equal(refusal.detail, "");
		}
		transaction_done(&transaction);
		/* freed, but for what the JSON library has allocated and we free */
		assert_true(live <= before);
	}
	assert_true(fail_at > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
