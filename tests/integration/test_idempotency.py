"""tests/integration/test_idempotency.py -- Idempotency-Key: done once, answered as often as asked, over restarts, for as long as is said."""
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

import backend
import harness

NDJSON, BATCH = "application/x-ndjson", "application/vnd.whilst.batch"


class Keys(harness.Case):
    ARGS = ("--max-payload", "8MiB")

    def submit(self, key, payload=b"x", query="", **headers):
        return self.client.post(f"/v1/queues/{self.queue}/jobs{query}", payload, Idempotency_Key=key, **headers)

    def submitted(self, queue=None):
        return self.client.get(f"/v1/queues/{queue or self.queue}").json()["submitted"]

    def same(self, first, again, replayed="true"):
        self.assertEqual((again.status, again.body), (first.status, first.body))
        for name in ("Content-Type", "Location", "Whilst-Position"):
            self.assertEqual(again[name], first[name])
        self.assertEqual(again["Idempotent-Replayed"], replayed)

    def test_one_job(self):
        first = self.submit('"one"')
        self.assertEqual((first.status, first["Idempotent-Replayed"]), (202, None))
        for _ in range(3):
            self.same(first, self.submit('"one"'))
        self.assertEqual(self.submitted(), 1)
        other = self.submit('"two"')
        self.assertNotEqual(other.json()["id"], first.json()["id"])
        self.assertEqual(self.submitted(), 2)
        # what it tells is of then, whatever became of the job
        job, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease, b"done")
        self.same(first, self.submit('"one"'))
        waited = self.submit('"one"', Prefer="wait=10")
        self.assertEqual((waited.status, waited.body, waited["Idempotent-Replayed"]), (200, b"done", "true"))

    def test_another_request(self):
        self.assertEqual(self.submit("k", b"x", "?priority=5", Content_Type="a/b").status, 202)
        for payload, query, kind in ((b"y", "?priority=5", "a/b"), (b"x", "?priority=6", "a/b"), (b"x", "", "a/b"), (b"x", "?priority=5", "a/c"),
                                     (b"1\n", "?priority=5", NDJSON)):
            self.assertProblem(self.submit("k", payload, query, Content_Type=kind), 422, "key-reused")
        self.assertEqual(self.submitted(), 1)
        self.assertEqual(self.submit("k", b"x", "?priority=5", Content_Type="a/b", Whilst_Commit="async")["Idempotent-Replayed"], "true")

    def test_what_a_key_is(self):
        first = self.submit('"a b\\"c\\\\"')
        self.same(first, self.submit('"a b\\"c\\\\";source=retry'))
        plain = self.submit("abc-1_2.3:/+=~")
        self.same(plain, self.submit('"abc-1_2.3:/+=~"'))
        self.assertEqual(self.submit('"' + "x" * 255 + '"').status, 202)
        for bad in ('""', '"', '"a', 'a"', '"a"b', '"a\\b"', "a b", "a,b", '"a", "b"', "x" * 256, '"' + "x" * 256 + '"', "", "k\xe9y", '"k\xe9y"'):
            with self.subTest(key=bad[:20]):
                self.assertProblem(self.submit(bad), 400, "bad-request")
        head = f"POST /v1/queues/{self.queue}/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        answer = harness.raw(self.server.port, (head + "Idempotency-Key: a\r\nIdempotency-Key: a\r\nConnection: close\r\n\r\nx").encode())
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertEqual(self.submitted(), 3)

    def test_by_queue_and_kind(self):
        other = self.client.post(f"/v1/queues/{self.queue}-2/jobs", b"x", Idempotency_Key="k")
        mine = self.submit("k")
        self.client.put(f"/v1/topics/{self.queue}", {})
        event = self.client.post(f"/v1/topics/{self.queue}/events?type=t", b"x", Idempotency_Key="k")
        self.assertEqual((event.status, event["Idempotent-Replayed"]), (202, None))
        body = json.dumps({"actions": [{"action": "submit", "queue": self.queue, "payload": "x"}]})
        both = self.client.post("/v1/transactions", body, Idempotency_Key=self.queue)
        self.assertEqual({a["Idempotent-Replayed"] for a in (other, mine, both)}, {None})
        self.same(both, self.client.post("/v1/transactions", body, Idempotency_Key=self.queue))
        self.assertProblem(self.client.post("/v1/transactions", body + " ", Idempotency_Key=self.queue), 422, "key-reused")
        self.assertEqual(self.submitted(), 2)

    def test_batches(self):
        for kind, body in ((NDJSON, b"1\n2\n3\n"), (BATCH, b"".join(struct.pack("<I", 2) + b"ab" for _ in range(10000)))):
            first = self.submit(f'"{kind}"', body, Content_Type=kind)
            self.assertEqual(first.status, 202)
            self.same(first, self.submit(f'"{kind}"', body, Content_Type=kind))
        self.assertEqual(self.submitted(), 10003)

    def test_transactions(self):
        self.client.submit(self.queue)
        job, lease, _ = self.client.reserve(self.queue)
        body = json.dumps({"actions": [{"action": "complete", "job": job, "lease": lease}] +
                                      [{"action": "submit", "queue": f"{self.queue}-{n % 2}", "delay": "1h"} for n in range(7)]})
        first = self.client.post("/v1/transactions", body, Idempotency_Key="t" + self.queue)
        self.assertEqual(first.status, 200, first)
        # without the key the lease is lost; with it the answer is that of then
        self.same(first, self.client.post("/v1/transactions", body, Idempotency_Key="t" + self.queue))
        self.assertProblem(self.client.post("/v1/transactions", body), 409, "action-refused", action=0, cause="lease-lost")
        self.assertEqual((self.submitted(self.queue + "-0"), self.submitted(self.queue + "-1")), (4, 3))

    def test_events(self):
        path = f"/v1/topics/{self.queue}"
        self.client.put(path, {"retention": "1h"})
        self.client.put(f"{path}/subscriptions/s", {"queue": self.queue})
        core = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/a", "ce_type": "t"}
        event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "data": 1}
        asked = [lambda **more: self.client.post(f"{path}/events?type=a", b"bare", Idempotency_Key="bare", **more),
                 lambda **more: self.client.post(f"{path}/events", b"binary", Idempotency_Key="binary", **{**core, **more}),
                 lambda **more: self.client.post(f"{path}/events", b"binary", Idempotency_Key="binary", **dict(reversed(core.items())), **more),
                 lambda **more: self.client.post(f"{path}/events", json.dumps(event), Content_Type="application/cloudevents+json", Idempotency_Key="one", **more),
                 lambda **more: self.client.post(f"{path}/events", json.dumps([event, event]), Content_Type="application/cloudevents-batch+json",
                                                 Idempotency_Key="many", **more)]
        first = [ask() for ask in asked]
        self.assertEqual([a.status for a in first], [202] * 5)
        self.assertEqual(first[2]["Idempotent-Replayed"], "true")
        for answer, ask in zip(first, asked):
            self.same(answer, ask())
        for more in ({"ce_id": "2"}, {"ce_more": "2"}, {"Content_Type": "a/b"}):
            self.assertProblem(asked[1](**more), 422, "key-reused")
        self.assertProblem(self.client.post(f"{path}/events?type=b", b"bare", Idempotency_Key="bare"), 422, "key-reused")
        self.assertEqual((self.submitted(), self.client.get(path).json()["events"]), (5, 5))
        # other subscriptions, or no topic at all: the answer is that of then
        self.client.put(f"{path}/subscriptions/more", {})
        self.client.delete(f"{path}/subscriptions/s")
        for answer, ask in zip(first, asked):
            self.same(answer, ask())
        self.client.delete(f"{path}/subscriptions/more")
        self.assertEqual(self.client.delete(path).status, 200)
        for answer, ask in zip(first, asked):
            self.same(answer, ask())
        self.assertProblem(self.client.post(f"{path}/events", b"", Idempotency_Key="new"), 404, "unknown-topic")
        self.assertEqual(self.submitted(), 5)

    def test_events_of_a_transaction(self):
        path = f"/v1/topics/{self.queue}"
        self.client.put(f"{path}/subscriptions/s", {"queue": self.queue})
        body = json.dumps({"actions": [{"action": "submit", "queue": self.queue}, {"action": "publish", "topic": self.queue, "payload": "x"},
                                       {"action": "publish", "topic": self.queue, "payload": "y"}, {"action": "submit", "queue": self.queue}]})
        ask = lambda: self.client.post("/v1/transactions", body, Idempotency_Key="e" + self.queue)
        first = ask()
        self.assertEqual([r.get("jobs") for r in first.json()["results"]], [None, 1, 1, None])
        self.same(first, ask())
        self.client.delete(f"{path}/subscriptions/s")
        self.same(first, ask())
        self.assertEqual(self.submitted(), 4)

    def test_what_is_refused_is_not_kept(self):
        self.client.put(f"/v1/queues/{self.queue}", {"jobs_max": 1})
        blocker = self.client.submit(self.queue)
        self.assertProblem(self.submit("k"), 429, "queue-full")
        self.client.delete(f"/v1/jobs/{blocker}")
        self.assertEqual((self.submit("k").status, self.submitted()), (202, 2))

    def test_large_bodies(self):
        payload = os.urandom(3 * 2 ** 20)
        first = self.submit("large", payload)
        self.same(first, self.submit("large", payload))
        self.assertProblem(self.submit("large", payload[:-1] + bytes([payload[-1] ^ 1])), 422, "key-reused")
        # in chunks or not, it is the same body
        chunked = iter([payload[:1000], payload[1000:]])
        self.same(first, self.submit("large", chunked))
        small = self.submit("small", b"abc")
        self.same(small, self.submit("small", iter([b"a", b"bc"])))
        self.assertEqual(self.client.get(f"/v1/jobs/{first.json()['id']}/payload").body, payload)
        self.assertEqual(self.submitted(), 2)
        harness.eventually(lambda: len(os.listdir(self.server.data + "/blobs")) == 1, "removing what was sent again")

    def test_at_once(self):
        """Ten with one key at the same time, on connections of their own: one job."""
        answers = []

        def ask():
            client = self.server.client()
            answers.append(client.post(f"/v1/queues/{self.queue}/jobs", b"x", Idempotency_Key="k"))
            client.close()
        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({(a.status, a.body) for a in answers}, {(202, answers[0].body)})
        self.assertEqual(sorted(a["Idempotent-Replayed"] or "" for a in answers), [""] + ["true"] * 9)
        self.assertEqual(self.submitted(), 1)

    def test_pipelined(self):
        request = f"POST /v1/queues/{self.queue}/jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: p\r\nContent-Length: 1\r\n\r\nx".encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(request * 3)
            rest, answers = b"", []
            for _ in range(3):
                answer, rest = harness.read_answer(s, rest)
                answers.append(answer)
        self.assertEqual({a.body for a in answers}, {answers[0].body})
        self.assertEqual([a["Idempotent-Replayed"] for a in answers], [None, "true", "true"])

    def test_figures(self):
        self.submit("k"), self.submit("k"), self.submit("k", b"?")
        text = self.client.get("/metrics").body.decode()
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("whilst_idempotency"))
        for name in ("keys", "key_bytes", "replays_total", "misused_total"):
            self.assertGreater(int(figures["whilst_idempotency_" + name]), 0)


class Gateway(unittest.TestCase):
    def test_recorded_calls(self):
        with backend.Backend() as echo, harness.Server("--service", f"echo={echo.url}") as server:
            client = server.client()
            ask = lambda path, body=b"x", **h: client.post("/call/echo/" + path, body, Idempotency_Key='"k"', **h)
            first = ask("status/201", Prefer="respond-async")
            self.assertEqual(first.status, 202)
            again = ask("status/201", Prefer="wait=10")
            self.assertEqual((again.status, again["Whilst-Job"]), (201, str(first.json()["id"])))
            self.assertEqual(ask("status/202", Prefer="wait=10").json()["code"], "key-reused")
            self.assertEqual(ask("status/201", b"y", Prefer="wait=10").json()["code"], "key-reused")
            self.assertEqual(client.get("/v1/queues/call%2Fecho").json()["submitted"], 1)
            large = os.urandom(2 * 2 ** 20)
            jobs = [client.post("/call/echo/status/200", large, Idempotency_Key="l", Prefer="respond-async", X_Try=str(n)).json()["id"]
                    for n in range(2)]
            self.assertEqual(jobs[0], jobs[1])
            # what passes through is the backend's affair
            self.assertEqual(ask("status/204").status, 204)
            client.close()


class Kept(unittest.TestCase):
    def ask(self, client, key, payload=b"x"):
        return client.post("/v1/queues/q/jobs", payload, Idempotency_Key=key)

    def test_over_restarts(self):
        with harness.Server() as server:
            client = server.client()
            first = [self.ask(client, f"k{n}", b"%d" % n) for n in range(50)]
            for end in (server.stop, server.kill):
                client.close()
                end()
                server.start()
                client = server.client()
                again = [self.ask(client, f"k{n}", b"%d" % n) for n in range(50)]
                self.assertEqual([(a.body, a["Whilst-Position"]) for a in again], [(a.body, a["Whilst-Position"]) for a in first])
                self.assertEqual({a["Idempotent-Replayed"] for a in again}, {"true"})
            self.assertEqual(self.ask(client, "k0", b"other").status, 422)
            self.assertEqual(client.get("/v1/queues/q").json()["submitted"], 50)
            client.close()

    def test_events_over_restarts(self):
        """The subscriptions come and go; what was answered is answered again."""
        with harness.Server() as server:
            client = server.client()
            client.put("/v1/topics/t/subscriptions/s", {"queue": "q"})
            act = {"actions": [{"action": "publish", "topic": "t", "payload": "x"}, {"action": "submit", "queue": "q"}]}
            ask = lambda n: (client.post("/v1/topics/t/events", b"%d" % n, Idempotency_Key=f"k{n}"),
                             client.post("/v1/transactions", json.dumps(act), Idempotency_Key=f"t{n}"))
            first = [ask(n) for n in range(20)]
            self.assertEqual({a.status for pair in first for a in pair}, {200, 202})
            for turn, end in enumerate((server.stop, server.kill, server.stop)):
                client.put(f"/v1/topics/t/subscriptions/more{turn}", {"queue": "other"})
                client.close()
                end()
                server.start()
                client = server.client()
                again = [ask(n) for n in range(20)]
                self.assertEqual([[(a.body, a["Whilst-Position"]) for a in pair] for pair in again],
                                 [[(a.body, a["Whilst-Position"]) for a in pair] for pair in first])
                self.assertEqual({a["Idempotent-Replayed"] for pair in again for a in pair}, {"true"})
            self.assertEqual(client.get("/v1/queues/q").json()["submitted"], 60)
            self.assertEqual(client.get("/v1/queues/other").status, 200)
            self.assertEqual(client.get("/v1/queues/other").json()["submitted"], 0)
            client.close()

    def test_for_a_time(self):
        with harness.Server("--idempotency-retention", "1s") as server:
            client = server.client()
            first = self.ask(client, "k").json()["id"]
            self.assertEqual(self.ask(client, "k").json()["id"], first)
            later = harness.eventually(lambda: (job := self.ask(client, "k").json()["id"]) != first and job, "forgetting the key")
            self.assertEqual(later, first + 1)
            client.close()

    def test_so_many(self):
        with harness.Server("--idempotency-keys", "3") as server:
            client = server.client()
            first = [self.ask(client, f"k{n}").json()["id"] for n in range(3)]
            full = self.ask(client, "k3")
            self.assertEqual((full.status, full.json()["code"], full.json()["limit"], full["Retry-After"]), (503, "too-busy", 3, "1"))
            self.assertEqual([self.ask(client, f"k{n}").json()["id"] for n in range(3)], first)
            self.assertEqual(client.post("/v1/queues/q/jobs", b"x").status, 202)
            self.assertEqual(client.get("/v1/queues/q").json()["submitted"], 4)
            client.close()

    def test_each_his_own(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tokens = []
        with open(folder.name + "/tokens", "w") as file:
            for name in ("a", "b"):
                made = subprocess.run([harness.BINARY, "token", name, "submit"], capture_output=True, text=True, timeout=60)
                if made.returncode != 0:
                    self.skipTest(made.stderr)  # built without OpenSSL
                file.write(made.stderr)
                tokens.append({"Authorization": "Bearer " + made.stdout.strip()})
        with harness.Server("--tokens", folder.name + "/tokens") as server:
            client = server.client()
            ids = [client.post("/v1/queues/q/jobs", b"x", Idempotency_Key="k", **token).json()["id"] for token in tokens * 2]
            self.assertEqual((ids[0], ids[1]), (ids[2], ids[3]))
            self.assertNotEqual(ids[0], ids[1])
            client.close()


if __name__ == "__main__":
    harness.main()
