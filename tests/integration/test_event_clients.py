#!/usr/bin/env python3
"""tests/integration/test_event_clients.py -- other people's software with what we serve for it: EventSource, a checker of OpenAPI documents.

The packages of tests/clients/package-lock.json, installed by npm without their scripts.
"""
import json
import os
import select
import socket
import subprocess
import sys
import threading

import clients
import harness

ENVIRONMENT = dict(os.environ, NODE_PATH=str(clients.FOLDER / "node_modules"))


class Source:
    """An EventSource in a process of its own."""

    def __init__(self, case, url):
        self.process = subprocess.Popen(["node", "--no-deprecation", clients.SOURCE / "events.js", url], env=ENVIRONMENT,
                                        stdout=subprocess.PIPE, bufsize=0)
        case.addCleanup(self.end)

    def event(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        assert ready, "no event came"
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Cutter:
    """Passes connections on, and breaks each off when so many bytes of the answer have passed."""

    def __init__(self, case, port, lengths):
        self.port_there, self.lengths, self.cuts = port, list(lengths), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        case.addCleanup(self.stop)

    def run(self):
        while True:
            near, _ = self.listener.accept()
            if self.listener.fileno() < 0 or near.recv(1, socket.MSG_PEEK) == b"q":
                near.close()
                return
            left = self.lengths.pop(0) if self.lengths else None
            far = socket.create_connection(("127.0.0.1", self.port_there))
            pump = threading.Thread(target=self.answer, args=(far, near, left))
            pump.start()
            while data := self.receive(near):
                far.sendall(data)
            self.shut(far)
            pump.join()
            far.close()
            near.close()

    @staticmethod
    def receive(s):
        try:
            return s.recv(65536)
        except OSError:
            return b""

    def answer(self, far, near, left):
        while data := self.receive(far):
            if left is not None and len(data) >= left:
                near.sendall(data[:left])
                self.cuts += 1
                break
            left = None if left is None else left - len(data)
            near.sendall(data)
        self.shut(near)

    @staticmethod
    def shut(s):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was first

    def stop(self):
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(b"q")
        self.thread.join()
        self.listener.close()


class EventSource(harness.Case):
    def test_a_job(self):
        job = self.client.submit(self.queue)
        source = Source(self, f"http://127.0.0.1:{self.server.port}/v1/jobs/{job}")
        name, _, data = source.event()
        self.assertEqual((name, data["state"]), ("state", "ready"))
        _, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
        self.assertEqual(source.event()[2]["state"], "running")
        self.client.complete(job, lease, b"r")
        name, last, data = source.event()
        self.assertEqual((name, data["state"], data["result"]["bytes"]), ("end", "done", 1))
        self.assertTrue(last.endswith(" end"))
        # it connects again, as the specification wants it, and is told to stop
        self.assertEqual(source.event(), ["closed", 204])

    def test_a_queue_over_a_bad_line(self):
        self.client.submit(self.queue)
        cutter = Cutter(self, self.server.port, [700, 333, 1200])
        source = Source(self, f"http://127.0.0.1:{cutter.port}/v1/queues/{self.queue}/events")
        harness.eventually(lambda: b"whilst_http_streams 1\n" in self.client.get("/metrics").body, "the stream")
        jobs = [self.client.submit(self.queue) for _ in range(40)]
        got = [source.event() for _ in jobs]
        self.assertEqual([(name, data["id"]) for name, _, data in got], [("state", job) for job in jobs])
        self.assertEqual(cutter.cuts, 3)

    def test_the_log(self):
        position = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", Whilst_Commit="async")["Whilst-Position"]
        source = Source(self, f"http://127.0.0.1:{self.server.port}/v1/log?position={position}")
        while (event := source.event())[0] != "reached":
            self.assertEqual(event[0], "log")
        self.assertEqual(event[2]["position"], position)
        self.assertEqual(source.event(), ["closed", 204])


class OpenApi(harness.Case):
    def test_it_is_a_document(self):
        document = self.client.get("/openapi.json").body
        command = ["node", clients.SOURCE / "openapi.mjs"]
        done = subprocess.run(command, input=document, env=ENVIRONMENT, capture_output=True, timeout=100, check=False)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, "OpenAPI 3.1\n"), done.stderr)
        wrong = json.loads(document)
        del wrong["paths"]["/v1/queues"]["get"]["responses"]["200"]["description"]
        done = subprocess.run(command, input=json.dumps(wrong).encode(), env=ENVIRONMENT, capture_output=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    if not clients.install():
        sys.exit(77)
    harness.main()
