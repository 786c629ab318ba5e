/* src/front/once.c -- Idempotency-Key: what is asked for under a key is done once. See once.h.
 *
 * Whether it was done before is the store's to say, in the same turn in which it would do it. So two requests with one key that come at
 * the same time need no word for "in progress": the second waits for the commit of the first, and gets its answer.
 */
#include "front/once.h"

#include <string.h>

/* "..." with \" and \\; what follows the string are parameters. */
static size_t parse_string(struct wh_slice value, char *to)
{
	size_t at = 1, len = 0;

	for (; at < value.len && value.data[at] != '"'; at++) {
		char c = value.data[at];

		if (c == '\\') {
			if (++at == value.len || (value.data[at] != '"' && value.data[at] != '\\'))
				return 0;
			c = value.data[at];
		}
		if (c < 0x20 || c > 0x7e || len == ONCE_KEY_MAX)
			return 0;
		to[len++] = c;
	}
	if (at == value.len)
		return 0; /* it does not end */
	at++;
	while (at < value.len && value.data[at] == ' ')
		at++;
	return at == value.len || value.data[at] == ';' ? len : 0;
}

size_t once_parse(struct wh_slice value, char *to)
{
	if (value.len == 0)
		return 0;
	if (value.data[0] == '"')
		return parse_string(value, to);
	if (value.len > ONCE_KEY_MAX)
		return 0;
	for (size_t i = 0; i < value.len; i++) {
		char c = value.data[i];

		if (c <= 0x20 || c > 0x7e || c == '"' || c == ',' || c == ';' || c == '\\')
			return 0;
		to[i] = c;
	}
	return value.len;
}

static void put(struct once *once, const char *bytes, size_t len)
{
	memcpy(once->text + once->len, bytes, len);
	once->len += len;
}

bool once_read(struct request *request, char kind, struct wh_slice subject, struct once *ret)
{
	const struct token *token = NULL;
	char key[ONCE_KEY_MAX];
	size_t len;

	ret->given = request->idempotency_key.data != NULL;
	if (!ret->given)
		return true;
	len = once_parse(request->idempotency_key, key);
	if (len == 0) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "Idempotency-Key: it must be a string of 1 to %d visible characters, such as "
		               "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
		               ONCE_KEY_MAX);
		return false;
	}
	if (request->api->tokens)
		token = authorize_who(request->api, request->x);
	ret->len = 0;
	if (request->namespace.len > 0) {
		put(ret, request->namespace.data, request->namespace.len);
		put(ret, ":", 1); /* not in the name of a token */
	}
	memset(ret->key.fingerprint, 0, sizeof(ret->key.fingerprint));
	if (token)
		put(ret, token_name(token), strlen(token_name(token)));
	put(ret, "/", 1); /* nor that */
	put(ret, &kind, 1);
	put(ret, subject.data, subject.len);
	put(ret, " ", 1); /* not in that of a queue */
	put(ret, key, len);
	return true;
}

wh_future once_apply(struct store *store, const struct store_action *actions, size_t count, int level,
                     struct once *once)
{
	if (once && once->given)
		return store_apply_once(store, actions, count, level, once_key(once));
	return store_apply(store, actions, count, 0, level);
}

void once_told(wh_http_exchange *x, const struct store_commit *commit)
{
	if (commit->replayed)
		wh_http_set(x, "Idempotent-Replayed", "true");
}
