"""tests/integration/test_http_requirements.py -- what RFC 9110 and RFC 9112 require, byte by byte, of the real server and its gateway.

docs/design/http-requirements.md lists the requirements and names the test of each; those of the parser alone are in
tests/unit/test_http_parse.c, those of the library's client in tests/conformance. Here bytes are sent and looked at as they are:
no library of HTTP is in between, on either side.
"""
import email.utils
import json
import re
import socket
import threading
import time

import harness

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"  # as it does: a POST on the same one may not be sent twice


def exchange(port, data, half_close=False):
    return harness.raw(port, data, half_close=half_close)


def split(answer):
    """(status, {name: [values]}, body) of the first answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        name, value = line.split(":", 1)
        fields.setdefault(name.lower(), []).append(value.strip())
    return int(lines[0].split()[1]), fields, body


def request(method="GET", target="/livez", fields="", body=b"", version="1.1", host="Host: h\r\n", close=True):
    end = "Connection: close\r\n" if close else ""
    return f"{method} {target} HTTP/{version}\r\n{host}{fields}{end}\r\n".encode("latin-1") + body


class RawBackend:
    """Answers each connection's first request with .answer, and keeps what it got."""

    def __init__(self):
        self.answer, self.got, self.connections = OK, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with s:
                s.settimeout(harness.DEADLINE)
                try:
                    self.got.append(self.read(s))
                    s.sendall(self.answer)
                except (OSError, ValueError):
                    pass

    @staticmethod
    def read(s):
        got = b""
        while b"\r\n\r\n" not in got:
            piece = s.recv(65536)
            if not piece:
                return got
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)
        chunked = re.search(rb"\r\nTransfer-Encoding: chunked", head, re.IGNORECASE)
        while (length and len(body) < int(length.group(1))) or (chunked and not body.endswith(b"0\r\n\r\n")):
            piece = s.recv(65536)
            if not piece:
                break
            body += piece
        return head + b"\r\n\r\n" + body

    def close(self):
        self.listener.close()


class Origin(harness.Case):
    """The server as an origin server."""

    def ask(self, data, half_close=False):
        return split(exchange(self.server.port, data, half_close))

    def status(self, data):
        return self.ask(data)[0]

    def test_host(self):
        for host, status in (("", 400), ("Host: a\r\nHost: a\r\n", 400), ("Host: a b\r\n", 400), ("Host: a/b\r\n", 400),
                             ("Host: u@h\r\n", 400), ("Host:\r\n", 200), ("Host: [::1]:80\r\n", 200), ("hOsT: h:1\r\n", 200)):
            self.assertEqual(self.status(request(host=host)), status, host)
        self.assertEqual(self.status(request(version="1.0", host="")), 200)

    def test_fields(self):
        for fields in ("A : b\r\n", "A: b\r\n c\r\n", "A: b\r\n\tc\r\n", "A\r\n", ": b\r\n", "A: b\0c\r\n", "A: b\rc\r\n", "A b: c\r\n"):
            self.assertEqual(self.status(request(fields=fields)), 400, fields)
        self.assertEqual(self.status(request(fields="X-Unknown:\t v \t\r\nX-Empty:\r\nX-Latin: \xe9\r\n")), 200)
        self.assertEqual(self.status(b"GET /livez HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n"), 400)
        self.assertEqual(self.status(b"\r\n\r\n" + request()), 200, "empty lines before a request")

    def test_framing(self):
        submit = "/v1/queues/requirements/jobs"
        for fields, body, status in (("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\n\r\n", 400),
                                     ("Content-Length: 1\r\nContent-Length: 1\r\n", b"x", 400),
                                     ("Content-Length: 1\r\nContent-Length: 2\r\n", b"xx", 400),
                                     ("Content-Length: 1, 1\r\n", b"x", 400), ("Content-Length: +1\r\n", b"x", 400),
                                     ("Content-Length: -1\r\n", b"", 400), ("Content-Length: 0x1\r\n", b"x", 400),
                                     ("Content-Length: 99999999999999999999999\r\n", b"", 400),
                                     ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", 400),
                                     ("Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n", 501),
                                     ("Transfer-Encoding: gzip\r\n", b"", 400),
                                     ("Transfer-Encoding: chunked\r\n", b"1;name=value;q=\"a b\"\r\nx\r\n0;last\r\nTrailer-Field: v\r\n\r\n", 202),
                                     ("Transfer-Encoding: ChUnKeD\r\n", b"00001\r\nx\r\n0\r\n\r\n", 202),
                                     ("Transfer-Encoding: chunked\r\n", b"g\r\nx\r\n0\r\n\r\n", 400),
                                     ("Transfer-Encoding: chunked\r\n", b"1\r\nxy\r\n0\r\n\r\n", 400),
                                     ("Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\nx", 400),
                                     ("Content-Length: 1\r\n", b"x", 202)):
            answer = self.ask(request("POST", submit, fields, body, close=False), half_close=True)
            self.assertEqual(answer[0], status, (fields, answer))
        # of a body that breaks off nothing is taken
        before = self.client.get("/v1/queues/requirements").json()["submitted"]
        self.assertEqual(self.ask(request("POST", submit, "Content-Length: 5\r\n", b"xx"), half_close=True)[0], 400)
        self.assertEqual(self.ask(request("POST", submit, "Transfer-Encoding: chunked\r\n", b"5\r\nxx"), half_close=True)[0], 400)
        self.assertEqual(self.client.get("/v1/queues/requirements").json()["submitted"], before)

    def test_ambiguous_requests_end_the_connection(self):
        """What follows could be taken for a request by one and for a body by another: nobody reads it."""
        for fields in ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 3\r\nContent-Length: 4\r\n"):
            got = exchange(self.server.port, request("POST", "/v1/queues/q/jobs", fields, b"0\r\n\r\n" + request(close=False), close=False))
            self.assertEqual(got.count(b"HTTP/1.1 "), 1, got)
            self.assertIn("close", split(got)[1]["connection"])

    def test_a_body_of_get_is_no_request(self):
        inner = request(target="/nothing/here", close=False)
        got = exchange(self.server.port, request(fields=f"Content-Length: {len(inner)}\r\n", body=inner, close=False) + request())
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", got), [b"200", b"200"])

    def test_targets(self):
        self.assertEqual(self.status(request(target="http://elsewhere.example/livez")), 200)
        self.assertEqual(self.status(request(target="HTTP://elsewhere.example:80/livez", host="Host: other\r\n")), 200)
        self.assertEqual(self.status(request("OPTIONS", "*")), 204)
        for target in ("*", "livez", "/a b", "/livez#x", "h:80"):
            self.assertEqual(self.status(request(target=target)), 400, target)
        self.assertEqual(self.status(request(target="/" + "x" * 9000)), 414)
        self.assertEqual(self.status(request(target="/%6Civez")), self.status(request(target="/%6civez")))
        self.assertEqual(self.status(request("CONNECT", "h:80")), 501)

    def test_methods(self):
        for method, status in (("BREW", 501), ("get", 501), ("G@T", 400), ("PROPFIND", 405), ("TRACE", 405), ("PUT", 405)):
            status_got, fields, _ = self.ask(request(method))
            self.assertIn(status_got, (status, 501) if method == "G@T" else (status,), method)
            if status == 405:
                self.assertEqual(fields["allow"], ["GET, HEAD"])
        status, fields, body = self.ask(request("OPTIONS", "/v1/queues/q/jobs"))
        self.assertEqual((status, body), (204, b""))
        self.assertIn("POST", fields["allow"][0])

    def test_versions(self):
        for version, status in (("1.0", 200), ("2.0", 505), ("0.9", 505), ("3.0", 505)):
            self.assertEqual(self.status(request(version=version)), status, version)
        self.assertIn(self.status(request(version="1.10")), (400, 505))
        self.assertTrue(exchange(self.server.port, request(version="1.0")).startswith(b"HTTP/1.1 200 "), "our own version")

    def test_http_1_0_peers(self):
        """They get no chunks, no interim answers, and the end of the connection unless they ask for another one."""
        got = exchange(self.server.port, request(version="1.0", host="", close=False))
        self.assertIn("close", split(got)[1].get("connection", ["close"]))
        with socket.create_connection(("127.0.0.1", self.server.port), harness.DEADLINE) as s:
            s.sendall(request(version="1.0", fields="Connection: keep-alive\r\n", close=False))
            answer, rest = harness.read_answer(s)
            self.assertEqual((answer.status, answer["Connection"], rest), (200, "keep-alive", b""))
            s.sendall(request(version="1.0", close=False))
            self.assertEqual(harness.read_answer(s)[0].status, 200)
        with socket.create_connection(("127.0.0.1", self.server.port), harness.DEADLINE) as s:
            s.sendall(request(version="1.0", target="/v1/queues/q10/events", fields="Accept: text/event-stream\r\n", close=False))
            head = b""
            while b"\r\n\r\n" not in head:
                head += s.recv(4096)
        status, fields, _ = split(head)
        self.assertTrue(status == 404 or "transfer-encoding" not in fields, head)
        got = exchange(self.server.port, request("POST", "/v1/queues/q10/jobs", "Expect: 100-continue\r\nContent-Length: 1\r\n", b"x", "1.0"))
        self.assertTrue(got.startswith(b"HTTP/1.1 202 "), got)

    def test_expectations(self):
        with socket.create_connection(("127.0.0.1", self.server.port), harness.DEADLINE) as s:
            s.sendall(request("POST", "/v1/queues/q/jobs", "Expect: 100-Continue\r\nContent-Length: 1\r\n"))
            got = b""
            while not got.endswith(b"\r\n\r\n"):
                got += s.recv(1000)
            self.assertEqual(got, b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(b"x")
            self.assertTrue(harness.read_all(s).startswith(b"HTTP/1.1 202 "))
        self.assertEqual(self.status(request("POST", "/v1/queues/q/jobs", "Expect: other\r\nContent-Length: 1\r\n", b"x")), 417)
        # the final answer instead, where the body is not wanted
        got = exchange(self.server.port, request("POST", "/none", "Expect: 100-continue\r\nContent-Length: 5\r\n"))
        self.assertTrue(got.startswith(b"HTTP/1.1 404 "), got)
        # without a body there is nothing to wait for
        self.assertEqual(self.status(request(fields="Expect: 100-continue\r\n")), 200)

    def test_head(self):
        for target in ("/livez", "/v1/queues", "/openapi.json", "/nothing"):
            get, head = self.ask(request(target=target)), self.ask(request("HEAD", target))
            self.assertEqual(head[2], b"", target)
            self.assertEqual(head[0], get[0])
            for name in get[1].keys() - {"date", "whilst-position"}:
                self.assertEqual(head[1].get(name), get[1][name], (target, name))

    def test_answers_without_content(self):
        for data in (request("OPTIONS", "*"), request("POST", "/v1/queues/empty/reserve")):
            status, fields, body = self.ask(data)
            self.assertEqual((status, body), (204, b""))
            self.assertNotIn("content-length", fields)
            self.assertNotIn("transfer-encoding", fields)
        job = self.client.submit("tagged")
        tag = self.ask(request(target=f"/v1/jobs/{job}"))[1]["etag"][0]
        status, fields, body = self.ask(request(target=f"/v1/jobs/{job}", fields=f"If-None-Match: {tag}\r\n"))
        self.assertEqual((status, body, fields["etag"]), (304, b"", [tag]))
        self.assertNotIn("transfer-encoding", fields)
        # compared weakly, in lists, and by *
        for value in (f"W/{tag}", f'"no", {tag}', "*"):
            self.assertEqual(self.status(request(target=f"/v1/jobs/{job}", fields=f"If-None-Match: {value}\r\n")), 304, value)
        self.assertEqual(self.status(request(target=f"/v1/jobs/{job}", fields='If-None-Match: "no"\r\n')), 200)

    SINGLES = ("Authorization", "Content-Location", "Content-Range", "Content-Type", "Date", "From", "Idempotency-Key", "If-Modified-Since",
               "If-Range", "If-Unmodified-Since", "Last-Event-ID", "Max-Forwards", "Origin", "Proxy-Authorization", "Range", "Referer",
               "User-Agent", "Whilst-Callback", "Whilst-Commit", "Whilst-Lease", "Whilst-Token")

    def test_singles(self):
        """A field that has one value and is given twice is refused, whatever the values and wherever they stand, and nothing is done."""
        for name in self.SINGLES:
            for fields in (f"{name}: a\r\n{name}: b\r\n", f"{name}: a\r\nX: y\r\n{name.upper()}: a\r\n", f"{name}:\r\n{name}: a\r\n"):
                for method, target, length in (("POST", "/v1/queues/singles/jobs", "Content-Length: 1\r\n"), ("GET", "/livez", ""),
                                               ("GET", "/", "Accept: text/html\r\n"), ("POST", "/call/none/x", "Content-Length: 1\r\n")):
                    status, answered, body = self.ask(request(method, target, length + fields, b"x" if "Length" in length else b""))
                    self.assertEqual((status, json.loads(body)["code"]), (400, "bad-request"), (fields, target))
                    self.assertIn(f"{name} is given twice", json.loads(body)["detail"])
                    self.assertEqual(answered["content-type"], ["application/problem+json"])
        self.assertProblem(self.client.get("/v1/queues/singles"), 404, "unknown-queue")
        # names that are as long are other names
        self.assertEqual(self.status(request(fields="Whilst-Commit: async\r\nIf-None-Match: \"x\"\r\nLast-Event-ID: 1\r\n")), 200)

    def test_lists(self):
        """Several fields of one name are one list, where it is a list, and others pass."""
        job = self.client.submit("listed")
        tag, target = self.ask(request(target=f"/v1/jobs/{job}"))[1]["etag"][0], f"/v1/jobs/{job}"
        for first, second in ((tag, '"no"'), ('"no"', tag), ('"no"', "*"), ("", f"W/{tag}")):
            self.assertEqual(self.status(request(target=target, fields=f"If-None-Match: {first}\r\nIf-None-Match: {second}\r\n")), 304)
        self.assertEqual(self.status(request(target=target, fields='If-None-Match: "a"\r\nIf-None-Match: "b"\r\n')), 200)
        body = b'{"priority": 7}'
        for first, second, status in (('"1"', '"2"', 412), (tag, '"1"', 200), ('"1"', "x", 400)):
            fields = f"If-Match: {first}\r\nIf-Match: {second}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            self.assertEqual(self.status(request("PATCH", target, fields, body)), status, (first, second))
        status, fields, _ = self.ask(request(target=target, fields="Prefer: x\r\nPrefer: wait=0\r\n"))
        self.assertEqual((status, fields["preference-applied"]), (200, ["wait=0"]))
        for first, second, page in (("text/html", "application/json", True), ("application/json", "text/html", True),
                                    ("text/html;q=0", "*/*", False), ("application/json", "text/plain", False)):
            kind = self.ask(request(target="/", fields=f"Accept: {first}\r\nAccept: {second}\r\n"))[1]["content-type"][0]
            self.assertEqual(kind.startswith("text/html"), page, (first, second))
        self.assertEqual(self.status(request(fields="X-Own: a\r\nX-Own: b\r\nCookie: a=1\r\nCookie: b=2\r\n")), 200)

    def test_date(self):
        for data in (request(), request(target="/nothing"), request(host="")):
            stamp = self.ask(data)[1]["date"]
            self.assertEqual(len(stamp), 1)
            self.assertRegex(stamp[0], r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$")
            self.assertLess(abs(email.utils.parsedate_to_datetime(stamp[0]).timestamp() - time.time()), 60)

    def test_ranges_are_ignored(self):
        """Nothing says Accept-Ranges, and a Range gets the whole."""
        status, fields, body = self.ask(request(target="/openapi.json", fields="Range: bytes=0-1\r\n"))
        self.assertEqual(status, 200)
        self.assertGreater(len(body), 1000)
        self.assertNotIn("content-range", fields)

    def test_upgrades_that_are_not_known(self):
        for fields in ("Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"):
            got = exchange(self.server.port, request(fields=fields, close=False) + request())
            self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", got), [b"200", b"200"], fields)

    def test_persistence(self):
        got = exchange(self.server.port, request(close=False) * 3 + request() + request())
        self.assertEqual(got.count(b"HTTP/1.1 200"), 4, "nothing behind close")
        self.assertEqual(got.lower().count(b"connection: close"), 1)
        got = exchange(self.server.port, request(fields="Connection: X, CLOSE\r\n", close=False) + request())
        self.assertEqual(got.count(b"HTTP/1.1 200"), 1)


class Gateway(harness.Case):
    """The server as a gateway: what it is to a client and to a backend at once."""

    def setUp(self):
        super().setUp()
        self.backend = RawBackend()
        self.addCleanup(self.backend.close)
        self.service = f"g{self.counter}"
        answer = self.client.put(f"/v1/services/{self.service}", {"url": f"http://127.0.0.1:{self.backend.port}"})
        self.assertIn(answer.status, (200, 201))

    def call(self, fields="", method="GET", path="/x", body=b"", version="1.1", answer=OK):
        """(the answer taken apart, what the backend got taken apart as one)"""
        self.backend.answer = answer
        self.backend.got.clear()
        got = exchange(self.server.port, request(method, f"/call/{self.service}{path}", fields, body, version))
        asked = self.backend.got[-1] if self.backend.got else b""
        return split(got), split(b"HTTP/1.1 0 x\r\n" + asked.partition(b"\r\n")[2]) if asked else None, asked

    def test_fields_of_the_connection_end_here(self):
        """Those that Connection names, however many lines it has, and those that are always of one hop."""
        named = "".join(f"Connection: X-Hop-{i}\r\nX-Hop-{i}: v\r\n" for i in range(20))
        _, asked, _ = self.call(named + "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\n"
                                "Upgrade: h2c\r\nProxy-Authorization: Basic eDp5\r\nX-End-To-End: 1\r\n")
        self.assertEqual([name for name in asked[1] if name.startswith("x-hop")], [])
        for name in ("keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authorization"):
            self.assertNotIn(name, asked[1])
        self.assertEqual(asked[1]["x-end-to-end"], ["1"])
        answer, _, _ = self.call(answer=b"HTTP/1.1 200 OK\r\n" + named.encode() + b"Keep-Alive: timeout=5\r\nX-End-To-End: 1\r\n"
                                 b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual([name for name in answer[1] if name.startswith("x-hop")], [])
        for name in ("keep-alive", "proxy-authenticate", "upgrade"):
            self.assertNotIn(name, answer[1])
        self.assertEqual(answer[1]["x-end-to-end"], ["1"])

    def test_all_other_fields_go_on(self):
        _, asked, _ = self.call("".join(f"X-{i}: {i}\r\n" for i in range(98)))
        self.assertEqual([asked[1][f"x-{i}"] for i in range(98)], [[str(i)] for i in range(98)])
        _, asked, _ = self.call("X-Twice: a\r\nX-Other: o\r\nX-Twice: b\r\n")
        self.assertEqual(asked[1]["x-twice"], ["a", "b"], "in their order")

    def test_via(self):
        for version in ("1.0", "1.1"):
            answer, asked, _ = self.call("Via: 1.0 first\r\nVia: HTTP/2 second\r\n", version=version,
                                         answer=OK.replace(b"\r\n\r\n", b"\r\nVia: 1.1 behind\r\n\r\n"))
            self.assertEqual(", ".join(asked[1]["via"]), f"1.0 first, HTTP/2 second, {version} whilst")
            self.assertEqual(", ".join(answer[1]["via"]), "1.1 behind, 1.1 whilst")
        answer, _, _ = self.call(answer=b"HTTP/1.0 200 OK\r\n\r\nold")
        self.assertEqual((answer[0], answer[1]["via"], answer[2][-5:] != b""), (200, ["1.0 whilst"], True))

    def test_host_and_authority(self):
        _, asked, line = self.call()
        self.assertEqual(asked[1]["host"], [f"127.0.0.1:{self.backend.port}"])
        self.assertTrue(line.startswith(b"GET /x HTTP/1.1\r\nHost: "), line)

    def test_paths_go_on_as_they_are(self):
        for path in ("/a%2fb", "/a%2Fb/../c", "//", "/?q=%20&&", "/;p=1"):
            _, _, line = self.call(path=path)
            self.assertEqual(line.split(b" ")[1].decode(), path)

    def test_max_forwards(self):
        for method in ("OPTIONS", "TRACE"):
            _, asked, _ = self.call("Max-Forwards: 3\r\n", method)
            self.assertEqual(asked[1]["max-forwards"], ["2"])
            answer, asked, _ = self.call("Max-Forwards: 0\r\n", method)
            self.assertIsNone(asked)
            self.assertEqual(answer[0], 204 if method == "OPTIONS" else 405)
            self.assertIn("allow", answer[1])
        _, asked, _ = self.call("Max-Forwards: 0\r\n")
        self.assertEqual(asked[1]["max-forwards"], ["0"], "of other methods it says nothing")

    def test_no_endless_loops(self):
        self.client.put(f"/v1/services/{self.service}", {"url": f"http://127.0.0.1:{self.server.port}/call/{self.service}"})
        for fields in ("", "Prefer: wait=20\r\n"):
            answer = split(exchange(self.server.port, request(target=f"/call/{self.service}/x", fields=fields)))
            self.assertEqual(answer[0], 508, answer)

    def test_requests_are_framed_anew(self):
        _, asked, line = self.call("Transfer-Encoding: chunked\r\n", "POST", body=b"3;x=y\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n")
        self.assertTrue(line.endswith(b"3\r\nabc\r\n0\r\n\r\n") or asked[2] == b"abc", line)
        self.assertNotIn("x-trailer", asked[1])
        _, asked, _ = self.call("Content-Length: 3\r\n", "POST", body=b"abc")
        self.assertEqual((asked[1]["content-length"], asked[2]), (["3"], b"abc"))
        self.assertNotIn("transfer-encoding", asked[1])

    def test_answers_that_no_two_would_read_alike(self):
        """They are not passed on, and their connection ends."""
        for head in (b"Content-Length: 2\r\nContent-Length: 3\r\n", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                     b"Content-Length: x\r\n", b"X : y\r\nContent-Length: 2\r\n", b"X: y\r\n z\r\nContent-Length: 2\r\n",
                     b"Transfer-Encoding: chunked, chunked\r\n", b"X: a\0b\r\nContent-Length: 2\r\n"):
            before = self.backend.connections
            answer, _, _ = self.call(answer=b"HTTP/1.1 200 OK\r\n" + head + b"\r\nok")
            self.assertEqual(answer[0], 502, head)
            self.call()
            self.assertGreater(self.backend.connections, before + 1)

    def test_answers_that_break_off(self):
        """A client cannot take what came for the whole."""
        for head, body in ((b"Content-Length: 10\r\n", b"part"), (b"Transfer-Encoding: chunked\r\n", b"4\r\npart\r\n"),
                           (b"Transfer-Encoding: chunked\r\n", b"a\r\npart")):
            answer, _, _ = self.call(answer=b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
            if answer[0] == 200:
                self.assertFalse(answer[2].endswith(b"0\r\n\r\n"), answer)
                self.assertLess(len(answer[2]), int(answer[1].get("content-length", ["10"])[0]) + 10)
            else:
                self.assertEqual(answer[0], 502)

    def test_answers_without_content(self):
        for status in (204, 304):
            answer, _, _ = self.call(answer=f"HTTP/1.1 {status} x\r\nX-Of: backend\r\n\r\n".encode())
            self.assertEqual((answer[0], answer[2], answer[1]["x-of"]), (status, b"", ["backend"]))
            self.assertNotIn("transfer-encoding", answer[1])
        answer, _, _ = self.call(method="HEAD", answer=b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        self.assertEqual((answer[0], answer[1]["content-length"], answer[2]), (200, ["5000"], b""))

    def test_interim_answers_are_none(self):
        answer, _, _ = self.call(answer=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK)
        self.assertEqual((answer[0], answer[2]), (200, b"ok"))
        # a protocol that nobody asked for
        answer, _, _ = self.call(answer=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        self.assertEqual(answer[0], 502)

    def test_date_is_the_backends_or_ours(self):
        answer, _, _ = self.call(answer=OK.replace(b"\r\n\r\n", b"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"))
        self.assertEqual(answer[1]["date"], ["Sun, 06 Nov 1994 08:49:37 GMT"])
        answer, _, _ = self.call()
        self.assertEqual(len(answer[1]["date"]), 1)

    def test_versions_are_our_own(self):
        got = exchange(self.server.port, request(target=f"/call/{self.service}/x", version="1.0"))
        self.assertTrue(got.startswith(b"HTTP/1.1 200 "), got)
        self.backend.answer = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
        got = exchange(self.server.port, request(target=f"/call/{self.service}/x"))
        self.assertTrue(got.startswith(b"HTTP/1.1 200 "), got)

    def test_expectations_are_met_here(self):
        """The client is told to go on by us, and the backend is told of no expectation."""
        with socket.create_connection(("127.0.0.1", self.server.port), harness.DEADLINE) as s:
            s.sendall(request("POST", f"/call/{self.service}/x", "Expect: 100-continue\r\nContent-Length: 3\r\n"))
            got = b""
            while not got.endswith(b"\r\n\r\n"):
                got += s.recv(1000)
            self.assertEqual(got, b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(b"abc")
            self.assertTrue(harness.read_all(s).startswith(b"HTTP/1.1 200 "))
        self.assertNotIn(b"\r\nExpect", self.backend.got[-1])
        self.assertTrue(self.backend.got[-1].endswith(b"abc"))


if __name__ == "__main__":
    harness.main()
