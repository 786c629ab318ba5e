"""Handing over jobs: one at a time and in batches, each commit level named, beside Redis and beanstalkd."""
import pathlib
import shutil
import tempfile

from harness import PAYLOAD_BYTES, Server, metrics, pick


def run(bench):
    payload = b"x" * PAYLOAD_BYTES
    redis_put = b"*3\r\n$5\r\nLPUSH\r\n$5\r\nbench\r\n$%d\r\n%s\r\n" % (len(payload), payload)
    beanstalk_put = b"put 0 0 60 %d\r\n%s\r\n" % (len(payload), payload)

    def whilst(request, **options):
        return submit_case(bench, bench.start_whilst, "http", request, **options)

    def peers(suffixes, **options):
        cases = []
        if bench.peer("usr/bin/redis-server"):
            cases.append((f"Redis {suffixes[0]}", submit_case(bench, bench.start_redis, "line", redis_put, expect=":",
                                                              **options)))
        if bench.peer("usr/bin/beanstalkd"):
            cases.append((f"beanstalkd {suffixes[1]}", submit_case(bench, bench.start_beanstalkd, "line",
                                                                   beanstalk_put, expect="INSERTED", **options)))
        return cases

    for connections in (1, 50):
        cases = [(f"whilst {level}", whilst(submit_request(payload, level), connections=connections))
                 for level in ("local", "async")]
        if connections == 1 and (bench.build / "bench/durable_echo").exists():
            cases.append(("raw durable echo (pwrite+fdatasync inline)", floor_case(bench, "durable_echo", connections)))
        if connections > 1:
            cases.append(("raw echo, durable once a turn", floor_case(bench, "durable_turns", connections)))
        cases += peers(("appendfsync always", "-b -f 0"), connections=connections)
        bench.interleave(f"submit, {PAYLOAD_BYTES} bytes, {connections} client(s), closed loop", cases)
    batch = batch_body([payload] * 100)
    cases = [(f"whilst {level}, binary batches of 100",
              whilst(batch_request(batch, level), connections=4, per_request=100)) for level in ("local", "async")]
    cases += peers(("always, pipelines of 100", "-b -f 0, pipelines of 100"), connections=4, pipeline=100)
    bench.interleave(f"submit, {PAYLOAD_BYTES} bytes, 4 clients, 100 at a time", cases)


def submit_case(bench, start, protocol, request, **options):
    def measure():
        server = start()
        before = flush_counters(server)
        got = bench.load(server, protocol, request, **options)
        row = pick(got, "ops_per_s", "cpu_us_per_op", "p50_us", "p99_us")
        after = flush_counters(server)
        flushes = after[1] - before[1] if after and before else 0
        row["jobs_per_flush"] = (after[0] - before[0]) / flushes if flushes > 0 else float("nan")
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        return row
    return measure


def floor_case(bench, program, connections):
    """What the protocol, the job and the record come on top of: echo of as many bytes that the disk has first."""
    def measure():
        folder = pathlib.Path(tempfile.mkdtemp(prefix="echo-", dir=bench.data))
        server = Server([bench.build / "bench" / program, folder / "log"])
        got = bench.load(server, "echo", size=PAYLOAD_BYTES, connections=connections)
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        return {**pick(got, "ops_per_s", "cpu_us_per_op", "p50_us", "p99_us"),
                "jobs_per_flush": 1.0 if connections == 1 else float("nan")}
    return measure


def submit_request(payload, level):
    return (b"POST /v1/queues/bench/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            b"Whilst-Commit: %s\r\nContent-Length: %d\r\n\r\n%s" % (level.encode(), len(payload), payload))


def batch_body(payloads):
    """application/vnd.whilst.batch: each item is its length, 32 bits little-endian, then its bytes."""
    return b"".join(len(p).to_bytes(4, "little") + p for p in payloads)


def batch_request(body, level):
    return (b"POST /v1/queues/bench/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/vnd.whilst.batch\r\n"
            b"Whilst-Commit: %s\r\nContent-Length: %d\r\n\r\n%s" % (level.encode(), len(body), body))


def flush_counters(server):
    """(jobs submitted, flushes) from /metrics; None for servers that have none."""
    if "whilst" not in str(server.process.args[0]):
        return None
    sums = metrics(server)
    return sums.get("whilst_jobs_submitted_total", 0.0), sums.get("whilst_log_flushes_total", 0.0)
