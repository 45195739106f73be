"""Threads of this process that the engine asks for, and their end with the interpreter."""

from __future__ import annotations

import sys
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Seconds that workers have to end when there is nothing left to do.
_PATIENCE = 5.0

_in_hurry = False
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


def hurry() -> None:
    """The program is interrupted for the second time: if that ends it, its end waits for nobody."""
    global _in_hurry
    _in_hurry = True


def _finish() -> None:
    """Let every executor finish what was submitted, as the standard library's do, then end all workers.

    A program that an interrupt ends, or that is interrupted here, kills its worker processes and waits for the calls
    that its threads run; at a second interrupt it waits for nothing.
    """
    interrupted = _is_interrupted()
    interrupts = 1 + _in_hurry if interrupted else 0
    first: KeyboardInterrupt | None = None
    while True:
        try:
            _end(interrupts)
            break
        except KeyboardInterrupt as error:
            interrupts += 1
            first = first or error
    if first is not None:
        # That it was interrupted here tells its user nothing.
        raise first.with_traceback(None)
    if interrupted:
        _renew_interrupt()


def _end(interrupts: int) -> None:
    from ._core import close_shared

    if interrupts > 1:
        _end_at_once()
    for pool in list(_pools):
        if interrupts:
            pool.dismiss(True)
        else:
            pool.close()
    for pool in list(_pools):
        pool.join()
    close_shared(0.0 if interrupts else _PATIENCE)
    drain_logging()


def drain_logging() -> None:
    """Wait until what workers logged by now has been handled, if it is wanted here."""
    module = sys.modules.get("forkright._logging")
    if module is not None:
        module.drain()


def _is_interrupted() -> bool:
    """Whether it is an interrupt nobody caught that ends the interpreter."""
    last = getattr(sys, "last_value", None)
    # In a session the last exception may be long ago.
    return isinstance(last, KeyboardInterrupt) and not hasattr(sys, "ps1") and not sys.flags.interactive


def _renew_interrupt() -> None:
    """Have the program die of SIGINT, as shells expect of one that an interrupt ends.

    CPython forgets that it was to as soon as any thread evaluates a string, as making a named tuple does, and with it
    many an import: ours have ended now. It remembers when a string that it evaluates raises the exception.
    """
    import contextlib

    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")


def _end_at_once() -> None:
    """End this process as an interrupt does; threads that run on can't be ended otherwise."""
    import contextlib
    import os
    import signal

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


# Before the interpreter joins its threads and before atexit functions, as concurrent.futures does.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
