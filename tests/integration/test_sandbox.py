"""tests/integration/test_sandbox.py -- the server in its sandbox: what it does, it still does, and the rest it has given up.

Programs that a sanitizer watches have none, and say so; then that is tested.
"""
import ctypes
import glob
import http.server
import os
import pathlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import unittest

import authority
import harness


def shown(*args):
    """Of a server that is begun like that, and ended: its line about the sandbox, without the time."""
    with harness.Server(*args) as server:
        server.client().get("/livez")
    return re.search(r"ev=sandbox (.*)", server.log()).group(1)


FIT = "sanitizer" not in shown() and "folder of the build" not in shown()
FILES, CALLS = ("files=restricted" in shown(), "calls=restricted" in shown())


def fields(status):
    with open(status) as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def without_landlock():
    """In the child, before the server: a kernel that answers as one without Landlock does. The filter is seccomp's own."""
    def statement(code, true, false, value):
        return struct.pack("HBBI", code, true, false, value)
    program = b"".join([statement(0x20, 0, 0, 0), statement(0x35, 0, 2, 444), statement(0x25, 1, 0, 446),
                        statement(0x06, 0, 0, 0x00050000 | 38), statement(0x06, 0, 0, 0x7fff0000)])
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(head), 0, 0):
        os._exit(99)


class Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"there")

    def log_message(self, *args):
        pass


class Works(unittest.TestCase):
    """All that a server does with files, names and sockets, at its default."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="whilst-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path + ".new", "w") as file:  # as one renews a file: another one takes its place
                file.write(text)
            os.rename(path + ".new", path)
        return path

    def test_jobs_bodies_and_backup(self):
        data = self.path("data")  # made by the server
        for run in range(2):
            with harness.Server("--checkpoint-every", "1MiB", data=data) as server:
                client = server.client()
                big = os.urandom(3 << 20)
                job = client.submit("q", big)
                got, lease, body = client.reserve("q")
                self.assertEqual((got, body), (job, big))
                self.assertEqual(client.complete(job, lease, big[::-1]).status, 200)
                self.assertEqual(client.get(f"/v1/jobs/{job}/result").body, big[::-1])
                for _ in range(40):  # checkpoints, and segments that are begun
                    client.submit("small", b"y" * 100000)
                backup = subprocess.run([harness.BINARY, "backup", "--server", f"http://127.0.0.1:{server.port}", self.path(f"copy{run}")],
                                        capture_output=True, timeout=3 * harness.DEADLINE)
                self.assertEqual(backup.returncode, 0, backup.stderr)
                harness.eventually(lambda: "whilst_checkpoints_total 0" not in client.get("/metrics").body.decode(), "a checkpoint")
                self.assertEqual(client.delete("/v1/queues/nothing").status, 404)
            # a callback that was slow is the machine's doing
            self.assertEqual([line for line in server.log().splitlines()
                              if ("lvl=warn" in line or "lvl=error" in line) and "slow callback" not in line], [])
            self.assertEqual(subprocess.run([harness.BINARY, "log", "verify", data], capture_output=True, timeout=3 * harness.DEADLINE).returncode, 0)

    def test_names_and_backends(self):
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        self.addCleanup(backend.server_close)
        self.addCleanup(backend.shutdown)
        hosts = self.path("etc/hosts", "127.0.0.1 backend.test\n")
        with harness.Server("--service", f"b=http://backend.test:{backend.server_port}", env={"CARES_HOSTS": hosts}) as server:
            self.assertEqual(server.client().get("/call/b/").body, b"there")
            self.path("etc/hosts", "127.0.0.1 another.test\n")  # asked for anew
            server.client().put("/v1/services/c", {"url": f"http://another.test:{backend.server_port}"})
            self.assertEqual(server.client().get("/call/c/").body, b"there")

    def test_encrypted_backends(self):
        """What the system trusts is read with the first of them: here what $SSL_CERT_FILE says."""
        ca = authority.Authority()
        self.addCleanup(ca.remove)
        certificate, key = ca.sign("localhost", "server")
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        backend.socket = context.wrap_socket(backend.socket, server_side=True)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        self.addCleanup(backend.server_close)
        self.addCleanup(backend.shutdown)
        trusted = self.path("trust/ca.pem", pathlib.Path(ca.certificate).read_text())
        with harness.Server("--service", f"b=https://localhost:{backend.server_port}", env={"SSL_CERT_FILE": trusted}) as server:
            self.assertEqual(server.client().get("/call/b/").body, b"there")

    def test_reload_of_files_that_were_replaced(self):
        ca = authority.Authority()
        self.addCleanup(ca.remove)
        pems = {name: [pathlib.Path(path).read_text() for path in ca.sign(name, "server")] for name in ("first", "second")}
        # certbot's manner: what is named is a link into another folder
        for name, (certificate, key) in pems.items():
            self.path(f"archive/{name}.pem", certificate)
            self.path(f"archive/{name}.key", key)
        os.mkdir(self.path("live"))

        def point(name):
            for kind in ("pem", "key"):
                os.symlink(f"../archive/{name}.{kind}", self.path("live/new"))
                os.rename(self.path("live/new"), self.path(f"live/here.{kind}"))
        point("first")
        digest = "0" * 64
        tokens = self.path("tokens/tokens", f"a sha256:{digest} admin\n")
        config = self.path("conf/whilst.conf", "log-level = info\n")
        with harness.Server("--config", config, "--tokens", tokens, "--listen-tls", "127.0.0.1:0",
                            "--tls-certificate", self.path("live/here.pem"), "--tls-key", self.path("live/here.key")) as server:
            port = int(re.search(r"https://127\.0\.0\.1:(\d+)", server.addresses).group(1))
            context = ssl.create_default_context(cafile=ca.certificate)

            def name():
                with socket.create_connection(("127.0.0.1", port), harness.DEADLINE) as s, \
                        context.wrap_socket(s, server_hostname="localhost") as tls:
                    return dict(item[0] for item in tls.getpeercert()["subject"])["commonName"]
            self.assertEqual(name(), "first")
            point("second")
            made = subprocess.run([harness.BINARY, "token", "b", "admin"], capture_output=True, timeout=3 * harness.DEADLINE, check=True, text=True)
            line = re.search(r"b sha256:\S+ admin", made.stdout + made.stderr).group(0)
            text = re.search(r"whilst_\S+", made.stdout + made.stderr).group(0)
            self.path("tokens/tokens", line + "\n")
            self.path("conf/whilst.conf", "log-level = info\ndrain-timeout = 9s\n")
            server.process.send_signal(1)
            harness.eventually(lambda: "ev=reloaded" in server.log(), "reloading")
            server.logged("setting=drain-timeout taken=now")
            self.assertEqual(name(), "second")
            self.assertEqual(server.client().get("/v1/queues", Authorization=f"Bearer {text}").status, 200)

    def test_a_socket_with_a_name(self):
        path = self.path("run/socket")
        os.mkdir(self.path("run"))
        with harness.Server(listen=f"unix:{path}") as server:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(harness.DEADLINE)
                s.connect(path)
                s.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
                self.assertEqual(harness.read_answer(s)[0].status, 200)
            self.assertIsNone(server.port)

    def test_the_statistics_of_beanstalkd(self):
        with harness.Server("--beanstalk", "127.0.0.1:0") as server:
            port = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", server.addresses).group(1))
            with socket.create_connection(("127.0.0.1", port), harness.DEADLINE) as s:
                s.sendall(b"stats\r\nquit\r\n")
                got = harness.read_all(s)
            self.assertIn(b"hostname: " + socket.gethostname().encode(), got.replace(b'"', b""))
            self.assertRegex(got.decode(), r"pid: [1-9]")


class Restricted(unittest.TestCase):
    def test_the_kernel_says_so_of_every_thread(self):
        ours = fields("/proc/self/status")  # what stands around the tests may restrict them itself
        with harness.Server() as server:
            server.client().submit("q", os.urandom(2 << 20))  # there are workers
            for path in glob.glob(f"/proc/{server.process.pid}/task/*/status"):
                has = fields(path)
                self.assertEqual(has["NoNewPrivs"], "1" if FIT else ours["NoNewPrivs"], path)
                self.assertEqual(has["Seccomp"], "2" if CALLS else ours["Seccomp"], path)

    def test_figures_say_so(self):
        wanted = {f'whilst_sandbox{{part="{part}"}} {int(holds)}' for part, holds in (("files", FILES), ("calls", CALLS))}
        for args, lines in (((), wanted), (("--sandbox", "no"), {'whilst_sandbox{part="files"} 0', 'whilst_sandbox{part="calls"} 0'})):
            with harness.Server(*args) as server:
                client = server.client()
                self.assertEqual({line for line in client.get("/metrics").body.decode().splitlines() if line.startswith("whilst_sandbox{")}, lines)
                client.close()

    def test_not_wanted(self):
        if not FIT:
            return
        self.assertEqual(shown("--sandbox", "no"), 'files=any calls=any msg="not wanted"')
        with harness.Server(env={"WHILST_SANDBOX": "no"}) as server:
            self.assertEqual(fields(f"/proc/{server.process.pid}/status")["Seccomp"], fields("/proc/self/status")["Seccomp"])

    def test_files_elsewhere_are_out_of_reach(self):
        """Who can have the server read another file, gets nothing: here its own configuration is what misleads it."""
        if not FILES:
            return
        with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as elsewhere:
            path, secret = ours + "/whilst.conf", elsewhere + "/tokens"
            with open(secret, "w") as file:
                file.write(f"a sha256:{'0' * 64} admin\n")
            with open(path, "w") as file:
                file.write("log-level = info\n")
            with harness.Server("--config", path) as server:
                with open(path, "w") as file:
                    file.write(f"tokens = {secret}\n")
                server.process.send_signal(1)
                harness.eventually(lambda: "ev=cannot-reload" in server.log(), "refusing")
                self.assertRegex(server.log(), r"Permission denied; with the sandbox only those folders")
                self.assertEqual(server.client().get("/v1/queues").status, 200)

    def test_whoever_insists_gets_it_or_no_server(self):
        with tempfile.TemporaryDirectory() as folder:
            if FIT and FILES and CALLS:
                self.assertRegex(shown("--sandbox", "yes"), r"^files=restricted calls=restricted landlock=\d+$")
                return
            ended = subprocess.run([harness.BINARY, "serve", "--data", folder + "/d", "--sandbox", "yes"], capture_output=True, timeout=3 * harness.DEADLINE)
            self.assertEqual(ended.returncode, 1)
            self.assertIn(b"ev=cannot-start", ended.stderr)

    def test_a_kernel_without_landlock(self):
        if not CALLS:
            return
        with harness.Server(preexec=without_landlock) as server:
            self.assertEqual(server.client().get("/livez").status, 200)
            self.assertRegex(server.log(), r'ev=sandbox files=any calls=restricted msg="Landlock, which restricts files: this kernel')
        with tempfile.TemporaryDirectory() as folder:
            args = ["--data", folder + "/d", "--sandbox", "yes"]
            for command, status in ((["serve"], 1), (["config", "check"], 2)):
                ended = subprocess.run([harness.BINARY, *command, *args], capture_output=True, timeout=3 * harness.DEADLINE, preexec_fn=without_landlock)
                self.assertEqual(ended.returncode, status, ended.stderr)
                self.assertIn(b"--sandbox yes: Landlock", ended.stderr)
                self.assertEqual(ended.stdout, b"")

    def test_settings(self):
        shows = subprocess.run([harness.BINARY, "config", "check"], capture_output=True, timeout=3 * harness.DEADLINE, text=True)
        self.assertIn("# default\nsandbox = auto\n", shows.stdout)
        wrong = subprocess.run([harness.BINARY, "config", "check", "--sandbox", "on"], capture_output=True, timeout=3 * harness.DEADLINE, text=True)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("sandbox is one of auto, yes or no", wrong.stderr)


if __name__ == "__main__":
    harness.main()
