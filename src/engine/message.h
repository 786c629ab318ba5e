/* src/engine/message.h -- messages with an address or with descriptors; see message.c. Used by: attempt.c, uring.c. */
#ifndef WH_ENGINE_MESSAGE_H
#define WH_ENGINE_MESSAGE_H

#include "engine/engine.h"
#include "runtime/arguments.h"

int64_t wh__message_send(struct wh__op *op);
int64_t wh__message_receive(struct wh__op *op);

/* wh__message_received() - the kernel has filled op's arguments in: hand on what the caller wants. */
void wh__message_received(struct wh__op *op);

#endif
