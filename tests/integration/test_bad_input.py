"""tests/integration/test_bad_input.py -- what must not be sent, sent byte by byte: a precise refusal, nothing half-done."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness


class Raw(harness.Case):
    ARGS = ("--max-payload", "100000")

    def tearDown(self):
        # whatever was sent, the server is well, and no job came of it
        self.assertEqual(self.client.get("/livez").status, 200)
        self.assertEqual([q for q in self.client.get("/v1/queues").json()["queues"] if q["name"] == "bad"], [])
        super().tearDown()

    def refused(self, data, status, code, half_close=False, closes=True):
        got = harness.raw(self.server.port, data, half_close=half_close) if closes else self.first(data)
        self.assertTrue(got.startswith(b"HTTP/1.1 "), (data[:200], got))
        head, body = got.split(b"\r\n\r\n", 1)
        self.assertEqual(int(head.split()[1]), status, (data[:200], got))
        self.assertIn(b"content-type: application/problem+json", head.lower())
        document = json.loads(body)
        self.assertEqual((document["code"], document["status"]), (code, status), data[:200])
        self.assertTrue(document["detail"])
        if closes:
            self.assertIn(b"connection: close", head.lower())
        return document

    def first(self, data):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(data)
            answer, _ = harness.read_answer(s)
            lines = [f"HTTP/1.1 {answer.status}"] + [f"{k}: {v}" for k, v in answer.headers.items()]
            return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body

    POST = b"POST /v1/queues/bad/jobs HTTP/1.1\r\n"

    def test_malformed(self):
        for data in (
            b"nonsense\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"GET v1/queues HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            self.POST + b"Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            self.POST + b"Host: x\r\nContent-Length: 1, 2\r\n\r\nab",
            self.POST + b"Host: x\r\nContent-Length: +1\r\n\r\na",
            self.POST + b"Host: x\r\nContent-Length: -1\r\n\r\na",
            self.POST + b"Host: x\r\nContent-Length: 0x1\r\n\r\na",
            self.POST + b"Host: x\r\nContent-Length: 1 1\r\n\r\na",
            self.POST + b"Host: x\r\nContent-Length: \r\n\r\na",
            self.POST + b"Host: x\r\nContent-Length: 99999999999999999999999\r\n\r\na",
            self.POST + b"Host: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            self.POST + b"Host: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\nab",
        ):
            with self.subTest(data):
                got = harness.raw(self.server.port, data, half_close=True)
                status = int(got.split()[1]) if got.startswith(b"HTTP/1.1 ") else None
                self.assertIn(status, (400, 501, 413), (data, got))
                code = json.loads(got.split(b"\r\n\r\n", 1)[1])["code"]
                self.assertIn(code, ("bad-request", "unsupported", "too-large"))

    def test_versions_methods_codings(self):
        self.refused(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "http-version")
        self.refused(b"GET / HTTP/3.1\r\nHost: x\r\n\r\n", 505, "http-version")
        self.refused(b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501, "unsupported")
        self.refused(self.POST + b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "unsupported")
        self.refused(self.POST + b"Host: x\r\nExpect: the-unexpected\r\nContent-Length: 1\r\n\r\na", 417, "expectation-failed")

    def test_too_large(self):
        filler = b"X-A: " + b"y" * 1000 + b"\r\n"
        document = self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n" + filler * 200 + b"\r\n", 431, "headers-too-large")
        self.assertGreater(document["limit"], 1000)
        document = self.refused(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "target-too-long")
        self.assertGreater(document["limit"], 1000)
        document = self.refused(self.POST + b"Host: x\r\nContent-Length: 100001\r\n\r\n", 413, "too-large")
        self.assertEqual(document["limit"], 100000)
        self.refused(self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"c350\r\n" + b"z" * 50000 + b"\r\n"
                     + b"c351\r\n" + b"z" * 50001 + b"\r\n0\r\n\r\n", 413, "too-large")
        self.refused(self.POST + b"Host: x\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n", 413, "too-large")
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n", 431, "headers-too-large")

    def test_broken_off(self):
        for data in (b"GE", self.POST + b"Host: x\r\nContent-Le", self.POST + b"Host: x\r\nContent-Length: 10\r\n\r\nabc",
                     self.POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", b""):
            for half_close in (True, False):
                with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
                    s.sendall(data)
                    if half_close:
                        s.shutdown(socket.SHUT_WR)
                        harness.read_all(s)

    def test_paths_and_methods(self):
        for path in ("/v1", "/v2/queues", "/v1/queues/x/y", "/v1/queues/x/jobs/", "//", "/v1/jobs/1/2", "/v1/jobs/1/eat",
                     "/a/b/c/d/e/f/g/h", "/V1/queues"):
            self.assertProblem(self.client.get(path), 404, "unknown-path")
        for method, path, allow in (("PUT", "/v1/queues/bad/jobs", "GET, HEAD, POST"), ("GET", "/v1/queues/bad/reserve", "POST"),
                                    ("POST", "/v1/queues/bad", "DELETE, GET, HEAD, PUT"), ("POST", "/livez", "GET, HEAD"),
                                    ("PUT", "/v1/jobs/1", "DELETE, GET, HEAD, PATCH"), ("POST", "/", "GET, HEAD"),
                                    ("POST", "/v1/services", "GET, HEAD"), ("POST", "/v1/schedules", "GET, HEAD"),
                                    ("POST", "/v1/schedules/x", "DELETE, GET, HEAD, PUT"), ("GET", "/v1/schedules/x/run", "POST"), ("DELETE", "/v1/log", "GET, HEAD")):
            answer = self.client.request(method, path)
            self.assertProblem(answer, 405, "wrong-method")
            self.assertEqual(sorted(answer["Allow"].split(", ")), allow.split(", "))

    def test_queries(self):
        for path in ("/v1/queues?x=1", "/v1/jobs/1?x", "/livez?verbose=1"):
            with self.subTest(path):
                self.assertIn(self.client.get(path).status, (200, 400))
        self.assertProblem(self.client.post("/v1/queues/bad/reserve?m=1"), 400, "bad-request")
        self.assertProblem(self.client.post("/v1/queues/bad/jobs?delay", b"x"), 400, "bad-request")

    def test_header_values(self):
        path = "/v1/queues/bad/jobs"
        for value in ("", "LOCAL ", "sync", "local, async", "x" * 5000):
            with self.subTest(value):
                answer = self.client.post(path, b"x", Whilst_Commit=value)
                self.assertProblem(answer, 400, "bad-request")
                self.assertIn("Whilst-Commit", answer.json()["detail"])
        answer = self.client.post(path, b"x", Content_Type="t/" + "x" * 300)
        self.assertProblem(answer, 400, "bad-request")
        got = self.refused(self.POST + b"Host: x\r\nWhilst-Commit: local\r\nWhilst-Commit: async\r\nContent-Length: 1\r\n\r\na",
                           400, "bad-request", closes=False)
        self.assertIn("Whilst-Commit", got["detail"])
        for prefer in ("wait=abc", "wait=-1", ";;;", '"', "wait=1;;", "x" * 5000, "respond-async=no, =, ,"):
            answer = self.client.post("/v1/queues/prefers/reserve", Prefer=prefer)
            self.assertIn(answer.status, (200, 204), prefer)

    def test_pipelined_after_a_refusal(self):
        """A refusal that leaves the framing certain keeps the connection."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(b"POST /v1/nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            first, rest = harness.read_answer(s)
            second, _ = harness.read_answer(s, rest)
            self.assertEqual((first.status, second.status), (404, 200))

    def test_many_pipelined(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
            rest = b""
            for _ in range(500):
                answer, rest = harness.read_answer(s, rest)
                self.assertEqual((answer.status, answer.body), (200, b"ok\n"))

    def test_http_1_0(self):
        got = harness.raw(self.server.port, b"GET /livez HTTP/1.0\r\n\r\n")
        self.assertTrue(got.startswith(b"HTTP/1.1 200 "))
        self.assertTrue(got.endswith(b"\r\n\r\nok\n"))

    def test_noise(self):
        """Not one of many random and cut requests hurts the server."""
        import random
        random.seed(7)
        whole = self.POST + b"Host: x\r\nContent-Length: 3\r\nPrefer: wait=0\r\n\r\nabc"
        for i in range(300):
            data = bytearray(whole)
            for _ in range(random.randrange(1, 6)):
                data[random.randrange(len(data))] = random.randrange(256)
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
                s.sendall(bytes(data[:random.randrange(1, len(data))]))
        for queue in self.client.get("/v1/queues").json()["queues"]:
            self.assertEqual(queue["submitted"], 0, "a cut request made a job")


class Transactions(harness.Case):
    """What a hostile body of a transaction may hold: each is refused in words, or is what it says, and nothing of a refused one is done."""

    EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":%s}'

    def publish(self, data=b"1", topic=b'"t"', more=b"", event=None):
        return b'{"actions":[{"action":"publish","topic":%s,"event":%s%s}]}' % (topic, self.EVENT % data if event is None else event, more)

    def test_published_within(self):
        self.client.put("/v1/topics/t", {"retention": "1h"})
        self.client.put("/v1/topics/t/subscriptions/s", {})
        one = self.publish()
        event = b'{"specversion":"1.0","id":"1","source":"/s","type":"t",%s}'
        cases = [
            (self.publish(b"[" * 60 + b"]" * 60), 200),
            (self.publish(b"[" * 600 + b"]" * 600), 400),
            (self.publish(b"[" * 100000 + b"]" * 100000), 400),
            (self.publish(b'{"a":' * 5000 + b"1" + b"}" * 5000), 400),
            (b"[" * 1000000, 400),
            (self.publish(b"1" * 5000), 400),
            (self.publish(b"1e9999"), 400),
            (self.publish(b"9223372036854775807"), 200),
            (self.publish(b"9223372036854775808"), 400),
            (self.publish(b"-9223372036854775809"), 400),
            (self.publish(b'"\\ud800"'), 400),
            (self.publish(b'"\xff\xfe"'), 400),
            (self.publish(b'"\xc0\xba"'), 400),
            (self.publish(topic=b"null"), 400),
            (self.publish(topic=b'"' + b"x" * 5000 + b'"'), 422),
            (self.publish(topic=b'"t\\u0000"'), 422),
            (self.publish(topic=b'"t:t:t"'), 422),
            (self.publish(event=b"null"), 400),
            (self.publish(event=b"[]"), 400),
            (self.publish(event=b"{}"), 400),
            (self.publish(more=b',"event":{}'), 400),
            (self.publish(more=b',"lease":"1.1"'), 400),
            (self.publish(more=b',"job":1'), 400),
            (self.publish(event=event % b",".join(b'"a%d":"x"' % i for i in range(5000))), 400),
            (self.publish(event=event % (b'"subject":"' + b"i" * 70000 + b'"')), 413),
            (self.publish(event=event % b'"data_base64":"?"'), 400),
            (self.publish(b'"' + b"x" * (9 << 20) + b'"'), 413),
            (b'{"actions":[' + b",".join([one[12:-2]] * 10000) + b"]}", 413),
            (b"\xef\xbb\xbf" + one, 400),
            (one + b"x", 400),
            (b"\0" * 100, 400),
            (b"", 400),
        ]
        for body, status in cases:
            answer = self.client.post("/v1/transactions", body, Content_Type="application/json")
            self.assertEqual(answer.status, status, (body[:100], answer))
            if status != 200:
                self.assertProblem(answer, status, answer.json()["code"])
        done = sum(status == 200 for _, status in cases)
        self.assertEqual(self.client.get("/v1/topics/t").json()["events"], done)
        self.assertEqual(self.client.get("/v1/queues/t%2Fs").json()["submitted"], done)

    def test_what_a_browser_may_say(self):
        """Of / : fields that are long, broken or no fields of that kind at all."""
        for name, value in [("Accept", "text/html;q=" + "0" * 8000), ("Accept", "text/html" + ",text/html" * 700), ("Accept", ";;;;,,,,text/html"),
                            ("Accept", "text/html;q=1e400"), ("Accept", "text/html;;;q=0."), ("Accept", "\xff\xfe"), ("If-None-Match", '"' * 8000),
                            ("If-None-Match", "W/"), ("If-None-Match", '"' + "a" * 7000 + '"'), ("If-None-Match", "")]:
            for method in ("GET", "HEAD"):
                accept = "" if name == "Accept" else "Accept: text/html\r\n"
                answer = harness.raw(self.server.port, f"{method} / HTTP/1.1\r\nHost: h\r\n{accept}{name}: {value}\r\n"
                                     "Connection: close\r\n\r\n".encode("latin-1"))
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), (name, value[:40], answer[:200]))


class SlowClients(harness.Case):
    ARGS = ("--request-timeout", "300ms")

    def test_head_that_never_ends(self):
        got = harness.raw(self.server.port, b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Le")
        self.assertIn(b" 408 ", got.split(b"\r\n")[0])
        self.assertIn(b"request-timeout", got)

    def test_body_that_never_ends(self):
        got = harness.raw(self.server.port, b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        self.assertIn(b" 408 ", got.split(b"\r\n")[0])
        self.assertProblem(self.client.get("/v1/queues/q"), 404, "unknown-queue")


class DataFolder(unittest.TestCase):
    def starts_not(self, data, status, *args, preexec=None):
        server = harness.Server(*args, data=data, start=False, preexec=preexec)
        server.spawn()
        self.assertEqual(server.wait(), status, server.log())
        self.assertEqual(server.rest, "", "no ready line")
        return server.log()

    def test_held_by_another(self):
        with harness.Server() as server:
            log = self.starts_not(server.data, 4)
            self.assertIn(server.data, log)
            client = server.client()
            client.submit("q")
            client.close()

    def test_not_a_folder(self):
        with tempfile.NamedTemporaryFile() as f:
            self.assertIn(f.name, self.starts_not(f.name, 1))

    def segments(self, data):
        found = []
        for folder, _, names in os.walk(data):
            for name in names:
                path = os.path.join(folder, name)
                found.append((os.path.getsize(path), path))
        return [path for _, path in sorted(found, reverse=True)]

    def filled(self):
        """A data folder with jobs in it, its server killed, and the payload of each."""
        server = harness.Server()
        client = server.client()
        jobs = {client.submit("q", b"payload-%06d-" % i + b"." * 200): i for i in range(300)}
        client.close()
        server.kill()
        self.addCleanup(shutil.rmtree, server.data, True)
        return server.data, jobs

    def find(self, data, needle):
        for path in self.segments(data):
            with open(path, "rb") as f:
                at = f.read().find(needle)
            if at >= 0:
                return path, at
        self.fail(f"{needle} is nowhere")

    def check_all(self, data, jobs):
        with harness.Server(data=data) as server:
            client = server.client()
            for job, i in jobs.items():
                self.assertTrue(client.get(f"/v1/jobs/{job}/payload").body.startswith(b"payload-%06d-" % i))
            client.close()

    def test_flipped_byte(self):
        data, jobs = self.filled()
        path, at = self.find(data, b"payload-000100-")
        with open(path, "r+b") as f:
            f.seek(at + 3)
            byte = f.read(1)
            f.seek(at + 3)
            f.write(bytes([byte[0] ^ 1]))
        log = self.starts_not(data, 3)
        self.assertIn("damage", log.lower())
        self.assertIn(os.path.basename(path), log)
        self.assertRegex(log, r"\d+", "where it is")
        # a refused start changes nothing: put right, all is there
        with open(path, "r+b") as f:
            f.seek(at + 3)
            f.write(byte)
        self.check_all(data, jobs)

    def test_torn_tail(self):
        data, jobs = self.filled()
        last = b"payload-000299-"
        path, at = self.find(data, last)
        with open(path, "r+b") as f:
            f.seek(at + 5)
            f.write(bytes(4096))
        kept = {job: i for job, i in jobs.items() if i < 299}
        self.check_all(data, kept)

    def test_garbage_after_the_end(self):
        data, jobs = self.filled()
        path, at = self.find(data, b"payload-000299-")
        with open(path, "r+b") as f:
            f.seek(at + 8192)
            f.write(b"\xa5" * 512)
        try:
            self.check_all(data, jobs)
        except AssertionError as error:
            # refusing is right as well, losing is not: garbage there may be a later group whose beginning is lost
            self.assertIn("damage", str(error).lower())

    def test_address_in_use(self):
        with harness.Server() as server:
            folder = tempfile.mkdtemp()
            self.addCleanup(shutil.rmtree, folder, True)
            other = harness.Server(data=folder, start=False, listen=f"127.0.0.1:{server.port}")
            other.spawn()
            self.assertEqual(other.wait(), 5)
            other.logged(str(server.port))

    def test_usage(self):
        for args in (["--nonsense"], ["--max-payload", "x"], ["--max-payload", "0"], ["--queues", "maybe"], ["--engine", "steam"],
                     ["--service", "x"], ["--service", "x=ftp://y"], ["--service", "-x=http://127.0.0.1:1"],
                     ["--max-wait", "5"], ["--config", "/nonexistent"], ["extra"], ["--listen", "nowhere:x"]):
            with self.subTest(args):
                run = subprocess.run([harness.BINARY, "serve", "--data", "/nonexistent/x", *args], capture_output=True,
                                     text=True, timeout=60)
                self.assertEqual((run.returncode, run.stdout), (2, ""), run)
                self.assertIn(args[0].lstrip("-"), run.stderr)


if __name__ == "__main__":
    harness.main()
