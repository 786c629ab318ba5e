/* src/front/event_inside.h -- what event.c and event_json.c share. Used by: these two. */
#ifndef WH_FRONT_EVENT_INSIDE_H
#define WH_FRONT_EVENT_INSIDE_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "front/event.h"

enum event_wrong event_refuse(struct event_refusal *refusal, enum event_wrong wrong, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
enum event_wrong event_refuse_size(struct event_refusal *refusal, const char *what, uint64_t limit);
/* event_memory() - of an event: room for so many decoded bytes. */
bool event_memory(struct event *event, size_t bytes);
/* event_add() - an attribute, judged by itself; its slices are in memory that stays. */
enum event_wrong event_add(struct event *event, struct wh_slice name, struct wh_slice value,
                           struct event_refusal *refusal);
/* event_check() - is it whole, and are its attributes of their types? */
enum event_wrong event_check(const struct event *event, struct event_refusal *refusal);
bool event_is_media_type(struct wh_slice text);

#endif
