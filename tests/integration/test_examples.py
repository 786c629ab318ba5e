#!/usr/bin/env python3
"""tests/integration/test_examples.py -- the examples, started for real, do what the guide says.

The programs are in $WHILST_EXAMPLES (default: the build folder), the engine is $WHILST_ENGINE. Servers are started on a port that
the kernel chooses and say which; clients are Python's standard library, curl and openssl.
"""
import os
import pathlib
import subprocess
import unittest

EXAMPLES = pathlib.Path(os.environ.get("WHILST_EXAMPLES", pathlib.Path(__file__).parent / "../../build/examples"))
DEADLINE = float(os.environ.get("WHILST_TEST_DEADLINE", "20"))


def run(name, *arguments, status=0, **more):
    done = subprocess.run([EXAMPLES / name, *map(str, arguments)], capture_output=True, text=True, check=False,
                          timeout=DEADLINE, stdin=more.pop("stdin", subprocess.DEVNULL), **more)
    if done.returncode != status:
        raise AssertionError(f"{name}: status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done


class First(unittest.TestCase):
    def test_waits_and_is_called_back(self):
        lines = run("first").stdout.splitlines()
        self.assertEqual(lines[0], "started; this line did not wait for either")
        self.assertRegex(lines[1], r"^\w+: [1-9]\d* bytes \(read\)$")
        self.assertEqual(lines[2], "called back: 20 ms are over")
        if os.environ.get("WHILST_ENGINE"):
            self.assertTrue(lines[1].startswith(os.environ["WHILST_ENGINE"] + ":"), lines[1])


if __name__ == "__main__":
    unittest.main()
