"""tests/integration/test_hostile.py -- everything that a hostile client can think of, at once, against one server, and somebody honest beside it.

Floods of connections and requests, readers and writers that take for ever, connections that are half open, sizes and numbers at
every edge, bytes that are no UTF-8, JSON without a bottom, waits by the hundred; over HTTP and beanstalkd's protocol. The honest client's
requests must all succeed, none of the others may be answered by 500, the server stays below RSS_MIB_MAX, and in the end nothing
of the hostile ones is left in it.
"""
import json
import os
import random
import re
import socket
import struct
import threading
import time
import unittest

import harness

# glibc fills what is allocated when told to: then all counts that was set aside and never touched.
os.environ.pop("MALLOC_PERTURB_", None)
SANITIZED = "asan" in harness.BINARY or "tsan" in harness.BINARY
RSS_MIB_MAX = 1500 if SANITIZED else 128
HONEST_ROUNDS = 60 if SANITIZED else 150
EDGES = ["-1", "0", "1", "255", "256", "32767", "32768", "65535", "65536", "2147483647", "2147483648", "4294967295", "4294967296",
         "9007199254740991", "9007199254740992", "9223372036854775807", "9223372036854775808", "18446744073709551615",
         "18446744073709551616", "-9223372036854775808", "99999999999999999999999999999999", "1e400", "0x10", "1.5", "+1", "NaN", "", " "]
NO_UTF8 = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xfe\xfe\xff\xff"]


def post(target, body, fields="", method="POST"):
    target = target if isinstance(target, bytes) else target.encode()
    return (method.encode() + b" " + target + b" HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" +
            f"Content-Length: {len(body)}\r\n{fields}Connection: close\r\n\r\n".encode() + body)


def bad_requests():
    """Each on a connection of its own."""
    deep = [b"[" * 200000, b"[" * 5000 + b"]" * 5000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"filter":' + b'{"not":' * 5000 + b"{}" + b"}" * 5001,
            b'{"actions":[' + b'{"submit":' * 3000 + b"}" * 3000 + b"]}", b'"' + b"\\u0000" * 20000 + b'"', b"1" * 50000, b'{"a":1e' + b"9" * 5000 + b"}"]
    json_paths = [("PUT", "/v1/queues/hostile"), ("POST", "/v1/transactions"), ("PUT", "/v1/services/hostile"), ("PUT", "/v1/topics/hostile"),
                  ("PUT", "/v1/topics/hostile/subscriptions/s"), ("PUT", "/v1/queues/hostile/target"), ("POST", "/v1/topics/hostile/events")]
    for method, path in json_paths:
        for body in deep + [b'{"a":"' + bad + b'"}' for bad in NO_UTF8]:
            yield post(path, body, method=method)
        for edge in EDGES:
            for member in ("concurrency", "max_jobs", "attempts", "retention", "timeout"):
                yield post(path, f'{{"{member}":{edge or "null"}}}'.encode(), method=method)
    for edge in EDGES:
        value = edge.replace(" ", "%20").replace("+", "%2B")
        for option in ("priority", "delay", "attempts", "time-to-run", "retention"):
            yield post(f"/v1/queues/hostile/jobs?{option}={value}", b"x")
            yield post(f"/v1/queues/hostile/jobs?{option}={value}s", b"x")
        yield post(f"/v1/queues/hostile/reserve?n={value}", b"")
        yield post(f"/v1/jobs/{value or '-'}/complete", b"", f"Whilst-Lease: {edge}.{edge}\r\n")
        yield post(f"/v1/jobs/{value or '-'}", b"", f"Prefer: wait={edge}\r\nLast-Event-ID: {edge}\r\n", "GET")
        yield post(f"/v1/log?position={value}/{value}&level=local", b"", method="GET")
        yield f"POST /v1/queues/hostile/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: {edge}\r\n\r\n".encode()
        yield f"POST /v1/queues/hostile/jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{edge}\r\nx".encode()
    for bad in NO_UTF8:
        yield post(b"/v1/queues/" + bad + b"/jobs", b"x")
        yield post("/v1/queues/" + "".join(f"%{byte:02X}" for byte in bad) + "/jobs", b"x")
        yield b"GET /livez HTTP/1.1\r\nHost: h\r\nX-Bad: " + bad + b"\r\nConnection: close\r\n\r\n"
        yield b"GET /livez HTTP/1.1\r\nHost: " + bad + b"\r\n\r\n"
        yield post("/v1/queues/hostile/jobs", b"x", "Idempotency-Key: " + bad.decode("latin-1") + "\r\n") if bad == b"\x80" else post("/v1/queues/hostile/jobs", bad)
    yield b"GET /" + b"x" * 1000000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    yield b"GET /livez HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 1000000 + b"\r\n\r\n"
    yield b"GET /livez HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 20000 + b"\r\n"
    yield b"GET /livez?" + b"&".join(b"a=%d" % i for i in range(1000)) + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    yield b"\0" * 100000
    yield b"\r\n" * 50000
    for count in (0, 1, 0x7fffffff, 0xffffffff):
        batch = b"WHB1" + struct.pack("<II", count, 0xffffffff) + b"\xff" * 64
        yield post("/v1/queues/hostile/jobs", batch).replace(b"application/json", b"application/vnd.whilst.batch")
    yield post("/v1/queues/hostile/jobs", b"\n" * 300000).replace(b"application/json", b"application/x-ndjson")


def beanstalk_lines():
    for edge in EDGES:
        yield f"put {edge} 0 1 1\r\nx\r\n".encode()
        yield f"put 0 {edge} {edge} 1\r\nx\r\n".encode()
        yield f"put 0 0 1 {edge}\r\nx\r\n".encode()
        yield f"reserve-with-timeout {edge}\r\n".encode() if edge.startswith(("-", "0", "x", "+")) else f"delete {edge}\r\n".encode()
        yield f"kick {edge}\r\n".encode()
        yield f"peek {edge}\r\n".encode()
    yield b"use " + b"a" * 100000 + b"\r\n"
    yield b"\xff" * 10000
    yield b"list-tubes\r\n" * 2000


class Hostile(unittest.TestCase):
    def setUp(self):
        # who waits for a job and goes without a word is waited for that long: over TCP it looks like one that has said all
        self.server = harness.Server("--beanstalk", "127.0.0.1:0", "--max-payload", "8MiB", "--max-wait", "10s")
        self.addCleanup(self.server.remove)
        self.port = self.server.port
        self.beanstalk = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", self.server.addresses).group(1))
        self.over = threading.Event()
        self.lock, self.statuses, self.done, self.errors = threading.Lock(), {}, {}, []

    # -- the hostile ones. Each goes on until it is over; what the server does to them is its own business, but for a 500.

    def connect(self, port=None):
        return socket.create_connection(("127.0.0.1", port or self.port), timeout=harness.DEADLINE)

    def note(self, answer, sent):
        match = re.match(rb"HTTP/1\.1 (\d+)", answer)
        status = int(match.group(1)) if match else 0
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 500:
            self.errors.append((sent[:300], answer[:500]))

    def malformed(self, requests, port):
        while not self.over.is_set():
            for request in requests:
                if self.over.is_set():
                    return
                try:
                    with self.connect(port) as s:
                        try:
                            s.sendall(request)
                            s.shutdown(socket.SHUT_WR)
                        except OSError:
                            pass  # refused before it was said
                        answer = harness.read_all(s)
                    if port == self.port:
                        self.note(answer, request)
                except OSError:
                    pass

    def flood_of_connections(self):
        while not self.over.is_set():
            held = []
            try:
                for _ in range(40):
                    held.append(self.connect())
            except OSError:
                pass
            for i, s in enumerate(held):
                if i % 3 == 0:  # reset
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()

    def flood_of_requests(self):
        many = (b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n" * 200 + b"POST /v1/queues/flood/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" * 50 +
                b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n" * 20 + b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        while not self.over.is_set():
            try:
                with self.connect() as s:
                    sender = threading.Thread(target=self.send, args=(s, many))
                    sender.start()
                    while s.recv(1 << 20):
                        pass
                    sender.join()
            except OSError:
                pass

    @staticmethod
    def send(s, data):
        try:
            s.sendall(data)
        except OSError:
            pass

    def held(self):
        """Connections that are kept open, and what each begins with: whoever takes for ever to read, to write, to leave."""
        whole = b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n"
        kinds = [(25, b"", ""), (25, b"GET /livez HT", "drip"), (25, b"POST /v1/queues/slow/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\nabc", "drip"),
                 (10, b"POST /v1/queues/slow/jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"),
                 (25, whole * 60, "deaf"), (10, b"GET /v1/jobs/%d/result HTTP/1.1\r\nHost: h\r\n\r\n" % self.large * 8, "deaf"),
                 (40, b"POST /v1/queues/nobody/reserve HTTP/1.1\r\nHost: h\r\nPrefer: wait=300\r\n\r\n", ""),
                 (20, b"GET /v1/queues/honest/events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n", "deaf"),
                 (20, b"GET /v1/jobs/%d HTTP/1.1\r\nHost: h\r\nPrefer: wait=300\r\n\r\n" % self.waited, ""),
                 (20, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n", "half")]
        sockets = []
        for count, begin, kind in kinds:
            for _ in range(count):
                s = socket.socket()
                if kind == "deaf":
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.settimeout(harness.DEADLINE)
                s.connect(("127.0.0.1", self.port))
                s.setblocking(False)
                try:
                    s.send(begin)
                    if kind == "half":
                        s.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                sockets.append((s, kind))
        for _ in range(10):
            s = self.connect(self.beanstalk)
            s.sendall(b"put 0 0 1 60000\r\nabc")
            sockets.append((s, "drip"))
        return sockets

    def drip(self, sockets):
        """A byte now and then to those that write slowly; nothing is ever read."""
        while not self.over.is_set():
            for s, kind in sockets:
                try:
                    if kind == "drip":
                        s.send(b"x")
                    elif kind == "chunks":
                        s.send(b"1\r\nx\r\n")
                except OSError:
                    pass
            self.over.wait(0.05)

    # -- the honest one

    def honest(self, client):
        payload = random.randbytes(2000)
        job = client.submit("honest", payload)
        taken, lease, body = client.reserve("honest")
        self.assertEqual((taken, body), (job, payload))
        answer = client.complete(job, lease, payload[::-1])
        self.assertEqual(answer.status, 200, answer)
        answer = client.get(f"/v1/jobs/{job}/result")
        self.assertEqual((answer.status, answer.body), (200, payload[::-1]))
        self.assertEqual(client.get("/readyz").status, 200)

    def resident_mib(self):
        with open(f"/proc/{self.server.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) >> 10

    def test_all_at_once(self):
        client = self.server.client()
        self.large = client.submit("large", b"x")
        _, lease, _ = client.reserve("large")
        self.assertEqual(client.complete(self.large, lease, random.randbytes(4 << 20)).status, 200)
        self.waited = client.submit("nobody-works-here", b"x")
        requests, lines = list(bad_requests()), list(beanstalk_lines())
        random.Random(7).shuffle(requests)
        sockets = self.held()
        hostile = [(self.malformed, requests[0::2], self.port), (self.malformed, requests[1::2], self.port), (self.malformed, lines, self.beanstalk),
                   (self.flood_of_connections,), (self.flood_of_requests,), (self.drip, sockets)]
        threads = [threading.Thread(target=what[0], args=what[1:], daemon=True) for what in hostile]
        for thread in threads:
            thread.start()
        most, rounds, until = 0, 0, time.monotonic() + 60
        try:
            # as long as the others have not said each of theirs, within reason
            while rounds < HONEST_ROUNDS or (sum(self.statuses.values()) < len(requests) and time.monotonic() < until):
                self.honest(client)
                rounds += 1
                most = max(most, self.resident_mib())
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
            for s, _ in sockets:
                s.close()
        self.assertEqual(self.errors, [])
        self.assertLess(most, RSS_MIB_MAX, f"MiB, after {rounds} rounds; statuses {self.statuses}")
        print(f"{rounds} rounds, {sum(self.statuses.values())} bad requests {dict(sorted(self.statuses.items()))}, at most {most} MiB")
        self.assertGreater(sum(self.statuses.values()), 200)
        # nothing of them is left

        def connections():
            return int(re.search(r"^whilst_http_connections (\d+)", client.get("/metrics").body.decode(), re.MULTILINE).group(1))
        harness.eventually(lambda: connections() == 1, "the end of their connections", 60)
        self.honest(client)
        client.close()
        self.server.stop()


class Deaf(unittest.TestCase):
    """Who pipelines requests whose answers are large, and reads none, has one of these at a time in the server's memory."""

    def test_deaf(self):
        growth_mib_max = 500 if SANITIZED else 150
        with harness.Server() as server:
            client = server.client()
            job = client.submit("large", random.randbytes(1 << 20))
            names = [f"{i:0180}" for i in range(1000)]  # a page of these has 600 KB
            for at in range(0, 1000, 250):
                actions = [{"action": "submit", "queue": name, "payload": "x"} for name in names[at:at + 250]]
                self.assertEqual(client.post("/v1/transactions", json.dumps({"actions": actions}), Content_Type="application/json").status, 200)

            def resident():
                with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
                    return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) >> 10
            client.get("/v1/queues")
            before = resident()
            _, lease, _ = client.reserve("large")
            self.assertEqual(client.complete(job, lease, random.randbytes(1 << 20)).status, 200)
            result = f"/v1/jobs/{job}/result"
            for path, prefer in (("/v1/queues", ""), ("/metrics", ""), (f"/v1/jobs/{job}/payload", ""), (result, ""),
                                 (result, "Prefer: wait=1\r\n")):
                deaf = []
                for _ in range(30):
                    s = socket.socket()
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    s.connect(("127.0.0.1", server.port))
                    s.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n{prefer}\r\n".encode() * 64)
                    deaf.append(s)
                # what has come before is begun before this is answered
                for _ in range(5):
                    self.assertEqual(client.get("/livez").status, 200)
                self.assertLess(resident() - before, growth_mib_max * (2 if prefer else 1), path)  # four of each that may wait
                # and none is forgotten
                deaf[0].settimeout(harness.DEADLINE)
                rest = b""
                for _ in range(64):
                    answer, rest = harness.read_answer(deaf[0], rest)
                    self.assertEqual(answer.status, 200)
                for s in deaf:
                    s.close()
            client.close()


if __name__ == "__main__":
    harness.main()
