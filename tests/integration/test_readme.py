"""tests/integration/test_readme.py -- the commands of README.md and of docs/reference/http.md, run as they stand there, do what is said beside them.

The server is started by the test, with the options of the line that starts it there, and ports are those that are free.
"""
import gzip
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import backend
import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
# as much of netcat as is used
NC = """#!/usr/bin/env python3
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(sys.stdin.buffer.read())
sys.stdout.buffer.write(b"".join(iter(lambda: s.recv(65536), b"")))
"""


def block(heading):
    """The commands below a heading of README.md, and the options of the server that they begin with."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.search(rf"^### {re.escape(heading)}\n.*?```\n(.*?)```", text, re.DOTALL | re.MULTILINE).group(1)
    start = re.match(r"whilst serve --data \./data ?(.*) &\n", commands)
    return (start.group(1).split(), commands[start.end():]) if start else ([], commands)


class Commands(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="whilst-readme-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.symlink(os.path.abspath(harness.BINARY), self.folder / "whilst")
        (self.folder / "nc").write_text(NC, encoding="utf-8")
        (self.folder / "nc").chmod(0o755)

    def run_here(self, server, commands, ports=(), **environment):
        """What they print. Each must succeed; what they leave running ends with them."""
        for old, new in ((4480, server.port), *ports):
            commands = commands.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}").replace(f"127.0.0.1 {old}", f"127.0.0.1 {new}")
        environment = {**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{server.port}", "PATH": f"{self.folder}:{os.environ['PATH']}", **environment}
        script = "set -e -o pipefail; trap 'set +e; kill $(jobs -p) 2>/dev/null; wait' EXIT\n" + commands
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=harness.DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, (commands, done.stdout, done.stderr))
        return done.stdout.decode()

    def test_any_program(self):
        options, commands = block("Any program as an asynchronous backend")
        report = os.urandom(1000) * 50
        (self.folder / "report.txt").write_bytes(report)
        with harness.Server(*options) as server:
            self.assertEqual(self.run_here(server, commands), "1\n")
        self.assertEqual(gzip.decompress((self.folder / "report.txt.gz").read_bytes()), report)

    def test_a_schedule(self):
        options, commands = block("Any job at a given time")
        with harness.Server(*options) as server:
            self.run_here(server, commands)
            client = server.client()
            shown = client.get("/v1/schedules/nightly").json()
            client.close()
        self.assertEqual((shown["cron"], shown["time_zone"], shown["job"]["queue"]), ("0 3 * * *", "Europe/Berlin", "report"))

    def test_after_others(self):
        options, commands = block("Any job after others")
        with harness.Server(*options) as server:
            self.assertEqual(self.run_here(server, commands), "3\n")
            client = server.client()
            self.assertEqual(client.get("/v1/jobs/3").json()["awaits"]["jobs"], [1, 2])
            client.close()

    def test_beanstalkd(self):
        options, commands = block("Existing beanstalkd clients, unchanged")
        self.assertEqual(options, ["--beanstalk", "127.0.0.1:11300"])
        with harness.Server("--beanstalk", "127.0.0.1:0") as server:
            port = int(re.search(r"beanstalk\S*?127\.0\.0\.1:(\d+)", server.addresses).group(1))
            self.assertEqual(self.run_here(server, commands, [(11300, port)]), "INSERTED 1\r\nRESERVED 1 5\r\nhello\r\n")

    def test_any_backend(self):
        options, commands = block("Any HTTP backend, waiting or not")
        peer = backend.Backend()
        self.addCleanup(peer.stop)
        self.assertIn("report=http://127.0.0.1:9000", options)
        with harness.Server("--service", f"report={peer.url}") as server:
            printed = self.run_here(server, commands)
        self.assertEqual(len(peer.calls), 3)
        passed, accepted, waited = re.split(r"HTTP/1\.1 ", printed)
        self.assertIn('"path": "/monthly"', passed)
        self.assertRegex(accepted, r'^202 (?s:.*)Location: /v1/jobs/1\r\n(?s:.*)"id":1')
        self.assertRegex(waited, r'^200 (?s:.*)Preference-Applied: wait=5\r\n(?s:.*)"path": "/monthly"')

    def test_the_reference(self):
        text = (ROOT / "docs/reference/http.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        self.assertGreaterEqual(len(blocks), 3)
        with harness.Server() as server:
            client = server.client()
            answer = client.post("/v1/queues/q/jobs?delay=1h", b"x")
            job, position = answer.json()["id"], answer.json()["position"]
            # the stream of a job goes on until it has ended: the others come first
            blocks.sort(key=lambda commands: "/v1/jobs/$id" in commands and "curl -sN" in commands)
            printed = []
            for commands in blocks:
                if commands is blocks[-1]:
                    client.delete(f"/v1/jobs/{job}")
                printed.append(self.run_here(server, commands, id=str(job), position=position))
            self.assertTrue(any('"priority":1' in text for text in printed), printed)
            self.assertTrue(any("event: reached" in text for text in printed), printed)
            self.assertIn("event: end", printed[-1])
            client.close()


if __name__ == "__main__":
    harness.main()
