"""Calls through the gateway beside nginx's proxy_pass; the backend is an nginx of its own, not counted."""
import json
import shutil
import urllib.request

from harness import pick


def run(bench):
    if not bench.peer("usr/sbin/nginx"):
        print("gateway: nginx cannot be had", flush=True)
        return
    for connections in (1, 50):
        cases = [("the backend itself", case(bench, None, connections)),
                 ("nginx proxy_pass", case(bench, "nginx", connections)),
                 ("whilst, passed through", case(bench, "whilst", connections)),
                 ("whilst, recorded, local", case(bench, "whilst", connections, "Prefer: wait=60\r\n")),
                 ("whilst, recorded, async", case(bench, "whilst", connections,
                                                  "Prefer: wait=60\r\nWhilst-Commit: async\r\n"))]
        bench.interleave(f"a call of 100 bytes through the gateway, {connections} connection(s)", cases,
                         "CPU of the gateway alone; client, gateway and backend share the CPUs")


def case(bench, which, connections, fields=""):
    request = f"GET /call/back/ HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{fields}\r\n"
    if which is None:
        request = request.replace("/call/back/", "/")

    def measure():
        backend = server = bench.start_nginx()
        if which == "nginx":
            server = bench.start_nginx(backend.port)
        elif which == "whilst":
            server = bench.start_whilst()
            declare(server, {"url": f"http://127.0.0.1:{backend.port}", "concurrency": 64})
        got = bench.load(server, "http", request.encode(), connections=connections)
        for one in {server, backend}:
            one.stop()
            shutil.rmtree(one.folder, ignore_errors=True)
        return pick(got, "cpu_us_per_op", "ops_per_s", "p50_us", "p99_us")
    return measure


def declare(server, service):
    urllib.request.urlopen(urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/services/back", json.dumps(service).encode(),
        {"Content-Type": "application/json"}, method="PUT"), timeout=10).read()
