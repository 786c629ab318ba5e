"""tests/integration/test_api_queues.py -- queues and services, configured, listed, removed, and there after a restart."""
import json
import subprocess

import harness


class Queues(harness.Case):
    COUNTS = ("delayed", "ready", "running", "done", "failed", "cancelled", "buried", "awaiting")

    def counts(self):
        return self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]

    def test_counters(self):
        for query in ("", "", "", "", "?delay=1h", "?priority=9", "?priority=9"):
            self.client.submit(self.queue, query=query)
        held = [self.client.reserve(self.queue) for _ in range(4)]
        self.client.complete(held[0][0], held[0][1])
        self.client.post(f"/v1/jobs/{held[1][0]}/fail?retry=false", Whilst_Lease=held[1][1])
        self.client.post(f"/v1/jobs/{held[2][0]}/bury", Whilst_Lease=held[2][1])
        self.client.delete(f"/v1/jobs/{held[2][0] + 10 ** 9}")
        document = self.client.get(f"/v1/queues/{self.queue}").json()
        self.assertEqual(document, {
            "name": self.queue, "paused": False, "submitted": 7, "time_to_run": "60s", "attempts": 5, "retention": "1h",
            "jobs_max": None, "finished_max": None, "dead": 0, "backoff": "1s", "backoff_max": "1h", "backoff_jitter": 25,
            "dead_letter": None, "concurrency": None, "rate": None, "rate_burst": None, "group_concurrency": 1, "group_rate": None, "group_rate_burst": None, "jobs": dict(zip(self.COUNTS, (1, 2, 1, 1, 1, 0, 1, 0)))})
        self.client.delete(f"/v1/jobs/{self.client.submit(self.queue)}")
        self.assertEqual(self.counts()["cancelled"], 1)
        listed = {q["name"]: q for q in self.client.get("/v1/queues").json()["queues"]}
        self.assertEqual(listed[self.queue]["submitted"], 8)

    def test_configure(self):
        path = f"/v1/queues/{self.queue}"
        answer = self.client.put(path, {"time_to_run": "5m", "attempts": 2, "retention": "2h", "jobs_max": 2,
                                        "finished_max": 7})
        self.assertEqual((answer.status, answer["Whilst-Commit"]), (201, "local"))
        self.assertEqual(answer["Location"], path)
        document = self.client.get(path).json()
        self.assertEqual([document[k] for k in ("time_to_run", "attempts", "retention", "jobs_max", "finished_max")],
                         ["5m", 2, "2h", 2, 7])
        self.assertEqual(self.client.put(path, {"attempts": 3, "jobs_max": 2}).status, 200)
        job = self.client.submit(self.queue)
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["attempts_max"], 3)
        self.client.submit(self.queue)
        full = self.client.post(f"{path}/jobs", b"x")
        self.assertProblem(full, 429, "queue-full", limit=2)
        self.assertTrue(int(full["Retry-After"]) >= 1)
        _, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/complete", Whilst_Lease=lease).status, 200)
        self.client.submit(self.queue)

    def test_bad_configuration(self):
        path = f"/v1/queues/{self.queue}"
        for body in (b"", b"{", b"{'a': 1}", b'{"attempts": 1}x', b"[" * 5000):
            with self.subTest(body):
                self.assertProblem(self.client.put(path, body), 400, "bad-json")
        for body in ([], 1, {"attempts": "3"}, {"time_to_run": 60}, {"time_to_run": "60"}, {"jobs_max": 1.5},
                     {"finished_max": "1"}, {"nonsense": 1}):
            with self.subTest(body):
                self.assertProblem(self.client.put(path, body), 400, "bad-json")
        for body in ({"attempts": 0}, {"attempts": 1001}, {"time_to_run": "0s"}, {"jobs_max": -1},
                     {"finished_max": 0}, {"finished_max": 4294967296}):
            with self.subTest(body):
                self.assertProblem(self.client.put(path, body), 422, "bad-value")
        self.assertProblem(self.client.put(path, {}, Content_Type="text/plain"), 415, "wrong-content-type")
        self.assertProblem(self.client.put(path, {}, Whilst_Commit="async"), 422, "level-unavailable")
        self.assertProblem(self.client.get(path), 404, "unknown-queue")

    def test_delete(self):
        path = f"/v1/queues/{self.queue}"
        self.assertProblem(self.client.delete(path), 404, "unknown-queue")
        job = self.client.submit(self.queue)
        self.assertProblem(self.client.delete(path), 409, "queue-not-empty")
        self.client.delete(f"/v1/jobs/{job}")
        self.assertEqual(self.client.delete(path).status, 200)
        self.assertProblem(self.client.get(path), 404, "unknown-queue")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["state"], "cancelled", "until its retention passes")

    def test_pause(self):
        path = f"/v1/queues/{self.queue}"
        for action in ("pause", "resume"):
            self.assertProblem(self.client.post(f"{path}/{action}"), 404, "unknown-queue")
        job = self.client.submit(self.queue)
        self.assertEqual(self.client.post(f"{path}/pause").status, 200)
        self.assertTrue(self.client.get(path).json()["paused"])
        self.assertIsNone(self.client.reserve(self.queue))
        self.client.submit(self.queue)
        self.assertEqual(self.client.post(f"{path}/resume").status, 200)
        self.assertEqual(self.client.reserve(self.queue)[0], job)


class Declared(harness.Case):
    ARGS = ("--queues", "declared")

    def test_unknown_is_404(self):
        self.assertProblem(self.client.post("/v1/queues/later/jobs", b"x"), 404, "unknown-queue")
        self.assertProblem(self.client.post("/v1/queues/later/reserve"), 404, "unknown-queue")
        self.assertEqual(self.client.put("/v1/queues/later", {}).status, 201)
        self.client.submit("later")
        self.assertIsNotNone(self.client.reserve("later"))


class Services(harness.Case):
    def test_life(self):
        path = "/v1/services/shop"
        self.assertProblem(self.client.get(path), 404, "unknown-service")
        self.assertProblem(self.client.delete(path), 404, "unknown-service")
        answer = self.client.put(path, {"url": "http://127.0.0.1:9/base"})
        self.assertEqual(answer.status, 201, answer)
        expected = {"name": "shop", "url": "http://127.0.0.1:9/base", "concurrency": 16, "timeout": "60s", "attempts": 3,
                    "record": False, "connect_timeout": None, "first_byte_timeout": None, "backoff": None,
                    "retry_statuses": [], "retry_post": False, "on_wait_end": "continue",
                    "breaker": {"failures": 5, "open": "5s"}, "health": None}
        self.assertEqual(answer.json(), expected)
        backend = {"url": "http://127.0.0.1:9/base", "state": "up", "outstanding": 0, "calls": 0, "failures": 0,
                   "failures_in_a_row": 0, "circuits_opened": 0, "checks": 0, "checks_failed": 0, "last_error": None}
        self.assertEqual(self.client.get(path).json(), dict(expected, backends=[backend]))
        self.assertEqual(self.client.get("/v1/services").json(), {"services": [expected], "next": None})
        changed = {"url": "http://localhost:1/", "concurrency": 2, "timeout": "1500ms", "attempts": 1, "record": True}
        self.assertEqual(self.client.put(path, changed).status, 200)
        self.assertEqual(self.client.get(path).json(),
                         {**expected, **changed, "backends": [dict(backend, url="http://localhost:1/")]})
        self.assertEqual(self.client.delete(path).status, 200)
        self.assertEqual(self.client.get("/v1/services").json(), {"services": [], "next": None})

    def test_bad(self):
        path = "/v1/services/bad"
        for body in (b"", b"[]", b'{"url": 1}', b"{}", b'{"url": "http://127.0.0.1:1", "x": 1}'):
            with self.subTest(body):
                self.assertProblem(self.client.put(path, body), 400, "bad-json")
        good = "http://127.0.0.1:1"
        for body in ({"url": "ftp://x"}, {"url": "http://"}, {"url": "http://a b"}, {"url": "http://h:99999"},
                     {"url": "http://h?x"}, {"url": good, "concurrency": 0}, {"url": good, "attempts": 0},
                     {"url": good, "timeout": "0s"}):
            with self.subTest(body):
                self.assertProblem(self.client.put(path, body), 422, "bad-value")
        self.assertProblem(self.client.get(path), 404, "unknown-service")


class Paging(harness.Case):
    """Lists of things by their names, a page at a time."""

    def make_queues(self, names):
        for first in range(0, len(names), 1000):
            answer = self.client.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": name} for name in names[first:first + 1000]]}),
                                      Content_Type="application/json")
            self.assertEqual(answer.status, 200, answer)

    def pages(self, path, what, limit=None, between=lambda: None):
        found, after = [], None
        while True:
            query = "&".join([f"limit={limit}"] * (limit is not None) + ["after=" + (after or "").replace("/", "%2F")] * (after is not None))
            answer = self.client.get(path + ("?" + query if query else ""))
            self.assertEqual(answer.status, 200, answer)
            document = answer.json()
            names = [one["name"] for one in document[what]]
            self.assertLessEqual(len(names), limit or 1000)
            found.append(names)
            after = document["next"]
            if after is None:
                return found
            self.assertEqual((after, len(names)), (names[-1], limit or 1000))
            between()


class ManyQueues(Paging):
    def test_queues(self):
        names = sorted([f"p/{i}" for i in range(2100)] + ["a", "p", "p+", "zz"])
        self.make_queues(names)
        found = self.pages("/v1/queues", "queues")
        self.assertEqual([len(page) for page in found], [1000, 1000, 104])
        self.assertEqual(sum(found, []), names)
        self.assertEqual(sum(self.pages("/v1/queues", "queues", 300), []), names)
        # the page that is full to the last is the last
        self.assertEqual([len(page) for page in self.pages("/v1/queues", "queues", 526)], [526] * 4)
        # what is made and removed meanwhile moves nothing
        fresh = iter([{"name": "a0"}, {"name": "zzz"}])
        seen = sum(self.pages("/v1/queues", "queues", 999, lambda: self.client.put(f"/v1/queues/{next(fresh)['name']}", {})), [])
        self.assertEqual(seen, names + ["zzz"])
        # the command line follows
        shown = subprocess.run([harness.BINARY, "queues", "--json", "--server", f"http://127.0.0.1:{self.server.port}"], capture_output=True, text=True, check=True, timeout=60).stdout
        document = json.loads(shown)
        self.assertEqual(([q["name"] for q in document["queues"]], document["next"]), (sorted(names + ["a0", "zzz"]), None))


class Pages(Paging):
    def test_others(self):
        for name in ("c", "a", "b+"):
            self.client.put(f"/v1/topics/{name}", {})
            self.client.put(f"/v1/services/{name}", {"url": "http://127.0.0.1:1"})
            self.client.put(f"/v1/schedules/{name}", {"every": "1h", "job": {"queue": "a"}})
        for what in ("topics", "services", "schedules"):
            self.assertEqual(self.pages(f"/v1/{what}", what), [["a", "b+", "c"]])
            self.assertEqual(self.pages(f"/v1/{what}", what, 2), [["a", "b+"], ["c"]])
            self.assertEqual(self.pages(f"/v1/{what}", what, 3), [["a", "b+", "c"]])
            self.assertEqual(self.client.get(f"/v1/{what}?after=b").json()["next"], None)
            self.assertEqual([one["name"] for one in self.client.get(f"/v1/{what}?after=b").json()[what]], ["b+", "c"])

    def test_refused(self):
        for what in ("queues", "topics", "services", "schedules"):
            for query, status, code in (("limit=0", 422, "bad-value"), ("limit=1001", 422, "bad-value"), ("limit=x", 400, "bad-request"),
                                        ("after=", 400, "bad-request"), ("after=" + "x" * 201, 400, "bad-request"), ("after=%00", 400, "bad-request"), ("from=a", 400, "bad-request")):
                self.assertProblem(self.client.get(f"/v1/{what}?{query}"), status, code)
        self.assertEqual(self.client.get("/v1/queues?limit=1", Accept="text/event-stream").status, 400)


class Restart(harness.unittest.TestCase):
    def test_all_is_there_again(self):
        server = harness.Server("--service", "flagged=http://127.0.0.1:2")
        try:
            client = server.client()
            client.put("/v1/services/kept", {"url": "http://127.0.0.1:1", "attempts": 7})
            client.put("/v1/queues/kept", {"attempts": 4})
            client.post("/v1/queues/kept/pause")
            done = client.submit("work", b"in")
            _, lease, _ = client.reserve("work")
            client.complete(done, lease, b"out", "?status=207", Content_Type="a/b")
            running = client.submit("work", b"running")
            _, lease, _ = client.reserve("work")
            client.post(f"/v1/jobs/{running}/progress", b"[7]", Whilst_Lease=lease)
            waiting = client.submit("work", b"waiting" * 300000, "?delay=1h")
            before = {job: client.get(f"/v1/jobs/{job}").json() for job in (done, running, waiting)}
            queues = client.get("/v1/queues").json()
            position = client.get("/v1/log").json()["flushed"]
            server.stop().start()
            client = server.client()
            self.assertEqual({job: client.get(f"/v1/jobs/{job}").json() for job in before}, before)
            self.assertEqual(client.get("/v1/queues").json(), queues)
            names = [s["name"] for s in client.get("/v1/services").json()["services"]]
            self.assertEqual(sorted(names), ["flagged", "kept"])
            self.assertEqual(client.get("/v1/services/kept").json()["attempts"], 7)
            answer = client.get(f"/v1/jobs/{done}/result")
            self.assertEqual((answer.status, answer["Content-Type"], answer.body), (207, "a/b", b"out"))
            self.assertEqual(client.get(f"/v1/jobs/{waiting}/payload").body, b"waiting" * 300000)
            self.assertEqual(client.complete(running, lease, b"over the restart").status, 200)
            self.assertTrue(client.get(f"/v1/log?position={position}&level=local").json()["reached"])
            self.assertGreater(client.submit("work"), waiting)
            client.close()
            server.stop()
        finally:
            server.remove()


if __name__ == "__main__":
    harness.main()
