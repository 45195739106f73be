"""Ctrl-C gives the caller one KeyboardInterrupt, ends worker processes, and writes one traceback; a second is immediate."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts import Script, start
from waiting import until

AWAY = ["processes", "hybrid"]
PLANS = [*AWAY, "auto", "threads"]

# What the script does with calls that last for ever, and what waits behind them.
SHAPES = {
    "result": "ex = make(); futures = submit(ex); futures[0].result()",
    "with": "with make() as ex: submit(ex)[0].result()",
    "shutdown": "with make() as ex: submit(ex)",
    "end": "ex = make(); submit(ex)",
    "executor map": "with make() as ex: list(ex.map(hold, range(100)))",
    "map": "fr.map(hold, range(100), plan=plan)",
    "imap": "list(fr.imap(hold, range(100), plan=plan))",
    "wait": "import concurrent.futures as cf; ex = make(); cf.wait(submit(ex))",
}

TEXT = """
import os, sys, time
import forkright as fr
plan = {"processes": fr.Plan(2), "hybrid": fr.Plan(1, 2), "auto": "auto", "threads": fr.Plan(threads=2)}[sys.argv[1]]
def make():
    return fr.Executor(plan=plan)
def hold(number=0):
    open(f"begun {number}", "x").close()
    while True:
        time.sleep(LONG)
def submit(ex):
    return [ex.submit(hold, number) for number in range(100)]
SHAPE
"""


@contextmanager
def under_way(folder: Path, plan: str, shape: str, long: str = "10_000") -> Iterator[Script]:
    text = TEXT.replace("SHAPE", SHAPES[shape]).replace("LONG", long)
    with start(text, folder, arguments=(plan,)) as script:
        until(lambda: list(folder.glob("begun *")), "a call runs")
        if shape == "end":
            until(lambda: _waits_at_its_end(script), "the script is at its end")
        yield script


def _waits_at_its_end(script: Script) -> bool:
    """It has no other way to tell: its main thread sleeps, and all of its lines are done."""
    return Path(f"/proc/{script.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def interrupt(script: Script) -> None:
    """As a terminal does: all processes of the group."""
    os.killpg(script.process.pid, signal.SIGINT)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plan", AWAY)
def test_one_interrupt_ends_a_program_whose_workers_run_for_ever(tmp_path: Path, plan: str, shape: str) -> None:
    with under_way(tmp_path, plan, shape) as script:
        interrupt(script)
        code = script.wait()
        assert script.err.count("KeyboardInterrupt") == 1, script.err
        assert script.err.count("Traceback") <= 1 and script.err.rstrip(": \n").endswith("KeyboardInterrupt"), (
            script.err
        )
        # An interrupt in the interpreter's own end leaves its exit code as it was.
        assert code == -signal.SIGINT or (shape == "end" and code == 0)
        script.until_gone()


@pytest.mark.parametrize("shape", ["result", "with", "map", "end"])
@pytest.mark.parametrize("plan", ["threads", "auto"])
def test_a_second_interrupt_ends_a_program_whose_threads_run_for_ever(tmp_path: Path, plan: str, shape: str) -> None:
    with under_way(tmp_path, plan, shape) as script:
        interrupt(script)
        if shape != "end":
            # It says so while it waits for its threads.
            assert script.process.stderr is not None
            if shape != "with":
                lines = iter(script.process.stderr.readline, "")
                assert any(line == "KeyboardInterrupt\n" for line in lines)
        until(lambda: _interrupted_again(script), "the program ends")
        assert script.process.returncode == -signal.SIGINT
        script.until_gone()


def _interrupted_again(script: Script) -> bool:
    if script.process.poll() is None:
        interrupt(script)
    return script.process.poll() is not None


def test_an_interrupt_ends_a_map_whose_calling_thread_runs_one_of_many_calls(tmp_path: Path) -> None:
    text = """
        import threading, time
        import forkright as fr
        def hold(number):
            if threading.current_thread() is threading.main_thread():
                open("begun here", "x").close()
            open(f"begun {number}", "x").close()
            while True:
                time.sleep(10_000)
        try:
            fr.map(hold, range(100))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    with start(text, tmp_path) as script:
        until(lambda: len(list(tmp_path.glob("begun *"))) > 3, "calls run beside the calling thread's")
        assert (tmp_path / "begun here").exists()
        interrupt(script)
        assert script.line() == "interrupted"
        # It waits for its threads.
        until(lambda: _interrupted_again(script), "the program ends")
        script.until_gone()


@pytest.mark.parametrize("plan", ["serial", "threads", "processes"])
def test_an_interrupt_ends_a_map_whose_calling_thread_neither_sleeps_long_nor_runs_python(
    tmp_path: Path, plan: str
) -> None:
    with start(
        f"""
        import signal, threading, zlib
        import forkright as fr
        told = []
        def interrupt(progress):
            told.append(progress)
            if len(told) == 3:
                # On this thread, so that it wakes no other.
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        try:
            fr.map(zlib.crc32, [bytes(1_000_000)] * 20_000, plan={plan!r}, chunksize=1, progress=interrupt)
        except KeyboardInterrupt:
            print(told[-1].done < told[-1].total)
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        assert script.out == "True\n"


def test_an_interrupt_that_is_caught_in_the_block_leaves_the_executor_as_it_is(tmp_path: Path) -> None:
    with start(
        """
        import os, time
        import forkright as fr
        def hold():
            open("begun", "x").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
            return 5
        with fr.Executor(plan=fr.Plan(1)) as executor:
            future = executor.submit(hold)
            try:
                future.result()
            except KeyboardInterrupt:
                open("go", "x").close()
            print(future.result(), executor.submit(abs, -6).result())
        """,
        tmp_path,
    ) as script:
        until((tmp_path / "begun").exists, "the call runs")
        interrupt(script)
        assert script.wait() == 0, script.err
        assert (script.out, script.err) == ("5 6\n", "")
        script.until_gone()


def test_calls_that_an_interrupted_block_leaves_are_cancelled_or_fail(tmp_path: Path) -> None:
    with start(
        """
        import os, time
        import forkright as fr
        def hold(number):
            open(f"begun {number}", "x").close()
            time.sleep(10_000)
        try:
            with fr.Executor(plan=fr.Plan(2)) as executor:
                futures = [executor.submit(hold, number) for number in range(50)]
                futures[0].result()
        except KeyboardInterrupt:
            died = [future for future in futures if not future.cancelled()]
            print(len(died), {type(future.exception()).__name__ for future in died})
            print(fr.map(abs, [-1, -2], plan="processes"))
        """,
        tmp_path,
    ) as script:
        until(lambda: len(list(tmp_path.glob("begun *"))) == 2, "two calls run")
        interrupt(script)
        assert script.wait() == 0, script.err
        assert (script.out, script.err) == ("2 {'WorkerDied'}\n[1, 2]\n", "")
        script.until_gone()


def test_what_a_task_started_ends_with_an_interrupted_block(tmp_path: Path) -> None:
    with start(
        """
        import signal, subprocess, sys
        import forkright as fr
        def work():
            code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); open('begun', 'x').close(); signal.pause()"
            subprocess.run([sys.executable, "-c", code])
        with fr.Executor(plan=fr.Plan(1)) as executor:
            executor.submit(work).result()
        """,
        tmp_path,
    ) as script:
        until((tmp_path / "begun").exists, "the program runs")
        interrupt(script)
        assert script.wait() == -signal.SIGINT
        script.until_gone()
