/* src/front/prefer.h -- the Prefer header field (RFC 7240): may we answer later, and how long may it take?
 *
 * The first instance of a preference counts, unknown and malformed ones are ignored: Prefer never makes a
 * request fail. Pure; any thread.
 */
#ifndef WH_FRONT_PREFER_H
#define WH_FRONT_PREFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prefer {
	bool respond_async;
	bool wait;       /* wait=N was given and understood */
	bool wait_seen;  /* a later wait does not count */
	uint32_t wait_s; /* as asked; see prefer_clamp() */
};

/* prefer_add() - one field value; call for every Prefer line in order. */
void prefer_add(struct prefer *prefer, const char *value, size_t len);

static inline void prefer_clamp(struct prefer *prefer, uint32_t wait_s_max)
{
	if (prefer->wait_s > wait_s_max)
		prefer->wait_s = wait_s_max;
}

/* prefer_applied() - the value of Preference-Applied into to (room for PREFER_APPLIED_BYTES); 0: nothing. */
enum { PREFER_APPLIED_BYTES = 48 };
size_t prefer_applied(const struct prefer *prefer, char *to);

#endif
