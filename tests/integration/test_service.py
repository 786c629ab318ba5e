"""tests/integration/test_service.py -- the server as a service: HTTPS, reloading, systemd's two protocols, config check."""
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import unittest

import authority
import backend
import harness


def https_port(server):
    return int(re.search(r"https://127\.0\.0\.1:(\d+)", server.addresses).group(1))


class Https(unittest.TestCase):
    def setUp(self):
        self.authority = authority.Authority()
        self.addCleanup(self.authority.remove)
        self.certificate, self.key = self.authority.sign("first", "server")

    def serve(self, *args):
        server = harness.Server("--listen-tls", "127.0.0.1:0", "--tls-certificate", self.certificate, "--tls-key", self.key, *args)
        self.addCleanup(server.remove)
        return server

    def context(self, *own):
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if own:
            context.load_cert_chain(*own)
        return context

    def get(self, server, context, path="/livez"):
        connection = http.client.HTTPSConnection("127.0.0.1", https_port(server), timeout=harness.DEADLINE, context=context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            name = dict(item[0] for item in connection.sock.getpeercert()["subject"])["commonName"] if connection.sock else None
            return answer.status, name
        finally:
            connection.close()

    def test_beside_http(self):
        with self.serve() as server:
            self.assertEqual(self.get(server, self.context()), (200, "first"))
            self.assertEqual(server.client().get("/livez").status, 200)

    def test_backends_are_told(self):
        theirs = backend.Backend()
        self.addCleanup(theirs.stop)
        with self.serve("--service", f"echo=http://127.0.0.1:{theirs.server_address[1]}") as server:
            base = f"https://localhost:{https_port(server)}"
            seen = subprocess.run(["curl", "-sS", "--fail", "--cacert", self.authority.certificate, f"{base}/call/echo/x"], check=True, capture_output=True)
            headers = {name.lower(): value for name, value in json.loads(seen.stdout)["headers"]}
            self.assertEqual(headers["x-forwarded-proto"], "https")

    def test_jobs_over_curl(self):
        with self.serve() as server:
            base = f"https://localhost:{https_port(server)}"
            curl = ["curl", "-sS", "--fail", "--cacert", self.authority.certificate]
            made = subprocess.run([*curl, "--data-binary", "hello", f"{base}/v1/queues/q/jobs"], check=True, capture_output=True)
            self.assertIn(b'"id"', made.stdout)
            got = subprocess.run([*curl, "-X", "POST", f"{base}/v1/queues/q/reserve"], check=True, capture_output=True)
            self.assertEqual(got.stdout, b"hello")

    def test_clients_must_be_known(self):
        known = self.authority.sign("known", "client")
        stranger = authority.Authority()
        self.addCleanup(stranger.remove)
        strange = stranger.sign("known", "client")
        with self.serve("--tls-client-ca", self.authority.certificate) as server:
            self.assertEqual(self.get(server, self.context(*known))[0], 200)
            for own in ((), strange):
                with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                    self.get(server, self.context(*own))

    def test_a_new_certificate_without_a_restart(self):
        with self.serve() as server:
            old = http.client.HTTPSConnection("127.0.0.1", https_port(server), timeout=harness.DEADLINE, context=self.context())
            old.request("GET", "/livez")
            old.getresponse().read()
            self.authority.sign("second", "server")
            server.process.send_signal(1)
            harness.eventually(lambda: "ev=reloaded" in server.log(), "reloading")
            self.assertEqual(self.get(server, self.context()), (200, "second"))
            old.request("GET", "/livez")  # a connection made before goes on
            self.assertEqual(old.getresponse().status, 200)
            old.close()

    def test_a_bad_certificate_changes_nothing(self):
        with self.serve() as server:
            with open(self.certificate, "w") as file:
                file.write("nothing")
            server.process.send_signal(1)
            harness.eventually(lambda: "ev=cannot-reload" in server.log(), "refusing")
            self.assertEqual(self.get(server, self.context()), (200, "first"))

    def test_refused_at_the_start(self):
        for args, what in ((["--listen-tls", "127.0.0.1:0"], "tls-certificate"),
                           (["--listen-tls", "127.0.0.1:0", "--tls-certificate", "/nonexistent"], "/nonexistent"),
                           (["--tls-key", self.key], "tls-key"),
                           (["--tls-client-ca", self.key], "listen-tls")):
            with tempfile.TemporaryDirectory() as data:
                ended = subprocess.run([harness.BINARY, "serve", "--data", data + "/d", *args], capture_output=True, timeout=60)
                self.assertEqual(ended.returncode, 2, args)
                self.assertIn(what, ended.stderr.decode())
                self.assertFalse(os.path.exists(data + "/d"))


class Restart(unittest.TestCase):
    """A ring outlives a process that was killed for a moment, and with it the sockets that it was to accept from."""

    def restart(self, listen, again, connect):
        with harness.Server(listen=listen) as server:
            for _ in range(5):
                with connect(server.addresses) as idle:
                    idle.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
                    self.assertEqual(harness.read_answer(idle)[0].status, 200)
                    server.kill()
                    server.listen = again(server.addresses)
                    server.start()

    def test_of_the_same_port(self):
        # an address of its own, so that nobody's connection has the port meanwhile
        host = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"

        def port(addresses):
            return int(addresses.rsplit(":", 1)[1])
        self.restart(f"{host}:0", lambda addresses: f"{host}:{port(addresses)}",
                     lambda addresses: socket.create_connection((host, port(addresses)), harness.DEADLINE))

    def test_of_the_same_name(self):
        def connect(addresses):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(harness.DEADLINE)
            s.connect(addresses.removeprefix("unix:"))
            return s
        with tempfile.TemporaryDirectory() as folder:
            self.restart(f"unix:{folder}/socket", lambda addresses: addresses, connect)


class Reload(unittest.TestCase):
    def test_what_changes_and_what_waits(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            def write(text):
                file.seek(0)
                file.truncate()
                file.write(text)
                file.flush()

            write("log-level = warn\nmax-wait = 10s\n")
            with harness.Server("--config", file.name) as server:
                write("log-level = info\nmax-wait = 20s\nservice = late=http://127.0.0.1:9\n")
                server.process.send_signal(1)
                harness.eventually(lambda: "ev=reloaded" in server.log(), "reloading")
                self.assertRegex(server.log(), r"lvl=info ev=setting-changed setting=log-level taken=now")
                self.assertRegex(server.log(), r"lvl=warn ev=setting-changed setting=max-wait taken=at-the-next-start")
                self.assertEqual(server.client().get("/v1/services/late").json()["url"], "http://127.0.0.1:9")
                write("log-level = info\nservice = bad=nothing\n")
                server.process.send_signal(1)
                harness.eventually(lambda: "ev=cannot-reload" in server.log(), "refusing")
                self.assertEqual(server.client().get("/livez").status, 200)
                write("log-level = debug\n")
                for _ in range(20):  # however many come at once
                    server.process.send_signal(1)
                harness.eventually(lambda: "setting=log-level taken=now" in server.log().split("cannot-reload")[1], "the last one")


class ServiceManager(unittest.TestCase):
    def messages(self, manager, until):
        got = []
        while not any(until in message for message in got):
            got.append(manager.recv(4096).decode())
        return got

    def test_told_how_it_stands(self):
        for abstract in (False, True):
            with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.settimeout(harness.DEADLINE)
                name = f"\0whilst-test-{os.getpid()}" if abstract else folder + "/notify"
                manager.bind(name)
                with harness.Server(env={"NOTIFY_SOCKET": name.replace("\0", "@")}) as server:
                    self.assertEqual(self.messages(manager, "READY=1"), ["READY=1"])
                    server.process.send_signal(1)
                    reloading, ready = self.messages(manager, "READY=1")
                    self.assertRegex(reloading, r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
                    server.stop()
                    self.assertEqual(self.messages(manager, "STOPPING=1"), ["STOPPING=1"])

    def start(self, sockets, names, *args):
        """As systemd does it: descriptors from 3 on, the environment made for the very process."""
        held = [s.fileno() for s in sockets]
        code = ("import os, sys\n"
                "fds = [int(n) for n in sys.argv[1].split(',')]\n"
                "high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]\n"
                "for i, fd in enumerate(high): os.dup2(fd, 3 + i)\n"
                "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2])\n"
                "os.execv(sys.argv[3], sys.argv[3:])\n")
        data = tempfile.TemporaryDirectory()
        self.addCleanup(data.cleanup)
        process = subprocess.Popen(["python3", "-c", code, ",".join(map(str, held)), names, harness.BINARY, "serve",
                                    "--data", data.name, *args], pass_fds=held, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def end():
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        self.addCleanup(end)
        return process

    def listening(self):
        s = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(s.close)
        return s

    def test_takes_the_sockets_it_is_given(self):
        web, jobs = self.listening(), self.listening()
        process = self.start([web, jobs], "web:beanstalk")
        line = process.stdout.readline().decode()
        self.assertIn(f"http://127.0.0.1:{web.getsockname()[1]}", line)
        self.assertIn(f"beanstalk://127.0.0.1:{jobs.getsockname()[1]}", line)
        self.assertNotRegex(line, r":4480\b")
        client = harness.Client(web.getsockname()[1])
        self.assertEqual(client.get("/livez").status, 200)
        client.close()
        with socket.create_connection(jobs.getsockname()) as s:
            s.sendall(b"list-tubes\r\n")
            self.assertTrue(s.recv(100).startswith(b"OK "))
        process.terminate()
        self.assertEqual(process.wait(harness.DEADLINE), 0)
        # the socket is the manager's: it lives on
        with socket.create_connection(web.getsockname()):
            pass

    def test_no_sockets_that_do_not_listen(self):
        with socket.socket() as plain:
            process = self.start([plain], "web")
            self.assertEqual(process.wait(harness.DEADLINE), 2)
            self.assertIn("descriptor 3", process.stderr.read().decode())

    def test_https_needs_a_certificate(self):
        process = self.start([self.listening()], "https")
        self.assertEqual(process.wait(harness.DEADLINE), 2)
        self.assertIn("tls-certificate", process.stderr.read().decode())


class ConfigCheck(unittest.TestCase):
    def check(self, *args, **env):
        return subprocess.run([harness.BINARY, "config", "check", *args], capture_output=True, timeout=60, text=True,
                              env=dict(os.environ, **env))

    def test_shows_what_is_in_force_and_why(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("max-wait = 90s\nmax-payload = 3MiB\nidle-timeout = 1500ms\n")
            file.flush()
            shown = self.check("--config", file.name, "--max-payload", "2MiB", WHILST_MAX_CONNECTIONS="7")
            self.assertEqual(shown.returncode, 0, shown.stderr)
            self.assertIn("# flag\nmax-payload = 2MiB\n", shown.stdout)
            self.assertIn("# file\nmax-wait = 90s\n", shown.stdout)
            self.assertIn("# file\nidle-timeout = 1500ms\n", shown.stdout)
            self.assertIn("# environment\nmax-connections = 7\n", shown.stdout)
            self.assertIn("# default\ndata = whilst-data\n", shown.stdout)
            # what is shown is a file that says the same
            with tempfile.NamedTemporaryFile("w", suffix=".conf") as again:
                again.write(shown.stdout)
                again.flush()
                second = self.check("--config", again.name)
            values = lambda text: [line for line in text.splitlines() if not line.startswith("#")]
            self.assertEqual(values(second.stdout), values(shown.stdout))

    def test_says_what_is_wrong(self):
        for args in (["--max-wait", "5"], ["--listen", "nowhere"], ["--service", "x"], ["--nonsense", "1"],
                     ["--listen-tls", "127.0.0.1:1", "--tls-certificate", "/nonexistent"], ["--config", "/nonexistent"]):
            wrong = self.check(*args)
            self.assertEqual((wrong.returncode, wrong.stdout), (2, ""), args)
            self.assertEqual(len(wrong.stderr.splitlines()), 1, wrong.stderr)
        self.assertEqual(subprocess.run([harness.BINARY, "config"], capture_output=True, timeout=60).returncode, 2)


if __name__ == "__main__":
    harness.main()
