"""tests/integration/test_hardware.py -- disks that fail, are full or slow, below the real server: tests/fault/shim/shim.c.

A flush that fails once: the process ends and acknowledges nothing after it, and the next start asks the disk, not the page
cache. No space, at every step of making room: what adds is refused, what finishes goes on, and it ends without a restart. Flushes
that take long: connections live, memory is bounded, nothing acknowledged is lost.
"""
import http.client
import os
import subprocess
import threading
import time
import unittest

import harness

SEGMENT = "*/seg-*.log"


def submit_until_it_ends(port, acked, stop, level="local"):
    """Submit one job after the other; acked: ids with the time of their answer. What the end of the server breaks off ends it."""
    client = harness.Client(port)
    try:
        while not stop.is_set():
            answer = client.post("/v1/queues/q/jobs", b"p" * 200, Whilst_Commit=level)
            if answer.status == 202:
                acked.append((answer.json()["id"], time.monotonic()))
    except (OSError, http.client.HTTPException):
        pass
    finally:
        client.close()


class Failing(unittest.TestCase):
    def fail_once(self, *rules):
        faults = harness.Faults(self)
        server = harness.Server(env=faults.env)
        self.addCleanup(server.remove)
        acked, stop = [], threading.Event()
        threads = [threading.Thread(target=submit_until_it_ends, args=(server.port, acked, stop)) for _ in range(6)]
        for thread in threads:
            thread.start()
        harness.eventually(lambda: len(acked) > 50, "some jobs")
        faults.set(*rules)
        self.assertEqual(server.wait(), 1, server.log())
        stop.set()
        for thread in threads:
            thread.join()
        self.assertTrue(faults.hits(), "nothing was hit")
        server.logged("the log has failed")
        return faults, server, acked

    def check_acked(self, server, acked):
        client = server.client()
        for job, _ in acked:
            self.assertEqual(client.get(f"/v1/jobs/{job}").status, 200, job)
        client.close()

    def test_a_flush_fails_once(self):
        faults, server, acked = self.fail_once(f"f*sync path={SEGMENT} error=EIO")
        # all flushes after the first would have succeeded: none was tried
        self.assertEqual(len(faults.hits()), 1)
        faults.forget()
        faults.set(f"fsync path={SEGMENT} count=0", f"open_direct path={SEGMENT} count=0", f"pread* path={SEGMENT} count=0")
        server.start()
        calls = faults.hits()
        for path in {path for call, path, _ in calls if call.startswith("pread")}:
            mine = [call for call, where, _ in calls if where == path]
            self.assertIn("fsync", mine, calls)
            self.assertLess(mine.index("fsync"), mine.index(next(c for c in mine if c.startswith("pread"))), mine)
        self.assertIn("open_direct", {call for call, _, _ in calls}, "the page cache was believed")
        self.check_acked(server, acked)
        server.stop()

    def test_a_start_whose_flush_fails_is_refused(self):
        faults, server, acked = self.fail_once(f"f*sync path={SEGMENT} error=EIO count=0")
        with self.assertRaisesRegex(AssertionError, "Input/output error|EIO"):
            server.start()
        faults.set()
        server.start()
        self.check_acked(server, acked)
        server.stop()

    def test_a_write_fails_once(self):
        faults, server, acked = self.fail_once(f"pwrite* path={SEGMENT} error=EIO")
        faults.set()
        server.start()
        self.check_acked(server, acked)
        server.stop()

    def test_short_and_interrupted_writes_are_no_errors(self):
        faults = harness.Faults(self)
        faults.set("pwrite* path=*/seg-* short=512 nth=3 count=0")
        with harness.Server(env=faults.env) as server:
            client = server.client()
            jobs = [client.submit("q", os.urandom(30000)) for _ in range(20)]
            self.assertTrue(faults.hits())
            faults.set("f*sync path=*/seg-* error=EINTR count=1", "pwrite* path=*/seg-* error=EINTR count=3")
            jobs += [client.submit("q", os.urandom(30000)) for _ in range(20)]
            for job in jobs:
                self.assertEqual(len(client.get(f"/v1/jobs/{job}/payload").body), 30000)
            client.close()


class Full(unittest.TestCase):
    """Every step of making the next segment may find the disk full."""

    def fill(self, *rules):
        faults = harness.Faults(self)
        with harness.Server(env=faults.env) as server:
            client = server.client()
            kept = [client.submit("q", b"first") for _ in range(5)]
            faults.set(*rules)
            for _ in range(1000):
                answer = client.post("/v1/queues/q/jobs", b"f" * 500000)
                if answer.status != 202:
                    break
                kept.append(answer.json()["id"])
            self.assertEqual((answer.status, answer.json()["code"]), (503, "disk-full"), answer)
            self.assertTrue(answer["Retry-After"])
            self.assertTrue(faults.hits())
            self.assertEqual(client.get("/readyz").status, 503)
            # what finishes goes on
            self.assertEqual(client.delete(f"/v1/jobs/{kept[-1]}").status, 200)
            job, lease, body = client.reserve("q")
            self.assertEqual(body, b"first")
            self.assertEqual(client.complete(job, lease, b"done").status, 200)
            job, lease, _ = client.reserve("q")
            answer = client.post(f"/v1/jobs/{job}/release", Whilst_Lease=lease)
            self.assertEqual(answer.status, 200, answer)
            # space is there again: no restart
            faults.set()
            harness.eventually(lambda: client.post("/v1/queues/q/jobs", b"again").status == 202, "room")
            harness.eventually(lambda: client.get("/readyz").status == 200, "ready")
            for job in kept[1:-1]:
                self.assertEqual(client.get(f"/v1/jobs/{job}").status, 200)
            client.close()

    def test_creating(self):
        self.fill("open path=*/seg-*.tmp error=ENOSPC count=0")

    def test_allocating(self):
        self.fill("fallocate error=ENOSPC count=0", "pwrite* path=*/seg-*.tmp error=ENOSPC count=0")

    def test_filling(self):
        """A file system that cannot allocate ahead finds out when it writes."""
        self.fill("fallocate error=EOPNOTSUPP count=0", "pwrite* path=*/seg-*.tmp nth=5 error=ENOSPC count=0")

    def test_quota(self):
        self.fill("fallocate error=EDQUOT count=0", "pwrite* path=*/seg-*.tmp error=EDQUOT count=0")


class Elsewhere(unittest.TestCase):
    def test_network_file_systems(self):
        """The type alone is made up: a warning, and no refusal."""
        faults = harness.Faults(self)
        for number, name in ((0x6969, "NFS"), (0x65735546, "FUSE"), (0x01021997, "9p")):
            faults.set(f"statfs type={number} count=0")
            with harness.Server(env=faults.env) as server:
                harness.eventually(lambda s=server: "ev=ready" in s.log(), "its log")
                server.logged("ev=network-file-system")
                server.logged(f"is on {name}:")
            told = subprocess.run([harness.BINARY, "fsync-test", faults.folder, "--duration", "5ms"], capture_output=True,
                                  text=True, check=True, env=dict(os.environ, **faults.env), timeout=harness.DEADLINE)
            self.assertIn(f"This is {name}:", told.stdout)
        faults.set()
        with harness.Server(env=faults.env) as server:
            harness.eventually(lambda: "ev=ready" in server.log(), "its log")
            self.assertNotIn("network-file-system", server.log())


class Slow(unittest.TestCase):
    def resident(self, server):
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) << 10

    def test_flushes_that_take_long(self):
        """0.1, 1 and 5 seconds: answers are late, not lost; other connections live; memory stays bounded."""
        faults = harness.Faults(self)
        server = harness.Server(env=faults.env)
        self.addCleanup(server.remove)
        acked, stop = [], threading.Event()
        threads = [threading.Thread(target=submit_until_it_ends, args=(server.port, acked, stop, level))
                   for level in ("local", "local", "async", "async")]
        for thread in threads:
            thread.start()
        harness.eventually(lambda: len(acked) > 50, "some jobs")
        before = self.resident(server)
        client = server.client()
        for ms, count in ((100, 8), (1000, 2), (5000, 1)):
            faults.set(f"f*sync path={SEGMENT} delay={ms} count={count}")
            begun = time.monotonic()
            while len([1 for _, _, number in faults.hits() if number == 1]) < count:
                asked = time.monotonic()
                self.assertEqual(client.get("/livez").status, 200)
                self.assertLess(time.monotonic() - asked, 2 if server.engine != "sync" else 7)
                self.assertLess(time.monotonic() - begun, 3 * ms * count / 1000 + 5)
                time.sleep(0.01)
            waited = time.monotonic()
            harness.eventually(lambda w=waited: acked[-1][1] > w, "answers after the stall")
            faults.forget()
        self.assertLess(self.resident(server) - before, 256 << 20)
        stop.set()
        for thread in threads:
            thread.join()
        client.close()
        server.kill().start()
        client = server.client()
        for job, _ in acked:  # asynchronous ones too: the kernel has them
            self.assertEqual(client.get(f"/v1/jobs/{job}").status, 200, job)
        client.close()
        server.stop()

    def test_backpressure(self):
        """With a flush that does not end, a flood of asynchronous bytes is held back or refused, not piled up."""
        faults = harness.Faults(self)
        server = harness.Server(env=faults.env)
        self.addCleanup(server.remove)
        client = server.client()
        client.submit("q", b"x")
        before = self.resident(server)
        faults.set(f"f*sync path={SEGMENT} delay=3000 count=1")
        statuses, lock = {}, threading.Lock()

        def flood():
            mine = harness.Client(server.port, timeout=30)
            for _ in range(40):
                answer = mine.post("/v1/queues/q/jobs", b"f" * 1000000, Whilst_Commit="async")
                with lock:
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
                if answer.status != 202:
                    self.assertIn(answer.status, (429, 503), answer)
                    self.assertTrue(answer["Retry-After"], answer)
            mine.close()

        threads = [threading.Thread(target=flood) for _ in range(10)]
        for thread in threads:
            thread.start()
        peak = 0
        while any(thread.is_alive() for thread in threads):
            peak = max(peak, self.resident(server))
            self.assertEqual(client.get("/livez").status, 200)
            time.sleep(0.02)
        self.assertTrue(faults.hits())
        self.assertLess(peak - before, 400 << 20, statuses)
        client.close()
        server.stop()


if __name__ == "__main__":
    if "WHILST_FAULT_SHIM" not in os.environ:
        harness.skip_all("WHILST_FAULT_SHIM does not name the library of tests/fault/shim/shim.c")
    harness.main()
