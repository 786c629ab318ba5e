"""tests/integration/test_bad_input_disk.py -- a full disk: a refusal that says so, nothing lost, and room made is used."""
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
            self.assertEqual(os.listdir(os.path.join(server.data, "blobs")), [])
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
