"""tests/integration/test_schedule_events.py -- schedules that publish an event in place of submitting a job: configured, run, put off, killed."""
import datetime
import json
import os
import random
import sys
import time
import unittest

import harness
import sse

JSON = "application/cloudevents+json"


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def take(client, queue):
    """One event, taken and done; None: there is none."""
    answer = client.post(f"/v1/queues/{queue}/reserve", Accept=JSON)
    if answer.status == 204:
        return None
    assert answer.status == 200, answer
    event = answer.json()
    assert client.complete(int(event["whilstjob"]), event["whilstlease"]).status == 200
    return event


def drain(client, queue):
    events = []
    while (event := take(client, queue)) is not None:
        events.append(event)
    return events


def ready(client, queue):
    return client.get(f"/v1/queues/{queue}").json()["jobs"]["ready"]


class Configured(harness.Case):
    """What PUT, GET and POST .../run say; nothing here is due."""

    def setUp(self):
        super().setUp()
        self.name, self.path, self.topic = f"n{self.counter}", f"/v1/schedules/n{self.counter}", f"t{self.counter}"
        self.assertEqual(self.client.put(f"/v1/topics/{self.topic}", {"retention": "1h", "deduplicate": "1h"}).status, 201)
        self.assertEqual(self.client.put(f"/v1/topics/{self.topic}/subscriptions/s", {"queue": self.queue}).status, 201)

    def put(self, status=201, **publish):
        answer = self.client.put(self.path, {"cron": "0 3 1 1 *", "publish": {"topic": self.topic, **publish}})
        self.assertEqual(answer.status, status, answer)
        return answer.json()

    def test_made_shown_replaced(self):
        said = {"topic": self.topic, "type": "report.due", "source": "/office", "subject": "daily", "payload": {"a": [1]},
                "attributes": {"partitionkey": "a \" % \u00e9", "flag": True, "n": -5, "dataschema": "urn:s"}}
        made = self.put(**said)
        self.assertEqual((made["publish"], made.get("job"), made["last"], made["runs"], made["error"], len(made["next"])), (said, None, None, 0, None, 5))
        shown = self.client.get(self.path).json()
        self.assertEqual(shown, made)
        again = self.client.put(self.path, shown)  # what GET shows may be sent back
        self.assertEqual((again.status, again.json()), (200, made))
        self.assertIn(made, self.client.get("/v1/schedules").json()["schedules"])
        other = self.client.put(self.path, {"cron": "0 3 1 1 *", "job": {"queue": self.queue}}).json()
        self.assertEqual((other["job"], other.get("publish")), ({"queue": self.queue}, None))
        self.assertEqual(self.put(200)["publish"], {"topic": self.topic})

    def test_run_now(self):
        self.put(type="a%20b", subject="\"s\"", payload="now", content_type="text/x", attributes={"partitionkey": "50% \"\u00e9\"", "n": 7, "flag": False})
        answer = self.client.post(self.path + "/run", Prefer="wait=20")
        said = answer.json()
        self.assertEqual((answer.status, said["topic"], said["jobs"], said["level"]), (202, self.topic, 1, "local"), answer)
        self.assertRegex(said["id"], rf"^{self.name}/[0-9a-f]{{28}}$")
        event = take(self.client, self.queue)
        self.assertEqual({k: v for k, v in event.items() if not k.startswith("whilst") and k != "time"},
                         {"specversion": "1.0", "id": said["id"], "source": f"/v1/schedules/{self.name}", "type": "a%20b", "subject": "\"s\"",
                          "partitionkey": "50% \"\u00e9\"", "n": 7, "flag": False, "datacontenttype": "text/x", "data": "now"})
        self.assertLess(abs(instant(event["time"]) - datetime.datetime.now(datetime.timezone.utc)), datetime.timedelta(minutes=5))
        self.assertEqual(event["whilstevent"], said["event"])
        # each one is another, for none of the times at which it is due
        self.assertNotEqual(self.client.post(self.path + "/run").json()["id"], said["id"])
        shown = self.client.get(self.path).json()
        self.assertEqual((shown["runs"], shown["last"]), (0, None))
        self.assertEqual(self.client.get(f"/v1/topics/{self.topic}").json()["events"], 2)
        self.assertProblem(self.client.post(self.path + "/run?x=1"), 400, "bad-request")
        self.client.put(f"/v1/queues/{self.queue}", {"jobs_max": 1})
        self.assertProblem(self.client.post(self.path + "/run"), 429, "queue-full", limit=1)
        self.assertEqual(self.client.get(f"/v1/topics/{self.topic}").json()["events"], 2, "nothing was published")
        # nothing said: the defaults, and no data
        drain(self.client, self.queue)
        self.put(200)
        self.client.post(self.path + "/run")
        event = take(self.client, self.queue)
        self.assertEqual((event["type"], event["source"], event.get("data"), event.get("subject"), event.get("datacontenttype")),
                         ("whilst.schedule", f"/v1/schedules/{self.name}", None, None, None))
        # its topic is not there any more
        self.client.delete(f"/v1/topics/{self.topic}/subscriptions/s")
        self.client.delete(f"/v1/topics/{self.topic}")
        self.assertProblem(self.client.post(self.path + "/run"), 404, "unknown-topic")

    def test_refused(self):
        good = {"topic": self.topic}
        whole = {"cron": "@daily", "publish": good}
        for value, status, code, words in (
                ({**whole, "job": {"queue": "q"}}, 400, "bad-json", "one of them"), ({"cron": "@daily"}, 400, "bad-json", "publish"),
                ({**whole, "publish": None}, 400, "bad-json", "object"), ({**whole, "publish": []}, 400, "bad-json", "object"),
                ({**whole, "publish": {}}, 400, "bad-json", "topic"), ({**whole, "publish": {"topic": 7}}, 400, "bad-json", "topic"),
                ({**whole, "publish": {"topic": "a b"}}, 422, "bad-value", "topic"), ({**whole, "publish": {"topic": "nowhere"}}, 404, "unknown-topic", "nowhere")):
            answer = self.client.put(self.path, value)
            self.assertIn(words, self.assertProblem(answer, status, code)["detail"], value)
        for more, status, code, words in (
                ({"queue": "q"}, 400, "bad-json", "queue"), ({"headers": {}}, 400, "bad-json", "headers"), ({"action": "publish"}, 400, "bad-json", "action"),
                ({"event": {"specversion": "1.0", "id": "1", "source": "/", "type": "t"}}, 400, "bad-json", "event"), ({"run_at": "2030-01-01T00:00:00Z"}, 400, "bad-json", "run_at"),
                ({"id": "1"}, 400, "bad-json", "id"), ({"payload": 1, "payload_base64": "AA=="}, 400, "bad-json", "one of them"),
                ({"payload_base64": "*"}, 422, "bad-value", "base64"), ({"content_type": "x", "payload": 1}, 422, "bad-value", "media type"),
                ({"type": ""}, 422, "bad-value", "type"), ({"source": "a b"}, 422, "bad-value", "source"), ({"subject": ""}, 422, "bad-value", "subject"),
                ({"subject": "a\u0007"}, 422, "bad-value", "subject"), ({"type": 1}, 400, "bad-json", "type"), ({"payload": "x" * 61440}, 422, "bad-value", "61440"),
                ({"subject": "x" * 17000}, 413, "too-large", "16384"),
                ({"attributes": []}, 400, "bad-json", "object"), ({"attributes": None}, 400, "bad-json", "object"),
                *(({"attributes": {name: "x"}}, 422, "bad-value", name) for name in ("id", "time", "specversion", "source", "type", "subject", "data", "datacontenttype")),
                *(({"attributes": {name: "x"}}, 422, "bad-value", "name") for name in ("", "A", "a-b", "x" * 65, "\u00e9")),
                *(({"attributes": {"x": value}}, 422, "bad-value", "32 bits") for value in (None, [], {}, 1.5, 2 ** 31)),
                ({"attributes": {"x": "a\u0000"}}, 422, "bad-value", "'x'"), ({"attributes": {"dataschema": "relative"}}, 422, "bad-value", "dataschema"),
                ({"attributes": {"dataschema": 5}}, 422, "bad-value", "dataschema"), ({"attributes": {f"a{i}": "" for i in range(59)}}, 422, "bad-value", "many")):
            answer = self.client.put(self.path, {**whole, "publish": {**good, **more}})
            self.assertIn(words, self.assertProblem(answer, status, code)["detail"], more)
        for text, words in (('"attributes": {"a": "1", "a": "2"}', "twice"), ('"attributes": {}, "attributes": {}', "once"), ('"topic": "x"', "uplicate")):
            body = f'{{"cron": "@daily", "publish": {{"topic": "{self.topic}", {text}}}}}'
            self.assertIn(words, self.client.put(self.path, body).json()["detail"])
        self.assertProblem(self.client.get(self.path), 404, "unknown-schedule")
        self.assertEqual(self.put(attributes={f"a{i}": "x" for i in range(58)})["runs"], 0)


class Run(harness.Case):
    """Schedules that are due each second, put all at once: while one test waits, time passes for the others, too."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client = cls.server.client()
        cls.first = {}
        for name in ("tick", "nobody", "full", "late", "again"):
            assert client.put(f"/v1/topics/{name}", {} if name == "nobody" else {"retention": "1h", "deduplicate": "1h"}).status == 201
        for topic, name in (("tick", "one"), ("tick", "two"), ("full", "free"), ("full", "full"), ("late", "s"), ("again", "s")):
            assert client.put(f"/v1/topics/{topic}/subscriptions/{name}", {"queue": f"{topic}-{name}", "group": "partitionkey"}).status == 201
        assert client.put(f"/v1/topics/tick/subscriptions/two", {"queue": "tick-two", "filters": [{"exact": {"type": "other"}}]}).status == 200
        assert client.put("/v1/queues/full-full", {"jobs_max": 1}).status in (200, 201)
        for name, publish in (("tick", {"type": "t", "payload": {"a": 1.5}, "attributes": {"partitionkey": "k"}}), ("nobody", {}), ("full", {}), ("late", {})):
            cls.put(client, name, publish)
        client.close()

    @classmethod
    def put(cls, client, name, publish, **more):
        answer = client.put(f"/v1/schedules/{name}", {"every": "1s", "missed": "all", "publish": {"topic": name, **publish}, **more})
        assert answer.status in (200, 201), answer
        cls.first[name] = answer.json()["next"]

    def show(self, name):
        return self.client.get(f"/v1/schedules/{name}").json()

    def test_events_come(self):
        harness.eventually(lambda: self.show("tick")["runs"] >= 3, "three runs")
        events = []
        while len(events) < 3:
            events.append(take(self.client, "tick-one"))
        self.assertEqual([e["id"] for e in events], [f"tick/{due}" for due in self.first["tick"][:3]], "each once, in order")
        for event in events:
            self.assertEqual((event["id"], event["source"], event["type"], event["data"], event["partitionkey"], event["datacontenttype"]),
                             ("tick/" + event["time"], "/v1/schedules/tick", "t", {"a": 1.5}, "k", "application/json"))
            self.assertGreaterEqual(datetime.datetime.now(datetime.timezone.utc), instant(event["time"]))
        self.assertEqual(ready(self.client, "tick-two"), 0, "filters are asked")
        shown = self.show("tick")
        self.assertEqual((shown["last"]["id"], shown["last"]["jobs"], shown["error"]), (f"tick/{shown['last']['due']}", 1, None))
        # where it stands among what the topic keeps
        with sse.Stream(self.server.port, "/v1/topics/tick/events", last=events[0]["whilstevent"]) as stream:
            self.assertEqual(stream.block()["data"]["id"], events[1]["id"])
        reached = harness.eventually(lambda: next((e for e in drain(self.client, "tick-one") if e["id"] == shown["last"]["id"]), None), "the one that was shown")
        self.assertEqual(reached["whilstevent"], shown["last"]["event"])
        figures = self.client.get("/metrics").body
        self.assertRegex(figures, rb"whilst_schedule_events_total [1-9]")
        self.assertIn(b"whilst_schedule_jobs_total 0\n", figures)

    def test_nobody_wants_it(self):
        shown = harness.eventually(lambda: (lambda s: s if s["runs"] >= 2 else None)(self.show("nobody")), "two runs")
        self.assertEqual((shown["last"]["event"], shown["last"]["jobs"], shown["error"]), (None, 0, None))

    def test_a_full_queue_puts_it_off_for_all(self):
        error = harness.eventually(lambda: self.show("full")["error"], "a refusal")
        self.assertIn("full", error)
        self.assertEqual((self.show("full")["runs"], ready(self.client, "full-free"), self.client.get("/v1/topics/full").json()["events"]), (1, 1, 1))
        self.assertEqual(len(drain(self.client, "full-full")), 1)
        self.assertEqual(self.client.put("/v1/schedules/full", self.show("full")).status, 200)  # tried again at once
        harness.eventually(lambda: self.show("full")["runs"] == 2, "the next run")
        events = [e["id"] for e in drain(self.client, "full-free")]
        self.assertEqual(events, [f"full/{due}" for due in self.first["full"][:2]], "none is missing")

    def test_published_before(self):
        """The event of a due time is there already: it is that one, and the due time is dealt with."""
        self.put(self.client, "again", {})
        first = instant(self.first["again"][0])
        dues = [(first + datetime.timedelta(seconds=n)).isoformat(timespec="milliseconds").replace("+00:00", "Z") for n in range(120)]
        self.assertEqual(dues[:5], self.first["again"])
        batch = [{"specversion": "1.0", "id": f"again/{due}", "source": "/v1/schedules/again", "type": "t"} for due in dues]
        answer = self.client.post("/v1/topics/again/events", json.dumps(batch).encode(), Content_Type="application/cloudevents-batch+json")
        self.assertEqual(answer.status, 202, answer)
        last = harness.eventually(lambda: (lambda s: s["last"] if s["runs"] >= 3 and s["last"].get("duplicate") else None)(self.show("again")), "a duplicate")
        self.assertEqual((last["id"], last["jobs"], last["event"], last["duplicate"]), (f"again/{last['due']}", 0, None, True))
        ids = [e["id"] for e in drain(self.client, "again-s")]
        self.assertEqual(sorted(ids), [f"again/{due}" for due in dues], "none comes twice")

    def test_a_topic_that_goes(self):
        """Its runs are put off, which is shown, counted and logged; when there is a topic again, they are made up for as it says, at once."""
        harness.eventually(lambda: self.show("late")["runs"] >= 1, "a run")
        self.assertEqual(self.client.delete("/v1/topics/late/subscriptions/s").status, 200)
        self.assertEqual(self.client.delete("/v1/topics/late").status, 200)
        error = harness.eventually(lambda: self.show("late")["error"], "a refusal")
        self.assertEqual(error, "its topic is not there")
        self.assertIn('schedule="late" reason="its topic is not there"', harness.eventually(lambda: [l for l in self.server.log().splitlines() if "schedule-refused" in l and "late" in l], "a line of the log")[0])
        self.assertRegex(self.client.get("/metrics").body, rb"whilst_schedule_refusals_total [1-9]")
        stood = self.show("late")
        harness.eventually(lambda: instant(self.show("tick")["last"]["due"]) - instant(stood["last"]["due"]) >= datetime.timedelta(seconds=4), "time that passes")
        self.assertEqual({**self.show("late"), "next": 0}, {**stood, "next": 0})
        # one that has been made in the meantime is as good as the one of then; a subscription makes one, too
        drain(self.client, "late-s")
        self.assertEqual(self.client.put("/v1/topics/late/subscriptions/s", {"queue": "late-s"}).status, 201)
        harness.eventually(lambda: self.show("late")["error"] is None, "it goes on")
        harness.eventually(lambda: self.show("late")["runs"] >= stood["runs"] + 4, "what was missed")
        dues = [instant(e["time"]) for e in drain(self.client, "late-s")]
        self.assertEqual(dues[0] - instant(stood["last"]["due"]), datetime.timedelta(seconds=1))
        self.assertEqual({b - a for a, b in zip(dues, dues[1:])}, {datetime.timedelta(seconds=1)}, "none is missing, none twice")

    def test_paused(self):
        self.client.put("/v1/topics/rests", {"retention": "1h"})
        self.put(self.client, "rests", {"topic": "rests"}, paused=True)
        runs = self.show("tick")["runs"]
        harness.eventually(lambda: self.show("tick")["runs"] >= runs + 2, "time passes")
        self.assertEqual((self.show("rests")["runs"], self.client.get("/v1/topics/rests").json()["events"]), (0, 0))


class Killed(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server()
        self.addCleanup(self.server.remove)

    def test_kept(self):
        client = self.server.client()
        self.assertEqual(client.put("/v1/topics/t", {"retention": "1h"}).status, 201)
        made = client.put("/v1/schedules/n", {"cron": "5 4 * * *", "time_zone": "Europe/Berlin", "publish": {"topic": "t", "type": "x", "attributes": {"n": 1}}}).json()
        self.assertEqual(client.put("/v1/schedules/tick", {"every": "1s", "publish": {"topic": "t"}}).status, 201)
        harness.eventually(lambda: client.get("/v1/schedules/tick").json()["runs"], "a run")
        self.assertEqual(client.put("/v1/schedules/tick", {"every": "1h", "publish": {"topic": "t"}}).status, 200)
        tick = client.get("/v1/schedules/tick").json()
        self.assertIsNotNone(tick["last"]["event"])
        client.close()
        self.server.kill()
        self.server.start()
        client = self.server.client()
        self.assertEqual(client.get("/v1/schedules/n").json(), made)
        self.assertEqual(client.get("/v1/schedules/tick").json(), {**tick, "last": {**tick["last"], "id": None, "event": None, "jobs": None}})
        client.close()
        self.server.stop()

    def test_each_due_time_once(self):
        """kill -9 again and again, at any moment: each due time has one event, at each subscription and among those that are kept."""
        kills, seed = 8, int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
        print(f"{kills} kills, WHILST_TEST_SEED={seed}", file=sys.stderr)
        chance, client = random.Random(seed), self.server.client()
        names = [f"k{i}" for i in range(5)]
        for name in names:
            self.assertEqual(client.put(f"/v1/topics/{name}", {"retention": "1d"}).status, 201)
            for s in ("a", "b"):
                self.assertEqual(client.put(f"/v1/topics/{name}/subscriptions/{s}", {}).status, 201)
            answer = client.put(f"/v1/schedules/{name}", {"every": "1s", "missed": "all", "missed_max": 1000, "publish": {"topic": name}})
            self.assertEqual(answer.status, 201, answer)
        for _ in range(kills):
            client.close()
            time.sleep(chance.uniform(0, 0.9))  # the moment of the kill is the test's subject
            self.server.kill()
            self.server.start()
            client = self.server.client()
        runs = {name: client.get(f"/v1/schedules/{name}").json()["runs"] for name in names}
        for name in names:
            harness.eventually(lambda: client.get(f"/v1/schedules/{name}").json()["runs"] > runs[name], "one more run")
            self.assertEqual(client.put(f"/v1/schedules/{name}", {**client.get(f"/v1/schedules/{name}").json(), "paused": True}).status, 200)
            a, b = ([e["id"] for e in drain(client, f"{name}%2F{s}")] for s in ("a", "b"))
            self.assertEqual(a, b)
            due = [instant(i.removeprefix(name + "/")) for i in a]
            self.assertEqual({y - x for x, y in zip(due, due[1:])}, {datetime.timedelta(seconds=1)}, due)
            shown = client.get(f"/v1/schedules/{name}").json()
            self.assertEqual((shown["runs"], client.get(f"/v1/topics/{name}").json()["events"]), (len(due), len(due)))
        client.close()
        self.server.stop()


if __name__ == "__main__":
    harness.main()
