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
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import cuts  # noqa: E402
import harness  # noqa: E402
import machine  # noqa: E402

CUTS = int(os.environ.get("WHILST_TEST_CUTS", "10"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))


class Power(unittest.TestCase):
    def lives(self, name, seed, *disk_options):
        """Of the released program on a disk of its own."""
        disk = machine.Disk(*disk_options)
        self.addCleanup(disk.close)
        server = harness.Server("--log-level", "warn", data=os.path.join(disk.path, "data"), start=False)
        self.addCleanup(server.kill)
        return cuts.Lives(self, name, server, disk, seed)

    def test_journal(self):
        """Names as ext4 and XFS keep them."""
        lives = self.lives("a server", SEED)
        lives.run(CUTS - CUTS // 3)
        lives.tell()

    def test_strict(self):
        """A name is safe when its folder was flushed, and not before; a disk that is slow."""
        lives = self.lives("a server on a strict disk", SEED + 1, "--strict", "--flush-us", "3000")
        lives.run(CUTS // 3 + 1)
        lives.tell()

    def test_flush_fails(self):
        """One flush fails, and later ones say that all is well: the process ends, and a start believes the disk, not the page cache."""
        times = CUTS // 5 + 1
        print(f"{times} flushes fail, seed {SEED}", file=sys.stderr)
        lives = self.lives("a failed flush", SEED + 2)
        server, disk = lives.server, lives.disk
        for number in range(times):
            server.start()
            life = lives.begin(0)  # at both levels
            lives.await_local(life, 2 * lives.LOCAL_MIN)
            disk.command("eio 1")
            self.assertEqual(server.wait(), 1, server.log())
            moment = time.monotonic()
            life.join()
            self.assertEqual(life.wrong, [])
            where = f"failed flush {number} of seed {SEED}: "
            kept, ages = lives.totals.copy(), list(lives.ages)
            for look in ("the cache is there: ", "the cache is gone: "):
                server.start()  # what it takes for true past the cache stays so
                client = server.client()
                lives.totals, lives.ages = kept.copy(), list(ages)  # each change counts once
                lives.ids.difference_update(answer.job for answer in life.answers)
                lives.check(client, life, moment, where + look)
                lives.look_at_settled(client, where + look, len(lives.settled))
                client.close()
                server.kill()
                lives.lose("old")
            lives.totals["failed flushes"] += 1
        self.assertEqual(int(disk.counters()[-1]), times)
        lives.tell()

    def test_slow_flushes(self):
        """Flushes that take up to a fifth of a second, now and then: answers come late, nothing that was answered is lost."""
        times = CUTS // 5 + 1
        print(f"{times} cuts of a slow disk, seed {SEED}", file=sys.stderr)
        lives = self.lives("a slow disk", SEED + 3)
        server, disk = lives.server, lives.disk
        for number in range(times):
            server.start()
            life = lives.begin(0)  # at both levels
            client = server.client()
            for _ in range(3):
                delay, count = lives.chance.choice((100, 20000, 100000, 200000)), len(life.answers)
                disk.command(f"delay {delay}")
                harness.eventually(lambda l=life, c=count: len(l.answers) > c + 20, "answers")
                self.assertEqual(client.get("/livez").status, 200)
            client.close()
            moment = lives.cut(life)
            mood = lives.chance.choice(("old", "mix", "new"))
            lives.lose(mood)
            disk.command("delay 100")
            server.start()
            client = server.client()
            lives.check(client, life, moment, f"cut {number} of a slow disk, seed {SEED} ({mood}): ", mood == "new")
            client.close()
            server.stop()
            lives.totals["slow " + mood] += 1
        lives.tell()


if __name__ == "__main__":
    try:
        machine.Disk().close()
    except machine.NoFuse as no:
        machine.without_fuse(no)
    harness.main()
