"""How long until a caller knows: job handed over, taken by a worker that answers at once, done, told; beside peers."""
import shutil

from harness import drive, free_port


def run(bench):
    def beanstalk_front():
        server = bench.start_whilst("--beanstalk", f"127.0.0.1:{front}")
        server.port = front
        return server

    front = free_port()
    rows = [("whilst local, HTTP", bench.start_whilst, "whilst"),
            ("whilst local, beanstalkd's protocol", beanstalk_front, "beanstalk")]
    if bench.peer("usr/bin/beanstalkd"):
        rows += [("beanstalkd -b -f 0 (durable)", bench.start_beanstalkd, "beanstalk"),
                 ("beanstalkd -b (flushed every 50 ms)", lambda: bench.start_beanstalkd("-f", "50"), "beanstalk")]
    if bench.peer("usr/bin/redis-server"):
        rows.append(("Redis stream, appendfsync always", bench.start_redis, "redis"))
    if bench.peer("usr/sbin/nats-server"):
        rows.append(("NATS JetStream (flushed every 2 min)", bench.start_nats, "nats"))
    for callers, workers in ((1, 1), (50, 10)):
        cases = [(name, case(bench, start, protocol, callers, workers)) for name, start, protocol in rows]
        bench.interleave(f"from submit to told, {callers} caller(s), {workers} worker(s), 128 bytes", cases,
                         "whilst flushes submit and outcome before either is told; leases are async")


def case(bench, start, protocol, callers, workers):
    def measure():
        server = start()
        row = drive(bench, "turnaround", server, protocol=protocol, callers=callers, workers=workers)
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        return {key: row[key] for key in ("ops_per_s", "cpu_us_per_op", "p50_us", "p99_us")}
    return measure
