"""tests/integration/test_large_bodies.py -- bodies over 1 MiB: through every way in and out, without the server's memory growing with them.

What is not whole leaves nothing behind: a client that breaks off, a server that is killed. What is damaged is refused and named.
"""
import base64
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import time
import unittest

from harness import BINARY, DEADLINE, Server, main, raw
from backend import Backend

MIB = 1 << 20
# Memory that is asked for and not used is no memory, unless the allocator fills it to find what reads it.
os.environ.pop("MALLOC_PERTURB_", None)
LARGE = os.urandom(MIB) * 100


def blobs(server):
    folder = os.path.join(server.data, "blobs")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def peak(server):
    """The most memory the server ever had, in bytes; 0 with a sanitizer, which keeps what was freed (and maps terabytes)."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in status if line.endswith(" kB\n")}
    return 0 if sizes["VmPeak:"] > 1 << 40 else sizes["VmHWM:"]


def eventually(predicate, what):
    deadline = time.monotonic() + DEADLINE
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        time.sleep(0.005)


class Bodies(unittest.TestCase):
    def setUp(self):
        self.server = Server("--max-payload", "200MiB", "--max-uploads", "3")
        self.addCleanup(self.server.remove)
        self.client = self.server.client()

    def tearDown(self):
        self.client.close()
        self.server.stop()

    def chunked(self, path, body, **headers):
        """A body of a length that is not told, in chunks."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=DEADLINE)
        pieces = (body[at:at + 700001] for at in range(0, len(body), 700001))
        connection.request("POST", path, body=pieces, headers=headers, encode_chunked=True)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def test_lost_lease_is_told_before_the_body(self):
        """Who has lost the lease, or never had it, learns so before a byte of a large result is sent."""
        job = self.client.submit("q", b"x")
        _, lease, _ = self.client.reserve("q")
        epoch, claim = lease.split(".")
        for token, status, code in ((f"{epoch}.{int(claim) + 1}", 409, b"lease-lost"), (lease, 100, b"Continue")):
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE) as s:
                s.sendall(f"POST /v1/jobs/{job}/complete HTTP/1.1\r\nHost: x\r\nWhilst-Lease: {token}\r\n"
                          f"Content-Length: {100 * MIB}\r\nExpect: 100-continue\r\n\r\n".encode())
                answer = b""
                while code not in answer:
                    piece = s.recv(65536)
                    self.assertTrue(piece, answer)
                    answer += piece
                self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertEqual(self.client.complete(job, lease, LARGE).status, 200)
        self.assertEqual(len(blobs(self.server)), 1)

    def test_in_and_out(self):
        job = self.client.submit("q", LARGE, Content_Type="x/y")
        answer = self.client.get(f"/v1/jobs/{job}/payload")
        self.assertEqual((answer.status, answer["Content-Type"]), (200, "x/y"))
        self.assertEqual(answer.body, LARGE)
        reserved, lease, body = self.client.reserve("q")
        self.assertEqual((reserved, body), (job, LARGE))
        answer, _ = self.chunked(f"/v1/jobs/{job}/complete?status=201", LARGE[1:], Whilst_Lease=lease, Content_Type="a/b")
        self.assertEqual(answer.status, 200)
        answer = self.client.get(f"/v1/jobs/{job}/result")
        self.assertEqual((answer.status, answer["Content-Type"], answer["Content-Length"]), (201, "a/b", str(len(LARGE) - 1)))
        self.assertEqual(answer.body, LARGE[1:])
        answer = self.client.request("HEAD", f"/v1/jobs/{job}/result")
        self.assertEqual((answer.status, answer["Content-Length"], answer.body), (201, str(len(LARGE) - 1), b""))
        view = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual((view["bytes"], view["result"]["bytes"]), (len(LARGE), len(LARGE) - 1))
        self.assertLess(peak(self.server), 40 * MIB)
        self.assertEqual(len(blobs(self.server)), 2)
        self.client.close()
        self.server.kill().start()
        self.client = self.server.client()
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/payload").body, LARGE)
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, LARGE[1:])

    def test_sizes_around_the_limit(self):
        for size in (MIB - 1, MIB, MIB + 1, MIB + 131072, MIB + 131073):
            body = LARGE[size:2 * size]
            for send in (lambda: self.client.post("/v1/queues/s/jobs", body), lambda: self.chunked("/v1/queues/s/jobs", body)[0]):
                answer = send()
                self.assertEqual(answer.status, 202)
            for _ in range(2):
                job, lease, got = self.client.reserve("s")
                self.assertEqual(got, body)
                self.assertEqual(self.client.complete(job, lease, got).status, 200)
                self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, body)

    def test_several_in_one_answer(self):
        bodies = [LARGE[:3 * MIB + 1], b"small", LARGE[5:2 * MIB + 5], b"", LARGE[7:MIB * 2 + 9]]
        for body in bodies:
            self.client.submit("json", body)
            self.client.submit("batch", body)
        answer = self.client.post("/v1/queues/json/reserve?n=10")
        self.assertEqual([base64.b64decode(job["payload"]) for job in answer.json()["jobs"]], bodies)
        answer = self.client.post("/v1/queues/batch/reserve?n=10", Accept="application/vnd.whilst.batch")
        at, got = 0, []
        while at < len(answer.body):
            length, = struct.unpack_from("<I", answer.body, at)
            got.append(answer.body[at + 28:at + 4 + length])
            at += 4 + length
        self.assertEqual(got, bodies)
        # a batch of them goes in as well
        items = b"".join(struct.pack("<I", len(body)) + body for body in bodies)
        answer = self.client.post("/v1/queues/in/jobs", items, Content_Type="application/vnd.whilst.batch")
        self.assertEqual(answer.status, 202)
        for body in bodies:
            self.assertEqual(self.client.reserve("in")[2], body)

    def test_too_large(self):
        size = 200 * MIB + 1
        head = f"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        self.assertIn(b" 413 ", raw(self.server.port, head))
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE) as s:
            s.sendall(b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"100000\r\n" + LARGE[:MIB] + b"\r\n"
            try:
                for _ in range(201):
                    s.sendall(chunk)
            except OSError:
                pass  # it may have closed in the middle
            answer = b""
            try:
                while b"\r\n\r\n" not in answer:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    answer += piece
            except OSError:
                pass
            self.assertIn(b" 413 ", answer)
        eventually(lambda: not blobs(self.server), "a file is left")

    def begin_upload(self, sent):
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        s.sendall(b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LARGE))
        s.sendall(LARGE[:sent])
        return s

    def test_broken_off(self):
        s = self.begin_upload(20 * MIB)
        eventually(lambda: blobs(self.server), "no file")
        s.close()
        eventually(lambda: not blobs(self.server), "a file is left")
        self.assertIsNone(self.client.reserve("q"))

    def test_how_many_at_once(self):
        open_ones = [self.begin_upload(2 * MIB) for _ in range(3)]
        eventually(lambda: len(blobs(self.server)) == 3, "not all have begun")
        answer = self.client.post("/v1/queues/q/jobs", LARGE[:2 * MIB])
        self.assertEqual((answer.status, answer.json()["code"], answer.json()["limit"], answer["Retry-After"]), (503, "too-busy", 3, "1"))
        self.assertEqual(self.client.post("/v1/queues/q/jobs", LARGE[:MIB]).status, 202)  # small ones go on
        for s in open_ones:
            s.close()
        eventually(lambda: not blobs(self.server), "files are left")
        self.client.submit("q", LARGE[:2 * MIB])

    def test_killed_in_an_upload(self):
        s = self.begin_upload(30 * MIB)
        eventually(lambda: blobs(self.server), "no file")
        self.server.kill()
        s.close()
        self.assertEqual(len(blobs(self.server)), 1)
        self.server.start()
        self.assertEqual(blobs(self.server), [])
        self.client = self.server.client()
        self.assertIsNone(self.client.reserve("q"))

    def test_gone_with_their_jobs(self):
        job = self.client.submit("q", LARGE[:3 * MIB], "?retention=0s")
        _, lease, _ = self.client.reserve("q")
        self.assertEqual(len(blobs(self.server)), 1)
        self.assertEqual(self.client.complete(job, lease).status, 200)
        eventually(lambda: not blobs(self.server), "a file is left")

    def test_damaged(self):
        bad = self.client.submit("q", LARGE[:3 * MIB])
        good = self.client.submit("q", LARGE[:2 * MIB])
        name = blobs(self.server)[0]
        path = os.path.join(self.server.data, "blobs", name)
        with open(path, "r+b") as file:
            file.seek(2 * MIB)
            file.write(bytes([LARGE[2 * MIB] ^ 1]))
        for answer in (self.client.get(f"/v1/jobs/{bad}/payload"), self.client.post("/v1/queues/q/reserve")):
            self.assertEqual((answer.status, answer.json()["code"]), (500, "damaged"))
            self.assertIn(f"job {bad}", answer.json()["detail"])
            self.assertIn(name, answer.json()["detail"])
        self.assertEqual(self.client.reserve("q")[0], good)
        view = self.client.get(f"/v1/jobs/{bad}").json()
        self.assertEqual(view["state"], "buried")
        # put back, and kicked, it is as before
        with open(path, "r+b") as file:
            file.write(LARGE[:3 * MIB])
        self.assertEqual(self.client.post(f"/v1/jobs/{bad}/kick").status, 200)
        self.assertEqual(self.client.reserve("q")[2], LARGE[:3 * MIB])
        os.unlink(path)
        self.assertEqual(self.client.get(f"/v1/jobs/{bad}/payload").json()["code"], "damaged")
        self.client.close()
        self.server.stop().start()
        self.client = self.server.client()
        self.server.logged(name)
        self.assertEqual(self.client.get(f"/v1/jobs/{bad}/payload").json()["code"], "damaged")
        self.assertEqual(self.client.get(f"/v1/jobs/{good}/payload").body, LARGE[:2 * MIB])

    def verify(self, expect):
        done = subprocess.run([BINARY, "log", "verify", "--json", self.server.data], capture_output=True, check=False)
        self.assertEqual(done.returncode, expect, done)
        return json.loads(done.stdout)

    def test_verify(self):
        job = self.client.submit("q", LARGE[:3 * MIB])
        self.client.submit("q", LARGE[:2 * MIB], "?retention=0s")
        _, lease, _ = self.client.reserve("q")
        self.assertEqual(self.client.complete(job, lease, LARGE[:4 * MIB]).status, 200)
        self.assertEqual(self.client.complete(*self.client.reserve("q")[:2]).status, 200)
        self.client.close()
        self.server.stop()
        said = self.verify(0)
        self.assertEqual((said["verdict"], said["blobs"], said["blob_bytes"]), ("sound", 2, 7 * MIB))
        path = os.path.join(self.server.data, "blobs", blobs(self.server)[-1])
        os.truncate(path, 4 * MIB - 1)
        said = self.verify(3)
        self.assertEqual((said["verdict"], said["blobs_damaged"]), ("damaged", 1))
        self.assertIn(f"result of job {job}", said["problem"])
        self.assertIn(path, said["problem"])
        os.unlink(path)
        self.assertIn("missing", self.verify(3)["problem"])
        self.server.start()

    def test_a_slow_reader(self):
        job = self.client.submit("q", LARGE)
        before = peak(self.server)
        readers = []
        for _ in range(20):
            s = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
            s.sendall(f"GET /v1/jobs/{job}/payload HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.assertIn(b" 200 ", s.recv(100))
            readers.append(s)
        self.assertLess(peak(self.server) - before, 40 * MIB)
        for s in readers:
            s.close()
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/payload").body, LARGE)


class Beanstalk(unittest.TestCase):
    def setUp(self):
        self.server = Server("--beanstalk", "127.0.0.1:0", "--max-job-size", "64MiB", "--max-uploads", "2")
        self.addCleanup(self.server.remove)
        self.port = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", self.server.addresses).group(1))
        self.s, self.f = self.connect()

    def tearDown(self):
        self.f.close()
        self.s.close()
        self.server.stop()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        return s, s.makefile("rwb")

    def say(self, *lines):
        self.f.write(b"".join(lines))
        self.f.flush()

    def line(self):
        return self.f.readline()

    def job(self):
        word, job, length = self.line().split()
        body = self.f.read(int(length))
        self.assertEqual(self.f.read(2), b"\r\n")
        return word, int(job), body

    @staticmethod
    def put(body, priority=1):
        return b"put %d 0 60 %d\r\n" % (priority, len(body)) + body + b"\r\n"

    def test_in_order(self):
        first, second = LARGE[:60 * MIB], LARGE[3:30 * MIB]
        self.say(self.put(b"small"), self.put(first), self.put(b"x"), self.put(second), b"stats-tube default\r\n")
        self.assertEqual([self.line() for _ in range(4)], [b"INSERTED %d\r\n" % i for i in (1, 2, 3, 4)])
        self.f.read(int(self.line().split()[1]) + 2)
        self.say(b"reserve\r\n" * 4, b"peek 2\r\n", b"peek 1\r\n", b"delete 2\r\n", b"bogus\r\n")
        self.assertEqual([self.job() for _ in range(6)],
                         [(b"RESERVED", 1, b"small"), (b"RESERVED", 2, first), (b"RESERVED", 3, b"x"), (b"RESERVED", 4, second),
                          (b"FOUND", 2, first), (b"FOUND", 1, b"small")])
        self.assertEqual(self.line(), b"DELETED\r\n")
        self.assertEqual(self.line(), b"UNKNOWN_COMMAND\r\n")
        self.assertLess(peak(self.server), 40 * MIB)
        eventually(lambda: len(blobs(self.server)) == 1, "the file of a deleted job is left")

    def test_refused(self):
        body = LARGE[:2 * MIB]
        self.say(b"put 1 0 60 %d\r\n" % len(body) + body + b"no", self.put(b"next"))
        self.assertEqual([self.line(), self.line()], [b"EXPECTED_CRLF\r\n", b"INSERTED 1\r\n"])
        self.say(b"put 1 0 60 %d\r\n" % (65 * MIB), LARGE[:65 * MIB], b"\r\n", self.put(b"next"))
        self.assertEqual([self.line(), self.line()], [b"JOB_TOO_BIG\r\n", b"INSERTED 2\r\n"])
        eventually(lambda: not blobs(self.server), "a file is left")
        others = [self.connect() for _ in range(2)]
        for _, f in others:
            f.write(b"put 1 0 60 %d\r\n" % len(body) + body[:MIB])
            f.flush()
        eventually(lambda: len(blobs(self.server)) == 2, "not begun")
        self.say(self.put(body), self.put(b"next"))
        self.assertEqual([self.line(), self.line()], [b"OUT_OF_MEMORY\r\n", b"INSERTED 3\r\n"])
        for s, f in others:
            f.close()
            s.close()
        eventually(lambda: not blobs(self.server), "a file is left")
        self.say(self.put(body))
        self.assertEqual(self.line(), b"INSERTED 4\r\n")

    def test_damaged(self):
        self.say(self.put(LARGE[:2 * MIB]), self.put(b"next"))
        self.assertEqual([self.line(), self.line()], [b"INSERTED 1\r\n", b"INSERTED 2\r\n"])
        os.truncate(os.path.join(self.server.data, "blobs", blobs(self.server)[0]), 2 * MIB - 1)
        self.say(b"peek 1\r\n", b"reserve\r\n", b"reserve\r\n", b"peek-buried\r\n")
        self.assertEqual([self.line(), self.line()], [b"INTERNAL_ERROR\r\n"] * 2)
        self.assertEqual(self.job(), (b"RESERVED", 2, b"next"))
        self.assertEqual(self.line(), b"INTERNAL_ERROR\r\n")  # there it is, and cannot be read

    def test_a_worker_that_leaves(self):
        self.say(self.put(LARGE[:50 * MIB]))
        self.line()
        s, f = self.connect()
        f.write(b"reserve\r\n")
        f.flush()
        self.assertEqual(f.readline(), b"RESERVED 1 %d\r\n" % (50 * MIB))
        f.close()
        s.close()
        self.say(b"reserve\r\n")
        self.assertEqual(self.job(), (b"RESERVED", 1, LARGE[:50 * MIB]))


class Calls(unittest.TestCase):
    def test_recorded(self):
        with Backend() as backend, Server("--max-payload", "200MiB", "--service", f"echo={backend.url}") as server:
            client = server.client()
            for size in (MIB - 3000, MIB, MIB + 1, 20 * MIB + 7):
                answer = client.post("/call/echo/mirror", LARGE[:size], Prefer="wait=20", Content_Type="x/y")
                self.assertEqual(answer.status, 200)
                self.assertEqual((answer.body, answer["Content-Type"]), (LARGE[:size], "x/y"))
            client.close()
            self.assertLess(peak(server), 40 * MIB)


if __name__ == "__main__":
    main()
