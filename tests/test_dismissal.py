"""`terminate_workers` and `kill_workers` end worker processes at once, with the calls they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from scripts import run
from waiting import LIMIT, Flag, until

PLANS = [fr.Plan(2), fr.Plan(2, 2)]
ENDS: dict[str, tuple[Callable[[fr.Executor], None], int]] = {
    "terminate": (fr.Executor.terminate_workers, signal.SIGTERM),
    "kill": (fr.Executor.kill_workers, signal.SIGKILL),
}


@pytest.fixture(params=PLANS, ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> tuple[Callable[[fr.Executor], None], int]:
    return ENDS[request.param]


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


def occupy(executor: Any, folder: Path, go: Flag, count: int) -> list[fr.Future[int]]:
    flags = [Flag(folder / f"started {number}") for number in range(count)]
    futures = [executor.submit(tasks.hold, flag, go) for flag in flags]
    for flag in flags:
        flag.wait()
    return futures


def test_running_calls_fail_and_waiting_ones_are_cancelled(plan: Any, end: Any, go: Flag, tmp_path: Path) -> None:
    dismiss, number = end
    with fr.Executor(plan=plan) as executor:
        running = occupy(executor, tmp_path, go, plan.workers)
        waiting = [executor.submit(tasks.hold, Flag(tmp_path / f"late {index}"), go) for index in range(50)]
        dismiss(executor)
        for future in running:
            error = future.exception(LIMIT)
            assert isinstance(error, fr.WorkerDied) and error.exitcode == -number
            assert isinstance(error, BrokenExecutor)
        assert all(future.cancelled() for future in waiting)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(tasks.square, 1)
    assert not list(tmp_path.glob("late *"))


def test_calls_that_may_be_run_again_are_not(end: Any, go: Flag, tmp_path: Path) -> None:
    with fr.Executor(plan=fr.Plan(2)) as executor:
        running = occupy(executor.options(retries=5), tmp_path, go, 2)
        end[0](executor)
        assert all(isinstance(future.exception(LIMIT), fr.WorkerDied) for future in running)


def test_results_that_are_there_stay(plan: Any, end: Any) -> None:
    with fr.Executor(plan=plan) as executor:
        futures = [executor.submit(tasks.square, number) for number in range(50)]
        executor.submit(tasks.square, 0).result(LIMIT)
        done = [future for future in futures if future.done()]
        end[0](executor)
        assert all(future.exception(LIMIT) is None for future in done)


def test_workers_that_start_yet_are_ended_too(tmp_path: Path) -> None:
    begun = Flag(tmp_path / "begun")
    with fr.Executor(plan=fr.Plan(2), initializer=block, initargs=(begun,)) as executor:
        future = executor.submit(tasks.square, 3)
        begun.wait()
        executor.kill_workers()
    assert future.cancelled()


def block(begun: Flag) -> None:
    begun.set()
    signal.pause()


def test_a_worker_that_is_ordered_at_that_moment_is_ended_too() -> None:
    for _ in range(10):
        with fr.Executor(plan=fr.Plan(2), initializer=signal.pause) as executor:
            future = executor.submit(tasks.square, 3)
            executor.kill_workers()
        assert future.cancelled()


def test_kill_ends_a_task_that_ignores_sigterm(tmp_path: Path) -> None:
    deaf = Flag(tmp_path / "deaf")
    with fr.Executor(plan=fr.Plan(1)) as executor:
        future = executor.submit(be_deaf, deaf)
        deaf.wait()
        executor.terminate_workers()
        executor.kill_workers()
        error = future.exception(LIMIT)
        assert isinstance(error, fr.WorkerDied) and error.exitcode == -signal.SIGKILL


def be_deaf(deaf: Flag) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    deaf.set()
    while True:
        signal.pause()


def test_kill_ends_what_tasks_have_started(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with fr.Executor(plan=fr.Plan(1)) as executor:
        executor.submit(start_and_wait, told)
        until(told.exists, "the program is started")
        child = int(told.read_text())
        executor.kill_workers()
    until(lambda: not is_alive(child), "the program is gone")


def start_and_wait(told: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    (told.parent / "draft").write_text(str(child.pid))
    (told.parent / "draft").rename(told)
    child.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("plan", ["threads", "serial"])
def test_what_runs_on_a_thread_goes_on(plan: Any, end: Any, go: Flag, tmp_path: Path) -> None:
    with fr.Executor(1, plan=plan) as executor:
        if plan == "serial":
            assert executor.submit(tasks.square, 3).result(LIMIT) == 9
            end[0](executor)
            return
        (running,) = occupy(executor, tmp_path, go, 1)
        waiting = executor.submit(tasks.square, 3)
        end[0](executor)
        assert waiting.cancelled()
        go.set()
        assert running.result(LIMIT) == os.getpid()


def test_auto_ends_the_workers_of_its_calls_with_terms(end: Any, go: Flag, tmp_path: Path) -> None:
    with fr.Executor(2) as executor:
        started = Flag(tmp_path / "on")
        future = executor.options(task_timeout=10_000).submit(tasks.hold, started, go)
        started.wait()
        end[0](executor)
        assert isinstance(future.exception(LIMIT), fr.WorkerDied)


def test_nothing_is_left_of_a_script_that_killed_its_workers(tmp_path: Path) -> None:
    lines = run(
        """
        import signal, threading
        import forkright as fr
        executor = fr.Executor(plan=fr.Plan(2))
        futures = [executor.submit(signal.pause) for _ in range(10)]
        executor.kill_workers()
        executor.kill_workers()
        print(all(future.cancelled() or future.exception() for future in futures))
        """,
        tmp_path,
    )
    assert lines == ["True"]
