/* src/front/token_digest_none.c -- no digest without OpenSSL: a file of tokens is refused. See token.h. */
#include <errno.h>

#include "front/token.h"

int token_digest(const void *bytes, size_t len, unsigned char ret[TOKEN_DIGEST_BYTES])
{
	(void)bytes;
	(void)len;
	(void)ret;
	return -ENOSYS;
}
