/* src/deliver/sign.c -- secrets of callbacks, and signing with them, by OpenSSL. See sign.h. */
#include "deliver/sign.h"

#include <errno.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define PREFIX "whsec_"
enum { PREFIX_BYTES = sizeof(PREFIX) - 1, DIGEST_BYTES = 32, LINE_BYTES_MAX = 128 };

static int read_line(const char *line, size_t len, struct secrets *ret, const char **ret_detail)
{
	unsigned char decoded[LINE_BYTES_MAX];
	size_t padding = 0;
	int n;

	*ret_detail = "wanted is whsec_ and base64 of 24 to 64 bytes";
	if (len <= PREFIX_BYTES || len > LINE_BYTES_MAX || memcmp(line, PREFIX, PREFIX_BYTES) != 0)
		return -EINVAL;
	line += PREFIX_BYTES;
	len -= PREFIX_BYTES;
	while (padding < 2 && line[len - 1 - padding] == '=')
		padding++;
	for (size_t i = 0; i < len - padding; i++) {
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", line[i]))
			return -EINVAL;
	}
	n = len % 4 == 0 ? EVP_DecodeBlock(decoded, (const unsigned char *)line, (int)len) : -1;
	if (n < 0 || (size_t)n - padding < SECRET_BYTES_MIN || (size_t)n - padding > SECRET_BYTES_MAX)
		return -EINVAL;
	*ret_detail = "there are more than 8 secrets";
	if (ret->count == SECRETS_MAX)
		return -EINVAL;
	ret->all[ret->count].len = (size_t)n - padding;
	memcpy(ret->all[ret->count++].key, decoded, (size_t)n - padding);
	return 0;
}

int secrets_read(const char *text, size_t len, struct secrets *ret, unsigned *ret_line,
                 const char **ret_detail)
{
	const char *at = text, *end = text + len;
	struct secrets secrets = {0};
	unsigned number = 0;

	while (at < end) {
		const char *line_end = memchr(at, '\n', (size_t)(end - at));
		const char *line = at, *last = line_end ? line_end : end;

		at = line_end ? line_end + 1 : end;
		number++;
		while (last > line && (last[-1] == ' ' || last[-1] == '\t' || last[-1] == '\r'))
			last--;
		while (line < last && (*line == ' ' || *line == '\t'))
			line++;
		if (line == last || *line == '#')
			continue;
		if (read_line(line, (size_t)(last - line), &secrets, ret_detail) != 0) {
			*ret_line = number;
			return -EINVAL;
		}
	}
	if (secrets.count == 0) {
		*ret_line = number;
		*ret_detail = "there is no secret in it";
		return -EINVAL;
	}
	*ret = secrets;
	return 0;
}

int sign(const struct secrets *secrets, const char *id, int64_t unix_seconds, const void *content, size_t len,
         struct wh__text *text)
{
	unsigned char digest[DIGEST_BYTES];
	struct wh__text signed_text;
	unsigned digest_len = 0;
	int error = 0;

	wh__text_init(&signed_text, NULL, 0);
	wh__text_format(&signed_text, "%s.%lld.", id, (long long)unix_seconds);
	wh__text_put(&signed_text, content, len);
	for (size_t i = 0; i < secrets->count && !signed_text.failed; i++) {
		if (!HMAC(EVP_sha256(), secrets->all[i].key, (int)secrets->all[i].len,
		          (const unsigned char *)signed_text.data, signed_text.len, digest, &digest_len)) {
			error = -ENOMEM;
			break;
		}
		wh__text_str(text, i == 0 ? "v1," : " v1,");
		wh__text_base64(text, digest, digest_len);
	}
	if (signed_text.failed || text->failed)
		error = -ENOMEM;
	wh__text_done(&signed_text);
	return error;
}
