/* src/cli/main.c -- `whilst COMMAND ...`: the table of sub-commands. */
#include "cli/cli.h"
#include "cli/serve.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{"serve", cli_serve, "run the server"},
	{"submit", cli_submit, "hand over jobs; wait for their results or do not"},
	{"publish", cli_publish, "publish an event to a topic"},
	{"subscribe", cli_subscribe, "run a command for each event of a topic"},
	{"wait", cli_wait, "wait for jobs and fetch their results"},
	{"status", cli_status, "show how jobs stand"},
	{"cancel", cli_cancel, "cancel jobs"},
	{"call", cli_call, "call a service through the gateway, waiting or not"},
	{"work", cli_work, "run a command for each job of a queue"},
	{"queue", cli_queue, "configure and pause a queue; purge, kick, replay and move its jobs"},
	{"queues", cli_queues, "list queues and their counters"},
	{"schedule", cli_schedule, "list, make and remove schedules: jobs at given times"},
	{"tail", cli_tail, "show what happens to the jobs of a queue, as it happens"},
	{"top", cli_top, "show queues, rates and the log, anew every second"},
	{"config", cli_config, "judge the settings of a server, and show them"},
	{"token", cli_token, "make a bearer token for the HTTP interface"},
	{"log", cli_log, "check the log of a data folder, and look into it"},
	{"backup", cli_backup, "copy the data of a running server"},
	{"import", cli_import, "take the jobs of a beanstalkd binlog over"},
	{"fsync-test", cli_fsync_test, "measure what a durable commit costs on a disk"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

const char *cli_command = "";

static void help(FILE *out)
{
	fprintf(out, "usage: whilst COMMAND [OPTION...]\n\n"
	             "A durable call server: hand over work, carry on, and wait, poll or be called back for "
	             "the outcome.\n\n"
	             "commands:\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(out,
	        "\n`whilst COMMAND --help` tells more; `whilst --version` tells the version.\n"
	        "The server's address is --server URL, else $WHILST_SERVER, else http://127.0.0.1:4480.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return CLI_DONE;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("whilst %s\n", wh_version());
		return CLI_DONE;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(argv[1], commands[i].name)) {
			cli_command = commands[i].name;
			return commands[i].run(argc - 1, argv + 1);
		}
	fprintf(stderr, "whilst: there is no command '%s'; `whilst --help` lists them\n", argv[1]);
	return CLI_USAGE;
}
