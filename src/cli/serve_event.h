/* src/cli/serve_event.h -- the log of events of `whilst serve`: lines in logfmt on standard error. Thread: main. */
#ifndef WH_CLI_SERVE_EVENT_H
#define WH_CLI_SERVE_EVENT_H

#include <stdarg.h>

#include "whilst/whilst.h"

/* serve_event() - one line. loop: whose clock stamps it. members: "a=1 b=2", what belongs to the event; may be NULL. */
void serve_event(wh_loop *loop, int level, const char *name, const char *members);
/* serve_event_message() - the same with one member, msg=, any text. */
void serve_event_message(wh_loop *loop, int level, const char *name, const char *message);
/* serve_event_failed() - the server ends with that status, for this reason. */
void serve_event_failed(wh_loop *loop, int status, const char *name, const char *format, va_list list)
	__attribute__((format(printf, 4, 0)));

#endif
