/* bench/measure.h -- what the measuring programs share: clocks, a histogram of latencies, one line of JSON.
 *
 * Thread: one. Memory: static. CPU time is that of the whole process, its threads included, and so that of kernel
 * workers which the kernel charges to it (io_uring's are its threads).
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* 64 linear steps in each power of two: 1.6 % resolution. */
enum { MEASURE_BUCKETS = 64 * 64 };

struct measure {
	int64_t began, until, cpu_began, ended, cpu_ended;
	uint64_t count;
	uint64_t histogram[MEASURE_BUCKETS];
};

static inline int64_t measure_clock(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int64_t measure_now(void)
{
	return measure_clock(CLOCK_MONOTONIC);
}

static inline void measure_begin(struct measure *m, double seconds)
{
	m->began = measure_now();
	m->until = m->began + (int64_t)(seconds * 1e9);
	m->cpu_began = measure_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* One operation that began at started has ended. Returns the instant: false once the time is up. */
static inline int measure_goes_on(struct measure *m, int64_t started, int64_t *ret_now)
{
	int64_t now = measure_now();
	uint64_t v = now > started ? (uint64_t)(now - started) : 1;
	unsigned power = 63 - (unsigned)__builtin_clzll(v);
	unsigned step = power >= 6 ? (unsigned)(v >> (power - 6)) & 63 : (unsigned)(v << (6 - power)) & 63;
	m->histogram[power * 64 + step]++;
	m->count++;
	*ret_now = now;
	return now < m->until;
}

static inline double measure_percentile_us(const struct measure *m, double p)
{
	uint64_t wanted = (uint64_t)((double)m->count * p), seen = 0;
	for (unsigned i = 0; i < MEASURE_BUCKETS; i++) {
		seen += m->histogram[i];
		if (seen > wanted)
			return (double)((UINT64_C(1) << (i / 64)) * (64 + i % 64)) / 64 / 1000;
	}
	return 0;
}

static inline void measure_end(struct measure *m)
{
	m->ended = measure_now();
	m->cpu_ended = measure_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void measure_print(const struct measure *m)
{
	double n = m->count ? (double)m->count : 1;
	printf("{\"cpu_us_per_op\": %.4f, \"ops_per_s\": %.1f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
	       (double)(m->cpu_ended - m->cpu_began) / 1000 / n,
	       (double)m->count * 1e9 / (double)(m->ended - m->began), measure_percentile_us(m, 0.50),
	       measure_percentile_us(m, 0.99));
}

/* splitmix64: the same places in the file for every program. */
static inline uint64_t measure_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#endif
