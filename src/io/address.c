/* src/io/address.c -- addresses as people write them, both ways, and listening by such a text. Pure but for that. Thread: any. */
#include "io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/units.h"

int wh__address_unix(const char *path, struct wh_address *ret)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len == 0 || len >= sizeof address.sun_path)
		return len == 0 ? -EINVAL : -ENAMETOOLONG;
	memcpy(address.sun_path, path, len);
	socklen_t address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	if (path[0] == '@') {
		address.sun_path[0] = 0;
		address_len--; /* an abstract name has no NUL at its end, unix(7) */
	}
	memset(ret, 0, sizeof *ret);
	memcpy(&ret->address, &address, address_len);
	ret->len = address_len;
	return 0;
}

static void set_v4(struct wh_address *ret, struct in_addr ip, uint16_t port)
{
	const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = ip, .sin_port = htons(port)};
	memset(ret, 0, sizeof *ret);
	memcpy(&ret->address, &v4, sizeof v4);
	ret->len = sizeof v4;
}

/* "[fe80::1%eth0]", without the brackets: a link-local address is one only together with its interface. */
static int set_v6(struct wh_address *ret, char *host, uint16_t port)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	char *zone = strchr(host, '%');
	uint64_t index = 0;
	if (zone) {
		*zone++ = 0;
		if (!wh__parse_u64(zone, strlen(zone), UINT32_MAX, &index))
			index = if_nametoindex(zone);
		if (index == 0)
			return -EINVAL;
	}
	v6.sin6_scope_id = (uint32_t)index;
	if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
		return -EINVAL;
	memset(ret, 0, sizeof *ret);
	memcpy(&ret->address, &v6, sizeof v6);
	ret->len = sizeof v6;
	return 0;
}

int wh_parse_address(const char *text, struct wh_address *ret)
{
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 3];
	struct in_addr v4;
	uint64_t port;
	if (!text)
		return -EINVAL;
	if (!strncmp(text, "unix:", 5))
		return wh__address_unix(text + 5, ret);
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : sizeof host;
	if (len >= sizeof host || !wh__parse_u64(colon + 1, strlen(colon + 1), 65535, &port))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = 0;
	if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = 0;
		return set_v6(ret, host + 1, (uint16_t)port);
	}
	if (!strcmp(host, "localhost"))
		v4.s_addr = htonl(INADDR_LOOPBACK);
	else if (!strcmp(host, "*"))
		v4.s_addr = htonl(INADDR_ANY);
	else if (inet_pton(AF_INET, host, &v4) != 1)
		return -EINVAL;
	set_v4(ret, v4, (uint16_t)port);
	return 0;
}

static int format_unix(const struct sockaddr_un *address, socklen_t len, char *to, size_t max)
{
	size_t bytes = len > offsetof(struct sockaddr_un, sun_path)
	                       ? len - offsetof(struct sockaddr_un, sun_path)
	                       : 0;
	if (bytes > sizeof address->sun_path)
		bytes = sizeof address->sun_path;
	if (bytes > 0 && address->sun_path[0] == 0)
		return snprintf(to, max, "unix:@%.*s", (int)bytes - 1, address->sun_path + 1);
	return snprintf(to, max, "unix:%.*s", (int)bytes, address->sun_path);
}

static int format_v6(const struct sockaddr_in6 *address, char *to, size_t max)
{
	char ip[INET6_ADDRSTRLEN], zone[16] = "";
	inet_ntop(AF_INET6, &address->sin6_addr, ip, sizeof ip);
	if (address->sin6_scope_id != 0)
		snprintf(zone, sizeof zone, "%%%u", address->sin6_scope_id);
	return snprintf(to, max, "[%s%s]:%u", ip, zone, ntohs(address->sin6_port));
}

int wh_format_address(const struct sockaddr *address, socklen_t len, char *ret, size_t max)
{
	struct sockaddr_storage room = {0};
	char text[WH_ADDRESS_TEXT_MAX], ip[INET_ADDRSTRLEN];
	int n;
	if (!address || !ret || len < sizeof(sa_family_t) || len > sizeof room)
		return -EINVAL;
	memcpy(&room, address, len);
	if (room.ss_family == AF_UNIX) {
		n = format_unix((const struct sockaddr_un *)&room, len, text, sizeof text);
	} else if (room.ss_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		n = format_v6((const struct sockaddr_in6 *)&room, text, sizeof text);
	} else if (room.ss_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)&room;
		inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof ip);
		n = snprintf(text, sizeof text, "%s:%u", ip, ntohs(v4->sin_port));
	} else {
		return -EAFNOSUPPORT;
	}
	if ((size_t)n >= max)
		return -ENOSPC;
	memcpy(ret, text, (size_t)n + 1);
	return n;
}

int wh_listen_text(wh_loop *loop, const char *text, const struct wh_listen_options *options)
{
	struct wh_address address;
	int error = wh_parse_address(text, &address);
	return error != 0 ? error
	                  : wh_listen(loop, (const struct sockaddr *)&address.address, address.len, options);
}
