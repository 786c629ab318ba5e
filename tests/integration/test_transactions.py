"""tests/integration/test_transactions.py -- POST /v1/transactions: all of it or nothing, in one commit; and who may."""
import base64
import json
import os
import subprocess
import tempfile
import threading
import unittest

import harness


class Acting(harness.Case):
    ARGS = ("--max-payload", "3MiB")

    def act(self, *actions, **headers):
        return self.client.post("/v1/transactions", json.dumps({"actions": list(actions)}), Content_Type="application/json", **headers)

    def leased(self, payload=b"x", query=""):
        self.client.submit(self.queue, payload, query)
        job, lease, _ = self.client.reserve(self.queue)
        return {"job": job, "lease": lease}

    def refused(self, answer, action, cause, **members):
        document = self.assertProblem(answer, 409, "action-refused", action=action, cause=cause, **members)
        self.assertIn(f"action {action}", document["detail"])
        return document

    def counts(self, queue=None):
        return self.client.get(f"/v1/queues/{queue or self.queue}").json()["jobs"]


class Transactions(Acting):
    def test_a_job_and_its_successors(self):
        held = self.leased()
        answer = self.act({"action": "complete", **held, "result": {"sum": 3}, "status": 201},
                          {"action": "submit", "queue": self.queue + "-a", "payload": "text é"},
                          {"action": "submit", "queue": self.queue + "-b", "payload": [1, {"b": None}]},
                          {"action": "submit", "queue": self.queue + "-c", "payload_base64": "AP8=", "content_type": "x/y"})
        self.assertEqual(answer.status, 200, answer)
        document = answer.json()
        self.assertEqual(document["results"][0], {"id": held["job"], "state": "done"})
        self.assertEqual([r["state"] for r in document["results"]], ["done", "ready", "ready", "ready"])
        self.assertEqual((document["level"], answer["Whilst-Commit"]), ("local", "local"))
        self.assertEqual(document["position"], answer["Whilst-Position"])
        result = self.client.get(f"/v1/jobs/{held['job']}/result")
        self.assertEqual((result.status, result.body, result["Content-Type"]), (201, b'{"sum":3}', "application/json"))
        ids = [r["id"] for r in document["results"][1:]]
        got = [self.client.get(f"/v1/jobs/{job}/payload") for job in ids]
        self.assertEqual([g.body for g in got], ["text é".encode(), b'[1,{"b":null}]', b"\x00\xff"])
        self.assertEqual([g["Content-Type"] for g in got], ["text/plain; charset=utf-8", "application/json", "x/y"])
        self.assertEqual(self.client.get(f"/v1/log?position={document['position']}&level=local").json()["reached"], True)

    def test_every_action(self):
        fails, releases, buries, extends, tells = (self.leased() for _ in range(5))
        waits, running = self.client.submit(self.queue + "-w"), self.leased()
        set_aside = self.leased()
        self.assertEqual(self.client.post(f"/v1/jobs/{set_aside['job']}/bury", Whilst_Lease=set_aside["lease"]).status, 200)
        answer = self.act({"action": "fail", **fails, "error": "no", "delay": "1h"},
                          {"action": "release", **releases, "priority": 7},
                          {"action": "bury", **buries, "error": "odd", "priority": 9},
                          {"action": "extend", **extends, "by": "1h"},
                          {"action": "progress", **tells, "progress": {"done": 0.5}},
                          {"action": "cancel", "job": waits}, {"action": "cancel", "job": running["job"]},
                          {"action": "kick", "job": set_aside["job"]},
                          {"action": "submit", "queue": self.queue + "-o", "priority": 3, "delay": "1h", "time_to_run": "9s",
                           "attempts": 2, "retention": "5m"})
        self.assertEqual(answer.status, 200, answer)
        results = answer.json()["results"]
        self.assertEqual([r.get("state") for r in results],
                         ["delayed", "ready", "buried", None, None, "cancelled", "running", "ready", "delayed"])
        self.assertTrue(results[0]["run_at"].endswith("Z"))
        self.assertTrue(results[3]["deadline"].endswith("Z"))
        self.assertTrue(results[6]["cancel_requested"])
        look = {r["id"]: self.client.get(f"/v1/jobs/{r['id']}").json() for r in results}
        self.assertEqual(look[fails["job"]]["errors"][0]["message"], "no")
        self.assertEqual(look[releases["job"]]["priority"], 7)
        self.assertEqual((look[buries["job"]]["priority"], look[buries["job"]]["errors"][0]["message"]), (9, "odd"))
        self.assertEqual(look[extends["job"]]["deadline"], results[3]["deadline"])
        self.assertEqual(look[tells["job"]]["progress"], {"done": 0.5})
        made = look[results[8]["id"]]
        self.assertEqual((made["priority"], made["time_to_run"], made["attempts_max"], made["retention"]), (3, "9s", 2, "5m"))

    def test_fail_for_good(self):
        held = self.leased()
        answer = self.act({"action": "fail", **held, "error": "never", "retry": False},
                          {"action": "submit", "queue": self.queue + "-errors", "payload": "see above"})
        self.assertEqual([r["state"] for r in answer.json()["results"]], ["failed", "ready"])

    def test_nothing_is_done_when_something_is_refused(self):
        held, other = self.leased(), self.leased()
        self.assertEqual(self.client.complete(other["job"], other["lease"]).status, 200)
        new = self.queue + "-new"
        for bad, cause, members in (({"action": "complete", **other}, "lease-lost", {}),
                                    ({"action": "complete", "job": held["job"], "lease": "1.999"}, "named-twice", {}),
                                    ({"action": "cancel", "job": 2 ** 52}, "unknown-job", {}),
                                    ({"action": "cancel", "job": other["job"]}, "job-finished", {"state": "done"}),
                                    ({"action": "kick", "job": other["job"]}, "wrong-state", {"state": "done"})):
            answer = self.act({"action": "submit", "queue": new}, {"action": "complete", **held}, bad)
            self.refused(answer, 2, cause, **members)
            self.assertProblem(self.client.get(f"/v1/queues/{new}"), 404, "unknown-queue")
            self.assertEqual(self.client.get(f"/v1/jobs/{held['job']}").json()["state"], "running")
        self.assertEqual(self.act({"action": "submit", "queue": new}, {"action": "complete", **held}).status, 200)
        self.assertEqual(self.counts(new)["ready"], 1)

    def test_a_cancelled_job(self):
        held = self.leased()
        self.assertEqual(self.client.delete(f"/v1/jobs/{held['job']}").status, 202)
        self.refused(self.act({"action": "submit", "queue": self.queue}, {"action": "complete", **held}), 1, "job-cancelled",
                     state="cancelled")
        self.assertEqual(self.counts()["ready"], 0)

    def events(self, queue):
        """What a queue has got, as CloudEvents in JSON."""
        answer = self.client.post(f"/v1/queues/{queue}/reserve?n=1000", Accept="application/cloudevents-batch+json")
        return answer.json() if answer.status == 200 else []

    def test_an_event_in_the_same_commit(self):
        topic, path = self.queue, f"/v1/topics/{self.queue}"
        self.client.put(path, {"retention": "1h"})
        self.client.put(f"{path}/subscriptions/all", {"queue": self.queue + "-all"})
        self.client.put(f"{path}/subscriptions/some", {"queue": self.queue + "-some", "filters": [{"exact": {"type": "b"}}]})
        held = self.leased()
        event = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "b", "n": 3, "datacontenttype": "application/json"}
        body = json.dumps({"actions": [
            {"action": "complete", **held}, {"action": "publish", "topic": topic, "event": {**event, "data": 0}},
            {"action": "submit", "queue": self.queue},
            {"action": "publish", "topic": topic, "payload": {"a": 1}, "type": "c", "source": "/x", "subject": "y"},
            {"action": "publish", "topic": topic, "payload_base64": "AP8="}]}).replace('"data": 0', '"data": [1.10, 1e3]')
        answer = self.client.post("/v1/transactions", body, Content_Type="application/json")
        self.assertEqual(answer.status, 200, answer)
        done, first, job, second, third = answer.json()["results"]
        self.assertEqual((done["state"], job["state"], first["id"], first["jobs"], second["jobs"], third["jobs"]), ("done", "ready", "7", 2, 1, 1))
        got = self.events(self.queue + "-all")
        self.assertEqual([e["whilstevent"] for e in got], [r["event"] for r in (first, second, third)])
        self.assertEqual([e["id"] for e in got], [r["id"] for r in (first, second, third)])
        self.assertEqual({k: got[0][k] for k in event}, event)
        self.assertEqual({k: got[1][k] for k in ("type", "source", "subject", "data")}, {"type": "c", "source": "/x", "subject": "y", "data": {"a": 1}})
        self.assertEqual({k: got[2][k] for k in ("type", "source", "data_base64")}, {"type": "whilst.event", "source": path, "data_base64": "AP8="})
        self.assertEqual(len({second["id"], third["id"]}), 2)
        plain = self.client.post(f"/v1/queues/{self.queue}-some/reserve")
        self.assertEqual(plain.body, b"[1.10, 1e3]")  # as it was written
        self.assertEqual(self.client.get(path).json()["events"], 3)
        # an event that nobody wants
        self.client.put(path + "-none", {})
        answer = self.act({"action": "publish", "topic": topic + "-none", "payload": "x"}, {"action": "submit", "queue": self.queue})
        self.assertEqual({**answer.json()["results"][0], "id": 0}, {"id": 0, "event": None, "jobs": 0})
        answer = self.act({"action": "publish", "topic": topic + "-none", "payload": "x"})
        self.assertEqual((answer.status, answer.json()["results"][0]["event"]), (200, None))

    def test_an_event_or_nothing(self):
        topic, path, target = self.queue, f"/v1/topics/{self.queue}", self.queue + "-t"
        self.client.put(f"{path}/subscriptions/s", {"queue": target})
        self.client.put(f"/v1/queues/{target}", {"jobs_max": 2})
        held = self.leased()
        publish, complete = {"action": "publish", "topic": topic, "payload": "x"}, {"action": "complete", **held}
        event = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "b"}
        self.refused(self.act(complete, {**publish, "topic": "nowhere"}), 1, "unknown-topic")
        self.refused(self.act(publish, {"action": "complete", **held, "lease": "1.999"}), 1, "lease-lost")
        self.refused(self.act(publish, publish, {"action": "kick", "job": held["job"]}), 2, "wrong-state", state="running")
        full = self.assertProblem(self.act(complete, publish, publish, publish), 429, "queue-full", action=3)
        self.assertIn(target, full["detail"])
        whole = {"action": "publish", "topic": topic, "event": event}
        for action, status, code in (({"action": "publish", "payload": "x"}, 400, "bad-json"), ({**publish, "topic": 1}, 400, "bad-json"),
                                     ({**publish, "queue": "x"}, 400, "bad-json"), ({**whole, "payload": "x"}, 400, "bad-json"),
                                     ({**whole, "type": "x"}, 400, "bad-json"), ({**whole, "event": "x"}, 400, "bad-json"),
                                     ({**whole, "event": {**event, "id": ""}}, 400, "bad-request"), ({**whole, "event": {**event, "A": "x"}}, 400, "bad-request"),
                                     ({**publish, "type": ""}, 400, "bad-request"), ({**publish, "source": "a b"}, 400, "bad-request"),
                                     ({**publish, "content_type": "x"}, 400, "bad-request"),
                                     ({**publish, "payload": "x" * (2 ** 20 + 1)}, 413, "too-large"),
                                     ({**publish, "subject": "x" * 20000}, 413, "too-large")):
            with self.subTest(action=str(action)[:100]):
                self.assertProblem(self.act(complete, action), status, code, action=1)
        self.assertProblem(self.client.post("/v1/transactions", b'{"actions": [{"action": "publish", "topic": "t", "ev\\u0065nt": {}}]}'), 400, "bad-json",
                           action=0)
        self.assertEqual(self.counts(target)["ready"], 0)
        self.assertEqual(self.client.get(f"/v1/jobs/{held['job']}").json()["state"], "running")
        self.assertEqual(self.act(complete, publish, publish).status, 200)
        self.assertEqual(self.counts(target)["ready"], 2)
        # each job of an event is an action
        self.client.put(f"{path}-2/subscriptions/a", {})
        self.client.put(f"{path}-2/subscriptions/b", {})
        many = [{"action": "publish", "topic": topic + "-2", "payload": 1}] * 5000
        self.assertEqual(self.act(*many).status, 200)
        self.assertProblem(self.act(*many, {"action": "submit", "queue": self.queue}), 413, "too-large", action=5000, limit=10000)
        self.assertProblem(self.act({"action": "submit", "queue": self.queue}, *many), 413, "too-large", action=5000, limit=10000)

    def test_a_full_queue(self):
        self.client.put(f"/v1/queues/{self.queue}", {"jobs_max": 2})
        three = [{"action": "submit", "queue": self.queue}] * 3
        answer = self.act(*three)
        self.assertProblem(answer, 429, "queue-full", action=2, limit=2)
        self.assertEqual(answer["Retry-After"], "1")
        self.assertEqual(self.counts()["ready"], 0)
        self.assertEqual(self.act(*three[:2]).status, 200)

    def test_malformed(self):
        submit = {"action": "submit", "queue": self.queue}
        held = {"job": 1, "lease": "1.1"}
        post = lambda body, **h: self.client.post("/v1/transactions", body, **h)
        self.assertProblem(post(b"{"), 400, "bad-json", line=1)
        self.assertProblem(post(b"[]"), 400, "bad-json")
        self.assertProblem(post(b'{"actions": {}}'), 400, "bad-json")
        self.assertProblem(post(b'{"actions": [], "more": 1}'), 400, "bad-json")
        self.assertProblem(post(b'{"actions": []}'), 422, "bad-value")
        self.assertProblem(post(b'{"actions": [{"action": "submit", "queue": "a", "queue": "b"}]}'), 400, "bad-json")
        self.assertProblem(post(b"{}", Content_Type="text/plain"), 415, "wrong-content-type")
        self.assertProblem(self.client.post("/v1/transactions?x=1", b"{}"), 400, "bad-request")
        self.assertProblem(self.client.get("/v1/transactions"), 405, "wrong-method")
        for action, status, code in ((1, 400, "bad-json"), ({}, 400, "bad-json"), ({"action": "dance"}, 400, "bad-json"),
                                     ({"action": "submit"}, 400, "bad-json"), ({**submit, "job": 1}, 400, "bad-json"),
                                     ({**submit, "queue": "-x"}, 422, "bad-value"), ({**submit, "queue": "call/x"}, 422, "bad-value"),
                                     ({**submit, "queue": "a b"}, 422, "bad-value"), ({**submit, "queue": 1}, 400, "bad-json"),
                                     ({**submit, "priority": -1}, 422, "bad-value"), ({**submit, "priority": 1.5}, 400, "bad-json"),
                                     ({**submit, "priority": 2 ** 32}, 422, "bad-value"), ({**submit, "delay": 5}, 400, "bad-json"),
                                     ({**submit, "delay": "5"}, 400, "bad-json"), ({**submit, "delay": "4000d"}, 422, "bad-value"),
                                     ({**submit, "run_at": "soon"}, 400, "bad-json"), ({**submit, "attempts": 1001}, 422, "bad-value"),
                                     ({**submit, "delay": "5s", "run_at": "2026-11-23T20:00:00Z"}, 400, "bad-json"),
                                     ({**submit, "payload": 1, "payload_base64": ""}, 400, "bad-json"),
                                     ({**submit, "payload_base64": "A"}, 422, "bad-value"), ({**submit, "payload_base64": 1}, 400, "bad-json"),
                                     ({**submit, "content_type": "x" * 256}, 422, "bad-value"),
                                     ({**submit, "content_type": "a\r\nb: c"}, 422, "bad-value"),
                                     ({**submit, "payload": "x" * (3 * 2 ** 20 + 1)}, 413, "too-large"),
                                     ({"action": "complete", "job": 1}, 400, "bad-json"), ({"action": "complete", **held, "job": 0}, 422, "bad-value"),
                                     ({"action": "complete", **held, "lease": "1"}, 400, "bad-json"),
                                     ({"action": "complete", **held, "status": 199}, 422, "bad-value"),
                                     ({"action": "fail", **held, "retry": 0}, 400, "bad-json"), ({"action": "fail", **held, "error": 0}, 400, "bad-json"),
                                     ({"action": "progress", **held}, 400, "bad-json"),
                                     ({"action": "progress", **held, "progress": "x" * 5000}, 413, "too-large"),
                                     ({"action": "extend", **held, "by": "0s"}, 422, "bad-value"), ({"action": "cancel", **held}, 400, "bad-json")):
            with self.subTest(action=str(action)[:100]):
                self.assertProblem(self.act(submit, action), status, code, action=1)
        self.assertProblem(self.act(*[submit] * 10001), 413, "too-large", limit=10000)
        self.assertProblem(self.act(submit, Whilst_Commit="remote-flush"), 422, "level-unavailable")
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}"), 404, "unknown-queue")

    def test_a_job_is_named_once(self):
        held = self.leased()
        self.refused(self.act({"action": "extend", **held}, {"action": "complete", **held}), 1, "named-twice")

    def test_many_and_large(self):
        held = self.leased()
        result = os.urandom(2 * 2 ** 20)
        answer = self.act({"action": "complete", **held, "result_base64": base64.b64encode(result).decode()},
                          {"action": "submit", "queue": self.queue, "payload": "y" * (2 * 2 ** 20)},
                          *[{"action": "submit", "queue": self.queue, "payload": n} for n in range(9998)])
        self.assertEqual(answer.status, 200, answer)
        ids = [r["id"] for r in answer.json()["results"]]
        self.assertEqual(len(set(ids)), 10000)
        self.assertEqual(self.client.get(f"/v1/jobs/{held['job']}/result").body, result)
        self.assertEqual(self.client.get(f"/v1/jobs/{ids[1]}/payload").body, b"y" * (2 * 2 ** 20))
        self.assertEqual(self.client.get(f"/v1/jobs/{ids[-1]}/payload").body, b"9997")
        self.assertEqual(self.counts(), {**self.counts(), "ready": 9999, "done": 1})

    def test_levels(self):
        submit = {"action": "submit", "queue": self.queue}
        answer = self.act(submit, Whilst_Commit="async")
        self.assertEqual(answer.json()["level"], answer["Whilst-Commit"])
        self.assertIn(answer["Whilst-Commit"], ("async", "local"))
        held = self.leased()
        self.assertEqual(self.act({"action": "extend", **held})["Whilst-Commit"], "async")
        self.assertEqual(self.act({"action": "extend", **held}, submit)["Whilst-Commit"], "local")

    def test_workers_at_once(self):
        """Each job of the first queue has exactly one successor, whoever is how fast."""
        for n in range(40):
            self.client.submit(self.queue, b"%d" % n)

        def work():
            client = self.server.client()
            while held := client.reserve(self.queue):
                job, lease, payload = held
                body = json.dumps({"actions": [{"action": "complete", "job": job, "lease": lease},
                                               {"action": "submit", "queue": self.queue + "-next", "payload": payload.decode()}]})
                first, again = (client.post("/v1/transactions", body) for _ in range(2))
                assert first.status == 200 and again.status == 409, (first, again)
            client.close()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        jobs = self.client.post(f"/v1/queues/{self.queue}-next/reserve?n=1000").json()["jobs"]
        self.assertEqual(sorted(int(base64.b64decode(job["payload"])) for job in jobs), list(range(40)))


class Others(Acting):
    """Jobs that are told to be others in the same commit: edited, moved, called back from their failure."""

    def look(self, job):
        return self.client.get(f"/v1/jobs/{job}").json()

    def failed(self, queue=None, query="?attempts=1", error="no"):
        """A job whose last attempt failed."""
        queue = queue or self.queue
        job = self.client.submit(queue, b"payload", query)
        got, lease, _ = self.client.reserve(queue)
        self.assertEqual(got, job)
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/fail", error.encode(), Whilst_Lease=lease).status, 200)
        return job

    def test_edit(self):
        one, two = self.client.submit(self.queue), self.client.submit(self.queue, b"x", "?delay=1h&priority=9&expires=1h")
        held = self.leased()  # one
        answer = self.act({"action": "complete", **held},
                          {"action": "edit", "job": two, "priority": None, "delay": "2h", "time_to_run": "7s", "attempts_max": 3, "retention": "0s",
                           "expires_at": None},
                          {"action": "submit", "queue": self.queue})
        self.assertEqual((answer.status, held["job"]), (200, one), answer)
        self.assertEqual(answer.json()["results"][1], {"id": two, "state": "delayed"})
        view = self.look(two)
        self.assertEqual((view["priority"], view["time_to_run"], view["attempts_max"], view["retention"], view["expires_at"]), (1024, "7s", 3, "0s", None))
        # only if it is still what was looked at
        tag = self.client.get(f"/v1/jobs/{two}")["ETag"]
        self.refused(self.act({"action": "submit", "queue": self.queue}, {"action": "edit", "job": two, "run_at": None, "if_match": '"0"'}), 1,
                     "precondition-failed")
        answer = self.act({"action": "edit", "job": two, "run_at": None, "if_match": f'"0", {tag}'})
        self.assertEqual(answer.json()["results"], [{"id": two, "state": "ready"}])
        self.refused(self.act({"action": "edit", "job": two, "run_at": None, "if_match": tag}), 0, "precondition-failed")
        self.assertEqual(self.act({"action": "edit", "job": two, "priority": 1, "if_match": "*"}).status, 200)

    def test_edit_refused(self):
        job, held, done = self.client.submit(self.queue + "-w"), self.leased(), self.leased()
        self.client.complete(done["job"], done["lease"])
        new = {"action": "submit", "queue": self.queue + "-new"}
        self.refused(self.act(new, {"action": "edit", "job": done["job"], "priority": 1}), 1, "job-finished", state="done")
        self.refused(self.act(new, {"action": "edit", "job": held["job"], "run_at": None}), 1, "wrong-state", state="running")
        self.refused(self.act(new, {"action": "edit", "job": 2 ** 52, "priority": 1}), 1, "unknown-job")
        self.refused(self.act(new, {"action": "edit", "job": job, "priority": 1}, {"action": "kick", "job": job}), 2, "named-twice")
        document = self.assertProblem(self.act(new, {"action": "edit", "job": held["job"], "attempts_max": 0}), 422, "bad-value", action=1)
        document = self.assertProblem(self.act({"action": "release", **held}, {"action": "edit", "job": job, "attempts_max": 1001}), 422, "bad-value", action=1)
        self.assertIn("attempts_max", document["detail"])
        for wrong in ({"delay": "1s", "run_at": None}, {"expires": "1s", "expires_at": "2030-01-01T00:00:00Z"}, {"priority": "1"}, {"queue": "x"},
                      {"if_match": "x"}, {"if_match": 7}, {"attempts": 3}, {"delay": 3}):
            self.assertProblem(self.act(new, {"action": "edit", "job": job, **wrong}), 400, "bad-json", action=1)
        self.assertProblem(self.act(new, {"action": "cancel", "job": None}), 400, "bad-json", action=1)
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}-new"), 404, "unknown-queue")
        self.assertEqual(self.look(job)["priority"], 1024)

    def test_move(self):
        to = self.queue + "-to"
        ready, late = self.client.submit(self.queue), self.client.submit(self.queue, b"x", "?delay=1h")
        waits = self.client.submit(self.queue, b"x", f"?after={ready}")
        answer = self.act({"action": "move", "job": ready, "to": to}, {"action": "move", "job": late, "to": to},
                          {"action": "move", "job": waits, "to": to}, {"action": "submit", "queue": self.queue})
        self.assertEqual([r["state"] for r in answer.json()["results"]], ["ready", "delayed", "awaiting", "ready"], answer)
        self.assertEqual({self.look(job)["queue"] for job in (ready, late, waits)}, {to})
        self.assertEqual((self.counts(to)["ready"], self.counts(to)["delayed"], self.counts(to)["awaiting"]), (1, 1, 1))
        got, lease, _ = self.client.reserve(to)
        self.assertEqual(got, ready)
        # in the same commit in which what it awaits ends
        answer = self.act({"action": "complete", "job": got, "lease": lease}, {"action": "move", "job": waits, "to": self.queue})
        self.assertEqual([r["state"] for r in answer.json()["results"]], ["done", "ready"], answer)
        self.assertEqual(self.counts()["ready"], 2)

    def test_move_refused(self):
        job, held, fresh = self.client.submit(self.queue + "-w"), self.leased(), self.queue + "-new"
        first = {"action": "move", "job": job, "to": fresh}
        self.refused(self.act(first, {"action": "move", "job": held["job"], "to": fresh}), 1, "wrong-state", state="running")
        self.refused(self.act(first, {"action": "move", "job": 2 ** 52, "to": fresh}), 1, "unknown-job")
        self.assertProblem(self.act({"action": "move", "job": job, "to": self.queue + "-w"}), 422, "bad-value", action=0)
        for name in ("callbacks", "call/x", "topic/t", "callbacks/pending", "-x", "", "x" * 201):
            self.assertProblem(self.act(first, {"action": "move", "job": held["job"], "to": name}), 422, "bad-value", action=1)
        self.assertProblem(self.act({"action": "move", "job": job}), 400, "bad-json", action=0)
        self.assertProblem(self.client.get(f"/v1/queues/{fresh}"), 404, "unknown-queue")
        self.assertEqual(self.look(job)["queue"], self.queue + "-w")

    def test_replay(self):
        """A failed one, a dead one and a buried one; a failed one has its key again, and all have their errors."""
        dead = self.queue + "-dead"
        failed = self.failed(query="?attempts=1&unique=u&group=g&priority=3")
        self.client.put(f"/v1/queues/{self.queue}-s", {"attempts": 1, "dead_letter": dead})
        died = self.failed(self.queue + "-s", "")
        self.assertEqual(self.look(died)["queue"], dead)
        buried = self.leased()
        self.assertEqual(self.client.post(f"/v1/jobs/{buried['job']}/bury", Whilst_Lease=buried["lease"]).status, 200)
        other = self.failed()
        answer = self.act({"action": "replay", "job": failed}, {"action": "replay", "job": died}, {"action": "replay", "job": buried["job"]},
                          {"action": "replay", "job": other, "to": self.queue + "-o"}, {"action": "submit", "queue": self.queue, "unique": "u"})
        self.assertEqual(answer.status, 200, answer)
        results = answer.json()["results"]
        self.assertEqual([r["state"] for r in results], ["ready"] * 5)
        self.assertEqual((results[4]["id"], results[4].get("duplicate")), (failed, True), "the key is the replayed job's again")
        view = self.look(failed)
        self.assertEqual((view["attempts"], view["priority"], view["unique"], view["group"], view["errors"][0]["message"]), (0, 3, "u", "g", "no"))
        self.assertEqual((self.look(died)["queue"], self.look(died)["dead_from"]), (self.queue + "-s", None))
        self.assertEqual(self.look(other)["queue"], self.queue + "-o")
        for job, queue in ((died, self.queue + "-s"), (other, self.queue + "-o")):
            self.assertEqual(self.client.reserve(queue)[0], job)
        self.assertEqual(self.client.get(f"/v1/jobs/{failed}/payload").body, b"payload")

    def test_replay_refused(self):
        waits, held, failed, fresh = self.client.submit(self.queue + "-w"), self.leased(), self.failed(self.queue + "-f"), self.queue + "-new"
        first = {"action": "replay", "job": failed, "to": fresh}
        self.refused(self.act(first, {"action": "replay", "job": waits}), 1, "wrong-state", state="ready")
        self.refused(self.act(first, {"action": "replay", "job": held["job"]}), 1, "wrong-state", state="running")
        self.refused(self.act(first, {"action": "replay", "job": 2 ** 52}), 1, "unknown-job")
        self.refused(self.act(first, {"action": "replay", "job": failed}), 1, "named-twice")
        self.client.complete(held["job"], held["lease"])
        self.refused(self.act(first, {"action": "replay", "job": held["job"]}), 1, "job-finished", state="done")
        self.assertProblem(self.act(first, {"action": "replay", "job": failed, "to": "call/x"}), 422, "bad-value", action=1)
        self.assertProblem(self.client.get(f"/v1/queues/{fresh}"), 404, "unknown-queue")
        self.assertEqual(self.look(failed)["state"], "failed")

    def test_many_replays(self):
        """More than are read at once, of which some have been written out of memory by then."""
        jobs = []
        for _ in range(150):
            jobs.append(self.client.submit(self.queue, b"y", "?attempts=1"))
        while (got := self.client.reserve(self.queue)) is not None:
            self.client.post(f"/v1/jobs/{got[0]}/fail", b"e" * 900, Whilst_Lease=got[1])
        self.client.close()
        self.server.stop()
        self.server.start()
        self.client = self.server.client()
        answer = self.act(*[{"action": "replay", "job": job} for job in reversed(jobs)])
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(self.counts()["ready"], 150)
        self.client.close()
        self.server.kill()
        self.server.start()
        self.client = self.server.client()
        self.assertEqual((self.counts()["ready"], self.counts()["failed"]), (150, 0))
        self.assertEqual(self.look(jobs[7])["errors"][0]["message"], "e" * 900)

    def test_under_a_key(self):
        failed = self.failed()
        def ask():
            answer = self.act({"action": "replay", "job": failed}, {"action": "submit", "queue": self.queue + "-n"}, Idempotency_Key="k")
            self.assertEqual(answer.status, 200, answer)
            return answer.json()["results"]
        first = ask()
        self.assertEqual(ask(), first)
        self.assertEqual((self.counts()["ready"], self.counts(self.queue + "-n")["ready"]), (1, 1))

    def test_limits_count_what_arrives(self):
        """A queue that fills up by what the transaction itself sends there takes no more, and the server lives on."""
        full, dead = self.queue + "-full", {"attempts": 1, "dead_letter": self.queue + "-full"}
        self.client.put(f"/v1/queues/{full}", {"jobs_max": 1})
        self.client.put(f"/v1/queues/{self.queue}", dead)
        held, moved, failed = self.leased(), self.client.submit(self.queue + "-w"), self.failed(self.queue + "-f")
        submit = {"action": "submit", "queue": full}
        for sends in ({"action": "fail", **held}, {"action": "move", "job": moved, "to": full}, {"action": "replay", "job": failed, "to": full}):
            document = self.assertProblem(self.act(sends, submit), 429, "queue-full", action=1, limit=1)
            self.assertEqual(self.counts(full)["ready"], 0, document)
        answer = self.act(submit, {"action": "move", "job": moved, "to": full}, {"action": "fail", **held})
        self.assertEqual([r["state"] for r in answer.json()["results"]], ["ready"] * 3, "no limit keeps out what is sent there")
        self.assertEqual(self.counts(full)["ready"], 3)

    def test_a_kick_that_is_not_needed_any_more(self):
        held = self.leased()
        waits = self.client.submit(self.queue + "-w", b"x", f"?after={held['job']}")
        answer = self.act({"action": "complete", **held}, {"action": "kick", "job": waits})
        self.assertEqual([r["state"] for r in answer.json()["results"]], ["done", "ready"], answer)


class Declared(harness.Case):
    ARGS = ("--queues", "declared")

    def test_unknown_queue(self):
        self.client.put(f"/v1/queues/{self.queue}", {})
        actions = [{"action": "submit", "queue": self.queue}, {"action": "submit", "queue": "nowhere"}]
        answer = self.client.post("/v1/transactions", json.dumps({"actions": actions}))
        self.assertProblem(answer, 409, "action-refused", action=1, cause="unknown-queue")
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["submitted"], 0)


class Scopes(unittest.TestCase):
    def test_each_action_by_its_own_queue(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tokens = {}
        with open(folder.name + "/tokens", "w") as file:
            for name, *scopes in (("root", "admin"), ("step", "work:in", "submit:out-*", "publish:told-*"), ("none", "metrics"), ("all", "submit"),
                                  ("mover", "admin:in*")):
                made = subprocess.run([harness.BINARY, "token", name, *scopes], capture_output=True, text=True, timeout=60)
                if made.returncode != 0:
                    self.skipTest(made.stderr)  # built without OpenSSL
                file.write(made.stderr)
                tokens[name] = {"Authorization": "Bearer " + made.stdout.strip()}
        with harness.Server("--tokens", folder.name + "/tokens") as server:
            client = server.client()
            act = lambda who, *actions: client.post("/v1/transactions", json.dumps({"actions": actions}), **tokens.get(who, {}))
            client.submit("in", **tokens["root"])
            job, lease, _ = client.reserve("in", **tokens["step"])
            complete = {"action": "complete", "job": job, "lease": lease}
            for who, status, code, actions, at in (
                    ("nobody", 401, "no-token", [complete], None),
                    ("none", 403, "not-allowed", [complete], 0),
                    ("step", 403, "not-allowed", [complete, {"action": "submit", "queue": "other"}], 1),
                    ("step", 403, "not-allowed", [complete, {"action": "cancel", "job": job}], 1),
                    ("step", 403, "not-allowed", [{"action": "kick", "job": job}], 0),
                    ("step", 403, "not-allowed", [{"action": "edit", "job": job, "priority": 1}], 0),
                    ("step", 403, "not-allowed", [complete, {"action": "move", "job": job, "to": "out-1"}], 1),
                    ("step", 403, "not-allowed", [complete, {"action": "replay", "job": job}], 1),
                    ("mover", 403, "not-allowed", [{"action": "move", "job": job, "to": "other"}], 0),
                    ("mover", 403, "not-allowed", [{"action": "replay", "job": job, "to": "other"}], 0),
                    ("mover", 409, "action-refused", [{"action": "move", "job": job, "to": "in-too"}], 0),
                    ("step", 403, "not-allowed", [complete, {"action": "publish", "topic": "other", "payload": 1}], 1),
                    ("all", 403, "not-allowed", [{"action": "publish", "topic": "told-1", "payload": 1}], 0),
                    ("step", 409, "action-refused", [{"action": "publish", "topic": "told-2", "payload": 1}], 0),
                    ("step", 409, "action-refused", [complete, {"action": "cancel", "job": 12345}], 1)):
                answer = act(who, *actions)
                self.assertEqual((answer.status, answer.json()["code"], answer.json().get("action")), (status, code, at), answer)
            self.assertEqual(act("all", {"action": "cancel", "job": 12345}).json()["cause"], "unknown-job")
            client.put("/v1/topics/told-1", {}, **tokens["root"])
            self.assertEqual(act("step", complete, {"action": "submit", "queue": "out-1"}, {"action": "publish", "topic": "told-1", "payload": 1}).status, 200)
            client.close()


if __name__ == "__main__":
    harness.main()
