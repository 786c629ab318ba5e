/* src/store/keys.c -- keys under which a change is done once: asked for again, it gets the answer that it got. See store.h, inside.h.
 *
 * A key is in the same commit as what was done under it, so that a crash leaves both or neither. What is kept of the answer are its
 * results, equal ones that follow one another as one run, so that a batch of 10,000 jobs is 24 bytes. All of it is in memory, oldest first, and
 * in each checkpoint; the log before that is not needed for it.
 *
 * A key is forgotten by time alone, which is not written: whoever looks does not see one that is too old. Memory for a key is made when it is
 * judged, so that carrying it out cannot fail.
 */
#include "store/inside.h"

#include "base/hash.h"

enum {
	RUN_BYTES = 24,
	HEAD_BYTES_MAX = STORE_FINGERPRINT_BYTES + 8 + STORE_NOTE_BYTES,
	CHUNK_BYTES = 16 << 10,
	STEP_BYTES = 64 << 10
};

/* Flags of a run. */
enum {
	RUN_DUPLICATE = 1,
	RUN_EVENT = 2, /* job: its number, 0: nobody has it, at: how many jobs */
};

struct store_key_entry {
	struct store_key_entry *next_same; /* of the bucket */
	struct store_key_entry *next, *prev;
	int64_t at_ns;
	uint64_t lsn; /* of the commit */
	uint32_t epoch;
	uint32_t count; /* results */
	uint32_t runs;
	uint16_t name_len, head_len;
	uint8_t bytes[]; /* name; head: the fingerprint, and what events have; runs: as on disk */
};
/* else what fills the struct in would write over them */
_Static_assert(sizeof(struct store_key_entry) == offsetof(struct store_key_entry, bytes), "no padding");

/* ---- fingerprints ------------------------------------------------------------------------ */

void store_key_mix_hash(uint8_t fingerprint[STORE_FINGERPRINT_BYTES],
                        const uint8_t hash[STORE_FINGERPRINT_BYTES])
{
	uint8_t both[2 * STORE_FINGERPRINT_BYTES];
	XXH128_canonical_t mixed;

	memcpy(both, fingerprint, STORE_FINGERPRINT_BYTES);
	memcpy(both + STORE_FINGERPRINT_BYTES, hash, STORE_FINGERPRINT_BYTES);
	XXH128_canonicalFromHash(&mixed, XXH3_128bits(both, sizeof(both)));
	memcpy(fingerprint, mixed.digest, STORE_FINGERPRINT_BYTES);
}

void store_key_mix(uint8_t fingerprint[STORE_FINGERPRINT_BYTES], const void *bytes, size_t len)
{
	XXH128_canonical_t hash;

	XXH128_canonicalFromHash(&hash, XXH3_128bits(len > 0 ? bytes : "", len));
	store_key_mix_hash(fingerprint, hash.digest);
}

/* ---- the table --------------------------------------------------------------------------- */

static struct store_key_entry **bucket_of(struct store_keys *keys, struct store_slice name)
{
	return &keys->buckets[XXH3_64bits_withSeed(name.data, name.len, keys->seed) & keys->mask];
}

static struct store_key_entry *find(struct store_keys *keys, struct store_slice name)
{
	struct store_key_entry *e = keys->buckets ? *bucket_of(keys, name) : NULL;

	while (e && (e->name_len != name.len || memcmp(e->bytes, name.data, name.len) != 0))
		e = e->next_same;
	return e;
}

static size_t bytes_of(const struct store_key_entry *e)
{
	return sizeof(*e) + e->name_len + e->head_len + (size_t)e->runs * RUN_BYTES;
}

static void forget(struct store_keys *keys, struct store_key_entry *e)
{
	struct store_key_entry **at = bucket_of(keys, (struct store_slice){e->bytes, e->name_len});

	while (*at != e)
		at = &(*at)->next_same;
	*at = e->next_same;
	*(e->prev ? &e->prev->next : &keys->first) = e->next;
	*(e->next ? &e->next->prev : &keys->last) = e->prev;
	if (keys->save_last == e)
		keys->save_last = keys->save_next == e ? NULL : e->prev;
	if (keys->save_next == e)
		keys->save_next = keys->save_last ? e->next : NULL;
	keys->count--;
	keys->bytes -= bytes_of(e);
	free(e);
}

static bool too_old(const struct store *store, const struct store_key_entry *e, int64_t now_ns)
{
	return now_ns - e->at_ns >= store->options.keys_retention_ns;
}

static int make_table(struct store *store)
{
	struct store_keys *keys = &store->keys;
	size_t cap = 1024;

	if (keys->buckets)
		return 0;
	/* at once for as many as there may be: what is not touched is not there */
	while (cap < store->options.keys_max)
		cap *= 2;
	keys->buckets = calloc(cap, sizeof(keys->buckets[0]));
	if (!keys->buckets)
		return -ENOMEM;
	keys->mask = cap - 1;
	wh_random(store->loop, &keys->seed, sizeof(keys->seed));
	return 0;
}

static int make_spare(struct store *store, size_t name_len, size_t runs)
{
	struct store_keys *keys = &store->keys;
	size_t bytes = sizeof(struct store_key_entry) + name_len + HEAD_BYTES_MAX + runs * RUN_BYTES;
	int error = make_table(store);

	if (error == 0 && keys->spare_bytes < bytes) {
		free(keys->spare);
		keys->spare = malloc(bytes);
		keys->spare_bytes = keys->spare ? bytes : 0;
	}
	return error < 0 || !keys->spare ? -ENOMEM : 0;
}

/* ---- results as bytes -------------------------------------------------------------------- */

static void put_number(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_number(const uint8_t *from, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

static void put_run(uint8_t *to, const struct store_result *first, uint32_t count)
{
	put_number(to, first->job, 8);
	put_number(to + 8, first->event ? first->count : (uint64_t)(first->at / STORE_NS_PER_MS), 8);
	put_number(to + 16, count, 4);
	to[20] = first->state;
	to[21] = (uint8_t)((first->duplicate ? RUN_DUPLICATE : 0) | (first->event ? RUN_EVENT : 0));
	to[22] = to[23] = 0;
}

/* Is this the n-th of the results that begin with first? Of events that nobody has, all have the number 0. */
static bool follows(const struct store_result *first, const struct store_result *result, size_t n)
{
	return result->job == first->job + (first->event && first->job == 0 ? 0 : n) &&
	       result->at == first->at && result->state == first->state &&
	       result->duplicate == first->duplicate && result->event == first->event &&
	       (!first->event || result->count == first->count);
}

/* How many runs they are. */
static uint32_t put_runs(uint8_t *to, const struct store_result *results, size_t count)
{
	uint32_t runs = 0;

	for (size_t i = 0; i < count;) {
		size_t n = 1;

		while (i + n < count && follows(&results[i], &results[i + n], n))
			n++;
		put_run(to + (size_t)runs++ * RUN_BYTES, &results[i], (uint32_t)n);
		i += n;
	}
	return runs;
}

static void get_results(const struct store_key_entry *e, struct store_result *results)
{
	const uint8_t *run = e->bytes + e->name_len + e->head_len;
	size_t at = 0;

	for (uint32_t i = 0; i < e->runs; i++, run += RUN_BYTES) {
		uint64_t job = get_number(run, 8), count = get_number(run + 16, 4),
			 number = get_number(run + 8, 8);
		bool event = run[21] & RUN_EVENT;

		for (uint64_t k = 0; k < count && at < e->count; k++, at++)
			results[at] =
				(struct store_result){.job = job + (event && job == 0 ? 0 : k),
			                              .at = event ? 0 : (int64_t)number * STORE_NS_PER_MS,
			                              .count = event ? number : 0,
			                              .state = run[20],
			                              .duplicate = run[21] & RUN_DUPLICATE,
			                              .event = event};
	}
}

int store_keys_each(struct store *store, store_keys_function *each, void *arg)
{
	struct store_result *runs = NULL;
	size_t cap = 0;
	int status = 0;

	for (const struct store_key_entry *e = store->keys.first; e && status == 0; e = e->next) {
		const uint8_t *head = e->bytes + e->name_len, *run = head + e->head_len;
		struct store_kept_key kept = {.key = {.name = {e->bytes, e->name_len}},
		                              .at = e->at_ns,
		                              .position = {e->epoch, e->lsn},
		                              .count = e->runs,
		                              .events = e->head_len == HEAD_BYTES_MAX};

		if (e->runs > cap) {
			struct store_result *more = realloc(runs, e->runs * sizeof(runs[0]));

			if (!more) {
				free(runs);
				return -ENOMEM;
			}
			runs = more;
			cap = e->runs;
		}
		for (uint32_t i = 0; i < e->runs; i++, run += RUN_BYTES)
			runs[i] =
				(struct store_result){.job = get_number(run, 8),
			                              .at = (int64_t)get_number(run + 8, 8) * STORE_NS_PER_MS,
			                              .count = get_number(run + 16, 4),
			                              .state = run[20],
			                              .duplicate = run[21] & RUN_DUPLICATE,
			                              .event = run[21] & RUN_EVENT};
		memcpy(kept.key.fingerprint, head, STORE_FINGERPRINT_BYTES);
		if (kept.events) {
			kept.events_from = get_number(head + STORE_FINGERPRINT_BYTES, 8);
			memcpy(kept.note, head + STORE_FINGERPRINT_BYTES + 8, STORE_NOTE_BYTES);
		}
		kept.runs = runs;
		status = each(arg, &kept);
	}
	free(runs);
	return status;
}

/* What of the head is the fingerprint's, and where events are counted from and the note. */
static size_t put_head(uint8_t *to, const struct store_key *key, const struct store_commit *commit,
                       bool events)
{
	memcpy(to, key->fingerprint, STORE_FINGERPRINT_BYTES);
	if (!events)
		return STORE_FINGERPRINT_BYTES;
	put_number(to + STORE_FINGERPRINT_BYTES, commit->events_from, 8);
	memcpy(to + STORE_FINGERPRINT_BYTES + 8, commit->note, STORE_NOTE_BYTES);
	return HEAD_BYTES_MAX;
}

static void get_head(const struct store_key_entry *e, struct store_commit *commit)
{
	const uint8_t *head = e->bytes + e->name_len;

	if (e->head_len < HEAD_BYTES_MAX)
		return;
	commit->events_from = get_number(head + STORE_FINGERPRINT_BYTES, 8);
	memcpy(commit->note, head + STORE_FINGERPRINT_BYTES + 8, STORE_NOTE_BYTES);
}

/* ---- judge, carry out -------------------------------------------------------------------- */

bool store_key_known(struct store *store, const struct store_key *key)
{
	const struct store_key_entry *e = find(&store->keys, key->name);

	return e && !too_old(store, e, store_now_ns(store));
}

int store_keys_judge(struct store *store, const struct store_key *key, int64_t now_ns, size_t count,
                     struct store_commit *commit)
{
	struct store_keys *keys = &store->keys;
	const struct store_key_entry *e;

	if (key->name.len == 0 || key->name.len > STORE_KEY_MAX)
		return -JOB_EVALUE;
	while (keys->first && too_old(store, keys->first, now_ns))
		forget(keys, keys->first);
	e = find(keys, key->name);
	if (!e) {
		if (keys->count < store->options.keys_max)
			return make_spare(store, key->name.len, count);
		store->stats.keys_refused++;
		return -JOB_EKEYS_FULL;
	}
	if (memcmp(e->bytes + e->name_len, key->fingerprint, STORE_FINGERPRINT_BYTES) != 0 ||
	    e->count != count) {
		store->stats.keys_misused++;
		return -JOB_EKEY;
	}
	get_results(e, commit->results);
	get_head(e, commit);
	commit->count = count;
	commit->position = (struct store_position){e->epoch, e->lsn};
	commit->replayed = true;
	store->stats.keys_replayed++;
	return 1;
}

uint64_t store_keys_record_bytes(const struct store_key *key, size_t count)
{
	struct job_record r = {.text = key->name};

	r.body.len = HEAD_BYTES_MAX + count * RUN_BYTES;
	return store_record_bytes(&r);
}

void store_keys_record(struct store *store, const struct store_key *key, int64_t now_ns,
                       const struct store_commit *commit, struct job_record *r)
{
	uint8_t *head = store->keys.spare->bytes + key->name.len, *runs;
	bool events = false;
	size_t len;

	for (size_t i = 0; i < commit->count && !events; i++)
		events = commit->results[i].event;
	len = put_head(head, key, commit, events);
	runs = head + len;
	*r = (struct job_record){.type = JOB_KEY,
	                         .at_ns = now_ns,
	                         .epoch = log_epoch(store->log),
	                         .claim = commit->count,
	                         .flags = events ? JOB_KEY_EVENTS : 0,
	                         .text = key->name,
	                         .headers = {head, len}};
	r->body =
		(struct job_slice){runs, (size_t)put_runs(runs, commit->results, commit->count) * RUN_BYTES};
}

/* A batch needs less than was feared. */
static struct store_key_entry *shrunk(struct store_key_entry *e)
{
	void *less = realloc(e, bytes_of(e));

	if (less)
		e = less;
	return e;
}

/* Needs a spare. What r says may be in it already. */
static void add(struct store *store, const struct job_record *r, uint64_t lsn)
{
	struct store_keys *keys = &store->keys;
	struct store_key_entry *e = find(keys, r->text), **bucket;

	if (e) /* an old one, which has been forgotten by time */
		forget(keys, e);
	e = keys->spare;
	keys->spare = NULL;
	keys->spare_bytes = 0;
	*e = (struct store_key_entry){.prev = keys->last,
	                              .at_ns = r->at_ns,
	                              .lsn = lsn,
	                              .epoch = r->epoch,
	                              .count = (uint32_t)r->claim,
	                              .runs = (uint32_t)(r->body.len / RUN_BYTES),
	                              .name_len = (uint16_t)r->text.len,
	                              .head_len = (uint16_t)r->headers.len};
	memcpy(e->bytes, r->text.data, r->text.len);
	memmove(e->bytes + r->text.len, r->headers.data, r->headers.len);
	memmove(e->bytes + r->text.len + r->headers.len, r->body.data, r->body.len);
	e = shrunk(e);
	bucket = bucket_of(keys, (struct store_slice){e->bytes, e->name_len});
	e->next_same = *bucket;
	*bucket = e;
	*(keys->last ? &keys->last->next : &keys->first) = e;
	keys->last = e;
	keys->count++;
	keys->bytes += bytes_of(e);
}

void store_keys_apply(struct store *store, const struct job_record *r, uint64_t place)
{
	uint64_t rest = r->text.len + r->headers.len + r->body.len;

	/* the last record of its commit: what comes after it is the commit's position */
	add(store, r, place + log_record_bytes(JOB_KEY_BYTES, rest));
}

int store_keys_replay(struct store *store, const struct job_record *r, uint64_t place)
{
	int error = make_spare(store, r->text.len, r->body.len / RUN_BYTES);

	if (error == 0)
		store_keys_apply(store, r, place);
	return error;
}

void store_keys_done(struct store *store)
{
	while (store->keys.first)
		forget(&store->keys, store->keys.first);
	free(store->keys.buckets);
	free(store->keys.spare);
}

/* ---- checkpoints ------------------------------------------------------------------------- */

void store_keys_save_begin(struct store *store)
{
	store->keys.save_next = store->keys.first;
	store->keys.save_last = store->keys.last;
}

void store_keys_save_end(struct store *store)
{
	store->keys.save_next = store->keys.save_last = NULL;
}

static struct job_record record_of(const struct store_key_entry *e)
{
	const uint8_t *head = e->bytes + e->name_len;

	return (struct job_record){.type = JOB_KEY,
	                           .at_ns = e->at_ns,
	                           .epoch = e->epoch,
	                           .claim = e->count,
	                           .flags = e->head_len > STORE_FINGERPRINT_BYTES ? JOB_KEY_EVENTS : 0,
	                           .text = {e->bytes, e->name_len},
	                           .headers = {head, e->head_len},
	                           .body = {head + e->head_len, (size_t)e->runs * RUN_BYTES}};
}

/* One KEYS record: as many as fit, one at least. */
static int save_some(struct store *store, job_emit_function *emit, void *arg, size_t *ret_bytes)
{
	struct store_keys *keys = &store->keys;
	struct job_record all = {.type = JOB_KEYS}, r;
	struct store_key_entry *from = keys->save_next, *e = from;
	size_t bytes = 0, at = 0, more;
	uint8_t *to;
	int error;

	for (;; e = e->next) {
		r = record_of(e);
		more = 8 + job_part_bytes(&r);
		if (bytes > 0 && bytes + more > CHUNK_BYTES)
			break;
		bytes += more;
		all.claim++;
		if (e == keys->save_last) {
			e = NULL;
			break;
		}
	}
	to = malloc(bytes);
	if (!to)
		return -ENOMEM;
	for (; from != e; from = from->next) {
		r = record_of(from);
		put_number(to + at, from->lsn, 8);
		at += 8 + job_part_put(&r, to + at + 8);
		if (from == keys->save_last)
			break;
	}
	all.body = (struct job_slice){to, bytes};
	error = emit(arg, &all);
	free(to);
	keys->save_next = e;
	if (!e)
		keys->save_last = NULL;
	*ret_bytes = bytes;
	return error;
}

int store_keys_save_step(struct store *store, job_emit_function *emit, void *arg)
{
	size_t left = STEP_BYTES;

	while (store->keys.save_next && left > 0) {
		size_t bytes = 0;
		int error = save_some(store, emit, arg, &bytes);

		if (error < 0)
			return error;
		left = bytes < left ? left - bytes : 0;
	}
	return store->keys.save_next != NULL;
}

int store_keys_load(struct store *store, const struct job_record *all)
{
	uint64_t count = 0;
	size_t at = 0;

	while (all->body.len - at > 8) {
		uint64_t lsn = get_number((const uint8_t *)all->body.data + at, 8);
		struct job_record r;
		int error;

		at += 8;
		if (!job_part_get(all, &at, &r) || r.type != JOB_KEY)
			return -EPROTO;
		error = make_spare(store, r.text.len, r.body.len / RUN_BYTES);
		if (error < 0)
			return error;
		add(store, &r, lsn);
		count++;
	}
	return at == all->body.len && count == all->claim ? 0 : -EPROTO;
}
