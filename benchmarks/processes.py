"""A process with all that descend from it, as /proc shows them: who they are, their memory and their CPU time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def of(pid: int) -> set[int]:
    """The process and its descendants. Whoever is started meanwhile may be missing."""
    children: dict[int, list[int]] = {}
    for path in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything.
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.name))
    return set(_walk(pid, children))


def resident(pid: int) -> int:
    """Bytes of memory that the process has in use (RSS); 0 if it has ended."""
    with contextlib.suppress(OSError):
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def proportional(pid: int) -> int:
    """Bytes of its memory, where each page counts as the part that falls to one of those who share it (PSS)."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu(pid: int) -> float:
    """Seconds of CPU that the threads which the process has now have used; without the one that asks, which is busy."""
    total = 0
    asking = threading.get_native_id()
    for path in (PROC / str(pid) / "task").glob("*/schedstat"):
        if int(path.parent.name) == asking:
            continue
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


def _walk(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _walk(child, children)
