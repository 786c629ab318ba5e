"""tests/integration/sse.py -- a reader of event streams that gives what came, byte for byte what the specification says of fields.

No thread: events() reads until there is one. Heartbeats are counted.
"""
import json
import socket

import harness
import openapi


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status} {body[:300]!r}")
        self.status, self.body = status, body


class Stream:
    """One connection. last: Last-Event-ID, and from then on the id of the last event."""

    def __init__(self, port, path, last="", receive_buffer=0, **headers):
        self.path, self.last, self.retry, self.comments = path, last, None, 0
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(harness.DEADLINE)
        self.socket.connect(("127.0.0.1", port))
        fields = {"Accept": "text/event-stream", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if last:
            fields["Last-Event-ID"] = last
        self.socket.sendall((f"GET {path} HTTP/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.head = {}
        for line in iter(self.file.readline, b"\r\n"):
            name, value = line.decode().rstrip("\r\n").split(": ", 1)
            self.head[name.lower()] = value
        if self.status != 200:
            body = self.file.read()
            self.close()
            raise Refused(self.status, body)
        assert self.head["content-type"] == "text/event-stream", self.head

    def block(self):
        """The fields of the next block, None at the end. {} for one of comments alone."""
        fields, data = {}, []
        for line in self.file:
            line = line.decode().rstrip("\n")
            if line == "":
                break
            if line.startswith(":"):
                self.comments += 1
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            else:
                fields[name] = value
        else:
            return None
        if "id" in fields:
            self.last = fields["id"]
        if "retry" in fields:
            self.retry = int(fields["retry"])
        if data:
            fields["data"] = json.loads("\n".join(data))
        return fields

    def event(self):
        """(name, data, id of this event or None), or None at the end."""
        while True:
            fields = self.block()
            if fields is None:
                return None
            if "data" in fields:
                name = fields.get("event", "message")
                openapi.DESCRIPTION.check_event(self.path, name, fields["data"])
                return name, fields["data"], fields.get("id")

    def rest(self):
        got = []
        while (event := self.event()) is not None:
            got.append(event)
        return got

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
