"""tests/integration/test_trace.py -- W3C Trace Context: from who submits to who does the work, by jobs and through the gateway."""
import json
import os
import struct
import subprocess

import backend
import harness
import test_callbacks
import test_push

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{ID}-{PARENT}-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
# what is sent, and what is kept of it
PARENTS = [
    (GOOD, GOOD),
    (f"00-{ID}-{PARENT}-00", f"00-{ID}-{PARENT}-00"),
    (f"00-{ID}-{PARENT}-ff", f"00-{ID}-{PARENT}-ff"),
    # a later version: what 00 knows of it
    (f"cc-{ID}-{PARENT}-01", GOOD),
    (f"cc-{ID}-{PARENT}-09-what-the-future-holds", GOOD),
    (f"cc-{ID}-{PARENT}-08", f"00-{ID}-{PARENT}-00"),
    (f"cc-{ID}-{PARENT}-01.x", None),
    # no version is ff; 00 has nothing more
    (f"ff-{ID}-{PARENT}-01", None),
    (GOOD + "-", None),
    (GOOD + "-01", None),
    (GOOD[:-1], None),
    ("", None),
    # zeros, capitals, other characters, other places
    (f"00-{'0' * 32}-{PARENT}-01", None),
    (f"00-{ID}-{'0' * 16}-01", None),
    (f"00-{ID.upper()}-{PARENT}-01", None),
    (f"00-{ID[:-1]}g-{PARENT}-01", None),
    (f"00-{ID}-{PARENT}-0x", None),
    (f"00-{ID}-{PARENT}_01", None),
    (f"0x-{ID}-{PARENT}-01", None),
    (f"00{ID}--{PARENT}-01", None),
]
STATES = [
    (STATE, STATE),
    ("a=1", "a=1"),
    ("", None),
    ("a=1,,b=2 ,\tc=3", "a=1,,b=2 ,\tc=3"),
    ("nothing", None),
    ("a=1,b", None),
    ("a=\xe4", None),
    ("a=" + "x" * 510, "a=" + "x" * 510),
    ("a=" + "x" * 511, None),
]


class Jobs(harness.Case):
    def reserved(self, **headers):
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", **headers)
        self.assertEqual(answer.status, 200)
        return answer

    def test_parents(self):
        for sent, kept in PARENTS:
            job = self.client.submit(self.queue, traceparent=sent, tracestate=STATE)
            self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["traceparent"], kept, sent)
            answer = self.reserved()
            self.assertEqual((answer["traceparent"], answer["tracestate"]), (kept, STATE if kept else None), sent)

    def test_states(self):
        for sent, kept in STATES:
            self.client.submit(self.queue, traceparent=GOOD, tracestate=sent)
            answer = self.reserved()
            self.assertEqual((answer["traceparent"], answer["tracestate"]), (GOOD, kept), sent)

    def test_fields_given_twice(self):
        for fields, parent, state in ((("traceparent", GOOD), ("traceparent", GOOD)), None, None), \
                ((("tracestate", "a=1"), ("traceparent", GOOD), ("tracestate", "b=2")), GOOD, "a=1,b=2"), \
                ((("tracestate", "a=1"),), None, None):
            head = "".join(f"{name}: {value}\r\n" for name, value in fields)
            got = harness.raw(self.server.port, (f"POST /v1/queues/{self.queue}/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                                 f"Content-Length: 1\r\n{head}\r\nx").encode())
            self.assertIn(b" 202 ", got)
            answer = self.reserved()
            self.assertEqual((answer["traceparent"], answer["tracestate"]), (parent, state))

    def test_all_ways_in_and_out(self):
        lines = {"Content_Type": "application/x-ndjson", "traceparent": GOOD, "tracestate": STATE}
        self.client.post(f"/v1/queues/{self.queue}/jobs", b"1\n2\n", **lines)
        actions = {"actions": [{"action": "submit", "queue": self.queue, "payload": "3"}]}
        answer = self.client.post("/v1/transactions", json.dumps(actions), Content_Type="application/json", traceparent=GOOD)
        self.assertEqual(answer.status, 200, answer)
        self.client.submit(self.queue, b"4")
        large = b"x" * (3 << 20)
        self.client.submit(self.queue, large, traceparent=GOOD, tracestate=STATE)
        jobs = self.client.post(f"/v1/queues/{self.queue}/reserve?n=4").json()["jobs"]
        self.assertEqual([(job.get("traceparent"), job.get("tracestate")) for job in jobs],
                         [(GOOD, STATE), (GOOD, STATE), (GOOD, None), (None, None)])
        answer = self.reserved()
        self.assertEqual((answer["traceparent"], answer["tracestate"], len(answer.body)), (GOOD, STATE, len(large)))

    def test_binary_batches(self):
        """Each item in and out, with the payload in a file too; without trace=1 the form is as it always was."""
        kind = "application/vnd.whilst.batch"
        large = b"z" * (3 << 20)
        for accept, payloads in ((f"{kind}; trace=1", (b"one", b"", b"three")), (f"{kind};trace=1", (large, b"x")), (kind, (b"four",)),
                                 (f"{kind}; trace=10", (b"five",))):
            body = b"".join(struct.pack("<I", len(p)) + p for p in payloads)
            self.client.post(f"/v1/queues/{self.queue}/jobs", body, Content_Type=kind, traceparent=GOOD, tracestate=STATE)
            self.client.submit(self.queue, b"bare", "?priority=2000")
            self.client.submit(self.queue, b"parent", "?priority=3000", traceparent=GOOD)
            answer = self.client.post(f"/v1/queues/{self.queue}/reserve?n=9", Accept=accept)
            traced = accept.replace(" ", "").endswith("trace=1")
            self.assertEqual((answer.status, answer["Content-Type"]), (200, f"{kind}; trace=1" if traced else kind))
            got, rest = [], answer.body
            while rest:
                size, job, _, _, attempt = struct.unpack_from("<IQQII", rest)
                item, rest = rest[28:4 + size], rest[4 + size:]
                context = b""
                if traced:
                    n = struct.unpack_from("<H", item)[0]
                    context, item = item[2:2 + n], item[2 + n:]
                self.assertEqual(attempt, 1)
                got.append((item, context.decode()))
            both, one = (f"{GOOD} {STATE}", GOOD) if traced else ("", "")
            self.assertEqual(got, [(p, both) for p in payloads] + [(b"bare", ""), (b"parent", one)], accept)

    def test_events(self):
        """What an event makes has the context of its publication, also when it is replayed."""
        topic = f"/v1/topics/{self.queue}"
        self.client.put(topic, {"retention": "1h"})
        self.client.put(f"{topic}/subscriptions/now", {"queue": self.queue})
        self.assertEqual(self.client.post(f"{topic}/events", b"x", traceparent=GOOD, tracestate=STATE).status, 202)
        self.client.put(f"{topic}/subscriptions/then", {"queue": self.queue, "from": "beginning"})
        for _ in range(2):
            answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Prefer="wait=20")
            self.assertEqual((answer["traceparent"], answer["tracestate"]), (GOOD, STATE), answer)

    def test_it_survives(self):
        with harness.Server() as server:
            client = server.client()
            job = client.submit("q", b"x", traceparent=GOOD, tracestate=STATE)
            for end in (server.kill, server.stop):
                client.close()
                end()
                server.start()
                client = server.client()
                self.assertEqual(client.get(f"/v1/jobs/{job}").json()["traceparent"], GOOD)
            answer = client.post("/v1/queues/q/reserve")
            self.assertEqual((answer["traceparent"], answer["tracestate"]), (GOOD, STATE))
            client.complete(job, answer["Whilst-Lease"], b"done")
            self.assertEqual(client.get(f"/v1/jobs/{job}").json()["traceparent"], GOOD)
            client.close()


class Gateway(harness.Case):
    def test_passed_on(self):
        peer = backend.Backend()
        self.addCleanup(peer.stop)
        self.client.put("/v1/services/peer", {"url": peer.url})
        for prefer in ({}, {"Prefer": "wait=20"}, {"Prefer": "respond-async"}):
            for sent, kept in PARENTS[:1] + PARENTS[4:5] + PARENTS[7:8]:
                answer = self.client.get("/call/peer/echo", traceparent=sent, tracestate=STATE, **prefer)
                if answer.status == 202:
                    job = answer.json()["id"]
                    self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["traceparent"], kept)
                    answer = self.client.get(f"/v1/jobs/{job}/result", Prefer="wait=20")
                self.assertEqual(answer.status, 200, answer)
                seen = {name.lower(): value for name, value in answer.json()["headers"]}
                self.assertEqual((seen.get("traceparent"), seen.get("tracestate")), (kept, STATE if kept else None), (prefer, sent))


def parent_id(test, headers):
    """The parent id of what the server itself has sent, when all else is as it was kept."""
    test.assertRegex(headers["traceparent"], f"^00-{ID}-[0-9a-f]{{16}}-01$")
    test.assertEqual(headers["tracestate"], STATE)
    test.assertNotEqual(headers["traceparent"][36:52], "0" * 16)
    return headers["traceparent"][36:52]


class Pushed(test_push.Pushes):
    def test_each_attempt_is_a_parent(self):
        self.target.answer = lambda nth, headers, body: (500 if nth == 1 else 200, {"Retry-After": "1"} if nth == 2 else {}, b"")
        self.client.put(f"/v1/queues/{self.queue}", {"backoff": "1ms", "backoff_max": "1ms"})
        self.configure()
        job = self.client.submit(self.queue, b"x", traceparent=GOOD, tracestate=STATE)
        self.assertEqual(self.finished(job)["state"], "done")
        parents = [parent_id(self, headers) for _, headers, _ in self.target.seen]
        self.assertEqual(len(set(parents + [PARENT])), 3, parents)
        self.assertEqual(self.finished(job)["traceparent"], GOOD, "what is kept stays as it was")

    def test_with_a_payload_in_a_file_and_without_a_state(self):
        self.configure()
        job = self.client.submit(self.queue, b"x" * (3 << 20), traceparent=GOOD)
        self.assertEqual(self.finished(job)["state"], "done")
        headers = self.target.seen[0][1]
        self.assertEqual((headers["traceparent"][:36], headers["tracestate"]), (f"00-{ID}-", None))

    def test_without(self):
        """None is made up; and what an event says of its own trace is the event's."""
        self.configure()
        for headers in ({}, {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/x", "ce_type": "y", "ce_traceparent": GOOD}):
            self.finished(self.client.submit(self.queue, b"x", **headers))
            self.assertEqual((self.target.seen[-1][1]["traceparent"], self.target.seen[-1][1]["tracestate"]), (None, None))


class CalledBack(test_callbacks.Callbacks):
    def test_told_in_the_same_trace(self):
        """Also when the server was killed in between, and of a recorded call; each attempt is a parent of its own."""
        self.receiver.answer = lambda nth, headers, body: (200, {}, b"")
        job = self.submit(traceparent=GOOD, tracestate=STATE)
        self.restart_after_kill()
        self.complete(job)
        headers, _ = self.one()
        self.assertNotEqual(parent_id(self, headers), PARENT)
        self.assertTrue(test_callbacks.is_signed(headers, self.receiver.seen[0][2], test_callbacks.SECRETS[0]))

    def test_large_and_recorded(self):
        peer = backend.Backend()
        self.addCleanup(peer.stop)
        self.client.put("/v1/services/peer", {"url": peer.url})
        self.submit(query="?expires=1ms", traceparent=GOOD, tracestate=STATE)
        self.client.submit("q", b"x" * (3 << 20), "?expires=1ms", Whilst_Callback=self.url, traceparent=GOOD, tracestate=STATE)
        self.client.post("/call/peer/echo", b"x", Whilst_Callback=self.url, traceparent=GOOD, tracestate=STATE)
        harness.eventually(lambda: len(self.receiver.messages()) == 3, "three messages")
        self.assertEqual(len({parent_id(self, headers) for headers, _ in self.receiver.messages().values()}), 3)

    def test_without(self):
        self.submit(query="?expires=1ms")
        headers, _ = self.one()
        self.assertEqual((headers["traceparent"], headers["tracestate"]), (None, None))

    def test_command_line(self):
        """whilst submit --callback, whilst call --callback, and the trace of their environment."""
        peer = backend.Backend()
        self.addCleanup(peer.stop)
        self.client.put("/v1/services/peer", {"url": peer.url})
        environment = {**os.environ, "TRACEPARENT": GOOD, "TRACESTATE": STATE, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}"}
        for words in (("submit", "q", "--expires", "1ms"), ("call", "peer", "/echo", "--async")):
            ran = subprocess.run([harness.BINARY, *words, "--callback", self.url], env=environment, input=b"x",
                                 stdout=subprocess.PIPE, check=True)
            job = int(ran.stdout)
            self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["traceparent"], GOOD)
            message = harness.eventually(
                lambda: [m for m in self.receiver.messages().values() if m[1]["data"]["id"] == job], "the callback")
            parent_id(self, message[0][0])


class CommandLine(harness.Case):
    COMMAND = "import os; print(os.environ.get('TRACEPARENT'), os.environ.get('TRACESTATE'))"

    def run_command(self, *words, **environment):
        environment = {**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}", **environment}
        return subprocess.run([harness.BINARY, *words], env=environment, input=b"x", stdout=subprocess.PIPE, check=True).stdout

    def test_from_submit_to_work(self):
        """The worker's own trace is nobody's who submits; what is malformed is as if it were not there."""
        cases = [({"TRACEPARENT": GOOD, "TRACESTATE": STATE}, (GOOD, STATE)), ({"TRACEPARENT": GOOD, "TRACESTATE": "nothing"}, (GOOD, "None")),
                 ({"TRACEPARENT": GOOD[:-1], "TRACESTATE": STATE}, ("None", "None")), ({"TRACESTATE": STATE}, ("None", "None")),
                 ({"TRACEPARENT": "x\r\ny: z"}, ("None", "None"))]
        for environment, (parent, state) in cases:
            job = int(self.run_command("submit", self.queue, **environment))
            self.run_command("work", self.queue, "--exit-when-empty", "--", "python3", "-c", self.COMMAND,
                             TRACEPARENT=f"00-{'e' * 32}-{'e' * 16}-00", TRACESTATE="worker=1")
            self.assertEqual(self.client.get(f"/v1/jobs/{job}/result").body.decode(), f"{parent} {state}\n", environment)

    def test_publish(self):
        self.client.put(f"/v1/topics/{self.queue}/subscriptions/one", {"queue": self.queue})
        self.run_command("publish", self.queue, "--event-type", "x", TRACEPARENT=GOOD, TRACESTATE=STATE)
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Prefer="wait=20")
        self.assertEqual((answer["traceparent"], answer["tracestate"]), (GOOD, STATE))


if __name__ == "__main__":
    harness.main()
