"""tests/integration/test_namespaces.py -- tokens with a prefix: what is of another namespace is not there, by whatever road it is asked for.

Two tenants, acme and bolt, have the same names; root has no prefix. What one does, shows the other nothing; what a hostile one tries is
answered as it would be if the other did not exist.
"""
import base64
import collections
import http.server
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import harness
import openapi
import sse

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
BATCH = "application/vnd.whilst.batch"


Request = collections.namedtuple("Request", "path headers content")


class Backend(http.server.ThreadingHTTPServer):
    """Answers, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Asked)
        self.requests, self.port = [], self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Asked(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.requests.append(Request(self.path, dict(self.headers.items()), content))
        self.send_response(200)
        self.send_header("Content-Length", "16")
        self.end_headers()
        self.wfile.write(b"from the backend")

    do_POST = do_GET


class Tokens(unittest.TestCase):
    """A server for each test, with tokens for two tenants and one for all."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = self.folder.name + "/tokens"
        self.tokens = {}
        open(self.path, "w").close()
        for tenant in ("acme", "bolt"):
            self.add(tenant, "admin", "prefix=" + tenant)
        self.add("root", "admin")

    def add(self, name, *words):
        made = subprocess.run([harness.BINARY, "token", name, *words], capture_output=True, check=True, text=True, timeout=60)
        with open(self.path, "a") as file:
            file.write(made.stderr)
        self.tokens[name] = made.stdout.strip()

    def serve(self, *args, data=None):
        server = harness.Server("--tokens", self.path, *args, data=data)
        self.addCleanup(server.remove)
        return server

    def bearer(self, name):
        return {"Authorization": f"Bearer {self.tokens[name]}"}


class As:
    """A client that shows a token at each request."""

    def __init__(self, case, server, name):
        self.client, self.headers = server.client(), case.bearer(name)
        case.addCleanup(self.client.close)
        self.port, self.case, self.name = server.port, case, name

    def __getattr__(self, verb):
        method = getattr(self.client, verb)
        return lambda *args, **more: method(*args, **{**self.headers, **more})

    def events(self, path, last="", **more):
        stream = sse.Stream(self.port, path, last, **{"Authorization": self.headers["Authorization"], **more})
        self.case.addCleanup(stream.close)
        return stream


class Tenants(Tokens):
    def setUp(self):
        super().setUp()
        self.back = Backend()
        self.addCleanup(self.back.close)
        with open(self.folder.name + "/secrets", "w") as file:
            file.write(SECRET + "\n")
        self.server = self.serve("--callback-secrets", self.folder.name + "/secrets", "--allow-private-targets", "127.0.0.0/8")
        self.acme, self.bolt, self.root = (As(self, self.server, n) for n in ("acme", "bolt", "root"))

    def problem(self, answer, status, code):
        self.assertEqual((answer.status, answer.json()["code"]), (status, code), answer)

    def same(self, one, other):
        """Two answers that cannot be told apart but for the numbers that were asked for."""
        def plain(answer):
            body = answer.json() if answer.body else None
            return (answer.status, body and body.get("code"), body and body.get("title"), answer["WWW-Authenticate"])
        self.assertEqual(plain(one), plain(other), (one, other))

    def queues_of_root(self):
        """Without the server's own."""
        return [q["name"] for q in self.root.get("/v1/queues").json()["queues"] if not q["name"].startswith("callbacks")]


def published(stream):
    """The next event of a topic."""
    while True:
        block = stream.block()
        if "data" in block:
            return block["data"]


class TwoTenants(Tenants):
    def test_queues(self):
        a = self.acme.submit("mail", b"of acme")
        b = self.bolt.submit("mail", b"of bolt")
        self.assertNotEqual(a, b)
        for tenant, job in ((self.acme, a), (self.bolt, b)):
            self.assertEqual([q["name"] for q in tenant.get("/v1/queues").json()["queues"]], ["mail"])
            self.assertEqual(tenant.get("/v1/queues/mail").json()["jobs"]["ready"], 1)
            self.assertEqual(tenant.get(f"/v1/jobs/{job}").json()["queue"], "mail")
            self.assertEqual([j["id"] for j in tenant.get("/v1/queues/mail/jobs").json()["jobs"]], [job])
        self.assertEqual(self.queues_of_root(), ["acme:mail", "bolt:mail"])
        self.assertEqual(self.root.get(f"/v1/jobs/{a}").json()["queue"], "acme:mail")
        self.assertEqual(self.root.get("/v1/queues/acme%3Amail").json()["name"], "acme:mail")
        self.problem(self.root.get("/v1/queues/mail"), 404, "unknown-queue")
        # root works for a tenant by the full name, a tenant only for itself
        self.assertEqual(self.bolt.reserve("mail")[2], b"of bolt")
        job, lease, body = self.root.reserve("acme%3Amail")
        self.assertEqual((job, body), (a, b"of acme"))
        self.assertEqual(self.root.complete(job, lease, b"done").status, 200)
        self.assertEqual(self.acme.get(f"/v1/jobs/{a}/result").body, b"done")
        self.problem(self.bolt.get(f"/v1/jobs/{a}/result"), 404, "unknown-job")

    def test_what_is_answered_names_things_within(self):
        made = self.acme.put("/v1/queues/dead", {})
        self.assertEqual((made.status, made["Location"], made.json()), (201, "/v1/queues/dead", {"name": "dead"}))
        made = self.acme.put("/v1/queues/mail", {"dead_letter": "dead", "attempts": 1})
        self.assertEqual((made.status, made["Location"]), (201, "/v1/queues/mail"))
        self.assertEqual(self.acme.get("/v1/queues/mail").json()["dead_letter"], "dead")
        self.assertEqual(self.root.get("/v1/queues/acme%3Amail").json()["dead_letter"], "acme:dead")
        accepted = self.acme.post("/v1/queues/mail/jobs", b"x")
        self.assertEqual((accepted.json()["queue"], accepted["Location"]), ("mail", f"/v1/jobs/{accepted.json()['id']}"))
        job, lease, _ = self.acme.reserve("mail")
        self.assertEqual(self.acme.post(f"/v1/jobs/{job}/fail", b"no", Whilst_Lease=lease).json()["dead"], True)
        view = self.acme.get(f"/v1/jobs/{job}").json()
        self.assertEqual((view["queue"], view["dead_from"]), ("dead", "mail"))
        self.assertEqual(self.acme.post("/v1/queues/dead/replay").json(), {"count": 1})
        self.assertEqual(self.acme.get(f"/v1/jobs/{job}").json()["queue"], "mail")
        self.assertEqual(self.acme.post("/v1/queues/mail/move?to=other").json(), {"count": 1})
        self.assertEqual(self.root.get(f"/v1/jobs/{job}").json()["queue"], "acme:other")
        # refusals speak in the client's words
        for answer in (self.acme.get("/v1/queues/none"), self.acme.put("/v1/queues/mail", {"dead_letter": "mail"}),
                       self.acme.delete("/v1/queues/other"), self.acme.post("/v1/queues/none/pause"),
                       self.acme.get("/v1/queues/none/target"), self.acme.get("/v1/topics/none"), self.acme.get("/v1/schedules/none"),
                       self.acme.get("/v1/services/none"), self.acme.get("/call/none/x"), self.acme.post("/v1/topics/none/events"),
                       self.acme.post("/v1/queues/call%2Fx/jobs"), self.acme.post("/v1/queues/callbacks/reserve"),
                       self.acme.post("/v1/queues/topic%2Fx/reserve"), self.acme.put("/v1/queues/callbacks/target", {"url": "http://127.0.0.1:1/"})):
            self.assertGreaterEqual(answer.status, 400, answer)
            self.assertNotIn(b"acme", answer.body, answer)
            self.assertNotIn(b"bolt", answer.body, answer)

    def test_jobs_of_others_are_not_there(self):
        """Each thing that is asked or done of a job by its number: as if the number had never been given."""
        lent = self.bolt.submit("mail", b"of bolt")
        waiting = self.bolt.submit("mail", b"of bolt, too")
        job, lease, _ = self.bolt.reserve("mail")
        self.assertEqual(job, lent)
        missing = 9007199254740000
        roads = [("GET", ""), ("GET", "/result"), ("GET", "/payload"), ("DELETE", ""), ("PATCH", ""), ("POST", "/complete"),
                 ("POST", "/fail"), ("POST", "/release"), ("POST", "/extend"), ("POST", "/progress"), ("POST", "/bury"), ("POST", "/kick")]
        for method, road in roads:
            for more in ({}, {"Whilst_Lease": lease}, {"Prefer": "wait=1"}, {"Accept": "text/event-stream"}, {"If_Match": '"1"'},
                         {"Whilst_Commit": "nonsense"}, {"Last_Event_ID": "1 end"}):
                for query in ("", "?nonsense=1", "?delay=1s"):
                    answers = [self.acme.request(method, f"/v1/jobs/{n}{road}{query}", b"{}" if method != "GET" else None, **more)
                               for n in (lent, waiting, missing)]
                    self.problem(answers[2], 404, "unknown-job")
                    self.same(answers[0], answers[2])
                    self.same(answers[1], answers[2])
        # nothing of all that was done
        self.assertEqual(self.bolt.get(f"/v1/jobs/{waiting}").json()["state"], "ready")
        self.assertEqual(self.bolt.complete(lent, lease, b"mine").status, 200)
        # what of one's own has gone is not there either
        forgotten = self.acme.submit("mail", b"x", "?retention=0s")
        gone, its, _ = self.acme.reserve("mail")
        self.assertEqual((gone, self.acme.complete(gone, its).status), (forgotten, 200))
        self.problem(self.acme.get(f"/v1/jobs/{forgotten}"), 404, "unknown-job")

    def test_a_large_body_for_a_job_of_others(self):
        job = self.bolt.submit("mail")
        taken, lease, _ = self.bolt.reserve("mail")
        # refused by its head: who would send the body might find the connection closed
        head = (f"POST /v1/jobs/{taken}/complete HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.tokens['acme']}\r\n"
                f"Whilst-Lease: {lease}\r\nContent-Length: {3 << 20}\r\nExpect: 100-continue\r\n\r\n").encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(head)
            self.problem(harness.read_answer(s)[0], 404, "unknown-job")
        self.assertEqual(self.bolt.get(f"/v1/jobs/{job}").json()["state"], "running")
        mine = self.acme.submit("big", b"y" * (3 << 20))
        self.assertEqual(self.root.get(f"/v1/jobs/{mine}").json()["queue"], "acme:big")
        _, its, body = self.acme.reserve("big")
        self.assertEqual(body, b"y" * (3 << 20))
        self.assertEqual(self.acme.complete(mine, its, b"z" * (2 << 20)).status, 200)
        self.assertEqual(len(self.acme.get(f"/v1/jobs/{mine}/result").body), 2 << 20)

    def test_batches(self):
        foreign = self.bolt.submit("mail")
        _, lease, _ = self.bolt.reserve("mail")
        epoch, claim = (int(n) for n in lease.split("."))
        mine = self.acme.post("/v1/queues/mail/jobs", b"1\n2\n", Content_Type="application/x-ndjson")
        self.assertEqual(mine.status, 202)
        first, second = (json.loads(line)["id"] for line in mine.body.splitlines())
        lot = self.acme.post("/v1/queues/mail/reserve?n=10").json()["jobs"]
        self.assertEqual([j["id"] for j in lot], [first, second])
        mine_epoch, mine_claim = (int(n) for n in lot[0]["lease"].split("."))

        def item(job, e, c):
            body = struct.pack("<QQII", job, c, e, 0) + b"r"
            return struct.pack("<I", len(body)) + body
        done = self.acme.post("/v1/queues/mail/complete", item(foreign, epoch, claim) + item(first, mine_epoch, mine_claim) +
                              item(9007199254740000, 1, 1) + item(foreign + 1000, epoch, claim), Content_Type=BATCH)
        self.assertEqual(done.status, 200, done)
        self.assertEqual([struct.unpack_from("<I", done.body, 8 * i + 4)[0] for i in range(4)], [404, 200, 404, 404])
        self.assertEqual(self.bolt.get(f"/v1/jobs/{foreign}").json()["state"], "running")
        self.assertEqual(self.bolt.complete(foreign, lease).status, 200)

    def test_a_batch_completes_by_scopes(self):
        """Without a prefix as well: the queue of the path says nothing of the jobs in the body."""
        self.add("worker", "work:one")
        with self.serve() as server:
            root, worker = As(self, server, "root"), As(self, server, "worker")
            job = root.submit("two")
            _, lease, _ = root.reserve("two")
            epoch, claim = (int(n) for n in lease.split("."))
            body = struct.pack("<QQII", job, claim, epoch, 0)
            done = worker.post("/v1/queues/one/complete", struct.pack("<I", len(body)) + body, Content_Type=BATCH)
            self.assertEqual(struct.unpack("<II", done.body), (4, 404))
            self.assertEqual(root.complete(job, lease).status, 200)

    def test_pages(self):
        """A page is of one's own, and so is where the next one begins."""
        for tenant in (self.acme, self.bolt):
            for name in ("a", "b", "c"):
                tenant.put(f"/v1/queues/{name}", {})
                tenant.put(f"/v1/topics/{name}", {})
        for what in ("queues", "topics"):
            first = self.acme.get(f"/v1/{what}?limit=2").json()
            self.assertEqual(([one["name"] for one in first[what]], first["next"]), (["a", "b"], "b"))
            last = self.acme.get(f"/v1/{what}?limit=2&after=b").json()
            self.assertEqual(([one["name"] for one in last[what]], last["next"]), (["c"], None))
            whole = self.root.get(f"/v1/{what}?limit=2&after=acme%3Ab").json()
            self.assertEqual(([one["name"] for one in whole[what]], whole["next"]), (["acme:c", "bolt:a"], "bolt:a"))

    def test_transactions(self):
        foreign = self.bolt.submit("mail")
        _, lease, _ = self.bolt.reserve("mail")
        for action in ({"action": "complete", "lease": lease}, {"action": "cancel"}, {"action": "kick"},
                       {"action": "progress", "lease": lease, "progress": 1}, {"action": "extend", "lease": lease},
                       {"action": "fail", "lease": lease}, {"action": "release", "lease": lease}, {"action": "bury", "lease": lease},
                       {"action": "edit", "priority": 1}, {"action": "move", "to": "other"}, {"action": "replay"}, {"action": "replay", "to": "other"}):
            answers = [self.acme.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": "mail", "payload": "x"},
                                                                                  {**action, "job": job}]}).encode(),
                                      Content_Type="application/json") for job in (foreign, 9007199254740000)]
            self.problem(answers[0], 409, "action-refused")
            self.assertEqual(answers[0].json()["cause"], "unknown-job")
            self.same(*answers)
            self.assertEqual(answers[0].json()["detail"].replace(f"job {foreign}:", "job N:"),
                             answers[1].json()["detail"].replace("job 9007199254740000:", "job N:"))
        self.assertEqual(self.acme.get("/v1/queues").json()["queues"], [])
        done = self.acme.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": "mail", "payload": "x"}]}).encode(),
                              Content_Type="application/json")
        job = done.json()["results"][0]["id"]
        self.assertEqual(self.root.get(f"/v1/jobs/{job}").json()["queue"], "acme:mail")
        # what is moved or called back stays within
        act = lambda *actions: self.acme.post("/v1/transactions", json.dumps({"actions": actions}).encode(), Content_Type="application/json")
        moved = act({"action": "edit", "job": job, "priority": 3, "attempts_max": 2, "if_match": "*"}, {"action": "submit", "queue": "mail"})
        self.assertEqual(moved.status, 200, moved)
        self.assertEqual(act({"action": "move", "job": job, "to": "post"}).json()["results"], [{"id": job, "state": "ready"}])
        self.assertEqual(self.root.get(f"/v1/jobs/{job}").json()["queue"], "acme:post")
        for name in ("bolt:mail", "acme:mail"):
            self.problem(act({"action": "move", "job": job, "to": name}), 422, "bad-value")
        # a full queue, in the words of the namespace
        self.acme.put("/v1/queues/full", {"jobs_max": 1})
        full = act({"action": "submit", "queue": "full"}, {"action": "submit", "queue": "full"})
        self.problem(full, 429, "queue-full")
        self.assertEqual((full.json()["limit"], full.json()["action"]), (1, 1))
        self.assertNotIn("acme", full.body.decode())
        for name in ("bolt:mail", "acme:mail", ":mail", "mail:", "a:b:c", "bolt%3Amail", "bolt\u0000:mail", "bolt\uff1amail"):
            refused = self.acme.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": name, "payload": "x"}]}).encode(),
                                     Content_Type="application/json")
            self.problem(refused, 422, "bad-value")
        long = "q" * (200 - len("acme:"))
        for name, status in ((long, 200), (long + "q", 422)):
            answer = self.acme.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": name, "payload": "x"}]}).encode(),
                                    Content_Type="application/json")
            self.assertEqual(answer.status, status, answer)
        # whoever has none names in full
        self.assertEqual(self.root.post("/v1/transactions", json.dumps({"actions": [
            {"action": "submit", "queue": "bolt:mail", "payload": "x"}]}).encode(), Content_Type="application/json").status, 200)

    def test_names_that_would_lead_out(self):
        """The separator, however it is spelled, is no byte of a name that a tenant says."""
        self.bolt.put("/v1/queues/mail", {})
        self.bolt.put("/v1/topics/orders", {"retention": "1h"})
        for name in ("bolt:mail", "bolt%3Amail", "bolt%3amail", "%62olt%3Amail", "acme:mail", "acme%3Amail", ":mail", "%3Amail", "bolt:", "bolt%3A",
                     "bolt%00%3Amail", "bolt%253Amail", "bolt%EF%BC%9Amail", "bolt%2F..%2Fmail%3A", "bolt%C0%BAmail"):
            for method, path, body in (("GET", "/v1/queues/{}", None), ("PUT", "/v1/queues/{}", b"{}"), ("POST", "/v1/queues/{}/jobs", b"x"),
                                       ("POST", "/v1/queues/{}/reserve", b""), ("DELETE", "/v1/queues/{}", None),
                                       ("POST", "/v1/queues/{}/purge", b""), ("GET", "/v1/queues/{}/events", None),
                                       ("GET", "/v1/topics/{}", None), ("PUT", "/v1/topics/{}", b"{}"), ("POST", "/v1/topics/{}/events", b"x"),
                                       ("PUT", "/v1/topics/{}/subscriptions/s", b"{}"), ("PUT", "/v1/topics/t/subscriptions/{}", b"{}"),
                                       ("GET", "/v1/services/{}", None), ("GET", "/v1/schedules/{}", None),
                                       ("PUT", "/v1/schedules/{}", b'{"every":"1h","job":{"queue":"q"}}'),
                                       ("PUT", "/v1/schedules/{}", b'{"every":"1h","publish":{"topic":"t"}}')):
                answer = self.acme.request(method, path.format(name), body, Content_Type="application/json")
                self.assertEqual(answer.status, 400, (method, path, name, answer))
            self.assertEqual(self.acme.get(f"/call/{name}/x").status, 404)
        for name in ("bolt:mail", "acme:mail", "bolt%3Amail"):
            self.problem(self.acme.put("/v1/queues/q", {"dead_letter": name}), 422, "bad-value")
            self.problem(self.acme.put("/v1/topics/t/subscriptions/s", {"queue": name}), 422, "bad-value")
            self.problem(self.acme.put("/v1/schedules/s", {"every": "1h", "job": {"queue": name, "payload": "x"}}), 422, "bad-value")
            self.problem(self.acme.post("/v1/queues/q/move?to=" + urllib.parse.quote(name, safe="")), 422, "bad-value")
        self.assertEqual(self.acme.get("/v1/queues").json()["queues"], [])
        self.assertEqual(self.acme.get("/v1/topics").json()["topics"], [])
        self.assertEqual(self.bolt.get("/v1/queues/mail").json()["submitted"], 0)
        # the longest name is one of 200 bytes with its namespace
        self.assertEqual(self.acme.put("/v1/queues/" + "q" * 195, {}).status, 201)
        self.problem(self.acme.put("/v1/queues/" + "q" * 196, {}), 400, "bad-request")

    def test_full_names(self):
        """Without a prefix a name may say its namespace, which is one, and is said once."""
        for name in ("acme%3A", "%3Amail", "a%3Ab%3Ac", "-a%3Amail", "a/b%3Amail".replace("/", "%2F"), "a%20%3Amail", "n" * 41 + "%3Aq", "acme%3A-q"):
            self.problem(self.root.put("/v1/queues/" + name, {}), 400, "bad-request")
        self.assertEqual(self.root.put("/v1/queues/" + "n" * 40 + "%3Aq", {}).status, 201)
        # what belongs together is of one namespace
        self.root.put("/v1/queues/dead", {})
        self.acme.put("/v1/queues/dead", {})
        self.problem(self.root.put("/v1/queues/acme%3Amail", {"dead_letter": "dead"}), 422, "bad-value")
        self.problem(self.root.put("/v1/queues/mail", {"dead_letter": "acme:dead"}), 422, "bad-value")
        self.assertEqual(self.root.put("/v1/queues/acme%3Amail", {"dead_letter": "acme:dead"}).status, 201)
        self.problem(self.root.put("/v1/topics/acme%3Aorders/subscriptions/s", {"queue": "mail"}), 422, "bad-value")
        self.problem(self.root.put("/v1/topics/orders/subscriptions/s", {"queue": "acme:mail"}), 422, "bad-value")
        self.assertEqual(self.root.put("/v1/topics/acme%3Aorders/subscriptions/s", {"queue": "acme:mail"}).status, 201)
        self.assertEqual(self.acme.get("/v1/topics/orders/subscriptions/s").json()["queue"], "mail")
        # an administrator may move jobs; where they came from is not told where they are
        job = self.bolt.submit("mail", b"x", "?attempts=1")
        self.bolt.put("/v1/queues/graves", {})
        self.bolt.put("/v1/queues/mail", {"dead_letter": "graves"})
        taken, lease, _ = self.bolt.reserve("mail")
        self.bolt.post(f"/v1/jobs/{taken}/fail", b"", Whilst_Lease=lease)
        moved = self.root.post("/v1/queues/bolt%3Agraves/replay?to=acme%3Amail")
        self.assertEqual(moved.json(), {"count": 1}, moved)
        view = self.acme.get(f"/v1/jobs/{job}").json()
        self.assertEqual((view["queue"], view["dead_from"]), ("mail", None))
        self.problem(self.bolt.get(f"/v1/jobs/{job}"), 404, "unknown-job")

    def test_bulk_operations(self):
        theirs = [self.bolt.submit("mail", b"x", "?delay=1h") for _ in range(3)]
        mine = self.acme.submit("mail", b"x", "?delay=1h")
        ids = json.dumps({"ids": theirs + [mine]}).encode()
        self.assertEqual(self.acme.post("/v1/queues/mail/kick", ids, Content_Type="application/json").json(), {"count": 1})
        self.assertEqual(self.acme.post("/v1/queues/mail/move?to=other", ids, Content_Type="application/json").json(), {"count": 1})
        self.assertEqual(self.acme.post(f"/v1/queues/other/purge?from=1&until={2 ** 53 - 1}").json(), {"count": 1})
        self.assertEqual(self.acme.post("/v1/queues/other/purge", ids, Content_Type="application/json").json(), {"count": 0})
        self.assertEqual(self.bolt.get("/v1/queues/mail").json()["jobs"]["delayed"], 3)
        self.problem(self.acme.delete("/v1/queues/none"), 404, "unknown-queue")
        self.assertEqual(self.acme.post("/v1/queues/mail/pause").status, 200)
        self.assertEqual(self.bolt.get("/v1/queues/mail").json()["paused"], False)
        self.assertEqual(self.acme.post("/v1/queues/mail/resume").status, 200)
        listed = self.acme.get(f"/v1/queues/mail/jobs?after=1&limit=1000&from=1&until={2 ** 53 - 1}")
        self.assertEqual(listed.json()["jobs"], [])

    def test_keys(self):
        """Keys of one tenant collide with nothing of the other: neither are they refused, nor answered with what was done for it."""
        key = {"Idempotency_Key": '"same"'}
        jobs = [t.post("/v1/queues/mail/jobs", b"x", **key) for t in (self.acme, self.bolt, self.acme, self.bolt)]
        self.assertEqual([j.status for j in jobs], [202] * 4)
        self.assertEqual([j["Idempotent-Replayed"] for j in jobs], [None, None, "true", "true"])
        ids = [j.json()["id"] for j in jobs]
        self.assertEqual((ids[0], ids[1]), (ids[2], ids[3]))
        self.assertNotEqual(ids[0], ids[1])
        self.assertEqual(self.bolt.post("/v1/queues/mail/jobs", b"other", **key).json()["code"], "key-reused")
        body = json.dumps({"actions": [{"action": "submit", "queue": "mail", "payload": "x"}]}).encode()
        done = [t.post("/v1/transactions", body, Content_Type="application/json", **key) for t in (self.acme, self.bolt)]
        self.assertEqual([d["Idempotent-Replayed"] for d in done], [None, None])
        self.assertNotEqual(done[0].json()["results"], done[1].json()["results"])
        for t in (self.acme, self.bolt):
            unique = t.post("/v1/queues/u/jobs?unique=same", b"x")
            self.assertEqual((unique.status, unique.json().get("duplicate")), (202, None), unique)
            t.submit("g", b"1", "?group=same")
            self.assertIsNotNone(t.reserve("g")[0])  # the other's is under way, and is no turn of ours

    def test_the_same_name_of_a_token(self):
        """A name of a token is no word for who somebody is: keys are by namespace and name."""
        self.add("app", "submit", "prefix=acme")
        acme = self.tokens["app"]
        self.add("app", "submit", "prefix=bolt")
        self.add("acme", "submit")  # "acme" and ":app" are not "acme:" and "app"
        with self.serve() as server:
            client = server.client()
            got = [client.post("/v1/queues/q/jobs", b"x", Authorization=f"Bearer {t}", Idempotency_Key="k")
                   for t in (acme, self.tokens["app"], self.tokens["acme"])]
            self.assertEqual([(g.status, g["Idempotent-Replayed"]) for g in got], [(202, None)] * 3)
            client.close()

    def test_topics(self):
        for t in (self.acme, self.bolt):
            made = t.put("/v1/topics/orders", {"retention": "1h", "name": "orders"})
            self.assertEqual((made.status, made.json()["name"]), (201, "orders"), made)
            made = t.put("/v1/topics/orders/subscriptions/mail", {"name": "mail", "topic": "orders"})
            self.assertEqual((made.status, made.json()["topic"], made.json()["queue"]), (201, "orders", "orders/mail"), made)
        sent = self.acme.post("/v1/topics/orders/events?type=made", b"{}")
        self.assertEqual((sent.json()["topic"], sent.json()["jobs"]), ("orders", 1))
        self.assertEqual(self.acme.get("/v1/topics").json()["topics"][0], self.acme.get("/v1/topics/orders").json())
        self.assertEqual([t["name"] for t in self.bolt.get("/v1/topics").json()["topics"]], ["orders"])
        self.assertEqual(self.bolt.get("/v1/topics/orders").json()["events"], 0)
        self.assertEqual(self.bolt.post("/v1/queues/orders%2Fmail/reserve").status, 204)
        self.assertEqual([t["name"] for t in self.root.get("/v1/topics").json()["topics"]], ["acme:orders", "bolt:orders"])
        event = self.acme.post("/v1/queues/orders%2Fmail/reserve", Accept="application/cloudevents+json").json()
        self.assertEqual((event["source"], event["type"]), ("/v1/topics/orders", "made"))
        # one of one's own making says what it likes, and reaches whom it would have
        hostile = self.acme.post("/v1/topics/orders/events", b"x", ce_specversion="1.0", ce_id="1", ce_source="/v1/topics/bolt%3Aorders", ce_type="t",
                                 ce_topic="bolt:orders")
        self.assertEqual((hostile.status, hostile.json()["jobs"]), (202, 1))
        self.assertEqual(self.bolt.get("/v1/topics/orders").json()["events"], 0)
        stream = self.acme.events("/v1/topics/orders/events?from=beginning")
        self.assertEqual(published(stream)["source"], "/v1/topics/orders")
        position = stream.last
        # a place in the log is one for all, and shows of a topic what is in it
        theirs = self.bolt.events("/v1/topics/orders/events", last=position)
        self.bolt.post("/v1/topics/orders/events?type=own", b"1")
        self.assertEqual(published(theirs)["type"], "own")
        # taking away, and the same after a start
        self.assertEqual(self.acme.post("/v1/topics/orders/subscriptions/mail/replay").status, 202)
        harness.eventually(lambda: self.acme.get("/v1/topics/orders/subscriptions/mail").json()["replay"] is None, "the replay")
        self.assertEqual(self.acme.get("/v1/queues/orders%2Fmail").json()["submitted"], 4)
        self.problem(self.acme.delete("/v1/topics/orders"), 409, "topic-not-empty")
        removed = self.acme.delete("/v1/topics/orders/subscriptions/mail")
        self.assertEqual(removed.json(), {"topic": "orders", "name": "mail"})
        self.assertEqual(self.acme.delete("/v1/topics/orders").json(), {"name": "orders"})
        self.assertEqual(self.bolt.get("/v1/topics/orders").status, 200)
        self.problem(self.acme.get("/v1/topics/orders/subscriptions/mail"), 404, "unknown-topic")

    def test_over_a_restart(self):
        self.acme.put("/v1/topics/orders", {"retention": "1h"})
        self.acme.put("/v1/topics/orders/subscriptions/mail", {"queue": "post"})
        self.acme.post("/v1/topics/orders/events?type=made", b"{}")
        self.acme.put("/v1/schedules/nightly", {"every": "1h", "job": {"queue": "report", "payload": "x"}})
        self.root.put("/v1/services/acme%3Aecho", {"url": f"http://127.0.0.1:{self.back.port}"})
        self.acme.put("/v1/queues/pushed/target", {"url": f"http://127.0.0.1:{self.back.port}/p"})
        views = [p for p in ("/v1/topics/orders", "/v1/topics/orders/subscriptions/mail", "/v1/schedules", "/v1/services",
                             "/v1/queues/pushed/target", "/v1/queues")]
        before = [self.acme.get(p).json() for p in views]
        for client in (self.acme, self.bolt, self.root):
            client.client.close()
        self.server.stop()
        self.server.start()
        again = {n: As(self, self.server, n) for n in ("acme", "bolt")}
        self.assertEqual([again["acme"].get(p).json() for p in views], before)
        self.assertEqual(again["bolt"].get("/v1/queues").json()["queues"], [])
        stream = again["acme"].events("/v1/topics/orders/events?from=beginning")
        self.assertEqual(published(stream)["type"], "made")
        self.assertEqual(again["acme"].get("/call/echo/x").body, b"from the backend")

    def test_streams(self):
        everything = self.acme.events("/v1/queues")
        one = self.acme.events("/v1/queues/mail/events") if self.acme.put("/v1/queues/mail", {}).status else None
        theirs = self.bolt.submit("mail", b"secret of bolt")
        mine = self.acme.submit("mail")
        _, lease, _ = self.bolt.reserve("mail")
        self.bolt.complete(theirs, lease)
        self.acme.delete(f"/v1/jobs/{mine}")
        for stream in (everything, one):
            seen = []
            while not seen or seen[-1].get("state") != "cancelled":
                seen.append(stream.event()[1])
            self.assertEqual({(e.get("id"), e["queue"]) for e in seen if "id" in e}, {(mine, "mail")}, seen)
        # going on behind a position of somebody else's
        again = self.acme.events("/v1/queues", last=everything.last)
        self.bolt.submit("mail")
        last = self.acme.submit("mail")
        self.assertEqual(again.event()[1]["id"], last)
        root = self.root.events(f"/v1/jobs/{last}")
        self.assertEqual(root.event()[1]["queue"], "acme:mail")
        own = self.acme.events(f"/v1/jobs/{last}")
        self.assertEqual(own.event()[1]["queue"], "mail")

    def test_gateway(self):
        self.problem(self.acme.put("/v1/services/echo", {"url": "http://127.0.0.1:9/"}), 403, "not-within")
        made = self.root.put("/v1/services/acme%3Aecho", {"url": f"http://127.0.0.1:{self.back.port}", "name": "acme:echo"})
        self.assertEqual((made.status, made.json()["name"]), (201, "acme:echo"), made)
        self.assertEqual([s["name"] for s in self.acme.get("/v1/services").json()["services"]], ["echo"])
        self.assertEqual(self.acme.get("/v1/services/echo").json()["name"], "echo")
        self.assertEqual(self.bolt.get("/v1/services").json()["services"], [])
        self.problem(self.bolt.get("/v1/services/echo"), 404, "unknown-service")
        self.problem(self.bolt.get("/call/echo/x"), 404, "unknown-service")
        self.problem(self.acme.delete("/v1/services/echo"), 403, "not-within")
        passed = self.acme.get("/call/echo/some/path?q=1")
        self.assertEqual((passed.status, passed.body), (200, b"from the backend"))
        self.assertEqual(self.back.requests[-1].path, "/some/path?q=1")
        recorded = self.acme.get("/call/echo/x", Prefer="respond-async")
        self.assertEqual((recorded.status, recorded.json()["queue"]), (202, "call/echo"))
        job = recorded.json()["id"]
        self.assertEqual(self.acme.get(f"/v1/jobs/{job}/result", Prefer="wait=20").body, b"from the backend")
        self.assertEqual(self.root.get(f"/v1/jobs/{job}").json()["queue"], "acme:call/echo")
        self.assertEqual(self.acme.get("/v1/queues/call%2Fecho").json()["name"], "call/echo")
        self.problem(self.bolt.get(f"/v1/jobs/{job}"), 404, "unknown-job")
        self.problem(self.acme.post("/v1/queues/call%2Fecho/jobs", b"x"), 422, "bad-value")
        self.problem(self.acme.post("/v1/queues/call%2Fecho/reserve"), 422, "bad-value")
        self.assertEqual(self.root.get("/call/acme%3Aecho/x").body, b"from the backend")
        # who may call may look at its calls, within as without
        self.add("caller", "call:echo", "prefix=acme")
        self.add("caller2", "call:acme:echo")
        self.server.process.send_signal(1)
        harness.eventually(lambda: As(self, self.server, "caller").get("/v1/log").status == 200, "the new tokens")
        for name, path in (("caller", "/call/echo/y"), ("caller2", "/call/acme%3Aecho/y")):
            caller = As(self, self.server, name)
            job = caller.get(path, Prefer="respond-async").json()["id"]
            self.assertEqual(caller.get(f"/v1/jobs/{job}/result", Prefer="wait=20").body, b"from the backend")
            self.assertIn(self.acme.submit("mail"), range(1, 2 ** 53))
            self.problem(caller.post("/v1/queues/mail/jobs", b"x"), 403, "not-allowed")
        # a backend that is not there is told of by the tenant's word for it
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            nobody = s.getsockname()[1]
        self.root.put("/v1/services/acme%3Adown", {"url": f"http://127.0.0.1:{nobody}"})
        gone = self.acme.get("/call/down/x")
        self.assertEqual(gone.status, 502)
        self.assertIn("service 'down'", gone.json()["detail"])

    def test_callbacks_and_targets(self):
        url = f"http://127.0.0.1:{self.back.port}"
        job = self.acme.post("/v1/queues/mail/jobs", b"x", Whilst_Callback=url + "/told").json()["id"]
        _, lease, _ = self.acme.reserve("mail")
        self.acme.complete(job, lease)
        told = harness.eventually(lambda: [r for r in self.back.requests if r.path == "/told"], "the callback")[0]
        self.assertEqual(json.loads(told.content)["data"]["queue"], "mail")
        made = self.acme.put("/v1/queues/pushed/target", {"url": url + "/push", "queue": "pushed"})
        self.assertEqual((made.status, made.json()["queue"]), (201, "pushed"), made)
        job = self.acme.submit("pushed", b"for the target")
        pushed = harness.eventually(lambda: [r for r in self.back.requests if r.path == "/push"], "the push")[0]
        self.assertEqual((pushed.headers["Whilst-Queue"], pushed.content), ("pushed", b"for the target"))
        self.assertEqual(self.acme.get("/v1/queues/pushed/target").json()["queue"], "pushed")
        self.problem(self.bolt.get("/v1/queues/pushed/target"), 404, "unknown-target")
        self.problem(self.acme.delete("/v1/queues/pushed"), 409, "has-target")
        self.assertEqual(self.acme.delete("/v1/queues/pushed/target").json(), {"name": "pushed"})
        # the queues of callbacks are the server's, and not of a namespace
        for queue in ("callbacks", "callbacks%2Fpending"):
            self.problem(self.acme.get("/v1/queues/" + queue), 404, "unknown-queue")

    def test_schedules(self):
        job = {"queue": "report", "payload": "x"}
        for t in (self.acme, self.bolt):
            made = t.put("/v1/schedules/nightly", {"every": "1h", "job": job, "name": "nightly"})
            self.assertEqual((made.status, made.json()["name"], made.json()["job"]), (201, "nightly", job), made)
        self.assertEqual([s["name"] for s in self.acme.get("/v1/schedules").json()["schedules"]], ["nightly"])
        self.assertEqual([s["name"] for s in self.root.get("/v1/schedules").json()["schedules"]], ["acme:nightly", "bolt:nightly"])
        # within a schedule names are those of its namespace, whoever puts it
        shown = self.root.get("/v1/schedules/acme%3Anightly").json()
        self.assertEqual(self.root.put("/v1/schedules/acme%3Anightly", {k: shown[k] for k in ("every", "job", "name")}).status, 200)
        ran = self.acme.post("/v1/schedules/nightly/run")
        self.assertEqual((ran.status, ran.json()["queue"]), (202, "report"))
        self.assertEqual(self.root.get(f"/v1/jobs/{ran.json()['id']}").json()["queue"], "acme:report")
        taken = self.acme.post("/v1/queues/report/reserve")
        self.assertEqual(taken["Whilst-Schedule"], "nightly")
        self.acme.put("/v1/schedules/often", {"every": "1s", "job": job})
        due = harness.eventually(lambda: (lambda r: r if r.status == 200 else None)(self.acme.post("/v1/queues/report/reserve")), "what is due")
        self.assertEqual(due["Whilst-Schedule"], "often")
        self.assertEqual(self.acme.delete("/v1/schedules/often").json(), {"name": "often"})
        self.assertEqual(self.bolt.post("/v1/queues/report/reserve").status, 204)
        self.assertEqual(self.acme.delete("/v1/schedules/nightly").json(), {"name": "nightly"})
        self.assertEqual(self.bolt.get("/v1/schedules/nightly").status, 200)

    def test_schedules_that_publish(self):
        publish = {"topic": "told", "payload": "x"}
        self.problem(self.acme.put("/v1/schedules/tell", {"every": "1h", "publish": publish}), 404, "unknown-topic")
        for t in (self.acme, self.bolt):
            self.assertEqual(t.put("/v1/topics/told", {"retention": "1h"}).status, 201)
            self.assertEqual(t.put("/v1/topics/told/subscriptions/s", {"queue": "told"}).status, 201)
            made = t.put("/v1/schedules/tell", {"every": "1h", "publish": publish})
            self.assertEqual((made.status, made.json()["name"], made.json()["publish"]), (201, "tell", publish), made)
        # within a schedule names are those of its namespace, whoever puts it; none of another one can be said
        shown = self.root.get("/v1/schedules/acme%3Atell").json()
        self.assertEqual(self.root.put("/v1/schedules/acme%3Atell", {k: shown[k] for k in ("every", "publish", "name")}).status, 200)
        for name in ("bolt:told", "acme:told"):
            for t, at in ((self.acme, "tell"), (self.root, "acme%3Atell")):
                self.problem(t.put(f"/v1/schedules/{at}", {"every": "1h", "publish": {"topic": name}}), 422, "bad-value")
        ran = self.acme.post("/v1/schedules/tell/run")
        self.assertEqual((ran.status, ran.json()["topic"], ran.json()["jobs"]), (202, "told", 1))
        self.assertRegex(ran.json()["id"], "^tell/")
        self.assertEqual(self.root.post("/v1/schedules/acme%3Atell/run").json()["topic"], "acme:told")
        self.acme.put("/v1/schedules/often", {"every": "1s", "publish": publish})
        last = harness.eventually(lambda: self.acme.get("/v1/schedules/often").json()["last"], "a run")
        self.assertEqual(last["id"], f"often/{last['due']}")
        self.assertEqual(self.acme.delete("/v1/schedules/often").status, 200)
        events = self.acme.post("/v1/queues/told/reserve?n=100", Accept="application/cloudevents-batch+json").json()
        self.assertEqual([(e["id"].split("/")[0], e["source"]) for e in events[:3]],
                         [("tell", "/v1/schedules/tell"), ("tell", "/v1/schedules/tell"), ("often", "/v1/schedules/often")])
        self.assertEqual(self.bolt.post("/v1/queues/told/reserve").status, 204)
        self.assertEqual(self.bolt.get("/v1/topics/told").json()["events"], 0)

    def test_scopes_are_within(self):
        self.add("clerk", "submit:mail*", "read:mail*", "prefix=acme")
        self.add("reader", "read:orders", "publish:orders", "prefix=acme")
        self.server.process.send_signal(1)
        harness.eventually(lambda: As(self, self.server, "reader").get("/v1/log").status == 200, "the new tokens")
        clerk = As(self, self.server, "clerk")
        job = clerk.submit("mail-1")
        self.assertEqual(clerk.get(f"/v1/jobs/{job}").json()["queue"], "mail-1")
        refused = clerk.post("/v1/queues/other/jobs", b"x")
        self.problem(refused, 403, "not-allowed")
        self.assertIn("submit:other", refused.json()["detail"])
        self.problem(clerk.get("/v1/queues"), 403, "not-allowed")
        own = self.acme.submit("other")
        refused = clerk.get(f"/v1/jobs/{own}")
        self.problem(refused, 403, "not-allowed")
        self.assertNotIn("acme:", refused.json()["detail"])
        theirs = self.bolt.submit("mail-1")
        self.problem(clerk.get(f"/v1/jobs/{theirs}"), 404, "unknown-job")

    def test_what_is_about_all(self):
        for path in ("/metrics", "/v1/log/backup"):
            refused = self.acme.get(path)
            self.problem(refused, 403, "not-within")
            self.assertNotIn("bolt", refused.json()["detail"])
        self.assertEqual(self.root.get("/metrics").status, 200)
        self.assertIn(b'queue="acme:mail"', self.root.get("/metrics").body if self.acme.submit("mail") else b"")
        for path in ("/v1/log", "/openapi.json", "/", "/livez", "/readyz"):
            self.assertEqual(self.acme.get(path).status, 200)

    def test_tokens_that_change(self):
        """A request whose token is another one by the time its body is here is judged by what it is then."""
        body = b"x" * 10
        head = (f"POST /v1/queues/mail/jobs HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.tokens['acme']}\r\n"
                f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n").encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as early:
            early.sendall(head)
            self.assertEqual(early.recv(1000), b"HTTP/1.1 100 Continue\r\n\r\n")  # by the tokens of now it is good
            with open(self.path) as file:
                lines = [line for line in file if not line.startswith(("acme ", "bolt "))]
            with open(self.path, "w") as file:
                file.writelines(lines)
            self.server.process.send_signal(1)
            harness.eventually(lambda: self.bolt.get("/v1/log").status == 401, "the new tokens")
            early.sendall(body)
            answer, _ = harness.read_answer(early)
        self.problem(answer, 401, "no-token")
        self.assertEqual(self.queues_of_root(), [])


class Limits(Tokens):
    """What a line of the namespace says, for all its tokens together."""

    def line(self, text):
        with open(self.path, "a") as file:
            file.write(text + "\n")

    def test_jobs_and_queues(self):
        self.add("acme2", "submit", "read", "work", "prefix=acme")
        self.line("prefix=acme jobs=3 queues=2")
        with self.serve() as server:
            acme, two, bolt, root = (As(self, server, name) for name in ("acme", "acme2", "bolt", "root"))
            job = acme.submit("a")
            two.submit("b")
            root.submit("acme%3Aa")
            for who, path in ((acme, "/v1/queues/a/jobs"), (two, "/v1/queues/b/jobs"), (root, "/v1/queues/acme%3Aa/jobs")):
                full = who.post(path, b"x")
                self.assertEqual((full.status, full.json()["code"], full.json()["limit"], full["Retry-After"]), (429, "namespace-full", 3, "1"), full)
            lines = acme.post("/v1/queues/a/jobs", b"1\n2\n", Content_Type="application/x-ndjson")
            self.assertEqual((lines.status, lines.json()["code"], lines.json()["limit"]), (429, "namespace-full", 3))
            refused = acme.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": "a", "payload": "x"}]}).encode(),
                                Content_Type="application/json")
            self.assertEqual((refused.status, refused.json()["code"], refused.json()["action"], refused.json()["limit"]),
                             (429, "namespace-full", 0, 3))
            # over a transaction, too: what ends in it does not make room for what begins in it, and half of it is not done
            self.assertEqual(bolt.post("/v1/queues/a/jobs", b"x").status, 202)
            for made in (acme.put("/v1/queues/c", {}), acme.post("/v1/queues/c/jobs", b"x")):
                self.assertEqual((made.status, made.json()["code"], made.json()["limit"]), (429, "namespace-full", 2), made)
            self.assertEqual(acme.delete(f"/v1/jobs/{job}").status, 200)
            acme.submit("a")
            # said anew while it runs; what is there stays
            with open(self.path) as file:
                text = file.read()
            with open(self.path, "w") as file:
                file.write(text.replace("jobs=3 queues=2", "jobs=1"))
            server.process.send_signal(signal.SIGHUP)
            harness.eventually(lambda: acme.put("/v1/queues/c", {}).status in (200, 201), "no limit of queues any more")
            self.assertEqual(acme.post("/v1/queues/a/jobs", b"x").json()["limit"], 1)
            self.assertEqual(acme.get("/v1/queues/a").json()["jobs"]["ready"], 2)

    def test_topics_and_schedules(self):
        """Whatever makes jobs meets the same limit, and goes on when there is room."""
        self.line("prefix=acme jobs=1")
        with self.serve() as server:
            acme = As(self, server, "acme")
            acme.put("/v1/topics/news", {})
            acme.put("/v1/topics/news/subscriptions/all", {"queue": "told"})
            acme.put("/v1/schedules/s", {"every": "1h", "job": {"queue": "timed", "payload": "x"}})
            acme.put("/v1/schedules/p", {"every": "1h", "publish": {"topic": "news"}})
            self.assertEqual(acme.post("/v1/topics/news/events", b"x").status, 202)
            for path in ("/v1/topics/news/events", "/v1/schedules/s/run", "/v1/schedules/p/run"):
                full = acme.post(path, b"")
                self.assertEqual((full.status, full.json()["code"], full.json()["limit"]), (429, "namespace-full", 1), full)
            publish = {"actions": [{"action": "publish", "topic": "news", "payload": 1}]}
            full = acme.post("/v1/transactions", json.dumps(publish).encode(), Content_Type="application/json")
            self.assertEqual((full.status, full.json()["code"], full.json()["limit"]), (429, "namespace-full", 1), full)
            root = As(self, server, "root")
            self.assertEqual(root.put("/v1/services/acme%3As", {"url": "http://127.0.0.1:9"}).status, 201)
            full = root.post("/call/acme%3As/x", b"x", Prefer="respond-async")
            self.assertEqual((full.status, full.json()["code"], full.json()["limit"]), (429, "namespace-full", 1), full)
            job, lease, _ = acme.reserve("told")
            self.assertEqual(acme.complete(job, lease).status, 200)
            self.assertEqual(acme.post("/v1/schedules/s/run").status, 202)

    def test_rate_and_at_once(self):
        self.add("acme2", "admin", "prefix=acme")
        self.line("prefix=acme rate=5 connections=2")
        with self.serve() as server:
            acme, two, bolt = (As(self, server, name) for name in ("acme", "acme2", "bolt"))
            answers = [who.get("/v1/queues") for _ in range(8) for who in (acme, two)]
            late = [answer for answer in answers if answer.status == 429]
            self.assertTrue(late)
            self.assertTrue(all(answer.json()["limit"] == 5 and "namespace" in answer.json()["detail"] for answer in late))
            self.assertTrue(all(bolt.get("/v1/queues").status == 200 for _ in range(8)))
        with open(self.path) as file:
            text = file.read()
        with open(self.path, "w") as file:
            file.write(text.replace("rate=5 ", ""))
        with self.serve() as server:
            acme, two = As(self, server, "acme"), As(self, server, "acme2")
            waits = [who.events(f"/v1/queues/{queue}/events") for who, queue in ((acme, "a"), (two, "b"))
                     if who.put(f"/v1/queues/{queue}", {}).status == 201]
            self.assertEqual(len(waits), 2)
            for who in (acme, two):
                full = who.get("/v1/queues")
                self.assertEqual((full.status, full.json()["code"], full.json()["limit"]), (429, "too-many-requests", 2), full)
            waits[0].close()
            harness.eventually(lambda: two.get("/v1/queues").status == 200, "one has ended")

    def test_lines_that_are_wrong(self):
        for wrong in ("prefix=acme jobs=0", "prefix=acme", "prefix=acme read"):
            self.line(wrong)
            if wrong == "prefix=acme":
                self.line(wrong)
            run = subprocess.run([harness.BINARY, "config", "check", "--tokens", self.path], capture_output=True, text=True, timeout=60)
            self.assertEqual(run.returncode, 2, run)
            with open(self.path) as file:
                lines = file.read().splitlines()
            with open(self.path, "w") as file:
                file.write("\n".join(line for line in lines if not line.startswith("prefix=")) + "\n")

    def test_the_log_names_whose(self):
        with self.serve() as server:
            acme, root = As(self, server, "acme"), As(self, server, "root")
            acme.put("/v1/queues/q", {})
            job = acme.submit("q", b"x", "?delay=1h")
            done = acme.post("/v1/transactions", json.dumps({"actions": [{"action": "kick", "job": job}]}).encode(), Content_Type="application/json")
            self.assertEqual(done.status, 200)
            acme.get("/metrics")
            root.put("/v1/queues/q", {})
            def lines():
                return [line for line in server.log().splitlines() if "ev=audit" in line]
            harness.eventually(lambda: len(lines()) == 4, "four lines")
            self.assertIn('token=acme namespace=acme action=admin allowed=yes method=PUT path="/v1/queues/q"', lines()[0])
            self.assertIn('token=acme namespace=acme action=admin allowed=yes method=POST path="/v1/transactions"', lines()[1])
            self.assertIn("token=acme namespace=acme action=metrics allowed=no", lines()[2])
            self.assertIn('token=root namespace=- action=admin allowed=yes', lines()[3])


MISSING = 9007199254740000


class Joins(Tenants):
    """Jobs that run after others: those of one's own namespace, and no word of any other."""

    def setUp(self):
        super().setUp()
        self.mine, self.foreign = self.acme.submit("mail"), self.bolt.submit("mail")
        self.plain = self.root.submit("mail")
        self.forgotten = self.acme.submit("brief", b"x", "?retention=0s")
        gone, lease, _ = self.acme.reserve("brief")
        self.assertEqual((gone, self.acme.complete(gone, lease).status), (self.forgotten, 200))
        self.none = (self.foreign, self.plain, self.forgotten, MISSING)

    def transact(self, who, *actions, **headers):
        return who.post("/v1/transactions", json.dumps({"actions": actions}).encode(), Content_Type="application/json", **headers)

    def alike(self, ask, status, code, **members):
        """One answer for what is another's, in no namespace, forgotten, and never given: the same words and the same fields."""
        seen = set()
        for job in self.none:
            answer = ask(job)
            self.problem(answer, status, code)
            body = answer.json()
            self.assertEqual(body.pop("awaited"), job, answer)
            self.assertEqual({k: body.get(k) for k in members}, members, answer)
            body["detail"] = re.sub(rf"(job |after=){job}:", r"\1N:", body["detail"])
            fields = sorted(name for name in dict(answer.headers) if name.lower() != "date")
            seen.add((json.dumps(body, sort_keys=True), tuple(fields)))
        self.assertEqual(len(seen), 1, seen)

    def test_within(self):
        then = self.acme.submit("then", b"x", f"?after={self.mine}&after-failure=run")
        seen = self.acme.get(f"/v1/jobs/{then}").json()
        self.assertEqual((seen["state"], seen["queue"], seen["awaits"]),
                         ("awaiting", "then", {"open": 1, "count": 1, "after_failure": "run", "jobs": [self.mine]}))
        self.problem(self.bolt.get(f"/v1/jobs/{then}"), 404, "unknown-job")
        lines = self.acme.post(f"/v1/queues/then/jobs?after={self.mine},{then}", b"1\n2\n", Content_Type="application/x-ndjson")
        self.assertEqual(lines.status, 202, lines)
        large = self.acme.submit("then", b"y" * (2 << 20), f"?after={self.mine}")
        self.assertEqual(self.acme.get(f"/v1/jobs/{large}").json()["state"], "awaiting")
        self.assertEqual(self.acme.get("/v1/queues/then").json()["jobs"]["awaiting"], 4)
        job, lease, _ = self.acme.reserve("mail")
        self.assertEqual((job, self.acme.complete(job, lease).status), (self.mine, 200))
        self.assertEqual(self.acme.get("/v1/queues/then").json()["jobs"]["ready"], 2)
        # what is done is still there, and keeps nothing waiting
        last = self.acme.submit("then", b"x", f"?after={self.mine}")
        self.assertEqual(self.acme.get(f"/v1/jobs/{last}").json()["state"], "ready")
        made = subprocess.run([harness.BINARY, "submit", "then", "--server", f"http://127.0.0.1:{self.server.port}", "--after", str(then)], input=b"x",
                              capture_output=True, timeout=60, check=True, env={**os.environ, "WHILST_TOKEN": self.tokens["acme"]})
        self.assertEqual(self.acme.get(f"/v1/jobs/{int(made.stdout)}").json()["awaits"]["jobs"], [then])

    def test_not_there(self):
        for query in ("?after={}", f"?after={self.mine},{{}}", f"?after={{}},{self.mine}", "?after={}&after-failure=run", "?after={}&unique=u",
                      "?after={}&run-at=2030-01-01T00:00:00Z", f"?after={{}},{MISSING - 1}"):
            self.alike(lambda job, query=query: self.acme.post("/v1/queues/then/jobs" + query.format(job), b"x"), 409, "unknown-awaited")
        for kind, body in (("application/x-ndjson", b"1\n2\n"), (BATCH, struct.pack("<I", 1) + b"x"), ("text/plain", b"y" * (2 << 20))):
            self.alike(lambda job, kind=kind, body=body: self.acme.post(f"/v1/queues/then/jobs?after={job}", body, Content_Type=kind),
                       409, "unknown-awaited")
        self.assertEqual(self.acme.get("/v1/queues/then").status, 404)
        # nor is it told by what else is refused, and in which order: the first one that is not there is named
        for first, second in ((MISSING, self.foreign), (self.foreign, MISSING), (self.forgotten, self.foreign), (self.plain, self.forgotten)):
            answer = self.acme.post(f"/v1/queues/then/jobs?after={first},{second}", b"x")
            self.assertEqual(answer.json()["awaited"], first)

    def test_other_reasons_come_behind(self):
        """A queue that is full and a job that has the key already answer before, or behind, whichever of them it is."""
        self.acme.put("/v1/queues/full", {"jobs_max": 1})
        self.acme.submit("full")
        self.acme.submit("one", b"x", "?unique=u")
        self.alike(lambda job: self.acme.post(f"/v1/queues/full/jobs?after={job}", b"x"), 409, "unknown-awaited")
        self.alike(lambda job: self.acme.post(f"/v1/queues/one/jobs?unique=u&after={job}", b"x"), 409, "unknown-awaited")
        self.problem(self.acme.post(f"/v1/queues/full/jobs?after={self.mine}", b"x"), 429, "queue-full")
        self.assertTrue(self.acme.post(f"/v1/queues/one/jobs?unique=u&after={self.mine}", b"x").json()["duplicate"])

    def test_transactions(self):
        self.acme.put("/v1/topics/news", {"retention": "1h"})
        self.acme.put("/v1/topics/news/subscriptions/all", {"queue": "told"})
        submit, publish = {"action": "submit", "queue": "then", "payload": "x"}, {"action": "publish", "topic": "news", "payload": "p", "type": "t"}
        done = self.transact(self.acme, {**submit, "queue": "first"}, publish, {**submit, "after": [{"action": 0}, self.mine]},
                             {**submit, "after": [{"action": 2}], "after_failure": "bury"})
        self.assertEqual(done.status, 200, done)
        first, event, second, third = done.json()["results"]
        self.assertEqual((second["state"], third["state"]), ("awaiting", "awaiting"))
        self.assertEqual(self.root.get(f"/v1/jobs/{third['id']}").json()["queue"], "acme:then")
        self.assertEqual(self.acme.get(f"/v1/jobs/{second['id']}").json()["awaits"]["jobs"], [first["id"], self.mine])
        self.assertNotIn(b"acme", done.body)
        self.assertEqual(self.acme.get("/v1/queues/told").json()["jobs"]["ready"], 1)
        counts = self.acme.get("/v1/queues").body
        for actions, at in (([{**submit, "after": ["N"]}], 0), ([submit, publish, {**submit, "after": [self.mine, {"action": 0}, "N"]}], 2),
                            ([submit, {**submit, "after": ["N"]}, {"action": "cancel", "job": MISSING}], 1),
                            ([{**submit, "after": ["N"]}, {"action": "publish", "topic": "none", "payload": "p", "type": "t"}], 0),
                            ([{"action": "complete", "job": self.mine, "lease": "1.1"}, {**submit, "after": ["N"]}], 1)):
            text = json.dumps({"actions": actions})
            self.alike(lambda job, text=text: self.acme.post("/v1/transactions", text.replace('"N"', str(job)).encode(),
                                                             Content_Type="application/json"),
                       409, "action-refused", cause="unknown-awaited", action=at)
        self.assertEqual(self.acme.get("/v1/queues").body, counts)
        # the topic of another is not published to by what runs after one's own
        refused = self.transact(self.bolt, publish, {**submit, "after": [self.foreign]})
        self.assertEqual((refused.status, refused.json()["cause"]), (409, "unknown-topic"))

    def test_keys(self):
        """What was answered is answered again, though what it ran after has gone; a new request under the key finds out nothing."""
        brief = self.acme.submit("brief", b"x", "?retention=0s")
        asked = {"/v1/queues/then/jobs?after=" + str(brief): b"x", "/v1/queues/large/jobs?after=" + str(brief): b"y" * (2 << 20),
                 "/v1/transactions": json.dumps({"actions": [{"action": "submit", "queue": "then", "payload": "x", "after": [brief]}]}).encode()}
        answers = [self.acme.post(path, body, Idempotency_Key="k", Content_Type="application/json") for path, body in asked.items()]
        job, lease, _ = self.acme.reserve("brief")
        self.assertEqual((job, self.acme.complete(job, lease).status), (brief, 200))
        for before, (path, body) in zip(answers, asked.items()):
            self.assertLess(before.status, 300, before)
            again = self.acme.post(path, body, Idempotency_Key="k", Content_Type="application/json")
            self.assertEqual((again.status, again.body, again["Idempotent-Replayed"]), (before.status, before.body, "true"))
            self.problem(self.acme.post(path, body, Content_Type="application/json"), 409,
                         "action-refused" if "transactions" in path else "unknown-awaited")
        for queue, size in (("then", 1), ("large", 2 << 20)):
            for job in (*self.none, self.mine):
                self.problem(self.acme.post(f"/v1/queues/{queue}/jobs?after={job}", b"z" * size, Idempotency_Key="k"), 422, "key-reused")
            self.alike(lambda job, queue=queue, size=size: self.acme.post(f"/v1/queues/{queue}/jobs?after={job}", b"z" * size,
                                                                          Idempotency_Key="new"), 409, "unknown-awaited")

    def test_what_goes_while_a_large_body_comes(self):
        """Judged again when the body is here: what was moved out of the namespace meanwhile is not there."""
        head = (f"POST /v1/queues/then/jobs?after={self.mine} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.tokens['acme']}\r\n"
                f"Content-Length: {2 << 20}\r\nExpect: 100-continue\r\n\r\n").encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.DEADLINE) as s:
            s.sendall(head)
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 100"))
            self.assertEqual(self.root.post("/v1/queues/acme%3Amail/move?to=bolt%3Ataken").json(), {"count": 1})
            s.sendall(b"y" * (2 << 20))
            self.problem(harness.read_answer(s)[0], 409, "unknown-awaited")
        self.assertEqual(self.acme.get("/v1/queues/then").status, 404)
        self.none += (self.mine,)
        self.alike(lambda job: self.acme.post(f"/v1/queues/then/jobs?after={job}", b"x"), 409, "unknown-awaited")

    def test_scopes(self):
        """Without a prefix, too: what the token may neither read, submit nor work is as if it were not there."""
        self.add("narrow", "submit:then", "read:open", "work:busy")
        with self.serve() as server:
            root, narrow = As(self, server, "root"), As(self, server, "narrow")
            jobs = {queue: root.submit(queue) for queue in ("then", "open", "busy", "shut")}
            for queue in ("then", "open", "busy"):
                self.assertEqual(narrow.post(f"/v1/queues/then/jobs?after={jobs[queue]}", b"x").status, 202)
            for first, second in ((jobs["shut"], MISSING), (MISSING, jobs["shut"])):
                answer = narrow.post(f"/v1/queues/then/jobs?after={jobs['open']},{first},{second}", b"x")
                self.problem(answer, 409, "unknown-awaited")
                self.assertEqual(answer.json()["awaited"], first)


class Beanstalk(Tokens):
    def test_tubes(self):
        """beanstalkd's protocol has no tokens: what is in a namespace does not exist there."""
        server = self.serve("--beanstalk", "127.0.0.1:0")
        port = int(re.search(r"beanstalk://127\.0\.0\.1:(\d+)", server.addresses).group(1))
        acme = As(self, server, "acme")
        job = acme.submit("mail", b"secret")
        acme.post("/v1/queues/mail/jobs?delay=1h", b"secret")
        with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as s:
            def say(line):
                s.sendall(line + b"\r\n")
                return s.recv(65536)
            for line in (b"peek %d" % job, b"reserve-job %d" % job, b"delete %d" % job, b"kick-job %d" % job, b"stats-job %d" % job,
                         b"release %d 0 0" % job, b"bury %d 0" % job, b"touch %d" % job):
                self.assertEqual(say(line), b"NOT_FOUND\r\n", line)
            self.assertNotIn(b"mail", say(b"list-tubes"))
            for line in (b"use acme:mail", b"watch acme:mail", b"stats-tube acme:mail", b"pause-tube acme:mail 1"):
                self.assertEqual(say(line), b"BAD_FORMAT\r\n", line)
        self.assertEqual(acme.get(f"/v1/jobs/{job}").json()["state"], "ready")


class EveryRoute(Tenants):
    """Whatever openapi.json describes, asked by one tenant about what the other has, with its very numbers and names."""

    def setUp(self):
        super().setUp()
        self.root.put("/v1/services/bolt%3Athing", {"url": f"http://127.0.0.1:{self.back.port}"})
        self.bolt.put("/v1/queues/thing", {})
        self.bolt.put("/v1/queues/thing/target", {"url": f"http://127.0.0.1:{self.back.port}/p"})
        self.bolt.post("/v1/queues/thing/pause")
        self.bolt.put("/v1/topics/thing", {"retention": "1h"})
        self.bolt.put("/v1/topics/thing/subscriptions/thing", {})
        self.bolt.post("/v1/topics/thing/events?type=secret", b"secret")
        self.bolt.put("/v1/schedules/thing", {"every": "1h", "job": {"queue": "thing", "payload": "secret"}})
        self.job = self.bolt.submit("other", b"secret")

    def state(self):
        """All that bolt has, but for what changes by itself."""
        views = [self.bolt.get(p).json() for p in ("/v1/queues", "/v1/topics", "/v1/services", "/v1/queues/thing/target",
                                                   "/v1/topics/thing/subscriptions/thing", f"/v1/jobs/{self.job}")]
        views.append([{**s, "next": None} for s in self.bolt.get("/v1/schedules").json()["schedules"]])
        return views

    def test_all(self):
        document = openapi.load()
        fill = {"queue": "thing", "topic": "thing", "subscription": "thing", "service": "thing", "schedule": "thing", "id": str(self.job)}
        before, asked = self.state(), 0
        for template, item in document["paths"].items():
            for method in item:
                if method not in openapi.METHODS or method == "options":
                    continue
                names = [part[1:-1] for part in template.split("/") if part.startswith("{")]
                path = template
                for name in names:
                    kind = name if name in fill else {"name": template.split("/")[2].rstrip("s"), "path": "x"}[name]
                    path = path.replace("{" + name + "}", fill.get(kind, "x"))
                with self.subTest(f"{method.upper()} {path}"):
                    self.ask(method.upper(), path, bool(names))
                    asked += 1
        self.assertGreater(asked, 55)
        self.assertEqual(self.state(), before)

    def ask(self, method, path, about_something):
        if path.endswith("/events") and method == "GET":
            with self.assertRaises(sse.Refused) as refused:
                self.acme.events(path)
            self.assertEqual(refused.exception.status, 404)
            return
        body = {"PUT": b"{}", "PATCH": b'{"priority":1}', "POST": b"{}"}.get(method)
        if method == "PUT" and (path.endswith("/target") or path.startswith("/v1/services/")):
            body = b'{"url":"http://127.0.0.1:9/"}'
        elif method == "PUT" and path.startswith("/v1/schedules/"):
            body = b'{"every":"1h","job":{"queue":"mine"}}'
        elif path.split("/")[-1] in ("purge", "kick", "replay", "move"):
            body = b""
        answer = self.acme.request(method, path + ("?to=mine" if path.endswith("/move") else ""), body, Content_Type="application/json")
        self.assertNotIn(b"secret", answer.body)
        if path not in ("/openapi.json", "/"):
            for sign in (b"bolt", b"127.0.0.1:%d" % self.back.port):
                self.assertNotIn(sign, answer.body, answer)
        if not about_something:
            return
        # Not there, or not for a tenant at all, or made anew where it belongs: never bolt's.
        if answer.status < 300:
            self.assertIn((method, path.split("/")[-1]), {("POST", "jobs"), ("PUT", "thing"), ("PUT", "target"), ("POST", "reserve")}, answer)
        else:
            code = answer.json()["code"].split("-")[0] if answer.body else "unknown"
            self.assertIn((answer.status, code), {(404, "unknown"), (403, "not"), (415, "wrong")}, answer)
        # what was made goes again, so that the next finds nothing
        if method == "PUT" and answer.status == 201:
            self.assertEqual(self.acme.delete(path).status, 200)
        self.acme.post("/v1/queues/thing/purge")
        self.acme.post("/v1/queues/thing/purge?state=cancelled")
        self.acme.delete("/v1/queues/thing")


if __name__ == "__main__":
    harness.main()
