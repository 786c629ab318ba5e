/* src/engine/sim_random.h -- the one source of chance of a simulated machine: a sequence that its seed decides.
 *
 * SplitMix64: tiny, and any seed will do. Not for secrets.
 */
#ifndef WH_ENGINE_SIM_RANDOM_H
#define WH_ENGINE_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct wh__sim_random {
	uint64_t state;
};

static inline uint64_t wh__sim_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t wh__sim_next(struct wh__sim_random *random)
{
	random->state += UINT64_C(0x9e3779b97f4a7c15);
	return wh__sim_mix(random->state);
}

/* 0 .. n - 1; n > 0. */
static inline uint64_t wh__sim_below(struct wh__sim_random *random, uint64_t n)
{
	return wh__sim_next(random) % n;
}

static inline bool wh__sim_chance(struct wh__sim_random *random, unsigned percent)
{
	return wh__sim_below(random, 100) < percent;
}

#endif
