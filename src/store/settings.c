/* src/store/settings.c -- small named values, in memory, sorted by key. See inside.h.
 *
 * Memory for a change is made when it is checked (store_setting_room()), so that carrying it out cannot fail.
 */
#include "store/inside.h"

static int compare(struct store_slice a, struct store_slice b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = memcmp(a.data, b.data, len);

	return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* Where key is, or would be. */
static size_t find(const struct store *store, struct store_slice key, bool *ret_there)
{
	size_t low = 0, high = store->settings_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare(store->settings[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_there = low < store->settings_count && compare(store->settings[low].key, key) == 0;
	return low;
}

const struct store_setting *store_setting_find(const struct store *store, struct store_slice key)
{
	bool there;
	size_t at = find(store, key, &there);

	return there ? &store->settings[at] : NULL;
}

bool store_setting_now(const struct store *store, struct store_slice key, struct store_slice *ret)
{
	const struct store_setting *setting = store_setting_find(store, key);

	if (setting)
		*ret = setting->value;
	return setting != NULL;
}

void store_setting_again(struct store *store)
{
	for (size_t i = 0; i < store->setting_spares_count; i++)
		store->setting_spares[i].claimed = false;
}

void store_setting_anew(struct store *store)
{
	while (store->setting_spares_count > 0)
		free(store->setting_spares[--store->setting_spares_count].memory);
}

/* A change of several settings is checked whole before the first is carried out, and each again then: it finds the memory of its size that
 * the first time has made, since nothing may be missing any more. */
int store_setting_room(struct store *store, const struct job_record *r)
{
	struct store_setting_spare *spares = store->setting_spares;
	size_t bytes = r->text.len + r->body.len + 1, claimed = 0, at = store->setting_spares_count;

	if (r->flags & JOB_SETTING_REMOVED)
		return 0;
	for (size_t i = 0; i < store->setting_spares_count; i++) {
		claimed += spares[i].claimed;
		if (!spares[i].claimed && spares[i].bytes == bytes)
			at = i;
	}
	if (store->settings_count + claimed >= store->settings_cap) {
		size_t cap = store->settings_cap ? store->settings_cap * 2 : 16;
		struct store_setting *settings = realloc(store->settings, cap * sizeof(settings[0]));

		if (!settings)
			return -ENOMEM;
		store->settings = settings;
		store->settings_cap = cap;
	}
	if (at == store->setting_spares_cap) {
		size_t cap = at ? at * 2 : 4;

		spares = realloc(spares, cap * sizeof(*spares));
		if (!spares)
			return -ENOMEM;
		store->setting_spares = spares;
		store->setting_spares_cap = cap;
	}
	if (at == store->setting_spares_count) {
		spares[at] = (struct store_setting_spare){.memory = malloc(bytes), .bytes = bytes};
		if (!spares[at].memory)
			return -ENOMEM;
		store->setting_spares_count++;
	}
	spares[at].claimed = true;
	return 0;
}

/* What store_setting_room() has made for these bytes. */
static uint8_t *take_spare(struct store *store, size_t bytes)
{
	struct store_setting_spare *spares = store->setting_spares;
	size_t at = 0;
	uint8_t *memory;

	while (at < store->setting_spares_count && !(spares[at].claimed && spares[at].bytes == bytes))
		at++;
	assert(at < store->setting_spares_count);
	memory = spares[at].memory;
	spares[at] = spares[--store->setting_spares_count];
	return memory;
}

/* Needs room. key and value of a setting are one allocation, at key.data. */
int store_setting_apply(struct store *store, const struct job_record *r)
{
	bool there;
	size_t at = find(store, r->text, &there);
	struct store_setting *s = &store->settings[at];
	uint8_t *memory;

	if (there)
		free((void *)(uintptr_t)s->key.data);
	if (r->flags & JOB_SETTING_REMOVED) {
		if (!there)
			return -EPROTO;
		store->settings_count--;
		memmove(s, s + 1, (store->settings_count - at) * sizeof(*s));
		return 0;
	}
	memory = take_spare(store, r->text.len + r->body.len + 1);
	if (!there) {
		memmove(s + 1, s, (store->settings_count - at) * sizeof(*s));
		store->settings_count++;
	}
	*s = (struct store_setting){.key = {memory, r->text.len},
	                            .value = {memory + r->text.len, r->body.len}};
	memcpy(memory, r->text.data, r->text.len);
	if (r->body.len > 0)
		memcpy(memory + r->text.len, r->body.data, r->body.len);
	return 0;
}

void store_settings_done(struct store *store)
{
	for (size_t i = 0; i < store->settings_count; i++)
		free((void *)(uintptr_t)store->settings[i].key.data);
	free(store->settings);
	store_setting_anew(store);
	free(store->setting_spares);
}

/* ---- the call ---------------------------------------------------------------------------- */

struct store_settings *store_settings_free(struct store_settings *settings)
{
	free(settings);
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	free(res.ptr);
}

static bool has_prefix(struct store_slice key, struct store_slice prefix)
{
	return key.len >= prefix.len && (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

wh_future store_settings(struct store *store, struct store_slice prefix)
{
	size_t count = 0, bytes = 0;
	struct store_settings *all;
	wh_future future;
	uint8_t *to;

	for (size_t i = 0; i < store->settings_count; i++) {
		if (has_prefix(store->settings[i].key, prefix)) {
			count++;
			bytes += store->settings[i].key.len + store->settings[i].value.len;
		}
	}
	all = malloc(sizeof(*all) + count * sizeof(all->settings[0]) + bytes);
	if (!all)
		return wh_failed(store->loop, -ENOMEM);
	all->count = 0;
	all->settings = (struct store_setting *)(all + 1);
	to = (uint8_t *)(all->settings + count);
	for (size_t i = 0; i < store->settings_count; i++) {
		const struct store_setting *s = &store->settings[i];

		if (!has_prefix(s->key, prefix))
			continue;
		memcpy(to, s->key.data, s->key.len + s->value.len);
		all->settings[all->count++] =
			(struct store_setting){{to, s->key.len}, {to + s->key.len, s->value.len}};
		to += s->key.len + s->value.len;
	}
	future = wh_promise(store->loop, dispose, NULL);
	if (wh_resolve(future, (int64_t)count, all) < 0)
		free(all);
	return future;
}
