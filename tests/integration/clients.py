"""tests/integration/clients.py -- other people's Node clients, from tests/clients/package-lock.json, in the build folder."""
import fcntl
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests/clients"
FOLDER = pathlib.Path(os.environ.get("WHILST_TEST_PACKAGES", ROOT / "build/packages")) / "clients"


def install():
    """Installs the clients. False, with a word: they cannot be had here."""
    if not shutil.which("node") or not shutil.which("npm"):
        print("node and npm are not installed", flush=True)
        return False
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER.parent / "clients.lock", "w", encoding="utf-8") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        return install_locked()


def install_locked():
    wanted = (SOURCE / "package-lock.json").read_bytes()
    stamp = FOLDER / "installed"
    if stamp.exists() and stamp.read_bytes() == wanted:
        return True
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCE / name, FOLDER / name)
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=FOLDER,
                          capture_output=True, text=True, check=False, timeout=150)
    if done.returncode != 0:
        print("npm cannot install the clients:", done.stderr[-500:], flush=True)
        return False
    stamp.write_bytes(wanted)
    return True
