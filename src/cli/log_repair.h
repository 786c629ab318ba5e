/* src/cli/log_repair.h -- `whilst log repair`, for log.c. */
#ifndef CLI_LOG_REPAIR_H
#define CLI_LOG_REPAIR_H

int cli_log_repair(int argc,
                   char **argv); /* argv[1..]: as `whilst log` was given them, "repair" among them */

#endif
