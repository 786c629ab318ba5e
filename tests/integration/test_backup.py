"""tests/integration/test_backup.py -- a copy of a running server's data: whole, checked, and a start from it."""
import json
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import harness


def whilst(*args, check=True):
    return subprocess.run([harness.BINARY, *args], capture_output=True, text=True, check=check, timeout=harness.DEADLINE * 3)


def lsn(position):
    return int(position.split("/")[1])


class Backup(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="whilst-backup-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.copy = os.path.join(self.folder, "copy")

    def test_a_damaged_body_is_not_copied_in_silence(self):
        """A file of a body that is not what was written: the copy does not get its name, and the job is told."""
        with harness.Server() as server:
            client = server.client()
            job = client.submit("q", os.urandom(1 << 21))
            client.close()
            url = f"http://127.0.0.1:{server.port}"
            name = os.path.join(server.data, "blobs", os.listdir(server.data + "/blobs")[0])
            for damage in ("flip", "cut"):
                with open(name, "r+b") as f:
                    if damage == "flip":
                        f.seek(1 << 20)
                        byte = f.read(1)[0]
                        f.seek(1 << 20)
                        f.write(bytes([byte ^ 1]))
                    else:
                        f.truncate(1 << 20)
                done = whilst("backup", self.copy, "--server", url, check=False)
                self.assertEqual(done.returncode, 1, done)
                self.assertFalse(os.path.exists(self.copy))
                # what is not sound can be looked at, until the next one; what broke off is gone
                self.assertEqual(os.path.exists(self.copy + ".partial"), damage == "flip")
                if damage == "flip":
                    self.assertIn(f"payload of job {job}", done.stderr)

    def test_large_bodies(self):
        """Files beside the log are in it, also of a job that ends while the copy is being taken."""
        bodies = [os.urandom(1 << 16) * n for n in (17, 40, 130)]
        with harness.Server() as server:
            client = server.client()
            jobs = [client.submit("q", body, query="?retention=0s" if body is bodies[2] else "") for body in bodies]
            taken, lease, body = client.reserve("q")
            self.assertEqual((taken, body), (jobs[0], bodies[0]))
            self.assertEqual(client.complete(taken, lease, bodies[1]).status, 200)
            # slowly: a job that ends meanwhile keeps its file until the archive is taken
            with harness.socket.create_connection(("127.0.0.1", server.port), timeout=harness.DEADLINE) as slow:
                slow.sendall(b"GET /v1/log/backup HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                archive = slow.recv(1024)
                self.assertEqual(client.delete(f"/v1/jobs/{jobs[2]}").status, 200)
                self.assertEqual(client.get(f"/v1/jobs/{jobs[2]}").status, 410)
                archive += harness.read_all(slow)
            head, archive = archive.split(b"\r\n\r\n", 1)
            self.assertIn(b" 200 ", head.split(b"\r\n")[0])
            by_curl = os.path.join(self.folder, "by-curl")
            os.mkdir(by_curl)
            subprocess.run(["tar", "-x", "-C", by_curl], input=archive, check=True, timeout=harness.DEADLINE)
            # and goes after it
            harness.eventually(lambda: len(os.listdir(server.data + "/blobs")) == 3, "removing a file")
            whilst("backup", self.copy, "--server", f"http://127.0.0.1:{server.port}")
            client.close()
        for data, last in ((by_curl, 200), (self.copy, None)):
            self.assertIn("sound", whilst("log", "verify", data).stdout)
            with harness.Server(data=data) as server:
                client = server.client()
                self.assertEqual(client.get(f"/v1/jobs/{jobs[0]}/payload").body, bodies[0])
                self.assertEqual(client.get(f"/v1/jobs/{jobs[0]}/result").body, bodies[1])
                self.assertEqual(client.get(f"/v1/jobs/{jobs[1]}/payload").body, bodies[1])
                answer = client.get(f"/v1/jobs/{jobs[2]}/payload")
                if last:
                    self.assertEqual((answer.status, answer.body), (last, bodies[2]))
                client.close()

    def test_under_load(self):
        """Everything acknowledged up to the copy's position is in it; of what came after it, nothing or all."""
        with harness.Server() as server:
            acked, stop = [], threading.Event()

            def load(number):
                client = server.client()
                for i in range(100000):
                    if stop.is_set():
                        break
                    body = json.dumps([number, i]).encode() * (1 + i % 400)
                    answer = client.post("/v1/queues/q/jobs", body)
                    self.assertEqual(answer.status, 202, answer)
                    acked.append((answer.json()["id"], lsn(answer["Whilst-Position"]), body))
                    if i % 5 == 0:
                        job = client.reserve("q")
                        client.complete(job[0], job[1], b"result of %d" % job[0])
                client.close()

            threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            harness.eventually(lambda: len(acked) > 300, "some jobs")
            done = json.loads(whilst("backup", self.copy, "--json", "--server", f"http://127.0.0.1:{server.port}").stdout)
            harness.eventually(lambda n=len(acked): len(acked) > n + 100, "more jobs")
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(done["directory"], self.copy)
        end = lsn(done["position"])
        before = [a for a in acked if a[1] <= end]
        self.assertGreater(len(before), 200)
        self.assertLess(len(before), len(acked))
        self.assertIn("sound", whilst("log", "verify", self.copy).stdout)
        self.assertFalse(os.path.exists(self.copy + ".partial"))
        with harness.Server(data=self.copy) as server:
            client = server.client()
            for job, position, body in acked:
                answer = client.get(f"/v1/jobs/{job}/payload")
                if position <= end:
                    self.assertEqual(answer.status, 200, (job, position, end))
                if answer.status == 200:
                    self.assertEqual(answer.body, body)
                else:
                    self.assertGreater(position, end)
            log = client.get("/v1/log").json()
            self.assertGreater(log["epoch"], int(done["position"].split("/")[0]), "an epoch of its own")
            # the copy says itself that what came after it is not there
            last = max(position for _, position, _ in acked)
            answer = client.get(f"/v1/log?position={done['position'].split('/')[0]}/{last}")
            self.assertEqual((answer.status, answer.json()["code"]), (410, "lost"))
            self.assertEqual(client.submit("q") > 0, True)
            client.close()

    def test_with_curl_and_tar(self):
        """The archive is one that everybody's tools know."""
        with harness.Server() as server:
            client = server.client()
            job = client.submit("q", b"kept")
            client.close()
            os.mkdir(self.copy)
            subprocess.run(["sh", "-c", f"curl -sS http://127.0.0.1:{server.port}/v1/log/backup | tar xf - -C {self.copy}"],
                           check=True, timeout=harness.DEADLINE)
        with harness.Server(data=self.copy) as server:
            client = server.client()
            self.assertEqual(client.get(f"/v1/jobs/{job}/payload").body, b"kept")
            client.close()

    def test_refusals(self):
        os.mkdir(self.copy)
        done = whilst("backup", self.copy, "--server", "http://127.0.0.1:1", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is there already", done.stderr)
        done = whilst("backup", self.copy + "2", "--server", "http://127.0.0.1:1", check=False)
        self.assertEqual(done.returncode, 4)
        self.assertEqual(whilst("backup", check=False).returncode, 2)
        with harness.Server() as server:
            done = whilst("backup", self.folder + "/no/such", "--server", f"http://127.0.0.1:{server.port}", check=False)
            self.assertEqual(done.returncode, 1)
            # a client that leaves in the middle: the server goes on and lets its files go
            for _ in range(3):
                with harness.socket.create_connection(("127.0.0.1", server.port)) as s:
                    s.sendall(b"GET /v1/log/backup HTTP/1.1\r\nHost: x\r\n\r\n")
                    s.recv(1000)
            client = server.client()
            self.assertEqual(client.request("HEAD", "/v1/log/backup").status, 200)
            self.assertEqual(client.get("/livez").status, 200)
            client.close()

    def test_broken_off(self):
        """A server that dies in the middle: the copy does not get its name."""
        server = harness.Server()
        self.addCleanup(server.remove)
        client = server.client()
        for _ in range(40):
            client.submit("q", os.urandom(900000))
        client.close()
        running = subprocess.Popen([harness.BINARY, "backup", self.copy, "--server", f"http://127.0.0.1:{server.port}"],
                                   stderr=subprocess.PIPE, text=True)

        def has_begun():
            try:
                return set(os.listdir(self.copy + ".partial")) - {"backup.lock"}  # the lock is there before the answer
            except FileNotFoundError:
                return os.path.isdir(self.copy)  # whole before anybody has looked

        harness.eventually(has_begun, "a beginning")
        server.kill()
        _, error = running.communicate(timeout=harness.DEADLINE)
        if running.returncode != 0:
            self.assertIn("broke off", error)
            self.assertFalse(os.path.exists(self.copy))


if __name__ == "__main__":
    harness.main()
