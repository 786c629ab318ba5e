"""tests/integration/test_hosts.py -- a page whose own name is made to lead to loopback (DNS rebinding) gets nothing; whoever means this server does."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

import authority
import backend
import harness

EVIL = "rebind.evil.example"


def ask(port, host, method="GET", target="/livez", body=b"", address="127.0.0.1", version="1.1", fields="", wrap=None):
    """One request with this Host (None: without), to that address."""
    head = f"{method} {target} HTTP/{version}\r\n" + (f"Host: {host}\r\n" if host is not None else "")
    with socket.create_connection((address, port), timeout=harness.DEADLINE) as plain, (wrap(plain) if wrap else plain) as s:
        s.sendall(f"{head}{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return harness.read_answer(s)[0]


def own_address():
    """One of this machine's that is not loopback, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            address = s.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


class Hosts(unittest.TestCase):
    def serve(self, *args, listen="127.0.0.1:0", **env):
        server = harness.Server(*args, listen=listen, env={"WHILST_HOSTS": "", **env})
        self.addCleanup(server.remove)
        return server

    def good(self, answer, status=200):
        self.assertEqual(answer.status, status, answer)

    def misdirected(self, answer):
        self.assertEqual((answer.status, answer["Content-Type"]), (421, "application/problem+json"), answer)
        self.assertEqual(answer.json()["code"], "misdirected")

    def test_loopback_without_tokens(self):
        back = backend.Backend()
        self.addCleanup(back.stop)
        server = self.serve("--service", f"back=http://127.0.0.1:{back.port}")
        port = server.port
        for host in ("127.0.0.1", f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", "localhost.", "app.localhost", "[::1]:80", "10.0.0.1", "", None):
            self.good(ask(port, host, version="1.0" if host is None else "1.1"))
        self.good(ask(port, "localhost", "POST", "/v1/queues/q/jobs", b"x"), 202)
        for method, target in (("GET", "/livez"), ("GET", "/readyz"), ("GET", "/"), ("GET", "/v1/queues"), ("POST", "/v1/queues/q/jobs"),
                               ("PUT", "/v1/services/s"), ("DELETE", "/v1/jobs/1"), ("GET", "/metrics"), ("GET", "/call/back/x"),
                               ("POST", "/call/back/x"), ("OPTIONS", "/v1/queues"), ("OPTIONS", "*"), ("GET", "/none"), ("GET", "/v1/log/backup")):
            for host in (EVIL, f"{EVIL}:{port}", "127.0.0.1." + EVIL, "localhost." + EVIL, EVIL + ".", "host"):
                answer = ask(port, host, method, target, b"x" if method in ("POST", "PUT") else b"",
                             fields="Sec-Fetch-Site: same-origin\r\nAccept: text/html, */*\r\n")
                self.misdirected(answer)
        self.assertEqual(back.calls, [])
        self.good(ask(port, f"localhost:{port}", target="/call/back/x"))
        self.assertEqual(ask(port, "localhost", target="/v1/queues/q").json()["submitted"], 1)
        self.good(ask(port, "localhost", target="/v1/jobs/1"))
        # in absolute form the target counts, not the field
        self.misdirected(ask(port, "localhost", target=f"http://{EVIL}/livez"))
        self.good(ask(port, EVIL, target=f"http://localhost:{port}/livez"))

    def test_a_body_that_is_refused_does_nothing(self):
        """Judged by the head, and the connection goes on or ends, whatever is sent behind."""
        server = self.serve()
        with socket.create_connection(("127.0.0.1", server.port), timeout=harness.DEADLINE) as s:
            s.sendall(f"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: {EVIL}\r\nContent-Length: {8 << 20}\r\nExpect: 100-continue\r\n\r\n".encode())
            self.misdirected(harness.read_answer(s)[0])
        with socket.create_connection(("127.0.0.1", server.port), timeout=harness.DEADLINE) as s:
            one = "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: {}\r\nContent-Length: 1\r\n\r\nx"
            s.sendall((one.format(EVIL) + one.format("localhost") + one.format(EVIL)).encode())
            answers, rest = [], b""
            for _ in range(3):
                answer, rest = harness.read_answer(s, rest)
                answers.append(answer.status)
        self.assertEqual(answers, [421, 202, 421])

    def test_sockets_and_ipv6(self):
        folder = tempfile.mkdtemp(prefix="whilst-test-")
        self.addCleanup(shutil.rmtree, folder)
        server = self.serve("--listen", f"unix:{folder}/socket")
        for host in ("localhost", EVIL):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.settimeout(harness.DEADLINE)
                s.connect(f"{folder}/socket")
                s.sendall(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                self.good(harness.read_answer(s)[0])
        self.misdirected(ask(server.port, EVIL))
        try:
            six = self.serve("--listen", "[::1]:0")
        except AssertionError:
            return  # a machine without IPv6
        port = int(six.addresses.split("http://[::1]:")[1].split(",")[0])
        self.good(ask(port, f"[::1]:{port}", address="::1"))
        self.misdirected(ask(port, EVIL, address="::1"))

    def test_all_addresses(self):
        """Listening everywhere: over loopback by its names, from elsewhere under any, since names of networks are nobody's business."""
        server = self.serve(listen="0.0.0.0:0")
        port = int(server.addresses.split("http://0.0.0.0:")[1].split(",")[0])
        self.misdirected(ask(port, EVIL))
        self.good(ask(port, "localhost"))
        address = own_address()
        if address:
            self.good(ask(port, EVIL, address=address))
            named = self.serve("--hosts", "jobs.example.com", listen="0.0.0.0:0")
            port = int(named.addresses.split("http://0.0.0.0:")[1].split(",")[0])
            self.misdirected(ask(port, EVIL, address=address))
            self.good(ask(port, "jobs.example.com", address=address))
            self.good(ask(port, address, address=address))

    def test_named(self):
        server = self.serve("--hosts", "jobs.example.com", "--hosts", "*.inside.example")
        for host in ("jobs.example.com", "JOBS.example.com:443", "a.inside.example", "localhost", "127.0.0.1:1"):
            self.good(ask(server.port, host))
        for host in (EVIL, "inside.example", "xjobs.example.com"):
            self.misdirected(ask(server.port, host))
        self.good(ask(self.serve("--hosts", "*").port, EVIL))
        self.good(ask(self.serve(WHILST_HOSTS="one.example two.example").port, "two.example"))
        for wrong in ("jobs.example.com:80", "", "a..b", "http://x", "*x"):
            run = subprocess.run([harness.BINARY, "config", "check", "--hosts", wrong], capture_output=True, text=True, timeout=60)
            self.assertEqual(run.returncode, 2, run)
            self.assertIn("hosts", run.stderr)

    def test_tokens(self):
        """Who shows a token is meant to be here; a page of elsewhere has none. Names that are set count all the same."""
        with tempfile.TemporaryDirectory() as folder:
            made = subprocess.run([harness.BINARY, "token", "all", "admin"], capture_output=True, check=True, text=True, timeout=60)
            with open(folder + "/tokens", "w") as file:
                file.write(made.stderr)
            shown = f"Authorization: Bearer {made.stdout.strip()}\r\n"
            server = self.serve("--tokens", folder + "/tokens")
            self.good(ask(server.port, EVIL, target="/v1/queues"), 401)
            self.good(ask(server.port, EVIL, target="/v1/queues", fields=shown))
            server = self.serve("--tokens", folder + "/tokens", "--hosts", "jobs.example.com")
            self.misdirected(ask(server.port, EVIL, target="/v1/queues", fields=shown))
            self.good(ask(server.port, "jobs.example.com", target="/v1/queues", fields=shown))

    def test_tls(self):
        ca = authority.Authority()
        self.addCleanup(ca.remove)
        certificate, key = ca.sign("server", "server")
        context = ssl.create_default_context(cafile=ca.certificate)
        server = self.serve("--listen-tls", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key)
        port = int(server.addresses.split("https://127.0.0.1:")[1].split(",")[0])
        def wrap(s):
            return context.wrap_socket(s, server_hostname="localhost")
        self.good(ask(port, EVIL, wrap=wrap))
        self.misdirected(ask(server.port, EVIL))

    def test_reload(self):
        with tempfile.TemporaryDirectory() as folder:
            def write(*names):
                with open(folder + "/config", "w") as file:
                    file.write("".join(f"hosts = {name}\n" for name in names))
            write("one.example")
            server = harness.Server("--config", folder + "/config", env={k: v for k, v in os.environ.items() if k != "WHILST_HOSTS"})
            self.addCleanup(server.remove)
            if "WHILST_HOSTS" in server.env:
                del server.env["WHILST_HOSTS"]
                server.stop().start()
            self.good(ask(server.port, "one.example"))
            self.misdirected(ask(server.port, "two.example"))
            write("two.example")
            server.process.send_signal(signal.SIGHUP)
            harness.eventually(lambda: ask(server.port, "two.example").status == 200, "the new name counts")
            self.misdirected(ask(server.port, "one.example"))
            write("two.example", "not:a:name")
            server.process.send_signal(signal.SIGHUP)
            harness.eventually(lambda: "cannot-reload" in server.log(), "the refusal")
            self.good(ask(server.port, "two.example"))

    @unittest.skipUnless(shutil.which("curl"), "curl is not there")
    def test_curl(self):
        server = self.serve()
        for host in ("127.0.0.1", "localhost"):
            seen = subprocess.run(["curl", "-sS", "--fail", "-d", "x", f"http://{host}:{server.port}/v1/queues/q/jobs"], check=True, capture_output=True)
            self.assertEqual(json.loads(seen.stdout)["queue"], "q")
        seen = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", f"{EVIL}:{server.port}:127.0.0.1",
                               f"http://{EVIL}:{server.port}/v1/queues"], check=True, capture_output=True)
        self.assertEqual(seen.stdout, b"421")


if __name__ == "__main__":
    harness.main()
