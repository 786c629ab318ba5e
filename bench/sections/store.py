"""The log and the store by themselves, without HTTP, beside a bare loop of pwrite and fdatasync; they print their own tables."""
import shutil
import subprocess
import sys
import tempfile


def run(bench):
    for program, arguments in (("log", [bench.rounds, bench.seconds]), ("store", [bench.seconds])):
        folder = tempfile.mkdtemp(prefix=f"{program}-", dir=bench.data)
        print(f"\n== the {program} alone", flush=True)
        done = subprocess.run([str(a) for a in (bench.build / "bench" / program, folder, *arguments)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        if done.returncode != 0:
            sys.exit(f"bench: {program} failed")
