"""Echo of 128 bytes: CPU of the server for each message."""
from harness import PAYLOAD_BYTES, Server, pick


def run(bench):
    for connections in (50, 1000):
        cases = []
        peers = [("raw epoll", ["echo_epoll"]), ("raw io_uring", ["echo_uring"]),
                 ("libuv uv_write", ["echo_libuv", "write"]), ("libuv uv_try_write", ["echo_libuv", "try"]),
                 ("libevent", ["echo_libevent"])]
        ours = [(f"whilst {engine}", ["echo_whilst", engine]) for engine in ("epoll", "uring", "threads", "sync")
                if connections <= 50 or engine in ("epoll", "uring")]
        for name, argv in ours + peers:
            program = bench.build / "bench" / argv[0]
            if not program.exists():
                continue

            def measure(argv=argv, program=program, connections=connections):
                server = Server([program, *argv[1:]])
                got = bench.load(server, "echo", connections=connections, size=PAYLOAD_BYTES)
                server.stop()
                return pick(got, "cpu_us_per_op", "ops_per_s", "p50_us", "p99_us")
            cases.append((name, measure))
        bench.interleave(f"echo, {PAYLOAD_BYTES} bytes, {connections} connections", cases,
                         "CPU of the server for each message first: throughput shares two cores with the client")
