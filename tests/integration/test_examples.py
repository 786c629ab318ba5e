#!/usr/bin/env python3
"""tests/integration/test_examples.py -- the examples, started for real, do what the guide says.

The programs are in $WHILST_EXAMPLES (default: the build folder), the engine is $WHILST_ENGINE. Servers are started on a port
that the kernel chooses and say which; clients are Python's standard library and curl.
"""
import contextlib
import hashlib
import http.server
import os
import pathlib
import re
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

EXAMPLES = pathlib.Path(os.environ.get("WHILST_EXAMPLES", pathlib.Path(__file__).parent / "../../build/examples"))
DEADLINE = float(os.environ.get("WHILST_TEST_DEADLINE", "20"))


def run(name, *arguments, status=0):
    done = subprocess.run([EXAMPLES / name, *map(str, arguments)], capture_output=True, text=True, check=False,
                          timeout=DEADLINE, stdin=subprocess.DEVNULL)
    if done.returncode != status:
        raise AssertionError(f"{name}: status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done


def certify(chain, key):
    """A certificate of localhost's that vouches for itself."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", chain, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)


class Program:
    """An example that runs until it is told to end; how it ended is checked."""

    def __init__(self, name, *arguments):
        self.name, self.lines, self.unread = name, [], b""
        self.process = subprocess.Popen([EXAMPLES / name, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def line(self, pattern):
        """Reads on until a line matches."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            while b"\n" in self.unread:
                text, self.unread = self.unread.split(b"\n", 1)
                self.lines.append(text.decode())
                match = re.search(pattern, self.lines[-1])
                if match:
                    return match
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                break
            self.unread += piece
        raise AssertionError(f"{self.name}: no line {pattern!r}, but {self.lines}")

    def listening(self):
        self.port = int(self.line(r"listening on .*127\.0\.0\.1:(\d+)").group(1))
        return self

    def connect(self):
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        return peer

    def stop(self, status=0):
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=DEADLINE)
        self.lines += (self.unread + rest).decode().splitlines()
        if self.process.returncode != status:
            raise AssertionError(f"{self.name}: status {self.process.returncode} after SIGTERM: {self.lines}")
        return self.lines

    def __exit__(self, kind, *_):
        if self.process.poll() is None and kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
        self.process.stdout.close()
        self.process.wait()


def receive(peer, size):
    got = b""
    while len(got) < size:
        piece = peer.recv(size - len(got))
        if not piece:
            raise AssertionError(f"end after {len(got)} of {size} bytes")
        got += piece
    return got


class First(unittest.TestCase):
    def test_waits_and_is_called_back(self):
        lines = run("first").stdout.splitlines()
        self.assertEqual(lines[0], "started; this line did not wait for either")
        self.assertRegex(lines[1], r"^\w+: [1-9]\d* bytes \(read\)$")
        self.assertEqual(lines[2], "called back: 20 ms are over")
        if os.environ.get("WHILST_ENGINE"):
            self.assertTrue(lines[1].startswith(os.environ["WHILST_ENGINE"] + ":"), lines[1])


class Copy(unittest.TestCase):
    def test_both_ways_and_every_edge(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "from"), pathlib.Path(folder, "to")
            for size in [0, 1, 256 * 1024, 256 * 1024 + 1, 5_000_001]:
                source.write_bytes(os.urandom(size))
                for way in [[], ["--overlapped"]]:
                    target.write_bytes(b"what was there before" * 1000)
                    said = run("copy", *way, source, target).stdout
                    self.assertRegex(said, rf"^{size} bytes, engine \w+\n$")
                    self.assertEqual(target.read_bytes(), source.read_bytes(), (size, way))

    def test_says_what_went_wrong(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("No such file", run("copy", f"{folder}/none", f"{folder}/to", status=1).stderr)
            for way in [[], ["--overlapped"]]:
                self.assertIn("directory", run("copy", *way, folder, f"{folder}/to", status=1).stderr)
            run("copy", status=2)


class Echo(unittest.TestCase):
    name = "echo"

    def test_many_at_once_and_large(self):
        self.converse()

    def converse(self):
        with Program(self.name).listening() as echo:
            peers = [echo.connect() for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.sendall(b"I am %d" % number)
            for number, peer in enumerate(peers):
                self.assertEqual(receive(peer, len(b"I am %d" % number)), b"I am %d" % number)
            large = os.urandom(3_000_000)
            sender = threading.Thread(target=peers[0].sendall, args=(large,))
            sender.start()
            self.assertEqual(receive(peers[0], len(large)), large)
            sender.join()
            peers[1].shutdown(socket.SHUT_WR)
            self.assertEqual(peers[1].recv(1), b"")
            for peer in peers[2:]:
                peer.close()
            with echo.connect() as last:
                last.sendall(b"still there")
                self.assertEqual(receive(last, 11), b"still there")
            lines = echo.stop()  # with connections open
            for peer in peers:
                peer.close()
            return lines


class Loops(Echo):
    name = "loops"

    def test_many_at_once_and_large(self):
        lines = self.converse()
        counts = [re.match(r"loop (\d): (\d+) connections, (\d+) bytes", line).groups() for line in lines[-2:]]
        self.assertEqual([c[0] for c in counts], ["0", "1"])
        self.assertEqual(sum(int(c[1]) for c in counts), 21)


class EchoTask(Echo):
    name = "echo_task"


class TlsProxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.chain, cls.key = f"{cls.folder.name}/chain.pem", f"{cls.folder.name}/key.pem"
        certify(cls.chain, cls.key)
        cls.context = ssl.create_default_context(cafile=cls.chain)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_with_curl(self):
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
        backend.daemon_threads = True
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        with Program("tls_proxy", self.chain, self.key, "127.0.0.1", backend.server_port).listening() as proxy:
            said = subprocess.run(["curl", "--silent", "--show-error", "--cacert", self.chain, "--max-time", str(DEADLINE),
                                   f"https://localhost:{proxy.port}/page"], capture_output=True, check=True).stdout
            self.assertEqual(said, b"/page" * 10)
            # Who does not know the certificate is not served, and harms nobody.
            refused = subprocess.run(["curl", "--silent", f"https://localhost:{proxy.port}/page"], capture_output=True, check=False)
            self.assertEqual(refused.returncode, 60)
            with proxy.connect() as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while peer.recv(1000):
                    pass
        backend.shutdown()
        backend.server_close()

    def test_large_both_ways_and_ends_are_passed_on(self):
        large, seen = os.urandom(3_000_000), []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def answer():
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(receive(peer, len(large))[::-1])
                    seen.append(peer.recv(1))  # until the client has ended its side
            backend = threading.Thread(target=answer)
            backend.start()
            with Program("tls_proxy", self.chain, self.key, "127.0.0.1", listener.getsockname()[1]).listening() as proxy:
                with self.context.wrap_socket(proxy.connect(), server_hostname="localhost", suppress_ragged_eofs=False) as peer:
                    peer.sendall(large)
                    self.assertEqual(hashlib.sha256(receive(peer, len(large))).digest(), hashlib.sha256(large[::-1]).digest())
                    peer.unwrap().close()  # says close_notify, and waits for the proxy to say it
            backend.join()
            self.assertEqual(seen, [b""])

    def test_no_server_behind(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with Program("tls_proxy", self.chain, self.key, "127.0.0.1", unused.getsockname()[1]).listening() as proxy:
                with self.context.wrap_socket(proxy.connect(), server_hostname="localhost") as peer:
                    self.assertEqual(peer.recv(1), b"")


class Chat(unittest.TestCase):
    def test_what_one_says_all_others_get(self):
        with Program("chat").listening() as chat:
            peers = []
            for number in range(1, 11):
                peers.append(chat.connect())
                chat.line(rf"^{number} came$")
            for peer in peers:
                peer.sendall(b"hello\n")
            for peer in peers:
                self.assertEqual(receive(peer, 9 * 6), b"hello\n" * 9)
            peers[0].close()
            chat.line(r"^1 left: said goodbye$")
            peers[1].sendall(b"bye\n")
            self.assertEqual(receive(peers[2], 4), b"bye\n")
            for peer in peers[1:]:
                peer.close()

    def test_who_reads_slowly_holds_the_talker_back_and_is_dropped(self):
        with Program("chat").listening() as chat:
            talker, reader, sleeper = chat.connect(), chat.connect(), chat.connect()
            chat.line("^3 came$")
            # Far more than the kernel's buffers of all connections hold: it can go through only once the sleeper has gone.
            text = b"".join(b"%09d\n" % i for i in range(3_000_000))
            thread = threading.Thread(target=talker.sendall, args=(text,))
            begin = time.monotonic()
            thread.start()
            got = receive(reader, len(text))
            self.assertGreater(time.monotonic() - begin, 1.9, "the talker was not held back")
            thread.join()
            self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(text).digest())
            chat.line(r"^3 left: too slow$")
            for peer in (talker, reader, sleeper):
                peer.close()


class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    counts = threading.Lock()
    now = most = 0

    def do_GET(self):
        with Slow.counts:
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
        time.sleep(0.02)  # what the server takes to answer: not something that this test waits for
        with Slow.counts:
            Slow.now -= 1
        body = self.path.encode() * 10
        self.send_response({"/none": 404, "/moved": 302}.get(self.path, 200))
        if self.path == "/moved":
            self.send_header("Location", "/a")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Fetch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
        cls.server.daemon_threads = True
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.server.server_port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def test_many_with_a_limit(self):
        Slow.most = 0
        lines = run("fetch", "-n", 10, "-c", 60, f"{self.url}/page").stdout.splitlines()
        self.assertEqual(lines[0], f"200 50 bytes {self.url}/page")
        first = re.match(r"one after another: 60 of 60, 3000 bytes, (\d+) ms$", lines[60])
        second = re.match(r"10 at once: 60 of 60, 3000 bytes, (\d+) ms$", lines[61])
        self.assertGreaterEqual(int(first.group(1)), 1200)
        self.assertLess(int(second.group(1)), int(first.group(1)) / 2)
        self.assertIn(Slow.most, range(3, 11))

    def test_ends_while_connections_are_kept(self):
        lines = run("fetch", f"{self.url}/a").stdout.splitlines()
        took = int(re.match(r"10 at once: 1 of 1, 20 bytes, (\d+) ms$", lines[2]).group(1))
        self.assertLess(took, 3000)  # the client keeps an idle connection for 4 s

    def test_failures_are_told(self):
        lines = run("fetch", f"{self.url}/a", f"{self.url}/none", status=1).stdout.splitlines()
        self.assertEqual(lines[:2], [f"200 20 bytes {self.url}/a", f"404 50 bytes {self.url}/none"])
        self.assertTrue(lines[2].startswith("one after another: 1 of 2"), lines)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            said = run("fetch", f"http://127.0.0.1:{unused.getsockname()[1]}/", status=1).stdout
        self.assertIn("Connection refused", said)
        self.assertIn("ftp://127.0.0.1/", run("fetch", "ftp://127.0.0.1/", status=1).stdout)
        self.assertEqual(run("fetch", f"{self.url}/moved").stdout.splitlines()[0], f"200 20 bytes {self.url}/moved")


class FetchTls(unittest.TestCase):
    def test_own_authority(self):
        with tempfile.TemporaryDirectory() as folder:
            chain, key = f"{folder}/chain.pem", f"{folder}/key.pem"
            certify(chain, key)
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
            server.daemon_threads = True
            server.handle_error = lambda *_: None  # that clients refuse it is what is tried
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, key)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"https://localhost:{server.server_port}/page"
            try:
                lines = run("fetch", "-n", 3, "-c", 6, "-a", chain, url).stdout.splitlines()
                self.assertEqual(lines[0], f"200 50 bytes {url}")
                self.assertTrue(lines[6].startswith("one after another: 6 of 6, 300 bytes"), lines)
                took = int(re.match(r"3 at once: 6 of 6, 300 bytes, (\d+) ms$", lines[7]).group(1))
                self.assertLess(took, 3000)  # connections over TLS that are kept do not hold it, either
                # the system does not trust it, and the certificate is for a name
                self.assertIn("certificate", run("fetch", url, status=1).stdout)
                said = run("fetch", "-a", chain, url.replace("localhost", "127.0.0.1"), status=1).stdout
                self.assertIn("certificate", said)
                self.assertIn("one after another: 0 of 1", said)
            finally:
                server.shutdown()
                server.server_close()


class Files(unittest.TestCase):
    def curl(self, *arguments):
        done = subprocess.run(["curl", "--silent", "--show-error", "--max-time", str(DEADLINE), "--path-as-is", *arguments],
                              capture_output=True, check=True)
        return done.stdout

    def test_with_curl(self):
        with tempfile.TemporaryDirectory() as folder:
            large = os.urandom(3_000_000)
            pathlib.Path(folder, "large").write_bytes(large)
            pathlib.Path(folder, "index.html").write_text("<p>hello")
            pathlib.Path(folder, "a b.txt").write_text("with a blank")
            pathlib.Path(folder, "empty.json").write_text("")
            with Program("files", folder).listening() as files:
                url = f"http://127.0.0.1:{files.port}"
                status = ["--output", os.devnull, "--write-out", "%{http_code} %{size_download} %{content_type}"]
                self.assertEqual(self.curl(f"{url}/large"), large)
                self.assertEqual(self.curl(f"{url}/"), b"<p>hello")
                self.assertEqual(self.curl(*status, f"{url}/a%20b.txt"), b"200 12 text/plain; charset=utf-8")
                self.assertEqual(self.curl(*status, f"{url}/empty.json"), b"200 0 application/json")
                head = self.curl("--head", f"{url}/large").decode().lower()
                self.assertIn("content-length: 3000000", head)
                for path, wanted in [("/none", b"404"), ("/../etc/passwd", b"404"), ("/%2e%2e/etc/passwd", b"404"), ("/x%00", b"404")]:
                    self.assertEqual(self.curl(*status, url + path)[:3], wanted, path)
                self.assertEqual(self.curl(*status, "--data", "x", f"{url}/large")[:3], b"405")

    def test_stops_when_what_it_serves_is_out(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "large").write_bytes(b"x" * 30_000_000)
            with Program("files", folder).listening() as files, files.connect() as peer:
                peer.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
                head = receive(peer, 100)
                files.process.send_signal(signal.SIGTERM)
                with self.assertRaises(ConnectionRefusedError):
                    while True:  # until it no longer listens
                        with contextlib.suppress(ConnectionResetError):
                            files.connect().close()
                rest = receive(peer, 30_000_000 - 100)
                self.assertTrue((head + rest).startswith(b"HTTP/1.1 200"))
                while peer.recv(65536):
                    pass
                self.assertEqual(files.process.wait(DEADLINE), 0)


class Supervisor(unittest.TestCase):
    def test_starts_again_with_growing_pauses(self):
        with Program("supervisor", "exit 3", "sleep 1000") as program:
            program.line(r"^exit 3: started, process \d+$")
            for pause in (100, 200, 400):
                program.line(r"^exit 3: ended with status 3$")
                program.line(rf"^exit 3: again in ms: {pause}$")
            lines = program.stop()
        self.assertEqual(lines[-1], "all ended")
        self.assertIn("sleep 1000: ended by signal 15", lines)

    def test_kills_the_whole_group_of_what_does_not_end(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = f"{folder}/pipe"
            os.mkfifo(pipe)
            # It does not listen to SIGTERM, nor does its child; both hold the pipe open.
            stubborn = f"trap '' TERM; exec 3>{pipe}; echo x >&3; sleep 1000 & wait; sleep 1000"
            with Program("supervisor", stubborn) as program, open(pipe, encoding="utf-8") as reader:
                self.assertEqual(reader.readline(), "x\n")
                lines = program.stop()
                self.assertEqual(reader.read(), "", "somebody still holds the pipe")
        self.assertTrue(any("took too long" in line for line in lines), lines)
        self.assertTrue(any("ended by signal 9" in line for line in lines), lines)


if __name__ == "__main__":
    unittest.main()
