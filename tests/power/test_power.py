"""tests/power/test_power.py -- the power is cut under the real server, and what was not flushed is gone.

The program as it is released runs on a file system that loses what was not flushed (powerfs.c), while clients submit, reserve and
complete at both levels. After each cut, for every change that was answered, the end of its epoch that the server publishes says
whether it is there (I10), and it is so: the job is there with its payload, or its id is unknown; it is done with its result,
or not done. What was answered at `local` is always there (I1, I4), with `async` what is missing is the youngest (I2), and no older
than the window that is promised (I9, measured). Ids and leases only rise (I5, I6), what was there once stays (I7), the server
always starts (I8), also when power is cut again while it does.

The disk is bad in other ways, too: a flush fails once and all later ones succeed, of pages that the kernel has let go of meanwhile; or each
flush takes long.

    WHILST_TEST_CUTS   how many (default 10)
    WHILST_TEST_SEED   the moments and the damage
"""
import collections
import http.client
import os
import random
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import harness  # noqa: E402
import machine  # noqa: E402

CUTS = int(os.environ.get("WHILST_TEST_CUTS", "10"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
WINDOW_S = 1.5  # an asynchronous commit waits for the disk when the oldest unflushed byte is 1 s old
GONE = (OSError, http.client.HTTPException, AssertionError, ValueError)

Answer = collections.namedtuple("Answer", "kind level job payload position moment")


class Life:
    """Clients of one life of the server, and what they were told."""

    def __init__(self, port, number, leases, levels, patience_s=10):
        self.patience_s = patience_s
        self.port, self.number, self.stop = port, number, False
        self.lock, self.answers, self.wrong, self.leases = threading.Lock(), [], [], leases
        self.threads = [threading.Thread(target=self.guard, args=(work, level))
                        for level in levels for work in (self.submit, self.submit, self.work)]
        for thread in self.threads:
            thread.start()

    def guard(self, work, level):
        client = harness.Client(self.port, self.patience_s)
        try:
            work(client, level)
        except GONE:
            pass
        finally:
            client.close()

    def answered(self, kind, level, job, payload, answer):
        moment = time.monotonic()
        epoch, lsn = answer["Whilst-Position"].split("/")
        if answer["Whilst-Commit"] != level:
            self.wrong.append(f"{level} was asked for, {answer['Whilst-Commit']} given")
        with self.lock:
            self.answers.append(Answer(kind, level, job, payload, (int(epoch), int(lsn)), moment))

    def submit(self, client, level):
        i = 0
        while not self.stop:
            payload = f"{level} {self.number} {threading.get_ident()} {i} ".encode() + b"x" * (i % 7 * 90)
            i += 1
            answer = client.post("/v1/queues/q/jobs?attempts=1000&time-to-run=60s", payload, Whilst_Commit=level)
            if answer.status == 202:
                self.answered("submit", level, answer.json()["id"], payload, answer)

    def work(self, client, level):
        while not self.stop:
            answer = client.post("/v1/queues/q/reserve", Prefer="wait=1")
            if answer.status != 200:
                continue
            job, token = int(answer["Whilst-Job"]), tuple(int(n) for n in answer["Whilst-Lease"].split("."))
            with self.lock:
                if token <= self.leases.get(job, (-1, -1)):
                    self.wrong.append(f"lease {token} of job {job} does not rise over {self.leases[job]}")
                self.leases[job] = token
            result = b"result of " + answer.body
            done = client.complete(job, answer["Whilst-Lease"], result, Whilst_Commit=level)
            if done.status == 200:
                self.answered("complete", level, job, result, done)

    def join(self):
        self.stop = True
        for thread in self.threads:
            thread.join()


class Power(unittest.TestCase):
    def run_on(self, cuts, seed, *disk_options):
        chance = random.Random(seed)
        print(f"{cuts} cuts, seed {seed} {' '.join(disk_options)}", file=sys.stderr)
        self.totals, self.ages, self.settled, self.ids = collections.Counter(), [], {}, set()
        with machine.Disk(*disk_options) as disk:
            server = harness.Server("--log-level", "warn", data=os.path.join(disk.path, "data"), start=False)
            try:
                leases = {}
                for number in range(cuts):
                    self.start(server, disk, chance)
                    life = Life(server.port, number, leases,
                                chance.choice((("async",), ("async", "local"), ("async", "local"))))
                    time.sleep(chance.uniform(0.01, 0.25))  # the moment of the cut is the test's subject
                    moment = machine.end_all(server.process)
                    server.kill()
                    life.join()
                    self.assertEqual(life.wrong, [])
                    mood = chance.choice(("old", "mix", "mix", "new"))
                    disk.cut(mood, chance.randrange(1 << 32))
                    where = f"cut {number} of seed {seed} ({mood}): "
                    self.start(server, disk, chance)
                    client = server.client()
                    self.check(client, life, moment, mood, where)
                    self.totals[mood] += 1
                    client.close()
                    if chance.random() < 0.2:
                        server.stop()
                    else:
                        server.kill()
                server.start()
                client = server.client()
                for job, (done, payload) in self.settled.items():
                    self.look(client, job, True, done, payload, "at the end: ")
                client.close()
                server.stop()
            finally:
                server.kill()
        self.tell()

    def start(self, server, disk, chance):
        """Start it; once in a while power is cut while it starts."""
        while chance.random() < 0.2:
            server.spawn()
            time.sleep(chance.uniform(0, 0.06))
            machine.end_all(server.process)
            server.kill()
            disk.cut(chance.choice(("old", "mix", "new")), chance.randrange(1 << 32))
            self.totals["in recovery"] += 1
        server.start()

    def look(self, client, job, there, done, payload, where):
        answer = client.get(f"/v1/jobs/{job}", Whilst_Commit="async")
        self.assertEqual(answer.status, 200 if there else 404, f"{where}job {job}: {answer}")
        if not there:
            return
        state = answer.json()["state"]
        if done is not None:
            self.assertEqual(state == "done", done, f"{where}job {job} is {state}")
        if done:
            got = client.get(f"/v1/jobs/{job}/result", Whilst_Commit="async")
            self.assertEqual(got.body, payload, f"{where}result of job {job}")

    def check(self, client, life, moment, mood, where):
        ends = {e["epoch"]: e["end"] for e in client.get("/v1/log").json()["epochs"]}
        completed = {a.job: a for a in life.answers if a.kind == "complete"}
        lost_oldest = None
        for answer in life.answers:
            epoch, lsn = answer.position
            there = lsn <= ends[epoch]
            self.totals[f"{answer.level} answered"] += 1
            if not there:
                self.assertEqual(answer.level, "async", f"{where}{answer} is lost")
                self.assertNotEqual(mood, "new", f"{where}{answer} is lost with the process alone")
                self.totals["async lost"] += 1
                self.ages.append(moment - answer.moment)
                lost_oldest = max(lost_oldest or 0, moment - answer.moment)
            if answer.kind == "submit":
                self.assertNotIn(answer.job, self.ids, f"{where}id {answer.job} was given twice")
                self.ids.add(answer.job)
                end = completed.get(answer.job)
                is_done = end is not None and end.position[1] <= ends[end.position[0]]
                # a completion that was not answered may be there all the same
                self.look(client, answer.job, there, is_done if end else None, end.payload if end else None, where)
                if there and is_done:
                    self.settled[answer.job] = (True, end.payload)
            elif there:
                self.look(client, answer.job, True, True, answer.payload, where)
                self.settled[answer.job] = (True, answer.payload)
        if lost_oldest is not None:
            self.totals["cuts that lost"] += 1
            self.assertLess(lost_oldest, WINDOW_S, f"{where}the window of loss")

    def tell(self):
        bounds = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 9)
        counts = [sum(1 for age in self.ages if low <= age < high)
                  for low, high in zip((-9,) + bounds, bounds)]
        print(", ".join(f"{name}: {n}" for name, n in sorted(self.totals.items())), file=sys.stderr)
        print("age of what async lost, ms: " +
              ", ".join(f"<{bound * 1000:g}: {n}" for bound, n in zip(bounds, counts) if n) +
              f"; oldest {max(self.ages, default=0) * 1000:.1f} ms", file=sys.stderr)
        self.assertGreater(self.totals["local answered"], CUTS)

    def test_journal(self):
        """Names as ext4 and XFS keep them."""
        self.run_on(CUTS - CUTS // 3, SEED)

    def test_strict(self):
        """A name is safe when its folder was flushed, and not before; a disk that is slow."""
        self.run_on(CUTS // 3 + 1, SEED + 1, "--strict", "--flush-us", "3000")

    def test_flush_fails(self):
        """One flush fails, and later ones say that all is well: the process ends, and a start believes the disk, not the page cache."""
        times, chance = CUTS // 5 + 1, random.Random(SEED + 2)
        print(f"{times} flushes fail, seed {SEED}", file=sys.stderr)
        self.totals, self.ages, self.settled, self.ids, leases = collections.Counter(), [], {}, set(), {}
        with machine.Disk() as disk:
            server = harness.Server("--log-level", "warn", data=os.path.join(disk.path, "data"), start=False)
            try:
                for number in range(times):
                    server.start()
                    life = Life(server.port, number, leases, ("async", "local"))
                    harness.eventually(lambda l=life: sum(a.level == "local" for a in l.answers) > 2 * CUTS, "some answers")
                    disk.command("eio 1")
                    self.assertEqual(server.wait(), 1, server.log())
                    moment = time.monotonic()
                    life.join()
                    self.assertEqual(life.wrong, [])
                    where = f"failed flush {number} of seed {SEED}: "
                    for mood in ("the cache is there", "the cache is gone"):
                        server.start()  # what it takes for true past the cache stays so
                        client = server.client()
                        kept = self.totals
                        self.totals = collections.Counter()
                        self.ids.difference_update(answer.job for answer in life.answers)
                        self.check(client, life, moment, mood, where + mood + ": ")
                        for job, (done, payload) in self.settled.items():
                            self.look(client, job, True, done, payload, where + mood + ": ")
                        client.close()
                        server.kill()
                        disk.cut("old", chance.randrange(1 << 32))
                        self.totals = kept if mood == "the cache is there" else kept + self.totals
                    self.totals["failed flushes"] += 1
                self.assertEqual(int(disk.counters()[-1]), times)
            finally:
                server.kill()
        self.tell()

    def test_slow_flushes(self):
        """Flushes that take up to a fifth of a second, now and then: answers come late, nothing that was answered is lost."""
        times, chance = CUTS // 5 + 1, random.Random(SEED + 3)
        print(f"{times} cuts of a slow disk, seed {SEED}", file=sys.stderr)
        self.totals, self.ages, self.settled, self.ids, leases = collections.Counter(), [], {}, set(), {}
        with machine.Disk() as disk:
            server = harness.Server("--log-level", "warn", data=os.path.join(disk.path, "data"), start=False)
            try:
                for number in range(times):
                    server.start()
                    life = Life(server.port, number, leases, ("async", "local"))
                    client = server.client()
                    for _ in range(3):
                        delay, count = chance.choice((100, 20000, 100000, 200000)), len(life.answers)
                        disk.command(f"delay {delay}")
                        harness.eventually(lambda l=life, c=count: len(l.answers) > c + 2 * CUTS, "answers")
                        self.assertEqual(client.get("/livez").status, 200)
                    client.close()
                    moment = machine.end_all(server.process)
                    server.kill()
                    life.join()
                    self.assertEqual(life.wrong, [])
                    mood = chance.choice(("old", "mix", "new"))
                    disk.cut(mood, chance.randrange(1 << 32))
                    disk.command("delay 100")
                    server.start()
                    client = server.client()
                    self.check(client, life, moment, mood, f"cut {number} of a slow disk, seed {SEED} ({mood}): ")
                    client.close()
                    server.stop()
                    self.totals["slow " + mood] += 1
            finally:
                server.kill()
        self.tell()


if __name__ == "__main__":
    try:
        machine.Disk().close()
    except machine.NoFuse as no:
        machine.without_fuse(no)
    harness.main()
