"""tests/integration/test_replay.py -- dead letters called back and moved, and how they are chosen: docs/reference/http.md, "Many jobs of a queue"."""
import json
import subprocess
import tempfile
import unittest

import harness


class Case(harness.Case):
    def many(self, verb, query="", ids=None, queue=None):
        body = json.dumps({"ids": ids}) if ids is not None else b""
        headers = {"Content_Type": "application/json"} if ids is not None else {}
        answer = self.client.post(f"/v1/queues/{queue or self.queue}/{verb}{query}", body, **headers)
        self.assertEqual((answer.status, answer["Whilst-Commit"]), (200, "local"), answer)
        self.assertTrue(answer["Whilst-Position"])
        return answer.json()["count"]

    def fail(self, queue=None, text="it is broken", query="?retry=false"):
        job, lease, _ = self.client.reserve(queue or self.queue)
        answer = self.client.post(f"/v1/jobs/{job}/fail{query}", text, Whilst_Lease=lease)
        self.assertEqual(answer.status, 200, answer)
        return job

    def counts(self, queue=None):
        return {state: n for state, n in self.client.get(f"/v1/queues/{queue or self.queue}").json()["jobs"].items() if n}

    def look(self, job):
        return self.client.get(f"/v1/jobs/{job}").json()


class Replay(Case):
    def test_a_failed_job_is_what_it_was(self):
        job = self.client.submit(self.queue, b"in", "?priority=3&attempts=2&unique=u&group=g&time-to-run=90s", Content_Type="text/x")
        before = self.look(job)
        self.fail(text="first", query="?delay=0s")
        self.fail(text="second", query="?delay=0s")
        self.assertEqual(self.look(job)["state"], "failed")
        self.assertEqual(self.many("replay"), 1)
        after = self.look(job)
        self.assertEqual([e["message"] for e in after["errors"]], ["first", "second"])
        self.assertEqual({**after, "errors": []}, before)
        self.assertTrue(self.client.post(f"/v1/queues/{self.queue}/jobs?unique=u", b"x").json()["duplicate"])
        self.assertEqual(self.many("replay"), 0)
        reserved, lease, payload = self.client.reserve(self.queue)
        self.assertEqual((reserved, payload), (job, b"in"))
        self.client.complete(job, lease, b"out")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, b"out")
        self.assertEqual([e["message"] for e in self.look(job)["errors"]], ["first", "second"])

    def test_an_edited_one_stays_so(self):
        job = self.client.submit(self.queue, query="?attempts=1&expires=1h")
        patch = lambda value: self.client.request("PATCH", f"/v1/jobs/{job}", json.dumps(value), Content_Type="application/merge-patch+json")
        self.assertEqual(patch({"attempts_max": 2, "time_to_run": "2m", "priority": 9}).status, 200)
        self.fail()
        self.assertEqual((self.look(job)["attempts_max"], self.look(job)["time_to_run"]), (2, "2m"))
        self.assertEqual(self.many("replay"), 1)
        document = self.look(job)
        self.assertEqual((document["attempts_max"], document["time_to_run"], document["priority"], document["expires_at"]), (2, "2m", 9, None))
        self.assertEqual(patch({"attempts_max": 7}).status, 200)

    def test_dead_letters(self):
        dead = self.queue + ".dead"
        self.client.put(f"/v1/queues/{self.queue}", {"attempts": 1, "dead_letter": dead})
        jobs = [self.client.submit(self.queue) for _ in range(4)]
        for text in ("timeout", "refused", "timeout", "refused & gone"):
            self.fail(text=text, query="?delay=0s")
        own = self.client.submit(dead)
        listed = self.client.get(f"/v1/queues/{dead}/jobs?dead=true").json()["jobs"]
        self.assertEqual(sorted(j["id"] for j in listed), jobs)
        self.assertTrue(all(j["dead"] for j in listed))
        self.assertEqual(self.many("replay", "?error=refused%20%26", queue=dead), 1)
        self.assertEqual(self.look(jobs[3])["queue"], self.queue)
        self.assertIsNone(self.look(jobs[3])["dead_from"])
        self.assertEqual(self.many("replay", ids=[jobs[0], own, 1 << 52], queue=dead), 1)
        self.assertEqual(self.many("purge", "?error=refused", queue=dead), 1)
        self.assertEqual(self.many("replay", f"?to={self.queue}.other&count=5", queue=dead), 1)
        self.assertEqual(self.look(jobs[2])["queue"], self.queue + ".other")
        self.assertEqual((self.counts(), self.counts(dead)), ({"ready": 2}, {"ready": 1, "cancelled": 1}))

    def test_buried(self):
        job, lease, _ = self.client.submit(self.queue) and self.client.reserve(self.queue)
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/bury", "aside", Whilst_Lease=lease).status, 200)
        self.assertEqual(self.many("replay", "?state=failed"), 0)
        self.assertEqual(self.many("replay", "?state=buried"), 1)
        self.assertEqual((self.look(job)["state"], self.look(job)["attempts"]), ("ready", 0))

    def test_over_a_restart(self):
        with harness.Server() as server:
            self.client, client = server.client(), self.client
            jobs = [self.client.submit("q", b"x%d" % i) for i in range(20)]
            for i in range(20):
                self.fail("q", f"error {i}")
            self.assertEqual(self.many("replay", "?error=error+1".replace("+", "%20"), queue="q"), 11)
            self.assertEqual(self.many("move", "?to=z&count=5", queue="q"), 5)
            before = {job: self.look(job) for job in jobs}
            self.client.close()
            server.kill()
            server.start()
            self.client = server.client()
            self.assertEqual({job: self.look(job) for job in jobs}, before)
            self.assertEqual((self.counts("q"), self.counts("z")), ({"ready": 6, "failed": 9}, {"ready": 5}))
            self.assertEqual(self.many("replay", queue="q"), 9)
            self.assertEqual(self.client.get(f"/v1/jobs/{jobs[19]}/payload").body, b"x19")
            self.client.close()
            self.client = client


class Move(Case):
    def test_each_in_its_state(self):
        other = self.queue + ".other"
        ready, delayed = self.client.submit(self.queue, query="?priority=5"), self.client.submit(self.queue, query="?delay=1h")
        done = self.client.submit(self.queue, query="?priority=1")
        self.client.complete(*self.client.reserve(self.queue)[:2])
        before = {job: self.look(job) for job in (ready, delayed)}
        self.assertEqual(self.many("move", f"?to={other}&state=delayed"), 1)
        self.assertEqual(self.many("move", f"?to={other}"), 1)
        self.assertEqual({job: self.look(job) for job in before}, {job: {**document, "queue": other} for job, document in before.items()})
        self.assertEqual((self.look(done)["queue"], self.many("move", f"?to={other}")), (self.queue, 0))
        self.assertEqual(self.client.reserve(other)[0], ready)

    def test_refused(self):
        self.client.submit(self.queue)
        post = lambda rest, body=b"", **headers: self.client.post(f"/v1/queues/{self.queue}/{rest}", body, **headers)
        self.assertProblem(post("move"), 400, "bad-request")
        for rest in (f"move?to={self.queue}", "move?to=-x", "move?to=call%2Fx", "replay?to=topic%2Fx", "move?to=callbacks", "move?to=",
                     "move?to=x&state=failed", "replay?state=done", "replay?older=0s", "move?to=x&newer=4000d"):
            with self.subTest(rest):
                self.assertProblem(post(rest), 422, "bad-value")
        for rest in ("kick?to=x", "purge?older=5", "replay?dead=yes", "replay?error=" + "x" * 256):
            with self.subTest(rest):
                self.assertProblem(post(rest), 400, "bad-request")
        for body in (b"[]", b"{}", b'{"ids": []}', b'{"ids": [0]}', b'{"ids": ["1"]}', b'{"ids": [1], "x": 2}', b'{"ids": [9007199254740992]}',
                     b"{", json.dumps({"ids": [1] * 10001}).encode()):
            with self.subTest(body[:40]):
                self.assertProblem(post("purge", body, Content_Type="application/json"), 400, "bad-json")
        self.assertProblem(post("purge", b"1", Content_Type="text/plain"), 415, "wrong-content-type")
        self.assertProblem(self.client.post("/v1/queues/nowhere/move?to=x"), 404, "unknown-queue")
        self.assertProblem(self.client.post("/v1/queues/nowhere/replay"), 404, "unknown-queue")
        self.assertProblem(post("move?to=x", Whilst_Commit="async"), 422, "level-unavailable")
        self.assertEqual(self.counts(), {"ready": 1})
        self.assertProblem(self.client.get("/v1/queues/x"), 404, "unknown-queue")


class Scopes(unittest.TestCase):
    def test_who_may(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tokens = {}
        with open(folder.name + "/tokens", "w") as file:
            for name, scopes in (("root", ["admin"]), ("mover", ["admin:q", "submit:r"]), ("reader", ["read"])):
                made = subprocess.run([harness.BINARY, "token", name, *scopes], capture_output=True, text=True, timeout=60)
                if made.returncode != 0:
                    self.skipTest(made.stderr)  # built without OpenSSL
                file.write(made.stderr)
                tokens[name] = {"Authorization": "Bearer " + made.stdout.strip()}
        with harness.Server("--tokens", folder.name + "/tokens") as server:
            client = server.client()
            client.submit("q", **tokens["root"])
            for name, path, status in (("reader", "q/replay", 403), ("mover", "q/move?to=s", 403), ("mover", "r/move?to=q", 403),
                                       ("mover", "q/replay?to=s", 403), ("mover", "q/move?to=r", 200), ("root", "r/move?to=s", 200)):
                with self.subTest(path):
                    self.assertEqual(client.post(f"/v1/queues/{path}", **tokens[name]).status, status)
            client.close()


if __name__ == "__main__":
    harness.main()
