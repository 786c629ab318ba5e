/* src/io/tls_tickets.h -- see tls_tickets.c.
 *
 * Used by: tls_context.c.  Thread: any.
 */
#ifndef WH_IO_TLS_TICKETS_H
#define WH_IO_TLS_TICKETS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "whilst/whilst.h"

/* How long a key seals; it opens for twice as long. A ticket lives that long, too: SSL_CTX_get_timeout(3). */
#define WH__TLS_TICKET_KEY_NS (7200 * WH_NS_PER_S)

struct wh__tls_ticket_key {
	uint8_t name[16], cipher[32], mac[32];
	int64_t made_at;
	bool is_set;
};

/* All-zero, then wh__tls_tickets_init(). */
struct wh__tls_tickets {
	pthread_mutex_t lock;
	struct wh__tls_ticket_key keys[2]; /* the one that seals; the one before */
	int64_t aged_ns;                   /* of tests */
};

void wh__tls_tickets_init(struct wh__tls_tickets *tickets);
void wh__tls_tickets_fini(struct wh__tls_tickets *tickets);

/* wh__tls_tickets_serve() - connections that begin with ctx seal and open tickets by what wh__tls_tickets_use() says of each.
 * false: no memory. */
bool wh__tls_tickets_serve(SSL_CTX *ctx);
bool wh__tls_tickets_use(struct wh__tls_tickets *tickets, SSL *ssl);

/* wh__tls_tickets_age() - as if ns had passed: for tests. */
void wh__tls_tickets_age(struct wh__tls_tickets *tickets, int64_t ns);

#endif
