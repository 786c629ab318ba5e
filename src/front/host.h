/* src/front/host.h -- which server does a request say that it is for? (Host, RFC 9110 7.2 and 7.4)
 *
 * A page of https://evil.example may have its own name lead to 127.0.0.1 (DNS rebinding). To a browser all that answers there is of that page's origin
 * then: it may send and read whatever it likes. What gives it away is the name, which is still its own. So without tokens, a request that
 * comes over loopback in the clear is answered only under an address or a name that no stranger can have lead here: localhost, and those of the setting
 * hosts. Where that setting has names, that goes for every connection, with tokens too. UNIX sockets are not for browsers.
 *
 * Pure but for host_refused(), which is the loop's.
 */
#ifndef WH_FRONT_HOST_H
#define WH_FRONT_HOST_H

#include <stdbool.h>

#include "whilst/http.h"

struct api;

/* Names that the server goes by, lower or upper case; "*.example.com": whatever is below; "*": any. Borrowed. */
struct hosts {
	const char *const *names;
	unsigned count;
};

/* host_valid() - is it one of these? */
bool host_valid(const char *name);

/* host_is_ours() - does a Host ("name:port") lead nowhere but where it says: an address, or localhost or below it? host_is_named(): is it one of these? */
bool host_is_ours(struct wh_slice host);
bool host_is_named(const struct hosts *hosts, struct wh_slice host);

/* host_refused() - a request that is for another server: true, and answered with 421. */
bool host_refused(struct api *api, wh_http_exchange *x);

#endif
