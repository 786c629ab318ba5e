"""tests/integration/test_cli.py -- the commands, as a person runs them: docs/reference/command-line.md."""
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

import harness

BACKEND = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/backend/slow_report.py")


class Cli(harness.Case):
    def run_cli(self, *args, stdin=b"", expect=0, server=None, quiet=False):
        done = subprocess.run([harness.BINARY, *map(str, args)], input=stdin, capture_output=True, check=False,
                              timeout=harness.DEADLINE,
                              env={**os.environ, "WHILST_SERVER": server or f"http://127.0.0.1:{self.server.port}"})
        self.assertEqual(done.returncode, expect, (args, done.stdout[-500:], done.stderr[-500:]))
        if expect != 0 and not quiet:
            self.assertTrue(done.stderr.strip(), f"{args} says nothing about why it ended with {expect}")
        return done.stdout

    def run_cli_error(self, *args, expect):
        done = subprocess.run([harness.BINARY, *args], capture_output=True, check=False, timeout=harness.DEADLINE)
        self.assertEqual(done.returncode, expect, (args, done.stderr[-500:]))
        return done.stderr

    def submit(self, *args, stdin=b"x"):
        return int(self.run_cli("submit", self.queue, *args, stdin=stdin))

    def work(self, *command, options=(), expect=0):
        return self.run_cli("work", self.queue, "--exit-when-empty", *options, "--", *command, expect=expect)

    def state(self, job):
        return json.loads(self.run_cli("status", "--json", job))

    # -- without a server

    def test_help(self):
        self.assertIn(b"commands:", self.run_cli("--help"))
        self.assertRegex(self.run_cli("--version").decode(), r"^whilst \d+\.\d+\.\d+\n$")
        for command in ("serve", "submit", "publish", "subscribe", "schedule", "wait", "status", "cancel", "call", "work", "queue", "queues", "fsync-test", "log", "backup"):
            self.assertIn(f"usage: whilst {command}".encode(), self.run_cli(command, "--help"))

    def test_usage_errors(self):
        for args in ((), ("nonsense",), ("submit",), ("submit", "q", "--no-such-option"), ("wait",), ("wait", "x"),
                     ("publish", "t"), ("publish", "t", "--event-type", "a", "--attribute", "x"), ("subscribe", "t"), ("schedule",), ("schedule", "put"), ("schedule", "eat", "x"), ("schedule", "put", "n", "--missed-max", "x"),
                     ("status",), ("status", "-1"), ("cancel", "1x"), ("call", "one"), ("work", "q"),
                     ("submit", "q", "--wait", "5"), ("call", "s", "/", "--async", "--wait", "1s"),
                     ("work", "q", "--concurrency", "0", "--", "true"), ("status", "1", "--server", "ftp://x")):
            with self.subTest(args=args):
                self.run_cli(*args, expect=2)

    def test_no_server(self):
        for args in (("submit", "q"), ("wait", "1"), ("status", "1"), ("cancel", "1"), ("queues",), ("queue", "show", "q"), ("call", "s", "/")):
            with self.subTest(args=args):
                self.run_cli(*args, server="http://127.0.0.1:1", expect=4)

    def test_fsync_test(self):
        with tempfile.TemporaryDirectory() as folder:
            ways = json.loads(self.run_cli("fsync-test", folder, "--duration", "20ms", "--json"))
            self.assertEqual([way["way"] for way in ways],
                             ["fdatasync", "fsync", "o_dsync", "o_direct_dsync", "fdatasync_allocated", "fdatasync_growing"])
            for way in ways:
                if way["way"] != "o_direct_dsync" or "error" not in way:  # not every file system has O_DIRECT
                    self.assertGreater(way["commits"], 0)
                    self.assertLessEqual(way["p50_us"], way["p99_us"])
                    self.assertLessEqual(way["p99_us"], way["max_us"])
            self.assertIn(b"commits a second", self.run_cli("fsync-test", folder, "--duration", "5ms"))
            self.assertEqual(os.listdir(folder), [])
            self.run_cli("fsync-test", os.path.join(folder, "missing"), expect=1)
        self.run_cli("fsync-test", "--duration", "0s", expect=2)
        self.run_cli("fsync-test", ".", ".", expect=2)

    def test_log(self):
        with tempfile.TemporaryDirectory() as folder:
            data = os.path.join(folder, "data")
            self.run_cli("log", "verify", data, expect=4)
            server = harness.Server(data=data)
            self.assertIn(b"in use", self.run_cli_error("log", "verify", data, expect=4))
            for payload in (b"one", b"two"):
                self.run_cli("submit", "shown", stdin=payload, server=f"http://127.0.0.1:{server.port}")
            server.stop()
            self.assertRegex(self.run_cli("log", "verify", data).decode(), r"^sound: \d+ records, up to \d+\n$")
            shown = json.loads(self.run_cli("log", "inspect", data, "--json"))
            self.assertEqual((shown["verdict"], shown["records_by_type"]["submit"]), ("sound", 2))
            self.assertEqual([epoch["epoch"] for epoch in shown["epochs"]], [1])
            lines = self.run_cli("log", "inspect", data, "--records").decode().splitlines()
            self.assertEqual(sum(" submit " in line and "body=3" in line for line in lines), 2)
            self.assertTrue(any("name=shown" in line for line in lines))
            with open(os.path.join(data, "seg-0000000000000000.log"), "r+b") as segment:
                segment.seek(8192 + 100)
                segment.write(b"?")
            self.assertIn(b"byte 8192", self.run_cli_error("log", "verify", data, expect=3))
            self.assertEqual(json.loads(self.run_cli("log", "verify", data, "--json", expect=3))["verdict"], "damaged")
            self.check_repair(data)
        for args in (("log",), ("log", "verify"), ("log", "verify", "a", "b"), ("log", "nonsense", "a"),
                     ("log", "verify", "a", "--records"), ("log", "repair"), ("log", "repair", "a", "--cut", "--skip")):
            self.run_cli(*args, expect=2)

    def check_repair(self, data):
        names = sorted(os.listdir(data))
        told = self.run_cli("log", "repair", data, expect=3, quiet=True).decode()
        self.assertIn("seg-0000000000000000.log, byte 8192", told)
        self.assertIn("--skip would keep 2 jobs", told)
        self.assertIn("--cut would keep 0 jobs", told)
        self.assertIn("nothing was changed", told)
        choices = json.loads(self.run_cli("log", "repair", data, "--json", expect=3, quiet=True))["choices"]
        self.assertEqual([(choice["how"], choice["jobs_kept"]) for choice in choices], [("skip", 2), ("cut", 0)])
        self.assertEqual(sorted(os.listdir(data)), names)
        self.assertIn("repaired, in epoch 2; what was replaced is in " + data, self.run_cli("log", "repair", data, "--skip").decode())
        self.assertIn("report.txt", os.listdir(os.path.join(data, "repaired-2")))
        self.assertIn("seg-0000000000000000.log", os.listdir(os.path.join(data, "repaired-2")))
        self.run_cli("log", "verify", data)
        self.assertRegex(self.run_cli("log", "repair", data).decode(), r"^nothing to repair: 2 jobs\n$")
        with harness.Server(data=data) as server:
            client = server.client()
            answer = client.get("/v1/log")
            self.assertEqual(answer.json()["epoch"], 3)
            lost = client.get(f"/v1/log?position=1/{1 << 20}")
            self.assertEqual(lost.status, 410, lost)
            jobs = [client.get(f"/v1/jobs/{job}/payload").body for job in (1, 2)]
            self.assertEqual(jobs, [b"one", b"two"])

    # -- jobs

    def test_submit_once(self):
        jobs = [self.submit("--key", 'a "b" \\c') for _ in range(3)]
        self.assertEqual(len(set(jobs)), 1)
        self.assertNotEqual(self.submit("--key", "other"), jobs[0])
        self.run_cli("submit", self.queue, "--key", "other", stdin=b"y", expect=1)
        for key in ("", "x" * 256, "\n"):
            self.run_cli("submit", self.queue, "--key", key, expect=2)

    def test_submit_and_status(self):
        job = self.submit("--priority", "7", "--attempts", "2", "--type", "text/plain", stdin=b"hello")
        state = self.state(job)
        self.assertEqual((state["state"], state["priority"], state["attempts_max"], state["bytes"], state["content_type"]),
                         ("ready", 7, 2, 5, "text/plain"))
        self.assertIn(f"job {job}: ready".encode(), self.run_cli("status", job))
        self.assertIn(self.queue.encode(), self.run_cli("queues"))

    def test_queue(self):
        dead, other = self.queue + ".dead", self.queue + ".other"
        self.assertEqual(self.run_cli("queue", "put", self.queue, "--attempts", "1", "--backoff", "1s,5s", "--dead-letter", dead), f"queue {self.queue}: made\n".encode())
        self.assertEqual(self.run_cli("queue", "put", self.queue, "--attempts", "1", "--dead-letter", dead), f"queue {self.queue}: configured\n".encode())
        self.assertEqual(json.loads(self.run_cli("queue", "show", "--json", self.queue))["dead_letter"], dead)
        self.assertRegex(self.run_cli("queue", "show", self.queue).decode(), r"  attempts +1\n")
        jobs = [self.submit() for _ in range(3)]
        self.work("sh", "-c", "echo why $WHILST_JOB >&2; exit 1")
        listed = [json.loads(line) for line in self.run_cli("queue", "jobs", "--json", dead, "--dead").splitlines()]
        self.assertEqual(sorted(job["id"] for job in listed), jobs)
        self.assertEqual(self.run_cli("queue", "jobs", dead, "--error", f"why {jobs[1]}").split()[:2], [b"%d" % jobs[1], b"ready"])
        self.assertEqual(self.run_cli("queue", "replay", dead, "--error", f"why {jobs[1]}"), b"1 jobs called back\n")
        self.assertEqual(self.state(jobs[1])["queue"], self.queue)
        self.assertEqual(json.loads(self.run_cli("queue", "move", dead, "--to", other, "--id", jobs[0], "--id", jobs[1], "--json")), {"count": 1})
        self.assertEqual(self.run_cli("queue", "purge", dead, "--older", "1h"), b"0 jobs purged\n")
        self.assertEqual(self.run_cli("queue", "purge", dead, "--from", jobs[2], "--until", jobs[2], "--count", "5"), b"1 jobs purged\n")
        self.assertEqual(self.run_cli("queue", "kick", self.queue), b"0 jobs kicked\n")
        self.assertEqual(self.run_cli("queue", "pause", self.queue, other), f"queue {self.queue}: paused\nqueue {other}: paused\n".encode())
        self.assertEqual(self.run_cli("queue", "resume", self.queue), f"queue {self.queue}: resumed\n".encode())
        self.run_cli("queue", "delete", self.queue, expect=1)
        self.run_cli("queue", "show", "nowhere", expect=1)
        self.run_cli("queue", "move", self.queue, expect=1)
        self.assertEqual(self.run_cli("queue", "purge", other), b"1 jobs purged\n")
        self.assertEqual(self.run_cli("queue", "delete", other), f"queue {other}: removed\n".encode())
        for args in ((), ("eat", "q"), ("show",), ("purge", "a", "b"), ("put", "q", "--attempts", "x"), ("show", "q", "--dead"),
                     ("jobs", "q", "--id", "1"), ("kick", "q", "--attempts", "1"), ("purge", "q", "--id", "x"), ("kick", "q", "--nothing")):
            with self.subTest(args=args):
                self.run_cli("queue", *args, expect=2)

    def test_submit_policies(self):
        job = self.submit("--unique", "a key", "--unique-while", "1h", "--group", "g", "--expires", "2h")
        self.assertEqual(self.submit("--unique", "a key"), job)
        state = self.state(job)
        self.assertEqual((state["unique"], state["group"]), ("a key", "g"))
        self.assertIsNotNone(state["expires_at"])
        self.assertTrue(json.loads(self.run_cli("submit", self.queue, "--unique", "a key", "--json"))["duplicate"])
        self.run_cli("submit", self.queue, "--unique-while", "1h", expect=1)

    def test_submit_files(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, f"{i}") for i in range(30)]
            for i, path in enumerate(paths):
                with open(path, "wb") as f:
                    f.write(b"%d" % i * i)
            ids = [int(line.split()[0]) for line in self.run_cli("submit", self.queue, *paths).splitlines()]
            self.assertEqual(len(set(ids)), 30)
            self.assertEqual(self.client.get(f"/v1/jobs/{ids[7]}/payload").body, b"7" * 7)
            self.run_cli("submit", self.queue, os.path.join(folder, "missing"), expect=1)

    def test_refusals(self):
        self.run_cli("status", "999999", expect=1)
        self.run_cli("cancel", "999999", expect=1)
        self.run_cli("submit", self.queue, "--commit", "remote-flush", expect=1)
        self.run_cli("submit", self.queue, "--priority", "-5", expect=1)
        self.run_cli("call", "no-such-service", "/", expect=1)

    def test_cancel(self):
        job = self.submit()
        self.assertIn(b"cancelled", self.run_cli("cancel", job))
        self.run_cli("cancel", job, expect=1)
        self.run_cli("wait", job, expect=1)

    def test_wait(self):
        job = self.submit(stdin=b"payload")
        self.run_cli("wait", job, "--timeout", "100ms", expect=3)
        waiter = subprocess.Popen([harness.BINARY, "wait", str(job)], stdout=subprocess.PIPE,
                                  env={**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}"})
        self.work("tr", "a-z", "A-Z")
        self.assertEqual((waiter.communicate(timeout=harness.DEADLINE)[0], waiter.returncode), (b"PAYLOAD", 0))
        self.assertEqual(self.run_cli("wait", job, "--quiet"), b"")
        self.assertEqual(json.loads(self.run_cli("wait", job, "--json"))["state"], "done")

    def test_submit_waiting(self):
        self.run_cli("submit", self.queue, "--wait", "1s", expect=3)
        worker = subprocess.Popen([harness.BINARY, "work", self.queue, "--", "rev"], stdout=subprocess.DEVNULL,
                                  env={**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}"})
        self.assertEqual(self.run_cli("submit", self.queue, "--wait", "20s", stdin=b"abc\n"), b"cba\n")
        worker.send_signal(signal.SIGTERM)
        self.assertEqual(worker.wait(harness.DEADLINE), 0)

    # -- workers

    def test_work_results(self):
        payloads = [os.urandom(n) for n in (0, 1, 4095, 4096, 65536, 1 << 20)]
        jobs = [self.submit(stdin=p) for p in payloads]
        self.work("gzip", "-9", options=("--concurrency", "3", "--type", "application/gzip"))
        for job, payload in zip(jobs, payloads):
            answer = self.client.get(f"/v1/jobs/{job}/result")
            self.assertEqual((answer.status, answer["Content-Type"]), (200, "application/gzip"))
            self.assertEqual(gzip.decompress(answer.body), payload)

    def test_work_failures(self):
        job = self.submit("--attempts", "3")
        self.work("sh", "-c", "echo no luck >&2; exit 3")
        state = self.state(job)
        self.assertEqual((state["state"], state["attempts"]), ("delayed", 1))
        self.assertEqual(state["errors"][0]["message"], "exit status 3: no luck")
        for_good = self.submit("--attempts", "3")
        self.work("sh", "-c", "exit 100")
        self.assertEqual(self.state(for_good)["state"], "failed")
        killed = self.submit("--attempts", "1")
        self.work("sh", "-c", "kill -9 $$")
        self.assertEqual(self.state(killed)["errors"][0]["message"], "ended by signal 9")
        self.run_cli("wait", killed, expect=1)

    def test_work_keeps_the_end_of_standard_error(self):
        job = self.submit("--attempts", "1")
        self.work("sh", "-c", "yes line | head -n 5000 >&2; echo the end >&2; exit 1")
        message = self.state(job)["errors"][0]["message"]
        self.assertLessEqual(len(message), 4096)
        self.assertTrue(message.endswith("the end"), message[-80:])

    def test_work_does_not_read_its_input(self):
        job = self.submit(stdin=b"x" * (1 << 20))
        self.work("echo", "done")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, b"done\n")

    def test_work_environment(self):
        job = self.submit()
        self.work("sh", "-c", "echo $WHILST_JOB $WHILST_ATTEMPT $WHILST_QUEUE")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body.decode(), f"{job} 1 {self.queue}\n")

    def test_schedule(self):
        made = self.run_cli("schedule", "put", "cli", "--cron", "30 4 * * mon-fri", "--time-zone", "Europe/Berlin", "--queue", "r", "--missed", "all",
                            "--missed-max", "7", "--attempts", "3", "--priority", "5", "--unique", "u", "--type", "text/plain", "-", stdin="gr\u00fc\u00df".encode())
        self.assertRegex(made.decode() if isinstance(made, bytes) else made, r"^cli +30 4 \* \* mon-fri Europe/Berlin +r +next 20")
        shown = json.loads(self.run_cli("schedule", "list", "cli", "--json"))
        self.assertEqual((shown["missed"], shown["missed_max"], shown["job"]), ("all", 7, {"queue": "r", "attempts": 3, "priority": 5, "unique": "u",
                                                                                            "content_type": "text/plain", "payload": "gr\u00fc\u00df"}))
        job = int(self.run_cli("schedule", "run", "cli"))
        self.assertEqual(json.loads(self.run_cli("status", "--json", job))["queue"], "r")
        self.run_cli("schedule", "run", "missing", expect=1)
        self.run_cli("schedule", "pause", "cli")
        self.assertEqual([(s["name"], s["paused"]) for s in json.loads(self.run_cli("schedule", "list", "--json"))["schedules"]], [("cli", True)])
        self.run_cli("schedule", "resume", "cli")
        self.assertFalse(json.loads(self.run_cli("schedule", "list", "cli", "--json"))["paused"])
        self.run_cli("schedule", "put", "cli", "--cron", "x", "--queue", "r", expect=1)
        self.run_cli("schedule", "delete", "cli")
        self.run_cli("schedule", "list", "cli", expect=1)
        self.run_cli("schedule", "put", "every", "--every", "1h", "--queue", "r", "--paused")
        self.run_cli("schedule", "delete", "every", "missing", expect=1)

    def test_schedule_that_publishes(self):
        topic = "topic-" + self.queue
        put = ("schedule", "put", "cli-told", "--cron", "@yearly", "--topic", topic)
        self.run_cli(*put, expect=1)  # there is no such topic
        self.run_cli("queue", "put", self.queue)
        self.assertEqual(self.client.put(f"/v1/topics/{topic}/subscriptions/s", {"queue": self.queue}).status, 201)
        made = self.run_cli(*put, "--event-type", "report.due", "--source", "/office", "--subject", "daily", "--attribute", "region=eu", "--attribute", "x=a=b",
                            "--type", "text/plain", "-", stdin=b"hello")
        self.assertRegex(made.decode() if isinstance(made, bytes) else made, rf"^cli-told +@yearly UTC +{topic} +next 20")
        self.assertEqual(json.loads(self.run_cli("schedule", "list", "cli-told", "--json"))["publish"],
                         {"topic": topic, "type": "report.due", "source": "/office", "subject": "daily", "attributes": {"region": "eu", "x": "a=b"},
                          "content_type": "text/plain", "payload": "hello"})
        self.assertRegex(self.run_cli("schedule", "run", "cli-told"), rb"^cli-told/[0-9a-f]+\n$")
        event = self.client.post(f"/v1/queues/{self.queue}/reserve")
        self.assertEqual((event.body, event["ce-type"], event["ce-region"], event["ce-x"]), (b"hello", "report.due", "eu", "a=b"))
        self.run_cli("schedule", "pause", "cli-told")
        self.assertTrue(json.loads(self.run_cli("schedule", "list", "cli-told", "--json"))["paused"])
        for wrong in (("--queue", "q"), ("--priority", "1"), ("--header", "X: y")):
            self.run_cli(*put, *wrong, expect=1)
        self.run_cli(*put, "--attribute", "x", expect=2)
        self.run_cli("schedule", "delete", "cli-told")

    def test_publish_and_subscribe(self):
        topic = "topic-" + self.queue
        script = 'printf "%s|%s|%s|" "$CE_TYPE" "$CE_SUBJECT" "$CE_REGION"; cat'
        self.run_cli("publish", topic, "--event-type", "a", expect=1)
        self.run_cli("subscribe", topic, "--name", "s", "--event-type", "order.*", "--exit-when-empty", "--", "sh", "-c", script)
        for event_type, jobs in (("order.placed", 1), ("item.sold", 0)):
            out = self.run_cli("publish", topic, "--event-type", event_type, "--id", "1", "--source", "/shop", "--subject", "no 5 \u00e9", "--attribute",
                               "region=eu=west", "--type", "text/plain", stdin=b"data")
            self.assertEqual(int(out), jobs)
        said = json.loads(self.run_cli("publish", topic, "--event-type", "order.x", "--json", stdin=b""))
        self.assertEqual(said["jobs"], 1)
        for jobs in (b"1", b"1"):
            self.assertEqual(self.run_cli("publish", topic, "--event-type", "order.once", "--key", "a-key", stdin=b"x").strip(), jobs)
        self.assertEqual(self.client.get(f"/v1/queues/{topic}%2Fs").json()["submitted"], 3)
        self.run_cli("publish", topic, "--event-type", "a", "--id", "1", expect=2)
        lines = self.run_cli("subscribe", topic, "--name", "s", "--event-type", "order.*", "--exit-when-empty", "--json", "--", "sh", "-c", script)
        jobs = [json.loads(line)["id"] for line in lines.splitlines()]
        self.assertEqual(self.client.get(f"/v1/jobs/{jobs[0]}/result").body.decode(), "order.placed|no 5 \u00e9|eu=west|data")
        self.assertEqual(self.client.get(f"/v1/jobs/{jobs[1]}/result").body.decode(), "order.x|||")
        self.assertEqual(self.client.get(f"/v1/topics/{topic}/subscriptions/s").json()["filters"], [{"prefix": {"type": "order."}}])

    def test_work_command_missing(self):
        job = self.submit()
        self.work("/no/such/program", expect=1)
        state = self.state(job)
        self.assertEqual((state["state"], state["attempts"]), ("ready", 0))

    def test_work_extends_its_lease(self):
        job = self.submit("--time-to-run", "1s", "--attempts", "1")
        self.work("sh", "-c", "sleep 2; echo long")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, b"long\n")

    def test_cancelled_job_ends_its_command(self):
        job = self.submit("--time-to-run", "1s")
        with tempfile.TemporaryDirectory() as folder:
            started = os.path.join(folder, "started")
            worker = subprocess.Popen([harness.BINARY, "work", self.queue, "--exit-when-empty", "--", "sh", "-c",
                                       f"touch {started}; exec sleep 600"], stderr=subprocess.DEVNULL,
                                      env={**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}"})
            harness.eventually(lambda: os.path.exists(started), "the command's start")
            self.assertIn(b"running", self.run_cli("cancel", job))
            self.assertEqual(worker.wait(harness.DEADLINE), 0)
        self.assertEqual(self.state(job)["state"], "cancelled")

    def test_signals(self):
        with tempfile.TemporaryDirectory() as folder:
            started = os.path.join(folder, "started")
            job = self.submit()
            worker = subprocess.Popen([harness.BINARY, "work", self.queue, "--", "sh", "-c",
                                       f"touch {started}; sleep 1; echo finished"],
                                      env={**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}"})
            harness.eventually(lambda: os.path.exists(started), "the command's start")
            worker.send_signal(signal.SIGTERM)
            self.assertEqual(worker.wait(harness.DEADLINE), 0)
            self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body, b"finished\n")
            os.unlink(started)
            job = self.submit()
            worker = subprocess.Popen([harness.BINARY, "work", self.queue, "--", "sh", "-c",
                                       f"touch {started}; exec sleep 600"],
                                      env={**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}"})
            harness.eventually(lambda: os.path.exists(started), "the command's start")
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGINT)
            self.assertEqual(worker.wait(harness.DEADLINE), 0)
            harness.eventually(lambda: self.state(job)["state"] == "ready", "the job's release")

    # -- gateway

    def test_call(self):
        backend = subprocess.Popen([sys.executable, BACKEND], stdout=subprocess.PIPE, text=True)
        try:
            port = int(backend.stdout.readline().split()[-1])
            self.client.put("/v1/services/report", {"url": f"http://127.0.0.1:{port}"})
            path = "/report?folder=/etc/apt&seconds=0"
            waited = self.run_cli("call", "report", path)
            self.assertIn(b"/etc/apt", waited)
            self.assertIn(b"HTTP/1.1 200", self.run_cli("call", "report", path, "--include"))
            self.assertIn(b"there is no /nowhere", self.run_cli("call", "report", "/nowhere", expect=1, quiet=True))
            job = int(self.run_cli("call", "report", path, "--async"))
            self.assertEqual(self.run_cli("wait", job), waited)
            self.assertEqual(self.run_cli("call", "report", path, "--wait", "20s"), waited)
            self.run_cli("call", "report", "/report?folder=/etc/apt&seconds=3", "--wait", "1s", expect=3)
        finally:
            backend.kill()
            backend.wait()
            backend.stdout.close()


class Texts(unittest.TestCase):
    """What helps to type a command: the completion of the shell and the manual page know every option, and none that is not there."""
    ROOT = os.path.join(os.path.dirname(__file__), "../..")

    def help(self, command):
        done = subprocess.run([harness.BINARY, command, "--help"], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        return done.stdout

    def commands(self):
        done = subprocess.run([harness.BINARY, "--help"], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        return re.findall(r"(?m)^  ([a-z-]+) ", done.stdout)

    def complete(self, *words):
        """What bash offers for the last of the words."""
        script = ('source "$0"; COMP_WORDS=(whilst "$@"); COMP_CWORD=$(($#)); COMPREPLY=(); _whilst; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, os.path.join(self.ROOT, "packaging/whilst.bash-completion"), *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=True)
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_commands(self):
        commands = self.commands()
        self.assertGreater(len(commands), 15)
        self.assertEqual(self.complete(""), {*commands, "--help", "--version"})
        self.assertEqual(self.complete("su"), {"submit", "subscribe"})

    def test_options(self):
        with open(os.path.join(self.ROOT, "man/whilst.1"), encoding="utf-8") as f:
            manual = f.read()
        for command in self.commands():
            told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", self.help(command)))
            offered = self.complete(command, "--") - {"--"}
            self.assertEqual(told - offered, set(), f"{command}: options that completion does not know")
            if command in ("log", "import"):  # what they take depends on what follows, and is told of all
                self.assertEqual(offered - told, set(), command)
                offered = set()
            for option in offered - {"--help"}:
                # =1: what takes no value refuses it, and nothing is begun either way
                done = subprocess.run([harness.BINARY, command, f"{option}=1", "--nonsense"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, timeout=60, check=False)
                self.assertNotRegex(done.stderr, rf"unrecognized option '{option}|{option}(=1)?: there is no such", command)
                self.assertEqual(done.returncode, 2, f"{command} {option}: {done.stderr}")
                self.assertRegex(manual, rf"(?m)Fl -{option[2:]}\b", f"{command} {option}: the manual page")

    def test_files(self):
        self.assertIn("test_cli.py", " ".join(self.complete("submit", "q", os.path.join(os.path.dirname(__file__), "test_cli"))))


if __name__ == "__main__":
    harness.main()
