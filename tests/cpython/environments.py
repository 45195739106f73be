"""Interpreters that have CPython's test suite and forkright, whatever they were installed with.

The suite is the `test` package that the interpreter brings. 3.11.6 to 3.12.1 forget to install the part of it that
tests `concurrent.futures`, and some distributions leave it out: then it comes from `SUITES`, where a folder for each
version of Python holds what is missing, put there by hand or by `bring`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "target" / "cpython-suites"
# A file beside what is there: the version of CPython that it is from.
VERSION = "VERSION"


class Interpreter(NamedTuple):
    program: Path
    version: str

    @property
    def minor(self) -> int:
        return int(self.version.split(".")[1])

    @property
    def brought(self) -> Path:
        """Where the parts of the suite are that it was installed without."""
        return SUITES / f"3.{self.minor}"

    def has_suite(self) -> bool:
        script = "import sys, importlib.util as util; sys.exit(not util.find_spec('test.test_concurrent_futures'))"
        return subprocess.run([self.program, "-c", script], capture_output=True).returncode == 0

    def is_fit(self) -> bool:
        return (self.brought / VERSION).exists() or self.has_suite()

    def suite(self) -> str:
        """The version of CPython that its suite is from."""
        return self.version if self.has_suite() else (self.brought / VERSION).read_text().strip()


def mine() -> Interpreter:
    return Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])))


def neighbours() -> list[Interpreter]:
    """Interpreters that a version manager installed beside this one, the nearest version first."""
    found = []
    for path in Path(sys.base_prefix).parent.glob("*/bin/python3.*"):
        minor = path.name.removeprefix("python3.")
        if minor.isdigit() and int(minor) >= 11:
            command = [path, "-c", "import platform; print(platform.python_version())"]
            found.append(Interpreter(path, subprocess.check_output(command, text=True).strip()))
    return sorted(found, key=lambda one: (abs(one.minor - sys.version_info.minor), one.program))


def bring(interpreter: Interpreter) -> bool:
    """Get the suite of an interpreter that has none from the system's packages; whether it is there now."""
    if interpreter.is_fit():
        return True
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    name = f"python3.{interpreter.minor}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["apt-get", "-qq", "download", f"lib{name}-testsuite"]
        if subprocess.run(command, cwd=folder, capture_output=True).returncode != 0:
            return False
        (package,) = Path(folder).glob("*.deb")
        version = subprocess.check_output(["dpkg-deb", "--field", package, "Version"], text=True)
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        interpreter.brought.mkdir(parents=True, exist_ok=True)
        for part in (Path(folder) / "usr" / "lib" / name / "test").glob("test_concurrent_futures*"):
            shutil.move(part, interpreter.brought)
    (interpreter.brought / VERSION).write_text(version.partition("-")[0] + "\n")
    return True


def make(interpreter: Interpreter, directory: Path) -> Path:
    """Make an environment that has forkright, what it needs, the whole suite, and nothing else; its Python."""
    lent = directory / "lent"
    lent.mkdir(parents=True)
    for package in ("forkright", "cloudpickle"):
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        (lent / package).symlink_to(Path(spec.origin).parent)
    environment = directory / "environment"
    subprocess.run([interpreter.program, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3.*/site-packages")
    (packages / "lent.pth").write_text(f"{lent}\n")
    if not interpreter.has_suite():
        # In every process, the isolated ones that the suite starts too.
        (packages / "suite.pth").write_text(f"import test; test.__path__.append({str(interpreter.brought)!r})\n")
    return environment / "bin" / "python"
