/* src/http/proxy.h -- which requests go through a proxy: http_proxy, https_proxy, all_proxy, no_proxy.
 *
 * The rules are curl's, where it has one. $http_proxy is read in lower case only: in a CGI program HTTP_PROXY is what a
 * client sent as "Proxy:" (httpoxy, CVE-2016-5385); the others also in upper case.
 *
 * Depends on: url.h.  Used by: client, origin.  Thread: loop.  Memory: one allocation for each text.
 */
#ifndef WH_HTTP_PROXY_H
#define WH_HTTP_PROXY_H

#include "http/url.h"

struct wh__http_proxy {
	char *text;             /* owns what url refers to; NULL: none */
	struct wh_http_url url; /* always http */
	char *authorization;    /* value of Proxy-Authorization, or NULL */
};

struct wh__http_proxies {
	struct wh__http_proxy http, https; /* for requests of these schemes */
	char *exceptions;                  /* as no_proxy, or NULL */
};

/* wh__http_proxy_set() - from a URL, or "host:port", which is taken for http. Result 0, -EINVAL, -EILSEQ, -EPROTONOSUPPORT (https and
 * socks proxies), -ENOMEM. */
int wh__http_proxy_set(struct wh__http_proxy *proxy, const char *text);
/* wh__http_proxies_from_environment() - what is not set by then. Result as above. */
int wh__http_proxies_from_environment(struct wh__http_proxies *proxies);
void wh__http_proxies_clear(struct wh__http_proxies *proxies);

/* wh__http_proxy_for() - NULL: directly. */
const struct wh__http_proxy *wh__http_proxy_for(const struct wh__http_proxies *proxies,
                                                const struct wh_http_url *url);

/* wh__http_proxy_excepted() - the host is on the list: elements between commas or blanks, each a "*" (all), a name (and all
 * below it, with or without a leading dot), an address, or a network "10.0.0.0/8"; ":port" makes it good for that port
 * only. An IPv6 address that is to have a port stands in brackets. Addresses match addresses, names names. */
bool wh__http_proxy_excepted(const char *list, const struct wh_http_url *url);

#endif
