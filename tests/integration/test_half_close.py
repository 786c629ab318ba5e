"""tests/integration/test_half_close.py -- clients that end their sending side while they wait, or all of the connection.

Over TCP the two look the same until something is sent. A wait ends then with the present state, which harms neither; --half-close wait has
it go on.
"""
import re
import socket
import subprocess
import tempfile
import unittest

import backend
import harness

LONG = "wait=250"  # nobody is patient enough: what waits this long in a test has failed


def request(path, method="GET", body=b"", prefer=LONG, more=""):
    return (f"{method} {path} HTTP/1.1\r\nHost: h\r\nPrefer: {prefer}\r\nContent-Length: {len(body)}\r\n{more}\r\n").encode() + body


def gauge(client, name):
    return int(re.search(rb"^" + name.encode() + rb" (\d+)$", client.get("/metrics").body, re.M).group(1))


class Waits(unittest.TestCase):
    ARGS = ()

    def setUp(self):
        self.server = harness.Server(*self.ARGS)
        self.addCleanup(self.server.remove)
        self.client = self.server.client()
        self.addCleanup(self.client.close)
        self.job = self.client.submit("q")

    def parked(self, n):
        harness.eventually(lambda: gauge(self.client, "whilst_http_parked") == n, f"{n} that wait")

    def connect(self, data):
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE)
        self.addCleanup(s.close)
        s.sendall(data)
        return s

    def waits(self):
        """Each way to wait from which nothing is lost, and what it is answered when it is over in vain."""
        return [(request(f"/v1/jobs/{self.job}"), 200), (request(f"/v1/jobs/{self.job}/result"), 409),
                (request("/v1/queues/q/jobs", "POST", b"x"), 202)]


class Leave(Waits):
    """As it is without a word about it."""

    def test_closed(self):
        for data, _ in self.waits():
            s = self.connect(data)
            self.parked(1)
            s.close()
            self.parked(0)
        harness.eventually(lambda: gauge(self.client, "whilst_http_connections") == 1, "the end of the connections")
        self.assertEqual(self.client.get(f"/v1/jobs/{self.job}").json()["state"], "ready")

    def test_half_closed(self):
        """Whoever reads on is answered at once, by what there is."""
        for data, status in self.waits():
            s = self.connect(data)
            self.parked(1)
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(harness.read_answer(s)[0].status, status, data)
            self.assertEqual(s.recv(1), b"")
            self.parked(0)

    def test_half_closed_at_once(self):
        for data, status in self.waits():
            answer = harness.raw(self.server.port, data, half_close=True)
            self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)

    def test_several_at_once(self):
        s = self.connect(b"".join(data for data, _ in self.waits()))
        s.shutdown(socket.SHUT_WR)
        rest = b""
        for _, status in self.waits():
            answer, rest = harness.read_answer(s, rest)
            self.assertEqual(answer.status, status)
        self.assertEqual((rest, s.recv(1)), (b"", b""))

    def test_who_does_not_wait(self):
        """Nothing is changed for a client that sends a request and no more."""
        for prefer in ("respond-async", "wait=0"):
            answer = harness.raw(self.server.port, request(f"/v1/jobs/{self.job}", prefer=prefer), half_close=True)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

    def test_what_is_done_is_told(self):
        """One whose job has an end gets it, however soon it ends its sending side."""
        job, lease, _ = self.client.reserve("q")
        self.client.complete(job, lease, b"the result")
        answer = harness.raw(self.server.port, request(f"/v1/jobs/{job}/result"), half_close=True)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"the result"), answer)

    def test_a_worker(self):
        """A wait for a lease has always ended so: nobody is there to take it."""
        s = self.connect(request("/v1/queues/none/reserve", "POST"))
        self.parked(1)
        s.shutdown(socket.SHUT_WR)
        self.assertEqual(harness.read_answer(s, head_only=True)[0].status, 204)
        self.client.submit("none", b"for another one")
        self.assertEqual(self.client.reserve("none")[2], b"for another one")

    def test_a_call_that_its_caller_leaves(self):
        """on_wait_end: cancel means that nobody works for one who is gone."""
        back = backend.Backend()
        self.addCleanup(back.stop)
        self.client.put("/v1/services/echo", {"url": back.url, "on_wait_end": "cancel"})
        s = self.connect(request("/call/echo/gate"))
        harness.eventually(lambda: back.calls, "the call")
        s.close()
        states = lambda: self.client.get("/v1/queues/call%2Fecho").json()["jobs"]  # noqa: E731
        harness.eventually(lambda: states()["cancelled"] == 1, "its end")


class Wait(Waits):
    ARGS = ("--half-close", "wait")

    def test_half_closed(self):
        s = self.connect(request(f"/v1/jobs/{self.job}/result"))
        self.parked(1)
        s.shutdown(socket.SHUT_WR)
        # whether the server has read that already or not: it goes on
        job, lease, _ = self.client.reserve("q")
        self.parked(1)
        self.client.complete(job, lease, b"the result")
        answer, rest = harness.read_answer(s)
        self.assertEqual((answer.status, answer.body, rest, s.recv(1)), (200, b"the result", b"", b""))

    def test_reset(self):
        """What can be seen is seen: a connection that was reset is over."""
        s = self.connect(request(f"/v1/jobs/{self.job}"))
        self.parked(1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
        self.parked(0)


class Setting(unittest.TestCase):
    def test_words(self):
        with tempfile.TemporaryDirectory() as folder:
            for word, status in (("leave", 0), ("wait", 0), ("on", 2), ("", 2)):
                checked = subprocess.run([harness.BINARY, "config", "check", "--data", folder, "--half-close", word], capture_output=True,
                                         text=True, timeout=60)
                self.assertEqual(checked.returncode, status, checked)
                if status == 0:
                    self.assertRegex(checked.stdout, rf"half-close = {word}\b")


if __name__ == "__main__":
    harness.main()
