/* tests/fault/faults.h -- every function below the library that may fail, and how.
 *
 * FAULT(name, type of result, what it gives when it fails, parameters, arguments, errors...). A negative error is one
 * that the caller never sees: it is to be tried again, or does not matter. The names are those that the linker
 * knows; tests/fault/meson.build reads them from here.
 */
#define ALLOCATION ENOMEM

FAULT(malloc, void *, NULL, (size_t size), (size), ALLOCATION)
FAULT(calloc, void *, NULL, (size_t count, size_t size), (count, size), ALLOCATION)
FAULT(realloc, void *, NULL, (void *old, size_t size), (old, size), ALLOCATION)
FAULT(reallocarray, void *, NULL, (void *old, size_t count, size_t size), (old, count, size), ALLOCATION)
FAULT(aligned_alloc, void *, NULL, (size_t alignment, size_t size), (alignment, size), ALLOCATION)
FAULT(strdup, char *, NULL, (const char *text), (text), ALLOCATION)
FAULT(mmap64, void *, MAP_FAILED, (void *at, size_t len, int protection, int flags, int fd, off_t off),
      (at, len, protection, flags, fd, off), ENOMEM)

/* no guard, and at worst a canary; memory that is not given back */
FAULT(madvise, int, -1, (void *at, size_t len, int advice), (at, len, advice), -EINVAL)
FAULT(mprotect, int, -1, (void *at, size_t len, int protection), (at, len, protection), -ENOMEM)

FAULT(pread64, ssize_t, -1, (int fd, void *buf, size_t len, off_t off), (fd, buf, len, off), EIO, -EINTR)
FAULT(preadv64v2, ssize_t, -1, (int fd, const struct iovec *iov, int count, off_t off, int flags),
      (fd, iov, count, off, flags), EIO, -EINTR, -EAGAIN, -EOPNOTSUPP)
FAULT(pwritev64v2, ssize_t, -1, (int fd, const struct iovec *iov, int count, off_t off, int flags),
      (fd, iov, count, off, flags), EIO, -EINTR, -EOPNOTSUPP)
FAULT(pwrite64, ssize_t, -1, (int fd, const void *buf, size_t len, off_t off), (fd, buf, len, off), EIO,
      ENOSPC, -EINTR)
FAULT(pwritev64, ssize_t, -1, (int fd, const struct iovec *iov, int count, off_t off), (fd, iov, count, off),
      EIO, ENOSPC, -EINTR)
FAULT(fsync, int, -1, (int fd), (fd), EIO, ENOSPC)
FAULT(fdatasync, int, -1, (int fd), (fd), EIO, ENOSPC)
FAULT(ftruncate64, int, -1, (int fd, off_t len), (fd, len), EIO, -EINTR)
FAULT(fallocate64, int, -1, (int fd, int mode, off_t off, off_t len), (fd, mode, off, len), ENOSPC,
      EOPNOTSUPP, -EINTR)
FAULT(fstat64, int, -1, (int fd, struct stat *st), (fd, st), EIO)
FAULT(fstatvfs64, int, -1, (int fd, struct statvfs *vfs), (fd, vfs), EIO, -EINTR)
FAULT(flock, int, -1, (int fd, int how), (fd, how), ENOLCK, EWOULDBLOCK, -EINTR)
FAULT(unlink, int, -1, (const char *path), (path), EIO)
FAULT(preadv64, ssize_t, -1, (int fd, const struct iovec *iov, int count, off_t off), (fd, iov, count, off),
      EIO, -EINTR)
FAULT(readv, ssize_t, -1, (int fd, const struct iovec *iov, int count), (fd, iov, count), EIO, -EINTR)
FAULT(writev, ssize_t, -1, (int fd, const struct iovec *iov, int count), (fd, iov, count), EIO, -EINTR)
FAULT(sync_file_range, int, -1, (int fd, off_t off, off_t len, unsigned flags), (fd, off, len, flags), EIO,
      -EINTR)
FAULT(copy_file_range, ssize_t, -1,
      (int from, off_t *from_off, int to, off_t *to_off, size_t len, unsigned flags),
      (from, from_off, to, to_off, len, flags), EIO, -EINTR, -EXDEV, -ENOSYS)
FAULT(sendfile64, ssize_t, -1, (int to, int from, off_t *off, size_t len), (to, from, off, len), EIO, -EINTR,
      -EINVAL, -EAGAIN)
FAULT(statx, int, -1, (int fd, const char *path, int flags, unsigned mask, struct statx *st),
      (fd, path, flags, mask, st), EIO)
FAULT(renameat2, int, -1, (int a, const char *from, int b, const char *to, unsigned flags),
      (a, from, b, to, flags), EIO, ENOSPC)
FAULT(unlinkat, int, -1, (int at, const char *path, int flags), (at, path, flags), EIO)
FAULT(mkdirat, int, -1, (int at, const char *path, mode_t mode), (at, path, mode), ENOSPC)
FAULT(linkat, int, -1, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags),
      EIO, ENOSPC)
FAULT(symlinkat, int, -1, (const char *target, int at, const char *path), (target, at, path), ENOSPC)
FAULT(readlinkat, ssize_t, -1, (int at, const char *path, char *buf, size_t len), (at, path, buf, len), EIO)
FAULT(realpath, char *, NULL, (const char *path, char *buf), (path, buf), ENOMEM)
FAULT(faccessat, int, -1, (int at, const char *path, int mode, int flags), (at, path, mode, flags), EIO)
FAULT(fchmodat, int, -1, (int at, const char *path, mode_t mode, int flags), (at, path, mode, flags), EIO)
FAULT(fchmod, int, -1, (int fd, mode_t mode), (fd, mode), EIO)
FAULT(fchownat, int, -1, (int at, const char *path, uid_t user, gid_t group, int flags),
      (at, path, user, group, flags), EIO)
FAULT(fchown, int, -1, (int fd, uid_t user, gid_t group), (fd, user, group), EIO)
FAULT(utimensat, int, -1, (int at, const char *path, const struct timespec *times, int flags),
      (at, path, times, flags), EIO)
FAULT(futimens, int, -1, (int fd, const struct timespec *times), (fd, times), EIO)
FAULT(mkostemp64, int, -1, (char *path, int flags), (path, flags), EMFILE)
FAULT(mkdtemp, char *, NULL, (char *path), (path), ENOSPC)
FAULT(getdents64, ssize_t, -1, (int fd, void *buf, size_t len), (fd, buf, len), EIO, -EINTR)
FAULT(lseek64, off_t, -1, (int fd, off_t off, int from), (fd, off, from), EIO)
FAULT(opendir, DIR *, NULL, (const char *path), (path), EMFILE, ENOMEM)
FAULT(readdir64, struct dirent64 *, NULL, (DIR * dir), (dir), EIO)

FAULT(socket, int, -1, (int domain, int type, int protocol), (domain, type, protocol), EMFILE, ENOBUFS)
FAULT(bind, int, -1, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len), EADDRINUSE)
FAULT(listen, int, -1, (int fd, int backlog), (fd, backlog), EADDRINUSE)
FAULT(getsockname, int, -1, (int fd, struct sockaddr *a, socklen_t *len), (fd, a, len), ENOBUFS)
FAULT(getsockopt, int, -1, (int fd, int level, int name, void *value, socklen_t *len),
      (fd, level, name, value, len), ENOBUFS)
FAULT(connect, int, -1, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len), ECONNREFUSED,
      ENETUNREACH)
FAULT(accept4, int, -1, (int fd, struct sockaddr *a, socklen_t *len, int flags), (fd, a, len, flags), EMFILE,
      -EINTR, -ECONNABORTED)
FAULT(recv, ssize_t, -1, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags), ECONNRESET,
      -EINTR)
FAULT(send, ssize_t, -1, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags), EPIPE,
      -EINTR)
FAULT(sendmsg, ssize_t, -1, (int fd, const struct msghdr *m, int flags), (fd, m, flags), EPIPE, -EINTR)
FAULT(recvmsg, ssize_t, -1, (int fd, struct msghdr *m, int flags), (fd, m, flags), ECONNRESET, -EINTR)
FAULT(socketpair, int, -1, (int family, int type, int protocol, int fds[2]), (family, type, protocol, fds),
      EMFILE)
FAULT(getpeername, int, -1, (int fd, struct sockaddr *a, socklen_t *len), (fd, a, len), ENOBUFS)
FAULT(shutdown, int, -1, (int fd, int how), (fd, how), ENOTCONN)
FAULT(poll, int, -1, (struct pollfd * polls, nfds_t count, int ms), (polls, count, ms), ENOMEM, -EINTR)
FAULT(ppoll, int, -1, (struct pollfd * polls, nfds_t count, const struct timespec *ts, const sigset_t *set),
      (polls, count, ts, set), -EINTR)

FAULT(epoll_create1, int, -1, (int flags), (flags), EMFILE, ENOMEM)
FAULT(epoll_ctl, int, -1, (int epoll, int what, int fd, struct epoll_event *event), (epoll, what, fd, event),
      ENOMEM, ENOSPC)
FAULT(epoll_wait, int, -1, (int epoll, struct epoll_event *events, int max, int ms), (epoll, events, max, ms),
      -EINTR)
FAULT(epoll_pwait2, int, -1,
      (int epoll, struct epoll_event *events, int max, const struct timespec *ts, const sigset_t *set),
      (epoll, events, max, ts, set), -EINTR, -ENOSYS)
FAULT(eventfd, int, -1, (unsigned value, int flags), (value, flags), EMFILE, ENOMEM)
FAULT(pipe2, int, -1, (int fds[2], int flags), (fds, flags), EMFILE)
FAULT(getrandom, ssize_t, -1, (void *buf, size_t len, unsigned flags), (buf, len, flags), -EINTR)
FAULT(waitpid, pid_t, -1, (pid_t pid, int *status, int options), (pid, status, options), ECHILD)
/* It returns its error. */
FAULT(pthread_create, int, EAGAIN,
      (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg),
      (thread, attributes, run, arg), EAGAIN)
FAULT(close, int, close_anyway(fd), (int fd), (fd), -EINTR)

#undef ALLOCATION
