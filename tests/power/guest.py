"""tests/power/guest.py -- a virtual machine with a kernel, a disk and the server, whose power is cut.

The machine's disk is a file on powerfs, and its virtio driver says that it has a write cache: what the guest's kernel flushes, QEMU
flushes to powerfs; what it has only written is lost, whole or in part, when QEMU is killed and powerfs is told so. So the guest's own page cache,
journal and file system are between the server and the disk, as on a real machine, and are lost like there.

The guest is a kernel (scripts/test-kernels --fetch gets one) and an archive in memory: busybox, the program, its libraries. The processor is
emulated. Port 8080 of the guest is a port of 127.0.0.1 here.
"""
import glob
import gzip
import lzma
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# the folder of kernels, one of which WHILST_GUEST_KERNEL=6.1 names; the newest is the default
KERNELS = pathlib.Path(os.environ.get("WHILST_GUEST_KERNELS", ROOT / "build/kernels"))
DISK_BYTES = 320 << 20
START_S = 600  # an emulated processor on a busy machine
MODULES = ("virtio_net", "virtio_blk")
FILE_SYSTEMS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}

INIT = """#!/bin/busybox sh
export PATH=/bin LD_LIBRARY_PATH=@libraries@
mkdir -p /proc /sys /dev /tmp /data
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod $module || echo "GUEST no module $module"; done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
mount -t @file_system@ /dev/vda /data || { echo "GUEST no disk"; dmesg | tail -n 20; reboot -f; }
echo "GUEST $(uname -r), @file_system@, the drive's cache: $(cat /sys/block/vda/cache_type)"
/bin/whilst serve --data /data/whilst --listen 0.0.0.0:8080 --log-level warn
echo "GUEST the server ended: $?"
reboot -f
"""


class NoGuest(Exception):
    pass


def find_kernel():
    wanted = os.environ.get("WHILST_GUEST_KERNEL", "*")
    images = sorted(glob.glob(str(KERNELS / wanted / "boot/vmlinuz-*")), key=lambda path: [int(n) for n in re.findall(r"\d+", os.path.basename(path))])
    if not images or not all(shutil.which(name) for name in ("qemu-system-x86_64", "mkfs.ext4", "busybox")):
        raise NoGuest("wanted are qemu-system-x86, mkfs.ext4, busybox and a kernel (scripts/test-kernels --fetch 6.12)")
    return pathlib.Path(images[-1])


def module_content(kernel, name):
    found = glob.glob(str(kernel.parent.parent / f"**/{name.replace('_', '[_-]')}.ko*"), recursive=True)
    if not found:
        raise NoGuest(f"the kernel {kernel.name} has no module {name}")
    content = pathlib.Path(found[0]).read_bytes()
    return lzma.decompress(content) if found[0].endswith(".xz") else content


def with_needed(kernel, names, found):
    """Fills found, name to content, in the order in which the kernel takes them: what a module needs comes before it."""
    for name in names:
        if name not in found:
            content = module_content(kernel, name)
            needed = re.search(rb"\0depends=([^\0]*)\0", content)
            with_needed(kernel, [n for n in needed.group(1).decode().split(",") if n] if needed else [], found)
            found[name] = content
    return found


def make_archive(kernel, binary, file_system, to):
    """What the guest starts from."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="whilst-guest-"))
    try:
        for folder in ("bin", "modules"):
            (root / folder).mkdir()
        shutil.copy(shutil.which("busybox"), root / "bin/busybox")
        for name in ("sh", "mkdir", "mount", "insmod", "ip", "echo", "dmesg", "tail", "reboot", "uname", "cat"):
            (root / "bin" / name).symlink_to("busybox")
        modules = with_needed(kernel, (*MODULES, *(["xfs"] if file_system == "xfs" else [])), {})  # ext4 is in the kernel
        for number, (name, content) in enumerate(modules.items()):
            (root / f"modules/{number:02}-{name}.ko").write_bytes(content)
        shutil.copy(binary, root / "bin/whilst")
        libraries = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
        found_libraries = sorted(set(re.findall(r"/[^ :]*\.so[^ ]*", libraries)))
        for library in found_libraries:
            (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library.lstrip("/"))
        folders = ":".join(sorted({os.path.dirname(library) for library in found_libraries}))
        (root / "init").write_text(INIT.replace("@libraries@", folders).replace("@file_system@", file_system), encoding="ascii")
        (root / "init").chmod(0o755)
        names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        packed = subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names, capture_output=True, check=True).stdout
        pathlib.Path(to).write_bytes(gzip.compress(packed, 1))
    finally:
        shutil.rmtree(root)


class Guest:
    """disk: a machine.Disk, on which the file of the guest's disk is. Looks like harness.Server where test_guest.py needs one."""

    def __init__(self, disk, binary, file_system):
        self.kernel = find_kernel()
        if not shutil.which(FILE_SYSTEMS[file_system][0]):
            raise NoGuest(f"{FILE_SYSTEMS[file_system][0]} is wanted")
        self.folder = tempfile.mkdtemp(prefix="whilst-guest-")
        self.image, self.console = os.path.join(disk.path, "disk.img"), os.path.join(self.folder, "console")
        self.process, self.port = None, 0
        make_archive(self.kernel, binary, file_system, os.path.join(self.folder, "archive.gz"))
        made = os.path.join(self.folder, "disk.img")
        with open(made, "wb") as image:
            image.truncate(DISK_BYTES)
        subprocess.run([*FILE_SYSTEMS[file_system], made], check=True)
        shutil.copyfile(made, self.image)
        os.unlink(made)
        for path in (self.image, disk.path):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    def spawn(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # QEMU 7.2 gets cmpxchg16b wrong, which newer kernels allocate memory with
        command = ["qemu-system-x86_64", "-machine", "pc,acpi=off", "-accel", "tcg", "-cpu", "max,cx16=off", "-m", "768M", "-nographic", "-no-reboot",
                   "-kernel", str(self.kernel), "-initrd", os.path.join(self.folder, "archive.gz"),
                   "-append", "console=ttyS0 panic=-1 quiet no_timer_check rdinit=/init",
                   "-drive", f"file={self.image},format=raw,if=virtio,cache=writeback,aio=threads",
                   "-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:8080"]
        with open(self.console, "wb") as console:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)

    def said(self):
        return pathlib.Path(self.console).read_text(encoding="utf-8", errors="replace")

    def is_up(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                probe.settimeout(20)
                probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")
                return b" 200 " in probe.recv(100)
        except OSError:
            return False

    def start(self):
        self.spawn()
        end = time.monotonic() + START_S
        while not self.is_up():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"the guest does not start:\n{self.said()[-3000:]}")
            time.sleep(0.1)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
