/* src/front/event.h -- CloudEvents 1.0: one event, read from any of its forms and written in two.
 *
 * Forms: HTTP header fields and a body (binary mode), a JSON object (structured), and the lines that are kept with a job, which are
 * those of binary mode: "ce-id: 17\r\n", and one more that names the attributes that JSON gave as other than strings (binary mode has no types): such
 * stay what they were. Every attribute is held as its canonical string, decoded. What is read is judged by the letter
 * of the specification (CloudEvents 1.0.2 sections 3 and 4, its HTTP binding 3.1 to 3.3, its JSON format 2 to 4): an event that breaks
 * a MUST is refused, and the refusal names the attribute. Pure; any thread.
 */
#ifndef WH_FRONT_EVENT_H
#define WH_FRONT_EVENT_H

#include "base/text.h"
#include "whilst/http.h"

#define EVENT_TYPE       "application/cloudevents+json"
#define EVENT_TYPED      "Whilst-Event-Typed"
#define EVENT_BATCH_TYPE "application/cloudevents-batch+json"

enum {
	EVENT_ATTRIBUTES_MAX = 64,
	EVENT_NAME_MAX = 64,          /* bytes of an attribute's name; 20 is what the specification advises */
	EVENT_CONTENT_TYPE_MAX = 255, /* bytes of datacontenttype */
	EVENT_HEADERS_MAX = 16384,    /* bytes of the kept lines */
	EVENT_DATA_MAX = 1 << 20,     /* bytes */
};

struct event_attribute {
	struct wh_slice name, value; /* lower case; decoded */
	bool typed; /* true, false or a whole number of 32 bits: no string where there are types */
};

struct event {
	size_t count;
	struct event_attribute
		attributes[EVENT_ATTRIBUTES_MAX]; /* all but datacontenttype, in the order read */
	struct wh_slice content_type;             /* datacontenttype; absent: unset */
	struct wh_slice data;                     /* absent or empty: none */
	char *memory;                             /* of what had to be decoded */
	char *spare;                              /* what is left of it */
};

enum event_wrong {
	EVENT_GOOD = 0,
	EVENT_BARE,      /* no attribute at all: not an event, or one yet to be made */
	EVENT_BAD,       /* see detail */
	EVENT_BAD_JSON,  /* likewise */
	EVENT_TOO_LARGE, /* likewise; .limit */
	EVENT_NO_MEMORY,
};

struct event_refusal {
	uint64_t limit;
	char detail[300];
};

/* event_done() - free what a reading allocated. An event that is all-zero, or whose reading failed, needs none, and bears it. */
void event_done(struct event *event);

/* event_read_fields() - binary mode. Slices of the fields and the body are borrowed as long as the event is used. Fields that do not begin
 * with ce- are passed over; content_type may be absent. */
enum event_wrong event_read_fields(struct event *event, const struct wh_http_field *fields, size_t count,
                                   struct wh_slice content_type, struct wh_slice body,
                                   struct event_refusal *refusal);

/* event_make() - of attributes whose values are plain; absent ones are none. Everything is borrowed as long as the event is used; no memory is needed. */
enum event_wrong event_make(struct event *event, const struct event_attribute *attributes, size_t count,
                            struct wh_slice content_type, struct wh_slice data,
                            struct event_refusal *refusal);

/* event_read_json() - structured mode: one JSON object (borrowed). */
enum event_wrong event_read_json(struct event *event, struct wh_slice json, struct event_refusal *refusal);

/* event_read_kept() - from the lines of event_put_kept(). Not judged again. EVENT_GOOD, EVENT_BARE: there is no ce- line,
 * EVENT_BAD: not such lines, EVENT_NO_MEMORY. */
enum event_wrong event_read_kept(struct event *event, struct wh_slice lines, struct wh_slice content_type,
                                 struct wh_slice body);

/* event_get() - an attribute's value by its name; absent: unset. */
struct wh_slice event_get(const struct event *event, const char *name, size_t len);

/* event_set() - of an event that has not got it yet; what it points to is borrowed. false: there is no room. */
bool event_set(struct event *event, const char *name, struct wh_slice value);

/* event_put_key() - (event_key.c) the value of an attribute as a group or unique key of a job: itself, or what stands for one of more than JOB_KEY_MAX
 * bytes. Absent: nothing. event_put_identity(): which event it is, by its source and id. */
void event_put_key(struct wh__text *text, struct wh_slice value);
void event_put_identity(struct wh__text *text, const struct event *event);

/* event_put_kept() - the lines that are kept with a job, which are the header fields of binary mode. */
void event_put_kept(struct wh__text *text, const struct event *event);

/* event_put_json() - structured mode. more: further attributes, ",\"a\":\"b\"", or NULL; those that the event has of the same
 * names (more_prefix: how they begin) are left out. */
void event_put_json(struct wh__text *text, const struct event *event, const char *more,
                    const char *more_prefix);

/* event_put_value() - an attribute's value as in a header field (HTTP binding 3.1.3.2). */
void event_put_value(struct wh__text *text, struct wh_slice value);

bool event_is_attribute(struct wh_slice field_name); /* ce-, with or without case */
bool event_name_valid(const char *name, size_t len); /* a-z 0-9; not "data" */
bool event_is_typed(struct wh_slice value);          /* true, false, or an integer as CloudEvents knows it */
bool event_text_valid(struct wh_slice text);         /* UTF-8 without what the type String excludes */

#endif
