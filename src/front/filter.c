/* src/front/filter.c -- which events a subscription is for. See filter.h.
 *
 * An expression becomes a list of nodes, each before those nested in it; a node knows where what is nested in it ends.
 */
#include "front/filter.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

enum kind { EXACT, PREFIX, SUFFIX, ALL, ANY, NOT, KINDS };
static const char *const dialects[KINDS] = {"exact", "prefix", "suffix", "all", "any", "not"};

struct node {
	uint8_t kind;
	uint16_t end;                /* of what is nested in it */
	struct wh_slice name, value; /* EXACT, PREFIX, SUFFIX */
};

struct filter {
	char *texts;
	uint16_t count;
	struct node nodes[];
};

struct reading {
	struct node *nodes;
	size_t count, conditions;
	char *spare; /* room for all strings */
	char *detail;
	size_t detail_len;
};

static int refuse(struct reading *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct reading *r, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(r->detail, r->detail_len, format, list);
	va_end(list);
	return -EINVAL;
}

static int add(struct reading *r, enum kind kind, struct node **ret)
{
	if (kind <= SUFFIX && r->conditions++ == FILTER_CONDITIONS_MAX)
		return refuse(r, "filters: more than %d conditions", FILTER_CONDITIONS_MAX);
	if (r->count == FILTER_NODES_MAX)
		return refuse(r, "filters: more than %d expressions and conditions", FILTER_NODES_MAX);
	*ret = &r->nodes[r->count++];
	**ret = (struct node){.kind = (uint8_t)kind};
	return 0;
}

static struct wh_slice take(struct reading *r, struct wh_slice value)
{
	struct wh_slice text = {r->spare, 0};

	if (!wh__json_string(value, r->spare, &text.len))
		return (struct wh_slice){NULL, 0};
	r->spare += text.len;
	return text;
}

/* {"type": "a", "subject": "b"}: all of them */
static int read_attributes(struct reading *r, enum kind kind, struct wh_slice value)
{
	struct wh_slice at = {NULL, 0}, name;
	struct node *all = NULL, *node = NULL;
	size_t count = 0;
	int error = add(r, ALL, &all);

	if (error < 0)
		return error;
	if (*value.data != '{')
		return refuse(r, "filters: %s wants an object of attributes and strings", dialects[kind]);
	while (wh__json_each(value, &at, &name)) {
		error = add(r, kind, &node);
		if (error < 0)
			return error;
		node->name = take(r, name);
		node->value = take(r, at);
		node->end = (uint16_t)r->count;
		if (!event_name_valid(node->name.data, node->name.len))
			return refuse(r, "filters: '%.*s' is no attribute's name",
			              (int)(node->name.len < 60 ? node->name.len : 60), node->name.data);
		if (node->value.len == 0)
			return refuse(r, "filters: %s of %.*s wants a string that is not empty",
			              dialects[kind], (int)node->name.len, node->name.data);
		count++;
	}
	if (count == 0)
		return refuse(r, "filters: %s names no attribute", dialects[kind]);
	all->end = (uint16_t)r->count;
	return 0;
}

static int read_expression(struct reading *r, struct wh_slice value, int depth);

static int read_expressions(struct reading *r, struct wh_slice value, int depth, size_t *ret_count)
{
	struct wh_slice at = {NULL, 0};
	int error = 0;

	*ret_count = 0;
	while (error == 0 && wh__json_next(value, &at)) {
		error = read_expression(r, at, depth);
		++*ret_count;
	}
	return error;
}

static int read_nested(struct reading *r, enum kind kind, struct wh_slice value, int depth)
{
	struct node *node = NULL;
	size_t count;
	int error = add(r, kind, &node);

	if (error < 0)
		return error;
	if (kind == NOT) {
		error = read_expression(r, value, depth + 1);
	} else {
		if (*value.data != '[')
			return refuse(r, "filters: %s wants an array of expressions", dialects[kind]);
		error = read_expressions(r, value, depth + 1, &count);
		if (error == 0 && count == 0)
			return refuse(r, "filters: %s wants one expression at least", dialects[kind]);
	}
	node->end = (uint16_t)r->count;
	return error;
}

static int read_expression(struct reading *r, struct wh_slice value, int depth)
{
	struct wh_slice at = {NULL, 0}, name, nothing;
	int kind = 0;

	if (depth > FILTER_DEPTH_MAX)
		return refuse(r, "filters: nested more than %d deep", FILTER_DEPTH_MAX);
	if (*value.data != '{' || !wh__json_each(value, &at, &name))
		return refuse(r, "filters: an expression is an object such as {\"exact\":{\"type\":\"a\"}}");
	nothing = at;
	if (wh__json_each(value, &nothing, &(struct wh_slice){NULL, 0}))
		return refuse(r,
		              "filters: an expression has one dialect; all and any take several expressions");
	name = (struct wh_slice){name.data + 1, name.len - 2};
	while (kind < KINDS && !wh_slice_equal(name, dialects[kind]))
		kind++;
	if (kind == KINDS)
		return refuse(r,
		              "filters: there is no dialect '%.*s' here; known: exact, prefix, suffix, all, "
		              "any, not",
		              (int)(name.len < 60 ? name.len : 60), name.data);
	return kind <= SUFFIX ? read_attributes(r, (enum kind)kind, at)
	                      : read_nested(r, (enum kind)kind, at, depth);
}

int filter_read(struct wh_slice json, struct filter **ret, char *detail, size_t detail_len)
{
	struct reading r = {.detail = detail, .detail_len = detail_len};
	struct filter *filter = NULL;
	char *texts;
	size_t count;
	int error;

	if (json.len > FILTER_BYTES_MAX)
		return refuse(&r, "filters: more than %d bytes", FILTER_BYTES_MAX);
	if (!wh__json_check(json) || *json.data != '[')
		return refuse(&r, "filters: wanted is an array of expressions");
	texts = malloc(json.len + 1);
	r.spare = texts;
	r.nodes = texts ? malloc((FILTER_NODES_MAX + 1) * sizeof(r.nodes[0])) : NULL;
	error = r.nodes ? read_expressions(&r, json, 0, &count) : -ENOMEM;
	if (error == 0) {
		filter = malloc(sizeof(*filter) + r.count * sizeof(r.nodes[0]));
		error = filter ? 0 : -ENOMEM;
	}
	if (error < 0) {
		free(texts);
	} else {
		filter->texts = texts;
		filter->count = (uint16_t)r.count;
		memcpy(filter->nodes, r.nodes, r.count * sizeof(r.nodes[0]));
		*ret = filter;
	}
	free(r.nodes);
	return error;
}

struct filter *filter_free(struct filter *filter)
{
	if (filter)
		free(filter->texts);
	free(filter);
	return NULL;
}

static bool compare(const struct node *node, const struct event *event)
{
	struct wh_slice value = event_get(event, node->name.data, node->name.len), wanted = node->value;

	if (!value.data || value.len < wanted.len || (node->kind == EXACT && value.len != wanted.len))
		return false;
	return memcmp(node->kind == SUFFIX ? value.data + value.len - wanted.len : value.data, wanted.data,
	              wanted.len) == 0;
}

/* Of the nodes from i to end: all true, or with any one. No recursion deeper than FILTER_DEPTH_MAX and the attributes' ALL. */
static bool evaluate(const struct filter *filter, const struct event *event, size_t i, size_t end, bool any)
{
	for (; i < end; i = filter->nodes[i].end) {
		const struct node *node = &filter->nodes[i];
		bool yes = node->kind <= SUFFIX
		                   ? compare(node, event)
		                   : evaluate(filter, event, i + 1, node->end, node->kind == ANY);
		if ((node->kind == NOT ? !yes : yes) == any)
			return any;
	}
	return !any;
}

bool filter_matches(const struct filter *filter, const struct event *event)
{
	return !filter || evaluate(filter, event, 0, filter->count, false);
}
