"""Handing over jobs with one thread and with threads that speak HTTP, by the same clients."""
from harness import PAYLOAD_BYTES

from sections.http import case
from sections.submit import batch_body, batch_request, submit_case, submit_request


def run(bench):
    payload = b"x" * PAYLOAD_BYTES
    counts = (1, 2)

    def start(count):
        return lambda: bench.start_whilst("--front-threads", str(count))

    def cases(request, **options):
        return [(f"{level}, front-threads {count}", submit_case(bench, start(count), "http", request(level), **options))
                for level in ("local", "async") for count in counts]

    for connections in (1, 50):
        bench.interleave(f"front threads: submit, {PAYLOAD_BYTES} bytes, {connections} client(s), closed loop",
                         cases(lambda level: submit_request(payload, level), connections=connections))
    batch = batch_body([payload] * 100)
    bench.interleave(f"front threads: submit, {PAYLOAD_BYTES} bytes, 4 clients, binary batches of 100",
                     cases(lambda level: batch_request(batch, level), connections=4, per_request=100))
    bench.interleave("front threads: an HTTP request that does nothing, 50 connections",
                     [(f"/livez, front-threads {count}", case(bench, start(count), "/livez", 50)) for count in counts])
