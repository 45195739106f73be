"""What a map and an executor promise on any cluster: tests that take a fixture `cluster`.

`test_clusters` has them on executors of the standard library, tests/clusters on Dask and Ray. Functions here travel by
value unless they are of `tasks`: workers may not have this module.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import operator
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - its threads, if it has some, are not left by a test
import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, Tally, until


class Remark(Exception):
    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(f"{text}!")
        self.code = code


def test_results_are_those_of_the_builtin_map(cluster: Any) -> None:
    def sleep(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        return -item

    assert fr.map(sleep, range(40), cluster=cluster) == [-item for item in range(40)]
    assert fr.map(operator.mul, range(500), range(500), cluster=cluster) == [item * item for item in range(500)]
    assert fr.starmap(divmod, [(7, 2), (9, 4)], cluster=cluster) == [(3, 1), (2, 1)]
    assert fr.map(abs, [], cluster=cluster) == []


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_a_chunksize_is_kept(cluster: Any, chunksize: int) -> None:
    assert fr.map(abs, range(-50, 50), cluster=cluster, chunksize=chunksize) == [abs(item) for item in range(-50, 50)]
    assert fr.report().data["cluster"]["chunks"] == -(-100 // chunksize)


def test_lambdas_closures_and_local_classes_travel(cluster: Any) -> None:
    class Pair:
        def __init__(self, one: int) -> None:
            self.one = one

    factor = 3
    found = fr.map(lambda item: Pair(factor * item), range(20), cluster=cluster)
    assert [pair.one for pair in found] == [3 * item for item in range(20)]
    assert {type(pair) for pair in found} == {Pair}


def test_an_exception_comes_with_its_traceback(cluster: Any) -> None:
    def divide(item: int) -> float:
        return 1 / item

    with pytest.raises(ZeroDivisionError) as caught:
        fr.map(divide, [3, 2, 1, 0, 1], cluster=cluster)
    assert "in divide" in str(caught.value.__cause__)
    assert "remote.py" not in str(caught.value.__cause__)
    results = fr.map(divide, [1, 0, 2], cluster=cluster, on_error="return")
    assert results[::2] == [1.0, 0.5]
    assert isinstance(results[1], ZeroDivisionError)


def test_an_exception_that_does_not_pickle_comes_home(cluster: Any) -> None:
    def remark(item: int) -> None:
        raise Remark("no", code=item)

    with pytest.raises(Remark, match="no!") as caught:
        fr.map(remark, [5], cluster=cluster)
    assert caught.value.code == 5


def test_what_does_not_travel_costs_its_own_call(cluster: Any) -> None:
    def make(item: Any) -> Any:
        return threading.Lock() if item == 1 else item

    results = fr.map(make, range(4), cluster=cluster, on_error="return", chunksize=4)
    assert [results[0], *results[2:]] == [0, 2, 3]
    assert isinstance(results[1], fr.UnpicklableError)
    with pytest.raises(fr.UnpicklableError, match=r"the result of `.*make`.* type `lock`"):
        fr.map(make, [1], cluster=cluster)


def test_an_argument_that_does_not_travel_is_named(cluster: Any) -> None:
    lock = threading.Lock()
    results = fr.map(type, [1, lock, 2], cluster=cluster, on_error="return", chunksize=3)
    # An executor of threads needs no pickling, and this one pickles all the same.
    assert [results[0], results[2]] == [int, int]
    with pytest.raises(fr.UnpicklableError, match=r"the arguments of `type`.*`args\[0\]`"):
        fr.map(type, [lock], cluster=cluster)
    with pytest.raises(fr.UnpicklableError, match=r"the function `.*<lambda>`"):
        fr.map(lambda item: (item, lock), [1], cluster=cluster)


def test_a_function_travels_once(cluster: Any, tmp_path: Path) -> None:
    global _pickled
    _pickled = 0
    large = Counted(str(tmp_path))
    assert fr.map(lambda item: (item, large.folder)[0], range(60), cluster=cluster, chunksize=1) == list(range(60))
    assert _pickled == 1
    assert 1 <= len(list(tmp_path.iterdir())) <= fr.report().plan.workers  # type: ignore[union-attr]


_pickled = 0


class Counted:
    """Counts at home how often it is pickled; marks where it arrives, and fails where it has been before."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        global _pickled
        _pickled += 1
        return tasks.arrive, (self.folder,)


def test_seeded_calls_draw_what_they_draw_here(cluster: Any) -> None:
    def draw(item: int, rng: Any) -> float:
        return item + float(rng.random())

    here = fr.map(draw, range(30), seed=7, plan="serial")
    assert fr.map(draw, range(30), seed=7, cluster=cluster) == here
    assert fr.map(draw, range(30), seed=7, cluster=cluster, chunksize=30) == here
    assert list(fr.imap(draw, range(30), seed=7, cluster=cluster, chunksize=4)) == here
    with fr.Executor(cluster=cluster) as executor:
        assert list(executor.map(draw, range(30), seed=7)) == here


def test_the_report_says_whether_the_cluster_pays(cluster: Any) -> None:
    fr.map(abs, range(300), cluster=cluster)
    report = fr.report()
    assert report.plan is not None and report.plan.kind == "cluster"
    assert report.why.startswith("the cluster did not pay: 300 items of ")
    assert (report.data["tasks"], report.data["done"], report.data["failed"]) == (300, 300, 0)
    assert report.data["cluster"]["hop"] > 0
    assert report.data["pickling"]["bytes_out"] > 300
    assert sum(worker["tasks"] for worker in report.data["workers"]) == 300
    assert "a hop takes" in str(report)


def test_a_lazy_map_reads_no_further_than_it_may(cluster: Any) -> None:
    read = itertools.count()
    results = fr.imap(abs, read, cluster=cluster, buffersize=5)
    assert list(itertools.islice(results, 20)) == list(range(20))
    results.close()  # type: ignore[attr-defined]
    assert next(read) <= 26


def test_a_lazy_map_in_any_order_has_all(cluster: Any) -> None:
    assert sorted(fr.imap_unordered(abs, range(40), cluster=cluster, chunksize=3)) == list(range(40))
    with pytest.raises(ZeroDivisionError):
        list(fr.imap((1).__truediv__, [1, 0, 2], cluster=cluster, chunksize=2))


def test_futures_are_those_of_the_standard_library(cluster: Any) -> None:
    with fr.Executor(cluster=cluster) as executor:
        futures = [executor.submit(pow, base, 2) for base in range(10)]
        assert all(isinstance(future, concurrent.futures.Future) for future in futures)
        assert all(isinstance(future, fr.Future) for future in futures)
        assert not concurrent.futures.wait(futures, LIMIT).not_done
        assert sorted(future.result() for future in concurrent.futures.as_completed(futures)) == [
            base**2 for base in range(10)
        ]
        assert executor.submit(int, "ff", base=16).result(LIMIT) == 255
        assert isinstance(executor.submit(int, "no").exception(LIMIT), ValueError)
        assert list(executor.map(abs, range(-3, 3), chunksize=2)) == [3, 2, 1, 0, 1, 2]
        assert executor.report().data["failed"] == 1
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    # The cluster is its owner's, and goes on.
    assert fr.map(abs, [-1], cluster=cluster) == [1]


def test_a_changed_global_travels_again(cluster: Any) -> None:
    box = [1]
    with fr.Executor(cluster=cluster) as executor:
        assert executor.submit(lambda: box[0]).result(LIMIT) == 1

        def read() -> int:
            return box[0]

        assert executor.submit(read).result(LIMIT) == 1
        box[0] = 2
        assert executor.submit(read).result(LIMIT) == 2


def test_no_more_calls_run_than_workers_say(cluster: Any, tmp_path: Path) -> None:
    def alone(item: int) -> int:
        mark = os.open(tmp_path / "alone", os.O_CREAT | os.O_EXCL)
        os.close(mark)
        os.unlink(tmp_path / "alone")
        return item

    assert fr.map(alone, range(30), cluster=cluster, workers=1) == list(range(30))
    with fr.Executor(1, cluster=cluster) as executor:
        assert list(executor.map(alone, range(30))) == list(range(30))


def test_a_failure_ends_the_map(cluster: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "begun")
    folder = str(tmp_path / "begun")

    def fail(item: int) -> None:
        open(os.path.join(folder, str(item)), "x").close()
        if item == 3:
            raise ValueError(item)

    with pytest.raises(ValueError, match="3"):
        fr.map(fail, range(1000), cluster=cluster, chunksize=1)
    assert len(tally.marks()) < 100


def test_a_map_ends_on_time(cluster: Any, tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    try:
        with pytest.raises(TimeoutError, match=r"0 of 20 tasks of `Flag\.wait` were done when the time was up"):
            fr.map(Flag.wait, [go] * 20, cluster=cluster, timeout=0.3)
    finally:
        go.set()
    assert fr.map(abs, [-1], cluster=cluster) == [1]


def test_an_interrupt_ends_the_map(cluster: Any, tmp_path: Path) -> None:
    begun, go = Flag(tmp_path / "begun"), Flag(tmp_path / "go")

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fr.map(tasks.begin_and_wait, [begun] * 20, [go] * 20, cluster=cluster)
    finally:
        go.set()
        thread.join()
    assert fr.map(abs, [-1], cluster=cluster) == [1]


def test_what_waits_can_be_cancelled(cluster: Any, tmp_path: Path) -> None:
    go, tally = Flag(tmp_path / "go"), Tally(tmp_path / "marks")
    folder = str(tmp_path / "marks")

    def mark(item: int) -> None:
        open(os.path.join(folder, str(item)), "x").close()

    with fr.Executor(1, cluster=cluster) as executor:
        first = executor.submit(go.wait)
        others = [executor.submit(mark, item) for item in range(5)]
        assert all(future.cancel() for future in others[:4])
        go.set()
        assert others[4].result(LIMIT) is None
        assert first.result(LIMIT) is None
    assert tally.marks() == {"4"}


def test_nothing_is_left_of_a_map(cluster: Any) -> None:
    class Item:
        pass

    items = [Item() for _ in range(10)]
    last = weakref.ref(items[-1])
    fr.map(lambda item: 1, items, cluster=cluster)
    del items
    until(lambda: last() is None, "its items are let go")
    until(
        lambda: not any(thread.name == "forkright-cluster" for thread in threading.enumerate()),
        "its thread has ended",
    )


def test_what_a_cluster_can_not_keep_is_refused(cluster: Any) -> None:
    async def coroutine(item: int) -> int:
        return item

    refused: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (ValueError, "plan='threads' is for this machine", lambda: fr.map(abs, [1], plan="threads", cluster=cluster)),
        (ValueError, "task_timeout can't be kept", lambda: fr.map(abs, [1], task_timeout=1, cluster=cluster)),
        (ValueError, "shared_state=True", lambda: fr.map(abs, [1], shared_state=True, cluster=cluster)),
        (TypeError, "is a coroutine function", lambda: fr.map(coroutine, [1], cluster=cluster)),
        (
            ValueError,
            "initializer is for workers of forkright's",
            lambda: fr.Executor(initializer=dir, cluster=cluster),
        ),
        (ValueError, "max_tasks_per_child", lambda: fr.Executor(max_tasks_per_child=1, cluster=cluster)),
        (ValueError, "task_timeout", lambda: fr.Executor(cluster=cluster).options(task_timeout=1)),
        (ValueError, "plan='serial'", lambda: fr.imap(abs, [1], plan="serial", cluster=cluster)),
        (ValueError, "workers", lambda: fr.map(abs, [1], workers=0, cluster=cluster)),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()


async def _collect(cluster: Any) -> tuple[list[int], list[int]]:
    gathered = await fr.amap(abs, range(-5, 5), cluster=cluster)
    return gathered, [value async for value in fr.aimap(abs, range(-5, 5), cluster=cluster, chunksize=3)]


def test_maps_of_asyncio_programs_run_there_too(cluster: Any) -> None:
    import asyncio

    expected = [abs(item) for item in range(-5, 5)]
    assert asyncio.run(_collect(cluster)) == (expected, expected)


__all__ = [name for name in globals() if name.startswith("test_")]


# Progress


def test_progress_counts_to_the_end(cluster: Any) -> None:
    for how in (fr.map, fr.imap, fr.imap_unordered):
        told: list[fr.Progress] = []
        assert sorted(how(tasks.add, range(20), range(20), cluster=cluster, chunksize=3, progress=told.append)) == [
            2 * item for item in range(20)
        ]
        counts = [progress.done for progress in told]
        assert counts == sorted(counts) and counts[-1] == told[-1].total == 20
        last = told[-1]
        assert (last.over, last.failed, last.plan) == (True, 0, "cluster") and 0 < last.workers <= 20


def test_progress_counts_what_failed(cluster: Any) -> None:
    told: list[fr.Progress] = []
    fr.map(divide, [1, 0, 2, 0], cluster=cluster, on_error="return", progress=told.append)
    assert (told[-1].done, told[-1].failed) == (4, 2)


def divide(item: int) -> float:
    return 1 / item


def test_a_context_is_refused(cluster: Any) -> None:
    for call in (
        lambda: fr.map(abs, [1], cluster=cluster, context=True),
        lambda: list(fr.imap(abs, [1], cluster=cluster, context=True)),
        lambda: fr.Executor(cluster=cluster, context=True),
        lambda: fr.Executor(cluster=cluster).options(context=True),
    ):
        with pytest.raises(ValueError, match="context= takes context variables to forkright's own workers"):
            call()
