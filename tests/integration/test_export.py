#!/usr/bin/env python3
"""tests/integration/test_export.py -- `whilst log export` and `whilst import jobs`: out of one data folder, into another, and the same again."""
import base64
import json
import os
import subprocess
import tempfile
import unittest

import harness

COUNT = 4000
LARGE = bytes(range(256)) * 4100  # over 1 MiB: a file of its own


def run(*args, expect=0):
    done = subprocess.run([harness.BINARY, *map(str, args)], capture_output=True, check=False, timeout=harness.DEADLINE)
    assert done.returncode == expect, (args, done.returncode, done.stdout[-500:], done.stderr[-800:])
    return done


def export(folder, *options):
    """The jobs."""
    return [json.loads(line) for line in run("log", "export", folder, "--jobs", *options).stdout.splitlines()]


def export_all(folder):
    return [json.loads(line) for line in run("log", "export", folder).stdout.splitlines()]


def body(line, name="payload"):
    if f"{name}_file" in line:
        with open(line[f"{name}_file"], "rb") as f:
            return f.read()
    return base64.b64decode(line[name])


def what_counts(line):
    """Of a job what an import brings: not its id, attempts and instants."""
    errors = [error["text"] for error in line.get("errors", ())] if line["state"] == "failed" else []
    result = line.get("result")
    return (line["queue"], "ready" if line["state"] == "running" else line["state"], line["priority"], body(line), line.get("content_type"),
            line.get("attempts_max"), line["time_to_run_ms"], line.get("run_at_ms"), errors[-1:],
            result and (result["status"], result.get("content_type"), body(result, "body")))


def fill(server):
    """Jobs in all states, some with large bodies."""
    client = server.client()
    for state in ("ready", "running", "done", "failed", "cancelled", "buried"):
        for payload in (b"", b"small \0 one", LARGE + state.encode()):
            job = client.submit(f"q-{state}", payload, "?priority=7&attempts=3", Content_Type="text/x-try")
            if state in ("running", "done", "failed", "buried"):
                got, lease, _ = client.reserve(f"q-{state}")
                assert got == job
                verb = {"done": "complete", "failed": "fail?retry=false", "buried": "bury"}.get(state)
                answer = verb and client.post(f"/v1/jobs/{job}/{verb}", {"failed": b"it broke", "buried": b"aside"}.get(
                    state, LARGE if len(payload) > 100 else b"the result"), Whilst_Lease=lease)
                assert not verb or answer.status == 200, answer
            elif state == "cancelled":
                answer = client.delete(f"/v1/jobs/{job}")
                assert answer.status in (200, 202, 204), answer
    for i in range(20):
        client.submit("in-order", b"%d" % i)
    client.submit("q-delayed", b"later", "?delay=3600s")
    client.close()


class Export(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.data = os.path.join(self.folder, "data")
        with harness.Server(data=self.data) as server:
            fill(server)

    def write(self, folder, *options):
        path = os.path.join(self.folder, "jobs.ndjson")
        with open(path, "wb") as f:
            f.write(run("log", "export", folder, *options).stdout)
        return path

    def test_round_trip(self):
        names = sorted(os.listdir(self.data))
        lines = export(self.data)
        self.assertEqual(sorted(os.listdir(self.data)), names)
        self.assertEqual(len(lines), 39)
        self.assertEqual([line["id"] for line in lines], sorted(line["id"] for line in lines))
        self.assertEqual({line["state"] for line in lines}, {"ready", "running", "done", "failed", "cancelled", "buried", "delayed"})
        other = os.path.join(self.folder, "other")
        path = self.write(self.data, "--bodies", os.path.join(self.folder, "bodies"))
        self.assertEqual(len(os.listdir(os.path.join(self.folder, "bodies"))), 7)
        self.assertIn(b"found 39 jobs", run("import", "jobs", path, "--data", other, "--dry-run").stdout)
        self.assertFalse(os.path.exists(other))
        self.assertIn(b"imported 39 jobs", run("import", "jobs", path, "--data", other).stdout)
        again = export(other)
        self.assertEqual([what_counts(line) for line in again], [what_counts(line) for line in lines])
        with open(path, "rb") as f:
            count = len(f.readlines())
        self.assertIn(b"imported 0 jobs, and 0 queues and settings; %d lines had been" % count,
                      run("import", "jobs", path, "--data", other).stdout)
        self.assertEqual(len(export(other)), 39)
        with harness.Server(data=other) as server:
            client = server.client()
            self.assertEqual([client.reserve("in-order")[2] for _ in range(20)], [b"%d" % i for i in range(20)])
            done = next(line["id"] for line in again if line["state"] == "done" and line["bytes"] > 1 << 20)
            self.assertEqual(client.get(f"/v1/jobs/{done}/result").body, LARGE)
            client.close()

    def test_awaiting(self):
        """What a job waits for is told; in another folder, where ids are others, it is set aside."""
        with harness.Server(data=self.data) as server:
            client = server.client()
            first, second, ended = (client.submit("first", b"x") for _ in range(3))
            client.delete(f"/v1/jobs/{ended}")
            one = client.submit("then", b"after two", f"?after={first},{second}&after-failure=bury")
            other = client.submit("then", b"after one", f"?after={first},{ended}&after-failure=run")
            many = client.submit("then", b"after many", "?after=" + ",".join(str(client.submit("many")) for _ in range(101)))
            client.close()
        lines = {line["id"]: line for line in export(self.data, "--state", "awaiting")}
        self.assertEqual(sorted(lines), [one, other, many])
        self.assertEqual(lines[one]["awaits"], {"open": 2, "count": 2, "after_failure": "bury", "jobs": [first, second]})
        self.assertEqual(lines[other]["awaits"], {"open": 1, "count": 2, "after_failure": "run", "jobs": [first]})
        self.assertEqual((lines[many]["awaits"]["open"], len(lines[many]["awaits"]["jobs"])), (101, 100))
        self.assertNotIn("awaits", export(self.data, "--queue", "first")[0])
        into = os.path.join(self.folder, "into")
        run("import", "jobs", self.write(self.data), "--data", into)
        self.assertEqual([(line["state"], body(line)) for line in export(into, "--queue", "then")],
                         [("buried", b"after two"), ("buried", b"after one"), ("buried", b"after many")])

    def test_everything(self):
        """Queues, topics, subscriptions, schedules, unique keys, groups, kept events: what a server shows of them is the same in the other folder."""
        shown = ("/v1/queues/configured", "/v1/topics/news", "/v1/topics/news/subscriptions/one", "/v1/schedules/nightly", "/v1/schedules/told",
                 "/v1/topics/acme%3Anews")

        def show(client):
            found = {path: client.get(path).json() for path in shown}
            for answer in found.values():
                for of_the_moment in ("jobs", "next", "created", "updated", "counts", "since", "waiting", "submitted"):
                    answer.pop(of_the_moment, None)
            return found

        with harness.Server(data=self.data) as server:
            client = server.client()
            for path, body in (("/v1/queues/configured", {"attempts": 3, "backoff": ["1s", "5s"], "concurrency": 2, "dead_letter": "the-dead"}),
                               ("/v1/topics/news", {"retention": "1h"}), ("/v1/topics/news/subscriptions/one", {}),
                               ("/v1/topics/acme%3Anews", {"retention": "1h"}),
                               ("/v1/schedules/nightly", {"cron": "0 3 * * *", "job": {"queue": "nights"}}),
                               ("/v1/schedules/told", {"cron": "0 3 * * *", "publish": {"topic": "news", "attributes": {"n": 7}}})):
                answer = client.put(path, body)
                self.assertIn(answer.status, (200, 201), (path, answer, answer.body))
            for i in range(3):
                answer = client.post("/v1/topics/news/events", b"event %d" % i, Content_Type="text/plain", ce_id=str(i), ce_type="t", ce_source="/s",
                                     ce_specversion="1.0")
                self.assertIn(answer.status, (200, 201, 202), (answer, answer.body))
            answer = client.post("/v1/topics/acme%3Anews/events?type=t", b"in a namespace")
            self.assertEqual((answer.status, client.get("/v1/topics/acme%3Anews").json()["events"]), (202, 1), answer)
            client.submit("configured", b"only once", "?unique=the-key&group=the-group")
            answer = client.post("/v1/queues/configured/jobs", b"asked for under a key", Idempotency_Key='"the-word"')
            self.assertEqual(answer.status, 202, answer)
            answer = client.post("/v1/queues/q-ready/pause")
            self.assertIn(answer.status, (200, 204), answer)
            before = show(client)
            client.close()
        lines = export_all(self.data)
        kinds = [next(kind for kind in ("queue_config", "setting", "key", "id") if kind in line) for line in lines]
        self.assertEqual(kinds, sorted(kinds, key=("queue_config", "setting", "key", "id").index))
        self.assertEqual(kinds.count("key"), 1)
        other = os.path.join(self.folder, "other")
        path = self.write(self.data)
        done = run("import", "jobs", path, "--data", other)
        self.assertIn(b"1 queues, settings and keys were left out", done.stdout)
        again = export_all(other)

        def others(lines):
            return [{**line, "implicit": line.get("implicit") and not line.get("paused")} for line in lines if "queue_config" in line or ("setting" in line and not line["setting"].startswith("import/"))]

        self.assertEqual(others(again), others(lines))
        old, new = [line for line in lines if "id" in line], [line for line in again if "id" in line]
        self.assertEqual([what_counts(line) for line in new], [what_counts(line) for line in old])
        self.assertEqual([(line.get("unique"), line.get("group"), line.get("headers")) for line in new],
                         [(line.get("unique"), line.get("group"), line.get("headers")) for line in old])
        with harness.Server(data=other) as server:
            client = server.client()
            self.assertEqual(show(client), before)
            answer = client.post("/v1/queues/configured/jobs?unique=the-key", b"twice")
            self.assertEqual(answer.status, 200, answer)
            client.close()
            # what is there already stays
        self.assertIn(b"0 queues and settings", run("import", "jobs", self.write(self.data, "--bodies", os.path.join(self.folder, "copies")),
                                                   "--data", other).stdout)

    def test_a_folder_that_cannot_be_written(self):
        """Read-only by its mount, where this is allowed: another folder is used, and nothing is left there."""
        whole = run("log", "export", self.data).stdout
        mount = os.path.join(self.folder, "mount")
        os.mkdir(mount)
        scratch = os.path.join(self.folder, "scratch")
        os.mkdir(scratch)
        script = ('mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 77; ! touch "$2/x" 2>/dev/null || exit 78; '
                  'TMPDIR="$3" exec "$0" log export "$2"')
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, harness.BINARY, self.data, mount, scratch], capture_output=True,
                              check=False, timeout=harness.DEADLINE)
        if done.returncode == 77 or done.stderr.startswith((b"unshare:", b"mount:")):
            self.skipTest("no mounts here")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.replace(mount.encode(), self.data.encode()), whole)
        self.assertEqual(os.listdir(scratch), [])
        self.assertNotIn("repairing.tmp", os.listdir(self.data))

    def test_filters(self):
        self.assertEqual({line["queue"] for line in export(self.data, "--queue", "in-order")}, {"in-order"})
        self.assertEqual({line["state"] for line in export(self.data, "--state", "done", "--state", "delayed")}, {"done", "delayed"})
        self.assertEqual(export(self.data, "--queue", "none-such"), [])
        run("log", "export", self.data, "--state", "nonsense", expect=2)
        run("log", "export", expect=2)
        run("log", "export", os.path.join(self.folder, "missing"), expect=4)

    def test_salvage(self):
        whole = {line["id"]: line for line in export(self.data)}
        with open(os.path.join(self.data, "seg-0000000000000000.log"), "r+b") as f:
            text = f.read()
            at = text.index(b"small \0 one")
            f.seek(at)
            f.write(b"SMALL")
        done = run("log", "export", self.data, expect=3)
        self.assertEqual(done.stdout, b"")
        self.assertIn(b"seg-0000000000000000.log, byte", done.stderr)
        lines = {line["id"]: line for line in export(self.data, "--salvage")}
        self.assertEqual(len(lines), len(whole) - 1)
        for job, line in lines.items():
            if "uncertain" not in line:
                self.assertEqual(line, whole[job])
        self.assertTrue(any("uncertain" in line for line in lines.values()))

    def test_what_is_refused(self):
        other = os.path.join(self.folder, "other")
        for wrong in (b"nonsense\n", b"{}\n", b'{"state":"ready"}\n', b'{"state":"ready","queue":"q","payload":"?"}\n',
                      b'{"state":"done","queue":"q"}\n', b'[]\n'):
            path = os.path.join(self.folder, "wrong.ndjson")
            with open(path, "wb") as f:
                f.write(b'{"id":1,"queue":"q","state":"ready","payload":"eA=="}\n' + wrong)
            self.assertIn(b"line 2", run("import", "jobs", path, "--data", other, expect=1).stderr)
            self.assertFalse(os.path.exists(other))
        run("import", "jobs", os.path.join(self.folder, "none-such"), "--data", other, expect=1)

    def test_promises_are_left_out(self):
        """A job of callbacks/pending is about the one before it, which has another number where it goes."""
        path, other = os.path.join(self.folder, "promises"), os.path.join(self.folder, "promised")
        lines = [{"state": "ready", "queue": "q", "payload": "eA=="}, {"state": "ready", "queue": "callbacks/pending", "payload": "eA=="},
                 {"state": "ready", "queue": "acme:q", "payload": "eA=="}]
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"priority": 1024, "time_to_run_ms": 60000, **line}) + "\n" for line in lines)
        done = run("import", "jobs", path, "--data", other)
        self.assertIn(b"imported 2 jobs", done.stdout)
        self.assertIn(b"1 callbacks were left out", done.stderr)
        with harness.Server(data=other) as server:
            client = server.client()
            names = [q["name"] for q in client.get("/v1/queues").json()["queues"]]
            self.assertEqual(names, ["acme:q", "q"])
            client.close()

    def test_interrupted(self):
        """Killed in the middle, and again, and again: each job once."""
        path = os.path.join(self.folder, "many.ndjson")
        with open(path, "w", encoding="ascii") as f:
            for i in range(COUNT):
                f.write(json.dumps({"id": i, "queue": "q", "state": "ready", "priority": 1,
                                    "payload": base64.b64encode(b"%d" % i).decode()}) + "\n")
        other = os.path.join(self.folder, "other")
        for wait in (0.02, 0.1):
            with subprocess.Popen([harness.BINARY, "import", "jobs", path, "--data", other], stdout=subprocess.PIPE) as process:
                try:
                    process.wait(wait)
                except subprocess.TimeoutExpired:
                    process.kill()
        run("import", "jobs", path, "--data", other)
        self.assertEqual([body(line) for line in export(other)], [b"%d" % i for i in range(COUNT)])


if __name__ == "__main__":
    harness.main()
