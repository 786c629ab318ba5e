/* src/deliver/adaptive.h -- how many jobs a target is given at once: as many as it bears, by what it answers.
 *
 * The limit rises by one for each round in which all went well (as many answers as the limit), and falls by a third when the target says that
 * it is too much (429, 503), gives no answer, or answers much later than it used to; at most once for each round, since the answers of a
 * round tell the same thing many times. That is additive increase, multiplicative decrease, of TCP (RFC 5681). Pure; the owner's thread.
 */
#ifndef WH_DELIVER_ADAPTIVE_H
#define WH_DELIVER_ADAPTIVE_H

#include <stdint.h>

enum adaptive_answer {
	ADAPTIVE_GOOD,
	ADAPTIVE_TOO_MUCH, /* it says so, or says nothing */
	ADAPTIVE_NEITHER,  /* an answer that says nothing of its load */
};

struct adaptive {
	uint32_t max;         /* the limit stays at or below; 0: not begun */
	uint32_t limit_64ths; /* 64 times the limit */
	int64_t latency_ns;   /* of late: moving average; 0: none yet */
	int64_t usual_ns;     /* when it is not loaded: falls at once, rises slowly */
	int64_t lowered_at;   /* what began before tells nothing new */
};

/* adaptive_limit() - how many may be under way. */
uint32_t adaptive_limit(const struct adaptive *adaptive);

/* adaptive_bound() - the limit is at most max from now on; it begins with 8, or max if that is less. */
void adaptive_bound(struct adaptive *adaptive, uint32_t max);

/* adaptive_told() - one that began at begun_at has ended at now, like that. */
void adaptive_told(struct adaptive *adaptive, enum adaptive_answer answer, int64_t begun_at, int64_t now);

#endif
