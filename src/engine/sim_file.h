/* src/engine/sim_file.h -- content of a simulated file: what programs read, what the disk holds, and what a
 * power cut makes of the difference.
 *
 * Used by: sim_disk.c. Thread: that of the simulated machine. Memory: blocks of 512 bytes, shared and counted.
 *
 * A sector has the content that reads show (now) and the content that is safe (disk). Writing makes a sector
 * dirty: the next flush carries it. A flush takes what is dirty when it begins and makes that safe when it
 * ends. A flush that fails leaves the sectors clean and different: reads show what the disk does not hold,
 * and no later flush mends it, as Linux does it.
 */
#ifndef WH_ENGINE_SIM_FILE_H
#define WH_ENGINE_SIM_FILE_H

#include <stddef.h>

#include "engine/sim_random.h"

enum { WH__SECTOR_BYTES = 512, WH__SECTORS_PER_BLOCK = 8 /* the unit in which space is taken */ };

struct wh__sector_data; /* NULL: zeros */

struct wh__sector {
	struct wh__sector_data *now, *disk;
	struct wh__sector_data *middle; /* a dirty content that was overwritten: the disk may have got it */
	uint64_t written;               /* number of the write that made it what it is */
	bool dirty;
	bool listed; /* in the file's list of sectors that are not safe */
	bool cut;    /* made zero by a truncation */
};

struct wh__sim_file {
	uint64_t size, disk_size;
	struct wh__sector *sectors;
	uint64_t sectors_max; /* how many the array holds */
	uint8_t *blocks;      /* which blocks of the array take space */
	uint64_t blocks_count;
	uint32_t *unsafe; /* indices of sectors whose now may differ from disk */
	uint32_t unsafe_count, unsafe_max;
	uint64_t *write_number; /* the machine's, shared by all files */
};

void wh__sim_file_fini(struct wh__sim_file *file);

/* The caller has checked that there is space: wh__sim_file_missing_blocks(). 0 or -ENOMEM. */
int wh__sim_file_write(struct wh__sim_file *file, const void *bytes, uint64_t len, uint64_t off,
                       struct wh__sim_random *random);
/* Bytes read; fewer than len at the end. direct: past the cache. */
uint64_t wh__sim_file_read(const struct wh__sim_file *file, void *bytes, uint64_t len, uint64_t off,
                           bool direct);
int wh__sim_file_truncate(struct wh__sim_file *file, uint64_t size, struct wh__sim_random *random);
/* Room; the file becomes longer, unless its size is kept. */
int wh__sim_file_allocate(struct wh__sim_file *file, uint64_t off, uint64_t len, bool keep_size);
/* From off on len bytes read as zeros; as of a write a power cut may bring back what was there. punch: room is given back, too. 0 or
 * -ENOMEM. */
int wh__sim_file_zero(struct wh__sim_file *file, uint64_t off, uint64_t len, bool punch,
                      struct wh__sim_random *random);
uint64_t wh__sim_file_missing_blocks(const struct wh__sim_file *file, uint64_t off, uint64_t len);
/* The first byte from off on that has no block; UINT64_MAX stands for none below off + len. */
uint64_t wh__sim_file_first_missing(const struct wh__sim_file *file, uint64_t off, uint64_t len);

/* A flush under way. NULL: no memory. */
struct wh__sim_flush;
struct wh__sim_flush *wh__sim_file_flush_begin(struct wh__sim_file *file);
void wh__sim_file_flush_end(struct wh__sim_file *file, struct wh__sim_flush *flush);
/* The flush failed: chance decides what reached the disk; all of it is clean now. */
void wh__sim_file_flush_fail(struct wh__sim_file *file, struct wh__sim_flush *flush,
                             struct wh__sim_random *random);
/* Power went, or nobody waits any more: nothing is promised. */
void wh__sim_file_flush_abandon(struct wh__sim_file *file, struct wh__sim_flush *flush);

/* How a power cut treats what is not safe: decided once for the whole disk. */
struct wh__sim_damage {
	int kind;           /* enum wh_sim_damage */
	unsigned keep_new;  /* RANDOM: percent of sectors that got the new content .. */
	unsigned keep_old;  /* .. and the old one; the rest: zeros, garbage */
	uint64_t turning;   /* RANDOM, not 0: writes up to this number (or from it on) got through whole .. */
	bool later_survive; /* .. from it on, rather than up to it */
	bool metadata_random; /* sizes, names: by chance; else as keep_metadata says */
	bool keep_metadata;
	/* not NULL: asked instead, see wh__sim_choose() */
	bool (*choose)(void *arg);
	void *choose_arg;
};
void wh__sim_file_power_cut(struct wh__sim_file *file, const struct wh__sim_damage *damage,
                            struct wh__sim_random *random);

#endif
