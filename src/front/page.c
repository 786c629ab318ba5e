/* src/front/page.c -- a list of things by their names, page by page. See page.h. */
#include "front/page.h"

#include <string.h>

#include "front/namespace.h"

bool page_read(struct request *request, struct page *ret)
{
	enum { LIMIT, AFTER, OPTIONS };
	struct option options[OPTIONS] = {
		[LIMIT] = {"limit", OPTION_NUMBER, 1, PAGE_MAX, false, PAGE_MAX, ""},
		[AFTER] = {"after", OPTION_TEXT, 0, 0, false, 0, ""}};

	char whole[TARGET_NAME_BYTES_MAX];
	const char *wrong;
	size_t len;

	*ret = (struct page){0};
	if (!request_options(request, options, OPTIONS))
		return false;
	ret->limit = (size_t)options[LIMIT].value;
	if (!options[AFTER].given)
		return true;
	wrong = namespace_name(request->namespace,
	                       (struct wh_slice){options[AFTER].text, (size_t)options[AFTER].value}, whole,
	                       &len);
	if (wrong) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "query: after: the name %s", wrong);
		return false;
	}
	ret->after_len = (size_t)options[AFTER].value;
	memcpy(ret->after, options[AFTER].text, ret->after_len);
	return true;
}

static bool is_behind(const struct page *page, struct wh_slice name)
{
	int order = memcmp(name.data, page->after, name.len < page->after_len ? name.len : page->after_len);

	return order > 0 || (order == 0 && name.len > page->after_len);
}

bool page_takes(struct page *page, struct wh_slice name)
{
	if (page->more || !is_behind(page, name))
		return false;
	if (page->count == page->limit) {
		page->more = true;
		return false;
	}
	page->count++;
	page->last_len = name.len;
	memcpy(page->last, name.data, name.len);
	return true;
}

void page_end(const struct page *page, struct wh__text *text)
{
	wh__text_str(text, "],\"next\":");
	if (page->more)
		wh__text_json(text, page->last, page->last_len);
	else
		wh__text_str(text, "null");
	wh__text_put(text, "}", 1);
}
