"""What maps and executors promise, on Ray; and what is Ray's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from cluster_promises import *  # noqa: F403
from waiting import Flag


@pytest.fixture
def cluster(ray: Any) -> Any:
    return ray


def test_its_name_is_enough(ray: Any) -> None:
    assert fr.map(abs, [-1, -2], cluster="ray") == [1, 2]
    with fr.Executor(cluster="ray") as executor, pytest.raises(ValueError, match="Ray knows no priorities"):
        executor.options(priority=1)
    assert ray.is_initialized()


def test_a_killed_worker_costs_its_chunk_alone(ray: Any, tmp_path: Path) -> None:
    died = Flag(tmp_path / "died")
    calls = range(12), [5] * 12, [died] * 12
    results = fr.map(tasks.die_once, *calls, cluster=ray, on_error="return", chunksize=3)
    assert [type(result) for result in results[3:6]] == [fr.WorkerDied] * 3
    assert results[:3] + results[6:] == [*range(3), *range(6, 12)]
    with pytest.raises(fr.WorkerDied, match="the cluster's worker died while it ran `die_at`"):
        fr.map(tasks.die_at, [1], [1], ["exit"], cluster=ray)


def test_a_call_whose_worker_died_is_run_again(ray: Any, tmp_path: Path) -> None:
    died = Flag(tmp_path / "died")
    calls = range(12), [5] * 12, [died] * 12
    assert fr.map(tasks.die_once, *calls, cluster=ray, retries=1, chunksize=3) == list(range(12))
    assert fr.report().data["tasks"] == 12
    died.clear()
    with fr.Executor(cluster=ray) as executor:
        assert executor.options(retries=1).submit(tasks.die_once, 5, 5, died).result(30) == 5
        assert executor.report().data["cluster"]["retried"] == 1


def test_a_call_that_kills_workers_fails_alone_when_run_again(ray: Any) -> None:
    results = fr.map(
        tasks.die_at, range(8), [5] * 8, ["exit"] * 8, cluster=ray, retries=1, on_error="return", chunksize=4
    )
    assert [result for result in results if not isinstance(result, Exception)] == [0, 1, 2, 3, 4, 6, 7]
    assert isinstance(results[5], fr.WorkerDied)


def test_large_data_travels_both_ways(ray: Any) -> None:
    large = bytes(3_000_000)
    assert fr.map(lambda item: item + large, [large] * 3, cluster=ray) == [large + large] * 3
    assert fr.report().data["cluster"]["per_byte"] > 0
