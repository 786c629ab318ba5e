/* src/cli/log_export_state.h -- `whilst log export`: what a data folder holds besides jobs. */
#ifndef CLI_LOG_EXPORT_STATE_H
#define CLI_LOG_EXPORT_STATE_H

#include "base/text.h"
#include "store/store.h"

/* log_export_state() - queues, settings and keys, a line of JSON each, to standard output; line is room for one. 0 or an exit status, said. */
int log_export_state(struct store *store, struct wh__text *line);

/* log_export_write() - what is in line, and a newline. 0 or an exit status, said. */
int log_export_write(struct wh__text *line);

#endif
