"""Ways that io_uring has of doing the same: why the engine does it as it does, see docs/design/engines.md."""
import json
import subprocess


def run(bench):
    path = bench.build / "bench" / "ring_ways"
    if not path.exists():
        return
    for task, ways, counts in (("accept", ("one", "tried", "first", "multishot"), (1, 32, 256)),
                               ("echo", ("own", "chosen", "multishot", "registered"), (50, 512))):
        for count in counts:
            cases = []
            for way in ways:

                def measure(arguments=(str(bench.seconds / 2), task, way, str(count))):
                    return json.loads(subprocess.run([path, *arguments], capture_output=True, text=True, check=True,
                                                     timeout=60).stdout)
                cases.append((way, measure))
            what = f"accept and close, bursts of {count}" if task == "accept" else f"echo, {count} connections"
            bench.interleave(what, cases, "CPU of the server, raw rings")
