"""tests/integration/test_waiters_memory.py -- what a caller that waits takes of the memory of the whole server, as the kernel counts it.

tests/fault/test_front_waiters.c counts what is allocated for one, exactly. This is about all the rest: tables that grow by doubling, pools that keep what
a burst needed, blocks of which more is touched than is used. So it is of many callers, and between two numbers of them.
"""
import ctypes
import os
import re
import resource
import socket
import unittest

import harness

# glibc fills what is allocated when told to: then all counts that was set aside and never touched.
os.environ.pop("MALLOC_PERTURB_", None)
FIRST, MORE = 1000, 8000
AT_ONCE = 12  # more of them that have not been read yet would need more buffers than the first did, if the server is slow enough
SPARE = 200  # descriptors
BYTES_MAX = 1100  # 1 KiB, and what a page or a table more or less makes of it
PR_SET_THP_DISABLE = 41


def no_huge_pages():
    """Where the kernel gives them unasked, memory comes in steps of 2 MiB."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def descriptors():
    """As many as a process may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 30 if hard == resource.RLIM_INFINITY else hard


class Waiters(unittest.TestCase):
    def setUp(self):
        self.more = min(MORE, descriptors() - FIRST - SPARE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.server = harness.Server("--max-connections", str(FIRST + self.more + SPARE), "--idle-timeout", "1h", preexec=no_huge_pages)
        self.addCleanup(self.server.remove)
        self.client, self.sockets = self.server.client(), []

    def figure(self, name):
        metrics = self.client.get("/metrics?queues=false").body.decode()
        return int(re.search(rf"(?m)^{name} (\d+)", metrics).group(1))

    def resident(self):
        with open(f"/proc/{self.server.process.pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Rss:")) << 10

    def wait(self, count, request, figure):
        while count > 0:
            for _ in range(min(count, AT_ONCE)):
                s = socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE)
                s.sendall(request)
                self.sockets.append(s)
                count -= 1
            harness.eventually(lambda: self.figure(figure) >= len(self.sockets), "their wait", 60)

    def measure(self, what, fields, figure):
        job = self.client.submit("waiters")
        request = f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n".encode()
        self.wait(FIRST, request, figure)
        before = self.resident()
        self.wait(self.more, request, figure)
        each = (self.resident() - before) / self.more
        print(f"{what}: {each:.0f} bytes each of {self.more}", flush=True)
        for s in self.sockets:
            s.close()
        self.assertLessEqual(each, BYTES_MAX)
        self.client.close()

    def test_long_polls(self):
        self.measure("a long poll", "Prefer: wait=3000", "whilst_http_parked")

    def test_streams(self):
        self.measure("an event stream", "Accept: text/event-stream", "whilst_http_streams")


if __name__ == "__main__":
    if descriptors() < FIRST + 2000 + SPARE:
        harness.skip_all(f"a process may have only {descriptors()} descriptors")
    harness.main()
