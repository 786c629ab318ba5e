/* src/front/host.c -- which server does a request say that it is for? See host.h. */
#include "front/host.h"

#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"
#include "front/api.h"

enum { NAME_BYTES_MAX = 253 };

/* Without its port, and without the dot that a full name may end with. */
static struct wh_slice name_of(struct wh_slice host)
{
	const char *colon = host.len > 0 ? memrchr(host.data, ':', host.len) : NULL;

	if (colon && host.data[0] != '[')
		host.len = (size_t)(colon - host.data);
	if (host.len > 1 && host.data[host.len - 1] == '.')
		host.len--;
	return host;
}

static bool is_ipv4(struct wh_slice name)
{
	const char *at = name.data, *end = at + name.len;

	for (unsigned part = 0; part < 4; part++) {
		const char *dot = memchr(at, '.', (size_t)(end - at));
		const char *stop = part < 3 ? dot : end;
		uint64_t number;

		if (!stop || !wh__parse_u64(at, (size_t)(stop - at), 255, &number))
			return false;
		at = stop + 1;
	}
	return true;
}

static bool ends_with(struct wh_slice name, const char *end, size_t len)
{
	return name.len > len && strncasecmp(name.data + name.len - len, end, len) == 0;
}

bool host_is_ours(struct wh_slice host)
{
	static const char local[] = ".localhost";
	struct wh_slice name = name_of(host);

	if (name.len == 0 || name.data[0] == '[' || is_ipv4(name))
		return true; /* nobody's page has an address for its name but who has the address */
	return wh_slice_equal_caseless(name, local + 1) || ends_with(name, local, sizeof(local) - 1);
}

bool host_is_named(const struct hosts *hosts, struct wh_slice host)
{
	struct wh_slice name = name_of(host);

	for (unsigned i = 0; i < hosts->count; i++) {
		const char *known = hosts->names[i];

		if (known[0] == '*' ? known[1] == 0 || ends_with(name, known + 1, strlen(known + 1))
		                    : wh_slice_equal_caseless(name, known))
			return true;
	}
	return false;
}

bool host_valid(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len;

	if (strcmp(name, "*") == 0)
		return true;
	if (name[0] == '*' && name[1] == '.')
		name += 2;
	if (strlen(name) > NAME_BYTES_MAX)
		return false;
	for (;; name += len + 1) {
		len = strspn(name, letters);
		if (len == 0 || len > 63 || (name[len] && name[len] != '.'))
			return false;
		if (!name[len])
			return true;
	}
}

/* Whoever has gone already may have left work behind: it is judged like one that is there. */
static bool is_judged(struct api *api, const wh_http_exchange *x)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	if (wh_http_peer(x, &address, &len) != 0)
		return true;
	if (api->hosts.count > 0)
		return address.ss_family != AF_UNIX;
	if (address.ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)&address)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	if (address.ss_family == AF_INET6) {
		const struct in6_addr *ip = &((const struct sockaddr_in6 *)&address)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(ip) ||
		       (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == IN_LOOPBACKNET);
	}
	return false;
}

bool host_refused(struct api *api, wh_http_exchange *x)
{
	struct wh_slice host;

	/* with tokens, or a certificate for its name, a page of elsewhere gets nothing in any case */
	if (api->hosts.count == 0 && (api->tokens || wh_http_tls(x)))
		return false;
	host = wh_http_host(x);
	if (host_is_ours(host) || host_is_named(&api->hosts, host) || !is_judged(api, x))
		return false;
	answer_problem(
		api, x, PROBLEM_MISDIRECTED, NULL,
		"this server does not go by the name '%.*s'; if it should, name it in the setting hosts",
		(int)(host.len < 100 ? host.len : 100), host.data);
	return true;
}
