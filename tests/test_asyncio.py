"""`amap`, `aimap` and ``await future`` leave the event loop free, and being cancelled reaches the calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, Tally, until

PLANS = ["serial", "threads", "processes", "hybrid", "auto"]
PROCESSES = ["processes", "hybrid"]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, LIMIT))


async def until_set(*flags: Flag) -> None:
    while not all(flag.is_set() for flag in flags):
        await asyncio.sleep(0.002)


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


async def square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


async def linger(started: Flag, ended: Flag) -> None:
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()


def tell_pid_and_hold(file: Path, go: Flag) -> None:
    file.with_suffix(".new").write_text(str(os.getpid()))
    file.with_suffix(".new").rename(file)
    go.wait()


async def tell_pid_and_linger(file: Path, _: Flag) -> None:
    file.write_text(str(os.getpid()))
    await asyncio.Event().wait()


# Executors


@pytest.mark.parametrize("plan", PLANS)
def test_a_loop_runs_calls_on_an_executor_of_any_plan(plan: Any) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with fr.Executor(plan=plan) as executor:
            calls = [loop.run_in_executor(executor, tasks.add, number, 1) for number in range(20)]
            return await asyncio.gather(*calls)

    assert run(main()) == list(range(1, 21))


# amap


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("fn", [tasks.square, square])
def test_amap_gives_what_map_gives(fn: Any, plan: Any) -> None:
    async def main() -> None:
        assert await fr.amap(fn, range(100), plan=plan) == [n * n for n in range(100)]
        assert await fr.amap(fn, [], plan=plan) == []
        assert fr.report().data["done"] == 0

    run(main())


def test_amap_takes_chunks_and_several_iterables() -> None:
    async def main() -> None:
        assert await fr.amap(tasks.add, range(20), range(10), plan="processes", chunksize=3) == list(range(0, 20, 2))
        assert await fr.amap(square, range(20), plan=fr.Plan(2), chunksize=3) == [n * n for n in range(20)]

    run(main())


@pytest.mark.parametrize("plan", PLANS)
def test_the_loop_goes_on_while_amap_waits(plan: Any, tmp_path: Path, go: Flag) -> None:
    started = Flag(tmp_path / "started")

    async def main() -> None:
        waiting = asyncio.create_task(fr.amap(tasks.hold, [started], [go], plan=plan))
        await until_set(started)
        # Only the loop can end the call that it would be waiting for.
        go.set()
        assert len(await waiting) == 1

    run(main())


@pytest.mark.parametrize("plan", PLANS)
def test_a_failure_is_raised_by_amap_or_takes_its_place(plan: Any) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="item 5"):
            await fr.amap(tasks.fail_at, range(6), [5] * 6, plan=plan)
        first, second = await fr.amap(tasks.fail_at, range(2), [1] * 2, plan=plan, on_error="return")
        assert first == 0 and str(second) == "item 1"

    run(main())


def test_amap_raises_what_a_loop_would_take_for_its_own() -> None:
    def stop(_: int) -> None:
        raise StopIteration("mine")

    async def main() -> None:
        with pytest.raises(StopIteration, match="mine"):
            try:
                await fr.amap(stop, [1], plan="threads")
            except RuntimeError as error:  # a coroutine may not raise it
                raise error.__cause__ or error from None

    run(main())


@pytest.mark.parametrize("fn", [tell_pid_and_hold, tell_pid_and_linger])
@pytest.mark.parametrize("plan", PROCESSES)
def test_cancelling_amap_kills_what_runs_in_worker_processes(plan: Any, fn: Any, tmp_path: Path, go: Flag) -> None:
    file = tmp_path / "pid"

    async def main() -> None:
        waiting = asyncio.create_task(fr.amap(fn, [file], [go], plan=plan))
        await until_set(Flag(file))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert not Path("/proc", file.read_text()).exists()

    run(main())


@pytest.mark.parametrize("plan", PLANS)
def test_cancelling_amap_cancels_what_has_not_begun(plan: Any, tmp_path: Path, go: Flag) -> None:
    tally = Tally(tmp_path / "begun")

    async def main() -> None:
        names = range(400)
        waiting = asyncio.create_task(
            fr.amap(tasks.mark_and_wait, [tally] * 400, names, [go] * 400, plan=plan, workers=2)
        )
        while not tally.marks():
            await asyncio.sleep(0.002)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()

    run(main())
    until(lambda: not any(thread.name.startswith("forkright-amap") for thread in threading.enumerate()), "it is over")
    assert len(tally.marks()) < 50


def test_cancelling_amap_cancels_coroutines_and_awaits_their_end(tmp_path: Path) -> None:
    flags = [[Flag(tmp_path / f"{what}{number}") for number in range(3)] for what in ("started", "ended")]

    async def main() -> None:
        waiting = asyncio.create_task(fr.amap(linger, *flags))
        await until_set(*flags[0])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert all(flag.is_set() for flag in flags[1])

    run(main())


@pytest.mark.parametrize("plan", PLANS)
def test_amap_ends_when_its_time_is_up(plan: Any, tmp_path: Path, go: Flag) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError, match="0 of 2 tasks of `hold` were done when the time was up"):
            await fr.amap(
                tasks.hold, [Flag(tmp_path / "one"), Flag(tmp_path / "two")], [go] * 2, plan=plan, timeout=0.1
            )

    run(main())


def test_amap_outside_of_a_loop_says_so() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        fr.amap(tasks.square, [1]).send(None)


# aimap


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("fn", [tasks.square, square])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_aimap_gives_results_in_order(fn: Any, plan: Any, chunksize: int) -> None:
    async def main() -> None:
        results = [result async for result in fr.aimap(fn, range(50), plan=plan, chunksize=chunksize)]
        assert results == [n * n for n in range(50)]

    run(main())


class Items:
    """An endless asynchronous iterable that knows how much of it was read."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0)
            self.read += 1
            yield self.read - 1


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("fn", [tasks.square, square])
def test_an_endless_asynchronous_iterable_is_read_as_results_are_taken(fn: Any, plan: Any) -> None:
    async def main() -> None:
        items, taken = Items(), 0
        async with contextlib.aclosing(fr.aimap(fn, items, plan=plan, workers=2, buffersize=5)) as results:
            async for result in results:
                assert result == taken * taken
                taken += 1
                assert items.read <= taken + 5
                if taken == 40:
                    break

    run(main())


def test_a_slow_source_holds_up_no_result() -> None:
    async def main() -> None:
        more = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            yield 3
            await more.wait()
            yield 4

        results = fr.aimap(tasks.square, source(), plan="threads")
        assert await anext(results) == 9
        more.set()
        assert await anext(results) == 16
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


def test_plain_and_asynchronous_iterables_are_walked_together() -> None:
    async def main() -> None:
        items = Items()
        assert [result async for result in fr.aimap(tasks.add, [10, 20, 30], items)] == [10, 21, 32]

    run(main())


@pytest.mark.parametrize("fn", [tell_pid_and_hold, tell_pid_and_linger])
def test_leaving_the_loop_early_ends_what_runs(fn: Any, tmp_path: Path, go: Flag) -> None:
    files = [tmp_path / "one", tmp_path / "two"]

    async def main() -> None:
        results = fr.aimap(fn, files, [go] * 2, plan=fr.Plan(2))
        first = asyncio.create_task(anext(results))
        await until_set(*map(Flag, files))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await results.aclose()
        assert not any(Path("/proc", file.read_text()).exists() for file in files)

    run(main())


def test_a_break_ends_coroutines_under_way(tmp_path: Path) -> None:
    started, ended = Flag(tmp_path / "started"), Flag(tmp_path / "ended")

    async def work(number: int) -> int:
        if number:
            await linger(started, ended)
        return number

    async def main() -> None:
        async for result in fr.aimap(work, range(2)):
            assert result == 0
            await until_set(started)
            break
        gc.collect()
        await until_set(ended)

    run(main())


@pytest.mark.parametrize("plan", PLANS)
def test_what_came_before_an_error_is_delivered_first(plan: Any) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    async def fail_at(number: int, worst: int) -> int:
        return tasks.fail_at(number, worst)

    async def main() -> None:
        for fn in (tasks.fail_at, fail_at):
            for chunksize in (1, 5):
                taken = []
                with pytest.raises(ValueError, match="item 3"):
                    async for result in fr.aimap(fn, range(9), [3] * 9, plan=plan, chunksize=chunksize):
                        taken.append(result)
                assert taken == [0, 1, 2]
        taken = []
        with pytest.raises(LookupError, match="no more"):
            async for result in fr.aimap(tasks.square, source(), plan=plan, chunksize=5):
                taken.append(result)
        assert taken == [1, 4]

    run(main())


@pytest.mark.parametrize("plan", ["threads", "processes"])
def test_aimap_does_not_wait_longer_than_its_timeout(plan: Any, tmp_path: Path, go: Flag) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async for _ in fr.aimap(tasks.hold, [Flag(tmp_path / "held")], [go], plan=plan, timeout=0.1):
                pass

    run(main())


# Futures


@pytest.mark.parametrize("plan", PLANS)
def test_a_future_can_be_awaited_in_asyncio(plan: Any) -> None:
    async def main() -> None:
        with fr.Executor(plan=plan) as executor:
            assert await executor.submit(tasks.square, 4) == 16
            done = executor.submit(tasks.square, 5)
            done.result()
            assert await done == 25
            with pytest.raises(ValueError, match="no luck"):
                await executor.submit(tasks.fail, "no luck")

    run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("plan", PLANS)
def test_a_future_can_be_awaited_in_anyio(plan: Any, backend: str) -> None:
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    pytest.importorskip("trio", reason="trio is not installed")

    async def main() -> None:
        with anyio.fail_after(LIMIT), fr.Executor(plan=plan) as executor:
            assert await executor.submit(tasks.square, 4) == 16
            with pytest.raises(ValueError, match="no luck"):
                await executor.submit(tasks.fail, "no luck")

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("plan", [fr.Plan(threads=2), fr.Plan(2)], ids=str)
def test_cancelling_who_awaits_a_future_cancels_what_has_not_begun(
    plan: Any, backend: str, tmp_path: Path, go: Flag
) -> None:
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    pytest.importorskip("trio", reason="trio is not installed")

    async def main(running: Any, behind: Any) -> None:
        for future in (running, behind):
            with anyio.move_on_after(0.01):
                await future

    with fr.Executor(plan=plan) as executor:
        flags = [Flag(tmp_path / f"started{number}") for number in range(50)]
        futures = [executor.submit(tasks.hold, flag, go) for flag in flags]
        flags[0].wait()
        try:
            anyio.run(main, futures[0], futures[-1], backend=backend)
            assert futures[-1].cancelled()
        finally:
            go.set()
        assert isinstance(futures[0].result(LIMIT), int)


def test_a_future_outlives_the_trio_run_that_awaited_it(tmp_path: Path, go: Flag) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")
    started = Flag(tmp_path / "started")

    async def main(future: Any) -> None:
        with trio.move_on_after(0.05):
            await future

    with fr.Executor(plan="threads") as executor:
        future = executor.submit(tasks.hold, started, go)
        started.wait()
        trio.run(main, future)
        go.set()
        assert future.result(LIMIT) == os.getpid()


def test_awaiting_a_future_outside_of_a_loop_says_so() -> None:
    with fr.Executor(plan="threads") as executor, pytest.raises(RuntimeError, match="no running event loop"):
        next(executor.submit(tasks.square, 2).__await__())
