"""Threads of this process that the engine asks for, and their end with the interpreter."""

from __future__ import annotations

import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_pools: weakref.WeakSet[Any] = weakref.WeakSet()


def start(body: Callable[[], object], name: str) -> threading.Thread:
    """Start a thread that runs `body`. The end of the interpreter has it end, and waits for it: see `_finish`."""
    thread = threading.Thread(target=body, name=name, daemon=False)
    thread.start()
    _started.add(thread)
    return thread


def remember(pool: Any) -> None:
    """Have `pool` finish its work before the interpreter ends."""
    _pools.add(pool)


def _finish() -> None:
    """Let every executor finish what was submitted, as the standard library's do, then end all workers."""
    from ._core import close_shared

    for pool in list(_pools):
        pool.close()
    for pool in list(_pools):
        pool.join()
    close_shared(5.0)


# Before the interpreter joins its threads and before atexit functions, as concurrent.futures does.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
