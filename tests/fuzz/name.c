/* tests/fuzz/name.c -- names of queues, services, topics and schedules as a client of a namespace, or of none, sends them.
 *
 * Whatever the bytes are: what is accepted is a full name, of the client's namespace if it has one; it is shown as it was said; and to any other
 * namespace it does not exist. The first byte is the length of the namespace, which follows, then the path segment.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/namespace.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void check_accepted(struct wh_slice namespace, struct wh_slice said, const char *name, size_t len)
{
	struct wh_slice full = {name, len}, of = namespace_of(name, len), shown, other;
	char longer[NAMESPACE_BYTES_MAX + 1], again[TARGET_NAME_BYTES_MAX];
	size_t again_len;

	CHECK(len <= TARGET_NAME_BYTES_MAX && namespace_full_valid(name, len));
	CHECK(!memchr(name + job_name_skip(name, len), ':', len - job_name_skip(name, len)));
	shown = namespace_show(namespace, full);
	CHECK(shown.data && shown.len == said.len && memcmp(shown.data, said.data, said.len) == 0);
	if (namespace.len > 0) {
		CHECK(of.len == namespace.len && memcmp(of.data, namespace.data, of.len) == 0);
		CHECK(!memchr(said.data, ':', said.len));
		/* neither one that is longer nor one that is shorter */
		memcpy(longer, namespace.data, namespace.len);
		longer[namespace.len] = 'x';
		other = (struct wh_slice){longer, namespace.len + 1};
		CHECK(!namespace_show(other, full).data);
		other = (struct wh_slice){longer, namespace.len - 1};
		CHECK(other.len == 0 || !namespace_show(other, full).data);
	}
	/* what is shown may be said again */
	CHECK(!namespace_name(namespace, shown, again, &again_len));
	CHECK(again_len == len && memcmp(again, name, len) == 0);
	CHECK(namespace_plain(full).len == len - job_name_skip(name, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[TARGET_NAME_BYTES_MAX], decoded[TARGET_NAME_BYTES_MAX];
	struct wh_slice namespace = {NULL, 0}, segment;
	size_t len = 0, of;
	char *copy;
	long n;

	if (size == 0)
		return 0;
	of = data[0] % (NAMESPACE_BYTES_MAX + 1);
	if (of > size - 1)
		of = size - 1;
	if (of > 0 && namespace_valid((const char *)data + 1, of)) {
		namespace.data = (const char *)data + 1;
		namespace.len = of;
	}
	/* of its own, so that a byte read beyond is seen */
	copy = malloc(size - of);
	CHECK(copy);
	memcpy(copy, data + 1 + of, size - 1 - of);
	segment = (struct wh_slice){copy, size - 1 - of};
	if (!namespace_target(namespace, segment, name, &len)) {
		n = target_decode(segment.data, segment.len, decoded, sizeof(decoded));
		CHECK(n > 0);
		check_accepted(namespace, (struct wh_slice){decoded, (size_t)n}, name, len);
	} else {
		CHECK(len == 0);
	}
	(void)namespace_full_valid(segment.data, segment.len);
	(void)namespace_knows_option(segment);
	free(copy);
	return 0;
}
