"""Checks the meter on Debian sid's Pythons, 3.14 and 3.15, unpacked into target/; `make bench-meter-debian` runs this.

    PYTHONPATH=benchmarks python -m meter.debian [--prepare] [ARGUMENTS of meter.accuracy]

The packages come from apt with directories of its own, so that the system's are neither read for packages nor
changed. They are only unpacked, and nothing of them runs but the Pythons, each in a mount namespace of its own that
has this checkout and /proc. That needs root; where it can't be had this says so and ends well.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from meter import library

VERSIONS = ("3.14", "3.15")
# NumPy's rows need it, `sleep` is what a row runs, and base-files has the links from /lib to /usr/lib.
PACKAGES = ("base-files", "coreutils", "python3-numpy", *(f"python{version}" for version in VERSIONS))
TREE = library.BUILT / "debian"
ROOT = TREE / "root"
MIRROR = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
CHECKOUT = library.HERE.parent.parent

# Runs as root in a new mount namespace, which ends with it: nothing is left mounted.
ENTER = """\
set -e
mount --bind /proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount --bind "$CHECKOUT" "$ROOT$CHECKOUT"
export LD_LIBRARY_PATH="$LIBRARIES"
exec chroot "$ROOT" "$@"
"""


def obstacle() -> str:
    """Why this can't be done here; nothing if it can."""
    if os.geteuid() != 0:
        return "this needs root, for chroot"
    absent = [tool for tool in ("apt-get", "dpkg-deb", "unshare", "chroot") if shutil.which(tool) is None]
    if absent:
        return f"there is no {' and no '.join(absent)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        return "no mount namespace can be made"
    return ""


def prepare() -> list[str]:
    """Unpacks the packages, once, and gives a program for each Python that runs it inside."""
    if not (TREE / ".made").exists():
        shutil.rmtree(TREE, ignore_errors=True)
        for package in _download():
            subprocess.run(["dpkg-deb", "--extract", str(package), str(ROOT)], check=True)
        for directory in ("proc", "dev", "tmp", str(CHECKOUT).lstrip("/")):
            (ROOT / directory).mkdir(parents=True, exist_ok=True)
        (TREE / ".made").touch()
    return [str(_program(version)) for version in VERSIONS]


def _download() -> list[Path]:
    """The packages and whatever they need, from an apt that knows of no other package."""
    for directory in ("state/lists/partial", "cache/archives/partial", "parts", "root"):
        (TREE / directory).mkdir(parents=True)
    (TREE / "status").touch()
    (TREE / "sources.list").write_text(f"deb [signed-by={KEYS}] {MIRROR} sid main\n")
    options = {
        "Dir::Etc::SourceList": TREE / "sources.list",
        "Dir::Etc::SourceParts": TREE / "parts",
        "Dir::State": TREE / "state",
        "Dir::State::status": TREE / "status",
        "Dir::Cache": TREE / "cache",
        # Its user for downloads may not enter this directory.
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"--option={name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "install", "--download-only", "--yes", "--no-install-recommends", *PACKAGES], check=True)
    return sorted((TREE / "cache" / "archives").glob("*.deb"))


def _program(version: str) -> Path:
    """A script that runs this Python inside, with the caller's arguments and environment."""
    # Without the packages' scripts nobody has chosen a BLAS, and its directory is not searched.
    libraries = ":".join(f"/{found.parent.relative_to(ROOT)}" for found in sorted(ROOT.glob("usr/lib/*/*/lib*.so.3")))
    settings = {"ROOT": str(ROOT), "CHECKOUT": str(CHECKOUT), "LIBRARIES": libraries}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    enter = f"exec unshare --mount sh -c {shlex.quote(ENTER)} sh /usr/bin/python{version}"
    program = TREE / f"python{version}"
    program.write_text("\n".join(["#!/bin/sh", *lines, f'{enter} "$@"', ""]))
    program.chmod(0o755)
    return program


def main() -> None:
    reason = obstacle()
    if reason:
        print(f"SKIPPED: the meter is not checked on Debian's Pythons: {reason}", file=sys.stderr)
        return
    programs = prepare()
    if "--prepare" in sys.argv:
        print("\n".join(programs))
        return
    command = [sys.executable, "-m", "meter.accuracy", "--name", "meter-debian", "--pythons", *programs]
    sys.exit(subprocess.run([*command, *sys.argv[1:]]).returncode)


if __name__ == "__main__":
    main()
