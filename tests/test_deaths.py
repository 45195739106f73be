"""A worker process that dies costs the task it ran an error that says how, and nothing else."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from kinship import zygote
from waiting import LIMIT, Flag, Tally, until

HOWS = {"exit": ("3", 3), "SIGKILL": ("SIGKILL", -9), "null": ("SIGSEGV", -11), "SIGTERM": ("SIGTERM", -15)}


@pytest.fixture(params=HOWS)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[fr.Plan(2), fr.Plan(2, 2)], ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


def test_the_error_names_task_process_and_cause(plan: Any, how: str) -> None:
    words, code = HOWS[how]
    with fr.Executor(plan=plan) as executor:
        executor.submit(tasks.square, 2).result(LIMIT)
        error = executor.submit(tasks.die, how).exception(LIMIT)
        assert isinstance(error, fr.WorkerDied)
        assert error.task == "die" and error.exitcode == code and error.pid not in (0, os.getpid())
        assert "`die`" in str(error) and str(error.pid) in str(error) and words in str(error), str(error)
        assert str(error).count('"') % 2 == 0, str(error)
        assert [executor.submit(tasks.square, number).result(LIMIT) for number in range(50)] == [
            number * number for number in range(50)
        ]


def test_calls_that_wait_are_not_touched_by_a_death(plan: Any, how: str) -> None:
    with fr.Executor(plan=plan) as executor:
        before = [executor.submit(tasks.square, number) for number in range(200)]
        bad = executor.submit(tasks.die, how)
        after = [executor.submit(tasks.square, number) for number in range(200)]
        assert isinstance(bad.exception(LIMIT), fr.WorkerDied)
        finished = [future for future in before + after if future.exception(LIMIT) is None]
        # Threads of the same process die with it, and so does what they run.
        assert len(before + after) - len(finished) <= plan.threads - 1
        assert {future.result(LIMIT) for future in finished} <= {number * number for number in range(200)}


def test_many_deaths_do_not_break_an_executor(how: str) -> None:
    with fr.ProcessPoolExecutor(2) as executor:
        for _ in range(10):
            bad = executor.submit(tasks.die, how)
            good = executor.submit(tasks.square, 5)
            assert isinstance(bad.exception(LIMIT), fr.WorkerDied) and good.result(LIMIT) == 25


def test_an_item_whose_worker_dies_fails_alone(plan: Any, how: str) -> None:
    items = list(range(40))
    results = fr.map(tasks.die_at, items, [20] * 40, [how] * 40, plan=plan, chunksize=1, on_error="return")
    died = [index for index, result in enumerate(results) if isinstance(result, fr.WorkerDied)]
    assert 20 in died and len(died) <= plan.threads
    assert all(result == index for index, result in enumerate(results) if index not in died)
    assert "die_at" in str(results[20]) and HOWS[how][0] in str(results[20])
    assert fr.map(tasks.square, range(100), plan=plan) == [number * number for number in range(100)]


def test_a_death_costs_no_more_than_its_chunk(how: str) -> None:
    results = fr.map(
        tasks.die_at, range(100), [50] * 100, [how] * 100, plan=fr.Plan(2), chunksize=10, on_error="return"
    )
    died = {index for index, result in enumerate(results) if isinstance(result, fr.WorkerDied)}
    assert 50 in died and died <= set(range(50, 60))
    assert all(result == index for index, result in enumerate(results) if index not in died)


def test_a_map_raises_what_became_of_its_worker(plan: Any) -> None:
    with pytest.raises(fr.WorkerDied, match=r"`die_at`.*SIGKILL"):
        fr.map(tasks.die_at, range(10), [5] * 10, ["SIGKILL"] * 10, plan=plan)


def test_no_item_runs_twice_when_workers_die(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")
    results = fr.map(mark_and_die_at_tens, [tally] * 100, range(100), plan=fr.Plan(2), chunksize=1, on_error="return")
    died = [index for index, result in enumerate(results) if isinstance(result, fr.WorkerDied)]
    assert died == list(range(0, 100, 10))
    assert all(results[index] == index for index in range(100) if index not in died), results
    assert tally.marks() == {str(number) for number in range(100)}


def mark_and_die_at_tens(tally: Tally, number: int) -> int:
    tally.mark(number)
    if number % 10 == 0:
        tasks.die("SIGKILL")
    return number


def test_a_worker_killed_from_outside_is_noticed_while_it_runs(tmp_path: Path, go: Flag) -> None:
    started = Flag(tmp_path / "started")
    with fr.ProcessPoolExecutor(1) as executor:
        pid = executor.submit(tasks.pid).result(LIMIT)
        future = executor.submit(tasks.hold, started, go)
        started.wait()
        os.kill(pid, signal.SIGKILL)
        error = future.exception(LIMIT)
        assert isinstance(error, fr.WorkerDied) and error.pid == pid and error.exitcode == -9
        assert executor.submit(tasks.pid).result(LIMIT) != pid


def test_idle_workers_killed_from_outside_are_replaced_and_no_call_is_lost() -> None:
    with fr.ProcessPoolExecutor(2) as executor:
        pids = {future.result(LIMIT) for future in [executor.submit(tasks.pid) for _ in range(50)]}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        futures = [executor.submit(tasks.square, number) for number in range(100)]
        assert [future.result(LIMIT) for future in futures] == [number * number for number in range(100)]


def test_shared_workers_killed_between_two_maps_are_replaced() -> None:
    for _ in range(3):
        for pid in set(fr.map(tasks.pid, range(50), plan="processes")):
            os.kill(pid, signal.SIGKILL)
        assert fr.map(tasks.square, range(100), plan="processes") == [number * number for number in range(100)]


def test_the_zygote_killed_costs_the_next_workers_nothing() -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        pid = executor.submit(tasks.pid).result(LIMIT)
    helper = zygote(os.getpid())
    os.kill(helper, signal.SIGKILL)
    until(lambda: not _is_alive(helper), "the zygote is gone")
    with fr.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(tasks.pid) for _ in range(20)]
        assert pid not in {future.result(LIMIT) for future in futures}
    assert fr.map(tasks.square, range(10), plan="processes") == [number * number for number in range(10)]


def test_the_zygote_killed_under_running_calls_leaves_none_without_an_answer(tmp_path: Path, go: Flag) -> None:
    started = [Flag(tmp_path / f"started {number}") for number in range(2)]
    with fr.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(tasks.hold, flag, go) for flag in started]
        for flag in started:
            flag.wait()
        os.kill(zygote(os.getpid()), signal.SIGKILL)
        go.set()
        for future in futures:
            # Workers end with the zygote that is their parent.
            error = future.exception(LIMIT)
            assert error is None or isinstance(error, fr.WorkerDied)
        assert executor.submit(tasks.square, 4).result(LIMIT) == 16


def _is_alive(pid: int) -> bool:
    try:
        return not re.search(r"^State:\tZ", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):  # it may go between opening and reading
        return False
