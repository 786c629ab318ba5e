/* src/front/token_digest.c -- the digest of a token, by OpenSSL. See token.h. */
#include <errno.h>

#include <openssl/evp.h>

#include "front/token.h"

int token_digest(const void *bytes, size_t len, unsigned char ret[TOKEN_DIGEST_BYTES])
{
	return EVP_Digest(bytes, len, ret, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}
