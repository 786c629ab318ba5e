/* src/cli/screen.c -- a terminal that a command draws on. See screen.h.
 *
 * Plain escape sequences of ECMA-48 and the alternate screen of xterm, which every terminal of today knows.
 */
#include "cli/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static bool begun;

bool screen_begin(void)
{
	static bool registered;
	struct termios now;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0)
		return false;
	if (!registered)
		atexit(screen_end);
	registered = true;
	now = before;
	now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	now.c_cc[VMIN] = 1;
	now.c_cc[VTIME] = 0;
	now.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped program would leave the screen as it is */
	if (tcsetattr(STDIN_FILENO, TCSANOW, &now) != 0)
		return false;
	begun = true;
	fputs("\033[?1049h\033[?25l", stdout);
	fflush(stdout);
	return true;
}

void screen_end(void)
{
	if (!begun)
		return;
	begun = false;
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

void screen_size(int *ret_columns, int *ret_rows)
{
	struct winsize size = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
		size.ws_col = 80;
		size.ws_row = 24;
	}
	*ret_columns = size.ws_col;
	*ret_rows = size.ws_row;
}

/* Bytes of a line that fill so many columns: names are ASCII, so each is one. */
static size_t shown(const char *line, size_t len, int columns)
{
	return len < (size_t)columns ? len : (size_t)columns;
}

int screen_draw(struct cli_session *session, const char *frame)
{
	struct cli_text out = {0};
	int columns, rows, status;

	screen_size(&columns, &rows);
	cli_text_format(&out, "\033[H");
	for (int row = 0; row < rows && *frame; row++) {
		size_t len = strcspn(frame, "\n");

		if (row > 0)
			cli_text_format(&out, "\n");
		cli_text_add(&out, frame, shown(frame, len, columns));
		cli_text_format(&out, "\033[K");
		frame += len + (frame[len] == '\n');
	}
	cli_text_format(&out, "\033[J");
	status = cli_write_out(session, out.bytes, out.len);
	cli_text_free(&out);
	return status;
}
