"""tests/integration/test_events.py -- topics and subscriptions: CloudEvents in and out, filters, replay, streams, restarts, kills."""
import base64
import http.client
import http.server
import json
import os
import queue
import random
import shutil
import subprocess
import threading
import unittest

import harness

CORE = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/a", "ce_type": "t"}
JSON, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


def core(**more):
    return {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", **more}


def attributes(answer):
    return {name[3:].lower(): value for name, value in answer.headers.items() if name.lower().startswith("ce-")}


class Case(harness.Case):
    def setUp(self):
        super().setUp()
        self.topic = f"t{self.counter}"
        self.path = f"/v1/topics/{self.topic}"

    def subscribe(self, name="s", **config):
        answer = self.client.put(f"{self.path}/subscriptions/{name}", config)
        self.assertIn(answer.status, (200, 201), answer)
        return answer.json()["queue"].replace("/", "%2F")

    def keep(self, retention="1h", **config):
        answer = self.client.put(self.path, {"retention": retention, **config})
        self.assertIn(answer.status, (200, 201), answer)

    def publish(self, body=b"", **headers):
        answer = self.client.post(f"{self.path}/events", body, **{**CORE, **headers})
        self.assertEqual(answer.status, 202, answer)
        return answer.json()

    def structured(self, event, status=202):
        answer = self.client.post(f"{self.path}/events", json.dumps(event).encode(), Content_Type=JSON)
        self.assertEqual(answer.status, status, answer)
        return answer.json()

    def take(self, queue, **headers):
        return self.client.post(f"/v1/queues/{queue}/reserve", **headers)

    def drain(self, queue):
        """All events of a queue, as structured ones."""
        events = []
        while True:
            answer = self.client.post(f"/v1/queues/{queue}/reserve?n=1000", Accept=BATCH)
            if answer.status == 204:
                return events
            self.assertEqual((answer.status, answer["Content-Type"]), (200, BATCH), answer)
            events += answer.json()

    def replayed(self, name="s"):
        harness.eventually(lambda: self.client.get(f"{self.path}/subscriptions/{name}").json()["replay"] is None, "the replay")


class Binary(Case):
    def test_in_and_out(self):
        queue = self.subscribe()
        said = self.publish(b'{"a": 1.10}', Content_Type="application/json", ce_subject="caf%C3%A9 %25", ce_time="2026-11-27T10:00:00Z", ce_x5="7")
        self.assertEqual((said["topic"], said["id"], said["jobs"], said["level"]), (self.topic, "1", 1, "local"))
        answer = self.take(queue)
        self.assertEqual((answer.status, answer.body, answer["Content-Type"]), (200, b'{"a": 1.10}', "application/json"))
        self.assertEqual(attributes(answer), {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "subject": "caf%C3%A9%20%25",
                                              "time": "2026-11-27T10:00:00Z", "x5": "7"})
        self.assertEqual(answer["Whilst-Event"], said["event"])
        payload = self.client.get(f"/v1/jobs/{answer['Whilst-Job']}/payload")
        self.assertEqual((payload.body, attributes(payload)["id"]), (b'{"a": 1.10}', "1"))
        self.assertEqual(self.client.complete(int(answer["Whilst-Job"]), answer["Whilst-Lease"]).status, 200)

    def test_no_data_and_no_type(self):
        queue = self.subscribe()
        for body in (b"", b"\x00\xff"):
            self.publish(body)
            answer = self.take(queue)
            self.assertEqual((answer.body, answer["Content-Type"]), (body, None))

    def test_refused(self):
        self.subscribe()
        for headers in ({"ce_id": ""}, {"ce_source": "a b"}, {"ce_specversion": "0.3"}, {"ce_subject": "%C0%A0"}, {"ce_time": "now"},
                        {"ce_datacontenttype": "text/plain"}, {"ce_dataschema": "relative"}, {"ce_x_y": "1"}, {"Content_Type": "nonsense"}):
            self.assertProblem(self.client.post(f"{self.path}/events", b"x", **{**CORE, **headers}), 400, "bad-request")
        for missing in CORE:
            answer = self.client.post(f"{self.path}/events", b"x", **{k: v for k, v in CORE.items() if k != missing})
            self.assertIn(missing[3:], self.assertProblem(answer, 400, "bad-request")["detail"])
        twice = (f"POST {self.path}/events HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-id: 2\r\nce-source: a\r\nce-type: t\r\n"
                 "Content-Length: 0\r\nConnection: close\r\n\r\n")
        self.assertIn(b" 400 ", harness.raw(self.server.port, twice.encode()).split(b"\r\n")[0])
        self.assertProblem(self.client.post(f"{self.path}/events", b"x", Content_Type="application/cloudevents+avro", **CORE), 415, "wrong-content-type")
        self.assertProblem(self.client.post(f"{self.path}/events?type=a", b"x", **CORE), 400, "bad-request")
        self.assertEqual(self.drain(self.topic + "%2Fs"), [])

    def test_plain_bodies(self):
        queue = self.subscribe()
        answer = self.client.post(f"{self.path}/events?type=note.made&subject=a%20b&source=urn:x", b"hello", Content_Type="text/plain")
        self.assertEqual(answer.status, 202, answer)
        event = self.drain(queue)[0]
        self.assertEqual((event["type"], event["subject"], event["source"], event["data"], event["id"]),
                         ("note.made", "a b", "urn:x", "hello", answer.json()["id"]))
        self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT.*Z$")
        self.client.post(f"{self.path}/events", b"1")
        event = self.drain(queue)[0]
        self.assertEqual((event["type"], event["source"], event["data_base64"]), ("whilst.event", self.path, "MQ=="))
        # what is said of it is text, and no header field: neither percent signs nor quotes mean anything
        said = {"type": "50%25", "source": "/a%20b", "subject": '"50% \\" off'}
        answer = self.client.post("/v1/transactions", json.dumps({"actions": [{"action": "publish", "topic": self.topic, "payload": 1, **said}]}).encode())
        self.assertEqual(answer.status, 200, answer)
        event = self.drain(queue)[0]
        self.assertEqual({**event, **said, "data": 1}, event)

    def test_large(self):
        queue = self.subscribe()
        data = os.urandom(1 << 20)
        self.publish(data, Content_Type="application/octet-stream")
        self.assertEqual(self.take(queue).body, data)
        answer = self.client.post(f"{self.path}/events", data + b"x", **CORE)
        self.assertProblem(answer, 413, "too-large", limit=1 << 20)
        answer = self.client.post(f"{self.path}/events", json.dumps(core(data_base64=base64.b64encode(data).decode())).encode(), Content_Type=JSON)
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(self.take(queue).body, data)
        answer = self.client.post(f"{self.path}/events", b"", **CORE, ce_a="x" * 9000, ce_b="y" * 9000)
        self.assertProblem(answer, 413, "too-large", limit=16384)


class Structured(Case):
    def test_in_and_out(self):
        queue = self.subscribe()
        whole = core(subject="caf\u00e9", datacontenttype="application/json", data={"n": [1, None, "x"]})
        self.structured({**whole, "flag": True, "n": -5, "unset": None})
        answer = self.take(queue, Accept=JSON)
        self.assertEqual((answer.status, answer["Content-Type"]), (200, JSON))
        event = answer.json()
        self.assertEqual({k: v for k, v in event.items() if not k.startswith("whilst")}, {**whole, "flag": True, "n": -5})
        self.assertEqual((event["whilstjob"], event["whilstlease"], event["whilstattempt"], event["whilstevent"]),
                         (answer["Whilst-Job"], answer["Whilst-Lease"], 1, answer["Whilst-Event"]))

    def test_types_stay(self):
        """What JSON gave as true, false or a number is that again in JSON, by every way out; binary mode says which they were."""
        self.keep()
        given = {"flag": True, "no": False, "n": -5, "m": 2147483647, "text": "5", "word": "true"}
        now = self.subscribe()
        self.structured(core(**given))
        for queue in (now, self.subscribe("later", **{"from": "beginning"})):
            answer = self.take(queue, Prefer="wait=20")
            self.assertEqual({name: attributes(answer)[name] for name in given},
                             {"flag": "true", "no": "false", "n": "-5", "m": "2147483647", "text": "5", "word": "true"})
            self.assertEqual(answer["Whilst-Event-Typed"], "flag no n m")
            self.client.post(f"/v1/jobs/{answer['Whilst-Job']}/release", Whilst_Lease=answer["Whilst-Lease"])
            event = self.take(queue, Accept=JSON).json()
            self.assertEqual({name: event[name] for name in given}, given)
        # a field of that name is nobody's word but ours
        self.publish(b"", ce_n="5", Whilst_Event_Typed="n")
        self.assertEqual(self.drain(now)[0]["n"], "5")

    def test_kinds_of_data(self):
        queue = self.subscribe()
        for given, wanted in (({"data": 1.5}, {"datacontenttype": "application/json", "data": 1.5}),
                              ({"data": None}, {"datacontenttype": "application/json", "data": None}),
                              ({"data_base64": "MQ=="}, {"data_base64": "MQ=="}),
                              ({"datacontenttype": "application/xml", "data": "<a/>"}, {"datacontenttype": "application/xml", "data": "<a/>"}),
                              ({"datacontenttype": "image/png", "data_base64": "eA=="}, {"datacontenttype": "image/png", "data_base64": "eA=="}),
                              ({}, {})):
            self.structured(core(**given))
            event = self.drain(queue)[0]
            self.assertEqual({k: v for k, v in event.items() if not k.startswith("whilst")}, core(**wanted))

    def test_digits_stay(self):
        queue = self.subscribe()
        text = b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"n": 12345678901234567890123, "m":1.10}}'
        self.assertEqual(self.client.post(f"{self.path}/events", text, Content_Type=JSON + "; charset=UTF-8").status, 202)
        self.assertEqual(self.take(queue).body, b'{"n": 12345678901234567890123, "m":1.10}')

    def test_refused(self):
        self.subscribe()
        self.assertEqual(self.structured({"id": "1"}, 400)["code"], "bad-request")
        for wrong in (core(x=1.5), core(x=[1]), core(X="a"), core(data=1, data_base64="MQ=="), core(data_base64="MQ"), core(id=5),
                      core(datacontenttype="text/plain", data=5)):
            self.assertEqual(self.structured(wrong, 400)["code"], "bad-request")
        for body in (b"", b"[]", b"{", b"nonsense"):
            self.assertProblem(self.client.post(f"{self.path}/events", body, Content_Type=JSON), 400, "bad-json")
        self.assertProblem(self.client.post(f"{self.path}/events?type=a", json.dumps(core()).encode(), Content_Type=JSON), 400, "bad-request")

    def test_batches(self):
        queue = self.subscribe()
        self.subscribe("odd", filters=[{"suffix": {"id": "1"}}])
        batch = [core(id=str(i), data=i) for i in range(30)]
        answer = self.client.post(f"{self.path}/events", json.dumps(batch).encode(), Content_Type=BATCH)
        self.assertEqual(answer.status, 202, answer)
        said = answer.json()["events"]
        self.assertEqual([e["jobs"] for e in said], [2 if i % 10 == 1 else 1 for i in range(30)])
        positions = [tuple(map(int, e["event"].split("/"))) for e in said]
        self.assertEqual(positions, sorted(set(positions)))
        got = self.drain(queue)
        self.assertEqual([(e["id"], e["data"], e["whilstevent"]) for e in got], [(str(i), i, said[i]["event"]) for i in range(30)])
        self.assertEqual([e["id"] for e in self.drain(self.topic + "%2Fodd")], ["1", "11", "21"])
        answer = self.client.post(f"{self.path}/events", b"[]", Content_Type=BATCH)
        self.assertEqual((answer.status, answer.json()["events"]), (202, []))

    def test_a_batch_is_whole_or_not(self):
        queue = self.subscribe()
        batch = [core(id="0"), core(id="1"), {"id": "2"}]
        answer = self.client.post(f"{self.path}/events", json.dumps(batch).encode(), Content_Type=BATCH)
        self.assertProblem(answer, 400, "bad-request", event=2)
        answer = self.client.post(f"{self.path}/events", b"{}", Content_Type=BATCH)
        self.assertProblem(answer, 400, "bad-json")
        self.subscribe("other")
        batch = [core(id=str(i)) for i in range(5001)]
        answer = self.client.post(f"{self.path}/events", json.dumps(batch).encode(), Content_Type=BATCH)
        self.assertProblem(answer, 413, "too-large", limit=10000)
        self.assertEqual(self.drain(queue), [])

    def test_jobs_that_are_no_events(self):
        self.client.submit(self.queue, b"hello", Content_Type="text/plain")
        job = self.client.submit(self.queue, b"{}", Content_Type="application/json")
        event = self.take(self.queue, Accept=JSON).json()
        self.assertEqual((event["type"], event["source"], event["data"]), ("whilst.job", f"/v1/queues/{self.queue}", "hello"))
        event = self.drain(self.queue)[0]
        self.assertEqual((event["id"], event["data"]), (str(job), {}))

    def test_json_list(self):
        queue = self.subscribe()
        said = self.publish(b"x", Content_Type="text/plain")
        job = self.client.post(f"/v1/queues/{queue}/reserve?n=2").json()["jobs"][0]
        self.assertEqual((job["headers"]["ce-id"], job["event"], job["payload"]), ("1", said["event"], "eA=="))


class Topics(Case):
    def test_life(self):
        self.assertProblem(self.client.get(self.path), 404, "unknown-topic")
        self.assertProblem(self.client.post(f"{self.path}/events", b"x"), 404, "unknown-topic")
        self.assertProblem(self.client.delete(self.path), 404, "unknown-topic")
        self.assertEqual(self.client.put(self.path, {"retention": "2h", "events_max": 5}).status, 201)
        self.assertEqual(self.client.put(self.path, {"name": self.topic}).status, 200)
        self.assertEqual(self.client.get(self.path).json(), {"name": self.topic, "retention": "0s", "events_max": None, "events": 0, "subscriptions": []})
        said = self.publish(b"nobody is there")
        self.assertEqual((said["jobs"], said["event"]), (0, None))
        self.subscribe()
        self.assertIn(self.topic, [t["name"] for t in self.client.get("/v1/topics").json()["topics"]])
        self.assertProblem(self.client.delete(self.path), 409, "topic-not-empty", subscriptions=1)
        self.assertProblem(self.client.get(f"{self.path}/subscriptions/x"), 404, "unknown-subscription")
        self.assertProblem(self.client.delete(f"{self.path}/subscriptions/x"), 404, "unknown-subscription")
        self.assertEqual(self.client.delete(f"{self.path}/subscriptions/s").status, 200)
        self.assertEqual(self.client.delete(self.path).status, 200)
        self.assertProblem(self.client.get(self.path), 404, "unknown-topic")

    def test_a_subscription_makes_its_topic(self):
        queue = self.subscribe()
        self.assertEqual(queue, self.topic + "%2Fs")
        self.assertEqual(self.client.get(f"/v1/queues/{queue}").status, 200)
        self.publish()
        self.assertEqual(self.client.delete(f"{self.path}/subscriptions/s").status, 200)
        self.assertProblem(self.client.get(self.path), 404, "unknown-topic")
        self.assertEqual(len(self.drain(queue)), 1)

    def test_named_queues(self):
        self.subscribe("a", queue=self.queue)
        self.subscribe("b", queue=self.queue, filters=[{"exact": {"type": "t"}}])
        self.assertEqual(self.publish()["jobs"], 2)
        self.assertEqual(len(self.drain(self.queue)), 2)
        for bad in ("topic/x", "call/x", "callbacks", "callbacks/pending", "-x", "", "a b", 5):
            self.assertEqual(self.client.put(f"{self.path}/subscriptions/c", {"queue": bad}).status, 422)
        self.assertProblem(self.client.post("/v1/queues/topic%2Fx/jobs", b"x"), 422, "bad-value")
        self.assertProblem(self.client.post("/v1/queues/topic%2Fx/reserve"), 422, "bad-value")
        self.assertProblem(self.client.put("/v1/queues/topic%2Fx", {"finished_max": 1}), 422, "bad-value")
        self.client.put("/v1/topics/stays", {"retention": "1h"})
        self.assertProblem(self.client.delete("/v1/queues/topic%2Fstays"), 422, "bad-value")
        self.assertEqual(self.client.delete("/v1/topics/stays").status, 200)
        self.assertEqual(self.client.delete("/v1/queues/topic%2Fstays").status, 200)

    def test_refused(self):
        self.assertProblem(self.client.put("/v1/topics/" + "x" * 101, {}), 422, "bad-value")
        self.assertProblem(self.client.put(f"{self.path}/subscriptions/" + "x" * 100, {}), 422, "bad-value")
        for wrong in ({"filters": [{"sql": "x"}]}, {"filters": [{"exact": {"type": ""}}]}, {"from": "yesterday"}):
            self.assertProblem(self.client.put(f"{self.path}/subscriptions/s", wrong), 422, "bad-value")
        self.assertProblem(self.client.put(f"{self.path}/subscriptions/s", {"from": "99/1"}), 422, "bad-value")
        for async_ in ("PUT", "DELETE"):
            self.assertProblem(self.client.request(async_, self.path, b"{}", Whilst_Commit="async"), 422, "level-unavailable")
        self.assertProblem(self.client.get(self.path), 404, "unknown-topic")

    def test_filters(self):
        for name, filters in (("exact", [{"exact": {"type": "a.b", "region": "eu"}}]), ("prefix", [{"prefix": {"subject": "x/"}}]),
                              ("any", [{"any": [{"suffix": {"type": ".c"}}, {"not": {"exact": {"region": "eu"}}}]}]), ("every", [])):
            self.subscribe(name, filters=filters)
            self.assertEqual(self.client.get(f"{self.path}/subscriptions/{name}").json()["filters"], filters)
        for i, (type_, subject, region) in enumerate((("a.b", "x/1", "eu"), ("a.b", "y/1", "us"), ("a.c", "x/2", "eu"))):
            self.publish(ce_id=str(i), ce_type=type_, ce_subject=subject, ce_region=region)
        got = {name: [e["id"] for e in self.drain(f"{self.topic}%2F{name}")] for name in ("exact", "prefix", "any", "every")}
        self.assertEqual(got, {"exact": ["0"], "prefix": ["0", "2"], "any": ["1", "2"], "every": ["0", "1", "2"]})

    def test_a_full_queue_refuses_all(self):
        self.keep()
        queue = self.subscribe("full")
        other = self.subscribe("other")
        self.client.put(f"/v1/queues/{queue}", {"jobs_max": 1})
        self.publish()
        problem = self.assertProblem(self.client.post(f"{self.path}/events", b"", **CORE), 429, "queue-full")
        self.assertIn(f"{self.topic}/full", problem["detail"])
        self.assertEqual(len(self.drain(other)), 1)
        self.assertEqual(self.client.get(self.path).json()["events"], 1)

    def test_levels(self):
        self.subscribe()
        for level in ("async", "local"):
            answer = self.client.post(f"{self.path}/events", b"", **CORE, Whilst_Commit=level)
            self.assertIn(answer["Whilst-Commit"], (level, "local"))
            self.assertEqual(self.client.get(f"/v1/log?position={answer.json()['event']}&level=async", Prefer="wait=10").json()["reached"], True)
        self.assertProblem(self.client.post(f"{self.path}/events", b"", **CORE, Whilst_Commit="remote-flush"), 422, "level-unavailable")


class Kept(Case):
    def read(self, query="", count=None, last=None, until=None):
        """Events of the stream: (id, event or the name of it, data)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
        connection.request("GET", f"{self.path}/events{query}", headers={"Last-Event-ID": last} if last else {})
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "text/event-stream"))
        got = []
        while count is None or len(got) < count:
            event = self.one(answer)
            if event is None or (until and until(event)):
                break
            got.append(event)
        connection.close()
        return got

    def one(self, answer):
        fields, data = {}, []
        while True:
            line = answer.readline().decode()
            if not line:
                return None
            line = line.rstrip("\n")
            if line.startswith(":"):
                continue
            if line.startswith("data: "):
                data.append(line[6:])
            elif line:
                name, value = line.split(": ", 1)
                fields[name] = value
            elif fields or data:
                return fields.get("id"), fields.get("event"), json.loads("\n".join(data))

    def test_stream(self):
        self.assertEqual(self.client.put(self.path, {}).status, 201)
        self.assertProblem(self.client.get(f"{self.path}/events"), 409, "keeps-no-events")
        self.keep()
        said = [self.publish(b'{\r\n"i":\n%d\r}' % i, ce_id=str(i), Content_Type="application/json") for i in range(5)]
        got = self.read("?from=beginning", 5)
        self.assertEqual([g[0] for g in got], [s["event"] for s in said])
        self.assertEqual([g[2]["data"]["i"] for g in got], list(range(5)))
        for i in range(4):
            self.assertEqual(self.read(last=said[i]["event"], count=1)[0][0], said[i + 1]["event"])
            self.assertEqual(self.read(f"?from={said[i]['event']}", 1)[0][2]["id"], str(i + 1))
            self.assertEqual(self.read(f"?from={said[i]['position']}", 1)[0][2]["id"], str(i + 1))
        for bad in ("?from=yesterday", "?from=1", "?since=1"):
            self.assertProblem(self.client.get(f"{self.path}/events{bad}"), 400, "bad-request")
        self.assertProblem(self.client.get(f"{self.path}/events?from=9999/1"), 422, "bad-value")
        self.assertProblem(self.client.get(f"{self.path}/events", Last_Event_ID="x"), 400, "bad-request")

    def test_stream_of_what_comes(self):
        self.keep()
        self.publish(ce_id="before")
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
        connection.request("GET", f"{self.path}/events")
        answer = connection.getresponse()
        for i in range(100):
            self.publish(ce_id=str(i), Whilst_Commit="async" if i % 2 else "local")
            if i % 10 == 0:
                self.assertEqual(self.one(answer)[2]["id"], str(i // 10))
        self.assertEqual([self.one(answer)[2]["id"] for _ in range(90)], [str(i) for i in range(10, 100)])
        connection.close()

    def test_kept_by_count_and_gap(self):
        self.keep(events_max=3)
        said = [self.publish(ce_id=str(i)) for i in range(8)]
        harness.eventually(lambda: self.client.get(self.path).json()["events"] == 3, "the oldest ones go")
        self.assertEqual([g[2]["id"] for g in self.read("?from=beginning", 3)], ["5", "6", "7"])
        self.assertEqual([g[2].get("id") for g in self.read(last=said[4]["event"], count=3)], ["5", "6", "7"])
        got = self.read(last=said[1]["event"], count=4)
        self.assertEqual(got[0], (None, "gap", {"after": said[1]["event"]}))
        self.assertEqual([g[2]["id"] for g in got[1:]], ["5", "6", "7"])

    def test_kept_by_age(self):
        self.keep("50ms")
        said = self.publish()
        harness.eventually(lambda: self.client.get(self.path).json()["events"] == 0, "it goes")
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
        connection.request("GET", f"{self.path}/events", headers={"Last-Event-ID": said["event"]})
        answer = connection.getresponse()
        self.keep()
        self.publish(ce_id="2")
        self.assertEqual(self.one(answer)[2]["id"], "2")
        connection.close()

    def test_from_the_beginning(self):
        self.keep()
        batch = [core(id=str(i), type="even" if i % 2 == 0 else "odd") for i in range(2500)]
        for i in range(0, 2500, 500):
            self.client.post(f"{self.path}/events", json.dumps(batch[i:i + 500]).encode(), Content_Type=BATCH)
        queue = self.subscribe(filters=[{"exact": {"type": "odd"}}], **{"from": "beginning"})
        self.publish(ce_id="new", ce_type="odd")
        self.replayed()
        got = self.drain(queue)
        ids = [e["id"] for e in got]
        self.assertEqual(sorted(ids), sorted([str(i) for i in range(1, 2500, 2)] + ["new"]))
        ids.remove("new")
        self.assertEqual(ids, [str(i) for i in range(1, 2500, 2)])
        events = {e["id"]: e["whilstevent"] for e in got}
        self.assertEqual([g[0] for g in self.read("?from=beginning", 2)][1], events["1"])

    def test_replay(self):
        self.keep()
        queue = self.subscribe()
        said = [self.publish(ce_id=str(i)) for i in range(10)]
        self.assertEqual(len(self.drain(queue)), 10)
        for query, first in (("", 0), ("?from=beginning", 0), (f"?from={said[3]['event']}", 4), (f"?from={said[3]['position']}", 4),
                             (f"?from={said[9]['event']}", 10)):
            answer = self.client.post(f"{self.path}/subscriptions/s/replay{query}")
            self.assertEqual(answer.status, 202, answer)
            self.replayed()
            got = self.drain(queue)
            self.assertEqual([e["id"] for e in got], [str(i) for i in range(first, 10)])
            self.assertEqual([e["whilstevent"] for e in got], [s["event"] for s in said[first:]])
        self.assertProblem(self.client.post(f"{self.path}/subscriptions/s/replay?from=1"), 400, "bad-request")
        self.assertProblem(self.client.post(f"{self.path}/subscriptions/s/replay?from=9999/1"), 422, "bad-value")
        self.assertProblem(self.client.post(f"{self.path}/subscriptions/x/replay"), 404, "unknown-subscription")

    def test_replay_into_a_full_queue_waits(self):
        self.keep()
        for i in range(3):
            self.publish(ce_id=str(i))
        self.client.put(f"/v1/queues/{self.queue}", {"jobs_max": 2})
        self.subscribe(queue=self.queue, **{"from": "beginning"})
        for i in range(3):
            answer = self.take(self.queue, Prefer="wait=20")
            self.assertEqual(attributes(answer)["id"], str(i))
            if i == 0:
                self.assertLessEqual(1, self.client.get(f"{self.path}/subscriptions/s").json()["replay"]["left"])
            self.assertEqual(self.client.complete(int(answer["Whilst-Job"]), answer["Whilst-Lease"]).status, 200)
        self.replayed()


class Pushed(Case):
    ARGS = ("--allow-private-targets", "127.0.0.0/8")

    def test_a_push_is_an_event_in_binary_mode(self):
        seen = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                seen.put((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as target:
            thread = threading.Thread(target=target.serve_forever, args=(0.05,))
            thread.start()
            try:
                name = self.subscribe()
                answer = self.client.put(f"/v1/queues/{name}/target", {"url": f"http://127.0.0.1:{target.server_port}/"})
                self.assertEqual(answer.status, 201, answer)
                self.structured(core(subject="caf\u00e9", datacontenttype="application/json", data={"n": 1}))
                headers, body = seen.get(timeout=harness.DEADLINE)
            finally:
                target.shutdown()
                thread.join()
        self.assertEqual((headers["Content-Type"], json.loads(body)), ("application/json", {"n": 1}))
        self.assertEqual({name[3:].lower(): value for name, value in headers.items() if name.lower().startswith("ce-")},
                         {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "subject": "caf%C3%A9"})


class AcrossRestarts(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server()
        self.addCleanup(self.server.remove)
        self.client = self.server.client()
        self.addCleanup(lambda: self.client.close())

    def restart(self, kill):
        self.client.close()
        if kill:
            self.server.kill()
        else:
            self.server.stop()
        self.server.start()
        self.client = self.server.client()

    def drain(self, queue):
        got = []
        while True:
            answer = self.client.post(f"/v1/queues/{queue}/reserve?n=1000", Accept=BATCH, Whilst_Commit="local")
            if answer.status == 204:
                return got
            got += answer.json()

    def test_settings_events_and_positions_stay(self):
        self.client.put("/v1/topics/t", {"retention": "1h", "events_max": 100})
        self.client.put("/v1/topics/t/subscriptions/s", {"filters": [{"exact": {"type": "t"}}]})
        said = []
        for round_ in range(3):
            for i in range(3):
                said.append(self.client.post("/v1/topics/t/events", b"x", **{**CORE, "ce_id": f"{round_}{i}"}).json())
            before = self.client.get("/v1/topics/t").json(), self.client.get("/v1/topics/t/subscriptions/s").json()
            self.restart(round_ == 1)
            self.assertEqual((self.client.get("/v1/topics/t").json(), self.client.get("/v1/topics/t/subscriptions/s").json()), before)
        for i in range(9):
            answer = self.client.put(f"/v1/topics/t/subscriptions/from{i}", {"from": said[i]["event"]})
            self.assertEqual(answer.status, 201, answer)
        for i in range(9):
            harness.eventually(lambda: self.client.get(f"/v1/topics/t/subscriptions/from{i}").json()["replay"] is None, "the replay")
            self.assertEqual([e["whilstevent"] for e in self.drain(f"t%2Ffrom{i}")], [s["event"] for s in said[i + 1:]])
        self.assertEqual([e["id"] for e in self.drain("t%2Fs")], [f"{r}{i}" for r in range(3) for i in range(3)])

    def test_killed_while_publishing(self):
        """Every acknowledged event is there for each subscription, none for one of them only, in one order."""
        rng = random.Random(4)
        self.client.put("/v1/topics/t", {"retention": "1h"})
        for name in ("a", "b", "c"):
            self.client.put(f"/v1/topics/t/subscriptions/{name}", {})
        acknowledged, number = [], 0
        for _ in range(6):
            stop = threading.Event()

            def run(kind, first):
                client, i = self.server.client(), first
                try:
                    while not stop.is_set():
                        batch = [core(id=f"{kind}{i + j}") for j in range(1 if kind == "x" else 5)]
                        answer = client.post("/v1/topics/t/events", json.dumps(batch).encode(), Content_Type=BATCH)
                        assert answer.status == 202, answer
                        acknowledged.extend(e["id"] for e in answer.json()["events"])
                        i += len(batch)
                except (http.client.HTTPException, OSError):
                    pass
                finally:
                    client.close()
                    ends.append(i + 5)

            ends = []
            threads = [threading.Thread(target=run, args=(kind, number)) for kind in ("x", "y")]
            for t in threads:
                t.start()
            wanted = len(acknowledged) + rng.randrange(20, 120)
            harness.eventually(lambda: len(acknowledged) >= wanted, "events")
            self.server.kill()
            stop.set()
            for t in threads:
                t.join()
            number = max(ends)
            self.client.close()
            self.server.start()
            self.client = self.server.client()
        got = {name: [(e["id"], e["whilstevent"]) for e in self.drain(f"t%2F{name}")] for name in ("a", "b", "c")}
        self.assertEqual(got["a"], got["b"])
        self.assertEqual(got["a"], got["c"])
        ids = [i for i, _ in got["a"]]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertLessEqual(set(acknowledged), set(ids))
        positions = [tuple(map(int, p.split("/"))) for _, p in got["a"]]
        self.assertEqual(positions, sorted(set(positions)))
        self.assertEqual(self.client.get("/v1/topics/t").json()["events"], len(ids))

    def test_killed_while_replaying(self):
        """However often it is killed, each event is handed over once."""
        self.client.put("/v1/topics/t", {"retention": "1h"})
        for i in range(0, 6000, 1000):
            batch = [core(id=str(i + j)) for j in range(1000)]
            self.assertEqual(self.client.post("/v1/topics/t/events", json.dumps(batch).encode(), Content_Type=BATCH).status, 202)
        self.client.put("/v1/topics/t/subscriptions/s", {"from": "beginning"})
        for _ in range(4):
            left = self.client.get("/v1/topics/t/subscriptions/s").json()["replay"]
            self.restart(True)
            again = self.client.get("/v1/topics/t/subscriptions/s").json()["replay"]
            if left is None:
                break
            self.assertLessEqual((again or {"left": 0})["left"], 6000)
        harness.eventually(lambda: self.client.get("/v1/topics/t/subscriptions/s").json()["replay"] is None, "the replay")
        self.assertEqual([int(e["id"]) for e in self.drain("t%2Fs")], list(range(6000)))

    def test_a_stream_goes_on(self):
        """Cut off by kills and restarts, a reader that says where it was misses nothing and gets nothing twice."""
        self.client.put("/v1/topics/t", {"retention": "1h"})
        got, last, sent = [], None, 0
        for round_ in range(4):
            for _ in range(20):
                answer = self.client.post("/v1/topics/t/events", b"x", **{**CORE, "ce_id": str(sent)})
                self.assertEqual(answer.status, 202)
                sent += 1
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
            connection.request("GET", "/v1/topics/t/events?from=beginning", headers={"Last-Event-ID": last} if last else {})
            answer = connection.getresponse()
            for _ in range(13):
                while not (line := answer.readline()).startswith(b"id: "):
                    pass
                last = line[4:].strip().decode()
                got.append(json.loads(answer.readline()[6:])["id"])
            self.restart(round_ % 2 == 0)
            connection.close()
        self.assertEqual(got, [str(i) for i in range(len(got))])


class Tokens(unittest.TestCase):
    def test_scopes(self):
        lines, texts = [], {}
        for name, scopes in (("admin", ["admin"]), ("publisher", ["publish:orders"]), ("worker", ["work:orders/*"]), ("reader", ["read:topic/orders"])):
            done = subprocess.run([harness.BINARY, "token", name, *scopes], capture_output=True, text=True, check=True)
            lines.append(done.stderr)
            texts[name] = done.stdout.strip()
        folder = harness.tempfile.mkdtemp(prefix="whilst-tokens-")
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, "tokens")
        with open(path, "w", encoding="utf-8") as f:
            f.write("".join(lines))
        with harness.Server("--tokens", path) as server:
            client = server.client()

            def ask(name, method, target, body=b"", **headers):
                return client.request(method, target, body, Whilst_Token=texts[name], **headers).status

            self.assertEqual(client.put("/v1/topics/orders", {}).status, 401)
            self.assertEqual(ask("publisher", "PUT", "/v1/topics/orders", b"{}"), 403)
            self.assertEqual(ask("admin", "PUT", "/v1/topics/orders", b'{"retention":"1h"}'), 201)
            self.assertEqual(ask("worker", "PUT", "/v1/topics/orders/subscriptions/s", b"{}"), 403)
            self.assertEqual(ask("admin", "PUT", "/v1/topics/orders/subscriptions/s", b"{}"), 201)
            self.assertEqual(ask("publisher", "POST", "/v1/topics/orders/events", b"x"), 202)
            self.assertEqual(ask("publisher", "POST", "/v1/topics/others/events", b"x"), 403)
            self.assertEqual(ask("worker", "POST", "/v1/topics/orders/events", b"x"), 403)
            self.assertEqual(ask("worker", "POST", "/v1/queues/orders%2Fs/reserve"), 200)
            self.assertEqual(ask("publisher", "GET", "/v1/topics/orders"), 403)
            self.assertEqual(ask("reader", "GET", "/v1/topics/orders"), 200)
            self.assertEqual(ask("reader", "GET", "/v1/topics/orders/subscriptions/s"), 200)
            self.assertEqual(ask("reader", "POST", "/v1/topics/orders/subscriptions/s/replay"), 403)
            self.assertEqual(ask("admin", "POST", "/v1/topics/orders/subscriptions/s/replay"), 202)
            client.close()


if __name__ == "__main__":
    harness.main()
