"""tests/integration/test_kill.py -- kill -9 of a loaded server, many times: what was acknowledged is kept.

Submitters and workers run without a pause over many lives of one data folder. After each kill:
  - no job whose submit was acknowledged is lost, at async as at local;
  - no job whose completion was acknowledged is handed out or run again, and its result is there;
  - no id is given twice;
  - no lease that was acknowledged by an earlier life fences less than the one before it.
$WHILST_TEST_KILLS says how often (default 50); $WHILST_TEST_SEED makes the moments of the kills repeat.
"""
import http.client
import os
import random
import sys
import threading
import time
import unittest

import harness

KILLS = int(os.environ.get("WHILST_TEST_KILLS", "50"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
GONE = (OSError, http.client.HTTPException, AssertionError, ValueError)


class Life:
    """Clients of one life of the server, and what they were told."""

    def __init__(self, port, history):
        self.port, self.history, self.stop = port, history, False
        self.threads = [threading.Thread(target=self.submit, args=(level,)) for level in ("async", "local")]
        self.threads += [threading.Thread(target=self.work, args=(level,)) for level in ("async", "local")]
        for thread in self.threads:
            thread.start()

    def submit(self, level):
        client = harness.Client(self.port, 10)
        i = 0
        try:
            while not self.stop:
                payload = f"{level} {self.history.life} {i}".encode()
                i += 1
                answer = client.post("/v1/queues/kill/jobs?attempts=1000&time-to-run=20s", payload, Whilst_Commit=level)
                if answer.status == 202:
                    self.history.accepted(answer.json()["id"], payload)
        except GONE:
            pass
        finally:
            client.close()

    def work(self, level):
        client = harness.Client(self.port, 10)
        try:
            while not self.stop:
                answer = client.post("/v1/queues/kill/reserve", Prefer="wait=1")
                if answer.status != 200:
                    continue
                job, lease = int(answer["Whilst-Job"]), answer["Whilst-Lease"]
                self.history.handed_out(job, lease, answer.body)
                done = client.complete(job, lease, b"result of " + answer.body, Whilst_Commit=level)
                if done.status == 200:
                    self.history.completed(job)
        except GONE:
            pass
        finally:
            client.close()

    def join(self):
        self.stop = True
        for thread in self.threads:
            thread.join()


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.life = 0
        self.payloads, self.done, self.leases, self.wrong = {}, set(), {}, []

    def accepted(self, job, payload):
        with self.lock:
            if job in self.payloads:
                self.wrong.append(f"id {job} was given twice: {self.payloads[job]} and {payload}")
            self.payloads[job] = payload

    def handed_out(self, job, lease, payload):
        token = tuple(int(n) for n in lease.split("."))
        with self.lock:
            if job in self.done:
                self.wrong.append(f"job {job} was handed out after its completion was acknowledged")
            if job in self.payloads and self.payloads[job] != payload:
                self.wrong.append(f"job {job} has the payload {payload}, not {self.payloads[job]}")
            if token <= self.leases.get(job, (-1, -1)):
                self.wrong.append(f"lease {token} of job {job} does not rise over {self.leases[job]}")
            self.leases[job] = token

    def completed(self, job):
        with self.lock:
            self.done.add(job)


class Kill(unittest.TestCase):
    def check(self, client, history, jobs):
        for job in jobs:
            answer = client.get(f"/v1/jobs/{job}", Whilst_Commit="async")
            self.assertEqual(answer.status, 200, f"job {job} is lost; {answer}")
            state = answer.json()["state"]
            if job in history.done:
                self.assertEqual(state, "done", f"job {job} was completed")
                result = client.get(f"/v1/jobs/{job}/result", Whilst_Commit="async").body
                self.assertEqual(result, b"result of " + history.payloads.get(job, result[10:]))
            else:
                self.assertIn(state, ("ready", "running", "done"), f"job {job}")

    def test_kill(self):
        print(f"{KILLS} kills, WHILST_TEST_SEED={SEED}", file=sys.stderr)
        chance = random.Random(SEED)
        history = History()
        server = harness.Server(start=False)
        checked = set()
        try:
            # On a slow machine a life may end before it has done anything: then there are more of them.
            while history.life < KILLS or (len(history.done) <= KILLS // 2 and history.life < 10 * KILLS):
                server.start()
                life = Life(server.port, history)
                time.sleep(chance.uniform(0.005, 0.12))  # the moment of the kill is the test's subject
                server.kill()
                life.join()
                self.assertEqual(history.wrong, [])
                history.life += 1
                if history.life % 10 == 0 or history.life == KILLS:
                    server.start()
                    client = server.client()
                    fresh = (set(history.payloads) | history.done) - checked
                    self.check(client, history, sorted(fresh))
                    # what is settled stays so; what was still waiting is looked at again next time
                    checked |= fresh & history.done
                    client.close()
                    server.kill()
            self.assertGreater(len(history.payloads), KILLS, "there was load")
            self.assertGreater(len(history.done), KILLS // 2, "work was done")
            server.start()
            client = server.client()
            self.check(client, history, sorted(set(history.payloads) | history.done))
            total = client.get("/v1/queues/kill").json()
            self.assertGreaterEqual(total["submitted"], len(history.payloads))
            client.close()
            server.stop()
        finally:
            server.remove()
        print(f"{len(history.payloads)} jobs acknowledged, {len(history.done)} completed", file=sys.stderr)


if __name__ == "__main__":
    harness.main()
