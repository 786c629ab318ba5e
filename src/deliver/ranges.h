/* src/deliver/ranges.h -- which addresses what users name may lead to: not those of this machine and of the networks around it.
 *
 * Whoever may configure a push or ask for a callback would otherwise have the server speak to what only the server can reach: its own
 * ports, a cloud's metadata, machines behind the firewall. An operator allows networks by name. It is judged when an address
 * is configured and again when a connection is about to be made, since a name can lead elsewhere by then. Pure; any thread.
 */
#ifndef WH_DELIVER_RANGES_H
#define WH_DELIVER_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { RANGES_MAX = 64 };

struct ranges_network {
	uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint8_t bits;        /* of these 128 */
};

struct ranges {
	bool allow_all;
	size_t count;
	struct ranges_network networks[RANGES_MAX]; /* that are allowed whatever they are */
};

/* ranges_add() - allow a network, "10.0.0.0/8", "fd00::/8", an address, or "all". false: it is none of these, or one too many. */
bool ranges_add(struct ranges *ranges, const char *text);

/* ranges_allow() - may a connection go there? Never to UNIX sockets. */
bool ranges_allow(const struct ranges *ranges, const struct sockaddr *address, socklen_t len);

/* ranges_allow_host() - the same of the host of a URL, brackets and port apart. A name is allowed here, and judged again by what it
 * leads to; "localhost" and names below it are not. */
bool ranges_allow_host(const struct ranges *ranges, const char *host, size_t len);

/* ranges_name() - what is wrong with an address: "loopback", "private"; NULL: nothing. */
const char *ranges_name(const uint8_t address[16]);

#endif
