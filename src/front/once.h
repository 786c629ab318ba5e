/* src/front/once.h -- Idempotency-Key: what is asked for under a key is done once (draft-ietf-httpapi-idempotency-key-header).
 *
 * A key is known by who shows it (the token's namespace and name), by what it is for (a queue, transactions, a service) and by itself. The fingerprint is of
 * the parts that a handler mixes in: query, type, body.
 */
#ifndef WH_FRONT_ONCE_H
#define WH_FRONT_ONCE_H

#include "front/api.h"

enum { ONCE_KEY_MAX = 255 };

struct once {
	bool given;
	struct store_key key; /* .name is set by once_key(): text may have moved with the struct */
	size_t len;
	char text[NAMESPACE_BYTES_MAX + 1 + TOKEN_NAME_MAX + 1 + 1 + TARGET_NAME_BYTES_MAX + 1 +
	          ONCE_KEY_MAX];
};

/* once_read() - the request's key, if it has one, for a kind of things and one of them (a queue's name, say). false: refused and
 * answered. */
bool once_read(struct request *request, char kind, struct wh_slice subject, struct once *ret);

static inline void once_mix(struct once *once, struct wh_slice part)
{
	if (once->given)
		store_key_mix(once->key.fingerprint, part.data, part.len);
}

static inline const struct store_key *once_key(struct once *once)
{
	once->key.name = (struct store_slice){once->text, once->len};
	return &once->key;
}

/* once_apply() - with the key if there is one. once may be NULL. */
wh_future once_apply(struct store *store, const struct store_action *actions, size_t count, int level,
                     struct once *once);

/* once_told() - say in the answer that it is one of before. */
void once_told(wh_http_exchange *x, const struct store_commit *commit);

/* once_parse() - a string of RFC 8941, its parameters ignored, or bare. The key's bytes at to (room for ONCE_KEY_MAX); 0: it is none. */
size_t once_parse(struct wh_slice value, char *to);

#endif
