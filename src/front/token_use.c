/* src/front/token_use.c -- limits of tokens and of namespaces while they are used. See token.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "front/token_inside.h"

int token_by_digest(const void *a, const void *b)
{
	return memcmp(((const struct token *)a)->digest, ((const struct token *)b)->digest,
	              TOKEN_DIGEST_BYTES);
}

int token_space_order(const void *a, const void *b)
{
	const struct space *one = a, *other = b;
	size_t len = one->name_len < other->name_len ? one->name_len : other->name_len;
	int order = memcmp(one->name, other->name, len);

	return order != 0 ? order : (one->name_len > other->name_len) - (one->name_len < other->name_len);
}

struct space *token_space_find(const struct token_table *table, const char *name, size_t len)
{
	struct space key = {.name_len = len};

	memcpy(key.name, name, len);
	return table->spaces_count > 0
	               ? bsearch(&key, table->spaces, table->spaces_count, sizeof(key), token_space_order)
	               : NULL;
}

void token_use_unref(struct token_use *use)
{
	struct token_use *above;

	for (; use && --use->references == 0; use = above) {
		above = use->above;
		free(use);
	}
}

struct token_use *token_use_ref(struct token_use *use)
{
	use->references++;
	return use;
}

/* A limit gives a second's worth at once and earns as much in a second. 0, or how long until cost can be paid. */
static int64_t judge(const struct token_limit *limit, int64_t now, uint64_t cost, int64_t *ret_earned_at)
{
	const int64_t second = INT64_C(1000000000), hour = 3600 * second;
	int64_t owed = limit->earned_at > now ? limit->earned_at - now : 0, price, wait;
	double exact = (double)cost * 1e9 / (double)limit->per_second;

	price = exact < (double)hour ? (int64_t)exact : hour;
	*ret_earned_at = now + owed + price;
	/* what costs more than a second's worth is let in when nothing is owed */
	wait = owed + (price < second ? price : second) - second;
	return wait > 0 ? wait : 0;
}

/* 0, or how long until the request can be paid; earned_at: when what it costs will have been earned, 0: it costs nothing. */
static int64_t judge_all(const struct token_limit *limits, int64_t now, const uint64_t cost[LIMITS],
                         int64_t earned_at[LIMITS], struct token_excess *excess)
{
	for (int i = 0; limits && i < LIMITS; i++) {
		int64_t wait;

		if (limits[i].per_second == 0 || cost[i] == 0)
			continue;
		wait = judge(&limits[i], now, cost[i], &earned_at[i]);
		if (wait > 0) {
			excess->limit = token_limit_names[i];
			excess->value = limits[i].per_second;
			return wait;
		}
	}
	return 0;
}

static void earn(struct token_limit *limits, const int64_t earned_at[LIMITS])
{
	for (int i = 0; limits && i < LIMITS; i++) {
		if (earned_at[i] != 0)
			limits[i].earned_at = earned_at[i];
	}
}

int64_t token_spend(const struct token *token, int64_t now, int64_t body_bytes, struct token_excess *ret)
{
	/* those at once are token_enter()'s */
	const uint64_t cost[LIMITS] = {1, body_bytes > 0 ? (uint64_t)body_bytes : 0, 0};
	struct token_limit *all[2] = {token->limits, token->space ? token->space->limits : NULL};
	int64_t earned_at[2][LIMITS] = {{0}};

	for (int i = 0; i < 2; i++) {
		int64_t wait;

		wait = judge_all(all[i], now, cost, earned_at[i], ret);
		if (wait > 0 || (body_bytes < 0 && all[i] && all[i][LIMIT_BYTES].per_second != 0)) {
			ret->of_namespace = i == 1;
			return wait > 0 ? wait : -EMSGSIZE;
		}
	}
	for (int i = 0; i < 2; i++)
		earn(all[i], earned_at[i]);
	return 0;
}

static bool is_full(const struct token_limit *limits, const struct token_use *use, bool of_namespace,
                    struct token_excess *ret)
{
	uint64_t limit = limits ? limits[LIMIT_CONNECTIONS].per_second : 0;

	if (limit == 0 || use->open < limit)
		return false;
	*ret = (struct token_excess){token_limit_names[LIMIT_CONNECTIONS], of_namespace, limit};
	return true;
}

struct token_use *token_enter(const struct token *token, struct token_excess *ret)
{
	struct token_use *use = token->use;

	if (is_full(token->limits, use, false, ret) ||
	    (token->space && is_full(token->space->limits, use->above, true, ret)))
		return NULL;
	use->open++;
	if (use->above)
		use->above->open++;
	return token_use_ref(use);
}

void token_leave(struct token_use *use)
{
	use->open--;
	if (use->above)
		use->above->open--;
	token_use_unref(use);
}

static void follow_spaces(struct token_table *table, const struct token_table *before)
{
	for (size_t i = 0; i < table->spaces_count; i++) {
		struct space *space = &table->spaces[i];
		const struct space *was = token_space_find(before, space->name, space->name_len);

		if (!was)
			continue;
		token_use_unref(space->use);
		space->use = token_use_ref(was->use);
	}
}

void token_table_follow(struct token_table *table, const struct token_table *before)
{
	if (!before)
		return;
	follow_spaces(table, before);
	for (size_t i = 0; i < table->count; i++) {
		struct token *token = &table->tokens[i];
		struct token_use *above = token->space ? token->space->use : NULL;
		const struct token *was = before->count == 0 ? NULL
		                                             : bsearch(token, before->tokens, before->count,
		                                                       sizeof(*token), token_by_digest);

		/* what is under way was counted for the namespace of then */
		if (was && was->use->above == above) {
			token_use_unref(token->use);
			token->use = token_use_ref(was->use);
		} else if (above && token->use->above != above) {
			token_use_unref(token->use->above);
			token->use->above = token_use_ref(above);
		}
	}
}

size_t token_table_spaces(const struct token_table *table, struct job_space_limit *ret, size_t max)
{
	size_t count = 0;

	for (size_t i = 0; i < table->spaces_count; i++) {
		const struct space *space = &table->spaces[i];
		uint64_t jobs = space->limits[LIMIT_JOBS].per_second,
			 queues = space->limits[LIMIT_QUEUES].per_second;

		if (jobs == 0 && queues == 0)
			continue;
		if (count < max)
			ret[count] = (struct job_space_limit){{space->name, space->name_len}, jobs, queues};
		count++;
	}
	return count;
}
