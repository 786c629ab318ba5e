/* src/cli/serve_sandbox.h -- what `whilst serve` needs of a machine; the rest it gives up. See sandbox.h. */
#ifndef WH_CLI_SERVE_SANDBOX_H
#define WH_CLI_SERVE_SANDBOX_H

#include "cli/sandbox.h"
#include "cli/serve_settings.h"

enum serve_sandbox { SERVE_SANDBOX_AUTO, SERVE_SANDBOX_YES, SERVE_SANDBOX_NO };

enum { SERVE_SANDBOX_TEXT_BYTES = 400 };

struct serve_sandbox_state {
	bool entered; /* files are restricted */
	bool calls_restricted;
	char members[SERVE_SANDBOX_TEXT_BYTES]; /* of the event that tells of it */
};

/* serve_sandbox_look() - could settings be obeyed here? 0; or negative errno, and why not in ret_why. Nothing is changed. */
int serve_sandbox_look(const struct serve_settings *settings, char ret_why[SERVE_SANDBOX_TEXT_BYTES]);

/* serve_sandbox_enter() - the folder of the data is there. 0, and *ret says what holds; negative errno, and why it cannot be done as
 * the settings want it in ret_why. loop: that of the settings, outside callbacks; no other thread exists. */
int serve_sandbox_enter(const struct serve_settings *settings, wh_loop *loop, struct serve_sandbox_state *ret,
                        char ret_why[SERVE_SANDBOX_TEXT_BYTES]);

#endif
