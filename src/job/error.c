/* src/job/error.c -- what refusals are called. See types.h. */
#include "job/types.h"

#include <string.h>

static const char *const own[] = {
	[0 /* JOB_EUNKNOWN_JOB */] = "there is no such job",
	[JOB_EEXPIRED - JOB_EUNKNOWN_JOB] =
		"the job was here, but its retention has passed or it was deleted",
	[JOB_EUNKNOWN_QUEUE - JOB_EUNKNOWN_JOB] = "there is no such queue",
	[JOB_EUNKNOWN_SETTING - JOB_EUNKNOWN_JOB] = "there is no such setting",
	[JOB_ELEASE_LOST - JOB_EUNKNOWN_JOB] =
		"the lease is unknown, superseded by a later one, or has passed",
	[JOB_ECANCELLED - JOB_EUNKNOWN_JOB] = "the job's cancellation was asked for; it is cancelled now",
	[JOB_EFINISHED - JOB_EUNKNOWN_JOB] = "the job is finished already",
	[JOB_ESTATE - JOB_EUNKNOWN_JOB] = "not possible in the state that the job is in",
	[JOB_ENOT_READY - JOB_EUNKNOWN_JOB] = "the job is not finished yet",
	[JOB_ENO_RESULT - JOB_EUNKNOWN_JOB] = "the job finished without a result",
	[JOB_EQUEUE_FULL - JOB_EUNKNOWN_JOB] = "the queue is full",
	[JOB_ENOT_EMPTY - JOB_EUNKNOWN_JOB] = "the queue holds unfinished jobs",
	[JOB_ETOO_LARGE - JOB_EUNKNOWN_JOB] = "larger than its limit",
	[JOB_EVALUE - JOB_EUNKNOWN_JOB] = "a value is outside its range",
	[JOB_ETWICE - JOB_EUNKNOWN_JOB] =
		"a job may be named once in a transaction, a queue's settings only alone",
	[JOB_EMEMORY_FULL - JOB_EUNKNOWN_JOB] = "the store holds as many jobs or queues as it may",
	[JOB_ELEVEL - JOB_EUNKNOWN_JOB] = "this configuration cannot give that commit level",
	[JOB_ELOST - JOB_EUNKNOWN_JOB] = "the position was beyond the end of its epoch: it did not survive",
	[JOB_EBUSY - JOB_EUNKNOWN_JOB] = "too much is under way",
	[JOB_EIN_GROUP - JOB_EUNKNOWN_JOB] = "another action of the transaction was refused",
	[JOB_EIN_USE - JOB_EUNKNOWN_JOB] = "the queue is the dead-letter queue of another one",
	[JOB_EDEAD_LOOP - JOB_EUNKNOWN_JOB] = "its dead jobs would come back to the queue itself",
	[JOB_EKEY - JOB_EUNKNOWN_JOB] = "the idempotency key was used for another request",
	[JOB_EKEYS_FULL - JOB_EUNKNOWN_JOB] = "as many idempotency keys are kept as may be",
	[JOB_EVERSION - JOB_EUNKNOWN_JOB] = "the job has changed since it was looked at",
	[JOB_EAWAITED - JOB_EUNKNOWN_JOB] = "a job that it is to run after is unknown, or forgotten",
	[JOB_EAWAITED_FULL - JOB_EUNKNOWN_JOB] =
		"as many jobs as may be wait for one that it is to run after",
	[JOB_ENAMESPACE_FULL - JOB_EUNKNOWN_JOB] =
		"the namespace has as many unfinished jobs, or queues, as it may",
};

const char *job_strerror(int64_t error)
{
	int64_t code = error < 0 ? -error : error;

	if (code >= JOB_EUNKNOWN_JOB && code <= JOB_ENAMESPACE_FULL)
		return own[code - JOB_EUNKNOWN_JOB];
	if (code > 0 && code < 4096) {
		const char *text = strerrordesc_np((int)code);
		return text ? text : "unknown error";
	}
	return code == 0 ? "no error" : "unknown error";
}
