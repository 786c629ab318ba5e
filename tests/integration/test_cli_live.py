"""tests/integration/test_cli_live.py -- `whilst tail` and `whilst top`: what they show, on pipes and on a terminal."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

import harness


class Terminal:
    """A command on a terminal of so many columns and rows, and what stands on its screen."""

    def __init__(self, case, command, columns=80, rows=24):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave, self.bytes = slave, b""
        case.addCleanup(self.close)

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            self.bytes += os.read(self.master, 65536)

    def screen(self):
        """The lines of the newest whole frame."""
        frames = self.bytes.decode("utf-8", "replace").split("\x1b[H")
        if len(frames) < 2:
            return None
        whole = [f for f in frames[1:] if "\x1b[J" in f]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", whole[-1]).split("\r\n") if whole else None

    def until(self, check, what):
        end = time.monotonic() + 60
        while True:
            screen = self.screen()
            if screen is not None and check(screen):
                return screen
            assert time.monotonic() < end, f"{what} is not shown: {self.bytes[-2000:]!r}"
            self.read(0.2)

    def key(self, key):
        os.write(self.master, key)

    def wait(self):
        end = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.read(0.05)
        while select.select([self.master], [], [], 0)[0]:
            self.read(0)
        return self.process.returncode

    def close(self):
        self.process.kill()
        self.process.wait()
        for fd in (self.master, self.slave):
            os.close(fd)


class Live(harness.Case):
    def command(self, *args):
        return [harness.BINARY, *args, "--server", f"http://127.0.0.1:{self.server.port}"]

    def run_command(self, *args, timeout=60):
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=timeout, check=False)

    def setUp(self):
        super().setUp()
        self.streams(0)  # those of the test before have ended

    def streams(self, count):
        harness.eventually(lambda: b"whilst_http_streams %d\n" % count in self.client.get("/metrics").body, "the stream")

    # -- top

    def test_top_once(self):
        self.client.submit(self.queue)
        done = self.run_command("top", "--once")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("\x1b", done.stdout)
        line = next(line for line in done.stdout.splitlines() if line.startswith(self.queue + " "))
        self.assertEqual(line.split(), [self.queue, "0", "1", "0", "0", "0", "0", "-"])
        for word in ("running", "submitted", "connections", "flushed"):
            self.assertIn(word, done.stdout)

    def test_top_json(self):
        self.client.submit(self.queue)
        process = subprocess.Popen(self.command("top", "--json", "--interval", "200ms"), stdout=subprocess.PIPE, text=True)
        try:
            first = json.loads(process.stdout.readline())
            for _ in range(20):
                self.client.submit(self.queue)
            looks = [first]
            # the twenty may fall between the looks as they like
            submitted = 0
            while submitted < 20:
                looks.append(json.loads(process.stdout.readline()))
                submitted = sum(q["submitted"] for q in looks[-1]["queues"]["queues"]) - sum(
                    q["submitted"] for q in first["queues"]["queues"])
            self.assertIsNone(first["per_second"])
            self.assertTrue(any(look["per_second"]["submitted"] > 0 for look in looks[1:]))
            self.assertGreater(looks[-1]["log"]["flushed"], first["log"]["flushed"])
            self.assertGreaterEqual(looks[-1]["figures"]["connections"], 1)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), 0)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_top_on_a_terminal(self):
        for i in range(30):
            self.client.submit(f"{self.queue}-number{i:02}")
        for _ in range(90):
            self.client.submit(self.queue + "-most")
        terminal = Terminal(self, self.command("top", "--interval", "100ms"))
        screen = terminal.until(lambda s: any(line.startswith(self.queue + "-most ") for line in s), "the queue")
        self.assertLessEqual(len(screen), 24)
        self.assertTrue(all(len(line) <= 80 for line in screen), screen)
        first = next(line for line in screen if line.startswith("queue"))
        self.assertTrue(screen[screen.index(first) + 1].startswith(self.queue + "-most "), screen)
        self.client.reserve(self.queue + "-most")
        self.client.post(f"/v1/queues/{self.queue}-most/pause")
        terminal.until(lambda s: any(re.match(self.queue + r"-most +P +1 +89 ", line) for line in s), "the reservation")
        # a smaller window, and a larger one
        for columns, rows in ((40, 10), (120, 50)):
            terminal.resize(columns, rows)
            terminal.bytes = b""
            screen = terminal.until(lambda s: len(s) == 10 if rows == 10 else len(s) > 30, f"{columns} x {rows}")
            self.assertTrue(all(len(line) <= columns for line in screen), screen)
        terminal.key(b"x")
        terminal.until(lambda s: True, "anything")
        self.assertIsNone(terminal.process.poll())
        terminal.key(b"q")
        self.assertEqual(terminal.wait(), 0)
        # the terminal is as it was
        self.assertTrue(terminal.bytes.endswith(b"\x1b[?25h\x1b[?1049l"), terminal.bytes[-100:])
        self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before)

    def test_top_is_interrupted(self):
        terminal = Terminal(self, self.command("top"))
        terminal.until(lambda s: True, "anything")
        terminal.key(b"\x03")
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before)

    def test_top_without_a_server(self):
        done = subprocess.run([harness.BINARY, "top", "--once", "--server", "http://127.0.0.1:1"], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("whilst top: no answer from", done.stderr)

    # -- tail

    def test_tail(self):
        self.client.submit(self.queue)
        process = subprocess.Popen(self.command("tail", self.queue, "--count", "5"), stdout=subprocess.PIPE, text=True)
        try:
            self.streams(1)
            job = self.client.submit(self.queue, query="?priority=0")
            _, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
            self.client.post(f"/v1/jobs/{job}/fail?delay=1h", b"no", Whilst_Lease=lease)
            self.client.post(f"/v1/jobs/{job}/kick")
            self.client.delete(f"/v1/jobs/{job}")
            lines, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(process.returncode, 0)
        got = [line.split(None, 3)[1:] for line in lines.splitlines()]
        self.assertEqual([g[:2] for g in got], [[self.queue, str(job)]] * 5)
        self.assertEqual([re.split(r" {2,}", g[2].strip()) for g in got][0], ["ready", "submit"])
        self.assertEqual(re.split(r" {2,}", got[1][2].strip()), ["running", "reserve, attempt 1"])
        self.assertRegex(got[2][2], r"^delayed +retry, attempt 1, runs at 20\d\d-")
        self.assertRegex(got[4][2], r"^cancelled +finish")

    def test_tail_ends_with_its_queue(self):
        self.client.put(f"/v1/queues/{self.queue}", {})
        process = subprocess.Popen(self.command("tail", self.queue, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.streams(1)
            self.client.post(f"/v1/queues/{self.queue}/pause")
            self.client.delete(f"/v1/queues/{self.queue}")
            lines, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        self.assertEqual((process.returncode, errors), (0, "whilst tail: the queue was removed\n"))
        events = [json.loads(line) for line in lines.splitlines()]
        self.assertEqual([(e["event"], e["data"]["paused"], e["data"]["removed"]) for e in events],
                         [("queue", True, False), ("queue", False, True)])

    def test_tail_refused(self):
        done = self.run_command("tail", "no-such-queue")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unknown-queue", done.stderr)
        for wrong in (["tail"], ["tail", "a", "b"], ["tail", "a", "--all"], ["tail", "--all", "--count", "0"], ["top", "x"],
                      ["top", "--interval", "1ms"]):
            self.assertEqual(self.run_command(*wrong).returncode, 2, wrong)

    def test_tail_since(self):
        self.client.submit(self.queue)
        first = subprocess.Popen(self.command("tail", "--all", "--json", "--count", "1"), stdout=subprocess.PIPE, text=True)
        self.streams(1)
        jobs = [self.client.submit(self.queue) for _ in range(3)]
        line = json.loads(first.communicate(timeout=60)[0])
        self.assertEqual(line["data"]["id"], jobs[0])
        done = self.run_command("tail", "--all", "--json", "--count", "2", "--since", line["id"])
        self.assertEqual([json.loads(each)["data"]["id"] for each in done.stdout.splitlines()], jobs[1:])
        done = self.run_command("tail", self.queue, "--count", "1", "--since", "99/1")
        self.assertIn("some events are missing here", done.stdout)


class Reconnect(unittest.TestCase):
    def test_tail_goes_on(self):
        with harness.Server() as server:
            client = server.client()
            client.submit("q")
            port = server.port
            process = subprocess.Popen([harness.BINARY, "tail", "q", "--json", "--server", f"http://127.0.0.1:{port}"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                harness.eventually(lambda: b"whilst_http_streams 1\n" in client.get("/metrics").body, "the stream")
                job = client.submit("q")
                self.assertEqual(json.loads(process.stdout.readline())["data"]["id"], job)
                client.close()
                server.stop()
                self.assertIn("no connection to", process.stderr.readline())
                server.listen = f"127.0.0.1:{port}"
                server.start()
                # what has happened before it is there again is told, too
                client = server.client()
                jobs = [client.submit("q") for _ in range(3)]
                self.assertEqual([json.loads(process.stdout.readline())["data"]["id"] for _ in jobs], jobs)
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(30), -signal.SIGINT)
                client.close()
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
                process.stderr.close()


if __name__ == "__main__":
    harness.main()
