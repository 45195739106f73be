"""`forkright.Pool` does what scripts written for `multiprocessing.Pool` rely on."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from scripts import run
from waiting import LIMIT, Flag, Tally, until


@pytest.fixture(params=["processes", "threads", "auto"])
def pool(request: pytest.FixtureRequest) -> Iterator[fr.Pool]:
    with fr.Pool(2, plan=request.param) as pool:
        yield pool
    pool.join()


def test_every_way_to_call_gives_the_values(pool: fr.Pool) -> None:
    squares = [n * n for n in range(30)]
    assert pool.apply(tasks.everything, (1,), {"key": 2}) == ((1,), {"key": 2})
    assert pool.apply_async(tasks.square, (5,)).get(LIMIT) == 25
    assert pool.map(tasks.square, iter(range(30))) == squares
    assert pool.map(tasks.square, range(30), chunksize=7) == squares
    assert pool.map_async(tasks.square, range(30)).get(LIMIT) == squares
    assert pool.starmap(tasks.add, [(1, 2), [3, 4]]) == [3, 7]
    assert pool.starmap_async(tasks.add, [(1, 2)]).get(LIMIT) == [3]
    assert list(pool.imap(tasks.square, range(30), chunksize=4)) == squares
    assert sorted(pool.imap_unordered(tasks.square, range(30))) == squares
    assert pool.map(tasks.square, []) == [] == list(pool.imap(tasks.square, []))


def test_callbacks_are_called_before_the_result_is_ready(pool: fr.Pool) -> None:
    heard: list[Any] = []
    pool.apply_async(tasks.square, (3,), callback=heard.append).wait(LIMIT)
    pool.map_async(tasks.square, range(3), callback=heard.append).wait(LIMIT)
    pool.map_async(tasks.square, [], callback=heard.append).wait(LIMIT)
    failed = pool.apply_async(tasks.fail, ("no luck",), callback=heard.append, error_callback=heard.append)
    failed.wait(LIMIT)
    assert heard[:3] == [9, [0, 1, 4], []] and str(heard[3]) == "no luck"
    assert failed.ready() and not failed.successful()


def test_an_exception_is_raised_by_get_each_time_it_is_asked(pool: fr.Pool) -> None:
    for result in (pool.apply_async(tasks.fail, ("no luck",)), pool.map_async(tasks.fail, ["no luck"] * 4)):
        for _ in range(2):
            with pytest.raises(ValueError, match="no luck"):
                result.get(LIMIT)
    result = pool.map_async(tasks.square, range(4))
    assert result.get(LIMIT) == result.get() == [0, 1, 4, 9]


def test_what_is_not_there_in_time_raises_the_timeout_of_multiprocessing(pool: fr.Pool, tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    result = pool.apply_async(tasks.hold, (Flag(tmp_path / "started"), go))
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    results = pool.imap(tasks.hold, [], chunksize=1)
    assert list(results) == []
    go.set()
    assert isinstance(result.get(LIMIT), int)


def test_imap_goes_on_after_an_exception_and_after_a_timeout(pool: fr.Pool, tmp_path: Path) -> None:
    results = pool.imap(tasks.fail, ["one", "two"])
    for message in ("one", "two"):
        with pytest.raises(ValueError, match=message):
            next(results)
    with pytest.raises(StopIteration):
        next(results)
    go, tally = Flag(tmp_path / "go"), Tally(tmp_path / "ran")
    calls = [(tally, "name", go)]
    late = pool.imap(_mark, calls)
    with pytest.raises(multiprocessing.TimeoutError):
        late.next(timeout=0.01)
    go.set()
    assert late.next(LIMIT) == "name"


def _mark(call: tuple[Tally, str, Flag]) -> object:
    return tasks.mark_and_wait(*call)


def test_imap_reads_an_endless_iterable_and_tells_what_it_raises(pool: fr.Pool) -> None:
    results = pool.imap(tasks.square, itertools.count())
    assert list(itertools.islice(results, 300)) == [n * n for n in range(300)]

    def items() -> Iterator[int]:
        yield from range(4)
        raise LookupError("no more")

    raising = pool.imap(tasks.square, items(), chunksize=2)
    assert [next(raising) for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(LookupError, match="no more"):
        next(raising)


def test_imap_runs_no_call_of_a_chunk_that_could_not_be_read_to_its_end(pool: fr.Pool) -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the items broke")

    for results in (pool.imap(tasks.square, broken(), 2), pool.imap_unordered(tasks.square, broken(), 2)):
        found = []
        with pytest.raises(LookupError, match="the items broke"):
            for value in results:
                found.append(value)
        assert sorted(found) == [0, 1, 4, 9]


class Refuses:
    def __reduce__(self) -> Any:
        raise LookupError("it will not go")


def test_what_a_class_raises_when_it_is_pickled_is_raised_as_it_is_and_ours_is_a_note() -> None:
    with fr.Pool(1) as pool:
        for result in (pool.apply_async(tasks.identity, (Refuses(),)), pool.map_async(tasks.identity, [Refuses()])):
            with pytest.raises(LookupError, match="it will not go") as caught:
                result.get(LIMIT)
            assert "identity" in caught.value.__notes__[0]
        with pytest.raises(fr.UnpicklableError, match="lock"):
            pool.apply_async(tasks.identity, (threading.Lock(),)).get(LIMIT)
    pool.join()


def test_a_closed_pool_finishes_its_work_and_takes_no_more(pool: fr.Pool) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    results = [pool.map_async(tasks.square, range(50)), pool.imap(tasks.square, range(50))]
    pool.close()
    for call in (pool.map, pool.imap, pool.apply_async):
        with pytest.raises(ValueError, match="not running"):
            call(tasks.square, [1])
    pool.join()
    assert list(results[0].get()) == list(results[1]) == [n * n for n in range(50)]


def test_terminate_ends_workers_and_fails_what_runs(tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    started = Flag(tmp_path / "started")
    told: list[Any] = []
    with fr.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        running = pool.apply_async(tasks.hold, (started, go), error_callback=told.append)
        waiting = pool.map_async(tasks.square, range(10))
        started.wait()
    pool.join()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(fr.WorkerDied):
        running.get(LIMIT)
    assert waiting.ready() and not waiting.successful()
    assert told == []


def test_a_worker_that_dies_costs_only_its_own_call(tmp_path: Path) -> None:
    with fr.Pool(1) as pool:
        with pytest.raises(fr.WorkerDied):
            pool.apply(tasks.die, ("SIGKILL",))
        assert pool.apply(tasks.square, (3,)) == 9
    pool.join()


def test_initializer_runs_in_each_worker_and_workers_are_replaced() -> None:
    def prepare(value: int) -> None:
        os.environ["PREPARED"] = str(value)

    with fr.Pool(1, prepare, (7,), maxtasksperchild=2) as pool:
        calls = [pool.apply(lambda: (os.getpid(), os.environ["PREPARED"])) for _ in range(6)]
    pool.join()
    assert {value for _, value in calls} == {"7"}
    assert len({pid for pid, _ in calls}) == 3


shared: Any = None


def take_over(*parts: Any) -> None:
    global shared
    shared = parts


def use_shared(number: int) -> int:
    lock, event, value, queue = shared
    assert event.wait(LIMIT)
    with lock:
        value.value += number
    queue.put(number)
    return os.getpid()


@pytest.mark.parametrize("plan", ["processes", "hybrid", "auto"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_initargs_take_what_multiprocessing_shares_to_every_worker_that_comes(
    method: str, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "shared", None)  # threads set it here
    context = multiprocessing.get_context(method)
    lock, event, value, queue = context.Lock(), context.Event(), context.Value("i"), context.Queue()
    with fr.Pool(2, take_over, (lock, event, value, queue), maxtasksperchild=2, plan=plan) as pool:
        calls = pool.map_async(use_shared, range(20), chunksize=1)
        event.set()
        pids = calls.get(LIMIT)
        assert sorted(queue.get(timeout=LIMIT) for _ in range(20)) == list(range(20))
    pool.join()
    assert value.value == sum(range(20))
    assert plan == "auto" or len(set(pids)) >= 4
    queue.close()
    queue.join_thread()


def test_what_an_initializer_sets_need_not_travel_from_a_variable_of_the_same_name(tmp_path: Path) -> None:
    lines = run(
        """
        import multiprocessing, sqlite3
        import forkright as fr

        def take(given):
            global queue
            queue = given
        def put(number): queue.put(number)
        def connect():
            global database
            database = sqlite3.connect(":memory:", check_same_thread=False)
        def ask(number): return database.execute("select ?", (number,)).fetchone()[0]
        def call(function, number): return function(number)
        def both(number): return queue, ask(number)

        queue, database = multiprocessing.Queue(), sqlite3.connect(":memory:")
        for plan in ("processes", "hybrid"):
            with fr.Pool(2, take, (queue,), plan=plan) as pool:
                pool.map(put, range(5))
                pool.apply(call, (put, 5))
                print(sorted(queue.get() for _ in range(6)))
            with fr.Executor(2, plan=plan, initializer=connect) as executor:
                print(list(executor.map(ask, range(5))), executor.submit(ask, 3).result())
        for initializer, function in ((None, ask), (connect, both)):
            with fr.ProcessPoolExecutor(1, initializer=initializer) as executor:
                try:
                    executor.submit(function, 1).result()
                except fr.UnpicklableError as error:
                    print(str(error).partition(" is of type")[0])
        """,
        tmp_path,
    )
    assert lines == [
        "[0, 1, 2, 3, 4, 5]",
        "[0, 1, 2, 3, 4] 3",
        "[0, 1, 2, 3, 4, 5]",
        "[0, 1, 2, 3, 4] 3",
        "the function `ask` can't be sent to another process: `database`, where `database` is a global used by `ask`,",
        "the function `both` can't be sent to another process: `queue`, where `queue` is a global used by `both`,",
    ]


def give(number: int) -> int:
    shared[0].put(number)
    return number


def test_a_pool_that_ends_leaves_what_its_workers_shared_in_order() -> None:
    queue = multiprocessing.get_context("fork").Queue()
    for _ in range(10):
        # Each worker has a thread of its own that may hold the queue's lock until a moment after the last result.
        with fr.Pool(2, take_over, (queue,)) as pool:
            pool.map(give, range(10))
            assert sorted(queue.get(timeout=LIMIT) for _ in range(10)) == list(range(10))
        pool.join()
    queue.close()
    queue.join_thread()


def test_workers_that_end_while_they_fetch_what_they_are_lent_say_nothing(tmp_path: Path) -> None:
    lines = run(
        """
        import multiprocessing
        import forkright as fr

        events = [multiprocessing.Queue() for _ in range(20)]
        for _ in range(10):
            pool = fr.Pool(2, print, tuple(events))
            pool._executor._pool.kill(9)
            pool.terminate()
        print("done")
        """,
        tmp_path,
    )
    assert lines == ["done"]


def count_up(name: str) -> None:
    memory = shared_memory.SharedMemory(name)
    memory.buf[0] += 1
    memory.close()


@pytest.mark.parametrize("first", ["memory", "workers"])
def test_shared_memory_outlives_the_workers_that_attached_it(first: str) -> None:
    early = fr.Pool(1)
    if first == "workers":
        early.apply(os.getpid)
    memory = shared_memory.SharedMemory(create=True, size=1)
    try:
        with early as pool:
            pool.map(count_up, [memory.name] * 3)
            pool.close()
            pool.join()
        again = shared_memory.SharedMemory(memory.name)
        assert again.buf[0] == 3
        again.close()
    finally:
        memory.close()
        memory.unlink()


def test_a_pool_nobody_holds_warns_and_ends_its_workers() -> None:
    pool = fr.Pool(1)
    pid = pool.apply(os.getpid)
    with pytest.warns(ResourceWarning, match="unclosed running pool"):
        del pool
        gc.collect()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is gone")


def test_a_result_keeps_the_pool_that_will_give_it() -> None:
    result = fr.Pool(1, plan="threads").apply_async(tasks.square, (3,))
    gc.collect()
    with pytest.warns(ResourceWarning):
        assert result.get(LIMIT) == 9
        gc.collect()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fr.Pool(0)
    with pytest.raises(TypeError, match="callable"):
        fr.Pool(1, initializer=3)  # type: ignore[arg-type]
    for count in (0, -1, 1.5, "3"):
        with pytest.raises(ValueError, match="positive int"):
            fr.Pool(1, maxtasksperchild=count)  # type: ignore[arg-type]
    with fr.Pool(1) as pool:
        with pytest.raises(ValueError, match="Chunksize"):
            pool.map(tasks.square, [1], chunksize=-1)
        with pytest.raises(NotImplementedError):
            pool.__reduce__()
    pool.join()


def test_a_script_may_end_while_its_pool_works(tmp_path: Path) -> None:
    lines = run(
        """
        import time
        import forkright as fr
        pool = fr.Pool(2)
        pool.map_async(time.sleep, [1000] * 8)
        print("done")
        """,
        tmp_path,
    )
    assert lines == ["done"]


def test_threads_can_share_a_pool(pool: fr.Pool) -> None:
    totals: list[int] = []

    def use() -> None:
        totals.append(sum(pool.map(tasks.square, range(100))))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert totals == [sum(n * n for n in range(100))] * 4
