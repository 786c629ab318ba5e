/* src/cli/token.c -- `whilst token NAME SCOPE...`: a new bearer token, and the line of it for the file of --tokens. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "front/token.h"

/* A token of a namespace that may see /metrics is one that the server would not take. */
static const char *wrong_together(int argc, char **argv)
{
	bool prefix = false, metrics = false;

	for (int i = 2; i < argc; i++) {
		prefix = prefix || token_prefix_valid(argv[i]);
		metrics = metrics || strcmp(argv[i], "metrics") == 0 || strncmp(argv[i], "metrics:", 8) == 0;
	}
	return prefix && metrics ? "/metrics tells of everybody: a token with a prefix has no scope metrics"
	                         : NULL;
}

static const char help[] =
	"usage: whilst token NAME SCOPE... [LIMIT...] [prefix=NAMESPACE]\n\n"
	"Makes a bearer token. It is shown once, on standard output; on standard error the line that\n"
	"goes into the file that the server's setting `tokens` names, which holds a digest only:\n\n"
	"  whilst token shop 'submit:mail-*' 'read:mail-*' 2>> tokens > shop.token\n\n"
	"A scope is ACTION, or ACTION:NAME or ACTION:BEGINNING* of queues (call: of services,\n"
	"publish: of topics):\n\n"
	"  submit   hand jobs over, cancel them        read     look at jobs, results, queues\n"
	"  work     reserve, complete, fail, extend    call     call services through /call/\n"
	"  publish  publish events to topics           metrics  /metrics\n"
	"  admin    configure, and all the others\n\n"
	"Limits may follow, each once: rate=N, requests a second; bytes=N[KiB|MiB|GiB], bytes of bodies a\n"
	"second; connections=N, requests under way at once, those that wait and streams among them.\n\n"
	"With prefix=NAMESPACE the token knows nothing but what is in that namespace, and names it\n"
	"without: its mail is NAMESPACE:mail to those that have no prefix, and to nobody elsewhere.\n";

int cli_token(int argc, char **argv)
{
	char text[TOKEN_TEXT_BYTES], digest[TOKEN_DIGEST_TEXT_BYTES];
	unsigned char random[TOKEN_BYTES];
	struct wh_loop_options options = {.engine = WH_SYNC, .name = "token"};
	wh_loop *loop;
	int error;

	if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return CLI_DONE;
	}
	if (argc < 3)
		return cli_error(CLI_USAGE,
		                 "wanted are a name and at least one scope; `whilst token --help`");
	if (!token_name_valid(argv[1]))
		return cli_error(CLI_USAGE, "a name has 1 to 100 of A-Z a-z 0-9 . _ - @, not '%s'", argv[1]);
	for (int i = 2; i < argc; i++)
		if (!token_scope_valid(argv[i]) && !token_limit_valid(argv[i]) &&
		    !token_prefix_valid(argv[i]))
			return cli_error(
				CLI_USAGE,
				"'%s' is no scope, no limit and no prefix; `whilst token --help` lists them",
				argv[i]);
	if (wrong_together(argc, argv))
		return cli_error(CLI_USAGE, "%s", wrong_together(argc, argv));
	error = wh_loop_open(&loop, &options);
	if (error != 0)
		return cli_error(CLI_FAILED, "%s", wh_strerror(error));
	wh_random(loop, random, sizeof(random));
	wh_loop_close(loop);
	error = token_make(random, text, digest);
	if (error != 0)
		return cli_error(CLI_FAILED, "%s",
		                 error == -ENOSYS ? "built without OpenSSL" : wh_strerror(error));
	fprintf(stderr, "%s %s", argv[1], digest);
	for (int i = 2; i < argc; i++)
		fprintf(stderr, " %s", argv[i]);
	fputc('\n', stderr);
	printf("%s\n", text);
	return fflush(stdout) == 0 ? CLI_DONE : cli_error(CLI_FAILED, "standard output: %s", strerror(errno));
}
