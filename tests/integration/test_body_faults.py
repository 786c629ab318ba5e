"""tests/integration/test_body_faults.py -- bodies in files while system calls fail: tests/fault/shim/shim.c.

Every call that an upload, a result, a download or a reservation makes in blobs/ fails once, with EIO and with ENOSPC: the client gets a problem, or
its connection ends within a body that is under way; nothing that was acknowledged is lost, and neither files nor descriptors are left behind.
"""
import http.client
import os
import unittest

import harness

MIB = 1 << 20
LARGE = os.urandom(MIB) * 3
OTHER = os.urandom(MIB) * 2


class Bodies(unittest.TestCase):
    def setUp(self):
        self.faults = harness.Faults(self)
        self.server = harness.Server(env=self.faults.env)
        self.addCleanup(self.server.remove)
        self.folder = os.path.join(self.server.data, "blobs")
        self.client = self.server.client()
        self.addCleanup(lambda: self.client.close())
        self.kept = {self.client.submit("kept", LARGE): LARGE}

    def calls(self, operation):
        """What it does in blobs/, one after the other, when all goes well."""
        self.faults.forget()
        self.faults.set(f"* path={self.folder}* count=0")
        operation()
        self.faults.set()
        found = [call for call, _, _ in self.faults.hits()]
        self.assertTrue(found)
        return found

    def every(self, operation, after=lambda: None):
        """operation() with each of these calls failing: (call, path, error, what it returned). after() it is as it was."""
        calls = [call.rstrip("v") for call in self.calls(operation)]
        after()
        for call in sorted(set(calls)):
            count = calls.count(call)
            for nth in [n for n in range(1, count + 1) if n < 4 or n > count - 2 or n % 5 == 0]:
                for error in ("EIO", "ENOSPC"):
                    self.faults.forget()
                    self.faults.set(f"{call}{'*' if call.startswith('p') else ''} path={self.folder}* nth={nth} error={error}")
                    with self.subTest(call=call, nth=nth, error=error):
                        answer = operation()
                        hits = self.faults.hits()
                        self.faults.set()
                        # how many pieces there are is a matter of the network, too
                        self.assertTrue(len(hits) == 1 or nth > count // 2, "nothing was hit")
                        if hits:
                            yield call, hits[0][1], error, answer
                        after()
                        self.check_nothing_is_left()

    def open_files(self):
        folder = f"/proc/{self.server.process.pid}/fd"
        found = []
        for fd in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{fd}"))
            except FileNotFoundError:
                pass
        return [name for name in found if name.startswith(self.folder + "/")]

    def check_nothing_is_left(self):
        harness.eventually(lambda: not self.open_files(), "closing its files")
        harness.eventually(lambda: len(os.listdir(self.folder)) == len(self.kept), "removing what was begun")
        self.assertFalse([name for name in os.listdir(self.folder) if not name.endswith(".blob")])

    def check_kept(self):
        for job, body in self.kept.items():
            self.assertEqual(self.client.get(f"/v1/jobs/{job}/payload").body, body, job)

    def start_again(self):
        self.client.close()
        self.server.kill()
        self.server.start()
        self.client = self.server.client()
        self.check_kept()
        self.check_nothing_is_left()

    def assertRefused(self, answer, error):
        self.assertIsNotNone(answer, "no answer")
        status, code = (503, "disk-full") if error == "ENOSPC" else (500, "internal")
        self.assertEqual((answer.status, answer.json()["code"]), (status, code), answer)
        self.assertTrue(answer.json()["detail"])

    def ask(self, *arguments, **headers):
        """None: the connection, a new one, which is not tried again, ended amid a body."""
        self.client.close()
        try:
            return self.client.request(*arguments, **headers)
        except (http.client.HTTPException, ConnectionError):
            self.client.close()
            return None

    def test_uploads(self):
        done = []

        def upload():
            answer = self.ask("POST", "/v1/queues/q/jobs", OTHER)
            if answer and answer.status == 202:
                done.append(answer.json()["id"])
            return answer

        def forget():
            for job in done:
                self.assertEqual(self.client.get(f"/v1/jobs/{job}/payload").body, OTHER)
                self.assertEqual(self.client.delete(f"/v1/jobs/{job}").status, 200)
            done.clear()

        self.client.put("/v1/queues/q", {"retention": "0s"})
        for call, path, error, answer in self.every(upload, forget):
            if call == "fsync" and path == self.folder:
                # names that were promised may be missing on the disk: it ends, as for the log
                self.assertEqual(self.server.wait(), 1, self.server.log())
                self.assertFalse(answer and answer.status == 202)
                self.server.start()
                self.client.close()
                self.client = self.server.client()
                self.check_kept()
                done.clear()
                # no one was told of the job: it may be there, whole, or not at all
                while (job := self.client.reserve("q")) is not None:
                    self.assertEqual(job[2], OTHER)
                    self.assertEqual(self.client.complete(job[0], job[1]).status, 200)
                continue
            self.assertRefused(answer, error)
        self.start_again()

    def test_results(self):
        """A completion that was refused can be repeated, and is lost by nobody."""
        self.client.put("/v1/queues/q", {"retention": "0s", "time_to_run": "1h"})
        leased = []

        def complete():
            if not leased:
                self.client.submit("q", b"x")
                leased.append(self.client.reserve("q"))
            answer = self.ask("POST", f"/v1/jobs/{leased[0][0]}/complete", OTHER, Whilst_Lease=leased[0][1])
            if answer and answer.status == 200:
                leased.clear()
            return answer

        for call, path, error, answer in self.every(complete):
            if call == "fsync" and path == self.folder:
                self.assertEqual(self.server.wait(), 1, self.server.log())
                self.server.start()
                self.client.close()
                self.client = self.server.client()
                leased.clear()
                while (job := self.client.reserve("q")) is not None:
                    self.assertEqual(self.client.complete(job[0], job[1]).status, 200)
                continue
            self.assertRefused(answer, error)
            self.assertEqual(complete().status, 200)
        self.start_again()

    def test_downloads(self):
        job = next(iter(self.kept))
        for call, _, error, answer in self.every(lambda: self.ask("GET", f"/v1/jobs/{job}/payload")):
            # what is found before the first byte is said in words; afterwards the connection ends within the body
            if answer is not None:
                self.assertRefused(answer, error)
            else:
                self.assertEqual(call, "pread")
            self.check_kept()
        self.start_again()

    def test_reservations(self):
        """Whoever is refused in words has taken no job."""
        self.client.put("/v1/queues/q", {"attempts": 200, "time_to_run": "1s"})
        job = self.client.submit("q", LARGE)
        self.kept[job] = LARGE

        def state():
            return self.client.get(f"/v1/jobs/{job}").json()["state"]

        def reserve():
            answer = self.ask("POST", "/v1/queues/q/reserve")
            if answer is not None and answer.status == 200:
                self.assertEqual(answer.body, LARGE)
                self.client.post(f"/v1/jobs/{job}/release", Whilst_Lease=answer["Whilst-Lease"])
            elif answer is not None:
                self.assertEqual(state(), "ready")
            # what broke off is leased to somebody who has not got it whole, until the lease ends
            harness.eventually(lambda: state() == "ready", "the end of a lease")
            return answer

        for call, _, error, answer in self.every(reserve):
            if answer is not None:
                self.assertRefused(answer, error)
            else:
                self.assertEqual(call, "pread")
        self.start_again()

    def test_what_cannot_be_removed_goes_at_the_next_start(self):
        self.faults.set("unlink path=0*-* error=EIO count=0",
                        f"pwrite path={self.folder}* nth=2 error=EIO")
        answer = self.ask("POST", "/v1/queues/q/jobs", OTHER)
        self.assertRefused(answer, "EIO")
        harness.eventually(lambda: not self.open_files(), "closing its file")
        self.assertEqual(len(os.listdir(self.folder)), len(self.kept) + 1)
        self.faults.set()
        self.start_again()

    def test_short_and_interrupted_calls_are_no_errors(self):
        self.faults.set(f"pwrite path={self.folder}* short=70000 count=20", f"pread path={self.folder}* short=70000 count=20",
                        f"fsync path={self.folder}* error=EINTR", "open path=0*-* error=EINTR")
        job = self.client.submit("kept", OTHER)
        self.kept[job] = OTHER
        self.check_kept()
        self.assertGreater(len(self.faults.hits()), 20)
        self.faults.set()
        self.start_again()


if __name__ == "__main__":
    if "WHILST_FAULT_SHIM" not in os.environ:
        harness.skip_all("WHILST_FAULT_SHIM does not name the library of tests/fault/shim/shim.c")
    harness.main()
