"""An HTTP request that does nothing, beside nginx and h2o."""
import shutil

from harness import Server, pick


def run(bench):
    def library(engine):
        return lambda: Server([bench.build / "bench/http_hello", engine])

    for connections in (1, 50):
        cases = [(f"libwhilst, 100 bytes, {engine}", case(bench, library(engine), "/", connections))
                 for engine in ("epoll", "uring")]
        cases.append(("whilst serve, /livez", case(bench, bench.start_whilst, "/livez", connections)))
        if bench.peer("usr/sbin/nginx"):
            cases += [("nginx, 100 bytes", case(bench, bench.start_nginx, "/", connections)),
                      ("nginx, a file of 100 bytes", case(bench, bench.start_nginx, "/file", connections))]
        if bench.peer("usr/bin/h2o"):
            cases.append(("h2o, a file of 100 bytes", case(bench, bench.start_h2o, "/file", connections)))
        bench.interleave(f"an HTTP request that does nothing, {connections} connection(s)", cases)


def case(bench, start, path, connections):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n".encode()

    def measure():
        server = start()
        got = bench.load(server, "http", request, connections=connections)
        server.stop()
        if hasattr(server, "folder"):
            shutil.rmtree(server.folder, ignore_errors=True)
        return pick(got, "cpu_us_per_op", "ops_per_s", "p50_us", "p99_us")
    return measure
