"""An event published to a topic becomes a job for each subscription, in one commit; beside as many pushes in one Redis script."""
import json
import shutil
import urllib.request

from harness import PAYLOAD_BYTES, pick

CONNECTIONS = 10


def run(bench):
    payload = b"x" * PAYLOAD_BYTES
    for subscriptions in (1, 10, 100):
        cases = [(f"whilst {level}", case(bench, start_topic, publish_request(payload, level), "http", subscriptions))
                 for level in ("local", "async")]
        if bench.peer("usr/bin/redis-server"):
            cases.append(("Redis appendfsync always", case(bench, lambda bench, n: bench.start_redis(),
                                                           redis_script(payload, subscriptions), "line", subscriptions)))
        bench.interleave(f"events of {PAYLOAD_BYTES} bytes to {subscriptions} subscription(s), {CONNECTIONS} connections", cases,
                         "figures are of jobs: events times subscriptions")


def case(bench, start, request, protocol, subscriptions):
    def measure():
        server = start(bench, subscriptions)
        got = bench.load(server, protocol, request, connections=CONNECTIONS, per_request=subscriptions)
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        return pick(got, "ops_per_s", "cpu_us_per_op", "p50_us", "p99_us")
    return measure


def start_topic(bench, subscriptions):
    server = bench.start_whilst()
    for i in range(subscriptions):
        urllib.request.urlopen(urllib.request.Request(
            f"http://127.0.0.1:{server.port}/v1/topics/bench/subscriptions/s{i}", json.dumps({}).encode(),
            {"Content-Type": "application/json"}, method="PUT"), timeout=10).read()
    return server


def publish_request(payload, level):
    return (b"POST /v1/topics/bench/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            b"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /bench\r\nce-type: bench.event\r\nWhilst-Commit: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (level.encode(), len(payload), payload))


def redis_script(payload, subscriptions):
    script = b"for i=1,%d do redis.call('LPUSH','s'..i,ARGV[1]) end return 1" % subscriptions
    parts = [b"EVAL", script, b"0", payload]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
