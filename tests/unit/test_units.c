/* tests/unit/test_units.c -- durations, instants and text as people write and read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "base/units.h"

#define S INT64_C(1000000000)

static void durations(void **state)
{
	static const struct {
		const char *text;
		int64_t ns; /* -1: refused */
		const char *written;
	} cases[] = {
		{"500ms", S / 2, "500ms"},
		{"0s", 0, "0s"},
		{"30s", 30 * S, "30s"},
		{"60s", 60 * S, "60s"},
		{"1m", 60 * S, "60s"},
		{"5m", 300 * S, "5m"},
		{"1h", 3600 * S, "1h"},
		{"1h30m", 5400 * S, "90m"},
		{"7d", 7 * 86400 * S, "7d"},
		{"1500ms", 3 * S / 2, "1500ms"},
		{"1m500ms", 121 * S / 2, "60500ms"},
		{"", -1, NULL},
		{"5", -1, NULL},
		{"s", -1, NULL},
		{"-5s", -1, NULL},
		{"5s ", -1, NULL},
		{"5S", -1, NULL},
		{"1m1h", -1, NULL},
		{"1s1s", -1, NULL},
		{"9223372036854775807d", -1, NULL},
		{"1.5s", -1, NULL},
		{"106752d", -1, NULL},
	};
	char written[WH__DURATION_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = -1;
		bool good = wh__parse_duration(cases[i].text, strlen(cases[i].text), &ns);
		if (good != (cases[i].ns >= 0) || ns != cases[i].ns)
			fail_msg("%s", cases[i].text);
		if (good) {
			written[wh__put_duration(written, ns)] = 0;
			assert_string_equal(written, cases[i].written);
		}
	}
}

static void instants(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
		const char *written; /* NULL: refused */
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000Z"},
		{"2026-11-23T20:00:01.25Z", INT64_C(1795464001250000000), "2026-11-23T20:00:01.250Z"},
		{"2026-11-23T22:00:01.25+02:00", INT64_C(1795464001250000000), "2026-11-23T20:00:01.250Z"},
		{"1969-12-31T23:59:59.999Z", -1000000, "1969-12-31T23:59:59.999Z"},
		{"2000-02-29T12:00:00z", INT64_C(951825600000000000), "2000-02-29T12:00:00.000Z"},
		{"1900-02-29T12:00:00Z", 0, NULL},
		{"2026-11-23T20:00:01", 0, NULL},
		{"2026-11-23 20:00:01Z", 0, NULL},
		{"2026-13-23T20:00:01Z", 0, NULL},
		{"2026-11-23T24:00:01Z", 0, NULL},
		{"2026-11-23T20:00:01.Z", 0, NULL},
		{"2026-11-23T20:00:01+0200", 0, NULL},
		{"9999-11-23T20:00:01Z", 0, NULL},
		{"", 0, NULL},
	};
	char written[WH__INSTANT_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 0;
		bool good = wh__parse_instant(cases[i].text, strlen(cases[i].text), &ns);
		if (good != (cases[i].written != NULL) || ns != cases[i].ns)
			fail_msg("%s", cases[i].text);
		if (good) {
			written[wh__put_instant(written, ns)] = 0;
			assert_string_equal(written, cases[i].written);
		}
	}
}

static void numbers(void **state)
{
	static const uint64_t values[] = {0, 9, 10, 99, 100, 101, 9007199254740991, UINT64_MAX};
	char written[21], expected[32];
	uint64_t read;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		size_t len = wh__put_u64(written, values[i]);
		written[len] = 0;
		snprintf(expected, sizeof(expected), "%llu", (unsigned long long)values[i]);
		assert_string_equal(written, expected);
		assert_true(wh__parse_u64(written, len, UINT64_MAX, &read));
		assert_true(read == values[i]);
	}
	assert_false(wh__parse_u64("18446744073709551616", 20, UINT64_MAX, &read));
	assert_false(wh__parse_u64("11", 2, 10, &read));
	assert_false(wh__parse_u64("+1", 2, 10, &read));
	assert_false(wh__parse_u64("", 0, 10, &read));
}

static void json(void **state)
{
	char given[8], *taken;
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_json(&text, "a\"\\\n\x01\x7f\xc3\xa9\xff\xed\xa0\x80z", 13);
	assert_false(text.failed);
	wh__text_put(&text, "", 1);
	taken = wh__text_take(&text);
	assert_string_equal(
		taken,
		"\"a\\\"\\\\\\n\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
	free(taken);
}

static void base64(void **state)
{
	static const char *const cases[][2] = {
		{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}};
	struct wh__text text;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wh__text_init(&text, NULL, 0);
		wh__text_base64(&text, (const uint8_t *)cases[i][0], strlen(cases[i][0]));
		wh__text_put(&text, "", 1);
		assert_string_equal(text.data, cases[i][1]);
		wh__text_done(&text);
	}
}

static void unbase64(void **state)
{
	static const char *const good[][2] = {
		{"", ""},           {"Zg==", "f"},        {"Zm8=", "fo"},
		{"Zm9v", "foo"},    {"Zm9vYg==", "foob"}, {"+/+/", "\xfb\xff\xbf"},
		{"AAAA", "\0\0\0"}, {"azAz", "k\x30\x33"}};
	static const char *const bad[] = {
		"Z", "Zg", "Zg=", "Zg===", "=Zg=", "Z===", "Zg==Zg==", "Zm9 ", "Zm_v", "Zm-v", "\nZm9"};
	char text[16];
	size_t len;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), "%s", good[i][0]);
		assert_true(wh__unbase64(text, strlen(text), &len));
		assert_int_equal(len, strlen(good[i][0]) / 4 * 3 -
		                              (size_t)(good[i][0][0] && strchr(good[i][0], '=')
		                                               ? strlen(strchr(good[i][0], '='))
		                                               : 0));
		assert_memory_equal(text, good[i][1], len);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		len = 77;
		snprintf(text, sizeof(text), "%s", bad[i]);
		assert_false(wh__unbase64(text, strlen(text), &len));
		assert_int_equal(len, 77);
	}
}

static void growth(void **state)
{
	struct wh__text text;
	char given[3];

	wh__text_init(&text, given, sizeof(given));
	for (unsigned i = 0; i < 10000; i++)
		wh__text_format(&text, "%04u", i);
	assert_false(text.failed);
	assert_int_equal(text.len, 40000);
	assert_memory_equal(text.data + 4 * 1234, "1234", 4);
	assert_memory_equal(text.data + 4 * 9999, "9999", 4);
	wh__text_done(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations), cmocka_unit_test(instants), cmocka_unit_test(numbers),
		cmocka_unit_test(json),      cmocka_unit_test(base64),   cmocka_unit_test(unbase64),
		cmocka_unit_test(growth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
