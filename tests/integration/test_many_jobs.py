"""tests/integration/test_many_jobs.py -- many jobs of a queue: purged, kicked and listed by state and id; and who may."""
import subprocess
import tempfile
import threading
import unittest

import harness


class ManyJobs(harness.Case):
    def fill(self, count, query=""):
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs{query}", b"1\n" * count, Content_Type="application/x-ndjson")
        self.assertEqual(answer.status, 202, answer)
        first = int(answer.body.split(b":")[1].split(b"}")[0])
        return list(range(first, first + count))

    def many(self, verb, query=""):
        answer = self.client.post(f"/v1/queues/{self.queue}/{verb}{query}")
        self.assertEqual((answer.status, answer["Whilst-Commit"]), (200, "local"), answer)
        self.assertTrue(answer["Whilst-Position"])
        return answer.json()["count"]

    def counts(self):
        return {state: n for state, n in self.client.get(f"/v1/queues/{self.queue}").json()["jobs"].items() if n}

    def pages(self, query=""):
        after, jobs = "", []
        while after is not None:
            answer = self.client.get(f"/v1/queues/{self.queue}/jobs?limit=300{query}{after and '&after=' + after}")
            self.assertEqual(answer.status, 200, answer)
            jobs += answer.json()["jobs"]
            after = answer.json()["next"]
        return jobs

    def test_purge(self):
        ready, delayed = self.fill(3000), self.fill(200, "?delay=1h")
        running = self.client.reserve(self.queue)
        self.assertEqual(self.many("purge", f"?state=ready&from={ready[10]}&until={ready[19]}"), 10)
        self.assertEqual(self.many("purge", "?state=delayed&count=50"), 50)
        self.assertEqual(self.counts(), {"delayed": 150, "ready": 2989, "running": 1, "cancelled": 60})
        self.assertEqual(self.many("purge"), 3139)
        self.assertEqual(self.counts(), {"running": 1, "cancelled": 3199})
        self.assertEqual(self.client.complete(*running[:2]).status, 200)
        self.assertEqual(self.client.get(f"/v1/jobs/{delayed[0]}").json()["state"], "cancelled")
        self.assertEqual(self.many("purge", "?state=cancelled"), 3199)
        self.assertEqual(self.client.get(f"/v1/jobs/{delayed[0]}").status, 410)
        self.assertEqual(self.counts(), {"done": 1})
        self.assertEqual(self.many("purge", "?state=done%2Cfailed"), 1)
        self.assertEqual(self.many("purge"), 0)

    def test_kick(self):
        self.fill(30)
        for _ in range(20):
            job, lease, _ = self.client.reserve(self.queue)
            self.assertEqual(self.client.post(f"/v1/jobs/{job}/bury", Whilst_Lease=lease).status, 200)
        self.fill(2000, "?delay=1h")
        self.assertEqual(self.many("kick", "?count=5"), 5)
        self.assertEqual(self.counts(), {"ready": 15, "buried": 15, "delayed": 2000})
        self.assertEqual(self.many("kick", "?state=delayed&count=100"), 100)
        self.assertEqual(self.many("kick"), 15)
        self.assertEqual(self.many("kick"), 1900)
        self.assertEqual(self.counts(), {"ready": 2030})

    def test_list(self):
        ready, delayed = self.fill(1000), self.fill(10, "?delay=1h&priority=7")
        job, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease)
        held = self.client.reserve(self.queue)[0]
        self.client.delete(f"/v1/jobs/{held}")
        jobs = {j["id"]: j for j in self.pages()}
        self.assertEqual(sorted(jobs), ready + delayed)
        look = lambda job: self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual(jobs[delayed[3]], {"id": delayed[3], "state": "delayed", "priority": 7, "attempts": 0,
                                            "run_at": look(delayed[3])["run_at"]})
        self.assertEqual(jobs[held], {"id": held, "state": "running", "priority": 1024, "attempts": 1, "deadline": look(held)["deadline"],
                                      "cancel_requested": True})
        self.assertEqual((jobs[job]["state"], jobs[job]["expires_at"] > look(job)["finished_at"]), ("done", True))
        self.assertEqual(sorted(j["id"] for j in self.pages("&state=delayed,running")), [held] + delayed)
        self.assertEqual(self.pages("&state=failed"), [])
        self.assertEqual(len(self.client.get(f"/v1/queues/{self.queue}/jobs").json()["jobs"]), 100)

    def test_refused(self):
        for path in ("purge", "kick"):
            self.assertProblem(self.client.post(f"/v1/queues/nowhere/{path}"), 404, "unknown-queue")
        self.assertProblem(self.client.get("/v1/queues/nowhere/jobs"), 404, "unknown-queue")
        self.fill(1)
        post = lambda rest: self.client.post(f"/v1/queues/{self.queue}/{rest}")
        for rest in ("purge?state=running", "purge?state=ready,done", "kick?state=ready", "kick?count=0",
                     "purge?from=0", "purge?state=none"):
            self.assertProblem(post(rest), 422, "bad-value")
        for rest in ("purge?limit=1", "purge?state=", "purge?state=ready,"):
            self.assertProblem(post(rest), 400, "bad-request")
        self.assertProblem(self.client.post(f"/v1/queues/{self.queue}/purge", Whilst_Commit="async"), 422, "level-unavailable")
        for query in ("limit=0", "limit=1001", "state=nothing", "after=0"):
            self.assertProblem(self.client.get(f"/v1/queues/{self.queue}/jobs?{query}"), 422, "bad-value")
        self.assertEqual(self.counts(), {"ready": 1})

    def test_others_are_served_meanwhile(self):
        for _ in range(5):
            self.fill(10000)
        answers, other = [], self.server.client()
        self.addCleanup(other.close)
        purging = threading.Thread(target=lambda: answers.append(other.post(f"/v1/queues/{self.queue}/purge")))
        purging.start()
        harness.eventually(lambda: self.counts().get("cancelled"), "the first step")
        later = self.client.submit(self.queue)
        purging.join()
        self.assertEqual(answers[0].json()["count"], 50000)
        self.assertEqual(self.counts(), {"ready": 1, "cancelled": 50000})
        self.assertEqual(self.client.get(f"/v1/jobs/{later}").json()["state"], "ready")


class Scopes(unittest.TestCase):
    def test_who_may(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tokens = {}
        with open(folder.name + "/tokens", "w") as file:
            for name, scope in (("root", "admin"), ("reader", "read:q"), ("worker", "work")):
                made = subprocess.run([harness.BINARY, "token", name, scope], capture_output=True, text=True, timeout=60)
                if made.returncode != 0:
                    self.skipTest(made.stderr)  # built without OpenSSL
                file.write(made.stderr)
                tokens[name] = {"Authorization": "Bearer " + made.stdout.strip()}
        with harness.Server("--tokens", folder.name + "/tokens") as server:
            client = server.client()
            client.submit("q", **tokens["root"])
            for name, look, change in (("root", 200, 200), ("reader", 200, 403), ("worker", 403, 403)):
                self.assertEqual(client.get("/v1/queues/q/jobs", **tokens[name]).status, look)
                self.assertEqual(client.post("/v1/queues/q/kick", **tokens[name]).status, change)
                self.assertEqual(client.post("/v1/queues/q/purge", **tokens[name]).status, change)
            client.close()


if __name__ == "__main__":
    harness.main()
