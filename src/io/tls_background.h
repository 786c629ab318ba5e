/* src/io/tls_background.h -- a connection over TLS that is kept for later. Apart from tls.h, which needs OpenSSL.
 *
 * Used by: stream.h.  Thread: loop.
 */
#ifndef WH_IO_TLS_BACKGROUND_H
#define WH_IO_TLS_BACKGROUND_H

#include <stdbool.h>

#include "whilst/tls.h"

/* wh__tls_background() - the receive that waits, now or later, and what it receives with do not keep wh_loop_run() running (true), or do
 * again (false). */
void wh__tls_background(wh_tls *tls, bool background);

#endif
