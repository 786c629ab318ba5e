/* tests/conformance/test_tls_trust.c -- whom a handshake trusts, what it agrees on, and other programs as peers. */
#include "tls_authority.h"

#include "io/tls.h"
#include "io/tls_tickets.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- certificates -------------------------------------------------------------------------- */

static void refuses(const char *certificate, const char *name, const char *why, int64_t told_to_server)
{
	struct tls_pair pair;
	wh_tls_context *client = client_of_ca(), *server = server_of(certificate);
	connect_pair(&pair, client, server, name);
	assert_int_equal(pair.client_error, -WH_ETLS_CERTIFICATE);
	assert_int_equal(pair.client_problem.error, -WH_ETLS_CERTIFICATE);
	assert_true(pair.client_problem.verify_error != X509_V_OK);
	if (!strstr(pair.client_problem.text, why))
		fail_msg("%s for %s: %s", certificate, name, pair.client_problem.text);
	assert_null(pair.client);
	/* the server of TLS 1.3 may think that all is well until it reads */
	if (pair.server) {
		char byte;
		pair.server_error = wh_await(wh_tls_recv(pair.server, &byte, 1)).n;
	}
	assert_true(pair.server_error == told_to_server || pair.server_error == -ECONNRESET);
	close_pair(&pair);
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

static void bad_certificates_are_refused(void **state)
{
	refuses("expired", "good.test", "expired", -WH_ETLS_REFUSED);
	refuses("early", "good.test", "not yet valid", -WH_ETLS_REFUSED);
	refuses("self", "good.test", "self-signed", -WH_ETLS_REFUSED);
	refuses("foreign", "good.test", "unable to get local issuer", -WH_ETLS_REFUSED);
	refuses("good", "bad.test", "hostname mismatch", -WH_ETLS_REFUSED);
	refuses("good", "a.b.wild.test", "hostname mismatch", -WH_ETLS_REFUSED);
	refuses("good", "127.0.0.2", "IP address mismatch", -WH_ETLS_REFUSED);
	refuses("other", "::1", "IP address mismatch", -WH_ETLS_REFUSED);
	refuses("common.test", "common.test", "hostname mismatch", -WH_ETLS_REFUSED);
}

static void good_names_are_accepted(void **state)
{
	static const char *const names[] = {"good.test",   "GOOD.test", "good.test.",
	                                    "a.wild.test", "127.0.0.1", "::1"};
	wh_tls_context *client = client_of_ca(), *server = server_of("good");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct tls_pair pair;
		connect_pair(&pair, client, server, names[i]);
		assert_int_equal(pair.client_error, 0);
		assert_string_equal(wh_tls_server_name(pair.server), i == 2  ? "good.test"
		                                                     : i < 4 ? names[i]
		                                                             : ""); /* no SNI for addresses */
		close_pair(&pair);
	}
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

static void verification_can_be_turned_off_only_by_saying_so(void **state)
{
	struct tls_pair pair;
	wh_tls_context *server = server_of("self");
	wh_tls_context *careless = open_context(&(struct wh_tls_options){.verify = WH_TLS_VERIFY_NONE});
	wh_tls_context *system = open_context(NULL); /* does not know the authority of this test */
	connect_pair(&pair, careless, server, NULL);
	assert_int_equal(pair.client_error, 0);
	close_pair(&pair);
	connect_pair(&pair, system, server, "good.test");
	assert_int_equal(pair.client_error, -WH_ETLS_CERTIFICATE);
	close_pair(&pair);
	wh_tls_context_close(careless);
	wh_tls_context_close(system);
	wh_tls_context_close(server);
}

static char *slurp(const char *path)
{
	static char bytes[4][8192];
	static int which;
	which = (which + 1) % 4;
	FILE *in = fopen(path, "r");
	assert_non_null(in);
	bytes[which][fread(bytes[which], 1, sizeof bytes[which] - 1, in)] = 0;
	fclose(in);
	return bytes[which];
}

static void certificates_from_memory(void **state)
{
	struct tls_pair pair;
	struct wh_tls_certificate certificate = {.chain_pem = slurp(tls_path("good.pem")),
	                                         .key_pem = slurp(tls_path("good.key"))};
	wh_tls_context *server = open_context(&(struct wh_tls_options){
		.server = true, .certificates = &certificate, .certificate_count = 1});
	wh_tls_context *client = open_context(&(struct wh_tls_options){.ca_pem = slurp(tls_path("ca.pem"))});
	connect_pair(&pair, client, server, "good.test");
	assert_int_equal(pair.client_error, 0);
	close_pair(&pair);
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

static void clients_show_certificates(void **state)
{
	struct tls_pair pair;
	struct wh_tls_certificate good = certificate_of("good"), own = certificate_of("client"),
				  foreign = certificate_of("foreign");
	struct wh_tls_options options = {.server = true,
	                                 .certificates = &good,
	                                 .certificate_count = 1,
	                                 .verify = WH_TLS_VERIFY_REQUIRED,
	                                 .ca_file = tls_path("ca.pem")};
	wh_tls_context *strict = open_context(&options);
	options.verify = WH_TLS_VERIFY_OPTIONAL;
	wh_tls_context *lax = open_context(&options), *nobody = client_of_ca();
	options = (struct wh_tls_options){
		.ca_file = tls_path("ca.pem"), .certificates = &own, .certificate_count = 1};
	wh_tls_context *somebody = open_context(&options);
	options.certificates = &foreign;
	wh_tls_context *stranger = open_context(&options);
	char name[32];
	connect_pair(&pair, somebody, strict, "good.test");
	assert_int_equal(pair.server_error, 0);
	assert_int_equal(wh_tls_peer_name(pair.server, name, sizeof name), 11);
	assert_string_equal(name, "CN = client");
	close_pair(&pair);
	connect_pair(&pair, nobody, strict, "good.test");
	assert_int_equal(pair.server_error, -WH_ETLS_CERTIFICATE);
	close_pair(&pair);
	connect_pair(&pair, nobody, lax, "good.test");
	assert_int_equal(pair.server_error, 0);
	close_pair(&pair);
	connect_pair(&pair, stranger, lax, "good.test");
	assert_int_equal(pair.server_error, -WH_ETLS_CERTIFICATE);
	close_pair(&pair);
	wh_tls_context_close(strict);
	wh_tls_context_close(lax);
	wh_tls_context_close(nobody);
	wh_tls_context_close(somebody);
	wh_tls_context_close(stranger);
}

static void contexts_that_cannot_be(void **state)
{
	wh_tls_context *context = NULL;
	struct wh_tls_certificate certificate = certificate_of("good");
	struct wh_tls_options options = {.server = true};
	assert_int_equal(wh_tls_context_open(&options, &context), -WH_ETLS_CONFIG);
	options.certificates = &certificate;
	options.certificate_count = 1;
	certificate.key_file = tls_path("other.key"); /* does not fit */
	assert_int_equal(wh_tls_context_open(&options, &context), -WH_ETLS_CONFIG);
	certificate.key_file = tls_path("nosuch.key");
	assert_int_equal(wh_tls_context_open(&options, &context), -ENOENT);
	certificate.key_file = NULL; /* is not in there */
	assert_int_equal(wh_tls_context_open(&options, &context), -WH_ETLS_CONFIG);
	certificate = (struct wh_tls_certificate){.chain_pem = "nonsense", .key_pem = "nonsense"};
	assert_int_equal(wh_tls_context_open(&options, &context), -WH_ETLS_CONFIG);
	certificate = (struct wh_tls_certificate){0};
	assert_int_equal(wh_tls_context_open(&options, &context), -EINVAL);
	options = (struct wh_tls_options){.ca_file = tls_path("good.key")};
	assert_int_equal(wh_tls_context_open(&options, &context), -WH_ETLS_CONFIG);
	options = (struct wh_tls_options){.ca_pem = "nonsense"};
	assert_int_equal(wh_tls_context_open(&options, &context), -WH_ETLS_CONFIG);
	options = (struct wh_tls_options){.ca_dir = tls_path("nosuch")};
	assert_int_equal(wh_tls_context_open(&options, &context), -ENOENT);
	options = (struct wh_tls_options){.version_min = 11};
	assert_int_equal(wh_tls_context_open(&options, &context), -EINVAL);
	options = (struct wh_tls_options){.alpn = "h2,,x"};
	assert_int_equal(wh_tls_context_open(&options, &context), -EINVAL);
	options = (struct wh_tls_options){.verify = 9};
	assert_int_equal(wh_tls_context_open(&options, &context), -EINVAL);
	assert_null(context);
	assert_null(wh_tls_context_close(NULL));
	assert_int_equal(wh_tls_context_reload(NULL), -EINVAL);
}

/* ---- what is agreed ------------------------------------------------------------------------ */

static int64_t alpn_of(const char *of_client, const char *of_server, char ret[64])
{
	struct tls_pair pair;
	struct wh_tls_certificate good = certificate_of("good");
	wh_tls_context *client =
		open_context(&(struct wh_tls_options){.ca_file = tls_path("ca.pem"), .alpn = of_client});
	wh_tls_context *server = open_context(&(struct wh_tls_options){
		.server = true, .certificates = &good, .certificate_count = 1, .alpn = of_server});
	connect_pair(&pair, client, server, "good.test");
	int64_t error = pair.client_error;
	if (error == 0) {
		assert_string_equal(wh_tls_alpn(pair.client), wh_tls_alpn(pair.server));
		snprintf(ret, 64, "%s", wh_tls_alpn(pair.client));
	} else {
		assert_non_null(strstr(pair.client_problem.text, "no application protocol"));
	}
	close_pair(&pair);
	wh_tls_context_close(client);
	wh_tls_context_close(server);
	return error;
}

static void protocols_are_agreed(void **state)
{
	char agreed[64];
	assert_int_equal(alpn_of("h2,http/1.1", "http/1.1,h2", agreed), 0);
	assert_string_equal(agreed, "http/1.1"); /* the server's order */
	assert_int_equal(alpn_of("h2", NULL, agreed), 0);
	assert_string_equal(agreed, "");
	assert_int_equal(alpn_of(NULL, "h2", agreed), 0);
	assert_string_equal(agreed, "");
	assert_int_equal(alpn_of("h2", "http/1.1", agreed), -WH_ETLS_REFUSED);
}

static const char *shown(wh_tls_context *client, wh_tls_context *server, const char *name)
{
	static char peer[64];
	struct tls_pair pair;
	connect_pair(&pair, client, server, name);
	if (pair.client_error == 0)
		(void)wh_tls_peer_name(pair.client, peer, sizeof peer);
	else
		snprintf(peer, sizeof peer, "%s", wh_strerror(pair.client_error));
	close_pair(&pair);
	return peer;
}

static void the_name_asked_for_chooses(void **state)
{
	struct wh_tls_certificate both[2] = {certificate_of("good"), certificate_of("other")};
	wh_tls_context *client = client_of_ca();
	wh_tls_context *server = open_context(
		&(struct wh_tls_options){.server = true, .certificates = both, .certificate_count = 2});
	assert_string_equal(shown(client, server, "good.test"), "CN = good");
	assert_string_equal(shown(client, server, "other.test"), "CN = other");
	assert_string_equal(shown(client, server, "x.wild.test"), "CN = good");
	assert_string_equal(shown(client, server, "127.0.0.1"), "CN = good");
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

static wh_tls_context *choice;
static wh_tls_context *choose(const char *name, void *arg)
{
	assert_string_equal(arg, "the argument");
	return !strcmp(name, "other.test") ? choice : NULL;
}

static void a_function_chooses(void **state)
{
	static char argument[] = "the argument";
	wh_tls_context *client = client_of_ca();
	choice = server_of("other");
	wh_tls_context *server = open_context(
		&(struct wh_tls_options){.server = true, .choose = choose, .choose_arg = argument});
	assert_string_equal(shown(client, server, "other.test"), "CN = other");
	assert_string_equal(shown(client, server, "good.test"), wh_strerror(-WH_ETLS_REFUSED));
	wh_tls_context_close(client);
	wh_tls_context_close(server);
	wh_tls_context_close(choice);
}

/* Tickets are of the context that accepts: who may come in does not depend on the name, so neither does a ticket. */
static wh_tls_context *always(const char *name, void *arg)
{
	return arg;
}

static wh_tls_context *shows(const char *certificate)
{
	struct wh_tls_certificate own = certificate_of(certificate);
	return open_context(&(struct wh_tls_options){
		.ca_file = tls_path("ca.pem"), .certificates = &own, .certificate_count = 1});
}

static void a_choice_does_not_change_whom_we_trust(void **state)
{
	struct tls_pair pair;
	for (int i = 0; i < 2; i++) { /* the other one asks nobody, or trusts those whom it should not */
		struct wh_tls_certificate good = certificate_of("good");
		wh_tls_context *other = open_context(&(struct wh_tls_options){
			.server = true,
			.certificates = &good,
			.certificate_count = 1,
			.verify = i == 0 ? WH_TLS_VERIFY_NONE : WH_TLS_VERIFY_REQUIRED,
			.ca_file = tls_path("foreign_ca.pem")});
		wh_tls_context *strict =
			open_context(&(struct wh_tls_options){.server = true,
		                                              .choose = always,
		                                              .choose_arg = other,
		                                              .verify = WH_TLS_VERIFY_REQUIRED,
		                                              .ca_file = tls_path("ca.pem")});
		wh_tls_context *somebody = shows("client"), *stranger = shows("foreign");
		connect_pair(&pair, somebody, strict, "good.test");
		assert_int_equal(pair.server_error, 0);
		close_pair(&pair);
		connect_pair(&pair, stranger, strict, "good.test");
		assert_int_equal(pair.server_error, -WH_ETLS_CERTIFICATE);
		close_pair(&pair);
		wh_tls_context_close(somebody);
		wh_tls_context_close(stranger);
		wh_tls_context_close(strict);
		wh_tls_context_close(other);
	}
}

static void versions(void **state)
{
	struct tls_pair pair;
	wh_tls_context *client =
		open_context(&(struct wh_tls_options){.ca_file = tls_path("ca.pem"), .version_min = 13});
	wh_tls_context *server = server_of("good");
	connect_pair(&pair, client, server, "good.test");
	assert_string_equal(wh_tls_version(pair.client), "TLSv1.3");
	close_pair(&pair);
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

/* ---- sessions and reload ------------------------------------------------------------------- */

/* A connection whose client has seen the tickets; was it resumed? */
static bool resumed(wh_tls_context *client, wh_tls_context *server, const char *name)
{
	struct tls_pair pair;
	char byte;
	connect_pair(&pair, client, server, name);
	assert_int_equal(pair.client_error, 0);
	assert_int_equal(wh_await(wh_tls_send_all(pair.server, "x", 1)).n, 1);
	assert_int_equal(wh_await(wh_tls_recv(pair.client, &byte, 1)).n, 1);
	bool is_resumed = wh_tls_resumed(pair.client);
	assert_int_equal(is_resumed, wh_tls_resumed(pair.server));
	close_pair(&pair);
	return is_resumed;
}

/* A key for tickets seals for a while, opens for as long again, and is gone. */
static void ticket_keys_change(void **state)
{
	wh_tls_context *client = client_of_ca(), *server = server_of("good");
	struct wh__tls_tickets *tickets = wh__tls_context_tickets(server);
	uint8_t first[16];
	assert_false(resumed(client, server, "good.test"));
	memcpy(first, tickets->keys[0].name, sizeof first);
	for (int i = 0; i < 3; i++) { /* each time by the key before, and gets a ticket of the new one */
		wh__tls_tickets_age(tickets, WH__TLS_TICKET_KEY_NS * 3 / 2);
		assert_true(resumed(client, server, "good.test"));
	}
	assert_memory_not_equal(first, tickets->keys[0].name, sizeof first);
	assert_memory_not_equal(first, tickets->keys[1].name, sizeof first);
	assert_int_equal(wh_tls_context_reload(server), 0); /* keys are not those of the files */
	assert_true(resumed(client, server, "good.test"));
	wh__tls_tickets_age(tickets, WH__TLS_TICKET_KEY_NS * 2);
	assert_false(resumed(client, server, "good.test"));
	assert_true(resumed(client, server, "good.test"));
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

static void sessions_are_resumed(void **state)
{
	wh_tls_context *client = client_of_ca(), *server = server_of("good");
	struct wh_tls_certificate good = certificate_of("good");
	wh_tls_context *never = open_context(&(struct wh_tls_options){
		.server = true, .certificates = &good, .certificate_count = 1, .no_resumption = true});
	assert_false(resumed(client, server, "good.test"));
	assert_true(resumed(client, server, "good.test"));
	assert_true(resumed(client, server, "good.test"));
	assert_false(resumed(client, server, "a.wild.test")); /* another name, another verification */
	assert_int_equal(wh_tls_context_reload(server), 0);
	assert_true(resumed(client, server, "good.test"));
	wh_tls_context *forgetful =
		open_context(&(struct wh_tls_options){.ca_file = tls_path("ca.pem"), .no_resumption = true});
	assert_false(resumed(forgetful, server, "good.test"));
	assert_false(resumed(forgetful, server, "good.test"));
	assert_false(resumed(client, never, "b.wild.test"));
	assert_false(resumed(client, never, "b.wild.test"));
	for (int i = 0; i < 300; i++) { /* more names than are kept */
		char name[32];
		snprintf(name, sizeof name, "n%d.wild.test", i);
		assert_false(resumed(client, server, name));
	}
	wh_tls_context_close(client);
	wh_tls_context_close(server);
	wh_tls_context_close(never);
	wh_tls_context_close(forgetful);
}

static void copy_file(const char *from, const char *to)
{
	const char *text = slurp(tls_path(from));
	FILE *out = fopen(tls_path(to), "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static void certificates_are_reloaded(void **state)
{
	struct tls_pair pair;
	char byte;
	copy_file("good.pem", "changing.pem");
	copy_file("good.key", "changing.key");
	wh_tls_context *server = server_of("changing");
	wh_tls_context *client = open_context(
		&(struct wh_tls_options){.ca_file = tls_path("ca.pem"), .verify = WH_TLS_VERIFY_NONE});
	assert_string_equal(shown(client, server, "a"), "CN = good");
	connect_pair(&pair, client, server, "a"); /* from before */
	copy_file("other.pem", "changing.pem");
	assert_int_equal(wh_tls_context_reload(server), -WH_ETLS_CONFIG); /* the key does not fit yet */
	assert_string_equal(shown(client, server, "b"), "CN = good");
	copy_file("other.key", "changing.key");
	assert_int_equal(wh_tls_context_reload(server), 0);
	assert_string_equal(shown(client, server, "c"), "CN = other");
	assert_int_equal(wh_await(wh_tls_send_all(pair.client, "x", 1)).n, 1);
	assert_int_equal(wh_await(wh_tls_recv(pair.server, &byte, 1)).n, 1);
	close_pair(&pair);
	wh_tls_context_close(client);
	wh_tls_context_close(server);
}

/* ---- other programs ------------------------------------------------------------------------ */

static pid_t run(const char *const *argv, int in, int out)
{
	pid_t pid = fork(), parent = getppid();
	(void)parent;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in, 0);
		dup2(out, 1);
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, 2);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

/* One connection of openssl s_client, which sends a line, reads our answer and ends. */
static void serve_s_client(wh_tls_context *server, const char *version, const char *line)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address), in[2], out[2];
	char target[32], got[64] = "", answer[8] = "";
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	snprintf(target, sizeof target, "127.0.0.1:%u", ntohs(address.sin_port));
	const char *const argv[] = {"openssl",
	                            "s_client",
	                            "-connect",
	                            target,
	                            "-servername",
	                            "good.test",
	                            "-CAfile",
	                            tls_path("ca.pem"),
	                            "-verify_hostname",
	                            "good.test",
	                            "-verify_return_error",
	                            "-quiet",
	                            version,
	                            NULL};
	pid_t pid = run(argv, in[0], out[1]);
	close(out[1]);
	close(in[0]);
	int fd = (int)wh_await(wh_accept(loop, listener)).n;
	wh_res res = wh_await(wh_tls_accept(loop, fd, server, NULL));
	assert_int_equal(res.n, 0);
	wh_tls *tls = res.ptr;
	assert_string_equal(wh_tls_version(tls), version[6] == '3' ? "TLSv1.3" : "TLSv1.2");
	assert_int_equal(write(in[1], line, strlen(line)), strlen(line));
	for (size_t done = 0; done < strlen(line);) {
		int64_t n = wh_await(wh_tls_recv(tls, got + done, sizeof got - done)).n;
		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_string_equal(got, line);
	assert_int_equal(wh_await(wh_tls_send_all(tls, "answer", 6)).n, 6);
	assert_int_equal(wh_await(wh_tls_close(tls)).n, 0);
	for (size_t done = 0; done < 6;) {
		ssize_t n = read(out[0], answer + done, 6 - done);
		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_string_equal(answer, "answer");
	close(in[1]);
	close(out[0]);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close_fd(listener);
}

static void openssl_s_client_is_served(void **state)
{
	wh_tls_context *server = server_of("good");
	serve_s_client(server, "-tls1_3", "hello\n");
	serve_s_client(server, "-tls1_2", "hello\n");
	wh_tls_context_close(server);
}

static void openssl_s_server_is_called(void **state)
{
	uint16_t port = 0;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), in[2], out[2];
	assert_int_equal(bind(probe, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(getsockname(probe, (struct sockaddr *)&address, &len), 0);
	port = ntohs(address.sin_port);
	close(probe);
	char accept_on[32], got[16] = "";
	snprintf(accept_on, sizeof accept_on, "127.0.0.1:%u", port);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	/* -rev: each line comes back with its letters the other way round */
	const char *const argv[] = {
		"openssl", "s_server",           "-accept", accept_on, "-cert", tls_path("good.pem"),
		"-key",    tls_path("good.key"), "-rev",    "-quiet",  NULL};
	pid_t pid = run(argv, in[0], out[1]);
	wh_res res = {-ECONNREFUSED, NULL};
	while (res.n == -ECONNREFUSED) /* until it listens */
		res = wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address));
	assert_true(res.n >= 0);
	wh_tls_context *client = client_of_ca();
	res = wh_await(wh_tls_connect(loop, (int)res.n, client, "good.test", NULL));
	assert_int_equal(res.n, 0);
	assert_int_equal(wh_await(wh_tls_send_all(res.ptr, "whilst\n", 7)).n, 7);
	for (size_t done = 0; done < 7;) {
		int64_t n = wh_await(wh_tls_recv(res.ptr, got + done, sizeof got - done)).n;
		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_string_equal(got, "tslihw\n");
	assert_int_equal(wh_await(wh_tls_close(res.ptr)).n, 0);
	wh_tls_context_close(client);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

int main(void)
{
	need_engine();
	make_authority();
	const struct CMUnitTest tests[] = {
		ON_LOOP(bad_certificates_are_refused),
		ON_LOOP(good_names_are_accepted),
		ON_LOOP(verification_can_be_turned_off_only_by_saying_so),
		ON_LOOP(certificates_from_memory),
		ON_LOOP(clients_show_certificates),
		ON_LOOP(contexts_that_cannot_be),
		ON_LOOP(protocols_are_agreed),
		ON_LOOP(the_name_asked_for_chooses),
		ON_LOOP(a_function_chooses),
		ON_LOOP(a_choice_does_not_change_whom_we_trust),
		ON_LOOP(versions),
		ON_LOOP(sessions_are_resumed),
		ON_LOOP(ticket_keys_change),
		ON_LOOP(certificates_are_reloaded),
		ON_LOOP(openssl_s_client_is_served),
		ON_LOOP(openssl_s_server_is_called),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	remove_authority();
	return failed;
}
