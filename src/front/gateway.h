/* src/front/gateway.h -- what both moods of the gateway share. Thread: loop. */
#ifndef WH_FRONT_GATEWAY_H
#define WH_FRONT_GATEWAY_H

#include "deliver/trace.h"
#include "front/api.h"

/* The fields of a request as they go on: end to end, with Via and X-Forwarded-*. Names and values are copied. */
struct gateway_fields {
	struct wh__text text; /* holds what is made here */
	size_t count;
	struct wh_http_field fields[108]; /* of a request there are at most 100 */
	char peer[64], forwards[24];
	struct trace trace;
};

enum { GATEWAY_FIELDS_MAX = 108, GATEWAY_FIELDS_OURS = 7, GATEWAY_PASSES_MAX = 8 };

/* gateway_fields() - false: no memory. The fields borrow the exchange's memory and *to. What was shown to us (tokens) is not
 * among them. */
bool gateway_fields(struct gateway_fields *to, const struct api *api, wh_http_exchange *x);
void gateway_fields_done(struct gateway_fields *fields);

/* gateway_target() - what the backend is asked for: the base of its URL, the path below the service, the query. */
void gateway_target(struct wh__text *text, wh_http_exchange *x, const struct service *service);

/* gateway_service() - whom the call of a client of this namespace is for; NULL: nobody. */
struct service *gateway_service(struct api *api, wh_http_exchange *x, struct wh_slice namespace);

/* relay_start() - pass the call through (relay.c). In on_request() of a streamed exchange. hidden: as many bytes of the service's name the client
 * is not told. */
void relay_start(struct api *api, wh_http_exchange *x, struct service *service, size_t hidden);

#endif
