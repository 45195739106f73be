"""Nothing is left of a script, however it ends. What is left of the whole suite is checked in `conftest`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import Script, start
from waiting import until

BUSY = """
    import os, sys, time
    import forkright as fr
    def hold(number):
        open(f"begun {number}", "x").close()
        time.sleep(10_000)
    def square(number):
        return number * number
    fr.map(square, range(10), plan="processes")
    fr.map(square, range(10), plan="threads")
    pool = fr.ProcessPoolExecutor(2)
    mixed = fr.Executor(plan=fr.Plan(1, 2))
    print(pool.submit(square, 3).result(), mixed.submit(square, 3).result(), flush=True)
"""


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "raise SystemExit(0)",
        "pool.shutdown(); mixed.shutdown()",
        "del pool, mixed",
        "fr.map(square, range(9))",
    ],
    ids=["normally", "by exit", "shut down", "dropped", "after another map"],
)
def test_a_script_that_ends_leaves_nothing(tmp_path: Path, ending: str) -> None:
    with start(BUSY + f"\n    {ending}\n", tmp_path) as script:
        assert script.wait() == 0, script.err
        assert script.err == ""
        script.until_gone()


def test_a_script_that_ends_by_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with start(BUSY + "\n    raise LookupError('the end')\n", tmp_path) as script:
        assert script.wait() == 1
        assert script.err.count("Traceback") == 1 and script.err.endswith("LookupError: the end\n"), script.err
        script.until_gone()


def test_a_script_that_exits_at_once_leaves_nothing(tmp_path: Path) -> None:
    hold = "\n    pool.submit(hold, 1); mixed.submit(hold, 2)\n    while len(os.listdir('.')) < 3: time.sleep(0.001)\n"
    with start(BUSY + hold + "    os._exit(5)\n", tmp_path) as script:
        assert script.wait() == 5
        script.until_gone()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_a_script_that_is_killed_while_workers_are_busy_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    with busy(tmp_path) as script:
        os.kill(script.process.pid, how)
        assert script.wait() == -how
        script.until_gone()


def test_workers_of_a_killed_script_go_although_a_child_that_it_forked_lives_on(tmp_path: Path) -> None:
    fork = """
    child = os.fork()
    if child == 0:
        os.close(1); os.close(2)
        time.sleep(10_000)
    print(child, flush=True)
    time.sleep(10_000)
    """
    with start(BUSY + fork, tmp_path) as script:
        assert script.line() == "9 9"
        child = int(script.line())
        script.process.kill()
        assert script.wait() == -signal.SIGKILL
        until(lambda: script.family() == {child}, f"only the child is left; there are {script.family()}")


@contextlib.contextmanager
def busy(folder: Path) -> Iterator[Script]:
    """A script whose workers are all in calls that last for ever."""
    calls = """
    futures = [pool.submit(hold, n) for n in (0, 1)] + [mixed.submit(hold, n) for n in (2, 3)]
    import concurrent.futures
    concurrent.futures.wait(futures)
    print("all answered", flush=True)
    """
    with start(BUSY + calls, folder) as script:
        assert script.line() == "9 9"
        until(lambda: len(list(folder.glob("begun *"))) == 4, "all calls run")
        yield script


def test_a_script_whose_zygote_is_killed_gets_its_answers_and_leaves_nothing(tmp_path: Path) -> None:
    with busy(tmp_path) as script:
        os.kill(script.zygote(), signal.SIGKILL)
        assert script.line() == "all answered"
        assert script.wait() == 0, script.err
        script.until_gone()


@pytest.mark.parametrize("whom", ["workers", "workers and zygote", "zygote"])
def test_an_executor_goes_on_when_all_its_processes_are_killed_at_once(tmp_path: Path, whom: str) -> None:
    with start(
        """
        import os, sys, time
        import forkright as fr
        def hold(number):
            open(f"begun {number}", "x").close()
            time.sleep(10_000)
        def square(number):
            return number * number
        def descriptors(): return len(os.listdir("/proc/self/fd"))
        with fr.Executor(plan=fr.Plan(3)) as pool:
            print([pool.submit(square, number).result() for number in range(3)], flush=True)
            futures = [pool.submit(hold, number) for number in range(3)]
            while len([name for name in os.listdir() if name.startswith("begun")]) < 3:
                time.sleep(0.001)
            before = descriptors()
            waiting = [pool.submit(square, number) for number in range(50)]
            print("busy", flush=True)
            print({type(future.exception()).__name__ for future in futures})
            print([future.result() for future in waiting] == [number * number for number in range(50)])
            end = time.monotonic() + 10
            while descriptors() > before and time.monotonic() < end:
                time.sleep(0.01)
            print(descriptors() <= before, len(pool._pool.pids()) <= 3)
        print(fr.map(square, range(4), plan="processes"))
        """,
        tmp_path,
    ) as script:
        assert script.line() == "[0, 1, 4]"
        assert script.line() == "busy"
        zygote = script.zygote()
        workers = script.family() - {script.process.pid, zygote}
        assert len(workers) == 3
        for pid in {zygote} if whom == "zygote" else workers | ({zygote} if "zygote" in whom else set()):
            os.kill(pid, signal.SIGKILL)
        assert script.wait() == 0, script.err
        assert script.out.splitlines() == ["{'WorkerDied'}", "True", "True True", "[0, 1, 4, 9]"]
        script.until_gone()


def test_programs_that_tasks_started_live_on_when_the_script_is_killed(tmp_path: Path) -> None:
    with start(
        """
        import subprocess, sys
        import forkright as fr
        def begin():
            return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid
        with fr.Executor(plan=fr.Plan(1)) as pool:
            print(pool.submit(begin).result(), flush=True)
            input()
        """,
        tmp_path,
    ) as script:
        child = int(script.line())
        script.process.kill()
        until(lambda: script.family() == {child}, f"only the program is left; there are {script.family()}")


def test_a_script_that_ends_while_a_thread_maps_leaves_nothing(tmp_path: Path) -> None:
    with start(
        """
        import threading, time, forkright as fr
        def work(number):
            time.sleep(0.001)
            return number
        def forever():
            while True:
                fr.map(work, range(50), plan="processes")
                begun.set()
        begun = threading.Event()
        threading.Thread(target=forever, daemon=True).start()
        begun.wait()
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        script.until_gone()


def test_scripts_leave_nothing_in_shared_memory(tmp_path: Path) -> None:
    before = shared_memory()
    with start(
        """
        import forkright as fr
        def big(number): return bytes(5_000_000)
        print(len(fr.map(big, range(4), plan="processes")), flush=True)
        import os; os.kill(os.getpid(), 9)
        """,
        tmp_path,
    ) as script:
        assert script.line() == "4"
        assert script.wait() == -signal.SIGKILL
        script.until_gone()
    assert not {name for name in shared_memory() - before if "forkright" in name}


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor", "Executor"])
def test_executors_made_and_dropped_by_the_hundred_leave_no_descriptors(tmp_path: Path, kind: str) -> None:
    with start(
        """
        import gc, os, sys, time, forkright as fr
        make = getattr(fr, sys.argv[1])
        def descriptors(): return len(os.listdir("/proc/self/fd"))
        def tasks(): return len(os.listdir("/proc/self/task"))
        def use():
            with make(2) as pool:
                pool.submit(abs, -1).result()
        use()
        gc.collect()
        before, threads = descriptors(), tasks()
        for _ in range(100):
            use()
        gc.collect()
        end = time.monotonic() + 30
        while (descriptors() > before or tasks() > threads) and time.monotonic() < end:
            time.sleep(0.01)
        print(max(0, descriptors() - before), max(0, tasks() - threads))
        """,
        tmp_path,
        arguments=(kind,),
    ) as script:
        assert script.wait() == 0, script.err
        assert script.out == "0 0\n"
        script.until_gone()
