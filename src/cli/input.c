/* src/cli/input.c -- whole files and standard streams, through the loop. */
#include "cli/cli.h"

#include <fcntl.h>
#include <string.h>

int cli_read_all(struct cli_session *session, const char *path, struct cli_text *ret)
{
	enum { PIECE_BYTES = 64 * 1024 };
	bool standard = !strcmp(path, "-");
	int fd = 0;
	if (!standard) {
		wh_res opened = wh_await(wh_open(session->loop, path, O_RDONLY, 0));
		if (opened.n < 0)
			return cli_error(CLI_FAILED, "%s: %s", path, wh_strerror(opened.n));
		fd = (int)opened.n;
	}
	static char piece[PIECE_BYTES];
	wh_res got;
	do {
		got = wh_await(wh_read(session->loop, fd, piece, sizeof piece));
		if (got.n > 0)
			cli_text_add(ret, piece, (size_t)got.n);
	} while (got.n > 0);
	if (!standard)
		(void)wh_await(wh_close(session->loop, fd)); /* it was only read */
	if (got.n < 0)
		return cli_error(CLI_FAILED, "%s: %s", standard ? "standard input" : path,
		                 wh_strerror(got.n));
	if (!ret->bytes)
		cli_text_add(ret, "", 0);
	return 0;
}

int cli_write_out(struct cli_session *session, const void *bytes, size_t len)
{
	wh_res res = wh_await(wh_write_all(session->loop, 1, bytes, len));
	if (res.n < 0)
		return cli_error(CLI_FAILED, "standard output: %s", wh_strerror(res.n));
	return 0;
}
