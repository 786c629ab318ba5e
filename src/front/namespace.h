/* src/front/namespace.h -- names within a namespace, and in full.
 *
 * What a token with prefix=acme calls "mail" is stored as "acme:mail": so are queues, services, topics and schedules. The colon is in no
 * name but there (job_name_skip()), so nobody in a namespace can say the name of anything outside. Who has no namespace names things in full.
 * The server's own queues are within: "acme:call/report". Pure; any thread.
 */
#ifndef WH_FRONT_NAMESPACE_H
#define WH_FRONT_NAMESPACE_H

#include "front/target.h"
#include "job/types.h"

enum { NAMESPACE_BYTES_MAX = 40 };

/* namespace_valid() - 1 to 40 of A-Z a-z 0-9 . _ -, the first not '-'. */
bool namespace_valid(const char *name, size_t len);

/* namespace_name() - the full name of what a client of this namespace (empty: of none) says. said may be to itself. NULL: good; else what is
 * wrong with it. namespace_target(): of a path segment, percent-encoded. */
const char *namespace_name(struct wh_slice namespace, struct wh_slice said, char to[TARGET_NAME_BYTES_MAX],
                           size_t *ret_len);
const char *namespace_target(struct wh_slice namespace, struct wh_slice segment,
                             char to[TARGET_NAME_BYTES_MAX], size_t *ret_len);

/* namespace_full_valid() - is this a full name, with a namespace or without? */
bool namespace_full_valid(const char *name, size_t len);

/* namespace_of() - the part before the colon; empty: it has none. namespace_same() - are both names of one namespace, or of none? */
struct wh_slice namespace_of(const char *name, size_t len);
bool namespace_same(struct wh_slice a, struct wh_slice b);

/* namespace_show() - a full name as a client of this namespace is told it; absent: it is not of it, and never told. */
struct wh_slice namespace_show(struct wh_slice namespace, struct wh_slice name);

/* namespace_plain() - as all are told within its namespace, whoever asks: workers, backends, targets, callbacks. */
static inline struct wh_slice namespace_plain(struct wh_slice name)
{
	size_t skip = job_name_skip(name.data, name.len);

	return (struct wh_slice){name.data + skip, name.len - skip};
}

/* namespace_knows_option() - is this option of a query, or member of an action, proved to name nothing outside the client's namespace? What is
 * not is refused to it: whoever adds one that names a job, a queue or a topic keeps that within the namespace, and enters it here. */
bool namespace_knows_option(struct wh_slice name);

#endif
