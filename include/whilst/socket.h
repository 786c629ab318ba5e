/* socket.h -- sockets, and readiness of foreign descriptors.
 *
 * At most one receive and one send may be outstanding per descriptor. Of a second one: -EBUSY. Of datagrams with an address or
 * descriptors (wh_send_to(), wh_recv_from(), messages) there may be any number. End of stream is n = 0; a reset is -ECONNRESET;
 * SIGPIPE is never raised. Descriptors made here are non-blocking and close-on-exec; those from elsewhere may block, and
 * no operation will. Addresses are copied.
 *
 * Errors of all that take a socket: -EBADF, -ENOTSOCK. Of receiving: -ENOTCONN (also of a socket that listens; at once), -ECONNRESET,
 * -ETIMEDOUT (keep-alive, or what was sent is not acknowledged: the peer's machine went), -ECONNREFUSED (an answer to an earlier
 * datagram). Of sending: -EPIPE (shut down here or by the peer; TCP: never connected), -ECONNRESET, -ENOTCONN (of a socket that listens,
 * too), -ETIMEDOUT and -ECONNREFUSED (as of receiving), -EDESTADDRREQ,
 * -EMSGSIZE (a datagram too long), -ENETUNREACH, -EHOSTUNREACH, -EACCES (what the routing table forbids). They are not repeated
 * below. A time limit is wh_deadline(), which gives -ETIMEDOUT.
 *
 * A cancelled receive has taken nothing, except of wh_recv_all(). On a simulated machine
 * wh_socket_pair() knows SOCK_STREAM only (-EPROTONOSUPPORT), descriptors in messages give -EOPNOTSUPP, multicast -ENOPROTOOPT.
 */
#ifndef WHILST_SOCKET_H
#define WHILST_SOCKET_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- make, bind, listen: never wait; descriptor or 0, or -errno -------------------------------- */

/* wh_socket() - socket(2), SOCK_NONBLOCK and SOCK_CLOEXEC added. -EAFNOSUPPORT, -EPROTONOSUPPORT, -EMFILE, -ENFILE */
WH_API int wh_socket(wh_loop *loop, int family, int type, int protocol) WH_MUST_USE;
/* two connected UNIX sockets of type SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET; socketpair(2). -EMFILE, -ENFILE */
WH_API int wh_socket_pair(wh_loop *loop, int type, int ret[2]) WH_MUST_USE;
/* bind(2). -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EINVAL (bound already); of a UNIX socket's file those of a path, file.h:
 * -ENOENT ... */
WH_API int wh_bind(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len) WH_MUST_USE;

struct wh_listen_options {
	int backlog;      /* default 4,096; the kernel's limit is net.core.somaxconn */
	bool reuse_port;  /* SO_REUSEPORT */
	mode_t unix_mode; /* UNIX sockets: permissions, default 0600 */
};
/* wh_listen() - a stream socket that is bound and listens. A UNIX socket file that nobody listens on is replaced; a name
 * whose first byte is 0 is abstract and needs no file. options may be NULL. -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE; of a UNIX
 * socket's file those of a path, file.h: -ENOENT */
WH_API int wh_listen(wh_loop *loop, const struct sockaddr *address, socklen_t len,
                     const struct wh_listen_options *options) WH_MUST_USE;
/* wh_listen_text() - wh_listen() at an address as text, see wh_parse_address(): "127.0.0.1:0", "[::1]:0", "*:8080",
 * "unix:/path". Errors of wh_listen(), wh_parse_address(). */
WH_API int wh_listen_text(wh_loop *loop, const char *address,
                          const struct wh_listen_options *options) WH_MUST_USE;
/* wh_listen_on() - the same for a socket that is bound already (of any type that has connections); listen(2).
 * -EOPNOTSUPP, -EADDRINUSE */
WH_API int wh_listen_on(wh_loop *loop, int fd, int backlog) WH_MUST_USE;
/* wh_local_address() - where a socket is bound: the port that was chosen for 0. 0 or -errno; getsockname(2). */
WH_API int wh_local_address(wh_loop *loop, int fd, struct sockaddr_storage *ret,
                            socklen_t *ret_len) WH_MUST_USE;
/* wh_peer_address() - whom a socket is connected to; getpeername(2). -ENOTCONN */
WH_API int wh_peer_address(wh_loop *loop, int fd, struct sockaddr_storage *ret,
                           socklen_t *ret_len) WH_MUST_USE;
/* of a process */
struct wh_credentials {
	pid_t pid;
	uint32_t user, group;
};
/* wh_peer_credentials() - who is at the other end of a UNIX connection, as of when it was made; SO_PEERCRED, unix(7).
 * -ENOTCONN when there is no other end */
WH_API int wh_peer_credentials(wh_loop *loop, int fd, struct wh_credentials *ret) WH_MUST_USE;

/* ---- options: never wait; 0 or -errno ----------------------------------------------------------- */

enum wh_option {
	WH_NODELAY,            /* 0, 1; TCP_NODELAY; 1 for sockets of wh_connect() and wh_accept() */
	WH_KEEPALIVE,          /* 0, 1; SO_KEEPALIVE */
	WH_KEEPALIVE_IDLE_NS,  /* until the first probe; whole seconds, rounded up; TCP_KEEPIDLE */
	WH_KEEPALIVE_EVERY_NS, /* between probes; likewise; TCP_KEEPINTVL */
	WH_KEEPALIVE_PROBES,   /* that are not answered until -ETIMEDOUT; TCP_KEEPCNT */
	WH_USER_TIMEOUT_NS, /* sent bytes not acknowledged until -ETIMEDOUT; milliseconds; TCP_USER_TIMEOUT */
	WH_LINGER_NS,       /* -1: off; 0: closing resets the connection; else whole seconds; SO_LINGER */
	WH_REUSE_ADDRESS,   /* 0, 1; SO_REUSEADDR; 1 for sockets of wh_listen() */
	WH_REUSE_PORT,      /* 0, 1; SO_REUSEPORT */
	WH_SEND_BUFFER,     /* bytes; reading it gives twice what was set, socket(7); SO_SNDBUF */
	WH_RECEIVE_BUFFER,  /* bytes; likewise; SO_RCVBUF */
	WH_IPV6_ONLY,       /* 0, 1; IPV6_V6ONLY */
	WH_BROADCAST,       /* 0, 1; SO_BROADCAST */
	WH_MULTICAST_HOPS,  /* 0..255; IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS */
	WH_MULTICAST_LOOP,  /* 0, 1: members on this machine hear it, too; IP_MULTICAST_LOOP and of IPv6 */
	WH_MULTICAST_INTERFACE, /* index of the interface to send by, if_nametoindex(3); IP_MULTICAST_IF and of IPv6 */
	WH_PASS_CREDENTIALS /* 0, 1; SO_PASSCRED */
};
/* -EINVAL: no such option, or a value that it does not have; -EOPNOTSUPP, -ENOPROTOOPT: not of this kind of socket */
WH_API int wh_set_option(wh_loop *loop, int fd, int option, int64_t value) WH_MUST_USE;
/* the value that it has now. -EINVAL, -EOPNOTSUPP: as above */
WH_API int wh_get_option(wh_loop *loop, int fd, int option, int64_t *ret) WH_MUST_USE;
/* any other: setsockopt(2), getsockopt(2); *len is the room, then what came. -ENOPROTOOPT, -EOPNOTSUPP */
WH_API int wh_set_option_raw(wh_loop *loop, int fd, int level, int name, const void *value,
                             socklen_t len) WH_MUST_USE;
WH_API int wh_get_option_raw(wh_loop *loop, int fd, int level, int name, void *ret,
                             socklen_t *len) WH_MUST_USE;
/* wh_join_group() - receive what is sent to a multicast group, an IPv4 or IPv6 address whose port does not matter.
 * interface: index, 0: the kernel chooses. MCAST_JOIN_GROUP, ip(7). -EADDRINUSE: joined already; -ENODEV: no such interface;
 * -EINVAL: no group. */
WH_API int wh_join_group(wh_loop *loop, int fd, const struct sockaddr *group, socklen_t len,
                         unsigned int interface_index) WH_MUST_USE;
/* wh_leave_group() - the other way. -EADDRNOTAVAIL: not joined */
WH_API int wh_leave_group(wh_loop *loop, int fd, const struct sockaddr *group, socklen_t len,
                          unsigned int interface_index) WH_MUST_USE;

/* ---- connect ------------------------------------------------------------------------------------ */

/* wh_accept() - n = descriptor (closed if dropped). What ends a connection before it is taken is not seen. -EMFILE,
 * -ENFILE, -ENOBUFS, -ENOMEM: no descriptor or no memory is left; the connection stays in the backlog. Wait, for some
 * milliseconds or until a descriptor has been closed, before the next accept: it would fail at once in the same way.
 * -EINVAL: does not listen; -EOPNOTSUPP: has no connections. */
WH_API wh_future wh_accept(wh_loop *loop, int fd);
/* wh_accept_from() - the same, and whose connection it is: *ret_address and *ret_len are borrowed, and undefined unless
 * n >= 0. Of a UNIX peer without a name *ret_len is that of the family alone. Errors of wh_accept(). */
WH_API wh_future wh_accept_from(wh_loop *loop, int fd, struct sockaddr_storage *ret_address,
                                socklen_t *ret_len);
/* wh_connect() - n = descriptor of a new stream socket (closed if dropped). -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT, -ENETUNREACH,
 * -EHOSTUNREACH, -EACCES, -ENOENT (a UNIX socket), -EADDRNOTAVAIL (no port left), -EAFNOSUPPORT, -EMFILE */
WH_API wh_future wh_connect(wh_loop *loop, const struct sockaddr *address, socklen_t len);
/* wh_connect_on() - the same with a socket of the caller's, of any type, which stays open whatever happens: for a local
 * address, options, or datagrams with one peer. n = 0. Errors of wh_connect(), and -EISCONN, -EALREADY (of a cancelled
 * one: the socket goes on with it), -EPROTOTYPE. */
WH_API wh_future wh_connect_on(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len);
/* how: SHUT_RD, SHUT_WR, SHUT_RDWR; shutdown(2). 0, -ENOTCONN */
WH_API int wh_shutdown(wh_loop *loop, int fd, int how);

/* ---- streams ------------------------------------------------------------------------------------ */

WH_API wh_future wh_recv(wh_loop *loop, int fd, void *buf, size_t len); /* borrows buf */
/* borrows buf; n = len, or less at the end of the stream, or an error: then bytes may have been taken */
WH_API wh_future wh_recv_all(wh_loop *loop, int fd, void *buf, size_t len);
/* borrows buf; what the next receive will give, and leaves it there */
WH_API wh_future wh_peek(wh_loop *loop, int fd, void *buf, size_t len);
/* borrows what iov points to, copies iov (<= 16, else -EINVAL) */
WH_API wh_future wh_recvv(wh_loop *loop, int fd, const struct iovec *iov, int count);
/* ptr = a pooled buffer with n bytes, given: wh_buf_put(); at the end n = 0 and ptr = NULL. An idle connection
 * holds none. -ENOBUFS at buffers_max. */
WH_API wh_future wh_recv_buf(wh_loop *loop, int fd);
/* borrows; may be short */
WH_API wh_future wh_send(wh_loop *loop, int fd, const void *buf, size_t len);
/* borrows; n = len or an error */
WH_API wh_future wh_send_all(wh_loop *loop, int fd, const void *buf, size_t len);
/* borrows what iov points to, copies iov (<= 16, else -EINVAL); n = all or an error */
WH_API wh_future wh_sendv_all(wh_loop *loop, int fd, const struct iovec *iov, int count);
/* wh_send_file() - send len bytes of a file (open for reading) from off on; n = bytes, fewer only at the end of the file, or
 * an error: then some may have gone. Workers do it and may wait for the disk; the loop never does. No other send may be
 * started on fd until it has completed, and file must stay open. sendfile(2), where the socket does not block and the file
 * can; else the bytes pass through memory. -ESPIPE: file has no offsets; -EBADF: it is not open for reading. Datagrams become as long as the
 * socket takes. */
WH_API wh_future wh_send_file(wh_loop *loop, int fd, int file, uint64_t off, uint64_t len);

/* ---- messages: datagrams, and what comes with bytes ---------------------------------------------- */

struct wh_from {
	struct sockaddr_storage address;
	socklen_t address_len; /* 0: the sender has no address */
	bool truncated;        /* the datagram was longer than buf; the rest of it is lost */
};
/* borrows buf and *ret_from; n = bytes */
WH_API wh_future wh_recv_from(wh_loop *loop, int fd, void *buf, size_t len, struct wh_from *ret_from);
/* borrows buf; address NULL: the peer that the socket is connected to. n = bytes, all of them for datagrams. -EISCONN: it has
 * one, and takes no other address; -EADDRNOTAVAIL: it is not bound, and no port is left */
WH_API wh_future wh_send_to(wh_loop *loop, int fd, const void *buf, size_t len,
                            const struct sockaddr *address, socklen_t address_len);

struct wh_message {
	const struct iovec *iov; /* what it points to is borrowed; iov itself is copied */
	int iov_count;           /* 1..16, else -EINVAL */
	struct sockaddr_storage address;
	socklen_t address_len; /* sending: 0 for the connected peer */
	int *descriptors;      /* UNIX sockets: to pass, or room for those that come; may be NULL */
	int descriptor_count;  /* how many, at most 16; receiving: the room, then what came */
	bool truncated, descriptors_lost; /* receiving: there was not enough room */
};
/* wh_recv_message() - *message is borrowed and filled in. Descriptors that come are close-on-exec and the caller's to close;
 * those without room are closed. Of a stream, too: n = bytes. -EINVAL. unix(7) */
WH_API wh_future wh_recv_message(wh_loop *loop, int fd, struct wh_message *message);
/* wh_send_message() - *message is copied; descriptors are passed as duplicates, and may be closed once it has completed. Of a
 * stream, too: n = bytes, may be short. -EISCONN, -EADDRNOTAVAIL: as of wh_send_to(); -EBADF: a descriptor; -ETOOMANYREFS: too
 * many of this user's are on their way; -EINVAL. unix(7) */
WH_API wh_future wh_send_message(wh_loop *loop, int fd, const struct wh_message *message);

/* ---- readiness ---------------------------------------------------------------------------------- */

/* events: POLLIN, POLLOUT; n = those that are ready. For foreign descriptors (libpq, c-ares). -EBADF, -EINVAL (no event) */
WH_API wh_future wh_ready(wh_loop *loop, int fd, int events);

#ifdef __cplusplus
}
#endif
#endif
