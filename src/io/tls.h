/* src/io/tls.h -- between the contexts (tls_context.c) and the connections (tls.c) of TLS.
 *
 * Depends on: OpenSSL 3.  A context is used by any thread: what changes in it is under its lock.
 */
#ifndef WH_IO_TLS_H
#define WH_IO_TLS_H

#include <openssl/ssl.h>

#include "whilst/tls.h"

/* wh__tls_new() - what OpenSSL needs for one connection: its own settings, verification of name (NULL: none), a kept session. 0,
 * -EINVAL, -ENOMEM. context has one user more until wh__tls_context_unref(). */
int wh__tls_new(wh_tls_context *context, bool server, const char *name, SSL **ret);
SSL *wh__tls_free(SSL *ssl); /* NULL */
void wh__tls_context_unref(wh_tls_context *context);
struct wh__tls_tickets *wh__tls_context_tickets(wh_tls_context *context);
int64_t wh__tls_handshake_timeout(const wh_tls_context *context);

/* wh__tls_error() - why the last call of OpenSSL's on this thread failed; takes all it has to say. ssl NULL: none. */
int64_t wh__tls_error(const SSL *ssl, struct wh_tls_problem *ret);

#endif
