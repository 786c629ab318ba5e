"""tests/integration/test_api_policy.py -- what queues do with jobs, asked for over HTTP: pauses between attempts, dead letters, expiry,
limits, unique keys and groups; refused with the value named; there after a restart."""
import datetime
import json
import threading
import time

import harness


class Policies(harness.Case):
    def configure(self, queue=None, **members):
        answer = self.client.put(f"/v1/queues/{queue or self.queue}", members)
        self.assertIn(answer.status, (200, 201), answer)

    def view(self, queue=None):
        return self.client.get(f"/v1/queues/{queue or self.queue}").json()

    def fail_job(self, held, query="", text=b"broken"):
        return self.client.post(f"/v1/jobs/{held[0]}/fail{query}", text, Whilst_Lease=held[1])

    def test_defaults(self):
        self.configure()
        view = self.view()
        self.assertEqual({k: view[k] for k in ("backoff", "backoff_max", "backoff_jitter", "dead_letter", "concurrency",
                                               "rate", "rate_burst", "group_concurrency", "group_rate", "group_rate_burst", "dead")},
                         {"backoff": "1s", "backoff_max": "1h", "backoff_jitter": 25, "dead_letter": None,
                          "concurrency": None, "rate": None, "rate_burst": None, "group_concurrency": 1, "group_rate": None,
                          "group_rate_burst": None, "dead": 0})

    def test_configuration_is_shown_and_stays(self):
        given = {"backoff": ["1s", "10s", "60s"], "backoff_jitter": 0, "dead_letter": "graves/1", "concurrency": 7,
                 "rate": "100/s", "rate_burst": 5, "group_concurrency": 3, "group_rate": "7/m", "group_rate_burst": 2}
        self.configure(**given)
        self.configure("second", backoff="2s", backoff_max="5s", rate="3/250ms")
        self.configure("third", rate="60/m", dead_letter=None, concurrency=None, rate_burst=None)
        for restart in (False, True):
            if restart:
                self.server.stop()
                self.server.start()
                self.client = harness.Client(self.server.port)
            view = self.view()
            self.assertEqual({k: view[k] for k in given}, given)
            self.assertIsNone(view["backoff_max"])
            second, third = self.view("second"), self.view("third")
            self.assertEqual((second["backoff"], second["backoff_max"], second["rate"], second["rate_burst"]),
                             ("2s", "5s", "3/250ms", 3))
            self.assertEqual((third["rate"], third["concurrency"]), ("60/m", None))
            self.assertEqual(self.client.get("/v1/queues/graves%2F1").status, 200)

    def test_bad_configuration(self):
        path = f"/v1/queues/{self.queue}"
        for body in ({"backoff": 5}, {"backoff": ["x"]}, {"backoff": [1]}, {"backoff_max": "9"}, {"backoff_jitter": "5"},
                     {"dead_letter": 5}, {"concurrency": "3"}, {"rate": 5}, {"rate_burst": "1"}, {"group_concurrency": 1.5},
                     {"group_rate": 1}, {"group_rate_burst": "3"}):
            with self.subTest(body):
                answer = self.client.put(path, body)
                self.assertProblem(answer, 400, "bad-json")
                self.assertIn(list(body)[0], answer.json()["detail"])
        for body in ({"backoff": "0s"}, {"backoff": []}, {"backoff": ["1s"] * 17}, {"backoff": ["31d"]}, {"backoff": "367d"},
                     {"backoff_jitter": 101}, {"backoff_jitter": -1}, {"dead_letter": ""}, {"dead_letter": "-no"},
                     {"dead_letter": "call/shop"}, {"dead_letter": "callbacks"}, {"dead_letter": "topic/t"},
                     {"dead_letter": self.queue}, {"concurrency": 0},
                     {"concurrency": 4294967296}, {"rate": "100"}, {"rate": "0/s"}, {"rate": "1/2d"}, {"rate": "1000001/s"},
                     {"rate": "1/s/"}, {"rate": "1/500us"}, {"rate_burst": 0, "rate": "1/s"}, {"rate_burst": 4},
                     {"rate": "1/d", "rate_burst": 1000000}, {"group_concurrency": 0},
                     {"group_rate": "1/x"}, {"group_rate": "1/d", "group_rate_burst": 1000000}, {"group_rate_burst": 4}):
            with self.subTest(body):
                answer = self.client.put(path, body)
                self.assertProblem(answer, 422, "bad-value")
                self.assertTrue(any(name in answer.json()["detail"] for name in body), answer)
        self.assertProblem(self.client.put(path, {"backoff": ["1s"], "backoff_max": "5s"}), 422, "bad-value")
        self.assertProblem(self.client.get(path), 404, "unknown-queue")

    def test_backoff(self):
        self.configure(backoff=["20s", "40s"], backoff_jitter=0)
        job = self.client.submit(self.queue)
        for pause in (20, 40, 40):
            before = time.time()
            answer = self.fail_job(self.client.reserve(self.queue))
            self.assertEqual(answer.json()["state"], "delayed")
            run_at = datetime.datetime.fromisoformat(answer.json()["run_at"].replace("Z", "+00:00")).timestamp()
            self.assertTrue(before + pause - 2 < run_at < time.time() + pause + 2, answer)
            self.assertEqual(self.client.post(f"/v1/jobs/{job}/kick").status, 200)

    def test_dead_letter(self):
        self.configure(attempts=2, dead_letter="dead")
        job = self.client.submit(self.queue, b"payload", Content_Type="text/x-letter")
        self.assertEqual(self.fail_job(self.client.reserve(self.queue), "?delay=0s", b"first").json()["state"], "ready")
        answer = self.fail_job(self.client.reserve(self.queue), "", b"second")
        self.assertEqual(answer.json(), {"id": job, "state": "ready", "run_at": None, "dead": True})
        for restart in (False, True):
            if restart:
                self.server.kill()
                self.server.start()
                self.client = harness.Client(self.server.port)
            document = self.client.get(f"/v1/jobs/{job}").json()
            self.assertEqual((document["queue"], document["dead_from"], document["state"], document["attempts"]),
                             ("dead", self.queue, "ready", 0))
            self.assertEqual([e["message"] for e in document["errors"]], ["first", "second"])
            self.assertEqual((self.view()["dead"], self.view("dead")["jobs"]["ready"]), (1, 1))
            payload = self.client.get(f"/v1/jobs/{job}/payload")
            self.assertEqual((payload.body, payload["Content-Type"]), (b"payload", "text/x-letter"))
        self.assertIn("whilst_jobs_dead_total", self.client.get("/metrics").body.decode())
        self.assertProblem(self.client.put("/v1/queues/dead", {"dead_letter": self.queue}), 422, "bad-value")
        held = self.client.reserve("dead")
        self.assertEqual((held[0], held[2]), (job, b"payload"))
        self.client.complete(held[0], held[1], b"buried with honours")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, b"buried with honours")
        self.assertProblem(self.client.delete("/v1/queues/dead"), 409, "wrong-state")
        self.configure()
        self.assertEqual(self.client.delete("/v1/queues/dead").status, 200)

    def test_expires(self):
        job = self.client.submit(self.queue, query="?expires=1ms")
        document = self.client.get(f"/v1/jobs/{job}", Prefer="wait=30").json()
        self.assertEqual((document["state"], document["attempts"]), ("failed", 0))
        self.assertEqual([e["message"] for e in document["errors"]], ["expired"])
        past = self.client.submit(self.queue, query="?expires-at=2001-01-01T00:00:00Z")
        other = self.client.submit(self.queue, query="?expires=1h")
        self.assertIsNotNone(self.client.get(f"/v1/jobs/{other}").json()["expires_at"])
        self.assertEqual(self.client.reserve(self.queue)[0], other)
        self.assertIsNone(self.client.get(f"/v1/jobs/{other}").json()["expires_at"])
        self.assertEqual(self.client.get(f"/v1/jobs/{past}").json()["state"], "failed")
        self.assertProblem(self.client.get(f"/v1/jobs/{past}/result"), 502, "job-failed")

    def test_concurrency_and_who_waits(self):
        self.configure(concurrency=1)
        first, second = self.client.submit(self.queue), self.client.submit(self.queue)
        held = self.client.reserve(self.queue)
        self.assertEqual(held[0], first)
        self.assertIsNone(self.client.reserve(self.queue))
        got = []
        other = harness.Client(self.server.port)
        waiting = threading.Thread(target=lambda: got.append(other.reserve(self.queue, Prefer="wait=60")))
        waiting.start()
        # whether it waits already does not matter: it gets the job in any case
        self.client.complete(held[0], held[1])
        waiting.join()
        self.assertEqual(got[0][0], second)
        other.close()

    def test_rate(self):
        self.configure(rate="1/h", rate_burst=2)
        for _ in range(4):
            self.client.submit(self.queue)
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve?n=10").json()
        self.assertEqual(len(answer["jobs"]), 2)
        self.server.kill()
        self.server.start()
        self.client = harness.Client(self.server.port)
        self.assertIsNone(self.client.reserve(self.queue))
        self.configure(rate="1000/s")
        self.assertIsNotNone(self.client.reserve(self.queue, Prefer="wait=30"))

    def test_group_rate(self):
        self.configure(group_rate="2/h", group_concurrency=10)
        path = f"/v1/queues/{self.queue}"
        ids = {group: [self.client.post(f"{path}/jobs?group={group}", b"x").json()["id"] for _ in range(3)] for group in "ab"}
        plain = self.client.submit(self.queue)
        jobs = self.client.post(f"{path}/reserve?n=10").json()["jobs"]
        self.assertEqual([j["id"] for j in jobs], ids["a"][:2] + ids["b"][:2] + [plain])
        for job in jobs:
            self.client.complete(job["id"], job["lease"])
        # neither an end, nor a restart, nor that the group has been empty meanwhile
        self.client.delete(f"/v1/jobs/{ids['a'][2]}")
        self.assertIsNone(self.client.reserve(self.queue))
        self.server.kill()
        self.server.start()
        self.client = harness.Client(self.server.port)
        again = self.client.post(f"{path}/jobs?group=a", b"x").json()["id"]
        self.assertIsNone(self.client.reserve(self.queue))
        self.configure(group_rate="1/250ms", group_concurrency=10)
        self.assertEqual({self.client.reserve(self.queue)[0] for _ in "ab"}, {ids["b"][2], again})
        last = self.client.post(f"{path}/jobs?group=a", b"x").json()["id"]
        self.assertEqual(self.client.reserve(self.queue, Prefer="wait=30")[0], last)

    def test_unique(self):
        path = f"/v1/queues/{self.queue}/jobs"
        first = self.client.post(f"{path}?unique=order-7", b"one")
        self.assertEqual(first.status, 202)
        job = first.json()["id"]
        self.assertNotIn("duplicate", first.json())
        for restart in (False, True):
            if restart:
                self.server.kill()
                self.server.start()
                self.client = harness.Client(self.server.port)
            again = self.client.post(f"{path}?unique=order-7", b"two")
            self.assertEqual((again.status, again["Location"]), (200, f"/v1/jobs/{job}"))
            document = again.json()
            self.assertEqual((document["id"], document["duplicate"], document["state"]), (job, True, "ready"))
            self.assertEqual(self.view()["submitted"], 1)
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["unique"], "order-7")
        self.assertEqual(self.client.post("/v1/queues/other/jobs?unique=order-7", b"").status, 202)
        # who waits gets the result of the job that has the key
        held = self.client.reserve(self.queue)
        self.assertEqual(held[2], b"one")
        pending = self.client.post(f"{path}?unique=order-7", b"three", Prefer="wait=0")
        self.assertEqual((pending.status, pending.json()["duplicate"]), (202, True))
        self.client.complete(held[0], held[1], b"done")
        self.assertEqual(self.client.post(f"{path}?unique=order-7", b"four").status, 202)

    def test_unique_scopes(self):
        path = f"/v1/queues/{self.queue}/jobs"
        queued = self.client.post(f"{path}?unique=q&unique-while=queued").json()["id"]
        self.assertEqual(self.client.post(f"{path}?unique=q").status, 200)
        self.client.reserve(self.queue)
        self.assertNotEqual(self.client.post(f"{path}?unique=q").json()["id"], queued)
        timed = self.client.post(f"{path}?unique=t&unique-while=1h").json()["id"]
        self.client.delete(f"/v1/jobs/{timed}")
        self.assertEqual(self.client.post(f"{path}?unique=t").json()["id"], timed)
        short = self.client.post(f"{path}?unique=s&unique-while=1ms").json()["id"]
        deadline = time.monotonic() + 30
        while self.client.post(f"{path}?unique=s&unique-while=1ms").json()["id"] == short:
            self.assertTrue(time.monotonic() < deadline)
        forgotten = self.client.post(f"{path}?unique=f&unique-while=1h&retention=0s").json()["id"]
        self.client.delete(f"/v1/jobs/{forgotten}")
        answer = self.client.post(f"{path}?unique=f")
        self.assertEqual((answer.status, answer.json()["id"], answer.json()["state"]), (200, forgotten, None))
        self.assertProblem(self.client.post(f"{path}?unique=f", Prefer="wait=1"), 410, "expired")

    def test_unique_large(self):
        path = f"/v1/queues/{self.queue}/jobs?unique=large&group=g"
        body = bytes(3 << 20)
        first = self.client.post(path, body)
        self.assertEqual(first.status, 202)
        again = self.client.post(path, body)
        self.assertEqual((again.status, again.json()["id"]), (200, first.json()["id"]))
        document = self.client.get(f"/v1/jobs/{first.json()['id']}").json()
        self.assertEqual((document["unique"], document["group"]), ("large", "g"))

    def test_groups(self):
        first = self.client.submit(self.queue, query="?group=a&priority=9")
        second = self.client.submit(self.queue, query="?group=a&priority=1")
        other = self.client.submit(self.queue, query="?group=b&priority=5")
        held = {j: self.client.reserve(self.queue) for j in (other, first)}
        self.assertEqual({j: h[0] for j, h in held.items()}, {other: other, first: first})
        self.assertIsNone(self.client.reserve(self.queue))
        self.assertEqual(self.fail_job(held[first], "?delay=1h").json()["state"], "delayed")
        self.assertIsNone(self.client.reserve(self.queue))
        self.server.kill()
        self.server.start()
        self.client = harness.Client(self.server.port)
        self.assertIsNone(self.client.reserve(self.queue))
        self.client.delete(f"/v1/jobs/{first}")
        self.assertEqual(self.client.reserve(self.queue)[0], second)
        self.assertEqual(self.client.get(f"/v1/jobs/{second}").json()["group"], "a")

    def test_groups_of_a_batch(self):
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs?group=a&expires=1h", b"1\n2\n3\n",
                                  Content_Type="application/x-ndjson")
        self.assertEqual(answer.status, 202)
        ids = [json.loads(line)["id"] for line in answer.body.splitlines()]
        self.assertEqual(len(self.client.post(f"/v1/queues/{self.queue}/reserve?n=10").json()["jobs"]), 1)
        self.configure(group_concurrency=2)
        jobs = self.client.post(f"/v1/queues/{self.queue}/reserve?n=10").json()["jobs"]
        self.assertEqual([j["id"] for j in jobs], [ids[1]])

    def test_bad_submits(self):
        path = f"/v1/queues/{self.queue}/jobs"
        for query, status, code in (("unique=", 422, "bad-value"), ("group=", 422, "bad-value"),
                                    ("unique=" + "k" * 201, 422, "bad-value"), ("group=" + "k" * 201, 422, "bad-value"),
                                    ("unique=" + "k" * 300, 400, "bad-request"), ("group=a%0Ab", 400, "bad-request"), ("unique-while=1h", 400, "bad-request"),
                                    ("unique=k&unique-while=sometimes", 422, "bad-value"),
                                    ("unique=k&unique-while=0s", 422, "bad-value"), ("expires=0s", 422, "bad-value"),
                                    ("expires=5", 400, "bad-request"), ("expires-at=now", 400, "bad-request"),
                                    ("expires=1s&expires-at=2030-01-01T00:00:00Z", 400, "bad-request")):
            with self.subTest(query):
                self.assertProblem(self.client.post(f"{path}?{query}", b"x"), status, code)
        self.assertProblem(self.client.post(f"{path}?unique=k", b"1\n2\n", Content_Type="application/x-ndjson"),
                           400, "bad-request")
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}"), 404, "unknown-queue")

    def test_transaction(self):
        actions = [{"action": "submit", "queue": self.queue, "payload": "x", "unique": "k", "group": "g"},
                   {"action": "submit", "queue": self.queue, "payload": "y", "unique": "k", "expires": "1h"},
                   {"action": "submit", "queue": self.queue, "payload": "z", "unique": "t", "unique_while": "1h"}]
        answer = self.client.post("/v1/transactions", json.dumps({"actions": actions}), Content_Type="application/json")
        self.assertEqual(answer.status, 200, answer)
        results = answer.json()["results"]
        self.assertEqual((results[1]["id"], results[1]["duplicate"]), (results[0]["id"], True))
        self.assertNotIn("duplicate", results[2])
        for wrong in ({"unique": ""}, {"group": "k" * 201}, {"unique_while": "1h"}, {"unique": "k", "unique_while": "x"},
                      {"expires": "1s", "expires_at": "2030-01-01T00:00:00Z"}):
            with self.subTest(wrong):
                body = json.dumps({"actions": [{"action": "submit", "queue": self.queue, "payload": "x", **wrong}]})
                refused = self.client.post("/v1/transactions", body, Content_Type="application/json")
                self.assertIn(refused.status, (400, 422), refused)
                self.assertIn(list(wrong)[-1], refused.json()["detail"])


if __name__ == "__main__":
    harness.main()
