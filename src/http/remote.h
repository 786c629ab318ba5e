/* src/http/remote.h -- what http.h promises of an exchange, for one whose connection is on another thread. See threads.h.
 *
 * Each function is what the one of the same name in http.h does when wh__http_is_remote(x).
 *
 * Depends on: server.h.  Used by: exchange, answer, stream.  Thread: the handlers' loop.
 */
#ifndef WH_HTTP_REMOTE_H
#define WH_HTTP_REMOTE_H

#include "http/server.h"

static inline bool wh__http_is_remote(const wh_http_exchange *x)
{
	return __builtin_expect(!x->connection, 0);
}

wh_http_server *wh__http_remote_server(const wh_http_exchange *x);
void wh__http_remote_respond(wh_http_exchange *x, int status, const void *body, size_t len);
void wh__http_remote_respond_own(wh_http_exchange *x, int status, const void *body, size_t len,
                                 wh_function *release, void *arg);
int wh__http_remote_start(wh_http_exchange *x, int status, int64_t length); /* arguments are checked */
wh_future wh__http_remote_write(wh_http_exchange *x, const void *bytes, size_t len);
wh_future wh__http_remote_write_buf(wh_http_exchange *x, struct wh_buf *buf);
void wh__http_remote_end(wh_http_exchange *x);
void wh__http_remote_abort(wh_http_exchange *x);
int wh__http_remote_inform(wh_http_exchange *x, int status, const struct wh_http_field *fields,
                           size_t count); /* arguments are checked */
wh_future wh__http_remote_read(wh_http_exchange *x);
const wh_http_exchange *
wh__http_remote_first(const wh_http_exchange *x); /* of its connection, in order; NULL: none */
bool wh__http_remote_is_closed(const wh_http_exchange *x);
bool wh__http_remote_is_half_closed(const wh_http_exchange *x);
const wh_tls *wh__http_remote_tls(const wh_http_exchange *x);
int wh__http_remote_peer(const wh_http_exchange *x, struct sockaddr_storage *ret, socklen_t *ret_len);
void wh__http_remote_mark(wh_http_exchange *x); /* something is to be told of what has happened already */

#endif
