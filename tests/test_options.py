"""`Executor.options` is a view on the same workers; what makes no sense is refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag

ORDER: list[str] = []


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


def note(path: Path, name: str) -> None:
    with path.open("a") as file:
        file.write(f"{name}\n")


@pytest.mark.parametrize("plan", [fr.Plan(1), fr.Plan(threads=1)], ids=["a process", "a thread"])
def test_of_tasks_that_wait_the_highest_begins_first_and_equals_as_they_came(
    plan: Any, go: Flag, tmp_path: Path
) -> None:
    started, notes = Flag(tmp_path / "started"), tmp_path / "notes"
    pool: Any = fr.ThreadPoolExecutor(1) if plan.processes == 0 else fr.Executor(plan=plan)
    with pool as executor:
        executor.submit(tasks.hold, started, go)
        started.wait()
        for name, priority in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0), ("f", 9)]:
            executor.options(priority=priority).submit(note, notes, name)
        last = executor.options(priority=-9).submit(note, notes, "last")
        go.set()
        last.result(LIMIT)
    assert notes.read_text().split() == ["f", "b", "d", "a", "e", "c", "last"]


def test_a_view_uses_the_workers_of_its_executor() -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        view = executor.options(task_timeout=60, retries=1, priority=2)
        assert executor.submit(tasks.pid).result(LIMIT) == view.submit(tasks.pid).result(LIMIT)
        assert list(view.map(tasks.square, range(20), chunksize=5)) == [number * number for number in range(20)]
    with pytest.raises(RuntimeError):
        view.submit(tasks.pid)


def test_a_view_of_a_view_keeps_what_is_not_named() -> None:
    with fr.ThreadPoolExecutor(1) as executor:
        view = executor.options(task_timeout=60, priority=2).options(priority=3)
        assert view._terms == (60.0, 0, 3)
        assert view.options(task_timeout=None)._terms == (None, 0, 3)
        assert "priority=3" in repr(view)
        assert view.submit(tasks.add, 1, right=2).result(LIMIT) == 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task_timeout": 0}, ValueError, "task_timeout must be greater than 0"),
        ({"task_timeout": -1}, ValueError, "task_timeout must be greater than 0"),
        ({"task_timeout": math.nan}, ValueError, "task_timeout must be greater than 0"),
        ({"task_timeout": "1"}, TypeError, "task_timeout must be a number"),
        ({"task_timeout": True}, TypeError, "task_timeout must be a number"),
        ({"retries": -1}, ValueError, "retries must be from 0"),
        ({"retries": 1.5}, TypeError, "retries must be an integer"),
        ({"priority": None}, TypeError, "priority must be an integer"),
        ({"priority": 2**40}, ValueError, "priority must be from"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(options: Any, error: type[Exception], words: str) -> None:
    with fr.ThreadPoolExecutor(1) as executor, pytest.raises(error, match=words):
        executor.options(**options)


@pytest.mark.parametrize("call", [fr.map, fr.imap, fr.imap_unordered])
def test_maps_refuse_the_same(call: Any) -> None:
    with pytest.raises(ValueError, match="task_timeout must be greater than 0"):
        call(tasks.square, range(3), task_timeout=-1)
    with pytest.raises(ValueError, match="retries must be from 0"):
        call(tasks.square, range(3), retries=-1)


def test_an_endless_limit_is_none() -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        assert executor.options(task_timeout=math.inf).submit(tasks.square, 3).result(LIMIT) == 9
