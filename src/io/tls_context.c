/* src/io/tls_context.c -- who we are and whom we trust; sessions that a client may resume.
 *
 * A context keeps what it was opened with, so that it can be read again: a reload builds all anew and then takes the place of
 * the old under the lock. Each certificate of a server is an SSL_CTX of its own; the first is the one that connections
 * begin with, and the name that a client asks for may lead to another.
 *
 * Thread: any. Memory: counted; OpenSSL's own objects are counted by themselves, so a connection keeps what it began with.
 */
#include "io/tls.h"
#include "io/tls_tickets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { SESSIONS_MAX = 256, ALPN_MAX = 255 };
#define TIMEOUT_NS (10 * WH_NS_PER_S)

/* A session that a client may resume. */
struct session {
	struct session *next;
	SSL_SESSION *session;
	char name[];
};

struct wh_tls_context {
	_Atomic uint32_t references;
	pthread_mutex_t lock;
	struct wh_tls_options options; /* with texts of our own */
	struct wh_tls_certificate *certificates;
	uint8_t alpn[ALPN_MAX]; /* as on the wire */
	uint32_t alpn_len;
	struct wh__tls_tickets tickets; /* of a server; outlive a reload */
	/* under the lock */
	SSL_CTX **ctxs; /* one for each certificate, at least one */
	size_t ctx_count;
	struct session *sessions; /* newest first */
	uint32_t session_count;
};

/* ---- errors ------------------------------------------------------------------------------- */

int64_t wh__tls_error(const SSL *ssl, struct wh_tls_problem *ret)
{
	struct wh_tls_problem problem = {.error = -WH_ETLS_PROTOCOL};
	unsigned long first = ERR_peek_error(), code;
	const char *text = first ? ERR_reason_error_string(first) : NULL;
	long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	bool no_memory = false;
	while ((code = ERR_get_error()) != 0)
		no_memory |= ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
	int reason = ERR_GET_LIB(first) == ERR_LIB_SSL ? ERR_GET_REASON(first) : 0;
	if (no_memory) {
		problem.error = -ENOMEM;
	} else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		problem.error = -WH_ETLS_CERTIFICATE;
		problem.verify_error = (int)verify;
		text = verify != X509_V_OK ? X509_verify_cert_error_string(verify) : text;
	} else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
		problem.error = -WH_ETLS_CERTIFICATE;
	} else if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		problem.error = -WH_ETLS_TRUNCATED;
	} else if (reason >= SSL_AD_REASON_OFFSET) {
		problem.error = -WH_ETLS_REFUSED; /* the reason is that of the peer's alert */
	}
	snprintf(problem.text, sizeof problem.text, "%s", text ? text : wh_strerror(problem.error));
	if (ret)
		*ret = problem;
	return problem.error;
}

static int config_error(void)
{
	return wh__tls_error(NULL, NULL) == -ENOMEM ? -ENOMEM : -WH_ETLS_CONFIG;
}

/* ---- sessions of a client ----------------------------------------------------------------- */

static void free_session(struct session *session)
{
	SSL_SESSION_free(session->session);
	free(session);
}

/* The lock is held. */
static struct session *take_out(wh_tls_context *context, struct session **link)
{
	struct session *session = *link;
	*link = session->next;
	context->session_count--;
	return session;
}

/* A server has given a ticket. 1: the session is ours now. */
static int on_session(SSL *ssl, SSL_SESSION *given)
{
	wh_tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	const char *name = SSL_get_app_data(ssl);
	size_t len = name ? strlen(name) + 1 : 0;
	struct session *session = name ? malloc(sizeof *session + len) : NULL;
	if (!session)
		return 0;
	memcpy(session->name, name, len);
	session->session = given;
	pthread_mutex_lock(&context->lock);
	session->next = context->sessions;
	context->sessions = session;
	if (++context->session_count > SESSIONS_MAX) {
		struct session **link = &context->sessions;
		while ((*link)->next)
			link = &(*link)->next;
		free_session(take_out(context, link));
	}
	pthread_mutex_unlock(&context->lock);
	return 1;
}

/* The newest session with that server; each is used once, RFC 8446 C.4. */
static void resume(wh_tls_context *context, SSL *ssl, const char *name)
{
	struct session *found = NULL;
	pthread_mutex_lock(&context->lock);
	for (struct session **link = &context->sessions; *link && !found;) {
		if (!strcmp((*link)->name, name))
			found = take_out(context, link);
		else
			link = &(*link)->next;
	}
	pthread_mutex_unlock(&context->lock);
	if (!found)
		return;
	if (SSL_SESSION_is_resumable(found->session))
		(void)SSL_set_session(ssl,
		                      found->session); /* if it does not fit, the handshake is a full one */
	free_session(found);
}

/* ---- what a context is made of ------------------------------------------------------------ */

/* Or OpenSSL would ask for it on the terminal. */
static int no_passphrase(char *to, int max, int writing, void *arg)
{
	return 0;
}

static int check_readable(const char *path)
{
	return path && access(path, R_OK) < 0 ? -errno : 0;
}

static BIO *bio_of(const char *path, const char *pem)
{
	return path ? BIO_new_file(path, "r") : BIO_new_mem_buf(pem, -1);
}

static int use_chain(SSL_CTX *ctx, BIO *bio)
{
	X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL), *next;
	if (!leaf || SSL_CTX_use_certificate(ctx, leaf) != 1) {
		X509_free(leaf);
		return config_error();
	}
	X509_free(leaf);
	while ((next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)))
		if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
			X509_free(next);
			return config_error();
		}
	unsigned long code = ERR_peek_last_error();
	if (ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE)
		return config_error();
	ERR_clear_error(); /* that was the end of it */
	return 0;
}

static int use_key(SSL_CTX *ctx, BIO *bio)
{
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	bool good = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
	EVP_PKEY_free(key);
	return good ? 0 : config_error();
}

static int use_certificate(SSL_CTX *ctx, const struct wh_tls_certificate *certificate)
{
	const char *key_file = certificate->key_file ? certificate->key_file : certificate->chain_file;
	const char *key_pem = certificate->key_pem ? certificate->key_pem : certificate->chain_pem;
	if (!certificate->chain_file && !certificate->chain_pem)
		return -EINVAL;
	int error = check_readable(certificate->chain_file);
	if (error == 0)
		error = check_readable(key_file);
	if (error != 0)
		return error;
	BIO *chain = bio_of(certificate->chain_file, certificate->chain_pem);
	error = chain ? use_chain(ctx, chain) : config_error();
	BIO_free(chain);
	if (error != 0)
		return error;
	BIO *key = bio_of(key_file, key_pem);
	error = key ? use_key(ctx, key) : config_error();
	BIO_free(key);
	return error;
}

static int trust_memory(SSL_CTX *ctx, const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *authority;
	int count = 0, error = 0;
	while (bio && error == 0 && (authority = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
		count++;
		if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority) != 1)
			error = config_error();
		X509_free(authority);
	}
	BIO_free(bio);
	/* the end of what there is, and not the first that cannot be read */
	if (error == 0 && (count == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE))
		error = config_error();
	ERR_clear_error();
	return error;
}

/* An authority whose key OpenSSL had no memory to read is kept without it, and all that it vouches for would be refused. Of a kind
 * that OpenSSL does not know the key cannot be read now either. */
static bool lacks_its_key(X509 *authority)
{
	EVP_PKEY *had = X509_get0_pubkey(authority);
	unsigned char *bytes = NULL;
	if (had && EVP_PKEY_get_bits(had) > 0) /* 0: it knows the kind, and no more */
		return false;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(authority), &bytes);
	const unsigned char *at = bytes;
	EVP_PKEY *key = len > 0 ? d2i_PUBKEY(NULL, &at, len) : NULL;
	bool lacks = len <= 0 || (key && EVP_PKEY_get_bits(key) > 0);
	EVP_PKEY_free(key);
	OPENSSL_free(bytes);
	ERR_clear_error();
	return lacks;
}

static int check_keys(SSL_CTX *ctx)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *authority = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
		if (authority && lacks_its_key(authority))
			return -ENOMEM;
	}
	return 0;
}

static int trust(SSL_CTX *ctx, const struct wh_tls_options *options)
{
	int error = check_readable(options->ca_file);
	if (error == 0)
		error = check_readable(options->ca_dir);
	if (error == 0 && options->ca_pem)
		error = trust_memory(ctx, options->ca_pem);
	if (error == 0 && options->ca_file && SSL_CTX_load_verify_file(ctx, options->ca_file) != 1)
		error = config_error();
	if (error == 0 && options->ca_dir && SSL_CTX_load_verify_dir(ctx, options->ca_dir) != 1)
		error = config_error();
	if (error == 0 && !options->ca_file && !options->ca_dir && !options->ca_pem &&
	    SSL_CTX_set_default_verify_paths(ctx) != 1)
		error = config_error();
	if (error == 0)
		error = check_keys(ctx);
	if (error == 0 && options->server && options->ca_file)
		SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(options->ca_file));
	return error;
}

static int verify_mode(const struct wh_tls_options *options)
{
	switch (options->verify) {
	case WH_TLS_VERIFY_REQUIRED:
		return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	case WH_TLS_VERIFY_OPTIONAL:
		return SSL_VERIFY_PEER;
	case WH_TLS_VERIFY_NONE:
		return SSL_VERIFY_NONE;
	default:
		return options->server ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
	}
}

static int on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len, const unsigned char *offered,
                   unsigned int offered_len, void *arg)
{
	const wh_tls_context *context = arg;
	unsigned char *chosen;
	if (SSL_select_next_proto(&chosen, ret_len, context->alpn, context->alpn_len, offered, offered_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 3.2 */
	*ret = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *ctx_for_name(const wh_tls_context *context, const char *name)
{
	for (size_t i = 0; i < context->ctx_count; i++) {
		X509 *certificate = SSL_CTX_get0_certificate(context->ctxs[i]);
		if (certificate && X509_check_host(certificate, name, 0, 0, NULL) == 1)
			return context->ctxs[i];
	}
	return context->ctxs[0];
}

/* The certificate is that of ctx. Whom we trust stays: tickets are sealed by the context that the connection began with, and a
 * client that one name's authorities vouch for must not resume under a name that trusts others. */
static bool change_ctx(SSL *ssl, SSL_CTX *ctx)
{
	SSL_CTX *from = SSL_get_SSL_CTX(ssl);
	STACK_OF(X509_NAME) *names = SSL_CTX_get_client_CA_list(from);
	X509_STORE *store = SSL_CTX_get_cert_store(from);
	if (X509_STORE_up_ref(store) != 1) /* from may go with the change */
		return false;
	names = names ? SSL_dup_CA_list(names) : NULL;
	bool good = SSL_set_SSL_CTX(ssl, ctx) == ctx && SSL_set1_verify_cert_store(ssl, store) == 1;
	X509_STORE_free(store);
	SSL_set_client_CA_list(ssl, names); /* takes them */
	return good;
}

static int on_server_name(SSL *ssl, int *ret_alert, void *arg)
{
	wh_tls_context *context = arg, *chosen = context;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (context->options.choose) {
		chosen = context->options.choose(name ? name : "", context->options.choose_arg);
		if (!chosen || !chosen->options.server) {
			*ret_alert = SSL_AD_UNRECOGNIZED_NAME;
			return SSL_TLSEXT_ERR_ALERT_FATAL;
		}
	}
	pthread_mutex_lock(&chosen->lock);
	SSL_CTX *ctx = name ? ctx_for_name(chosen, name) : chosen->ctxs[0];
	bool changes = ctx != SSL_get_SSL_CTX(ssl) && (name || chosen != context);
	bool good = !changes || change_ctx(ssl, ctx);
	pthread_mutex_unlock(&chosen->lock);
	return good ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* false: no memory. */
static bool set_up(SSL_CTX *ctx, wh_tls_context *context)
{
	const struct wh_tls_options *options = &context->options;
	static const unsigned char session_context[] = "whilst";
	if (SSL_CTX_set_app_data(ctx, context) != 1)
		return false;
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_min_proto_version(ctx, options->version_min == 13 ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
	                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(ctx, verify_mode(options), NULL);
	if (options->server) {
		/* tickets keep the state with the client: nothing grows here */
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
		(void)SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1);
		SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
		SSL_CTX_set_tlsext_servername_arg(ctx, context);
		if (options->no_resumption) {
			SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
			(void)SSL_CTX_set_num_tickets(ctx, 0);
		} else if (!wh__tls_tickets_serve(ctx)) {
			return false;
		}
		if (context->alpn_len > 0)
			SSL_CTX_set_alpn_select_cb(ctx, on_alpn, context);
	} else if (!options->no_resumption) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, on_session);
	} else {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	}
	return true;
}

static int make_ctx(wh_tls_context *context, const struct wh_tls_certificate *certificate, SSL_CTX **ret)
{
	const struct wh_tls_options *options = &context->options;
	ERR_clear_error();
	SSL_CTX *ctx = SSL_CTX_new(options->server ? TLS_server_method() : TLS_client_method());
	if (!ctx)
		return config_error();
	int error = set_up(ctx, context) ? 0 : -ENOMEM;
	if (error == 0 && verify_mode(options) != SSL_VERIFY_NONE)
		error = trust(ctx, options);
	if (error == 0 && !options->server && context->alpn_len > 0 &&
	    SSL_CTX_set_alpn_protos(ctx, context->alpn, context->alpn_len) != 0)
		error = config_error();
	if (error == 0 && certificate)
		error = use_certificate(ctx, certificate);
	if (error != 0)
		SSL_CTX_free(ctx);
	else
		*ret = ctx;
	return error;
}

static void free_ctxs(SSL_CTX **ctxs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		SSL_CTX_free(ctxs[i]);
	free(ctxs);
}

static int make_ctxs(wh_tls_context *context, SSL_CTX ***ret, size_t *ret_count)
{
	size_t wanted = context->options.certificate_count, count = 0;
	SSL_CTX **ctxs = calloc(wanted ? wanted : 1, sizeof *ctxs);
	int error = ctxs ? 0 : -ENOMEM;
	for (; error == 0 && count < (wanted ? wanted : 1); count++)
		error = make_ctx(context, wanted ? &context->certificates[count] : NULL, &ctxs[count]);
	if (error != 0) {
		free_ctxs(ctxs, ctxs ? count : 0); /* the last one is NULL, which is fine */
		return error;
	}
	*ret = ctxs;
	*ret_count = count;
	return 0;
}

/* ---- open, reload, close ------------------------------------------------------------------ */

static int copy_text(const char **text)
{
	if (!*text)
		return 0;
	*text = strdup(*text);
	return *text ? 0 : -ENOMEM;
}

/* Copies in place, in an order such that what is not copied yet can be told from what is: it is set to NULL on failure. */
static int copy_texts(const char **texts[], size_t count)
{
	int error = 0;
	for (size_t i = 0; i < count; i++) {
		if (error != 0)
			*texts[i] = NULL;
		else
			error = copy_text(texts[i]);
	}
	return error;
}

static int copy_options(wh_tls_context *context, const struct wh_tls_options *given)
{
	struct wh_tls_options *options = &context->options;
	size_t count = given->certificate_count;
	*options = *given;
	options->alpn = NULL; /* as on the wire, that is enough */
	const char **texts[] = {&options->ca_file, &options->ca_dir, &options->ca_pem};
	options->certificates = NULL;
	options->certificate_count = 0;
	int error = copy_texts(texts, sizeof texts / sizeof *texts);
	if (error == 0 && count > 0) {
		context->certificates = calloc(count, sizeof *context->certificates);
		error = context->certificates ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < count && error == 0; i++) {
		struct wh_tls_certificate *to = &context->certificates[i];
		*to = given->certificates[i];
		const char **of_certificate[] = {&to->chain_file, &to->key_file, &to->chain_pem,
		                                 &to->key_pem};
		options->certificate_count++;
		error = copy_texts(of_certificate, sizeof of_certificate / sizeof *of_certificate);
	}
	options->certificates = context->certificates;
	return error;
}

/* "h2,http/1.1" as RFC 7301 3.1 has it. */
static int parse_alpn(wh_tls_context *context, const char *text)
{
	while (text && *text) {
		size_t len = strcspn(text, ",");
		if (len == 0 || context->alpn_len + 1 + len > ALPN_MAX)
			return -EINVAL;
		context->alpn[context->alpn_len] = (uint8_t)len;
		memcpy(context->alpn + context->alpn_len + 1, text, len);
		context->alpn_len += (uint32_t)(1 + len);
		text += len + (text[len] == ',');
	}
	return 0;
}

static void free_text(const char *text)
{
	free((char *)(uintptr_t)text);
}

static void free_context(wh_tls_context *context)
{
	free_ctxs(context->ctxs, context->ctx_count);
	while (context->sessions)
		free_session(take_out(context, &context->sessions));
	for (size_t i = 0; i < context->options.certificate_count; i++) {
		struct wh_tls_certificate *certificate = &context->certificates[i];
		if (certificate->key_pem)
			OPENSSL_cleanse((char *)(uintptr_t)certificate->key_pem,
			                strlen(certificate->key_pem));
		free_text(certificate->chain_file);
		free_text(certificate->key_file);
		free_text(certificate->chain_pem);
		free_text(certificate->key_pem);
	}
	free(context->certificates);
	free_text(context->options.ca_file);
	free_text(context->options.ca_dir);
	free_text(context->options.ca_pem);
	pthread_mutex_destroy(&context->lock);
	wh__tls_tickets_fini(&context->tickets);
	free(context);
}

static bool is_valid(const struct wh_tls_options *options)
{
	bool has_choice = options->server && options->choose;
	if (options->verify < WH_TLS_VERIFY_DEFAULT || options->verify > WH_TLS_VERIFY_NONE)
		return false;
	if (options->version_min != 0 && options->version_min != 12 && options->version_min != 13)
		return false;
	if (options->certificate_count > 0 && !options->certificates)
		return false;
	return options->server ? options->certificate_count > 0 || has_choice
	                       : options->certificate_count <= 1;
}

int wh_tls_context_open(const struct wh_tls_options *options, wh_tls_context **ret)
{
	static const struct wh_tls_options defaults;
	if (!options)
		options = &defaults;
	if (!is_valid(options))
		return options->server && options->certificate_count == 0 ? -WH_ETLS_CONFIG : -EINVAL;
	wh_tls_context *context = calloc(1, sizeof *context);
	if (!context)
		return -ENOMEM;
	atomic_init(&context->references, 1);
	pthread_mutex_init(&context->lock, NULL);
	wh__tls_tickets_init(&context->tickets);
	int error = copy_options(context, options);
	if (error == 0)
		error = parse_alpn(context, options->alpn);
	if (error == 0)
		error = make_ctxs(context, &context->ctxs, &context->ctx_count);
	if (error != 0) {
		free_context(context);
		return error;
	}
	*ret = context;
	return 0;
}

int wh_tls_context_reload(wh_tls_context *context)
{
	SSL_CTX **ctxs = NULL;
	size_t count = 0;
	if (!context)
		return -EINVAL;
	int error = make_ctxs(context, &ctxs, &count);
	if (error != 0)
		return error;
	pthread_mutex_lock(&context->lock);
	SSL_CTX **old = context->ctxs;
	context->ctxs = ctxs;
	pthread_mutex_unlock(&context->lock);
	free_ctxs(old, count);
	return 0;
}

void wh__tls_context_unref(wh_tls_context *context)
{
	if (context && atomic_fetch_sub(&context->references, 1) == 1)
		free_context(context);
}

wh_tls_context *wh_tls_context_close(wh_tls_context *context)
{
	wh__tls_context_unref(context);
	return NULL;
}

/* ---- for one connection ------------------------------------------------------------------- */

struct wh__tls_tickets *wh__tls_context_tickets(wh_tls_context *context)
{
	return &context->tickets;
}

int64_t wh__tls_handshake_timeout(const wh_tls_context *context)
{
	return context->options.handshake_timeout_ns > 0 ? context->options.handshake_timeout_ns : TIMEOUT_NS;
}

static int expect_name(const wh_tls_context *context, SSL *ssl, const char *name)
{
	struct in6_addr address;
	bool is_address = inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
	if (is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1 ? 0 : -ENOMEM;
	/* names stand in subjectAltName; a common name is none: RFC 9110 section 4.3.4, RFC 9525 section 6.3 */
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (SSL_set1_host(ssl, name) != 1 || SSL_set_tlsext_host_name(ssl, name) != 1)
		return -ENOMEM;
	return 0;
}

static int copy_name(const char *name, char **ret)
{
	size_t len = strlen(name);
	if (len > 0 && name[len - 1] == '.')
		len--; /* RFC 6066 3 */
	if (len == 0 || len > 255 || name[0] == '.')
		return -EINVAL; /* with a dot at its start OpenSSL takes any name below it */
	*ret = strndup(name, len);
	return *ret ? 0 : -ENOMEM;
}

int wh__tls_new(wh_tls_context *context, bool server, const char *name, SSL **ret)
{
	char *kept = NULL;
	if (!context || context->options.server != server)
		return -EINVAL;
	if (!server && !name && context->options.verify != WH_TLS_VERIFY_NONE)
		return -EINVAL;
	int error = name ? copy_name(name, &kept) : 0;
	if (error != 0)
		return error;
	ERR_clear_error();
	pthread_mutex_lock(&context->lock);
	SSL *ssl = SSL_new(context->ctxs[0]);
	pthread_mutex_unlock(&context->lock);
	if (!ssl) {
		free(kept);
		return -ENOMEM;
	}
	if (SSL_set_app_data(ssl, kept) != 1) {
		free(kept);
		error = -ENOMEM;
	} else if (server && !context->options.no_resumption) {
		error = wh__tls_tickets_use(&context->tickets, ssl) ? 0 : -ENOMEM;
	} else if (kept) {
		error = expect_name(context, ssl, kept);
	}
	if (error != 0) {
		ERR_clear_error();
		wh__tls_free(ssl);
		return error;
	}
	if (kept && !server && !context->options.no_resumption)
		resume(context, ssl, kept);
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	atomic_fetch_add(&context->references, 1);
	*ret = ssl;
	return 0;
}

SSL *wh__tls_free(SSL *ssl)
{
	if (!ssl)
		return NULL;
	free(SSL_get_app_data(ssl));
	/* or a connection that ends without the peer's close_notify would spoil its session for others */
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
	ERR_clear_error();
	return NULL;
}
