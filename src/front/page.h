/* src/front/page.h -- a list of things by their names, page by page: ?limit=N&after=NAME, and "next", which is asked for then.
 *
 * The cursor is a name, so a page goes on where it should whatever was made or removed meanwhile. Things are offered in the order of their names
 * as the client calls them. Thread: the loop of the store.
 */
#ifndef WH_FRONT_PAGE_H
#define WH_FRONT_PAGE_H

#include "front/api.h"

enum { PAGE_MAX = 1000 };

struct page {
	size_t limit, count;
	bool more;
	size_t after_len, last_len;
	char after[TARGET_NAME_BYTES_MAX + 1], last[TARGET_NAME_BYTES_MAX];
};

/* page_read() - what the query asks for, and nothing else in it. false: refused and answered. */
bool page_read(struct request *request, struct page *ret);
/* page_takes() - is the thing of this name, which comes behind the one before it, in the page? */
bool page_takes(struct page *page, struct wh_slice name);
/* page_end() - what follows the list: "],"next":NAME or null}". */
void page_end(const struct page *page, struct wh__text *text);

#endif
