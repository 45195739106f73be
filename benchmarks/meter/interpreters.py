"""Finds the Pythons of this machine that forkright supports, and gives each an environment with NumPy."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from meter import library

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
REQUIREMENTS = "numpy>=2,<3"


@functools.cache
def find() -> dict[str, str]:
    """One interpreter of each version that is here: on the path, or made by pyenv."""
    found = {}
    for version in VERSIONS:
        working = next((python for python in _candidates(version) if _works(python, version)), None)
        if working is not None:
            found[version] = working
    return found


def prepare(version: str, python: str) -> str:
    """An interpreter of its own with NumPy, made of this one; without NumPy if that can't be had."""
    directory = library.BUILT / f"python{version}"
    prepared = directory / "bin" / "python"
    if not (directory / ".made").exists():
        subprocess.run([python, "-m", "venv", "--clear", str(directory)], check=True)
        install = [str(prepared), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        if subprocess.run([*install, REQUIREMENTS]).returncode != 0:
            print(f"warning: no NumPy for Python {version}: its rows will be missing", file=sys.stderr)
            return str(prepared)
        (directory / ".made").touch()
    return str(prepared)


def _candidates(version: str) -> Iterator[str]:
    name = f"python{version}"
    on_path = shutil.which(name)
    if on_path is not None:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(str(python) for python in pyenv.glob(f"versions/{version}.*/bin/{name}"))


def _works(python: str, version: str) -> bool:
    """A shim of pyenv may stand for a Python that isn't chosen here, and a Debian Python may lack venv."""
    ask = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    said = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    return said.returncode == 0 and said.stdout.strip() == version
