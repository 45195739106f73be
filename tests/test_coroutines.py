"""Coroutine functions in `map` run concurrently on an event loop, within bounds, and the report tells what they did."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from forkright import _map
from scripts import start
from waiting import LIMIT, Tally

PLANS = ["serial", "threads", "processes", "hybrid", "auto", fr.Plan(threads=3), fr.Plan(2), fr.Plan(2, 3)]


async def square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


async def fail_at(number: int, worst: int) -> int:
    await asyncio.sleep(0)
    return tasks.fail_at(number, worst)


class Crowd:
    """Lets nobody go until so many are there at a time, and knows how many there were."""

    def __init__(self, enough: int) -> None:
        self._enough, self.here, self.most = enough, 0, 0
        self._opened = False

    async def join(self, number: int) -> int:
        self.here += 1
        self.most = max(self.most, self.here)
        end = time.monotonic() + LIMIT
        while not self._opened and self.here < self._enough:
            assert time.monotonic() < end
            await asyncio.sleep(0.001)
        self._opened = True
        await asyncio.sleep(0)
        self.here -= 1
        return number


async def meet(number: int, folder: Path, enough: int) -> int:
    """As `Crowd`, in whatever process."""
    Tally(folder).mark(number)
    end = time.monotonic() + LIMIT
    while len(Tally(folder).marks()) < enough:
        assert time.monotonic() < end
        await asyncio.sleep(0.002)
    return os.getpid()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_map_of_a_coroutine_function_gives_what_it_returns_in_order(plan: Any) -> None:
    assert fr.map(square, range(50), plan=plan) == [n * n for n in range(50)]
    assert fr.starmap(fail_at, [(n, 9) for n in range(3)], plan=plan) == [0, 1, 2]
    assert fr.map(square, [], plan=plan) == []


def test_calls_are_under_way_together_up_to_a_hundred_or_to_workers() -> None:
    crowd = Crowd(100)
    assert fr.map(crowd.join, range(150)) == list(range(150))
    assert crowd.most == 100
    for options, most in [
        ({"workers": 3}, 3),
        ({"workers": 120}, 120),
        ({"plan": "serial"}, 1),
        ({"plan": fr.Plan(threads=4)}, 4),
    ]:
        crowd = Crowd(most)
        fr.map(crowd.join, range(most * 2), **options)  # type: ignore[arg-type]
        assert crowd.most == most


def test_each_worker_process_runs_many_calls_at_a_time(tmp_path: Path) -> None:
    where = fr.starmap(meet, [(n, tmp_path, 20) for n in range(20)], plan=fr.Plan(2))
    assert len(set(where)) == 2 and os.getpid() not in where


def test_a_map_runs_beside_a_loop_that_runs_already() -> None:
    async def main() -> tuple[list[int], int]:
        own = threading.get_ident()

        async def thread(_: int) -> int:
            return threading.get_ident()

        return fr.map(thread, range(3)), own

    found, own = asyncio.run(main())
    assert len(set(found)) == 1 and own not in found


@pytest.mark.parametrize("beside", [False, True])
def test_calls_see_the_callers_context_variables_and_not_each_others(beside: bool) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def get_and_set(number: int) -> int:
        seen = variable.get()
        variable.set(number)
        await asyncio.sleep(0)
        return seen

    async def main() -> list[int]:
        return fr.map(get_and_set, range(1, 9), workers=2)

    token = variable.set(7)
    assert (asyncio.run(main()) if beside else fr.map(get_and_set, range(1, 9), workers=2)) == [7] * 8
    variable.reset(token)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_first_failure_ends_a_map_or_takes_its_place(plan: Any) -> None:
    with pytest.raises(ValueError, match="item 5"):
        fr.starmap(fail_at, [(n, 5) for n in range(6)], plan=plan)
    results = fr.map(partial(fail_at, worst=3), range(5), plan=plan, on_error="return")
    assert results[:3] == [0, 1, 2]
    assert [str(error) for error in results[3:]] == ["item 3", "item 4"]


def test_a_failure_cancels_what_is_under_way_and_starts_no_more() -> None:
    begun, ended = [], []

    async def work(number: int) -> None:
        begun.append(number)
        try:
            if number == 2:
                raise ValueError("two")
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="two"):
        fr.map(work, range(100), workers=3)
    assert begun == [0, 1, 2]
    assert sorted(ended) == begun


@pytest.mark.parametrize("plan", ["auto", fr.Plan(2)], ids=str)
def test_a_map_whose_time_is_up_says_how_far_it_came(plan: Any) -> None:
    with pytest.raises(TimeoutError, match="0 of 4 tasks of `sleep` were done"):
        fr.map(asyncio.sleep, [60] * 4, timeout=0.05, plan=plan)


@pytest.mark.parametrize("plan", ["auto", fr.Plan(2)], ids=str)
def test_a_call_that_is_late_is_cancelled_alone(plan: Any) -> None:
    late, value = fr.starmap(
        asyncio.sleep, [(60, "late"), (0, "in time")], plan=plan, task_timeout=0.2, on_error="return"
    )
    assert value == "in time"
    assert isinstance(late, fr.TaskTimeoutError)
    assert str(late) == "`sleep` ran for longer than its task_timeout of 0.2 s: the coroutine was cancelled"


def test_a_result_that_can_not_travel_is_its_own_calls_failure() -> None:
    async def give(number: int) -> Any:
        return threading.Lock() if number == 1 else number

    first, lock, last = fr.map(give, range(3), plan=fr.Plan(1), on_error="return")
    assert (first, last) == (0, 2)
    assert isinstance(lock, fr.UnpicklableError)


def test_waiting_in_a_coroutine_is_io_in_the_report() -> None:
    fr.map(asyncio.sleep, [0.1] * 5)
    data = fr.report().data
    assert data["reading"]["io"]["share"] > 0.5
    assert data["loop"] | {"steps": 0} == {"at_once": 100, "most": 5, "steps": 0, "hog": None}
    assert (
        fr.report().why
        == "an event loop in this process and up to 100 calls at a time, as `sleep` is a coroutine function"
    )
    assert "reads, writes or sleeps" in str(fr.report())


@pytest.mark.parametrize("plan", ["auto", fr.Plan(2)], ids=str)
def test_a_coroutine_that_hogs_the_loop_is_named_with_how_long(plan: Any) -> None:
    async def hog(number: int) -> None:
        await asyncio.sleep(0)
        if number == 3:
            time.sleep(0.15)

    fr.map(hog, range(4), plan=plan)
    told = fr.report().data["loop"]["hog"]
    assert (told["function"].rpartition(".")[2], told["item"]) == ("hog", 3)
    assert told["seconds"] >= 0.15
    text = " ".join(str(fr.report()).split())
    assert "hog` (item 3) ran for" in text
    assert "it hardly computed in that time: a call that blocks?" in text


class Callable:
    async def __call__(self, number: int) -> int:
        return number

    async def method(self, number: int) -> int:
        return number


def test_coroutine_functions_are_known_in_all_their_shapes() -> None:
    for fn in (square, partial(partial(fail_at), worst=9), Callable(), Callable().method):
        assert fr.map(fn, [0]) == [0]

    def plain(_: int) -> Iterator[int]:
        yield 1

    for other in (plain, tasks.square, abs, partial(tasks.square), Callable, len):
        assert not _map.is_coroutine_function(other)


def test_ctrl_c_ends_a_map_of_coroutines_and_lets_them_clean_up(tmp_path: Path) -> None:
    text = """
        import asyncio
        import forkright as fr

        async def work(number):
            print("begun", flush=True)
            try:
                await asyncio.sleep(60)
            finally:
                print("ended", flush=True)

        try:
            fr.map(work, range(2))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    with start(text, tmp_path) as script:
        assert [script.line(), script.line()] == ["begun", "begun"]
        script.process.send_signal(signal.SIGINT)
        assert script.wait() == 0, script.err
        assert script.out.splitlines() == ["ended", "ended", "interrupted"]
