/* src/cli/log_export.h -- `whilst log export`, for log.c. */
#ifndef CLI_LOG_EXPORT_H
#define CLI_LOG_EXPORT_H

int cli_log_export(int argc,
                   char **argv); /* argv[1..]: as `whilst log` was given them, "export" among them */

#endif
