/* src/front/token.h -- bearer tokens: who may do what, from the file of `tokens`.
 *
 * The file holds no token, but the SHA-256 of each: a token has 256 random bits, so that no slower hash is needed. One line:
 *
 *     NAME sha256:HEX SCOPE... [LIMIT...] [prefix=NAMESPACE]
 *     prefix=NAMESPACE LIMIT...
 *
 * A limit is rate=N, requests a second, bytes=N (or KiB, MiB, GiB), bytes of bodies a second, or connections=N, requests under way at once. What is not used in one second may be used in
 * the next, no more: a request that comes too early is told when to come again. One body may be larger than that, and is paid for afterwards.
 * Those of a namespace hold for all its tokens together, beside the tokens' own; it also has jobs=N, unfinished ones in its queues, and queues=N, which
 * the store keeps. A scope is ACTION or ACTION:PATTERN; PATTERN is a queue's or service's name, or its beginning and `*`; without one, all. With a prefix all of
 * that is within the namespace, and the names are as they are said there (namespace.h).
 * Blank lines and those that begin with # are ignored. Pure, but for the digest; any thread.
 */
#ifndef WH_FRONT_TOKEN_H
#define WH_FRONT_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "job/types.h"
#include "whilst/http.h"

enum token_action {
	TOKEN_OPEN,    /* nobody is asked */
	TOKEN_ANY,     /* any good token */
	TOKEN_SUBMIT,  /* hand jobs over, cancel them */
	TOKEN_WORK,    /* reserve, complete, fail, extend, ... */
	TOKEN_READ,    /* look at jobs, results, payloads, queues */
	TOKEN_CALL,    /* call a service */
	TOKEN_PUBLISH, /* publish events */
	TOKEN_METRICS, /* /metrics */
	TOKEN_ADMIN,   /* configure, pause, remove; and all the others */
	TOKEN_ACTIONS
};

enum {
	TOKEN_BYTES = 32, /* of randomness */
	TOKEN_DIGEST_BYTES = 32,
	TOKEN_TEXT_BYTES = 7 + 43 + 1, /* "whilst_", base64url, NUL */
	TOKEN_NAME_MAX = 100,
	TOKEN_SCOPES_MAX = 100,
};

/* Of requests or of bytes: when what was used will have been earned (GCRA); times of wh_now(), ns. */
struct token_limit {
	uint64_t per_second; /* 0: none; of connections: at once */
	int64_t earned_at;
};

struct token;
struct token_table;

/* What is wrong with a file. */
struct token_refusal {
	unsigned line;
	char detail[200];
};

/* token_table_read() - text is the file. 0; -EINVAL with *refusal filled in; -ENOMEM; -ENOSYS: built without OpenSSL. */
int token_table_read(const char *text, size_t len, struct token_table **ret, struct token_refusal *refusal);
struct token_table *token_table_free(struct token_table *table); /* NULL; accepts NULL */

/* token_find() - whose this is; NULL: nobody's. Cost: one SHA-256, and a search. */
const struct token *token_find(const struct token_table *table, struct wh_slice presented);
const char *token_name(const struct token *token);
/* token_namespace() - empty: it has none. token_table_namespaced() - has any token one? */
struct wh_slice token_namespace(const struct token *token);
bool token_table_namespaced(const struct token_table *table);

/* A limit that was met: of a token, or of its namespace. */
struct token_excess {
	const char *limit; /* "rate", "bytes", "connections" */
	bool of_namespace;
	uint64_t value;
};

/* token_spend() - a request with a body of so many bytes (negative: it does not say), now. 0: go on. Positive: it is beyond a limit, and may come
 * again after so many ns; nothing is spent. -EMSGSIZE: bytes are limited, so it has to say. The table is the loop's own. */
int64_t token_spend(const struct token *token, int64_t now, int64_t body_bytes, struct token_excess *ret);
/* token_enter() - a request is under way from now on; token_leave() - it is over. NULL: as many as may be at once are already. They are counted over tables: whoever holds some when the
 * file is read again has them still, unless it is of another namespace now. What is entered may be left when the table is gone. */
struct token_use;
struct token_use *token_enter(const struct token *token, struct token_excess *ret);
void token_leave(struct token_use *use);
/* token_table_follow() - table, which takes the place of before (NULL: of none), counts on. */
void token_table_follow(struct token_table *table, const struct token_table *before);
/* token_table_spaces() - the namespaces that have limits of jobs or queues, at most max of them to ret (borrowed from the table); how many there are. */
size_t token_table_spaces(const struct token_table *table, struct job_space_limit *ret, size_t max);
/* token_limit_valid() - is text a limit as in the file? */
bool token_limit_valid(const char *text);

/* token_prefix_valid() - is text "prefix=" and a namespace? */
bool token_prefix_valid(const char *text);

/* token_allows() - name: of the queue or service, as the token's holder says it; empty for what is about none, which only a scope for all allows. */
bool token_allows(const struct token *token, enum token_action action, struct wh_slice name);
const char *token_action_name(enum token_action action);

/* token_make() - the text of a token out of random bytes, and its line of the file's digest ("sha256:..."). -ENOSYS. */
enum { TOKEN_DIGEST_TEXT_BYTES = 7 + 64 + 1 };
int token_make(const unsigned char random[TOKEN_BYTES], char ret_text[TOKEN_TEXT_BYTES],
               char ret_digest[TOKEN_DIGEST_TEXT_BYTES]);

/* token_digest() - SHA-256, FIPS 180-4. 0, -ENOMEM, -ENOSYS: built without OpenSSL. */
int token_digest(const void *bytes, size_t len, unsigned char ret[TOKEN_DIGEST_BYTES]);

/* token_scope_valid() - is text a scope as in the file? */
bool token_scope_valid(const char *text);
bool token_name_valid(const char *text); /* A-Z a-z 0-9 . _ - @ */

#endif
