"""An HTTP request that does nothing, beside nginx."""
import shutil

from harness import pick


def run(bench):
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n"
    for connections in (1, 50):
        cases = [("whilst /livez", simple_case(bench, bench.start_whilst, get, connections))]
        if bench.peer("usr/sbin/nginx"):
            cases.append(("nginx, 100 bytes", simple_case(bench, bench.start_nginx, get, connections)))
        bench.interleave(f"an HTTP request that does nothing, {connections} connection(s)", cases)


def simple_case(bench, start, request, connections):
    def measure():
        server = start()
        got = bench.load(server, "http", request, connections=connections)
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        return pick(got, "cpu_us_per_op", "ops_per_s", "p50_us", "p99_us")
    return measure
