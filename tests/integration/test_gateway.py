"""tests/integration/test_gateway.py -- /call/{service}/… in front of a real backend, in all three moods."""
import socket
import threading
import time

import backend
import harness


class Gateway(harness.Case):
    def setUp(self):
        super().setUp()
        self.backend = backend.Backend()
        self.service = f"s{self.counter}"
        self.configure()

    def tearDown(self):
        self.backend.stop()
        super().tearDown()

    def configure(self, base="", **more):
        answer = self.client.put(f"/v1/services/{self.service}", dict(url=self.backend.url + base, **more))
        self.assertIn(answer.status, (200, 201), answer)

    def call(self, path, method="GET", body=None, **headers):
        return self.client.request(method, f"/call/{self.service}{path}", body, **headers)

    def finished(self, answer):
        self.assertEqual(answer.status, 202, answer)
        location = answer["Location"]
        document = self.client.get(location, Prefer="wait=20").json()
        self.assertIn(document["state"], ("done", "failed", "cancelled"))
        return location, document


class PassThrough(Gateway):
    def test_request_reaches_the_backend_unchanged(self):
        answer = self.call("/a/b%2Fc;d?x=1&y=%20", "POST", b"body", X_Mine="v", Content_Type="t/u", TE="trailers",
                           Connection="keep-alive, X-Hop", X_Hop="1", Keep_Alive="timeout=1", Proxy_Authorization="no",
                           User_Agent="me", Cookie="a=b", X_Forwarded_For="192.0.2.1")
        self.assertEqual((answer.status, answer["X-Backend"], answer["Content-Type"]), (200, "yes", "application/json"))
        seen = answer.json()
        self.assertEqual((seen["method"], seen["path"], seen["body"]), ("POST", "/a/b%2Fc;d?x=1&y=%20", "body"))
        headers = {}
        for name, value in seen["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        self.assertEqual(headers["host"], [f"127.0.0.1:{self.backend.port}"])
        self.assertEqual((headers["x-mine"], headers["content-type"], headers["user-agent"], headers["cookie"]),
                         (["v"], ["t/u"], ["me"], ["a=b"]))
        self.assertEqual(headers["via"], ["1.1 whilst"])
        self.assertEqual(headers["x-forwarded-for"], ["192.0.2.1, 127.0.0.1"])
        self.assertEqual(headers["x-forwarded-host"], [f"127.0.0.1:{self.server.port}"])
        self.assertEqual(headers["x-forwarded-proto"], ["http"])
        for hop in ("x-hop", "te", "proxy-authorization", "keep-alive", "whilst-commit", "prefer"):
            self.assertNotIn(hop, headers)
        queues = {q["name"]: q["submitted"] for q in self.client.get("/v1/queues").json()["queues"]}
        self.assertEqual(queues.get(f"call/{self.service}", 0), 0, "it made no job")

    def test_base_path(self):
        for base, path, expected in (("/base", "/x?y", "/base/x?y"), ("/base/", "/x", "/base/x"), ("/base", "", "/base"),
                                     ("", "", "/"), ("", "/", "/"), ("", "?q=1", "/?q=1"), ("/b", "/", "/b/")):
            self.configure(base)
            self.assertEqual(self.call(path).json()["path"], expected)

    def test_no_way_out_of_the_base_path(self):
        """Who may call a service may call what is below its URL, however a backend reads a path; what stays below reaches it as it is."""
        self.configure("/base")
        for path in ("/..", "/../x", "/a/../../x", "/./../x", "//../x", "/a//../../x", "/%2e%2e/x", "/.%2E/x", "/..%2fx", "/a%2f..%2f..%2fx", "/a%2Fb/../../x",
                     "/..;/x", "/..;a=b/x", "/..\\x", "/a\\..\\..\\x", "/..%5cx", "/a/b/../../../a/b", "/x/..%2f..?q=1"):
            for prefer in ({}, {"Prefer": "respond-async"}, {"Prefer": "wait=5"}):
                self.assertProblem(self.call(path, **prefer), 400, "bad-request")
        for path in ("/a/../x", "/a/b/../../x", "/a/..", "/a/./b", "/a//b", "/...", "/..a/b", "/a..", "/x?y=/../../z", "/a;b/../c", "/%2e", "/%zz", "/a%"):
            self.assertEqual(self.call(path).json()["path"], "/base" + path)
        self.assertEqual(self.client.get("/v1/queues/call%2F" + self.service).json()["submitted"], 0, "a job was made")

    def test_every_method(self):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            self.assertEqual(self.call("/x", method).json()["method"], method)
        answer = self.call("/bytes/1000", "HEAD")
        self.assertEqual((answer.status, answer.body, answer["Content-Length"]), (200, b"", "1000"))

    def test_every_status(self):
        for status in (200, 201, 204, 301, 304, 400, 404, 418, 500, 503):
            answer = self.call(f"/status/{status}")
            self.assertEqual((answer.status, answer["X-Backend"]), (status, "yes"))
            self.assertNotEqual(answer["Content-Type"], "application/problem+json")

    def test_answers_of_every_framing(self):
        self.assertEqual(self.call("/chunked").body, b"one" + b"two" * 10000 + b"three")
        self.assertEqual(self.call("/until-close").body, b"to the end")
        self.assertEqual(self.call("/early").body, b"after a hint")
        self.assertEqual(len(self.call("/bytes/5000000").body), 5000000)
        self.assertEqual(self.call("/bytes/0").body, b"")

    def test_bodies_of_every_framing(self):
        self.assertEqual(self.call("/x", "POST", b"").json()["body"], "")
        self.assertEqual(self.call("/x", "POST", b"y" * 300000).json()["body"], "y" * 300000)
        self.assertEqual(self.call("/x", "POST", iter([b"ab", b"c" * 100000])).json()["body"], "ab" + "c" * 100000)

    def test_hop_by_hop_fields_of_the_answer(self):
        answer = self.call("/hop")
        self.assertEqual((answer["X-End"], answer["X-Mine"], answer["Keep-Alive"]), ("to-end", None, None))
        self.assertEqual(answer.headers.get_all("Set-Cookie"), ["a=1", "b=2"])
        self.assertIn("1.1 whilst", answer["Via"])

    def test_streams_down(self):
        """The first piece of the answer is here while the backend still holds back the second."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(f"GET /call/{self.service}/slow-pieces HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            got = b""
            while b"first" not in got:
                got += s.recv(65536)
            self.assertNotIn(b"second", got)
            self.backend.gate.set()
            while not got.endswith(b"0\r\n\r\n"):
                got += s.recv(65536)
            self.assertIn(b"second", got)

    def test_streams_up(self):
        """The backend has the head while the client still sends the body."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(f"POST /call/{self.service}/up HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc".encode())
            harness.eventually(lambda: ("POST", "/up") in self.backend.calls, "the call")
            s.sendall(b"def")
            answer, _ = harness.read_answer(s)
            self.assertEqual(answer.json()["body"], "abcdef")

    def test_back_pressure(self):
        """A backend that does not read makes the client wait: the server takes in little."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            size = 200 << 20
            s.sendall(f"POST /call/{self.service}/upload-slowly HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
            s.settimeout(1.0)
            sent = 0
            try:
                while sent < size:
                    sent += s.send(b"z" * 65536)
            except socket.timeout:
                pass
            self.assertLess(sent, 64 << 20)
            with open(f"/proc/{self.server.process.pid}/status") as f:
                resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
            self.assertLess(resident, (200 if "asan" not in harness.BINARY else 900) << 10)

    def test_unreachable(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.client.put(f"/v1/services/{self.service}", {"url": f"http://127.0.0.1:{s.getsockname()[1]}"})
            self.assertProblem(self.call("/x"), 502, "backend-unreachable")

    def test_broken(self):
        self.assertProblem(self.call("/garbage"), 502, "backend-error")
        self.assertProblem(self.call("/drop"), 502, "backend-error")
        data = harness.raw(self.server.port, f"GET /call/{self.service}/break HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.assertTrue(data.startswith(b"HTTP/1.1 200 "))
        self.assertTrue(data.endswith(b"only this"), "broken off where the backend broke off, not made whole")

    def test_timeout(self):
        self.configure(timeout="200ms")
        self.assertProblem(self.call("/sleep/10"), 504, "backend-timeout")

    def test_one_attempt(self):
        self.assertEqual(self.call("/drop").status, 502)
        self.assertEqual(self.backend.counts["/drop"], 1)

    def test_unknown_service(self):
        for prefer in ({}, {"Prefer": "respond-async"}, {"Prefer": "wait=5"}):
            self.assertProblem(self.client.post("/call/nobody/x", b"y", **prefer), 404, "unknown-service")
        self.assertProblem(self.client.get("/v1/queues/call%2Fnobody"), 404, "unknown-queue")

    def test_the_queue_of_a_service_goes_behind_it(self):
        self.client.put("/v1/services/brief", {"url": self.backend.url})
        self.assertProblem(self.client.delete("/v1/queues/call%2Fbrief"), 422, "bad-value")
        self.assertIn(self.client.put("/v1/queues/call%2Fbrief", {"retention": "1m"}).status, (200, 201))
        self.assertEqual(self.client.delete("/v1/services/brief").status, 200)
        self.assertEqual(self.client.delete("/v1/queues/call%2Fbrief").status, 200)

    def test_client_that_leaves(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
            s.sendall(f"GET /call/{self.service}/gate HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            harness.eventually(lambda: ("GET", "/gate") in self.backend.calls, "the call")
        self.backend.gate.set()
        self.assertEqual(self.call("/status/200").status, 200)


class Recorded(Gateway):
    def test_respond_async(self):
        answer = self.call("/gate?a=b", "POST", b"work", Prefer="respond-async", Content_Type="text/x")
        self.assertEqual((answer.status, answer["Preference-Applied"], answer["Whilst-Commit"]),
                         (202, "respond-async", "local"))
        job = answer.json()["id"]
        self.assertEqual(answer.json()["queue"], f"call/{self.service}")
        self.assertEqual(answer["Location"], f"/v1/jobs/{job}")
        self.assertProblem(self.client.get(f"/v1/jobs/{job}/result"), 409, "not-ready")
        self.backend.gate.set()
        result = self.client.get(f"/v1/jobs/{job}/result", Prefer="wait=20")
        self.assertEqual((result.status, result.body, result["Content-Type"]), (200, b"opened:work", "text/plain"))
        self.assertEqual(result.headers.get_all("X-One"), ["1", "2"])
        payload = self.client.get(f"/v1/jobs/{job}/payload")
        self.assertEqual(payload["Content-Type"], "application/http")
        self.assertTrue(payload.body.startswith(b"POST /gate?a=b HTTP/1.1\r\n"))
        self.assertTrue(payload.body.endswith(b"\r\n\r\nwork"))

    def test_wait(self):
        answer = self.call("/status/418", Prefer="wait=20")
        self.assertEqual((answer.status, answer.body, answer["X-Backend"]), (418, b"status 418", "yes"))
        self.assertEqual(answer["Preference-Applied"], "wait=20")
        self.assertEqual(self.client.get(f"/v1/jobs/{answer['Whilst-Job']}").json()["state"], "done")

    def test_wait_in_vain(self):
        start = time.monotonic()
        answer = self.call("/gate", "POST", b"x", Prefer="respond-async, wait=1")
        self.assertEqual((answer.status, answer["Preference-Applied"]), (202, "respond-async, wait=1"))
        self.assertGreaterEqual(time.monotonic() - start, 0.99)
        self.backend.gate.set()
        location, document = self.finished(answer)
        self.assertEqual(self.client.get(location + "/result").body, b"opened:x")

    def test_service_that_records(self):
        self.configure(record=True)
        answer = self.call("/x", "POST", b"kept")
        self.assertEqual((answer.status, answer.json()["body"]), (200, "kept"))
        self.assertEqual(self.client.get(f"/v1/jobs/{answer['Whilst-Job']}").json()["queue"], f"call/{self.service}")

    def test_headers_reach_the_backend(self):
        answer = self.call("/h", "PUT", b"b", Prefer="wait=20", X_A="1", Connection="X-Hop", X_Hop="2", Whilst_Commit="async")
        headers = {name.lower(): value for name, value in answer.json()["headers"]}
        self.assertEqual((headers["x-a"], headers["via"], headers["host"], headers["content-length"]),
                         ("1", "1.1 whilst", f"127.0.0.1:{self.backend.port}", "1"))
        for name in ("x-hop", "prefer", "whilst-commit", "expect"):
            self.assertNotIn(name, headers)

    def test_hop_by_hop_fields_of_the_answer(self):
        answer = self.call("/hop", Prefer="wait=20")
        self.assertEqual((answer["X-End"], answer["X-Mine"]), ("to-end", None))
        self.assertEqual(answer.headers.get_all("Set-Cookie"), ["a=1", "b=2"])

    def test_head_and_empty(self):
        answer = self.call("/bytes/10", "HEAD", Prefer="wait=20")
        self.assertEqual((answer.status, answer.body), (200, b""))
        answer = self.call("/status/204", Prefer="wait=20")
        self.assertEqual((answer.status, answer.body), (204, b""))

    def test_large(self):
        answer = self.call("/bytes/3000000", "POST", b"q" * 3000000, Prefer="wait=20")
        self.assertEqual(len(answer.body), 3000000)

    def test_idempotent_methods_are_tried_again(self):
        self.configure(attempts=3)
        answer = self.call("/drop-then/2", Prefer="wait=30")
        self.assertEqual((answer.status, answer.body), (200, b"at last"))
        document = self.client.get(f"/v1/jobs/{answer['Whilst-Job']}").json()
        self.assertEqual((document["attempts"], len(document["errors"])), (3, 2))

    def test_post_is_tried_once(self):
        for method in ("POST", "PATCH"):
            answer = self.call(f"/drop-then/2/{method}", method, b"x", Prefer="wait=20")
            problem = self.assertProblem(answer, 502, "job-failed")
            self.assertEqual((problem["job"]["state"], problem["job"]["attempts"]), ("failed", 1))
            self.assertEqual(self.backend.counts[f"/drop-then/2/{method}"], 1)

    def test_refused_connection_is_tried_again_even_for_post(self):
        port = self.backend.port
        self.backend.stop()
        self.client.put(f"/v1/services/{self.service}", {"url": f"http://127.0.0.1:{port}", "attempts": 5})
        answer = self.call("/x", "POST", b"x", Prefer="respond-async")
        location = answer["Location"]
        harness.eventually(lambda: self.client.get(location).json()["errors"], "the first attempt")
        self.backend = backend.Backend(port)
        _, document = self.finished(answer)
        self.assertEqual(document["state"], "done", document)
        self.assertGreater(document["attempts"], 1)

    def test_timeout(self):
        self.configure(timeout="200ms", attempts=1)
        problem = self.assertProblem(self.call("/sleep/10", Prefer="wait=20"), 504, "job-failed")
        self.assertIn("200ms", problem["job"]["errors"][0]["message"])

    def test_concurrency(self):
        self.configure(concurrency=2)
        answers = [self.call(f"/gate?{i}", Prefer="respond-async") for i in range(6)]
        harness.eventually(lambda: len(self.backend.calls) == 2, "two calls")
        counts = self.client.get(f"/v1/queues/call%2F{self.service}").json()["jobs"]
        self.assertEqual((counts["running"], counts["ready"]), (2, 4))
        self.backend.gate.set()
        for answer in answers:
            self.assertEqual(self.finished(answer)[1]["state"], "done")

    def test_cancelled(self):
        self.configure(concurrency=1)
        first = self.call("/gate", Prefer="respond-async")
        harness.eventually(lambda: self.backend.calls, "the call")
        second = self.call("/gate", Prefer="respond-async")
        self.assertEqual(self.client.delete(second["Location"]).status, 200)
        self.assertEqual(self.client.delete(first["Location"]).status, 202)
        self.backend.gate.set()
        self.assertEqual(self.finished(first)[1]["state"], "cancelled")
        self.assertEqual(len(self.backend.calls), 1)

    def test_the_queue_belongs_to_the_gateway(self):
        path = f"/v1/queues/call%2F{self.service}"
        self.call("/x", Prefer="wait=20")
        self.assertProblem(self.client.post(f"{path}/jobs", b"x"), 422, "bad-value")
        self.assertProblem(self.client.post(f"{path}/reserve"), 422, "bad-value")

    def test_fifty_at_once(self):
        self.configure(concurrency=16)
        got = []

        def one(i):
            client = self.server.client()
            got.append((i, client.request("POST", f"/call/{self.service}/x", b"%d" % i, Prefer="wait=20").json()["body"]))
            client.close()
        threads = [threading.Thread(target=one, args=(i,)) for i in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(got), [(i, str(i)) for i in range(50)])


class AcrossRestarts(harness.unittest.TestCase):
    def setUp(self):
        self.backend = backend.Backend()
        self.server = harness.Server()
        self.client = self.server.client()
        self.client.put("/v1/services/s", {"url": self.backend.url, "timeout": "20s"})

    def tearDown(self):
        self.client.close()
        self.backend.stop()
        self.server.remove()

    def restart_after_kill(self):
        self.client.close()
        self.server.kill()
        self.server.start()
        self.client = self.server.client()

    def test_accepted_but_not_yet_sent(self):
        self.client.put("/v1/services/s", {"url": self.backend.url, "concurrency": 1})
        answers = [self.client.post(f"/call/s/gate?{i}", b"%d" % i, Prefer="respond-async") for i in range(4)]
        harness.eventually(lambda: self.backend.calls, "the first")
        self.restart_after_kill()
        self.backend.gate.set()
        states = [self.client.get(a["Location"], Prefer="wait=20").json()["state"] for a in answers]
        self.assertEqual(states, ["failed", "done", "done", "done"], "the first was under way: its outcome is unknown")
        message = self.client.get(answers[0]["Location"]).json()["errors"][0]["message"]
        self.assertEqual(message, "outcome-unknown")

    def test_under_way_and_idempotent(self):
        answer = self.client.put("/call/s/gate", b"x", Prefer="respond-async", Content_Type="a/b")
        harness.eventually(lambda: self.backend.calls, "the call")
        self.restart_after_kill()
        self.backend.gate.set()
        document = self.client.get(answer["Location"], Prefer="wait=20").json()
        self.assertEqual(document["state"], "done", document)
        self.assertEqual(document["attempts"], 2)
        self.assertEqual(document["errors"][0]["message"], "outcome-unknown")

    def test_stopped_gracefully(self):
        """A stop lets calls that are under way end, for a while."""
        answer = self.client.post("/call/s/sleep/0.3", b"x", Prefer="respond-async")
        harness.eventually(lambda: self.backend.calls, "the call")
        self.client.close()
        self.server.stop()
        self.server.start()
        self.client = self.server.client()
        self.assertEqual(self.client.get(answer["Location"], Prefer="wait=20").json()["state"], "done")


if __name__ == "__main__":
    harness.main()
