/* src/store/wake.c -- those whose wait for a job is over are told, so many in a turn. See inside.h.
 *
 * Any number may wait for one job. To tell a hundred thousand in one turn would keep everybody else waiting for
 * their answers, and the first of them for the last.
 */
#include "store/inside.h"

enum { WAKES_A_TURN = 256 };

void store_wakes_empty(struct store_wakes *wakes)
{
	wakes->first = NULL;
	wakes->end = &wakes->first;
}

void store_wakes_init(struct store *store)
{
	store_wakes_empty(&store->woken[0]);
	store_wakes_empty(&store->woken[1]);
	store_wakes_empty(&store->waking);
}

void store_wakes_add(struct store_wakes *wakes, struct store_wait_entry *entry)
{
	entry->next = NULL;
	*wakes->end = entry;
	wakes->end = &entry->next;
}

void store_wakes_commit(struct store *store, uint64_t lsn)
{
	for (int i = 0; i < 2; i++) {
		struct store_wait_entry *list = store->woken[i].first;

		if (!list)
			continue;
		store_wakes_empty(&store->woken[i]);
		store_answer(store, i == 0 ? STORE_ASYNC : STORE_LOCAL,
		             (struct store_answer){.lsn = lsn, .object = list, .kind = STORE_ANSWER_WAKES});
	}
}

static void tell(struct store_wait_entry *e, int64_t n)
{
	wh_resolve(e->future, n, NULL); /* nobody, if it was cancelled meanwhile */
	free(e);
}

static void on_next_turn(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;

	(void)loop;
	(void)res;
	store->wake_set = false;
	if (store_operation_end(store))
		store_wake(store);
}

void store_wake(struct store *store)
{
	struct store_wait_entry *e;

	for (int i = 0; i < WAKES_A_TURN && (e = store->waking.first) != NULL; i++) {
		store->waking.first = e->next;
		tell(e, e->wait_for);
	}
	if (!store->waking.first) {
		store_wakes_empty(&store->waking);
		return;
	}
	if (store->wake_set)
		return;
	if (wh_then(wh_sleep(store->loop, 0), on_next_turn, store) == 0) {
		store->wake_set = true;
		store->operations++;
	} else {
		store_again(store);
	}
}

void store_wakes_deliver(struct store *store, struct store_wait_entry *list, int64_t error)
{
	bool waits = store->waking.first != NULL; /* whoever goes on with those comes to these */

	while (list) {
		struct store_wait_entry *next = list->next;

		if (error < 0)
			tell(list, error);
		else
			store_wakes_add(&store->waking, list);
		list = next;
	}
	if (!waits && store->waking.first)
		store_wake(store);
}

void store_wakes_end(struct store *store)
{
	for (struct store_wait_entry *e = store->waking.first, *next; e; e = next) {
		next = e->next;
		tell(e, e->wait_for);
	}
	store_wakes_empty(&store->waking);
}
