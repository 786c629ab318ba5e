/* src/front/publish.h -- publishing, and handing kept events over again: what topics and the rest of the front share.
 *
 * Thread: the loop of the store.
 */
#ifndef WH_FRONT_PUBLISH_H
#define WH_FRONT_PUBLISH_H

#include "front/event.h"
#include "front/topic.h"

struct api;
struct call;
struct once;
struct publication;
struct request;
struct store_commit;

/* publish_body_max() - of a request to publish, by its content type. */
uint64_t publish_body_max(struct wh_slice content_type);

/* publish_commit() - the request's answer is that of what it publishes: its name must be the topic's. batch: of an array. once NULL: without a key. */
void publish_commit(struct request *request, struct publication *publication, bool batch, int level,
                    struct once *once);

/* publish_replay_open() - memory for a step, so that none that is to go on needs any. 0 or -ENOMEM. */
int publish_replay_open(struct api *api);
/* publish_replay() - go on with the replays that are under way. publish_replay_stop(): when the front drains or closes. */
void publish_replay(struct api *api);
void publish_replay_stop(struct api *api);

/* publish_tell() - a commit with events, whose receipt call->arg is, has come to its end well: tell() of it once the positions of those that were
 * published before are read. Takes commit. subject: what a refusal is about. */
void publish_tell(struct call *call, struct store_commit *commit, const char *subject,
                  void (*tell)(struct call *call, const struct store_commit *commit));

/* request_topic() - of the path; NULL: refused and answered. */
struct topic *request_topic(struct request *request);

#endif
