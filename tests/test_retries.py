"""`retries` runs a task again whose worker died under it, and no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, Tally, until


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally(tmp_path / "tally")


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


def die_until(tally: Tally, runs: int, how: str) -> int:
    """Die in each run but the last; the number of this one."""
    run = len(tally.marks()) + 1
    tally.mark(run)
    if run < runs:
        tasks.die(how)
    return run


def fail_and_mark(tally: Tally) -> None:
    tally.mark(len(tally.marks()))
    raise ValueError("no")


@pytest.mark.parametrize("plan", [fr.Plan(2), fr.Plan(2, 2)], ids=str)
@pytest.mark.parametrize("how", ["exit", "SIGKILL", "null"])
def test_a_task_whose_worker_dies_runs_again(plan: Any, how: str, tally: Tally) -> None:
    with fr.Executor(plan=plan) as executor:
        assert executor.options(retries=2).submit(die_until, tally, 3, how).result(LIMIT) == 3
    assert tally.marks() == {"1", "2", "3"}


def test_after_the_last_run_the_death_is_the_outcome(tally: Tally) -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        future = executor.options(retries=1).submit(die_until, tally, 9, "SIGKILL")
        assert isinstance(future.exception(LIMIT), fr.WorkerDied)
        assert tally.marks() == {"1", "2"}
        assert executor.submit(tasks.square, 3).result(LIMIT) == 9


def test_a_task_that_is_late_runs_again_when_its_worker_is_dead(tally: Tally, go: Flag) -> None:
    with fr.ProcessPoolExecutor(2) as executor:
        view = executor.options(retries=2, task_timeout=0.3)
        assert view.submit(tasks.wait_until, tally, 3, go).result(LIMIT) == 3
        error = view.options(retries=0).submit(tasks.wait_until, tally, 9, go).exception(LIMIT)
        assert isinstance(error, fr.TaskTimeoutError)


def test_what_the_function_raises_is_its_outcome(tally: Tally) -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        assert isinstance(executor.options(retries=5).submit(fail_and_mark, tally).exception(LIMIT), ValueError)
    assert tally.marks() == {"0"}


def test_large_arguments_are_there_in_every_run(tally: Tally) -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        data = bytes(range(256)) * (1 << 13)
        assert executor.options(retries=1).submit(die_then_echo, tally, data).result(LIMIT) == data


def die_then_echo(tally: Tally, data: bytes) -> bytes:
    if not tally.marks():
        tally.mark(1)
        tasks.die("SIGKILL")
    return data


def die_once_told(tally: Tally, go: Flag) -> None:
    """Die when `go` is set; in the second run, leave the pid."""
    if not tally.marks():
        tally.mark("begun")
        go.wait()
        tasks.die("SIGKILL")
    tally.mark(os.getpid())


def test_who_runs_a_task_again_when_nobody_waits_any_more_ends_too(tally: Tally, go: Flag) -> None:
    executor = fr.ProcessPoolExecutor(1, max_tasks_per_child=2)
    executor.submit(os.getpid).result(LIMIT)
    # The last task of its worker, which was told so; the next worker could have another.
    future = executor.options(retries=1).submit(die_once_told, tally, go)
    until(tally.marks, "the task has begun")
    executor.shutdown(wait=False)
    go.set()
    until(lambda: len(tally.marks()) == 2, "the task has run again")
    (pid,) = tally.marks() - {"begun"}
    until(lambda: not Path(f"/proc/{pid}").exists(), "the second worker has ended")
    assert future.result(LIMIT) is None


def test_without_retries_nothing_runs_twice(tally: Tally) -> None:
    with fr.ProcessPoolExecutor(2) as executor:
        assert isinstance(executor.submit(die_until, tally, 9, "SIGKILL").exception(LIMIT), fr.WorkerDied)
    assert tally.marks() == {"1"}


@pytest.mark.parametrize("plan", ["processes", "auto"])
def test_a_map_runs_again_what_died(plan: Any, tally: Tally) -> None:
    assert fr.map(die_until, [tally], [3], ["exit"], plan=plan, workers=2, retries=2) == [3]
