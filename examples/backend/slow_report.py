#!/usr/bin/env python3
"""slow_report.py -- an ordinary synchronous HTTP backend that knows nothing of whilst.

GET /report?folder=/usr/share/doc&seconds=3 counts the files, bytes and words below a folder, takes its time over it (at
least so many seconds), and answers with text. Whoever calls it waits as long as it takes, unless whilst stands in
front.

usage: slow_report.py [PORT]     prints "listening on PORT"
"""
import http.server
import os
import sys
import time
import urllib.parse


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path != "/report":
            self.answer(404, f"there is no {url.path} here\n")
            return
        began = time.monotonic()
        folder = query.get("folder", "/usr/share/doc")
        files = size = words = 0
        for base, _, names in os.walk(folder):
            for name in names:
                try:
                    with open(os.path.join(base, name), "rb") as f:
                        content = f.read()
                except OSError:
                    continue
                files += 1
                size += len(content)
                words += len(content.split())
        left = float(query.get("seconds", "3")) - (time.monotonic() - began)
        if left > 0:
            time.sleep(left)
        self.answer(200, f"{folder}: {files} files, {size} bytes, {words} words\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Backend)
    print(f"listening on {server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
