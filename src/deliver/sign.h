/* src/deliver/sign.h -- secrets of callbacks, and signing with them: Standard Webhooks 1.0.
 *
 * A message is signed over "id.timestamp.content" by HMAC-SHA256. Several secrets give several signatures, so that a receiver can be given the
 * new one before the old one goes. Pure, but for OpenSSL; any thread.
 */
#ifndef WH_DELIVER_SIGN_H
#define WH_DELIVER_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

enum { SECRETS_MAX = 8, SECRET_BYTES_MIN = 24, SECRET_BYTES_MAX = 64 };

struct secrets {
	size_t count;
	struct {
		uint8_t key[SECRET_BYTES_MAX];
		size_t len;
	} all[SECRETS_MAX];
};

/* secrets_read() - from the text of a file: "whsec_" and base64 of 24 to 64 bytes on a line each; blank lines and those that begin with #
 * are passed over. 0; or -EINVAL with the line and what is wrong with it (static); -ENOSYS: built without OpenSSL. */
int secrets_read(const char *text, size_t len, struct secrets *ret, unsigned *ret_line,
                 const char **ret_detail);

/* sign() - append "v1,SIGNATURE", for each secret, with blanks between them. id must be without dots. -ENOMEM, -ENOSYS. */
int sign(const struct secrets *secrets, const char *id, int64_t unix_seconds, const void *content, size_t len,
         struct wh__text *text);

#endif
