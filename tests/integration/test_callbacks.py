"""tests/integration/test_callbacks.py -- whoever submits a job can be told of its end: signed messages (Standard Webhooks), and crashes in between."""
import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import unittest

import backend
import harness
from test_push import Target

SECRETS = ["whsec_" + base64.b64encode(bytes([i]) * 24).decode() for i in range(1, 4)]


class Receiver(Target):
    """A target that knows messages by webhook-id instead of by job."""

    def take(self, path, headers, body):
        with self.lock:
            self.seen.append((path, headers, body))
            nth = sum(1 for _, other, _ in self.seen if other["webhook-id"] == headers["webhook-id"])
        return self.answer(nth, headers, body)

    def messages(self):
        """One for each message, however often it came: (headers, document)."""
        with self.lock:
            return {headers["webhook-id"]: (headers, json.loads(body)) for _, headers, body in self.seen}


def is_signed(headers, body, secret):
    key = base64.b64decode(secret[len("whsec_"):])
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(wanted, one) for one in headers["webhook-signature"].split(" "))


class Callbacks(unittest.TestCase):
    ALLOWED = ("--allow-private-targets", "127.0.0.0/8")

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="whilst-secrets-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.file = os.path.join(self.folder, "secrets")
        self.write(SECRETS[:1])
        self.receiver = Receiver()
        self.server = harness.Server("--callback-secrets", self.file, *self.ALLOWED)
        self.client = self.server.client()
        self.url = f"http://127.0.0.1:{self.receiver.port}/done?of=1"

    def tearDown(self):
        self.client.close()
        self.receiver.stop()
        if self.server.process:
            self.server.stop()
        self.server.remove()

    def write(self, secrets):
        with open(self.file + ".new", "w", encoding="utf-8") as f:
            f.write("# of the shop\n\n" + "".join(secret + "\n" for secret in secrets))
        os.rename(self.file + ".new", self.file)

    def restart_after_kill(self):
        self.client.close()
        self.server.kill()
        self.server.start()
        self.client = self.server.client()

    def submit(self, queue="q", query="", **headers):
        headers.setdefault("Whilst_Callback", self.url)
        return self.client.submit(queue, b"x", query, **headers)

    def complete(self, job, result=b"made", query=""):
        got, lease, _ = self.client.reserve("q", Prefer="wait=20")
        self.assertEqual(got, job)
        self.assertEqual(self.client.complete(job, lease, result, query, Content_Type="text/x").status, 200)

    def one(self):
        """The message that has come, and the only one."""
        messages = harness.eventually(self.receiver.messages, "the callback")
        self.assertEqual(len(messages), 1)
        return list(messages.values())[0]

    def jobs(self, queue):
        return self.client.get("/v1/queues/" + queue.replace("/", "%2F")).json()["jobs"]


class Messages(Callbacks):
    def test_done(self):
        job = self.submit()
        self.assertEqual(self.jobs("callbacks/pending")["ready"], 1)
        self.complete(job, query="?status=201")
        headers, document = self.one()
        path, _, body = self.receiver.seen[0]
        self.assertEqual((path, headers["Content-Type"]), ("/done?of=1", "application/json"))
        self.assertTrue(is_signed(headers, body, SECRETS[0]))
        self.assertFalse(is_signed(headers, body, SECRETS[1]))
        self.assertFalse(is_signed(headers, body + b" ", SECRETS[0]))
        self.assertNotIn(".", headers["webhook-id"])
        self.assertLess(abs(int(headers["webhook-timestamp"]) - time.time()), 120)
        view = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual(document, {"type": "job.done", "timestamp": view["finished_at"],
                                    "data": {"id": job, "state": "done", "queue": "q", "attempts": 1,
                                             "finished_at": view["finished_at"],
                                             "result": {"url": f"/v1/jobs/{job}/result", "status": 201, "bytes": 4,
                                                        "content_type": "text/x"}}})
        harness.eventually(lambda: self.jobs("callbacks")["done"] == 1, "the receiver's word")
        self.assertEqual(self.jobs("callbacks/pending")["ready"], 0)

    def test_failed(self):
        job = self.submit(query="?attempts=1")
        got, lease, _ = self.client.reserve("q")
        self.client.post(f"/v1/jobs/{got}/fail", b"no luck", Whilst_Lease=lease)
        _, document = self.one()
        self.assertEqual((document["type"], document["data"]["id"], document["data"]["error"]), ("job.failed", job, "no luck"))

    def test_cancelled(self):
        job = self.submit()
        self.client.delete(f"/v1/jobs/{job}")
        self.assertEqual(self.one()[1]["type"], "job.cancelled")

    def test_not_kept(self):
        """A job that is forgotten as soon as it is finished is told of all the same."""
        job = self.submit(query="?retention=0s")
        self.complete(job)
        _, document = self.one()
        self.assertEqual((document["type"], document["data"]["id"], document["data"]["state"]), ("job.done", job, "done"))

    def test_in_the_query(self):
        job = self.client.submit("q", b"x", f"?callback=http%3A%2F%2F127.0.0.1%3A{self.receiver.port}")
        self.complete(job)
        self.one()
        self.assertEqual(self.receiver.seen[0][0], "/")

    def test_large_payload(self):
        answer = self.client.post("/v1/queues/q/jobs", b"z" * (3 << 20), Whilst_Callback=self.url)
        self.complete(answer.json()["id"])
        self.assertEqual(self.one()[1]["data"]["id"], answer.json()["id"])

    def test_gateway(self):
        target = backend.Backend()
        try:
            self.client.put("/v1/services/s", {"url": target.url})
            answer = self.client.post("/call/s/x", b"y", Whilst_Callback=self.url)
            self.assertEqual(answer.status, 202, "who wants to be called back does not wait")
            _, document = self.one()
            self.assertEqual((document["data"]["id"], document["data"]["queue"]), (answer.json()["id"], "call/s"))
            seen = self.client.get(answer["Location"] + "/result").json()
            self.assertNotIn("whilst-callback", [name.lower() for name, _ in seen["headers"]])
            self.assertEqual(self.client.post("/call/s/x", b"y", Whilst_Callback=self.url, Prefer="wait=20").json()["body"], "y")
        finally:
            target.stop()

    def test_many(self):
        """Each is told once, of its own job, while workers take jobs in any order."""
        jobs = {self.submit() for _ in range(50)}
        for _ in jobs:
            job, lease, _ = self.client.reserve("q")
            self.client.complete(job, lease)
        harness.eventually(lambda: len(self.receiver.messages()) == 50, "all of them")
        self.assertEqual({document["data"]["id"] for _, document in self.receiver.messages().values()}, jobs)
        self.assertEqual(len(self.receiver.seen), 50)


BATCH = "application/vnd.whilst.batch"


def items(*payloads):
    return b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)


class Batches(Callbacks):
    """Each job of a batch is told of by a message of its own, and so is each that a transaction submits with a callback."""

    def ids(self, answer):
        if answer["Content-Type"] == BATCH:
            return [int.from_bytes(answer.body[i + 4:i + 12], "little") for i in range(0, len(answer.body), 12)]
        return [json.loads(line)["id"] for line in answer.body.splitlines()]

    def finish(self, jobs, queue="q"):
        for _ in jobs:
            job, lease, _ = self.client.reserve(queue, Prefer="wait=20")
            self.assertIn(job, jobs)
            self.assertEqual(self.client.complete(job, lease).status, 200)

    def told(self, jobs):
        """These, each by one message that is signed, and nobody else."""
        harness.eventually(lambda: len(self.receiver.messages()) >= len(jobs), "all messages")
        self.assertEqual(sorted(document["data"]["id"] for _, document in self.receiver.messages().values()), sorted(jobs))
        for _, headers, body in self.receiver.seen:
            self.assertTrue(is_signed(headers, body, SECRETS[0]))
        harness.eventually(lambda: self.jobs("callbacks/pending")["ready"] == 0, "no promise left")

    def transact(self, *actions, **headers):
        return self.client.post("/v1/transactions", json.dumps({"actions": list(actions)}), Content_Type="application/json", **headers)

    def test_lines(self):
        answer = self.client.post("/v1/queues/q/jobs", b'{"a":1}\n2\n"three"', Content_Type="application/x-ndjson", Whilst_Callback=self.url)
        self.assertEqual(answer.status, 202, answer)
        jobs = self.ids(answer)
        self.assertEqual((len(set(jobs)), self.jobs("q")["ready"], self.jobs("callbacks/pending")["ready"]), (3, 3, 3))
        self.finish(jobs)
        self.told(jobs)

    def test_items(self):
        option = "?callback=" + self.url.replace(":", "%3A").replace("/", "%2F").replace("?", "%3F").replace("=", "%3D")
        answer = self.client.post("/v1/queues/q/jobs" + option, items(b"", b"\0", b"x" * 5000), Content_Type=BATCH)
        self.assertEqual(answer.status, 202, answer)
        jobs = self.ids(answer)
        self.assertEqual(len(set(jobs)), 3)
        self.client.delete(f"/v1/jobs/{jobs[0]}")
        self.finish(jobs[1:])
        self.told(jobs)
        self.assertEqual({d["type"] for _, d in self.receiver.messages().values()}, {"job.done", "job.cancelled"})

    def lines(self, *lines, query="?callback-member=notify", **headers):
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        return self.client.post("/v1/queues/q/jobs" + query, body, Content_Type="application/x-ndjson", **headers)

    def test_each_line_says_whom(self):
        """By a member of its own; the line stays as it is, and who is not told is not promised anything."""
        other = Receiver()
        self.addCleanup(other.stop)
        there = f"http://127.0.0.1:{other.port}/there"
        lines = [{"notify": self.url, "n": 1}, {"n": 2}, {"n": 3, "notify": there}, {"notify": None}, [self.url], {"notify": self.url}]
        answer = self.lines(*lines, Idempotency_Key="k")
        self.assertEqual(answer.status, 202, answer)
        jobs = self.ids(answer)
        self.assertEqual((len(set(jobs)), self.jobs("q")["ready"], self.jobs("callbacks/pending")["ready"]), (6, 6, 3))
        again = self.lines(*lines, Idempotency_Key="k")
        self.assertEqual((again["Idempotent-Replayed"], self.ids(again)), ("true", jobs))
        self.assertEqual([json.loads(self.client.get(f"/v1/jobs/{job}/payload").body) for job in jobs], lines)
        self.restart_after_kill()
        self.finish(jobs)
        self.told([jobs[0], jobs[5]])
        harness.eventually(lambda: len(other.messages()) == 1, "the other one")
        self.assertEqual([document["data"]["id"] for _, document in other.messages().values()], [jobs[2]])

    def test_a_line_instead_of_all(self):
        other = Receiver()
        self.addCleanup(other.stop)
        jobs = self.ids(self.lines({"notify": self.url}, {}, 3, Whilst_Callback=f"http://127.0.0.1:{other.port}/all"))
        self.assertEqual(self.jobs("callbacks/pending")["ready"], 3)
        self.finish(jobs)
        self.told(jobs[:1])
        harness.eventually(lambda: len(other.messages()) == 2, "the others")
        self.assertEqual(sorted(document["data"]["id"] for _, document in other.messages().values()), jobs[1:])

    def test_lines_that_are_refused(self):
        deep = "[" * 200 + "]" * 200
        for line, status, code in (({"notify": "x"}, 400, "bad-request"), ({"notify": ""}, 400, "bad-request"), ({"notify": 7}, 400, "bad-json"),
                                   ({"notify": "http://10.0.0.1/"}, 422, "target-refused"), ({"notify": "http://h/" + "x" * 1000}, 400, "bad-request"),
                                   ({"notify": {"url": self.url}}, 400, "bad-json"), ({"a": json.loads(deep), "notify": self.url}, 400, "bad-json")):
            answer = self.lines({"notify": self.url}, line)
            self.assertEqual((answer.status, answer.json()["code"], answer.json()["line"]), (status, code, 2), answer)
        half = [{"notify": self.url}] * 5001
        answer = self.lines(*half)
        self.assertEqual((answer.status, answer.json()["code"], answer.json()["limit"]), (413, "too-large", 5000))
        answer = self.lines(*half[:4000], *[{}] * 2001)
        self.assertEqual((answer.status, answer.json()["code"], answer.json()["limit"]), (413, "too-large", 10000))
        for body, kind in ((b"x", "text/plain"), (items(b"x"), BATCH)):
            answer = self.client.post("/v1/queues/q/jobs?callback-member=notify", body, Content_Type=kind)
            self.assertEqual((answer.status, answer.json()["code"]), (400, "bad-request"), answer)
        self.assertNotIn("q", [one["name"] for one in self.client.get("/v1/queues").json()["queues"]], "nothing was done")
        self.assertEqual(self.lines(*half[:4000], *[{}] * 2000).status, 202)
        self.assertEqual((self.jobs("q")["ready"], self.jobs("callbacks/pending")["ready"]), (6000, 4000))

    def test_jobs_of_a_schedule(self):
        """Each that is due, what was missed while no server ran, and one that is run by hand."""
        put = {"every": "1s", "missed": "all", "job": {"queue": "q", "payload": "x", "callback": self.url}}
        answer = self.client.put("/v1/schedules/s", put)
        self.assertEqual((answer.status, answer.json()["job"]), (201, put["job"]))
        run = self.client.post("/v1/schedules/s/run").json()["id"]
        harness.eventually(lambda: self.client.get("/v1/schedules/s").json()["runs"] >= 2, "two runs")
        self.restart_after_kill()
        harness.eventually(lambda: self.client.get("/v1/schedules/s").json()["runs"] >= 4, "more runs")
        self.assertEqual(self.client.post("/v1/schedules/s/pause").status, 200)
        jobs = [job["id"] for job in self.client.get("/v1/queues/q/jobs").json()["jobs"]]
        self.assertIn(run, jobs)
        self.assertEqual(self.jobs("callbacks/pending")["ready"], len(jobs))
        self.finish(jobs)
        self.told(jobs)

    def test_schedules_that_are_refused(self):
        for more, status, code in (({"callback": "x"}, 400, "bad-request"), ({"callback": ""}, 400, "bad-request"), ({"callback": 7}, 400, "bad-json"),
                                   ({"callback": "http://10.0.0.1/"}, 422, "target-refused"), ({"callback": self.url, "unique": "u"}, 422, "bad-value")):
            answer = self.client.put("/v1/schedules/s", {"every": "1h", "job": {"queue": "q", **more}})
            self.assertEqual((answer.status, answer.json()["code"]), (status, code), answer)
        self.assertEqual(self.client.get("/v1/schedules").json()["schedules"], [])

    def test_as_many_as_there_may_be(self):
        answer = self.client.post("/v1/queues/q/jobs?retention=0s", items(*[b"x"] * 5000), Content_Type=BATCH, Whilst_Callback=self.url)
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual((len(set(self.ids(answer))), self.jobs("callbacks/pending")["ready"]), (5000, 5000))
        # called off in one go: the jobs are told of as what they have become
        self.client.post("/v1/queues/callbacks/pause")
        self.assertEqual(self.client.post("/v1/queues/q/purge").json()["count"], 5000)
        harness.eventually(lambda: self.jobs("callbacks")["ready"] == 5000, "all of them", 60)

    def test_a_batch_under_a_key(self):
        def ask():
            answer = self.client.post("/v1/queues/q/jobs?delay=1ms", b"1\n2\n3", Content_Type="application/x-ndjson", Whilst_Callback=self.url,
                                      Idempotency_Key="k")
            self.assertEqual(answer.status, 202, answer)
            return self.ids(answer)

        jobs = ask()
        self.assertEqual(ask(), jobs)
        self.restart_after_kill()
        self.assertEqual(ask(), jobs)
        self.finish(jobs)
        self.told(jobs)
        self.assertEqual(ask(), jobs)
        other = self.client.post("/v1/queues/q/jobs?delay=1ms", b"1\n2\n3", Content_Type="application/x-ndjson", Idempotency_Key="k")
        self.assertEqual((other.status, other.json()["code"]), (422, "key-reused"))

    def test_a_batch_and_a_kill(self):
        answer = self.client.post("/v1/queues/q/jobs", b"1\n2\n3\n4", Content_Type="application/x-ndjson", Whilst_Callback=self.url)
        jobs = self.ids(answer)
        self.finish(jobs[:2])
        self.restart_after_kill()
        self.finish(jobs[2:])
        self.told(jobs)

    def test_a_transaction(self):
        first = self.client.submit("q")
        job, lease, _ = self.client.reserve("q")
        self.assertEqual(job, first)
        answer = self.transact({"action": "submit", "queue": "q", "payload": 1, "callback": self.url},
                               {"action": "complete", "job": first, "lease": lease},
                               {"action": "submit", "queue": "q", "payload": 2, "after": [{"action": 0}], "callback": self.url},
                               {"action": "submit", "queue": "q", "payload": 3, "after": [{"action": 2}]})
        self.assertEqual(answer.status, 200, answer)
        made = [result["id"] for result in answer.json()["results"] if result["id"] != first]
        self.assertEqual([result["state"] for result in answer.json()["results"]], ["ready", "done", "awaiting", "awaiting"])
        self.assertEqual(self.client.get(f"/v1/jobs/{made[2]}").json()["awaits"]["jobs"], [made[1]])
        self.restart_after_kill()
        self.finish(made)
        self.told(made[:2])

    def test_a_transaction_of_one_life(self):
        answer = self.transact({"action": "submit", "queue": "q", "payload": 1, "callback": self.url}, {"action": "submit", "queue": "q", "payload": 2},
                               {"action": "submit", "queue": "q", "payload": 3, "callback": self.url})
        self.assertEqual(answer.status, 200, answer)
        jobs = [result["id"] for result in answer.json()["results"]]
        self.finish(jobs)
        self.told([jobs[0], jobs[2]])

    def test_a_transaction_under_a_key(self):
        def ask():
            answer = self.transact({"action": "submit", "queue": "q", "callback": self.url}, {"action": "submit", "queue": "q"}, Idempotency_Key="k")
            self.assertEqual(answer.status, 200, answer)
            return [result["id"] for result in answer.json()["results"]]

        jobs = ask()
        self.assertEqual(ask(), jobs)
        self.restart_after_kill()
        self.assertEqual(ask(), jobs)
        self.finish(jobs)
        self.told(jobs[:1])

    def test_what_a_transaction_is_refused(self):
        for url, status, code in (("x", 400, "bad-request"), ("http://10.0.0.1/", 422, "target-refused"), ("", 400, "bad-request")):
            answer = self.transact({"action": "submit", "queue": "q"}, {"action": "submit", "queue": "q", "callback": url})
            self.assertEqual((answer.status, answer.json()["code"], answer.json()["action"]), (status, code, 1), answer)
        answer = self.transact({"action": "submit", "queue": "q", "callback": self.url, "unique": "u"})
        self.assertEqual((answer.status, answer.json()["code"], answer.json()["action"]), (422, "bad-value", 0), answer)
        answer = self.transact({"action": "cancel", "job": 1, "callback": self.url})
        self.assertEqual((answer.status, answer.json()["code"]), (400, "bad-json"), answer)
        answer = self.transact(*[{"action": "submit", "queue": "q", "callback": self.url}] * 5001)
        self.assertEqual((answer.status, answer.json()["code"], answer.json()["action"], answer.json()["limit"]), (413, "too-large", 5000, 10000))
        # refused further on: the index is the client's own
        answer = self.transact({"action": "submit", "queue": "q", "callback": self.url}, {"action": "cancel", "job": 2 ** 52})
        self.assertEqual((answer.status, answer.json()["action"], answer.json()["cause"]), (409, 1, "unknown-job"), answer)
        self.assertEqual(self.jobs("callbacks/pending")["ready"], 0)
        self.assertNotIn("q", [one["name"] for one in self.client.get("/v1/queues").json()["queues"]], "nothing was done")


class Refusals(Callbacks):
    def problem(self, url, status, code, path="/v1/queues/q/jobs", body=b"x", **headers):
        answer = self.client.post(path, body, Whilst_Callback=url, **headers)
        self.assertEqual((answer.status, answer.json()["code"]), (status, code), answer)

    def test_urls(self):
        for url in ("ftp://h/", "x", "http://", "http://a b/", "http://u:p@127.0.0.1/", "http://127.0.0.1/" + "x" * 1000):
            self.problem(url, 400, "bad-request")
        for url in ("http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest", "https://[::ffff:192.168.0.1]:8443/"):
            self.problem(url, 422, "target-refused")
        self.problem(self.url, 400, "bad-request", "/v1/queues/q/jobs?callback=http%3A%2F%2F127.0.0.1")
        self.problem("http://10.0.0.1/", 422, "target-refused", body=b"{}\n{}", Content_Type="application/x-ndjson")
        self.problem(self.url, 413, "too-large", body=b"1\n" * 5001, Content_Type="application/x-ndjson")
        self.assertNotIn("q", [one["name"] for one in self.client.get("/v1/queues").json()["queues"]], "nothing was done")

    def test_names(self):
        for queue in ("callbacks", "callbacks%2Fpending", "callbacks%2Fx"):
            for path in ("jobs", "reserve"):
                answer = self.client.post(f"/v1/queues/{queue}/{path}", b"x")
                self.assertEqual((answer.status, answer.json()["code"]), (422, "bad-value"))
            self.assertEqual(self.client.put(f"/v1/queues/{queue}/target", {"url": self.url}).status, 422)
        self.client.submit("callbacksx")

    def test_queues_that_stay(self):
        """Nobody takes the server's queues away or makes something else of them; promises are called off one by one."""
        job = self.client.submit("q", b"x", Whilst_Callback=self.url)
        for queue, what in (("callbacks%2Fpending", "pause"), ("callbacks%2Fpending", "resume"), ("callbacks%2Fpending", "purge"),
                            ("callbacks%2Fpending", "kick"), ("callbacks%2Fpending", "replay"), ("callbacks%2Fpending", "move?to=q")):
            answer = self.client.post(f"/v1/queues/{queue}/{what}")
            self.assertEqual((answer.status, answer.json()["code"]), (422, "bad-value"), answer)
        for queue in ("callbacks", "callbacks%2Fpending"):
            for answer in (self.client.delete(f"/v1/queues/{queue}"), self.client.put(f"/v1/queues/{queue}", {"jobs_max": 1})):
                self.assertEqual((answer.status, answer.json()["code"]), (422, "bad-value"), answer)
        self.assertEqual(self.jobs("callbacks/pending")["ready"], 1)
        # messages may wait, and go on
        self.assertEqual(self.client.post("/v1/queues/callbacks/pause").status, 200)
        taken, lease, _ = self.client.reserve("q")
        self.client.complete(taken, lease)
        harness.eventually(lambda: self.jobs("callbacks")["ready"] == 1, "the message")
        self.assertEqual(self.client.post("/v1/queues/callbacks/resume").status, 200)
        harness.eventually(lambda: self.jobs("callbacks")["done"] == 1, "the receiver's word")
        self.assertEqual(job, taken)
        other = self.client.submit("q", b"x", Whilst_Callback=self.url)
        self.assertEqual(self.client.delete(f"/v1/jobs/{other + 1}").status, 200)
        self.assertEqual(self.jobs("callbacks/pending")["ready"], 0)

    def test_without_secrets(self):
        with harness.Server() as server:
            client = server.client()
            answer = client.post("/v1/queues/q/jobs", b"x", Whilst_Callback="http://example.com/")
            self.assertEqual((answer.status, answer.json()["code"]), (422, "bad-value"))
            answer = client.post("/v1/queues/q/jobs", b"1\n2", Whilst_Callback="http://example.com/", Content_Type="application/x-ndjson")
            self.assertEqual((answer.status, answer.json()["code"]), (422, "bad-value"))
            answer = client.post("/v1/transactions", b'{"actions":[{"action":"submit","queue":"q","callback":"http://example.com/"}]}',
                                 Content_Type="application/json")
            self.assertEqual((answer.status, answer.json()["code"], answer.json()["action"]), (422, "bad-value", 0))
            client.close()

    def test_files(self):
        for text in ("", "# nothing\n", "whsec_\n", "whsec_abc\n", "whsec_" + base64.b64encode(b"x" * 23).decode(),
                     "whsec_" + base64.b64encode(b"x" * 65).decode(), SECRETS[0] + "\n" + "secret\n", (SECRETS[0] + "\n") * 9):
            with open(self.file + ".bad", "w", encoding="utf-8") as f:
                f.write(text)
            server = harness.Server("--callback-secrets", self.file + ".bad", start=False)
            server.spawn()
            self.assertEqual(server.wait(), 2, text)
            server.logged("callback-secrets")
            self.assertNotIn("eHh4", server.log(), "a secret is not told")
            server.remove()


class Retries(Callbacks):
    def test_again(self):
        """The same id and content, a time and a signature of its own, until it is taken."""
        self.receiver.answer = lambda nth, headers, body: (500, {}, b"") if nth < 3 else (204, {}, b"")
        job = self.submit()
        self.complete(job)
        for attempt in (1, 2):
            harness.eventually(lambda n=attempt: len(self.receiver.seen) == n, "the attempt")
            callback = int(self.receiver.seen[0][1]["webhook-id"].split("_")[1])
            harness.eventually(lambda: self.client.get(f"/v1/jobs/{callback}").json()["state"] == "delayed", "the pause")
            self.assertEqual(self.client.post(f"/v1/jobs/{callback}/kick").status, 200)
        self.assertEqual(self.client.get(f"/v1/jobs/{callback}", Prefer="wait=20").json()["state"], "done")
        self.assertEqual(len({headers["webhook-id"] for _, headers, _ in self.receiver.seen}), 1)
        self.assertEqual(len({body for _, _, body in self.receiver.seen}), 1)
        self.assertTrue(all(is_signed(headers, body, SECRETS[0]) for _, headers, body in self.receiver.seen))

    def test_gone(self):
        """410: set aside at once, and sent again when somebody asks for it."""
        self.receiver.answer = lambda nth, headers, body: (410, {}, b"") if nth < 2 else (200, {}, b"")
        job = self.submit()
        self.complete(job)
        harness.eventually(lambda: self.jobs("callbacks")["buried"] == 1, "set aside")
        callback = int(self.receiver.seen[0][1]["webhook-id"].split("_")[1])
        view = self.client.get(f"/v1/jobs/{callback}").json()
        self.assertIn("status 410", view["errors"][0]["message"])
        self.assertEqual(json.loads(self.client.get(f"/v1/jobs/{callback}/payload").body)["data"]["id"], job)
        self.client.post(f"/v1/jobs/{callback}/kick")
        self.assertEqual(self.client.get(f"/v1/jobs/{callback}", Prefer="wait=20").json()["state"], "done")

    def test_given_up(self):
        """After ten attempts it is set aside."""
        self.receiver.answer = lambda nth, headers, body: (None, {}, b"") if nth % 2 else (302, {"Location": "/x"}, b"")
        self.complete(self.submit())
        callback = None
        for attempt in range(1, 11):
            harness.eventually(lambda n=attempt: len(self.receiver.seen) >= n, "the attempt")
            callback = callback or int(self.receiver.seen[0][1]["webhook-id"].split("_")[1])
            state = harness.eventually(lambda: self.client.get(f"/v1/jobs/{callback}").json()["state"] not in ("running", "ready")
                                       and self.client.get(f"/v1/jobs/{callback}").json()["state"], "its end")
            self.assertEqual(state, "buried" if attempt == 10 else "delayed")
            if attempt < 10:
                self.client.post(f"/v1/jobs/{callback}/kick")
        self.assertEqual(self.jobs("callbacks")["buried"], 1)

    def test_retry_after(self):
        self.receiver.answer = lambda nth, headers, body: (503, {"Retry-After": "3600"}, b"")
        self.complete(self.submit())
        harness.eventually(lambda: self.receiver.seen, "the attempt")
        callback = int(self.receiver.seen[0][1]["webhook-id"].split("_")[1])
        view = harness.eventually(lambda: self.client.get(f"/v1/jobs/{callback}").json()["run_at"], "the pause")
        self.assertGreater(time.mktime(time.strptime(view[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime()), 3000)


class Rotation(Callbacks):
    def reload(self, secrets):
        count = self.server.log().count("ev=reloaded")
        self.write(secrets)
        self.server.process.send_signal(signal.SIGHUP)
        harness.eventually(lambda: self.server.log().count("ev=reloaded") > count, "the reload")

    def test_two_at_once(self):
        self.reload(SECRETS[1:])
        self.complete(self.submit())
        headers, _ = self.one()
        body = self.receiver.seen[0][2]
        self.assertEqual([is_signed(headers, body, secret) for secret in SECRETS], [False, True, True])
        self.assertEqual(len(headers["webhook-signature"].split(" ")), 2)

    def test_a_bad_file_changes_nothing(self):
        with open(self.file, "w", encoding="utf-8") as f:
            f.write("nonsense\n")
        self.server.process.send_signal(signal.SIGHUP)
        harness.eventually(lambda: "ev=cannot-reload" in self.server.log(), "the refusal")
        self.complete(self.submit())
        headers, _ = self.one()
        self.assertTrue(is_signed(headers, self.receiver.seen[0][2], SECRETS[0]))


class Crashes(Callbacks):
    def test_between_submit_and_end(self):
        job = self.submit()
        self.restart_after_kill()
        self.complete(job)
        self.assertEqual(self.one()[1]["data"]["id"], job)

    def test_between_end_and_callback(self):
        """Killed with every callback somewhere between the end of its job and the receiver's word: all are told, of their own job."""
        self.receiver.answer = lambda nth, headers, body: (self.receiver.gate.wait(30), (200, {}, b""))[1]
        jobs = []
        for _ in range(4):
            more = [self.submit() for _ in range(5)]
            for _ in more:
                job, lease, _ = self.client.reserve("q")
                self.assertEqual(self.client.complete(job, lease).status, 200)
            jobs += more
            self.restart_after_kill()
        self.receiver.gate.set()
        harness.eventually(lambda: len({d["data"]["id"] for _, d in self.receiver.messages().values()}) == 20, "all of them", 40)
        for _, document in self.receiver.messages().values():
            self.assertEqual((document["type"], document["data"]["state"]), ("job.done", "done"))
        self.assertEqual({d["data"]["id"] for _, d in self.receiver.messages().values()}, set(jobs))
        self.assertEqual(len(self.receiver.messages()), 20, "each is one message, however often it was sent")
        harness.eventually(lambda: self.jobs("callbacks")["done"] == 20 and self.jobs("callbacks/pending")["ready"] == 0, "the end")

    def test_killed_at_any_moment(self):
        """Kills while jobs are completed; what was answered is told, and nothing is told that is not so."""
        done, stop = [], threading.Event()
        jobs = [self.submit() for _ in range(60)]
        for _ in range(3):
            def work(client=self.server.client()):
                try:
                    while not stop.is_set():
                        got = client.reserve("q")
                        if not got or client.complete(got[0], got[1]).status != 200:
                            return
                        done.append(got[0])
                except (OSError, harness.http.client.HTTPException):
                    pass
            worker = threading.Thread(target=work)
            before = len(done)
            worker.start()
            harness.eventually(lambda n=before: len(done) >= n + 5 or not worker.is_alive(), "some jobs")
            self.restart_after_kill()
            worker.join()
        stop.set()
        harness.eventually(lambda: set(done) <= {d["data"]["id"] for _, d in self.receiver.messages().values()}, "all that is done")
        for _, document in self.receiver.messages().values():
            self.assertIn(document["data"]["id"], jobs)
            self.assertEqual(self.client.get(f"/v1/jobs/{document['data']['id']}").json()["state"], "done")

    def test_asked_again_under_a_key(self):
        """Submits under keys whose answers are lost to kills, and asked for again: one job and one message for each key."""
        known, count = {}, 60

        def ask(client, key):
            answer = client.post("/v1/queues/q/jobs", b"x", Idempotency_Key=f'"{key}"', Whilst_Callback=self.url)
            self.assertEqual(answer.status, 202)
            self.assertEqual(known.setdefault(key, answer.json()["id"]), answer.json()["id"])

        for first in range(0, count, 20):
            keys = [f"key-{i}" for i in range(first, first + 20)]

            def send(client=self.server.client(), keys=keys):
                try:
                    for key in keys:
                        ask(client, key)
                except (OSError, harness.http.client.HTTPException):
                    pass
            sender = threading.Thread(target=send)
            sender.start()
            harness.eventually(lambda n=first + 5: len(known) >= n, "some answers")
            self.restart_after_kill()
            sender.join()
            for _ in range(2):
                for key in keys:
                    ask(self.client, key)
        self.assertEqual(len(set(known.values())), count)
        self.assertEqual(self.client.get("/v1/queues/q").json()["submitted"], count)
        for _ in range(count):
            job, lease, _ = self.client.reserve("q")
            self.assertEqual(self.client.complete(job, lease).status, 200)
        self.restart_after_kill()
        harness.eventually(lambda: self.jobs("callbacks/pending")["ready"] == 0 and self.jobs("callbacks")["done"] == count, "all of them")
        messages = self.receiver.messages()
        self.assertEqual(len(messages), count, "each is one message, however often it was asked for and sent")
        self.assertEqual({d["data"]["id"] for _, d in messages.values()}, set(known.values()))

    def test_secrets_taken_away(self):
        """Without secrets nothing is sent; with them again, what was pending is."""
        job = self.submit()
        self.client.close()
        self.server.stop()
        args, self.server.args = self.server.args, []
        self.server.start()
        self.client = self.server.client()
        self.complete(job)
        harness.eventually(lambda: self.jobs("callbacks")["ready"] == 1, "what is to be sent")
        self.client.close()
        self.server.stop()
        self.server.args = args
        self.server.start()
        self.client = self.server.client()
        self.assertEqual(self.one()[1]["data"]["id"], job)


if __name__ == "__main__":
    harness.main()
