"""Calls with a limit on threads, where nothing can be killed.

Each runs in a thread of its own, to which it is left when it is late: that keeps neither a worker nor the interpreter's
end waiting. Without it a call that hangs would hold its worker for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from . import _functions, _state


class Abandoned:
    """The threads that were left to themselves, as a report tells of them."""

    def __init__(self) -> None:
        self._threads: list[tuple[threading.Thread, str, float]] = []

    def add(self, thread: threading.Thread, task: str, limit: float) -> None:
        self._threads.append((thread, task, limit))

    def told(self) -> list[dict[str, Any]]:
        """Each with its thread's name, the task, its limit, and whether it still runs."""
        return [
            {"thread": thread.name, "task": task, "limit": limit, "running": thread.is_alive()}
            for thread, task, limit in list(self._threads)
        ]


def run_apart(
    limit: float,
    abandoned: Abandoned | None,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call `fn` in a thread of its own and wait for it, for `limit` seconds; then it is left to itself.

    The thread is a daemon: the interpreter ends without it.

    Raises:
        TaskTimeoutError: If it takes longer. What the call gives after that is dropped.
        BaseException: Whatever it raised.
    """
    name = _functions.name_of(fn)
    outcome: list[tuple[bool, Any]] = []
    store = _state.mine()

    def body() -> None:
        _state.adopt(store)
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            outcome.append((False, error))
        else:
            outcome.append((True, value))

    thread = threading.Thread(target=body, name=f"forkright-limited-{name}", daemon=True)
    thread.start()
    thread.join(limit)
    if not outcome:
        # What the worker kept is the thread's now.
        _state.clear()
        if abandoned is not None:
            abandoned.add(thread, name, limit)
        from ._errors import TaskTimeoutError

        raise TaskTimeoutError(name, limit, 0)
    succeeded, value = outcome.pop()
    if succeeded:
        return value
    try:
        raise value
    finally:
        # The exception's traceback has this frame.
        del value
