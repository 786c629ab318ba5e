/* src/http/url.h -- references to URLs against a base, and what of URLs goes on the wire. The parser is wh_http_url_parse().
 *
 * Depends on: whilst/http.h.  Used by: the files of the client.
 * Thread: any.  Memory: what is resolved is malloc'ed.
 */
#ifndef WH_HTTP_URL_H
#define WH_HTTP_URL_H

#include "whilst/http.h"

enum { WH__HTTP_URL_BYTES_MAX = 64 * 1024, WH__HTTP_HOST_BYTES_MAX = 255 };

/* wh__http_url_resolve() - a reference (of a Location field) against the URL base, which has been parsed: RFC 3986 section 5.2,
 * without its fragment. Gives *ret, terminated: free(). Result 0, -EINVAL, -EILSEQ, -EPROTONOSUPPORT, -ENOMEM. */
int wh__http_url_resolve(const struct wh_http_url *base, struct wh_slice reference, char **ret);

/* wh__http_url_origin() - "http://host:port", host in lower case, port always there; terminated. How many bytes. */
enum { WH__HTTP_ORIGIN_BYTES_MAX = WH__HTTP_HOST_BYTES_MAX + 24 };
size_t wh__http_url_origin(const struct wh_http_url *url, char ret[WH__HTTP_ORIGIN_BYTES_MAX]);

/* wh__http_url_host() - as it goes into Host: brackets where they belong, the port unless it is the scheme's; terminated. */
size_t wh__http_url_host(const struct wh_http_url *url, char ret[WH__HTTP_ORIGIN_BYTES_MAX]);

/* wh__http_url_same_origin() - scheme, host without case, port: RFC 6454 section 5. */
bool wh__http_url_same_origin(const struct wh_http_url *a, const struct wh_http_url *b);

/* wh__http_basic() - "Basic " and user information, percent-decoded, in base64 (RFC 7617); terminated, malloc'ed. NULL: no
 * memory. */
char *wh__http_basic(struct wh_slice userinfo);

#endif
