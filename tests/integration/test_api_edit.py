"""tests/integration/test_api_edit.py -- other values for a job that is there: docs/reference/http.md, "PATCH /v1/jobs/{id}"."""
import json

import harness

PATCH = "application/merge-patch+json"


class Edit(harness.Case):
    def patch(self, job, patch, **headers):
        headers.setdefault("Content_Type", PATCH)
        body = patch if isinstance(patch, bytes) else json.dumps(patch)
        return self.client.request("PATCH", f"/v1/jobs/{job}", body, **headers)

    def edited(self, job, patch, **headers):
        answer = self.patch(job, patch, **headers)
        self.assertEqual(answer.status, 200, answer)
        document = answer.json()
        self.assertEqual(document, self.client.get(f"/v1/jobs/{job}").json())
        return document

    def test_every_value_and_back(self):
        job = self.client.submit(self.queue)
        before = self.client.get(f"/v1/jobs/{job}").json()
        document = self.edited(job, {"priority": 3, "run_at": "2100-01-01T00:00:00Z", "time_to_run": "90s", "attempts_max": 7,
                                     "retention": "2d", "expires_at": "2100-01-02T00:00:00Z"})
        self.assertEqual({key: value for key, value in document.items() if value != before[key]},
                         {"state": "delayed", "priority": 3, "run_at": "2100-01-01T00:00:00.000Z", "time_to_run": "90s",
                          "attempts_max": 7, "retention": "2d", "expires_at": "2100-01-02T00:00:00.000Z"})
        self.assertEqual(self.edited(job, {"priority": None, "run_at": None, "time_to_run": None, "attempts_max": None,
                                           "retention": None, "expires_at": None}), before)
        self.assertEqual(self.edited(job, {}), before)
        document = self.edited(job, {"delay": "1h", "expires": "2h", "retention": "0s"})
        self.assertEqual((document["state"], document["retention"]), ("delayed", "0s"))
        self.assertLess(document["run_at"], document["expires_at"])
        self.assertEqual(self.edited(job, {"delay": None})["state"], "ready")

    def test_answer(self):
        job = self.client.submit(self.queue)
        first = self.client.get(f"/v1/jobs/{job}")
        for level in ("local", "async"):
            answer = self.patch(job, {"priority": 3}, Whilst_Commit=level)
            self.assertEqual((answer.status, answer["Whilst-Commit"], answer["Content-Type"]), (200, level, "application/json"))
            self.assertRegex(answer["Whilst-Position"], r"^\d+/\d+$")
            self.assertNotEqual(answer["ETag"], first["ETag"])
        self.assertEqual(self.client.get(f"/v1/jobs/{job}", If_None_Match=answer["ETag"]).status, 304)
        self.assertProblem(self.patch(job, {}, Whilst_Commit="remote-flush"), 422, "level-unavailable")

    def test_order(self):
        jobs = [self.client.submit(self.queue) for _ in range(3)]
        self.edited(jobs[2], {"priority": 0})
        self.edited(jobs[0], {"delay": "1h"})
        self.assertEqual([self.client.reserve(self.queue)[0] for _ in range(2)], [jobs[2], jobs[1]])
        self.assertEqual(self.client.post(f"/v1/queues/{self.queue}/reserve").status, 204)

    def test_states(self):
        job = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        self.edited(job, {"priority": 5, "retention": "3h", "time_to_run": "5m", "attempts_max": 1})
        for patch in ({"run_at": None}, {"delay": "5s"}, {"expires": "5s"}, {"expires_at": None, "priority": 6}):
            problem = self.assertProblem(self.patch(job, patch), 409, "wrong-state", state="running")
            self.assertIn("run_at", problem["detail"])
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["priority"], 5)  # nothing of it was done
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/bury", Whilst_Lease=lease).status, 200)
        self.assertProblem(self.patch(job, {"delay": "1s"}), 409, "wrong-state", state="buried")
        problem = self.assertProblem(self.patch(job, {"attempts_max": 1}), 422, "bad-value")
        self.assertIn("attempts_max", problem["detail"])
        self.edited(job, {"attempts_max": 2})
        self.assertEqual(self.client.delete(f"/v1/jobs/{job}").status, 200)
        self.assertProblem(self.patch(job, {"priority": 1}), 409, "job-finished", state="cancelled")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["retention"], "3h")
        self.assertProblem(self.patch(9007199254740000, {"priority": 1}), 404, "unknown-job")

    def test_if_match(self):
        job = self.client.submit(self.queue)
        tag = self.client.get(f"/v1/jobs/{job}")["ETag"]
        for wrong in ('"0"', f"W/{tag}", '"x", ""', f'"{tag[1:-1]}0"'):
            with self.subTest(wrong):
                self.assertProblem(self.patch(job, {"priority": 1}, If_Match=wrong), 412, "precondition-failed")
        answer = self.patch(job, {"priority": 1}, If_Match=f'"0", {tag}')
        self.assertEqual(answer.status, 200, answer)
        self.assertProblem(self.patch(job, {"priority": 2}, If_Match=tag), 412, "precondition-failed")
        self.assertEqual(self.patch(job, {"priority": 2}, If_Match=answer["ETag"]).status, 200)
        self.assertEqual(self.patch(job, {"priority": 3}, If_Match="*").status, 200)
        for bad in ("abc", '"abc', ",".join(['"1"'] * 9)):
            with self.subTest(bad):
                self.assertProblem(self.patch(job, {"priority": 4}, If_Match=bad), 400, "bad-request")
        self.assertEqual(self.client.get(f"/v1/jobs/{job}").json()["priority"], 3)

    def test_bodies(self):
        job = self.client.submit(self.queue)
        cases = [(b"", 400, "bad-json"), (b"{", 400, "bad-json"), (b"[]", 400, "bad-json"), (b'{"priority":1,"priority":2}', 400, "bad-json"),
                 ({"pritority": 1}, 400, "bad-json"), ({"priority": "1"}, 400, "bad-json"), ({"priority": 1.5}, 400, "bad-json"),
                 ({"priority": -1}, 422, "bad-value"), ({"priority": 1 << 32}, 422, "bad-value"),
                 ({"attempts_max": 0}, 422, "bad-value"), ({"attempts_max": 1001}, 422, "bad-value"),
                 ({"time_to_run": "0s"}, 422, "bad-value"), ({"time_to_run": "31d"}, 422, "bad-value"), ({"retention": 5}, 400, "bad-json"),
                 ({"run_at": "tomorrow"}, 400, "bad-json"), ({"run_at": None, "delay": "1s"}, 400, "bad-json"),
                 ({"delay": "4000d"}, 422, "bad-value"), ({"expires": "0s"}, 422, "bad-value"), ({"queue": "other"}, 422, "bad-value"),
                 ({"state": "ready"}, 422, "bad-value"), ({"attempts": 0}, 422, "bad-value"), ({"id": 5}, 422, "bad-value")]
        for patch, status, code in cases:
            with self.subTest(patch):
                self.assertProblem(self.patch(job, patch), status, code)
        self.assertEqual(self.patch(job, {"priority": 9}, Content_Type="application/json").status, 200)
        answer = self.patch(job, b"priority=1", Content_Type="application/x-www-form-urlencoded")
        self.assertProblem(answer, 415, "wrong-content-type")
        self.assertEqual(answer["Accept-Patch"], PATCH)
        self.assertProblem(self.client.request("PATCH", f"/v1/jobs/{job}?x=1", "{}", Content_Type=PATCH), 400, "bad-request")

    def test_stays_over_a_restart(self):
        with harness.Server() as server:
            client = server.client()
            job = client.submit("q")
            answer = client.request("PATCH", f"/v1/jobs/{job}", '{"priority": 3, "delay": "1h", "attempts_max": 9}', Content_Type=PATCH)
            self.assertEqual(answer.status, 200, answer)
            server.kill()
            server.start()
            again = server.client().get(f"/v1/jobs/{job}")
            self.assertEqual((again.json(), again["ETag"]), (answer.json(), answer["ETag"]))


class Events(harness.Case):
    def test_who_follows_is_told(self):
        job = self.client.submit(self.queue)
        stream = harness.http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
        stream.request("GET", f"/v1/queues/{self.queue}/events")
        lines = stream.getresponse()
        self.client.request("PATCH", f"/v1/jobs/{job}", '{"delay": "1h"}', Content_Type=PATCH)
        data = next(line for line in lines if line.startswith(b"data: ") and b"change" in line)
        event = json.loads(data[6:])
        self.assertEqual((event["id"], event["state"], event["change"]), (job, "delayed", "edit"))
        stream.close()


if __name__ == "__main__":
    harness.main()
