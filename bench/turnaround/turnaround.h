/* bench/turnaround/turnaround.h -- what the loop of turnaround.c and its protocols know of each other.
 *
 * A caller hands over a job and learns of its outcome; a worker takes a job, and reports that it is done. Both are connections
 * of one thread. A protocol says what either sends and how an answer is read; it never blocks but in open().
 */
#ifndef BENCH_TURNAROUND_H
#define BENCH_TURNAROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IN_BYTES = 64 * 1024, OUT_BYTES = 16 * 1024, PAYLOAD_BYTES = 128 };

struct peer {
	int fd;
	bool worker;
	uint32_t number; /* among its kind */
	int step;        /* the protocol's: which answer comes next */
	int64_t began;   /* of a caller's job */
	size_t in_len, out_len;
	uint8_t in[IN_BYTES], out[OUT_BYTES];
};

struct protocol {
	const char *name;
	/* Once for each connection, with blocking reads and writes: greetings, names, subscriptions. May be NULL. */
	void (*open)(struct peer *p);
	/* Writes what a caller's next job takes, or a worker's first request. */
	void (*begin)(struct peer *p);
	/* Looks at the in_len bytes of in: returns how many one whole answer takes, 0: not here yet. Sets *ret_done when
	 * a caller has its outcome; a worker writes what comes next. */
	size_t (*take)(struct peer *p, bool *ret_done);
};

extern const struct protocol protocol_whilst, protocol_redis, protocol_beanstalk, protocol_nats;
extern const char payload[PAYLOAD_BYTES + 1];

/* Adds to what is sent at the end of the turn. */
void say(struct peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* open() only: sends what was said, and reads until the answers hold `end`; they are forgotten. */
void settle(struct peer *p, const char *end);
/* Length of the line at the start of [at, at + len), its CRLF included, 0: not whole. */
size_t line_length(const uint8_t *at, size_t len);
/* An answer that nobody expected ends the program. */
void unexpected(const struct peer *p, const char *what);

#endif
