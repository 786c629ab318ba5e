/* src/cli/serve.h -- `whilst serve`, for the table of sub-commands. Thread: main. */
#ifndef WH_CLI_SERVE_H
#define WH_CLI_SERVE_H

/* cli_serve() - argv[0] is "serve". Returns the exit status. */
int cli_serve(int argc, char **argv);

/* serve_check() - judge the same arguments, print what is in force, start nothing. 0 or 2. */
int serve_check(int argc, char **argv);

#endif
