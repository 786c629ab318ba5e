/* src/front/event_key.c -- what an event says as the key of a job: a group's, a unique one, or which event it is. See event.h.
 *
 * A key has at most JOB_KEY_MAX bytes, an attribute up to 16 KiB: a longer one is told by 128 bits of its hash, which is all that the job
 * machine keeps of any key. Pure; any thread.
 */
#include "front/event.h"
#include "store/store.h"

enum { DIGEST_BYTES = STORE_FINGERPRINT_BYTES };

static void put_digest(struct wh__text *text, const uint8_t digest[DIGEST_BYTES])
{
	wh__text_str(text, "xxh3:");
	for (int i = 0; i < DIGEST_BYTES; i++)
		wh__text_format(text, "%02x", digest[i]);
}

void event_put_key(struct wh__text *text, struct wh_slice value)
{
	uint8_t digest[DIGEST_BYTES] = {0};

	if (value.len <= JOB_KEY_MAX) {
		wh__text_put(text, value.data, value.len);
		return;
	}
	store_key_mix(digest, value.data, value.len);
	put_digest(text, digest);
}

/* A source is a URI reference, which has no blank. */
void event_put_identity(struct wh__text *text, const struct event *event)
{
	struct wh_slice source = event_get(event, "source", 6), id = event_get(event, "id", 2);
	uint8_t digest[DIGEST_BYTES] = {0};

	if (source.len + 1 + id.len <= JOB_KEY_MAX) {
		wh__text_put(text, source.data, source.len);
		wh__text_put(text, " ", 1);
		wh__text_put(text, id.data, id.len);
		return;
	}
	store_key_mix(digest, source.data, source.len);
	store_key_mix(digest, id.data, id.len);
	put_digest(text, digest);
}
