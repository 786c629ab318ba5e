"""tests/integration/test_front_load.py -- the whole server with threads that speak HTTP, under everything at once: nothing is touched by two of them.

Clients of every kind, each in a loop: who submit, one by one, in batches and from behind TLS; who reserve, complete and release; who wait for jobs; who read
events; who publish; who send bodies over 1 MiB, also in chunks; who call through the gateway, recorded or not; who speak beanstalkd's protocol; who
pipeline; whose requests are malformed; and who vanish amid all of that. Meanwhile the server is told to reload tokens, certificates and
settings, or to stop, or is killed. The next life must have all that was acknowledged.

In the suite thread: under ThreadSanitizer a race ends the server, and so the test. Of plain builds it shows that the server does all that at
once. What a sanitizer says is looked for in the log of each life, however it ended.

    WHILST_FRONT_LOAD_SECONDS   of load in each life; default 1.5
    WHILST_FRONT_LOAD_LIVES     of each test; default 2
    WHILST_TEST_SEED            which threads, which clients do what when; default: the time
"""
import http.client
import json
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import authority
import backend
import harness
import sse
import test_hostile
import test_kill

SECONDS = float(os.environ.get("WHILST_FRONT_LOAD_SECONDS", "1.5"))
LIVES = int(os.environ.get("WHILST_FRONT_LOAD_LIVES", "2"))
SEED = int(os.environ.get("WHILST_TEST_SEED", str(int(time.time()))))
MIB = 1 << 20
GONE = (OSError, http.client.HTTPException, EOFError, IndexError)  # the last by readers of lines that have not come
NDJSON, BATCH = "application/x-ndjson", "application/vnd.whilst.batch"
EVENT = {"ce_specversion": "1.0", "ce_source": "/load", "ce_type": "t"}
# whoever reads a report wants names of functions in it, and what finds them may not be started from within the sandbox
ENV = {"WHILST_SANDBOX": "no"} if re.search(r"build-[at]san", harness.BINARY) else {}


class Wrong(Exception):
    """Not what was to be answered."""


class Client(harness.Client):
    """Over TLS if there is a context; with a token if there is one. Connects again only when it is told to."""

    def __init__(self, port, token=None, context=None):
        super().__init__(port)
        self.token, self.context = token, context

    def request(self, method, path, body=None, **headers):
        if self.token:
            headers.setdefault("Authorization", "Bearer " + self.token)
        if self.connection is None and self.context:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=self.timeout, context=self.context)
        return super().request(method, path, body, **headers)

    def must(self, statuses, method, path, body=None, **headers):
        answer = self.request(method, path, body, **headers)
        if answer.status not in statuses:
            raise Wrong(f"{method} {path}: {answer}")
        return answer


class History(test_kill.History):
    """And what else was acknowledged."""

    def __init__(self):
        super().__init__()
        self.events, self.there = 0, set()

    def published(self):
        with self.lock:
            self.events += 1

    def is_there(self, job):
        with self.lock:
            self.there.add(job)


class Load:
    """All the clients of one life. What they may not see while the server is well is in .wrong."""

    def __init__(self, server, history, chance, token=None, context=None):
        self.server, self.history, self.token, self.context = server, history, token, context
        self.tls = int(re.search(r"https://127\.0\.0\.1:(\d+)", server.addresses).group(1)) if context else None
        self.beanstalk = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", server.addresses).group(1))
        self.stop, self.ending, self.wrong = threading.Event(), False, []
        self.malformed_requests = list(test_hostile.bad_requests())
        client = self.client()
        self.first = client.must((202,), "POST", "/v1/queues/never/jobs", b"x").json()["id"]
        client.close()
        kinds = [self.submit, self.batches, self.work, self.work, self.wait, self.streams, self.upload, self.publish, self.through, self.recorded,
                 self.beans, self.pipeline, self.vanish, self.malformed, self.look]
        if context:
            kinds += [self.secure, self.secure]
        self.rounds = {kind.__name__: 0 for kind in kinds}
        self.threads = [threading.Thread(target=self.run, args=(kind, random.Random(chance.random()))) for kind in kinds]
        for thread in self.threads:
            thread.start()

    def client(self):
        return Client(self.server.port, self.token)

    def run(self, kind, chance):
        client = Client(self.tls, self.token, self.context) if kind == self.secure else self.client()
        try:
            while not self.stop.is_set():
                kind(client, chance)
                self.rounds[kind.__name__] += 1
        except GONE as gone:
            if not self.ending:
                self.wrong.append(f"{kind.__name__}: {gone!r}")
        except (Wrong, AssertionError, ValueError, KeyError, sse.Refused) as wrong:
            if not self.ending or re.search(r"<500|another", str(wrong)):
                self.wrong.append(f"{kind.__name__}: {wrong!r}")
        finally:
            client.close()

    def end(self):
        """From here on whatever happens to a client is no fault. Before the server is ended."""
        self.ending = True

    def join(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    # -- one round each

    def accept(self, answer, payload):
        job = answer.json()["id"]
        self.history.accepted(job, payload)
        return job

    def payload(self, chance, most=3000):
        return f"{self.history.life} ".encode() + chance.randbytes(chance.randrange(16, most))

    def submit(self, client, chance):
        payload = self.payload(chance)
        answer = client.must((202,), "POST", "/v1/queues/load/jobs?attempts=1000&time-to-run=300s", payload, Whilst_Commit=chance.choice(("async", "local")))
        self.accept(answer, payload)

    def secure(self, client, chance):
        self.submit(client, chance)
        if chance.random() < 0.2:
            client.must((200,), "GET", "/openapi.json")
        if chance.random() < 0.2:
            client.close()

    def batches(self, client, chance):
        if chance.random() < 0.5:
            body, kind = b"".join(b"%d\n" % chance.randrange(10**9) for _ in range(50)), NDJSON
        else:
            parts = [self.payload(chance, 200) for _ in range(50)]
            body, kind = b"".join(struct.pack("<I", len(part)) + part for part in parts), BATCH
        # jobs of others, which nobody takes: of those of a binary batch the payloads are not known to those who check
        answer = client.must((202,), "POST", "/v1/queues/batches/jobs", body, Content_Type=kind)
        if kind == NDJSON:
            for line in answer.body.splitlines():
                self.history.is_there(json.loads(line)["id"])
        actions = [{"action": "submit", "queue": "batches", "payload": "x"} for _ in range(3)]
        answer = client.must((200,), "POST", "/v1/transactions", json.dumps({"actions": actions}).encode(), Content_Type="application/json")
        for result in answer.json()["results"]:
            self.history.is_there(result["id"])

    def work(self, client, chance):
        answer = client.must((200, 204), "POST", "/v1/queues/load/reserve", Prefer="wait=1")
        if answer.status == 204:
            return
        job, lease = int(answer["Whilst-Job"]), answer["Whilst-Lease"]
        self.history.handed_out(job, lease, answer.body)
        way = chance.random()
        if way < 0.1:
            client.must((200,), "POST", f"/v1/jobs/{job}/release", Whilst_Lease=lease)
            return
        if way < 0.2:
            client.must((200,), "POST", f"/v1/jobs/{job}/extend", Whilst_Lease=lease)
        client.must((200,), "POST", f"/v1/jobs/{job}/complete", b"result of " + answer.body, Whilst_Lease=lease)
        self.history.completed(job)

    def wait(self, client, chance):
        payload = self.payload(chance)
        job = self.accept(client.must((202,), "POST", "/v1/queues/load/jobs?attempts=1000&time-to-run=300s&priority=1", payload), payload)
        answer = client.must((200,), "GET", f"/v1/jobs/{job}", Prefer=f"wait={chance.randrange(1, 5)}")
        if not answer.json()["state"] in ("ready", "running", "done"):
            raise Wrong(f"{answer}")

    def streams(self, client, chance):
        token = {"Authorization": "Bearer " + self.token} if self.token else {}
        which = chance.choice(("queue", "queues", "job"))
        if which == "job":
            payload = self.payload(chance)
            job = self.accept(client.must((202,), "POST", "/v1/queues/load/jobs?attempts=1000&time-to-run=300s", payload), payload)
            path, count = f"/v1/jobs/{job}", 1
        else:
            path, count = {"queue": ("/v1/queues/load/events", 2), "queues": ("/v1/queues", 1)}[which]
        with sse.Stream(self.server.port, path, Host="localhost", **token) as stream:
            for _ in range(chance.randrange(count + 1)):
                stream.event()

    def upload(self, client, chance):
        payload = chance.randbytes(MIB + chance.randrange(MIB))
        if chance.random() < 0.5:
            pieces = (payload[at:at + 200001] for at in range(0, len(payload), 200001))
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=harness.DEADLINE)
            token = {"Authorization": "Bearer " + self.token} if self.token else {}
            try:
                connection.request("POST", "/v1/queues/large/jobs?time-to-run=300s", body=pieces, headers=token, encode_chunked=True)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 202:
                    raise Wrong(f"{answer.status} {body[:300]}")
                job = json.loads(body)["id"]
            finally:
                connection.close()
        else:
            job = client.must((202,), "POST", "/v1/queues/large/jobs?time-to-run=300s", payload).json()["id"]
        self.history.accepted(job, payload)
        if client.must((200,), "GET", f"/v1/jobs/{job}/payload").body != payload:
            raise Wrong(f"job {job} has another payload")
        taken = client.must((200,), "POST", "/v1/queues/large/reserve")
        job, lease = int(taken["Whilst-Job"]), taken["Whilst-Lease"]  # it may be one of an earlier life
        self.history.handed_out(job, lease, taken.body)
        client.must((200,), "POST", f"/v1/jobs/{job}/complete", b"result of " + taken.body, Whilst_Lease=lease)
        self.history.completed(job)

    def publish(self, client, chance):
        answer = client.must((202,), "POST", "/v1/topics/load/events", self.payload(chance), ce_id=str(chance.getrandbits(64)), **EVENT)
        if answer.json()["jobs"] != 1:
            raise Wrong(f"{answer}")
        self.history.published()

    def through(self, client, chance):
        body = self.payload(chance, 300000)
        if client.must((200,), "POST", "/call/load/mirror", body).body != body:
            raise Wrong("a backend's answer is another one")
        client.must((200,), "GET", "/call/load/bytes/200000")

    def recorded(self, client, chance):
        answer = client.must((202,), "POST", "/call/load/mirror", self.payload(chance), Prefer="respond-async")
        job = int(answer["Location"].rsplit("/", 1)[1])
        self.history.is_there(job)
        if chance.random() < 0.5:
            client.must((200,), "GET", f"/v1/jobs/{job}", Prefer="wait=10")

    def beans(self, client, chance):
        with socket.create_connection(("127.0.0.1", self.beanstalk), timeout=harness.DEADLINE) as s:
            file = s.makefile("rb")
            s.sendall(b"use beans\r\nwatch beans\r\nignore default\r\n")
            for _ in range(3):
                file.readline()
            for _ in range(10):
                body = chance.randbytes(200)
                s.sendall(b"put 0 0 60 200\r\n" + body + b"\r\n")
                words = file.readline().split()
                if len(words) != 2 or words[0] != b"INSERTED":
                    raise EOFError if not words else Wrong(f"beanstalkd's protocol: {words}")
                self.history.is_there(int(words[1]))
            s.sendall(b"reserve-with-timeout 1\r\n")
            words = file.readline().split()
            if words and words[0] == b"RESERVED" and chance.random() < 0.7:
                file.read(int(words[2]) + 2)
                s.sendall(b"bury %s 0\r\n" % words[1])
                file.readline()

    def head(self, line, more=""):
        return f"{line} HTTP/1.1\r\nHost: localhost\r\n{f'Authorization: Bearer {self.token}' + chr(13) + chr(10) if self.token else ''}{more}\r\n".encode()

    def pipeline(self, client, chance):
        """More at once than is read ahead, and of two kinds: those that wait for the disk, and those that do not."""
        count = chance.randrange(1, 100)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            sent = [chance.random() < 0.3 for _ in range(count)]
            requests = b"".join(self.head("POST /v1/queues/piped/jobs", "Content-Length: 5\r\n") + b"piped" if one else self.head("GET /livez") for one in sent)
            sender = threading.Thread(target=test_hostile.Hostile.send, args=(s, requests))
            sender.start()
            rest = b""
            try:
                for one in sent[:chance.randrange(count + 1)] if chance.random() < 0.5 else sent:
                    answer, rest = harness.read_answer(s, rest)
                    if answer.status != (202 if one else 200):
                        raise Wrong(f"{answer}")
                    if one:
                        self.accept(answer, b"piped")
            finally:
                if rest or chance.random() < 0.5:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.shutdown(socket.SHUT_RDWR)
                sender.join()

    def vanish(self, client, chance):
        """Amid a head, a body, a wait, a stream, an answer; by a reset, or as who has said all."""
        beginnings = [self.head("GET /livez")[:-chance.randrange(1, 20)],
                      self.head("POST /v1/queues/gone/jobs", "Content-Length: 100000\r\n") + b"x" * chance.randrange(100000),
                      self.head("POST /v1/queues/gone/jobs", "Content-Length: 5000000\r\n") + b"x" * chance.randrange(300000),
                      self.head("POST /v1/queues/gone/jobs", "Transfer-Encoding: chunked\r\n") + b"40000\r\n" + b"x" * chance.randrange(0x40000),
                      self.head(f"GET /v1/jobs/{self.first}", "Prefer: wait=5\r\n"),
                      self.head("POST /v1/queues/nobody/reserve", "Prefer: wait=5\r\nContent-Length: 0\r\n"),
                      self.head("GET /v1/queues/load/events", "Accept: text/event-stream\r\n"),
                      self.head("GET /v1/topics/load/events", "Accept: text/event-stream\r\n"),
                      self.head("GET /openapi.json") * 20,
                      self.head("GET /call/load/bytes/3000000"),
                      self.head("POST /call/load/mirror", "Content-Length: 3000000\r\n") + b"x" * chance.randrange(300000)]
        held = []
        for begin in chance.sample(beginnings, 4):
            s = socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE)
            held.append(s)
            s.sendall(begin)
        for s in held:
            if chance.random() < 0.5:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        client.must((200,), "GET", "/readyz")  # as fast as the server gets rid of them

    def malformed(self, client, chance):
        request = chance.choice(self.malformed_requests)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            try:
                s.sendall(request)
                s.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            except OSError as error:
                if error.errno != 107:  # ENOTCONN: it was refused, and closed, before all of it was said
                    raise
            if re.match(rb"HTTP/1\.1 500", harness.read_all(s)):
                raise Wrong(f"{request[:200]}: 500")

    def look(self, client, chance):
        client.must((200,), "GET", chance.choice(("/metrics", "/v1/queues", "/v1/log", "/readyz", "/v1/topics", "/v1/queues/load/jobs?limit=20")))
        client.must((200, 404), "GET", f"/v1/jobs/{chance.randrange(1, 2000)}")


class FrontLoad(unittest.TestCase):
    def setUp(self):
        print(f"WHILST_TEST_SEED={SEED}", file=sys.stderr)
        self.chance = random.Random(SEED)
        self.history, self.servers = History(), 0
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.authority = authority.Authority()
        self.addCleanup(self.authority.remove)
        self.certificate, self.key = self.authority.sign("first", "server")
        self.context = ssl.create_default_context(cafile=self.authority.certificate)
        self.backend = backend.Backend()
        self.addCleanup(self.backend.stop)
        self.server = harness.Server(start=False, env=ENV)
        self.addCleanup(self.server.remove)
        self.common = ["--listen-tls", "127.0.0.1:0", "--tls-certificate", self.certificate, "--tls-key", self.key, "--beanstalk", "127.0.0.1:0",
                       "--max-payload", "8MiB", "--service", f"load={self.backend.url}", "--request-timeout", "60s", "--max-wait", "30s",
                       "--max-uploads", "1000"]

    def start(self, *more, token=None):
        self.server.args = [*self.common, "--front-threads", str(self.chance.randrange(2, 5)), *more]
        self.server.stderr = []
        self.server.start()
        client = Client(self.server.port, token)
        client.must((200, 201), "PUT", "/v1/topics/load", b'{"retention": "1h"}', Content_Type="application/json")
        client.must((200, 201), "PUT", "/v1/topics/load/subscriptions/s", b"{}", Content_Type="application/json")
        client.close()

    def load(self, token=None):
        return Load(self.server, self.history, self.chance, token, self.context)

    def ended(self, load):
        """What has been seen, and said by a sanitizer, in the life that is over."""
        log = self.server.log()
        self.assertNotRegex(log, r"Sanitizer|runtime error:|lvl=error", log[-20000:])
        self.assertEqual(load.wrong, [], log[-5000:])
        self.assertEqual(self.history.wrong, [])
        print(dict(sorted(load.rounds.items())), file=sys.stderr)

    def look(self, *more, token=None):
        """The next life has what was acknowledged."""
        self.start(*more, token=token)
        client = Client(self.server.port, token)
        jobs = set(self.history.payloads) | self.history.done
        for job in sorted(jobs | self.history.there):
            answer = client.must((200,), "GET", f"/v1/jobs/{job}", Whilst_Commit="async")
            state = answer.json()["state"]
            if job in self.history.done:
                self.assertEqual(state, "done", f"job {job} was completed")
                payload = self.history.payloads.get(job)
                result = client.must((200,), "GET", f"/v1/jobs/{job}/result", Whilst_Commit="async").body
                self.assertTrue(result == b"result of " + payload if payload else result.startswith(b"result of "), f"job {job}")
            elif job in jobs:
                self.assertIn(state, ("ready", "running", "done"), f"job {job}")
        self.assertGreaterEqual(client.must((200,), "GET", "/v1/topics/load").json()["events"], self.history.events)
        self.assertGreater(len(jobs), 10, "there was load")
        client.close()
        self.server.stop()
        self.assertNotRegex(self.server.log(), r"Sanitizer|runtime error:|lvl=error")

    def go_on(self, load):
        """For as long as is wanted, and until each kind of client has done all it does."""
        until = time.monotonic() + SECONDS

        def enough():
            self.assertIsNone(self.server.process.poll(), self.server.log()[-20000:])
            return load.wrong or (min(load.rounds.values()) > 0 and time.monotonic() > until)
        harness.eventually(enough, "a round of each", harness.DEADLINE + SECONDS)

    def test_killed(self):
        for self.history.life in range(LIVES):
            self.start()
            load = self.load()
            self.go_on(load)
            load.end()
            self.server.kill()
            load.join()
            self.ended(load)
        self.look()

    def test_stopped(self):
        for self.history.life in range(LIVES):
            self.start()
            load = self.load()
            self.go_on(load)
            load.end()
            try:
                self.server.stop()
            finally:
                load.join()
            self.ended(load)
        self.look()

    def test_reloaded(self):
        tokens, settings = self.folder.name + "/tokens", self.folder.name + "/whilst.conf"
        lines, secrets = {}, {}
        for name, scope in (("root", "admin"), ("late", "read"), ("metered", "metrics")):
            made = subprocess.run([harness.BINARY, "token", name, scope], capture_output=True, check=True, text=True, timeout=60)
            lines[name], secrets[name] = made.stderr, made.stdout.strip()

        def write(*names, level="info"):
            with open(tokens + ".new", "w", encoding="utf-8") as file:
                file.writelines(lines[name] for name in names)
            os.rename(tokens + ".new", tokens)
            with open(settings, "w", encoding="utf-8") as file:
                file.write(f"log-level = {level}\nservice = {level}=http://127.0.0.1:9\n")

        write("root")
        more, token = ("--tokens", tokens, "--config", settings), secrets["root"]
        self.start(*more, token=token)
        load = self.load(token)
        reloads, until = 0, time.monotonic() + SECONDS
        while reloads < 2 * LIVES or time.monotonic() < until or min(load.rounds.values()) == 0:
            self.assertEqual(load.wrong, [], self.server.log()[-20000:])
            late = reloads % 2 == 0
            self.authority.sign(f"server{reloads}", "server")
            write("root", *["late", "metered"][:2 if late else 0], level="info" if late else "warn")
            self.server.process.send_signal(1)
            reloads += 1
            wanted = 200 if late else 401

            def taken():
                self.assertIsNone(self.server.process.poll(), self.server.log())
                client = Client(self.server.port, secrets["late"])
                status = client.request("GET", "/v1/queues").status
                client.close()
                return status == wanted
            harness.eventually(taken, f"reload {reloads}")
            with socket.create_connection(("127.0.0.1", load.tls), timeout=harness.DEADLINE) as plain, \
                    self.context.wrap_socket(plain, server_hostname="localhost") as secure:
                subject = dict(item[0] for item in secure.getpeercert()["subject"])
                self.assertRegex(subject["commonName"], r"^server\d+$")
        load.end()
        try:
            self.server.stop()
        finally:
            load.join()
        self.ended(load)
        self.look(*more, token=token)


if __name__ == "__main__":
    harness.main()
