/* src/log/repair_inside.h -- what the files of a repair share. Nobody else includes this. See repair.h.
 *
 * repair_survey.c says what is there, repair.c builds the new log, repair_swap.c puts it in the place of the old one.
 */
#ifndef LOG_REPAIR_INSIDE_H
#define LOG_REPAIR_INSIDE_H

#include "log/mend.h"
#include "log/recover.h"
#include "log/repair.h"

#define LOG_REPAIR_FOLDER "repairing.tmp"

/* A segment, as far as its head tells. */
struct log_repair_segment {
	uint64_t number;
	bool there;      /* there is a file, and its salt is known */
	bool identified; /* its identity block is good */
	bool opened;     /* something of the log is in it */
	uint64_t file_bytes, bytes, salt;
	int opening_state;
	struct log_opening opening;
	bool base_known;
	uint64_t base;
	struct log_mend_after first; /* its first group, if that stands where it should */
	bool below;
	uint64_t end; /* below: lsn */
};

struct log_repair {
	struct log_repair_options options;
	struct log_repair_result result;
	struct log *log; /* of the folder: path, lock, cluster; .looking */
	struct log_problem *problem;
	struct wh_names *names;
	char *folder;
	bool made;                      /* that folder, by this repair */
	char *real;                     /* path of the log, absolute, when that folder is not in it */
	struct log_manifest *manifests; /* 2 */
	bool manifests_good[2], manifests_there[2];
	struct log_checkpoint_header checkpoint; /* .lsn 0: none */
	struct log_checkpoint_name checkpoint_name;
	struct log_repair_segment *below,
		*segments; /* segments: by number, from .first on, as many as reach to .last */
	size_t below_count, below_cap, segments_count;
	uint64_t first;
	uint64_t evidence;
	bool tail_lost; /* how much there was behind the end cannot be said, since the file is not there any more, or not all of it */
	struct log_repair_range *lost;
	size_t lost_cap;
	const char *file;   /* that is being mended, for messages */
	uint64_t protected; /* lsn below which nothing is certain to be lost but bodies: C */
	int error;          /* of a callback that cannot say so */
	uint8_t *image;
	uint64_t image_bytes;
};

void log_repair_tell(struct log_repair *r, const char *file, uint64_t offset, const char *reason);
int log_repair_survey(struct log_repair *r);
/* The whole file into r->image, zeros up to bytes; what the disk does not give is zero and told of. */
int log_repair_blank(struct log_repair *r, uint64_t bytes); /* r->image is zeros */
int log_repair_read(struct log_repair *r, const char *name, uint64_t bytes);
int log_repair_read_new(struct log_repair *r, const char *name, uint64_t bytes); /* of the new folder */
void log_repair_segment_name(uint64_t number, char to[LOG_PIN_NAME_BYTES]);
char *log_repair_path(const struct log_repair *r, const char *name); /* in the new folder */
int log_repair_take(struct log_repair *r); /* the folder's lock, as far as it may be written */
int log_repair_folder_make(struct log_repair *r);
int log_repair_unfinished(struct log_repair *r); /* 0, or -EINPROGRESS */
void log_repair_free(struct log_repair *r);

#endif
