/* src/cli/config.c -- `whilst config check`: what a server would be told, and whether it could be begun like that.
 *
 * Reads flags, environment and file as `whilst serve` does, judges them, and prints the result in the form of a
 * configuration file. Nothing is opened but files to read.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/serve.h"

int cli_config(int argc, char **argv)
{
	if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("usage: whilst config check [OPTION...]\n\n"
		       "Takes the options of `whilst serve`, reads $WHILST_* and the configuration file,\n"
		       "and judges them as it would. Prints what is in force as a configuration file,\n"
		       "with where each setting comes from; starts nothing.\n\n"
		       "Exit statuses: 0 a server could be started with them; 2 something is wrong, and\n"
		       "said on standard error.\n");
		return CLI_DONE;
	}
	if (argc < 2 || strcmp(argv[1], "check") != 0)
		return cli_error(CLI_USAGE, "wanted is `whilst config check [OPTION...]`");
	return serve_check(argc - 1, argv + 1);
}
