"""tests/integration/test_tokens.py -- bearer tokens: who may do what, what is passed on, what is told."""
import os
import socket
import subprocess
import tempfile
import time
import unittest

import backend
import harness


class Tokens(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = self.folder.name + "/tokens"
        self.tokens = {}
        with open(self.path, "w") as file:
            file.write("# who may do what\n\n")
        self.add("shop", "submit:mail-*", "read:mail-*")
        self.add("mailer", "work:mail-out")
        self.add("caller", "call:echo")
        self.add("watch", "metrics")
        self.add("root", "admin")

    def add(self, name, *scopes):
        made = subprocess.run([harness.BINARY, "token", name, *scopes], capture_output=True, check=True, text=True, timeout=60)
        with open(self.path, "a") as file:
            file.write(made.stderr)
        self.tokens[name] = made.stdout.strip()
        self.assertNotIn(self.tokens[name], made.stderr)

    def serve(self, *args):
        server = harness.Server("--tokens", self.path, *args)
        self.addCleanup(server.remove)
        return server

    def bearer(self, name):
        return {"Authorization": f"Bearer {self.tokens[name]}"}

    def refused(self, answer, status, code):
        self.assertEqual((answer.status, answer.json()["code"]), (status, code), answer)
        self.assertTrue(answer["WWW-Authenticate"].startswith("Bearer"))

    def test_schedules(self):
        """Who puts a schedule submits in its name: both scopes are wanted. What it shows is its admin's alone."""
        self.add("planner", "admin:night-*", "submit:mail-*")
        with self.serve() as server:
            client = server.client()
            good = {"cron": "0 3 * * *", "job": {"queue": "mail-out", "payload": "x"}}
            self.refused(client.put("/v1/schedules/night-1", good), 401, "no-token")
            for name in ("shop", "mailer", "watch"):
                self.refused(client.put("/v1/schedules/night-1", good, **self.bearer(name)), 403, "not-allowed")
            self.assertEqual(client.put("/v1/schedules/night-1", good, **self.bearer("planner")).status, 201)
            self.refused(client.put("/v1/schedules/day-1", good, **self.bearer("planner")), 403, "not-allowed")
            other = client.put("/v1/schedules/night-1", {**good, "job": {"queue": "other"}}, **self.bearer("planner"))
            self.refused(other, 403, "not-allowed")
            self.assertIn("submit:other", other.json()["detail"])
            self.assertEqual(client.get("/v1/schedules/night-1", **self.bearer("planner")).json()["job"], good["job"])
            self.refused(client.get("/v1/schedules/night-1", **self.bearer("shop")), 403, "not-allowed")
            self.refused(client.get("/v1/schedules", **self.bearer("planner")), 403, "not-allowed")
            self.assertEqual(len(client.get("/v1/schedules", **self.bearer("root")).json()["schedules"]), 1)
            self.assertEqual(client.post("/v1/schedules/night-1/run", **self.bearer("planner")).status, 202)
            self.refused(client.post("/v1/schedules/night-1/run", **self.bearer("shop")), 403, "not-allowed")
            self.refused(client.delete("/v1/schedules/night-1", **self.bearer("shop")), 403, "not-allowed")
            self.assertEqual(client.delete("/v1/schedules/night-1", **self.bearer("planner")).status, 200)
            client.close()

    def test_schedules_that_publish(self):
        """As of one that submits, with publish in the place of submit."""
        self.add("planner", "admin:night-*", "publish:told-*", "submit")
        self.add("clerk", "admin:night-*", "submit")
        with self.serve() as server:
            client = server.client()
            for topic in ("told-1", "other"):
                self.assertEqual(client.put(f"/v1/topics/{topic}", {}, **self.bearer("root")).status, 201)
            good = {"cron": "0 3 * * *", "publish": {"topic": "told-1", "payload": "x"}}
            refused = client.put("/v1/schedules/night-1", good, **self.bearer("clerk"))
            self.refused(refused, 403, "not-allowed")
            self.assertIn("publish:told-1", refused.json()["detail"])
            for topic in ("other", "unknown"):  # who may not publish there does not learn whether it is there
                self.refused(client.put("/v1/schedules/night-1", {**good, "publish": {"topic": topic}}, **self.bearer("planner")), 403, "not-allowed")
            self.assertEqual(client.put("/v1/schedules/night-1", {**good, "publish": {"topic": "told-2"}}, **self.bearer("planner")).json()["code"], "unknown-topic")
            self.assertEqual(client.put("/v1/schedules/night-1", good, **self.bearer("planner")).status, 201)
            self.assertEqual(client.post("/v1/schedules/night-1/run", **self.bearer("planner")).status, 202)
            client.close()

    def test_each_by_its_scopes(self):
        with self.serve() as server:
            client = server.client()
            for path in ("/v1/queues", "/v1/jobs/1", "/metrics", "/call/echo/x", "/"):
                self.refused(client.get(path), 401, "no-token")
                self.refused(client.get(path, Authorization="Bearer nonsense"), 401, "no-token")
                self.refused(client.get(path, Authorization="Basic eDp5"), 401, "no-token")
            for path in ("/livez", "/readyz"):
                self.assertEqual(client.get(path).status, 200)
            # the page asks for a token itself, and is the same for everybody: it says nothing of this server
            page = client.get("/", Accept="text/html")
            with harness.Server() as open_to_all:
                other = open_to_all.client()
                self.assertEqual((page.status, page.body), (200, other.get("/", Accept="text/html").body))
                other.close()
            job = client.submit("mail-out", b"hello", **self.bearer("shop"))
            self.refused(client.post("/v1/queues/other/jobs", b"x", **self.bearer("shop")), 403, "not-allowed")
            self.refused(client.post("/v1/queues/mail-out/jobs", b"x", **self.bearer("mailer")), 403, "not-allowed")
            self.refused(client.post("/v1/queues/mail-out/reserve", **self.bearer("shop")), 403, "not-allowed")
            self.refused(client.post("/v1/queues/mail-outer/reserve", **self.bearer("mailer")), 403, "not-allowed")
            self.assertEqual(client.get(f"/v1/jobs/{job}", **self.bearer("shop")).status, 200)
            self.refused(client.get(f"/v1/jobs/{job}", **self.bearer("mailer")), 403, "not-allowed")
            self.refused(client.delete(f"/v1/jobs/{job}", **self.bearer("mailer")), 403, "not-allowed")
            taken, lease, body = client.reserve("mail-out", **self.bearer("mailer"))
            self.assertEqual((taken, body), (job, b"hello"))
            self.refused(client.complete(job, lease, b"r", **self.bearer("caller")), 403, "not-allowed")
            self.assertEqual(client.complete(job, lease, b"done", **self.bearer("mailer")).status, 200)
            self.assertEqual(client.get(f"/v1/jobs/{job}/result", **self.bearer("shop")).body, b"done")
            # the list of all queues is for who may read all of them
            self.refused(client.get("/v1/queues", **self.bearer("shop")), 403, "not-allowed")
            self.assertEqual(client.get("/v1/queues", **self.bearer("root")).status, 200)
            self.refused(client.get("/metrics", **self.bearer("shop")), 403, "not-allowed")
            self.assertEqual(client.get("/metrics", **self.bearer("watch")).status, 200)
            self.refused(client.put("/v1/queues/mail-out", {}, **self.bearer("shop")), 403, "not-allowed")
            self.assertIn(client.put("/v1/queues/mail-out", {}, **self.bearer("root")).status, (200, 201))
            self.assertEqual(client.get("/v1/log", **self.bearer("watch")).status, 200)
            # of what does not exist nothing is told but that
            self.assertEqual(client.get("/v1/jobs/9007199254740000", **self.bearer("shop")).status, 404)
            self.assertEqual(client.get("/v1/jobs/none", **self.bearer("shop")).status, 400)

    def test_a_body_that_is_refused_is_not_read(self):
        with self.serve() as server:
            answer = harness.raw(server.port, b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 60000000\r\n"
                                 b"Expect: 100-continue\r\n\r\n", timeout=2, half_close=True)
            self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), answer)

    def test_the_gateway_keeps_our_credential_and_passes_theirs(self):
        theirs = backend.Backend()
        self.addCleanup(theirs.stop)
        with self.serve("--service", f"echo=http://127.0.0.1:{theirs.server_address[1]}",
                        "--service", f"other=http://127.0.0.1:{theirs.server_address[1]}") as server:
            client = server.client()
            for prefer in ({}, {"Prefer": "wait=20"}):
                seen = client.get("/call/echo/headers", **self.bearer("caller"), **prefer)
                self.assertEqual(seen.status, 200, seen)
                self.assertNotIn(self.tokens["caller"].encode(), seen.body)
                self.assertNotIn(b"authorization", seen.body.lower())
                seen = client.get("/call/echo/headers", Whilst_Token=self.tokens["caller"], Authorization="Bearer theirs", **prefer)
                self.assertIn(b"Bearer theirs", seen.body)
                self.assertNotIn(self.tokens["caller"].encode(), seen.body)
                self.assertNotIn(b"whilst-token", seen.body.lower())
            self.refused(client.get("/call/other/headers", **self.bearer("caller")), 403, "not-allowed")
            # who may call may look at the calls
            accepted = client.post("/call/echo/echo", b"x", Prefer="respond-async", **self.bearer("caller"))
            self.assertEqual(accepted.status, 202, accepted)
            self.assertEqual(client.get(accepted["Location"], **self.bearer("caller")).status, 200)
            self.refused(client.get(accepted["Location"], **self.bearer("shop")), 403, "not-allowed")

    def test_what_is_told(self):
        with self.serve() as server:
            client = server.client()
            client.put("/v1/queues/q", {}, **self.bearer("root"))
            for _ in range(50):
                client.get("/v1/queues", Authorization="Bearer guess")
            harness.eventually(lambda: "allowed=no" in server.log(), "telling")
            audit = [line for line in server.log().splitlines() if "ev=audit" in line]
            self.assertRegex(audit[0], r'token=root namespace=- action=admin allowed=yes method=PUT path="/v1/queues/q"')
            self.assertLess(len(audit), 30)  # a flood of guesses is no flood of lines
            for token in [*self.tokens.values(), "guess"]:
                self.assertNotIn(token, server.log())

    def test_new_tokens_without_a_restart(self):
        with self.serve() as server:
            client = server.client()
            with open(self.path) as file:
                lines = [line for line in file if not line.startswith("shop ")]
            with open(self.path, "w") as file:
                file.writelines(lines)
            self.add("late", "read")
            server.process.send_signal(1)
            harness.eventually(lambda: "ev=reloaded" in server.log(), "reloading")
            self.assertEqual(client.get("/v1/queues", **self.bearer("late")).status, 200)
            self.refused(client.get("/v1/queues", **self.bearer("shop")), 401, "no-token")
            with open(self.path, "a") as file:
                file.write("broken\n")
            server.process.send_signal(1)
            harness.eventually(lambda: "ev=cannot-reload" in server.log(), "refusing")
            self.assertEqual(client.get("/v1/queues", **self.bearer("late")).status, 200)

    def test_the_commands_show_theirs(self):
        with self.serve() as server:
            command = [harness.BINARY, "submit", "mail-out", "--server", f"http://127.0.0.1:{server.port}"]
            told = subprocess.run(command, input=b"x", capture_output=True, timeout=60)
            self.assertEqual(told.returncode, 1, told)
            told = subprocess.run(command, input=b"x", capture_output=True, timeout=60,
                                  env=dict(os.environ, WHILST_TOKEN=self.tokens["shop"]))
            self.assertEqual(told.returncode, 0, told)
            for token, status in (("", 1), (self.tokens["mailer"], 1), (self.tokens["shop"], 0)):
                looked = subprocess.run([harness.BINARY, "status", told.stdout.decode().strip(), "--server",
                                         f"http://127.0.0.1:{server.port}"], capture_output=True, timeout=60,
                                        env=dict(os.environ, WHILST_TOKEN=token))
                self.assertEqual(looked.returncode, status, looked)

    def test_limits(self):
        """Beyond its rate or bytes a token is told when to come again; others are not concerned, and what is refused costs nothing."""
        self.add("slow", "read", "submit", "rate=1")
        self.add("thin", "submit", "bytes=1MiB")
        with self.serve() as server:
            client, other = server.client(), server.client()
            answers, begun = [], time.monotonic()
            while len(answers) < 2 or answers[-1].status == 200 and len(answers) < 1000:
                answers.append(client.get("/v1/queues/none", **self.bearer("slow")))
                if answers[-1].status == 404:
                    answers[-1].status = 200  # it was let in, which is all that counts here
            passed = time.monotonic() - begun
            self.assertLessEqual(len(answers) - 1, passed + 2, "as many as a second's worth and what time has earned")
            refused = answers[-1]
            self.assertEqual((refused.status, refused.json()["code"], refused.json()["limit"]), (429, "too-many-requests", 1))
            self.assertEqual(refused["Retry-After"], "1")
            for _ in range(20):
                self.assertEqual(other.get("/v1/queues", **self.bearer("root")).status, 200)
            # however often it asks in vain, its time comes
            harness.eventually(lambda: client.get("/v1/queues/none", **self.bearer("slow")).status == 404, "being let in")
            harness.eventually(lambda: "token=slow namespace=- action=read allowed=no" in server.log(), "the audit event")
            # bodies: the first is let in whatever its size, and is owed for a while
            body = b"x" * (40 << 20)
            self.assertEqual(client.post("/v1/queues/q/jobs", body, **self.bearer("thin")).status, 202)
            answer = client.post("/v1/queues/q/jobs", b"x", **self.bearer("thin"))
            self.assertEqual((answer.status, answer.json()["limit"]), (429, 1 << 20))
            self.assertGreater(int(answer["Retry-After"]), 1)
            self.assertEqual(other.post("/v1/queues/q/jobs", b"x", **self.bearer("root")).status, 202)
            got = harness.raw(server.port, f"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: h\r\nWhilst-Token: {self.tokens['thin']}\r\n"
                              "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n".encode())
            self.assertTrue(got.startswith(b"HTTP/1.1 411 "), got)
            # the file read anew begins anew
            server.process.send_signal(1)
            harness.eventually(lambda: "ev=reloaded" in server.log(), "reloading")
            self.assertEqual(client.post("/v1/queues/q/jobs", b"x", **self.bearer("thin")).status, 202)
            client.close()
            other.close()

    def test_as_many_at_once(self):
        """Of a token with connections=2: waits, streams and bodies on their way count until they are over, however that comes."""
        self.add("few", "read", "submit", "connections=2")
        authorization = f"Authorization: Bearer {self.tokens['few']}\r\n"
        with self.serve() as server:
            client, other = server.client(), server.client()

            def begin(head, body=b""):
                s = socket.create_connection(("127.0.0.1", server.port), harness.DEADLINE)
                self.addCleanup(s.close)
                s.sendall(f"{head} HTTP/1.1\r\nHost: h\r\n{authorization}".encode() + body)
                return s

            def let_in():
                answer = client.get("/v1/queues", **self.bearer("few"))
                if answer.status != 200:
                    self.assertEqual((answer.status, answer.json()["code"], answer.json()["limit"], answer["Retry-After"]),
                                     (429, "too-many-requests", 2, "1"))
                return answer.status == 200
            job = client.submit("q", b"x", **self.bearer("few"))
            idle = [begin("GET /v1/queues", b"\r\n") for _ in range(3)]  # connections without a request are nobody's
            for s in idle:
                self.assertIn(harness.read_answer(s)[0].status, (200, 429))
            harness.eventually(let_in, "being let in")
            wait = begin(f"GET /v1/jobs/{job}", b"Prefer: wait=200\r\n\r\n")
            stream = begin(f"GET /v1/jobs/{job}", b"Accept: text/event-stream\r\n\r\n")
            self.assertTrue(stream.recv(100).startswith(b"HTTP/1.1 200 "))
            harness.eventually(lambda: not let_in(), "being refused")
            self.assertEqual(other.get("/v1/queues", **self.bearer("root")).status, 200)
            refused = begin("POST /v1/queues/q/jobs", b"Content-Length: 60000000\r\nExpect: 100-continue\r\n\r\n")
            self.assertTrue(refused.recv(100).startswith(b"HTTP/1.1 429 "))
            # a body on its way, in the place of a stream that its client has left
            stream.close()
            harness.eventually(let_in, "the stream's end")
            upload = begin("POST /v1/queues/q/jobs", b"Content-Length: 60000000\r\n\r\n" + b"x" * 5000)
            harness.eventually(lambda: not let_in(), "being refused")
            server.process.send_signal(1)  # the file is read anew: what is under way is so still
            harness.eventually(lambda: "ev=reloaded" in server.log(), "reloading")
            self.assertFalse(let_in())
            upload.close()
            harness.eventually(let_in, "the upload's end")
            taken, lease, _ = other.reserve("q", **self.bearer("root"))
            another = begin(f"GET /v1/jobs/{job}", b"Accept: text/event-stream\r\n\r\n")
            harness.eventually(lambda: not let_in(), "being refused")
            other.complete(taken, lease, b"done", **self.bearer("root"))
            self.assertEqual(harness.read_answer(wait)[0].json()["state"], "done")
            harness.eventually(let_in, "the wait's end")
            another.close()
            client.close()
            other.close()

    def test_files_that_are_wrong(self):
        digest = "sha256:" + "0" * 64
        for text, line in ((f"a {digest}", 1), (f"\n# c\na {digest} nothing:x", 3), (f"a sha256:00 read", 1), ("a", 1),
                           (f"a! {digest} read", 1), (f"a {digest} read:", 1), (f"a {digest} any", 1), (f"a {digest} read rate=0", 1),
                           (f"a {digest} read speed=1", 1), (f"a {digest} read connections=0", 1),
                           (f"a {digest} read connections=1 connections=2", 1), (f"a {digest} rate=1", 1), (f"a {digest} submit:*x", 1),
                           (f"a {digest} submit:a*b*", 1), (f"a {digest} read\nb sha256:{'1' * 64} read\nc {digest} submit", 3)):
            with open(self.path, "w") as file:
                file.write(text + "\n")
            ended = subprocess.run([harness.BINARY, "config", "check", "--tokens", self.path], capture_output=True, timeout=60)
            self.assertEqual(ended.returncode, 2, text)
            self.assertIn(f"{self.path}:{line}:", ended.stderr.decode())
        self.assertEqual(subprocess.run([harness.BINARY, "token", "x", "nothing"], capture_output=True, timeout=60).returncode, 2)
        self.assertEqual(subprocess.run([harness.BINARY, "token", "x"], capture_output=True, timeout=60).returncode, 2)


if __name__ == "__main__":
    harness.main()
