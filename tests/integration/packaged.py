"""tests/integration/packaged.py -- programs of Debian packages that tests run but never install: no service of theirs is started."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def program(package, path):
    """The program at that path of the package, as a string, or None with a word on standard output: it cannot be had here."""
    folder = pathlib.Path(os.environ.get("WHILST_TEST_PACKAGES", ROOT / "build/packages"))
    done = subprocess.run([ROOT / "scripts/unpack", folder, package], capture_output=True, text=True, check=False)
    found = folder / "root" / path
    if done.returncode != 0 or not found.exists():
        print(f"the Debian package {package} cannot be had:", done.stderr.strip(), flush=True)
        return None
    return str(found)
