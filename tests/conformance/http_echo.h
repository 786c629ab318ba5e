/* tests/conformance/http_echo.h -- a handler that sends back what comes, piece by piece, until its end or until anything fails. */
#ifndef WH_TESTS_HTTP_ECHO_H
#define WH_TESTS_HTTP_ECHO_H

#include "whilst/http.h"

static void echo_read(wh_http_exchange *x);

static void echo_written(wh_loop *l, wh_res res, void *arg)
{
	if (res.n < 0)
		wh_http_abort(arg);
	else
		echo_read(arg);
}

static void echo_got(wh_loop *l, wh_res res, void *arg)
{
	if (res.n == 0)
		wh_http_end(arg);
	else if (res.n < 0 || wh_then(wh_http_write_buf(arg, res.ptr), echo_written, arg) != 0)
		wh_http_abort(arg);
}

static void echo_read(wh_http_exchange *x)
{
	if (wh_then(wh_http_read(x), echo_got, x) != 0)
		wh_http_abort(x);
}

#endif
