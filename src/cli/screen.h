/* src/cli/screen.h -- a terminal that a command draws on: other screen, no cursor, keys one by one; put back whatever happens.
 * Thread: that of the command. */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include "cli/cli.h"

/* screen_begin() - standard input and output must be a terminal: false, nothing done. What it was is put back by screen_end(), also when
 * the program exits in between. */
bool screen_begin(void);
void screen_end(void);
/* screen_size() - as it is now; 80 x 24 where the terminal does not say. */
void screen_size(int *ret_columns, int *ret_rows);
/* screen_draw() - lines of a frame, each ended by a newline, of which as much is shown as there is room. */
int screen_draw(struct cli_session *session, const char *frame);

#endif
