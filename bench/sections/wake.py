"""Waking another thread: a round trip is two wake-ups, each of a loop that waits."""
import json
import subprocess


def run(bench):
    rows = [(f"whilst {engine}", ["wake_whilst", engine]) for engine in ("uring", "epoll", "threads", "sync")]
    rows += [("eventfd and epoll", ["wake_raw", "eventfd"]), ("io_uring MSG_RING", ["wake_raw", "msg_ring"]),
             ("io_uring message by call", ["wake_raw", "msg_call"]), ("libuv uv_async_send", ["wake_libuv"])]
    cases = []
    for name, (program, *variant) in rows:
        path = bench.build / "bench" / program
        if not path.exists():
            continue
        # messages without a ring are of Linux 6.13
        if "msg_call" in variant and subprocess.run([path, "0.01", *variant], capture_output=True, timeout=60).returncode:
            continue

        def measure(path=path, variant=variant):
            return json.loads(subprocess.run([path, str(bench.seconds / 2), *variant], capture_output=True, text=True,
                                             check=True, timeout=60).stdout)
        cases.append((name, measure))
    bench.interleave("a round trip between two threads", cases, "CPU of both threads")
