/* tests/unit/test_token.c -- tokens and their file: scopes, patterns, what is refused. See front/token.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "front/token.h"

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static struct token_table *table_of(const char *text)
{
	struct token_refusal refusal;
	struct token_table *table = NULL;

	assert_int_equal(token_table_read(text, strlen(text), &table, &refusal), 0);
	return table;
}

/* The digest of a token as others compute it: printf whilst | sha256sum */
static void the_digest_is_sha256(void **state)
{
	static const unsigned char zeros[TOKEN_BYTES];
	char text[TOKEN_TEXT_BYTES], digest[TOKEN_DIGEST_TEXT_BYTES];
	struct token_table *table = table_of(
		"fixed sha256:b5293f2894ae49fccb443aca0cf31caddeee34b6b5a4508c13840443bb4678e6 read\n");

	(void)state;
	assert_non_null(token_find(table, slice("whilst")));
	token_table_free(table);
	assert_int_equal(token_make(zeros, text, digest), 0);
	assert_string_equal(text, "whilst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
	assert_string_equal(digest,
	                    "sha256:9ae99a96a6277e475bda42596b577b9ae317fb89c5adef08c4a53f260bb162d8");
}

static void each_is_found_by_its_text_alone(void **state)
{
	char file[64 * 128] = "", text[64][TOKEN_TEXT_BYTES];
	size_t len = 0;
	struct token_table *table;

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		unsigned char random[TOKEN_BYTES] = {(unsigned char)i, [31] = (unsigned char)(i * 7)};
		char digest[TOKEN_DIGEST_TEXT_BYTES];

		assert_int_equal(token_make(random, text[i], digest), 0);
		len += (size_t)snprintf(file + len, sizeof(file) - len, "t%u %s read:q%u\n", i, digest, i);
	}
	table = table_of(file);
	for (unsigned i = 0; i < 64; i++) {
		char name[8], queue[8];
		const struct token *token = token_find(table, slice(text[i]));

		snprintf(name, sizeof(name), "t%u", i);
		snprintf(queue, sizeof(queue), "q%u", i);
		assert_non_null(token);
		assert_string_equal(token_name(token), name);
		assert_true(token_allows(token, TOKEN_READ, slice(queue)));
		text[i][TOKEN_TEXT_BYTES - 2] ^= 1;
		assert_null(token_find(table, slice(text[i])));
	}
	assert_null(token_find(table, (struct wh_slice){0}));
	token_table_free(table);
}

static void scopes_allow_what_they_say(void **state)
{
	static const struct {
		const char *scope;
		enum token_action action;
		const char *name; /* "": about none */
		bool allowed;
	} cases[] = {
		{"read", TOKEN_READ, "q", true},      {"read", TOKEN_READ, "", true},
		{"read:*", TOKEN_READ, "", true},     {"read:q", TOKEN_READ, "", false},
		{"read:q*", TOKEN_READ, "", false},   {"read:q", TOKEN_READ, "q", true},
		{"read:q", TOKEN_READ, "qq", false},  {"read:qq", TOKEN_READ, "q", false},
		{"read:q*", TOKEN_READ, "q", true},   {"read:q*", TOKEN_READ, "qq", true},
		{"read:q*", TOKEN_READ, "p", false},  {"read", TOKEN_WORK, "q", false},
		{"work", TOKEN_READ, "q", false},     {"submit", TOKEN_ADMIN, "q", false},
		{"admin", TOKEN_READ, "q", true},     {"admin", TOKEN_ADMIN, "", true},
		{"admin:q", TOKEN_WORK, "q", true},   {"admin:q", TOKEN_ADMIN, "p", false},
		{"metrics", TOKEN_METRICS, "", true}, {"metrics:q", TOKEN_METRICS, "", false},
		{"metrics", TOKEN_READ, "q", false},  {"call:s", TOKEN_CALL, "s", true},
		{"read:q", TOKEN_ANY, "p", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[TOKEN_TEXT_BYTES], digest[TOKEN_DIGEST_TEXT_BYTES], line[200];
		unsigned char random[TOKEN_BYTES] = {1};
		struct token_table *table;

		assert_true(token_scope_valid(cases[i].scope));
		assert_int_equal(token_make(random, text, digest), 0);
		snprintf(line, sizeof(line), "n %s %s", digest,
		         cases[i].scope); /* no line end: none is needed */
		table = table_of(line);
		if (token_allows(token_find(table, slice(text)), cases[i].action, slice(cases[i].name)) !=
		    cases[i].allowed)
			fail_msg("%s, %s:%s", cases[i].scope, token_action_name(cases[i].action),
			         cases[i].name);
		token_table_free(table);
	}
}

static void what_is_wrong_is_named_with_its_line(void **state)
{
	struct token_refusal refusal;
	struct token_table *table = NULL;
	char text[200];

	(void)state;
	snprintf(text, sizeof(text), "\n  # comment\r\n\t\nname sha256:%064d read nonsense\n", 0);
	assert_int_equal(token_table_read(text, strlen(text), &table, &refusal), -EINVAL);
	assert_int_equal(refusal.line, 4);
	assert_non_null(strstr(refusal.detail, "nonsense"));
	assert_null(table);
	for (size_t cut = 1; cut < 80; cut++) { /* half a line is no line */
		snprintf(text, sizeof(text), "name sha256:%064d read", 0);
		text[cut] = 0;
		assert_int_equal(token_table_read(text, strlen(text), &table, &refusal), -EINVAL);
	}
	assert_false(token_scope_valid("any") || token_scope_valid("open") || token_scope_valid("read:") ||
	             token_scope_valid("") || token_scope_valid("read:a b"));
	/* a * stands for what a name ends with, and is in no name itself */
	assert_false(token_scope_valid("read:*q") || token_scope_valid("read:a*q*") ||
	             token_scope_valid("read:**"));
	/* the same token twice: which would count? */
	snprintf(text, sizeof(text), "b sha256:%064d work\n\na sha256:%064d read\n", 0, 0);
	assert_int_equal(token_table_read(text, strlen(text), &table, &refusal), -EINVAL);
	assert_int_equal(refusal.line, 3);
	assert_non_null(strstr(refusal.detail, "the other one of: 'b'"));
}

#define DIGEST "sha256:b5293f2894ae49fccb443aca0cf31caddeee34b6b5a4508c13840443bb4678e6" /* of "whilst" */
#define SECOND INT64_C(1000000000)

static int64_t spend(const struct token_table *table, int64_t now, int64_t bytes, const char *wanted)
{
	struct token_excess excess = {.limit = ""};
	int64_t wait = token_spend(token_find(table, slice("whilst")), now, bytes, &excess);

	assert_string_equal(excess.limit, wait > 0 ? wanted : "");
	return wait;
}

static void limits_give_a_seconds_worth(void **state)
{
	struct token_table *table = table_of("a " DIGEST " read rate=10 bytes=2KiB work\n");
	int64_t now = 1000 * SECOND, wait;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(spend(table, now, 0, NULL), 0);
	/* what is refused costs nothing: however often it is tried, it may come when it was told */
	for (int i = 0; i < 5; i++) {
		wait = spend(table, now, 0, "rate");
		assert_int_equal(wait, SECOND / 10);
	}
	assert_true(spend(table, now + wait - 1, 0, "rate") > 0);
	now += wait;
	assert_int_equal(spend(table, now, 0, NULL), 0);
	assert_true(spend(table, now, 0, "rate") > 0);
	/* nothing is saved beyond a second's worth */
	now += 100 * SECOND;
	for (int i = 0; i < 10; i++)
		assert_int_equal(spend(table, now, 0, NULL), 0);
	assert_true(spend(table, now, 0, "rate") > 0);
	/* bytes: a body that is larger than all is let in alone, and paid for */
	now += 100 * SECOND;
	assert_int_equal(spend(table, now, 20480, NULL), 0);
	assert_int_equal(spend(table, now, 0, NULL), 0);
	assert_true(spend(table, now + 8 * SECOND, 2048, "bytes") > 0);
	assert_int_equal(spend(table, now + 10 * SECOND, 2048, NULL), 0);
	assert_int_equal(spend(table, now + 10 * SECOND, -1, NULL), -EMSGSIZE);
	/* the largest there are do not overflow */
	now += 100000 * SECOND;
	assert_int_equal(spend(table, now, INT64_MAX, NULL), 0);
	assert_true(spend(table, now, 1, "bytes") > 0);
	token_table_free(table);
	table = table_of("a " DIGEST " read\n");
	for (int i = 0; i < 1000; i++)
		assert_int_equal(spend(table, now, INT64_MAX, NULL), 0);
	token_table_free(table);
}

static void limits_that_are_none_are_refused(void **state)
{
	static const char *const wrong[] = {"rate=",
	                                    "rate=0",
	                                    "rate=x",
	                                    "rate=1.5",
	                                    "rate=-1",
	                                    "bytes=0",
	                                    "bytes=KiB",
	                                    "bytes=1TiB",
	                                    "bytes=1k",
	                                    "speed=1",
	                                    "rate=1 rate=2",
	                                    "=1",
	                                    "rate=99999999999999999999",
	                                    "bytes=9999999999GiB"};
	struct token_table *table = NULL;
	struct token_refusal refusal;
	char line[200];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(line, sizeof(line), "a " DIGEST " read %s\n", wrong[i]);
		assert_int_equal(token_table_read(line, strlen(line), &table, &refusal), -EINVAL);
		assert_int_equal(refusal.line, 1);
		assert_false(token_limit_valid(wrong[i]));
	}
	assert_true(token_limit_valid("rate=1") && token_limit_valid("bytes=3GiB") &&
	            !token_limit_valid("read"));
	/* a limit alone allows nothing */
	assert_int_equal(token_table_read("a " DIGEST " rate=1\n", sizeof("a " DIGEST " rate=1\n") - 1,
	                                  &table, &refusal),
	                 -EINVAL);
}

static void prefixes(void **state)
{
	static const char *const wrong[] = {"prefix=",
	                                    "prefix=-a",
	                                    "prefix=a:b",
	                                    "prefix=a/b",
	                                    "prefix=a*",
	                                    "prefix=01234567890123456789012345678901234567890",
	                                    "prefix=a prefix=a",
	                                    "prefix=a prefix=b",
	                                    "metrics prefix=a",
	                                    "prefix=a metrics:*",
	                                    "prefix"};
	struct token_table *table = table_of("a " DIGEST " prefix=acme read:mail* rate=5\n");
	const struct token *token = token_find(table, slice("whilst"));
	struct token_refusal refusal;
	char line[200];

	(void)state;
	assert_true(token_table_namespaced(table));
	assert_int_equal(token_namespace(token).len, 4);
	assert_memory_equal(token_namespace(token).data, "acme", 4);
	assert_true(token_allows(token, TOKEN_READ, slice("mail-1")));
	token_table_free(table);
	table = table_of("a " DIGEST " read\n");
	assert_false(token_table_namespaced(table));
	assert_int_equal(token_namespace(token_find(table, slice("whilst"))).len, 0);
	token_table_free(table);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(line, sizeof(line), "a " DIGEST " read %s\n", wrong[i]);
		assert_int_equal(token_table_read(line, strlen(line), &table, &refusal), -EINVAL);
		assert_int_equal(refusal.line, 1);
	}
	assert_true(token_prefix_valid("prefix=a.b_c-1"));
	assert_false(token_prefix_valid("prefix=") || token_prefix_valid("read") ||
	             token_prefix_valid("rate=1"));
}

/* Requests under way are counted over tables, and may end when theirs is gone. */
static void at_once(void **state)
{
	static const char two[] = "a sha256:b5293f2894ae49fccb443aca0cf31caddeee34b6b5a4508c13840443bb4678e6 "
				  "read connections=2\n";
	static const char any[] =
		"a sha256:b5293f2894ae49fccb443aca0cf31caddeee34b6b5a4508c13840443bb4678e6 read\n";
	struct token_table *table = table_of(two), *next = table_of(two), *last = table_of(any),
			   *none = table_of("");
	const struct token *token = token_find(table, slice("whilst"));
	struct token_use *first = token_enter(token, NULL), *second = token_enter(token, NULL), *third;
	struct token_excess limit = {0};

	(void)state;
	assert_non_null(first);
	assert_non_null(second);
	assert_null(token_enter(token, &limit));
	assert_int_equal(limit.value, 2);
	assert_string_equal(limit.limit, "connections");
	assert_false(limit.of_namespace);
	token_leave(first);
	first = token_enter(token, NULL);
	assert_non_null(first);
	token_table_follow(next, table);
	token_table_free(table);
	token = token_find(next, slice("whilst"));
	assert_null(token_enter(token, &limit));
	/* without a limit they are counted as well */
	token_table_follow(last, next);
	token_table_free(next);
	token = token_find(last, slice("whilst"));
	third = token_enter(token, NULL);
	assert_non_null(third);
	table = table_of(two);
	token_table_follow(table, last);
	token_table_follow(none, table);
	token_table_follow(none, NULL);
	token_leave(third);
	token = token_find(table, slice("whilst"));
	assert_null(token_enter(token, &limit));
	token_table_free(last);
	token_table_free(none);
	token_leave(second);
	assert_non_null(token_enter(token, NULL));
	token_leave(first);
	token_table_free(table);
	token_leave(first); /* the one of just now: both are of the same token */
}

/* Of a namespace: for all its tokens together, wherever its line stands. */
#define OTHER "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" /* of "foo" */
static void namespaces_have_limits(void **state)
{
	struct token_table *table = table_of("a " DIGEST " read prefix=x rate=100\nprefix=y jobs=7\nb " OTHER
	                                     " read prefix=x\n"
	                                     "prefix=x rate=3 bytes=1KiB connections=2 jobs=5 queues=2\n"),
			   *next, *last;
	const struct token *a = token_find(table, slice("whilst")), *b = token_find(table, slice("foo"));
	struct token_use *first, *second;
	struct token_excess excess = {0};
	struct job_space_limit spaces[4];
	int64_t now = 1000 * SECOND;

	(void)state;
	assert_int_equal(token_spend(a, now, 0, &excess), 0);
	assert_int_equal(token_spend(b, now, 0, &excess), 0);
	assert_int_equal(token_spend(a, now, 0, &excess), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(token_spend(i ? a : b, now, 0, &excess) > 0);
		assert_true(excess.of_namespace && excess.value == 3 && strcmp(excess.limit, "rate") == 0);
	}
	assert_int_equal(token_spend(b, now + 2 * SECOND, -1, &excess), -EMSGSIZE);
	assert_int_equal(token_spend(b, now + 2 * SECOND, 1024, &excess), 0);
	assert_true(token_spend(a, now + 2 * SECOND, 1024, &excess) > 0);
	assert_string_equal(excess.limit, "bytes");
	/* at once, and over tables */
	first = token_enter(a, &excess);
	second = token_enter(b, &excess);
	assert_true(first && second && !token_enter(a, &excess) && !token_enter(b, &excess));
	assert_true(excess.of_namespace && excess.value == 2);
	next = table_of("prefix=x connections=2\na " DIGEST " read prefix=x\nb " OTHER " read prefix=x\n");
	token_table_follow(next, table);
	assert_int_equal(token_table_spaces(table, spaces, 4), 2);
	assert_true(spaces[0].name.len == 1 && memcmp(spaces[0].name.data, "x", 1) == 0);
	assert_true(spaces[0].jobs_max == 5 && spaces[0].queues_max == 2);
	assert_true(spaces[1].jobs_max == 7 && spaces[1].queues_max == 0);
	assert_int_equal(token_table_spaces(table, spaces, 0), 2);
	token_table_free(table);
	assert_null(token_enter(token_find(next, slice("foo")), &excess));
	token_leave(first);
	first = token_enter(token_find(next, slice("foo")), &excess);
	assert_non_null(first);
	/* a token that is of another namespace now, and one that has none any more: what they held is still of that one */
	last = table_of("prefix=z connections=1\nprefix=x connections=2\na " DIGEST " read prefix=z\nb " OTHER
	                " read prefix=x\n");
	token_table_follow(last, next);
	token_table_free(next);
	assert_null(token_enter(token_find(last, slice("foo")), &excess));
	token_leave(second);
	second = token_enter(token_find(last, slice("foo")), &excess);
	assert_non_null(second);
	token_leave(first);
	first = token_enter(token_find(last, slice("whilst")), &excess);
	assert_non_null(first);
	assert_null(token_enter(token_find(last, slice("whilst")), &excess));
	table = table_of("a " DIGEST " read\n");
	token_table_follow(table, last);
	assert_false(token_table_namespaced(table));
	token_table_free(last);
	token_table_free(table);
	token_leave(first);
	token_leave(second);
}

static void lines_of_namespaces(void **state)
{
	/* NOLINTBEGIN(bugprone-suspicious-missing-comma): DIGEST is a part of a line */
	static const char *const bad[] = {"prefix=x jobs=0",
	                                  "prefix=x jobs=1 jobs=2",
	                                  "prefix=x read",
	                                  "prefix= jobs=1",
	                                  "prefix=-x jobs=1",
	                                  "prefix=x jobs=1KiB",
	                                  "prefix=x jobs",
	                                  "prefix=x prefix=x",
	                                  "prefix=a:b jobs=1",
	                                  "prefix=x\nprefix=x jobs=1",
	                                  "prefix=x queues=-1",
	                                  "a " DIGEST " read jobs=1",
	                                  "a " DIGEST " read queues=1",
	                                  "prefix=x nodes=3"};
	/* NOLINTEND(bugprone-suspicious-missing-comma) */
	struct token_refusal refusal;
	struct token_table *table;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (token_table_read(bad[i], strlen(bad[i]), &table, &refusal) != -EINVAL)
			fail_msg("'%s'", bad[i]);
		assert_true(refusal.detail[0]);
	}
	table = table_of("prefix=x\n  prefix=y rate=1\n# prefix=y jobs=1\n");
	assert_true(token_table_namespaced(table));
	token_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_digest_is_sha256),
		cmocka_unit_test(each_is_found_by_its_text_alone),
		cmocka_unit_test(scopes_allow_what_they_say),
		cmocka_unit_test(what_is_wrong_is_named_with_its_line),
		cmocka_unit_test(limits_give_a_seconds_worth),
		cmocka_unit_test(limits_that_are_none_are_refused),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(at_once),
		cmocka_unit_test(namespaces_have_limits),
		cmocka_unit_test(lines_of_namespaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
