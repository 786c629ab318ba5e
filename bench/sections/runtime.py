"""What small things cost on libwhilst, beside libuv."""
import json
import subprocess

from harness import show, spread


def run(bench):
    program = bench.build / "bench/runtime_figures"
    if not program.exists():
        print("runtime: not built")
        return

    def once():
        row = {}
        for one in (program, bench.build / "bench/figures_libuv"):
            if one.exists():
                row |= json.loads(subprocess.run([one], capture_output=True, text=True, check=True,
                                                 timeout=300).stdout)
        return row
    rows = [once() for _ in range(bench.rounds)]
    figures = {name: {"median": spread([row[name] for row in rows])} for name in rows[0]}
    bench.results["runtime"] = figures
    show("runtime: nanoseconds each unless the name says otherwise", figures, "", bench.rounds)
