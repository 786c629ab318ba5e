/* src/http/chunked.c -- the chunked transfer coding, strictly: RFC 9112 section 7.1.
 *
 * Lines end in CRLF and nothing else, sizes are hexadecimal digits and nothing else, extensions are read over
 * and bounded. A sender may not make us read much framing for little content: the excess is counted over the whole body.
 */
#include <string.h>

#include "http/message.h"
#include "http/parse.h"

enum {
	SIZE,
	EXTENSION_BLANK,
	EXTENSION,
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
	TRAILER_START,
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	END_LF,
	END,
};
enum { EXCESS_BYTES_MAX = 16384, TRAILER_BYTES_MAX = 8192, FREE_LINE_BYTES = 16, SIZE_DIGITS_MAX = 16 };

static int refuse(const char **ret_reason, int status, const char *reason)
{
	*ret_reason = reason;
	return status;
}

static unsigned hex_value(unsigned char c)
{
	return c <= '9' ? c - 0x30u : (c | 0x20u) - 0x61u + 10u;
}

static int size_byte(struct wh__http_chunked *c, unsigned char byte, const char **ret_reason)
{
	if (wh__http_characters[byte] & WH__HTTP_HEX) {
		if (c->left >> 59 || ++c->digits > SIZE_DIGITS_MAX)
			return refuse(ret_reason, 400, "chunk size too large");
		c->left = c->left << 4 | hex_value(byte);
	} else if (c->digits == 0) {
		return refuse(ret_reason, 400, "malformed chunk size");
	} else if (byte == '\r') {
		c->state = SIZE_LF;
	} else if (byte == ';') {
		c->state = EXTENSION;
	} else if (byte == ' ' || byte == '\t') {
		c->state = EXTENSION_BLANK;
	} else {
		return refuse(ret_reason, 400, "malformed chunk size");
	}
	return 0;
}

static int trailer_byte(struct wh__http_chunked *c, unsigned char byte, const char **ret_reason)
{
	if (++c->trailer_bytes > TRAILER_BYTES_MAX)
		return refuse(ret_reason, 431, "trailer section too long");
	switch (c->state) {
	case TRAILER_START:
		if (byte == '\r')
			c->state = END_LF;
		else if (wh__http_characters[byte] & WH__HTTP_TOKEN)
			c->state = TRAILER_NAME;
		else
			return refuse(ret_reason, 400, "malformed trailer");
		return 0;
	case TRAILER_NAME:
		if (byte == ':')
			c->state = TRAILER_VALUE;
		else if (!(wh__http_characters[byte] & WH__HTTP_TOKEN))
			return refuse(ret_reason, 400, "malformed trailer");
		return 0;
	default:
		if (byte == '\r')
			c->state = TRAILER_LF;
		else if (!(wh__http_characters[byte] & WH__HTTP_VALUE))
			return refuse(ret_reason, 400, "malformed trailer");
		return 0;
	}
}

static int framing_byte(struct wh__http_chunked *c, unsigned char byte, const char **ret_reason)
{
	switch (c->state) {
	case SIZE:
		c->excess_bytes++;
		return size_byte(c, byte, ret_reason);
	case EXTENSION_BLANK:
	case EXTENSION:
		c->excess_bytes++;
		if (byte == ';')
			c->state = EXTENSION;
		else if (c->state == EXTENSION && byte == '\r')
			c->state = SIZE_LF;
		else if (c->state == EXTENSION ? !(wh__http_characters[byte] & WH__HTTP_VALUE)
		                               : byte != ' ' && byte != '\t')
			return refuse(ret_reason, 400, "malformed chunk extension");
		return 0;
	case DATA_CR:
		if (byte != '\r')
			return refuse(ret_reason, 400, "chunk longer than its size");
		c->state = DATA_LF;
		return 0;
	case TRAILER_START:
	case TRAILER_NAME:
	case TRAILER_VALUE:
		return trailer_byte(c, byte, ret_reason);
	default:
		break;
	}
	if (byte != '\n')
		return refuse(ret_reason, 400, "carriage return without line feed in chunked framing");
	if (c->state == SIZE_LF) {
		uint64_t paid =
			FREE_LINE_BYTES + 2 * (c->left < EXCESS_BYTES_MAX ? c->left : EXCESS_BYTES_MAX);

		c->excess_bytes -= c->excess_bytes < paid ? c->excess_bytes : (uint32_t)paid;
		c->state = c->left > 0 ? DATA : TRAILER_START;
	} else if (c->state == DATA_LF) {
		c->state = SIZE;
		c->digits = 0;
	} else {
		c->state = c->state == TRAILER_LF ? TRAILER_START : END;
	}
	return 0;
}

int wh__http_chunked(struct wh__http_chunked *chunked, char *data, size_t len, size_t *ret_consumed,
                     size_t *ret_produced, const char **ret_reason)
{
	size_t in = 0, out = 0;

	while (in < len && chunked->state != END) {
		if (chunked->state == DATA) {
			size_t n = len - in < chunked->left ? len - in : (size_t)chunked->left;

			if (out != in)
				memmove(data + out, data + in, n);
			in += n;
			out += n;
			chunked->left -= n;
			if (chunked->left == 0)
				chunked->state = DATA_CR;
		} else {
			int status = framing_byte(chunked, (unsigned char)data[in], ret_reason);

			if (status)
				return status;
			if (chunked->excess_bytes > EXCESS_BYTES_MAX)
				return refuse(ret_reason, 400, "too much chunked framing for its content");
			in++;
		}
	}
	*ret_consumed = in;
	*ret_produced = out;
	return chunked->state == END;
}
