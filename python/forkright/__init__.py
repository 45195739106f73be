"""Runs many calls on the workers that suit them, threads or processes, and shows why.

General layout: `_map` and `_executor` take calls, `_asyncio` those of asyncio programs; `_future` is what they
return; `_coroutines` runs coroutine functions; `_pool`, `_thread` and `_process` have the standard library's other
shapes; `_report` words what was measured, `_progress` shows how far a map is; `_why` measures other programs. `_core`
is the engine, in Rust. `_pickling`, `_functions`, `_by_value` and `_stale` carry values to worker processes, `_share`
lets all see the same ones; `_zygote` forks workers, `_worker` is what they run within a `_budget` of cores, `_logging`
brings back what they log, `_state` is what they keep; a `_context` goes with calls; `_guard` tells what must not leave
this process. Where `_core` can't be imported, `_fallback` stands in.

Names are loaded when first used: `import forkright` costs a few milliseconds.
"""

from __future__ import annotations

# Whichever thread imports it first is the main thread to it: it must not be one of ours.
import threading  # noqa: F401

try:
    from ._core import __version__, cpu_count
except ImportError as error:
    from ._fallback import stand_in

    _REPLACED = stand_in(error)
    from ._core import __version__, cpu_count
else:
    _REPLACED = {}
from ._map import imap, imap_unordered, map, report, starmap
from ._plan import Plan

# Not simply False: jedi would take what follows for out of reach, and IPython and editors would know nothing of it.
TYPE_CHECKING = bool()  # noqa: UP018
if TYPE_CHECKING:
    from typing import Any

    from ._asyncio import aimap, amap
    from ._errors import BrokenWorkers, ForkrightWarning, TaskKilledError, TaskTimeoutError, WorkerDied
    from ._executor import Executor, ProcessPoolExecutor, ThreadPoolExecutor
    from ._future import Future
    from ._logging import forward_logging
    from ._pickling import RemoteError, UnpicklableError
    from ._pool import Pool
    from ._process import Process
    from ._progress import Progress
    from ._report import Report
    from ._share import share
    from ._state import WorkerState, worker_state
    from ._thread import Thread
    from ._warm import keep_workers, release
    from ._why.report import why

_HOMES = {
    "BrokenWorkers": "_errors",
    "Executor": "_executor",
    "ForkrightWarning": "_errors",
    "Future": "_future",
    "Pool": "_pool",
    "Process": "_process",
    "ProcessPoolExecutor": "_executor",
    "Progress": "_progress",
    "RemoteError": "_pickling",
    "Report": "_report",
    "TaskKilledError": "_errors",
    "TaskTimeoutError": "_errors",
    "Thread": "_thread",
    "ThreadPoolExecutor": "_executor",
    "UnpicklableError": "_pickling",
    "WorkerDied": "_errors",
    "WorkerState": "_state",
    "aimap": "_asyncio",
    "amap": "_asyncio",
    "forward_logging": "_logging",
    "keep_workers": "_warm",
    "load_ipython_extension": "_why.report",
    "release": "_warm",
    "share": "_share",
    "why": "_why.report",
    "worker_state": "_state",
} | _REPLACED
if _REPLACED:
    from ._fallback.shapes import report

__all__ = [
    "BrokenWorkers",
    "Executor",
    "ForkrightWarning",
    "Future",
    "Plan",
    "Pool",
    "Process",
    "ProcessPoolExecutor",
    "Progress",
    "RemoteError",
    "Report",
    "TaskKilledError",
    "TaskTimeoutError",
    "Thread",
    "ThreadPoolExecutor",
    "UnpicklableError",
    "WorkerDied",
    "WorkerState",
    "__version__",
    "aimap",
    "amap",
    "cpu_count",
    "forward_logging",
    "imap",
    "imap_unordered",
    "keep_workers",
    "map",
    "release",
    "report",
    "share",
    "starmap",
    "why",
    "worker_state",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'forkright' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
