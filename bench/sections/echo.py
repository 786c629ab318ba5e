"""Echo of 128 bytes: CPU of the server for each message, memory of idle connections, allocations for each message."""
import os
import resource
import socket
import struct
import time

from harness import PAYLOAD_BYTES, Server, pick

OURS = [(f"whilst {engine}", ["echo_whilst", engine]) for engine in ("epoll", "uring", "threads", "sync")]
POOLED = [(f"whilst {engine}, pooled buffers", ["echo_whilst", engine, "pooled"]) for engine in ("epoll", "uring")]
TASKS = [(f"whilst {engine}, coroutines", ["echo_coroutine", engine]) for engine in ("epoll", "uring")]
PEERS = [("raw epoll", ["echo_epoll"]), ("raw io_uring", ["echo_uring"]), ("libuv uv_write", ["echo_libuv", "write"]),
         ("libuv uv_try_write", ["echo_libuv", "try"]), ("libevent", ["echo_libevent"])]
FEW = 50         # connections up to which every engine takes part
IDLE = 10000


def programs(bench, rows, connections=1):
    return [(name, [bench.build / "bench" / argv[0], *argv[1:]]) for name, argv in rows
            if (bench.build / "bench" / argv[0]).exists()
            and (connections <= FEW or argv[1:2] not in (["threads"], ["sync"]))]


def run(bench):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * IDLE + 1000)), hard))
    for connections in (1, 50, 1000, 10000):
        if connections > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100:
            print(f"echo, {connections} connections: ulimit -n is too low")
            continue
        cases = [(name, echo(bench, argv, connections)) for name, argv in programs(bench, OURS + POOLED + TASKS + PEERS, connections)]
        bench.interleave(f"echo, {PAYLOAD_BYTES} bytes, {connections} connection(s)", cases,
                         "CPU of the server for each message first: throughput shares two cores with the client")
    cases = [(name, idle(argv)) for name, argv in programs(bench, OURS + POOLED + TASKS + PEERS, IDLE)]
    bench.interleave(f"{IDLE:,} idle connections", cases, "resident bytes of the process for each, the echo buffer "
                     "of the program included; the kernel's own are not")
    cases = [(name, allocations(bench, argv)) for name, argv in programs(bench, OURS + POOLED + TASKS + PEERS, FEW)]
    bench.interleave("allocations", cases, "calls of malloc and kin for each message, 50 connections")


def echo(bench, argv, connections):
    def measure():
        server = Server(argv)
        got = bench.load(server, "echo", connections=connections, size=PAYLOAD_BYTES)
        server.stop()
        return pick(got, "cpu_us_per_op", "ops_per_s", "p50_us", "p99_us")
    return measure


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def idle(argv):
    def measure():
        server = Server(argv)
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        before = settled(server)
        peers += [socket.create_connection(("127.0.0.1", server.port)) for _ in range(IDLE - len(peers))]
        after = settled(server)
        for peer in peers:
            peer.close()
        server.stop()
        return {"bytes_each": (after - before) / (IDLE - 100)}
    return measure


def settled(server):
    """Resident bytes once they have stopped to change."""
    last = -1
    while (now := resident_bytes(server.process.pid)) != last:
        last = now
        time.sleep(0.2)
    return now


def allocations(bench, argv):
    def measure():
        counters = bench.data / "count-malloc"
        counters.unlink(missing_ok=True)
        server = Server(argv, env={**os.environ, "LD_PRELOAD": str(bench.build / "bench/libcount_malloc.so"),
                                   "COUNT_MALLOC": str(counters)})
        # Connections of the first load have gone when the second begins; both make as many.
        bench.load(server, "echo", connections=FEW, size=PAYLOAD_BYTES)
        between = struct.unpack("QQ", counters.read_bytes())[0]
        got = bench.load(server, "echo", connections=FEW, size=PAYLOAD_BYTES)
        after = struct.unpack("QQ", counters.read_bytes())[0]
        server.stop()
        # Every message counts here, those of the warm-up included.
        return {"mallocs_per_op": (after - between) / got["requests_all"]}
    return measure
