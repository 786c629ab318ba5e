/* src/store/asked.c -- changes of which a client asked for fewer, or more, than there are actions: an event is a submit for each
 * subscription that it matches, or none at all; a job whose end somebody is to be told of is two. See store.h.
 *
 * Actions are judged and carried out as ever, but for those of an event whose first submit, which keeps it, finds its unique key taken: it was published
 * before, and none of them is done. What is answered, and what a key keeps, is one result for each thing that was asked for, so
 * that it does not matter which subscriptions there are when it is asked for again.
 */
#include "store/inside.h"

size_t store_results_of(const struct store_wish *wish)
{
	return wish->asking.items ? wish->asking.count : wish->count;
}

/* What became of an event, by its submits. */
static struct store_result fold_event(const struct store_action *actions, const struct store_result *results,
                                      size_t count)
{
	struct store_result result = {.event = true};

	if (results[0].duplicate && actions[0].submit.done)
		return (struct store_result){.event = true, .duplicate = true, .job = results[0].job};
	for (size_t i = 0; i < count; i++) {
		if (results[i].duplicate)
			continue;
		result.job = actions[i].submit.event;
		result.count += !actions[i].submit.done;
	}
	return result;
}

void store_asked_step(const struct store_wish *wish, struct store_asked_walk *walk, size_t index)
{
	while (wish->asking.items && walk->behind <= index) {
		walk->behind += wish->asking.items[walk->item++].actions;
		walk->known = 0;
	}
}

void store_asked_fold(const struct store_wish *wish, struct store_commit *commit)
{
	/* what takes no action needs room, too: there is some for both, one behind the other */
	struct store_result *all = commit->results, *of_actions = all + wish->asking.count;
	size_t at = 0;

	if (!wish->asking.items)
		return;
	memmove(of_actions, all, wish->count * sizeof(*all));
	for (size_t i = 0; i < wish->asking.count; i++) {
		const struct store_asked *asked = &wish->asking.items[i];

		assert(at + asked->actions <= wish->count && (asked->event || asked->actions > 0));
		if (asked->actions == 0)
			all[i] = (struct store_result){.event = true};
		else
			all[i] = asked->event
			                 ? fold_event(&wish->actions[at], &of_actions[at], asked->actions)
			                 : of_actions[at];
		at += asked->actions;
	}
	commit->count = wish->asking.count;
}

wh_future store_apply_asked(struct store *store, const struct store_action *actions, size_t count,
                            const struct store_asking *asking, int level, const struct store_key *key)
{
	struct store_wish wish = {.actions = actions, .count = count, .level = level, .asking = *asking};

	if (asking->count == 0 || asking->count > JOB_ACTIONS_MAX ||
	    (key && (key->name.len == 0 || key->name.len > STORE_KEY_MAX)))
		return wh_failed(store->loop, -JOB_EVALUE);
	if (key)
		wish.key = *key;
	wish.future = wh_promise(store->loop, store_commit_dispose, NULL);
	return wh_done(wish.future) ? wish.future : store_grant_later(store, &wish);
}
