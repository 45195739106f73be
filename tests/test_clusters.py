"""Maps and executors on a `concurrent.futures.Executor` that stands for a cluster, and the rules that they go by.

tests/clusters has the same promises on Dask and Ray.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forkright as fr
import tasks
from cluster_promises import *  # noqa: F403
from forkright._cluster import chunk, parcel, remote, verdict
from waiting import LIMIT, Flag

TIMES = st.floats(0, 1e4)


@pytest.fixture(scope="module", params=["processes", "threads"])
def cluster(request: pytest.FixtureRequest) -> Iterator[concurrent.futures.Executor]:
    executor: concurrent.futures.Executor
    if request.param == "processes":
        executor = concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    else:
        executor = concurrent.futures.ThreadPoolExecutor(2)
    with executor:
        yield executor


# Executors of the standard library


def test_a_broken_executor_fails_its_calls(tmp_path: Any) -> None:
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        results = fr.map(tasks.die_at, [1, 2], [1, 1], ["exit"] * 2, cluster=executor, on_error="return", chunksize=2)
        assert [type(result) for result in results] == [fr.WorkerDied, fr.WorkerDied]
        assert "the cluster's worker died while it ran `die_at`" in str(results[0])
        with pytest.raises(concurrent.futures.BrokenExecutor):
            fr.map(abs, [1], cluster=executor)


def test_a_large_function_goes_only_to_who_asks_for_it() -> None:
    class Counting(concurrent.futures.ThreadPoolExecutor):
        carried: list[int] = []

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.carried.append(len(args[1] or b""))
            return super().submit(fn, *args, **kwargs)

    large = bytes(1_000_000)
    with Counting(2) as executor:
        assert fr.map(lambda item: item + large[0], range(20), cluster=executor, chunksize=1) == list(range(20))
        assert sum(carried > 1_000_000 for carried in executor.carried) == 2
        # A worker that lost it asks for it.
        seen = len(executor.carried)
        with fr.Executor(cluster=executor) as pool:

            def first(_: object = None) -> int:
                return large[0]

            for _ in range(3):
                assert pool.submit(first).result(LIMIT) == 0
            remote._kept()[0].clear()
            assert pool.submit(first).result(LIMIT) == 0
        assert [carried > 1_000_000 for carried in executor.carried[seen:]] == [True, True, False, False, True]


def test_a_runner_needs_no_forkright(tmp_path: Any) -> None:
    import subprocess
    import sys

    function = parcel.dumps((lambda item, rng: item + rng.integers(1), fr._map.seeds_of(1)), "f")
    piece = parcel.dumps((parcel.dumps([((5,), {})], "a"), 0, False), "a")
    script = (
        "import pickle, sys\n"
        "sys.modules['forkright'] = None\n"
        "call, function, chunk = pickle.load(sys.stdin.buffer)\n"
        "print(pickle.loads(call('token', function, chunk)[0][0]))\n"
    )
    given = __import__("pickle").dumps((parcel.Carrier(remote.call), function, piece))
    out = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, check=True, cwd=tmp_path)
    assert out.stdout == b"5\n"


@pytest.mark.parametrize("cluster", ["dask", "slurm", 5, object()], ids=repr)
def test_what_is_no_cluster_is_refused(cluster: Any) -> None:
    with pytest.raises(TypeError, match=r"Client|cluster must be"):
        fr.map(abs, [1], cluster=cluster)


def test_priorities_need_a_cluster_that_knows_them() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads, fr.Executor(cluster=threads) as executor:
        with pytest.raises(ValueError, match="the ThreadPoolExecutor knows no priorities"):
            executor.options(priority=1)


def test_a_closed_executor_says_so() -> None:
    threads = concurrent.futures.ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        fr.map(abs, [1], cluster=threads)


def test_shutdown_waits_for_what_was_submitted(tmp_path: Any) -> None:
    go = Flag(tmp_path / "go")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        executor = fr.Executor(cluster=threads)
        future = executor.submit(go.wait)
        executor.shutdown(wait=False)
        assert not future.done()
        go.set()
        executor.shutdown()
        assert future.done()


# Sizes of chunks


@given(
    st.integers(0, 10_000), st.integers(1, 64), st.none() | st.floats(1e-8, 1), st.integers(0, 1000), st.floats(0, 1)
)
def test_chunks_cover_all_items_and_never_more(
    items: int, workers: int, seconds: float | None, seen: int, hop: float
) -> None:
    left = items
    while left:
        size = chunk.size(left, workers, seconds, seen, hop)
        assert 1 <= size <= left
        assert seconds is None or size <= max(seen, 1)
        left -= size
    assert chunk.size(0, workers, seconds, seen, hop) == 0


@given(st.integers(1, 10**6), st.integers(1, 64), st.floats(1e-6, 1), st.floats(0, 0.1))
def test_a_chunk_is_worth_its_hop(items: int, workers: int, seconds: float, hop: float) -> None:
    size = chunk.size(items, workers, seconds, 10**9, hop)
    fair = -(-items // (2 * workers))
    assert size == fair or size * seconds >= 0.95 * 20 * hop or size == 1
    # And no longer than a person waits, unless it is one item.
    assert size == 1 or (size - 1) * seconds <= 2.0


# What the way costs


@given(st.floats(1e-5, 1), st.floats(1e-10, 1e-6))
def test_the_way_is_read_from_messages(hop: float, per_byte: float) -> None:
    lengths = [100] * 9 + [1_000_000, 2_000_000, 5_000_000]
    found = verdict.way((length, hop + (length - 100) * per_byte) for length in lengths)
    assert found.hop == pytest.approx(hop)
    assert found.per_byte == pytest.approx(per_byte, rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 10**8), TIMES)))
def test_the_way_never_costs_less_than_nothing(samples: list[tuple[int, float]]) -> None:
    found = verdict.way(samples)
    assert found.hop >= 0 and found.per_byte >= 0


# Whether a cluster pays


def case(**changes: Any) -> verdict.Case:
    """1,000 items of 10 ms that compute, on 4 workers there and 2 cores here."""
    usual = {
        "cluster": "Dask",
        "items": 1000,
        "wall": 2.6,
        "busy": 10.0,
        "cpu": 10.0,
        "longest": 0.01,
        "travel": 0.1,
        "hop": 0.003,
        "bytes": 12_000_000,
        "workers": 4,
        "cores": 2,
    }
    return verdict.Case(**(usual | changes))


def test_a_cluster_that_pays_is_told_from_one_that_does_not() -> None:
    assert verdict.judge(case()).sentence == (
        "the cluster paid: 1,000 items of 10 ms took 2.6 s on 4 workers of Dask, and would take 10 s in this process, "
        "5 s on the 2 cores here"
    )
    tiny = case(busy=0.2, cpu=0.2, longest=0.001, wall=4.3, travel=4.1)
    assert verdict.judge(tiny).sentence == (
        "the cluster did not pay: 1,000 items of 0.2 ms took 4.3 s on 4 workers of Dask, 4.1 s of it on the way "
        "(hop 3 ms, 12 MB), and would take 200 ms in this process, 100 ms on the 2 cores here"
    ).replace("0.2 ms", "200 µs")
    assert verdict.judge(case(wall=5.0)).paid is None
    waiting = verdict.judge(case(cpu=0.1, wall=2.6))
    assert not waiting.paid and waiting.sentence.endswith("312 ms on threads here")


@given(st.integers(1, 10**6), TIMES, TIMES, st.floats(0, 1), st.integers(1, 256))
def test_a_verdict_follows_from_its_figures(items: int, wall: float, busy: float, share: float, cores: int) -> None:
    judged = verdict.judge(case(items=items, wall=wall, busy=busy, cpu=busy * share, longest=busy / items, cores=cores))
    assert judged.cores <= judged.serial == busy
    if wall < 0.8 * judged.cores:
        assert judged.paid
    elif wall > 1.2 * judged.cores:
        assert judged.paid is False


@given(TIMES, TIMES)
def test_what_takes_longer_does_not_pay_sooner(one: float, other: float) -> None:
    less, more = sorted((one, other))
    ranks = {True: 0, None: 1, False: 2}
    assert ranks[verdict.judge(case(wall=less)).paid] <= ranks[verdict.judge(case(wall=more)).paid]
