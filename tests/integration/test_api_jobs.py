"""tests/integration/test_api_jobs.py -- submit, poll, result, payload, cancel: docs/reference/http.md, "Jobs"."""
import re
import subprocess

import harness


class Submit(harness.Case):
    def test_answer(self):
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"hello", Content_Type="text/plain")
        self.assertEqual(answer.status, 202, answer)
        document = answer.json()
        self.assertEqual(answer["Location"], f"/v1/jobs/{document['id']}")
        self.assertEqual(answer["Retry-After"], "1")
        self.assertEqual(answer["Content-Type"], "application/json")
        self.assertEqual(answer["Whilst-Commit"], "local")
        self.assertEqual(answer["Whilst-Position"], document["position"])
        self.assertRegex(document["position"], r"^\d+/\d+$")
        self.assertEqual({k: document[k] for k in ("queue", "state", "level")},
                         {"queue": self.queue, "state": "ready", "level": "local"})
        self.assertIn("Prefer", answer["Vary"])

    def test_poll_shows_everything(self):
        job = self.client.submit(self.queue, b"hello", Content_Type="text/plain")
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertRegex(document.pop("created_at"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(document, {
            "id": job, "queue": self.queue, "state": "ready", "priority": 1024, "attempts": 0, "attempts_max": 5,
            "run_at": None, "deadline": None, "finished_at": None, "expires_at": None, "unique": None, "group": None,
            "dead_from": None, "awaits": None, "time_to_run": "60s", "retention": "1h",
            "content_type": "text/plain", "traceparent": None, "bytes": 5, "progress": None, "cancel_requested": False, "errors": [],
            "result": None})

    def test_options(self):
        job = self.client.submit(self.queue, b"", "?priority=7&delay=1h&time-to-run=90s&attempts=3&retention=7d")
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual((document["state"], document["priority"], document["attempts_max"], document["time_to_run"],
                          document["retention"], document["bytes"]), ("delayed", 7, 3, "90s", "7d", 0))
        self.assertIsNotNone(document["run_at"])

    def test_run_at(self):
        job = self.client.submit(self.queue, b"", "?run-at=2100-01-02T03:04:05.5%2B01:00")
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual((document["state"], document["run_at"]), ("delayed", "2100-01-02T02:04:05.500Z"))
        job = self.client.submit(self.queue, b"", "?run-at=2001-01-02T03:04:05Z")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "ready")

    def test_payload_comes_back(self):
        for size in (0, 1, 127, 128, 4096, 65536, (1 << 20) + 1, 3 << 20):
            payload = bytes(i * 7 & 255 for i in range(256)) * (size // 256 + 1)
            payload = payload[:size]
            job = self.client.submit(self.queue, payload, Content_Type="image/x; a=b")
            answer = self.client.get(f"/v1/jobs/{job}/payload")
            self.assertEqual((answer.status, answer["Content-Type"]), (200, "image/x; a=b"))
            self.assertTrue(answer.body == payload, f"{size} bytes differ")

    def test_chunked_body(self):
        job = self.client.submit(self.queue, iter([b"abc", b"", b"defg" * 5000]))
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/payload").body, b"abc" + b"defg" * 5000)

    def test_no_content_type_is_octets(self):
        job = self.client.submit(self.queue, b"x")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["content_type"], "application/octet-stream")

    def test_async(self):
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit="async")
        self.assertEqual((answer.status, answer["Whilst-Commit"], answer.json()["level"]), (202, "async", "async"))
        log = self.client.get(f"/v1/log?position={answer['Whilst-Position']}&level=local", Prefer="wait=10")
        self.assertEqual((log.status, log.json()["reached"]), (200, True))

    def test_level_unavailable(self):
        for level in ("remote-write", "remote-flush"):
            answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit=level)
            self.assertProblem(answer, 422, "level-unavailable")
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}"), 404, "unknown-queue")

    def test_bad_values(self):
        cases = [("?priority=4294967296", 422, "bad-value"), ("?priority=x", 400, "bad-request"),
                 ("?delay=5", 400, "bad-request"), ("?delay=-5s", 400, "bad-request"), ("?delay=", 400, "bad-request"),
                 ("?run-at=tomorrow", 400, "bad-request"), ("?delay=1s&run-at=2100-01-01T00:00:00Z", 400, "bad-request"),
                 ("?attempts=0", 422, "bad-value"), ("?attempts=1001", 422, "bad-value"),
                 ("?time-to-run=0s", 422, "bad-value"), ("?delay=99999d", 422, "bad-value"),
                 ("?pritority=5", 400, "bad-request"), ("?priority=1&priority=2", 400, "bad-request"),
                 ("?priority=%zz", 400, "bad-request")]
        for query, status, code in cases:
            with self.subTest(query):
                document = self.assertProblem(self.client.post(f"/v1/queues/{self.queue}/jobs{query}", b"x"), status, code)
                name = re.match(r"\?([a-z-]+)", query).group(1)
                self.assertIn(name, document["detail"])
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit="never")
        self.assertIn("never", self.assertProblem(answer, 400, "bad-request")["detail"])
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}"), 404, "unknown-queue")

    def test_names(self):
        for name in ("a%2Fb", "a+b;c.$_()-", "x" * 200):
            self.assertEqual(self.client.post(f"/v1/queues/{name}/jobs", b"x").status, 202)
            self.assertEqual(self.client.get(f"/v1/queues/{name}").status, 200)
        for name in ("-a", "a%20b", "x" * 201, "", "%00", "caf%C3%A9", "a%2"):
            with self.subTest(name):
                self.assertProblem(self.client.post(f"/v1/queues/{name}/jobs", b"x"), 400, "bad-request")
        self.assertProblem(self.client.post("/v1/queues/call%2Fshop/jobs", b"x"), 422, "bad-value")

    def test_ids_rise(self):
        ids = [self.client.submit(self.queue) for _ in range(50)]
        self.assertEqual(ids, sorted(set(ids)))
        self.assertLess(ids[-1], 2 ** 53)


class Poll(harness.Case):
    def test_unknown(self):
        for path in ("", "/result", "/payload"):
            self.assertProblem(self.client.get(f"/v1/jobs/9007199254740000{path}"), 404, "unknown-job")
        self.assertProblem(self.client.delete("/v1/jobs/9007199254740000"), 404, "unknown-job")
        for bad in ("x", "-1", "1.5", "0x10", "9007199254740992", "99999999999999999999999", "%31x"):
            self.assertProblem(self.client.get(f"/v1/jobs/{bad}"), 400, "bad-request")

    def test_etag(self):
        job = self.client.submit(self.queue)
        first = self.client.get(f"/v1/jobs/{job}")
        self.assertTrue(first["ETag"])
        again = self.client.get(f"/v1/jobs/{job}", If_None_Match=first["ETag"])
        self.assertEqual((again.status, again.body, again["ETag"]), (304, b"", first["ETag"]))
        self.assertEqual(self.client.get(f"/v1/jobs/{job}", If_None_Match=f'"x", W/{first["ETag"]}').status, 304)
        self.assertEqual(self.client.get(f"/v1/jobs/{job}", If_None_Match="*").status, 304)
        self.client.reserve(self.queue)
        changed = self.client.get(f"/v1/jobs/{job}", If_None_Match=first["ETag"])
        self.assertEqual((changed.status, changed.json()["state"]), (200, "running"))

    def test_head(self):
        job = self.client.submit(self.queue)
        head, get = self.client.request("HEAD", f"/v1/jobs/{job}"), self.client.get(f"/v1/jobs/{job}")
        self.assertEqual((head.status, head.body, head["Content-Length"]), (200, b"", get["Content-Length"]))

    def test_whole_life(self):
        job = self.client.submit(self.queue, b"in", Content_Type="text/plain")
        self.assertProblem(self.client.get(f"/v1/jobs/{job}/result"), 409, "not-ready", state="ready")
        reserved, lease, payload = self.client.reserve(self.queue)
        self.assertEqual((reserved, payload), (job, b"in"))
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual((document["state"], document["attempts"]), ("running", 1))
        self.assertIsNotNone(document["deadline"])
        done = self.client.complete(job, lease, b"out", "?status=201", Content_Type="text/csv")
        self.assertEqual((done.status, done.json()), (200, {"id": job, "state": "done"}))
        self.assertEqual(done["Whilst-Commit"], "local")
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual(document["state"], "done")
        self.assertEqual(document["result"], {"url": f"/v1/jobs/{job}/result", "status": 201, "content_type": "text/csv",
                                              "bytes": 3})
        self.assertIsNotNone(document["finished_at"])
        answer = self.client.get(f"/v1/jobs/{job}/result")
        self.assertEqual((answer.status, answer["Content-Type"], answer.body), (201, "text/csv", b"out"))
        self.assertProblem(self.client.delete(f"/v1/jobs/{job}"), 409, "job-finished", state="done")

    def test_large_result(self):
        job = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        result = b"0123456789abcdef" * (1 << 17)
        self.assertEqual(self.client.complete(job, lease, result).status, 200)
        self.assertTrue(self.client.get(f"/v1/jobs/{job}/result").body == result)

    def test_failed(self):
        job = self.client.submit(self.queue, query="?attempts=1")
        _, lease, _ = self.client.reserve(self.queue)
        answer = self.client.post(f"/v1/jobs/{job}/fail", "it broke: \"é\"".encode(), Whilst_Lease=lease)
        self.assertEqual((answer.status, answer.json()["state"]), (200, "failed"))
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual(document["state"], "failed")
        self.assertEqual([(e["attempt"], e["message"]) for e in document["errors"]], [(1, "it broke: \"é\"")])
        self.assertRegex(document["errors"][0]["at"], r"^\d{4}-.*Z$")
        problem = self.assertProblem(self.client.get(f"/v1/jobs/{job}/result"), 502, "job-failed")
        self.assertEqual(problem["job"]["id"], job)
        self.assertEqual(problem["job"]["errors"], document["errors"])

    def test_expired(self):
        job = self.client.submit(self.queue, query="?retention=50ms")
        _, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease, b"x")
        harness.eventually(lambda: self.client.get(f"/v1/jobs/{job}").status == 410, "expiry")
        for path in ("", "/result", "/payload"):
            self.assertProblem(self.client.get(f"/v1/jobs/{job}{path}"), 410, "expired")


class Cancel(harness.Case):
    def test_waiting(self):
        for query, state in (("", "ready"), ("?delay=1h", "delayed")):
            job = self.client.submit(self.queue, query=query)
            answer = self.client.delete(f"/v1/jobs/{job}")
            self.assertEqual((answer.status, answer.json()), (200, {"id": job, "state": "cancelled"}))
            self.assertIsNone(self.client.reserve(self.queue))
            self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "cancelled")
            self.assertProblem(self.client.get(f"/v1/jobs/{job}/result"), 409, "job-cancelled")
            self.assertProblem(self.client.delete(f"/v1/jobs/{job}"), 409, "job-finished", state="cancelled")

    def test_running(self):
        job = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        answer = self.client.delete(f"/v1/jobs/{job}")
        self.assertEqual((answer.status, answer.json()["cancel_requested"]), (202, True))
        self.assertTrue(self.client.get(f"/v1/jobs/{job}").json()["cancel_requested"])
        self.assertProblem(self.client.complete(job, lease, b"late"), 409, "job-cancelled")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "cancelled")

    def test_running_until_the_lease_passes(self):
        job = self.client.submit(self.queue, query="?time-to-run=2s")
        self.client.reserve(self.queue)
        self.assertEqual(self.client.delete(f"/v1/jobs/{job}").status, 202)
        harness.eventually(lambda: self.client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled", "the end")

    def test_async_is_refused_or_not(self):
        job = self.client.submit(self.queue)
        answer = self.client.delete(f"/v1/jobs/{job}", Whilst_Commit="async")
        self.assertEqual((answer.status, answer["Whilst-Commit"]), (200, "async"))


class Curl(harness.Case):
    def curl(self, *args):
        run = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", *args], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stderr)
        body, status = run.stdout.rsplit("\n", 1)
        return int(status), body

    def test_by_hand(self):
        base = f"http://127.0.0.1:{self.server.port}"
        status, body = self.curl("-d", "hello", f"{base}/v1/queues/{self.queue}/jobs")
        self.assertEqual(status, 202)
        job = int(re.search(r'"id":\s*(\d+)', body).group(1))
        self.assertEqual(self.curl("-X", "POST", f"{base}/v1/queues/{self.queue}/reserve"), (200, "hello"))
        status, body = self.curl("-H", "Prefer: wait=0", f"{base}/v1/jobs/{job}")
        self.assertEqual(status, 200)
        status, _ = self.curl("-T", "/dev/null", "-X", "DELETE", f"{base}/v1/jobs/{job}")
        self.assertEqual(status, 202)

    def test_expect_continue(self):
        status, _ = self.curl("-H", "Expect: 100-continue", "--data-binary", "@" + harness.BINARY,
                              f"http://127.0.0.1:{self.server.port}/v1/queues/{self.queue}/jobs")
        self.assertEqual(status, 202)


if __name__ == "__main__":
    harness.main()
