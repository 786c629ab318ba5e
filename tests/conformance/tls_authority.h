/* tests/conformance/tls_authority.h -- an authority of the test's own, and certificates good and bad, in a temporary folder. */
#ifndef WH_TESTS_TLS_AUTHORITY_H
#define WH_TESTS_TLS_AUTHORITY_H

#include "conformance.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "whilst/tls.h"

static char tls_folder[] = "/tmp/whilst-tls-XXXXXX";

__attribute__((unused)) static const char *tls_path(const char *name)
{
	static char paths[8][96];
	static int which;
	which = (which + 1) % 8;
	snprintf(paths[which], sizeof paths[which], "%s/%s", tls_folder, name);
	return paths[which];
}

static X509 *tls_ca;
static EVP_PKEY *tls_ca_key;

__attribute__((unused)) static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

/* names: "DNS:a.test,IP:127.0.0.1"; NULL: an authority. issuer NULL: signed by itself. Seconds from now. */
__attribute__((unused)) static X509 *make_certificate(EVP_PKEY *key, const char *common_name,
                                                      const char *names, X509 *issuer, EVP_PKEY *issuer_key,
                                                      long from, long until)
{
	static long serial = 1;
	X509 *certificate = X509_new();
	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
	X509_gmtime_adj(X509_getm_notBefore(certificate), from);
	X509_gmtime_adj(X509_getm_notAfter(certificate), until);
	X509_set_pubkey(certificate, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
	                           (const unsigned char *)common_name, -1, -1, 0);
	if (!issuer)
		issuer = certificate;
	X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
	add_extension(certificate, issuer, NID_basic_constraints, names ? "CA:FALSE" : "critical,CA:TRUE");
	if (names)
		add_extension(certificate, issuer, NID_subject_alt_name, names);
	assert_true(X509_sign(certificate, issuer_key ? issuer_key : key, EVP_sha256()) > 0);
	return certificate;
}

__attribute__((unused)) static void write_pem(const char *name, X509 *certificate, EVP_PKEY *key)
{
	char file[64];
	snprintf(file, sizeof file, "%s.pem", name);
	FILE *out = fopen(tls_path(file), "w");
	assert_non_null(out);
	assert_int_equal(PEM_write_X509(out, certificate), 1);
	fclose(out);
	snprintf(file, sizeof file, "%s.key", name);
	out = fopen(tls_path(file), "w");
	assert_non_null(out);
	assert_int_equal(PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(out);
}

/* NAME.pem and NAME.key, signed by the authority. */
__attribute__((unused)) static void issue(const char *name, const char *names, long from, long until)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = make_certificate(key, name, names, tls_ca, tls_ca_key, from, until);
	write_pem(name, certificate, key);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

__attribute__((unused)) static void make_authority(void)
{
	enum { DAY = 86400 };
	assert_non_null(mkdtemp(tls_folder));
	tls_ca_key = EVP_EC_gen("P-256");
	tls_ca = make_certificate(tls_ca_key, "test authority", NULL, NULL, NULL, -DAY, DAY);
	write_pem("ca", tls_ca, tls_ca_key);
	issue("good", "DNS:good.test,DNS:*.wild.test,IP:127.0.0.1,IP:::1", -DAY, DAY);
	issue("other", "DNS:other.test", -DAY, DAY);
	issue("expired", "DNS:good.test", -2 * DAY, -DAY);
	issue("early", "DNS:good.test", DAY, 2 * DAY);
	issue("client", "DNS:client.test", -DAY, DAY);
	issue("common.test", "email:a@common.test", -DAY, DAY);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *self = make_certificate(key, "self", "DNS:good.test", NULL, NULL, -DAY, DAY);
	write_pem("self", self, key);
	X509 *foreign_ca = make_certificate(key, "foreign authority", NULL, NULL, NULL, -DAY, DAY);
	EVP_PKEY *foreign_key = EVP_EC_gen("P-256");
	X509 *foreign = make_certificate(foreign_key, "foreign", "DNS:good.test", foreign_ca, key, -DAY, DAY);
	write_pem("foreign_ca", foreign_ca, key);
	write_pem("foreign", foreign, foreign_key);
	X509_free(foreign);
	X509_free(foreign_ca);
	X509_free(self);
	EVP_PKEY_free(foreign_key);
	EVP_PKEY_free(key);
}

__attribute__((unused)) static void remove_authority(void)
{
	static const char *const names[] = {"ca",         "good",        "other",   "expired",
	                                    "early",      "client",      "self",    "foreign",
	                                    "foreign_ca", "common.test", "changing"};
	X509_free(tls_ca);
	EVP_PKEY_free(tls_ca_key);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char file[64];
		snprintf(file, sizeof file, "%s.pem", names[i]);
		unlink(tls_path(file));
		snprintf(file, sizeof file, "%s.key", names[i]);
		unlink(tls_path(file));
	}
	rmdir(tls_folder);
}

/* ---- contexts and connections -------------------------------------------------------------- */

__attribute__((unused)) static struct wh_tls_certificate certificate_of(const char *name)
{
	char file[64];
	struct wh_tls_certificate certificate = {0};
	snprintf(file, sizeof file, "%s.pem", name);
	certificate.chain_file = tls_path(file);
	snprintf(file, sizeof file, "%s.key", name);
	certificate.key_file = tls_path(file);
	return certificate;
}

__attribute__((unused)) static wh_tls_context *open_context(const struct wh_tls_options *options)
{
	wh_tls_context *context = NULL;
	assert_int_equal(wh_tls_context_open(options, &context), 0);
	return context;
}

__attribute__((unused)) static wh_tls_context *server_of(const char *name)
{
	struct wh_tls_certificate certificate = certificate_of(name);
	return open_context(&(struct wh_tls_options){
		.server = true, .certificates = &certificate, .certificate_count = 1});
}

__attribute__((unused)) static wh_tls_context *client_of_ca(void)
{
	return open_context(&(struct wh_tls_options){.ca_file = tls_path("ca.pem")});
}

struct tls_pair {
	wh_tls *client, *server;
	int64_t client_error, server_error;
	struct wh_tls_problem client_problem, server_problem;
};

/* Both ends of a connection over fds, which are taken. */
__attribute__((unused)) static void shake_hands(struct tls_pair *pair, int fds[2], wh_tls_context *client,
                                                wh_tls_context *server, const char *name)
{
	*pair = (struct tls_pair){0};
	wh_future a = wh_tls_connect(loop, fds[0], client, name, &pair->client_problem);
	wh_future b = wh_tls_accept(loop, fds[1], server, &pair->server_problem);
	wh_res res = wh_await(a);
	pair->client = res.n >= 0 ? res.ptr : NULL;
	pair->client_error = res.n;
	res = wh_await(b);
	pair->server = res.n >= 0 ? res.ptr : NULL;
	pair->server_error = res.n;
}

__attribute__((unused)) static void connect_pair(struct tls_pair *pair, wh_tls_context *client,
                                                 wh_tls_context *server, const char *name)
{
	int fds[2];
	make_pair(fds);
	shake_hands(pair, fds, client, server, name);
}

__attribute__((unused)) static void close_pair(struct tls_pair *pair)
{
	if (pair->client)
		assert_int_equal(wh_await(wh_tls_close(pair->client)).n, 0);
	if (pair->server)
		assert_int_equal(wh_await(wh_tls_close(pair->server)).n, 0);
	*pair = (struct tls_pair){0};
}

#endif
