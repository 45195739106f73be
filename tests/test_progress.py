"""`progress=` shows how far a map is: true numbers at any moment, a bar that is closed however the map ends."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - whose threads would else be taken for ours
import pytest

import forkright as fr
from scripts import run, start
from waiting import LIMIT, Flag, until

PLANS = ["serial", "threads", "processes", "hybrid", "auto"]


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


class Watcher:
    """A callable for `progress=` that keeps what it is told, and whose last is looked at."""

    def __init__(self) -> None:
        self.told: list[fr.Progress] = []
        self.threads: set[int] = set()

    def __call__(self, progress: fr.Progress) -> None:
        self.threads.add(threading.get_ident())
        self.told.append(progress)

    @property
    def last(self) -> fr.Progress:
        """The last, after a look at whether all of them together make sense."""
        assert [progress.over for progress in self.told] == [False] * (len(self.told) - 1) + [True]
        assert len(self.threads) == 1 and threading.get_ident() not in self.threads
        for before, after in itertools.pairwise(self.told):
            assert before.done <= after.done and before.failed <= after.failed and before.elapsed <= after.elapsed
        for progress in self.told:
            assert progress.failed <= progress.done <= (progress.total or progress.done)
            assert progress.rate == pytest.approx(progress.done / progress.elapsed)
        return self.told[-1]

    def until_over(self) -> fr.Progress:
        until(lambda: self.told and self.told[-1].over, "the display has ended")
        return self.last


def nap(number: int) -> int:
    time.sleep(0.01)
    return number


async def doze(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


def invert(number: int) -> float:
    time.sleep(0.002)
    return 1 / number


def kill_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait_for(flag: Flag) -> None:
    flag.wait()


def maps(watcher: Watcher, plan: Any) -> dict[str, Any]:
    """Every kind of map, of 40 calls each."""

    def on_executor(**options: Any) -> list[int]:
        with fr.Executor(2, plan=plan) as executor:
            return list(executor.map(nap, range(40), progress=watcher, **options))

    def on_terms() -> list[int]:
        with fr.Executor(2, plan=plan) as executor:
            return list(executor.options(task_timeout=60).map(nap, range(40), progress=watcher))

    async def gathered(fn: Any) -> list[int]:
        numbers = range(40)
        return [result async for result in fr.aimap(fn, numbers, plan=plan, progress=watcher)]

    return {
        "map": lambda: fr.map(nap, range(40), plan=plan, progress=watcher),
        "starmap": lambda: fr.starmap(nap, zip(range(40)), plan=plan, progress=watcher),
        "chunks": lambda: fr.map(nap, range(40), plan=plan, chunksize=7, progress=watcher),
        "terms": lambda: fr.map(nap, range(40), plan=plan, task_timeout=60, retries=1, progress=watcher),
        "seed": lambda: fr.map(lambda n, rng: nap(n), range(40), plan=plan, seed=1, progress=watcher),
        "imap": lambda: list(fr.imap(nap, range(40), plan=plan, progress=watcher)),
        "imap in chunks": lambda: list(fr.imap(nap, range(40), plan=plan, chunksize=3, progress=watcher)),
        "imap_unordered": lambda: sorted(fr.imap_unordered(nap, range(40), plan=plan, progress=watcher)),
        "coroutines": lambda: fr.map(doze, range(40), plan=plan, workers=4, progress=watcher),
        "amap": lambda: asyncio.run(fr.amap(nap, range(40), plan=plan, progress=watcher)),
        "amap of coroutines": lambda: asyncio.run(fr.amap(doze, range(40), plan=plan, progress=watcher)),
        "aimap": lambda: asyncio.run(gathered(nap)),
        "aimap of coroutines": lambda: asyncio.run(gathered(doze)),
        "executor": on_executor,
        "executor in chunks": lambda: on_executor(chunksize=7, buffersize=20),
        "options": on_terms,
    }


@pytest.mark.parametrize("kind", maps(Watcher(), "serial"))
def test_every_map_counts_its_calls_to_the_end(kind: str, plan: Any) -> None:
    watcher = Watcher()
    assert maps(watcher, plan)[kind]() == list(range(40))
    last = watcher.last
    assert (last.done, last.failed, last.total) == (40, 0, 40)


def test_the_plan_and_its_workers_are_those_that_run_the_calls() -> None:
    def last(plan: Any, fn: Any = nap) -> tuple[str, int]:
        watcher = Watcher()
        fr.map(fn, range(40), plan=plan, progress=watcher)
        watcher.last
        assert all(progress.workers <= 40 for progress in watcher.told)
        return watcher.told[-1].plan, max(progress.workers for progress in watcher.told)

    assert last("serial") == ("serial", 1)
    assert last(fr.Plan(threads=3)) == ("threads", 3)
    assert last(fr.Plan(processes=2)) == ("processes", 2)
    assert last(fr.Plan(2, 4)) == ("hybrid", 8)
    assert last("auto")[0] == fr.report().plan.kind  # type: ignore[union-attr]
    assert last("auto", doze)[0] == "event loop"


def test_the_plan_is_told_as_it_changes() -> None:
    """Calls that wait: found out while the first of them runs, so it begins with one worker and goes on with more."""
    watcher = Watcher()
    fr.map(time.sleep, [0.25, *[0.02] * 100], plan="auto", progress=watcher)
    assert watcher.last.plan == "threads" and watcher.last.workers > 1
    assert fr.report().plan is not None


def test_no_more_workers_are_told_than_there_are_calls() -> None:
    watcher = Watcher()
    with fr.Executor(8, plan="threads") as executor:
        list(executor.map(time.sleep, [0.05] * 40))
        list(executor.map(nap, range(3), progress=watcher))
    assert watcher.last.workers == 3


@pytest.mark.parametrize(
    ("iterables", "total"),
    [
        (lambda: [range(12)], 12),
        (lambda: [range(12), [0] * 9], 9),
        (lambda: [iter([1, 2, 3])], 3),
        (lambda: [[1, 2], itertools.repeat(1)], 2),
        (lambda: [(n for n in range(12))], None),
        (lambda: [range(12), (n for n in range(12))], None),
    ],
)
def test_the_total_of_a_lazy_map_is_what_is_known_of_it(iterables: Any, total: int | None) -> None:
    watcher = Watcher()
    results = list(fr.imap(lambda *numbers: numbers, *iterables(), plan="threads", progress=watcher))
    assert watcher.last.total == total
    assert watcher.last.done == len(results)


@pytest.mark.parametrize("plan", ["serial", fr.Plan(threads=2)], ids=str)
def test_calls_are_counted_within_their_chunk(plan: Any) -> None:
    watcher = Watcher()

    def call(number: int) -> None:
        if number == 30:
            until(lambda: watcher.told and watcher.told[-1].done >= 30, "30 calls are told of")

    fr.map(call, range(31), plan=plan, chunksize=31, progress=watcher)
    assert watcher.last.done == 31


def test_a_long_call_in_the_calling_thread_that_holds_the_gil_is_shown() -> None:
    watcher = Watcher()

    def compute(_: int) -> None:
        end = time.monotonic() + LIMIT
        while len(watcher.told) < 3 and time.monotonic() < end:
            sum(range(1000))

    fr.map(compute, [0], plan="serial", progress=watcher)
    assert len(watcher.told) > 3
    assert {progress.done for progress in watcher.told[:3]} == {0}


# Ends of all kinds


@pytest.mark.parametrize("kind", ["map", "terms", "imap"])
def test_failures_count_as_done(kind: str, plan: Any) -> None:
    numbers = [1, 0, 2, 0, *range(1, 30)]
    watcher = Watcher()
    if kind == "imap":
        with pytest.raises(ZeroDivisionError):
            list(fr.imap(invert, numbers, plan=plan, progress=watcher))
        assert 1 <= watcher.last.failed <= 2 <= watcher.last.done
        return
    terms: Any = {"task_timeout": 60} if kind == "terms" else {}
    results = fr.map(invert, numbers, plan=plan, on_error="return", progress=watcher, **terms)
    assert sum(isinstance(result, ZeroDivisionError) for result in results) == 2
    assert (watcher.last.done, watcher.last.failed) == (len(numbers), 2)


def test_what_stands_at_a_failure_is_true(plan: Any) -> None:
    numbers = [*range(1, 21), 0, *range(1, 200)]
    watcher = Watcher()
    with pytest.raises(ZeroDivisionError):
        fr.map(invert, numbers, plan=plan, chunksize=50, workers=2, progress=watcher)
    assert watcher.last.failed == 1
    # The calls of its own chunk after it have not been made.
    assert watcher.last.done % 50 in range(20, 22) or plan in ("threads", "serial", "auto")
    assert 21 <= watcher.last.done < len(numbers)


@pytest.mark.parametrize("shape", ["imap", "executor"])
def test_a_lazy_map_takes_back_what_a_failed_chunk_has_not_run(shape: str) -> None:
    watcher = Watcher()
    with pytest.raises(ZeroDivisionError), fr.Executor(1, plan="processes") as executor:
        if shape == "imap":
            list(fr.imap(invert, [1, 2, 0, 3, 4], plan="processes", chunksize=5, progress=watcher))
        else:
            list(executor.map(invert, [1, 2, 0, 3, 4], chunksize=5, progress=watcher))
    assert (watcher.told[-1].done, watcher.told[-1].failed, watcher.told[-1].over) == (3, 1, True)


@pytest.mark.parametrize("plan", ["processes", "hybrid"])
def test_calls_of_a_killed_worker_are_failures(plan: Any) -> None:
    watcher = Watcher()
    results = fr.map(kill_at_three, range(20), plan=plan, chunksize=1, on_error="return", progress=watcher)
    lost = sum(isinstance(result, fr.WorkerDied) for result in results)
    assert lost >= 1
    assert (watcher.last.done, watcher.last.failed) == (20, lost)


@pytest.mark.parametrize("plan", ["threads", "processes", "hybrid"])
def test_a_map_that_runs_out_of_time_ends_its_display(plan: Any, tmp_path: Path) -> None:
    flag = Flag(tmp_path / "go on")
    watcher = Watcher()
    try:
        with pytest.raises(TimeoutError):
            fr.map(wait_for, [flag] * 4, plan=plan, timeout=0.3, progress=watcher)
        assert (watcher.last.done, watcher.last.total) == (0, 4)
    finally:
        flag.set()


def test_a_late_call_is_a_failure() -> None:
    watcher = Watcher()
    results = fr.map(time.sleep, [0, 60, 0], plan="processes", task_timeout=0.2, on_error="return", progress=watcher)
    assert isinstance(results[1], fr.TaskTimeoutError)
    assert (watcher.last.done, watcher.last.failed) == (3, 1)


@pytest.mark.parametrize("plan", ["serial", "threads", "processes"])
def test_an_interrupt_ends_the_display(plan: str, tmp_path: Path) -> None:
    with start(
        f"""
        import forkright as fr, time
        told = []
        def show(progress):
            told.append(progress)
            if progress.done >= 3 and len(told) == 3:
                print("go", flush=True)
        try:
            fr.map(time.sleep, [0.01] * 20 + [0.05] * 100_000, plan={plan!r}, chunksize=1, progress=show)
        except KeyboardInterrupt:
            last = told[-1]
            print(last.over, 3 <= last.done < last.total, [p.over for p in told].count(True))
        """,
        tmp_path,
    ) as script:
        assert script.line() == "go"
        os.kill(script.process.pid, signal.SIGINT)
        assert script.line() == "True True 1"
        assert script.wait() == 0, script.err


def test_a_cancelled_amap_ends_its_display() -> None:
    watcher = Watcher()

    async def cancel() -> None:
        task = asyncio.create_task(fr.amap(doze, range(100_000), progress=watcher))
        while not watcher.told:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert watcher.last.done < 100_000


def test_an_iterator_that_is_left_ends_its_display(plan: Any) -> None:
    for make in (fr.imap, fr.imap_unordered):
        watcher = Watcher()
        results = make(nap, itertools.count(), plan=plan, progress=watcher)
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert watcher.until_over().done >= 1


def test_an_iterator_that_nobody_asks_ends_its_display() -> None:
    watcher = Watcher()
    with fr.Executor(2, plan="threads") as executor:
        results: Iterator[int] | None = executor.map(nap, range(20), progress=watcher)
        until(lambda: watcher.told and watcher.told[-1].done == 20, "all calls are told of, though none is taken")
        assert not watcher.told[-1].over
        results = None
        gc.collect()
        watcher.until_over()
    assert results is None
    watcher = Watcher()
    fr.imap(nap, range(20), progress=watcher)
    assert watcher.told == []


def test_a_program_ends_that_keeps_an_iterator_to_its_end(tmp_path: Path) -> None:
    lines = run(
        """
        import forkright as fr
        results = fr.imap(abs, range(1000), progress=lambda progress: print(progress.over) if progress.over else None)
        next(results)
        with fr.Executor(2) as executor:
            others = executor.map(abs, range(10), progress=lambda progress: None)
        """,
        tmp_path,
    )
    assert lines == ["True"]


# What may be asked for


def test_progress_is_frozen() -> None:
    watcher = Watcher()
    fr.map(abs, [1], progress=watcher)
    with pytest.raises(dataclasses.FrozenInstanceError):
        watcher.last.done = 3  # type: ignore[misc]


@pytest.mark.parametrize("wanted", [None, 3, object(), b"text"])
def test_what_is_no_display_is_refused_before_any_call(wanted: Any) -> None:
    calls: list[int] = []
    for make in (fr.map, fr.imap, fr.imap_unordered):
        with pytest.raises(TypeError, match="progress must be True, False, a description or a callable, not "):
            make(calls.append, [1], progress=wanted)
    with pytest.raises(TypeError, match="progress must be"):
        asyncio.run(fr.amap(calls.append, [1], progress=wanted))
    with fr.Executor(1) as executor, pytest.raises(TypeError, match="progress must be"):
        executor.map(calls.append, [1], progress=wanted)
    assert calls == []


def test_a_callable_that_raises_costs_no_result(plan: Any) -> None:
    told = []

    def show(progress: fr.Progress) -> None:
        told.append(progress)
        raise KeyError("broken")

    with pytest.warns(
        fr.ForkrightWarning, match="show` that shows progress raised KeyError.*test_progress.py:"
    ) as said:
        assert fr.map(nap, range(40), plan=plan, progress=show) == list(range(40))
    assert len(told) == 1
    assert said[0].filename == __file__


def test_without_tqdm_a_bar_is_an_error_before_any_call_and_a_callable_works(tmp_path: Path) -> None:
    lines = run(
        """
        import sys
        sys.modules["tqdm"] = None
        import forkright as fr
        for make in (fr.map, fr.imap):
            for wanted in (True, "text"):
                try:
                    make(print, [1], progress=wanted)
                except ImportError as error:
                    print(error)
        fr.map(abs, [1], progress=lambda progress: print(progress.done))
        """,
        tmp_path,
    )
    assert len(lines) == 5 and lines[-1] == "1"
    assert all("pip install forkright[progress]" in line for line in lines[:4])


def test_nothing_of_it_is_there_unless_asked_for(tmp_path: Path) -> None:
    lines = run(
        """
        import forkright as fr, sys, threading
        fr.map(abs, range(100))
        fr.map(abs, range(100), plan="processes", progress=False)
        list(fr.imap(abs, range(100)))
        print([name for name in sys.modules if name.partition(".")[0] == "tqdm" or "progress" in name])
        print([thread.name for thread in threading.enumerate() if "progress" in thread.name])
        """,
        tmp_path,
    )
    assert lines == ["[]", "[]"]


# The bar


def on_terminal(text: str, folder: Path, **environment: str) -> tuple[str, str]:
    """What a script's terminal shows, which has its standard error, and what its standard output gets."""
    (folder / "script.py").write_text(textwrap.dedent(text))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 120))
    env = {**os.environ, "TERM": "xterm", **environment}
    with open(folder / "out", "wb") as out:
        child = subprocess.Popen(
            [sys.executable, "script.py"], cwd=folder, stdin=theirs, stdout=out, stderr=theirs, env=env
        )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal says that nobody is left on the other side
        pass
    finally:
        os.close(ours)
    assert child.wait(LIMIT) == 0, shown
    return shown.decode(), (folder / "out").read_text()


SLOW = """
import forkright as fr, time
def slow(number):
    time.sleep(0.02)
    return 1 / number
"""


def test_a_terminal_shows_the_plan_and_its_workers(tmp_path: Path) -> None:
    script = SLOW + 'print(len(fr.map(slow, range(1, 61), plan="processes", workers=2, progress="some work")))'
    shown, out = on_terminal(script, tmp_path)
    assert out == "60\n"
    turns = re.findall(r"some work: .*?(\d+)/60 .*?call/s, processes, 2 workers", shown)
    assert len(turns) > 2 and turns[-1] == "60"
    assert [int(turn) for turn in turns] == sorted(int(turn) for turn in turns)
    # Closed: what comes next begins a line of its own.
    assert shown.endswith("\n")


def test_a_bar_is_closed_where_it_was_when_the_map_fails(tmp_path: Path) -> None:
    script = SLOW + (
        "try:\n"
        '    fr.map(slow, [*range(1, 31), 0], plan="threads", workers=1, progress=True)\n'
        "except ZeroDivisionError:\n"
        '    import sys; sys.stderr.write("after")\n'
    )
    shown, _ = on_terminal(script, tmp_path)
    before, after = shown.rsplit("\n", 1)
    assert after == "after"
    assert re.search(r"31/31 .*, 1 failed\]\s*$", before)


def test_a_bar_of_what_has_no_known_length_counts(tmp_path: Path) -> None:
    script = SLOW + 'list(fr.imap(slow, (n for n in range(1, 20)), plan="threads", progress=True))'
    shown, _ = on_terminal(script, tmp_path)
    assert re.search(r"19call \[", shown)


def test_what_is_no_terminal_gets_no_bar_unless_tqdm_is_told_to(tmp_path: Path) -> None:
    script = 'import forkright as fr\nprint(fr.map(abs, [1, 2], progress="some work"))'
    assert run(script, tmp_path) == ["[1, 2]"]
    shown, out = on_terminal(script, tmp_path, TQDM_DISABLE="1")
    assert (shown, out) == ("", "[1, 2]\n")


def test_no_thread_of_tqdms_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    fr.map(abs, [1, 2], progress=True)
    assert [thread.name for thread in threading.enumerate() if "TMonitor" in type(thread).__name__] == []
    assert capsys.readouterr() == ("", "")
