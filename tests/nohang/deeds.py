"""What goes wrong, and the values, functions and exceptions that have it go wrong at one step of a task's way.

Imported by workers, by name, so that every executor can carry it.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

DEEDS = ("raise", "exit", "quit", "abort", "segfault", "block")
# Bytes of what is caught on its way: more than any pipe or ring takes at once.
LARGE = 32 << 20
# Set for executors that run everything in the caller's process.
IS_ONE_PROCESS = "NOHANG_ONE_PROCESS"


class Trouble(Exception):
    """What is raised."""


def act(deed: str) -> NoReturn:
    match deed:
        case "raise":
            raise Trouble("raised on purpose")
        case "exit":
            sys.exit(3)
        case "quit":
            os._exit(3)
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
    while True:
        time.sleep(3600)


class AtPickling:
    """Acts when it is pickled."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __reduce__(self) -> Any:
        act(self.deed)


class AfterMuch(AtPickling):
    """Acts when it is pickled, after much that can be pickled."""

    def __init__(self, deed: str) -> None:
        super().__init__(deed)
        self.much = bytes(LARGE)

    def __reduce__(self) -> Any:
        return AfterMuch, (self.much, AtPickling(self.deed))


class AtUnpickling:
    """Acts when it is unpickled."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __reduce__(self) -> Any:
        return act, (self.deed,)


class OnItsWay:
    """Large; its worker ends, or stops, while it is being sent."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __reduce__(self) -> Any:
        threading.Thread(target=_strike, args=(self.deed,), daemon=True).start()
        return bytes, (bytes(LARGE),)


def _strike(deed: str) -> None:
    time.sleep(0.002)
    if deed == "block":
        os.kill(os.getpid(), signal.SIGSTOP)
    act(deed)


class AtDeath:
    """Acts when it is collected, in a worker."""

    def __init__(self, deed: str, caller: int) -> None:
        self.deed = deed
        self.caller = caller

    def __del__(self) -> None:
        if os.getpid() != self.caller or os.environ.get(IS_ONE_PROCESS):
            act(self.deed)


class FunctionAtPickling(AtPickling):
    def __call__(self) -> str:
        return self.deed


class FunctionAfterMuch(AfterMuch):
    def __call__(self) -> str:
        return self.deed


class FunctionAtUnpickling(AtUnpickling):
    def __call__(self) -> str:
        return self.deed


class FunctionAtDeath(AtDeath):
    def __call__(self) -> str:
        return self.deed


class ErrorAtPickling(AtPickling, Exception):
    pass


class ErrorAtUnpickling(AtUnpickling, Exception):
    pass


class ErrorOnItsWay(OnItsWay, Exception):
    pass


class ErrorAtDeath(AtDeath, Exception):
    pass


def task_that_takes(value: object) -> str:
    return type(value).__name__


def task_that_gives(kind: type, *arguments: object) -> object:
    return kind(*arguments)


def task_that_complains(kind: type[Exception], *arguments: object) -> NoReturn:
    raise kind(*arguments)


def task_that_acts(deed: str) -> NoReturn:
    act(deed)


def task_that_acts_soon(deed: str) -> NoReturn:
    time.sleep(0.05)
    act(deed)


def task_that_acts_at_exit(deed: str) -> str:
    """Have its worker act when it ends, by whichever way of noticing that the executor leaves to it."""
    acted: list[bool] = []

    def once() -> None:
        if not acted:
            acted.append(True)
            act(deed)

    atexit.register(once)
    multiprocessing.util.Finalize(None, once, exitpriority=10)
    return deed


def task_that_waits(path: str) -> str:
    """Run until a file exists."""
    while not os.path.exists(path):
        time.sleep(0.002)
    return path


def innocent(tally: str, number: int, payload: bytes = b"") -> int:
    """A task that does nothing wrong. It leaves a mark, so that one that runs twice is found out."""
    time.sleep(0.0005)
    mark = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(mark, number.to_bytes(4, "little"))
    os.close(mark)
    return number * number


def acting(deed: str) -> Callable[[object], None]:
    """A callback."""
    return lambda _: act(deed)
