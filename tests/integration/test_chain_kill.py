"""tests/integration/test_chain_kill.py -- kill -9 of a server whose workers complete a job, submit its successor and publish that it is done in one transaction.

Each link of each chain is a job; workers send a transaction again until they know what became of it, over any number of lives of the
server. At the end every link was there exactly once, and of each that was done so, and of no other, there is one event for each subscription. $WHILST_TEST_KILLS says how often (default 20).
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

KILLS = int(os.environ.get("WHILST_TEST_KILLS", "20"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
GONE = (OSError, http.client.HTTPException)
CHAINS, QUEUE = 30, "/v1/queues/links"


class Links:
    """What workers have seen: one id for each link."""

    def __init__(self):
        self.lock, self.ids, self.wrong = threading.Lock(), {}, []

    def see(self, link, job):
        with self.lock:
            if self.ids.setdefault(link, job) != job:
                self.wrong.append(f"link {link} is there twice: {self.ids[link]} and {job}")


class Chain(unittest.TestCase):
    def work(self, server, links, stop):
        client = harness.Client(server.port, 10)
        while not stop.is_set():
            try:
                answer = client.post(f"{QUEUE}/reserve", Prefer="wait=1")
            except GONE:
                return  # of what was leased nothing is known: its lease passes
            if answer.status != 200:
                continue
            chain, link = json.loads(answer.body)
            links.see((chain, link), int(answer["Whilst-Job"]))
            actions = [{"action": "complete", "job": int(answer["Whilst-Job"]), "lease": answer["Whilst-Lease"]},
                       {"action": "submit", "queue": "links", "payload": [chain, link + 1], "attempts": 1000, "time_to_run": "1s",
                        "retention": "1d"},
                       {"action": "publish", "topic": "done", "event": {"specversion": "1.0", "id": f"{chain}-{link}", "source": "/chain", "type": "link"}}]
            level = random.choice(("local", "async"))
            try:
                answer = client.post("/v1/transactions", json.dumps({"actions": actions}), Whilst_Commit=level)
            except GONE:
                return
            if answer.status == 200:
                links.see((chain, link + 1), answer.json()["results"][1]["id"])
            elif answer.status != 409 or answer.json()["cause"] != "lease-lost":
                links.wrong.append(repr(answer))

    def test_kill(self):
        print(f"{KILLS} kills, WHILST_TEST_SEED={SEED}", file=sys.stderr)
        chance, links, server = random.Random(SEED), Links(), harness.Server(start=False)
        self.addCleanup(server.remove)
        for life in range(KILLS):
            server.start()
            if life == 0:
                client = server.client()
                client.put("/v1/topics/done", {"retention": "1d"})
                for name in ("a", "b"):
                    client.put(f"/v1/topics/done/subscriptions/{name}", {})
                for chain in range(CHAINS):
                    links.see((chain, 0), client.submit("links", json.dumps([chain, 0]), "?attempts=1000&time-to-run=1s&retention=1d"))
                client.close()
            with harness.workers(self.work, server, links):
                time.sleep(chance.uniform(0.02, 0.15))  # the moment of the kill is the test's subject
                server.kill()
            self.assertEqual(links.wrong, [])
        server.start()
        client = server.client()
        # what was leased in the last lives comes back, and is the newest link of its chain; one at a time, and each for good
        newest = {}
        while len(newest) < CHAINS:
            answer = client.post(f"{QUEUE}/reserve", Prefer="wait=5")
            if answer.status == 200:
                chain, link = json.loads(answer.body)
                links.see((chain, link), int(answer["Whilst-Job"]))
                self.assertNotIn(chain, newest, "a chain has two ends")
                if client.complete(int(answer["Whilst-Job"]), answer["Whilst-Lease"]).status == 200:  # else it was slow, and comes again
                    newest[chain] = link
        queue = client.get(QUEUE).json()
        wanted = sum(link + 1 for link in newest.values())
        self.assertEqual((queue["submitted"], queue["jobs"]["done"]), (wanted, wanted), queue)
        self.assertEqual(links.wrong, [])
        self.assertEqual(set(links.ids), {(chain, link) for chain in newest for link in range(newest[chain] + 1)})
        self.assertGreater(wanted, CHAINS, "work was done")
        told = sorted(f"{chain}-{link}" for chain in newest for link in range(newest[chain]))
        for name in ("a", "b"):
            got = []
            while (answer := client.post(f"/v1/queues/done%2F{name}/reserve?n=1000", Accept="application/cloudevents-batch+json")).status == 200:
                got += [event["id"] for event in answer.json()]
            self.assertEqual(sorted(got), told, "an event for each link that was done, and for no other")
        self.assertEqual(client.get("/v1/topics/done").json()["events"], len(told))
        client.close()
        server.stop()
        print(f"{wanted} links", file=sys.stderr)


if __name__ == "__main__":
    harness.main()
