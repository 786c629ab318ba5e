"""tests/integration/test_event_keys.py -- what attributes of events say of their jobs: groups, unique keys; and events that are published twice.

Whatever hands a job over, a reservation, a replay or a push, the keys are the same ones.
"""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

import harness
from test_events import BATCH, CORE, Case, core
from test_push import Target


class Groups(Case):
    ARGS = ("--allow-private-targets", "127.0.0.1")

    def ids(self, queue, n=10):
        """(id, job, lease) of what can be leased now."""
        answer = self.client.post(f"/v1/queues/{queue}/reserve?n={n}", Accept=BATCH)
        return [(e["id"], e["whilstjob"], e["whilstlease"]) for e in answer.json()] if answer.status == 200 else []

    def test_in_order_and_one_at_a_time(self):
        queue = self.subscribe(group="partitionkey")
        shown = self.client.get(f"{self.path}/subscriptions/s").json()
        self.assertEqual((shown["group"], "unique" in shown), ("partitionkey", False))
        for i, key in enumerate("aababb"):
            self.publish(b"x", ce_id=f"{key}{i}", ce_partitionkey=key)
        self.publish(b"x", ce_id="free0")
        self.publish(b"x", ce_id="free1")
        order = []
        for _ in range(3):
            leased = self.ids(queue)
            keys = [event[0] for event, _, _ in leased if event[0] in "ab"]
            self.assertEqual(sorted(keys), ["a", "b"])
            for event, job, lease in leased:
                order.append(event)
                self.assertEqual(self.client.complete(int(job), lease).status, 200)
        self.assertEqual([e for e in order if e[0] == "a"], ["a0", "a1", "a3"])
        self.assertEqual([e for e in order if e[0] == "b"], ["b2", "b4", "b5"])
        self.assertEqual(order[2:4], ["free0", "free1"])
        self.assertEqual(self.ids(queue), [])

    def test_one_that_waits_for_its_next_attempt(self):
        queue = self.subscribe(group="subject")
        for i in range(2):
            self.publish(b"x", ce_id=str(i), ce_subject="one")
        (event, job, lease), = self.ids(queue)
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/release?delay=1h", Whilst_Lease=lease).status, 200)
        self.assertEqual((event, self.ids(queue)), ("0", []))
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/kick").status, 200)
        self.assertEqual(self.ids(queue)[0][0], "0")

    def test_any_attribute(self):
        """Of every form in which an event comes: core ones, extensions, typed ones, the content type."""
        for attribute, one, other in (("type", {"type": "a"}, {"type": "b"}), ("source", {"source": "/1"}, {"source": "/2"}), ("n", {"n": 5}, {"n": 6}),
                                      ("flag", {"flag": True}, {"flag": False}), ("datacontenttype", {"datacontenttype": "a/b"}, {"datacontenttype": "b/c"}),
                                      ("long", {"long": "x" * 300 + "1"}, {"long": "x" * 300 + "2"})):
            with self.subTest(attribute):
                queue = self.subscribe(attribute, group=attribute)
                for i, more in enumerate((one, one, other)):
                    self.structured(core(**{**more, "id": str(i)}))
                self.assertEqual([event for event, _, _ in self.ids(queue)], ["0", "2"])
                self.client.delete(f"{self.path}/subscriptions/{attribute}")

    def test_a_replay_has_the_same_groups(self):
        self.keep()
        for i in range(250):
            self.publish(b"x", ce_id=str(i), ce_k=str(i % 2), Whilst_Commit="async")
        queue = self.subscribe(group="k", **{"from": "beginning"})
        self.replayed()
        got = []
        while leased := self.ids(queue):
            self.assertEqual(len(leased), 2)
            for event, job, lease in leased:
                got.append(int(event))
                self.client.complete(int(job), lease, Whilst_Commit="async")
        self.assertEqual(got, list(range(250)))

    def test_a_target_has_the_same_groups(self):
        target = Target()
        self.addCleanup(target.stop)
        running, wrong, order, lock = set(), [], {}, threading.Lock()

        def answer(nth, headers, body):
            key, event = headers["ce-k"], int(headers["ce-id"])
            with lock:
                if key in running:
                    wrong.append(event)
                running.add(key)
                order.setdefault(key, []).append(event)
            if target.now > 1:
                target.gate.set()
            target.gate.wait(harness.DEADLINE)
            with lock:
                running.discard(key)
            return 200, {}, b""

        target.answer = answer
        queue = self.subscribe(group="k")
        self.assertEqual(self.client.put(f"/v1/queues/{queue}/target", {"url": target.url, "concurrency": 8}).status, 201)
        for i in range(60):
            self.publish(b"x", ce_id=str(i), ce_k=str(i % 3))
        harness.eventually(lambda: sum(map(len, order.values())) == 60, "all of them")
        harness.eventually(lambda: self.client.get(f"/v1/queues/{queue}").json()["jobs"]["done"] == 60, "their ends")
        self.assertEqual(wrong, [])
        self.assertEqual(order, {str(k): list(range(k, 60, 3)) for k in range(3)})


class Unique(Case):
    def test_while_it_waits(self):
        queue = self.subscribe(unique="subject", unique_while="queued")
        shown = self.client.get(f"{self.path}/subscriptions/s").json()
        self.assertEqual((shown["unique"], shown["unique_while"]), ("subject", "queued"))
        first = self.publish(b"1", ce_subject="a")
        second = self.publish(b"2", ce_subject="a", ce_id="2")
        self.assertEqual((first["jobs"], second["jobs"], second["event"], "duplicate" in second), (1, 0, None, False))
        self.assertEqual(self.publish(b"3", ce_subject="b")["jobs"], 1)
        self.assertEqual([self.publish(b"none")["jobs"] for _ in range(2)], [1, 1])  # what has no such attribute is never the same
        self.assertEqual(self.take(queue).body, b"1")
        self.assertEqual(self.publish(b"4", ce_subject="a")["jobs"], 1)
        self.assertEqual([e.get("subject") for e in self.drain(queue)], ["b", None, None, "a"])

    def test_until_it_is_done_and_for_a_time(self):
        queue = self.subscribe(unique="type")
        self.assertEqual(self.client.get(f"{self.path}/subscriptions/s").json()["unique_while"], "active")
        self.assertEqual([self.publish()["jobs"] for _ in range(2)], [1, 0])
        answer = self.take(queue)
        self.assertEqual(self.publish()["jobs"], 0)
        self.client.complete(int(answer["Whilst-Job"]), answer["Whilst-Lease"])
        self.subscribe(unique="type", unique_while="30m")
        self.assertEqual([self.publish()["jobs"] for _ in range(2)], [1, 0])
        answer = self.take(queue)
        self.client.complete(int(answer["Whilst-Job"]), answer["Whilst-Lease"])
        self.assertEqual(self.publish()["jobs"], 0)
        self.subscribe(unique=None)
        self.assertNotIn("unique", self.client.get(f"{self.path}/subscriptions/s").json())
        self.assertEqual([self.publish()["jobs"] for _ in range(2)], [1, 1])

    def test_others_get_it_and_it_is_kept(self):
        self.keep()
        one, all_ = self.subscribe("one", unique="subject"), self.subscribe("all")
        said = [self.publish(ce_id=str(i), ce_subject="a") for i in range(3)]
        self.assertEqual([s["jobs"] for s in said], [2, 1, 1])
        self.assertEqual(self.client.get(self.path).json()["events"], 3)
        self.assertEqual([e["whilstevent"] for e in self.drain(all_)], [s["event"] for s in said])
        self.assertEqual([e["id"] for e in self.drain(one)], ["0"])

    def test_a_replay_has_the_same_keys(self):
        self.keep()
        for i in range(150):
            self.publish(ce_id=str(i), ce_subject=str(i % 7))
        queue = self.subscribe(unique="subject", **{"from": "beginning"})
        self.replayed()
        self.assertEqual([e["id"] for e in self.drain(queue)], [str(i) for i in range(7)])

    def test_refused(self):
        for wrong in ({"group": "A"}, {"group": ""}, {"group": "data"}, {"group": 5}, {"unique": "a b"}, {"unique": "x" * 65}, {"unique": ["type"]},
                      {"unique": "type", "unique_while": "later"}, {"unique": "type", "unique_while": "0s"}):
            self.assertProblem(self.client.put(f"{self.path}/subscriptions/s", wrong), 422, "bad-value")
        self.assertProblem(self.client.put(f"{self.path}/subscriptions/s", {"unique_while": "1m"}), 400, "bad-json")
        self.assertProblem(self.client.get(self.path), 404, "unknown-topic")


class Duplicates(Case):
    def deduplicate(self, window="1h", retention="1h", **config):
        self.keep(retention, deduplicate=window, **config)

    def test_one_event(self):
        self.deduplicate()
        self.assertEqual(self.client.get(self.path).json()["deduplicate"], "1h")
        queue, other = self.subscribe("a"), self.subscribe("b", filters=[{"exact": {"type": "t"}}])
        first = self.publish(b"1")
        again = self.publish(b"another body")
        self.assertEqual((first["jobs"], "duplicate" in first), (2, False))
        self.assertEqual((again["jobs"], again["duplicate"], again["event"], again["id"]), (0, True, first["event"], "1"))
        for more in ({"ce_id": "2"}, {"ce_source": "/b"}, {"ce_source": "/a1", "ce_id": "11"}):
            self.assertNotIn("duplicate", self.publish(**more))
        self.assertEqual(len(self.drain(queue)), 4)
        self.assertEqual(len(self.drain(other)), 4)
        self.assertEqual(self.client.get(self.path).json()["events"], 4)
        # what is made by the server is never the same
        self.assertEqual([self.client.post(f"{self.path}/events", b"x").json()["jobs"] for _ in range(2)], [1, 1])
        # nor is that of another topic
        self.assertEqual(self.client.put(self.path + "x", {"retention": "1h", "deduplicate": "1h"}).status, 201)
        self.assertNotIn("duplicate", self.client.post(f"{self.path}x/events", b"", **CORE).json())

    def test_in_every_form(self):
        self.deduplicate()
        queue = self.subscribe()
        first = self.publish()
        self.assertEqual(self.structured(core())["event"], first["event"])
        batch = [core(id=i) for i in ("1", "2", "2", "3", "1", "3", "4")]
        answer = self.client.post(f"{self.path}/events", json.dumps(batch).encode(), Content_Type=BATCH)
        said = answer.json()["events"]
        self.assertEqual([e.get("duplicate", False) for e in said], [True, False, True, False, True, True, False])
        self.assertEqual([said[i]["event"] for i in (0, 2, 4, 5)], [first["event"], said[1]["event"], first["event"], said[3]["event"]])
        again = self.client.post(f"{self.path}/events", json.dumps(batch).encode(), Content_Type=BATCH).json()["events"]
        self.assertEqual([e["event"] for e in again], [e["event"] for e in said])
        self.assertTrue(all(e["duplicate"] for e in again))
        self.assertEqual([e["id"] for e in self.drain(queue)], ["1", "2", "3", "4"])

    def test_in_a_transaction(self):
        self.deduplicate()
        queue = self.subscribe()
        first = self.publish()
        body = {"actions": [{"action": "publish", "topic": self.topic, "event": core(id=i)} for i in ("2", "1")] +
                [{"action": "submit", "queue": self.queue, "payload": "x"}, {"action": "publish", "topic": self.topic, "event": core(id="2")}]}
        answer = self.client.post("/v1/transactions", json.dumps(body).encode(), Content_Type="application/json")
        results = answer.json()["results"]
        self.assertEqual([r.get("duplicate", False) for r in results], [False, True, False, True])
        self.assertEqual((results[1]["event"], results[3]["event"]), (first["event"], results[0]["event"]))
        self.assertEqual([e["id"] for e in self.drain(queue)], ["1", "2"])
        self.assertEqual(len(self.drain(self.queue)), 1)

    def test_long_ones(self):
        self.deduplicate()
        for n in (90, 100, 101, 150, 3000):
            long = {"ce_source": "/" + "s" * n, "ce_id": "i" * n}
            first = self.publish(**long)
            self.assertEqual(self.publish(**long)["event"], first["event"])
            self.assertNotIn("duplicate", self.publish(**{**long, "ce_id": "i" * (n - 1) + "j"}))
            self.assertNotIn("duplicate", self.publish(**{**long, "ce_source": "/" + "s" * (n - 1) + "t"}))

    def test_the_window(self):
        self.deduplicate("40ms")
        first = self.publish()
        later = harness.eventually(lambda: (lambda s: s if "duplicate" not in s else None)(self.publish()), "the window passes")
        self.assertNotEqual(later["event"], first["event"])
        self.assertEqual(self.client.put(self.path, {"retention": "1h"}).status, 200)
        self.assertNotIn("deduplicate", self.client.get(self.path).json())
        self.assertEqual(["duplicate" in self.publish() for _ in range(2)], [False, False])

    def test_what_is_not_kept_any_more(self):
        """It is known all the same, and has no position that could be told."""
        self.deduplicate(events_max=2)
        first = self.publish(ce_id="first")
        for i in range(4):
            self.publish(ce_id=str(i))
        harness.eventually(lambda: self.client.get(self.path).json()["events"] == 2, "the oldest ones go")
        again = self.publish(ce_id="first")
        self.assertEqual((again["duplicate"], again["jobs"]), (True, 0))
        self.assertIn(again["event"], (first["event"], None))

    def test_a_queue_that_is_full(self):
        """A duplicate needs no room, so that whoever publishes again learns that it is there."""
        self.deduplicate()
        queue = self.subscribe()
        self.client.put(f"/v1/queues/{queue}", {"jobs_max": 1})
        first = self.publish()
        self.assertProblem(self.client.post(f"{self.path}/events", b"", **{**CORE, "ce_id": "2"}), 429, "queue-full")
        self.assertEqual(self.publish()["event"], first["event"])
        self.drain(queue)
        # what was refused was not published, and is no duplicate then
        self.client.put(f"/v1/queues/{queue}", {"jobs_max": 5})
        self.assertNotIn("duplicate", self.publish(ce_id="2"))

    def test_under_a_key(self):
        self.deduplicate()
        first = self.publish()
        with_key = [self.publish(Idempotency_Key="k") for _ in range(2)]
        self.assertEqual(with_key[0], with_key[1])
        self.assertEqual((with_key[0]["event"], with_key[0]["duplicate"]), (first["event"], True))
        batch = json.dumps([core(id=i) for i in ("1", "7", "7", "1")]).encode()
        answers = [self.client.post(f"{self.path}/events", batch, Content_Type=BATCH, Idempotency_Key="b").json() for _ in range(2)]
        self.assertEqual(answers[0], answers[1])
        self.assertEqual([e.get("duplicate", False) for e in answers[0]["events"]], [True, False, True, True])
        # also when its topic has gone
        self.assertEqual(self.client.delete(self.path).status, 200)
        self.assertEqual(self.publish(Idempotency_Key="k"), with_key[0])

    def test_a_subscription_later(self):
        self.deduplicate()
        said = [self.publish(ce_id=i) for i in "1213"]
        queue = self.subscribe(**{"from": "beginning"})
        self.replayed()
        self.assertEqual([e["whilstevent"] for e in self.drain(queue)], [said[i]["event"] for i in (0, 1, 3)])
        self.assertEqual(self.publish(ce_id="2")["jobs"], 0)

    def test_refused(self):
        for wrong in ({"deduplicate": "1m"}, {"deduplicate": "2m", "retention": "1m"}, {"retention": "1h", "deduplicate": "9999d"}):
            problem = self.assertProblem(self.client.put(self.path, wrong), 422, "bad-value")
            self.assertIn("deduplicate", problem["detail"])
        for wrong in ({"retention": "1h", "deduplicate": 5}, {"retention": "1h", "deduplicate": "soon"}):
            self.assertProblem(self.client.put(self.path, wrong), 400, "bad-json")
        self.assertEqual(self.client.put(self.path, {"retention": "1h", "deduplicate": "0s"}).status, 201)
        self.assertNotIn("deduplicate", self.client.get(self.path).json())

    def test_figures(self):
        def figures():
            lines = self.client.get("/metrics").body.decode().splitlines()
            return [int(next(l for l in lines if l.startswith(f"whilst_events_{w}_total ")).split()[1]) for w in ("published", "duplicate")]

        self.deduplicate()
        before = figures()
        for _ in range(3):
            self.publish(Idempotency_Key="f")
            self.publish()
        self.assertEqual([b - a for a, b in zip(before, figures())], [1, 3])

    def test_on_the_command_line(self):
        self.deduplicate()

        def publish():
            return subprocess.run([harness.BINARY, "publish", self.topic, "--event-type", "t", "--id", "1", "--source", "/c", "--json", "--server",
                                   f"http://127.0.0.1:{self.server.port}", os.devnull], capture_output=True, text=True, check=True, timeout=60).stdout

        self.subscribe()
        self.assertEqual([json.loads(publish()).get("duplicate", False) for _ in range(2)], [False, True])
        for i, key in enumerate("aab"):
            self.publish(b"x", ce_id=f"g{i}", ce_k=key)
        done = subprocess.run([harness.BINARY, "subscribe", self.topic, "--name", "cli", "--from", "beginning", "--group", "k", "--unique", "k",
                               "--unique-while", "10m", "--exit-when-empty", "--server", f"http://127.0.0.1:{self.server.port}", "--",
                               "sh", "-c", "echo $CE_ID $CE_K"], capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        shown = self.client.get(f"{self.path}/subscriptions/cli").json()
        self.assertEqual((shown["group"], shown["unique"], shown["unique_while"]), ("k", "k", "10m"))
        for wrong in (["--unique-while", "10m"], ["--unique", "k", "--unique-while", "x"]):
            done = subprocess.run([harness.BINARY, "subscribe", self.topic, *wrong, "--", "true"], capture_output=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 2)


class AcrossRestarts(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="whilst-test-"))
        self.addCleanup(shutil.rmtree, self.folder, True)

    def publish(self, client, **more):
        answer = client.post("/v1/topics/t/events", b"x", **{**CORE, **more})
        self.assertEqual(answer.status, 202, answer)
        return answer.json()

    def fill(self, client):
        self.assertEqual(client.put("/v1/topics/t", {"retention": "1h", "deduplicate": "1h"}).status, 201)
        self.assertEqual(client.put("/v1/topics/t/subscriptions/s", {"group": "k", "unique": "u"}).status, 201)
        return [self.publish(client, ce_id=str(i), ce_k="one") for i in range(5)] + [self.publish(client, ce_id="u", ce_u="same")]

    def check(self, client, said):
        again = [self.publish(client, ce_id=str(i), ce_k="one") for i in range(5)]
        if said:
            self.assertEqual([e["event"] for e in again], [e["event"] for e in said[:5]])
        self.assertTrue(all(e["duplicate"] and e["jobs"] == 0 for e in again), again)
        self.assertEqual(self.publish(client, ce_id="u2", ce_u="same")["jobs"], 0)

    def test_known_over_kills_and_clean_ends(self):
        with harness.Server() as server:
            client = server.client()
            said = self.fill(client)
            for kill in (True, False, True):
                client.close()
                (server.kill if kill else server.stop)()
                server.start()
                client = server.client()
                self.check(client, said)
            leased = client.post("/v1/queues/t%2Fs/reserve?n=10").json()["jobs"]
            self.assertEqual([j["headers"]["ce-id"] for j in leased], ["0", "u"])
            client.close()

    def test_export_and_import(self):
        data, other, lines = self.folder / "data", self.folder / "other", self.folder / "lines"
        with harness.Server(data=str(data)) as server:
            client = server.client()
            self.fill(client)
            client.close()
        with open(lines, "wb") as file:
            subprocess.run([harness.BINARY, "log", "export", str(data)], stdout=file, check=True, timeout=60)
        done = subprocess.run([harness.BINARY, "import", "jobs", str(lines), "--data", str(other)], capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        with harness.Server(data=str(other)) as server:
            client = server.client()
            self.assertEqual(client.get("/v1/topics/t").json()["deduplicate"], "1h")
            self.check(client, None)
            stream = client.post("/v1/topics/t/subscriptions/s/replay")
            self.assertEqual(stream.status, 202)
            leased = client.post("/v1/queues/t%2Fs/reserve?n=10").json()["jobs"]
            self.assertEqual(leased[0]["headers"]["ce-id"], "0")
            client.close()


if __name__ == "__main__":
    harness.main()
