/* src/base/histogram.h -- how often values of which size came: buckets by powers of two, for figures that are always counted.
 *
 * Adding one is a count of leading zeros and two additions: no division, no memory. Thread: whoever owns it.
 */
#ifndef WH_BASE_HISTOGRAM_H
#define WH_BASE_HISTOGRAM_H

#include <stdint.h>

enum { WH__HISTOGRAM_BUCKETS = 28 };

struct wh__histogram {
	uint64_t counts
		[WH__HISTOGRAM_BUCKETS]; /* [i]: values below 2^(shift + i) that do not fit into [i - 1]; the last: all that
						   are larger */
	uint64_t sum;
};

/* shift: the first bucket is for values below 2^shift; negative values count as 0. */
static inline void wh__histogram_add(struct wh__histogram *h, int64_t value, unsigned shift)
{
	uint64_t v = value > 0 ? (uint64_t)value : 0, scaled = v >> shift;
	unsigned bucket = scaled == 0 ? 0 : 64 - (unsigned)__builtin_clzll(scaled);

	h->counts[bucket < WH__HISTOGRAM_BUCKETS ? bucket : WH__HISTOGRAM_BUCKETS - 1]++;
	h->sum += v;
}

#endif
