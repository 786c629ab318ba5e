/* bench/http_parse.c -- how long the head of a small request takes from bytes to fields: scan and parse.
 *
 * Linked with the library's inside. Prints ns of CPU per request, the best of several rounds.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http/parse.h"

enum { ROUNDS = 9, TIMES = 200000 };

static const struct wh__http_limits limits = {
	.head_bytes_max = 32768, .target_bytes_max = 8192, .fields_max = 100};
static struct wh__http_head head;

static double ns_per_request(const char *bytes, size_t len, bool scan_only)
{
	double best = 1e9;

	for (int round = 0; round < ROUNDS; round++) {
		struct timespec from, to;
		double ns;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		for (int i = 0; i < TIMES; i++) {
			struct wh__http_scan scan = {0};
			size_t consumed, skipped;
			const char *reason;
			bool end;

			if (wh__http_scan(&scan, &limits, bytes, len, &consumed, &skipped, &end, &reason) ||
			    !end)
				return -1;
			if (!scan_only && wh__http_parse_request(bytes, consumed, &limits, &head, &reason))
				return -1;
		}
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
		if (ns / TIMES < best)
			best = ns / TIMES;
	}
	return best;
}

int main(void)
{
	static const char small[] = "GET /livez HTTP/1.1\r\nHost: 127.0.0.1:4480\r\nUser-Agent: load/1.0\r\n"
				    "Accept: */*\r\nX-Pad: 0123456789012345678901234\r\n\r\n";
	static const char browser[] =
		"GET /v1/queues/mail/jobs?after=4711&limit=100 HTTP/1.1\r\nHost: jobs.example.org\r\n"
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
		"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
		"Connection: keep-alive\r\nCookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark\r\n"
		"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
		"Sec-Fetch-Site: none\r\nPriority: u=0, i\r\nPragma: no-cache\r\nCache-Control: "
		"no-cache\r\n\r\n";

	printf("small, %zu bytes: %.0f ns (scan %.0f)\n", sizeof(small) - 1,
	       ns_per_request(small, sizeof(small) - 1, false),
	       ns_per_request(small, sizeof(small) - 1, true));
	printf("browser, %zu bytes: %.0f ns (scan %.0f)\n", sizeof(browser) - 1,
	       ns_per_request(browser, sizeof(browser) - 1, false),
	       ns_per_request(browser, sizeof(browser) - 1, true));
	return 0;
}
