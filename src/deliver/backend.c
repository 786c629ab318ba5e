/* src/deliver/backend.c -- one address of a service. See backend.h. */
#include "deliver/backend.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"

/* ---- life -------------------------------------------------------------------------------- */

struct backend *backend_ref(struct backend *backend)
{
	backend->references++;
	return backend;
}

struct backend *backend_unref(struct backend *backend)
{
	if (backend && --backend->references == 0) {
		free(backend->url);
		free(backend->base);
		free(backend->authority);
		free(backend->origin);
		free(backend);
	}
	return NULL;
}

static bool is_url_byte(char c)
{
	return c > ' ' && c < 0x7f && !strchr("\"<>\\^`{|}", c);
}

/* host or host:port or [v6] or [v6]:port */
static bool good_authority(const char *s, size_t len)
{
	const char *port = NULL;
	uint64_t number;

	if (len > 0 && s[0] == '[') {
		const char *end = memchr(s, ']', len);
		if (!end || end == s + 1 ||
		    strspn(s + 1, "0123456789abcdefABCDEF:.") != (size_t)(end - s - 1))
			return false;
		if (end + 1 == s + len)
			return true;
		if (end[1] != ':')
			return false;
		port = end + 1;
	} else {
		port = memchr(s, ':', len);
		if (len == 0 || port == s || memchr(s, '@', len))
			return false;
	}
	return !port || (wh__parse_u64(port + 1, len - (size_t)(port + 1 - s), 65535, &number) && number > 0);
}

/* Where in url its path begins; NULL and a sentence: it is none. */
static const char *check_url(const char *url, char *detail, size_t detail_len)
{
	bool secure = strncasecmp(url, "https://", 8) == 0;
	const char *authority = url + (secure ? 8 : 7), *path;

	if (!secure && strncasecmp(url, "http://", 7) != 0) {
		snprintf(detail, detail_len, "url must begin with http:// or https:// (%.200s)", url);
		return NULL;
	}
	for (const char *s = url; *s; s++) {
		if (!is_url_byte(*s) || *s == '?' || *s == '#') {
			snprintf(detail, detail_len,
			         "url has a byte that is not for it at %zu: no blanks, query or fragment",
			         (size_t)(s - url));
			return NULL;
		}
	}
	path = authority + strcspn(authority, "/");
	if (strlen(url) > BACKEND_URL_BYTES_MAX || !good_authority(authority, (size_t)(path - authority))) {
		snprintf(detail, detail_len, "url needs a host, and a port from 1 to 65535 if any (%.200s)",
		         url);
		return NULL;
	}
	return path;
}

struct backend *backend_new(const char *url, char *detail, size_t detail_len)
{
	const char *path = check_url(url, detail, detail_len), *authority;
	struct backend *backend;
	size_t path_len;
	bool secure;

	if (!path)
		return NULL;
	detail[0] = 0;
	backend = calloc(1, sizeof(*backend));
	if (!backend)
		return NULL;
	secure = strncasecmp(url, "https://", 8) == 0;
	authority = url + (secure ? 8 : 7);
	path_len = strlen(path);
	if (path_len > 0 && path[path_len - 1] == '/')
		path_len--;
	backend->references = 1;
	backend->url = strdup(url);
	backend->base = strndup(path, path_len);
	backend->authority = strndup(authority, (size_t)(path - authority));
	backend->origin = strndup(url, (size_t)(path - url));
	backend->address = secure ? backend->origin : backend->authority;
	if (!backend->url || !backend->base || !backend->authority || !backend->origin)
		return backend_unref(backend);
	return backend;
}

/* ---- whose turn it is -------------------------------------------------------------------- */

enum backend_state backend_state(const struct backend *backend, int64_t now)
{
	if (backend->down)
		return BACKEND_DOWN;
	if (!backend->open)
		return BACKEND_UP;
	return backend->trial || now >= backend->open_until ? BACKEND_TRIAL : BACKEND_OPEN;
}

const char *backend_state_name(enum backend_state state)
{
	static const char *const names[] = {[BACKEND_UP] = "up",
	                                    [BACKEND_DOWN] = "down",
	                                    [BACKEND_OPEN] = "open",
	                                    [BACKEND_TRIAL] = "trial"};

	return names[state];
}

static bool trial_is_due(const struct backend *backend, int64_t now)
{
	return !backend->trial && backend_state(backend, now) == BACKEND_TRIAL;
}

int backend_choose(struct backend *const *backends, size_t count, uint64_t tried, uint32_t *turn, int64_t now)
{
	int best = -1;

	assert(count <= BACKENDS_MAX);
	for (size_t i = 0; i < count; i++) {
		size_t at = (*turn + i) % count;
		const struct backend *backend = backends[at];

		if (tried >> at & 1)
			continue;
		if (trial_is_due(backend, now)) {
			best = (int)at;
			break;
		}
		if (backend_state(backend, now) == BACKEND_UP &&
		    (best < 0 || backend->outstanding < backends[best]->outstanding))
			best = (int)at;
	}
	if (best >= 0)
		*turn = (uint32_t)(((size_t)best + 1) % count);
	return best;
}

uint32_t backend_room(struct backend *const *backends, size_t count, int64_t now, int64_t *ret_at)
{
	uint32_t trials = 0;
	int64_t at = INT64_MAX;

	for (size_t i = 0; i < count; i++) {
		const struct backend *backend = backends[i];

		if (backend_state(backend, now) == BACKEND_UP) {
			*ret_at = 0;
			return UINT32_MAX;
		}
		trials += trial_is_due(backend, now);
		if (backend_state(backend, now) == BACKEND_OPEN && backend->open_until < at)
			at = backend->open_until;
	}
	*ret_at = trials > 0 ? 0 : at;
	return trials;
}

/* ---- how calls go ------------------------------------------------------------------------ */

void backend_begin(struct backend_call *call, struct backend *backend)
{
	assert(!call->backend);
	*call = (struct backend_call){
		.backend = backend_ref(backend), .trial = backend->open, .was_trial = backend->open};
	backend->trial |= backend->open;
	backend->outstanding++;
	backend->calls++;
}

static void trial_over(struct backend_call *call)
{
	if (call->trial)
		call->backend->trial = false;
	call->trial = false;
}

void backend_answered(struct backend_call *call)
{
	trial_over(call);
	call->backend->failures_row = 0;
	call->backend->open = false;
}

void backend_failed(struct backend_call *call, const struct breaker *breaker, int64_t error, int64_t now)
{
	struct backend *backend = call->backend;

	trial_over(call);
	backend->failures++;
	backend->failures_row += backend->failures_row < UINT32_MAX;
	backend->last_error = error;
	if (breaker->failures == 0 || backend->failures_row < breaker->failures)
		return;
	backend->circuits_opened += !backend->open;
	backend->open = true;
	backend->open_until = now + breaker->open_ns;
}

void backend_end(struct backend_call *call)
{
	if (!call->backend)
		return;
	trial_over(call);
	call->backend->outstanding--;
	call->backend = backend_unref(call->backend);
}

bool backend_checked(struct backend *backend, bool good, uint32_t healthy, uint32_t unhealthy)
{
	backend->checks++;
	backend->checks_failed += !good;
	if (good != backend->down) {
		backend->checks_row = 0;
		return false;
	}
	if (++backend->checks_row < (good ? healthy : unhealthy))
		return false;
	backend->checks_row = 0;
	backend->down = !good;
	return true;
}
