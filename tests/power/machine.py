"""tests/power/machine.py -- a disk that loses power, and processes on it that are ended all at once.

A power cut is: every process that uses the disk is killed, then what was not flushed is taken away (powerfs.c). What a
server answered before it was killed it has answered before the cut, so it counts.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

POWERFS = os.environ.get("WHILST_POWERFS",
                         os.path.join(os.path.dirname(__file__), "../../build/tests/power/powerfs"))


class NoFuse(Exception):
    pass


class Disk:
    """A mounted powerfs. options: --strict, --flush-us N."""

    def __init__(self, *options):
        self.path = tempfile.mkdtemp(prefix="whilst-power-")
        os.chmod(self.path, 0o755)
        self.process = subprocess.Popen([POWERFS, self.path, *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            status, said = self.process.wait(), self.process.stderr.read().decode()
            self.process.stdout.close()
            self.process.stderr.close()
            os.rmdir(self.path)
            if status == 77:
                raise NoFuse(said.strip() or "FUSE cannot be used here")
            raise AssertionError(f"powerfs ended with {status}: {said}")

    def command(self, text):
        with open(os.path.join(self.path, ".power"), "w", encoding="ascii") as power:
            power.write(text)

    def cut(self, mood, seed):
        self.command(f"cut {mood} {seed}")

    def counters(self):
        return pathlib.Path(self.path, ".power").read_text(encoding="ascii").split()

    def close(self):
        if not self.process:
            return
        for _ in range(100):
            if subprocess.run(["umount", self.path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                break
            time.sleep(0.05)  # a process that was killed is still being taken apart by the kernel
        else:
            self.process.kill()
            subprocess.run(["umount", "-l", self.path], check=False)
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.process = None
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


def descendants(pid):
    """Of a process, itself first."""
    children = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = pathlib.Path("/proc", name, "stat").read_text(encoding="latin-1")
        except OSError:
            continue
        parent = int(stat[stat.rindex(")") + 2:].split()[1])
        children.setdefault(parent, []).append(int(name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def end_all(process):
    """kill -9 of a process and all that it has started; gone when this returns. Returns the moment at which it began."""
    moment = time.monotonic()
    os.kill(process.pid, signal.SIGSTOP)  # it starts no more of them
    pids = descendants(process.pid)
    for pid in pids[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") and not is_zombie(pid) for pid in pids[1:]):
        if time.monotonic() > deadline:
            raise AssertionError(f"still there: {pids}")
        time.sleep(0.001)
    return moment


def is_zombie(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return True
    return stat[stat.rindex(")") + 2] == "Z"


def without_fuse(reason):
    print(f"skipped: {reason}")
    sys.exit(77)
