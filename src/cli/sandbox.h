/* src/cli/sandbox.h -- what this process may never do again: files outside a list (Landlock), calls that no server makes (seccomp).
 *
 * Both are irrevocable and hold for every thread that begins afterwards, and for the kernel's workers of io_uring, which act
 * with the credentials of their process. docs/design/sandbox.md says what is refused, and why.
 *
 * Thread: main, before any other exists: Landlock holds for the thread that asks, and for those that it begins.
 */
#ifndef WH_CLI_SANDBOX_H
#define WH_CLI_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

enum sandbox_access {
	SANDBOX_READ,   /* files and lists of names, there and below */
	SANDBOX_LIST,   /* lists of names */
	SANDBOX_SOCKET, /* make and remove UNIX sockets */
	SANDBOX_KEEP,   /* read, write, make, rename and remove files and folders */
};

struct sandbox_rule {
	const char *
		path; /* borrowed; a link is followed. What is not there, or may not be looked up, is left out */
	enum sandbox_access access;
};

struct sandbox_options {
	const struct sandbox_rule *rules; /* borrowed until the call returns */
	size_t rules_count;
	bool rings;          /* io_uring may be used */
	bool modes;          /* those of open files may be set: UNIX sockets are listened on */
	bool abstract_names; /* UNIX sockets with abstract names, of other processes, may be spoken to */
};

struct sandbox_state {
	int files; /* the version of Landlock's interface that holds; negative errno: files are as before */
	int calls; /* 1: the filter holds; negative errno: it does not */
};

/* sandbox_unfit() - NULL, or why a program that was built like this one cannot work in it. */
const char *sandbox_unfit(void);

/* sandbox_look() - what this machine has of it; nothing is changed. .files: -ENOSYS, not in this kernel, or too old; -EOPNOTSUPP,
 * switched off at boot; -EPERM, kept from us by another sandbox. .calls: -ENOSYS. */
struct sandbox_state sandbox_look(void);

/* sandbox_enter() - each of both that the machine has; *ret says what holds. In addition: -ENOMEM, and what the kernel answers. */
void sandbox_enter(const struct sandbox_options *options, struct sandbox_state *ret);

#endif
