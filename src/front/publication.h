/* src/front/publication.h -- events on their way into a commit: judged by the filters of their topics, made submits, and told of.
 *
 * A publication gathers the actions of one commit: a submit for each subscription that an event matches, one more for an event that its topic
 * keeps, and between them whatever else the commit does. The bytes of an event's data stay where they came from until the store has them. What
 * outlives it is a receipt, for the words of the answer. Thread: the loop of the store.
 */
#ifndef WH_FRONT_PUBLICATION_H
#define WH_FRONT_PUBLICATION_H

#include "front/event.h"
#include "front/topic.h"
#include "store/store.h"

struct call;
struct once;
struct publication_plan;
struct publication_event;

struct publication {
	wh_loop *loop;
	struct store_action *actions;
	struct store_asked *asked;
	struct publication_plan *plans;   /* of each action */
	struct publication_event *events; /* in order */
	char **memories;                  /* of the events */
	size_t actions_count, actions_cap, plans_cap, asked_count, asked_cap, count, cap, memories_cap;
	uint32_t numbers;     /* events that somebody wants */
	bool known, vanished; /* there is an answer of then; and nothing else, for want of a topic */
	bool noted;
	const struct topic *named;
	size_t named_at; /* names of its queues, in .names */
	struct wh__text kept, ids, names, keys;
	uint8_t note[STORE_NOTE_BYTES]; /* ids that are made are made of it */
};

/* An ordinary body that becomes an event; what is absent is made up. */
struct publication_bare {
	struct wh_slice type, source, subject, content_type, data;
};

void publication_open(struct publication *p, wh_loop *loop);
void publication_done(struct publication *p);
/* topic NULL, with .known alone: it has gone, and the event was published before, under a key.
 * publication_event() - an event of the topic, for as many submits as it takes: taken, whatever comes of it. publication_bare() - one that is made of
 * what it is given (borrowed until the store has it). EVENT_GOOD, or why not. */
enum event_wrong publication_event(struct publication *p, const struct topic *topic, struct event *event,
                                   struct event_refusal *refusal);
enum event_wrong publication_bare(struct publication *p, const struct topic *topic,
                                  const struct publication_bare *bare, struct event_refusal *refusal);
/* publication_action() - what is no event; it has a result of its own. false: no memory, or there are too many. */
bool publication_action(struct publication *p, const struct store_action *action);
/* publication_called_back() - the same of a submit whose end this URL is told of, which takes two. */
bool publication_called_back(struct publication *p, const struct store_action *action, struct wh_slice url);
/* publication_apply() - all of it. once NULL: without a key. trace: of all submits. */
wh_future publication_apply(struct publication *p, struct store *store, struct store_slice trace, int level,
                            struct once *once);

/* What is left for the answer: one allocation, free(). */
struct receipt {
	size_t count, actions;
	struct publication_event *events;
	const struct publication_plan *plans;
	const char *ids, *names;
	void *extra;
	struct store_commit *commit; /* while positions are read for it */
	uint64_t limit;              /* of a refused commit */
	const char *subject;         /* publish_tell() */
	void (*tell)(struct call *call, const struct store_commit *commit);
	size_t resolved;        /* results that were looked at */
	size_t resolved_events; /* and events among them */
};
struct receipt *publication_receipt(const struct publication *p, size_t extra_bytes); /* NULL: no memory */
/* receipt_resolve() - of events that were published before, in .commit or an earlier one, the positions are those of then: where the store has to read
 * for it, *ret is a future to be consumed by receipt_resolved(), and this is asked again. false: all are known. receipt_resolved(): 0, or it cannot be
 * told just now. */
bool receipt_resolve(struct receipt *r, struct store *store, wh_future *ret);
int64_t receipt_resolved(struct receipt *r, wh_res res);
/* receipt_duplicates() - how many events of a commit were published before. */
size_t receipt_duplicates(const struct store_commit *commit);
/* receipt_put() - "id":"A234","event":"3/81921","jobs":2, of the index-th event; and "duplicate":true of one that was published before. */
void receipt_put(const struct receipt *r, size_t index, const struct store_commit *commit,
                 const struct store_result *result, struct wh__text *text);
/* receipt_queue() - the queue, in full, that a refused action was for; NULL: it submits nothing. */
const char *receipt_queue(const struct receipt *r, uint32_t action);

#endif
