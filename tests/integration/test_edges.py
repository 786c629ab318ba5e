"""tests/integration/test_edges.py -- what the page of the interface says of limits and refusals, at its edges: exactly as many, and words that name
what was wrong."""
import json
import os
import re
import subprocess
import tempfile
import unittest

import harness


class Words(harness.Case):
    def refused(self, answer, status, code, *words):
        document = self.assertProblem(answer, status, code)
        for word in words:
            self.assertIn(word, document["detail"], answer)
        return document

    def transact(self, *actions):
        return self.client.post("/v1/transactions", json.dumps({"actions": actions}), Content_Type="application/json")

    def test_as_many_conditions_as_a_filter_may_have(self):
        path = f"/v1/topics/{self.queue}/subscriptions/s"
        one = {"exact": {"type": "x"}}
        for filters in ([one] * 256, [{"any": [one] * 256}], [{"exact": {f"a{i}": "x" for i in range(256)}}]):
            self.assertIn(self.client.put(path, {"filters": filters}).status, (200, 201))
            self.assertEqual(self.client.get(path).json()["filters"], filters)
        for filters in ([one] * 257, [{"any": [one] * 257}], [{"exact": {f"a{i}": "x" for i in range(257)}}]):
            self.refused(self.client.put(path, {"filters": filters}), 422, "bad-value", "256 conditions")
        nested = {"not": {"not": {"not": {"not": {"not": {"not": one}}}}}}
        self.assertEqual(self.client.put(path, {"filters": [nested] * 128}).status, 200)
        self.refused(self.client.put(path, {"filters": [nested] * 129}), 422, "bad-value", "1024")

    def test_keys_of_a_subscription_may_be_null(self):
        path = f"/v1/topics/{self.queue}/subscriptions/s"
        self.assertEqual(self.client.put(path, {"group": None, "unique": None, "unique_while": None}).status, 201)
        self.assertNotIn("unique_while", self.client.get(path).json())
        answer = self.client.put(path, {"unique": "subject", "unique_while": None})
        self.assertEqual((answer.status, answer.json()["unique_while"]), (200, "active"))

    def test_positions_yet_to_come(self):
        self.client.put(f"/v1/topics/{self.queue}", {"retention": "1h"})
        path = f"/v1/topics/{self.queue}/subscriptions/s"
        self.assertEqual(self.client.put(path, {}).status, 201)
        for position in ("99/1", "1/999999999999"):
            for answer in (self.client.put(path, {"from": position}), self.client.post(f"{path}/replay?from={position}"),
                           self.client.get(f"/v1/topics/{self.queue}/events?from={position}")):
                self.refused(answer, 422, "bad-value", "from", "position")

    def test_a_schedule_speaks_of_its_job(self):
        path = f"/v1/schedules/{self.queue}"
        for job, word in (({}, "queue"), ({"queue": "q", "priority": -1}, "priority"), ({"queue": "q", "nope": 1}, "nope"), ({"queue": "call/x"}, "call/")):
            answer = self.client.put(path, {"every": "1h", "job": job})
            self.assertIn(answer.status, (400, 422), answer)
            self.assertTrue(answer.json()["detail"].startswith("job: "), answer)
            self.assertIn(word, answer.json()["detail"])

    def test_instants_that_cannot_be_told(self):
        job = self.client.submit(self.queue, query="?delay=1h")
        for year in ("9999", "1600", "2263"):
            instant = f"{year}-01-01T00:00:00Z"
            self.refused(self.client.post(f"/v1/queues/{self.queue}/jobs?run-at={instant}", b"x"), 400, "bad-request", "2262")
            self.refused(self.client.request("PATCH", f"/v1/jobs/{job}", json.dumps({"run_at": instant}), Content_Type="application/merge-patch+json"),
                         400, "bad-json", "2262")
            self.refused(self.transact({"action": "submit", "queue": self.queue, "run_at": instant}), 400, "bad-json", "2262")
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/jobs?run-at=2261-12-31T00:00:00Z", b"x").json()["state"], "delayed")

    def test_jobs_that_are_awaited_in_all(self):
        jobs = [result["id"] for result in self.transact(*[{"action": "submit", "queue": self.queue, "delay": "1h"}] * 1001).json()["results"]]
        one = {"action": "submit", "queue": "after", "after": jobs[:1000]}
        self.assertEqual(self.transact(*[one] * 100).status, 200)
        document = self.refused(self.transact(*[one] * 100, {"action": "submit", "queue": "after", "after": jobs[1000:]}), 413, "too-large", "action 100", "await")
        self.assertEqual((document["limit"], document["action"]), (100000, 100))
        self.assertEqual(self.client.get("/v1/queues/after").json()["jobs"]["awaiting"], 100)

    def test_chunks_that_are_none(self):
        head = f"POST /v1/queues/{self.queue}/jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        for body in (b"3 \r\nabc\r\n0\r\n\r\n", b"3;a=" + b"x" * 100000 + b"\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"10000000000000000\r\nabc",
                     b"3\r\nabc\r\n0\r\nX Y: z\r\n\r\n"):
            answer = harness.raw(self.server.port, head + body)
            self.assertIn(b" 400 ", answer[:20])
            self.assertIn(b"chunked framing", answer, body[:40])
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").status, 404)

    def test_words_of_our_own(self):
        path = f"/v1/queues/{self.queue}/jobs"
        self.refused(self.client.post(path, b"1\n\n3\n", Content_Type="application/x-ndjson"), 400, "bad-json", "line 2", "the line is empty")
        answer = self.client.post(path, b'1\n"\\u0000"\n', Content_Type="application/x-ndjson")
        self.assertNotIn("JSON_", self.refused(answer, 400, "bad-json", "line 2", "\\u0000 is not taken here")["detail"])
        self.refused(self.client.put(f"/v1/queues/{self.queue}", b'{"dead_letter":"a\\u0000"}'), 400, "bad-json", "\\u0000 is not taken here")
        self.client.post(f"{path}?attempts=1", b"x")
        job, lease, _ = self.client.reserve(self.queue)
        self.client.post(f"/v1/jobs/{job}/fail", b"why", Whilst_Lease=lease)
        self.refused(self.client.get(f"/v1/jobs/{job}/result"), 502, "job-failed", "after 1 attempt; last: why")
        ids = ",".join(["1"] * 1001)
        self.refused(self.client.post(f"{path}?after={ids}", b"x"), 400, "bad-request", "1000")
        self.refused(self.transact({"action": "submit", "queue": "q", "after": [1] * 10001}), 400, "bad-json", "10000")
        answer = harness.raw(self.server.port, b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        self.assertIn(b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n", answer)

    def test_progress_whose_members_come_twice(self):
        self.client.submit(self.queue)
        job, lease, _ = self.client.reserve(self.queue)
        answer = self.client.post(f"/v1/jobs/{job}/progress", b'{"a":1,"a":2}', Whilst_Lease=lease)
        self.refused(answer, 400, "bad-json", "duplicate")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["progress"], None)

    def test_a_reservation_is_not_larger_than_is_good_for_others(self):
        """In base64 at most 16 MiB of payloads and the one that passes them; nothing is left out for good."""
        payload, left = b"p" * (1 << 20), 40
        for _ in range(left):
            self.client.submit(self.queue, payload, Whilst_Commit="async")
        lots = []
        while left > 0:
            jobs = self.client.post(f"/v1/queues/{self.queue}/reserve?n=1000", Whilst_Commit="async").json()["jobs"]
            lots.append(len(jobs))
            left -= len(jobs)
        self.assertEqual(lots, [16, 16, 8])


class Settings(unittest.TestCase):
    """What is wrong with a configuration is said with its line, the setting and what it may be."""

    def check(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(text)
            file.flush()
            # what the environment says is not looked for in the file
            plain = {name: value for name, value in os.environ.items() if not name.startswith("WHILST_")}
            run = subprocess.run([harness.BINARY, "config", "check", "--config", file.name], capture_output=True, text=True, timeout=60, check=False, env=plain)
            return run.returncode, run.stdout, run.stderr.replace(file.name, "FILE")

    def test_refused(self):
        for text, words in (("log-level = loud\n", "FILE:1: there is no 'loud': log-level is one of debug, info, warn or error"),
                            ("\n# x\nengine = warp\n", "FILE:3: there is no 'warp': engine is one of auto, sync, threads, epoll or uring"),
                            ("dashboard = 1\n", "FILE:1: there is no '1': dashboard is one of on or off"),
                            ("front-threads = 65\n", "FILE:1: 65 is out of range: front-threads must be from 1 to 64"),
                            ("max-payload = 2GiB\n", "FILE:1: 2GiB is out of range: max-payload must be from 1 to 1GiB"),
                            ("max-wait = 2d\n", "FILE:1: 2d is out of range: max-wait must be from 1s to 1d"),
                            ("data = a\nlisten = 127.0.0.1:1\ndata = b\n", "FILE:3: data is given twice"),
                            ("data =\n", "FILE:1: data needs a value: DIR")):
            status, out, err = self.check(text)
            self.assertEqual((status, out), (2, ""), text)
            self.assertEqual(err, f"whilst serve: {words}\n")

    def test_what_may_be_repeated(self):
        status, out, err = self.check("listen = 127.0.0.1:1\nlisten = 127.0.0.1:2\n")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("listen = 127.0.0.1:1\n", out)
        self.assertIn("listen = 127.0.0.1:2\n", out)

    def test_help_stands_in_two_columns(self):
        run = subprocess.run([harness.BINARY, "serve", "--help"], capture_output=True, text=True, timeout=60, check=True)
        rows = [line for line in run.stdout.split("\n") if line.startswith("  ")]
        self.assertGreater(len(rows), 30)
        for line in rows:
            self.assertTrue(line[31:33] == "  " or re.fullmatch(r"  --\S+ \S+", line), line)


if __name__ == "__main__":
    harness.main()
