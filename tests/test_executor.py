"""Executors do what `concurrent.futures` promises, on threads, processes, both, and where they choose."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from scripts import run
from waiting import LIMIT, Flag, Tally, until

KINDS: dict[str, Callable[..., fr.Executor]] = {
    "threads": lambda **options: fr.ThreadPoolExecutor(2, **options),
    "processes": lambda **options: fr.ProcessPoolExecutor(2, **options),
    "hybrid": lambda **options: fr.Executor(plan=fr.Plan(2, 4), **options),
    "auto": lambda **options: fr.Executor(2, **options),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[..., fr.Executor]:
    return KINDS[request.param]


@pytest.fixture
def executor(make: Callable[..., fr.Executor]) -> Iterator[fr.Executor]:
    with make() as executor:
        yield executor


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    """Set at the test's end, whatever happens, so that nobody waits for it for ever."""
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


def occupy(executor: fr.Executor, folder: Path, go: Flag, count: int) -> list[fr.Future[int]]:
    """Keep `count` workers busy until `go`."""
    flags = [Flag(folder / f"started {number}") for number in range(count)]
    futures = [executor.submit(tasks.hold, flag, go) for flag in flags]
    for flag in flags:
        flag.wait()
    return futures


# Results


def test_submit_gives_a_standard_future_with_the_value(executor: fr.Executor) -> None:
    future = executor.submit(tasks.everything, 1, "two", key=[3])
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(LIMIT) == ((1, "two"), {"key": [3]})
    assert future.done() and not future.cancelled() and not future.running()
    assert future.exception(LIMIT) is None


def test_thousands_of_calls_each_give_their_own_value(executor: fr.Executor) -> None:
    futures = [executor.submit(tasks.square, number) for number in range(5000)]
    assert [future.result(LIMIT) for future in futures] == [number * number for number in range(5000)]


def test_every_call_runs_exactly_once(executor: fr.Executor, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")
    # A mark that is left twice raises.
    futures = [executor.submit(tally.mark, number) for number in range(500)]
    assert [future.result(LIMIT) for future in futures] == [None] * 500
    assert tally.marks() == {str(number) for number in range(500)}


def test_an_exception_arrives_with_the_traceback_of_where_it_was_raised(executor: fr.Executor) -> None:
    future = executor.submit(tasks.fail, "no luck")
    error = future.exception(LIMIT)
    assert type(error) is ValueError and error.args == ("no luck",)
    with pytest.raises(ValueError, match="no luck") as caught:
        future.result(LIMIT)
    text = "".join(map(str, caught.traceback)) + str(caught.value.__cause__)
    assert "tasks.py" in text and "fail" in text


def test_a_task_that_calls_sys_exit_fails_and_nothing_else_happens(executor: fr.Executor) -> None:
    for code in (0, 3, "words"):
        future = executor.submit(tasks.leave, code)
        with pytest.raises(SystemExit) as caught:
            future.result(LIMIT)
        assert caught.value.code == code
    assert executor.submit(tasks.square, 3).result(LIMIT) == 9


def test_result_raises_timeout_error_and_the_call_goes_on(executor: fr.Executor, tmp_path: Path, go: Flag) -> None:
    [future] = occupy(executor, tmp_path, go, 1)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    go.set()
    assert isinstance(future.result(LIMIT), int)


def test_results_are_let_go_with_their_futures(executor: fr.Executor) -> None:
    class Thing:
        def method(self) -> None:
            pass

    thing = Thing()
    gone = weakref.ref(thing)
    future = executor.submit(thing.method)
    assert future.result(LIMIT) is None
    del thing, future

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    until(is_gone, "nobody holds the object of a call that is over")


# Cancelling


def test_a_call_that_waits_can_be_cancelled_and_one_that_runs_can_not(
    executor: fr.Executor, tmp_path: Path, go: Flag
) -> None:
    tally = Tally(tmp_path / "ran")
    running = occupy(executor, tmp_path, go, 2)
    queued = [executor.submit(tasks.mark_and_wait, tally, number, go) for number in range(40)]
    until(running[0].running, "the call says that it runs")
    assert not running[0].cancel()
    last = queued[-1]
    assert last.cancel() and last.cancelled() and last.done()
    assert last.cancel(), "cancelling twice is as good as once"
    with pytest.raises(concurrent.futures.CancelledError):
        last.result(LIMIT)
    go.set()
    assert [future.result(LIMIT) for future in queued[:-1]] == list(range(39))
    assert "39" not in tally.marks()


def test_cancelled_calls_never_run(executor: fr.Executor, tmp_path: Path, go: Flag) -> None:
    tally = Tally(tmp_path / "ran")
    running = occupy(executor, tmp_path, go, 2)
    queued = [executor.submit(tasks.mark_and_wait, tally, number, go) for number in range(100)]
    cancelled = {number for number, future in enumerate(queued) if future.cancel()}
    assert cancelled
    go.set()
    concurrent.futures.wait([*running, *queued], LIMIT)
    assert tally.marks() == {str(number) for number in range(100) if number not in cancelled}


# Those who wait


def test_callbacks_run_once_in_order_with_the_future(
    executor: fr.Executor, tmp_path: Path, go: Flag, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, object]] = []
    last = threading.Event()

    def complain(_: object) -> None:
        raise RuntimeError("a callback that raises")

    [future] = occupy(executor, tmp_path, go, 1)
    future.add_done_callback(lambda done: seen.append(("first", done)))
    future.add_done_callback(complain)
    future.add_done_callback(lambda done: seen.append(("second", done)))
    future.add_done_callback(lambda _: last.set())
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        go.set()
        assert last.wait(LIMIT)
    assert seen == [("first", future), ("second", future)]
    assert "a callback that raises" in caplog.text
    future.add_done_callback(lambda done: seen.append(("late", done)))
    assert seen[2:] == [("late", future)]


def test_callbacks_run_when_a_call_is_cancelled(executor: fr.Executor, tmp_path: Path, go: Flag) -> None:
    occupy(executor, tmp_path, go, 2)
    queued = [executor.submit(tasks.hold, Flag(tmp_path / "unused"), go) for _ in range(40)]
    seen: list[object] = []
    queued[-1].add_done_callback(seen.append)
    assert queued[-1].cancel()
    assert seen == [queued[-1]]


def test_callbacks_may_submit_more(executor: fr.Executor) -> None:
    futures: list[fr.Future[int]] = []
    last = threading.Event()

    def more(done: concurrent.futures.Future[int]) -> None:
        if len(futures) == 20:
            last.set()
            return
        futures.append(executor.submit(tasks.add, done.result(), 1))
        futures[-1].add_done_callback(more)

    executor.submit(tasks.add, 0, 1).add_done_callback(more)
    assert last.wait(LIMIT)
    assert [future.result(LIMIT) for future in futures] == list(range(2, 22))


def test_wait_and_as_completed_take_our_futures_and_the_standard_ones_together(
    executor: fr.Executor, tmp_path: Path, go: Flag
) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as standard:
        [slow] = occupy(executor, tmp_path, go, 1)
        ours = [executor.submit(tasks.square, number) for number in range(10)]
        theirs = [standard.submit(tasks.square, number) for number in range(10, 20)]
        done, left = concurrent.futures.wait([*ours, *theirs, slow], LIMIT, concurrent.futures.FIRST_COMPLETED)
        assert done and slow in left
        done, left = concurrent.futures.wait([*ours, *theirs], LIMIT)
        assert not left and len(done) == 20
        both = [*ours, *theirs, slow]
        found = []
        for future in concurrent.futures.as_completed(both, LIMIT):
            found.append(future)
            if len(found) == 20:
                go.set()
        assert set(found) == set(both) and found[-1] is slow
        assert [future.result() for future in ours + theirs] == [number * number for number in range(20)]


def test_wait_for_the_first_exception_returns_at_it(executor: fr.Executor, tmp_path: Path, go: Flag) -> None:
    [slow] = occupy(executor, tmp_path, go, 1)
    bad = executor.submit(tasks.fail, "x")
    done, left = concurrent.futures.wait([slow, bad], LIMIT, concurrent.futures.FIRST_EXCEPTION)
    assert (done, left) == ({bad}, {slow})


def test_futures_can_be_awaited(executor: fr.Executor) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.wrap_future(executor.submit(tasks.square, 4)) == 16
        assert await loop.run_in_executor(executor, tasks.square, 5) == 25
        squares = (loop.run_in_executor(executor, tasks.square, number) for number in range(50))
        assert await asyncio.gather(*squares) == [number * number for number in range(50)]
        with pytest.raises(ValueError, match="no luck"):
            await loop.run_in_executor(executor, tasks.fail, "no luck")

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_asyncio_takes_threads_as_its_default_executor() -> None:
    async def name() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(fr.ThreadPoolExecutor(1, thread_name_prefix="ours"))
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert asyncio.run(name()).startswith("ours")


def test_cancelling_what_awaits_a_call_that_waits_cancels_the_call(
    executor: fr.Executor, tmp_path: Path, go: Flag
) -> None:
    async def main() -> None:
        occupy(executor, tmp_path, go, 2)
        queued = [executor.submit(tasks.hold, Flag(tmp_path / "unused"), go) for _ in range(40)]
        waiting = asyncio.wrap_future(queued[-1])
        waiting.cancel()
        while not queued[-1].cancelled():
            await asyncio.sleep(0)
        go.set()

    asyncio.run(asyncio.wait_for(main(), LIMIT))


# Workers


def test_calls_run_at_the_same_time_up_to_the_number_of_workers(
    executor: fr.Executor, tmp_path: Path, go: Flag
) -> None:
    futures = occupy(executor, tmp_path, go, 2)
    go.set()
    assert len([future.result(LIMIT) for future in futures]) == 2


@pytest.mark.parametrize("kind", ["threads", "processes", "hybrid"])
def test_the_plan_says_where_calls_run(kind: str, tmp_path: Path, go: Flag) -> None:
    with KINDS[kind]() as executor:
        futures = occupy(executor, tmp_path, go, 8 if kind == "hybrid" else 2)
        go.set()
        pids = Counter(future.result(LIMIT) for future in futures)
    if kind == "threads":
        assert pids == {os.getpid(): 2}
    else:
        assert os.getpid() not in pids and sorted(pids.values()) == ([4, 4] if kind == "hybrid" else [1, 1])


def test_a_serial_executor_runs_calls_in_the_thread_that_submits() -> None:
    with fr.Executor(plan="serial") as executor:
        future = executor.submit(threading.get_ident)
        assert future.done() and future.result() == threading.get_ident()
        assert isinstance(executor.submit(tasks.fail, "x").exception(), ValueError)


ready: list[tuple[int, str]] = []


def make_ready(word: str) -> None:
    ready.append((threading.get_ident(), word))


def is_ready() -> tuple[bool, str]:
    return any(ident == threading.get_ident() for ident, _ in ready), ready[-1][1]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_the_initializer_runs_first_in_each_worker(kind: str) -> None:
    with KINDS[kind](initializer=make_ready, initargs=("prepared",)) as executor:
        futures = [executor.submit(is_ready) for _ in range(100)]
        assert [future.result(LIMIT) for future in futures] == [(True, "prepared")] * 100


def count_ready() -> tuple[int, int]:
    return os.getpid(), len(ready)


def test_the_initializer_runs_once_in_each_process_of_a_hybrid_plan() -> None:
    ready.clear()
    with KINDS["hybrid"](initializer=make_ready, initargs=("x",)) as executor:
        futures = [executor.submit(count_ready) for _ in range(100)]
        counts = {future.result(LIMIT) for future in futures}
    assert len({pid for pid, _ in counts}) == len(counts)
    assert {count for _, count in counts} <= {1, 4}, "once for a process, or once for each of its threads"


def test_an_initializer_that_raises_breaks_the_executor(
    make: Callable[..., fr.Executor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "concurrent.futures"):
        with make(initializer=tasks.fail, initargs=("not ready",)) as executor:
            error = executor.submit(tasks.square, 2).exception(LIMIT)
            assert isinstance(error, concurrent.futures.BrokenExecutor)
            assert "initializer" in str(error)
            with pytest.raises(concurrent.futures.BrokenExecutor, match="initializer"):
                executor.submit(tasks.square, 2)


def test_what_the_initializer_raised_is_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("threads", "processes"):
        with caplog.at_level(logging.CRITICAL, "concurrent.futures"):
            with KINDS[kind](initializer=tasks.fail, initargs=("not ready",)) as executor:
                error: BaseException | None = executor.submit(tasks.square, 2).exception(LIMIT)
        chain = []
        while error is not None:
            chain.append(str(error))
            error = error.__cause__
        assert any("not ready" in text for text in chain), chain


def test_a_process_is_replaced_after_its_number_of_tasks_and_none_is_lost(tmp_path: Path) -> None:
    with fr.ProcessPoolExecutor(2, max_tasks_per_child=3) as executor:
        futures = [executor.submit(tasks.pid) for _ in range(40)]
        counts = Counter(future.result(LIMIT) for future in futures)
    assert sum(counts.values()) == 40
    assert max(counts.values()) <= 3 and len(counts) >= 14


def test_one_task_per_process_runs_each_in_a_new_one() -> None:
    with fr.ProcessPoolExecutor(2, max_tasks_per_child=1) as executor:
        pids = [future.result(LIMIT) for future in [executor.submit(tasks.pid) for _ in range(12)]]
    assert len(set(pids)) == 12


def test_threads_are_named_by_the_prefix() -> None:
    with fr.ThreadPoolExecutor(2, thread_name_prefix="mine") as executor:
        assert executor.submit(lambda: threading.current_thread().name).result(LIMIT).startswith("mine_")


def test_thread_locals_of_a_worker_live_as_long_as_it_does() -> None:
    local = threading.local()

    def count() -> int:
        local.count = getattr(local, "count", 0) + 1
        return int(local.count)

    with fr.Executor(plan=fr.Plan(threads=2)) as executor:
        counts = [future.result(LIMIT) for future in [executor.submit(count) for _ in range(50)]]
    assert max(counts) >= 25


# Many hands


def test_four_threads_may_submit_at_once(executor: fr.Executor) -> None:
    outcomes: dict[int, list[int]] = {}
    start = threading.Barrier(4)

    def submit(base: int) -> None:
        start.wait(LIMIT)
        futures = [executor.submit(tasks.square, base + number) for number in range(1000)]
        outcomes[base] = [future.result(LIMIT) for future in futures]

    threads = [threading.Thread(target=submit, args=(base,)) for base in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert {base: [(base + n) ** 2 for n in range(1000)] for base in outcomes} == outcomes and len(outcomes) == 4


def test_many_threads_may_wait_for_one_result(executor: fr.Executor, tmp_path: Path, go: Flag) -> None:
    [future] = occupy(executor, tmp_path, go, 1)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(future.result(LIMIT))) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(LIMIT)
    assert got == [future.result(LIMIT)] * 8


def test_a_result_keeps_its_identity(executor: fr.Executor) -> None:
    future = executor.submit(list, "abc")
    assert future.result(LIMIT) is future.result(LIMIT)


@pytest.mark.parametrize("inner", ["serial", "threads", "processes", "auto"])
def test_a_task_may_map_itself(executor: fr.Executor, inner: str) -> None:
    futures = [executor.submit(nested, number, inner) for number in range(4)]
    assert [future.result(LIMIT) for future in futures] == [[number, number + 1, number + 2] for number in range(4)]


def nested(number: int, plan: Any) -> list[int]:
    return fr.map(tasks.add, [number] * 3, range(3), plan=plan)


# The end


def test_submit_after_shutdown_raises_and_a_second_shutdown_does_nothing(
    make: Callable[..., fr.Executor],
) -> None:
    executor = make()
    future = executor.submit(tasks.square, 3)
    executor.shutdown()
    assert future.result(LIMIT) == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.square, 3)
    executor.shutdown()
    executor.shutdown(wait=False)


def test_an_executor_that_was_never_used_shuts_down(make: Callable[..., fr.Executor]) -> None:
    with make():
        pass


def test_shutdown_waits_for_calls_that_were_submitted(make: Callable[..., fr.Executor], tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")
    with make() as executor:
        for number in range(100):
            executor.submit(tally.mark, number)
    assert len(tally.marks()) == 100


def test_results_still_come_after_a_shutdown_that_does_not_wait(
    make: Callable[..., fr.Executor], tmp_path: Path, go: Flag
) -> None:
    executor = make()
    futures = occupy(executor, tmp_path, go, 2) + [executor.submit(tasks.square, number) for number in range(50)]
    executor.shutdown(wait=False)
    assert not futures[0].done()
    go.set()
    assert [future.result(LIMIT) for future in futures[2:]] == [number * number for number in range(50)]


def test_shutdown_that_cancels_lets_running_calls_end(
    make: Callable[..., fr.Executor], tmp_path: Path, go: Flag
) -> None:
    executor = make()
    running = occupy(executor, tmp_path, go, 2)
    queued = [executor.submit(tasks.hold, Flag(tmp_path / "late"), go) for _ in range(60)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert queued[-1].cancelled()
    go.set()
    executor.shutdown()
    assert all(future.done() for future in queued)
    assert all(isinstance(future.result(LIMIT), int) for future in running)


def test_workers_end_when_an_executor_is_dropped_without_shutdown(make: Callable[..., fr.Executor]) -> None:
    executor = make()
    futures = [executor.submit(tasks.place) for _ in range(20)]
    places = {future.result(LIMIT) for future in futures}
    gone = weakref.ref(executor)
    del executor, futures
    gc.collect()
    assert gone() is None
    if all(pid == os.getpid() for pid, _ in places):

        def left() -> set[int]:
            return {thread.native_id or 0 for thread in threading.enumerate()} & {tid for _, tid in places}
    else:

        def left() -> set[int]:
            return {pid for pid, _ in places if pid != os.getpid() and Path(f"/proc/{pid}").exists()}

    until(lambda: not left(), f"the workers of an executor nobody has are gone; there are {left()}")


def test_results_still_come_after_an_executor_is_dropped(
    make: Callable[..., fr.Executor], tmp_path: Path, go: Flag
) -> None:
    executor = make()
    futures = [*occupy(executor, tmp_path, go, 2), *(executor.submit(tasks.pid) for _ in range(10))]
    del executor
    gc.collect()
    go.set()
    assert all(isinstance(future.result(LIMIT), int) for future in futures)


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor", "Executor"])
def test_calls_still_under_way_when_the_script_ends_are_finished(tmp_path: Path, kind: str) -> None:
    run(
        """
        import sys, forkright as fr
        def mark(number):
            open(f"mark {number}", "x").close()
        pool = getattr(fr, sys.argv[1])(2)
        for number in range(100):
            pool.submit(mark, number)
        """,
        tmp_path,
        arguments=(kind,),
    )
    assert len(list(tmp_path.glob("mark *"))) == 100


# A fork of the user's process


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor", "Executor"])
def test_an_executor_used_in_a_fork_of_its_process_says_so_and_the_parent_goes_on(tmp_path: Path, kind: str) -> None:
    lines = run(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import forkright as fr
        def square(x): return x * x
        with getattr(fr, sys.argv[1])(2) as pool:
            print(pool.submit(square, 2).result(), flush=True)
            child = os.fork()
            if child == 0:
                try:
                    pool.submit(square, 3)
                except RuntimeError as error:
                    print(error, flush=True)
                pool.shutdown()
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            print(pool.submit(square, 4).result())
        """,
        tmp_path,
        arguments=(kind,),
    )
    assert lines[0] == "4" and lines[2:] == ["7", "16"]
    assert "forked from" in lines[1] and "make a new executor" in lines[1]


def test_a_fork_of_the_process_may_map_and_make_executors_of_its_own(tmp_path: Path) -> None:
    lines = run(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import forkright as fr
        def square(x): return x * x
        print(fr.map(square, range(3), plan="processes"), fr.map(square, range(3), plan="threads"), flush=True)
        child = os.fork()
        if child == 0:
            for plan in ("threads", "processes", fr.Plan(2, 2), "auto"):
                print(fr.map(square, range(3), plan=plan), flush=True)
            with fr.ProcessPoolExecutor(1) as pool:
                print(pool.submit(square, 5).result(), flush=True)
            sys.exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
        print(fr.map(square, range(3), plan="processes"), fr.map(square, range(3), plan="threads"))
        """,
        tmp_path,
    )
    assert lines == ["[0, 1, 4] [0, 1, 4]", *["[0, 1, 4]"] * 4, "25", "0", "[0, 1, 4] [0, 1, 4]"]


# Reports


@pytest.mark.parametrize("kind", ["threads", "processes", "hybrid"])
def test_the_report_counts_every_task(kind: str) -> None:
    with KINDS[kind]() as executor:
        for future in [executor.submit(tasks.square, number) for number in range(30)]:
            future.result(LIMIT)
        executor.shutdown()
        assert json.loads(executor.report().to_json())["tasks"] == 30


def test_a_future_tells_what_its_call_cost(executor: fr.Executor) -> None:
    future = executor.submit(sum, range(200_000))
    future.result(LIMIT)
    reading = future.reading()
    assert reading is not None and reading["wall"] > 0 and reading["cpu"] > 0


def compute(number: int) -> int:
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    return number


def test_calls_submitted_at_once_move_to_workers_that_are_up() -> None:
    fr.map(compute, range(4), plan="processes", workers=2)
    with fr.Executor() as executor:
        futures = [executor.submit(compute, number) for number in range(60)]
        assert [future.result(LIMIT) for future in futures] == list(range(60))
        assert any(worker["kind"] == "process" for worker in executor.report().data["functions"][0]["workers"])


class Lingering:
    """Gives up the GIL while it goes."""

    def __del__(self) -> None:
        time.sleep(0.001)


def test_calls_begin_at_the_same_time_although_nobody_waits_for_them(tmp_path: Path, go: Flag) -> None:
    for number in range(5):
        with fr.Executor(plan=fr.Plan(3)) as executor:
            # One worker is up, and would take more than one.
            assert [executor.submit(tasks.square, 3).result(LIMIT) for _ in range(3)] == [9, 9, 9]
            folder = tmp_path / str(number)
            folder.mkdir()
            go.clear()
            try:
                occupy(executor, folder, go, 3)
            finally:
                go.set()


def test_functions_that_a_worker_with_threads_forgets_hold_nobody_up() -> None:
    def make(number: int) -> Any:
        held = [Lingering(), number]
        return lambda: held[1]

    with fr.Executor(plan=fr.Plan(1, 2)) as executor:
        futures = [executor.submit(make(number)) for number in range(400)]
        assert [future.result(LIMIT) for future in futures] == list(range(400))


def test_a_callback_that_never_returns_holds_up_nobody_else(tmp_path: Path) -> None:
    started, go, stuck, called = (Flag(tmp_path / name) for name in ("started", "go", "stuck", "called"))
    free = threading.Event()

    def get_stuck(_: object) -> None:
        stuck.set()
        free.wait()

    with fr.ProcessPoolExecutor(1) as executor:
        executor.submit(tasks.hold, started, go).add_done_callback(get_stuck)
        go.set()
        stuck.wait()
        others = [executor.submit(tasks.square, number) for number in range(20)]
        others[-1].add_done_callback(lambda _: called.set())
        done, pending = concurrent.futures.wait(others, LIMIT)
        assert not pending and {future.result() for future in done} == {number * number for number in range(20)}
        called.wait()
        free.set()


class ExitsAtPickling:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize("plan", [fr.Plan(1), fr.Plan(1, 2)])
def test_system_exit_from_pickling_a_result_is_what_its_future_raises(plan: fr.Plan) -> None:
    with fr.Executor(plan=plan) as executor:
        future = executor.submit(ExitsAtPickling)
        with pytest.raises(SystemExit) as caught:
            future.result(LIMIT)
        assert caught.value.code == 3
        assert "the result of `ExitsAtPickling`" in caught.value.__notes__[0]
        assert executor.submit(os.getpid).result(LIMIT) != os.getpid()


def nap(seconds: float) -> None:
    time.sleep(seconds)


def first_plan(executor: fr.Executor) -> dict[str, int]:
    plan: dict[str, int] = executor.report().data["functions"][0]["verdicts"][0]["verdict"]["plan"]
    return plan


def test_an_executor_begins_with_what_another_has_learned() -> None:
    for _ in range(2):
        with fr.Executor() as executor:
            concurrent.futures.wait([executor.submit(nap, 0.05) for _ in range(60)], LIMIT)
            plan = first_plan(executor)
    # Before anything is known of a function, no more than 20 threads are let in.
    assert plan["threads"] > 20


def wait_for(flag: threading.Event, other: threading.Event) -> bool:
    flag.set()
    while not other.wait(0.005):
        pass
    return True


def test_what_was_learned_of_short_calls_keeps_no_call_from_starting() -> None:
    for _ in range(4):
        one, other = threading.Event(), threading.Event()
        with fr.Executor(2) as executor:
            # Each waits until the other has begun.
            futures = [executor.submit(wait_for, one, other), executor.submit(wait_for, other, one)]
            assert [future.result(LIMIT) for future in futures] == [True, True]
            one.set()
            other.set()


def test_a_slow_initializer_has_no_more_threads_started_than_calls_may_run() -> None:
    begun: list[str] = []

    def begin() -> None:
        begun.append(threading.current_thread().name)
        time.sleep(0.1)

    with fr.Executor(2, initializer=begin) as executor:
        for future in [executor.submit(time.sleep, 0.02) for _ in range(40)]:
            future.result(LIMIT)
    # One more may come for what the executor has to do itself.
    assert 1 <= len(begun) <= 3, begun


def test_an_initializer_that_fails_is_not_tried_again_and_again() -> None:
    begun: list[str] = []

    def begin() -> None:
        begun.append(threading.current_thread().name)
        time.sleep(0.1)
        raise LookupError("no luck")

    with fr.Executor(2, initializer=begin) as executor:
        futures = [executor.submit(abs, -1) for _ in range(40)]
        assert all(isinstance(future.exception(LIMIT), fr.BrokenWorkers) for future in futures)
        with pytest.raises(fr.BrokenWorkers):
            executor.submit(abs, -1)
    assert 1 <= len(begun) <= 3, begun


class BlocksWhereItArrives:
    def __reduce__(self) -> tuple[Any, ...]:
        return _block_in, (os.getpid(),)


def _block_in(maker: int) -> None:
    if os.getpid() != maker:
        threading.Event().wait()


def test_a_result_that_never_ends_arriving_holds_up_nobody_but_who_asks_for_it(tmp_path: Path) -> None:
    lines = run(
        """
        import concurrent.futures, sys
        import forkright as fr
        from test_executor import BlocksWhereItArrives
        from tasks import square
        with fr.ProcessPoolExecutor(2) as executor:
            bad = executor.submit(BlocksWhereItArrives)
            good = [executor.submit(square, number) for number in range(9)]
            done, left = concurrent.futures.wait([bad, *good], 30)
            print(len(done), len(left), [future.result() for future in good] == [n * n for n in range(9)])
        """,
        tmp_path,
    )
    assert lines == ["10 0 True"]
