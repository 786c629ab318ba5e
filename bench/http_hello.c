/* bench/http_hello.c -- the least that an HTTP server on libwhilst can do: 100 bytes for every request.
 *
 * usage: http_hello [ENGINE]    prints "PORT n"
 */
#include "peers/echo.h"

#include <string.h>

#include "whilst/http.h"

static char body[100];

static void on_request(wh_http_exchange *x, void *arg)
{
	(void)arg;
	wh_http_respond_own(x, 200, body, sizeof body, NULL, NULL);
}

int main(int argc, char **argv)
{
	struct wh_http_server_options options = {.on_request = on_request};
	wh_http_server *server;
	wh_loop *loop;

	if (argc > 1)
		setenv("WHILST_ENGINE", argv[1], 1);
	memset(body, 'x', sizeof body);
	if (wh_loop_open(&loop, NULL) < 0 || wh_http_server_open(loop, &options, &server) < 0 ||
	    wh_http_server_listen(server, echo_listen(1)) < 0)
		return 1;
	wh_loop_run(loop);
	return 0;
}
