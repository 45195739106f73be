"""Who is whose child, as /proc has it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def children(pid: int) -> set[int]:
    """The child processes of a process, those that ended and were not collected included."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        # Processes end while we look.
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(entry))
    return found


def command(pid: int) -> bytes:
    """How a process was called; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def zygote(pid: int) -> int:
    """The process that forks the workers of a process."""
    for child in children(pid):
        if b"_zygote" in command(child):
            return child
    raise AssertionError("there is no zygote")
