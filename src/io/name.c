/* src/io/name.c -- names and addresses: what can be said without asking, and the operations around what must be asked.
 *
 * A lookup is one slot; its answer comes through wh__name_ask() (name_server.c), from the table of a simulated machine, or
 * at once. Its time-out is a timer of its own, because what asks repeats itself for longer.
 * Thread: loop. Memory: an answer is one allocation.
 */
#include "io/name.h"

#include "io/inner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_NS (10 * WH_NS_PER_S)

/* ---- answers ------------------------------------------------------------------------------ */

struct wh_addresses *wh__addresses_new(size_t count, const char *name)
{
	size_t name_len = strlen(name) + 1;
	struct wh_addresses *result = malloc(sizeof *result + count * sizeof(struct wh_address) + name_len);
	if (!result)
		return NULL;
	struct wh_address *addresses = (struct wh_address *)(void *)(result + 1);
	result->count = count;
	result->addresses = addresses;
	result->name = memcpy(addresses + count, name, name_len);
	return result;
}

void wh__address_set(struct wh_address *to, const struct sockaddr *address, socklen_t len, uint16_t port)
{
	*to = (struct wh_address){.len = len};
	memcpy(&to->address, address, len);
	if (address->sa_family == AF_INET6)
		((struct sockaddr_in6 *)&to->address)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)&to->address)->sin_port = htons(port);
}

struct wh_addresses *wh_addresses_free(struct wh_addresses *addresses)
{
	free(addresses);
	return NULL;
}

static struct wh_address *writable(struct wh_addresses *addresses, size_t i)
{
	return (struct wh_address *)(uintptr_t)&addresses->addresses[i];
}

/* ---- what needs no asking ----------------------------------------------------------------- */

static bool parse_ipv6(const char *host, struct sockaddr_in6 *ret)
{
	char text[INET6_ADDRSTRLEN + IF_NAMESIZE];
	size_t len = strlen(host);
	if (len >= sizeof text)
		return false;
	memcpy(text, host, len + 1);
	char *scope = strchr(text, '%');
	if (scope)
		*scope++ = 0;
	*ret = (struct sockaddr_in6){.sin6_family = AF_INET6};
	if (inet_pton(AF_INET6, text, &ret->sin6_addr) != 1)
		return false;
	if (!scope)
		return true;
	char *end;
	unsigned long number = strtoul(scope, &end, 10);
	ret->sin6_scope_id =
		*scope && !*end && number <= UINT32_MAX ? (uint32_t)number : if_nametoindex(scope);
	return ret->sin6_scope_id != 0; /* RFC 4007 11.2 */
}

static bool parse_numeric(const char *host, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
		memcpy(ret, &in, sizeof in);
		*ret_len = sizeof in;
		return true;
	}
	struct sockaddr_in6 in6;
	if (!parse_ipv6(host, &in6))
		return false;
	memcpy(ret, &in6, sizeof in6);
	*ret_len = sizeof in6;
	return true;
}

/* "localhost", "a.localhost", each with or without the last dot. */
static bool is_localhost(const char *host)
{
	static const char name[] = "localhost";
	size_t len = strlen(host), name_len = sizeof name - 1;
	if (len > 0 && host[len - 1] == '.')
		len--;
	return len >= name_len && !strncasecmp(host + len - name_len, name, name_len) &&
	       (len == name_len || host[len - name_len - 1] == '.');
}

/* What a name server could be asked for; not more than keeps a program's input from meaning something else. */
static bool is_name(const char *host)
{
	size_t len = strlen(host), label = 0;
	if (len == 0 || len > WH__NAME_MAX + 1 || (len == WH__NAME_MAX + 1 && host[len - 1] != '.'))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)host[i];
		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if (c <= ' ' || c >= 0x7f || strchr("%/:@[]\\", c) || ++label > 63) {
			return false;
		}
	}
	return true;
}

static int parse_service(const char *service, uint16_t *ret)
{
	struct servent entry, *found = NULL;
	char text[1024], *end;
	if (!service) {
		*ret = 0;
		return 0;
	}
	if (*service >= '0' && *service <= '9') {
		unsigned long port = strtoul(service, &end, 10);
		if (*end || port > UINT16_MAX)
			return -EINVAL;
		*ret = (uint16_t)port;
		return 0;
	}
	if (getservbyname_r(service, "tcp", &entry, text, sizeof text, &found) != 0 || !found)
		return -WH_ENAME_SERVICE;
	*ret = ntohs((uint16_t)found->s_port);
	return 0;
}

static int64_t answer_numeric(const struct wh__name_question *question,
                              const struct sockaddr_storage *address, socklen_t len, void **ret_ptr)
{
	if (question->family != AF_UNSPEC && question->family != address->ss_family)
		return -WH_ENAME_NO_ADDRESS;
	struct wh_addresses *result = wh__addresses_new(1, question->host);
	if (!result)
		return -ENOMEM;
	wh__address_set(writable(result, 0), (const struct sockaddr *)address, len, question->port);
	*ret_ptr = result;
	return 1;
}

static int64_t answer_localhost(const struct wh__name_question *question, void **ret_ptr)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wh_addresses *result = wh__addresses_new(2, question->host);
	if (!result)
		return -ENOMEM;
	result->count = 0;
	if (question->family != AF_INET)
		wh__address_set(writable(result, result->count++), (struct sockaddr *)&in6, sizeof in6,
		                question->port);
	if (question->family != AF_INET6)
		wh__address_set(writable(result, result->count++), (struct sockaddr *)&in, sizeof in,
		                question->port);
	*ret_ptr = result;
	return (int64_t)result->count;
}

static int64_t answer_from_table(wh_loop *loop, const struct wh__name_question *question, void **ret_ptr)
{
	struct sockaddr_storage found[16];
	int64_t n = loop->engine->lookup(loop, question->host, question->family, found, 16);
	if (n <= 0)
		return n < 0 ? n : -WH_ENAME_NO_ADDRESS;
	size_t count = n < 16 ? (size_t)n : 16;
	struct wh_addresses *result = wh__addresses_new(count, question->host);
	if (!result)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		wh__address_set(writable(result, i), (struct sockaddr *)&found[i],
		                found[i].ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
		                                               : sizeof(struct sockaddr_in),
		                question->port);
	*ret_ptr = result;
	return (int64_t)count;
}

/* ---- a lookup ----------------------------------------------------------------------------- */

struct lookup {
	struct wh__op *outer;
	struct wh__name_query *query; /* NULL: the answer is here, or comes from a table */
	struct wh__op *timer;
	struct wh__name_question question; /* of a table */
	char host[];
};

static void end(struct lookup *lookup, int64_t n, void *ptr)
{
	struct wh__op *outer = lookup->outer;
	wh__inner_timer_stop(lookup->timer);
	free(lookup);
	wh__op_complete(outer, n, ptr);
}

static void on_answer(void *arg, int64_t n, void *ptr)
{
	end(arg, n, ptr);
}

static void end_early(struct lookup *lookup, int64_t error)
{
	if (lookup->query)
		wh__name_forget(lookup->query);
	end(lookup, error, NULL);
}

static void on_timeout(wh_loop *loop, wh_res res, void *arg)
{
	struct lookup *lookup = arg;
	lookup->timer = NULL;
	end_early(lookup, res.n < 0 ? res.n : -ETIMEDOUT);
}

/* The time that it takes a simulated machine to look into its table. */
static void on_table(wh_loop *loop, wh_res res, void *arg)
{
	struct lookup *lookup = arg;
	void *ptr = NULL;
	lookup->timer = NULL;
	int64_t n = res.n < 0 ? res.n : answer_from_table(loop, &lookup->question, &ptr);
	end(lookup, n, ptr);
}

static void cancel(struct wh__op *outer)
{
	end_early(outer->second, -ECANCELED);
}

static void dispose_addresses(wh_res res, void *arg)
{
	wh_addresses_free(res.ptr);
}

static void dispose_names(wh_res res, void *arg)
{
	wh_names_free(res.ptr);
}

static int64_t deadline(wh_loop *loop, int64_t timeout_ns, int64_t otherwise)
{
	int64_t now = wh_clock(loop);
	if (timeout_ns <= 0)
		timeout_ns = otherwise;
	return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

/* The answer must be asked for. */
static wh_future ask(struct wh__op *outer, const struct wh__name_question *question, int64_t timeout_ns)
{
	wh_loop *loop = outer->loop;
	wh_future f = wh__op_future(outer);
	bool simulated = loop->engine->execute != NULL;
	if (simulated && (!question->host || !loop->engine->lookup))
		return wh__end(outer, -ENOSYS);
	size_t host_len = question->host ? strlen(question->host) + 1 : 0;
	struct lookup *lookup = malloc(sizeof *lookup + host_len);
	if (!lookup)
		return wh__end(outer, -ENOMEM);
	*lookup = (struct lookup){.outer = outer, .question = *question};
	if (question->host)
		lookup->question.host = memcpy(lookup->host, question->host, host_len);
	outer->second = lookup;
	outer->cancel_inner = cancel;
	if (simulated) {
		uint8_t dice;
		wh_random(loop, &dice, 1);
		lookup->timer = wh__inner_timer(loop, wh_clock(loop) + (1 + dice) * 10 * WH_NS_PER_US,
		                                on_table, lookup);
	} else {
		lookup->timer =
			wh__inner_timer(loop, deadline(loop, timeout_ns, TIMEOUT_NS), on_timeout, lookup);
	}
	if (!lookup->timer) {
		end(lookup, -EAGAIN, NULL);
	} else if (!simulated) {
		struct wh__name_query *query = wh__name_ask(loop, question, on_answer, lookup);
		if (query)
			lookup->query = query; /* else it has ended, and is free */
	}
	return f;
}

static bool good_family(int family)
{
	return family == AF_UNSPEC || family == AF_INET || family == AF_INET6;
}

wh_future wh_lookup(wh_loop *loop, const char *host, const char *service,
                    const struct wh_lookup_options *options)
{
	static const struct wh_lookup_options defaults;
	struct sockaddr_storage address;
	socklen_t len = 0;
	wh_future f;
	void *ptr = NULL;
	struct wh__op *outer = wh__begin(loop, WH__OP_LOOKUP, &f);
	if (!outer)
		return f;
	if (!options)
		options = &defaults;
	struct wh__name_question question = {.host = host,
	                                     .family = options->family,
	                                     .servers = options->servers,
	                                     .resolv_conf_path = options->resolv_conf_path};
	if (!host || !good_family(options->family))
		return wh__end(outer, -EINVAL);
	int64_t n = parse_service(service, &question.port);
	if (n < 0)
		return wh__end(outer, n);
	outer->dispose = dispose_addresses;
	if (parse_numeric(host, &address, &len))
		n = answer_numeric(&question, &address, len, &ptr);
	else if (!is_name(host))
		n = -EINVAL;
	else if (is_localhost(host))
		n = answer_localhost(&question, &ptr);
	else
		return ask(outer, &question, options->timeout_ns);
	f = wh__op_future(outer);
	wh__op_complete(outer, n, ptr);
	return f;
}

wh_future wh_lookup_name(wh_loop *loop, const struct sockaddr *address, socklen_t len,
                         const struct wh_lookup_options *options)
{
	static const struct wh_lookup_options defaults;
	wh_future f;
	struct wh__op *outer = wh__begin(loop, WH__OP_LOOKUP, &f);
	if (!outer)
		return f;
	if (!options)
		options = &defaults;
	bool good = address && len >= sizeof(sa_family_t) &&
	            ((address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) ||
	             (address->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)));
	if (!good)
		return wh__end(outer, -EINVAL);
	outer->dispose = dispose_names;
	struct wh__name_question question = {.address = address,
	                                     .address_len = len,
	                                     .servers = options->servers,
	                                     .resolv_conf_path = options->resolv_conf_path};
	return ask(outer, &question, options->timeout_ns);
}
