"""tests/integration/test_gateway_backends.py -- services with several backends: balance, circuits, health checks, retries, time-outs."""
import datetime
import re
import socket
import unittest

import backend
import harness


class Backends(harness.Case):
    def setUp(self):
        super().setUp()
        self.backends = [backend.Backend(), backend.Backend()]
        self.service = f"s{self.counter}"

    def tearDown(self):
        for one in self.backends:
            one.stop()
        super().tearDown()

    def free_port(self):
        """A port that nobody listens on, held so that nobody else gets it."""
        s = socket.socket()
        self.addCleanup(s.close)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a backend may come to listen there
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

    def configure(self, urls=None, **more):
        urls = urls or [one.url for one in self.backends]
        answer = self.client.put(f"/v1/services/{self.service}", dict(urls=urls, **more))
        self.assertIn(answer.status, (200, 201), answer)

    def call(self, path, method="GET", body=None, **headers):
        return self.client.request(method, f"/call/{self.service}{path}", body, **headers)

    def shown(self):
        return {one["url"]: one for one in self.client.get(f"/v1/services/{self.service}").json()["backends"]}

    def finished(self, location):
        return self.client.get(location, Prefer="wait=20").json()


class Balance(Backends):
    def test_fewest_under_way(self):
        self.configure(concurrency=6)
        answers = [self.call(f"/gate?{i}", Prefer="respond-async") for i in range(6)]
        for one in self.backends:
            harness.eventually(lambda one=one: len(one.calls) == 3, "three calls each")
        self.assertEqual({one["outstanding"] for one in self.shown().values()}, {3})
        for one in self.backends:
            one.gate.set()
        for answer in answers:
            self.assertEqual(self.finished(answer["Location"])["state"], "done")
        self.assertEqual({(one["state"], one["outstanding"], one["calls"], one["failures"]) for one in self.shown().values()},
                         {("up", 0, 3, 0)})

    def test_changed_service_goes_on(self):
        self.configure()
        for _ in range(4):
            self.call("/x")
        self.configure([self.backends[1].url], concurrency=2)
        self.assertEqual(self.shown()[self.backends[1].url]["calls"], 2)
        self.assertEqual(self.call("/x").status, 200)
        document = self.client.get(f"/v1/services/{self.service}").json()
        self.assertEqual((document["url"], document["backends"][0]["calls"]), (self.backends[1].url, 3))
        self.assertEqual(self.client.put(f"/v1/services/{self.service}", document).status, 200, "what is shown may be sent back")

    def test_refusals(self):
        path = f"/v1/services/{self.service}"
        self.assertProblem(self.client.put(path, {"urls": ["http://h/a", "http://h/b"]}), 422, "bad-value")
        self.assertProblem(self.client.put(path, {"urls": []}), 400, "bad-json")
        self.assertProblem(self.client.put(path, {"url": "http://h", "breaker": {"x": 1}}), 400, "bad-json")
        self.assertProblem(self.client.get(path), 404, "unknown-service")

    def test_metrics(self):
        self.configure()
        self.call("/x")
        self.call("/x")
        text = self.client.get("/metrics").body.decode()
        for one in self.backends:
            labels = re.escape(f'{{service="{self.service}",backend="{one.url}"}}')
            self.assertRegex(text, rf"(?m)^whilst_backend_calls_total{labels} 1$")
            self.assertRegex(text, rf"(?m)^whilst_backend_up{labels} 1$")


class Unreachable(Backends):
    def test_another_backend_gets_it(self):
        """One of two is gone: whatever passes through reaches the other, with its body, and soon the dead one is left alone."""
        url = f"http://127.0.0.1:{self.free_port()}"
        self.configure([url, self.backends[1].url], breaker={"failures": 3, "open": "1h"})
        for i in range(8):
            self.assertEqual(self.call("/x", "POST", b"body %d" % i).json()["body"], f"body {i}")
        self.assertEqual(self.call("/x", "POST", iter([b"ab", b"c" * 300000])).json()["body"], "ab" + "c" * 300000)
        self.assertEqual(self.call("/x").status, 200)
        dead = self.shown()[url]
        self.assertEqual((dead["state"], dead["failures"], dead["calls"], dead["circuits_opened"]), ("open", 3, 3, 1))
        self.assertEqual(dead["last_error"], "Connection refused")

    def test_recorded_too(self):
        self.configure([f"http://127.0.0.1:{self.free_port()}", self.backends[1].url], attempts=1)
        for i in range(6):
            answer = self.call("/x", "POST", b"%d" % i, Prefer="wait=20")
            self.assertEqual((answer.status, answer.json()["body"]), (200, str(i)))

    def test_none_left(self):
        held = [self.free_port(), self.free_port()]
        self.configure([f"http://127.0.0.1:{port}" for port in held], breaker={"failures": 1, "open": "1h"})
        problem = self.assertProblem(self.call("/x", "POST", b"y"), 502, "backend-unreachable")
        self.assertEqual((problem["stage"], problem["backends"], problem["tried"]), ("connect", 2, 2))
        answer = self.call("/x")
        problem = self.assertProblem(answer, 503, "backend-unavailable")
        self.assertEqual((problem["backends"], problem["down"], problem["open"]), (2, 0, 2))
        self.assertGreater(int(answer["Retry-After"]), 3000)

    def test_what_reached_a_backend_goes_to_no_other(self):
        self.configure()
        for path in ("/drop", "/garbage"):
            before = sum(one.counts.get(path, 0) for one in self.backends)
            problem = self.assertProblem(self.call(path, "POST", b"x"), 502, "backend-error")
            self.assertEqual(sum(one.counts.get(path, 0) for one in self.backends), before + 1)
            self.assertEqual(problem["tried"], 1)

    def test_circuit_closes(self):
        """A trial finds that the backend is back; what is recorded meanwhile waits and loses no attempt."""
        port = self.free_port()
        self.configure([f"http://127.0.0.1:{port}"], breaker={"failures": 1, "open": "100ms"}, attempts=50,
                       backoff={"initial": "1ms", "max": "10ms"})
        self.assertProblem(self.call("/x"), 502, "backend-unreachable")
        answers = [self.call("/x", "POST", b"x", Prefer="respond-async") for _ in range(5)]
        harness.eventually(lambda: self.shown()[f"http://127.0.0.1:{port}"]["failures"] >= 3, "trials")
        self.backends.append(backend.Backend(port))
        for answer in answers:
            self.assertEqual(self.finished(answer["Location"])["state"], "done")
        self.assertEqual(self.shown()[f"http://127.0.0.1:{port}"]["state"], "up")
        self.assertEqual(self.call("/x").status, 200)

    def test_no_circuit(self):
        port = self.free_port()
        self.configure([f"http://127.0.0.1:{port}"], breaker={"failures": 0})
        for _ in range(10):
            self.assertProblem(self.call("/x"), 502, "backend-unreachable")


class TimeOuts(Backends):
    def test_first_byte(self):
        self.configure(timeout="20s", first_byte_timeout="100ms", attempts=1)
        problem = self.assertProblem(self.call("/sleep/10"), 504, "backend-timeout")
        self.assertEqual(problem["stage"], "response")
        problem = self.assertProblem(self.call("/sleep/10", Prefer="wait=20"), 504, "job-failed")
        message = problem["job"]["errors"][0]["message"]
        self.assertIn("within 100ms", message)
        self.assertIn("waiting for the response", message)

    def test_total(self):
        """The head of the answer is here, the rest is not."""
        self.configure(timeout="300ms", first_byte_timeout="20s", attempts=1)
        problem = self.assertProblem(self.call("/slow-pieces", Prefer="wait=20"), 504, "job-failed")
        self.assertIn("within 300ms", problem["job"]["errors"][0]["message"])

    def test_connect(self):
        """A listener whose line is full answers nobody: the kernel lets connections wait."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = []
            self.addCleanup(lambda: [s.close() for s in waiting])
            while True:
                s = socket.socket()
                waiting.append(s)
                s.settimeout(0.3)
                try:
                    s.connect(full.getsockname())
                except (TimeoutError, socket.timeout):
                    break
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            self.configure([url], connect_timeout="150ms", attempts=1)
            problem = self.assertProblem(self.call("/x", "POST", b"y"), 504, "backend-timeout")
            self.assertEqual((problem["stage"], problem["backends"]), ("connect", 1))
            problem = self.assertProblem(self.call("/x", Prefer="wait=20"), 504, "job-failed")
            self.assertIn("within 150ms", problem["job"]["errors"][0]["message"])
            self.assertIn("nothing was sent", problem["job"]["errors"][0]["message"])
            # with another backend beside it, it is that one's turn
            self.configure([url, self.backends[0].url], connect_timeout="150ms")
            for _ in range(2):
                self.assertEqual(self.call("/x", "POST", b"there").json()["body"], "there")


class Retries(Backends):
    def configure_one(self, **more):
        self.configure([self.backends[0].url], **more)

    def test_statuses(self):
        self.configure_one(retry_statuses=[502, 503, 429], attempts=3, backoff={"initial": "1ms", "max": "2ms"})
        for status in (502, 503, 429):
            answer = self.call(f"/busy-then/{status}/2/", Prefer="wait=20")
            self.assertEqual((answer.status, answer.body), (200, b"at last"))
            document = self.client.get(f"/v1/jobs/{answer['Whilst-Job']}").json()
            self.assertEqual((document["attempts"], len(document["errors"])), (3, 2))
            self.assertIn(f"status {status}", document["errors"][0]["message"])
        self.assertEqual(self.call("/busy-then/500/1/", Prefer="wait=20").status, 500, "not one of them")

    def test_the_last_answer_is_the_result(self):
        self.configure_one(retry_statuses=[503], attempts=2, backoff={"initial": "1ms"})
        answer = self.call("/status/503", Prefer="wait=20")
        self.assertEqual((answer.status, answer.body, answer["X-Backend"]), (503, b"status 503", "yes"))
        self.assertEqual(self.backends[0].counts["/status/503"], 2)

    def test_none_by_default(self):
        self.configure_one(attempts=3)
        self.assertEqual(self.call("/busy-then/503/1/1", Prefer="wait=20").status, 503)

    def test_passing_through_is_one_attempt(self):
        self.configure_one(retry_statuses=[503], attempts=3)
        self.assertEqual(self.call("/busy-then/503/1/1").status, 503)

    def test_retry_after(self):
        self.configure_one(retry_statuses=[503], attempts=2, backoff={"initial": "1ms", "max": "1ms"})
        answer = self.call("/busy-then/503/1/1", Prefer="wait=20")
        self.assertEqual(answer.body, b"at last")
        document = self.client.get(f"/v1/jobs/{answer['Whilst-Job']}").json()
        at = [datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
              for text in (document["errors"][0]["at"], document["finished_at"])]
        self.assertGreaterEqual((at[1] - at[0]).total_seconds(), 0.99)

    def test_post(self):
        self.configure_one(retry_statuses=[503], attempts=3, backoff={"initial": "1ms"})
        self.assertEqual(self.call("/busy-then/503/1/", "POST", b"x", Prefer="wait=20").status, 503, "sent once")
        self.configure_one(retry_statuses=[503], attempts=3, backoff={"initial": "1ms"}, retry_post=True)
        self.assertEqual(self.call("/busy-then/503/2/?", "POST", b"x", Prefer="wait=20").body, b"at last")
        answer = self.call("/drop-then/2", "POST", b"x", Prefer="wait=20")
        self.assertEqual((answer.status, answer.body), (200, b"at last"))

    def test_statuses_open_the_circuit(self):
        self.configure_one(retry_statuses=[503, 429], breaker={"failures": 2, "open": "1h"})
        for _ in range(5):
            self.assertEqual(self.call("/status/429").status, 429, "it is there, and busy")
        for _ in range(2):
            self.assertEqual(self.call("/status/503").status, 503)
        self.assertProblem(self.call("/status/200"), 503, "backend-unavailable")
        self.assertEqual(self.shown()[self.backends[0].url]["last_error"], "status 503")


class Health(Backends):
    CHECK = {"path": "/healthz", "interval": "20ms", "timeout": "10s", "healthy": 1, "unhealthy": 2}

    def becomes(self, index, state):
        harness.eventually(lambda: self.shown()[self.backends[index].url]["state"] == state, state)

    def test_down_and_up(self):
        self.configure(health=self.CHECK)
        self.backends[0].well = False
        self.becomes(0, "down")
        for i in range(6):
            self.call(f"/x/{i}")
        self.assertNotIn(("GET", "/x"), [(method, path[:2]) for method, path in self.backends[0].calls])
        shown = self.shown()[self.backends[0].url]
        self.assertGreaterEqual(shown["checks_failed"], 2)
        self.assertEqual(shown["calls"], 0, "a check is no call")
        self.backends[0].well = True
        self.becomes(0, "up")
        for i in range(2):
            self.call(f"/y/{i}")
        self.assertIn("/y", [path[:2] for _, path in self.backends[0].calls])
        self.server.logged("ev=backend-health")

    def test_all_down(self):
        """What passes through is told at once; what is recorded waits, and loses no attempt."""
        self.configure([self.backends[0].url], health=self.CHECK, attempts=1)
        self.backends[0].well = False
        self.becomes(0, "down")
        answer = self.call("/x")
        problem = self.assertProblem(answer, 503, "backend-unavailable")
        self.assertEqual((problem["down"], answer["Retry-After"]), (1, "1"))
        answer = self.call("/x", Prefer="respond-async")
        document = self.client.get(answer["Location"]).json()
        self.assertEqual((document["state"], document["errors"]), ("ready", []))
        self.backends[0].well = True
        document = self.finished(answer["Location"])
        self.assertEqual((document["state"], document["attempts"]), ("done", 1))

    def test_one_that_hangs(self):
        self.configure(health=dict(self.CHECK, path="/gate", timeout="50ms", unhealthy=1))
        self.becomes(0, "down")
        self.becomes(1, "down")

    def test_no_checks_any_more(self):
        self.configure(health=self.CHECK)
        self.backends[0].well = False
        self.becomes(0, "down")
        self.configure()
        self.becomes(0, "up")
        count = len(self.backends[0].calls)
        self.configure([self.backends[1].url], health=self.CHECK)
        harness.eventually(lambda: len(self.backends[1].calls) > 10, "checks of the other")
        self.assertLessEqual(len(self.backends[0].calls), count + 1, "one may have been under way")


class WaitEnd(Backends):
    def test_cancel(self):
        self.configure(on_wait_end="cancel")
        answer = self.call("/gate", "POST", b"x", Prefer="wait=1")
        problem = self.assertProblem(answer, 504, "wait-ended")
        self.assertEqual(self.finished(f"/v1/jobs/{problem['job']}")["state"], "cancelled")
        self.assertEqual(sum(one["outstanding"] for one in self.shown().values()), 0, "broken off, the gate being closed")

    def test_continue(self):
        self.configure(on_wait_end="continue")
        answer = self.call("/gate", "POST", b"x", Prefer="wait=1")
        self.assertEqual(answer.status, 202)
        for one in self.backends:
            one.gate.set()
        self.assertEqual(self.finished(answer["Location"])["state"], "done")

    def test_done_in_time(self):
        self.configure(on_wait_end="cancel")
        self.assertEqual(self.call("/x", "POST", b"x", Prefer="wait=20").json()["body"], "x")

    def test_cancelled_by_hand(self):
        self.configure()
        answer = self.call("/gate", "POST", b"x", Prefer="respond-async")
        harness.eventually(lambda: any(one.calls for one in self.backends), "the call")
        self.assertEqual(self.client.delete(answer["Location"]).status, 202)
        self.assertEqual(self.finished(answer["Location"])["state"], "cancelled", "without the gate being opened")


class Restart(unittest.TestCase):
    def test_the_whole_configuration_survives(self):
        with harness.Server() as server:
            client = server.client()
            wanted = {"urls": ["http://127.0.0.1:1/b", "http://127.0.0.1:2/b"], "connect_timeout": "1s",
                      "retry_statuses": [503], "retry_post": True, "on_wait_end": "cancel",
                      "backoff": {"initial": "10ms", "max": "1s"}, "breaker": {"failures": 7, "open": "9s"},
                      "health": {"path": "/h", "interval": "1h", "timeout": "1s", "healthy": 4, "unhealthy": 5}}
            self.assertEqual(client.put("/v1/services/s", wanted).status, 201)
            client.close()
            server.stop()
            server.start()
            client = server.client()
            shown = client.get("/v1/services/s").json()
            self.assertEqual({name: shown[name] for name in wanted}, wanted)
            client.close()


if __name__ == "__main__":
    harness.main()
