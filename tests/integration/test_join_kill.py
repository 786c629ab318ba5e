"""tests/integration/test_join_kill.py -- kill -9 of a server whose jobs run after others: a graph drawn at random, in one transaction.

Workers reserve, look whether all that the job was to run after are done, and complete it. Over any number of lives of the server no job may be
leased before those, and at the end each is done, and was so once. $WHILST_TEST_KILLS says how often (default 12).
"""
import http.client
import json
import os
import random
import sys
import threading
import time
import unittest

import harness

KILLS = int(os.environ.get("WHILST_TEST_KILLS", "12"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
GONE = (OSError, http.client.HTTPException)
JOBS, QUEUE = 400, "/v1/queues/graph"


class Graph(unittest.TestCase):
    def draw(self, chance):
        """For each job those before it that it runs after: a few wide fans, chains, and jobs in which much comes together."""
        after = []
        for i in range(JOBS):
            count = chance.choice((0, 1, 1, 2, 3, 20)) if i else 0
            after.append(sorted({chance.randrange(max(0, i - 60), i) for _ in range(count)}) if i else [])
        return after

    def work(self, server, stop):
        client = harness.Client(server.port, 10)
        while not stop.is_set():
            try:
                answer = client.post(f"{QUEUE}/reserve", Prefer="wait=1")
                if answer.status != 200:
                    continue
                job, lease, number = int(answer["Whilst-Job"]), answer["Whilst-Lease"], json.loads(answer.body)
                for before in self.after[number]:
                    state = client.get(f"/v1/jobs/{self.ids[before]}").json()["state"]
                    if state != "done":
                        self.wrong.append(f"job {number} is leased, and {before} is {state}")
                answer = client.complete(job, lease, Whilst_Commit=random.choice(("local", "async")))
            except GONE:
                return  # of what was leased nothing is known: its lease passes
            if answer.status == 200:
                with self.lock:
                    self.completed[number] = self.completed.get(number, 0) + 1

    def test_kill(self):
        print(f"{KILLS} kills, WHILST_TEST_SEED={SEED}", file=sys.stderr)
        chance, server = random.Random(SEED), harness.Server(start=False)
        self.addCleanup(server.remove)
        self.after, self.wrong, self.completed, self.lock = self.draw(chance), [], {}, threading.Lock()
        for life in range(KILLS):
            server.start()
            if life == 0:
                client = server.client()
                actions = [{"action": "submit", "queue": "graph", "payload": i, "attempts": 1000, "time_to_run": "1s", "retention": "1d",
                            **({"after": [{"action": k} for k in after]} if after else {})} for i, after in enumerate(self.after)]
                answer = client.post("/v1/transactions", json.dumps({"actions": actions}), Content_Type="application/json")
                self.assertEqual(answer.status, 200, answer)
                self.ids = [r["id"] for r in answer.json()["results"]]
                client.close()
            with harness.workers(self.work, server):
                time.sleep(chance.uniform(0.02, 0.12))  # the moment of the kill is the test's subject
                server.kill()
            self.assertEqual(self.wrong, [])
        server.start()
        client = server.client()
        with harness.workers(self.work, server):
            harness.eventually(lambda: client.get(QUEUE).json()["jobs"]["done"] == JOBS, "all of the graph", timeout=60)
        queue = client.get(QUEUE).json()
        self.assertEqual(self.wrong, [])
        self.assertEqual((queue["submitted"], queue["jobs"]["done"], queue["jobs"]["awaiting"]), (JOBS, JOBS, 0), queue)
        # the kernel has what was answered, so no end is lost, and none comes twice
        self.assertEqual({number: n for number, n in self.completed.items() if n != 1}, {})
        client.close()
        server.stop()


if __name__ == "__main__":
    harness.main()
