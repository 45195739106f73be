"""What maps and executors promise, on Dask distributed; and what is Dask's own."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from cluster_promises import *  # noqa: F403
from waiting import LIMIT, Flag, until


@pytest.fixture
def cluster(dask: Any) -> Any:
    return dask


def test_a_worker_that_dies_costs_nothing_if_dask_runs_its_chunk_again(dask: Any, tmp_path: Path) -> None:
    died = Flag(tmp_path / "died")
    assert fr.map(tasks.die_once, range(40), [17] * 40, [died] * 40, cluster=dask) == list(range(40))
    assert died.is_set()


def test_a_call_that_kills_workers_fails_alone_when_run_again(dask: Any) -> None:
    results = fr.map(
        tasks.die_at, range(8), [5] * 8, ["exit"] * 8, cluster=dask, retries=1, on_error="return", chunksize=4
    )
    assert [result for result in results if not isinstance(result, Exception)] == [0, 1, 2, 3, 4, 6, 7]
    assert isinstance(results[5], fr.WorkerDied)
    assert "Dask gave it to" in str(results[5])
    # The cluster has workers again.
    assert fr.map(abs, [-1] * 10, cluster=dask) == [1] * 10


def test_nothing_of_a_map_is_left_with_the_client(dask: Any) -> None:
    fr.map(lambda item: item, range(100), cluster=dask)
    assert list(fr.imap(lambda item: item, range(10), cluster=dask)) == list(range(10))
    gc.collect()
    until(lambda: not dask.futures, "the client has no future left")
    assert dask.status == "running"


def test_large_data_travels_both_ways(dask: Any) -> None:
    large = bytes(3_000_000)
    assert fr.map(lambda item: item + large, [large] * 3, cluster=dask) == [large + large] * 3
    assert fr.report().data["cluster"]["per_byte"] > 0


def test_priorities_are_dasks(dask: Any, tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    with fr.Executor(cluster=dask) as executor:
        busy = [executor.submit(go.wait) for _ in range(2)]
        until(lambda: sum(map(len, dask.processing().values())) == 2, "both workers are busy")
        for rank in range(6):
            executor.options(priority=rank).submit(abs, rank)

        def priorities(dask_scheduler: Any) -> set[int]:
            return {task.priority[0] for task in dask_scheduler.tasks.values() if task.key.startswith("abs-")}

        # Dask's own order: less is earlier.
        until(lambda: dask.run_on_scheduler(priorities) == {-rank for rank in range(6)}, "all have come")
        go.set()
        assert [future.result(LIMIT) for future in busy] == [None, None]


def test_a_cluster_object_and_an_asynchronous_client_are_told_what_to_be(dask: Any) -> None:
    with pytest.raises(TypeError, match=r"distributed\.Client\(cluster\)"):
        fr.map(abs, [1], cluster=dask.cluster)


def test_a_closed_client_fails_clearly(dask: Any) -> None:
    from distributed import Client

    client = Client(dask.scheduler.address, set_as_default=False)
    client.close()
    with pytest.raises(ValueError, match="the Client is closed"):
        fr.map(abs, [1], cluster=client)


def test_an_executor_of_dasks_stands_for_its_cluster(dask: Any) -> None:
    with dask.get_executor(pure=False) as executor:
        assert fr.map(lambda item: -item, range(20), cluster=executor, workers=2) == [-item for item in range(20)]
