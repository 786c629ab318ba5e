/* src/job/limit.c -- how many jobs of a queue run at once, and how many are begun in which time. See machine.h.
 *
 * The bucket of a rate is one instant: that at which it would be full again if nothing more were taken. A job takes as much
 * time from it as one job has at this rate. It is a record of its own after each claim, so that a restart gives no
 * second burst.
 */
#include <errno.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)
#define DAY_MS    INT64_C(86400000)

int64_t job_rate_one(const struct job_rate *rate)
{
	return rate->period_ms * NS_PER_MS / rate->count;
}

int64_t job_rate_burst(const struct job_rate *rate)
{
	return (rate->burst > 0 ? rate->burst : rate->count) * job_rate_one(rate);
}

bool job_rate_valid(const struct job_rate *rate)
{
	if (rate->count == 0)
		return rate->period_ms == 0 && rate->burst == 0;
	return rate->count <= JOB_RATE_MAX && rate->burst <= JOB_RATE_MAX && rate->period_ms > 0 &&
	       rate->period_ms <= DAY_MS && job_rate_one(rate) > 0 &&
	       job_rate_one(rate) <= 366 * DAY_MS * NS_PER_MS / (rate->burst > 0 ? rate->burst : 1);
}

static int64_t full_at(const struct job_queue *q, int64_t now_ns)
{
	return q->rate_full_ns < now_ns ? now_ns : q->rate_full_ns;
}

/* No emptier than empty, when the rate was another one or the clock a later one before. It fills up from now on. */
static void empty(struct job_machine *m, struct job_queue *q, int64_t now_ns)
{
	if (q->rate_full_ns <= now_ns + job_rate_burst(&q->config.rate))
		return;
	if (m->snapshot)
		job_snapshot_keep_queue(m, q);
	q->rate_full_ns = now_ns + job_rate_burst(&q->config.rate);
}

void job_limit_configure(struct job_machine *m, struct job_queue *q)
{
	(void)m;
	q->limited = q->config.concurrency > 0 || q->config.rate.count > 0;
}

bool job_limit_allows(struct job_machine *m, struct job_queue *q, int64_t now_ns)
{
	int64_t wait_ns, at_ms;

	if (q->config.concurrency > 0 && q->jobs[JOB_RUNNING] >= q->config.concurrency)
		return false; /* the end of a lease wakes it */
	if (q->config.rate.count == 0)
		return true;
	empty(m, q, now_ns);
	wait_ns =
		full_at(q, now_ns) + job_rate_one(&q->config.rate) - now_ns - job_rate_burst(&q->config.rate);
	if (wait_ns <= 0)
		return true;
	at_ms = (now_ns + wait_ns + NS_PER_MS - 1) / NS_PER_MS;
	q->rate_waits = true;
	if (at_ms < m->rates_end_ms)
		m->rates_end_ms = at_ms;
	return false;
}

int job_check_rate(const struct job_machine *m, uint32_t queue, int64_t now_ns, struct job_record *r)
{
	const struct job_queue *q = m->queues[queue];

	*r = (struct job_record){0};
	if (q->config.rate.count > 0)
		*r = (struct job_record){.type = JOB_RATE,
		                         .queue = queue,
		                         .at_ns = full_at(q, now_ns) + job_rate_one(&q->config.rate)};
	return 0;
}

void job_limit_give_back(struct job_queue *q)
{
	if (q->config.rate.count > 0)
		q->rate_full_ns -= job_rate_one(&q->config.rate);
}

void job_limit_apply(struct job_machine *m, const struct job_record *r)
{
	struct job_queue *q = m->queues[r->queue];

	if (m->snapshot)
		job_snapshot_keep_queue(m, q);
	q->rate_full_ns = r->at_ns;
}

void job_limits_end(struct job_machine *m, int64_t now_ms)
{
	m->rates_end_ms = INT64_MAX;
	for (uint32_t i = 1; i < m->queues_end; i++) {
		struct job_queue *q = m->queues[i];

		if (!q || !q->rate_waits)
			continue;
		q->rate_waits = false;
		if (job_limit_allows(m, q, now_ms * NS_PER_MS))
			job_queue_wake(m, q);
	}
}
