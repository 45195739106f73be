"""What this machine and this interpreter are, and what running processes take of them: read from /proc.

Called by the command line only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Container
from typing import Any

from . import _core


def describe() -> dict[str, Any]:
    """The interpreter, the cores and whether the GIL can be watched, as data for JSON."""
    import json
    import platform
    import sysconfig

    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return {
        "forkright": _core.__version__,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            "gil": is_enabled is None or bool(is_enabled()),
            "debug": hasattr(sys, "gettotalrefcount"),
            "shared_library": bool(sysconfig.get_config_var("Py_ENABLE_SHARED")),
            "switch_interval": sys.getswitchinterval(),
        },
        "system": {"kernel": platform.release(), "architecture": platform.machine()},
        "cores": json.loads(_core.limits()),
        # Why the meter can't see the GIL; empty if it can.
        "meter": _core.meter(),
    }


def family(pid: int, without: Container[int] = ()) -> list[int]:
    """A process and those that descend from it, except the branches that begin `without`."""
    found = [pid]
    left = [pid]
    while left:
        parent = left.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:  # it has ended
            continue
        for thread in threads:
            listed = _read(f"/proc/{parent}/task/{thread}/children").split()
            children = [child for child in map(int, listed) if child not in without]
            found += children
            left += children
    return found


def memory(pid: int) -> int:
    """Bytes a process takes, with its part of what it shares; 0 if it has ended."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used; 0 if it has ended."""
    try:
        # What clock_getcpuclockid(3) makes of a pid, which Python lacks: /proc counts in steps of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
