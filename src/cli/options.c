/* src/cli/options.c -- the options that every command has which asks a server, beside its own: --server, --json, --help. See cli.h. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { SERVER = 0x1000, JSON, HELP, ALL_MAX = 40 };

static const struct option ours[] = {{"server", required_argument, NULL, SERVER},
                                     {"json", no_argument, NULL, JSON},
                                     {"help", no_argument, NULL, HELP}};
enum { OURS = sizeof ours / sizeof *ours };

int cli_usage(const char *usage)
{
	fputs(usage, stderr);
	return CLI_USAGE;
}

static int end(struct cli_options *options, int status)
{
	options->ended = true;
	options->status = status;
	return -1;
}

int cli_option(struct cli_options *options, int argc, char **argv, const struct option *own)
{
	struct option all[ALL_MAX] = {0};
	size_t count = 0;
	int option;

	for (; own && own[count].name; count++) {
		assert(count + OURS + 1 < ALL_MAX);
		all[count] = own[count];
	}
	memcpy(all + count, ours, sizeof ours);
	while ((option = getopt_long(argc, argv, "h", all, NULL)) != -1) {
		switch (option) {
		case SERVER:
			options->server = optarg;
			break;
		case JSON:
			options->json = true;
			break;
		case HELP:
		case 'h':
			fputs(options->usage, stdout);
			return end(options, CLI_DONE);
		case '?':
			return end(options, cli_usage(options->usage));
		default:
			return option;
		}
	}
	return -1;
}
