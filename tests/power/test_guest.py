"""tests/power/test_guest.py -- the power is cut under a kernel with a file system and the real server: ext4's journal, the guest's page cache
and the drive's write cache lose what was not flushed (guest.py).

What must hold is what test_power.py says. Here it is a kernel that decides what reaches the disk before it is asked to.

    WHILST_TEST_CUTS   how many (default 3: a guest takes long to start on an emulated processor)
    WHILST_TEST_SEED   the moments and the damage
"""
import collections
import os
import random
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import guest  # noqa: E402
import harness  # noqa: E402
import machine  # noqa: E402
import test_power  # noqa: E402

CUTS = int(os.environ.get("WHILST_TEST_CUTS", "3"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
test_power.WINDOW_S = 30  # the clocks of an emulated machine run as they like
test_power.CUTS = 0  # what tell() wants: that something was answered at all


class Guest(unittest.TestCase):
    look, check, tell = test_power.Power.look, test_power.Power.check, test_power.Power.tell

    def start(self, server, disk, chance):
        """Start it; once in a while power is cut while it boots or recovers."""
        while chance.random() < 0.2:
            server.spawn()
            time.sleep(chance.uniform(0, 12))  # the moment of the cut is the test's subject
            server.kill()
            disk.cut(chance.choice(("old", "mix", "new")), chance.randrange(1 << 32))
            self.totals["in recovery"] += 1
        server.start()

    def test_power_is_cut(self):
        chance = random.Random(SEED)
        print(f"{CUTS} cuts of a guest, seed {SEED}", file=sys.stderr)
        self.totals, self.ages, self.settled, self.ids, leases = collections.Counter(), [], {}, set(), {}
        with machine.Disk() as disk:
            server = guest.Guest(disk, harness.BINARY)
            try:
                for number in range(CUTS):
                    self.start(server, disk, chance)
                    life = test_power.Life(server.port, number, leases, ("async", "local"), 60)
                    wanted = chance.randrange(5, 60)
                    harness.eventually(lambda l=life, w=wanted: len(l.answers) >= w or not any(t.is_alive() for t in l.threads),
                                       "some answers")
                    time.sleep(chance.uniform(0, 1))  # as above
                    moment = time.monotonic()
                    server.kill()
                    life.join()
                    self.assertEqual(life.wrong, [])
                    mood = chance.choice(("old", "mix", "mix", "new"))
                    disk.cut(mood, chance.randrange(1 << 32))
                    where = f"cut {number} of a guest, seed {SEED} ({mood}): "
                    self.start(server, disk, chance)
                    client = harness.Client(server.port, 60)
                    # whatever the drive has kept, the guest's memory is gone
                    self.check(client, life, moment, "guest", where)
                    for job, (done, payload) in self.settled.items():
                        self.look(client, job, True, done, payload, where)
                    client.close()
                    if number == 0:
                        print(next((line for line in server.said().splitlines() if line.startswith("GUEST")), ""), file=sys.stderr)
                    server.kill()
                    disk.cut(chance.choice(("old", "mix", "new")), chance.randrange(1 << 32))
                    self.totals["guest " + mood] += 1
            finally:
                server.close()
        self.tell()


if __name__ == "__main__":
    try:
        machine.Disk().close()
        guest.find_kernel()
    except machine.NoFuse as no:
        machine.without_fuse(no)
    except guest.NoGuest as no:
        print(f"skipped: {no}")
        sys.exit(77)
    harness.main()
