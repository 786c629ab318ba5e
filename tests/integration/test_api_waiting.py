"""tests/integration/test_api_waiting.py -- a wait cannot miss its event, and a waiter that leaves takes nothing with it."""
import json
import os
import socket
import subprocess
import threading
import time

import harness

ROUNDS = int(os.environ.get("WHILST_TEST_ROUNDS", "150"))


class Waiting(harness.Case):
    def test_submit_and_wait(self):
        def work():
            with_client = self.server.client()
            job, lease, payload = with_client.reserve(self.queue, Prefer="wait=20")
            with_client.complete(job, lease, payload.upper(), "?status=203", Content_Type="text/plain")
        worker = threading.Thread(target=work)
        worker.start()
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"hello", Prefer="wait=20")
        worker.join()
        self.assertEqual((answer.status, answer.body, answer["Content-Type"]), (203, b"HELLO", "text/plain"))
        self.assertEqual(answer["Preference-Applied"], "wait=20")
        self.assertIn("Prefer", answer["Vary"])
        self.assertTrue(int(answer["Whilst-Job"]))

    def test_submit_and_wait_in_vain(self):
        start = time.monotonic()
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Prefer="respond-async, wait=1")
        self.assertEqual((answer.status, answer["Preference-Applied"]), (202, "respond-async, wait=1"))
        self.assertTrue(0.99 <= time.monotonic() - start < 10)
        self.assertEqual(answer.json()["state"], "ready")

    def test_submit_and_wait_for_a_failure(self):
        def work():
            client = self.server.client()
            job, lease, _ = client.reserve(self.queue, Prefer="wait=20")
            client.post(f"/v1/jobs/{job}/fail?retry=false", b"no", Whilst_Lease=lease)
            job, lease, _ = client.reserve(self.queue, Prefer="wait=20")
            client.delete(f"/v1/jobs/{job}")
            client.complete(job, lease)
        worker = threading.Thread(target=work)
        worker.start()
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Prefer="wait=20")
        self.assertEqual(self.assertProblem(answer, 502, "job-failed")["job"]["errors"][0]["message"], "no")
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Prefer="wait=20")
        self.assertProblem(answer, 409, "job-cancelled")
        worker.join()

    def test_poll_and_wait(self):
        job = self.client.submit(self.queue)
        start = time.monotonic()
        answer = self.client.get(f"/v1/jobs/{job}", Prefer="wait=1")
        self.assertEqual((answer.status, answer.json()["state"], answer["Preference-Applied"]), (200, "ready", "wait=1"))
        self.assertGreaterEqual(time.monotonic() - start, 0.99)
        self.assertProblem(self.client.get(f"/v1/jobs/{job}/result", Prefer="wait=1"), 409, "not-ready")
        tag = answer["ETag"]
        self.assertEqual(self.client.get(f"/v1/jobs/{job}", Prefer="wait=0", If_None_Match=tag).status, 304)

    def test_every_order(self):
        """Waiters that come before, while and after the end all learn of it, and none waits its time out."""
        worker, waiter = self.server.client(), self.server.client()
        for i in range(ROUNDS):
            job = self.client.submit(self.queue)
            _, lease, _ = worker.reserve(self.queue)
            got = []

            def wait():
                got.append(waiter.get(f"/v1/jobs/{job}{'/result' if i % 2 else ''}", Prefer="wait=20"))
            thread = threading.Thread(target=wait)
            start = time.monotonic()
            if i % 3 == 0:
                thread.start()
                worker.complete(job, lease, b"%d" % i)
            elif i % 3 == 1:
                worker.complete(job, lease, b"%d" % i)
                thread.start()
            else:
                finisher = threading.Thread(target=lambda: worker.complete(job, lease, b"%d" % i))
                finisher.start()
                thread.start()
                finisher.join()
            thread.join()
            self.assertLess(time.monotonic() - start, 10)
            self.assertEqual(got[0].status, 200, got)
            if i % 2:
                self.assertEqual(got[0].body, b"%d" % i)
            else:
                self.assertEqual(got[0].json()["state"], "done")

    def test_many_wait_for_one(self):
        job = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        got = []
        threads = [threading.Thread(target=lambda: got.append(
            self.server.client().get(f"/v1/jobs/{job}/result", Prefer="wait=20").body)) for _ in range(40)]
        for t in threads:
            t.start()
        self.client.complete(job, lease, b"all")
        for t in threads:
            t.join()
        self.assertEqual(got, [b"all"] * 40)

    def test_many_workers_one_job_each(self):
        got = []
        threads = [threading.Thread(target=lambda: got.append(
            self.server.client().reserve(self.queue, Prefer="wait=20")[0])) for _ in range(30)]
        for t in threads:
            t.start()
        jobs = [self.client.submit(self.queue) for _ in range(30)]
        for t in threads:
            t.join()
        self.assertEqual(sorted(got), jobs)

    def test_a_worker_that_leaves_swallows_no_job(self):
        """A parked reservation whose connection is gone must not take the job that comes next."""
        request = (f"POST /v1/queues/{self.queue}/reserve HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                   "Prefer: wait=60\r\n\r\n").encode()
        for i in range(ROUNDS):
            s = socket.create_connection(("127.0.0.1", self.server.port))
            s.sendall(request)
            if i % 3:
                # parked for certain once its connection has answered something pipelined before it
                harness.eventually(lambda: self.client.get(f"/v1/queues/{self.queue}").status in (200, 404))
            if i % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
            job = self.client.submit(self.queue, query="?time-to-run=200ms&attempts=100")
            status = 409
            while status == 409:  # on a busy machine a lease of 200 ms may be over
                got = self.client.reserve(self.queue, Prefer="wait=20")
                self.assertIsNotNone(got)
                self.assertEqual(got[0], job)
                status = self.client.complete(got[0], got[1]).status
            self.assertEqual(status, 200)

    def test_a_waiter_that_leaves(self):
        job = self.client.submit(self.queue)
        for i in range(50):
            s = socket.create_connection(("127.0.0.1", self.server.port))
            s.sendall(f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n\r\n".encode())
            s.close()
        _, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(self.client.complete(job, lease).status, 200)

    def test_pipelined_behind_a_wait(self):
        job = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n\r\n"
                      "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.client.complete(job, lease)
            first, rest = harness.read_answer(s)
            second, _ = harness.read_answer(s, rest)
            self.assertEqual((first.json()["state"], second.body), ("done", b"ok\n"))

    def test_clamped(self):
        job = self.client.submit(self.queue)
        self.client.reserve(self.queue)
        self.client.delete(f"/v1/jobs/{job}")
        done = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        self.client.complete(done, lease)
        answer = self.client.get(f"/v1/jobs/{done}", Prefer="wait=100000")
        self.assertEqual(answer["Preference-Applied"], "wait=300")

    def events(self, query="", **headers):
        """An open event stream: the socket, to be read by next_event()."""
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE)
        self.addCleanup(s.close)
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        s.sendall(f"GET /v1/log{query} HTTP/1.0\r\nAccept: text/event-stream\r\n{fields}\r\n".encode())
        stream = s.makefile("rb")
        self.addCleanup(stream.close)
        status = int(stream.readline().split()[1])
        head = {}
        for line in iter(stream.readline, b"\r\n"):
            name, value = line.decode().rstrip("\r\n").split(": ", 1)
            head[name] = value
        return status, head, stream

    @staticmethod
    def next_event(stream):
        """{"event": ..., "id": ..., "data": ...}, or None at the end. Comments are passed over."""
        event = {}
        for line in stream:
            line = line.decode().rstrip("\n")
            if line == "" and event:
                event["data"] = json.loads(event["data"])
                return event
            if line and not line.startswith(":"):
                name, value = line.split(": ", 1)
                event[name] = value
        return None

    def test_log_events(self):
        """An asynchronous commit, told of when it is on disk."""
        position = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit="async")["Whilst-Position"]
        status, head, stream = self.events(f"?position={position}&level=local")
        self.assertEqual((status, head["Content-Type"]), (200, "text/event-stream"))
        seen = []
        while not seen or seen[-1]["event"] != "reached":
            seen.append(self.next_event(stream))
        self.assertEqual(seen[-1]["data"], {"position": position, "level": "local"})
        self.assertIsNone(self.next_event(stream), "it ends there")
        # a client that connects again by itself is told to stop
        status, _, _ = self.events(f"?position={position}&level=local", Last_Event_ID=seen[-1]["id"])
        self.assertEqual(status, 204)

    def test_log_events_by_curl(self):
        """The command of the reference, as it stands there."""
        reference = os.path.join(os.path.dirname(__file__), "../../docs/reference/http.md")
        with open(reference, encoding="utf-8") as f:
            command = next(line for line in f if line.startswith("curl -sN") and "/v1/log?" in line)
        position = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit="async")["Whilst-Position"]
        done = subprocess.run(["sh", "-c", command.replace("127.0.0.1:4480", f"127.0.0.1:{self.server.port}")],
                              env=dict(os.environ, position=position), capture_output=True, text=True, check=True,
                              timeout=harness.DEADLINE)
        self.assertIn(f'event: reached\nid: {position} reached\ndata: {{"position":"{position}","level":"local"}}\n\n',
                      done.stdout)

    def test_log_events_follow(self):
        _, _, stream = self.events("?level=local")
        event = self.next_event(stream)
        for _ in range(5):
            position = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x")["Whilst-Position"]
            lsn = int(position.split("/")[1])
            while int(event["data"]["flushed"].split("/")[1]) < lsn:
                before, event = event, self.next_event(stream)
                self.assertEqual(event["event"], "log")
                self.assertEqual(event["id"], event["data"]["flushed"])
                self.assertGreater(int(event["id"].split("/")[1]), int(before["id"].split("/")[1]))

    def test_log_events_refused(self):
        epoch = self.client.get("/v1/log").json()["epoch"]
        for query, status in (("?position=x", 400), (f"?position={epoch}/999999999999", 422), ("?level=remote-write", 422)):
            self.assertEqual(self.events(query)[0], status)

    def test_log_position(self):
        answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit="async")
        position = answer["Whilst-Position"]
        answer = self.client.get(f"/v1/log?position={position}&level=local", Prefer="wait=20")
        self.assertEqual((answer.status, answer.json()), (200, {"position": position, "level": "local", "reached": True}))
        log = self.client.get("/v1/log").json()
        epoch = log["epoch"]
        for name in ("appended", "written", "flushed"):
            self.assertRegex(log[name], rf"^{epoch}/\d+$")
        answer = self.client.get(f"/v1/log?position={epoch}/999999999999&level=async", Prefer="wait=1")
        self.assertProblem(answer, 422, "bad-value")
        for bad in ("x", "1", "1/", "/1", "1/x", "1/2/3", ""):
            self.assertProblem(self.client.get(f"/v1/log?position={bad}&level=local"), 400, "bad-request")
        self.assertProblem(self.client.get(f"/v1/log?position={position}&level=remote-flush"), 422, "level-unavailable")
        self.assertProblem(self.client.get(f"/v1/log?position={epoch + 7}/1&level=local"), 422, "bad-value")


class ShortWaits(harness.Case):
    ARGS = ("--max-wait", "1s")

    def test_clamped(self):
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Prefer="wait=60")
        self.assertEqual((answer.status, answer["Preference-Applied"]), (204, "wait=1"))


class Lost(harness.unittest.TestCase):
    def test_position_beyond_the_end_of_its_epoch(self):
        with harness.Server() as server:
            client = server.client()
            client.submit("q")
            log = client.get("/v1/log").json()
            client.close()
            server.kill()
            server.start()
            client = server.client()
            epoch = log["epoch"]
            document = client.get("/v1/log").json()
            self.assertGreater(document["epoch"], epoch)
            (end,) = [e["end"] for e in document["epochs"] if e["epoch"] == epoch]
            answer = client.get(f"/v1/log?position={epoch}/{end}&level=local")
            self.assertTrue(answer.json()["reached"])
            answer = client.get(f"/v1/log?position={epoch}/{end + 1}&level=local")
            self.assertEqual((answer.status, answer.json()["code"], answer.json()["end"]), (410, "lost", f"{epoch}/{end}"))
            for accept in ("text/event-stream", "*/*"):
                self.assertEqual(client.get(f"/v1/log?position={epoch}/{end + 1}", Accept=accept).status, 410)
            # a stream that was cut off by the crash learns what of it is gone
            for last, first in ((end, "log"), (end + 1, "lost")):
                with socket.create_connection(("127.0.0.1", server.port), timeout=harness.DEADLINE) as s:
                    s.sendall(b"GET /v1/log HTTP/1.0\r\nAccept: text/event-stream\r\n"
                              b"Last-Event-ID: %d/%d\r\n\r\n" % (epoch, last))
                    got = b""
                    while b"data: " not in got.partition(b"\r\n\r\n")[2]:
                        got += s.recv(4096)
                    self.assertIn(b"\r\n\r\nevent: %s\n" % first.encode(), got)
            client.close()


if __name__ == "__main__":
    harness.main()
