"""tests/integration/backend.py -- an ordinary, synchronous HTTP backend that knows nothing of whilst.

What it does is in the path: /echo answers with what it received, as JSON, /mirror with the body alone; /status/418 with that status; /sleep/0.5
after half a second; /bytes/N with N bytes; /chunked in pieces; /slow-pieces with a pause between them that the test
releases; /break cuts the connection in the middle of an answer; /garbage speaks no HTTP; /count/KEY counts its calls;
/gate waits until the test opens it; /busy-then/STATUS/N/SECONDS refuses N times with Retry-After; /healthz is as well as .well says.
"""
import http.server
import json
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            data = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return data
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def handle_any(self):
        backend = self.server.backend
        path = self.path.split("?")[0]
        what = path.split("/")[1:]
        with backend.lock:
            backend.calls.append((self.command, self.path))
            backend.counts[path] = backend.counts.get(path, 0) + 1
        if what[0] == "upload-slowly":
            backend.gate.wait(30)
        data = self.body()
        if what[0] == "status":
            self.answer(int(what[1]), b"status " + what[1].encode(), [("X-Backend", "yes")])
        elif what[0] == "mirror":
            self.answer(200, data, [("Content-Type", self.headers.get("Content-Type", "none"))])
        elif what[0] == "sleep":
            backend.wake.wait(float(what[1]))
            self.answer(200, b"slept")
        elif what[0] == "gate":
            backend.gate.wait(30)
            self.answer(200, b"opened:" + data, [("Content-Type", "text/plain"), ("X-One", "1"), ("X-One", "2")])
        elif what[0] == "bytes":
            self.answer(200, bytes(range(256)) * (int(what[1]) // 256) + b"z" * (int(what[1]) % 256))
        elif what[0] == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one", b"two" * 10000, b"three"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif what[0] == "slow-pieces":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            backend.gate.wait(30)
            self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
        elif what[0] == "until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"to the end")
            self.close_connection = True
        elif what[0] == "break":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            self.wfile.flush()
            self.close_connection = True
        elif what[0] == "drop":
            self.close_connection = True
        elif what[0] == "drop-then":  # broken off as often as the path says, then good
            if backend.counts[path] <= int(what[1]):
                self.close_connection = True
            else:
                self.answer(200, b"at last")
        elif what[0] == "busy-then":  # /busy-then/STATUS/N/SECONDS: refused N times with Retry-After, then good
            if backend.counts[path] <= int(what[2]):
                self.answer(int(what[1]), b"busy", [("Retry-After", what[3])] if what[3] else [])
            else:
                self.answer(200, b"at last")
        elif what[0] == "healthz":
            self.answer(200 if backend.well else 500, b"")
        elif what[0] == "garbage":
            self.wfile.write(b"this is not HTTP at all\r\n\r\n")
            self.close_connection = True
        elif what[0] == "early":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            self.answer(200, b"after a hint")
        elif what[0] == "hop":
            self.answer(200, b"hop", [("Connection", "X-Mine"), ("X-Mine", "1"), ("Keep-Alive", "timeout=9"),
                                      ("X-End", "to-end"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        else:
            seen = {"method": self.command, "path": self.path, "headers": self.headers.items(),
                    "body": data.decode("latin-1")}
            self.answer(200, json.dumps(seen).encode(), [("Content-Type", "application/json"), ("X-Backend", "yes")])

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any


class Backend(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.backend = self
        self.lock, self.gate, self.wake = threading.Lock(), threading.Event(), threading.Event()
        self.calls, self.counts, self.well = [], {}, True
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def handle_error(self, request, client_address):
        pass

    def stop(self):
        self.gate.set()
        self.wake.set()
        self.shutdown()
        self.server_close()
