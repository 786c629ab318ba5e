"""tests/power/cuts.py -- lives of a server that end with a power cut, and what must hold after each.

For test_power.py, where the server's file system loses what was not flushed, and test_guest.py, where a drive below a whole kernel does.
The former says what must hold.
"""
import collections
import http.client
import random
import sys
import threading
import time

import harness
import machine

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

    def is_over(self):
        return not any(thread.is_alive() for thread in self.threads)

    def join(self):
        self.stop = True
        for thread in self.threads:
            thread.join()


class Lives:
    """Life after life of a server on a disk: what was promised in all of them, and what was lost. A kind of server overrides what is
    its own."""

    BOOT_S = 0.06            # power may be cut as long as it starts
    PATIENCE_S = 10          # of a client
    LOCAL_MIN = 10           # that many answers at `local` there must be in all
    WINDOW_S = 1.5           # an asynchronous commit waits for the disk when the oldest unflushed byte is 1 s old
    LEVELS = (("async", "local"), ("async",), ("async", "local"))  # in turn
    IS_PROCESS = True        # the kernel below it survives, so that a cut that takes nothing from the disk loses nothing

    def __init__(self, case, name, server, disk, seed):
        self.case, self.name, self.server, self.disk, self.seed = case, name, server, disk, seed
        self.chance = random.Random(seed)
        self.totals, self.ages, self.settled, self.ids, self.leases = collections.Counter(), [], {}, set(), {}

    # -- what kinds of servers do in their own way

    def live(self, _life):
        time.sleep(self.chance.uniform(0.01, 0.25))  # the moment of the cut is the test's subject

    def end_all(self):
        """The moment at which the power went."""
        return machine.end_all(self.server.process)

    def rest(self):
        """After the checks."""
        if self.chance.random() < 0.2:
            self.server.stop()
        else:
            self.server.kill()

    # -- what they have in common

    def begin(self, number):
        return Life(self.server.port, number, self.leases, self.LEVELS[number % len(self.LEVELS)], self.PATIENCE_S)

    def await_local(self, life, count):
        """A busy machine answers little in the time that a life has, and to see nothing lost of nothing would prove nothing."""
        harness.eventually(lambda: sum(answer.level == "local" for answer in life.answers) >= count or life.is_over(), "some answers",
                           6 * self.PATIENCE_S)

    def lose(self, mood):
        self.disk.cut(mood, self.chance.randrange(1 << 32))

    def cut(self, life):
        """The power goes amid a life. Gives the moment."""
        moment = self.end_all()
        self.server.kill()
        life.join()
        self.case.assertEqual(life.wrong, [])
        return moment

    def start(self):
        """Start it, if it does not run; once in a while power is cut while it starts."""
        if self.server.process:
            return
        while self.chance.random() < 0.2:
            self.server.spawn()
            time.sleep(self.chance.uniform(0, self.BOOT_S))
            self.end_all()
            self.server.kill()
            self.lose(self.chance.choice(("old", "mix", "new")))
            self.totals["in recovery"] += 1
        self.server.start()

    def run(self, cuts):
        print(f"{cuts} cuts of {self.name}, seed {self.seed}", file=sys.stderr)
        for number in range(cuts):
            self.start()
            life = self.begin(number)
            if number == 0:
                self.await_local(life, self.LOCAL_MIN)
            self.live(life)
            moment = self.cut(life)
            mood = self.chance.choice(("old", "mix", "mix", "new"))
            self.lose(mood)
            where = f"cut {number} of {self.name}, seed {self.seed} ({mood}): "
            self.start()
            client = harness.Client(self.server.port, 6 * self.PATIENCE_S)
            self.check(client, life, moment, where, mood == "new" and self.IS_PROCESS)
            self.look_at_settled(client, where, 50)
            client.close()
            self.totals[mood] += 1
            self.rest()
        self.start()
        client = harness.Client(self.server.port, 6 * self.PATIENCE_S)
        self.look_at_settled(client, "at the end: ", len(self.settled))
        client.close()
        self.server.kill()

    def look(self, client, job, there, done, payload, where):
        answer = client.get(f"/v1/jobs/{job}", Whilst_Commit="async")
        self.case.assertEqual(answer.status, 200 if there else 404, f"{where}job {job}: {answer}")
        if not there:
            return
        state = answer.json()["state"]
        if done is not None:
            self.case.assertEqual(state == "done", done, f"{where}job {job} is {state}")
        if done:
            got = client.get(f"/v1/jobs/{job}/result", Whilst_Commit="async")
            self.case.assertEqual(got.body, payload, f"{where}result of job {job}")

    def look_at_settled(self, client, where, count_max):
        """What was there once stays."""
        for job in self.chance.sample(sorted(self.settled), min(count_max, len(self.settled))):
            done, payload = self.settled[job]
            self.look(client, job, True, done, payload, where)

    def check(self, client, life, moment, where, keeps_all=False):
        ends = {e["epoch"]: e["end"] for e in client.get("/v1/log").json()["epochs"]}
        completed = {a.job: a for a in life.answers if a.kind == "complete"}
        lost_oldest = None
        for answer in life.answers:
            epoch, lsn = answer.position
            there = lsn <= ends[epoch]
            self.totals[f"{answer.level} answered"] += 1
            if not there:
                self.case.assertEqual(answer.level, "async", f"{where}{answer} is lost")
                self.case.assertFalse(keeps_all, f"{where}{answer} is lost with the process alone")
                self.totals["async lost"] += 1
                self.ages.append(moment - answer.moment)
                lost_oldest = max(lost_oldest or 0, moment - answer.moment)
            if answer.kind == "submit":
                self.case.assertNotIn(answer.job, self.ids, f"{where}id {answer.job} was given twice")
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
            self.case.assertLess(lost_oldest, self.WINDOW_S, f"{where}the window of loss")

    def tell(self):
        """Says what was counted."""
        bounds = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 9)
        counts = [sum(1 for age in self.ages if low <= age < high)
                  for low, high in zip((-9,) + bounds, bounds)]
        print(f"{self.name}: " + ", ".join(f"{name}: {n}" for name, n in sorted(self.totals.items())), file=sys.stderr)
        print("age of what async lost, ms: " +
              ", ".join(f"<{bound * 1000:g}: {n}" for bound, n in zip(bounds, counts) if n) +
              f"; oldest {max(self.ages, default=0) * 1000:.1f} ms", file=sys.stderr)
        self.case.assertGreaterEqual(self.totals["local answered"], self.LOCAL_MIN)
