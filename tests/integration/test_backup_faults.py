"""tests/integration/test_backup_faults.py -- backups that go wrong: at the tool's disk, at the server's, between them.

Whatever happens, the copy gets its name whole and checked or not at all, what was begun is gone or is taken over by the next backup, and the
server holds nothing for it any longer.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

import harness

MIB = 1 << 20
# Segments are 64 MiB, of which each copy writes two.
ROOM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Backup(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="whilst-backup-", dir=ROOM)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.copy = os.path.join(self.folder, "copy")
        self.partial = self.copy + ".partial"
        self.at_server, self.at_tool = harness.Faults(self), harness.Faults(self)
        self.server = harness.Server(data=os.path.join(self.folder, "data"), env=self.at_server.env)
        self.addCleanup(self.server.kill)
        client = self.server.client()
        self.payload, self.large = b"small", os.urandom(MIB) * 3
        self.jobs = [client.submit("q", self.payload), client.submit("q", self.large, query="?retention=0s")]
        client.close()

    def command(self):
        return [harness.BINARY, "backup", self.copy, "--server", f"http://127.0.0.1:{self.server.port}"]

    def backup(self, *rules):
        """One of them; the rules are for the tool's own calls."""
        shutil.rmtree(self.copy, ignore_errors=True)
        self.at_tool.set(*rules)
        self.at_tool.forget()
        return subprocess.run(self.command(), capture_output=True, text=True, check=False, timeout=harness.DEADLINE * 3,
                              env=dict(os.environ, **self.at_tool.env))

    def assertWhole(self, done):
        """It is there, is sound, and starts with all that it should have."""
        self.assertEqual(done.returncode, 0, done)
        self.assertFalse(os.path.exists(self.partial))
        self.assertFalse(os.path.exists(self.copy + "/backup.lock"))
        verified = subprocess.run([harness.BINARY, "log", "verify", self.copy], capture_output=True, text=True, check=False,
                                  timeout=harness.DEADLINE)
        self.assertIn("sound", verified.stdout, verified)
        with harness.Server(data=self.copy) as server:
            client = server.client()
            for job, body in zip(self.jobs, (self.payload, self.large)):
                self.assertEqual(client.get(f"/v1/jobs/{job}/payload").body, body)
            client.close()
        shutil.rmtree(self.copy)

    def assertNothing(self, done, *words):
        """There is no copy, nor a part of one, and it says why."""
        self.assertEqual(done.returncode, 1, done)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertTrue(done.stderr.startswith("whilst backup: "), done)
        self.assertFalse(os.path.exists(self.copy))

    def pinned(self):
        """Answers until there are as many backups as may be, which are dropped again: how many could be begun."""
        opened = []
        try:
            for _ in range(4):
                s = socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE)
                opened.append(s)
                s.sendall(b"GET /v1/log/backup HTTP/1.1\r\nHost: h\r\n\r\n")
                if s.recv(12) != b"HTTP/1.1 200":
                    return len(opened) - 1
            return len(opened)
        finally:
            for s in opened:
                s.close()

    def assertFree(self):
        """The server holds nothing any more."""
        harness.eventually(lambda: self.pinned() == 2, "letting go")

    def test_every_kind_of_call_of_the_tool_fails(self):
        done = self.backup(f"* path={self.partial}* count=0")
        calls = [call.rstrip("v") for call, _, _ in self.at_tool.hits()]
        self.assertWhole(done)
        kinds = set(calls)
        self.assertLessEqual({"open", "mkdir", "pwrite", "fsync", "unlink", "pread"}, kinds)
        failed = 0
        for call in sorted(kinds):
            count = calls.count(call)
            for nth in sorted({1, 2, count - 1, count} & set(range(1, count + 1))):
                error = "ENOSPC" if call in ("pwrite", "mkdir") and nth == 1 else "EIO"
                with self.subTest(call=call, nth=nth, error=error):
                    done = self.backup(f"{call}{'*' if call.startswith('p') else ''} path={self.partial}* nth={nth} error={error}")
                    # how many pieces there are is a matter of the network, too
                    self.assertTrue(self.at_tool.hits() or nth > count // 2, "nothing was hit")
                    failed += done.returncode != 0
                    if done.returncode == 0:
                        # not every file system can be read past its cache; a read of the log is tried again
                        self.assertTrue(call in ("open_direct", "pread") or not self.at_tool.hits(), done)
                        self.assertWhole(done)
                        continue
                    self.assertNothing(done, "No space" if error == "ENOSPC" else "")
                    if os.path.exists(self.partial):
                        self.assertIn(self.partial, done.stderr)
                    if "not sound" in done.stderr:
                        self.assertTrue(os.path.exists(self.partial), "it was to be looked at")
        self.assertGreater(failed, 10)
        self.assertNothing(self.backup(f"rename path={self.copy} error=EIO"), "Input/output")
        self.assertNothing(self.backup(f"mkdir path={self.partial} error=EROFS"), "Read-only")
        self.assertNothing(self.backup(f"pwrite path={self.partial}* nth=300 error=ENOSPC count=0"), "No space")
        self.assertFalse(os.path.exists(self.partial))
        # file systems that cannot rename without replacing, or have nothing to do for a folder
        self.assertWhole(self.backup(f"rename path={self.copy} error=22"))
        self.assertWhole(self.backup(f"fsync path={self.partial} error=22 count=0"))
        self.assertWhole(self.backup(f"pwrite path={self.partial}* short=5000 count=40", "fsync count=2 error=EINTR"))
        self.assertFree()
        self.server.stop()

    def test_the_servers_disk_fails(self):
        segment, blob = f"path={self.server.data}/seg-*", f"path={self.server.data}/blobs/*"
        for rule in (f"pread {segment} error=EIO", f"pread {blob} error=EIO", f"pread {blob} nth=20 error=EIO",
                     f"open {blob} error=EMFILE", f"open {segment} error=EIO"):
            with self.subTest(rule=rule):
                self.at_server.forget()
                self.at_server.set(rule)
                done = self.backup()
                hit = bool(self.at_server.hits())
                self.at_server.set()
                if not hit and self.server.engine == "uring":
                    self.assertWhole(done)  # its operations pass the C library by
                    continue
                self.assertTrue(hit, "nothing was hit")
                self.assertNothing(done, "broke off")
                self.assertFalse(os.path.exists(self.partial))
                said = [line for line in self.server.log().splitlines() if "ev=backup" in line][-1]
                self.assertIn("whole=no reason=", said)
                self.assertIn("Too many" if "EMFILE" in rule else "Input/output", said)
        self.assertWhole(self.backup())
        self.assertFree()
        self.server.stop()

    def test_the_tool_is_killed(self):
        for nth in (1, 2):  # amid its files
            faults = harness.Faults(self)
            faults.set(f"fsync path={self.partial}/* nth={nth} hang=1")
            running = subprocess.Popen(self.command(), stderr=subprocess.PIPE, env=dict(os.environ, **faults.env))
            self.addCleanup(running.kill)
            harness.eventually(faults.hits, "a flush")
            running.kill()
            running.communicate(timeout=harness.DEADLINE)
        self.assertTrue(os.path.isdir(self.partial))
        self.assertFree()
        # the next one takes over what is left
        self.assertWhole(self.backup())
        # but nothing that is not of a backup
        os.mkdir(self.partial)
        for name in ("seg-0000000000000000.log", "notes.txt"):
            with open(os.path.join(self.partial, name), "w", encoding="ascii") as f:
                f.write("mine")
        self.assertNothing(self.backup(), "notes.txt")
        self.assertEqual(os.listdir(self.partial), ["notes.txt"])
        self.server.stop()

    def test_two_to_the_same_place(self):
        faults = harness.Faults(self)
        faults.set(f"fsync path={self.partial}/* hang=1")
        first = subprocess.Popen(self.command(), stderr=subprocess.PIPE, env=dict(os.environ, **faults.env))
        self.addCleanup(first.kill)
        harness.eventually(faults.hits, "its first flush")
        self.assertNothing(self.backup(), "another backup is writing")
        self.assertTrue(os.path.isdir(self.partial))
        first.kill()
        first.communicate(timeout=harness.DEADLINE)
        self.assertWhole(self.backup())
        # what has the name by then is not replaced: a link into nothing passes for nothing until then
        shutil.rmtree(self.copy, ignore_errors=True)
        os.symlink("nowhere", self.copy)
        done = subprocess.run(self.command(), capture_output=True, text=True, check=False, timeout=harness.DEADLINE * 3)
        self.assertNothing(done, "File exists")
        self.assertTrue(os.path.islink(self.copy))
        self.assertFalse(os.path.exists(self.partial))
        self.server.stop()

    def test_so_many_at_once(self):
        held = []
        for _ in range(2):
            s = socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE)
            self.addCleanup(s.close)
            s.sendall(b"GET /v1/log/backup HTTP/1.1\r\nHost: h\r\n\r\n")
            self.assertEqual(s.recv(12), b"HTTP/1.1 200")
            held.append(s)
        client = self.server.client()
        answer = client.get("/v1/log/backup")
        self.assertEqual((answer.status, answer.json()["code"], answer.json()["limit"], answer["Retry-After"]), (503, "too-busy", 2, "1"))
        self.assertNothing(self.backup(), "2 backups are being taken", "too-busy")
        self.assertFalse(os.path.exists(self.partial))
        # work goes on, and a body of what is held stays until it is let go
        self.assertEqual(client.delete(f"/v1/jobs/{self.jobs[1]}").status, 200)
        other = client.submit("q", self.large, query="?retention=0s")
        self.assertEqual(client.delete(f"/v1/jobs/{other}").status, 200)
        blobs = os.path.join(self.server.data, "blobs")
        harness.eventually(lambda: len(os.listdir(blobs)) == 1, "removing what came later")
        held.pop().close()
        harness.eventually(lambda: client.request("HEAD", "/v1/log/backup").status == 200, "one less")
        self.assertEqual(len(os.listdir(blobs)), 1)
        held.pop().close()
        harness.eventually(lambda: not os.listdir(blobs), "removing it")
        client.close()
        self.server.stop()

    def test_a_full_disk_ends_it_where_that_helps(self):
        """An upload that finds no room: the copy, for which a file is held that nobody needs, has to go."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(b"GET /v1/log/backup HTTP/1.1\r\nHost: h\r\n\r\n")
            self.assertEqual(s.recv(12), b"HTTP/1.1 200")
            client = self.server.client()
            self.at_server.set(f"pwrite path={self.server.data}/blobs/* error=ENOSPC")
            refused = client.post("/v1/queues/q/jobs?retention=0s", self.large)
            if refused.status == 202:
                self.assertEqual(self.server.engine, "uring")  # its operations pass the C library by
                client.close()
                return
            self.assertEqual((refused.status, refused.json()["code"]), (503, "disk-full"))
            # nothing was held for it: it goes on
            self.assertEqual(client.request("HEAD", "/v1/log/backup").status, 200)
            self.assertNotIn("reason=", self.server.log())
            self.assertEqual(client.delete(f"/v1/jobs/{self.jobs[1]}").status, 200)
            blobs = os.path.join(self.server.data, "blobs")
            # what was received of the refused one is removed meanwhile; what the copy holds stays
            harness.eventually(lambda: len(os.listdir(blobs)) == 1, "removing the refused one")
            self.at_server.set(f"pwrite* path={self.server.data}/blobs/* error=ENOSPC")
            self.assertEqual(client.post("/v1/queues/q/jobs", self.large).status, 503)
            harness.eventually(lambda: "the disk is full" in self.server.log(), "the end of the copy")
            harness.eventually(lambda: not os.listdir(blobs), "removing what it held")
            self.assertEqual(client.post("/v1/queues/q/jobs", self.large).status, 202)
            harness.read_all(s)
            client.close()
        self.assertFree()
        self.server.stop()


if __name__ == "__main__":
    if "WHILST_FAULT_SHIM" not in os.environ:
        harness.skip_all("WHILST_FAULT_SHIM does not name the library of tests/fault/shim/shim.c")
    harness.main()
