"""A task that runs for longer than its `task_timeout` ends on time, with all that it started; nothing else does."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, Tally, until

SOON = 0.2


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def start_family(notes: Path) -> None:
    """Start a child, one in a session of its own, an orphan, and one by fork; note their pids; then wait for ever."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    family = [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
    starter = (
        "import subprocess, sys; "
        "print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=subprocess.DEVNULL).pid)"
    )
    family.append(int(subprocess.check_output([sys.executable, "-c", starter, *sleep])))
    if (forked := os.fork()) == 0:
        os.setsid()
        while True:
            time.sleep(600)
    family.append(forked)
    new = notes.with_suffix(".new")
    new.write_text(" ".join(map(str, family)))
    new.rename(notes)
    time.sleep(600)


class SlowToUnpickle:
    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return (time.sleep, (600,))


def large_and_slow(data: bytes) -> None:
    time.sleep(600 if data else 0)


@pytest.mark.parametrize("plan", [fr.Plan(2), fr.Plan(2, 2)], ids=str)
def test_the_error_says_which_task_how_long_and_what_was_killed(plan: Any, go: Flag, tmp_path: Path) -> None:
    with fr.Executor(plan=plan) as executor:
        error = executor.options(task_timeout=SOON).submit(tasks.hold, Flag(tmp_path / "on"), go).exception(LIMIT)
        assert isinstance(error, fr.TaskTimeoutError) and isinstance(error, TimeoutError)
        assert error.task == "hold" and error.limit == SOON and error.pid not in (0, os.getpid())
        assert "`hold`" in str(error) and "0.2 s" in str(error) and str(error.pid) in str(error)
        until(lambda: not is_alive(error.pid), "the worker is dead")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert [executor.submit(tasks.square, number).result(LIMIT) for number in range(20)] == [
            number * number for number in range(20)
        ]


def test_what_the_task_started_is_gone_wherever_it_went(tmp_path: Path) -> None:
    notes = tmp_path / "family"
    with fr.ProcessPoolExecutor(1) as executor:
        future = executor.options(task_timeout=3).submit(start_family, notes)
        until(notes.exists, "the family is there")
        family = [int(pid) for pid in notes.read_text().split()]
        assert len(family) == 4
        assert isinstance(future.exception(LIMIT), fr.TaskTimeoutError)
        for pid in family:
            until(lambda pid=pid: not is_alive(pid), f"{pid} of {family} is gone")  # type: ignore[misc]


def test_tasks_that_waited_behind_it_run_elsewhere(go: Flag, tmp_path: Path) -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        late = executor.options(task_timeout=SOON).submit(tasks.hold, Flag(tmp_path / "on"), go)
        behind = [executor.submit(tasks.square, number) for number in range(50)]
        assert [future.result(LIMIT) for future in behind] == [number * number for number in range(50)]
        assert isinstance(late.exception(LIMIT), fr.TaskTimeoutError)


def test_the_time_counts_from_the_begin_and_not_from_the_submit(go: Flag, tmp_path: Path) -> None:
    started = Flag(tmp_path / "started")
    with fr.ProcessPoolExecutor(1) as executor:
        first = executor.submit(tasks.hold, started, go)
        started.wait()
        behind = executor.options(task_timeout=SOON).submit(tasks.square, 3)
        # The warden has looked at it at least once by now: it waits, which is not late.
        assert not wait([behind], 2 * SOON).done
        go.set()
        assert behind.result(LIMIT) == 9 and isinstance(first.result(LIMIT), int)


def test_a_task_that_ends_in_time_gives_its_result() -> None:
    with fr.ProcessPoolExecutor(2) as executor:
        view = executor.options(task_timeout=60)
        before = {view.submit(tasks.pid).result(LIMIT) for _ in range(30)}
        assert [view.submit(tasks.square, number).result(LIMIT) for number in range(100)] == [
            number * number for number in range(100)
        ]
        assert isinstance(view.submit(tasks.fail, "no").exception(LIMIT), ValueError)
        assert before <= set(executor._pool.pids())


def test_unpickling_counts(tmp_path: Path) -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        late = executor.options(task_timeout=SOON).submit(tasks.identity, SlowToUnpickle())
        assert isinstance(late.exception(LIMIT), fr.TaskTimeoutError)
        assert executor.submit(tasks.square, 4).result(LIMIT) == 16


def test_payload_memory_comes_back_after_a_kill() -> None:
    data = bytes(4 << 20)
    with fr.ProcessPoolExecutor(1) as executor:
        view = executor.options(task_timeout=SOON)
        for _ in range(3):
            assert isinstance(view.submit(large_and_slow, data).exception(LIMIT), fr.TaskTimeoutError)
        assert executor.submit(len, data).result(LIMIT) == len(data)
        until(lambda: executor._pool.memory()[0] == 0, "nothing is leased any more")


def test_many_late_tasks_each_have_one_outcome(go: Flag, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tally")
    with fr.ProcessPoolExecutor(2) as executor:
        view = executor.options(task_timeout=SOON)
        late = [view.submit(tasks.mark_and_wait, tally, number, go) for number in range(6)]
        good = [executor.submit(tasks.square, number) for number in range(100)]
        assert all(isinstance(future.exception(LIMIT), fr.TaskTimeoutError) for future in late)
        assert [future.result(LIMIT) for future in good] == [number * number for number in range(100)]
        assert tally.marks() == {str(number) for number in range(6)}


def test_a_callback_and_a_wait_hear_of_the_end(go: Flag, tmp_path: Path) -> None:
    heard = threading.Event()
    with fr.ProcessPoolExecutor(1) as executor:
        late = executor.options(task_timeout=SOON).submit(tasks.hold, Flag(tmp_path / "on"), go)
        late.add_done_callback(lambda _: heard.set())
        assert heard.wait(LIMIT)
        assert wait([late], LIMIT).done == {late}


@pytest.mark.parametrize("plan", ["threads", "serial"])
def test_on_a_thread_the_future_fails_and_the_report_names_the_thread(plan: Any, tmp_path: Path) -> None:
    started, go, ended = (Flag(tmp_path / name) for name in ("started", "go", "ended"))
    with fr.Executor(1 if plan == "threads" else None, plan=plan) as executor:
        late = executor.options(task_timeout=SOON).submit(tasks.hold_and_tell, started, go, ended)
        error = late.exception(LIMIT)
        assert isinstance(error, fr.TaskTimeoutError) and error.pid == 0 and "thread" in str(error)
        # The only worker is free again.
        assert executor.submit(tasks.square, 5).result(LIMIT) == 25
        assert started.is_set() and not ended.is_set()
        [entry] = executor.report().data["abandoned"]
        assert entry["task"] == "hold_and_tell" and entry["running"]
        assert entry["thread"] in {thread.name for thread in threading.enumerate()}
        assert entry["thread"] in str(executor.report()).replace("\n" + " " * 13, " ")
        go.set()
        ended.wait()
        assert late.exception() is error
        until(lambda: not executor.report().data["abandoned"][0]["running"], "it has ended")


def test_auto_takes_processes_for_a_limit_unless_the_function_must_stay(go: Flag, tmp_path: Path) -> None:
    seen: list[int] = []

    def append(number: int) -> None:
        seen.append(number)
        go.wait()

    with fr.Executor(2) as executor:
        view = executor.options(task_timeout=SOON)
        assert view.submit(tasks.pid).result(LIMIT) != os.getpid()
        error = view.submit(tasks.hold, Flag(tmp_path / "on"), go).exception(LIMIT)
        assert isinstance(error, fr.TaskTimeoutError) and error.pid
        error = view.submit(append, 1).exception(LIMIT)
        assert isinstance(error, fr.TaskTimeoutError) and not error.pid and seen == [1]
        assert len(executor.report().data["abandoned"]) == 1
        go.set()


@pytest.mark.parametrize("plan", ["processes", "threads", "auto"])
def test_a_map_gives_the_error_in_the_place_of_the_late_call(plan: Any, go: Flag, tmp_path: Path) -> None:
    results: Any = fr.map(wait_at, range(6), [2] * 6, [go] * 6, plan=plan, workers=2, task_timeout=1, on_error="return")
    assert isinstance(results[2], fr.TaskTimeoutError)
    assert results[:2] + results[3:] == [0, 1, 3, 4, 5]
    with pytest.raises(fr.TaskTimeoutError):
        fr.map(wait_at, range(3), [2] * 3, [go] * 3, plan=plan, workers=2, task_timeout=1)
    assert fr.report().data["tasks"] >= 5
    go.set()


def wait_at(number: int, worst: int, go: Flag) -> int:
    if number == worst:
        go.wait()
    return number


@pytest.mark.parametrize("imap", [fr.imap, fr.imap_unordered])
def test_a_lazy_map_keeps_the_limit(imap: Any, go: Flag) -> None:
    results = imap(wait_at, range(3), [2] * 3, [go] * 3, plan="processes", workers=1, task_timeout=1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(fr.TaskTimeoutError):
        next(results)


def test_the_interpreter_ends_beside_an_abandoned_thread(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import forkright as fr, time\n"
        "with fr.Executor(1, plan='threads') as executor:\n"
        "    late = executor.options(task_timeout=0.1).submit(time.sleep, 600)\n"
        "    print(type(late.exception()).__name__)\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=LIMIT)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "TaskTimeoutError\n", "")
