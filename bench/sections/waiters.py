"""Callers that wait for jobs, as many as one process may have descriptors: memory of an idle one, and how soon it learns."""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile

from harness import Server, pick

WAITERS = 100_000
SPARE = 300  # descriptors that the server has beside


def run(bench):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    waiters = min(WAITERS, limit - SPARE)
    if waiters < WAITERS:
        print(f"a process may have {limit} descriptors here: {waiters} waiters instead of {WAITERS}", flush=True)
    for title, jobs, options in (("each for a job of its own", waiters, []), ("all for one job", 1, [])):
        cases = [(engine, case(bench, engine, waiters, jobs, options)) for engine in ("epoll", "uring")]
        bench.interleave(f"{waiters} callers that wait, {title}", cases,
                         "bytes resident of the server's own memory; latency from before the cancel is sent, flush included")


def case(bench, engine, waiters, jobs, options):
    def measure():
        folder = pathlib.Path(tempfile.mkdtemp(prefix="whilst-", dir=bench.data))
        server = Server([bench.build / "src/whilst", "serve", "--listen", "127.0.0.1:0", "--data", folder,
                         "--max-connections", waiters + 100], announced="http://127.0.0.1",
                        env={**os.environ, "WHILST_ENGINE": engine})
        argv = [bench.build / "bench/waiters", "--connect", f"127.0.0.1:{server.port}", "--pid", server.process.pid,
                "--connections", waiters, "--jobs", jobs, "--cancels", 1000, *options]
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=300, check=False)
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        if done.returncode != 0:
            raise SystemExit(f"bench: {' '.join(map(str, argv))}\n{done.stderr}")
        return pick(json.loads(done.stdout), "bytes_each", "idle_cpu_us_per_s", "p50_us", "p99_us", "max_us")
    return measure
