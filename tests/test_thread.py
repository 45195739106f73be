"""`forkright.Thread` is a `threading.Thread` that keeps its outcome."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, until


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The exceptions that reached `threading.excepthook`."""
    errors: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: errors.append(arguments.exc_value))
    yield errors


def started(**options: Any) -> fr.Thread:
    thread = fr.Thread(**options)
    thread.start()
    return thread


def test_result_is_what_the_target_returned() -> None:
    thread = started(target=tasks.everything, args=(1, 2), kwargs={"key": 3}, name="mine", daemon=True)
    assert isinstance(thread, threading.Thread)
    assert thread.result(LIMIT) == ((1, 2), {"key": 3})
    assert (thread.name, thread.daemon, thread.is_alive()) == ("mine", True, False)
    assert thread.result() is thread.result()


def test_result_of_a_subclass_is_what_its_run_returned() -> None:
    class Mine(fr.Thread):
        def __init__(self, value: int) -> None:
            super().__init__()
            self.value = value

        def run(self) -> int:
            return self.value + 1

    thread = Mine(4)
    thread.start()
    assert thread.result(LIMIT) == 5
    assert "run" not in vars(thread)


def test_result_raises_what_the_target_raised_and_nobody_else_hears_of_it(reported: list[Any]) -> None:
    go = threading.Event()

    def fail() -> None:
        go.wait(LIMIT)
        raise ValueError("no luck")

    thread = started(target=fail)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            thread.result()
        except ValueError as error:
            errors.append(error)

    asking = started(target=ask)
    until(lambda: thread._waiting, "somebody waits for the result")
    go.set()
    asking.join(LIMIT)
    assert [str(error) for error in errors] == ["no luck"] and reported == []


def test_an_exception_nobody_waits_for_reaches_the_hook(reported: list[Any]) -> None:
    thread = started(target=tasks.fail, args=("no luck",))
    thread.join(LIMIT)
    assert [str(error) for error in reported] == ["no luck"]
    with pytest.raises(ValueError, match="no luck"):
        thread.result()


def test_result_raises_timeout_error_and_the_thread_goes_on() -> None:
    go = threading.Event()
    thread = started(target=go.wait, args=(LIMIT,))
    with pytest.raises(TimeoutError):
        thread.result(0.01)
    assert thread.reading is None
    go.set()
    assert thread.result(LIMIT) is True


def test_reading_tells_wall_and_cpu_seconds() -> None:
    thread = started(target=sum, args=(range(1_000_000),))
    thread.join(LIMIT)
    assert thread.reading is not None
    assert set(thread.reading) == {"wall", "cpu"}
    assert thread.reading["cpu"] > 0 and thread.reading["wall"] > 0


def test_misuse_raises_what_threading_raises() -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        fr.Thread(target=tasks.pid).result()
    thread = started(target=tasks.pid)
    thread.join(LIMIT)
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
    assert isinstance(thread.result(), int)


def test_the_exit_of_a_thread_that_nobody_awaits_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    class Leaving:
        def __init__(self) -> None:
            self.thread = fr.Thread(target=self.leave)
            self.thread.start()

        def leave(self) -> None:
            sys.exit("gone")

    leaving = Leaving()
    leaving.thread.join()
    seen = weakref.ref(leaving)
    gc.disable()
    try:
        del leaving
        assert seen() is None
    finally:
        gc.enable()


def test_a_run_that_a_thread_has_of_its_own_is_what_runs_and_stays() -> None:
    thread = fr.Thread()
    own = thread.run = lambda: "its own"
    thread.start()
    assert thread.result(timeout=30) == "its own"
    assert vars(thread)["run"] is own
