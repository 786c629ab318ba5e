"""tests/integration/test_join_records.py -- what the server writes of jobs that run after others, read by a decoder written from docs/format-log.md
and docs/format-records.md, not from the code.
"""
import ctypes
import json
import os
import struct
import unittest

import harness

try:
    XXHASH = ctypes.CDLL("libxxhash.so.0")
except OSError:
    harness.skip_all("libxxhash.so.0 cannot be loaded")
XXHASH.XXH3_64bits_withSeed.restype = ctypes.c_uint64
XXHASH.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]

BLOCK = 4096
FAILURES = ["cancel", "bury", "run", "wait"]


def types():
    """Their numbers, out of the document."""
    with open(os.path.join(os.path.dirname(__file__), "../../docs/format-records.md"), encoding="utf-8") as f:
        rows = [line.split("|") for line in f if line.startswith("| ") and line.count("|") >= 4]
    return {row[2].strip(): int(row[1]) for row in rows if row[1].strip().isdigit() and row[2].strip().replace("_", "").isupper()}


def segment(data):
    """(place, type, bytes) of each record."""
    assert data[:8] == b"WHLOGSEG"
    salt, base = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<Q", data, BLOCK + 24)[0]
    at = 2 * BLOCK
    while data[at:at + 4] == b"WHG1":
        length, payload = struct.unpack_from("<II", data, at + 16)
        here, end = at + 96, at + 96 + payload
        while here < end:
            check, size, kind, version, _, _, zero = struct.unpack_from("<IIBBHHH", data, here)
            place = base + here - 2 * BLOCK
            record = data[here:here + size]
            assert check == XXHASH.XXH3_64bits_withSeed(record[4:], size - 4, (salt + place) % 2**64) % 2**32
            assert version == 1 and zero == 0
            yield place, kind, record[16:]
            here += (size + 7) // 8 * 8
        at += length


def submit(record):
    """(id, options) by tag."""
    job, _, _, _, body, headers, options, kind, flags = struct.unpack_from("<QIIqIHHBB", record)
    assert len(record) == 40 + options + kind + headers + body and flags in (0, 1, 4) and not any(record[34:40])
    found, at = {}, 40
    while at < 40 + options:
        tag, size = struct.unpack_from("<BH", record, at)
        assert tag not in found
        found[tag] = record[at + 3:at + 3 + size]
        at += 3 + size
    assert at == 40 + options
    return job, found


class Records(unittest.TestCase):
    def records(self, server):
        for name in sorted(os.listdir(server.data)):
            if name.startswith("seg-") and name.endswith(".log"):
                with open(os.path.join(server.data, name), "rb") as f:
                    yield from segment(f.read())

    def joins(self, server, numbers):
        """Of each job that awaits others: the ids, how it ends with them, the delay. Each AFTER follows its SUBMIT."""
        found, last = {}, None
        for _, kind, record in self.records(server):
            if kind == numbers["AFTER"]:
                job, _ = struct.unpack_from("<Qq", record)
                ids = struct.unpack_from(f"<{len(record) // 8 - 2}Q", record, 16)
                self.assertEqual(len(record) % 8, 0)
                self.assertIsNotNone(last, "an AFTER that follows no SUBMIT of its own")
                self.assertEqual(last[0], job)
                self.assertEqual(struct.unpack("<I", last[1][24])[0], len(ids))
                self.assertTrue(all(0 < other < job for other in ids), (job, ids))
                failure = struct.unpack("<I", last[1][25])[0] if 25 in last[1] else 0
                found[job] = ids, FAILURES[failure], struct.unpack("<q", last[1][26])[0] if 26 in last[1] else 0
                last = None
                continue
            self.assertIsNone(last, "a SUBMIT that awaits others without its AFTER")
            if kind == numbers["SUBMIT"]:
                job, options = submit(record)
                self.assertTrue(24 in options or not {25, 26} & set(options))
                last = (job, options) if 24 in options else None
        self.assertIsNone(last)
        return found

    def test_joins(self):
        numbers = types()
        with harness.Server() as server:
            client = server.client()
            one, two, three = (client.submit("q", b"x") for _ in range(3))
            wanted = {}
            for query, ids, failure, delay in (("", (one,), "cancel", 0), ("&after-failure=bury", (two, one), "bury", 0),
                                               ("&after-failure=run&delay=90s", (one, two, three), "run", 90000),
                                               ("&after-failure=wait&unique=u&group=g&retention=1h", (three, three, one), "wait", 0)):
                answer = client.post(f"/v1/queues/then/jobs?after={','.join(map(str, ids))}{query}", b"body", Content_Type="text/plain")
                self.assertEqual(answer.status, 202, answer)
                wanted[answer.json()["id"]] = ids, failure, delay
            act = {"action": "submit", "queue": "then", "payload": "x"}
            graph = {"actions": [act, {**act, "after": [two, {"action": 0}]}, {**act, "after": [{"action": 1}, {"action": 0}]}]}
            answer = client.post("/v1/transactions", json.dumps(graph), Content_Type="application/json")
            first, second, third = (result["id"] for result in answer.json()["results"])
            wanted[second], wanted[third] = ((two, first), "cancel", 0), ((second, first), "cancel", 0)
            # what is refused leaves nothing of it
            self.assertEqual(client.post("/v1/queues/then/jobs?after=9007199254740991").status, 409)
            client.close()
            server.kill()
            self.assertEqual(self.joins(server, numbers), wanted)
            server.start()  # another life says nothing of them anew
            client = server.client()
            self.assertEqual(sorted(client.get(f"/v1/jobs/{third}").json()["awaits"]["jobs"]), [first, second])
            client.close()
            server.kill()
            self.assertEqual(self.joins(server, numbers), wanted)
            server.start()

    def test_ends(self):
        """A release is no record of its own; what is doomed gets its FINISH or BURY."""
        numbers = types()
        with harness.Server() as server:
            client = server.client()
            well, badly = client.submit("well", b"x"), client.submit("badly", b"x")
            released = client.submit("then", b"x", f"?after={well}")
            ends = {client.submit("then", b"x", f"?after={badly}&after-failure={how}"): how for how in FAILURES[:2]}
            job, lease, _ = client.reserve("well")
            self.assertEqual(client.complete(job, lease).status, 200)
            self.assertEqual(client.delete(f"/v1/jobs/{badly}").status, 200)
            for end, how in ends.items():
                harness.eventually(lambda end=end, how=how: client.get(f"/v1/jobs/{end}").json()["state"] ==
                                   {"cancel": "cancelled", "bury": "buried"}[how], "its end")
            self.assertEqual(client.get(f"/v1/jobs/{released}").json()["state"], "ready")
            client.close()
            server.kill()
            about = {}
            for _, kind, record in self.records(server):
                if kind in (numbers["FINISH"], numbers["BURY"], numbers["KICK"]):
                    about.setdefault(struct.unpack_from("<Q", record)[0], []).append(kind)
            self.assertNotIn(released, about)
            self.assertEqual({job: about[job] for job in ends}, dict(zip(ends, ([numbers["FINISH"]], [numbers["BURY"]]))))
            server.start()


if __name__ == "__main__":
    harness.main()
