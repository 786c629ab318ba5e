"""tests/integration/test_guide_events.py -- the sessions of pages, blocks of `console`, run as they stand, say what is written below their commands.

What differs from run to run is compared by its form: positions, instants, random ids, and lengths.
"""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import harness

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGES = {"guide/events.md": 10, "guide/schedules.md": 11, "guide/dead-letters.md": 20, "guide/joins.md": 12, "guide/transactions.md": 14}  # how many commands there are at least
VARIES = [(r"\b\d+/\d+\b", "E/L"), (r"\b[0-9a-f]{32}\b", "ID"), (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT"), (r'"left":\d+}', '"left":N}')]


def commands(page):
    """(command, what it prints)"""
    for block in re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def form(text):
    for pattern, name in VARIES:
        text = re.sub(pattern, name, text)
    return text.replace("\r", "").rstrip("\n")


class Guide(unittest.TestCase):
    def test_pages(self):
        for page, least in PAGES.items():
            with self.subTest(page):
                self.assertGreaterEqual(self.run_page(page), least)

    def arguments(self, page, secrets):
        """What the page says of how the server is started."""
        if "--callback-secrets" not in (DOCS / page).read_text(encoding="utf-8"):
            return ()
        secrets.write("whsec_" + "A" * 32 + "\n")
        secrets.flush()
        return ("--callback-secrets", secrets.name, "--allow-private-targets", "127.0.0.0/8")

    def run_page(self, page):
        count = 0
        with tempfile.NamedTemporaryFile("w", prefix="whilst-secrets-") as secrets, harness.Server(*self.arguments(page, secrets)) as server:
            path = os.path.dirname(os.path.abspath(harness.BINARY)) + ":" + os.environ["PATH"]
            env = dict(os.environ, PATH=path, WHILST_SERVER=f"http://127.0.0.1:{server.port}", http_proxy="", NO_PROXY="*")
            for command, output in commands(page):
                done = subprocess.run(["bash", "-c", command.replace("localhost:4480", f"127.0.0.1:{server.port}")], capture_output=True, text=True,
                                      check=False, env=env, timeout=harness.DEADLINE * 3)
                self.assertEqual(form(done.stdout), form(output), f"$ {command}\n{done.stdout}{done.stderr}")
                count += 1
        return count


if __name__ == "__main__":
    harness.main()
