"""tests/integration/test_push.py -- queues that are pushed to an HTTP target instead of being asked for by workers."""
import http.server
import json
import re
import socket
import threading
import unittest

import harness


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length) if "chunked" not in self.headers.get("Transfer-Encoding", "") else self.chunks()
        target = self.server.target
        status, headers, answer = target.take(self.path, self.headers, body)
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self):
        self.send_response(200 if self.server.target.well else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def chunks(self):
        data = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            data += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return data


class Target(http.server.ThreadingHTTPServer):
    """Answers what .answer(nth, headers, body) gives: (status, headers, body); status None breaks off. .seen: every request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.target = self
        self.lock, self.gate = threading.Lock(), threading.Event()
        self.seen, self.now, self.most, self.well = [], 0, 0, True
        self.answer = lambda nth, headers, body: (200, {}, b"")
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, path, headers, body):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.seen.append((path, headers, body))
            nth = sum(1 for _, other, _ in self.seen if other["Whilst-Job"] == headers["Whilst-Job"])
        try:
            return self.answer(nth, headers, body)
        finally:
            with self.lock:
                self.now -= 1

    def held(self, status=200):
        """An answer that waits for the gate."""
        def answer(nth, headers, body):
            self.gate.wait(30)
            return status, {}, b""
        return answer

    def handle_error(self, request, client_address):
        pass

    def stop(self):
        self.gate.set()
        self.shutdown()
        self.server_close()


class Pushes(harness.Case):
    ARGS = ("--allow-private-targets", "127.0.0.1")

    def setUp(self):
        super().setUp()
        self.target = Target()

    def tearDown(self):
        self.client.delete(f"/v1/queues/{self.queue}/target")
        self.target.stop()
        super().tearDown()

    def configure(self, path="", **more):
        answer = self.client.put(f"/v1/queues/{self.queue}/target", dict(url=self.target.url + path, **more))
        self.assertIn(answer.status, (200, 201), answer)
        return answer

    def shown(self):
        return self.client.get(f"/v1/queues/{self.queue}/target").json()

    def finished(self, job):
        document = self.client.get(f"/v1/jobs/{job}", Prefer="wait=20").json()
        self.assertIn(document["state"], ("done", "failed", "cancelled"), document)
        return document


class Delivery(Pushes):
    def test_a_job(self):
        self.target.answer = lambda nth, headers, body: (201, {"Content-Type": "text/x", "X-Mine": "1"}, b"made of " + body)
        self.assertEqual(self.configure("/hook").status, 201)
        self.assertEqual(self.configure("/hook").status, 200)
        job = self.client.submit(self.queue, b"payload", Content_Type="application/y")
        self.assertEqual(self.finished(job)["state"], "done")
        result = self.client.get(f"/v1/jobs/{job}/result")
        self.assertEqual((result.status, result.body, result["Content-Type"], result["X-Mine"]),
                         (201, b"made of payload", "text/x", "1"))
        path, headers, body = self.target.seen[0]
        self.assertEqual((path, body, headers["Content-Type"]), ("/hook", b"payload", "application/y"))
        self.assertEqual((headers["Whilst-Job"], headers["Whilst-Attempt"], headers["Whilst-Queue"]),
                         (str(job), "1", self.queue))
        self.assertEqual(headers["Host"], f"127.0.0.1:{self.target.port}")

    def test_jobs_from_before(self):
        jobs = [self.client.submit(self.queue, b"%d" % i) for i in range(20)]
        self.configure()
        for job in jobs:
            self.assertEqual(self.finished(job)["state"], "done")
        self.assertEqual(sorted(int(body) for _, _, body in self.target.seen), list(range(20)))

    def test_large_and_empty(self):
        self.target.answer = lambda nth, headers, body: (200, {}, body)
        self.configure()
        for payload in (b"", b"x" * 300000, b"z" * (3 << 20)):
            job = self.client.submit(self.queue, payload)
            self.assertEqual(self.finished(job)["state"], "done")
            self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, payload)

    def test_failures_are_tried_again(self):
        """Whatever is not 2xx, and no answer, is an attempt that failed."""
        answers = {1: (500, {}, b""), 2: (404, {}, b""), 3: (302, {"Location": "http://127.0.0.1:1/"}, b""), 4: (None, {}, b"")}
        self.target.answer = lambda nth, headers, body: answers.get(nth, (200, {}, b"at last"))
        self.client.put(f"/v1/queues/{self.queue}", {"attempts": 5})
        self.configure()
        job = self.client.submit(self.queue)
        for attempt in range(1, 5):
            harness.eventually(lambda n=attempt: len(self.client.get(f"/v1/jobs/{job}").json()["errors"]) == n, "the attempt")
            self.client.post(f"/v1/jobs/{job}/kick")
        document = self.finished(job)
        self.assertEqual((document["state"], document["attempts"]), ("done", 5))
        for error, part in zip(document["errors"], ("status 500", "status 404", "status 302", "closed")):
            self.assertIn(part, error["message"])
        self.assertEqual([headers["Whilst-Attempt"] for _, headers, _ in self.target.seen], ["1", "2", "3", "4", "5"])

    def test_attempts_are_the_queues(self):
        self.target.answer = lambda nth, headers, body: (500, {}, b"")
        self.client.put(f"/v1/queues/{self.queue}", {"attempts": 1})
        self.configure()
        document = self.finished(self.client.submit(self.queue))
        self.assertEqual((document["state"], document["attempts"]), ("failed", 1))

    def test_gone(self):
        self.target.answer = lambda nth, headers, body: (410, {}, b"")
        self.configure()
        document = self.finished(self.client.submit(self.queue))
        self.assertEqual((document["state"], document["attempts"]), ("failed", 1))

    def test_workers_beside_it(self):
        """A worker that asks gets jobs of the same queue, and each job goes to one of both."""
        self.target.answer = self.target.held()
        self.configure(concurrency=1)
        first = self.client.submit(self.queue)
        harness.eventually(lambda: self.target.seen, "the push")
        second = self.client.submit(self.queue)
        job, lease, _ = self.client.reserve(self.queue, Prefer="wait=10")
        self.assertEqual(job, second)
        self.assertEqual(self.client.complete(job, lease, b"by hand").status, 200)
        self.target.gate.set()
        self.assertEqual(self.finished(first)["state"], "done")
        self.assertEqual(len(self.target.seen), 1)

    def test_paused_queue(self):
        self.configure()
        self.client.post(f"/v1/queues/{self.queue}/pause")
        job = self.client.submit(self.queue)
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "ready")
        self.client.post(f"/v1/queues/{self.queue}/resume")
        self.assertEqual(self.finished(job)["state"], "done")

    def test_cancelled(self):
        self.target.answer = self.target.held()
        self.configure()
        job = self.client.submit(self.queue)
        harness.eventually(lambda: self.target.seen, "the push")
        self.assertEqual(self.client.delete(f"/v1/jobs/{job}").status, 202)
        self.assertEqual(self.finished(job)["state"], "cancelled", "the target still thinks")

    def test_removed_target(self):
        self.configure()
        self.assertProblem(self.client.delete(f"/v1/queues/{self.queue}"), 409, "has-target")
        self.assertEqual(self.client.delete(f"/v1/queues/{self.queue}/target").status, 200)
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}/target"), 404, "unknown-target")
        self.assertProblem(self.client.delete(f"/v1/queues/{self.queue}/target"), 404, "unknown-target")
        job = self.client.submit(self.queue)
        self.assertEqual(self.client.reserve(self.queue)[0], job)
        self.assertEqual(self.target.seen, [])

    def test_shown(self):
        self.configure(concurrency=3)
        shown = self.shown()
        self.assertEqual((shown["queue"], shown["concurrency"], shown["concurrency_now"]), (self.queue, 3, 3))
        self.assertEqual(shown["backends"][0]["state"], "up")
        self.assertEqual(self.client.put(f"/v1/queues/{self.queue}/target", shown).status, 200, "what is shown may be sent back")
        self.finished(self.client.submit(self.queue))
        text = self.client.get("/metrics").body.decode()
        self.assertRegex(text, rf'(?m)^whilst_push_concurrency{{queue="{self.queue}"}} 3$')
        labels = re.escape(f'{{queue="{self.queue}",backend="{self.target.url}"}}')
        self.assertRegex(text, rf"(?m)^whilst_backend_calls_total{labels} 1$")

    def test_refusals(self):
        path = f"/v1/queues/{self.queue}/target"
        self.assertProblem(self.client.put(path, {"url": "ftp://h"}), 422, "bad-value")
        self.assertProblem(self.client.put(path, {"url": self.target.url, "attempts": 3}), 400, "bad-json")
        self.assertProblem(self.client.put("/v1/queues/call%2Fx/target", {"url": self.target.url}), 422, "bad-value")

    def test_health(self):
        self.configure(health={"path": "/well", "interval": "20ms", "healthy": 1, "unhealthy": 1})
        self.target.well = False
        harness.eventually(lambda: self.shown()["backends"][0]["state"] == "down", "down")
        job = self.client.submit(self.queue)
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "ready")
        self.target.well = True
        document = self.finished(job)
        self.assertEqual((document["state"], document["attempts"]), ("done", 1))


class Load(Pushes):
    def test_busy_is_no_failed_attempt(self):
        """429, and 503 with Retry-After, put a job off: it comes again, and has lost nothing."""
        answers = {1: (429, {}, b""), 2: (503, {"Retry-After": "1"}, b"")}
        self.target.answer = lambda nth, headers, body: answers.get(nth, (200, {}, b""))
        self.client.put(f"/v1/queues/{self.queue}", {"attempts": 1})
        self.configure()
        document = self.finished(self.client.submit(self.queue))
        self.assertEqual((document["state"], document["attempts"], document["errors"]), ("done", 1, []))
        self.assertEqual(len(self.target.seen), 3)

    def test_503_alone_is_a_failure(self):
        self.target.answer = lambda nth, headers, body: (503, {}, b"")
        self.client.put(f"/v1/queues/{self.queue}", {"attempts": 1})
        self.configure()
        self.assertEqual(self.finished(self.client.submit(self.queue))["state"], "failed")

    def test_never_more_than_the_bound(self):
        self.target.answer = self.target.held()
        self.configure(concurrency=3)
        jobs = [self.client.submit(self.queue) for _ in range(10)]
        harness.eventually(lambda: self.target.now == 3, "three at once")
        self.target.gate.set()
        for job in jobs:
            self.finished(job)
        self.assertLessEqual(self.target.most, 3)

    def test_falls_and_rises(self):
        """A target that bears three at once is found out, and nothing is lost on the way; when it bears more it gets more."""
        bears = [3]

        def answer(nth, headers, body):
            return (200, {}, b"") if self.target.now <= bears[0] else (429, {"Retry-After": "0"}, b"")
        self.target.answer = answer
        self.configure(concurrency=64)
        lines = b"\n".join(b"%d" % i for i in range(300))
        path = f"/v1/queues/{self.queue}/jobs"
        self.client.post(path, lines, Content_Type="application/x-ndjson")

        def done():
            return self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["done"]
        harness.eventually(lambda: done() == 300, "all of them", 60)
        refused = len(self.target.seen) - 300
        self.assertLess(refused, 200, "it does not go on asking for more than is borne")
        bears[0] = 1000
        self.client.post(path, lines, Content_Type="application/x-ndjson")
        harness.eventually(lambda: done() == 600, "all of them", 60)
        self.assertGreater(self.shown()["concurrency_now"], 8)


class Private(harness.Case):
    """A server that is told nothing of private networks."""

    def setUp(self):
        super().setUp()
        self.target = Target()

    def tearDown(self):
        self.target.stop()
        super().tearDown()

    def test_refused_when_configured(self):
        for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]", "[::ffff:127.0.0.1]",
                     "100.64.1.1", "0.0.0.0", "[64:ff9b::7f00:1]", "x.localhost."):
            answer = self.client.put(f"/v1/queues/{self.queue}/target", {"url": f"http://{host}:{self.target.port}"})
            self.assertProblem(answer, 422, "target-refused")
        answer = self.client.put(f"/v1/queues/{self.queue}/target", {"urls": ["http://example.com", "http://10.0.0.1"]})
        self.assertProblem(answer, 422, "target-refused")
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}/target"), 404, "unknown-target")

    def test_services_are_the_operators(self):
        self.assertEqual(self.client.put("/v1/services/s", {"url": self.target.url}).status, 201)
        self.assertEqual(self.client.request("GET", "/call/s/x").status, 200)


class Rebinding(unittest.TestCase):
    """What a name leads to is judged when it is connected to: here a target from when it was allowed."""

    def test_refused_when_connecting(self):
        target = Target()
        try:
            with harness.Server("--allow-private-targets", "all") as server:
                client = server.client()
                self.assertEqual(client.put("/v1/queues/q/target", {"url": f"http://localhost:{target.port}"}).status, 201)
                self.assertEqual(client.put("/v1/queues/p/target", {"url": target.url}).status, 201)
                client.get(f"/v1/jobs/{client.submit('q')}", Prefer="wait=20")
                self.assertEqual(len(target.seen), 1)
                client.close()
                server.stop()
                server.args = []
                server.start()
                client = server.client()
                for queue in ("q", "p"):
                    client.put(f"/v1/queues/{queue}", {"attempts": 1})
                    document = client.get(f"/v1/jobs/{client.submit(queue)}", Prefer="wait=20").json()
                    self.assertEqual(document["state"], "failed")
                    self.assertIn("may not be connected to", document["errors"][0]["message"])
                self.assertEqual(len(target.seen), 1)
                client.close()
        finally:
            target.stop()

    def test_settings(self):
        for bad in ("10.0.0.0/33", "private", ""):
            server = harness.Server("--allow-private-targets", bad, start=False)
            server.spawn()
            self.assertEqual(server.wait(), 2)
            server.logged("allow-private-targets")
            server.remove()


class AcrossRestarts(unittest.TestCase):
    def test_kill(self):
        """What was under way when the server died comes again, and has lost no attempt."""
        target = Target()
        server = harness.Server("--allow-private-targets", "127.0.0.0/8")
        try:
            target.answer = target.held()
            client = server.client()
            client.put("/v1/queues/q", {"attempts": 1})
            client.put("/v1/queues/q/target", {"url": target.url, "timeout": "20s"})
            jobs = [client.submit("q", b"%d" % i) for i in range(4)]
            harness.eventually(lambda: len(target.seen) == 4, "pushes")
            client.close()
            server.kill()
            server.start()
            target.gate.set()
            client = server.client()
            for job in jobs:
                document = client.get(f"/v1/jobs/{job}", Prefer="wait=20").json()
                self.assertEqual((document["state"], document["attempts"], document["errors"]), ("done", 1, []), document)
            self.assertEqual(json.loads(client.get("/v1/queues/q/target").body)["url"], target.url)
            client.close()
            server.stop()
        finally:
            target.stop()
            server.remove()


if __name__ == "__main__":
    harness.main()
