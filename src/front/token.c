/* src/front/token.c -- bearer tokens: who may do what. See token.h. */
#include "front/token_inside.h"

#include "base/units.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digest_prefix[] = "sha256:", text_prefix[] = "whilst_";
enum { PREFIX_BYTES = 7 };

static const char *const actions[TOKEN_ACTIONS] = {"open", "any",     "submit",  "work", "read",
                                                   "call", "publish", "metrics", "admin"};

const char *const token_limit_names[LIMIT_WORDS] = {"rate", "bytes", "connections", "jobs", "queues"};

/* ---- digests ----------------------------------------------------------------------------- */

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_digest(const char *text, size_t len, unsigned char to[TOKEN_DIGEST_BYTES])
{
	if (len != PREFIX_BYTES + 2 * TOKEN_DIGEST_BYTES || memcmp(text, digest_prefix, PREFIX_BYTES) != 0)
		return false;
	for (int i = 0; i < TOKEN_DIGEST_BYTES; i++) {
		int high = hex_value(text[PREFIX_BYTES + 2 * i]),
		    low = hex_value(text[PREFIX_BYTES + 2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		to[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

int token_make(const unsigned char random[TOKEN_BYTES], char ret_text[TOKEN_TEXT_BYTES],
               char ret_digest[TOKEN_DIGEST_TEXT_BYTES])
{
	/* base64url without padding, RFC 4648 section 5: 32 bytes are 43 characters */
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned char sum[TOKEN_DIGEST_BYTES];
	size_t n = PREFIX_BYTES;
	int error;

	memcpy(ret_text, text_prefix, PREFIX_BYTES);
	for (int i = 0; i < TOKEN_BYTES; i += 3) {
		uint32_t bits = (uint32_t)random[i] << 16;
		bits |= i + 1 < TOKEN_BYTES ? (uint32_t)random[i + 1] << 8 : 0;
		bits |= i + 2 < TOKEN_BYTES ? random[i + 2] : 0;
		for (int shift = 18; shift >= 0 && n < TOKEN_TEXT_BYTES - 1; shift -= 6)
			ret_text[n++] = letters[bits >> shift & 63];
	}
	ret_text[n] = 0;
	error = token_digest(ret_text, n, sum);
	if (error < 0)
		return error;
	memcpy(ret_digest, digest_prefix, PREFIX_BYTES);
	for (int i = 0; i < TOKEN_DIGEST_BYTES; i++)
		snprintf(ret_digest + PREFIX_BYTES + 2 * (size_t)i, 3, "%02x", sum[i]);
	return 0;
}

/* ---- the file ---------------------------------------------------------------------------- */

static bool split_scope(const char *text, size_t len, enum token_action *ret, const char **ret_pattern,
                        size_t *ret_len)
{
	const char *colon = memchr(text, ':', len);
	size_t word = colon ? (size_t)(colon - text) : len;

	*ret_pattern = colon ? colon + 1 : "*";
	*ret_len = colon ? len - word - 1 : 1;
	if (*ret_len == 0 || memchr(*ret_pattern, '*', *ret_len - 1)) /* within, it is in no name */
		return false;
	for (int i = TOKEN_SUBMIT; i < TOKEN_ACTIONS; i++) {
		if (strlen(actions[i]) == word && memcmp(actions[i], text, word) == 0) {
			*ret = (enum token_action)i;
			return true;
		}
	}
	return false;
}

bool token_scope_valid(const char *text)
{
	enum token_action action;
	const char *pattern;
	size_t len;

	return split_scope(text, strlen(text), &action, &pattern, &len) && !strpbrk(text, " \t\r\n");
}

static bool name_valid(const char *name, size_t len)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@";

	if (len == 0 || len > TOKEN_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!memchr(letters, name[i], sizeof(letters) - 1))
			return false;
	return true;
}

bool token_name_valid(const char *text)
{
	return name_valid(text, strlen(text));
}

static int add_scope(struct token *token, const char *text, size_t len)
{
	struct scope scope = {0}, *more;
	const char *pattern;

	if (!split_scope(text, len, &scope.action, &pattern, &scope.len))
		return -EINVAL;
	scope.all = pattern[scope.len - 1] == '*';
	scope.len -= scope.all;
	scope.pattern = malloc(scope.len + 1);
	more = scope.pattern ? realloc(token->scopes, (token->scopes_count + 1) * sizeof(*more)) : NULL;
	if (!more) {
		free(scope.pattern);
		return -ENOMEM;
	}
	memcpy(scope.pattern, pattern, scope.len);
	scope.pattern[scope.len] = 0;
	token->scopes = more;
	token->scopes[token->scopes_count++] = scope;
	return 0;
}

/* 1: a limit; 0: no limit at all; -EINVAL: a limit that is none. */
static int parse_limit(const char *text, size_t len, enum limit *ret, uint64_t *ret_per_second)
{
	const char *equals = memchr(text, '=', len), *value = equals ? equals + 1 : NULL;
	size_t name = equals ? (size_t)(equals - text) : 0, value_len = equals ? len - name - 1 : 0;
	static const char units[3][4] = {"KiB", "MiB", "GiB"};
	uint64_t factor = 1;

	for (int i = 0; equals && i < LIMIT_WORDS; i++) {
		if (strlen(token_limit_names[i]) != name || memcmp(text, token_limit_names[i], name) != 0)
			continue;
		*ret = (enum limit)i;
		for (size_t unit = 0; i == LIMIT_BYTES && unit < 3; unit++) {
			if (value_len > 3 && memcmp(value + value_len - 3, units[unit], 3) == 0) {
				value_len -= 3;
				factor = UINT64_C(1024) << 10 * unit;
				break;
			}
		}
		if (!wh__parse_u64(value, value_len, LIMIT_MAX / factor, ret_per_second) ||
		    *ret_per_second == 0)
			return -EINVAL;
		*ret_per_second *= factor;
		return 1;
	}
	return equals ? -EINVAL : 0;
}

bool token_limit_valid(const char *text)
{
	enum limit limit;
	uint64_t per_second;

	return parse_limit(text, strlen(text), &limit, &per_second) == 1 && limit < LIMITS &&
	       !strpbrk(text, " \t\r\n");
}

/* As parse_limit(); -EEXIST: it is given twice. */
static int add_limit(struct token *token, const char *text, size_t len)
{
	enum limit limit;
	uint64_t per_second;
	int found = parse_limit(text, len, &limit, &per_second);

	if (found <= 0)
		return found;
	if (limit >= LIMITS)
		return -EINVAL;
	if (!token->limits)
		token->limits = calloc(LIMITS, sizeof(token->limits[0]));
	if (!token->limits)
		return -ENOMEM;
	if (token->limits[limit].per_second != 0)
		return -EEXIST;
	token->limits[limit].per_second = per_second;
	return 1;
}

static const char prefix_word[] = "prefix=";

/* 1: a namespace; 0: another word; -EINVAL: none that is one; -EEXIST: it is given twice. */
static int add_prefix(struct token *token, const char *text, size_t len)
{
	size_t word = sizeof(prefix_word) - 1;

	if (len < word || memcmp(text, prefix_word, word) != 0)
		return 0;
	if (!namespace_valid(text + word, len - word))
		return -EINVAL;
	if (token->namespace_len > 0)
		return -EEXIST;
	memcpy(token->namespace, text + word, len - word);
	token->namespace_len = len - word;
	return 1;
}

bool token_prefix_valid(const char *text)
{
	struct token token = {0};

	return add_prefix(&token, text, strlen(text)) == 1;
}

static void token_done(struct token *token)
{
	token_use_unref(token->use);
	free(token->limits);
	for (size_t i = 0; i < token->scopes_count; i++)
		free(token->scopes[i].pattern);
	free(token->scopes);
}

static int refuse(struct token_refusal *refusal, const char *what, const char *text, size_t len)
{
	snprintf(refusal->detail, sizeof(refusal->detail), "%s: '%.*s'", what, (int)(len < 80 ? len : 80),
	         text);
	return -EINVAL;
}

/* The next word of a line; false: none is left. */
static bool next_word(const char **at, const char *end, const char **ret, size_t *ret_len)
{
	while (*at < end && strchr(" \t\r", **at))
		++*at;
	*ret = *at;
	while (*at < end && !strchr(" \t\r", **at))
		++*at;
	*ret_len = (size_t)(*at - *ret);
	return *ret_len > 0;
}

/* A limit, the prefix or a scope. */
static int read_word(struct token *token, const char *word, size_t len, struct token_refusal *refusal)
{
	int error = add_prefix(token, word, len);

	if (error == -EINVAL || error == -EEXIST)
		return refuse(refusal,
		              "wanted is prefix= and a namespace, 1 to 40 of A-Z a-z 0-9 . _ -, the first "
		              "not '-', once",
		              word, len);
	if (error == 0)
		error = add_limit(token, word, len);
	if (error == -EINVAL || error == -EEXIST)
		return refuse(refusal,
		              "wanted is a limit: rate=N requests a second, bytes=N (KiB, MiB, GiB) "
		              "a second, or connections=N at once, each once",
		              word, len);
	if (error != 0)
		return error < 0 ? error : 0;
	error = token->scopes_count < TOKEN_SCOPES_MAX ? add_scope(token, word, len) : -EINVAL;
	if (error == -EINVAL)
		return refuse(refusal,
		              "wanted is a scope: submit, work, read, call, publish, metrics or admin, "
		              "alone or with :NAME or :BEGINNING*",
		              word, len);
	return error;
}

static int read_line(struct token *token, const char *at, const char *end, struct token_refusal *refusal)
{
	const char *word;
	size_t len;
	int error;

	next_word(&at, end, &word, &len);
	if (!name_valid(word, len))
		return refuse(refusal, "a name has 1 to 100 of A-Z a-z 0-9 . _ - @", word, len);
	memcpy(token->name, word, len);
	if (!next_word(&at, end, &word, &len) || !read_digest(word, len, token->digest))
		return refuse(refusal,
		              "wanted is sha256: and 64 hexadecimal digits, as `whilst token` prints them",
		              word, len);
	while (next_word(&at, end, &word, &len)) {
		error = read_word(token, word, len, refusal);
		if (error < 0)
			return error;
	}
	if (token->scopes_count == 0)
		return refuse(refusal, "a token without a scope may do nothing", token->name,
		              strlen(token->name));
	for (size_t i = 0; token->namespace_len > 0 && i < token->scopes_count; i++) {
		if (token->scopes[i].action == TOKEN_METRICS)
			return refuse(refusal,
			              "/metrics tells of everybody, so a token with a prefix has no scope "
			              "metrics",
			              token->name, strlen(token->name));
	}
	return 0;
}

/* A place for one more, not yet in its order. NULL: no memory. */
static struct space *add_space(struct token_table *table, const char *name, size_t len)
{
	struct space *space;

	if (table->spaces_count == table->spaces_cap) {
		size_t cap = table->spaces_cap ? table->spaces_cap * 2 : 16;
		struct space *more = realloc(table->spaces, cap * sizeof(*more));

		if (!more)
			return NULL;
		table->spaces = more;
		table->spaces_cap = cap;
	}
	space = &table->spaces[table->spaces_count];
	*space = (struct space){.name_len = len, .use = calloc(1, sizeof(*space->use))};
	if (!space->use)
		return NULL;
	space->use->references = 1;
	memcpy(space->name, name, len);
	table->spaces_count++;
	return space;
}

/* prefix=NAMESPACE LIMIT... */
static int add_space_line(struct token_table *table, const char *at, const char *end,
                          struct token_refusal *refusal)
{
	size_t word = sizeof(prefix_word) - 1, len;
	struct space *space;
	const char *text;

	next_word(&at, end, &text, &len);
	if (!namespace_valid(text + word, len - word))
		return refuse(refusal,
		              "wanted is prefix= and a namespace, 1 to 40 of A-Z a-z 0-9 . _ -, the first "
		              "not '-'",
		              text, len);
	space = add_space(table, text + word, len - word);
	if (!space)
		return -ENOMEM;
	space->told = true;
	while (next_word(&at, end, &text, &len)) {
		enum limit limit;
		uint64_t value;

		if (parse_limit(text, len, &limit, &value) != 1 || space->limits[limit].per_second != 0)
			return refuse(refusal,
			              "wanted is a limit of the namespace: rate=N requests a second, bytes=N "
			              "(KiB, MiB, GiB) a second, connections=N at once, jobs=N or queues=N, "
			              "each once",
			              text, len);
		space->limits[limit].per_second = value;
	}
	return 0;
}

/* By name; what has a line of its own first. */
static int by_name_told(const void *a, const void *b)
{
	int order = token_space_order(a, b);

	return order != 0 ? order : ((const struct space *)b)->told - ((const struct space *)a)->told;
}

/* Sorted, each once. */
static int sort_spaces(struct token_table *table, struct token_refusal *refusal)
{
	size_t kept = 0;

	if (table->spaces_count == 0)
		return 0;
	qsort(table->spaces, table->spaces_count, sizeof(table->spaces[0]), by_name_told);
	for (size_t i = 1; i < table->spaces_count; i++) {
		struct space *space = &table->spaces[i];

		if (token_space_order(&table->spaces[kept], space) != 0) {
			struct space last = table->spaces[++kept];

			table->spaces[kept] = *space;
			*space = last; /* one that was there already: it is freed below */
			continue;
		}
		if (space->told)
			return refuse(refusal, "the namespace has two lines", space->name, space->name_len);
	}
	for (size_t i = kept + 1; i < table->spaces_count; i++)
		token_use_unref(table->spaces[i].use);
	table->spaces_count = kept + 1;
	return 0;
}

static int join_spaces(struct token_table *table, struct token_refusal *refusal)
{
	int error;

	for (size_t i = 0; i < table->count; i++) {
		const struct token *token = &table->tokens[i];

		if (token->namespace_len > 0 && !add_space(table, token->namespace, token->namespace_len))
			return -ENOMEM;
	}
	error = sort_spaces(table, refusal);
	for (size_t i = 0; error == 0 && i < table->count; i++) {
		struct token *token = &table->tokens[i];

		if (token->namespace_len == 0)
			continue;
		token->space = token_space_find(table, token->namespace, token->namespace_len);
		token->use->above = token_use_ref(token->space->use);
	}
	return error;
}

static int add_line(struct token_table *table, const char *line, const char *end,
                    struct token_refusal *refusal)
{
	struct token token = {0};
	int error;

	if (table->count == table->cap) {
		size_t cap = table->cap ? table->cap * 2 : 16;
		struct token *more = realloc(table->tokens, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		table->tokens = more;
		table->cap = cap;
	}
	error = read_line(&token, line, end, refusal);
	if (error == 0) {
		token.use = calloc(1, sizeof(*token.use));
		error = token.use ? 0 : -ENOMEM;
	}
	if (error < 0) {
		token_done(&token);
		return error;
	}
	token.use->references = 1;
	token.line = refusal->line;
	table->tokens[table->count++] = token;
	return 0;
}

static bool is_space_line(const char *line, const char *end)
{
	size_t word = sizeof(prefix_word) - 1;

	return (size_t)(end - line) >= word && memcmp(line, prefix_word, word) == 0;
}

/* By digest. A token has one line: what was taken from it there, another line would leave it. */
static int sort_tokens(struct token_table *table, struct token_refusal *refusal)
{
	if (table->count > 1)
		qsort(table->tokens, table->count, sizeof(table->tokens[0]), token_by_digest);
	for (size_t i = 1; i < table->count; i++) {
		const struct token *a = &table->tokens[i - 1], *b = &table->tokens[i];

		if (token_by_digest(a, b) != 0)
			continue;
		if (a->line > b->line) {
			a = b;
			b = &table->tokens[i - 1];
		}
		refusal->line = b->line;
		return refuse(refusal, "the same token has two lines, the other one of", a->name,
		              strlen(a->name));
	}
	return 0;
}

int token_table_read(const char *text, size_t len, struct token_table **ret, struct token_refusal *refusal)
{
	struct token_table *table = calloc(1, sizeof(*table));
	unsigned char probe[TOKEN_DIGEST_BYTES];
	const char *end = text + len;
	int error = table ? token_digest("", 0, probe) : -ENOMEM;

	*refusal = (struct token_refusal){0};
	for (const char *line = text, *stop; error == 0 && line < end; line = stop + 1) {
		stop = memchr(line, '\n', (size_t)(end - line));
		if (!stop)
			stop = end;
		refusal->line++;
		while (line < stop && strchr(" \t\r", *line))
			line++;
		if (line < stop && *line != '#')
			error = is_space_line(line, stop) ? add_space_line(table, line, stop, refusal)
			                                  : add_line(table, line, stop, refusal);
	}
	if (error == 0)
		error = join_spaces(table, refusal);
	if (error == 0)
		error = sort_tokens(table, refusal);
	if (error < 0) {
		token_table_free(table);
		return error;
	}
	*ret = table;
	return 0;
}

struct token_table *token_table_free(struct token_table *table)
{
	if (!table)
		return NULL;
	for (size_t i = 0; i < table->count; i++)
		token_done(&table->tokens[i]);
	for (size_t i = 0; i < table->spaces_count; i++)
		token_use_unref(table->spaces[i].use);
	free(table->tokens);
	free(table->spaces);
	free(table);
	return NULL;
}

/* ---- use --------------------------------------------------------------------------------- */

const struct token *token_find(const struct token_table *table, struct wh_slice presented)
{
	struct token key = {0};

	/* What is looked up is the digest: how long that takes tells nothing of the token. */
	if (table->count == 0 || token_digest(presented.data, presented.len, key.digest) < 0)
		return NULL;
	return bsearch(&key, table->tokens, table->count, sizeof(key), token_by_digest);
}

const char *token_name(const struct token *token)
{
	return token->name;
}

struct wh_slice token_namespace(const struct token *token)
{
	return (struct wh_slice){token->namespace, token->namespace_len};
}

bool token_table_namespaced(const struct token_table *table)
{
	return table->spaces_count > 0;
}

bool token_allows(const struct token *token, enum token_action action, struct wh_slice name)
{
	if (action <= TOKEN_ANY)
		return true;
	for (size_t i = 0; i < token->scopes_count; i++) {
		const struct scope *scope = &token->scopes[i];

		if (scope->action != action && scope->action != TOKEN_ADMIN)
			continue;
		if (name.len == 0 ? scope->all && scope->len == 0
		    : scope->all
		            ? name.len >= scope->len && memcmp(name.data, scope->pattern, scope->len) == 0
		            : name.len == scope->len && memcmp(name.data, scope->pattern, scope->len) == 0)
			return true;
	}
	return false;
}

const char *token_action_name(enum token_action action)
{
	return actions[action];
}
