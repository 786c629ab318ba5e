"""tests/integration/test_bad_input_disk.py -- a full disk: a refusal that says so, nothing lost, and room made is used."""
import datetime
import os
import subprocess
import sys
import tempfile
import time
import unittest

import harness


class FullDisk(unittest.TestCase):
    def test_full_disk(self):
        """Jobs until the disk is full: the refusal is 503 disk-full, and nothing that was acknowledged is lost."""
        folder = tempfile.mkdtemp(prefix="whilst-small-")
        self.addCleanup(os.rmdir, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        server = harness.Server(data=os.path.join(folder, "data"))
        try:
            client = server.client()
            acknowledged = {}
            refused = None
            for i in range(2000):
                payload = b"%06d" % i + b"f" * 500000
                answer = client.post("/v1/queues/q/jobs", payload)
                if answer.status == 202:
                    acknowledged[answer.json()["id"]] = i
                    continue
                refused = answer
                break
            self.assertIsNotNone(refused, "the disk never became full")
            self.assertEqual((refused.status, refused.json()["code"]), (503, "disk-full"), refused)
            self.assertTrue(refused["Retry-After"])
            self.assertEqual(client.get("/livez").status, 200)
            self.assertEqual(client.get("/readyz").status, 503)
            self.assertGreater(len(acknowledged), 10)
            # what makes room is still possible
            first = next(iter(acknowledged))
            self.assertEqual(client.delete(f"/v1/jobs/{first}").status, 200)
            job, lease, _ = client.reserve("q")
            self.assertEqual(client.complete(job, lease).status, 200)
            client.close()
            server.stop().start()
            client = server.client()
            for job, i in acknowledged.items():
                self.assertEqual(client.get(f"/v1/jobs/{job}").status, 200)
            last, i = list(acknowledged.items())[-1]
            self.assertTrue(client.get(f"/v1/jobs/{last}/payload").body.startswith(b"%06d" % i))
            client.close()
            server.stop()
        finally:
            server.remove()

    def test_full_amid_a_checkpoint(self):
        """The disk is full when a checkpoint is written, and stays so: what adds is refused, what finishes goes on, over kills too; with
        space again there is a checkpoint, without a restart."""
        folder = tempfile.mkdtemp(prefix="whilst-small-")
        self.addCleanup(os.rmdir, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        server = harness.Server(data=os.path.join(folder, "data"))
        ballast = os.path.join(folder, "ballast")
        try:
            client = server.client()
            small = b"1\n" * 10000
            for _ in range(10):  # a checkpoint of these takes 4 MB
                self.assertEqual(client.post("/v1/queues/small/jobs", small, Content_Type="application/x-ndjson").status, 202)
            # the log's next segment is there, and beside it room for less than a checkpoint
            harness.eventually(lambda: len([n for n in os.listdir(server.data) if n.startswith("seg-")]) > 1
                               and not any(n.endswith(".tmp") for n in os.listdir(server.data)), "the next segment")
            with open(ballast, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - (1 << 20))
            large, refused = [], None
            for _ in range(1000):
                answer = client.post("/v1/queues/large/jobs", b"f" * 500000)
                if answer.status != 202:
                    refused = answer
                    break
                large.append(answer.json()["id"])
            self.assertEqual((refused.status, refused.json()["code"]), (503, "disk-full"), refused)
            harness.eventually(lambda: "no checkpoint: No space left on device" in server.log(), "a checkpoint that fails")
            self.assertNotIn("checkpoint-", " ".join(os.listdir(server.data)))
            ended, added = [], 0
            for life in range(2):
                self.assertEqual(client.get("/livez").status, 200)
                self.assertEqual(client.get("/readyz").status, 503)
                answer = client.post("/v1/queues/added/jobs", b"x")
                while answer.status == 202 and added < 5000:  # what still fits into the last segment
                    added += 1
                    answer = client.post("/v1/queues/added/jobs", b"x")
                self.assertEqual((answer.status, answer.json()["code"]), (503, "disk-full"), answer)
                for _ in range(20):
                    job, lease, _ = client.reserve("small")
                    self.assertEqual(client.complete(job, lease, b"done").status, 200)
                    ended.append(job)
                if life == 0:
                    client.close()
                    server.kill().start()
                    client = server.client()
                    harness.eventually(lambda: client.get("/readyz").status == 503, "the full disk to be noticed")
            os.unlink(ballast)
            harness.eventually(lambda: client.post("/v1/queues/again/jobs", b"again").status == 202, "room")
            harness.eventually(lambda: client.get("/readyz").status == 200, "ready")
            harness.eventually(lambda: any(n.startswith("checkpoint-") and n.endswith(".ckp")
                                           for n in os.listdir(server.data)), "a checkpoint")
            for _ in range(2):
                for job in ended:
                    self.assertEqual(client.get(f"/v1/jobs/{job}").json()["state"], "done")
                for job in large:
                    self.assertEqual(len(client.get(f"/v1/jobs/{job}/payload").body), 500000)
                self.assertEqual(client.get("/v1/queues/small").json()["jobs"]["ready"], 100000 - len(ended))
                self.assertEqual(client.get("/v1/queues/added").json()["jobs"]["ready"], added)
                client.close()
                server.kill().start()
                client = server.client()
            client.close()
            server.stop()
        finally:
            server.remove()

    def test_schedules(self):
        """The disk is full at due times: what is to be published is put off, which is shown, and made up for when there is room: each due time has its
        event, over a kill too."""
        folder = tempfile.mkdtemp(prefix="whilst-small-")
        self.addCleanup(os.rmdir, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        server = harness.Server(data=os.path.join(folder, "data"))
        ballast = os.path.join(folder, "ballast")
        try:
            client = server.client()
            show = lambda: client.get("/v1/schedules/told").json()
            self.assertEqual(client.put("/v1/topics/told/subscriptions/s", {"queue": "told"}).status, 201)
            self.assertEqual(client.put("/v1/schedules/told", {"every": "1s", "missed": "all", "missed_max": 1000, "publish": {"topic": "told"}}).status, 201)
            harness.eventually(lambda: show()["runs"], "a run")
            harness.eventually(lambda: len([n for n in os.listdir(server.data) if n.startswith("seg-")]) > 1
                               and not any(n.endswith(".tmp") for n in os.listdir(server.data)), "the next segment")
            with open(ballast, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - (1 << 20))
            for payload in (b"f" * 500000, b"f"):  # what still fits into the last segment, too
                while client.post("/v1/queues/q/jobs", payload).status == 202:
                    pass
            self.assertEqual(harness.eventually(lambda: show()["error"], "a refusal"), "No space left on device")
            server.logged('schedule="told" reason="No space left on device"')
            runs = show()["runs"]
            client.close()
            server.kill().start()
            client = server.client()
            self.assertEqual(harness.eventually(lambda: show()["error"], "a refusal"), "No space left on device")
            self.assertEqual(show()["runs"], runs)
            os.unlink(ballast)
            harness.eventually(lambda: show()["runs"] > runs and show()["error"] is None, "room")
            self.assertEqual(client.post("/v1/schedules/told/pause").status, 200)
            events = []
            while (answer := client.post("/v1/queues/told/reserve?n=100", Accept="application/cloudevents-batch+json")).status == 200:
                events += answer.json()
            dues = [datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")) for event in events]
            self.assertEqual({b - a for a, b in zip(dues, dues[1:])}, {datetime.timedelta(seconds=1)}, "none is missing, none twice")
            self.assertEqual(show()["runs"], len(dues))
            client.close()
            server.stop()
        finally:
            server.remove()

    def test_upload_that_does_not_fit(self):
        """A body that the disk has no room for is refused, and leaves nothing behind; smaller ones go on."""
        folder = tempfile.mkdtemp(prefix="whilst-small-")
        self.addCleanup(os.rmdir, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=240m", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        server = harness.Server("--max-payload", "200MiB", data=os.path.join(folder, "data"))
        try:
            client = server.client()
            size = 180 << 20
            head = f"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
            answer = harness.raw(server.port, head + b"f" * size)
            self.assertIn(b"HTTP/1.1 503 ", answer)
            self.assertIn(b"disk-full", answer)
            harness.eventually(lambda: not os.listdir(os.path.join(server.data, "blobs")), "removing what was begun")
            # the log notices within a second that there is room again
            deadline = time.monotonic() + harness.DEADLINE
            answer = client.post("/v1/queues/q/jobs", b"g" * (3 << 20))
            while answer.status == 503 and time.monotonic() < deadline:
                time.sleep(0.05)
                answer = client.post("/v1/queues/q/jobs", b"g" * (3 << 20))
            self.assertEqual(answer.status, 202, answer)
            job = answer.json()["id"]
            self.assertEqual(client.get(f"/v1/jobs/{job}/payload").body, b"g" * (3 << 20))
            client.close()
            server.stop()
        finally:
            server.remove()


if __name__ == "__main__":
    # a small file system to fill takes a mount; a user namespace of one's own lets anybody make one
    if os.environ.get("WHILST_OWN_NAMESPACE") != "1":
        probe = ["unshare", "--user", "--map-root-user", "--mount"]
        if os.geteuid() == 0:
            probe = ["unshare", "--mount"]
        trial = ["mount", "-t", "tmpfs", "none", "/mnt"]
        able = subprocess.run([*probe, *trial], capture_output=True, text=True, check=False)
        if able.returncode != 0:  # the root of a chroot is no mount point whose propagation could be changed
            probe += ["--propagation", "unchanged"]
            able = subprocess.run([*probe, *trial], capture_output=True, text=True, check=False)
        if able.returncode != 0:
            harness.skip_all("no mount is allowed here: " + able.stderr.strip())
        os.environ["WHILST_OWN_NAMESPACE"] = "1"
        os.execvp(probe[0], [*probe, sys.executable, *sys.argv])
    harness.main()
