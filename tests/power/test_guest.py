"""tests/power/test_guest.py -- the power is cut under a kernel with a file system and the real server: the journal of ext4 or XFS, the guest's
page cache and the drive's write cache lose what was not flushed (guest.py).

What must hold is what test_power.py says. Here it is a kernel that decides what reaches the disk before it is asked to.

    WHILST_TEST_CUTS          how many on each file system (default 3: a guest takes long to start on an emulated processor)
    WHILST_TEST_SEED          the moments and the damage
    WHILST_TEST_FILE_SYSTEMS  default "ext4 xfs"
"""
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import cuts  # noqa: E402
import guest  # noqa: E402
import harness  # noqa: E402
import machine  # noqa: E402

CUTS = int(os.environ.get("WHILST_TEST_CUTS", "3"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
FILE_SYSTEMS = os.environ.get("WHILST_TEST_FILE_SYSTEMS", "ext4 xfs").split()


class Lives(cuts.Lives):
    BOOT_S = 12
    PATIENCE_S = 60
    LOCAL_MIN = 3
    WINDOW_S = 30  # the clocks of an emulated machine run as they like
    LEVELS = (("async", "local"),)
    IS_PROCESS = False  # whatever the drive has kept, the guest's memory is gone

    def live(self, life):
        wanted = self.chance.randrange(5, 60)
        harness.eventually(lambda: len(life.answers) >= wanted or life.is_over(), "some answers", 6 * self.PATIENCE_S)
        time.sleep(self.chance.uniform(0, 1))  # the moment of the cut is the test's subject

    def end_all(self):
        moment = time.monotonic()
        self.server.kill()
        return moment

    def rest(self):
        if self.totals["told"] == 0:
            print(next((line for line in self.server.said().splitlines() if line.startswith("GUEST")), ""), file=sys.stderr)
            self.totals["told"] = 1
        if self.chance.random() < 0.3:  # else it goes on: a start takes long
            self.end_all()
            self.lose(self.chance.choice(("old", "mix", "new")))
            self.totals["after the checks"] += 1


class Guest(unittest.TestCase):
    def cut(self, file_system):
        if file_system not in FILE_SYSTEMS:
            self.skipTest("WHILST_TEST_FILE_SYSTEMS")
        with machine.Disk() as disk:
            try:
                server = guest.Guest(disk, harness.BINARY, file_system)
            except guest.NoGuest as no:
                self.skipTest(str(no))
            try:
                lives = Lives(self, f"a guest on {file_system}", server, disk, SEED)
                try:
                    lives.run(CUTS)
                finally:
                    lives.tell()
            finally:
                server.close()

    def test_ext4(self):
        self.cut("ext4")

    def test_xfs(self):
        self.cut("xfs")


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
