/* src/engine/sim_file.c -- content of a simulated file; see sim_file.h. */
#include "engine/sim_file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "whilst/sim.h"

struct wh__sector_data {
	uint32_t references;
	uint8_t bytes[WH__SECTOR_BYTES];
};

static const uint8_t zeros[WH__SECTOR_BYTES];

/* ---- blocks of content -------------------------------------------------------------------- */

static struct wh__sector_data *data_new(const uint8_t *bytes)
{
	struct wh__sector_data *data = malloc(sizeof *data);
	if (data) {
		data->references = 1;
		memcpy(data->bytes, bytes, WH__SECTOR_BYTES);
	}
	return data;
}

static struct wh__sector_data *data_ref(struct wh__sector_data *data)
{
	if (data)
		data->references++;
	return data;
}

static void data_set(struct wh__sector_data **to, struct wh__sector_data *taken)
{
	struct wh__sector_data *old = *to;
	*to = taken;
	if (old && --old->references == 0)
		free(old);
}

static const uint8_t *data_bytes(const struct wh__sector_data *data)
{
	return data ? data->bytes : zeros;
}

/* ---- room --------------------------------------------------------------------------------- */

static uint64_t sectors_of(uint64_t bytes)
{
	return (bytes + WH__SECTOR_BYTES - 1) / WH__SECTOR_BYTES;
}

static int have_sectors(struct wh__sim_file *file, uint64_t count)
{
	if (count <= file->sectors_max)
		return 0;
	uint64_t max = file->sectors_max ? file->sectors_max : 64;
	while (max < count)
		max *= 2;
	struct wh__sector *sectors = realloc(file->sectors, max * sizeof *sectors);
	if (!sectors)
		return -ENOMEM;
	memset(sectors + file->sectors_max, 0, (max - file->sectors_max) * sizeof *sectors);
	file->sectors = sectors;
	uint8_t *blocks = realloc(file->blocks, max / WH__SECTORS_PER_BLOCK);
	if (!blocks)
		return -ENOMEM; /* sectors_max still tells the smaller of the two */
	memset(blocks + file->sectors_max / WH__SECTORS_PER_BLOCK, 0,
	       (max - file->sectors_max) / WH__SECTORS_PER_BLOCK);
	file->blocks = blocks;
	file->sectors_max = max;
	return 0;
}

/* The sector is not safe: put it in the list. */
static int list_sector(struct wh__sim_file *file, uint64_t index)
{
	struct wh__sector *sector = &file->sectors[index];
	if (sector->listed)
		return 0;
	if (file->unsafe_count == file->unsafe_max) {
		uint32_t max = file->unsafe_max ? file->unsafe_max * 2 : 64;
		uint32_t *unsafe = reallocarray(file->unsafe, max, sizeof *unsafe);
		if (!unsafe)
			return -ENOMEM;
		file->unsafe = unsafe;
		file->unsafe_max = max;
	}
	sector->listed = true;
	file->unsafe[file->unsafe_count++] = (uint32_t)index;
	return 0;
}

static void take_blocks(struct wh__sim_file *file, uint64_t off, uint64_t len)
{
	const uint64_t block_bytes = (uint64_t)WH__SECTOR_BYTES * WH__SECTORS_PER_BLOCK;
	for (uint64_t block = off / block_bytes; len > 0 && block <= (off + len - 1) / block_bytes; block++) {
		if (!file->blocks[block])
			file->blocks_count++;
		file->blocks[block] = 1;
	}
}

uint64_t wh__sim_file_first_missing(const struct wh__sim_file *file, uint64_t off, uint64_t len)
{
	const uint64_t block_bytes = (uint64_t)WH__SECTOR_BYTES * WH__SECTORS_PER_BLOCK;
	for (uint64_t block = off / block_bytes; len > 0 && block <= (off + len - 1) / block_bytes; block++) {
		if (block >= file->sectors_max / WH__SECTORS_PER_BLOCK || !file->blocks[block])
			return block * block_bytes > off ? block * block_bytes : off;
	}
	return UINT64_MAX;
}

uint64_t wh__sim_file_missing_blocks(const struct wh__sim_file *file, uint64_t off, uint64_t len)
{
	const uint64_t block_bytes = (uint64_t)WH__SECTOR_BYTES * WH__SECTORS_PER_BLOCK;
	uint64_t missing = 0;
	for (uint64_t block = off / block_bytes; len > 0 && block <= (off + len - 1) / block_bytes; block++)
		missing += block >= file->sectors_max / WH__SECTORS_PER_BLOCK || !file->blocks[block];
	return missing;
}

void wh__sim_file_fini(struct wh__sim_file *file)
{
	for (uint64_t i = 0; i < file->sectors_max; i++) {
		data_set(&file->sectors[i].now, NULL);
		data_set(&file->sectors[i].disk, NULL);
		data_set(&file->sectors[i].middle, NULL);
	}
	free(file->sectors);
	free(file->blocks);
	free(file->unsafe);
}

/* ---- write and read ----------------------------------------------------------------------- */

/* The content of a sector changes: taken is the new one. */
static void change(struct wh__sim_file *file, struct wh__sector *sector, struct wh__sector_data *taken,
                   struct wh__sim_random *random)
{
	/* of several contents that were never flushed the disk may hold any; one of them is remembered */
	if (sector->dirty && sector->now != sector->disk && (!sector->middle || wh__sim_chance(random, 50)))
		data_set(&sector->middle, data_ref(sector->now));
	data_set(&sector->now, taken);
	sector->dirty = true;
	sector->cut = false;
	sector->written = *file->write_number;
}

static int write_sector(struct wh__sim_file *file, uint64_t index, uint32_t from, const uint8_t *bytes,
                        uint32_t len, struct wh__sim_random *random)
{
	struct wh__sector *sector = &file->sectors[index];
	uint8_t content[WH__SECTOR_BYTES];
	if (len < WH__SECTOR_BYTES) {
		memcpy(content, data_bytes(sector->now), sizeof content);
		memcpy(content + from, bytes, len);
		bytes = content;
	}
	struct wh__sector_data *data = NULL;
	if (memcmp(bytes, zeros, WH__SECTOR_BYTES) != 0) {
		data = data_new(bytes);
		if (!data)
			return -ENOMEM;
	}
	if (list_sector(file, index) != 0) {
		data_set(&data, NULL);
		return -ENOMEM;
	}
	change(file, sector, data, random);
	return 0;
}

int wh__sim_file_write(struct wh__sim_file *file, const void *bytes, uint64_t len, uint64_t off,
                       struct wh__sim_random *random)
{
	const uint8_t *from = bytes;
	if (have_sectors(file, sectors_of(off + len)) != 0)
		return -ENOMEM;
	take_blocks(file, off, len);
	++*file->write_number;
	while (len > 0) {
		uint32_t at = (uint32_t)(off % WH__SECTOR_BYTES);
		uint32_t part = WH__SECTOR_BYTES - at;
		if (part > len)
			part = (uint32_t)len;
		if (write_sector(file, off / WH__SECTOR_BYTES, at, from, part, random) != 0)
			return -ENOMEM;
		from += part;
		off += part;
		len -= part;
		if (off > file->size)
			file->size = off;
	}
	return 0;
}

uint64_t wh__sim_file_read(const struct wh__sim_file *file, void *bytes, uint64_t len, uint64_t off,
                           bool direct)
{
	uint8_t *to = bytes;
	uint64_t done = 0;
	if (off >= file->size)
		return 0;
	if (len > file->size - off)
		len = file->size - off;
	while (done < len) {
		uint64_t index = (off + done) / WH__SECTOR_BYTES;
		uint64_t at = (off + done) % WH__SECTOR_BYTES;
		uint64_t part = WH__SECTOR_BYTES - at;
		if (part > len - done)
			part = len - done;
		const struct wh__sector *sector = index < file->sectors_max ? &file->sectors[index] : NULL;
		const struct wh__sector_data *data = NULL;
		/* a direct read writes dirty sectors back first; clean ones it takes from the disk */
		if (sector)
			data = direct && !sector->dirty ? sector->disk : sector->now;
		memcpy(to + done, data_bytes(data) + at, part);
		done += part;
	}
	return done;
}

/* ---- size --------------------------------------------------------------------------------- */

static int zero_tail(struct wh__sim_file *file, uint64_t size, struct wh__sim_random *random)
{
	uint32_t at = (uint32_t)(size % WH__SECTOR_BYTES);
	if (at == 0 || size / WH__SECTOR_BYTES >= file->sectors_max ||
	    !file->sectors[size / WH__SECTOR_BYTES].now)
		return 0;
	return write_sector(file, size / WH__SECTOR_BYTES, at, zeros, WH__SECTOR_BYTES - at, random);
}

int wh__sim_file_truncate(struct wh__sim_file *file, uint64_t size, struct wh__sim_random *random)
{
	++*file->write_number;
	if (size < file->size) {
		if (zero_tail(file, size, random) != 0)
			return -ENOMEM;
		for (uint64_t i = sectors_of(size); i < file->sectors_max && i < sectors_of(file->size);
		     i++) {
			struct wh__sector *sector = &file->sectors[i];
			if (!sector->now && !sector->disk && !sector->listed)
				continue;
			if (list_sector(file, i) != 0)
				return -ENOMEM;
			data_set(&sector->now, NULL);
			sector->dirty = true;
			sector->cut = true;
			sector->written = *file->write_number;
		}
		uint64_t first = (sectors_of(size) + WH__SECTORS_PER_BLOCK - 1) / WH__SECTORS_PER_BLOCK;
		for (uint64_t block = first; block < file->sectors_max / WH__SECTORS_PER_BLOCK; block++) {
			file->blocks_count -= file->blocks[block];
			file->blocks[block] = 0;
		}
	}
	file->size = size;
	return 0;
}

int wh__sim_file_allocate(struct wh__sim_file *file, uint64_t off, uint64_t len, bool keep_size)
{
	if (have_sectors(file, sectors_of(off + len)) != 0)
		return -ENOMEM;
	take_blocks(file, off, len);
	if (off + len > file->size && !keep_size)
		file->size = off + len;
	return 0;
}

/* The blocks that lie within off and end as a whole. */
static void give_blocks_back(struct wh__sim_file *file, uint64_t off, uint64_t end)
{
	const uint64_t block_bytes = (uint64_t)WH__SECTOR_BYTES * WH__SECTORS_PER_BLOCK;
	for (uint64_t block = (off + block_bytes - 1) / block_bytes;
	     block < end / block_bytes && block < file->sectors_max / WH__SECTORS_PER_BLOCK; block++) {
		file->blocks_count -= file->blocks[block];
		file->blocks[block] = 0;
	}
}

int wh__sim_file_zero(struct wh__sim_file *file, uint64_t off, uint64_t len, bool punch,
                      struct wh__sim_random *random)
{
	uint64_t end = off + len;
	++*file->write_number;
	for (uint64_t at = off; at < end && at / WH__SECTOR_BYTES < file->sectors_max;) {
		const struct wh__sector *sector = &file->sectors[at / WH__SECTOR_BYTES];
		uint32_t from = (uint32_t)(at % WH__SECTOR_BYTES), part = WH__SECTOR_BYTES - from;
		if (part > end - at)
			part = (uint32_t)(end - at);
		bool has_some = sector->now || sector->disk || sector->listed;
		if (has_some && write_sector(file, at / WH__SECTOR_BYTES, from, zeros, part, random) != 0)
			return -ENOMEM;
		at += part;
	}
	if (punch)
		give_blocks_back(file, off, end);
	return 0;
}

/* ---- flush -------------------------------------------------------------------------------- */

struct flushed_sector {
	uint32_t index;
	uint64_t written;
	struct wh__sector_data *data;
};

struct wh__sim_flush {
	uint64_t size;
	uint32_t count;
	struct flushed_sector sectors[];
};

struct wh__sim_flush *wh__sim_file_flush_begin(struct wh__sim_file *file)
{
	struct wh__sim_flush *flush =
		malloc(sizeof *flush + file->unsafe_count * sizeof(struct flushed_sector));
	if (!flush)
		return NULL;
	flush->size = file->size;
	flush->count = 0;
	for (uint32_t i = 0; i < file->unsafe_count; i++) {
		struct wh__sector *sector = &file->sectors[file->unsafe[i]];
		if (sector->dirty)
			flush->sectors[flush->count++] = (struct flushed_sector){
				file->unsafe[i], sector->written, data_ref(sector->now)};
	}
	return flush;
}

/* Drop from the list what is safe again. */
static void sweep_unsafe(struct wh__sim_file *file)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < file->unsafe_count; i++) {
		struct wh__sector *sector = &file->sectors[file->unsafe[i]];
		sector->listed = sector->dirty || sector->now != sector->disk;
		if (sector->listed)
			file->unsafe[kept++] = file->unsafe[i];
	}
	file->unsafe_count = kept;
}

static void flush_free(struct wh__sim_flush *flush)
{
	for (uint32_t i = 0; i < flush->count; i++)
		data_set(&flush->sectors[i].data, NULL);
	free(flush);
}

void wh__sim_file_flush_end(struct wh__sim_file *file, struct wh__sim_flush *flush)
{
	for (uint32_t i = 0; i < flush->count; i++) {
		struct flushed_sector *flushed = &flush->sectors[i];
		struct wh__sector *sector = &file->sectors[flushed->index];
		data_set(&sector->disk, data_ref(flushed->data));
		data_set(&sector->middle, NULL);
		if (sector->written == flushed->written) {
			sector->dirty = false;
			sector->cut = false;
		}
	}
	file->disk_size = flush->size;
	sweep_unsafe(file);
	flush_free(flush);
}

void wh__sim_file_flush_fail(struct wh__sim_file *file, struct wh__sim_flush *flush,
                             struct wh__sim_random *random)
{
	for (uint32_t i = 0; i < flush->count; i++) {
		struct flushed_sector *flushed = &flush->sectors[i];
		struct wh__sector *sector = &file->sectors[flushed->index];
		if (wh__sim_chance(random, 50))
			data_set(&sector->disk, data_ref(flushed->data));
		if (sector->written == flushed->written) {
			data_set(&sector->middle, NULL);
			sector->dirty = false; /* what makes a failed fsync final */
		}
	}
	sweep_unsafe(file);
	flush_free(flush);
}

void wh__sim_file_flush_abandon(struct wh__sim_file *file, struct wh__sim_flush *flush)
{
	for (uint32_t i = 0; i < flush->count; i++) {
		struct flushed_sector *flushed = &flush->sectors[i];
		struct wh__sector *sector = &file->sectors[flushed->index];
		if (sector->written != flushed->written)
			data_set(&sector->middle, data_ref(flushed->data));
	}
	flush_free(flush);
}

/* ---- power cut ---------------------------------------------------------------------------- */

static struct wh__sector_data *garbage(const struct wh__sim_file *file, const struct wh__sector *sector,
                                       struct wh__sim_random *random)
{
	uint8_t bytes[WH__SECTOR_BYTES];
	switch (wh__sim_below(random, 3)) {
	case 0: /* a flipped bit */
		memcpy(bytes, data_bytes(sector->now), sizeof bytes);
		bytes[wh__sim_below(random, sizeof bytes)] ^= (uint8_t)(1 << wh__sim_below(random, 8));
		break;
	case 1: { /* what belonged elsewhere in the file */
		uint64_t other = file->unsafe[wh__sim_below(random, file->unsafe_count)];
		memcpy(bytes, data_bytes(file->sectors[other].now), sizeof bytes);
		break;
	}
	default:
		for (size_t i = 0; i < sizeof bytes; i += 8) {
			uint64_t word = wh__sim_next(random);
			memcpy(bytes + i, &word, 8);
		}
	}
	struct wh__sector_data *data = data_new(bytes);
	assert(data); /* a simulation without memory has nothing to say */
	return data;
}

static int kind_by_chance(const struct wh__sector *sector, const struct wh__sim_damage *damage,
                          struct wh__sim_random *random)
{
	if (damage->turning != 0 && sector->written != damage->turning) {
		bool before = sector->written < damage->turning;
		return before != damage->later_survive ? WH_SIM_KEEP_NEW : WH_SIM_KEEP_OLD;
	}
	uint64_t draw = wh__sim_below(random, 100);
	if (draw < damage->keep_new)
		return WH_SIM_KEEP_NEW;
	if (draw < damage->keep_new + damage->keep_old)
		return WH_SIM_KEEP_OLD;
	return wh__sim_chance(random, 50) ? WH_SIM_ZERO : WH_SIM_GARBAGE;
}

static struct wh__sector_data *survivor(const struct wh__sim_file *file, const struct wh__sector *sector,
                                        const struct wh__sim_damage *damage, struct wh__sim_random *random)
{
	int kind = damage->kind;
	if (kind == WH_SIM_RANDOM)
		kind = kind_by_chance(sector, damage, random);
	switch (kind) {
	case WH_SIM_KEEP_NEW:
		return data_ref(sector->now);
	case WH_SIM_ZERO:
		return NULL;
	case WH_SIM_GARBAGE:
		return garbage(file, sector, random);
	default:
		if (damage->kind == WH_SIM_RANDOM && sector->middle && wh__sim_chance(random, 50))
			return data_ref(sector->middle);
		return data_ref(sector->disk);
	}
}

/* What lies beyond the size is gone, and space with it. */
static void end_at(struct wh__sim_file *file, uint64_t size)
{
	file->size = file->disk_size = size;
	uint64_t end = sectors_of(size);
	for (uint64_t i = end; i < file->sectors_max; i++)
		data_set(&file->sectors[i].disk, NULL);
	uint64_t at = size % WH__SECTOR_BYTES;
	if (at != 0 && end <= file->sectors_max && file->sectors[end - 1].disk) {
		struct wh__sector_data *data = data_new(data_bytes(file->sectors[end - 1].disk));
		assert(data);
		memset(data->bytes + at, 0, WH__SECTOR_BYTES - at);
		data_set(&file->sectors[end - 1].disk, data);
	}
	uint64_t blocks_end = (end + WH__SECTORS_PER_BLOCK - 1) / WH__SECTORS_PER_BLOCK;
	for (uint64_t block = blocks_end; block < file->sectors_max / WH__SECTORS_PER_BLOCK; block++) {
		file->blocks_count -= file->blocks[block];
		file->blocks[block] = 0;
	}
	/* a truncation that did not last has given nothing back */
	for (uint64_t i = 0; i < end && i < file->sectors_max; i++)
		if (file->sectors[i].disk)
			take_blocks(file, i * WH__SECTOR_BYTES, 1);
}

/* The size that the disk has got to. */
static uint64_t size_by_chance(const struct wh__sim_file *file, struct wh__sim_random *random)
{
	switch (wh__sim_below(random, 3)) {
	case 0:
		return file->size;
	case 1:
		return file->disk_size;
	default:
		if (file->size <= file->disk_size)
			return file->size;
		return file->disk_size + wh__sim_below(random, file->size - file->disk_size + 1);
	}
}

static struct wh__sector_data *torn(const struct wh__sector *sector)
{
	uint8_t bytes[WH__SECTOR_BYTES];
	memcpy(bytes, data_bytes(sector->disk), sizeof bytes);
	memcpy(bytes, data_bytes(sector->now), 64);
	struct wh__sector_data *data = data_new(bytes);
	assert(data);
	return data;
}

/* Whoever tests goes through all possibilities: block by block, the new content, the old one, or the first bytes
 * of the new one: not even a sector is written whole for certain. */
static void choose_blocks(struct wh__sim_file *file, const struct wh__sim_damage *damage)
{
	enum { OPEN, NEW, OLD, TORN };
	uint8_t *chosen = calloc(file->sectors_max / WH__SECTORS_PER_BLOCK + 1, 1);
	assert(chosen);
	for (uint32_t i = 0; i < file->unsafe_count; i++) {
		uint32_t at = file->unsafe[i];
		struct wh__sector *sector = &file->sectors[at];
		uint8_t *block = &chosen[at / WH__SECTORS_PER_BLOCK];
		data_set(&sector->middle, NULL);
		if (!sector->dirty ||
		    memcmp(data_bytes(sector->now), data_bytes(sector->disk), WH__SECTOR_BYTES) == 0)
			continue;
		if (*block == OPEN) {
			bool survives = damage->choose(damage->choose_arg);
			bool torn = damage->choose(damage->choose_arg);
			*block = survives ? NEW : torn ? TORN : OLD;
		}
		if (*block == NEW)
			data_set(&sector->disk, data_ref(sector->now));
		else if (*block == TORN)
			data_set(&sector->disk, torn(sector));
		*block = *block == TORN ? OLD : *block;
	}
	free(chosen);
}

static void damage_sectors(struct wh__sim_file *file, const struct wh__sim_damage *damage, uint64_t size,
                           struct wh__sim_random *random)
{
	for (uint32_t i = 0; i < file->unsafe_count; i++) {
		struct wh__sector *sector = &file->sectors[file->unsafe[i]];
		/* clean and different: a flush failed, and the disk is what it is */
		if (!sector->dirty || (sector->cut && size == file->disk_size))
			continue;
		/* chosen from what all sectors are before any is changed: garbage may be another one's content */
		data_set(&sector->middle, survivor(file, sector, damage, random));
		sector->listed = false;
	}
	for (uint32_t i = 0; i < file->unsafe_count; i++) {
		struct wh__sector *sector = &file->sectors[file->unsafe[i]];
		if (!sector->listed) /* contents are counted, which the analyzer does not see */
			data_set(&sector->disk, data_ref(sector->middle));
		data_set(&sector->middle, NULL);
	}
}

void wh__sim_file_power_cut(struct wh__sim_file *file, const struct wh__sim_damage *damage,
                            struct wh__sim_random *random)
{
	uint64_t size = damage->keep_metadata ? file->size : file->disk_size;
	if (damage->metadata_random)
		size = size_by_chance(file, random);
	if (damage->choose && file->size != file->disk_size)
		size = damage->choose(damage->choose_arg) ? file->size : file->disk_size;
	if (damage->choose)
		choose_blocks(file, damage);
	else
		damage_sectors(file, damage, size, random);
	end_at(file, size);
	for (uint32_t i = 0; i < file->unsafe_count; i++) {
		struct wh__sector *sector = &file->sectors[file->unsafe[i]];
		sector->dirty = sector->cut = sector->listed = false;
	}
	for (uint64_t i = 0; i < file->sectors_max; i++)
		if (file->sectors[i].now != file->sectors[i].disk)
			data_set(&file->sectors[i].now, data_ref(file->sectors[i].disk));
	file->unsafe_count = 0;
}
