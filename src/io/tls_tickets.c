/* src/io/tls_tickets.c -- the keys that seal a server's session tickets, and when they change.
 *
 * Who gets hold of a key can read the recorded connections whose tickets it sealed (RFC 5077 section 5.5, RFC 8446 appendix
 * F.1.1 for those that resume without a new key exchange; OpenSSL's clients always make one). So a key seals for as long as a
 * ticket lives, opens for as long again, and is gone.
 *
 * Thread: any; a connection of any loop. Memory: part of a context, which its connections keep.
 */
#include "io/tls_tickets.h"

#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/rand.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int
	ex_index; /* of an SSL: the tickets of the context that it began with, whatever name it asked for */

static void make_index(void)
{
	ex_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static int64_t now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (int64_t)at.tv_sec * WH_NS_PER_S + at.tv_nsec;
}

/* The lock is held. false: no random bytes. */
static bool renew(struct wh__tls_tickets *tickets)
{
	struct wh__tls_ticket_key *current = &tickets->keys[0], *before = &tickets->keys[1];
	int64_t at = now() + tickets->aged_ns;
	int64_t age = current->is_set ? at - current->made_at : 0;
	if (before->is_set && at - before->made_at >= 2 * WH__TLS_TICKET_KEY_NS)
		OPENSSL_cleanse(before, sizeof *before);
	if (current->is_set && age < WH__TLS_TICKET_KEY_NS)
		return true;
	if (current->is_set && age < 2 * WH__TLS_TICKET_KEY_NS)
		*before = *current;
	OPENSSL_cleanse(current, sizeof *current);
	if (RAND_bytes(current->name, sizeof current->name) != 1 ||
	    RAND_bytes(current->cipher, sizeof current->cipher) != 1 ||
	    RAND_bytes(current->mac, sizeof current->mac) != 1)
		return false;
	current->made_at = at;
	current->is_set = true;
	return true;
}

/* A copy, so that OpenSSL works without the lock. false: none of that name, or none at all. */
static bool key_for(struct wh__tls_tickets *tickets, const uint8_t *name, struct wh__tls_ticket_key *ret,
                    bool *ret_current)
{
	bool found = false;
	pthread_mutex_lock(&tickets->lock);
	bool good = renew(tickets);
	for (int i = 0; good && !found && i < 2; i++) {
		const struct wh__tls_ticket_key *key = &tickets->keys[i];
		if (!key->is_set || (name && memcmp(key->name, name, sizeof key->name) != 0))
			continue;
		*ret = *key;
		*ret_current = i == 0;
		found = true;
	}
	pthread_mutex_unlock(&tickets->lock);
	return found;
}

static bool set_mac(EVP_MAC_CTX *mac, struct wh__tls_ticket_key *key)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end()};
	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* -1: the handshake fails; 0: no ticket, or not one of ours; 1: sealed, opened; 2: opened, and a new one is to be given. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int sealing)
{
	struct wh__tls_tickets *tickets = SSL_get_ex_data(ssl, ex_index);
	struct wh__tls_ticket_key key;
	bool current = true, good;
	if (!tickets || !key_for(tickets, sealing ? NULL : name, &key, &current))
		return 0;
	if (sealing) {
		memcpy(name, key.name, sizeof key.name);
		good = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
		       EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
	} else {
		good = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
	}
	good = good && set_mac(mac, &key);
	OPENSSL_cleanse(&key, sizeof key);
	/* each is used once in TLS 1.3, RFC 8446 appendix C.4: whoever has used one gets another */
	return !good ? -1 : current && (sealing || SSL_version(ssl) < TLS1_3_VERSION) ? 1 : 2;
}

void wh__tls_tickets_init(struct wh__tls_tickets *tickets)
{
	pthread_mutex_init(&tickets->lock, NULL);
}

void wh__tls_tickets_fini(struct wh__tls_tickets *tickets)
{
	OPENSSL_cleanse(tickets->keys, sizeof tickets->keys);
	pthread_mutex_destroy(&tickets->lock);
}

void wh__tls_tickets_age(struct wh__tls_tickets *tickets, int64_t ns)
{
	pthread_mutex_lock(&tickets->lock);
	tickets->aged_ns += ns;
	pthread_mutex_unlock(&tickets->lock);
}

bool wh__tls_tickets_serve(SSL_CTX *ctx)
{
	return pthread_once(&once, make_index) == 0 && ex_index >= 0 &&
	       SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1;
}

bool wh__tls_tickets_use(struct wh__tls_tickets *tickets, SSL *ssl)
{
	return SSL_set_ex_data(ssl, ex_index, tickets) == 1;
}
