/* tests/unit/test_batch.c -- many items in one body: what is one, what is cut, too large, too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "front/batch.h"

static void assert_item(const struct batch *batch, size_t i, const char *wanted)
{
	assert_int_equal(batch->items[i].len, strlen(wanted));
	assert_memory_equal(batch->items[i].data, wanted, strlen(wanted));
}

static void binary(void **state)
{
	static const char body[] = "\3\0\0\0abc\0\0\0\0\1\0\0\0z";
	struct batch batch;

	assert_int_equal(batch_read(&batch, body, sizeof(body) - 1, 3), BATCH_GOOD);
	assert_int_equal(batch.count, 3);
	assert_item(&batch, 0, "abc");
	assert_item(&batch, 1, "");
	assert_item(&batch, 2, "z");
	batch_done(&batch);
	/* every piece that does not end where an item ends is cut */
	for (size_t len = 0; len < sizeof(body) - 1; len++) {
		int wanted = len == 0 ? BATCH_EMPTY : len == 7 || len == 11 ? BATCH_GOOD : BATCH_CUT;
		assert_int_equal(batch_read(&batch, body, len, 3), wanted);
		batch_done(&batch);
	}
	assert_int_equal(batch_read(&batch, body, sizeof(body) - 1, 2), BATCH_ITEM_TOO_LARGE);
	assert_int_equal(batch.bad, 0);
	batch_done(&batch);
	assert_int_equal(batch_read(&batch, "\377\377\377\377", 4, UINT32_MAX), BATCH_CUT);
	batch_done(&batch);
}

static void most(void **state)
{
	size_t len = 4 * (size_t)(BATCH_ITEMS_MAX + 1);
	char *body = calloc(1, len);
	struct batch batch;

	assert_non_null(body);
	assert_int_equal(batch_read(&batch, body, len - 4, 0), BATCH_GOOD);
	assert_int_equal(batch.count, BATCH_ITEMS_MAX);
	batch_done(&batch);
	assert_int_equal(batch_read(&batch, body, len, 0), BATCH_TOO_MANY);
	batch_done(&batch);
	free(body);
}

static void lines(void **state)
{
	static const char body[] = "{\"a\": 1}\r\n 2 \n\"x\"";
	struct batch batch;

	assert_int_equal(batch_read_lines(&batch, body, sizeof(body) - 1, 100), BATCH_GOOD);
	assert_int_equal(batch.count, 3);
	assert_item(&batch, 0, "{\"a\": 1}");
	assert_item(&batch, 1, " 2 ");
	assert_item(&batch, 2, "\"x\"");
	batch_done(&batch);
	assert_int_equal(batch_read_lines(&batch, "1\n\n2\n", 5, 100), BATCH_BAD_JSON);
	assert_int_equal(batch.line, 2);
	batch_done(&batch);
	assert_int_equal(batch_read_lines(&batch, "1\n[1,]\n", 7, 100), BATCH_BAD_JSON);
	assert_int_equal(batch.line, 2);
	assert_true(batch.detail[0] != 0);
	batch_done(&batch);
	assert_int_equal(batch_read_lines(&batch, "123\n", 4, 2), BATCH_ITEM_TOO_LARGE);
	batch_done(&batch);
	assert_int_equal(batch_read_lines(&batch, "", 0, 2), BATCH_EMPTY);
	batch_done(&batch);
}

static void numbers(void **state)
{
	char bytes[8];

	batch_put_u64(bytes, UINT64_C(0x0102030405060708));
	assert_memory_equal(bytes, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_true(batch_get_u64(bytes) == UINT64_C(0x0102030405060708));
	assert_int_equal(batch_get_u32(bytes), 0x05060708);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(binary),
		cmocka_unit_test(most),
		cmocka_unit_test(lines),
		cmocka_unit_test(numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
