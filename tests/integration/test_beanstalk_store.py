#!/usr/bin/env python3
"""tests/integration/test_beanstalk_store.py -- the beanstalkd front where beanstalkd itself is no measure: one store with the HTTP
front, peers that are slow, half closed or many, and random scripts that both servers must answer alike.
"""
import base64
import os
import random
import re
import resource
import select
import socket
import tempfile
import threading
import time
import unittest

import beanstalkd
import harness


def port_of(server):
    return int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", server.addresses).group(1))


class Line:
    """A plain client of one server."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE)
        self.file = self.socket.makefile("rb")

    def ask(self, request):
        self.socket.sendall(request if isinstance(request, bytes) else request.encode())
        return self.answer()

    def answer(self):
        line = self.file.readline().decode().rstrip("\r\n")
        words = line.split(" ")
        if words[0] in beanstalkd.WORDS_WITH_BODY:
            body = self.file.read(int(words[-1]) + 2)
            return line, body[:-2]
        return line

    def put(self, body, head="0 0 60"):
        answer = self.ask(b"put %s %d\r\n%s\r\n" % (head.encode(), len(body), body))
        assert answer.startswith("INSERTED "), answer
        return int(answer.split()[1])

    def close(self):
        self.file.close()
        self.socket.close()


class OneStore(unittest.TestCase):
    """A tube is a queue."""

    def setUp(self):
        self.server = harness.Server("--beanstalk", "127.0.0.1:0")
        self.addCleanup(self.server.remove)
        self.http, self.line = self.server.client(), Line(port_of(self.server))
        self.addCleanup(self.http.close)
        self.addCleanup(self.line.close)

    def tearDown(self):
        self.line.close()
        self.http.close()
        self.server.stop()

    def waiting(self, job, result):
        def wait():
            client = self.server.client()
            result.append(client.get(f"/v1/jobs/{job}", Prefer="wait=20"))
            client.close()
        thread = threading.Thread(target=wait)
        thread.start()
        harness.eventually(lambda: "whilst_http_parked 1" in self.http.get("/metrics").body.decode(), "a wait")
        return thread

    def test_put_here_and_waited_for_there(self):
        job = self.line.put(b"hello")
        view = self.http.get(f"/v1/jobs/{job}").json()
        self.assertEqual((view["state"], view["queue"], view["priority"], view["attempts_max"]), ("ready", "default", 0, None))
        result = []
        thread = self.waiting(job, result)
        self.assertEqual(self.line.ask("reserve\r\n"), (f"RESERVED {job} 5", b"hello"))
        self.assertEqual(self.http.get(f"/v1/jobs/{job}").json()["state"], "running")
        self.assertEqual(self.line.ask(f"delete {job}\r\n"), "DELETED")
        thread.join()
        self.assertEqual((result[0].status, result[0].json()["state"]), (200, "done"))
        # who comes later finds it, because somebody waited; a job that nobody waited for is gone at once
        self.assertEqual(self.http.get(f"/v1/jobs/{job}").json()["state"], "done")
        self.assertEqual(self.line.ask(f"delete {job}\r\n"), "NOT_FOUND")
        job = self.line.put(b"hello")
        self.assertEqual(self.line.ask(f"delete {job}\r\n"), "DELETED")
        self.assertEqual(self.http.get(f"/v1/jobs/{job}").status, 410)

    def test_submitted_there_and_reserved_here(self):
        job = self.http.submit("mail", b"letter", "?priority=7")
        result = []
        thread = self.waiting(job, result)
        self.assertEqual(self.line.ask("watch mail\r\n"), "WATCHING 2")
        self.assertEqual(self.line.ask("reserve\r\n"), (f"RESERVED {job} 6", b"letter"))
        self.assertEqual(self.line.ask(f"delete {job}\r\n"), "DELETED")
        thread.join()
        self.assertEqual(result[0].json()["state"], "done")
        # it is kept for its retention there, and does not exist here
        self.assertEqual(self.http.get(f"/v1/jobs/{job}/result").status, 200)
        for command in ("peek", "delete", "stats-job", "reserve-job", "kick-job"):
            self.assertEqual(self.line.ask(f"{command} {job}\r\n"), "NOT_FOUND")

    def test_deleted_while_it_waits_is_cancelled(self):
        job = self.http.submit("mail")
        self.assertEqual(self.line.ask(f"delete {job}\r\n"), "DELETED")
        self.assertEqual(self.http.get(f"/v1/jobs/{job}").json()["state"], "cancelled")

    def test_put_here_and_worked_on_there(self):
        job = self.line.put(b"work")
        got, lease, body = self.http.reserve("default")
        self.assertEqual((got, body), (job, b"work"))
        self.assertEqual(self.line.ask(f"delete {job}\r\n"), "NOT_FOUND")
        self.assertEqual(self.http.complete(job, lease, b"result").status, 200)

    def test_cancelled_there_while_reserved_here(self):
        for command, answer in (("delete %d", "DELETED"), ("touch %d", "NOT_FOUND"), ("release %d 0 0", "NOT_FOUND"),
                                ("bury %d 0", "NOT_FOUND")):
            job = self.line.put(b"x")
            self.line.ask("reserve\r\n")
            self.assertEqual(self.http.delete(f"/v1/jobs/{job}").status, 202)
            self.assertEqual(self.line.ask(command % job + "\r\n"), answer)
            self.assertEqual(self.line.ask(f"peek {job}\r\n"), "NOT_FOUND")

    def test_attempts_of_a_job_from_there_are_counted_here(self):
        job = self.http.submit("default", b"x", "?attempts=2&time-to-run=100ms")
        for _ in range(2):
            self.assertEqual(self.line.ask("reserve-with-timeout 5\r\n")[0], f"RESERVED {job} 1")
            harness.eventually(lambda: self.http.get(f"/v1/jobs/{job}").json()["state"] != "running", "a lease's end")
        self.assertEqual(self.http.get(f"/v1/jobs/{job}").json()["state"], "failed")
        self.assertEqual(self.line.ask("reserve-with-timeout 0\r\n"), "TIMED_OUT")

    def test_a_tube_that_nobody_needs_goes(self):
        for name in ("one", "two"):
            self.line.ask(f"use {name}\r\n")
            self.line.put(b"x")
        self.assertEqual(self.http.put("/v1/queues/three", {}).status // 100, 2)
        self.line.ask("use default\r\nwatch one\r\n"), self.line.answer()
        self.line.ask("reserve\r\n")
        job = self.line.ask("ignore one\r\n") and self.http.get("/v1/queues/one")
        self.assertEqual(job.status, 200)
        self.line.close()
        self.line = Line(port_of(self.server))
        first = self.line.ask("watch one\r\nreserve\r\n"), self.line.answer()
        self.line.ask(f"delete {first[1][0].split()[1]}\r\n")
        self.line.ask("ignore one\r\n")
        harness.eventually(lambda: self.http.get("/v1/queues/one").status == 404, "the end of a queue", 30)
        self.assertEqual(self.http.get("/v1/queues/two").status, 200)
        self.assertEqual(self.http.get("/v1/queues/three").status, 200)


class Options(unittest.TestCase):
    def test_retention(self):
        with harness.Server("--beanstalk", "127.0.0.1:0", "--beanstalk-retention", "1h", "--beanstalk-commit", "async") as server:
            line, http = Line(port_of(server)), server.client()
            job = line.put(b"x")
            line.ask("reserve\r\n")
            self.assertEqual(line.ask(f"delete {job}\r\n"), "DELETED")
            self.assertEqual(http.get(f"/v1/jobs/{job}").json()["state"], "done")
            self.assertEqual(line.ask(f"delete {job}\r\n"), "NOT_FOUND")
            line.close()
            http.close()

    def test_declared_queues(self):
        with harness.Server("--beanstalk", "127.0.0.1:0", "--queues", "declared") as server:
            line, http = Line(port_of(server)), server.client()
            self.assertEqual(line.ask("put 0 0 1 1\r\nx\r\n"), "NOT_FOUND")
            self.assertEqual(line.ask("reserve-with-timeout 0\r\n"), "NOT_FOUND")
            http.put("/v1/queues/default", {"jobs_max": 1})
            line.put(b"x")
            self.assertEqual(line.ask("put 0 0 1 1\r\nx\r\n"), "OUT_OF_MEMORY")
            line.close()
            http.close()

    def test_queues_of_the_server(self):
        with harness.Server("--beanstalk", "127.0.0.1:0") as server:
            line = Line(port_of(server))
            for tube in ("call/shop", "topic/t", "callbacks", "callbacks/pending"):
                for verb in ("use", "watch"):
                    self.assertEqual(line.ask(f"{verb} {tube}\r\n"), "BAD_FORMAT")
            self.assertEqual(line.ask("use callbacksx\r\n"), "USING callbacksx")
            self.assertEqual(line.ask("list-tube-used\r\n"), "USING callbacksx")
            line.close()

    def test_jobs_of_the_server(self):
        """What is in them is nobody's: not by its id, and no list names their queues."""
        with tempfile.TemporaryDirectory() as folder:
            secrets = os.path.join(folder, "secrets")
            with open(secrets, "w", encoding="ascii") as file:
                file.write("whsec_" + base64.b64encode(bytes(24)).decode() + "\n")
            with harness.Server("--beanstalk", "127.0.0.1:0", "--callback-secrets", secrets,
                                "--allow-private-targets", "127.0.0.0/8", "--service", "s=http://127.0.0.1:1") as server:
                http, line = server.client(), Line(port_of(server))
                job = http.submit("q", b"x", **{"Whilst-Callback": "http://127.0.0.1:1/"})
                http.submit("q", b"stays")
                http.put("/v1/topics/t", {"retention": "1h"})
                self.assertEqual(http.post("/v1/topics/t/events?type=e", b"event").status, 202)
                call = http.get("/call/s/x", Prefer="respond-async").json()["id"]
                event = http.get("/v1/queues/topic%2Ft/jobs").json()["jobs"][0]["id"]
                for hidden in (job + 1, call, event):
                    for command in (f"reserve-job {hidden}", f"peek {hidden}", f"stats-job {hidden}", f"delete {hidden}",
                                    f"kick-job {hidden}", f"release {hidden} 0 0", f"bury {hidden} 0", f"touch {hidden}"):
                        self.assertEqual(line.ask(command + "\r\n"), "NOT_FOUND", command)
                self.assertEqual(http.get(f"/v1/jobs/{job + 1}").json()["queue"], "callbacks/pending")
                # several in one piece, an own one among them
                self.assertEqual(line.ask(f"delete {job + 1}\r\ndelete {call}\r\ndelete {job}\r\n"), "NOT_FOUND")
                self.assertEqual([line.answer(), line.answer()], ["NOT_FOUND", "DELETED"])
                for tube in ("callbacks", "callbacks/pending", "call/s", "topic/t"):
                    self.assertEqual(line.ask(f"stats-tube {tube}\r\n"), "NOT_FOUND")
                    self.assertEqual(line.ask(f"pause-tube {tube} 1\r\n"), "NOT_FOUND")
                tubes = line.ask("list-tubes\r\n")[1].decode().split("\n")[1:-1]
                self.assertEqual(sorted(tubes), ["- default", "- q"])
                self.assertIn("current-tubes: 2", line.ask("stats\r\n")[1].decode())
                http.close()
                line.close()

    def test_watching_too_many(self):
        with harness.Server("--beanstalk", "127.0.0.1:0") as server:
            line = Line(port_of(server))
            for i in range(255):
                self.assertEqual(line.ask(f"watch t{i}\r\n"), f"WATCHING {i + 2}")
            self.assertEqual(line.ask("watch more\r\n"), "OUT_OF_MEMORY")
            self.assertEqual(line.ask("reserve-with-timeout 0\r\n"), "TIMED_OUT")
            line.close()

    def test_stopping_gives_reserved_jobs_back(self):
        server = harness.Server("--beanstalk", "127.0.0.1:0", "--beanstalk", "127.0.0.1:0")
        self.addCleanup(server.remove)
        line = Line(port_of(server))
        job = line.put(b"x", "0 0 1000")
        line.ask("reserve\r\n")
        waiter = Line(port_of(server))
        waiter.socket.sendall(b"reserve\r\n")
        harness.eventually(lambda: b"current-waiting: 1\n" in line.ask("stats\r\n")[1], "one that waits")
        server.stop()
        self.assertEqual(line.answer(), "")
        self.assertEqual(waiter.answer(), "")
        line.close()
        waiter.close()
        server.start()
        line = Line(port_of(server))
        self.assertEqual(line.ask("reserve-with-timeout 0\r\n")[0], f"RESERVED {job} 1")
        line.close()
        server.stop()


class Peers(unittest.TestCase):
    """Slow, half closed, gone, and many."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("--beanstalk", "127.0.0.1:0", "--max-job-size", "4MiB", "--max-connections", "20000")
        cls.port = port_of(cls.server)

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.server.remove()

    def test_a_reader_that_is_slow(self):
        """Answers of 64 MiB to a peer that does not read: the server holds little of it, and all of it comes."""
        line = Line(self.port)
        body = os.urandom(1 << 20)
        line.ask("use slow\r\n")
        job = line.put(body)
        before = self.memory()
        line.socket.sendall(f"peek {job}\r\n".encode() * 64 + b"list-tube-used\r\n")
        other = Line(self.port)
        self.assertEqual(other.ask("list-tube-used\r\n"), "USING default")
        self.assertLess(self.memory() - before, 24 << 20)
        for _ in range(64):
            self.assertEqual(line.answer()[1], body)
        self.assertEqual(line.answer(), "USING slow")
        self.assertEqual(line.ask(f"delete {job}\r\n"), "DELETED")
        line.close()
        other.close()

    def memory(self):
        with open(f"/proc/{self.server.process.pid}/status", encoding="utf-8") as file:
            text = file.read()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) << 10

    def test_a_body_that_is_promised_and_does_not_come(self):
        before = self.memory()
        lines = [Line(self.port) for _ in range(50)]
        for line in lines:
            line.socket.sendall(b"put 0 0 60 4194304\r\nonly this")
        other = Line(self.port)
        self.assertEqual(other.ask("list-tube-used\r\n"), "USING default")
        self.assertLess(self.memory() - before, 32 << 20)
        for line in lines + [other]:
            line.close()

    def test_gone_within_a_command(self):
        for piece in (b"p", b"put 0 0 60 5\r\nhel", b"reserve\r\n", b"reserve\r\nreserve\r\n", b"put 0 0 60 5\r\nhello\r\n", b"x" * 300,
                      b"put 0 0 60 5000000\r\nhel"):
            for reset in (False, True):
                line = Line(self.port)
                line.ask("use gone\r\n"), line.ask("watch gone\r\n"), line.ask("ignore default\r\n")
                line.socket.sendall(piece)
                if reset:
                    line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                line.close()
        line = Line(self.port)
        line.ask("watch gone\r\n")
        for _ in range(2):
            self.assertEqual(line.ask("reserve-with-timeout 5\r\n")[1], b"hello")
        self.assertEqual(line.ask("reserve-with-timeout 0\r\n"), "TIMED_OUT")
        line.close()

    def test_ten_thousand(self):
        count = 10000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count + 200
        if hard != resource.RLIM_INFINITY and hard < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            except (ValueError, PermissionError):
                count = hard - 200
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        resource.prlimit(self.server.process.pid, resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        line = Line(self.port)
        line.ask("use many\r\n")
        before = self.memory()
        waiters = []
        try:
            poll = select.poll()
            by_fd = {}
            for i in range(count):
                s = socket.socket()
                s.settimeout(harness.DEADLINE)
                s.connect(("127.0.0.1", self.port))
                s.sendall(b"watch many\r\nignore default\r\nreserve\r\n")
                poll.register(s, select.POLLIN)
                by_fd[s.fileno()] = [s, b""]
                waiters.append(s)

            def waiting():
                text = beanstalkd.parse_yaml(line.ask("stats-tube many\r\n")[1])
                return int(text["current-waiting"]) == count
            harness.eventually(waiting, f"{count} that wait", 120)
            self.assertLess((self.memory() - before) / count, 4096)
            body = b"put 0 0 600 4\r\nwork\r\n"
            for at in range(0, count, 500):
                line.socket.sendall(body * min(500, count - at))
                for _ in range(min(500, count - at)):
                    self.assertTrue(line.answer().startswith("INSERTED "))
            served, deadline = 0, time.monotonic() + 120
            while served < count and time.monotonic() < deadline:
                for fd, _ in poll.poll(1000):
                    entry = by_fd[fd]
                    entry[1] += entry[0].recv(1000)
                    if entry[1].endswith(b"\r\nwork\r\n"):
                        served += 1
                        poll.unregister(fd)
            self.assertEqual(served, count)
        finally:
            for s in waiters:
                s.close()

        def all_back():
            return beanstalkd.parse_yaml(line.ask("stats-tube many\r\n")[1])["current-jobs-ready"] == str(count)
        harness.eventually(all_back, "every job's return", 120)
        line.close()


class RandomScripts(unittest.TestCase):
    """What no scenario thought of: the same bytes to both servers, in pieces of any size; the same bytes come back."""

    def script(self, rng):
        commands, jobs = [], 0
        for number in range(400):
            job = rng.randint(0, jobs + 2)
            body = bytes(rng.choice(b"abc\r\n \0") for _ in range(rng.randint(0, 40)))
            kind = rng.randrange(24)
            if kind < 5:
                jobs += 1
                commands.append(b"put %d %d 100 %d\r\n%s\r\n" % (rng.choice((0, 1, 1023, 1024, 5000)),
                                                                rng.choice((0, 0, 0, 1000 + number)), len(body), body))
            elif kind < 8:
                commands.append(b"reserve-with-timeout 0\r\n")
            elif kind < 17:
                commands.append((b"delete %d", b"release %d 7 0", b"bury %d 9", b"touch %d", b"peek %d", b"kick-job %d",
                                 b"reserve-job %d", b"release %d 3 " + str(2000 + number).encode(), b"delete %d"
                                 )[kind - 8] % job + b"\r\n")
            elif kind < 20:
                commands.append(rng.choice((b"peek-ready", b"peek-delayed", b"peek-buried", b"kick 2", b"list-tube-used",
                                            b"list-tubes-watched", b"kick 0")) + b"\r\n")
            elif kind < 22:
                commands.append(rng.choice((b"use ", b"watch ", b"ignore ")) + rng.choice((b"a", b"b", b"default")) + b"\r\n")
            else:
                junk = bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz 0123456789-\0") for _ in range(rng.randint(0, 60)))
                commands.append(rng.choice((b"", b"put ", b"delete ", b"stats-job ", b"use ", b"pause-tube", b"kick ")) + b"?" + junk +
                                b"\r\n")
        return b"".join(commands)

    def run_script(self, world, script, rng):
        with world:
            s = world.connect()
            got = b""

            def read():
                nonlocal got
                while chunk := s.recv(65536):
                    got += chunk
            reader = threading.Thread(target=read)
            reader.start()
            at = 0
            while at < len(script):
                size = rng.choice((1, 2, 7, 100, 1000, 5000, 20000))
                s.sendall(script[at:at + size])
                at += size
            s.shutdown(socket.SHUT_WR)
            reader.join(60)
            s.close()
            return got

    def test_alike(self):
        for seed in range(int(os.environ.get("WHILST_TEST_SEEDS", "8"))):
            rng = random.Random(seed)
            script = self.script(rng)
            theirs = self.run_script(beanstalkd.Beanstalkd(), script, rng)
            ours = self.run_script(beanstalkd.Whilst(), script, rng)
            self.assertEqual(theirs.split(b"\r\n"), ours.split(b"\r\n"), f"seed {seed}")


if __name__ == "__main__":
    beanstalkd.Beanstalkd.binary = beanstalkd.beanstalkd_binary()
    if not beanstalkd.Beanstalkd.binary:
        raise SystemExit(77)
    harness.main()
