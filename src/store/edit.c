/* src/store/edit.c -- other values for a job that is there already. See store.h, inside.h. */
#include "store/inside.h"

_Static_assert((int)STORE_EDIT_PRIORITY == (int)JOB_EDIT_PRIORITY &&
                       (int)STORE_EDIT_RUN_AT == (int)JOB_EDIT_RUN_AT &&
                       (int)STORE_EDIT_TIME_TO_RUN == (int)JOB_EDIT_TIME_TO_RUN &&
                       (int)STORE_EDIT_RETENTION == (int)JOB_EDIT_RETENTION &&
                       (int)STORE_EDIT_ATTEMPTS == (int)JOB_EDIT_ATTEMPTS &&
                       (int)STORE_EDIT_EXPIRES == (int)JOB_EDIT_EXPIRES,
               "fields go into the record as they are");

enum { FIELDS_ALL = 63 };

/* Is it still what the caller has seen? */
static bool is_seen(struct store *store, uint64_t job, const struct store_edit *edit)
{
	struct job_info info;

	if (!edit->conditional || job_look(store->jobs, job, &info) < 0)
		return true;
	for (unsigned i = 0; i < edit->versions_count; i++)
		if (edit->versions[i] == info.version)
			return true;
	return false;
}

/* The later one of so long from now and an instant; 0: neither. */
static int64_t instant_ms(int64_t now_ns, int64_t from_now_ns, int64_t at)
{
	int64_t ns = from_now_ns > 0 && from_now_ns < INT64_MAX - now_ns ? now_ns + from_now_ns : 0;

	return store_to_ms(at > ns ? at : ns);
}

int store_check_edit(struct store *store, const struct store_action *a, int64_t now_ns, struct job_record *r)
{
	const struct store_edit *edit = &a->edit;

	if ((edit->fields & ~(unsigned)FIELDS_ALL) || edit->delay_ns < 0 || edit->run_at < 0 ||
	    edit->time_to_run_ns < 0 || edit->expires_ns < 0 || edit->expires_at < 0)
		return -JOB_EVALUE;
	if (!is_seen(store, a->job, edit))
		return -JOB_EVERSION;
	*r = (struct job_record){.flags = (uint8_t)edit->fields};
	if (edit->fields & STORE_EDIT_PRIORITY)
		r->priority = edit->priority;
	if (edit->fields & STORE_EDIT_RUN_AT)
		r->when_ms = instant_ms(now_ns, edit->delay_ns, edit->run_at);
	if (r->when_ms <= now_ns / STORE_NS_PER_MS)
		r->when_ms = 0;
	if (edit->fields & STORE_EDIT_TIME_TO_RUN)
		r->time_to_run_ms = store_to_ms(edit->time_to_run_ns);
	if (edit->fields & STORE_EDIT_RETENTION)
		r->retention_ms = edit->retention_ns < 0 ? -1 : store_to_ms(edit->retention_ns);
	if (edit->fields & STORE_EDIT_ATTEMPTS)
		r->attempts_max = edit->attempts_max;
	if (edit->fields & STORE_EDIT_EXPIRES)
		r->expires_ms = instant_ms(now_ns, edit->expires_ns, edit->expires_at);
	return job_check_edit(store->jobs, a->job, r);
}
