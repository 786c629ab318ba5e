#!/usr/bin/env python3
"""tests/integration/test_client_examples.py -- the examples of the C client, against the real server, do what the guide says.

The programs are in $WHILST_EXAMPLES; the server and they run on $WHILST_ENGINE.
"""
import os
import select
import signal
import subprocess
import time

import harness

EXAMPLES = os.environ.get("WHILST_EXAMPLES", os.path.join(os.path.dirname(__file__), "../../build/examples"))


class Worker:
    """examples/worker or another, told to stop at the end; it ends well or the test fails."""

    def __init__(self, server, *queues, program="worker"):
        self.process = subprocess.Popen([f"{EXAMPLES}/{program}", "--server", server, *queues], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], harness.DEADLINE)
        assert ready and self.process.stdout.readline() == "working\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.rest = self.process.communicate(timeout=harness.DEADLINE)[0]
        assert self.process.returncode == 0, self.process.returncode
        assert self.rest.endswith("done\n"), self.rest


def hand_over(server, *arguments):
    return subprocess.Popen([EXAMPLES + "/hand_over", "--server", server, *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Examples(harness.Case):
    def test_done(self):
        with Worker(f"http://127.0.0.1:{self.server.port}", self.queue):
            caller = hand_over(f"127.0.0.1:{self.server.port}", self.queue, *(f"text {n}" for n in range(30)))
            out, err = caller.communicate(timeout=harness.DEADLINE)
            self.assertEqual(caller.returncode, 0, err)
            self.assertEqual(out, "".join(f"text {n}: TEXT {n}\n" for n in range(30)))
            self.assertIn("did not wait", err)

    def test_failed(self):
        with Worker(f"http://127.0.0.1:{self.server.port}", self.queue):
            caller = hand_over(f"http://127.0.0.1:{self.server.port}", self.queue, "good", "failing")
            out, _ = caller.communicate(timeout=harness.DEADLINE)
            self.assertEqual(caller.returncode, 1)
            self.assertRegex(out, r"^good: GOOD\nfailing: job \d+: .*it says that it fails")

    def test_split(self):
        texts = [" ".join(f"w{n}-{k}" for k in range(n)) for n in range(20)]
        for text in texts:
            self.client.submit(self.queue, text.encode())
        with Worker(f"127.0.0.1:{self.server.port}", self.queue, self.queue + "-words", program="splitter"):
            harness.eventually(lambda: self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["done"] == 20, "splitting")
        words = []
        while held := self.client.reserve(self.queue + "-words"):
            words.append(held[2].decode())
        self.assertEqual(sorted(words), sorted(word for text in texts for word in text.split()))

    def test_nobody_there(self):
        started = time.monotonic()
        caller = hand_over("unix:/nowhere/at/all", self.queue, "text")
        out, _ = caller.communicate(timeout=harness.DEADLINE + 20)
        self.assertEqual(caller.returncode, 1)
        self.assertRegex(out, "^text: not handed over: No such file")
        self.assertGreater(time.monotonic() - started, 5)  # it was tried again for a while


class Restarted(harness.unittest.TestCase):
    def test_killed_while_all_wait(self):
        with harness.Server() as server:
            queue, address = "restarted", f"http://127.0.0.1:{server.port}"
            caller = hand_over(address, queue, *(f"text {n}" for n in range(20)))
            # killed once every submit is answered: before that, not to know would be right
            while "waiting" not in (line := caller.stderr.readline()):
                self.assertTrue(line)
            server.kill()
            # the ring of a killed process gives its sockets back a moment later
            harness.eventually(lambda: harness.refuses(server.port), "letting go of the address")
            server.listen = f"127.0.0.1:{server.port}"
            server.start()
            with Worker(address, queue):
                out, _ = caller.communicate(timeout=harness.DEADLINE)
            self.assertEqual(caller.returncode, 0, out)
            self.assertEqual(out, "".join(f"text {n}: TEXT {n}\n" for n in range(20)))


if __name__ == "__main__":
    harness.main()
