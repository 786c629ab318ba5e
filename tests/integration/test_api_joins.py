"""tests/integration/test_api_joins.py -- jobs that run after others, over HTTP, from the command line and beside beanstalkd's protocol."""
import http.client
import json
import re
import socket
import subprocess
import unittest

import harness
import sse


class Joins(harness.Case):
    ARGS = ("--beanstalk", "127.0.0.1:0")

    def after(self, *jobs, queue=None, query=""):
        return self.client.submit(queue or self.queue + "-then", b"after", "?after=" + ",".join(map(str, jobs)) + query)

    def look(self, job):
        return self.client.get(f"/v1/jobs/{job}").json()

    def state(self, job):
        return self.look(job)["state"]

    def wait_state(self, job, state):
        harness.eventually(lambda: self.state(job) == state, f"job {job} is {state}")

    def finish(self, job, queue=None):
        got, lease, _ = self.client.reserve(queue or self.queue)
        self.assertEqual(got, job)
        self.assertEqual(self.client.complete(job, lease).status, 200)

    def fail(self, job, queue=None):
        got, lease, _ = self.client.reserve(queue or self.queue)
        self.assertEqual(got, job)
        answer = self.client.post(f"/v1/jobs/{job}/fail?retry=false", b"broken", Whilst_Lease=lease)
        self.assertEqual(answer.status, 200, answer)

    def refused(self, answer, job):
        self.assertProblem(answer, 409, "unknown-awaited", awaited=job)

    def test_after_all_of_them(self):
        jobs = [self.client.submit(self.queue) for _ in range(3)]
        then = self.after(*jobs)
        seen = self.look(then)
        self.assertEqual(seen["state"], "awaiting")
        self.assertEqual(seen["awaits"], {"open": 3, "count": 3, "after_failure": "cancel", "jobs": jobs})
        self.assertIsNone(self.look(jobs[0])["awaits"])
        queue = self.client.get(f"/v1/queues/{self.queue}-then").json()
        self.assertEqual((queue["jobs"]["awaiting"], queue["jobs"]["ready"], queue["jobs"]["delayed"]), (1, 0, 0))
        metrics = self.client.get("/metrics").body.decode()
        self.assertIn(f'whilst_jobs{{queue="{self.queue}-then",state="awaiting"}} 1', metrics)
        etag = self.client.get(f"/v1/jobs/{then}")["ETag"]
        self.finish(jobs[0])
        answer = self.client.get(f"/v1/jobs/{then}")
        self.assertEqual(answer.json()["awaits"]["jobs"], jobs[1:])
        self.assertNotEqual(answer["ETag"], etag)
        self.finish(jobs[1])
        self.assertIsNone(self.client.reserve(self.queue + "-then"))
        self.finish(jobs[2])
        self.finish(then, self.queue + "-then")
        self.assertIsNone(self.look(then)["awaits"])
        listed = self.client.get(f"/v1/queues/{self.queue}-then/jobs?state=awaiting").json()
        self.assertEqual(listed["jobs"], [])

    def test_who_waits_is_told(self):
        first = self.client.submit(self.queue)
        then = self.after(first)
        stream = sse.Stream(self.server.port, f"/v1/queues/{self.queue}-then/events")
        self.finish(first)
        got = self.client.post(f"/v1/queues/{self.queue}-then/reserve", Prefer="wait=10")
        self.assertEqual((got.status, int(got["Whilst-Job"])), (200, then))
        changes = []
        while "reserve" not in changes:
            name, data, _ = stream.event()
            if name == "state":
                changes.append(data["change"])
        self.assertEqual(changes, ["due", "reserve"])
        stream.close()

    def test_failure(self):
        becomes = {"cancel": "cancelled", "bury": "buried", "run": "ready", "wait": "awaiting"}
        first = self.client.submit(self.queue)
        then = {how: self.after(first, query="&after-failure=" + how) for how in becomes}
        chain = self.after(then["cancel"])
        self.fail(first)
        for how, state in becomes.items():
            self.wait_state(then[how], state)
        self.wait_state(chain, "cancelled")
        self.assertEqual(self.look(then["wait"])["awaits"], {"open": 1, "count": 1, "after_failure": "wait", "jobs": [first]})
        for job in (then["cancel"], then["bury"]):
            self.assertEqual(self.look(job)["errors"][-1]["message"], f"job {first}, which it was to run after, has failed")
        self.assertEqual(self.client.post(f"/v1/jobs/{then['bury']}/kick").status, 200)
        self.assertEqual(self.state(then["bury"]), "ready")
        # called back, it can end well after all
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/replay").json()["count"], 1)
        self.finish(first)
        self.assertEqual(self.state(then["wait"]), "ready")

    def test_ways_to_end(self):
        first = self.client.submit(self.queue)
        then = self.after(first)
        self.assertEqual(self.client.delete(f"/v1/jobs/{first}").status, 200)
        self.wait_state(then, "cancelled")
        first = self.client.submit(self.queue, b"x", "?expires=50ms")
        then = self.after(first, query="&after-failure=run")
        self.wait_state(first, "failed")
        self.wait_state(then, "ready")
        first = self.client.submit(self.queue)
        then = self.after(first, queue=self.queue)
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/purge").json()["count"], 2)
        self.assertEqual((self.state(first), self.state(then)), ("cancelled", "cancelled"))

    def test_told_otherwise(self):
        first = self.client.submit(self.queue)
        then = self.after(first)
        answer = self.client.request("PATCH", f"/v1/jobs/{then}", json.dumps({"priority": 3, "delay": "1h"}), Content_Type="application/json")
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(self.state(then), "awaiting")
        moved = self.client.post(f"/v1/queues/{self.queue}-then/move?to={self.queue}-m&state=awaiting").json()
        self.assertEqual(moved["count"], 1)
        self.finish(first)
        seen = self.look(then)
        self.assertEqual((seen["state"], seen["queue"], seen["priority"]), ("delayed", self.queue + "-m", 3))
        first = self.client.submit(self.queue)
        then = self.after(first)
        self.assertEqual(self.client.post(f"/v1/jobs/{then}/kick").status, 200)
        self.finish(then, self.queue + "-then")

    def test_delay_from_the_end_on(self):
        first = self.client.submit(self.queue)
        then = self.after(first, query="&delay=1h")
        self.assertIsNone(self.look(then)["run_at"])
        self.finish(first)
        seen = self.look(then)
        self.assertEqual(seen["state"], "delayed")
        self.assertGreater(seen["run_at"], self.look(first)["finished_at"])
        done = self.after(first)
        self.assertEqual(self.state(done), "ready")

    def test_refused(self):
        first, path = self.client.submit(self.queue), f"/v1/queues/{self.queue}/jobs"
        self.refused(self.client.post(path + "?after=9007199254740991"), 9007199254740991)
        gone = self.client.submit(self.queue)
        self.client.post(f"/v1/queues/{self.queue}/purge?from={gone}&until={gone}")
        self.client.post(f"/v1/queues/{self.queue}/purge?from={gone}&until={gone}&state=cancelled")
        self.refused(self.client.post(f"{path}?after={first},{gone}"), gone)
        many = ",".join([str(first)] * 1001)
        for query in ("after=", "after=,", f"after={first},", "after=0", "after=x", f"after={first}%2", f"after={first};{first}", "after=-1",
                      "after=9007199254740992", "after=" + many, "after-failure=run"):
            self.assertProblem(self.client.post(f"{path}?{query}"), 400, "bad-request")
        self.assertProblem(self.client.post(f"{path}?after={first}&after-failure=no"), 422, "bad-value")
        self.assertEqual(self.client.post(f"{path}?after={first}%2c{first}%2C{first}").status, 202)
        answer = self.client.post(path + "?after=" + many[:-len(str(first)) - 1])
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(self.look(answer.json()["id"])["awaits"]["open"], 1)  # once, however often it is named
        answer = self.client.put("/v1/schedules/joins", {"every": "1h", "job": {"queue": self.queue, "after": [first]}})
        self.assertProblem(answer, 400, "bad-json")

    def test_batches(self):
        first = self.client.submit(self.queue)
        answer = self.client.post(f"/v1/queues/{self.queue}-b/jobs?after={first}", b'{"a":1}\n{"a":2}\n', Content_Type="application/x-ndjson")
        self.assertEqual(answer.status, 202, answer)
        jobs = [json.loads(line)["id"] for line in answer.body.splitlines()]
        self.assertEqual([self.state(job) for job in jobs], ["awaiting"] * 2)
        self.finish(first)
        self.finish(jobs[0], self.queue + "-b")
        self.finish(jobs[1], self.queue + "-b")

    def act(self, *actions):
        return self.client.post("/v1/transactions", json.dumps({"actions": list(actions)}), Content_Type="application/json")

    def test_transactions(self):
        submit = {"action": "submit", "queue": self.queue, "payload": "x"}
        before = self.client.submit(self.queue)
        answer = self.act(submit, {**submit, "after": [before, {"action": 0}]}, {**submit, "after": [{"action": 1}], "after_failure": "bury"})
        self.assertEqual(answer.status, 200, answer)
        ids = [r["id"] for r in answer.json()["results"]]
        self.assertEqual([r["state"] for r in answer.json()["results"]], ["ready", "awaiting", "awaiting"])
        self.assertEqual(self.look(ids[1])["awaits"]["jobs"], [before, ids[0]])
        for job in (before, *ids):
            self.finish(job)
        held = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        answer = self.act({"action": "complete", "job": held, "lease": lease}, {**submit, "after": [held]})
        self.assertProblem(answer, 409, "action-refused", action=1, cause="named-twice")
        self.assertEqual(self.state(held), "running")
        answer = self.act(submit, {**submit, "after": [9007199254740991]})
        self.assertProblem(answer, 409, "action-refused", action=1, cause="unknown-awaited", awaited=9007199254740991)
        for wrong, status in (([], 400), ([0], 422), ([{"action": 0}], 422), ([{"action": 5}], 422), ([{"action": -1}], 422), (["1"], 400),
                              ([{"action": 0, "x": 1}], 400), ({}, 400), (7, 400), ([1.5], 400)):
            answer = self.act({**submit, "after": wrong}, submit)
            self.assertProblem(answer, status, "bad-json" if status == 400 else "bad-value", action=0)
        answer = self.act(submit, {"action": "cancel", "job": held}, {**submit, "after": [{"action": 1}]})
        self.assertProblem(answer, 422, "bad-value", action=2)
        self.assertProblem(self.act({**submit, "after_failure": "run"}), 400, "bad-json", action=0)
        self.assertProblem(self.act({**submit, "after": [held], "after_failure": "no"}), 422, "bad-value", action=0)
        self.assertEqual(self.client.complete(held, lease).status, 200)
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["ready"], 0)

    def test_no_circle(self):
        """However it is tried, a job awaits only what was there before it: itself, a later one, one to come, by any way to change a job."""
        path = f"/v1/queues/{self.queue}/jobs"
        submit = {"action": "submit", "queue": self.queue, "payload": "x"}
        first = self.client.submit(self.queue)
        then = self.client.post(f"{path}?after={first}").json()["id"]
        # its own id, and the next ones, which a client can guess
        for guess in range(then + 1, then + 4):
            self.refused(self.client.post(f"{path}?after={first},{guess}"), guess)
            answer = self.act({**submit, "after": [guess]})
            self.assertProblem(answer, 409, "action-refused", action=0, cause="unknown-awaited", awaited=guess)
        # the graph of a transaction: itself, forward, round about
        for graph in ([{**submit, "after": [{"action": 0}]}],
                      [{**submit, "after": [{"action": 1}]}, {**submit, "after": [{"action": 0}]}],
                      [submit, {**submit, "after": [{"action": 0}, {"action": 2}]}, {**submit, "after": [{"action": 1}]}],
                      [{**submit, "after": [{"action": 4294967296}]}, submit], [{**submit, "after": [{"action": 2 ** 63 - 1}]}, submit]):
            answer = self.act(*graph)
            self.assertEqual((answer.status, answer.json()["code"]), (422, "bad-value"), answer)
        # nor afterwards: what is there cannot be made to await anything
        for body in ({"after": [then]}, {"after": []}, {"awaits": {"jobs": [then]}}, {"after_failure": "run"}):
            answer = self.client.request("PATCH", f"/v1/jobs/{first}", json.dumps(body), Content_Type="application/json")
            self.assertEqual(answer.status, 400, answer)
        answer = self.act(submit, {"action": "kick", "job": then, "after": [first]})
        self.assertEqual(answer.status, 400, answer)
        self.assertEqual(self.look(then)["awaits"]["jobs"], [first])
        # one that is called back is the older one still
        _, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(self.client.post(f"/v1/jobs/{first}/fail?retry=false", b"no", Whilst_Lease=lease).status, 200)
        harness.eventually(lambda: self.state(then) == "cancelled", "the end of what awaited it")
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/replay").status, 200)
        self.assertEqual(self.state(first), "ready")
        self.assertEqual(self.state(then), "cancelled")
        self.finish(first)

    def test_thousands(self):
        """As many as may be, of a job and of a transaction: no more, each once, and the server goes on."""
        submit = {"action": "submit", "queue": self.queue, "payload": "x"}
        lines = b"1\n" * 5000
        ids = []
        for _ in range(2):
            answer = self.client.post(f"/v1/queues/{self.queue}/jobs", lines, Content_Type="application/x-ndjson")
            self.assertEqual(answer.status, 202, answer.status)
            ids += [json.loads(line)["id"] for line in answer.body.splitlines()]
        then = {**submit, "queue": self.queue + "-then"}
        answer = self.act({**then, "after": ids}, {**then, "after": ids + ids[:1]})
        self.assertEqual(answer.status, 400, answer)
        answer = self.act({**then, "after": ids + [9007199254740991]})
        self.assertEqual(answer.status, 400, answer)
        answer = self.act({**then, "after": ids[1:] + [9007199254740991]})
        self.assertProblem(answer, 409, "action-refused", action=0, cause="unknown-awaited", awaited=9007199254740991)
        answer = self.act(*[{**then, "after": ids}] * 11)
        self.assertIn(answer.status, (409, 413, 422), answer)
        self.assertEqual(self.client.get("/livez").status, 200)
        answer = self.act({**then, "after": ids}, {**then, "after": ids[:1] * 10000})
        self.assertEqual(answer.status, 200, answer)
        all_of, one = (r["id"] for r in answer.json()["results"])
        self.assertEqual(self.look(all_of)["awaits"]["open"], 10000)
        self.assertEqual(self.look(one)["awaits"]["open"], 1)
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/purge").status, 200)
        harness.eventually(lambda: self.state(all_of) == "cancelled" and self.state(one) == "cancelled", "the end of both")

    def cli(self, *args, stdin=b""):
        done = subprocess.run([harness.BINARY, *map(str, args), "--server", f"http://127.0.0.1:{self.server.port}"], input=stdin,
                              capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_as_many_as_there_may_be(self):
        """One id over and over, a graph of all edges that there may be, and a chain of all actions that falls while others are served."""
        one = self.client.submit(self.queue)
        def submit(**more):
            return {"action": "submit", "queue": self.queue + "-then", **more}
        def transact(actions):
            # not by the client of the other tests, which compares each of all these numbers with openapi.json
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
            connection.request("POST", "/v1/transactions", json.dumps({"actions": actions}))
            answer = connection.getresponse()
            whole = harness.Response(answer.status, answer.headers, answer.read())
            connection.close()
            return whole
        then = transact([submit(after=[one] * 10000)]).json()["results"][0]["id"]
        self.assertEqual(self.look(then)["awaits"]["count"], 10000)
        self.assertEqual(transact([submit(after=[one] * 10000) for _ in range(10)]).status, 200)
        self.assertProblem(transact([submit(after=[one] * 10000) for _ in range(11)]), 413, "too-large")
        self.finish(one)
        self.assertEqual(self.state(then), "ready")
        graph = transact([submit(after=[{"action": j} for j in range(i)]) if i else submit() for i in range(440)])
        self.assertEqual(graph.status, 200, graph)
        first = graph.json()["results"][0]["id"]
        chain = transact([submit(after=[{"action": i - 1}]) if i else submit() for i in range(10000)]).json()["results"]
        for job in (first, chain[0]["id"]):
            self.assertEqual(self.client.delete(f"/v1/jobs/{job}").status, 200)
            self.assertEqual(self.client.get("/livez").status, 200)
        harness.eventually(lambda: self.client.get(f"/v1/queues/{self.queue}-then").json()["jobs"]["awaiting"] == 0, "all have ended")
        self.assertEqual(self.state(chain[-1]["id"]), "cancelled")

    def test_command_line(self):
        first = int(self.cli("submit", self.queue, stdin=b"x")[1])
        other = int(self.cli("submit", self.queue, stdin=b"y")[1])
        status, out, _ = self.cli("submit", self.queue + "-then", "--after", f"{first},{other}", "--after-failure", "wait", stdin=b"z")
        self.assertEqual(status, 0)
        then = int(out)
        self.assertIn("awaits    2 of 2 jobs", self.cli("status", then)[1])
        queues = self.cli("queues")[1].splitlines()
        column = queues[0].split().index("awaiting")
        self.assertEqual([line.split()[column] for line in queues if line.startswith(self.queue + "-then ")], ["1"])
        top = self.cli("top", "--once")
        self.assertEqual(top[0], 0, top)
        self.assertIn("awaiting", top[1])
        status, _, told = self.cli("submit", self.queue, "--after", "9007199254740991", stdin=b"z")
        self.assertNotEqual(status, 0)
        self.assertIn("9007199254740991", told)

    def test_beanstalkd(self):
        first = self.client.submit(self.queue)
        then = self.after(first, queue=self.queue)
        port = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", self.server.addresses).group(1))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
            file = s.makefile("rwb")

            def ask(command):
                file.write(command.encode() + b"\r\n")
                file.flush()
                line = file.readline().decode().split()
                return line, file.read(int(line[-1]) + 2).decode() if line[0] in ("OK", "RESERVED", "FOUND") else ""

            self.assertIn("state: delayed", ask(f"stats-job {then}")[1])
            self.assertIn("current-jobs-delayed: 1", ask(f"stats-tube {self.queue}")[1])
            self.assertEqual(ask(f"reserve-job {then}")[0], ["NOT_FOUND"])
            self.assertEqual(ask(f"kick-job {then}")[0], ["KICKED"])
            self.assertIn("state: ready", ask(f"stats-job {then}")[1])
            then = self.after(first, queue=self.queue)
            self.assertEqual(ask(f"delete {then}")[0], ["DELETED"])
            self.assertEqual(ask(f"delete {first}")[0], ["DELETED"])


if __name__ == "__main__":
    harness.main()
