"""tests/integration/test_schedules.py -- schedules on the real server: configured, run, missed, killed, moved in time."""
import concurrent.futures
import datetime
import json
import os
import random
import socket
import sys
import time
import unittest
import zoneinfo

import harness

JOB = {"queue": "q", "payload": "hello"}


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def take(client, queue="q"):
    """One job, taken and done: (payload, name of its schedule, when it was due); None: there is none."""
    answer = client.post(f"/v1/queues/{queue}/reserve")
    if answer.status == 204:
        return None
    assert answer.status == 200, answer
    assert client.complete(int(answer["Whilst-Job"]), answer["Whilst-Lease"]).status == 200
    return answer.body.decode(), answer["Whilst-Schedule"], answer["Whilst-Due"]


class Configured(harness.Case):
    """What PUT, GET and DELETE say; nothing here is due."""

    def put(self, name, status=201, **config):
        answer = self.client.put(f"/v1/schedules/{name}", {"job": JOB, **config})
        self.assertEqual(answer.status, status, answer)
        return answer.json()

    def test_paused_and_nothing_else(self):
        name = f"{self.queue}-p"
        before = self.put(name, cron="0 3 29 2 *", time_zone="Europe/Berlin", missed="all", missed_max=7)
        for verb, changed in (("pause", {"paused": True, "next": []}), ("pause", {"paused": True, "next": []}), ("resume", {}), ("resume", {})):
            answer = self.client.post(f"/v1/schedules/{name}/{verb}")
            self.assertEqual((answer.status, answer.json()), (200, {**before, **changed}), verb)
            self.assertEqual(answer["Whilst-Commit"], "local")
            self.assertEqual(self.client.get(f"/v1/schedules/{name}").json(), answer.json())
        for verb in ("pause", "resume"):
            self.assertProblem(self.client.post(f"/v1/schedules/none-{self.queue}/{verb}"), 404, "unknown-schedule")
            self.assertProblem(self.client.post(f"/v1/schedules/{name}/{verb}?x=1"), 400, "bad-request")
            self.assertProblem(self.client.post(f"/v1/schedules/{name}/{verb}", Whilst_Commit="async"), 422, "level-unavailable")

    def test_paused_while_others_put(self):
        """Asked for before the answer to what was put: neither is lost, whichever comes first."""
        name = f"{self.queue}-o"
        self.put(name, every="1h")
        for n, order in ((2, ("put", "pause")), (3, ("put", "resume")), (4, ("pause", "put", "pause")), (5, ("put", "pause", "resume", "pause"))):
            body = json.dumps({"every": f"{n}h", "job": JOB})
            put = f"PUT /v1/schedules/{name} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            data = "".join(put if what == "put" else f"POST /v1/schedules/{name}/{what} HTTP/1.1\r\nHost: h\r\n\r\n" for what in order)
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
                s.sendall(data.encode())
                rest = b""
                for _ in order:
                    answer, rest = harness.read_answer(s, rest)
                    self.assertEqual(answer.status, 200)
            shown = self.client.get(f"/v1/schedules/{name}").json()
            self.assertEqual((shown["every"], shown["paused"]), (f"{n}h", order[-1] == "pause"), order)

    def test_paused_over_a_restart(self):
        with harness.Server() as server:
            client = server.client()
            self.assertEqual(client.put("/v1/schedules/s", {"cron": "* * * * *", "time_zone": "Europe/Berlin", "job": JOB}).status, 201)
            self.assertEqual(client.post("/v1/schedules/s/pause").status, 200)
            client.close()
            server.kill()
            server.start()
            client = server.client()
            shown = client.get("/v1/schedules/s").json()
            self.assertEqual((shown["paused"], shown["error"], shown["time_zone"]), (True, None, "Europe/Berlin"))
            self.assertEqual(len(client.post("/v1/schedules/s/resume").json()["next"]), 5)
            self.assertEqual(client.delete("/v1/schedules/s").status, 200)
            self.assertEqual(client.post("/v1/schedules/s/pause").status, 404)
            client.close()

    def test_made_shown_replaced_removed(self):
        name = f"{self.queue}%2Fnightly"
        made = self.put(name, cron="0 3 * * *", time_zone="Europe/Berlin", paused=False)
        self.assertEqual((made["name"], made["cron"], made.get("every"), made["time_zone"]), (f"{self.queue}/nightly", "0 3 * * *", None, "Europe/Berlin"))
        self.assertEqual((made["missed"], made["missed_max"], made["job"], made["last"], made["runs"], made["error"]), ("once", 100, JOB, None, 0, None))
        berlin, at = zoneinfo.ZoneInfo("Europe/Berlin"), now()
        self.assertEqual(len(made["next"]), 5)
        for text in made["next"]:
            self.assertGreater(instant(text), at)
            at = instant(text)
            self.assertEqual((at.astimezone(berlin).hour, at.astimezone(berlin).minute), (3, 0))
        shown = self.client.get(f"/v1/schedules/{name}").json()
        self.assertEqual({**shown, "next": 0}, {**made, "next": 0})
        # what GET shows may be sent back
        again = self.client.put(f"/v1/schedules/{name}", shown)
        self.assertEqual((again.status, {**again.json(), "next": 0}), (200, {**made, "next": 0}))
        self.assertIsNotNone(again["Whilst-Position"])
        self.assertIn(shown["name"], [s["name"] for s in self.client.get("/v1/schedules").json()["schedules"]])
        paused = self.put(name, 200, every="1h", paused=True)
        self.assertEqual((paused.get("cron"), paused["every"], paused["next"]), (None, "1h", []))
        removed = self.client.delete(f"/v1/schedules/{name}")
        self.assertEqual((removed.status, removed.json()), (200, {"name": shown["name"]}))
        for method in ("GET", "DELETE"):
            self.assertProblem(self.client.request(method, f"/v1/schedules/{name}"), 404, "unknown-schedule")

    def test_headers(self):
        headers = {"X-Report": "daily, all", "x_y!": "", "Authorization": "Bearer " + "t" * 1000}
        job = {**JOB, "queue": self.queue, "headers": headers, "content_type": "text/x"}
        self.assertEqual(self.put(self.queue, cron="@yearly", job=job)["job"], job)
        self.assertEqual(self.client.post(f"/v1/schedules/{self.queue}/run").status, 202)
        taken = self.client.post(f"/v1/queues/{self.queue}/reserve")
        self.assertEqual({name: taken[name] for name in headers}, headers)
        self.assertEqual((taken["Whilst-Schedule"], taken["Content-Type"], taken.body), (self.queue, "text/x", b"hello"))
        self.assertEqual(self.put(self.queue, 200, cron="@yearly", job={**JOB, "headers": {}})["job"], {**JOB, "headers": {}})
        for wrong in ({"Whilst-Job": "1"}, {"ce-id": "1"}, {"Content-Length": "1"}, {"content-type": "a/b"}, {"Host": "x"}, {"Connection": "close"},
                      {"transfer-encoding": "chunked"}, {"Set-Cookie": "a=b"}, {"traceparent": "x"}, {"": "x"}, {"a b": "x"}, {"a:": "x"},
                      {"x" * 65: "x"}, {"X": "a\r\nb"}, {"X": "\u00e9"}, {"X": " a"}, {"X": "a" * 1025}, {"X": "a\u0000"},
                      {f"X-{i}": "" for i in range(33)}):
            answer = self.client.put(f"/v1/schedules/{self.queue}", {"cron": "@yearly", "job": {**JOB, "headers": wrong}})
            self.assertIn("headers", self.assertProblem(answer, 422, "bad-value")["detail"])
        for wrong in ([], "X: y", None):
            answer = self.client.put(f"/v1/schedules/{self.queue}", {"cron": "@yearly", "job": {**JOB, "headers": wrong}})
            self.assertProblem(answer, 400, "bad-json")
        self.client.delete(f"/v1/schedules/{self.queue}")

    def test_refused(self):
        path = f"/v1/schedules/{self.queue}"
        for value, status, code, words in (
                ({"cron": "0 3 * *"}, 422, "bad-value", "day of the week"), ({"cron": "60 * * * *"}, 422, "bad-value", "minute"),
                ({"cron": "* * * * * *"}, 422, "bad-value", "five"), ({"cron": "0 0 30 2 *"}, 422, "bad-value", "no such day"),
                ({"cron": "@reboot"}, 422, "bad-value", "@hourly"), ({"cron": 5}, 422, "bad-value", "string"),
                ({"cron": "5/10 * * * *"}, 422, "bad-value", "range"), ({"cron": "* * * * *", "every": "1h"}, 400, "bad-json", "one of them"),
                ({}, 400, "bad-json", "when?"), ({"every": "900ms"}, 422, "bad-value", "1s"), ({"every": "5"}, 400, "bad-json", "unit"),
                ({"every": "1h", "time_zone": "UTC"}, 400, "bad-json", "time_zone"),
                ({"cron": "@daily", "time_zone": "Mars/Olympus"}, 422, "bad-value", "tz database"),
                ({"cron": "@daily", "time_zone": "../../etc/passwd"}, 422, "bad-value", "tz database"),
                ({"cron": "@daily", "time_zone": "Europe"}, 422, "bad-value", "cannot be read"),
                ({"cron": "@daily", "time_zone": "tzdata.zi"}, 422, "bad-value", "name of the tz"),
                ({"cron": "@daily", "missed": "sometimes"}, 422, "bad-value", "once"), ({"cron": "@daily", "missed_max": 0}, 422, "bad-value", "1000"),
                ({"cron": "@daily", "paused": "no"}, 400, "bad-json", "true"), ({"cron": "@daily", "name": "other"}, 400, "bad-json", "path"),
                ({"cron": "@daily", "whem": 1}, 400, "bad-json", "whem"), ({"cron": "@daily", "job": None}, 400, "bad-json", "job"),
                ({"cron": "@daily", "job": {}}, 400, "bad-json", "queue"), ({"cron": "@daily", "job": []}, 400, "bad-json", "object"),
                ({"cron": "@daily", "job": {"queue": "call/x"}}, 422, "bad-value", "call/"),
                ({"cron": "@daily", "job": {"queue": "q", "run_at": "2030-01-01T00:00:00Z"}}, 400, "bad-json", "run_at"),
                ({"cron": "@daily", "job": {"queue": "q", "action": "kick"}}, 400, "bad-json", "action"),
                ({"cron": "@daily", "job": {"queue": "q", "priority": -1}}, 422, "bad-value", "priority"),
                ({"cron": "@daily", "job": {"queue": "q", "payload": "x" * 61440}}, 422, "bad-value", "61440")):
            answer = self.client.put(path, {"job": JOB, **value})
            self.assertIn(words, self.assertProblem(answer, status, code)["detail"], value)
        for body, status, code in ((b"[]", 400, "bad-json"), (b"{", 400, "bad-json"), (b"", 400, "bad-json")):
            self.assertProblem(self.client.put(path, body), status, code)
        twice = b'{"cron": "@daily", "cron": "@hourly", "job": {"queue": "q"}}'
        self.assertIn("twice", self.assertProblem(self.client.put(path, twice), 400, "bad-json")["detail"])
        self.assertProblem(self.client.put(path, b"{}", Content_Type="text/plain"), 415, "wrong-content-type")
        self.assertProblem(self.client.put(path, {"cron": "@daily", "job": JOB}, Whilst_Commit="async"), 422, "level-unavailable")
        self.assertProblem(self.client.put(path + "?x=1", {"cron": "@daily", "job": JOB}), 400, "bad-request")
        self.assertProblem(self.client.put("/v1/schedules/a%20b", {"cron": "@daily", "job": JOB}), 400, "bad-request")
        self.assertProblem(self.client.get(path), 404, "unknown-schedule")

    def test_run_now(self):
        made = self.put(self.queue, cron="0 3 1 1 *", job={"queue": self.queue, "payload": "now", "unique": "one"})
        answer = self.client.post(f"/v1/schedules/{self.queue}/run")
        self.assertEqual((answer.status, answer.json()["queue"], answer.json()["state"]), (202, self.queue, "ready"))
        job = answer.json()["id"]
        self.assertEqual(answer["Location"], f"/v1/jobs/{job}")
        again = self.client.post(f"/v1/schedules/{self.queue}/run")
        self.assertEqual((again.status, again.json()["duplicate"], again.json()["id"]), (200, True, job))
        taken = self.client.post(f"/v1/queues/{self.queue}/reserve")
        self.assertEqual((taken.body, taken["Whilst-Schedule"], taken["Whilst-Due"]), (b"now", self.queue, None))
        self.assertEqual(self.client.complete(job, taken["Whilst-Lease"], b"done").status, 200)
        shown = self.client.get(f"/v1/schedules/{self.queue}").json()
        self.assertEqual((shown["runs"], shown["last"], shown["next"]), (0, None, made["next"]))
        self.assertProblem(self.client.post("/v1/schedules/none/run"), 404, "unknown-schedule")
        self.assertProblem(self.client.post(f"/v1/schedules/{self.queue}/run?x=1"), 400, "bad-request")
        self.client.put(f"/v1/queues/{self.queue}", {"jobs_max": 1})
        self.client.submit(self.queue)
        full = self.client.post(f"/v1/schedules/{self.queue}/run")
        self.assertProblem(full, 429, "queue-full", limit=1)
        self.assertEqual(full["Retry-After"], "1")

    def test_run_now_and_wait(self):
        self.put(self.queue, every="1h", job={"queue": self.queue})
        worker = self.server.client()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.client.post, f"/v1/schedules/{self.queue}/run", Prefer="wait=20")
            taken = worker.post(f"/v1/queues/{self.queue}/reserve", Prefer="wait=20")
            self.assertEqual(worker.complete(int(taken["Whilst-Job"]), taken["Whilst-Lease"], b"result").status, 200)
            self.assertEqual((waiting.result().status, waiting.result().body), (200, b"result"))
        worker.close()

    def test_as_many_as_there_may_be(self):
        with harness.Server() as server:
            client = server.client()
            for i in range(1000):
                self.assertEqual(client.put(f"/v1/schedules/s{i}", {"every": "1h", "job": JOB, "paused": True}).status, 201)
            self.assertIn("1000", self.assertProblem(client.put("/v1/schedules/more", {"every": "1h", "job": JOB}), 422, "bad-value")["detail"])
            self.assertEqual(client.put("/v1/schedules/s7", {"every": "2h", "job": JOB, "paused": True}).status, 200)
            self.assertEqual(len(client.get("/v1/schedules").json()["schedules"]), 1000)
            client.close()


class Run(harness.Case):
    """Schedules that are due each second, put all at once: while one test waits, time passes for the others, too."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client = cls.server.client()
        assert client.put("/v1/queues/full", {"jobs_max": 1}).status == 201
        cls.first = {}
        for name, config in (("tick", {"missed": "all", "job": {"queue": "tick", "payload": {"a": 1}, "priority": 3, "attempts": 2}}),
                             ("paused", {"paused": True}), ("unique", {"job": {"queue": "unique", "unique": "u"}}), ("full", {})):
            answer = client.put(f"/v1/schedules/{name}", {"every": "1s", "job": {"queue": name}, **config})
            assert answer.status == 201, answer
            cls.first[name] = answer.json()["next"]
        client.close()

    def show(self, name):
        return self.client.get(f"/v1/schedules/{name}").json()

    def test_jobs_come(self):
        seen = []
        while len(seen) < 3:
            answer = self.client.post("/v1/queues/tick/reserve", Prefer="wait=20")
            self.assertEqual((answer.status, answer.body, answer["Content-Type"]), (200, b'{"a":1}', "application/json"))
            self.assertEqual(answer["Whilst-Schedule"], "tick")
            job = self.client.get(f"/v1/jobs/{answer['Whilst-Job']}").json()
            self.assertEqual((job["priority"], job["attempts_max"]), (3, 2))
            self.assertGreaterEqual(now(), instant(answer["Whilst-Due"]))
            seen.append((answer["Whilst-Due"], int(answer["Whilst-Job"])))
        self.assertEqual([due for due, _ in seen], self.first["tick"][:3], "each once, in order")
        shown = self.show("tick")
        self.assertGreaterEqual(shown["runs"], 3)
        self.assertGreaterEqual(shown["last"]["job"], seen[-1][1])
        many = harness.eventually(lambda: self.client.post("/v1/queues/tick/reserve?n=1").body, "a job")
        self.assertIn(b'"headers":{"Whilst-Schedule":"tick","Whilst-Due":"', many)
        figures = self.client.get("/metrics").body
        self.assertIn(b"whilst_schedules 4\n", figures)
        self.assertRegex(figures, rb"whilst_schedule_jobs_total [1-9]")

    def test_paused_and_resumed(self):
        harness.eventually(lambda: self.show("tick")["runs"] >= 2, "time passes")
        self.assertEqual(self.show("paused")["runs"], 0)
        resumed = now()
        resumed = resumed.replace(microsecond=resumed.microsecond // 1000 * 1000)  # schedules count milliseconds
        self.assertEqual(self.client.post("/v1/schedules/paused/resume").status, 200)
        got = harness.eventually(lambda: take(self.client, "paused"), "a job")
        self.assertGreaterEqual(instant(got[2]), resumed, "what passed while it was paused is not made up for")

    def test_unique_keeps_runs_from_overlapping(self):
        harness.eventually(lambda: self.show("unique")["runs"] >= 3, "three runs")
        self.assertEqual(self.client.get("/v1/queues/unique").json()["jobs"]["ready"], 1)

    def test_a_full_queue_puts_it_off(self):
        self.assertIn("full", harness.eventually(lambda: self.show("full")["error"], "a refusal"))
        self.assertEqual(self.show("full")["runs"], 1)
        harness.eventually(lambda: "schedule-refused" in self.server.log(), "a line of the log")
        self.assertIsNotNone(take(self.client, "full"))
        self.assertEqual(self.client.put("/v1/schedules/full", self.show("full")).status, 200)  # tried again at once
        harness.eventually(lambda: self.show("full")["runs"] == 2, "the next run")


class Missed(unittest.TestCase):
    """No server runs for a while. Schedules are due each second, so a while is short."""

    def setUp(self):
        self.server = harness.Server()
        self.addCleanup(self.server.remove)

    def down(self, client, seconds):
        """Stop, and be down for so long."""
        client.close()
        self.server.stop()
        until = now() + datetime.timedelta(seconds=seconds)
        while now() < until:
            time.sleep(0.02)  # time that passes is the test's subject
        self.server.start()
        return self.server.client()

    def test_policies(self):
        client = self.server.client()
        for name, config in (("once", {}), ("all", {"missed": "all"}), ("some", {"missed": "all", "missed_max": 2}), ("skip", {"missed": "skip"})):
            answer = client.put(f"/v1/schedules/{name}", {"every": "1s", "job": {"queue": name}, **config})
            self.assertEqual(answer.status, 201, answer)
        for name in ("once", "all", "some", "skip"):
            harness.eventually(lambda: client.get(f"/v1/schedules/{name}").json()["runs"], "a run")
        client = self.down(client, 4.1)
        due = {}
        for name in ("once", "all", "some", "skip"):
            harness.eventually(lambda: client.get(f"/v1/schedules/{name}").json()["next"], "it")
            put = client.get(f"/v1/schedules/{name}").json()
            self.assertEqual(client.put(f"/v1/schedules/{name}", {**put, "paused": True}).status, 200)
        for name in ("once", "all", "some", "skip"):
            due[name] = []
            while (got := take(client, name)) is not None:
                due[name].append(instant(got[2]))
            self.assertEqual(due[name], sorted(set(due[name])), "each due time once, in order")
        gaps = {name: [b - a for a, b in zip(times, times[1:])] for name, times in due.items()}
        second = datetime.timedelta(seconds=1)
        self.assertEqual(set(gaps["all"]), {second}, "none is missing")
        for name, shortest in (("once", 3), ("skip", 3), ("some", 2)):
            self.assertGreaterEqual(max(gaps[name]), shortest * second, gaps[name])
        client.close()
        self.server.stop()


class Restarted(unittest.TestCase):
    def test_kept(self):
        server = harness.Server()
        self.addCleanup(server.remove)
        client = server.client()
        config = {"cron": "5 4 * * mon-fri", "time_zone": "America/New_York", "missed": "all", "missed_max": 7, "job": {**JOB, "unique": "n"}}
        made = client.put("/v1/schedules/n", config).json()
        self.assertEqual(client.put("/v1/schedules/tick", {"every": "1s", "job": JOB}).status, 201)
        harness.eventually(lambda: client.get("/v1/schedules/tick").json()["runs"], "a run")
        self.assertEqual(client.put("/v1/schedules/tick", {"every": "1h", "job": JOB}).status, 200)
        tick = client.get("/v1/schedules/tick").json()
        client.close()
        server.kill()
        server.start()
        client = server.client()
        self.assertEqual(client.get("/v1/schedules/n").json(), made)
        again = client.get("/v1/schedules/tick").json()
        self.assertEqual((again["runs"], again["next"], again["last"]), (tick["runs"], tick["next"], {**tick["last"], "job": None}))
        self.assertEqual(client.delete("/v1/schedules/tick").status, 200)
        client.close()
        server.stop()
        server.start()
        client = server.client()
        self.assertEqual([s["name"] for s in client.get("/v1/schedules").json()["schedules"]], ["n"])
        client.close()
        server.stop()

    def test_no_database(self):
        """A zone that cannot be read any more: its schedule stands still and says so, others run, SIGHUP finds it again."""
        zones = os.path.join(harness.tempfile.mkdtemp(prefix="whilst-zones-"), "zones")
        self.addCleanup(harness.shutil.rmtree, os.path.dirname(zones), ignore_errors=True)
        os.symlink("/usr/share/zoneinfo", zones)
        server = harness.Server(env={"TZDIR": zones})
        self.addCleanup(server.remove)
        client = server.client()
        self.assertEqual(client.put("/v1/schedules/b", {"cron": "@daily", "time_zone": "Asia/Tokyo", "job": JOB}).status, 201)
        client.close()
        server.stop()
        os.unlink(zones)
        server.start()
        client = server.client()
        shown = client.get("/v1/schedules/b").json()
        self.assertEqual((shown["next"], shown["error"]), ([], "its time zone cannot be read"))
        server.logged("schedule-zone")
        self.assertIn(b"whilst_schedules_late 1\n", client.get("/metrics").body)
        self.assertEqual(client.put("/v1/schedules/u", {"cron": "@daily", "time_zone": "Etc/UTC", "job": JOB}).status, 201)
        self.assertEqual(client.put("/v1/schedules/v", {"cron": "@daily", "time_zone": "Asia/Tokyo", "job": JOB}).json()["code"], "bad-value")
        os.symlink("/usr/share/zoneinfo", zones)
        server.process.send_signal(harness.signal.SIGHUP)
        harness.eventually(lambda: client.get("/v1/schedules/b").json()["error"] is None, "the zone")
        self.assertEqual(len(client.get("/v1/schedules/b").json()["next"]), 5)
        client.close()
        server.stop()

    def test_declared_queues(self):
        server = harness.Server("--queues", "declared")
        self.addCleanup(server.remove)
        client = server.client()
        answer = client.put("/v1/schedules/a", {"cron": "@daily", "job": JOB})
        self.assertEqual((answer.status, answer.json()["code"]), (404, "unknown-queue"))
        self.assertEqual(client.put("/v1/queues/q", {}).status, 201)
        self.assertEqual(client.put("/v1/schedules/a", {"cron": "@daily", "job": JOB}).status, 201)
        client.close()
        server.stop()


class Killed(unittest.TestCase):
    def test_each_due_time_once(self):
        """kill -9 again and again, at any moment: with missed all there is one job for each due time, none missing and none twice."""
        kills, seed = 8, int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
        print(f"{kills} kills, WHILST_TEST_SEED={seed}", file=sys.stderr)
        chance, server = random.Random(seed), harness.Server()
        self.addCleanup(server.remove)
        client = server.client()
        names = [f"k{i}" for i in range(10)]
        for name in names:
            answer = client.put(f"/v1/schedules/{name}", {"every": "1s", "missed": "all", "missed_max": 1000, "job": {"queue": name, "retention": "1d"}})
            self.assertEqual(answer.status, 201, answer)
        for _ in range(kills):
            client.close()
            time.sleep(chance.uniform(0, 0.9))  # the moment of the kill is the test's subject
            server.kill()
            server.start()
            client = server.client()
        runs = {name: client.get(f"/v1/schedules/{name}").json()["runs"] for name in names}
        for name in names:
            harness.eventually(lambda: client.get(f"/v1/schedules/{name}").json()["runs"] > runs[name], "one more run")
            self.assertEqual(client.put(f"/v1/schedules/{name}", {**client.get(f"/v1/schedules/{name}").json(), "paused": True}).status, 200)
            due = []
            while (got := take(client, name)) is not None:
                due.append(instant(got[2]))
            self.assertEqual(client.get(f"/v1/schedules/{name}").json()["runs"], len(due))
            self.assertEqual({b - a for a, b in zip(due, due[1:])}, {datetime.timedelta(seconds=1)}, due)
        client.close()
        server.stop()


if __name__ == "__main__":
    harness.main()
