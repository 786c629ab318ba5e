/* src/deliver/adaptive.c -- how many jobs a target is given at once. See adaptive.h. */
#include "deliver/adaptive.h"

#define MS_NS INT64_C(1000000)

enum {
	ONE = 64, /* of limit_64ths */
	BEGIN = 8,
	LATE_TIMES = 3,   /* than usual */
	LATE_MS_MIN = 50, /* more than usual: below, it is noise */
	AVERAGE_OF = 16,
	USUAL_RISES = 512 /* by one part in so many with each answer */
};

uint32_t adaptive_limit(const struct adaptive *adaptive)
{
	return adaptive->limit_64ths / ONE;
}

void adaptive_bound(struct adaptive *adaptive, uint32_t max)
{
	if (adaptive->max == 0)
		adaptive->limit_64ths = BEGIN * ONE;
	adaptive->max = max;
	if (adaptive->limit_64ths > max * ONE)
		adaptive->limit_64ths = max * ONE;
}

static void lower(struct adaptive *adaptive, int64_t begun_at, int64_t now)
{
	if (begun_at < adaptive->lowered_at)
		return;
	adaptive->lowered_at = now;
	adaptive->limit_64ths -= adaptive->limit_64ths / 3;
	if (adaptive->limit_64ths < ONE)
		adaptive->limit_64ths = ONE;
	/* what was measured under the load that there was says nothing of the load to come */
	adaptive->latency_ns = 0;
}

static void raise_by(struct adaptive *adaptive, uint32_t part)
{
	adaptive->limit_64ths += part;
	if (adaptive->limit_64ths > adaptive->max * ONE)
		adaptive->limit_64ths = adaptive->max * ONE;
}

static void measure(struct adaptive *adaptive, int64_t ns)
{
	adaptive->latency_ns = adaptive->latency_ns == 0
	                               ? ns
	                               : adaptive->latency_ns + (ns - adaptive->latency_ns) / AVERAGE_OF;
	if (adaptive->usual_ns == 0 || ns < adaptive->usual_ns)
		adaptive->usual_ns = ns;
	else
		adaptive->usual_ns += adaptive->usual_ns / USUAL_RISES + 1;
}

void adaptive_told(struct adaptive *adaptive, enum adaptive_answer answer, int64_t begun_at, int64_t now)
{
	int64_t ns = now > begun_at ? now - begun_at : 1;

	if (answer == ADAPTIVE_TOO_MUCH) {
		lower(adaptive, begun_at, now);
		return;
	}
	if (answer == ADAPTIVE_NEITHER)
		return;
	measure(adaptive, ns);
	if (adaptive->latency_ns > adaptive->usual_ns * LATE_TIMES &&
	    adaptive->latency_ns > adaptive->usual_ns + LATE_MS_MIN * MS_NS)
		lower(adaptive, begun_at, now);
	else
		raise_by(adaptive, ONE * ONE / adaptive->limit_64ths + 1);
}
