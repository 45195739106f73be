"""The cells of the table: a step of a task's way, the part of the task that meets it there, and what goes wrong.

Steps in the caller's own process leave out what ends a process: that would end the user's program, whatever runs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import deeds

HERE = ("raise", "exit", "block")
ENDING = ("quit", "abort", "segfault")
# Steps that an executor of threads has, too.
STEPS_OF_THREADS = ("running", "callback", "gc", "shutdown")


class Cell(NamedTuple):
    step: str
    place: str
    deed: str

    def __str__(self) -> str:
        return "-".join(self)

    @property
    def is_in_caller(self) -> bool:
        """Whether the deed is done in the caller's process."""
        match self.step:
            case "pickling" | "sending":
                return self.place in ("argument", "function") and self.deed in HERE
            case "unpickling":
                return self.place in ("result", "exception")
        return self.step == "callback"

    @property
    def may_succeed(self) -> bool:
        """Whether the task itself may have its result or own exception: what goes wrong is beside it."""
        return self.step in ("callback", "gc", "returning") or (self.step, self.place) == ("shutdown", "worker")


class Task(NamedTuple):
    """What is submitted."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        """What an error must contain to name it."""
        return getattr(self.function, "__name__", type(self.function).__name__)


_ROWS = {
    ("pickling", "argument"): HERE,
    ("pickling", "function"): HERE,
    ("pickling", "result"): deeds.DEEDS,
    ("pickling", "exception"): deeds.DEEDS,
    ("sending", "argument"): HERE + ENDING,
    ("sending", "function"): HERE,
    ("unpickling", "argument"): deeds.DEEDS,
    ("unpickling", "function"): deeds.DEEDS,
    ("unpickling", "result"): HERE,
    ("unpickling", "exception"): HERE,
    ("running", "function"): deeds.DEEDS,
    ("returning", "result"): (*ENDING, "block"),
    ("returning", "exception"): (*ENDING, "block"),
    ("callback", "result"): HERE,
    ("callback", "exception"): HERE,
    ("gc", "argument"): deeds.DEEDS,
    ("gc", "function"): deeds.DEEDS,
    ("gc", "result"): deeds.DEEDS,
    ("gc", "exception"): deeds.DEEDS,
    ("shutdown", "function"): deeds.DEEDS,
    ("shutdown", "worker"): deeds.DEEDS,
}
CELLS = tuple(Cell(step, place, deed) for (step, place), row in _ROWS.items() for deed in row)


def of_threads() -> Iterator[Cell]:
    """The cells that make sense where tasks run in the caller's process: it must not end, nor the caller's thread."""
    for cell in CELLS:
        if cell.step in STEPS_OF_THREADS and cell.deed in HERE and cell.place != "worker":
            if not (cell.step == "gc" and (cell.deed == "block" or cell.place in ("result", "exception"))):
                yield cell


def of_either() -> Iterator[Cell]:
    """The cells that make sense where a task may run in the caller's process or outside."""
    for cell in CELLS:
        if cell.deed == "raise" and cell.step in ("pickling", "unpickling", "sending"):
            yield cell
    yield from of_threads()


def task(cell: Cell) -> Task:
    """What has it go wrong there."""
    caller = os.getpid()
    match cell.step, cell.place:
        case "pickling", "argument":
            return Task(deeds.task_that_takes, (deeds.AtPickling(cell.deed),))
        case "pickling", "function":
            return Task(deeds.FunctionAtPickling(cell.deed), ())
        case "pickling", "result":
            return Task(deeds.task_that_gives, (deeds.AtPickling, cell.deed))
        case "pickling", "exception":
            return Task(deeds.task_that_complains, (deeds.ErrorAtPickling, cell.deed))
        case "sending", "argument" if cell.deed in ENDING:
            return Task(deeds.task_that_acts, (cell.deed,))
        case "sending", "argument":
            return Task(deeds.task_that_takes, (deeds.AfterMuch(cell.deed),))
        case "sending", "function":
            return Task(deeds.FunctionAfterMuch(cell.deed), ())
        case "unpickling", "argument":
            return Task(deeds.task_that_takes, (deeds.AtUnpickling(cell.deed),))
        case "unpickling", "function":
            return Task(deeds.FunctionAtUnpickling(cell.deed), ())
        case "unpickling", "result":
            return Task(deeds.task_that_gives, (deeds.AtUnpickling, cell.deed))
        case "unpickling", "exception":
            return Task(deeds.task_that_complains, (deeds.ErrorAtUnpickling, cell.deed))
        case "returning", "result":
            return Task(deeds.task_that_gives, (deeds.OnItsWay, cell.deed))
        case "returning", "exception":
            return Task(deeds.task_that_complains, (deeds.ErrorOnItsWay, cell.deed))
        case "callback", "result":
            return Task(deeds.task_that_takes, (cell.deed,))
        case "callback", "exception":
            return Task(deeds.task_that_complains, (deeds.Trouble,))
        case "gc", "argument":
            return Task(deeds.task_that_takes, (deeds.AtDeath(cell.deed, caller),))
        case "gc", "function":
            return Task(deeds.FunctionAtDeath(cell.deed, caller), ())
        case "gc", "result":
            return Task(deeds.task_that_gives, (deeds.AtDeath, cell.deed, caller))
        case "gc", "exception":
            return Task(deeds.task_that_complains, (deeds.ErrorAtDeath, cell.deed, caller))
        case "shutdown", "function":
            return Task(deeds.task_that_acts_soon, (cell.deed,))
        case "shutdown", "worker":
            return Task(deeds.task_that_acts_at_exit, (cell.deed,))
    return Task(deeds.task_that_acts, (cell.deed,))


def parse(name: str) -> Cell:
    return Cell(*name.split("-"))
