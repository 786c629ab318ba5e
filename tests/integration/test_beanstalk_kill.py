#!/usr/bin/env python3
"""tests/integration/test_beanstalk_kill.py -- kill -9 while beanstalkd clients put, reserve, bury and delete.

What was answered INSERTED at `local` is there after a restart, with its body, unless it was answered DELETED or a delete was under
way; what was answered DELETED stays away; what was BURIED is buried; and every job that was reserved is ready at once.
"""
import os
import random
import sys
import threading
import time
import unittest

import beanstalkd
import harness
from test_beanstalk_store import Line, port_of

KILLS = int(os.environ.get("WHILST_TEST_KILLS", "12"))
SEED = int(os.environ.get("WHILST_TEST_SEED", "0"))
THREADS = 6


class Client(threading.Thread):
    """Puts in batches, then reserves some of what there is; remembers what it was told."""

    def __init__(self, port, number, seed):
        super().__init__()
        self.line, self.number, self.rng = Line(port), number, random.Random(seed)
        self.inserted, self.deleted, self.buried, self.unsure = {}, set(), set(), set()

    def put_some(self, count):
        bodies = [b"%d-%d-%d" % (self.number, self.rng.randrange(1 << 30), i) + b"x" * self.rng.randrange(300)
                  for i in range(count)]
        self.line.socket.sendall(b"".join(b"put 0 0 3600 %d\r\n%s\r\n" % (len(body), body) for body in bodies))
        for body in bodies:
            answer = self.line.answer()
            if not answer.startswith("INSERTED "):
                raise ConnectionError(answer)
            self.inserted[int(answer.split()[1])] = body

    def work_on_one(self):
        answer = self.line.ask("reserve-with-timeout 0\r\n")
        if answer == "TIMED_OUT":
            return
        if not isinstance(answer, tuple):
            raise ConnectionError(answer)
        job = int(answer[0].split()[1])
        choice = self.rng.randrange(4)
        if choice == 0:
            return # keeps it reserved
        self.unsure.add(job)
        got = self.line.ask(f"delete {job}\r\n" if choice < 3 else f"bury {job} 1\r\n")
        if got == "DELETED":
            self.deleted.add(job)
        elif got == "BURIED":
            self.buried.add(job)
        else:
            raise ConnectionError(got)
        self.unsure.discard(job)

    def run(self):
        try:
            while True:
                self.put_some(self.rng.choice((1, 1, 5, 40)))
                for _ in range(self.rng.randrange(4)):
                    self.work_on_one()
        except OSError:
            pass
        self.line.close()


def delete_all(line, jobs):
    for at in range(0, len(jobs), 500):
        line.socket.sendall(b"".join(b"delete %d\r\n" % int(job) for job in jobs[at:at + 500]))
        for _ in jobs[at:at + 500]:
            line.answer()


class Kill(unittest.TestCase):
    def test_nothing_answered_is_lost(self):
        server = harness.Server("--beanstalk", "127.0.0.1:0")
        self.addCleanup(server.remove)
        inserted, deleted, buried, unsure = {}, set(), set(), set()
        total = 0
        for kill in range(KILLS):
            clients = [Client(port_of(server), number, (SEED * 1000 + kill) * 100 + number) for number in range(THREADS)]
            for client in clients:
                client.start()
            time.sleep(random.Random(SEED * 1000 + kill).uniform(0.02, 0.2)) # the moment is what is being tried
            server.kill()
            for client in clients:
                client.join()
                self.assertFalse(set(client.inserted) & set(inserted), "an id was given twice")
                inserted.update(client.inserted)
                deleted |= client.deleted
                buried |= client.buried
                unsure |= client.unsure
            server.start()
            line = Line(port_of(server))
            for job, body in inserted.items():
                got = line.ask(f"peek {job}\r\n")
                if job in deleted:
                    self.assertEqual(got, "NOT_FOUND", f"kill {kill}: {job} was deleted")
                elif job not in unsure or got != "NOT_FOUND":
                    self.assertEqual(got, (f"FOUND {job} {len(body)}", body), f"kill {kill}: {job} was put")
                    state = beanstalkd.parse_yaml(line.ask(f"stats-job {job}\r\n")[1])["state"]
                    if job not in unsure:
                        self.assertEqual(state, "buried" if job in buried else "ready", f"kill {kill}: {job}")
            total += len(inserted)
            # begin anew, so that each round looks at its own jobs only
            delete_all(line, list(inserted))
            answer = line.ask("reserve-with-timeout 0\r\n")
            while answer != "TIMED_OUT": # put, and never answered
                delete_all(line, [answer[0].split()[1]])
                answer = line.ask("reserve-with-timeout 0\r\n")
            line.close()
            inserted, deleted, buried, unsure = {}, set(), set(), set()
        self.assertGreater(total, KILLS * THREADS)
        print(f"{KILLS} kills, {total} jobs acknowledged", file=sys.stderr)
        server.stop()


if __name__ == "__main__":
    harness.main()
