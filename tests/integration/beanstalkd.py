"""tests/integration/beanstalkd.py -- the real beanstalkd and whilst behind one face, and a client that keeps what it hears.

beanstalkd comes from its Debian package, unpacked by scripts/unpack and never installed. A scenario speaks to a World, which is
either of them; what it sends and hears is the transcript that the tests compare. Jobs are called A, B, C ... in the order in which
their ids were first heard, so that transcripts do not depend on the ids given.
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import harness
import packaged

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/migrate-from-beanstalkd.md"
WORDS_WITH_BODY = ("RESERVED", "FOUND", "OK")


def beanstalkd_binary():
    """The program, or None with a word on standard output: it cannot be had here."""
    given = os.environ.get("WHILST_TEST_BEANSTALKD")
    if given:
        return given
    return packaged.program("beanstalkd", "usr/bin/beanstalkd")


def listed_differences():
    """The names in the table of the page."""
    section = PAGE.read_text().split("## What differs", 1)[1]
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def parse_yaml(text):
    """The small part of YAML that statistics use: (keys in order, values), or a list."""
    lines = text.decode().split("\n")
    assert lines[0] == "---" and lines[-1] == "", lines
    if all(line.startswith("- ") for line in lines[1:-1]):
        return [line[2:] for line in lines[1:-1]]
    return {key: value.strip('"') for key, value in (line.split(": ", 1) for line in lines[1:-1])}


class Connection:
    def __init__(self, world, name):
        self.world, self.name = world, name
        self.socket = world.connect()
        self.buffered = b""
        # so that the server has accepted it before anything else happens
        self.socket.sendall(b"list-tube-used\r\n")
        assert self._line() == b"USING default"

    def send(self, data):
        self.socket.sendall(self.world.with_ids(data))
        return self

    def _line(self):
        while b"\r\n" not in self.buffered:
            chunk = self.socket.recv(65536)
            if not chunk:
                return None
            self.buffered += chunk
        line, self.buffered = self.buffered.split(b"\r\n", 1)
        return line

    def answer(self):
        """One answer: its line, and its body if it has one. None: the connection has ended."""
        line = self._line()
        if line is None:
            return None
        words = line.decode().split(" ")
        if words[0] in WORDS_WITH_BODY:
            size = int(words[-1])
            while len(self.buffered) < size + 2:
                chunk = self.socket.recv(65536)
                assert chunk, "closed within a body"
                self.buffered += chunk
            body, self.buffered = self.buffered[:size], self.buffered[size:]
            assert self.buffered.startswith(b"\r\n"), self.buffered[:20]
            self.buffered = self.buffered[2:]
            return self.world.without_ids(words), body
        return self.world.without_ids(words), None

    def expect(self, *answers):
        """What comes next. An answer: "LINE" or ("LINE", b"body"). They are in the transcript."""
        for wanted in answers:
            got = self.answer()
            got = None if got is None else got[0] if got[1] is None else got
            self.world.note(self.name, got)
            assert got == wanted, f"{self.world.kind}: {self.name}: wanted {wanted!r}, got {got!r}"
        return self

    def ask(self, request, *answers):
        self.send(request)
        return self.expect(*answers)

    def differ(self, name, beanstalkd, whilst):
        """Here the two say different things, for the reason that the page names."""
        assert name in listed_differences(), f"{name} is not in {PAGE}"
        self.world.differences.add(name)
        wanted = beanstalkd if self.world.kind == "beanstalkd" else whilst
        for one in wanted:
            got = self.answer()
            got = None if got is None else got[0] if got[1] is None else got
            assert got == one, f"{self.world.kind}: {self.name}: wanted {one!r}, got {got!r}"
        self.world.note(self.name, "differs: " + name)
        return self

    def statistics(self, request, **wanted):
        """An OK whose body has these values, as a dict; its keys are in the transcript, in order."""
        got = self.send(request).answer()
        assert got is not None and got[0].startswith("OK "), got
        values = parse_yaml(got[1])
        self.world.note(self.name, list(values))
        for key, value in wanted.items():
            key = key.replace("_", "-")
            self.world.note(self.name, (key, values[key]))
            assert values[key] == str(value), f"{self.world.kind}: {key}: wanted {value}, got {values[key]}"
        return values

    def silent(self, seconds, noted=True):
        """Nothing is said for that long."""
        self.socket.settimeout(seconds)
        try:
            got = self.buffered or self.socket.recv(1000)
        except (TimeoutError, socket.timeout):
            got = b""
        self.socket.settimeout(harness.DEADLINE)
        assert got == b"", f"{self.world.kind}: {self.name}: wanted nothing, got {got!r}"
        if noted:
            self.world.note(self.name, "silence")
        return self

    def ended(self):
        return self.expect(None)

    def close(self):
        self.socket.close()


class World:
    """One of the two servers, and the transcript."""

    def __init__(self, max_job_size=None, durable=False, unix=False):
        self.connections, self.transcript, self.names, self.ids = [], [], {}, {}
        self.differences = set()
        self.fixed_port = None  # for a server that comes back where it was
        self.max_job_size, self.durable, self.unix = max_job_size, durable, unix
        self.folder = tempfile.mkdtemp(prefix="whilst-test-")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        for connection in self.connections:
            connection.close()
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def note(self, who, what):
        self.transcript.append((who, what))

    def connection(self, name="c"):
        connection = Connection(self, name)
        self.connections.append(connection)
        return connection

    def connect(self):
        if self.unix:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(harness.DEADLINE)
            try:
                s.connect(self.folder + "/socket")
            except OSError:
                s.close()
                raise
            return s
        return socket.create_connection(("127.0.0.1", self.port), timeout=harness.DEADLINE)

    def with_ids(self, data):
        data = data.encode() if isinstance(data, str) else data
        return re.sub(rb"\{([A-Z])\}", lambda m: self.names[m[1].decode()].encode(), data)

    def without_ids(self, words):
        if words[0] in ("INSERTED", "RESERVED", "FOUND") and len(words) > 1 and words[1].isdigit():
            if words[1] not in self.ids:
                self.ids[words[1]] = chr(ord("A") + len(self.ids))
                self.names[self.ids[words[1]]] = words[1]
            words = [words[0], self.ids[words[1]]] + words[2:]
        return " ".join(words)

    def restart(self):
        for connection in self.connections:
            connection.close()
        self.connections = []
        self.stop()
        self.start()


class Beanstalkd(World):
    kind = "beanstalkd"
    binary = None

    def start(self):
        while not self.start_at(self.fixed_port or free_port()):
            assert not self.fixed_port and not self.unix, "beanstalkd does not start"  # else: somebody took the port

    def start_at(self, port):
        self.port = port
        command = [self.binary, "-l", "unix:" + self.folder + "/socket"] if self.unix else \
                  [self.binary, "-l", "127.0.0.1", "-p", str(self.port)]
        if self.max_job_size:
            command += ["-z", str(self.max_job_size)]
        if self.durable:
            os.makedirs(self.folder + "/binlog", exist_ok=True)
            command += ["-b", self.folder + "/binlog", "-f", "0"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

        def up():
            if self.process.poll() is not None:
                return True
            try:
                self.connect().close()
                return True
            except OSError:
                return False
        harness.eventually(up, "beanstalkd's start")
        return self.process.poll() is None

    def refuse_puts(self):
        self.process.send_signal(signal.SIGUSR1)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Whilst(World):
    kind = "whilst"

    def start(self):
        address = "unix:" + self.folder + "/socket" if self.unix else f"127.0.0.1:{self.fixed_port or 0}"
        arguments = ["--beanstalk", address]
        if self.max_job_size:
            arguments += ["--max-job-size", str(self.max_job_size)]
        self.server = harness.Server(*arguments, data=self.folder + "/data")
        if not self.unix:
            self.port = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", self.server.addresses).group(1))

    def refuse_puts(self):
        self.server.process.send_signal(signal.SIGUSR1)

    def stop(self):
        self.server.stop()
        assert "lvl=error" not in self.server.log(), self.server.log()


def wait_a_little(seconds):
    """Time itself is what the scenario is about."""
    time.sleep(seconds)
