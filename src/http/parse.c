/* src/http/parse.c -- heads of requests and responses: the scan for their end, and llhttp under our own checks. */
#include "http/parse.h"

#include <llhttp.h>
#include <string.h>

#include "http/message.h"

enum { START, START_CR, LINE, LINE_CR, LINE_START, END_CR };
enum { EMPTY_LINES_BYTES_MAX = 32, START_LINE_EXTRA = 64 /* method, version and blanks beside the target */ };

static int refuse(const char **ret_reason, int status, const char *reason)
{
	*ret_reason = reason;
	return status;
}

/* One byte that is not plain, or that begins a line; 0 or a refusal. */
static int scan_byte(struct wh__http_scan *scan, char c, const char **ret_reason)
{
	switch (scan->state) {
	case START:
		if (c == '\r')
			scan->state = START_CR;
		else if (scan->response ? c == 'H' : wh__http_characters[(unsigned char)c] & WH__HTTP_TOKEN)
			scan->state = LINE;
		else
			return refuse(ret_reason, 400, "malformed start line");
		return 0;
	case LINE:
		if (c == '\r')
			scan->state = LINE_CR;
		else if (c == '\n')
			return refuse(ret_reason, 400, "line feed without carriage return");
		else if (c != '\t')
			return refuse(ret_reason, 400, "control character in the header section");
		return 0;
	case LINE_START:
		if (c == '\r')
			scan->state = END_CR;
		else if (c == ' ' || c == '\t')
			return refuse(ret_reason, 400, "obsolete line folding");
		else if (wh__http_characters[(unsigned char)c] & WH__HTTP_TOKEN)
			scan->state = LINE;
		else
			return refuse(ret_reason, 400, "malformed field name");
		return 0;
	default:
		if (c != '\n')
			return refuse(ret_reason, 400, "carriage return without line feed");
		scan->state =
			scan->state == LINE_CR ? LINE_START : START; /* END_CR: ready for the next message */
		return 0;
	}
}

int wh__http_scan(struct wh__http_scan *scan, const struct wh__http_limits *limits, const char *data,
                  size_t len, size_t *ret_consumed, size_t *ret_skipped, bool *ret_end,
                  const char **ret_reason)
{
	uint32_t start_max = limits->target_bytes_max + START_LINE_EXTRA;
	size_t i = 0, skipped = 0;
	bool in_section = scan->section_bytes > 0 || scan->state == LINE_START || scan->state == END_CR;

	*ret_end = false;
	while (i < len) {
		/* Limits are met at the same byte however the input was split. */
		uint32_t *count = in_section ? &scan->section_bytes : &scan->start_bytes;
		size_t room = (in_section ? limits->head_bytes_max : start_max) - *count;
		size_t n = 0;
		uint8_t before = scan->state;

		if (room == 0)
			return in_section ? refuse(ret_reason, 431, "header section too long")
			                  : refuse(ret_reason, 414, "request target too long");
		if (scan->state == LINE)
			n = wh__http_plain(data + i, len - i < room ? len - i : room);
		if (n == 0) {
			int status = scan_byte(scan, data[i], ret_reason);

			if (status)
				return status;
			n = 1;
		}
		i += n;
		*count += (uint32_t)n;
		if (before == START_CR) {
			skipped = i;
			if (scan->start_bytes > EMPTY_LINES_BYTES_MAX)
				return refuse(ret_reason, 400, "too many empty lines before a request");
		} else if (scan->state == LINE_START) {
			in_section = true;
		} else if (before == END_CR) {
			bool response = scan->response;

			*scan = (struct wh__http_scan){.response = response};
			*ret_end = true;
			break;
		}
	}
	*ret_consumed = i;
	*ret_skipped = skipped;
	return 0;
}

/* ---- the parse ---------------------------------------------------------------------------- */

struct builder {
	const char *base;
	struct wh__http_head *head;
	uint32_t fields_max;
	uint32_t len;
	uint32_t next_line; /* where the next field line begins, by our own count */
	struct wh__http_span name, value, url;
	struct wh__http_span transfer_encoding; /* the last one */
	unsigned host_count, length_count, coding_count;
	bool close, keep_alive, response, connection_upgrade, upgrade;
	int status; /* of a refusal */
	const char *reason;
};

static int give_up(struct builder *b, int status, const char *reason)
{
	b->status = status;
	b->reason = reason;
	return -1;
}

/* A span may come in pieces; they must touch, so that a message means the same to llhttp and to whoever reads its bytes. */
static int extend(struct builder *b, struct wh__http_span *span, const char *at, size_t len)
{
	uint32_t off = (uint32_t)(at - b->base);

	if (span->len == 0)
		span->off = off;
	else if (span->off + span->len != off)
		return give_up(b, 400, "malformed header section");
	span->len += (uint32_t)len;
	return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
	struct builder *b = parser->data;

	return extend(b, &b->url, at, len);
}

static int on_name(llhttp_t *parser, const char *at, size_t len)
{
	struct builder *b = parser->data;

	return extend(b, &b->name, at, len);
}

static int on_value(llhttp_t *parser, const char *at, size_t len)
{
	struct builder *b = parser->data;

	return extend(b, &b->value, at, len);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct wh__http_span trim(const char *base, struct wh__http_span span)
{
	while (span.len > 0 && is_blank(base[span.off])) {
		span.off++;
		span.len--;
	}
	while (span.len > 0 && is_blank(base[span.off + span.len - 1]))
		span.len--;
	return span;
}

/* The next element of a comma-separated list, blanks taken off; empty elements are passed over. */
static bool next_element(const char *base, struct wh__http_span *rest, struct wh__http_span *ret)
{
	while (rest->len > 0) {
		const char *comma = memchr(base + rest->off, ',', rest->len);
		uint32_t len = comma ? (uint32_t)(comma - base) - rest->off : rest->len;
		uint32_t step = comma ? len + 1 : len;

		*ret = trim(base, (struct wh__http_span){rest->off, len});
		rest->off += step;
		rest->len -= step;
		if (ret->len > 0)
			return true;
	}
	return false;
}

static int take_connection(struct builder *b, struct wh__http_span value)
{
	struct wh__http_span element;

	while (next_element(b->base, &value, &element)) {
		const char *text = b->base + element.off;

		if (WH__HTTP_IS(text, element.len, "close"))
			b->close = true;
		else if (WH__HTTP_IS(text, element.len, "keep-alive"))
			b->keep_alive = true;
		else if (WH__HTTP_IS(text, element.len, "upgrade"))
			b->connection_upgrade = true;
	}
	return 0;
}

static int take_content_length(struct builder *b, struct wh__http_span value)
{
	uint64_t length = 0;

	if (b->length_count++ > 0)
		return give_up(b, 400, "repeated Content-Length");
	if (value.len == 0 || !wh__http_all(b->base + value.off, value.len, WH__HTTP_DIGIT))
		return give_up(b, 400, "malformed Content-Length");
	for (uint32_t i = 0; i < value.len; i++) {
		unsigned digit = (unsigned)(b->base[value.off + i] - '0');

		if (length > ((uint64_t)INT64_MAX - digit) / 10)
			return give_up(b, 413, "Content-Length too large");
		length = length * 10 + digit;
	}
	b->head->content_length = length;
	b->head->flags |= WH__HTTP_LENGTH;
	return 0;
}

static int take_transfer_encoding(struct builder *b, struct wh__http_span value)
{
	struct wh__http_span element;

	if (value.len == 0)
		return give_up(b, 400, "empty Transfer-Encoding");
	while (next_element(b->base, &value, &element)) {
		b->coding_count++;
		b->transfer_encoding = element;
	}
	return 0;
}

static int take_expect(struct builder *b, struct wh__http_span value)
{
	if (b->head->version < 11)
		return 0; /* RFC 9110 section 10.1.1: ignored */
	if (!WH__HTTP_IS(b->base + value.off, value.len, "100-continue"))
		return give_up(b, 417, "unknown expectation");
	b->head->flags |= WH__HTTP_EXPECT_CONTINUE;
	return 0;
}

static int take_field(struct builder *b, struct wh__http_span name, struct wh__http_span value)
{
	const char *text = b->base + name.off;

	switch (name.len) {
	case 4:
		if (!b->response && WH__HTTP_IS(text, 4, "host")) {
			if (b->host_count++ > 0)
				return give_up(b, 400, "repeated Host");
			b->head->host = value;
		}
		return 0;
	case 6:
		return !b->response && WH__HTTP_IS(text, 6, "expect") ? take_expect(b, value) : 0;
	case 7:
		b->upgrade |= WH__HTTP_IS(text, 7, "upgrade") && value.len > 0;
		return 0;
	case 10:
		return WH__HTTP_IS(text, 10, "connection") ? take_connection(b, value) : 0;
	case 14:
		return WH__HTTP_IS(text, 14, "content-length") ? take_content_length(b, value) : 0;
	case 17:
		return WH__HTTP_IS(text, 17, "transfer-encoding") ? take_transfer_encoding(b, value) : 0;
	default:
		return 0;
	}
}

/* A field is over for llhttp: it must be exactly the next line by our own reading. */
static int on_value_complete(llhttp_t *parser)
{
	struct builder *b = parser->data;
	struct wh__http_span name = b->name, value, theirs = trim(b->base, b->value);
	uint32_t colon = name.off + name.len;
	const char *end;

	if (name.off != b->next_line || name.len == 0 ||
	    !wh__http_all(b->base + name.off, name.len, WH__HTTP_TOKEN))
		return give_up(b, 400, "malformed field name");
	if (colon >= b->len || b->base[colon] != ':')
		return give_up(b, 400, "blank before the colon of a field");
	end = memchr(b->base + colon, '\r', b->len - colon);
	if (!end)
		return give_up(b, 400, "malformed header section");
	value = trim(b->base, (struct wh__http_span){colon + 1, (uint32_t)(end - b->base) - colon - 1});
	if (value.len != theirs.len || (value.len > 0 && value.off != theirs.off))
		return give_up(b, 400, "malformed field value");
	if (b->head->field_count >= b->fields_max)
		return give_up(b, 431, "too many header fields");
	b->head->fields[b->head->field_count++] = (struct wh__http_field_span){name, value};
	b->next_line = (uint32_t)(end - b->base) + 2;
	b->name = b->value = (struct wh__http_span){0};
	/* The version is known by now: the start line is over. */
	b->head->version = (uint8_t)(llhttp_get_http_major(parser) * 10 + llhttp_get_http_minor(parser));
	return take_field(b, name, value);
}

static int on_head_complete(llhttp_t *parser)
{
	return 1; /* the body is not llhttp's */
}

static const llhttp_settings_t settings = {
	.on_url = on_url,
	.on_header_field = on_name,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_complete,
	.on_headers_complete = on_head_complete,
};

static void builder_init(struct builder *b, const char *data, size_t len,
                         const struct wh__http_limits *limits, struct wh__http_head *head, uint32_t line_end)
{
	*b = (struct builder){.base = data,
	                      .len = (uint32_t)len,
	                      .head = head,
	                      .next_line = line_end + 2,
	                      .fields_max = limits->fields_max < WH__HTTP_FIELDS_MAX ? limits->fields_max
	                                                                             : WH__HTTP_FIELDS_MAX};
	memset(head, 0, offsetof(struct wh__http_head, fields));
}

/* Framing that both kinds of message share: at most one of length and chunks, and no other coding. */
static int check_framing(struct builder *b)
{
	const char *coding = b->base + b->transfer_encoding.off;

	if (b->coding_count == 0)
		return 0;
	if (b->length_count > 0)
		return give_up(b, 400, "both Content-Length and Transfer-Encoding");
	if (b->head->version < 11)
		return give_up(b, 400, "Transfer-Encoding in HTTP/1.0");
	if (!WH__HTTP_IS(coding, b->transfer_encoding.len, "chunked"))
		return give_up(b, 400, "the last transfer coding is not chunked");
	if (b->coding_count > 1)
		return give_up(b, 501, "transfer coding other than chunked");
	b->head->flags |= WH__HTTP_CHUNKED;
	return 0;
}

static void set_keep_alive(struct builder *b)
{
	if (!b->close && (b->head->version >= 11 || b->keep_alive))
		b->head->flags |= WH__HTTP_KEEP_ALIVE;
}

static bool version_form(const char *text, size_t len)
{
	return len == 8 && memcmp(text, "HTTP/", 5) == 0 && text[5] >= '0' && text[5] <= '9' &&
	       text[6] == '.' && text[7] >= '0' && text[7] <= '9';
}

/* llhttp refused: say why in HTTP's own words, from the request line. */
static int request_refusal(llhttp_errno_t error, const char *data, uint32_t line_end, const char **ret_reason)
{
	const char *blank = memchr(data, ' ', line_end), *last = memrchr(data, ' ', line_end);

	if (!blank || last == blank || !wh__http_all(data, (size_t)(blank - data), WH__HTTP_TOKEN) ||
	    memchr(blank + 1, ' ', (size_t)(data + line_end - blank - 1)) != last)
		return refuse(ret_reason, 400, "malformed request line");
	if (!version_form(last + 1, (size_t)(data + line_end - last - 1)))
		return refuse(ret_reason, 400, "malformed request line");
	if (memcmp(last + 6, "1.0", 3) != 0 && memcmp(last + 6, "1.1", 3) != 0)
		return refuse(ret_reason, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	switch (error) {
	case HPE_INVALID_METHOD:
	case HPE_INVALID_CONSTANT:
		return refuse(ret_reason, 501, "unknown method");
	case HPE_INVALID_URL:
		return refuse(ret_reason, 400, "malformed request target");
	case HPE_INVALID_CONTENT_LENGTH:
	case HPE_UNEXPECTED_CONTENT_LENGTH:
		return refuse(ret_reason, 400, "malformed, repeated or conflicting Content-Length");
	case HPE_INVALID_TRANSFER_ENCODING:
		return refuse(ret_reason, 400, "the last transfer coding is not chunked");
	default:
		return refuse(ret_reason, 400, "malformed header section");
	}
}

/* method SP target SP version, with one blank each and nothing else. */
static int check_request_line(struct builder *b, uint32_t line_end, bool connect, const char **ret_reason)
{
	struct wh__http_head *head = b->head;
	const char *data = b->base;

	head->method_token = (struct wh__http_span){0, b->url.off - 1};
	if (b->url.len == 0 || b->url.off < 2 || data[b->url.off - 1] != ' ' ||
	    !wh__http_all(data, head->method_token.len, WH__HTTP_TOKEN) ||
	    b->url.off + b->url.len + 9 != line_end || data[b->url.off + b->url.len] != ' ' ||
	    !version_form(data + line_end - 8, 8))
		return refuse(ret_reason, 400, "malformed request line");
	head->version = (uint8_t)((data[line_end - 3] - '0') * 10 + (data[line_end - 1] - '0'));
	if (head->version != 10 && head->version != 11)
		return refuse(ret_reason, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	head->method = (uint8_t)wh__http_method_of(data, head->method_token.len);
	if (WH__HTTP_IS(data, head->method_token.len, "connect") && !connect)
		return refuse(ret_reason, 501, "CONNECT is not supported");
	head->target = b->url;
	return 0;
}

/* http://authority/path: RFC 9112 section 3.2.2. */
static int split_absolute(struct wh__http_head *head, const char *data, const char **ret_reason)
{
	struct wh__http_span target = head->target;
	const char *text = data + target.off, *end = text + target.len, *authority, *slash;
	size_t scheme = target.len >= 7 && WH__HTTP_IS(text, 7, "http://")    ? 7
	                : target.len >= 8 && WH__HTTP_IS(text, 8, "https://") ? 8
	                                                                      : 0;

	if (scheme == 0)
		return refuse(ret_reason, 400, "malformed request target");
	authority = text + scheme;
	for (slash = authority; slash < end && *slash != '/' && *slash != '?'; slash++)
		;
	if (slash == authority || !wh__http_host_valid(authority, (size_t)(slash - authority)) ||
	    *authority == ':')
		return refuse(ret_reason, 400, "malformed authority in the request target");
	head->host = (struct wh__http_span){(uint32_t)(authority - data), (uint32_t)(slash - authority)};
	head->path = (struct wh__http_span){(uint32_t)(slash - data), (uint32_t)(end - slash)};
	return 0;
}

static bool is_connect(const struct wh__http_head *head, const char *data)
{
	return WH__HTTP_IS(data, head->method_token.len, "connect");
}

/* host:port and nothing else: RFC 9112 section 3.2.3. */
static int check_authority(struct wh__http_head *head, const char *data, const char **ret_reason)
{
	const char *text = data + head->target.off;
	const char *colon = memrchr(text, ':', head->target.len);

	if (!colon || colon == text || colon + 1 == text + head->target.len ||
	    !wh__http_all(colon + 1, head->target.len - (size_t)(colon + 1 - text), WH__HTTP_DIGIT) ||
	    !wh__http_host_valid(text, head->target.len))
		return refuse(ret_reason, 400, "malformed authority in the request target");
	head->host = head->path = head->target;
	return 0;
}

static int check_target(struct wh__http_head *head, const char *data, uint32_t target_max,
                        const char **ret_reason)
{
	struct wh__http_span target = head->target;
	const char *text = data + target.off, *mark;

	if (target.len > target_max)
		return refuse(ret_reason, 414, "request target too long");
	if (!wh__http_all(text, target.len, WH__HTTP_TARGET))
		return refuse(ret_reason, 400, "character not allowed in a request target");
	if (is_connect(head, data))
		return check_authority(head, data, ret_reason);
	if (*text == '/') {
		head->path = target;
	} else if (target.len == 1 && *text == '*') {
		if (head->method != WH_HTTP_OPTIONS)
			return refuse(ret_reason, 400, "the target * is for OPTIONS only");
		head->path = target;
		return 0;
	} else {
		int status = split_absolute(head, data, ret_reason);

		if (status)
			return status;
	}
	text = data + head->path.off;
	mark = memchr(text, '?', head->path.len);
	if (mark) {
		uint32_t path_len = (uint32_t)(mark - text);

		head->query =
			(struct wh__http_span){head->path.off + path_len + 1, head->path.len - path_len - 1};
		head->path.len = path_len;
	}
	return 0;
}

int wh__http_parse_request(const char *data, size_t len, const struct wh__http_limits *limits,
                           struct wh__http_head *ret, const char **ret_reason)
{
	const char *cr = memchr(data, '\r', len);
	uint32_t line_end = cr ? (uint32_t)(cr - data) : 0;
	struct wh__http_span host;
	struct builder b;
	llhttp_t parser;
	llhttp_errno_t error;
	int status;

	if (!cr || len < 4 || len > INT32_MAX)
		return refuse(ret_reason, 400, "malformed request line");
	builder_init(&b, data, len, limits, ret, line_end);
	llhttp_init(&parser, HTTP_REQUEST, &settings);
	parser.data = &b;
	error = llhttp_execute(&parser, data, len);
	if (b.status)
		return refuse(ret_reason, b.status, b.reason);
	if (error != HPE_OK && error != HPE_PAUSED_UPGRADE)
		return request_refusal(error, data, line_end, ret_reason);
	ret->token = llhttp_get_method(&parser);
	status = check_request_line(&b, line_end, limits->connect, ret_reason);
	if (status)
		return status;
	if (b.next_line + 2 != len)
		return refuse(ret_reason, 400, "malformed header section");
	host = ret->host;
	status = check_target(ret, data, limits->target_bytes_max, ret_reason);
	if (status)
		return status;
	if (check_framing(&b))
		return refuse(ret_reason, b.status, b.reason);
	if (b.host_count == 0 && ret->version >= 11)
		return refuse(ret_reason, 400, "missing Host");
	if (b.host_count > 0 && !wh__http_host_valid(data + host.off, host.len))
		return refuse(ret_reason, 400, "malformed Host");
	if (is_connect(ret, data)) {
		if (ret->flags & (WH__HTTP_CHUNKED | WH__HTTP_LENGTH))
			return refuse(ret_reason, 400, "CONNECT with a body");
		ret->flags |= WH__HTTP_UPGRADE;
	} else if (b.upgrade && b.connection_upgrade && ret->version >= 11) {
		ret->flags |= WH__HTTP_UPGRADE;
	}
	set_keep_alive(&b);
	return 0;
}

/* ---- responses ---------------------------------------------------------------------------- */

static int check_status_line(struct builder *b, uint32_t line_end, const char **ret_reason)
{
	const char *data = b->base;
	struct wh__http_head *head = b->head;

	/* "HTTP/1.1 200 reason"; the blank after the status is left out by some when there is no reason */
	if (line_end < 12 || !version_form(data, 8) || data[8] != ' ' ||
	    !wh__http_all(data + 9, 3, WH__HTTP_DIGIT) || (line_end > 12 && data[12] != ' '))
		return refuse(ret_reason, 502, "malformed status line");
	head->version = (uint8_t)((data[5] - '0') * 10 + (data[7] - '0'));
	head->status = (uint16_t)((data[9] - '0') * 100 + (data[10] - '0') * 10 + (data[11] - '0'));
	if (head->version != 10 && head->version != 11)
		return refuse(ret_reason, 502, "version other than HTTP/1.1 and HTTP/1.0");
	if (head->status < 100 || head->status > 599)
		return refuse(ret_reason, 502, "status out of range");
	if (line_end > 13)
		head->reason = (struct wh__http_span){13, line_end - 13};
	return 0;
}

int wh__http_parse_response(const char *data, size_t len, const struct wh__http_limits *limits,
                            bool head_request, struct wh__http_head *ret, const char **ret_reason)
{
	const char *cr = memchr(data, '\r', len);
	uint32_t line_end = cr ? (uint32_t)(cr - data) : 0;
	struct builder b;
	llhttp_t parser;
	llhttp_errno_t error;
	int status;

	if (!cr || len < 4 || len > INT32_MAX)
		return refuse(ret_reason, 502, "malformed status line");
	builder_init(&b, data, len, limits, ret, line_end);
	status = check_status_line(&b, line_end, ret_reason);
	if (status)
		return status;
	b.response = true;
	llhttp_init(&parser, HTTP_RESPONSE, &settings);
	parser.data = &b;
	error = llhttp_execute(&parser, data, len);
	if (b.status)
		return refuse(ret_reason, b.status == 431 ? 431 : 502, b.reason);
	if (error != HPE_OK && error != HPE_PAUSED_UPGRADE)
		return refuse(ret_reason, 502, "malformed response");
	if (b.next_line + 2 != len)
		return refuse(ret_reason, 502, "malformed header section");
	if (check_framing(&b))
		return refuse(ret_reason, 502, b.reason);
	set_keep_alive(&b);
	if (head_request || ret->status < 200 || ret->status == 204 || ret->status == 304)
		return 0; /* no body, whatever the fields say: RFC 9112 section 6.3 */
	if (!(ret->flags & (WH__HTTP_CHUNKED | WH__HTTP_LENGTH))) {
		ret->flags |= WH__HTTP_UNTIL_CLOSE;
		ret->flags &= (uint16_t)~WH__HTTP_KEEP_ALIVE;
	}
	return 0;
}
