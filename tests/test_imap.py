"""`imap`, `imap_unordered` and `Executor.map` are lazy, bounded and deliver what came before an error."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, Tally, until

PLANS = ["serial", "threads", "processes", "hybrid", "auto"]


class Items:
    """An endless iterable that knows how much of it was read."""

    def __init__(self, limit: int | None = None) -> None:
        self.read = 0
        self._limit = limit

    def __iter__(self) -> Iterator[int]:
        while self._limit is None or self.read < self._limit:
            self.read += 1
            yield self.read - 1


@pytest.fixture(params=[fr.imap, fr.imap_unordered])
def imap(request: pytest.FixtureRequest) -> Callable[..., Iterator[Any]]:
    return request.param


@pytest.mark.parametrize("plan", PLANS)
def test_imap_gives_results_in_order(plan: Any) -> None:
    assert list(fr.imap(tasks.square, range(100), plan=plan)) == [n * n for n in range(100)]
    assert list(fr.imap(tasks.add, [1, 2, 3], [10, 20], plan=plan)) == [11, 22]


@pytest.mark.parametrize("plan", PLANS)
def test_imap_unordered_gives_each_result_once(plan: Any) -> None:
    assert sorted(fr.imap_unordered(tasks.square, range(100), plan=plan)) == [n * n for n in range(100)]


@pytest.mark.parametrize("plan", PLANS)
def test_an_endless_iterable_is_read_as_results_are_taken(imap: Any, plan: Any) -> None:
    items = Items()
    results = imap(tasks.square, items, plan=plan, workers=2, buffersize=5)
    assert items.read == 0
    for taken in range(1, 40):
        next(results)
        assert items.read <= taken + 5
    results.close()


def test_a_chunk_is_no_larger_than_the_buffer(imap: Any) -> None:
    items = Items()
    results = imap(tasks.square, items, plan="processes", chunksize=100, buffersize=7)
    assert next(results) < 49
    assert items.read <= 7
    results.close()


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("plan", PLANS)
def test_results_before_a_failed_item_are_delivered_then_its_exception(plan: Any, chunksize: int) -> None:
    results = fr.imap(tasks.fail_at, range(20), itertools.repeat(7), plan=plan, chunksize=chunksize)
    assert list(itertools.islice(results, 7)) == list(range(7))
    with pytest.raises(ValueError, match="item 7") as caught:
        next(results)
    if plan in ("processes", "hybrid"):
        assert "tasks.py" in str(caught.value.__cause__)
    assert list(results) == []


@pytest.mark.parametrize("chunksize", [1, 4])
@pytest.mark.parametrize("plan", PLANS)
def test_results_before_an_iterable_raises_are_delivered_then_its_exception(
    imap: Any, plan: Any, chunksize: int
) -> None:
    def items() -> Iterator[int]:
        yield from range(6)
        raise LookupError("no more")

    results = imap(tasks.square, items(), plan=plan, chunksize=chunksize)
    assert sorted(itertools.islice(results, 6)) == [n * n for n in range(6)]
    with pytest.raises(LookupError, match="no more"):
        next(results)


@pytest.mark.parametrize("plan", ["threads", "processes", "auto"])
def test_closing_starts_nothing_more_and_does_not_wait(imap: Any, plan: Any, tmp_path: Path) -> None:
    go, tally = Flag(tmp_path / "go"), Tally(tmp_path / "ran")
    names = itertools.count()
    results = imap(
        tasks.mark_and_wait, itertools.repeat(tally), names, itertools.repeat(go), plan=plan, workers=2, timeout=0.01
    )
    with pytest.raises(TimeoutError):
        next(results)
    # It is over: nothing waits for a turn any more, and nobody waited for what runs.
    go.set()
    assert list(results) == []
    read = next(names)
    assert len(tally.marks()) <= 2 < read


@pytest.mark.parametrize("plan", ["threads", "processes", "auto"])
def test_a_late_result_does_not_keep_whoever_asked_until_it_is_there(imap: Any, plan: Any, tmp_path: Path) -> None:
    started, go, ended = (Flag(tmp_path / name) for name in ("started", "go", "ended"))
    results = imap(tasks.hold_and_tell, [started], [go], [ended], plan=plan, timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    assert not ended.is_set()
    go.set()


def test_an_abandoned_iterator_ends_its_workers(imap: Any) -> None:
    results = imap(tasks.pid, itertools.count(), plan=fr.Plan(2))
    pid = next(results)
    del results
    gc.collect()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is gone")


def test_an_iterator_never_asked_reads_and_starts_nothing(imap: Any) -> None:
    items = Items()
    del items.read
    imap(tasks.square, items, plan="processes").close()


def test_what_makes_no_sense_is_refused_at_the_call(imap: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        imap(3, [1])
    with pytest.raises(TypeError, match="iterable"):
        imap(tasks.square)
    with pytest.raises(TypeError):
        imap(tasks.square, 5)
    with pytest.raises(ValueError, match="chunksize"):
        imap(tasks.square, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize"):
        imap(tasks.square, [1], buffersize=0)
    with pytest.raises(ValueError, match="plan"):
        imap(tasks.square, [1], plan="rows")
    with pytest.raises(ValueError, match="workers"):
        imap(tasks.square, [1], workers=0)


# Executor.map


@pytest.fixture(params=["threads", "processes", "auto"])
def executor(request: pytest.FixtureRequest) -> Iterator[fr.Executor]:
    with fr.Executor(2, plan=request.param) as executor:
        yield executor


def test_executor_map_reads_all_at_once_and_keeps_order(executor: fr.Executor) -> None:
    items = Items(50)
    results = executor.map(tasks.square, items)
    assert items.read == 50
    assert list(results) == [n * n for n in range(50)]
    assert list(executor.map(tasks.square, range(50), chunksize=8)) == [n * n for n in range(50)]


def test_executor_map_with_a_buffer_reads_as_results_are_taken(executor: fr.Executor) -> None:
    items = Items()
    results = executor.map(tasks.square, items, buffersize=4)
    assert items.read == 4
    assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    assert items.read == 14


def test_executor_map_with_a_buffer_delivers_what_came_before_an_error(executor: fr.Executor) -> None:
    def items() -> Iterator[int]:
        yield from range(6)
        raise LookupError("no more")

    results = executor.map(tasks.square, items(), buffersize=3)
    assert list(itertools.islice(results, 6)) == [n * n for n in range(6)]
    with pytest.raises(LookupError):
        next(results)
    with pytest.raises(LookupError):
        executor.map(tasks.square, items())


def test_executor_map_counts_its_timeout_from_the_call(executor: fr.Executor, tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    started = Flag(tmp_path / "started")
    results = executor.map(tasks.hold, [started], [go], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    go.set()
    assert executor.submit(tasks.square, 2).result(LIMIT) == 4


def test_executor_map_cancels_the_rest_on_an_error(executor: fr.Executor, tmp_path: Path) -> None:
    go, tally = Flag(tmp_path / "go"), Tally(tmp_path / "ran")
    results = executor.map(tasks.mark_and_wait, [None, *[tally] * 200], range(201), [go] * 201)
    with pytest.raises(AttributeError):
        next(results)
    go.set()
    executor.shutdown()
    assert len(tally.marks()) < 200


def test_executor_map_does_not_keep_its_executor() -> None:
    executor = fr.ThreadPoolExecutor(1)
    results = executor.map(tasks.square, Items(), buffersize=2)
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    assert list(results) == [0, 1]


def test_executor_map_refuses_sizes_that_make_no_sense(executor: fr.Executor) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(tasks.square, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        executor.map(tasks.square, [1], buffersize=0)
    for size in ("3", 2.0):
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            executor.map(tasks.square, [1], buffersize=size)  # type: ignore[arg-type]
