"""The executors that go through the suite, each in the shape of `shape.Executor`; one small file for each package."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from .shape import Executor

PACKAGES = {
    "forkright threads": "of_forkright",
    "forkright processes": "of_forkright",
    "forkright hybrid": "of_forkright",
    "forkright auto": "of_forkright",
    "ThreadPoolExecutor": "of_futures",
    "ProcessPoolExecutor fork": "of_futures",
    "ProcessPoolExecutor forkserver": "of_futures",
    "ProcessPoolExecutor spawn": "of_futures",
    "multiprocessing.Pool": "of_pool",
    "loky": "of_loky",
    "Pebble": "of_pebble",
    "MPIRE": "of_mpire",
}


def maker(name: str) -> Callable[[], Executor]:
    """What opens the executor of that name; raises `ImportError` if its package is not installed."""
    module = importlib.import_module(f"{__name__}.{PACKAGES[name]}")
    make: Callable[[], Executor] = module.EXECUTORS[name]
    return make
