/* src/engine/sim_disk.h -- a simulated disk: an in-memory file system whose power can be cut.
 *
 * A pure module: no loop, no clock; chance is an argument. Used by: sim_machine.c. Thread: that of the machine.
 *
 * Names are as unsafe as content: a creation, a rename or an unlinking is safe when its directory has been
 * flushed. Until then a power cut may undo it, each change as a whole (a rename never leaves its target
 * without a file), and changes that touch the same name or file in their order. Flushing a file does not
 * make its name safe, flushing a directory not the content of its files.
 *
 * Results are n >= 0 or -errno, as the system calls of the same name give them.
 */
#ifndef WH_ENGINE_SIM_DISK_H
#define WH_ENGINE_SIM_DISK_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/types.h>

#include "engine/sim_file.h"
#include "whilst/whilst.h"

struct wh__disk;

/* Descriptors are numbers that the kernel does not give out, lowest first. */
enum { WH__SIM_FD_FIRST = 1 << 20 };

/* random is borrowed for the life of the disk. NULL: no memory. */
struct wh__disk *wh__disk_new(struct wh__sim_random *random);
struct wh__disk *wh__disk_free(struct wh__disk *disk);
void wh__disk_set_capacity(struct wh__disk *disk, uint64_t bytes); /* 0: unlimited */
/* wall time, for the times of files */
void wh__disk_set_clock(struct wh__disk *disk, int64_t (*clock)(void *arg), void *arg);

/* "from" and "_at": a descriptor of the directory that a relative path starts from, or AT_FDCWD. */
int64_t wh__disk_open_at(struct wh__disk *disk, int from, const char *path, int flags, mode_t mode);
int64_t wh__disk_close(struct wh__disk *disk, int fd);
bool wh__disk_is_open(const struct wh__disk *disk, int fd);
bool wh__disk_is_direct(const struct wh__disk *disk, int fd); /* open with O_DIRECT */
int64_t wh__disk_pread(struct wh__disk *disk, int fd, void *buf, uint64_t len, uint64_t off);
/* all: as many as there is space for, then -ENOSPC; else a short count. */
int64_t wh__disk_pwrite(struct wh__disk *disk, int fd, const void *buf, uint64_t len, uint64_t off, bool all);
int64_t wh__disk_read(struct wh__disk *disk, int fd, void *buf, uint64_t len);
int64_t wh__disk_write(struct wh__disk *disk, int fd, const void *buf, uint64_t len, bool all);
int64_t wh__disk_truncate(struct wh__disk *disk, int fd, uint64_t len);
/* mode: of fallocate(2) */
int64_t wh__disk_allocate(struct wh__disk *disk, int fd, int mode, uint64_t off, uint64_t len);
int64_t wh__disk_size(struct wh__disk *disk, int fd);
int64_t wh__disk_flock(struct wh__disk *disk, int fd, int how); /* LOCK_EX, LOCK_SH, LOCK_UN */
int64_t wh__disk_copy(struct wh__disk *disk, int to, uint64_t to_off, int from, uint64_t from_off,
                      uint64_t len);
int64_t wh__disk_entries(struct wh__disk *disk, int fd, void **ret_entries); /* one allocation: free() */
int64_t wh__disk_rename_at(struct wh__disk *disk, int from_at, const char *from, int to_at, const char *to,
                           unsigned int flags);
int64_t wh__disk_link(struct wh__disk *disk, int from_at, const char *from, int to_at, const char *to,
                      bool follow);
int64_t wh__disk_symlink(struct wh__disk *disk, const char *target, int from, const char *path);
int64_t wh__disk_unlink_at(struct wh__disk *disk, int from, const char *path);
int64_t wh__disk_rmdir(struct wh__disk *disk, int from, const char *path);
int64_t wh__disk_mkdir_at(struct wh__disk *disk, int from, const char *path, mode_t mode);
/* path, which ends in XXXXXX, is the name that was made. flags: O_DIRECTORY, or of open(2) */
int64_t wh__disk_temporary(struct wh__disk *disk, char *path, int flags);
/* May a name be made here? 0, -ENOENT, -ENOTDIR, -EADDRINUSE (there is one). */
int wh__disk_can_make(const struct wh__disk *disk, const char *path);
int64_t wh__disk_list(struct wh__disk *disk, const char *path, void **ret_names); /* one allocation: free() */
int64_t wh__disk_disk_free(struct wh__disk *disk, int fd);

/* ---- sim_status.c: what is told of files; path NULL: of what from is open at. Programs are root's: modes refuse nothing. ---- */

int64_t wh__disk_status(const struct wh__disk *disk, int from, const char *path, bool follow,
                        struct wh_stat *ret);
int64_t wh__disk_access(const struct wh__disk *disk, int from, const char *path, int mode, bool follow);
int64_t wh__disk_chmod(struct wh__disk *disk, int from, const char *path, mode_t mode);
/* UINT32_MAX: as it is */
int64_t wh__disk_chown(struct wh__disk *disk, int from, const char *path, uint32_t user, uint32_t group,
                       bool follow);
/* as utimensat(2) takes them */
int64_t wh__disk_set_times(struct wh__disk *disk, int from, const char *path, const struct timespec times[2],
                           bool follow);
int64_t wh__disk_readlink(const struct wh__disk *disk, int from, const char *path, char *buf, uint64_t len);
int64_t wh__disk_realpath(const struct wh__disk *disk, const char *path, char *buf, uint64_t len);

/* From the root, without flags. */
static inline int64_t wh__disk_open(struct wh__disk *disk, const char *path, int flags)
{
	return wh__disk_open_at(disk, AT_FDCWD, path, flags, 0600);
}

static inline int64_t wh__disk_rename(struct wh__disk *disk, const char *from, const char *to)
{
	return wh__disk_rename_at(disk, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static inline int64_t wh__disk_unlink(struct wh__disk *disk, const char *path)
{
	return wh__disk_unlink_at(disk, AT_FDCWD, path);
}

static inline int64_t wh__disk_mkdir(struct wh__disk *disk, const char *path)
{
	return wh__disk_mkdir_at(disk, AT_FDCWD, path, 0700);
}

static inline int64_t wh__disk_stat(const struct wh__disk *disk, int from, const char *path,
                                    struct wh_stat *ret)
{
	return wh__disk_status(disk, from, path, true, ret);
}

static inline int64_t wh__disk_lock(struct wh__disk *disk, int fd)
{
	return wh__disk_flock(disk, fd, LOCK_EX);
}

/* A flush covers what was written when it began and makes it safe when it ends. -errno from _begin(): nothing
 * to end. The descriptor must stay open in between. */
struct wh__disk_flush;
int64_t wh__disk_flush_begin(struct wh__disk *disk, int fd, struct wh__disk_flush **ret);
/* fdatasync(2): not modes, owners and times */
void wh__disk_flush_data_only(struct wh__disk_flush *flush);
int64_t wh__disk_flush_end(struct wh__disk *disk, struct wh__disk_flush *flush);
/* The flush fails with error (positive): content that it covered is clean but not safe, in part by chance; names
 * stay as they were. */
int64_t wh__disk_flush_fail(struct wh__disk *disk, struct wh__disk_flush *flush, int error);
void wh__disk_flush_abandon(struct wh__disk *disk, struct wh__disk_flush *flush);

/* The process is gone: descriptors and locks are, the page cache is as it was. */
void wh__disk_close_all(struct wh__disk *disk);
/* Power is gone, too: what is not safe becomes what damage (enum wh_sim_damage) and chance make of it.
 * Calls wh__disk_close_all(). */
void wh__disk_power_cut(struct wh__disk *disk, int kind);

/* choose(arg) decides at the next power cuts what survives, see wh__sim_choose(); NULL: chance does. */
void wh__disk_choose(struct wh__disk *disk, bool (*choose)(void *arg), void *arg);
bool wh__disk_is_chosen(const struct wh__disk *disk);

/* A number that two disks of equal names and contents (as reads show them) share. For tests. */
uint64_t wh__disk_digest(const struct wh__disk *disk);

#endif
