/* name.h -- names and addresses, and connecting by name.
 *
 * Names are asked on the loop's own thread: no worker is held while a name server is slow. Numeric addresses,
 * "localhost" and names below it (RFC 6761 6.3) are answered without asking anybody; else the hosts file is read, then
 * the name servers of resolv.conf are asked (that file is read anew when it has changed). Names are ASCII: an
 * international one in its "xn--" form. -ENOSYS: the library was built without c-ares, and the name is to be asked.
 *
 * The words used here and the errors that every operation may give are told at the top of whilst.h, which includes
 * this header.
 */
#ifndef WHILST_NAME_H
#define WHILST_NAME_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

struct wh_address {
	struct sockaddr_storage address; /* with the port */
	socklen_t len;
};
/* The longest text of an address, its NUL included. */
enum { WH_ADDRESS_TEXT_MAX = 128 };
/* wh_parse_address() - an address as people write it, with its port: "127.0.0.1:80", "[::1]:0", "[fe80::1%eth0]:80",
 * "localhost:80" (127.0.0.1), "*:80" (every IPv4 address; "[::]:80": of IPv6 and, unless the system says otherwise, of
 * IPv4), "unix:/path", "unix:@name" (abstract). Nobody is asked: for other names there is wh_lookup(). Result 0, -EINVAL (none of
 * these), -ENAMETOOLONG (a path). Thread: any. */
WH_API int wh_parse_address(const char *text, struct wh_address *ret) WH_MUST_USE;
/* wh_format_address() - the same the other way: for messages, and for wh_parse_address(). max: the room at ret, with the NUL;
 * WH_ADDRESS_TEXT_MAX is always enough. Result: bytes without the NUL; -ENOSPC, -EAFNOSUPPORT, -EINVAL. Thread: any. */
WH_API int wh_format_address(const struct sockaddr *address, socklen_t len, char *ret, size_t max);
struct wh_addresses {
	size_t count;
	const char *name;                   /* the canonical name, or as asked */
	const struct wh_address *addresses; /* best first, RFC 6724 */
};
WH_API struct wh_addresses *
wh_addresses_free(struct wh_addresses *addresses); /* returns NULL, accepts NULL */

/* All-zero means defaults. Fields may be added at the end. Texts are borrowed for the call. */
struct wh_lookup_options {
	int family;         /* AF_INET or AF_INET6; AF_UNSPEC: both, and the answer waits for both */
	int64_t timeout_ns; /* for all of it, default 10 s; then -ETIMEDOUT. A server is asked anew after 2, 4, 8 s */
	const char *servers;          /* "127.0.0.1:5353,[::1]:53" instead of those in resolv.conf */
	const char *resolv_conf_path; /* default /etc/resolv.conf */
};

/* wh_lookup() - the addresses of a name.
 *
 * host     a name (up to 253 bytes), or an address of either family: fe80::1%eth0 too.
 * service  "443", or a name of services(5) for TCP; NULL: port 0.
 * options  may be NULL.
 *
 * Result   n = count, at least 1; ptr = struct wh_addresses *, given: wh_addresses_free().
 * Errors   -WH_ENAME_UNKNOWN, -WH_ENAME_NO_ADDRESS, -WH_ENAME_SERVER, -WH_ENAME_SERVICE, -ETIMEDOUT, -EINVAL (not a name;
 *          servers cannot be parsed), -ENOSYS.
 * Cancel   ends it at once; so does wh_drop().
 * Cost     a few system calls (resolv.conf and hosts are looked at each time) and two datagrams. A socket for each server
 *          while something is asked; none when nothing is.
 * Source   RFC 1034, 1035, 6724, 6761; getaddrinfo(3).
 */
WH_API wh_future wh_lookup(wh_loop *loop, const char *host, const char *service,
                           const struct wh_lookup_options *options);

/* wh_lookup_name() - the names of an address. options->family is not used. n = count, ptr = struct wh_names *, given:
 * wh_names_free(); the canonical name is first. Errors of wh_lookup(). Whoever owns the address can claim any name: look that
 * up in turn before trusting it. */
WH_API wh_future wh_lookup_name(wh_loop *loop, const struct sockaddr *address, socklen_t len,
                                const struct wh_lookup_options *options);

/* All-zero means defaults. Fields may be added at the end. */
struct wh_dial_options {
	int family;               /* AF_INET or AF_INET6 only; AF_UNSPEC: both */
	int64_t timeout_ns;       /* for all of it, names included, default 30 s; then -ETIMEDOUT */
	int64_t attempt_delay_ns; /* before the next address is tried as well, default 250 ms, at least 10 ms */
	const char *servers, *resolv_conf_path; /* as of wh_lookup_options */
	/* which addresses are tried, once the name has led to them; NULL: all. When none is: -WH_EADDRESS_REFUSED. Since it is asked
	 * for what is connected to, a name that leads elsewhere from one lookup to the next (DNS rebinding) gains nothing. Not asked
	 * for UNIX sockets that are named as such. */
	wh_address_function *allowed;
	void *allowed_arg;
};

/* wh_dial() - connect to a name.
 *
 * Asks for addresses of both families at once and tries them in turn, the families alternating, IPv6 first; a next one is
 * tried as soon as one has failed, or while it has not answered within attempt_delay_ns. The first to answer wins,
 * the others are closed ("Happy Eyeballs", RFC 8305).
 *
 * host     as of wh_lookup(); or "unix:/path" for a UNIX socket ("unix:@name": an abstract one), then service is NULL.
 * service  "443" or "https".
 *
 * Result   n = descriptor of a connected stream socket (closed if dropped).
 * Errors   those of wh_lookup(); those of wh_connect() as the last address gave it (an unreachable network is told only if all
 *          were); -ETIMEDOUT; -WH_EADDRESS_REFUSED.
 * Cancel   ends it at once.
 */
WH_API wh_future wh_dial(wh_loop *loop, const char *host, const char *service,
                         const struct wh_dial_options *options);

#ifdef __cplusplus
}
#endif
#endif
