/* src/deliver/sign_none.c -- nothing is signed without OpenSSL: a file of secrets is refused. See sign.h. */
#include <errno.h>

#include "deliver/sign.h"

int secrets_read(const char *text, size_t len, struct secrets *ret, unsigned *ret_line,
                 const char **ret_detail)
{
	(void)text;
	(void)len;
	(void)ret;
	(void)ret_line;
	(void)ret_detail;
	return -ENOSYS;
}

int sign(const struct secrets *secrets, const char *id, int64_t unix_seconds, const void *content, size_t len,
         struct wh__text *text)
{
	(void)secrets;
	(void)id;
	(void)unix_seconds;
	(void)content;
	(void)len;
	(void)text;
	return -ENOSYS;
}
