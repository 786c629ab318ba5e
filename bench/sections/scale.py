"""A backlog of ten million jobs (--jobs): the rate of submits and the memory as it grows, how long a start takes, and what compaction costs callers."""
import shutil
import time

from harness import PAYLOAD_BYTES, drive, human, metrics
from sections.submit import batch_body, batch_request, submit_request

SLICES, BATCH, BACKLOG_BYTES = 10, 1000, 1024
SETTLE_SECONDS = 20


def run(bench):
    backlog(bench)
    compaction(bench)


def backlog(bench):
    print(f"\n== a backlog of {bench.jobs:,} jobs of {BACKLOG_BYTES} bytes, local, binary batches of {BATCH}, 4 connections")
    request = batch_request(batch_body([b"x" * BACKLOG_BYTES] * BATCH), "local")
    server = bench.start_whilst()
    print(f"{'jobs':>12} {'jobs/s':>12} {'CPU us/job':>12} {'p99 ms':>8} {'resident MB':>12} {'bytes each more':>16}")
    rows, last = [], None
    for i in range(SLICES):
        got = bench.load(server, "http", request, connections=4, per_request=BATCH, seconds=600, warmup=0,
                         requests=bench.jobs // SLICES // BATCH)
        now, jobs = memory(server), (i + 1) * (bench.jobs // SLICES)
        rows.append({"jobs": jobs, **got, "resident": now})
        grown = f"{(now - last) / (bench.jobs / SLICES):.1f}" if last else "-"
        last = now
        print(f"{jobs:>12,} {human(got['ops_per_s']):>12} {got['cpu_us_per_op']:>12.2f} {got['p99_us'] / 1000:>8.1f} "
              f"{now / 1e6:>12,.0f} {grown:>16}", flush=True)
    bench.results["backlog"] = rows
    starts(bench, server)


def starts(bench, server):
    """By the server's own account of when it listens: the first line that it prints."""
    began = time.monotonic()
    server.stop(120)
    print(f"stopped in {time.monotonic() - began:.2f} s")
    seconds = {}
    for how in ("after a clean stop", "after kill -9 amid submits"):
        began = time.monotonic()
        folder, server = server.folder, bench.start_whilst(folder=server.folder)
        seconds[how] = time.monotonic() - began
        print(f"started {how} in {seconds[how]:.2f} s, {memory(server) / 1e6:,.0f} MB resident", flush=True)
        request = batch_request(batch_body([b"x" * BACKLOG_BYTES] * BATCH), "local")
        got = bench.load(server, "http", request, connections=4, per_request=BATCH, seconds=bench.seconds, warmup=0)
        print(f"   and takes {human(got['ops_per_s'])} jobs/s", flush=True)
        server.process.kill()
        server.process.wait()
    bench.results["starts"] = seconds
    shutil.rmtree(folder, ignore_errors=True)


def compaction(bench):
    """Jobs that stay among nine times as many that go: segments empty out, and what stays has to be written again."""
    print("\n== 50 clients that submit one at a time, 128 bytes, local: beside nothing, and while compaction writes jobs again")
    server = bench.start_whilst("--disk-slack", "64MiB", "--checkpoint-every", "64MiB")
    request = submit_request(b"x" * PAYLOAD_BYTES, "local")
    figures = {}
    figures["quiet"] = bench.load(server, "http", request, connections=50)
    stay = batch_request(batch_body([b"x" * BACKLOG_BYTES] * BATCH), "local")
    for _ in range(40):
        bench.load(server, "http", stay, connections=1, per_request=BATCH, seconds=60, warmup=0, requests=25)
        drive(bench, "lives", server, level="async", batch=1000, connections=4, seconds=0.4, warmup=0)
    before = metrics(server)
    deadline = time.monotonic() + SETTLE_SECONDS
    while metrics(server)["whilst_log_moved_total"] == before["whilst_log_moved_total"] and time.monotonic() < deadline:
        time.sleep(0.05)
    before = metrics(server)
    figures["while compaction works"] = bench.load(server, "http", request, connections=50)
    after = metrics(server)
    for name, row in figures.items():
        print(f"{name:<24} {human(row['ops_per_s']):>10} jobs/s, CPU {row['cpu_us_per_op']:.2f} us, p50 {human(row['p50_us'])} us, "
              f"p99 {human(row['p99_us'])} us")
    for name in ("moved_total", "segments_scanned_total", "segments_released_total", "scanned_bytes_total"):
        print(f"   {name}: {after['whilst_log_' + name] - before['whilst_log_' + name]:,.0f}")
    bench.results["compaction"] = figures
    server.stop(60)
    shutil.rmtree(server.folder, ignore_errors=True)


def memory(server):
    """Resident bytes that are the process's own: not those of mapped files."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))
