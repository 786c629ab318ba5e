/* tests/unit/test_event.c -- CloudEvents 1.0 by the letter: binary, structured and kept forms, what is refused, and filters. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "front/event.h"
#include "front/filter.h"

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static void assert_slice(struct wh_slice got, const char *wanted)
{
	assert_non_null(got.data);
	assert_int_equal(got.len, strlen(wanted));
	assert_memory_equal(got.data, wanted, got.len);
}

/* "ce-id: 1\nce-type: a\n" */
static enum event_wrong read_lines(struct event *event, const char *lines, const char *type, const char *body,
                                   struct event_refusal *refusal)
{
	struct wh_http_field fields[100];
	size_t count = 0;

	while (*lines) {
		const char *colon = strchr(lines, ':'), *end = strchr(lines, '\n');
		fields[count++] = (struct wh_http_field){{lines, (size_t)(colon - lines)},
		                                         {colon + 2, (size_t)(end - colon - 2)}};
		lines = end + 1;
	}
	return event_read_fields(event, fields, count, type ? slice(type) : (struct wh_slice){NULL, 0},
	                         slice(body), refusal);
}

#define CORE "ce-specversion: 1.0\nce-id: 1\nce-source: /a\nce-type: t\n"

static void binary(void **state)
{
	struct event_refusal refusal;
	struct event event;

	assert_int_equal(
		read_lines(&event,
	                   "Host: x\nCE-SpecVersion: 1.0\nce-id: A234-1234\nce-source: https://a.b/c?d#e\n"
	                   "Ce-Type: com.example.someevent\nce-time: 2018-04-05T17:31:00Z\n"
	                   "ce-subject: Euro%20%E2%82%AC%20%F0%9F%98%80\nce-comexample5: 5\n",
	                   "application/json; charset=utf-8", "{}", &refusal),
		EVENT_GOOD);
	assert_int_equal(event.count, 7);
	assert_slice(event_get(&event, "id", 2), "A234-1234");
	assert_slice(event_get(&event, "subject", 7), "Euro \xe2\x82\xac \xf0\x9f\x98\x80");
	assert_slice(event_get(&event, "datacontenttype", 15), "application/json; charset=utf-8");
	assert_null(event_get(&event, "dataschema", 10).data);
	assert_slice(event.data, "{}");
	event_done(&event);
	assert_int_equal(read_lines(&event, "Host: x\n", "text/plain", "hello", &refusal), EVENT_BARE);
	event_done(&event);
	(void)state;
}

/* HTTP binding 3.1.3.2 */
static void values(void **state)
{
	static const struct {
		const char *sent, *meant; /* NULL: refused */
	} cases[] = {{"plain", "plain"},
	             {"a b", "a b"},
	             {"\"a b\"", "a b"},
	             {"\"say \\\"hi\\\" \\\\ \"", "say \"hi\" \\ "},
	             {"x\"y z\"w", "xy zw"},
	             {"100%25", "100%"},
	             {"%2541", "%41"},
	             {"\"%41\"", "A"},
	             {"%e2%82%ac", "\xe2\x82\xac"},
	             {"%61%62", "ab"},
	             {"\xe2\x82\xac", "\xe2\x82\xac"},
	             {"%C0%A0", NULL},
	             {"%ED%A0%80", NULL},
	             {"%EF%BF%BE", NULL},
	             {"%EF%B7%90", NULL},
	             {"%0A", NULL},
	             {"%7F", NULL},
	             {"%C2%85", NULL},
	             {"%", NULL},
	             {"%4", NULL},
	             {"%4G", NULL},
	             {"\"open", NULL},
	             {"\"open\\", NULL}};
	struct event_refusal refusal;
	struct event event;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char lines[200];
		enum event_wrong wrong;

		snprintf(lines, sizeof(lines), CORE "ce-subject: %s\n", cases[i].sent);
		wrong = read_lines(&event, lines, NULL, "", &refusal);
		assert_int_equal(wrong, cases[i].meant ? EVENT_GOOD : EVENT_BAD);
		if (cases[i].meant)
			assert_slice(event_get(&event, "subject", 7), cases[i].meant);
		event_done(&event);
	}
	(void)state;
}

static void binary_refused(void **state)
{
	static const char *const cases[] = {
		"ce-id: 1\nce-source: /a\nce-type: t\n",
		"ce-specversion: 1.0\nce-source: /a\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: /a\n",
		"ce-specversion: 1.0\nce-id: \nce-source: /a\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: \nce-type: t\n",
		"ce-specversion: 0.3\nce-id: 1\nce-source: /a\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: a b\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: 1a:b\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: :b\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: a%25zz\nce-type: t\n",
		"ce-specversion: 1.0\nce-id: 1\nce-source: a#b#c\nce-type: t\n",
		CORE "ce-id: 2\n",
		CORE "ce-subject: \n",
		CORE "ce-time: yesterday\n",
		CORE "ce-time: 2018-02-30T17:31:00Z\n",
		CORE "ce-time: 2018-04-05 17:31:00Z\n",
		CORE "ce-dataschema: /relative\n",
		CORE "ce-dataschema: http://a/b#c\n",
		CORE "ce-dataschema: \n",
		CORE "ce-datacontenttype: text/plain\n",
		CORE "ce-data: 1\n",
		CORE "ce-foo-bar: 1\n",
		CORE "ce-foo_bar: 1\n",
		CORE "ce-: 1\n",
	};
	struct event_refusal refusal;
	struct event event;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		refusal.detail[0] = 0;
		assert_int_equal(read_lines(&event, cases[i], NULL, "", &refusal), EVENT_BAD);
		assert_true(refusal.detail[0] != 0);
	}
	assert_int_equal(read_lines(&event, CORE, "text", "", &refusal), EVENT_BAD);
	assert_int_equal(read_lines(&event, CORE, "text/plain; charset=utf-8", "", &refusal), EVENT_GOOD);
	event_done(&event);
	assert_int_equal(
		read_lines(&event, CORE "ce-time: 9999-12-31T23:59:59.5+01:00\nce-x: \n", NULL, "", &refusal),
		EVENT_GOOD);
	event_done(&event);
	assert_int_equal(
		read_lines(&event,
	                   "ce-specversion: 1.0\nce-id: 1\nce-source: urn:uuid:6e8bc430-9c3a\nce-type: t\n",
	                   NULL, "", &refusal),
		EVENT_GOOD);
	event_done(&event);
	(void)state;
}

static void limits(void **state)
{
	char *lines = malloc(100000), *big = malloc(EVENT_DATA_MAX + 2);
	struct event_refusal refusal;
	struct event event;
	size_t len = strlen(CORE);

	memcpy(lines, CORE, len);
	for (int i = 4; i <= EVENT_ATTRIBUTES_MAX; i++) {
		lines[len] = 0;
		if (i == EVENT_ATTRIBUTES_MAX) {
			assert_int_equal(read_lines(&event, lines, NULL, "", &refusal), EVENT_GOOD);
			event_done(&event);
		}
		len += (size_t)snprintf(lines + len, 100, "ce-a%d: 1\n", i);
	}
	assert_int_equal(read_lines(&event, lines, NULL, "", &refusal), EVENT_BAD);
	memset(big, 'x', EVENT_DATA_MAX + 1);
	big[EVENT_DATA_MAX] = 0;
	assert_int_equal(read_lines(&event, CORE, NULL, big, &refusal), EVENT_GOOD);
	event_done(&event);
	big[EVENT_DATA_MAX] = 'x';
	big[EVENT_DATA_MAX + 1] = 0;
	assert_int_equal(read_lines(&event, CORE, NULL, big, &refusal), EVENT_TOO_LARGE);
	assert_int_equal(refusal.limit, EVENT_DATA_MAX);
	free(big);
	free(lines);
	(void)state;
}

#define JSON_CORE "\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\",\"type\":\"t\""

static void structured(void **state)
{
	static const struct {
		const char *members, *type, *data; /* data NULL: none */
	} cases[] = {
		{"", NULL, NULL},
		{",\"subject\":null,\"time\":null", NULL, NULL},
		{",\"data\":{\"n\": 1.10, \"big\":123456789012345678901234567890}", "application/json",
	         "{\"n\": 1.10, \"big\":123456789012345678901234567890}"},
		{",\"data\":\"I'm just a string\"", "application/json", "\"I'm just a string\""},
		{",\"data\":null", "application/json", "null"},
		{",\"datacontenttype\":\"application/xml\",\"data\":\"<much wow=\\\"xml\\\"/>\"",
	         "application/xml", "<much wow=\"xml\"/>"},
		{",\"datacontenttype\":\"application/vnd.a+json; v=1\",\"data\":[1, 2]",
	         "application/vnd.a+json; v=1", "[1, 2]"},
		{",\"data_base64\":\"eyAieHl6IjogMTIzIH0=\"", NULL, "{ \"xyz\": 123 }"},
		{",\"datacontenttype\":\"application/json\",\"data_base64\":\"MQ==\"", "application/json",
	         "1"},
		{",\"data_base64\":null,\"data\":1", "application/json", "1"},
		{",\"flag\":true,\"n\":-5,\"m\":2147483647", NULL, NULL},
	};
	struct event_refusal refusal;
	struct event event;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char json[500];

		snprintf(json, sizeof(json), " {" JSON_CORE "%s}\n", cases[i].members);
		assert_int_equal(event_read_json(&event, slice(json), &refusal), EVENT_GOOD);
		if (cases[i].type)
			assert_slice(event.content_type, cases[i].type);
		else
			assert_null(event.content_type.data);
		if (cases[i].data)
			assert_slice(event.data, cases[i].data);
		else
			assert_null(event.data.data);
		event_done(&event);
	}
	(void)state;
}

/* Kept as lines and read again, what was no string in JSON is none in JSON. */
/* Values are what they are, absent ones are none, and the whole is judged. */
static void made(void **state)
{
	struct event_attribute attributes[] = {
		{slice("specversion"), slice("1.0"), false}, {slice("id"), slice("a/%41"), false},
		{slice("source"), slice("/s%20"), false},    {slice("type"), slice("\"t\""), false},
		{slice("subject"), {NULL, 0}, false},        {slice("n"), slice("-5"), true}};
	size_t count = sizeof(attributes) / sizeof(attributes[0]);
	struct event_refusal refusal;
	struct wh__text text;
	struct event event;

	assert_int_equal(event_make(&event, attributes, count, slice("text/plain"), slice("data"), &refusal),
	                 EVENT_GOOD);
	assert_int_equal(event.count, 5);
	assert_slice(event_get(&event, "id", 2), "a/%41");
	assert_null(event_get(&event, "subject", 7).data);
	wh__text_init(&text, NULL, 0);
	event_put_json(&text, &event, NULL, NULL);
	assert_slice((struct wh_slice){text.data, text.len},
	             "{\"specversion\":\"1.0\",\"id\":\"a/%41\",\"source\":\"/"
	             "s%20\",\"type\":\"\\\"t\\\"\",\"n\":-5,"
	             "\"datacontenttype\":\"text/plain\",\"data\":\"data\"}");
	wh__text_done(&text);
	event_done(&event);
	attributes[4].value = slice("");
	assert_int_equal(event_make(&event, attributes, count, slice(""), slice(""), &refusal), EVENT_BAD);
	attributes[4] = attributes[1];
	assert_int_equal(event_make(&event, attributes, count, slice(""), slice(""), &refusal), EVENT_BAD);
	assert_non_null(strstr(refusal.detail, "twice"));
	assert_int_equal(event_make(&event, attributes, 3, slice(""), slice(""), &refusal), EVENT_BAD);
	(void)state;
}

static void types_stay(void **state)
{
	static const char given[] = ",\"flag\":true,\"n\":-5,\"text\":\"5\",\"off\":false,\"word\":\"true\"}",
			  line[] = "\r\n" EVENT_TYPED ": flag n off\r\n";
	const struct wh_slice none = {NULL, 0};
	struct event_refusal refusal;
	struct wh__text kept, json;
	struct event event;
	char whole[300];

	(void)state;
	wh__text_init(&kept, NULL, 0);
	wh__text_init(&json, NULL, 0);
	snprintf(whole, sizeof(whole), "{" JSON_CORE "%s", given);
	assert_int_equal(event_read_json(&event, slice(whole), &refusal), EVENT_GOOD);
	event_put_kept(&kept, &event);
	event_done(&event);
	assert_non_null(memmem(kept.data, kept.len, line, sizeof(line) - 1));
	assert_int_equal(event_read_kept(&event, (struct wh_slice){kept.data, kept.len}, none, none),
	                 EVENT_GOOD);
	event_put_json(&json, &event, NULL, NULL);
	event_done(&event);
	assert_non_null(memmem(json.data, json.len, given, sizeof(given) - 1));
	wh__text_done(&json);
	wh__text_done(&kept);
	/* lines that say of a text what it is not */
	assert_int_equal(event_read_kept(&event,
	                                 slice("ce-a: x\r\nce-b: 99999999999\r\n" EVENT_TYPED ": a b c\r\n"),
	                                 none, none),
	                 EVENT_GOOD);
	assert_false(event.attributes[0].typed || event.attributes[1].typed);
	event_done(&event);
}

static void structured_refused(void **state)
{
	static const struct {
		const char *json;
		enum event_wrong wrong;
	} cases[] = {
		{"", EVENT_BAD_JSON},
		{"[]", EVENT_BAD_JSON},
		{"{", EVENT_BAD_JSON},
		{"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\"}", EVENT_BAD},
		{"{\"specversion\":\"1.0\",\"id\":null,\"source\":\"/a\",\"type\":\"t\"}", EVENT_BAD},
		{"{\"specversion\":1.0,\"id\":\"1\",\"source\":\"/a\",\"type\":\"t\"}", EVENT_BAD},
		{"{\"specversion\":\"1.0\",\"id\":1,\"source\":\"/a\",\"type\":\"t\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"id\":\"2\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"Upper\":\"2\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"a_b\":\"2\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":{}}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":[]}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":1.5}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":1e3}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":2147483648}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":-2147483649}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":\"\\u0000\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"x\":\"\\n\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"data\":1,\"data_base64\":\"MQ==\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"data\":1,\"data\":2}", EVENT_BAD},
		{"{" JSON_CORE ",\"data_base64\":\"MQ\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"data_base64\":\"M===\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"data_base64\":\"M Q=\"}", EVENT_BAD},
		{"{" JSON_CORE ",\"data_base64\":5}", EVENT_BAD},
		{"{" JSON_CORE ",\"datacontenttype\":\"text/plain\",\"data\":5}", EVENT_BAD},
		{"{" JSON_CORE ",\"datacontenttype\":\"\",\"data\":5}", EVENT_BAD},
		{"{" JSON_CORE ",\"datacontenttype\":5}", EVENT_BAD},
		{"{" JSON_CORE ",\"datacontenttype\":\"nonsense\"}", EVENT_BAD},
	};
	struct event_refusal refusal;
	struct event event;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		refusal.detail[0] = 0;
		assert_int_equal(event_read_json(&event, slice(cases[i].json), &refusal), cases[i].wrong);
		assert_true(refusal.detail[0] != 0);
	}
	(void)state;
}

/* Any form -> kept -> structured, and what that says. */
static void carried(void **state)
{
	static const struct {
		const char *type, *data, *wanted;
	} cases[] = {
		{"application/json", "{\"a\" :1.10}",
	         ",\"datacontenttype\":\"application/json\",\"data\":{\"a\" :1.10}}"},
		{"application/json", "{broken",
	         ",\"datacontenttype\":\"application/json\",\"data_base64\":\"e2Jyb2tlbg==\"}"},
		{"text/plain", "a \"b\"", ",\"datacontenttype\":\"text/plain\",\"data\":\"a \\\"b\\\"\"}"},
		{"text/plain; charset=iso-8859-1", "a",
	         ",\"datacontenttype\":\"text/plain; charset=iso-8859-1\",\"data_base64\":\"YQ==\"}"},
		{"text/plain; charset=\"UTF-8\"", "a",
	         ",\"datacontenttype\":\"text/plain; charset=\\\"UTF-8\\\"\",\"data\":\"a\"}"},
		{"text/plain", "\xff", ",\"datacontenttype\":\"text/plain\",\"data_base64\":\"/w==\"}"},
		{"image/svg+xml", "<svg/>", ",\"datacontenttype\":\"image/svg+xml\",\"data\":\"<svg/>\"}"},
		{"image/png", "x", ",\"datacontenttype\":\"image/png\",\"data_base64\":\"eA==\"}"},
		{NULL, "1", ",\"data_base64\":\"MQ==\"}"},
		{NULL, "", "}"},
	};
	static const char head[] = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/"
				   "a\",\"type\":\"t\",\"subject\":\"\xc3\xa9 %\"";
	struct event_refusal refusal;
	struct event event;
	struct wh__text kept, json;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(read_lines(&event, CORE "ce-subject: \"\xc3\xa9 \"%25\nce-whilstjob: 3\n",
		                            cases[i].type, cases[i].data, &refusal),
		                 EVENT_GOOD);
		wh__text_init(&kept, NULL, 0);
		event_put_kept(&kept, &event);
		event_done(&event);
		assert_slice((struct wh_slice){kept.data, kept.len},
		             "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /a\r\nce-type: t\r\n"
		             "ce-subject: %C3%A9%20%25\r\nce-whilstjob: 3\r\n");
		assert_int_equal(event_read_kept(&event, (struct wh_slice){kept.data, kept.len},
		                                 cases[i].type ? slice(cases[i].type) : slice(""),
		                                 slice(cases[i].data)),
		                 EVENT_GOOD);
		wh__text_init(&json, NULL, 0);
		event_put_json(&json, &event, "", "whilst");
		assert_memory_equal(json.data, head, strlen(head));
		assert_slice((struct wh_slice){json.data + strlen(head), json.len - strlen(head)},
		             cases[i].wanted);
		event_done(&event);
		assert_int_equal(event_read_json(&event, (struct wh_slice){json.data, json.len}, &refusal),
		                 EVENT_GOOD);
		event_done(&event);
		wh__text_done(&json);
		wh__text_done(&kept);
	}
	assert_int_equal(event_read_kept(&event, slice(""), slice(""), slice("")), EVENT_BARE);
	assert_int_equal(event_read_kept(&event, slice("X-Other: 1\r\n"), slice(""), slice("")), EVENT_BARE);
	assert_int_equal(event_read_kept(&event, slice("ce-id: 1"), slice(""), slice("")), EVENT_BAD);
	(void)state;
}

static bool matches(const char *filters, const char *lines, const char *type)
{
	struct event_refusal refusal;
	struct filter *filter = NULL;
	struct event event;
	char detail[200];
	bool yes;

	assert_int_equal(filter_read(slice(filters), &filter, detail, sizeof(detail)), 0);
	assert_int_equal(read_lines(&event, lines, type, "", &refusal), EVENT_GOOD);
	yes = filter_matches(filter, &event);
	assert_true(filter_matches(NULL, &event));
	event_done(&event);
	filter_free(filter);
	return yes;
}

#define PUSHED                                                                                   \
	"ce-specversion: 1.0\nce-id: 1\nce-source: /git\nce-type: com.github.push\nce-subject: " \
	"a/b\nce-region: eu\n"

static void filters(void **state)
{
	static const struct {
		const char *filters;
		bool yes;
	} cases[] = {
		{"[]", true},
		{"[{\"exact\":{\"type\":\"com.github.push\"}}]", true},
		{"[{\"exact\":{\"type\":\"com.github.Push\"}}]", false},
		{"[{\"exact\":{\"type\":\"com.github\"}}]", false},
		{"[{\"exact\":{\"type\":\"com.github.push\",\"subject\":\"a/b\"}}]", true},
		{"[{\"exact\":{\"type\":\"com.github.push\",\"subject\":\"a/c\"}}]", false},
		{"[{\"exact\":{\"missing\":\"x\"}}]", false},
		{"[{\"not\":{\"exact\":{\"missing\":\"x\"}}}]", true},
		{"[{\"exact\":{\"region\":\"\\u0065u\"}}]", true},
		{"[{\"exact\":{\"datacontenttype\":\"text/plain\"}}]", true},
		{"[{\"prefix\":{\"type\":\"com.github.\"}}]", true},
		{"[{\"prefix\":{\"type\":\"com.github.push.more\"}}]", false},
		{"[{\"suffix\":{\"type\":\".push\",\"subject\":\"/b\"}}]", true},
		{"[{\"suffix\":{\"type\":\".pull\"}}]", false},
		{"[{\"all\":[{\"prefix\":{\"type\":\"com\"}},{\"suffix\":{\"type\":\"push\"}}]}]", true},
		{"[{\"all\":[{\"prefix\":{\"type\":\"com\"}},{\"suffix\":{\"type\":\"pull\"}}]}]", false},
		{"[{\"any\":[{\"exact\":{\"type\":\"x\"}},{\"exact\":{\"subject\":\"a/b\"}}]}]", true},
		{"[{\"any\":[{\"exact\":{\"type\":\"x\"}},{\"exact\":{\"subject\":\"x\"}}]}]", false},
		{"[{\"not\":{\"any\":[{\"exact\":{\"type\":\"x\"}},{\"exact\":{\"subject\":\"x\"}}]}}]",
	         true},
		{"[{\"not\":{\"not\":{\"exact\":{\"id\":\"1\"}}}}]", true},
		{"[{\"exact\":{\"id\":\"1\"}},{\"exact\":{\"id\":\"2\"}}]", false},
		{"[{\"any\":[{\"all\":[{\"exact\":{\"id\":\"2\"}},{\"exact\":{\"id\":\"1\"}}]},{\"not\":{"
	         "\"prefix\":{\"type\":"
	         "\"org\"}}}]},{\"exact\":{\"region\":\"eu\"}}]",
	         true},
	};
	static const char *const bad[] = {"",
	                                  "{}",
	                                  "[1]",
	                                  "[{}]",
	                                  "[[]]",
	                                  "[{\"exact\":{}}]",
	                                  "[{\"exact\":{\"\":\"x\"}}]",
	                                  "[{\"exact\":{\"type\":\"\"}}]",
	                                  "[{\"exact\":{\"type\":5}}]",
	                                  "[{\"exact\":{\"Type\":\"a\"}}]",
	                                  "[{\"exact\":\"a\"}]",
	                                  "[{\"sql\":\"type = 'a'\"}]",
	                                  "[{\"exact\":{\"type\":\"a\"},\"prefix\":{\"type\":\"a\"}}]",
	                                  "[{\"all\":[]}]",
	                                  "[{\"any\":{}}]",
	                                  "[{\"not\":[]}]",
	                                  "[{\"not\":{}}]"};
	struct filter *filter = NULL;
	char detail[200], deep[1000] = "[";
	size_t len = 1;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(matches(cases[i].filters, PUSHED, "text/plain"), cases[i].yes);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		detail[0] = 0;
		assert_int_equal(filter_read(slice(bad[i]), &filter, detail, sizeof(detail)), -EINVAL);
		assert_true(detail[0] != 0);
	}
	for (int i = 0; i < FILTER_DEPTH_MAX + 1; i++)
		len += (size_t)snprintf(deep + len, sizeof(deep) - len, "{\"not\":");
	len += (size_t)snprintf(deep + len, sizeof(deep) - len, "{\"exact\":{\"id\":\"1\"}}");
	for (int i = 0; i < FILTER_DEPTH_MAX + 1; i++)
		deep[len++] = '}';
	deep[len++] = ']';
	assert_int_equal(filter_read((struct wh_slice){deep, len}, &filter, detail, sizeof(detail)), -EINVAL);
	assert_null(filter);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(binary),  cmocka_unit_test(values),     cmocka_unit_test(binary_refused),
		cmocka_unit_test(limits),  cmocka_unit_test(structured), cmocka_unit_test(structured_refused),
		cmocka_unit_test(carried), cmocka_unit_test(filters),    cmocka_unit_test(types_stay),
		cmocka_unit_test(made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
