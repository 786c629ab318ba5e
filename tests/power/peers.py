#!/usr/bin/env python3
"""tests/power/peers.py -- what whilst and its peers lose of what they have acknowledged when the power goes.

    tests/power/peers.py [--cuts N] [--seed N] [--clients N] [NAME...]      default: all that are installed

The same for everybody: a server as its package has it, on a file system that loses what was not flushed (powerfs.c, with a
journal's order of names); clients that put one small record after another, each waiting for its answer, and remember when it came;
after a second or two everything is killed and the power cut; then the server is started again, and asked for every record
that it had acknowledged. One table: acknowledged, lost, and how old the oldest loss was (the window). In half of the cuts nothing
survives that was not flushed; in the other half some of it does, as if the kernel had been writing it back.

A server is a class below: start(), put(), present(). None of them is tuned but for the setting that its name says.
"""
import argparse
import os
import pathlib
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import machine  # noqa: E402

BINARY = os.environ.get("WHILST_BINARY", os.path.join(os.path.dirname(__file__), "../../build/src/whilst"))
POSTGRES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
START_S = 30


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Stream:
    """Bytes and lines of one connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("closed")
        return line.rstrip(b"\r\n")

    def read(self, count):
        data = self.file.read(count)
        if len(data) != count:
            raise ConnectionError("closed")
        return data

    def close(self):
        self.file.close()
        self.socket.close()


class Server:
    """user: who runs it. environment: of its process."""

    user = None

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, None, None

    def prepare(self):
        """Before the first start."""

    def command(self):
        raise NotImplementedError

    def start(self):
        self.port = free_port()
        command = self.command()
        if self.user and os.geteuid() == 0:
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *command]
        with open(self.folder + ".log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = pathlib.Path(self.folder + ".log").read_text(encoding="utf-8", errors="replace")
                raise AssertionError(f"does not start: {said[-600:]}")
            time.sleep(0.01)

    def answers(self):
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def connect(self):
        return Stream(self.port)

    def power_cut(self):
        moment = machine.end_all(self.process)
        self.process = None
        return moment

    def present(self, acknowledged):
        """Those of the keys that are there."""
        raise NotImplementedError


class WhilstHttp(Server):
    level = "local"

    def command(self):
        return [BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", self.folder, "--log-level", "warn"]

    def put(self, stream, payload):
        stream.send(b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nWhilst-Commit: %s\r\nContent-Length: %d\r\n\r\n%s" %
                    (self.level.encode(), len(payload), payload))
        status, body = self.answer(stream)
        if status != 202:
            raise ConnectionError(body)
        return int(re.search(rb'"id": ?(\d+)', body).group(1))

    @staticmethod
    def answer(stream):
        status, length = int(stream.line().split()[1]), 0
        while line := stream.line():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, stream.read(length)

    def present(self, acknowledged):
        stream, found = self.connect(), set()
        for key in acknowledged:
            stream.send(b"GET /v1/jobs/%d HTTP/1.1\r\nHost: x\r\n\r\n" % key)
            if self.answer(stream)[0] == 200:
                found.add(key)
        stream.close()
        return found


class WhilstHttpAsync(WhilstHttp):
    level = "async"


class Beanstalkd(Server):
    options = ("-f", "0")

    def prepare(self):
        os.makedirs(self.folder, exist_ok=True)

    def command(self):
        return ["beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), "-b", self.folder, *self.options]

    def put(self, stream, payload):
        stream.send(b"put 0 0 3600 %d\r\n%s\r\n" % (len(payload), payload))
        answer = stream.line()
        if not answer.startswith(b"INSERTED "):
            raise ConnectionError(answer)
        return int(answer.split()[1])

    def present(self, acknowledged):
        stream, found = self.connect(), set()
        for key in acknowledged:
            stream.send(b"peek %d\r\n" % key)
            answer = stream.line()
            if answer.startswith(b"FOUND "):
                stream.read(int(answer.split()[2]) + 2)
                found.add(key)
        stream.close()
        return found


class BeanstalkdDefault(Beanstalkd):
    options = ()


class BeanstalkdNever(Beanstalkd):
    options = ("-F",)


class WhilstBeanstalk(Beanstalkd):
    level = "local"

    def prepare(self):
        pass

    def command(self):
        return [BINARY, "serve", "--listen", "127.0.0.1:0", "--beanstalk", f"127.0.0.1:{self.port}",
                "--data", self.folder, "--log-level", "warn", "--beanstalk-commit", self.level]


class WhilstBeanstalkAsync(WhilstBeanstalk):
    level = "async"


class Redis(Server):
    fsync = "always"

    def prepare(self):
        os.makedirs(self.folder, exist_ok=True)

    def command(self):
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder, "--save", "",
                "--appendonly", "yes", "--appendfsync", self.fsync]

    def answers(self):
        try:
            stream = self.connect()
            stream.send(b"PING\r\n")
            is_up = stream.line() == b"+PONG"
            stream.close()
            return is_up
        except OSError:
            return False

    def put(self, stream, payload):
        stream.send(b"*3\r\n$5\r\nRPUSH\r\n$1\r\nq\r\n$%d\r\n%s\r\n" % (len(payload), payload))
        answer = stream.line()
        if not answer.startswith(b":"):
            raise ConnectionError(answer)
        return payload

    def present(self, acknowledged):
        stream, found = self.connect(), set()
        stream.send(b"LRANGE q 0 -1\r\n")
        for _ in range(int(stream.line()[1:])):
            found.add(stream.read(int(stream.line()[1:]) + 2)[:-2])
        stream.close()
        return found & set(acknowledged)


class RedisEverySecond(Redis):
    fsync = "everysec"


class Postgres(Server):
    commit = "on"
    user = "postgres"

    def prepare(self):
        binaries, template = POSTGRES[-1].parent, tempfile.mkdtemp(prefix="whilst-postgres-")
        shutil.chown(template, self.user, self.user)
        subprocess.run(["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
                        str(binaries / "initdb"), "-D", template + "/data", "-A", "trust", "-N"], check=True,
                       stdout=subprocess.DEVNULL, cwd="/")
        subprocess.run(["cp", "-a", template + "/data", self.folder], check=True)
        shutil.rmtree(template)
        self.start()
        stream = self.connect()
        self.ask(stream, "CREATE TABLE q (id bigserial PRIMARY KEY, payload text)")
        stream.close()
        self.process.terminate()
        self.process.wait()

    def command(self):
        return [str(POSTGRES[-1]), "-D", self.folder, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                "-c", "unix_socket_directories=", "-c", f"synchronous_commit={self.commit}"]

    def answers(self):
        try:
            self.connect().close()
            return True
        except (OSError, ValueError):
            return False

    def connect(self):
        stream = Stream(self.port)
        body = (196608).to_bytes(4, "big") + b"user\0postgres\0database\0postgres\0\0"
        stream.send((len(body) + 4).to_bytes(4, "big") + body)
        self.until_ready(stream)
        return stream

    @staticmethod
    def until_ready(stream):
        """The first columns of the rows that come."""
        rows = []
        while True:
            kind, length = stream.read(1), int.from_bytes(stream.read(4), "big")
            body = stream.read(length - 4)
            if kind == b"E":
                raise ConnectionError(body)
            if kind == b"D":
                rows.append(body[6:6 + int.from_bytes(body[2:6], "big")])
            if kind == b"Z":
                return rows

    def ask(self, stream, query):
        body = query.encode() + b"\0"
        stream.send(b"Q" + (len(body) + 4).to_bytes(4, "big") + body)
        return self.until_ready(stream)

    def put(self, stream, payload):
        return int(self.ask(stream, f"INSERT INTO q (payload) VALUES ('{payload.decode()}') RETURNING id")[0])

    def present(self, acknowledged):
        stream = self.connect()
        found = {int(row) for row in self.ask(stream, "SELECT id FROM q")}
        stream.close()
        return found & set(acknowledged)


class PostgresOff(Postgres):
    commit = "off"


class PostgresLocal(Postgres):
    commit = "local"


SERVERS = [
    ("whilst-local", "whilst, `local` (default)", WhilstHttp, BINARY),
    ("whilst-async", "whilst, `async`", WhilstHttpAsync, BINARY),
    ("whilst-beanstalk-local", "whilst, beanstalkd front, `local` (default)", WhilstBeanstalk, BINARY),
    ("whilst-beanstalk-async", "whilst, beanstalkd front, `async`", WhilstBeanstalkAsync, BINARY),
    ("beanstalkd-f0", "beanstalkd `-f 0`", Beanstalkd, "beanstalkd"),
    ("beanstalkd-default", "beanstalkd, default (`-f 50`)", BeanstalkdDefault, "beanstalkd"),
    ("beanstalkd-never", "beanstalkd `-F`", BeanstalkdNever, "beanstalkd"),
    ("redis-always", "Redis, `appendfsync always`", Redis, "redis-server"),
    ("redis-everysec", "Redis, `appendfsync everysec`", RedisEverySecond, "redis-server"),
    ("postgresql-on", "PostgreSQL, `synchronous_commit on`", Postgres, str(POSTGRES[-1]) if POSTGRES else "-"),
    ("postgresql-local", "PostgreSQL, `local`", PostgresLocal, str(POSTGRES[-1]) if POSTGRES else "-"),
    ("postgresql-off", "PostgreSQL, `off`", PostgresOff, str(POSTGRES[-1]) if POSTGRES else "-"),
]


class Client(threading.Thread):
    def __init__(self, server, prefix):
        super().__init__()
        self.server, self.prefix, self.acknowledged = server, prefix, []

    def run(self):
        try:
            stream = self.server.connect()
            for i in range(1 << 30):
                key = self.server.put(stream, f"{self.prefix}-{i}-".encode() + b"x" * 80)
                self.acknowledged.append((key, time.monotonic()))
        except (OSError, ValueError):
            pass


class Result:
    def __init__(self):
        self.cuts = self.cuts_that_lost = self.acknowledged = self.lost = self.again = self.failed_starts = 0
        self.windows, self.versions = [], ""


def measure(make, cuts, seed, clients, least_s, most_s):
    """Fresh data after a start that fails; what is settled is looked for again at the next cut."""
    chance, result, number = random.Random(seed), Result(), 0
    with machine.Disk() as disk:
        server, settled = None, set()
        try:
            while result.cuts < cuts:
                if server is None:
                    server, settled = make(os.path.join(disk.path, f"data{number}")), set()
                    server.prepare()
                    disk.command("cut new 1")  # what was prepared is safe
                    server.start()
                number += 1
                workers = [Client(server, f"{number}-{n}") for n in range(clients)]
                for worker in workers:
                    worker.start()
                time.sleep(chance.uniform(least_s, most_s))
                moment = server.power_cut()
                for worker in workers:
                    worker.join()
                disk.cut(chance.choice(("old", "mix")), chance.randrange(1 << 32))
                told = dict(pair for worker in workers for pair in worker.acknowledged)
                result.cuts += 1
                result.acknowledged += len(told)
                try:
                    server.start()
                except AssertionError as error:
                    print(error, file=sys.stderr)
                    result.failed_starts += 1
                    result.acknowledged -= len(told)
                    server = None
                    continue
                there = server.present(list(told) + list(settled))
                lost = [told[key] for key in told if key not in there]
                result.lost += len(lost)
                result.again += len(settled - there)
                settled = (settled | set(told)) & there if len(settled) < 200000 else set()
                if lost:
                    result.cuts_that_lost += 1
                    result.windows.append(moment - min(lost))
        finally:
            if server and server.process:
                server.power_cut()
    return result


def row(title, result):
    windows = sorted(result.windows)
    middle = f"{windows[len(windows) // 2] * 1000:.0f} ms" if windows else "-"
    worst = f"{windows[-1] * 1000:.0f} ms" if windows else "-"
    lost = result.lost + result.again
    note = f", {result.failed_starts} starts failed" if result.failed_starts else ""
    note += f", {result.again} that had survived an earlier cut" if result.again else ""
    return (f"| {title} | {result.cuts} | {result.acknowledged:,} | {lost:,}{note} | {result.cuts_that_lost} "
            f"| {middle} | {worst} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--least", type=float, default=0.5, help="seconds until the power goes, at least")
    parser.add_argument("--most", type=float, default=2.5, help="and at most")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    try:
        machine.Disk().close()
    except machine.NoFuse as no:
        machine.without_fuse(no)
    print("| server | power cuts | acknowledged | of them lost | cuts that lost | window, median | window, worst |\n"
          "|---|---|---|---|---|---|---|", flush=True)
    broken = 0
    for name, title, make, needs in SERVERS:
        if options.names and not any(name.startswith(wanted) for wanted in options.names):
            continue
        if not shutil.which(needs):
            print(f"{name}: not installed", file=sys.stderr)
            continue
        if make.user and os.geteuid() == 0:
            pwd.getpwnam(make.user)
        result = measure(make, options.cuts, options.seed, options.clients, options.least, options.most)
        print(row(title, result), flush=True)
        broken += name.startswith("whilst") and (result.failed_starts + result.again > 0 or
                                                 ("async" not in name and result.lost > 0))
    return broken > 0


if __name__ == "__main__":
    sys.exit(main())
