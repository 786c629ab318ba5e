/* src/front/token_inside.h -- what token.c and token_use.c share of tokens and of namespaces. */
#ifndef WH_FRONT_TOKEN_INSIDE_H
#define WH_FRONT_TOKEN_INSIDE_H

#include <stdint.h>

#include "front/namespace.h"
#include "front/token.h"

struct scope {
	enum token_action action;
	bool all;   /* whatever it begins with */
	size_t len; /* of pattern */
	char *pattern;
};

struct token {
	unsigned char digest[TOKEN_DIGEST_BYTES];
	char name[TOKEN_NAME_MAX + 1];
	unsigned line; /* of the file */
	size_t scopes_count;
	struct scope *scopes;
	struct token_limit *limits; /* of requests; NULL: none. Of its own, since it changes with use */
	struct token_use *use;
	struct space *space;  /* of the table; NULL: none */
	size_t namespace_len; /* 0: none */
	char namespace[NAMESPACE_BYTES_MAX];
};
/* The first three are of requests, the others of what is stored. */
enum limit {
	LIMIT_RATE,
	LIMIT_BYTES,
	LIMIT_CONNECTIONS,
	LIMITS,
	LIMIT_JOBS = LIMITS,
	LIMIT_QUEUES,
	LIMIT_WORDS
};
#define LIMIT_MAX (UINT64_C(1) << 50)
extern const char *const token_limit_names[LIMIT_WORDS];

/* A namespace that a token or a line names. */
struct space {
	size_t name_len;
	char name[NAMESPACE_BYTES_MAX];
	bool told; /* by a line of its own */
	struct token_limit limits[LIMIT_WORDS];
	struct token_use *use;
};

/* Requests under way, of a token, or of all of a namespace: of its own, since they outlive tables. */
struct token_use {
	uint64_t open;
	unsigned references;     /* of tables, of those that it is above, and one for each that is open */
	struct token_use *above; /* of a token: of its namespace; NULL: it has none */
};

struct token_table {
	size_t count, cap;
	struct token *tokens; /* sorted by digest */
	size_t spaces_count, spaces_cap;
	struct space *spaces; /* sorted by name */
};

/* token_by_digest(), token_space_order() - for qsort() and bsearch(). token_space_find() - NULL: there is none. */
int token_by_digest(const void *a, const void *b);
int token_space_order(const void *a, const void *b);
struct space *token_space_find(const struct token_table *table, const char *name, size_t len);
struct token_use *token_use_ref(struct token_use *use);
void token_use_unref(struct token_use *use);

#endif
