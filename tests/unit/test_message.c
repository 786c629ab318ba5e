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
			const struct backend *backend = service->backends[0];
			assert_int_equal(service->backends_count, 1);
			assert_string_equal(backend->authority, cases[i].authority);
			assert_string_equal(backend->base, cases[i].base);
			assert_string_equal(backend->address, (cases[i].url[4] | 0x20) == 's'
			                                              ? backend->origin
			                                              : backend->authority);
		} else {
			assert_false(refusal.json);
			assert_true(refusal.detail[0] != 0);
		}
		service_unref(service);
	}
}

static struct service *parse(const char *json, struct service_refusal *refusal)
{
	return service_parse("shop", 4, false, json, strlen(json), refusal);
}

static void service_json(void **state)
{
	static const char *const wrong_json[] = {
		"",
		"[]",
		"{}",
		"{\"url\": 1}",
		"{\"url\": \"http://h\", \"x\": 1}",
		"{\"url\": \"http://h\", \"attempts\": \"1\"}",
		"{\"url\": \"http://h\", \"record\": 1}",
		"{\"url\": \"http://h\", \"name\": \"other\"}",
		"{\"url\": \"http://h\", \"url\": \"http://i\"}",
		"{\"url\": \"http://h\", \"urls\": [\"http://i\"]}",
		"{\"urls\": []}",
		"{\"urls\": [1]}",
		"{\"urls\": \"http://h\"}",
		"{\"url\": \"http://h\", \"retry_statuses\": 503}",
		"{\"url\": \"http://h\", \"retry_statuses\": [\"503\"]}",
		"{\"url\": \"http://h\", \"retry_post\": 1}",
		"{\"url\": \"http://h\", \"on_wait_end\": \"stop\"}",
		"{\"url\": \"http://h\", \"breaker\": 5}",
		"{\"url\": \"http://h\", \"breaker\": {\"x\": 5}}",
		"{\"url\": \"http://h\", \"backoff\": \"1s\"}",
		"{\"url\": \"http://h\", \"backoff\": {\"initial\": 1}}",
		"{\"url\": \"http://h\", \"backoff\": {\"y\": 1}}",
		"{\"url\": \"http://h\", \"health\": {}}",
		"{\"url\": \"http://h\", \"health\": {\"path\": \"x\"}}",
		"{\"url\": \"http://h\", \"health\": {\"path\": \"/\", \"z\": 1}}",
		"{\"url\": \"http://h\", \"connect_timeout\": 5}"};
	static const char *const wrong_value[] = {
		"{\"url\": \"http://h\", \"concurrency\": 0}",
		"{\"urls\": [\"http://h/a\", \"http://i/b\"]}",
		"{\"urls\": [\"http://h\", \"http://h\"]}",
		"{\"url\": \"http://h\", \"retry_statuses\": [200]}",
		"{\"url\": \"http://h\", \"backoff\": {\"initial\": \"2d\"}}",
		"{\"url\": \"http://h\", \"breaker\": {\"open\": \"0s\"}}",
		"{\"url\": \"http://h\", \"health\": {\"path\": \"/\", \"healthy\": 0}}",
		"{\"url\": \"http://h\", \"first_byte_timeout\": \"0s\"}",
	};
	static const char whole[] =
		"{\"name\":\"shop\",\"urls\":[\"http://h/b\",\"https://i/"
		"b\"],\"concurrency\":3,\"timeout\":\"10s\","
		"\"connect_timeout\":\"1s\",\"first_byte_timeout\":\"2s\",\"attempts\":4,\"record\":false,"
		"\"backoff\":{\"initial\":\"100ms\",\"max\":\"5s\"},\"retry_statuses\":[502,503,429],"
		"\"retry_post\":true,\"on_wait_end\":\"cancel\",\"breaker\":{\"failures\":0,\"open\":\"7s\"},"
		"\"health\":{\"path\":\"/"
		"up?x=1\",\"interval\":\"1s\",\"timeout\":\"500ms\",\"healthy\":1,\"unhealthy\":9}}";
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
	service_write(&text, service, 0);
	wh__text_put(&text, "", 1);
	assert_string_equal(
		text.data,
		"{\"name\":\"shop\",\"url\":\"http://h/b\",\"concurrency\":16,\"timeout\":\"1500ms\","
		"\"connect_timeout\":null,\"first_byte_timeout\":null,\"attempts\":7,\"record\":true,"
		"\"backoff\":null,\"retry_statuses\":[],\"retry_post\":false,\"on_wait_end\":\"continue\","
		"\"breaker\":{\"failures\":5,\"open\":\"5s\"},\"health\":null}");
	again = parse(text.data, &refusal);
	assert_non_null(again);
	assert_string_equal(again->backends[0]->url, service->backends[0]->url);
	service_unref(again);
	service_unref(service);
	wh__text_done(&text);
	service = parse(whole, &refusal);
	assert_non_null(service);
	wh__text_init(&text, NULL, 0);
	service_write(&text, service, 0);
	wh__text_put(&text, "", 1);
	assert_string_equal(text.data, whole);
	assert_true(service_retries(service, 429) && !service_retries(service, 500));
	assert_true(service_counts_against(service, 502) && !service_counts_against(service, 429));
	wh__text_done(&text);
	wh__text_init(&text, NULL, 0);
	service_write_state(&text, service, 0, 0);
	wh__text_put(&text, "", 1);
	again = parse(text.data, &refusal); /* what GET shows may be sent back */
	assert_non_null(again);
	service_unref(again);
	service_unref(service);
	wh__text_done(&text);
	for (size_t i = 0; i < sizeof(wrong_json) / sizeof(wrong_json[0]); i++) {
		assert_null(parse(wrong_json[i], &refusal));
		assert_true(refusal.json);
	}
	for (size_t i = 0; i < sizeof(wrong_value) / sizeof(wrong_value[0]); i++) {
		assert_null(parse(wrong_value[i], &refusal));
		assert_false(refusal.json);
		assert_true(refusal.detail[0] != 0);
	}
}

static void backoff(void **state)
{
	struct service_refusal refusal;
	struct service *service = parse(
		"{\"url\": \"http://h\", \"backoff\": {\"initial\": \"1s\", \"max\": \"5s\"}}", &refusal);
	bool varies = false;

	assert_non_null(service);
	for (uint64_t job = 1; job < 100; job++) {
		static const int64_t seconds[] = {1, 2, 4, 5, 5};
		for (uint32_t attempt = 1; attempt <= 5; attempt++) {
			int64_t ns = service_backoff(service, attempt, job),
				low = seconds[attempt - 1] * 1000000000;
			assert_true(ns >= low && ns <= low + low / 4);
			varies |= ns != low;
		}
		assert_true(service_backoff(service, 1000, job) <= INT64_C(6250000000));
	}
	assert_true(varies);
	service->backoff_ns = 0;
	assert_true(service_backoff(service, 3, 7) == 0);
	service_unref(service);
}

static void retry_after(void **state)
{
	const int64_t second = 1000000000, now = 784111777 * second; /* Sun, 06 Nov 1994 08:49:37 GMT */
	static const struct {
		const char *text;
		int64_t seconds; /* -1: nothing */
	} cases[] = {{"0", 0},
	             {"120", 120},
	             {"99999999999999999999", -1},
	             {"86401", 86400},
	             {"", -1},
	             {"1.5", -1},
	             {"Sun, 06 Nov 1994 08:49:47 GMT", 10},
	             {"-1", -1},
	             {"soon", -1},
	             {"Sun, 06 Nov 1994 08:49:27 GMT", 0},
	             {"Sun, 06 Nov 2094 08:49:37 GMT", 86400},
	             {"Sun, 06 Nev 1994 08:49:47 GMT", -1},
	             {"Sun, 99 Nov 1994 08:49:47 GMT", -1}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wh_slice value = {cases[i].text, strlen(cases[i].text)};
		int64_t want = cases[i].seconds < 0 ? -1 : cases[i].seconds * second;
		if (message_retry_after(value, now) != want)
			fail_msg("%s", cases[i].text);
	}
	assert_true(message_retry_after((struct wh_slice){NULL, 0}, now) == -1);
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
	assert_string_equal(service_find(&table, "b", 1)->backends[0]->url, "http://c");
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
		cmocka_unit_test(service_tables), cmocka_unit_test(backoff),
		cmocka_unit_test(retry_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
