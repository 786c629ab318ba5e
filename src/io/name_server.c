/* src/io/name_server.c -- asking name servers: c-ares, driven by the loop.
 *
 * A channel is what c-ares knows of one configuration (servers, resolv.conf): its questions under way, its sockets. A loop
 * has one for each configuration that is asked for, as a rule one; when resolv.conf has changed a new one takes its place,
 * and the old one goes once its questions are answered. c-ares keeps sockets only while it asks.
 *
 * c-ares tells which sockets it wants watched; after each call into it the watches and its timer are brought into line (leave()).
 * It cannot take one question back: a question that is forgotten goes on until it ends by itself, unless it is the last
 * one, then all of the channel is cancelled; so what nobody waits for does not keep a loop running. None of that
 * is done while c-ares is calling us.
 *
 * Depends on: inner.h, c-ares >= 1.18.  Thread: loop.  Memory: c-ares takes it from malloc().
 */
#include "io/inner.h"
#include "io/name.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { TRY_MS = 2000, TRIES = 3, IDLE_CHANNELS_MAX = 4 };
static const char default_path[] = "/etc/resolv.conf";

/* What tells one content of a file from another. */
struct identity {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed;
};

/* A socket of c-ares. It lives until c-ares has closed it and the loop no longer watches it. */
struct watch {
	struct watch *next;
	struct channel *channel; /* NULL: closed */
	int fd;
	int wanted, armed; /* events: what c-ares wants; what the loop watches, 0: nothing */
	bool cancelling;   /* what is armed is not what is wanted */
	bool refused;      /* an earlier datagram was */
	wh_future ready;
};

struct channel {
	struct channel *next;
	wh_loop *loop;
	ares_channel ares;
	struct watch *watches;
	struct wh__op *timer;
	uint32_t query_count;    /* questions that c-ares has */
	uint32_t attached_count; /* of them, those whose answer is wanted */
	uint32_t depth;          /* of calls into c-ares */
	int64_t error;           /* why all questions are being cancelled; 0: they are not */
	struct identity identity;
	bool retired;  /* no new questions: resolv.conf has changed */
	char *servers; /* "": those of path */
	char path[];
};

struct wh__names {
	struct channel *channels;
	bool closing; /* no loop turns any more */
};

struct wh__name_query {
	struct channel *channel;
	wh__name_answer *answer;
	void *arg; /* with answer NULL: forgotten */
	uint16_t port;
	char host[]; /* to be told when there is no canonical name */
};

static int64_t error_of(const struct channel *channel, int status)
{
	switch (status) {
	case ARES_ENOTFOUND:
	case ARES_ENONAME:
		return -WH_ENAME_UNKNOWN;
	case ARES_ENODATA:
		return -WH_ENAME_NO_ADDRESS;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ENOMEM:
		return -ENOMEM;
	case ARES_EBADNAME:
	case ARES_EBADSTR:
	case ARES_EBADFAMILY:
		return -EINVAL;
	case ARES_ECANCELLED:
	case ARES_EDESTRUCTION:
		return channel->error ? channel->error : -ECANCELED;
	default:
		return -WH_ENAME_SERVER;
	}
}

/* ---- sockets of c-ares -------------------------------------------------------------------- */

static void leave(struct channel *channel);

static void enter(struct channel *channel)
{
	channel->depth++;
}

static void on_ready(wh_loop *loop, wh_res res, void *arg)
{
	struct watch *watch = arg;
	struct channel *channel = watch->channel;
	int fd = watch->fd;
	bool cancelled = watch->cancelling && res.n == -ECANCELED && !loop->closing;
	watch->armed = 0;
	watch->cancelling = false;
	watch->ready.id = 0;
	if (!channel) {
		free(watch);
		return;
	}
	enter(channel);
	if (res.n > 0) {
		/* an error is found out by using the socket */
		bool both = (res.n & (POLLIN | POLLOUT)) == 0;
		ares_process_fd(channel->ares, both || res.n & POLLIN ? fd : ARES_SOCKET_BAD,
		                both || res.n & POLLOUT ? fd : ARES_SOCKET_BAD);
	} else if (!cancelled) {
		channel->error = res.n;
	}
	leave(channel);
}

static void arm(struct watch *watch)
{
	watch->armed = watch->wanted;
	wh_future f = wh_ready(watch->channel->loop, watch->fd, watch->wanted);
	watch->ready = f;
	wh__inner_then(watch->channel->loop, f, on_ready, watch);
}

static struct watch *find_watch(const struct channel *channel, int fd)
{
	struct watch *watch = channel->watches;
	while (watch && watch->fd != fd)
		watch = watch->next;
	return watch;
}

static void want(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct watch *watch = find_watch(arg, fd);
	if (watch)
		watch->wanted = (readable ? POLLIN : 0) | (writable ? POLLOUT : 0);
}

static ares_socket_t open_socket(int family, int type, int protocol, void *arg)
{
	struct channel *channel = arg;
	struct watch *watch = calloc(1, sizeof *watch);
	if (!watch) {
		errno = ENOMEM;
		return ARES_SOCKET_BAD;
	}
	watch->fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (watch->fd < 0) {
		free(watch);
		return ARES_SOCKET_BAD;
	}
	wh__descriptor_given(channel->loop, watch->fd);
	watch->channel = channel;
	watch->next = channel->watches;
	channel->watches = watch;
	return watch->fd;
}

/* What the loop has watched it must close, so that the number is not given out again too early. */
static int close_socket(ares_socket_t fd, void *arg)
{
	struct channel *channel = arg;
	struct watch **link = &channel->watches;
	while ((*link)->fd != fd)
		link = &(*link)->next;
	struct watch *watch = *link;
	*link = watch->next;
	watch->channel = NULL;
	if (!watch->armed) {
		free(watch);
		close(fd);
		return 0;
	}
	wh_future closing = wh_close(channel->loop, fd); /* ends the watch, which frees itself */
	wh_res res;
	if (wh__op_find(channel->loop, closing))
		(void)wh_drop(closing);
	else if (wh_poll(closing, &res) && (res.n == -EAGAIN || res.n == -ENOMEM)) {
		wh_cancel(watch->ready);
		close(fd);
	}
	return 0;
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t len, void *arg)
{
	return connect(fd, address, len);
}

static ares_ssize_t receive(ares_socket_t fd, void *buf, size_t len, int flags, struct sockaddr *from,
                            ares_socklen_t *from_len, void *arg)
{
	struct watch *watch = find_watch(arg, fd);
	if (!watch->refused)
		return recvfrom(fd, buf, len, flags, from, from_len);
	watch->refused = false;
	errno = ECONNREFUSED;
	return -1;
}

/* That nobody listens is told by the next call on the socket, udp(7). If that is the sending of another question, it must not
 * be mistaken for its own error, and whoever sent the earlier one is to learn of it. */
static ares_ssize_t send_vector(ares_socket_t fd, const struct iovec *iov, int count, void *arg)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
	struct watch *watch = find_watch(arg, fd);
	ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
	if (n >= 0 || errno != ECONNREFUSED)
		return n;
	watch->refused = true;
	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static const struct ares_socket_functions socket_functions = {
	.asocket = open_socket,
	.aclose = close_socket,
	.aconnect = connect_socket,
	.arecvfrom = receive,
	.asendv = send_vector,
};

/* ---- channels ----------------------------------------------------------------------------- */

static struct channel *free_channel(struct channel *channel)
{
	struct channel **link = &channel->loop->names->channels;
	while (*link && *link != channel)
		link = &(*link)->next;
	if (*link)
		*link = channel->next;
	channel->timer = wh__inner_timer_stop(channel->timer);
	if (channel->ares)
		ares_destroy(channel->ares);
	free(channel->servers);
	free(channel);
	return NULL;
}

static void on_timer(wh_loop *loop, wh_res res, void *arg)
{
	struct channel *channel = arg;
	channel->timer = NULL;
	enter(channel);
	if (res.n < 0)
		channel->error = res.n;
	else
		ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	leave(channel);
}

/* c-ares wants to be called when one of its tries has lasted long enough. */
static void set_timer(struct channel *channel)
{
	struct timeval tv, *left = ares_timeout(channel->ares, NULL, &tv);
	if (!left) {
		channel->timer = wh__inner_timer_stop(channel->timer);
		return;
	}
	/* it counts in ms and compares with its own reading of the clock: one more, so as not to come too early */
	int64_t at = wh_clock(channel->loop) + (int64_t)left->tv_sec * WH_NS_PER_S +
	             (int64_t)left->tv_usec * WH_NS_PER_US + WH_NS_PER_MS;
	if (channel->timer)
		wh__inner_timer_move(channel->timer, at);
	else if (!(channel->timer = wh__inner_timer(channel->loop, at, on_timer, channel)))
		channel->error = -EAGAIN;
}

/* true: it has been brought into line, and any other watch may have changed or gone. */
static bool set_watch(struct watch *watch)
{
	if (watch->armed == watch->wanted || watch->cancelling)
		return false;
	if (watch->armed) {
		watch->cancelling = true;
		wh_cancel(watch->ready); /* comes back through on_ready() */
	} else {
		arm(watch);
	}
	return true;
}

static void set_watches(struct channel *channel)
{
	struct watch *watch = channel->watches;
	while (watch && channel->error == 0)
		watch = set_watch(watch) ? channel->watches : watch->next;
}

/* The end of each way into c-ares. May free the channel. */
static void leave(struct channel *channel)
{
	if (channel->depth > 1) {
		channel->depth--;
		return;
	}
	for (bool settled = false; !settled;) {
		if (channel->query_count > 0 && channel->attached_count > 0 && channel->error == 0) {
			set_watches(channel);
			set_timer(channel);
		}
		settled = channel->query_count == 0 || (channel->attached_count > 0 && channel->error == 0);
		if (!settled)
			ares_cancel(channel->ares);
	}
	if (channel->query_count == 0) {
		channel->timer = wh__inner_timer_stop(channel->timer);
		channel->error = 0;
	}
	channel->depth--;
	if (channel->retired && channel->query_count == 0)
		free_channel(channel);
}

static void initialise(void)
{
	(void)ares_library_init(ARES_LIB_INIT_ALL); /* on POSIX systems it has nothing to fail at */
}

static struct identity identify(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return (struct identity){0};
	return (struct identity){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static bool is_same(const struct identity *a, const struct identity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static int64_t open_ares(struct channel *channel)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char lookups[] = "fb"; /* the hosts file, then the name servers */
	struct ares_options options = {.timeout = TRY_MS,
	                               .tries = TRIES,
	                               .lookups = lookups,
	                               .resolvconf_path = channel->path,
	                               .sock_state_cb = want,
	                               .sock_state_cb_data = channel};
	int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF |
	           ARES_OPT_SOCK_STATE_CB;
	(void)pthread_once(&once, initialise);
	int status = ares_init_options(&channel->ares, &options, mask);
	if (status != ARES_SUCCESS) {
		channel->ares = NULL;
		return status == ARES_ENOMEM ? -ENOMEM : -WH_ENAME_SERVER;
	}
	ares_set_socket_functions(channel->ares, &socket_functions, channel);
	if (*channel->servers) {
		status = ares_set_servers_ports_csv(channel->ares, channel->servers);
		if (status != ARES_SUCCESS)
			return status == ARES_ENOMEM ? -ENOMEM : -EINVAL;
	}
	return 0;
}

static int64_t open_channel(wh_loop *loop, const char *servers, const char *path, struct identity identity,
                            struct channel **ret)
{
	size_t path_len = strlen(path) + 1;
	struct channel *channel = calloc(1, sizeof *channel + path_len);
	if (!channel)
		return -ENOMEM;
	channel->loop = loop;
	channel->identity = identity;
	memcpy(channel->path, path, path_len);
	channel->servers = strdup(servers);
	int64_t error = channel->servers ? open_ares(channel) : -ENOMEM;
	if (error != 0) {
		free_channel(channel);
		return error;
	}
	channel->next = loop->names->channels;
	loop->names->channels = channel;
	*ret = channel;
	return 0;
}

/* Programs that invent a configuration for each lookup do not fill memory with channels. */
static void free_idle(struct wh__names *names)
{
	uint32_t idle_count = 0;
	for (struct channel *channel = names->channels, *next; channel; channel = next) {
		next = channel->next;
		if (channel->query_count == 0 && channel->depth == 0 && ++idle_count > IDLE_CHANNELS_MAX)
			free_channel(channel);
	}
}

static void close_names(wh_loop *loop)
{
	while (loop->names->channels)
		free_channel(loop->names->channels);
	free(loop->names);
	loop->names = NULL;
}

static int64_t get_channel(wh_loop *loop, const struct wh__name_question *question, struct channel **ret)
{
	const char *servers = question->servers ? question->servers : "";
	const char *path = question->resolv_conf_path ? question->resolv_conf_path : default_path;
	if (!loop->names) {
		loop->names = calloc(1, sizeof *loop->names);
		if (!loop->names)
			return -ENOMEM;
		loop->close_names = close_names;
	}
	struct identity identity = identify(path);
	for (struct channel *channel = loop->names->channels, *next; channel; channel = next) {
		next = channel->next;
		if (channel->retired || strcmp(channel->servers, servers) != 0 ||
		    strcmp(channel->path, path) != 0)
			continue;
		if (is_same(&channel->identity, &identity)) {
			*ret = channel;
			return 0;
		}
		channel->retired = true;
		if (channel->query_count == 0 && channel->depth == 0)
			free_channel(channel);
	}
	free_idle(loop->names);
	return open_channel(loop, servers, path, identity, ret);
}

/* ---- questions ---------------------------------------------------------------------------- */

/* Within a call into c-ares. The answer is given inline: whoever gets it may ask and forget other questions. */
static void end(struct wh__name_query *query, int64_t n, void *ptr)
{
	struct channel *channel = query->channel;
	wh__name_answer *answer = query->answer;
	void *arg = query->arg;
	channel->query_count--;
	if (answer)
		channel->attached_count--;
	free(query);
	if (answer)
		answer(arg, n, ptr);
}

static int64_t take_addresses(const struct wh__name_query *query, const struct ares_addrinfo *info,
                              struct wh_addresses **ret)
{
	size_t count = 0;
	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next)
		count += node->ai_family == AF_INET || node->ai_family == AF_INET6;
	if (count > WH__ADDRESSES_MAX)
		count = WH__ADDRESSES_MAX;
	if (count == 0)
		return -WH_ENAME_NO_ADDRESS;
	const char *name = query->host; /* the canonical one is at the end of the aliases */
	for (const struct ares_addrinfo_cname *alias = info->cnames; alias; alias = alias->next)
		name = alias->name ? alias->name : name;
	struct wh_addresses *result = wh__addresses_new(count, name);
	if (!result)
		return -ENOMEM;
	result->count = 0;
	for (const struct ares_addrinfo_node *node = info->nodes; node && result->count < count;
	     node = node->ai_next)
		if (node->ai_family == AF_INET || node->ai_family == AF_INET6)
			wh__address_set((struct wh_address *)(uintptr_t)&result->addresses[result->count++],
			                node->ai_addr, node->ai_addrlen, query->port);
	*ret = result;
	return (int64_t)count;
}

static void on_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct wh__name_query *query = arg;
	struct wh_addresses *result = NULL;
	int64_t n = 0;
	if (status != ARES_SUCCESS)
		n = error_of(query->channel, status);
	else if (query->answer)
		n = take_addresses(query, info, &result);
	ares_freeaddrinfo(info);
	end(query, n, result);
}

/* One allocation: wh_names_free() is free(). */
static int64_t take_names(const struct hostent *entry, struct wh_names **ret)
{
	size_t count = 1, bytes = strlen(entry->h_name) + 1;
	for (char **alias = entry->h_aliases; alias && *alias; alias++, count++)
		bytes += strlen(*alias) + 1;
	struct wh_names *result = malloc(sizeof *result + count * sizeof(char *) + bytes);
	if (!result)
		return -ENOMEM;
	result->names = (const char **)(result + 1);
	result->count = 0;
	char *to = (char *)(result->names + count);
	for (size_t i = 0; i < count; i++) {
		const char *name = i == 0 ? entry->h_name : entry->h_aliases[i - 1];
		bool told = false; /* c-ares names the canonical one among the aliases, too */
		for (size_t j = 0; j < result->count && !told; j++)
			told = !strcmp(result->names[j], name);
		if (told)
			continue;
		size_t len = strlen(name) + 1;
		result->names[result->count++] = memcpy(to, name, len);
		to += len;
	}
	*ret = result;
	return (int64_t)result->count;
}

static void on_names(void *arg, int status, int timeouts, struct hostent *entry)
{
	struct wh__name_query *query = arg;
	struct wh_names *result = NULL;
	int64_t n = 0;
	if (status != ARES_SUCCESS)
		n = error_of(query->channel, status);
	else if (query->answer)
		n = take_names(entry, &result);
	end(query, n, result);
}

static void ask_name(struct channel *channel, const struct wh__name_question *question,
                     struct wh__name_query *query)
{
	/* Any program may be given another hosts file, unless that could lend it somebody's rights. */
	int flags = ARES_AI_CANONNAME | (getauxval(AT_SECURE) ? 0 : ARES_AI_ENVHOSTS);
	struct ares_addrinfo_hints hints = {
		.ai_flags = flags, .ai_family = question->family, .ai_socktype = SOCK_STREAM};
	ares_getaddrinfo(channel->ares, question->host, NULL, &hints, on_addresses, query);
}

static void ask_address(struct channel *channel, const struct wh__name_question *question,
                        struct wh__name_query *query)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)question->address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)question->address;
	if (question->address->sa_family == AF_INET6)
		ares_gethostbyaddr(channel->ares, &in6->sin6_addr, sizeof in6->sin6_addr, AF_INET6, on_names,
		                   query);
	else
		ares_gethostbyaddr(channel->ares, &in->sin_addr, sizeof in->sin_addr, AF_INET, on_names,
		                   query);
}

/* The first answer of an asker who is still in wh__name_ask(). */
struct early {
	bool answered;
	int64_t n;
	void *ptr;
};

static void on_early(void *arg, int64_t n, void *ptr)
{
	*(struct early *)arg = (struct early){true, n, ptr};
}

struct wh__name_query *wh__name_ask(wh_loop *loop, const struct wh__name_question *question,
                                    wh__name_answer *answer, void *arg)
{
	struct channel *channel = NULL;
	struct early early = {0};
	int64_t error = get_channel(loop, question, &channel);
	size_t host_len = question->host ? strlen(question->host) + 1 : 0;
	struct wh__name_query *query = error == 0 ? malloc(sizeof *query + host_len) : NULL;
	if (!query) {
		answer(arg, error != 0 ? error : -ENOMEM, NULL);
		return NULL;
	}
	*query = (struct wh__name_query){
		.channel = channel, .answer = on_early, .arg = &early, .port = question->port};
	if (question->host)
		memcpy(query->host, question->host, host_len);
	channel->query_count++;
	channel->attached_count++;
	enter(channel);
	if (question->host)
		ask_name(channel, question, query);
	else
		ask_address(channel, question, query);
	leave(channel);
	if (early.answered) {
		answer(arg, early.n, early.ptr);
		return NULL;
	}
	query->answer = answer;
	query->arg = arg;
	return query;
}

void wh__name_forget(struct wh__name_query *query)
{
	struct channel *channel = query->channel;
	query->answer = NULL;
	channel->attached_count--;
	enter(channel);
	leave(channel);
}
