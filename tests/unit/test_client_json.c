/* tests/unit/test_client_json.c -- the JSON of the client's answers: what is JSON, members, elements, values; refusals from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/ask.h"

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static void judged(void **state)
{
	static const char *const good[] = {"0",
	                                   "-1",
	                                   "1.5e+10",
	                                   "\"\"",
	                                   " [ ] ",
	                                   "{}",
	                                   "[1,2 , 3]",
	                                   "{\"a\" : {\"b\":[true,false,null]}}",
	                                   "\"\\u00e4\\ud83d\\ude00\\n\\/\\\\\\\"\"",
	                                   "\"\xc3\xa4\xf0\x9f\x98\x80\"",
	                                   "\t\r\n1\n"};
	static const char *const bad[] = {"",
	                                  " ",
	                                  "01",
	                                  "1.",
	                                  "1e",
	                                  "-",
	                                  "+1",
	                                  "[1,]",
	                                  "[,1]",
	                                  "[1",
	                                  "{\"a\"}",
	                                  "{\"a\":}",
	                                  "{\"a\":1,}",
	                                  "{a:1}",
	                                  "{1:2}",
	                                  "tru",
	                                  "nul",
	                                  "1 2",
	                                  "\"\n\"",
	                                  "\"\\x\"",
	                                  "\"\\u12\"",
	                                  "\"\\ud800\"",
	                                  "\"\\udc00\"",
	                                  "\"\\ud800\\u0041\"",
	                                  "\"\xc3\"",
	                                  "\"\xe0\x80\x80\"",
	                                  "\"\xed\xa0\x80\"",
	                                  "\"\xf4\x90\x80\x80\"",
	                                  "\"\xff\"",
	                                  "\"",
	                                  "\"\\",
	                                  "]",
	                                  "\"a\\\""};
	char deep[400];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!wh__json_check(slice(good[i])))
			fail_msg("refused: %s", good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (wh__json_check(slice(bad[i])))
			fail_msg("taken: %s", bad[i]);
	}
	assert_false(wh__json_check((struct wh_slice){NULL, 0}));
	memset(deep, '[', sizeof(deep));
	for (size_t depth = 1; depth <= 140; depth++) {
		memset(deep + depth, ']', depth);
		assert_int_equal(wh__json_check((struct wh_slice){deep, 2 * depth}),
		                 depth <= WH__JSON_DEPTH_MAX + 1);
		memset(deep + depth, '[', depth);
	}
}

static void looked_up(void **state)
{
	struct wh_slice object = slice(" {\"a\": 1, \"b\" :{\"a\":2}, \"c\":[ 3, {\"a\":4} , "
	                               "\"x,]\"],\"a\":5, \"\\u0061b\": 6}"),
			at;
	char to[16];
	size_t len, count = 0;
	uint64_t n;
	bool yes = false;

	(void)state;
	assert_true(wh__json_check(object));
	assert_true(wh__json_u64(wh__json_member(object, "a"), &n) && n == 1);
	assert_true(wh__json_u64(wh__json_member(wh__json_member(object, "b"), "a"), &n) && n == 2);
	assert_null(wh__json_member(object, "x").data);
	assert_null(wh__json_member(object, "").data);
	assert_null(wh__json_member(slice("[1]"), "a").data);
	assert_null(wh__json_member((struct wh_slice){NULL, 0}, "a").data);
	for (at.data = NULL; wh__json_next(wh__json_member(object, "c"), &at); count++) {
		if (count == 1)
			assert_true(wh__json_u64(wh__json_member(at, "a"), &n) && n == 4);
		if (count == 2)
			assert_true(wh__json_string(at, to, &len) && len == 3 && !memcmp(to, "x,]", 3));
	}
	assert_int_equal(count, 3);
	at.data = NULL;
	assert_false(wh__json_next(slice("[]"), &at));
	assert_false(wh__json_next(slice("{}"), &at));
	assert_false(wh__json_next((struct wh_slice){NULL, 0}, &at));
	assert_true(wh__json_bool(slice("true"), &yes) && yes);
	assert_true(wh__json_bool(slice("false"), &yes) && !yes);
	assert_false(wh__json_bool(slice("\"true\""), &yes));
	assert_true(wh__json_is_null(slice("null")) && !wh__json_is_null(slice("0")));
	assert_false(wh__json_u64(slice("-1"), &n) || wh__json_u64(slice("1.0"), &n) ||
	             wh__json_u64(slice("\"1\""), &n));
	assert_false(wh__json_u64(slice("18446744073709551616"), &n));
	assert_true(wh__json_u64(slice("18446744073709551615"), &n) && n == UINT64_MAX);
}

static void strings(void **state)
{
	static const char *const cases[][2] = {
		{"\"\"", ""},
		{"\"a\\n\\t\\\\\\\"\\/\\b\\f\\r\"", "a\n\t\\\"/\b\f\r"},
		{"\"\\u0041\\u00e4\\u20AC\\ud83d\\ude00\"", "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
	};
	char to[64];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(wh__json_check(slice(cases[i][0])));
		assert_true(wh__json_string(slice(cases[i][0]), to, &len));
		assert_int_equal(len, strlen(cases[i][1]));
		assert_memory_equal(to, cases[i][1], len);
	}
	assert_false(wh__json_string(slice("1"), to, &len));
	assert_false(wh__json_string((struct wh_slice){NULL, 0}, to, &len));
}

static int64_t refusal(int status, const char *type, const char *body, struct wh_problem *ret)
{
	struct wh_http_field fields[2] = {{{"Content-Type", 12}, slice(type)},
	                                  {{"Retry-After", 11}, {"7", 1}}};
	struct wh_http_response response = {
		.status = status, .field_count = 2, .fields = fields, .body = slice(body)};

	return wh__problem_read(&response, ret);
}

static void refusals(void **state)
{
	static const char whole[] = "{\"type\":\"urn:whilst:problem:%s\",\"code\":\"%s\",\"status\":409,"
				    "\"detail\":\"no\",\"limit\":9,"
				    "\"state\":\"done\",\"job\":{\"id\":17}}";
	static const struct {
		const char *code;
		int64_t error;
	} cases[] = {
		{"bad-request", WH_ECALL_REFUSED},         {"bad-value", WH_ECALL_BAD_VALUE},
		{"lease-lost", WH_ECALL_LEASE_LOST},       {"lost", WH_ECALL_LOST},
		{"draining", WH_ECALL_DRAINING},           {"internal", WH_ECALL_INTERNAL},
		{"backend-timeout", WH_ECALL_BACKEND},     {"of-the-future", WH_ECALL_REFUSED},
		{"disk-full", WH_ECALL_DISK_FULL},         {"too-busy", WH_ECALL_TOO_BUSY},
		{"queue-full", WH_ECALL_QUEUE_FULL},       {"job-failed", WH_ECALL_JOB_FAILED},
		{"wrong-state", WH_ECALL_WRONG_STATE},     {"too-large", WH_ECALL_TOO_LARGE},
		{"unknown-queue", WH_ECALL_UNKNOWN_QUEUE}, {"unknown-topic", WH_ECALL_UNKNOWN_TOPIC},
	};
	struct wh_problem problem;
	char body[400], longest[2000];
	size_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(body, sizeof(body), whole, cases[i].code, cases[i].code);
		assert_int_equal(refusal(409, "application/problem+json", body, &problem), -cases[i].error);
		assert_string_equal(problem.code, cases[i].code);
		assert_string_equal(problem.detail, "no");
		assert_string_equal(problem.state, "done");
		assert_int_equal(problem.limit, 9);
		assert_int_equal(problem.job, 17);
		assert_int_equal(problem.retry_after_ns, 7 * WH_NS_PER_S);
		assert_int_equal(problem.status, 409);
	}
	/* of others, or broken: only the status counts */
	assert_int_equal(refusal(404, "application/problem+json", "{\"code\":\"lease-lost\"}", &problem),
	                 -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "");
	assert_string_equal(problem.detail, "the server answered 404 Not Found");
	assert_int_equal(refusal(409, "text/html", body, &problem), -WH_ECALL_REFUSED);
	assert_int_equal(refusal(413, "text/html", "", &problem), -WH_ECALL_TOO_LARGE);
	/* a detail that is too long loses its end, at a character */
	length = (size_t)snprintf(longest, sizeof(longest),
	                          "{\"type\":\"urn:whilst:problem:lost\",\"code\":\"lost\",\"detail\":\"");
	for (int i = 0; i < 300; i++)
		length += (size_t)snprintf(longest + length, sizeof(longest) - length, "\xc3\xa4");
	assert_true(length + 2 < sizeof(longest));
	snprintf(longest + length, sizeof(longest) - length, "\"}");
	assert_int_equal(refusal(410, "application/problem+json", longest, &problem), -WH_ECALL_LOST);
	assert_int_equal(strlen(problem.detail), 510);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(judged),
		cmocka_unit_test(looked_up),
		cmocka_unit_test(strings),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
