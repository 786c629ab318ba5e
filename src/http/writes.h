/* src/http/writes.h -- writes of a streamed body that wait until more may be written, at server and client.
 *
 * Depends on: whilst.h, runtime.  Used by: answer, call.  Thread: loop.  Memory: a list through the slots, oldest first;
 * its head lies in the owner, which ends all before it goes.
 */
#ifndef WH_HTTP_WRITES_H
#define WH_HTTP_WRITES_H

#include "runtime/op.h"

/* wh__http_writes_wait() - the future of a write whose bytes are on their way: complete at once if there is room for more. A
 * cancelled one ends; its bytes are sent all the same. */
wh_future wh__http_writes_wait(wh_loop *loop, struct wh__op **first, bool room);

/* wh__http_writes_end() - all of them end with result. */
void wh__http_writes_end(struct wh__op **first, int64_t result);

#endif
