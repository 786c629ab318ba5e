"""tests/integration/test_api_batches.py -- many jobs in one request: NDJSON and docs/reference/batch.md."""
import json
import struct

import harness

BATCH = "application/vnd.whilst.batch"
NDJSON = "application/x-ndjson"


def items(*payloads):
    return b"".join(struct.pack("<I", len(p)) + p for p in payloads)


def split(body):
    found, at = [], 0
    while at < len(body):
        (n,) = struct.unpack_from("<I", body, at)
        found.append(body[at + 4:at + 4 + n])
        assert len(found[-1]) == n
        at += 4 + n
    return found


class Ndjson(harness.Case):
    def submit_lines(self, body, query="", **headers):
        return self.client.post(f"/v1/queues/{self.queue}/jobs{query}", body, Content_Type=NDJSON, **headers)

    def test_lines(self):
        answer = self.submit_lines(b'{"a": 1}\n"two"\r\n 3 \n', "?priority=5")
        self.assertEqual((answer.status, answer["Content-Type"], answer["Whilst-Commit"]), (202, NDJSON, "local"))
        ids = [json.loads(line)["id"] for line in answer.body.splitlines()]
        self.assertEqual(len(ids), 3)
        self.assertEqual(ids, sorted(ids))
        payloads = [self.client.get(f"/v1/jobs/{job}/payload") for job in ids]
        self.assertEqual([p.body for p in payloads], [b'{"a": 1}', b'"two"', b" 3 "])
        self.assertEqual({p["Content-Type"] for p in payloads}, {"application/json"})
        self.assertEqual({self.client.get(f"/v1/jobs/{job}").json()["priority"] for job in ids}, {5})

    def test_last_line_needs_no_end(self):
        self.assertEqual(len(self.submit_lines(b"1\n2").body.splitlines()), 2)

    def test_parameters_of_the_type_do_not_matter(self):
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"1\n2\n", Content_Type="Application/X-NDJSON; charset=utf-8")
        self.assertEqual(len(answer.body.splitlines()), 2)

    def test_refused_as_a_whole(self):
        problem = self.assertProblem(self.submit_lines(b'1\n{"a":}\n3\n'), 400, "bad-json")
        self.assertEqual(problem["line"], 2)
        self.assertProblem(self.submit_lines(b""), 400, "bad-request")
        self.assertProblem(self.submit_lines(b"1\n\n2\n"), 400, "bad-json", line=2)
        self.assertProblem(self.submit_lines(b"1\n" * 10001), 413, "too-large", limit=10000)
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}"), 404, "unknown-queue")

    def test_the_most(self):
        self.assertEqual(len(self.submit_lines(b"1\n" * 10000).body.splitlines()), 10000)
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["ready"], 10000)


class Binary(harness.Case):
    def submit_items(self, body, query="", **headers):
        return self.client.post(f"/v1/queues/{self.queue}/jobs{query}", body, Content_Type=BATCH, **headers)

    def test_submit(self):
        payloads = [b"", b"\x00", b"abc", b"x" * 70000]
        answer = self.submit_items(items(*payloads), "?content-type=a%2Fb")
        self.assertEqual((answer.status, answer["Content-Type"]), (202, BATCH))
        ids = [struct.unpack("<Q", one)[0] for one in split(answer.body)]
        self.assertEqual(len(ids), 4)
        got = [self.client.get(f"/v1/jobs/{job}/payload") for job in ids]
        self.assertEqual([g.body for g in got], payloads)
        self.assertEqual({g["Content-Type"] for g in got}, {"a/b"})

    def test_default_type(self):
        job = struct.unpack("<Q", split(self.submit_items(items(b"x")).body)[0])[0]
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["content_type"], "application/octet-stream")

    def test_malformed(self):
        for body in (b"", b"\x01", b"\x05\0\0\0abcd", items(b"ok") + b"\x01\0\0"):
            self.assertProblem(self.submit_items(body), 400, "bad-request")
        self.assertProblem(self.submit_items(items(b"") * 10001), 413, "too-large", limit=10000)
        self.assertProblem(self.submit_items(b"\xff\xff\xff\xff"), 413, "too-large")
        self.assertProblem(self.client.get(f"/v1/queues/{self.queue}"), 404, "unknown-queue")

    def test_whole_life(self):
        self.submit_items(items(*(b"%d" % i for i in range(100))))
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve?n=60", Accept=BATCH)
        self.assertEqual((answer.status, answer["Content-Type"]), (200, BATCH))
        leased = [(*struct.unpack_from("<QQII", one), one[24:]) for one in split(answer.body)]
        self.assertEqual([payload for *_, payload in leased], [b"%d" % i for i in range(60)])
        self.assertEqual({attempt for *_, attempt, _ in leased}, {1})
        lost = struct.pack("<QQII", leased[3][0], leased[3][1] + 99, leased[3][2], 0) + b"lost"
        unknown = struct.pack("<QQII", 9007199254740000, 1, 1, 0)
        good = [struct.pack("<QQII", job, claim, epoch, 0) + b"r" + payload
                for job, claim, epoch, _, payload in leased if job != leased[3][0]]
        answer = self.client.post(f"/v1/queues/{self.queue}/complete?content-type=text%2Fplain",
                                  items(lost, unknown, *good), Content_Type=BATCH)
        self.assertEqual((answer.status, answer["Content-Type"], answer["Whilst-Commit"]), (200, BATCH, "local"))
        statuses = [struct.unpack("<I", one)[0] for one in split(answer.body)]
        self.assertEqual(statuses, [409, 404] + [200] * 59)
        result = self.client.get(f"/v1/jobs/{leased[5][0]}/result")
        self.assertEqual((result.body, result["Content-Type"]), (b"r5", "text/plain"))
        counts = self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]
        self.assertEqual((counts["ready"], counts["running"], counts["done"]), (40, 1, 59))

    def test_complete_malformed(self):
        path = f"/v1/queues/{self.queue}/complete"
        self.submit_items(items(b"x"))
        for body in (b"", items(b"short"), items(struct.pack("<QQII", 1, 1, 1, 7))):
            self.assertProblem(self.client.post(path, body, Content_Type=BATCH), 400, "bad-request")
        self.assertProblem(self.client.post(path, b"[]", Content_Type="application/json"), 415, "wrong-content-type")

    def test_one_binary(self):
        self.submit_items(items(b"p"))
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Accept=BATCH)
        self.assertEqual(len(split(answer.body)), 1)
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/reserve", Accept=BATCH).status, 204)


class SmallPayloads(harness.Case):
    ARGS = ("--max-payload", "1000")

    def test_an_item_has_the_same_limit(self):
        path = f"/v1/queues/{self.queue}/jobs"
        self.assertEqual(self.client.post(path, items(b"x" * 1000, b"y" * 1000), Content_Type=BATCH).status, 202)
        self.assertProblem(self.client.post(path, items(b"x" * 1001), Content_Type=BATCH), 413, "too-large", limit=1000)
        self.assertProblem(self.client.post(path, b"1" * 1001 + b"\n", Content_Type=NDJSON), 413, "too-large", limit=1000)
        self.assertEqual(self.client.post(path, b"x" * 1000).status, 202)
        self.assertProblem(self.client.post(path, b"x" * 1001), 413, "too-large", limit=1000)


if __name__ == "__main__":
    harness.main()
