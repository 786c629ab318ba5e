/* tests/unit/test_sign.c -- signing callbacks: what is read of a file of secrets, and signatures that others have computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "deliver/sign.h"

/* The example of the specification. */
#define SECRET    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID        "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define TIMESTAMP 1614265330
#define CONTENT   "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static int read_text(const char *text, struct secrets *ret, unsigned *line)
{
	const char *detail = NULL;
	int error = secrets_read(text, strlen(text), ret, line, &detail);

	if (error != 0)
		assert_non_null(detail);
	return error;
}

static void known_signature(void **state)
{
	struct secrets secrets;
	struct wh__text text;
	unsigned line;

	assert_int_equal(read_text("# comment\n\n  " SECRET " \r\n", &secrets, &line), 0);
	assert_int_equal(secrets.count, 1);
	assert_int_equal(secrets.all[0].len, 24);
	wh__text_init(&text, NULL, 0);
	assert_int_equal(sign(&secrets, ID, TIMESTAMP, CONTENT, strlen(CONTENT), &text), 0);
	wh__text_put(&text, "", 1);
	assert_string_equal(text.data, SIGNATURE);
	wh__text_done(&text);
}

static void several(void **state)
{
	struct secrets secrets;
	struct wh__text text;
	unsigned line;

	assert_int_equal(read_text("whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\n" SECRET, &secrets, &line), 0);
	assert_int_equal(secrets.count, 2);
	wh__text_init(&text, NULL, 0);
	assert_int_equal(sign(&secrets, ID, TIMESTAMP, CONTENT, strlen(CONTENT), &text), 0);
	wh__text_put(&text, "", 1);
	assert_int_equal(strspn(text.data, "v1,"), 3);
	assert_non_null(strstr(text.data, " " SIGNATURE));
	assert_int_equal(strlen(text.data), 2 * strlen(SIGNATURE) + 1);
	wh__text_done(&text);
}

static void malformed(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
	} cases[] = {
		{"", 0},
		{"\n\n# x\n", 3},
		{"whsec_\n", 1},
		{SECRET "\nsecret", 2},
		{"whsec_QUFB", 1},                             /* 3 bytes */
		{"whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=", 1}, /* 23 */
		{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", 1},  /* not a multiple of four */
		{"whsec_MfKQ9r8GKYqrTwj-PD8ILPZIo2LaLaSw", 1}, /* another alphabet */
		{"whsec_MfKQ9r8GKYqr=wjUPD8ILPZIo2LaLaSw", 1}, /* padding within */
		{"WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1},
		{"whsec_"
	         "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
	         1}, /* 65 */
	};
	struct secrets secrets = {.count = 7};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned line = 99;
		if (read_text(cases[i].text, &secrets, &line) != -EINVAL || line != cases[i].line)
			fail_msg("%zu: line %u", i, line);
	}
	assert_int_equal(secrets.count, 7); /* untouched */
}

static void limits(void **state)
{
	char text[2000];
	size_t len = 0;
	struct secrets secrets;
	unsigned line;

	for (int i = 0; i < SECRETS_MAX; i++, len += sizeof(SECRET))
		memcpy(text + len, SECRET "\n", sizeof(SECRET) + 1);
	assert_int_equal(read_text(text, &secrets, &line), 0);
	assert_int_equal(secrets.count, SECRETS_MAX);
	memcpy(text + len, SECRET "\n", sizeof(SECRET) + 1);
	assert_int_equal(read_text(text, &secrets, &line), -EINVAL);
	assert_int_equal(line, SECRETS_MAX + 1);
	/* 64 bytes */
	assert_int_equal(read_text("whsec_"
	                           "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQ"
	                           "UFBQUFBQUFBQQ==",
	                           &secrets, &line),
	                 0);
	assert_int_equal(secrets.all[0].len, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_signature),
		cmocka_unit_test(several),
		cmocka_unit_test(malformed),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
