"""The protocol of beanstalkd: jobs handed over, and whole lives, beside beanstalkd itself; one client for both."""
import json
import pathlib
import shutil
import subprocess
import tempfile

from harness import Server, free_port, pick

SHAPES = [(1, 1), (1, 64), (50, 1), (50, 64)]


def run(bench):
    peers = [("beanstalkd, in memory", []), ("beanstalkd -b", ["-b"]), ("beanstalkd -b -f 0", ["-b", "-f", "0"])]
    if not bench.peer("usr/bin/beanstalkd"):
        peers = []
    for size in (128, 1024):
        for mode, what in (("put", "put"), ("life", "put, reserve, delete")):
            for connections, pipeline in SHAPES:
                cases = [(f"whilst {level}", case(bench, start_whilst, level, mode, size, connections, pipeline))
                         for level in ("local", "async")]
                cases += [(name, case(bench, start_beanstalkd, flags, mode, size, connections, pipeline))
                          for name, flags in peers]
                if mode == "put" and pipeline == 1:
                    cases.append(("raw echo, durable once a turn", floor_case(bench, size, connections)))
                title = f"beanstalkd's protocol, {what}, {size} bytes, {connections} x {pipeline}"
                figures = bench.interleave(title, cases, "latencies are of a round of so many pipelined commands"
                                           if pipeline > 1 else "")
                compare(figures)


def case(bench, start, how, mode, size, connections, pipeline):
    def measure():
        server = start(bench, how)
        argv = [bench.build / "bench/beanstalk_load", "--connect", f"127.0.0.1:{server.port}", "--mode", mode, "--bytes", size,
                "--connections", connections, "--pipeline", pipeline, "--seconds", bench.seconds, "--warmup", bench.warmup]
        for pid in server.pids():
            argv += ["--pid", pid]
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, check=True)
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        return pick(json.loads(done.stdout), "ops_per_s", "cpu_us_per_op", "p50_us", "p99_us")
    return measure


def floor_case(bench, size, connections):
    def measure():
        folder = pathlib.Path(tempfile.mkdtemp(prefix="echo-", dir=bench.data))
        server = Server([bench.build / "bench/durable_turns", folder / "log"])
        got = bench.load(server, "echo", size=size, connections=connections)
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        return pick(got, "ops_per_s", "cpu_us_per_op", "p50_us", "p99_us")
    return measure


def compare(figures):
    def median(name, key):
        return figures[name][key]["median"] or float("nan") if name in figures else float("nan")
    print(f"   CPU of whilst local / beanstalkd in memory: "
          f"{median('whilst local', 'cpu_us_per_op') / median('beanstalkd, in memory', 'cpu_us_per_op'):.2f}; "
          f"operations of whilst local / beanstalkd -b -f 0: "
          f"{median('whilst local', 'ops_per_s') / median('beanstalkd -b -f 0', 'ops_per_s'):.1f}", flush=True)


def start_whilst(bench, level):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="whilst-", dir=bench.data))
    server = Server([bench.build / "src/whilst", "serve", "--listen", "127.0.0.1:0", "--beanstalk", "127.0.0.1:0",
                     "--beanstalk-commit", level, "--data", folder], announced="beanstalk://127.0.0.1")
    server.folder = folder
    return server


def start_beanstalkd(bench, flags):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="beanstalkd-", dir=bench.data))
    port = free_port()
    if "-b" in flags:
        flags = ["-b", folder, *flags[1:]]
    server = Server([bench.peer("usr/bin/beanstalkd"), "-l", "127.0.0.1", "-p", port, *flags], port,
                    env=bench.peer_environment())
    server.folder = folder
    return server
