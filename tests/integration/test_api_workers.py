"""tests/integration/test_api_workers.py -- reserve and what a worker says about its lease: docs/reference/http.md, "Workers"."""
import base64
import threading
import time

import harness


class Reserve(harness.Case):
    def test_nothing_there(self):
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/reserve").status, 204)

    def test_answer_is_the_payload(self):
        job = self.client.submit(self.queue, b"\x00\xff data", "?time-to-run=45s", Content_Type="a/b")
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve")
        self.assertEqual((answer.status, answer.body, answer["Content-Type"]), (200, b"\x00\xff data", "a/b"))
        self.assertEqual((answer["Whilst-Job"], answer["Whilst-Attempt"], answer["Whilst-Time-To-Run"]),
                         (str(job), "1", "45s"))
        self.assertRegex(answer["Whilst-Lease"], r"^\d+\.\d+$")
        self.assertEqual(answer["Whilst-Commit"], "async")

    def test_local_claim(self):
        self.client.submit(self.queue)
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Whilst_Commit="local")
        self.assertEqual((answer.status, answer["Whilst-Commit"]), (200, "local"))

    def test_order(self):
        late = self.client.submit(self.queue, b"late", "?priority=9")
        first = [self.client.submit(self.queue, b"%d" % i, "?priority=3") for i in range(5)]
        got = [self.client.reserve(self.queue)[0] for _ in range(6)]
        self.assertEqual(got, first + [late])

    def test_several(self):
        ids = [self.client.submit(self.queue, b"p%d" % i, Content_Type="text/plain") for i in range(5)]
        jobs = self.client.post(f"/v1/queues/{self.queue}/reserve?n=3").json()["jobs"]
        self.assertEqual([j["id"] for j in jobs], ids[:3])
        self.assertEqual([base64.b64decode(j["payload"]) for j in jobs], [b"p0", b"p1", b"p2"])
        self.assertEqual({(j["attempt"], j["time_to_run"], j["content_type"]) for j in jobs}, {(1, "60s", "text/plain")})
        self.assertEqual(len(self.client.post(f"/v1/queues/{self.queue}/reserve?n=1000").json()["jobs"]), 2)
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/reserve?n=2").status, 204)
        for n in ("0", "1001"):
            self.assertProblem(self.client.post(f"/v1/queues/{self.queue}/reserve?n={n}"), 422, "bad-value")
        self.assertProblem(self.client.post(f"/v1/queues/{self.queue}/reserve?n=x"), 400, "bad-request")
        for j in jobs:
            self.assertEqual(self.client.complete(j["id"], j["lease"]).status, 200)

    def test_wait(self):
        start = time.monotonic()
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Prefer="wait=1")
        self.assertEqual((answer.status, answer["Preference-Applied"]), (204, "wait=1"))
        self.assertGreaterEqual(time.monotonic() - start, 0.99)
        got = []
        worker = threading.Thread(target=lambda: got.append(self.server.client().reserve(self.queue, Prefer="wait=20")))
        worker.start()
        job = self.client.submit(self.queue, b"woken")
        worker.join()
        self.assertEqual((got[0][0], got[0][2]), (job, b"woken"))

    def test_delayed_becomes_ready(self):
        start = time.monotonic()
        job = self.client.submit(self.queue, query="?delay=2s")
        self.assertIsNone(self.client.reserve(self.queue))
        self.assertEqual(self.client.reserve(self.queue, Prefer="wait=10")[0], job)
        self.assertGreaterEqual(time.monotonic() - start, 1.9)

    def test_lost_lease_gives_the_job_back(self):
        job = self.client.submit(self.queue, query="?time-to-run=150ms&attempts=2")
        _, old, _ = self.client.reserve(self.queue)
        again, new, _ = self.client.reserve(self.queue, Prefer="wait=10")
        self.assertEqual(again, job)
        self.assertNotEqual(old, new)
        self.assertProblem(self.client.complete(job, old), 409, "lease-lost")
        harness.eventually(lambda: self.client.get(f"/v1/jobs/{job}").json()["state"] == "failed", "the failure")
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual([e["message"] for e in document["errors"]], ["lease expired", "lease expired"])
        self.assertProblem(self.client.complete(job, new), 409, "lease-lost")


class Lease(harness.Case):
    def leased(self, query="", payload=b"x"):
        job = self.client.submit(self.queue, payload, query)
        reserved, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(reserved, job)
        return job, lease

    def act(self, job, lease, action, body=b"", **headers):
        return self.client.post(f"/v1/jobs/{job}/{action}", body, Whilst_Lease=lease, **headers)

    def test_missing_and_malformed(self):
        job, lease = self.leased()
        for action in ("complete", "fail", "release", "extend", "progress", "bury"):
            answer = self.client.post(f"/v1/jobs/{job}/{action}", b"1")
            self.assertIn("Whilst-Lease", self.assertProblem(answer, 400, "bad-request")["detail"])
            for bad in ("x", "1", "1.", ".1", "1.2.3", "-1.2", "1.99999999999999999999999"):
                self.assertProblem(self.act(job, bad, action, b"1"), 400, "bad-request")
            for lost in ("0.0", "1.999999"):
                self.assertProblem(self.act(job, lost, action, b"1"), 409, "lease-lost")
            self.assertProblem(self.act(9007199254740000, lease, action, b"1"), 404, "unknown-job")
        self.assertEqual(self.act(job, lease, "complete").status, 200)

    def test_complete_twice(self):
        job, lease = self.leased()
        self.assertEqual(self.act(job, lease, "complete", b"1").status, 200)
        self.assertProblem(self.act(job, lease, "complete", b"2"), 409, "lease-lost")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, b"1")

    def test_complete_status(self):
        job, lease = self.leased()
        for bad, status in (("199", 422), ("600", 422), ("x", 400)):
            answer = self.act(job, lease, f"complete?status={bad}")
            self.assertProblem(answer, status, "bad-value" if status == 422 else "bad-request")
        self.assertEqual(self.act(job, lease, "complete?status=418", b"tea", Content_Type="text/tea").status, 200)
        answer = self.client.get(f"/v1/jobs/{job}/result")
        self.assertEqual((answer.status, answer["Content-Type"], answer.body), (418, "text/tea", b"tea"))

    def test_fail_and_backoff(self):
        job, lease = self.leased("?attempts=2")
        before = time.time()
        answer = self.act(job, lease, "fail", b"first")
        document = answer.json()
        self.assertEqual((answer.status, document["id"], document["state"]), (200, job, "delayed"))
        self.assertRegex(document["run_at"], r"Z$")
        again, lease, _ = self.client.reserve(self.queue, Prefer="wait=10")
        self.assertGreaterEqual(time.time() - before, 0.7)
        self.assertEqual(again, job)
        self.assertEqual(self.act(job, lease, "fail", b"second").json()["state"], "failed")
        errors = self.client.get(f"/v1/jobs/{job}").json()["errors"]
        self.assertEqual([(e["attempt"], e["message"]) for e in errors], [(1, "first"), (2, "second")])

    def test_fail_at_once_or_never(self):
        job, lease = self.leased()
        self.assertEqual(self.act(job, lease, "fail?delay=0s").json()["state"], "ready")
        _, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(self.act(job, lease, "fail?retry=false", b"no").json()["state"], "failed")
        job, lease = self.leased()
        self.assertProblem(self.act(job, lease, "fail?retry=maybe"), 400, "bad-request")

    def test_error_text_is_bounded(self):
        job, lease = self.leased("?attempts=1")
        self.assertEqual(self.act(job, lease, "fail", b"e" * 10000).status, 200)
        message = self.client.get(f"/v1/jobs/{job}").json()["errors"][0]["message"]
        self.assertTrue(4000 < len(message) <= 4096, len(message))
        self.assertTrue(message.startswith("eee") and message.endswith("eee"), "its middle is left out")

    def test_ten_errors_are_kept(self):
        job = self.client.submit(self.queue, query="?attempts=12")
        for i in range(12):
            _, lease, _ = self.client.reserve(self.queue)
            self.act(job, lease, "fail?delay=0s", b"e%d" % (i + 1))
        errors = self.client.get(f"/v1/jobs/{job}").json()["errors"]
        self.assertEqual([e["message"] for e in errors], [f"e{i}" for i in range(3, 13)])

    def test_release(self):
        job, lease = self.leased()
        answer = self.act(job, lease, "release?priority=5")
        self.assertEqual((answer.status, answer.json()), (200, {"id": job, "state": "ready"}))
        document = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual((document["attempts"], document["priority"], document["errors"]), (0, 5, []))
        _, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(self.act(job, lease, "release?delay=1h").json()["state"], "delayed")
        self.assertProblem(self.act(job, lease, "release"), 409, "lease-lost")

    def test_extend(self):
        job, lease = self.leased("?time-to-run=4s")
        for _ in range(4):
            time.sleep(1.1)  # longer in all than the lease was
            answer = self.act(job, lease, "extend")
            self.assertEqual((answer.status, answer.json()["id"]), (200, job))
        answer = self.act(job, lease, "extend?by=1h")
        self.assertEqual(answer.json()["deadline"], self.client.get(f"/v1/jobs/{job}").json()["deadline"])
        self.assertEqual(self.act(job, lease, "complete").status, 200)

    def test_progress(self):
        job, lease = self.leased()
        answer = self.act(job, lease, "progress", b'{"done": 3, "of": [1, "\xc3\xa9"]}')
        self.assertEqual((answer.status, answer.json()), (200, {"id": job}))
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["progress"], {"done": 3, "of": [1, "é"]})
        problem = self.assertProblem(self.act(job, lease, "progress", b'{"done":\n 3,}'), 400, "bad-json")
        self.assertEqual(problem["line"], 2)
        self.assertProblem(self.act(job, lease, "progress", b""), 400, "bad-json")
        self.assertProblem(self.act(job, lease, "progress", b'"' + b"x" * 4096 + b'"'), 413, "too-large", limit=4096)

    def test_bury_and_kick(self):
        job, lease = self.leased()
        answer = self.act(job, lease, "bury", b"look at me")
        self.assertEqual((answer.status, answer.json()), (200, {"id": job, "state": "buried"}))
        self.assertIsNone(self.client.reserve(self.queue))
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["errors"][0]["message"], "look at me")
        answer = self.client.post(f"/v1/jobs/{job}/kick")
        self.assertEqual((answer.status, answer.json()["state"]), (200, "ready"))
        self.assertProblem(self.client.post(f"/v1/jobs/{job}/kick"), 409, "wrong-state", state="ready")
        self.assertEqual(self.client.reserve(self.queue)[0], job)
        delayed = self.client.submit(self.queue, query="?delay=1h")
        self.assertEqual(self.client.post(f"/v1/jobs/{delayed}/kick").status, 200)
        self.assertEqual(self.client.reserve(self.queue)[0], delayed)
        self.assertProblem(self.client.post("/v1/jobs/9007199254740000/kick"), 404, "unknown-job")

    def test_cancelled_worker_learns(self):
        for action in ("complete", "fail", "release", "extend", "progress", "bury"):
            job, lease = self.leased()
            self.assertEqual(self.client.delete(f"/v1/jobs/{job}").status, 202)
            self.assertProblem(self.act(job, lease, action, b"1"), 409, "job-cancelled")
            self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "cancelled", action)


if __name__ == "__main__":
    harness.main()
