"""tests/integration/test_soak.py -- a server under load for as long as one likes: nothing of it grows but what it is given to keep.

Jobs come in batches, with payloads in the log and in files; they are leased and end in an order of chance, some late, some never, some cancelled, so that no part of
the log becomes free as a whole. Sampled all the time: what is on the disk, at most twice what is needed, the slack and segments that are being
made; memory and descriptors, which after the first third do not rise any more; and that waiting jobs are served.

    WHILST_SOAK_SECONDS   default 40
    WHILST_TEST_SEED      default 1
"""
import json
import os
import random
import re
import threading
import time
import unittest

import harness

SECONDS = float(os.environ.get("WHILST_SOAK_SECONDS", "40"))
SEED = int(os.environ.get("WHILST_TEST_SEED", "1"))
MIB = 1 << 20
SLACK, SEGMENT, BACKLOG, PAYLOAD = 64 * MIB, 64 * MIB, 1500, 12000



def used(folder):
    """Bytes on the disk; of files that are removed meanwhile, nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


class Soak(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server("--disk-slack", f"{SLACK}", "--checkpoint-every", "4MiB", "--compact-rate", "64MiB")
        self.addCleanup(self.server.remove)
        self.stop = threading.Event()
        self.ended = self.given = 0
        self.failure = None
        self.lock = threading.Lock()

    def guarded(self, work, number):
        """A thread's: what goes wrong in it ends the test."""
        client = self.server.client()
        try:
            work(client, random.Random(SEED * 1000 + number))
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = self.failure or failure
            self.stop.set()
        finally:
            client.close()

    def submit(self, client, chance):
        while not self.stop.is_set():
            waiting = client.get("/v1/queues/q").json()["jobs"]["ready"] if self.given else 0
            if waiting > BACKLOG:
                self.stop.wait(0.01)  # as much as is to be there
                continue
            lines = b"".join(json.dumps({"n": n, "x": "y" * chance.randrange(PAYLOAD)}).encode() + b"\n" for n in range(50))
            answer = client.post("/v1/queues/q/jobs?retention=0s", lines, Content_Type="application/x-ndjson")
            self.assertEqual(answer.status, 202, answer)
            if chance.random() < 0.1:
                client.submit("q", bytes(MIB + chance.randrange(MIB)), "?retention=0s")
                self.given += 1
            self.given += 50

    def work(self, client, chance):
        """Leases that end in another order than they began, some by a release, some by a cancellation."""
        held = []
        while not self.stop.is_set():
            job = client.reserve("q")
            if job:
                held.append(job)
            while len(held) > 40 or (held and not job):
                number, lease, _ = held.pop(chance.randrange(len(held)))
                way = chance.random()
                if way < 0.9:
                    answer = client.complete(number, lease, b"r" * chance.randrange(2000))
                elif way < 0.95:
                    answer = client.post(f"/v1/jobs/{number}/release", Whilst_Lease=lease)
                else:
                    answer = client.post(f"/v1/jobs/{number}/fail?retry=false", b"no", Whilst_Lease=lease)
                self.assertEqual(answer.status, 200, answer)
                self.ended += 1

    def sample(self, client):
        metrics = client.get("/metrics?queues=false").body.decode()
        with open(f"/proc/{self.server.process.pid}/status", encoding="ascii") as f:
            memory = int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024
        needed = re.search(r"(?m)^whilst_log_live_bytes (\d+)", metrics)
        blobs = used(os.path.join(self.server.data, "blobs"))
        return {"disk": used(self.server.data) - blobs, "needed": int(needed.group(1)), "memory": memory, "blobs": blobs,
                "files": len(os.listdir(f"/proc/{self.server.process.pid}/fd")), "ended": self.ended}

    def test_soak(self):
        threads = [threading.Thread(target=self.guarded, args=(self.submit, 0))]
        threads += [threading.Thread(target=self.guarded, args=(self.work, n)) for n in range(1, 4)]
        client, samples, began = self.server.client(), [], time.monotonic()
        for thread in threads:
            thread.start()
        while time.monotonic() < began + SECONDS and not self.stop.is_set():
            samples.append(self.sample(client))
            self.stop.wait(min(1.0, SECONDS / 40))
        self.stop.set()
        for thread in threads:
            thread.join()
        client.close()
        if self.failure:
            raise self.failure
        third = len(samples) // 3
        for sample in samples:
            # the current segment, the next, one of which little is left, and one that is being removed
            self.assertLessEqual(sample["disk"], 2 * sample["needed"] + SLACK + 4 * SEGMENT + 16 * MIB, sample)
            self.assertLess(sample["blobs"], BACKLOG * 2 * MIB)
        most = {name: (max(s[name] for s in samples[:2 * third]), max(s[name] for s in samples[2 * third:])) for name in ("memory", "files")}
        self.assertLessEqual(most["memory"][1], most["memory"][0] * 1.25 + 16 * MIB, most)
        self.assertLessEqual(most["files"][1], most["files"][0] + 16, most)
        self.assertGreater(samples[-1]["ended"], samples[2 * third]["ended"], "nothing went on any more")
        print(f"{self.given} jobs, {self.ended} ends, {samples[-1]['disk'] / MIB:.0f} MiB on the disk of which "
              f"{samples[-1]['needed'] / MIB:.0f} are needed, {samples[-1]['memory'] / MIB:.0f} MiB of memory", flush=True)
        self.server.stop()
        # all that is left is there, and is read
        self.server.start()
        client = self.server.client()
        left = client.get("/v1/queues/q").json()["jobs"]
        for _ in range(min(200, left["ready"])):
            self.assertIsNotNone(client.reserve("q"))
        client.close()
        self.server.stop()


if __name__ == "__main__":
    harness.main()
