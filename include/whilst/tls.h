/* tls.h -- TLS 1.2 and 1.3 on connected stream sockets.
 *
 * A context says who we are and whom we trust; it is counted and may be shared by connections of any loops. A connection
 * (wh_tls) takes a descriptor and offers what sockets offer: the same operations, with the same rules for borrowed memory,
 * pooled buffers, cancelling and closing. Everything runs on the loop's thread, on every engine but WH_SIM.
 *
 * The peer's certificate is verified unless the program says otherwise. Renegotiation and early data are off. A stream
 * that ends without the peer's close_notify is an error (-WH_ETLS_TRUNCATED), not an end of stream.
 *
 * Errors of handshakes: -WH_ETLS_CERTIFICATE, -WH_ETLS_REFUSED, -WH_ETLS_PROTOCOL, -WH_ETLS_TRUNCATED, -ECONNRESET, -EPIPE,
 * -ETIMEDOUT, -EBADF. Of what comes: -WH_ETLS_PROTOCOL, -WH_ETLS_REFUSED, -WH_ETLS_TRUNCATED, -ECONNRESET, -EBUSY (one at a time). Of
 * what is sent: -EPIPE, -ECONNRESET, -EBUSY, -WH_ETLS_TRUNCATED (and what else a receive has met). A connection is one of socket.h below: what that may give comes
 * through. -ENOSYS: the library was built without OpenSSL, or the machine is simulated. What may go wrong everywhere, and the words used
 * here, are told at the top of whilst.h.
 *
 * Source: RFC 8446 (TLS 1.3), 5246 (1.2), 9325 (how to use it), 6066 (server names), 7301 (ALPN).
 */
#ifndef WHILST_TLS_H
#define WHILST_TLS_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wh_tls_context wh_tls_context; /* who we are, whom we trust */
typedef struct wh_tls wh_tls;                 /* a connection */

/* ---- contexts ----------------------------------------------------------------------------- */

enum wh_tls_verify {
	WH_TLS_VERIFY_DEFAULT = 0, /* client: required; server: none */
	WH_TLS_VERIFY_REQUIRED,    /* the peer shows a certificate that is good, or there is no connection */
	WH_TLS_VERIFY_OPTIONAL,    /* server: the client need not show one; if it does, it is good */
	WH_TLS_VERIFY_NONE,        /* whoever is in between can read and change everything */
};

/* A certificate with its chain (leaf first) and its key, PEM: in files, or in memory. */
struct wh_tls_certificate {
	const char *chain_file, *key_file; /* key_file NULL: the key is in chain_file */
	const char *chain_pem, *key_pem;   /* in place of files; copied */
};

/* All-zero means defaults. Fields may be added at the end. Texts are copied. */
struct wh_tls_options {
	bool server;
	int verify; /* enum wh_tls_verify */
	const char *ca_file,
		*ca_dir; /* authorities to trust, PEM; both NULL, and no ca_pem: those of the system */
	const char *ca_pem;
	/* server: at least one; the first whose names fit the name that the client asks for is shown, else the first.
	 * client: at most one, shown to servers that ask for it. */
	const struct wh_tls_certificate *certificates;
	size_t certificate_count;
	const char *alpn;   /* "h2,http/1.1", best first. Server: none in common refuses a client that asks */
	int version_min;    /* 12 (default) or 13 */
	bool no_resumption; /* no session is kept by a client, no ticket given by a server */
	int64_t handshake_timeout_ns; /* default 10 s */
	/* server: called in the handshake, on the connection's loop, with the name that the client asks for ("" if none);
	 * the server context whose certificates and alpn count (it must stay open until this one is closed; verify and
	 * authorities stay as here), or NULL to refuse. The function itself NULL: by the certificates above. */
	wh_tls_context *(*choose)(const char *server_name, void *arg);
	void *choose_arg;
};

/* wh_tls_context_open() - read what options name: files are read by the calling thread, at once. Result 0; -ENOENT, -EACCES...
 * of a file; -WH_ETLS_CONFIG (not PEM, a key that does not fit or has a passphrase, a server without certificate);
 * -EINVAL; -ENOMEM; -ENOSYS. Thread: any. */
WH_API int wh_tls_context_open(const struct wh_tls_options *options, wh_tls_context **ret) WH_MUST_USE;

/* wh_tls_context_reload() - read the files anew. Handshakes that begin afterwards use what is there now; connections and
 * tickets stay good. On failure, errors of wh_tls_context_open(), nothing has changed. Thread: any. */
WH_API int wh_tls_context_reload(wh_tls_context *context) WH_MUST_USE;

/* wh_tls_context_close() - connections that use it keep it. Returns NULL; accepts NULL. Thread: any. */
WH_API wh_tls_context *wh_tls_context_close(wh_tls_context *context);

/* ---- connections -------------------------------------------------------------------------- */

/* Why a handshake failed. */
struct wh_tls_problem {
	int64_t error;    /* what the future gave */
	int verify_error; /* with -WH_ETLS_CERTIFICATE: X509_V_ERR_..., verify(1); else 0 */
	char text[160];   /* "certificate has expired" */
};

/* wh_tls_connect() - be the client on fd, which is connected.
 *
 * fd       taken: closed if this fails, and by wh_tls_close().
 * name     of the server, or its IP address: what its certificate must be for. NULL only with WH_TLS_VERIFY_NONE. Copied.
 * ret_problem  borrowed until completion; filled in if the handshake fails; NULL: not wanted.
 *
 * Result   n = 0, ptr = wh_tls *, given: wh_tls_close(). Dropped: closed.
 * Cancel   ends it at once, and closes fd.
 */
WH_API wh_future wh_tls_connect(wh_loop *loop, int fd, wh_tls_context *context, const char *name,
                                struct wh_tls_problem *ret_problem);

/* wh_tls_accept() - be the server on fd, which wh_accept() gave. As above. */
WH_API wh_future wh_tls_accept(wh_loop *loop, int fd, wh_tls_context *context,
                               struct wh_tls_problem *ret_problem);

/* As wh_recv(), wh_recv_buf(), wh_send_all() and wh_sendv_all(): at most one receive and one send at a time. After an
 * error of the stream every operation gives that error. A send that is cancelled may have sent any part of its bytes. */
WH_API wh_future wh_tls_recv(wh_tls *tls, void *buf, size_t len);
WH_API wh_future wh_tls_recv_buf(wh_tls *tls);
WH_API wh_future wh_tls_send_all(wh_tls *tls, const void *buf, size_t len);
WH_API wh_future wh_tls_sendv_all(wh_tls *tls, const struct iovec *iov, int count);

/* wh_tls_shutdown() - say that nothing more will be sent (close_notify); counts as a send. n = 0 once that is with the kernel.
 * Receiving goes on until the peer does the same. Later sends give -EPIPE. */
WH_API wh_future wh_tls_shutdown(wh_tls *tls);

/* wh_tls_close() - cancel operations, tell the peer if that can be done without waiting, close the descriptor. tls is
 * no longer valid, whatever the future gives; n = 0. */
WH_API wh_future wh_tls_close(wh_tls *tls);

WH_API int wh_tls_fd(const wh_tls *tls);                  /* for getpeername(2), setsockopt(2) */
WH_API const char *wh_tls_version(const wh_tls *tls);     /* "TLSv1.3" */
WH_API const char *wh_tls_cipher(const wh_tls *tls);      /* "TLS_AES_256_GCM_SHA384" */
WH_API const char *wh_tls_alpn(const wh_tls *tls);        /* "h2"; "": none was agreed */
WH_API const char *wh_tls_server_name(const wh_tls *tls); /* that the client asked for; "": none */
WH_API bool wh_tls_resumed(const wh_tls *tls); /* the handshake was a short one: an earlier session went on */
/* The subject of the peer's certificate as "CN = example.org, ..." (RFC 2253), "" if it showed none; at most max bytes with the
 * NUL at the end. Result: its length. */
WH_API size_t wh_tls_peer_name(const wh_tls *tls, char *to, size_t max);

#ifdef __cplusplus
}
#endif
#endif
