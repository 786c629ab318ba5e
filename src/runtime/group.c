/* src/runtime/group.c -- task groups: what was started together ends together.
 *
 * A group's members are futures that it has consumed (WH__CONSUMER_GROUP), tasks as a rule. Whoever waits for a group
 * is told when no member is left, so nothing that a group started outlives it. The record of a member is used again
 * by the next, and so a group that serves connections for years allocates no more than its busiest moment needed.
 *
 * Thread: loop. Memory: one allocation for a group, one for each member at once.
 */
#include <stddef.h>
#include <stdlib.h>

#include "runtime/object.h"
#include "runtime/task.h"

struct member {
	struct group *group;
	struct member *next, *prev;
	wh_future f;
	struct wh_group_result result;
	wh_disposer *dispose; /* of a result that is kept and never taken */
	void *dispose_arg;
};

struct group {
	struct wh__object object;
	struct wh__walk walk;               /* over the members, to cancel them */
	struct member *live, *cursor;       /* not ended; the next to be cancelled */
	struct member *ended, **ended_last; /* with a result to be taken, in the order of ending */
	struct member *unused;
	struct wh__waits waits, closes, nexts;
	uint64_t live_count, next_index;
	int64_t error; /* the first */
	bool cancelled, keeps_results, keeps_going;
	struct wh__task *owner; /* NULL: nobody's */
	struct group *owner_next, *owner_prev;
};

static void dispose(const struct member *member)
{
	const struct wh_group_result *result = &member->result;
	if (result->n >= 0 && member->dispose)
		member->dispose((wh_res){result->n, result->ptr}, member->dispose_arg);
}

static void free_list(struct member *member)
{
	for (struct member *next; member; member = next) {
		next = member->next;
		free(member);
	}
}

static void fini(struct wh__object *object)
{
	struct group *group = (struct group *)object;
	for (struct member *member = group->ended; member; member = member->next)
		dispose(member);
	free_list(group->live);
	free_list(group->ended);
	free_list(group->unused);
	if (group->owner) {
		*(group->owner_prev ? &group->owner_prev->owner_next : wh__task_groups(group->owner)) =
			group->owner_next;
		if (group->owner_next)
			group->owner_next->owner_prev = group->owner_prev;
	}
}

int wh_group_open(wh_loop *loop, wh_group *ret, const struct wh_group_options *options)
{
	struct group *group;
	int error = wh__object_new(loop, WH__GROUP, sizeof *group, fini, &group);
	if (error != 0)
		return error;
	group->ended_last = &group->ended;
	if (options) {
		group->keeps_results = options->keep_results;
		group->keeps_going = options->keep_going;
	}
	struct wh__task *owner = options && options->shared ? NULL : wh__thread.task;
	if (owner && wh__task_loop(owner) == loop) {
		struct group **first = wh__task_groups(owner);
		group->owner = owner;
		group->owner_next = *first;
		if (*first)
			(*first)->owner_prev = group;
		*first = group;
	}
	ret->id = wh__object_id(&group->object);
	return 0;
}

static struct group *find(wh_group handle, int *ret_error)
{
	return wh__object_find(handle.id, WH__GROUP, ret_error);
}

/* ---- members ------------------------------------------------------------------------------ */

static struct member *new_member(struct group *group)
{
	struct member *member = group->unused;
	if (member)
		group->unused = member->next;
	else if (!(member = malloc(sizeof *member)))
		return NULL;
	*member = (struct member){.group = group};
	return member;
}

static void recycle(struct group *group, struct member *member)
{
	member->next = group->unused;
	group->unused = member;
}

/* From here on op tells the group of its end. */
static void join(struct group *group, struct member *member, struct wh__op *op, void *arg)
{
	member->f = wh__op_future(op);
	member->result = (struct wh_group_result){.index = group->next_index++, .arg = arg};
	member->next = group->live;
	if (member->next)
		member->next->prev = member;
	group->live = member;
	group->live_count++;
	op->consumer = WH__CONSUMER_GROUP;
	op->arg = member;
}

static void leave(struct group *group, struct member *member)
{
	if (group->cursor == member)
		group->cursor = member->next;
	*(member->prev ? &member->prev->next : &group->live) = member->next;
	if (member->next)
		member->next->prev = member->prev;
	member->next = member->prev = NULL;
}

static struct group *group_of(struct wh__walk *walk)
{
	return (struct group *)((char *)walk - offsetof(struct group, walk));
}

/* One that is cancelled may end at once, and end others: each that leaves moves the cursor on. */
static bool next_member(struct wh__walk *walk, wh_future *ret)
{
	struct group *group = group_of(walk);
	if (!group->cursor)
		return false;
	*ret = group->cursor->f;
	group->cursor = group->cursor->next;
	return true;
}

static void walk_ended(struct wh__walk *walk)
{
	wh__object_release(&group_of(walk)->object);
}

static void cancel_all(struct group *group)
{
	if (group->cancelled)
		return;
	group->cancelled = true;
	group->cursor = group->live;
	group->walk.next = next_member;
	group->walk.end = walk_ended;
	wh__object_hold(&group->object);
	wh__walk(group->object.op->loop, &group->walk);
}

/* Results to those who wait for one, and the end to all when there is none to come. */
static void tell_nexts(struct group *group)
{
	while (group->nexts.first && group->ended) {
		struct wh__op *op = group->nexts.first;
		struct member *member = group->ended;
		wh__waits_remove(&group->nexts, op);
		group->ended = member->next;
		if (!group->ended)
			group->ended_last = &group->ended;
		*(struct wh_group_result *)op->buf = member->result;
		recycle(group, member);
		wh__op_complete(op, 1, NULL);
	}
	if (group->live_count == 0)
		wh__waits_end(&group->nexts, 0);
}

static void tell(struct group *group)
{
	wh__object_hold(&group->object);
	tell_nexts(group);
	if (group->live_count == 0)
		wh__waits_end(&group->waits, group->error);
	if (group->live_count == 0 && group->object.closing) {
		wh__waits_end(&group->closes, group->error);
		wh__object_free(&group->object);
	}
	wh__object_release(&group->object);
}

/* member has left the list and is still counted: until all that its end brings about is done, so that the group stays. */
static void member_ended(struct group *group, struct member *member, wh_res res)
{
	member->result.n = res.n;
	member->result.ptr = res.ptr;
	if (group->keeps_results && !group->object.closing) {
		*group->ended_last = member;
		group->ended_last = &member->next;
	} else {
		dispose(member);
		recycle(group, member);
	}
	if (res.n < 0 && group->error == 0) {
		group->error = res.n;
		if (!group->keeps_going)
			cancel_all(group);
	}
	group->live_count--;
	tell(group);
}

void wh__group_ended(void *of, wh_res res, wh_disposer *disposer, void *dispose_arg)
{
	struct member *member = of;
	leave(member->group, member);
	member->dispose = disposer;
	member->dispose_arg = dispose_arg;
	member_ended(member->group, member, res);
}

int wh_group_go(wh_group handle, wh_work_function *fn, void *arg, const struct wh_task_options *options)
{
	int error;
	struct wh__op *op;
	struct group *group = find(handle, &error);
	if (!group)
		return error;
	if (group->cancelled)
		return -ECANCELED;
	struct member *member = new_member(group);
	if (!member)
		return -ENOMEM;
	error = wh__task_start(group->object.op->loop, fn, arg, options, &op);
	if (error != 0)
		recycle(group, member);
	else
		join(group, member, op, arg);
	return error;
}

int wh_group_add(wh_group handle, wh_future f, void *arg)
{
	int error;
	struct group *group = find(handle, &error);
	if (!group)
		return error;
	struct wh__op *op = wh__op_find(group->object.op->loop, f);
	if (f.id >> 54 != 0 && (!op || op->consumer != WH__CONSUMER_NONE))
		return -ESTALE;
	if (op && wh__thread.task && op == wh__task_op(wh__thread.task))
		return -EDEADLK;
	if (op && op->opcode == WH__OP_WAIT && op->state == WH__PENDING && op->second == group)
		return -EDEADLK;
	struct member *member = new_member(group);
	if (!member)
		return -ENOMEM;
	if (op && op->state == WH__PENDING) {
		join(group, member, op, arg);
		if (group->cancelled)
			wh_cancel(f);
		return 0;
	}
	wh_res res;
	if (op) {
		member->dispose = op->dispose;
		member->dispose_arg = op->dispose_arg;
	}
	member->result = (struct wh_group_result){.index = group->next_index++, .arg = arg};
	(void)wh_poll(f, &res);
	group->live_count++;
	member_ended(group, member, res);
	return 0;
}

/* ---- waiting, cancelling, closing --------------------------------------------------------- */

static void cancel_wait(struct wh__op *op)
{
	cancel_all(op->second); /* it ends when the members have */
}

static void cancel_next(struct wh__op *op)
{
	struct group *group = op->second;
	wh__waits_remove(&group->nexts, op);
	wh__op_complete(op, -ECANCELED, NULL);
}

/* A member that waits for its group would wait for itself. */
static bool is_member(const struct group *group, const struct wh__task *task)
{
	const struct wh__op *op = task ? wh__task_op(task) : NULL;
	return op && op->consumer == WH__CONSUMER_GROUP && ((struct member *)op->arg)->group == group;
}

/* A slot to wait with; NULL: *ret_failed says why. */
static struct wh__op *begin_wait(struct group *group,
                                 struct wh__op *(*begin)(struct wh__object *, void (*)(struct wh__op *),
                                                         wh_future *),
                                 void (*cancel)(struct wh__op *op), wh_future *ret_failed)
{
	if (!is_member(group, wh__thread.task))
		return begin(&group->object, cancel, ret_failed);
	*ret_failed = wh__fail(group->object.op->loop, -EDEADLK);
	return NULL;
}

wh_future wh_group_wait(wh_group handle)
{
	int error;
	wh_future f;
	struct group *group = find(handle, &error);
	if (!group)
		return wh__fail_at(handle.id, error);
	struct wh__op *op = begin_wait(group, wh__wait_for_end, cancel_wait, &f);
	if (!op)
		return f;
	if (group->live_count == 0)
		return wh__end(op, group->error);
	wh__waits_append(&group->waits, op);
	return f;
}

wh_future wh_group_next(wh_group handle, struct wh_group_result *ret)
{
	int error;
	wh_future f;
	struct group *group = find(handle, &error);
	if (!group)
		return wh__fail_at(handle.id, error);
	struct wh__op *op = begin_wait(group, wh__wait_new, cancel_next, &f);
	if (!op)
		return f;
	if (!ret || !group->keeps_results)
		return wh__end(op, -EINVAL);
	op->buf = ret;
	op->flags = WH__BORROWS;
	wh__waits_append(&group->nexts, op);
	tell(group);
	return f;
}

int wh_group_cancel(wh_group handle)
{
	int error;
	struct group *group = find(handle, &error);
	if (group)
		cancel_all(group);
	return error;
}

static void cancel_nothing(struct wh__op *op)
{
	(void)op; /* a close is under way, and ends when the members have */
}

bool wh__group_is_wait(const struct wh__op *op)
{
	return op->opcode == WH__OP_WAIT &&
	       (op->cancel_inner == cancel_wait || op->cancel_inner == cancel_nothing);
}

const struct wh__op *wh__group_waits(const void *of, bool closes)
{
	const struct group *group = ((const struct member *)of)->group;
	return closes ? group->closes.first : group->waits.first;
}

/* A close that is under way is joined. */
static wh_future close_group(struct group *group)
{
	wh_future f;
	struct wh__op *op = wh__wait_for_end(&group->object, cancel_nothing, &f);
	if (op)
		wh__waits_append(&group->closes, op);
	if (group->object.closing)
		return f;
	group->object.closing = true;
	group->live_count++; /* so that it stays until all are cancelled */
	cancel_all(group);
	group->live_count--;
	tell(group);
	return f;
}

wh_future wh_group_close(wh_group handle)
{
	int error;
	struct group *group = find(handle, &error);
	if (!group)
		return wh__fail_at(handle.id, error);
	if (is_member(group, wh__thread.task))
		return wh__fail(group->object.op->loop, -EDEADLK);
	return close_group(group);
}

int64_t wh__groups_end(struct wh__task *task, int64_t n)
{
	struct group **first = wh__task_groups(task);
	if (!wh__loop_is_mine(wh__task_loop(task)))
		return n; /* a forked child: the members are its parent's */
	(void)wh_shield(true);
	while (*first) {
		const struct group *group = *first;
		if (group->live_count > 0) {
			n = -WH_EUNFINISHED;
			wh__notice(wh__task_loop(task), WH_LOG_WARNING,
			           "a task has returned before %llu members of a group that it opened",
			           (unsigned long long)group->live_count);
		}
		(void)wh_await(close_group(*first));
		while (*first == group) /* there was no slot to wait with */
			(void)wh_yield();
	}
	return n;
}
