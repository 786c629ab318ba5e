"""Whole lives over HTTP: submitted, reserved, completed; one by one and in batches."""
import shutil

from harness import drive


def run(bench):
    for batch, connections in ((1, 1), (1, 50), (100, 4)):
        cases = [(f"whilst {level}", case(bench, level, batch, connections)) for level in ("local", "async")]
        bench.interleave(f"submit, reserve, complete over HTTP, 128 bytes, {connections} client(s), {batch} at a time", cases,
                         "latencies are of a round: the three requests; leases are async")


def case(bench, level, batch, connections):
    def measure():
        server = bench.start_whilst()
        row = drive(bench, "lives", server, level=level, batch=batch, connections=connections)
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        return row
    return measure
