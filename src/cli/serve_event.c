/* src/cli/serve_event.c -- the log of events of `whilst serve`. See serve_event.h; docs/operations.md lists them. */
#include "cli/serve_event.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/units.h"

void serve_event(wh_loop *loop, int level, const char *name, const char *members)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	char given[1024], instant[WH__INSTANT_TEXT_BYTES];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_format(&text, "ts=%.*s lvl=%s ev=%s", (int)wh__put_instant(instant, wh_wall_now(loop)),
	                instant, levels[level], name);
	if (members && *members) {
		wh__text_put(&text, " ", 1);
		wh__text_str(&text, members);
	}
	wh__text_put(&text, "\n", 1);
	/* one call, one line: lines of several threads or processes do not mix */
	if (!text.failed)
		fwrite(text.data, 1, text.len, stderr);
	wh__text_done(&text);
}

void serve_event_message(wh_loop *loop, int level, const char *name, const char *message)
{
	struct wh__text text;

	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "msg=");
	wh__text_json(&text, message, strlen(message));
	wh__text_put(&text, "", 1);
	serve_event(loop, level, name, text.failed ? "" : text.data);
	wh__text_done(&text);
}

void serve_event_failed(wh_loop *loop, int status, const char *name, const char *format, va_list list)
{
	struct wh__text text;
	char message[2048];

	vsnprintf(message, sizeof(message), format, list);
	wh__text_init(&text, NULL, 0);
	wh__text_format(&text, "status=%d msg=", status);
	wh__text_json(&text, message, strlen(message));
	wh__text_put(&text, "", 1);
	serve_event(loop, WH_LOG_ERROR, name, text.failed ? "" : text.data);
	wh__text_done(&text);
}
