"""Compiles the C files of the benchmarks, once for each of their contents, into target/."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent.parent / "target" / "meter"


class NoCompiler(Exception):
    """There is no C compiler here."""


def build(name: str, folder: Path = HERE) -> Path:
    """The shared library made of `name`.c."""
    source = folder / f"{name}.c"
    mark = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    library = BUILT / f"{name}-{mark}-{sysconfig.get_platform()}.so"
    if library.exists():
        return library
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompiler("there is no C compiler: on Debian and Ubuntu, apt install gcc libc6-dev")
    BUILT.mkdir(parents=True, exist_ok=True)
    # Under a name of its own until it is whole: somebody else may be doing the same.
    unfinished = library.with_suffix(f".{os.getpid()}")
    arguments = ["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
    subprocess.run([compiler, *arguments, "-o", str(unfinished), str(source), "-ldl"], check=True)
    unfinished.rename(library)
    return library
