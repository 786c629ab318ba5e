/* src/front/namespace.c -- names within a namespace, and in full. See namespace.h. */
#include "front/namespace.h"

#include <string.h>

bool namespace_valid(const char *name, size_t len)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	if (len == 0 || len > NAMESPACE_BYTES_MAX || name[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!memchr(letters, name[i], sizeof(letters) - 1))
			return false;
	}
	return true;
}

bool namespace_full_valid(const char *name, size_t len)
{
	size_t skip = job_name_skip(name, len);

	return len <= TARGET_NAME_BYTES_MAX && (skip == 0 || namespace_valid(name, skip - 1)) &&
	       target_name_valid(name + skip, len - skip);
}

const char *namespace_name(struct wh_slice namespace, struct wh_slice said, char to[TARGET_NAME_BYTES_MAX],
                           size_t *ret_len)
{
	size_t before = namespace.len > 0 ? namespace.len + 1 : 0;
	size_t skip = before == 0 ? job_name_skip(said.data, said.len) : 0;

	if (before + said.len > TARGET_NAME_BYTES_MAX)
		return "is longer than 200 bytes, those of its namespace and a colon included";
	if (said.len == 0)
		return "is empty";
	if (skip > 0 && !namespace_valid(said.data, skip - 1))
		return "has a colon, and before it no namespace: 1 to 40 of A-Z a-z 0-9 . _ -";
	if (skip == said.len)
		return "is empty behind its namespace";
	if (said.data[skip] == '-')
		return "starts with '-'";
	if (!target_name_valid(said.data + skip, said.len - skip))
		return "has a byte that is not one of A-Z a-z 0-9 - + / ; . $ _ ( )";
	memmove(to + before, said.data, said.len);
	if (before > 0) {
		memcpy(to, namespace.data, namespace.len);
		to[namespace.len] = ':';
	}
	*ret_len = before + said.len;
	return NULL;
}

const char *namespace_target(struct wh_slice namespace, struct wh_slice segment,
                             char to[TARGET_NAME_BYTES_MAX], size_t *ret_len)
{
	long n = target_decode(segment.data, segment.len, to, TARGET_NAME_BYTES_MAX);

	if (n < 0)
		return segment.len > TARGET_NAME_BYTES_MAX
		               ? "is longer than 200 bytes or has a malformed percent-encoding"
		               : "has a malformed percent-encoding";
	return namespace_name(namespace, (struct wh_slice){to, (size_t)n}, to, ret_len);
}

struct wh_slice namespace_of(const char *name, size_t len)
{
	size_t skip = job_name_skip(name, len);

	return (struct wh_slice){name, skip > 0 ? skip - 1 : 0};
}

bool namespace_same(struct wh_slice a, struct wh_slice b)
{
	struct wh_slice of_a = namespace_of(a.data, a.len), of_b = namespace_of(b.data, b.len);

	return of_a.len == of_b.len && (of_a.len == 0 || memcmp(of_a.data, of_b.data, of_a.len) == 0);
}

struct wh_slice namespace_show(struct wh_slice namespace, struct wh_slice name)
{
	size_t len = namespace.len;

	if (len == 0)
		return name;
	if (name.len <= len || name.data[len] != ':' || memcmp(name.data, namespace.data, len) != 0)
		return (struct wh_slice){NULL, 0};
	return (struct wh_slice){name.data + len + 1, name.len - len - 1};
}

bool namespace_knows_option(struct wh_slice name)
{
	/* of queries, and where the same is said in JSON, of that as well; sorted as http.md names them */
	static const char *const known[] = {
		"priority",
		"delay",
		"run-at",
		"time-to-run",
		"attempts",
		"retention",
		"content-type",
		"expires",
		"expires-at",
		"unique",
		"group",
		"unique-while",
		"after",
		"after-failure",
		"callback",
		"callback-member",
		"status",
		"retry",
		"by",
		"n",
		"state",
		"from",
		"until",
		"dead",
		"error",
		"older",
		"newer",
		"count",
		"to",
		"limit",
		"type",
		"source",
		"subject",
		"position",
		"level",
		"action",
		"queue",
		"job",
		"lease",
		"payload",
		"payload_base64",
		"result",
		"run_at",
		"time_to_run",
		"content_type",
		"result_base64",
		"expires_at",
		"unique_while",
		"after_failure",
		"progress",
		"topic",
		"event",
		"attempts_max",
		"if_match",
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (wh_slice_equal(name, known[i]))
			return true;
	}
	return false;
}
