"""What the tests have workers do. Imported by workers, so it imports little."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import types
from typing import Any, NoReturn

from waiting import Flag, Tally


def square(number: int) -> int:
    return number * number


def add(left: int, right: int) -> int:
    return left + right


def identity(value: Any) -> Any:
    return value


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def pid(_: object = None) -> int:
    return os.getpid()


def place(_: object = None) -> tuple[int, int]:
    """The worker: its process and its thread."""
    return os.getpid(), threading.get_native_id()


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def fail_at(number: int, worst: int) -> int:
    if number >= worst:
        raise ValueError(f"item {number}")
    return number


def leave(code: object) -> NoReturn:
    sys.exit(code)  # type: ignore[arg-type]


def hold(started: Flag, go: Flag) -> int:
    """Tell that it runs, then run until told to end."""
    started.set()
    go.wait()
    return os.getpid()


def hold_and_tell(started: Flag, go: Flag, ended: Flag) -> None:
    """As `hold`, and tell of the end, however it comes."""
    started.set()
    try:
        go.wait()
    finally:
        ended.set()


def mark_and_wait(tally: Tally, name: int, go: Flag) -> int:
    tally.mark(name)
    go.wait()
    return name


def wait_until(tally: Tally, runs: int, go: Flag) -> int:
    run = len(tally.marks()) + 1
    tally.mark(run)
    if run < runs:
        go.wait()
    return run


def die(how: str) -> NoReturn:
    match how:
        case "exit":
            os._exit(3)
        case "null":
            ctypes.string_at(0)
    os.kill(os.getpid(), getattr(signal, how))
    raise AssertionError("the signal came late")


def crash(how: str) -> NoReturn:
    """As `die`, in the thread that calls it."""
    if how == "null":
        ctypes.string_at(0)
    signal.raise_signal(getattr(signal, how))
    raise AssertionError("the signal came late")


def die_at(number: int, last: int, how: str) -> int:
    if number == last:
        die(how)
    return number


def arrive(folder: str) -> Any:
    """Stands for something large: marks the process that it comes to, and fails where it has been before."""
    mark = os.path.join(folder, str(os.getpid()))
    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    return types.SimpleNamespace(folder=folder)


def begin_and_wait(begun: Flag, go: Flag) -> None:
    begun.set()
    go.wait()


def die_once(number: int, last: int, died: Flag) -> int:
    if number == last and not died.is_set():
        died.set()
        os._exit(3)
    return number
