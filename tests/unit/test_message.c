/* tests/unit/test_message.c -- recorded calls as bytes, hop-by-hop fields, services as they are configured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "deliver/message.h"
#include "deliver/service.h"

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static void assert_slice(struct wh_slice got, const char *wanted)
{
	assert_int_equal(got.len, strlen(wanted));
	assert_memory_equal(got.data, wanted, got.len);
}

static void whole_message(void **state)
{
	static const char bytes[] =
		"PUT /a?b HTTP/1.1\r\nHost: h\r\nX-Empty: \r\nX-A: b: c\r\n\r\nbody\r\n\r\n";
	struct message message;

	assert_true(message_read(&message, bytes, sizeof(bytes) - 1));
	assert_slice(message.method, "PUT");
	assert_slice(message.target, "/a?b");
	assert_slice(message.body, "body\r\n\r\n");
	assert_int_equal(message.field_count, 3);
	assert_slice(message.fields[1].name, "X-Empty");
	assert_slice(message.fields[1].value, "");
	assert_slice(message.fields[2].value, "b: c");
	/* every shorter piece of the head is refused, not guessed at */
	for (size_t len = 0; len < sizeof(bytes) - 1 - strlen("body\r\n\r\n"); len++)
		assert_false(message_read(&message, bytes, len));
}

static void malformed_messages(void **state)
{
	static const char *const cases[] = {
		"GET / HTTP/1.0\r\n\r\n",        "GET HTTP/1.1\r\n\r\n",
		" / HTTP/1.1\r\n\r\n",           "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"GET / HTTP/1.1\r\nA:b\r\n\r\n",
	};
	struct message message;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_false(message_read(&message, cases[i], strlen(cases[i])));
}

static void hop_by_hop(void **state)
{
	struct wh_slice connections[] = {slice("close, X-Mine"), slice(" x-other ,,")};

	assert_false(message_is_end_to_end(slice("connection"), NULL, 0));
	assert_false(message_is_end_to_end(slice("Transfer-Encoding"), NULL, 0));
	assert_false(message_is_end_to_end(slice("TE"), NULL, 0));
	assert_true(message_is_end_to_end(slice("X-Mine"), NULL, 0));
	assert_false(message_is_end_to_end(slice("x-mine"), connections, 2));
	assert_false(message_is_end_to_end(slice("X-Other"), connections, 2));
	assert_true(message_is_end_to_end(slice("X-Othe"), connections, 2));
	assert_true(message_is_end_to_end(slice("Set-Cookie"), connections, 2));
}

static void idempotence(void **state)
{
	assert_true(message_is_idempotent(slice("GET")));
	assert_true(message_is_idempotent(slice("DELETE")));
	assert_false(message_is_idempotent(slice("POST")));
	assert_false(message_is_idempotent(slice("PATCH")));
	assert_false(message_is_idempotent(slice("get")));
}

static void service_urls(void **state)
{
	static const struct {
		const char *url, *authority, *base; /* NULL: refused */
	} cases[] = {
		{"http://127.0.0.1:9000/base", "127.0.0.1:9000", "/base"},
		{"http://h", "h", ""},
		{"HTTP://h/", "h", ""},
		{"http://[::1]:8/a/b/", "[::1]:8", "/a/b"},
		{"https://h", "h", ""},
		{"HTTPS://h:8443/b", "h:8443", "/b"},
		{"https://", NULL, NULL},
		{"ftp://h", NULL, NULL},
		{"http://", NULL, NULL},
		{"http:///x", NULL, NULL},
		{"http://h:0", NULL, NULL},
		{"http://h:65536", NULL, NULL},
		{"http://h:", NULL, NULL},
		{"http://u@h", NULL, NULL},
		{"http://h?q", NULL, NULL},
		{"http://h/#f", NULL, NULL},
		{"http://a b", NULL, NULL},
		{"http://[::1", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct service_refusal refusal;
		struct service *service = service_from_url("s", 1, cases[i].url, &refusal);
		if ((service != NULL) != (cases[i].authority != NULL))
			fail_msg("%s", cases[i].url);
		if (service) {
			assert_string_equal(service->authority, cases[i].authority);
			assert_string_equal(service->base, cases[i].base);
			assert_string_equal(service->address, (cases[i].url[4] | 0x20) == 's'
			                                              ? service->origin
			                                              : service->authority);
		} else {
			assert_false(refusal.json);
			assert_true(refusal.detail[0] != 0);
		}
		service_unref(service);
	}
}

static struct service *parse(const char *json, struct service_refusal *refusal)
{
	return service_parse("shop", 4, json, strlen(json), refusal);
}

static void service_json(void **state)
{
	static const char *const wrong_json[] = {"",
	                                         "[]",
	                                         "{}",
	                                         "{\"url\": 1}",
	                                         "{\"url\": \"http://h\", \"x\": 1}",
	                                         "{\"url\": \"http://h\", \"attempts\": \"1\"}",
	                                         "{\"url\": \"http://h\", \"record\": 1}",
	                                         "{\"url\": \"http://h\", \"name\": \"other\"}",
	                                         "{\"url\": \"http://h\", \"url\": \"http://i\"}"};
	struct service_refusal refusal;
	struct service *service, *again;
	struct wh__text text;

	service =
		parse("{\"url\": \"http://h/b\", \"attempts\": 7, \"timeout\": \"1500ms\", \"record\": true}",
	              &refusal);
	assert_non_null(service);
	assert_int_equal(service->attempts, 7);
	assert_int_equal(service->concurrency, 16);
	assert_true(service->timeout_ns == 1500000000 && service->record);
	wh__text_init(&text, NULL, 0);
	service_write(&text, service);
	wh__text_put(&text, "", 1);
	assert_string_equal(
		text.data,
		"{\"name\":\"shop\",\"url\":\"http://h/b\",\"concurrency\":16,\"timeout\":\"1500ms\","
		"\"attempts\":7,\"record\":true}");
	again = parse(text.data, &refusal);
	assert_non_null(again);
	assert_string_equal(again->url, service->url);
	service_unref(again);
	service_unref(service);
	wh__text_done(&text);
	for (size_t i = 0; i < sizeof(wrong_json) / sizeof(wrong_json[0]); i++) {
		assert_null(parse(wrong_json[i], &refusal));
		assert_true(refusal.json);
	}
	assert_null(parse("{\"url\": \"http://h\", \"concurrency\": 0}", &refusal));
	assert_false(refusal.json);
}

static void service_tables(void **state)
{
	struct service_table table = {0};
	struct service_refusal refusal;

	service_put(&table, service_from_url("b", 1, "http://b", &refusal));
	service_put(&table, service_from_url("a", 1, "http://a", &refusal));
	service_put(&table, service_from_url("b", 1, "http://c", &refusal));
	assert_int_equal(table.count, 2);
	assert_string_equal(table.first->name, "a");
	assert_string_equal(service_find(&table, "b", 1)->url, "http://c");
	assert_null(service_find(&table, "ab", 2));
	assert_true(service_remove(&table, "a", 1));
	assert_false(service_remove(&table, "a", 1));
	service_clear(&table);
	assert_int_equal(table.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_message),  cmocka_unit_test(malformed_messages),
		cmocka_unit_test(hop_by_hop),     cmocka_unit_test(idempotence),
		cmocka_unit_test(service_urls),   cmocka_unit_test(service_json),
		cmocka_unit_test(service_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
