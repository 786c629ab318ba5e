/* src/deliver/ranges.c -- which addresses what users name may lead to. See ranges.h.
 *
 * The ranges are those of the IANA special-purpose address registries (RFC 6890) that are not for everybody, multicast, and every way to
 * write an IPv4 address as one of IPv6: mapped, NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).
 */
#include "deliver/ranges.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"

static const struct {
	const char *name;
	uint8_t address[4], bits;
} four[] = {
	{"this network", {0}, 8},
	{"private", {10}, 8},
	{"shared", {100, 64}, 10},
	{"loopback", {127}, 8},
	{"link-local", {169, 254}, 16},
	{"private", {172, 16}, 12},
	{"special", {192, 0, 0}, 24},
	{"documentation", {192, 0, 2}, 24},
	{"special", {192, 88, 99}, 24},
	{"private", {192, 168}, 16},
	{"benchmark", {198, 18}, 15},
	{"documentation", {198, 51, 100}, 24},
	{"documentation", {203, 0, 113}, 24},
	{"multicast", {224}, 4},
	{"reserved", {240}, 4}, /* broadcast too */
};

/* The rest of IPv6 that is not 2000::/3 is nobody's; what is in there and special comes first. */
static const struct {
	const char *name;
	uint8_t address[16], bits;
} six[] = {
	{"unspecified", {0}, 128},
	{"loopback", {[15] = 1}, 128},
	{"discard", {0x01}, 64},
	{"special", {0x20, 0x01, 0x00}, 23}, /* Teredo, ORCHID, benchmark */
	{"documentation", {0x20, 0x01, 0x0d, 0xb8}, 32},
	{"documentation", {0x3f, 0xff}, 20},
	{"segment routing", {0x5f}, 16},
	{"unique local", {0xfc}, 7},
	{"link-local", {0xfe, 0x80}, 10},
	{"site-local", {0xfe, 0xc0}, 10},
	{"multicast", {0xff}, 8},
};

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_in(const uint8_t *address, const uint8_t *network, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(address, network, bytes) != 0)
		return false;
	return rest == 0 || (address[bytes] ^ network[bytes]) >> (8 - rest) == 0;
}

static const char *name_of_four(const uint8_t *address)
{
	for (size_t i = 0; i < sizeof(four) / sizeof(four[0]); i++) {
		if (is_in(address, four[i].address, four[i].bits))
			return four[i].name;
	}
	return NULL;
}

/* Where an IPv4 address stands in one of IPv6 that leads to it; NULL: it is no such address. */
static const uint8_t *four_within(const uint8_t address[16])
{
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b},
			     local_nat64[6] = {0x00, 0x64, 0xff, 0x9b, 0, 1}, six_to_four[2] = {0x20, 0x02};

	if (memcmp(address, mapped, 12) == 0 || memcmp(address, nat64, 12) == 0)
		return address + 12;
	if (memcmp(address, local_nat64, 6) == 0)
		return address + 12;
	if (memcmp(address, six_to_four, 2) == 0)
		return address + 2;
	return NULL;
}

const char *ranges_name(const uint8_t address[16])
{
	const uint8_t *within = four_within(address);

	for (size_t i = 0; i < sizeof(six) / sizeof(six[0]); i++) {
		if (is_in(address, six[i].address, six[i].bits))
			return six[i].name;
	}
	if (within)
		return name_of_four(within);
	return address[0] >> 5 == 1 ? NULL : "reserved"; /* 2000::/3 */
}

static bool is_allowed(const struct ranges *ranges, const uint8_t address[16])
{
	if (ranges->allow_all || !ranges_name(address))
		return true;
	for (size_t i = 0; i < ranges->count; i++) {
		if (is_in(address, ranges->networks[i].address, ranges->networks[i].bits))
			return true;
	}
	return false;
}

/* Any address as one of IPv6. false: it is none. */
static bool parse(const char *text, uint8_t ret[16], bool *ret_four)
{
	memcpy(ret, mapped, 12);
	*ret_four = inet_pton(AF_INET, text, ret + 12) == 1;
	return *ret_four || inet_pton(AF_INET6, text, ret) == 1;
}

bool ranges_add(struct ranges *ranges, const char *text)
{
	struct ranges_network network;
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	uint64_t bits = 0;
	char address[64];
	bool is_four;

	if (strcmp(text, "all") == 0) {
		ranges->allow_all = true;
		return true;
	}
	if (len >= sizeof(address) || ranges->count == RANGES_MAX)
		return false;
	memcpy(address, text, len);
	address[len] = 0;
	if (!parse(address, network.address, &is_four))
		return false;
	bits = is_four ? 32 : 128;
	if (slash && !wh__parse_u64(slash + 1, strlen(slash + 1), bits, &bits))
		return false;
	network.bits = (uint8_t)(bits + (is_four ? 96 : 0));
	ranges->networks[ranges->count++] = network;
	return true;
}

bool ranges_allow(const struct ranges *ranges, const struct sockaddr *address, socklen_t len)
{
	uint8_t bytes[16];

	if (address->sa_family == AF_INET && len >= (socklen_t)sizeof(struct sockaddr_in)) {
		memcpy(bytes, mapped, 12);
		memcpy(bytes + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
	} else if (address->sa_family == AF_INET6 && len >= (socklen_t)sizeof(struct sockaddr_in6)) {
		memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
	} else {
		return false;
	}
	return is_allowed(ranges, bytes);
}

static bool is_localhost(const char *host, size_t len)
{
	static const char name[] = "localhost";
	const size_t n = sizeof(name) - 1;

	if (len > 0 && host[len - 1] == '.')
		len--;
	return len >= n && strncasecmp(host + len - n, name, n) == 0 &&
	       (len == n || host[len - n - 1] == '.');
}

bool ranges_allow_host(const struct ranges *ranges, const char *host, size_t len)
{
	uint8_t bytes[16];
	char text[64];
	bool is_four;

	if (ranges->allow_all)
		return true;
	if (len < sizeof(text)) {
		memcpy(text, host, len);
		text[len] = 0;
		if (parse(text, bytes, &is_four))
			return is_allowed(ranges, bytes);
	}
	if (!is_localhost(host, len))
		return true;
	/* what it leads to is judged again */
	for (size_t i = 0; i < ranges->count; i++) {
		const struct ranges_network *network = &ranges->networks[i];
		static const uint8_t one[16] = {[15] = 1},
				     one_of_four[16] = {[10] = 0xff, 0xff, 127, 0, 0, 1};

		if (is_in(one, network->address, network->bits) ||
		    is_in(one_of_four, network->address, network->bits))
			return true;
	}
	return false;
}
