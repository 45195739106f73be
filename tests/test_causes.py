"""The error of a worker's death says what is known of its cause: where native code crashed, or that memory ran out."""

from __future__ import annotations

import os
import pickle
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from scripts import run, start
from waiting import LIMIT, Flag, until

PLANS = [fr.Plan(1), fr.Plan(1, 3)]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("how", ["null", "SIGABRT", "SIGFPE", "SIGBUS", "SIGILL"])
def test_a_crash_is_told_with_the_users_traceback(plan: Any, how: str) -> None:
    with fr.Executor(plan=plan) as executor:
        error = executor.submit(tasks.crash, how).exception(LIMIT)
    assert isinstance(error, fr.WorkerDied)
    assert error.traceback.startswith("Fatal Python error: ") and error.traceback in str(error)
    frames = [line for line in error.traceback.splitlines() if line.startswith("  File ")]
    assert any(line.endswith("in crash") and "tasks.py" in line for line in frames), error.traceback
    # Of the package, not of any folder that is called so.
    package = os.path.dirname(fr.__file__) + os.sep
    assert not any(package in line for line in frames), error.traceback
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.traceback, again.exitcode) == (str(error), error.traceback, error.exitcode)


def test_an_item_that_crashes_is_told_with_the_users_traceback() -> None:
    with pytest.raises(fr.WorkerDied, match=r"in die_at"):
        fr.map(tasks.die_at, range(10), [5] * 10, ["null"] * 10, plan=fr.Plan(2))


def test_what_was_no_crash_has_no_traceback() -> None:
    with fr.Executor(plan=fr.Plan(1)) as executor:
        for how in ("exit", "SIGKILL", "SIGTERM"):
            error = executor.submit(tasks.die, how).exception(LIMIT)
            assert isinstance(error, fr.WorkerDied) and error.traceback == "" and "\n" not in str(error)


def crash_in_a_fork() -> None:
    if os.fork() == 0:
        tasks.die("null")
    os.wait()
    tasks.die("SIGKILL")


def test_the_crash_of_a_child_is_not_taken_for_the_workers() -> None:
    with fr.Executor(plan=fr.Plan(1)) as executor:
        error = executor.submit(crash_in_a_fork).exception(LIMIT)
    assert isinstance(error, fr.WorkerDied) and error.exitcode == -signal.SIGKILL and error.traceback == ""


@pytest.mark.parametrize("flags", [(), ("-X", "faulthandler")])
def test_a_faulthandler_of_the_users_own_stays_his(tmp_path: Path, flags: tuple[str, ...]) -> None:
    enable = "" if flags else "faulthandler.enable(open('own.txt', 'w'))"
    with start(
        f"""
        import ctypes, faulthandler
        import forkright as fr
        def crash():
            {enable}
            ctypes.string_at(0)
        with fr.Executor(plan=fr.Plan(1)) as executor:
            error = executor.submit(crash).exception()
            print(repr(error.traceback))
        """,
        tmp_path,
        *flags,
    ) as script:
        assert script.wait() == 0, script.err
        assert script.out == "''\n"
        told = script.err if flags else (tmp_path / "own.txt").read_text()
        assert "Segmentation fault" in told and "in crash" in told


def test_a_task_may_ask_for_the_faulthandler_without_a_crash(tmp_path: Path) -> None:
    lines = run(
        """
        import faulthandler, sys
        import forkright as fr
        def dump():
            with open("dump.txt", "w") as file:
                faulthandler.dump_traceback(file)
        with fr.Executor(plan=fr.Plan(1)) as executor:
            executor.submit(dump).result()
        print("in dump" in open("dump.txt").read(), faulthandler.is_enabled())
        """,
        tmp_path,
    )
    assert lines == ["True False"]


def test_workers_that_end_with_their_helper_say_so(tmp_path: Path) -> None:
    with start(
        """
        import signal
        import forkright as fr
        def hold():
            open("held", "x").close()
            signal.pause()
        with fr.Executor(plan=fr.Plan(1)) as executor:
            print(executor.submit(hold).exception())
        """,
        tmp_path,
    ) as script:
        until((tmp_path / "held").exists, "the call runs")
        os.kill(script.zygote(), signal.SIGKILL)
        assert script.wait() == 0, script.err
        assert "helper process" in script.out and "`hold`" in script.out, script.out


def test_workers_that_the_executor_ended_say_so(tmp_path: Path) -> None:
    started, go = Flag(tmp_path / "started"), Flag(tmp_path / "go")
    with fr.Executor(plan=fr.Plan(1)) as executor:
        future = executor.submit(tasks.hold, started, go)
        started.wait()
        executor.kill_workers()
        assert "was told to end its workers" in str(future.exception(LIMIT))


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group whose processes have 200 MB; skips where none can be made."""
    limits = {"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"}
    for root, limit in limits.items():
        group = Path(root, f"forkright-test-{uuid.uuid4().hex}")
        try:
            if not (Path(root) / "cgroup.procs").exists():
                continue
            group.mkdir()
            (group / limit).write_text(str(200 * 10**6))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        until(lambda: _removed(group), "the control group is empty")
        return
    pytest.skip("no control group can be made here")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_a_worker_that_the_kernel_kills_for_want_of_memory_says_so(little_memory: Path, tmp_path: Path) -> None:
    with start(
        f"""
        import os
        import forkright as fr
        with open({str(little_memory / "cgroup.procs")!r}, "w") as procs:
            procs.write(str(os.getpid()))
        def devour():
            with open("/proc/self/oom_score_adj", "w") as score:
                score.write("1000")
            eaten = []
            while True:
                eaten.append(bytearray(os.urandom(10**6)))
        with fr.Executor(plan=fr.Plan(2)) as executor:
            print(executor.submit(abs, -1).result())
            print(executor.submit(devour).exception())
            print(executor.submit(abs, -2).result())
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        first, error, after = script.out.splitlines()
        assert (first, after) == ("1", "2")
        assert "`devour`" in error and "SIGKILL" in error
        assert "probably by the kernel, for want of memory" in error, error
