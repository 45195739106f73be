"""What forkright is where its native extension can't be imported: the same names on the standard library's pools.

Imported by `forkright` only when the import of `forkright._core` has failed. `core` then stands in for it, so that
`_map`, `_executor` and `_lazy` are the same code with or without the extension; `shapes` has the public names that
need more than that. Nothing here measures or chooses, and a warning says so when work first comes.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
import threading
import warnings
from multiprocessing import parent_process

from .._errors import ForkrightWarning

EXTENSION = "forkright._core"

# The public names that have another home here.
HOMES = {
    "Executor": "_fallback.shapes",
    "Future": "_fallback.shapes",
    "Pool": "_fallback.shapes",
    "Process": "_fallback.shapes",
    "ProcessPoolExecutor": "_fallback.shapes",
    "Report": "_fallback.shapes",
    "ThreadPoolExecutor": "_fallback.shapes",
    "forward_logging": "_fallback.shapes",
}

_PACKAGE = __name__.partition(".")[0]

_error: ImportError | None = None
_said = False
_lock = threading.Lock()


def stand_in(error: ImportError) -> dict[str, str]:
    """Have `core` found where the extension is looked for; `HOMES`.

    Raises:
        ImportError: `error` itself if the extension is there: what it refuses, or lacks, is not for us to hide.
    """
    global _error
    # A module that is not found is named in full, one that does not load by its last name.
    if error.name not in (EXTENSION, "_core") or EXTENSION in sys.modules:
        raise error
    from . import core

    _error = error
    sys.modules[EXTENSION] = core
    return HOMES


def reason() -> str:
    """What is missing and why, with the machine it is missing on."""
    machine = f"{platform.python_implementation()} {platform.python_version()}, {sysconfig.get_platform()}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        machine += ", a free-threaded build, which it does not support"
    return f"the native extension `{EXTENSION}` can't be imported: {_error} ({machine})"


def say_once() -> None:
    """Warn that nothing is measured, at the first call of a process, on the line of the user's that made it."""
    global _said
    with _lock:
        # What the worker processes of pools would say has been said by the process that started them.
        if _said or parent_process() is not None:
            return
        warn(
            f"forkright runs on the standard library's pools, as {reason()}. Nothing is measured and nothing is "
            'chosen: plan="auto" runs on threads. Processes are those of ProcessPoolExecutor: a script needs '
            '`if __name__ == "__main__":`, and functions must be importable by name. A hybrid plan runs on its '
            "processes, with one thread each."
        )
        _said = True


def warn(message: str) -> None:
    """Give a `ForkrightWarning` on the innermost line that is not forkright's."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ForkrightWarning, stacklevel=level)
