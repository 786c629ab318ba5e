/* src/engine/sim_net.h -- the network of a simulated world: machines' addresses, paths, packets and sockets.
 *
 * sim_net.c carries packets along paths that may be slow, lossy or cut; sim_stream.c is what TCP and UNIX streams make of
 * them; sim_socket.c is what programs see. Used by: those, sim.h. Thread: the world's. Memory: sockets and packets are
 * malloc'ed; a socket lives until its number is closed and its peer knows.
 */
#ifndef WH_ENGINE_SIM_NET_H
#define WH_ENGINE_SIM_NET_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "engine/engine.h"
#include "engine/sim_random.h"
#include "whilst/sim.h"

/* Numbers of sockets: above those of files (sim_disk.h). */
enum { WH__SIM_SOCKET_FIRST = 1 << 21, WH__UNIX_PATH_MAX = sizeof(((struct sockaddr_un *)NULL)->sun_path) };

struct wh__address {
	sa_family_t family; /* AF_INET, AF_INET6; 0: none */
	uint16_t port;
	uint8_t ip[16]; /* IPv4: the first four */
};

/* A queue of bytes, which grows. */
struct wh__bytes {
	uint8_t *data;
	size_t max, start, len; /* max: a power of two */
};

enum wh__socket_state { WH__IDLE, WH__LISTENING, WH__CONNECTING, WH__CONNECTED, WH__DEAD };

struct wh__datagram {
	struct wh__datagram *next;
	struct wh__address source;
	size_t len;
	uint8_t bytes[];
};

struct wh__socket {
	struct wh__socket *next, *prev; /* of the machine, in the order they were made */
	wh_sim *machine;
	uint64_t id; /* never used again in this world: packets name it */
	int fd;      /* -1: not accepted yet, or closed */
	int family, type;
	uint8_t state; /* enum wh__socket_state */
	bool is_bound, reuse_port;
	bool is_pipe, writes;    /* an end of a pipe; the one that is written to */
	bool orphan;             /* closed by the program; goes when its peer knows */
	bool closing;            /* a close is under way */
	bool gone;               /* waits to be freed */
	bool resets;             /* SO_LINGER of zero: closing is a reset */
	bool receiving, sending; /* there is an operation of the kind */
	int options;             /* set ones: see sim_socket.c */
	int error;               /* positive errno, to be told once */
	struct wh__address local, peer;
	mode_t mode;
	char *path;            /* UNIX: bound to */
	struct wh__op *parked; /* operations that wait, through next and prev; oldest first */

	/* listening */
	struct wh__socket *queue, *queue_next; /* connections not accepted yet, oldest first */
	int queue_count, backlog;

	/* streams; positions count bytes from 0, and the end takes one */
	uint64_t peer_id;
	struct wh__bytes out;           /* not acknowledged, from position acked on */
	uint64_t acked, sent, window;   /* sent: up to here once; window: the peer has room up to here */
	bool ends, end_sent, end_acked; /* our end */
	struct wh__bytes in;
	uint64_t taken;        /* the next position that is expected */
	bool peer_ended, deaf; /* deaf: SHUT_RD */
	bool peer_gone;        /* UNIX: closed */
	int tries;
	int64_t retry_at, last_due;
	bool retry_queued;

	/* datagrams */
	struct wh__datagram *first, *last;
	size_t datagram_bytes;
};

/* The name of a UNIX socket in the file system; the socket may be gone. */
struct wh__unix_name {
	char *path;
	uint64_t id; /* of who is bound to it */
	mode_t mode;
};

/* A machine's place in the network. */
struct wh__host {
	size_t number; /* in paths */
	struct wh__address ipv4, ipv6;
	char text[48];
	uint16_t next_port;
	int64_t loopback_due; /* its packets to itself keep their order */
	struct wh__socket *first, *last;
	struct wh__socket **by_fd;
	size_t by_fd_count;
	struct wh__unix_name *unix_names;
	size_t unix_names_count;
};

struct wh__path {
	struct wh_sim_link link;
	bool is_cut;
	int64_t free_at; /* when what was sent before has left */
};

enum wh__packet_kind {
	WH__PACKET_CONNECT,   /* SYN */
	WH__PACKET_CONNECTED, /* SYN ACK */
	WH__PACKET_RESET,
	WH__PACKET_DATA,
	WH__PACKET_END,
	WH__PACKET_ACK,
	WH__PACKET_DATAGRAM,
	WH__PACKET_UNREACHABLE, /* nobody is bound to the port of a datagram */
	WH__PACKET_RETRY,       /* no packet: a timer of a socket */
};

struct wh__packet {
	int64_t due;
	uint64_t tie;
	uint8_t kind; /* enum wh__packet_kind */
	wh_sim *from, *to;
	struct wh__address source, destination;
	uint64_t source_id, destination_id; /* sockets */
	uint64_t position;                  /* of the first byte; WH__PACKET_ACK: of what is expected next */
	uint64_t window;
	size_t len;
	uint8_t bytes[];
};

struct wh__net {
	struct wh__path default_path;
	struct wh__path **paths; /* [from][to] */
	size_t hosts_max;
	struct wh__packet **packets; /* the one that arrives next is the last */
	size_t packets_count, packets_max;
	struct wh__socket **by_id; /* NULL: gone */
	size_t by_id_count, by_id_max;
	struct wh__socket *gone; /* to be freed, through next */
};

/* ---- sim_net.c ---- */

int wh__net_init(struct wh_sim_world *world);
void wh__net_fini(struct wh_sim_world *world);
/* The machine is put in the network; address: text or NULL. */
int wh__net_join(struct wh_sim_world *world, wh_sim *sim, const char *address);
void wh__net_leave(struct wh_sim_world *world, wh_sim *sim);
/* false and nothing done: none of these. */
bool wh__address_read(struct wh__address *ret, const struct sockaddr *address, socklen_t len);
void wh__address_write(const struct wh__address *address, struct sockaddr_storage *ret, socklen_t *ret_len);
bool wh__address_parse(struct wh__address *ret, const char *text);
bool wh__address_is_any(const struct wh__address *address);
bool wh__address_equal(const struct wh__address *a, const struct wh__address *b); /* without ports */
bool wh__address_is_local(const wh_sim *sim, const struct wh__address *address);
/* Where packets to address go; NULL: nowhere. */
wh_sim *wh__net_route(wh_sim *from, const struct wh__address *address);
struct wh__socket *wh__net_socket(struct wh_sim_world *world, uint64_t id);

/* A packet to fill in; NULL: no memory, which is as if it were lost. */
struct wh__packet *wh__packet_new(enum wh__packet_kind kind, const void *bytes, size_t len);
/* Takes the packet. s: the stream it belongs to, whose packets keep their order; NULL: none. */
void wh__net_send(struct wh_sim_world *world, struct wh__packet *packet, struct wh__socket *s);
/* At due, the socket is to look whether it must send again. */
void wh__net_retry_at(struct wh__socket *s, int64_t due);
/* What is due arrives. true: something was. */
bool wh__net_run(struct wh_sim_world *world);
/* When something is due next; INT64_MAX: never. */
int64_t wh__net_next(const struct wh_sim_world *world);
/* The longest that a packet and its answer take, for when to send again. */
int64_t wh__net_round_trip(wh_sim *from, wh_sim *to);

/* ---- sim_stream.c ---- */

void wh__stream_connect(struct wh__socket *s);
void wh__stream_arrive(struct wh_sim_world *world, struct wh__packet *packet);
void wh__stream_retry(struct wh__socket *s);
int64_t wh__stream_send(struct wh__socket *s, const void *bytes, size_t len);
int64_t wh__stream_receive(struct wh__socket *s, void *bytes, size_t len);
void wh__stream_end(struct wh__socket *s);
/* The program has closed it. s is gone or will be. */
void wh__stream_close(struct wh__socket *s);
void wh__stream_reset(struct wh__socket *s, int error);
/* Two sockets of one machine are connected at once: UNIX. listener's backlog has room. */
int wh__stream_join(struct wh__socket *s, struct wh__socket *listener);
size_t wh__stream_room(const struct wh__socket *s);

size_t wh__bytes_copy(const struct wh__bytes *bytes, size_t at, void *to, size_t len);
int wh__bytes_put(struct wh__bytes *bytes, const void *from, size_t len);
void wh__bytes_drop(struct wh__bytes *bytes, size_t len);

/* ---- sim_socket.c ---- */

struct wh__socket *wh__socket_new(wh_sim *sim, int family, int type);
/* It gets the lowest number that is free: that, or -ENOMEM. */
int wh__socket_give_fd(struct wh__socket *s);
/* Any port that nobody has: 0 or -EADDRINUSE. */
int wh__socket_choose_port(struct wh__socket *s);
void wh__socket_set_nodelay(struct wh__socket *s);
/* It is in no table any more; freed later. */
void wh__socket_gone(struct wh__socket *s);
void wh__socket_free(struct wh__socket *s);
/* What can go on now does. */
void wh__socket_wake(struct wh__socket *s);
struct wh__socket *wh__socket_listening(wh_sim *sim, const struct wh__address *address);
/* Is it bound to where this goes? */
bool wh__socket_hears(const struct wh__socket *s, const struct wh__address *destination);
struct wh__socket *wh__socket_of(const wh_sim *sim, int fd);
/* 0; -EBADF, or -ENOTSOCK: what a program has open there is none. */
int wh__socket_find(const wh_sim *sim, int fd, struct wh__socket **ret);
static inline bool wh__socket_is_number(int fd)
{
	return fd >= WH__SIM_SOCKET_FIRST;
}
/* One try; -EAGAIN: park it. */
int64_t wh__socket_attempt(struct wh__op *op, void **ret_ptr);
/* One receive and one send at a time: 0, -EBUSY, -EBADF. */
int wh__socket_enter(struct wh__op *op);
void wh__socket_leave(struct wh__op *op);
void wh__socket_park(struct wh__op *op);
void wh__socket_unpark(struct wh__op *op);
/* The program closes it: everything parked is cancelled. */
int64_t wh__socket_begin_close(wh_sim *sim, int fd);
int64_t wh__socket_close(wh_sim *sim, int fd);
/* recv(2) and send(2) without waiting. */
int64_t wh__socket_receive(struct wh__socket *s, const struct wh__op *op, void *buf, size_t len);
int64_t wh__socket_send(struct wh__socket *s, const struct wh__op *op, const void *buf, size_t len);
int64_t wh__socket_take_error(struct wh__socket *s); /* negative; told once */

/* ---- sim_pair.c ---- */

int wh__socket_pair(wh_loop *loop, int type, int ret[2]);
int wh__socket_pipe(wh_loop *loop, int ret[2]);
/* The ends of a pipe, as wh__socket_receive(), _send() and readiness. */
int64_t wh__pipe_receive(struct wh__socket *s, void *buf, size_t len);
int64_t wh__pipe_send(struct wh__socket *s, const void *buf, size_t len);
int wh__pipe_ready(const struct wh__socket *s);
/* May op be started on it? 0, -EBADF, -ENOTSOCK. */
int wh__pipe_takes(const struct wh__socket *s, const struct wh__op *op);
/* A call of files on the number of a socket or pipe. */
int64_t wh__socket_call(wh_sim *sim, struct wh__op *op);

/* ---- sim_message.c ---- */

/* peeks: it stays. ret_source, ret_truncated: may be NULL. */
int64_t wh__datagram_receive(struct wh__socket *s, const struct iovec *iov, size_t count, bool peeks,
                             struct wh__address *ret_source, bool *ret_truncated);
int64_t wh__datagram_send(struct wh__socket *s, const void *buf, size_t len,
                          const struct wh__address *destination);
/* WH__OP_RECV_FROM and _RECV_MESSAGE; WH__OP_SEND_MESSAGE. */
int64_t wh__message_take(struct wh__socket *s, struct wh__op *op);
int64_t wh__message_give(struct wh__socket *s, struct wh__op *op);
/* WH__OP_SEND_FILE: a piece, as much as the socket takes; -EAGAIN: none. */
int64_t wh__socket_send_file(wh_sim *sim, struct wh__op *op);
/* A datagram arrives. */
void wh__socket_datagram(struct wh_sim_world *world, struct wh__packet *packet);
void wh__socket_unreachable(struct wh_sim_world *world, const struct wh__packet *packet);
/* UNIX names. true: there was one. */
bool wh__socket_unlink_name(wh_sim *sim, const char *path);
bool wh__socket_has_name(const wh_sim *sim, const char *path, mode_t *ret_mode);
struct wh__socket *wh__socket_unix_listener(const wh_sim *sim, const char *path);
/* The path of a UNIX address, which need not end with a zero byte; of an abstract name the first byte is @, as Linux
 * shows it. false: it has none. */
bool wh__socket_read_path(char ret[WH__UNIX_PATH_MAX + 1], const struct sockaddr *address, socklen_t len);
/* The process ended, by itself or with the machine. */
void wh__socket_close_all(wh_sim *sim);
void wh__socket_forget_all(wh_sim *sim);
/* Ends what is parked of loop. */
void wh__socket_end_parked(wh_sim *sim, wh_loop *loop, int64_t error);

extern const struct wh__sockets wh__sim_sockets;

#endif
