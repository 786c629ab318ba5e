#!/usr/bin/env python3
"""tests/integration/test_import.py -- `whilst import beanstalkd DIR`, with binlogs that the real beanstalkd wrote, whole and damaged.

What the import must bring is what beanstalkd itself finds when it starts on the same folder.
"""
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import beanstalkd
import harness
from test_beanstalk_store import Line, port_of


def fill(line, rng, count):
    """A life of a server: tubes, delays, priorities, deletes, burials, releases."""
    jobs = []
    for i in range(count):
        line.ask(f"use t{rng.randrange(5)}\r\n")
        body = b"%d " % i + bytes(rng.choice(b"abc\r\n\0") for _ in range(rng.choice((0, 5, 200, 3000))))
        jobs.append(line.put(body, f"{rng.choice((0, 7, 1024, 4294967295))} {rng.choice((0, 0, 0, 5000))} {rng.choice((1, 60, 100000))}"))
        if rng.random() < 0.5:
            job = rng.choice(jobs)
            answer = line.ask(f"reserve-job {job}\r\n")
            if answer != "NOT_FOUND":
                line.ask(rng.choice((f"delete {job}\r\n", f"bury {job} 5\r\n", f"release {job} 9 7000\r\n", "list-tube-used\r\n",
                                     f"delete {job}\r\n")))
        elif rng.random() < 0.2:
            line.ask("kick 1\r\n")


def describe(port):
    """Everything that clients can see of all jobs, tube by tube in the order in which they come."""
    line = Line(port)
    found = {}
    for tube in beanstalkd.parse_yaml(line.ask("list-tubes\r\n")[1]):
        line.ask(f"use {tube}\r\n")
        for state in ("buried", "delayed", "ready"):
            while True:
                answer = line.ask(f"peek-{state}\r\n")
                if answer == "NOT_FOUND":
                    break
                job = answer[0].split()[1]
                values = beanstalkd.parse_yaml(line.ask(f"stats-job {job}\r\n")[1])
                left = int(values["time-left"]) if state == "delayed" else 0
                found.setdefault((tube, state), []).append((answer[1], values["pri"], values["ttr"], (left + 500) // 1000))
                line.ask(f"delete {job}\r\n")
    line.close()
    for key in found:
        # buried ones come in the order of their ids; delayed ones may be due in the same millisecond
        if key[1] != "ready":
            found[key].sort()
    return found


class Import(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="whilst-test-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.binlog, self.data = self.folder / "binlog", self.folder / "data"
        self.binlog.mkdir()

    def beanstalkd(self, *arguments):
        port = beanstalkd.free_port()
        process = subprocess.Popen([beanstalkd.Beanstalkd.binary, "-l", "127.0.0.1", "-p", str(port), "-b", self.binlog, "-f", "0",
                                    *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def up():
            try:
                return Line(port)
            except OSError:
                return None
        return process, port, harness.eventually(up, "beanstalkd")

    def write(self, seed, count=150, *arguments):
        process, _, line = self.beanstalkd(*arguments)
        fill(line, random.Random(seed), count)
        line.ask("list-tube-used\r\n")  # it listens before it has made its binlog, and answers behind that
        line.close()
        process.kill()
        process.wait()

    def run_import(self, *arguments, expect=0, directory=None):
        done = subprocess.run([harness.BINARY, "import", "beanstalkd", directory or self.binlog, "--data", self.data, *arguments],
                              capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def what_beanstalkd_finds(self):
        copy = self.folder / "copy"
        shutil.copytree(self.binlog, copy)
        kept, self.binlog = self.binlog, copy
        process, port, line = self.beanstalkd()
        line.close()
        found = describe(port)
        process.kill()
        process.wait()
        self.binlog = kept
        shutil.rmtree(copy)
        return found

    def what_whilst_finds(self):
        with harness.Server("--beanstalk", "127.0.0.1:0", "--beanstalk-commit", "async", data=str(self.data)) as server:
            return describe(port_of(server))

    def test_everything_comes_along(self):
        for seed, arguments in ((1, ()), (2, ("-s", "16384"))):
            self.write(seed, 200, *arguments)
            if arguments:
                self.assertGreater(len(list(self.binlog.glob("binlog.*"))), 5)
            theirs = self.what_beanstalkd_finds()
            total = sum(len(jobs) for jobs in theirs.values())
            self.assertIn(f"found {total} jobs", self.run_import("--dry-run"))
            self.assertFalse(self.data.exists())
            self.assertIn(f"imported {total} jobs", self.run_import())
            self.assertEqual(theirs, self.what_whilst_finds())
            shutil.rmtree(self.data)
            shutil.rmtree(self.binlog)
            self.binlog.mkdir()

    def test_once_is_enough(self):
        self.write(3)
        theirs = self.what_beanstalkd_finds()
        self.run_import()
        again = self.run_import()
        total = sum(len(jobs) for jobs in theirs.values())
        self.assertIn(f"{total} of the {total} jobs had been imported before", again)
        self.assertEqual(theirs, self.what_whilst_finds())
        self.run_import()
        self.assertEqual(self.what_whilst_finds(), {})

    def test_interrupted(self):
        """Killed at any moment and repeated: every job once."""
        self.write(4, 1200)
        theirs = self.what_beanstalkd_finds()
        for delay in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
            process = subprocess.Popen([harness.BINARY, "import", "beanstalkd", self.binlog, "--data", self.data],
                                       stdout=subprocess.DEVNULL)
            time.sleep(delay)
            process.kill()
            process.wait()
        self.run_import()
        self.assertEqual(theirs, self.what_whilst_finds())

    def test_tubes_called_as_queues_of_the_server(self):
        """A tube may be called callbacks; the queue of that name is not for its jobs."""
        process, _, line = self.beanstalkd()
        for tube in ("callbacks", "callbacks/pending", "topic/orders", "call/shop", "callbacksx"):
            line.ask(f"use {tube}\r\n")
            line.put(tube.encode(), "1 0 60")
        line.ask("use callbacks\r\n")
        line.put(b"one more", "1 0 60")
        line.close()
        process.kill()
        process.wait()
        said = self.run_import()
        self.assertIn("imported 6 jobs", said)
        self.assertEqual(said.count("goes to the queue") + said.count("go to the queue"), 4, said)
        with harness.Server(data=str(self.data)) as server:
            client = server.client()
            ready = {q["name"]: q["jobs"]["ready"] for q in client.get("/v1/queues").json()["queues"]}
            self.assertEqual(ready, {"callbacksx": 1, "tube/call/shop": 1, "tube/callbacks": 2, "tube/callbacks/pending": 1,
                                     "tube/topic/orders": 1})
            self.assertEqual(client.reserve("tube%2Fcallbacks")[2], b"callbacks")
            client.close()
        self.run_import()  # the same again is nothing

    def test_a_tube_that_is_too_long_for_another_name(self):
        process, _, line = self.beanstalkd()
        line.ask("use call/" + "x" * 195 + "\r\n")
        line.put(b"x", "1 0 60")
        line.close()
        process.kill()
        process.wait()
        self.assertIn("nothing was imported", self.run_import(expect=1))
        self.assertFalse(self.data.exists())

    def test_an_empty_one(self):
        self.write(5, 0)
        self.assertIn("imported 0 jobs", self.run_import())
        self.assertEqual(self.what_whilst_finds(), {})

    def test_a_torn_end(self):
        """What a crash leaves: said, and everything before it is there."""
        self.write(6, 50)
        last = max(self.binlog.glob("binlog.*"), key=lambda path: int(path.suffix[1:]))
        content = last.read_bytes().rstrip(b"\0")
        last.write_bytes(content + b"\4\0\0\0te")
        said = self.run_import("--dry-run")
        self.assertIn(f"{last}: byte {len(content)}: the file ends within", said)
        # cut anywhere: never more than what was there, never an error
        whole = int(re.search(r"found (\d+) jobs", said).group(1))
        for cut in range(4, len(content), max(1, len(content) // 60)):
            last.write_bytes(content[:cut])
            found = self.run_import("--dry-run")
            self.assertLessEqual(int(re.search(r"found (\d+) jobs", found).group(1)), whole + 50)

    def test_damage(self):
        self.write(7, 80, "-s", "16384")
        files = sorted(self.binlog.glob("binlog.*"), key=lambda path: int(path.suffix[1:]))
        first = files[0]
        content = first.read_bytes()
        cases = [
            (struct.pack("<i", 3) + content[4:], 0, "version 3"),
            (struct.pack("<i", 0) + content[4:], 0, "version 0"),
            (content[:4] + struct.pack("<i", 500) + content[8:], 4, "a tube's name of 500 bytes"),
            (content[:4] + struct.pack("<i", -1) + content[8:], 4, "a tube's name of 4294967295 bytes"),
            (content[:8] + b"*" + content[9:], 4, "a name that no tube can have"),
            (content[:8 + 2 + 76] + b"\x09" + content[8 + 2 + 77:], 4, "state 9"),
            (content[:8 + 2 + 32] + struct.pack("<i", -5) + content[8 + 2 + 36:], 4, "a body of"),
            (content[:8 + 2 + 32] + struct.pack("<i", 20) + content[8 + 2 + 36:], 4, "does not end where it should"),
            (content[:8 + 2 + 40], 4, "the file ends within a job's header"),
            (b"", 0, "the file ends within its version"),
        ]
        for changed, offset, reason in cases:
            first.write_bytes(changed)
            said = self.run_import(expect=1)
            self.assertIn(f"{first}: byte {offset}: ", said)
            self.assertIn(reason, said)
            self.assertIn("nothing was imported", said)
            self.assertFalse(self.data.exists())
            self.assertIn("found", self.run_import("--dry-run", "--salvage"))
        first.write_bytes(content)
        self.run_import()

    def test_noise(self):
        """Bytes that are flipped anywhere: a report or other values, but an end, and no job out of nothing."""
        self.write(8, 60)
        file = next(self.binlog.glob("binlog.*"))
        content = file.read_bytes().rstrip(b"\0")
        rng = random.Random(8)
        for _ in range(60):
            changed = bytearray(content)
            for _ in range(rng.choice((1, 1, 5, 50))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            file.write_bytes(changed)
            done = subprocess.run([harness.BINARY, "import", "beanstalkd", self.binlog, "--dry-run", "--salvage"],
                                  capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertLessEqual(int(re.search(r"found (\d+) jobs", done.stdout).group(1)), 120)

    def test_the_format_of_1_4(self):
        """Version 5, byte by byte as beanstalkd 1.4 wrote it: lengths of 8 bytes, times in microseconds, no padding at the end."""
        def record(tube, job, pri, state, body=b"", ttr=60, deadline=0):
            size = len(body) + 2
            fixed = struct.pack("<QI4xQQi4xQQ5IB", job, pri, 0, ttr * 1000000, size, 1, deadline, 1, 0, 0, 0, 0, state)
            assert len(fixed) == 77
            return struct.pack("<Q", len(tube)) + tube + fixed + (body + b"\r\n" if tube else b"")
        soon = int((time.time() + 5000) * 1000000)
        content = struct.pack("<i", 5) + record(b"a", 1, 5, 1, b"one") + record(b"a", 2, 6, 1, b"two") + \
            record(b"b", 3, 7, 4, b"three", 100, soon) + record(b"a", 4, 8, 2, b"four") + record(b"a", 5, 1, 3, b"five") + \
            record(b"", 2, 6, 0) + record(b"", 1, 9, 1) + record(b"", 77, 9, 1)
        (self.binlog / "binlog.1").write_bytes(content + bytes(5000))
        self.assertIn("imported 4 jobs: 2 ready, 1 delayed, 1 buried", self.run_import())
        self.assertEqual(self.what_whilst_finds(), {
            ("a", "ready"): [(b"four", "8", "60", 0), (b"one", "9", "60", 0)],
            ("a", "buried"): [(b"five", "1", "60", 0)],
            ("b", "delayed"): [(b"three", "7", "100", 5)]})

    def test_what_is_refused(self):
        self.assertIn("no files", self.run_import(expect=1))
        self.assertIn("nowhere", self.run_import(directory="/nowhere", expect=1))
        self.write(9, 5)
        with harness.Server(data=str(self.data)):
            self.run_import(expect=4)
        self.run_import("--unknown", expect=2)
        for arguments in (["import"], ["import", "rabbitmq", "x"], ["import", "beanstalkd"]):
            self.assertEqual(subprocess.run([harness.BINARY, *arguments], capture_output=True, check=False).returncode, 2)
        self.assertIn("usage:", subprocess.run([harness.BINARY, "import", "--help"], capture_output=True, text=True,
                                               check=True).stdout)


if __name__ == "__main__":
    beanstalkd.Beanstalkd.binary = beanstalkd.beanstalkd_binary()
    if not beanstalkd.Beanstalkd.binary:
        sys.exit(77)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    harness.main()
