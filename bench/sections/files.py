"""4 KiB reads, cached and O_DIRECT, one at a time and 64 deep; durable appends: beside plain calls, a raw ring and libuv."""
import json
import os
import resource
import subprocess
import time

FILE_BYTES = 256 << 20
COPY_BYTES = 1 << 30


def run(bench):
    data = bench.data / "blocks"
    with open(data, "wb") as file:
        for _ in range(FILE_BYTES >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    log = bench.data / "append"
    with open(log, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    ours = [(f"whilst {engine}", ["files_whilst"], engine) for engine in ("uring", "epoll", "threads", "sync")]
    blocking = [("plain calls of one thread", ["files_blocking"], "")]
    ring = [("raw io_uring", ["files_uring"], "")]

    def libuv(*threads):
        return [(f"libuv, {n} threads", ["files_libuv"], str(n)) for n in threads]

    table(bench, "cached 4 KiB reads, one at a time, awaited", data, "cached", 1, ours + blocking + ring + libuv(4))
    table(bench, "cached 4 KiB reads, 64 deep", data, "cached", 64, ours[:3] + ring + libuv(4, 64))
    table(bench, "O_DIRECT 4 KiB reads, one at a time, awaited", data, "direct", 1, ours + blocking + ring + libuv(4))
    table(bench, "O_DIRECT 4 KiB reads, 64 deep", data, "direct", 64, ours[:3] + ring + libuv(4, 16, 64))
    table(bench, "4 KiB appended durably (zero-filled file, fdatasync), one at a time", log, "append", 1,
          ours + blocking + ring + libuv(4))
    data.unlink()
    log.unlink()
    copies(bench)


def copies(bench):
    """1 GiB from the page cache into it; nothing is flushed."""
    source, target = bench.data / "source", bench.data / "target"
    with open(source, "wb") as file:
        for _ in range(COPY_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    rows = [(f"whilst {engine}", [bench.build / "bench/copy_whilst", source, target, engine])
            for engine in ("uring", "epoll", "threads", "sync")]
    rows.append(("libuv uv_fs_copyfile", [bench.build / "bench/copy_libuv", source, target]))
    rows.append(("cp", ["cp", "--reflink=never", source, target]))
    cases = [(name, copy(argv, target)) for name, argv in rows if name == "cp" or argv[0].exists()]
    bench.interleave("a file of 1 GiB copied", cases, "seconds; CPU of the process")
    source.unlink()


def copy(argv, target):
    def measure():
        target.unlink(missing_ok=True)
        os.sync()  # what the copy before left to be written is not this one's
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        target.unlink()
        return {"seconds": ended - began,
                "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    return measure


def table(bench, title, file, task, depth, rows):
    cases = []
    for name, argv, variant in rows:
        program = bench.build / "bench" / argv[0]
        if not program.exists():
            continue

        def measure(program=program, variant=variant):
            done = subprocess.run([program, file, task, str(depth), str(bench.seconds / 2), variant],
                                  capture_output=True, text=True, check=False, timeout=60)
            if done.returncode != 0:
                raise SystemExit(f"bench: {program.name} {task}: {done.stderr}")
            return json.loads(done.stdout)
        cases.append((name, measure))
    bench.interleave(title, cases, "CPU of the whole process, kernel workers included")
