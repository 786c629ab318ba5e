/* src/io/name_none.c -- in place of name_server.c when the library is built without c-ares. Thread: loop. */
#include "io/name.h"

#include <errno.h>

struct wh__name_query *wh__name_ask(wh_loop *loop, const struct wh__name_question *question,
                                    wh__name_answer *answer, void *arg)
{
	answer(arg, -ENOSYS, NULL);
	return NULL;
}

void wh__name_forget(struct wh__name_query *query)
{
	assert(!"nothing is ever asked");
}
