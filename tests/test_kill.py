"""`Future.kill()` ends what runs and cancels what waits, and says whether it did anything."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, until


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


@pytest.mark.parametrize("plan", [fr.Plan(2), fr.Plan(1, 2)], ids=str)
def test_a_running_call_is_ended_with_its_worker(plan: Any, go: Flag, tmp_path: Path) -> None:
    started = Flag(tmp_path / "started")
    with fr.Executor(plan=plan) as executor:
        future = executor.submit(tasks.hold, started, go)
        started.wait()
        assert future.kill()
        error = future.exception(LIMIT)
        assert isinstance(error, fr.TaskKilledError) and error.task == "hold" and error.pid not in (0, os.getpid())
        assert "`hold`" in str(error) and str(error.pid) in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        until(lambda: not Path(f"/proc/{error.pid}").exists(), "its worker is gone")
        assert not future.cancelled() and not future.kill()
        assert executor.submit(tasks.square, 3).result(LIMIT) == 9


def test_a_waiting_call_is_cancelled_and_costs_no_worker(go: Flag, tmp_path: Path) -> None:
    started = Flag(tmp_path / "started")
    with fr.ProcessPoolExecutor(1) as executor:
        first = executor.submit(tasks.hold, started, go)
        started.wait()
        behind = [executor.submit(tasks.square, number) for number in range(20)]
        assert all(future.kill() for future in behind)
        assert all(future.cancelled() for future in behind)
        go.set()
        assert first.result(LIMIT) in executor._pool.pids()


def test_a_call_that_is_over_is_left_alone() -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        future = executor.submit(tasks.square, 3)
        assert future.result(LIMIT) == 9
        assert not future.kill() and future.result() == 9


def test_calls_behind_a_killed_one_run_elsewhere(go: Flag, tmp_path: Path) -> None:
    started = Flag(tmp_path / "started")
    with fr.ProcessPoolExecutor(1) as executor:
        first = executor.submit(tasks.hold, started, go)
        behind = [executor.submit(tasks.square, number) for number in range(50)]
        started.wait()
        assert first.kill()
        assert [future.result(LIMIT) for future in behind] == [number * number for number in range(50)]


def test_a_killed_call_is_not_run_again(go: Flag, tmp_path: Path) -> None:
    started = Flag(tmp_path / "started")
    with fr.ProcessPoolExecutor(1) as executor:
        future = executor.options(retries=3).submit(tasks.hold, started, go)
        started.wait()
        assert future.kill()
        assert isinstance(future.exception(LIMIT), fr.TaskKilledError)


def test_on_a_thread_the_future_fails_and_the_value_is_dropped(tmp_path: Path) -> None:
    started, go, ended = (Flag(tmp_path / name) for name in ("started", "go", "ended"))
    with fr.ThreadPoolExecutor(1) as executor:
        future = executor.submit(tasks.hold_and_tell, started, go, ended)
        started.wait()
        assert future.kill() and not future.kill()
        error = future.exception(LIMIT)
        assert isinstance(error, fr.TaskKilledError) and error.pid == 0 and "thread" in str(error)
        go.set()
        ended.wait()
        assert executor.submit(tasks.square, 3).result(LIMIT) == 9
        assert future.exception() is error


def test_a_future_that_nobody_runs_is_cancelled() -> None:
    future: fr.Future[int] = fr.Future()
    assert future.kill() and future.cancelled()
