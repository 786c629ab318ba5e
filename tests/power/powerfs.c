/* tests/power/powerfs.c -- a file system (FUSE) whose power can be cut: what was not flushed is then gone, under programs
 * that know nothing of it.
 *
 *     powerfs FOLDER [--strict] [--flush-us N]    stays in the foreground until the folder is unmounted
 *
 * Everything is in memory, twice: as programs see it, and as it is safe. fsync and fdatasync make the content and the size of
 * a file safe as they were when the call began; the call itself takes N us (default 100). Names (creating, renaming, removing)
 * are kept in one list in the order they were made, as a journal keeps them: any flush makes all earlier ones safe, as on
 * ext4 and XFS. --strict is the letter of POSIX instead: only a flush of the directory does.
 *
 * Text written to the file .power at the top:
 *     cut old SEED    nothing that is not safe survives: the page cache is lost whole
 *     cut mix SEED    write-back had come to some of it: each block not safe is new, old, or torn at a sector; names as far
 *                     as some place in the list
 *     cut new SEED    all of it survives: what kill -9 leaves
 *     eio N           the next N flushes of files fail with EIO, and what they were to flush counts as flushed from then on, as in the page
 *                     cache of Linux: it can be read, a later flush says that all is well, and the disk has never seen it. Reading
 *                     with O_DIRECT shows what the disk has
 *     delay US        a flush takes so long from now on
 * The programs that use the folder must have been killed before a cut. Reading .power gives counters.
 *
 * Thread: libfuse's workers, all behind one lock; a flush waits outside it, so writes go on meanwhile.
 */
#define FUSE_USE_VERSION 35

#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POWER_INO = 2 };

static void fill_attr(fuse_ino_t ino, struct stat *ret)
{
	*ret = (struct stat){.st_ino = ino, .st_nlink = 1, .st_blksize = DISK_BLOCK};
	if (ino == POWER_INO) {
		ret->st_mode = S_IFREG | 0600;
		return;
	}
	const struct node *node = disk_nodes[ino];
	ret->st_mode = node->mode;
	ret->st_uid = node->uid;
	ret->st_gid = node->gid;
	ret->st_size = node->size;
	ret->st_blocks = (node->size + DISK_SECTOR - 1) / DISK_SECTOR;
	ret->st_mtim = ret->st_ctim = ret->st_atim = node->changed;
}

static struct fuse_entry_param entry_of(fuse_ino_t ino)
{
	struct fuse_entry_param e = {.ino = ino, .generation = 1};
	fill_attr(ino, &e.attr);
	return e;
}

/* ---- what the kernel asks ----------------------------------------------------------------- */

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pthread_mutex_lock(&disk_lock);
	bool is_power = parent == DISK_ROOT_INO && strcmp(name, ".power") == 0;
	fuse_ino_t ino = is_power ? POWER_INO : disk_entries_find(&disk_nodes[parent]->now, name);
	struct fuse_entry_param e = {0};
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&disk_lock);
	if (ino != 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attr;
	pthread_mutex_lock(&disk_lock);
	fill_attr(ino, &attr);
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_attr(req, &attr, 0);
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
	struct stat result;
	pthread_mutex_lock(&disk_lock);
	struct node *node = disk_nodes[ino];
	if (node && to_set & FUSE_SET_ATTR_SIZE)
		disk_set_size(node, attr->st_size);
	if (node && to_set & FUSE_SET_ATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (attr->st_mode & 07777);
	if (node && to_set & FUSE_SET_ATTR_UID)
		node->uid = attr->st_uid;
	if (node && to_set & FUSE_SET_ATTR_GID)
		node->gid = attr->st_gid;
	if (node && to_set & FUSE_SET_ATTR_MTIME)
		node->changed = attr->st_mtim;
	fill_attr(ino, &result);
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_attr(req, &result, 0);
}

/* The new node's number, 0: the name is taken. The lock is held. */
static fuse_ino_t make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	fuse_ino_t ino = 0;
	if (disk_entries_find(&disk_nodes[parent]->now, name) != 0)
		return 0;
	(void)disk_node_new(mode, fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid, &ino);
	disk_change_name(parent, name, ino, false);
	return ino;
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&disk_lock);
	fuse_ino_t ino = make(req, parent, name, S_IFDIR | (mode & 07777));
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&disk_lock);
	if (ino != 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, EEXIST);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&disk_lock);
	fuse_ino_t ino = make(req, parent, name, mode);
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&disk_lock);
	if (ino != 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, EEXIST);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&disk_lock);
	fuse_ino_t ino = make(req, parent, name, S_IFREG | (mode & 07777));
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&disk_lock);
	if (ino != 0)
		fuse_reply_create(req, &e, fi);
	else
		fuse_reply_err(req, EEXIST);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pthread_mutex_lock(&disk_lock);
	fuse_ino_t ino = disk_entries_find(&disk_nodes[parent]->now, name);
	int error = ino == 0                                                           ? ENOENT
	            : S_ISDIR(disk_nodes[ino]->mode) && disk_nodes[ino]->now.count > 0 ? ENOTEMPTY
	                                                                               : 0;
	if (error == 0)
		disk_change_name(parent, name, 0, false);
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_err(req, error);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
	pthread_mutex_lock(&disk_lock);
	fuse_ino_t ino = disk_entries_find(&disk_nodes[parent]->now, name);
	int error = ino == 0 ? ENOENT : 0;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		error = EINVAL;
	else if (flags && disk_entries_find(&disk_nodes[new_parent]->now, new_name) != 0)
		error = EEXIST;
	if (error == 0) {
		disk_change_name(new_parent, new_name, ino, true);
		disk_change_name(parent, name, 0, false);
	}
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_err(req, error);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&disk_lock);
	bool is_taken = disk_entries_find(&disk_nodes[parent]->now, name) != 0;
	if (!is_taken) {
		disk_change_name(parent, name, ino, false);
		e = entry_of(ino);
	}
	pthread_mutex_unlock(&disk_lock);
	if (is_taken)
		fuse_reply_err(req, EEXIST);
	else
		fuse_reply_entry(req, &e);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = ino == POWER_INO;
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	char *buf = disk_must(malloc(size + 256));
	pthread_mutex_lock(&disk_lock);
	size_t len;
	if (ino == POWER_INO)
		len = at > 0 ? 0
		             : (size_t)snprintf(buf, 256,
		                                "writes %" PRIu64 " flushes %" PRIu64 " cuts %" PRIu64
		                                " unsafe names %zu failures %" PRIu64 "\n",
		                                disk_counts.writes, disk_counts.flushes, disk_counts.cuts,
		                                disk_unsafe_names(), disk_counts.failures);
	else
		len = disk_read(disk_nodes[ino], buf, size, at, fi->flags & O_DIRECT);
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_buf(req, buf, len < size ? len : size);
	free(buf);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t at,
                     struct fuse_file_info *fi)
{
	int error = 0;
	pthread_mutex_lock(&disk_lock);
	if (ino == POWER_INO)
		error = disk_command(buf, size);
	else
		disk_write(disk_nodes[ino], buf, size, at);
	pthread_mutex_unlock(&disk_lock);
	if (error != 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_write(req, size);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int only_data, struct fuse_file_info *fi)
{
	bool good = true;
	pthread_mutex_lock(&disk_lock);
	if (ino != POWER_INO && !S_ISDIR(disk_nodes[ino]->mode))
		good = disk_flush(disk_nodes[ino]);
	if (!disk_strict && good)
		disk_names_are_safe(0);
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_err(req, good ? 0 : EIO);
}

static void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int only_data, struct fuse_file_info *fi)
{
	pthread_mutex_lock(&disk_lock);
	disk_names_are_safe(disk_strict ? ino : 0);
	disk_counts.flushes++;
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_err(req, 0);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t at, off_t len,
                         struct fuse_file_info *fi)
{
	if (mode != 0) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	pthread_mutex_lock(&disk_lock);
	if (at + len > disk_nodes[ino]->size)
		disk_set_size(disk_nodes[ino], at + len);
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_err(req, 0);
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct entries *copy = disk_must(calloc(1, sizeof(*copy)));
	pthread_mutex_lock(&disk_lock);
	disk_entries_copy(copy, &disk_nodes[ino]->now);
	pthread_mutex_unlock(&disk_lock);
	fi->fh = (uintptr_t)copy;
	fuse_reply_open(req, fi);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	const struct entries *entries = (const struct entries *)(uintptr_t)fi->fh;
	char *buf = disk_must(malloc(size));
	size_t len = 0;
	pthread_mutex_lock(&disk_lock);
	for (size_t i = (size_t)at; i < entries->count + 2; i++) {
		struct stat attr = {.st_ino = ino, .st_mode = S_IFDIR};
		const char *name = i == 0 ? "." : "..";
		if (i >= 2) {
			name = entries->list[i - 2].name;
			fill_attr(entries->list[i - 2].ino, &attr);
		}
		size_t n = fuse_add_direntry(req, buf + len, size - len, name, &attr, (off_t)i + 1);
		if (n > size - len)
			break;
		len += n;
	}
	pthread_mutex_unlock(&disk_lock);
	fuse_reply_buf(req, buf, len);
	free(buf);
}

static void on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct entries *entries = (struct entries *)(uintptr_t)fi->fh;
	disk_entries_clear(entries);
	free(entries);
	fuse_reply_err(req, 0);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {.f_bsize = DISK_BLOCK,
	                     .f_frsize = DISK_BLOCK,
	                     .f_blocks = 1 << 22,
	                     .f_bfree = 1 << 21,
	                     .f_bavail = 1 << 21,
	                     .f_files = DISK_NODES_MAX,
	                     .f_ffree = DISK_NODES_MAX - disk_nodes_end,
	                     .f_namemax = 255};
	fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.mkdir = on_mkdir,
	.mknod = on_mknod,
	.create = on_create,
	.unlink = on_unlink,
	.rmdir = on_unlink,
	.rename = on_rename,
	.link = on_link,
	.open = on_open,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
	.fsyncdir = on_fsyncdir,
	.fallocate = on_fallocate,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.releasedir = on_releasedir,
	.statfs = on_statfs,
};

int main(int argc, char **argv)
{
	char options[] = "-oallow_other,default_permissions,fsname=powerfs";
	char *mount_argv[] = {argv[0], options};
	struct fuse_args args = FUSE_ARGS_INIT(2, mount_argv);
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--strict") == 0)
			disk_strict = true;
		else if (strcmp(argv[i], "--flush-us") == 0 && i + 1 < argc)
			disk_flush_us = (unsigned)strtoul(argv[++i], NULL, 10);
		else
			argc = 0;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: powerfs FOLDER [--strict] [--flush-us N]\n");
		return 2;
	}
	disk_nodes[DISK_ROOT_INO] = disk_must(calloc(1, sizeof(struct node)));
	disk_nodes[DISK_ROOT_INO]->mode = S_IFDIR | 0777;
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!session || fuse_session_mount(session, argv[1]) != 0) {
		fuse_session_destroy(session);
		return 77; /* no FUSE here */
	}
	(void)fuse_set_signal_handlers(session);
	printf("ready\n");
	fflush(stdout);
	struct fuse_loop_config config = {.clone_fd = 0, .max_idle_threads = 4};
	int status = fuse_session_loop_mt(session, &config);
	fuse_session_unmount(session);
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	return status != 0;
}
