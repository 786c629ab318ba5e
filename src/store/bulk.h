/* src/store/bulk.h -- the inside of what is done to many jobs: shared by bulk.c, which goes on step by step, and bulk_read.c, which reads what
 * the machine does not know of a job: the text and the time of its newest error, and of a failed one all that it takes to call it back.
 */
#ifndef STORE_BULK_H
#define STORE_BULK_H

#include "store/inside.h"

enum { BULK_STEP_JOBS = 512, BULK_READ_JOBS = 64, BULK_SOON_JOBS = 4096 };

enum bulk_order { BULK_BY_SLOT, BULK_BY_BURIAL, BULK_BY_INSTANT, BULK_BY_ID };

/* A job that is being read, or has been. */
struct bulk_item {
	struct store_bulk *bulk;
	uint64_t id;
	struct job_places places; /* as it was begun: others now, and it is read anew */
	unsigned phase;           /* store_look_begin() */
	uint8_t state, stage;
	bool known;   /* read, and what was read is right */
	bool matches; /* the text and the time asked for */
	bool has_error;
	int64_t error;       /* why it could not be read */
	int64_t at_ns;       /* of its end, or its newest error, or its submit */
	struct job_record r; /* of a failed one that is to come back */
	char *bytes;         /* what r points to */
	size_t bytes_len;
	uint32_t submit_queue; /* of its SUBMIT */
};

struct store_bulk {
	struct store_bulk *next, *prev;
	struct store *store;
	wh_future future;
	int kind; /* of the action: CANCEL, KICK, DELETE, MOVE, REPLAY */
	uint8_t order;
	bool list, dead, revives;
	bool read; /* what is to be read of those that come next has been */
	unsigned states;
	uint64_t id_min, id_max, left, done;
	uint32_t queue, to, cursor; /* to: of another queue, 0: none */
	uint64_t lsn;               /* of the last commit; 0: none */
	/* which ones by what must be read */
	char *text; /* part of its newest error; NULL: any */
	size_t text_len;
	int64_t from_ns, until_ns; /* of its end, newest error or submit; 0, INT64_MAX: any */
	/* given by their ids */
	uint64_t *given;
	size_t given_at, given_count;
	/* to be dealt with, in turn */
	uint64_t *ids;
	uint32_t ids_at, ids_count;
	struct bulk_item *items; /* BULK_READ_JOBS, of those that come next; NULL: nothing is read */
	uint32_t items_count, reading;
	void (*on_read)(
		struct store_bulk *bulk); /* all that was begun has been read; may be within bulk_read() */
	struct store_list *listed;
};

/* bulk.c: all that was begun has been read. */
void bulk_go_on(struct store_bulk *bulk);
/* Is it one of those that are meant, as far as the machine knows? */
bool bulk_means(const struct store_bulk *bulk, uint64_t id, const struct job_info *info);

/* bulk_read.c */
static inline bool bulk_asks(const struct store_bulk *bulk) /* for a text or a time */
{
	return bulk->text || bulk->from_ns > 0 || bulk->until_ns < INT64_MAX;
}
static inline bool bulk_reads(const struct store_bulk *bulk)
{
	return bulk_asks(bulk) || bulk->revives;
}
/* bulk_read() - begin to read of the next jobs what is to be known of them. false: there is nothing to wait for; else bulk_go_on() follows, in
 * another turn. */
bool bulk_read(struct store_bulk *bulk);
/* bulk_read_failed() - the same of these jobs, as far as they have failed, of whatever queues, to call them back; they are put behind .items_count. */
bool bulk_read_failed(struct store_bulk *bulk, const uint64_t *ids, size_t count);
/* bulk_item_holds() - does the job still stand by what was read of it? */
bool bulk_item_holds(const struct bulk_item *item);
/* bulk_read_item() - what has been read of the job that is next; NULL: nothing, or it has changed since: it must be read anew. */
const struct bulk_item *bulk_read_item(struct store_bulk *bulk, uint64_t id);
void bulk_read_forget(struct store_bulk *bulk);

#endif
