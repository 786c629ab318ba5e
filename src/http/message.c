/* src/http/message.c -- words of HTTP: characters, methods, statuses, dates. */
#include "http/message.h"

#include <string.h>

/* RFC 9110 section 5.6.2 (tchar), RFC 3986 (targets). Targets also take what browsers leave unencoded (| ^ ` { } \ " < >),
 * since a gateway has no business refusing what its backend would take; never '#', blanks, controls or bytes from 0x80 on. */
#define T  WH__HTTP_TOKEN
#define G  WH__HTTP_TARGET
#define V  WH__HTTP_VALUE
#define H  WH__HTTP_HOST
#define A  (T | G | V | H)                     /* letters from g on, - . _ ~ and so on */
#define X  (A | WH__HTTP_HEX)                  /* a-f */
#define D  (A | WH__HTTP_HEX | WH__HTTP_DIGIT) /* 0-9 */
#define GV (G | V)
#define R8 V, V, V, V, V, V, V, V

const uint8_t wh__http_characters[256] = {
	/* clang-format off */
	0, 0, 0, 0, 0, 0, 0, 0, 0, V, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	/* SP ! " # $ % & ' ( ) * + , - . / */
	V, A, GV, T | V, A, A, A, A, GV | H, GV | H, A, A, GV | H, A, A, GV,
	/* 0-9 : ; < = > ? */
	D, D, D, D, D, D, D, D, D, D, GV, GV | H, GV, GV | H, GV, GV,
	/* @ A-O */
	GV, X, X, X, X, X, X, A, A, A, A, A, A, A, A, A,
	/* P-Z [ \ ] ^ _ */
	A, A, A, A, A, A, A, A, A, A, A, GV, GV, GV, T | GV, A,
	/* ` a-o */
	T | GV, X, X, X, X, X, X, A, A, A, A, A, A, A, A, A,
	/* p-z { | } ~ DEL */
	A, A, A, A, A, A, A, A, A, A, A, GV, T | GV, GV, A, 0,
	R8, R8, R8, R8, R8, R8, R8, R8, R8, R8, R8, R8, R8, R8, R8, R8,
	/* clang-format on */
};

#undef T
#undef G
#undef V
#undef H
#undef A
#undef X
#undef D
#undef GV
#undef R8

/* Those of eight bytes that do not stand for themselves, marked at the top; behind the first one a borrow may mark others, never before it. */
static uint64_t odd_ones(const char *data)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = UINT64_C(0x8080808080808080);
	uint64_t word, del;

	memcpy(&word, data, 8);
	del = word ^ (ones * 0x7f);
	return (((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & tops;
}

/* Eight at a time, the last eight once more where less are left. */
size_t wh__http_plain(const char *data, size_t len)
{
	size_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t odd = odd_ones(data + i);

		if (odd == 0)
			continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		return i + (size_t)__builtin_ctzll(odd) / 8;
#else
		break;
#endif
	}
	if (len >= 8 && i + 8 > len && odd_ones(data + len - 8) == 0)
		return len;
	while (i < len && (unsigned char)data[i] >= 0x20 && data[i] != 0x7f)
		i++;
	return i;
}

bool wh__http_value(const char *data, size_t len)
{
	size_t i = 0;

	while (i < len) {
		i += wh__http_plain(data + i, len - i);
		if (i < len && data[i++] != '\t')
			return false;
	}
	return true;
}

bool wh__http_is(const char *data, size_t len, const char *lower, size_t lower_len)
{
	if (len != lower_len)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (c != (unsigned char)lower[i])
			return false;
	}
	return true;
}

bool wh_slice_equal(struct wh_slice slice, const char *string)
{
	size_t len = strlen(string);

	return slice.data && slice.len == len && memcmp(slice.data, string, len) == 0;
}

bool wh_slice_equal_caseless(struct wh_slice slice, const char *string)
{
	if (!slice.data || slice.len != strlen(string))
		return false;
	for (size_t i = 0; i < slice.len; i++) {
		unsigned char a = (unsigned char)slice.data[i], b = (unsigned char)string[i];

		if (a >= 'A' && a <= 'Z')
			a |= 0x20;
		if (b >= 'A' && b <= 'Z')
			b |= 0x20;
		if (a != b)
			return false;
	}
	return true;
}

static const struct wh_slice methods[] = {
	[WH_HTTP_OTHER] = {"", 0},      [WH_HTTP_GET] = {"GET", 3},         [WH_HTTP_HEAD] = {"HEAD", 4},
	[WH_HTTP_POST] = {"POST", 4},   [WH_HTTP_PUT] = {"PUT", 3},         [WH_HTTP_DELETE] = {"DELETE", 6},
	[WH_HTTP_PATCH] = {"PATCH", 5}, [WH_HTTP_OPTIONS] = {"OPTIONS", 7}, [WH_HTTP_TRACE] = {"TRACE", 5},
};

enum wh_http_method wh__http_method_of(const char *token, size_t len)
{
	for (int i = WH_HTTP_GET; i <= WH_HTTP_TRACE; i++)
		if (methods[i].len == len && memcmp(methods[i].data, token, len) == 0)
			return (enum wh_http_method)i;
	return WH_HTTP_OTHER;
}

struct wh_slice wh__http_method_name(enum wh_http_method method)
{
	return methods[method];
}

bool wh__http_is_safe(enum wh_http_method method)
{
	return method == WH_HTTP_GET || method == WH_HTTP_HEAD || method == WH_HTTP_OPTIONS ||
	       method == WH_HTTP_TRACE;
}

bool wh__http_is_idempotent(enum wh_http_method method)
{
	return wh__http_is_safe(method) || method == WH_HTTP_PUT || method == WH_HTTP_DELETE;
}

static bool port_valid(const char *data, size_t len)
{
	unsigned port = 0;

	for (size_t i = 0; i < len; i++) {
		if (data[i] < '0' || data[i] > '9')
			return false;
		port = port * 10 + (unsigned)(data[i] - '0');
		if (port > 65535)
			return false;
	}
	return true;
}

bool wh__http_host_valid(const char *data, size_t len)
{
	size_t i = 0;

	if (len > 0 && data[0] == '[') {
		for (i = 1; i < len && data[i] != ']'; i++) {
			unsigned char c = (unsigned char)data[i];

			/* addresses, and the "v1." form of the future; zones are not for the wire */
			if (!(wh__http_characters[c] & WH__HTTP_HOST) && c != ':')
				return false;
			if (c == '%')
				return false;
		}
		if (i == len || i < 3)
			return false;
		i++;
	} else {
		for (; i < len && data[i] != ':'; i++) {
			if (!(wh__http_characters[(unsigned char)data[i]] & WH__HTTP_HOST))
				return false;
			if (data[i] == '%' && (len - i < 3 || !wh__http_all(data + i + 1, 2, WH__HTTP_HEX)))
				return false;
		}
	}
	if (i == len)
		return true;
	return data[i] == ':' && port_valid(data + i + 1, len - i - 1);
}

const char *wh_http_reason(int status)
{
	switch (status) {
	case 100:
		return "Continue";
	case 101:
		return "Switching Protocols";
	case 102:
		return "Processing";
	case 103:
		return "Early Hints";
	case 200:
		return "OK";
	case 201:
		return "Created";
	case 202:
		return "Accepted";
	case 203:
		return "Non-Authoritative Information";
	case 204:
		return "No Content";
	case 205:
		return "Reset Content";
	case 206:
		return "Partial Content";
	case 207:
		return "Multi-Status";
	case 300:
		return "Multiple Choices";
	case 301:
		return "Moved Permanently";
	case 302:
		return "Found";
	case 303:
		return "See Other";
	case 304:
		return "Not Modified";
	case 307:
		return "Temporary Redirect";
	case 308:
		return "Permanent Redirect";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 402:
		return "Payment Required";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 406:
		return "Not Acceptable";
	case 407:
		return "Proxy Authentication Required";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 410:
		return "Gone";
	case 411:
		return "Length Required";
	case 412:
		return "Precondition Failed";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 415:
		return "Unsupported Media Type";
	case 416:
		return "Range Not Satisfiable";
	case 417:
		return "Expectation Failed";
	case 421:
		return "Misdirected Request";
	case 422:
		return "Unprocessable Content";
	case 423:
		return "Locked";
	case 424:
		return "Failed Dependency";
	case 425:
		return "Too Early";
	case 426:
		return "Upgrade Required";
	case 428:
		return "Precondition Required";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 451:
		return "Unavailable For Legal Reasons";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	case 505:
		return "HTTP Version Not Supported";
	case 507:
		return "Insufficient Storage";
	case 508:
		return "Loop Detected";
	case 511:
		return "Network Authentication Required";
	default:
		return "";
	}
}

static void two_digits(char *ret, int64_t value)
{
	ret[0] = (char)('0' + value / 10);
	ret[1] = (char)('0' + value % 10);
}

void wh__http_date(int64_t unix_seconds, char *ret)
{
	static const char days[] = "ThuFriSatSunMonTueWed", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	int64_t day = unix_seconds / 86400, second = unix_seconds % 86400;

	if (second < 0) {
		second += 86400;
		day--;
	}
	/* Days to a date of the Gregorian calendar, in years that begin with March: H. Hinnant, civil_from_days. */
	int64_t z = day + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365,
		doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153, date = doy - (153 * mp + 2) / 5 + 1,
		month = mp < 10 ? mp + 3 : mp - 9;
	int64_t year = yoe + era * 400 + (month <= 2);

	memcpy(ret, "Thu, 01 Jan 1970 00:00:00 GMT", WH__HTTP_DATE_LEN);
	memcpy(ret, days + 3 * ((day % 7 + 7) % 7), 3);
	two_digits(ret + 5, date);
	memcpy(ret + 8, months + 3 * (month - 1), 3);
	two_digits(ret + 12, year / 100 % 100);
	two_digits(ret + 14, year % 100);
	two_digits(ret + 17, second / 3600);
	two_digits(ret + 20, second / 60 % 60);
	two_digits(ret + 23, second % 60);
}

size_t wh__http_decimal(uint64_t value, char *ret)
{
	char digits[20];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	for (size_t i = 0; i < n; i++)
		ret[i] = digits[n - 1 - i];
	return n;
}
