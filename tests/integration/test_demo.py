"""tests/integration/test_demo.py -- scripts/demo, as `make run` starts it: twice on one folder, ended by Ctrl-C."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

import harness

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.path.dirname(os.path.dirname(harness.BINARY))


class Demo(unittest.TestCase):
    def setUp(self):
        self.data = tempfile.mkdtemp(prefix="whilst-demo-")
        self.addCleanup(shutil.rmtree, self.data, True)

    def start(self, *args):
        return subprocess.Popen([sys.executable, "-u", os.path.join(ROOT, "scripts/demo"), "--build", BUILD, "--data",
                                 self.data, "--listen", "127.0.0.1:0", "--input", os.path.join(ROOT, "docs"), *args],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def test_once_and_again(self):
        demo = self.start("--once")
        out, _ = demo.communicate(timeout=6 * harness.DEADLINE)
        self.assertEqual(demo.returncode, 0, out)
        files = int(re.search(r"^(\d+) files are handed over", out, re.M).group(1))
        self.assertGreater(files, 3)
        self.assertIn(f"all {files} are right", out)
        for expected in ("waiting:", "not waiting:", "the same answer", "curl"):
            self.assertIn(expected, out)
        self.assertNotIn("Found again", out)

        demo, lines = self.start(), []
        for line in demo.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        self.assertIn(f"Found again from before: {files} jobs", "".join(lines))
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", "".join(lines)).group(1))
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=2 * harness.DEADLINE)
        self.assertEqual(demo.returncode, 0, rest)
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", port), 1)


if __name__ == "__main__":
    harness.main()
