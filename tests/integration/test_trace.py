"""tests/integration/test_trace.py -- W3C Trace Context: from who submits to who does the work, by jobs and through the gateway."""
import json

import backend
import harness

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


if __name__ == "__main__":
    harness.main()
