/* src/front/beanstalk_parse.h -- one line of the beanstalkd protocol to a command: docs/reference/beanstalk.md in C.
 *
 * Pure functions: no state, no allocation, nothing is read beyond len. What a tube or a body points to is in the bytes given.
 */
#ifndef WH_FRONT_BEANSTALK_PARSE_H
#define WH_FRONT_BEANSTALK_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BEANSTALK_LINE_MAX = 224 }; /* with CR LF */

enum beanstalk_kind {
	BEANSTALK_PUT,
	BEANSTALK_PEEK,
	BEANSTALK_PEEK_READY,
	BEANSTALK_PEEK_DELAYED,
	BEANSTALK_PEEK_BURIED,
	BEANSTALK_RESERVE,
	BEANSTALK_RESERVE_TIMEOUT,
	BEANSTALK_RESERVE_JOB,
	BEANSTALK_DELETE,
	BEANSTALK_RELEASE,
	BEANSTALK_BURY,
	BEANSTALK_KICK,
	BEANSTALK_KICK_JOB,
	BEANSTALK_TOUCH,
	BEANSTALK_STATS,
	BEANSTALK_STATS_JOB,
	BEANSTALK_STATS_TUBE,
	BEANSTALK_USE,
	BEANSTALK_WATCH,
	BEANSTALK_IGNORE,
	BEANSTALK_LIST_TUBES,
	BEANSTALK_LIST_TUBE_USED,
	BEANSTALK_LIST_TUBES_WATCHED,
	BEANSTALK_PAUSE_TUBE,
	BEANSTALK_QUIT,
	BEANSTALK_BAD_FORMAT, /* the two ways not to be a command */
	BEANSTALK_UNKNOWN,
	BEANSTALK_KINDS
};

struct beanstalk_command {
	int kind;     /* enum beanstalk_kind */
	bool garbage; /* PUT: something follows the number of bytes; matters unless the body is too large */
	uint32_t priority, delay_s, ttr_s; /* seconds of RESERVE_TIMEOUT and PAUSE_TUBE: delay_s */
	uint32_t bytes;                    /* PUT: of the body */
	uint64_t id, count;                /* count: KICK */
	const char *tube;
	size_t tube_len;
};

/* beanstalk_line() - bytes up to and with the first CR LF of what begins at bytes; 0: not there yet; more than
 * BEANSTALK_LINE_MAX: the line is too long (whether its end is there or not). */
size_t beanstalk_line(const char *bytes, size_t len);

/* beanstalk_parse() - the command that a line says; len without CR LF. */
void beanstalk_parse(const char *line, size_t len, struct beanstalk_command *ret);

/* beanstalk_tube_valid() - 1 to 200 bytes of A-Za-z0-9-+/;.$_() that do not begin with '-'. */
bool beanstalk_tube_valid(const char *name, size_t len);

/* beanstalk_name() - the words of a command, as in "peek-ready"; for messages and figures. */
const char *beanstalk_name(int kind);

#endif
