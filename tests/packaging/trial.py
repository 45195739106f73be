"""Installs what `make wheel` built as a user would, and has it run calls on threads and processes.

    python trial.py dist

The wheel's platform tag is checked against the symbols that it needs (auditwheel), the sdist is built from. A wheel for
another machine can only be checked.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SCRIPT = """
import forkright as fr
assert fr.map(lambda number: number * number, range(100), plan="processes") == [n * n for n in range(100)]
assert fr.map(abs, range(-100, 0)) == list(range(100, 0, -1))
with fr.Executor() as executor:
    assert executor.submit(pow, 2, 10).result() == 1024
print(fr.__version__)
"""


def main(folder: Path) -> None:
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    check(wheel)
    if wheel.stem.endswith(platform.machine()):
        print(f"{wheel.name}: {try_out(wheel)} works")
    else:
        print(f"{wheel.name}: not tried, this machine is {platform.machine()}")
    print(f"{sdist.name}: {try_out(sdist)} works")


def check(wheel: Path) -> None:
    """Fail if a machine that the wheel's tag promises to suit may lack what it needs."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"constrains the platform tag to\s+\"(\w+)\"", " ".join(shown.split()))
    assert found is not None and found[1] in wheel.name, shown
    print(f"{wheel.name}: needs no more than {found[1]} promises")


def try_out(package: Path) -> str:
    """Install the package into an environment of its own and run the script there; the version that ran."""
    with tempfile.TemporaryDirectory() as room:
        venv.create(room, with_pip=True)
        python = str(Path(room) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-input", str(package)], check=True)
        script = Path(room) / "script.py"
        script.write_text(SCRIPT)
        done = subprocess.run([python, str(script)], check=True, capture_output=True, text=True, cwd=room, timeout=120)
        return done.stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
