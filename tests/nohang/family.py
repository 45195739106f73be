"""The processes that came of an interpreter."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MARK = "NOHANG_FAMILY"
# What is started once and serves all executors of an interpreter until it ends.
_HELPERS = (b"_zygote", b"resource_tracker", b"forkserver")


def members(mark: str) -> set[int]:
    """All processes that inherited the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for pid in _pids():
        # Processes end while we look, and a dead one that nobody collected has no environment.
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


def workers() -> set[int]:
    """The processes that came of this one, without its helpers."""
    me = os.getpid()
    family = members(os.environ[MARK]) - {me}
    return {pid for pid in family if not _is_helper(pid, me)}


def _is_helper(pid: int, me: int) -> bool:
    with contextlib.suppress(OSError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return parent == me and any(word in command for word in _HELPERS) and b"single" not in command
    return True


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
