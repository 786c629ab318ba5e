#!/usr/bin/env python3
"""tests/integration/test_summary.py -- what decides whether the suite passed decides rightly (scripts/test-summary)."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SUMMARY = pathlib.Path(__file__).resolve().parents[2] / "scripts/test-summary"


def run(*folders, ci=False, names=None):
    """Each folder: a list of (name, result, output), or None for one in which no test ran."""
    names = names or [f"build{number}" for number in range(len(folders))]
    with tempfile.TemporaryDirectory() as base:
        for name, tests in zip(names, folders):
            logs = pathlib.Path(base, name, "meson-logs")
            logs.mkdir(parents=True)
            if tests is not None:
                lines = [json.dumps({"name": f"whilst:gate / {test}", "result": result, "stdout": output, "duration": 1})
                         for test, result, output in tests]
                (logs / "testlog.json").write_text("\n".join(lines) + "\n")
        done = subprocess.run([sys.executable, SUMMARY, "--plain", *[f"{base}/{name}" for name in names]],
                              capture_output=True, text=True, env={**os.environ, "CI": "true" if ci else ""})
    return done.returncode, done.stdout.strip().splitlines()


class Summary(unittest.TestCase):
    def test_all_good(self):
        status, lines = run([("a", "OK", ""), ("b", "OK", "")], [("a", "OK", "")])
        self.assertEqual((status, lines), (0, ["3 passed, 0 failed, 0 skipped"]))

    def test_failures_are_named(self):
        for result in ("FAIL", "TIMEOUT", "ERROR", "UNEXPECTEDPASS", "INTERRUPT"):
            status, lines = run([("a", "OK", ""), ("b", result, "")])
            self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))
            self.assertIn("build0: b", lines[0])

    def test_a_folder_without_results_is_a_failure(self):
        status, lines = run([("a", "OK", "")], None)
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))

    def test_no_test_at_all_is_a_failure(self):
        self.assertEqual(run([])[0], 1)

    def test_skips_are_named(self):
        status, lines = run([("a", "OK", ""), ("b", "SKIP", "no io_uring here\n")])
        self.assertEqual((status, lines[-1]), (0, "1 passed, 0 failed, 1 skipped"))
        self.assertIn("build0: b (no io_uring here)", lines[0])

    def test_cases_skipped_within_a_file_are_named(self):
        status, lines = run([("a", "OK", "[  SKIPPED ] one\n[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] one\n")])
        self.assertEqual((status, lines[-1]), (0, "1 passed, 0 failed, 1 skipped"))
        self.assertIn("build0: a: one", lines[0])

    def test_cases_that_python_skipped_are_counted(self):
        status, lines = run([("a", "OK", "Ran 3 tests in 0.1s\n\nOK (skipped=2)\n")])
        self.assertEqual((status, lines[-1]), (0, "1 passed, 0 failed, 1 skipped"))
        self.assertIn("build0: a: 2 cases", lines[0])

    def test_skips_fail_in_ci(self):
        status, lines = run([("a", "OK", ""), ("b", "SKIP", "no io_uring here\n")], ci=True)
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))

    def test_allowed_skips_are_patterns_for_a_build(self):
        output = "[  SKIPPED ] an_overflow_is_never_silent\n"
        status, lines = run([("task_life on sync", "OK", output)], ci=True, names=["build-tsan"])
        self.assertEqual((status, lines[-1]), (0, "1 passed, 0 failed, 1 skipped"))
        status, lines = run([("task_life on sync", "OK", output)], ci=True, names=["build"])
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))


if __name__ == "__main__":
    unittest.main()
