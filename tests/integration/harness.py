"""tests/integration/harness.py -- the real binary, started on a free port in a fresh data folder, and a client.

Every test file is a script: unittest cases, run by harness.main(). The binary is $WHILST_BINARY, the engine
$WHILST_ENGINE; $WHILST_UNDER is a program that servers run under (valgrind). A server that was started is always stopped, and how it ended is checked: a test passes only
if the server it used also ended well. Nothing here sleeps to wait for something: it reads the state again
until a deadline.
"""
import contextlib
import http.client
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import openapi

BINARY = os.environ.get("WHILST_BINARY", os.path.join(os.path.dirname(__file__), "../../build/src/whilst"))
UNDER = shlex.split(os.environ.get("WHILST_UNDER", ""))
DEADLINE = float(os.environ.get("WHILST_TEST_DEADLINE", "20"))
READY = re.compile(r"^whilst: listening on (\S+(?: \S+)*?), data in (.+), engine (\w+)$")


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __getitem__(self, name):
        return self.headers.get(name)

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {dict(self.headers.items())} {self.body[:300]!r}>"


class Client:
    """One keep-alive connection; request() opens it again when the server has closed it. Every exchange must be as
    src/front/openapi.json describes it."""

    def __init__(self, port, timeout=None):
        self.port, self.timeout = port, timeout or DEADLINE
        self.connection = None

    def request(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        for attempt in (0, 1):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            try:
                try:
                    self.connection.request(method, path, body=body, headers=headers)
                except BrokenPipeError:
                    pass  # refused before all of it was sent; if there is an answer, it has come
                answer = self.connection.getresponse()
                data = answer.read()
                answer = Response(answer.status, answer.headers, data)
                openapi.DESCRIPTION.check(method, path, body, headers.get("Content-Type"), answer)
                return answer
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if fresh or attempt:
                    raise
            except BaseException:
                self.close()
                raise

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def get(self, path, **headers):
        return self.request("GET", path, **headers)

    def post(self, path, body=b"", **headers):
        return self.request("POST", path, body, **headers)

    def put(self, path, value, **headers):
        body = value if isinstance(value, (bytes, str)) else json.dumps(value)
        headers.setdefault("Content_Type", "application/json")
        return self.request("PUT", path, body, **headers)

    def delete(self, path, **headers):
        return self.request("DELETE", path, **headers)

    # -- the verbs of a worker, for tests that are about something else

    def submit(self, queue, payload=b"x", query="", **headers):
        answer = self.post(f"/v1/queues/{queue}/jobs{query}", payload, **headers)
        assert answer.status == 202, answer
        return answer.json()["id"]

    def reserve(self, queue, **headers):
        answer = self.post(f"/v1/queues/{queue}/reserve", **headers)
        assert answer.status in (200, 204), answer
        if answer.status == 204:
            return None
        return int(answer["Whilst-Job"]), answer["Whilst-Lease"], answer.body

    def complete(self, job, lease, result=b"", query="", **headers):
        return self.post(f"/v1/jobs/{job}/complete{query}", result, Whilst_Lease=lease, **headers)


# What tests that speak HTTP by hand say as their Host; test_hosts.py is about what is said by default.
HOSTS = "x h a here other elsewhere.example"


class Server:
    """`whilst serve`, running. data=None: a folder of its own, removed at the end."""

    def __init__(self, *args, data=None, env=None, start=True, preexec=None, listen="127.0.0.1:0"):
        self.own = data is None
        self.data = data or tempfile.mkdtemp(prefix="whilst-test-")
        self.args, self.listen, self.preexec = list(args), listen, preexec
        self.env = {"WHILST_HOSTS": HOSTS, **os.environ, **(env or {})}
        self.process, self.port, self.stderr = None, None, []
        if start:
            self.start()

    def spawn(self):
        command = [*UNDER, BINARY, "serve", "--listen", self.listen, "--data", self.data, *self.args]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=self.env, preexec_fn=self.preexec)
        self.reader = threading.Thread(target=self._read_stderr, args=(self.process,), daemon=True)
        self.reader.start()

    def start(self):
        self.spawn()
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        line = self.process.stdout.readline().decode() if ready else ""
        match = READY.match(line.rstrip("\n"))
        if not match:
            self.kill()
            raise AssertionError(f"not ready: {line!r}; {self.log()}")
        self.addresses, self.engine = match.group(1), match.group(3)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.addresses)
        self.port = int(found.group(1)) if found else None
        return self

    def _read_stderr(self, process):
        for line in process.stderr:
            self.stderr.append(line.decode("utf-8", "replace"))

    def log(self):
        return "".join(self.stderr)

    def logged(self, text):
        """There is such a text in the log; what was written before an answer may be read after it."""
        eventually(lambda: text in self.log(), f"'{text}' in the log")

    def wait(self, timeout=DEADLINE):
        """The exit status of a server that ends by itself."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server does not end; " + self.log())
        self._gather()
        return status

    def _gather(self):
        self.reader.join(DEADLINE)
        self.rest = self.process.stdout.read().decode()
        self.process.stdout.close()
        self.process.stderr.close()
        self.process = None

    def stop(self, expect=0):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            status = self.wait()
            assert status == expect, f"exit status {status}: {self.log()}"
        return self

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self._gather()
        return self

    def client(self, timeout=None):
        return Client(self.port, timeout)

    def remove(self):
        self.kill()
        if self.own:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.stop()
            else:
                sys.stderr.write(f"--- the server's log ---\n{self.log()}\n")
        finally:
            self.remove()


def raw(port, data, timeout=None, half_close=False):
    """Send bytes as they are; everything that comes until the server closes (or the time is out)."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout or DEADLINE) as s:
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_all(s)


def read_all(s):
    got = bytearray()  # which grows in place: an archive of 80 MB is read here
    try:
        while chunk := s.recv(65536):
            got += chunk
    except (ConnectionResetError, socket.timeout):
        pass
    return bytes(got)


def read_answer(s, buffered=b"", head_only=False):
    """One answer with Content-Length from a socket: (Response, what came after it)."""
    while b"\r\n\r\n" not in buffered:
        chunk = s.recv(65536)
        assert chunk, f"closed within a head: {buffered!r}"
        buffered += chunk
    head, rest = buffered.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = http.client.HTTPMessage()
    for line in lines[1:]:
        name, value = line.split(":", 1)
        headers[name] = value.strip()
    length = 0 if head_only else int(headers.get("Content-Length", "0"))
    while len(rest) < length:
        chunk = s.recv(65536)
        assert chunk, "closed within a body"
        rest += chunk
    return Response(int(lines[0].split()[1]), headers, rest[:length]), rest[length:]


def eventually(check, what="it", timeout=DEADLINE):
    """check() again and again until it gives something true, which is returned."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen in {timeout} s")
        time.sleep(0.005)


@contextlib.contextmanager
def workers(work, *arguments, count=4):
    """As many threads that do work(*arguments, stop), until what is inside has ended: then stop is set, and they are waited for."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(*arguments, stop)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def refuses(port):
    """Does nobody listen there?"""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
        return False
    except ConnectionResetError:  # whose server has gone amid the accept, and the kernel is not through with it
        return False
    except ConnectionRefusedError:
        return True


class Case(unittest.TestCase):
    """A test case with one server for the whole class; ARGS are its further arguments."""

    ARGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.ARGS)
        cls.counter = 0

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.server.remove()

    def setUp(self):
        type(self).counter += 1
        self.client = self.server.client()
        self.queue = f"q{self.counter}"

    def tearDown(self):
        self.client.close()

    def assertProblem(self, answer, status, code, **members):
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer["Content-Type"], "application/problem+json", answer)
        document = answer.json()
        self.assertEqual(document["status"], status)
        self.assertEqual(document["code"], code, answer)
        self.assertEqual(document["type"], "urn:whilst:problem:" + code)
        self.assertTrue(document["title"])
        self.assertTrue(document["detail"])
        for name, value in members.items():
            self.assertEqual(document[name], value, answer)
        return document


class Faults:
    """Faults below a server, by tests/fault/shim/shim.c: Server(env=faults.env), then faults.set("fdatasync error=EIO", ...)."""

    def __init__(self, case):
        self.folder = tempfile.mkdtemp(prefix="whilst-faults-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.file = os.path.join(self.folder, "rules")
        # the library reads and writes its own files, which are not the server's
        self.env = {"LD_PRELOAD": os.environ["WHILST_FAULT_SHIM"], "WHILST_SHIM": self.file, "WHILST_SANDBOX": "no",
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        self.set()

    def set(self, *rules):
        with open(self.file + ".new", "w", encoding="utf-8") as f:
            f.write("".join(rule + "\n" for rule in rules))
        os.rename(self.file + ".new", self.file)

    def hits(self):
        """(call, path, number of the rule) of every call that was hit, oldest first."""
        try:
            with open(self.file + ".hits", encoding="utf-8") as f:
                lines = [line.split() for line in f]
        except FileNotFoundError:
            return []
        return [(call, path, int(number)) for call, path, number in lines]

    def forget(self):
        if os.path.exists(self.file + ".hits"):
            os.unlink(self.file + ".hits")


def skip_all(reason):
    print("skipped: " + reason)
    sys.exit(77)


def main():
    faulthandler_seconds = int(os.environ.get("WHILST_TEST_HANG_SECONDS", "0"))
    if faulthandler_seconds:
        import faulthandler
        faulthandler.dump_traceback_later(faulthandler_seconds, exit=True)
    unittest.main(module="__main__", verbosity=2, buffer=False)
