"""tests/integration/test_http_others.py -- the library's HTTP against that of others: curl, Python, tinyproxy, nginx, OpenSSL.

The library's side is http_program ($HTTP_PROGRAM); $WHILST_ENGINE is its engine.
"""
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

PROGRAM = os.environ.get("HTTP_PROGRAM", os.path.join(os.path.dirname(__file__), "../../build/tests/integration/http_program"))
# nothing of the machine's own settings
CLEAN = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return f"{value:016x}"


def run(*command, **more):
    return subprocess.run(command, capture_output=True, timeout=60, env=more.pop("env", CLEAN), **more)


class Others(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="whilst-others-")
        cls.large = os.urandom(3_000_000)
        with open(f"{cls.folder}/large", "wb") as f:
            f.write(cls.large)
        with open(f"{cls.folder}/index.html", "w") as f:
            f.write("<p>index</p>\n")
        key = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                  "-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                  "-keyout", f"{cls.folder}/key.pem", "-out", f"{cls.folder}/ca.pem")
        assert key.returncode == 0, key.stderr
        cls.ca = f"{cls.folder}/ca.pem"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def fetch(self, *args, env=CLEAN):
        done = run(PROGRAM, "fetch", *args, env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [line.split(" ", 3) for line in done.stdout.decode().splitlines()]


class OurServer(Others):
    """curl and Python against our server."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.process = subprocess.Popen([PROGRAM, "serve", cls.folder, cls.ca, f"{cls.folder}/key.pem"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        port, secure = cls.process.stdout.readline().split()
        cls.port = int(port)
        cls.bases = [f"http://127.0.0.1:{int(port)}", f"https://localhost:{int(secure)}"]

    @classmethod
    def tearDownClass(cls):
        cls.process.stdin.close()
        ended = cls.process.wait(30)
        cls.process.stdout.close()
        super().tearDownClass()
        assert ended == 0, ended

    def curl(self, *args, data=None):
        done = run("curl", "-sS", "--cacert", self.ca, *args, input=data)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_files(self):
        for base in self.bases:
            self.assertEqual(self.curl(f"{base}/large"), self.large)
            self.assertEqual(self.curl(f"{base}/"), b"<p>index</p>\n")
            self.assertEqual(self.curl("-r", "100-199", f"{base}/large"), self.large[100:200])
            self.assertEqual(self.curl("-r", "-50", f"{base}/large"), self.large[-50:])
            self.assertIn(b"Content-Length: 3000000\r\n", self.curl("-I", f"{base}/large"))
            self.assertEqual(self.curl("-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", f"{base}/../etc/passwd"), b"404")
            self.assertEqual(self.curl("-o", "/dev/null", "-w", "%{http_code}", "-z", f"{self.folder}/large", f"{base}/large"), b"304")

    def test_resuming_a_download(self):
        part = f"{self.folder}/part"
        with open(part, "wb") as f:
            f.write(self.large[:1000])
        self.curl("-C", "-", "-o", part, f"{self.bases[0]}/large")
        with open(part, "rb") as f:
            self.assertEqual(f.read(), self.large)
        os.unlink(part)

    def test_uploads(self):
        for base in self.bases:
            self.assertEqual(self.curl("-T", "-", f"{base}/upload", data=self.large), b"3000000\n")  # chunked
            # over 1 MiB curl says Expect: 100-continue
            self.assertEqual(self.curl("--data-binary", "@-", f"{base}/upload", data=self.large), b"3000000\n")
            self.assertEqual(self.curl("-H", "Expect: 100-continue", "--data-binary", "@-", f"{base}/echo", data=self.large), self.large)
            self.assertEqual(self.curl("-T", "-", f"{base}/echo", data=b""), b"")

    def test_one_connection_for_many(self):
        for base in self.bases:
            out = self.curl(*[f"{base}/large"] * 3, *["-o", "/dev/null"] * 3, "-w", "%{num_connects} ")
            self.assertEqual(out.split(), [b"1", b"0", b"0"])

    def test_upgrade(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
            s.sendall(b"GET /raw HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nfirst")
            got = b""
            while not got.endswith(b"first"):
                got += s.recv(1000)
            self.assertTrue(got.startswith(b"HTTP/1.1 101 "))
            s.sendall(b"second")
            self.assertEqual(s.recv(6, socket.MSG_WAITALL), b"second")
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(s.recv(1), b"")

    def test_drained_amid_a_download(self):
        process = subprocess.Popen([PROGRAM, "serve", self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
            s.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            got = s.recv(1000)
            process.stdin.close()
            while True:
                piece = s.recv(1 << 20)
                if not piece:
                    break
                got += piece
        self.assertEqual(got.split(b"\r\n\r\n", 1)[1], self.large)
        self.assertEqual(process.wait(20), 0)
        process.stdout.close()


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []

    def log_message(self, *args):
        pass

    def do_GET(self):
        Handler.seen.append((self.path, dict(self.headers)))
        if self.path.startswith("/hop/"):
            left = int(self.path[5:])
            self.send_response(302)
            self.send_header("Location", f"{left - 1}" if left else "../large")
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"hop")
        elif self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(50):
                self.wfile.write(b"%x;e=%d\r\n%s\r\n" % (i + 1, i, b"c" * (i + 1)))
            self.wfile.write(b"0\r\nTrailer-Field: x\r\n\r\n")
        else:
            super().do_GET()

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class OurClient(Others):
    """Our client against Python's server, in the clear and over OpenSSL's TLS, directly and through tinyproxy."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()

        class Served(Handler):
            def __init__(self, *args):
                super().__init__(*args, directory=cls.folder)

        cls.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) for _ in range(2)]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cls.ca, f"{cls.folder}/key.pem")
        cls.servers[1].socket = context.wrap_socket(cls.servers[1].socket, server_side=True)
        cls.bases = [f"http://127.0.0.1:{cls.servers[0].server_port}", f"https://localhost:{cls.servers[1].server_port}"]
        for server in cls.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.whole = ["200", "3000000", fnv(cls.large)]

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.shutdown()
            server.server_close()
        super().tearDownClass()

    def test_answers(self):
        for base in self.bases:
            got = self.fetch("--ca", self.ca, f"{base}/large", f"{base}/chunks", f"{base}/none")
            self.assertEqual(got[0], self.whole + [f"{base}/large"])
            self.assertEqual(got[1][:2], ["200", str(50 * 51 // 2)])
            self.assertEqual(got[2][0], "404")
            posted = self.fetch("--ca", self.ca, "--method", "POST", "--body", "100000", f"{base}/post")
            self.assertEqual(posted[0][:3], ["200", "100000", fnv(b"b" * 100000)])
            posted = self.fetch("--ca", self.ca, "--method", "POST", "--body", "100000", "--expect", f"{base}/post")
            self.assertEqual(posted[0][:3], ["200", "100000", fnv(b"b" * 100000)])

    def test_redirects(self):
        for base in self.bases:
            got = self.fetch("--ca", self.ca, "--redirects", "6", f"{base}/hop/4")
            self.assertEqual(got[0], self.whole + [f"{base}/large"])
            self.assertTrue(self.fetch("--ca", self.ca, "--redirects", "3", f"{base}/hop/9")[0][0].startswith("-"))
            self.assertEqual(self.fetch("--ca", self.ca, f"{base}/hop/1")[0][0], "302")

    def test_certificates(self):
        self.assertIn("self", " ".join(self.fetch(f"{self.bases[1]}/large")[0]))
        wrong = self.bases[1].replace("localhost", "localhost.localdomain")
        self.assertTrue(self.fetch("--ca", self.ca, wrong)[0][0].startswith("-"))

    def with_tinyproxy(self, check):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        with open(f"{self.folder}/tinyproxy.conf", "w") as f:
            f.write(f"Port {port}\nListen 127.0.0.1\nTimeout 20\nMaxClients 20\nAllow 127.0.0.1\nLogLevel Critical\n"
                    f"BasicAuth user pass-word\nViaProxyName \"tested\"\n")
        process = subprocess.Popen(["tinyproxy", "-d", "-c", f"{self.folder}/tinyproxy.conf"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            for _ in range(400):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    try:
                        process.wait(0.02)
                    except subprocess.TimeoutExpired:
                        pass
            check(port)
        finally:
            process.terminate()
            process.wait()

    def test_through_tinyproxy(self):
        def check(port):
            proxy = f"http://user:pass%2Dword@127.0.0.1:{port}"
            Handler.seen.clear()
            got = self.fetch("--ca", self.ca, "--proxy", proxy, *[f"{base}/large" for base in self.bases])
            self.assertEqual([line[:3] for line in got], [self.whole] * 2)
            self.assertIn("tested", Handler.seen[0][1]["Via"])  # it went that way
            self.assertNotIn("Via", Handler.seen[1][1])         # and this one within TLS
            self.assertNotIn("Proxy-Authorization", {**Handler.seen[0][1], **Handler.seen[1][1]})
            # from the environment, and past it
            Handler.seen.clear()
            env = dict(CLEAN, http_proxy=proxy, https_proxy=proxy)
            got = self.fetch("--ca", self.ca, "--environment", *[f"{base}/large" for base in self.bases], env=env)
            self.assertEqual([line[:3] for line in got], [self.whole] * 2)
            self.assertIn("Via", Handler.seen[0][1])
            for name, value in (("no_proxy", "127.0.0.0/8"), ("HTTP_PROXY", proxy)):
                Handler.seen.clear()
                env = dict(CLEAN, **{name: value})
                if name == "no_proxy":
                    env["http_proxy"] = proxy
                self.fetch("--environment", f"{self.bases[0]}/large", env=env)
                self.assertNotIn("Via", Handler.seen[0][1])
            # without the password
            bare = f"http://127.0.0.1:{port}"
            self.assertEqual(self.fetch("--proxy", bare, f"{self.bases[0]}/large")[0][0], "407")
            self.assertIn("proxy", " ".join(self.fetch("--ca", self.ca, "--proxy", bare, f"{self.bases[1]}/large")[0]))

        self.with_tinyproxy(check)


if __name__ == "__main__":
    unittest.main(verbosity=2)
