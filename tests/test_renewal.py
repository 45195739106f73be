"""Worker processes are replaced after so many tasks or so much memory, and no task is lost or interrupted by it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import growing
import tasks
from waiting import LIMIT, Flag, Tally

MB = 10**6
# What a worker has from its beginning is less, and this much more is not.
SOME = 200 * MB

PLANS = [fr.Plan(2), fr.Plan(2, 3)]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_no_task_is_lost_or_doubled_when_workers_have_few_tasks(plan: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")
    with fr.Executor(plan=plan, max_tasks_per_child=10) as executor:
        futures = [executor.submit(growing.mark, tally, number) for number in range(300)]
        counts = Counter(future.result(LIMIT) for future in futures)
    assert tally.marks() == {str(number) for number in range(300)}
    assert max(counts.values()) <= 10


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_no_task_is_lost_or_doubled_when_workers_have_little_memory(plan: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")
    with fr.Executor(plan=plan, max_memory_per_child=SOME) as executor:
        futures = [executor.submit(growing.grow_and_mark, tally, number) for number in range(30)]
        counts = Counter(future.result(LIMIT) for future in futures)
    assert tally.marks() == {str(number) for number in range(30)}
    # Four of them are too much; those on the other threads of a process end first.
    assert max(counts.values()) <= 4 + plan.threads - 1


def test_a_process_that_is_over_takes_no_further_task() -> None:
    with fr.ProcessPoolExecutor(1, max_memory_per_child=SOME) as executor:
        grown = [future.result(LIMIT) for future in [executor.submit(growing.grow, 150 * MB) for _ in range(9)]]
    assert max(size for _, size in grown) == 300 * MB and Counter(pid for pid, _ in grown).most_common()[0][1] == 2


def test_a_process_stays_that_is_not_over() -> None:
    with fr.ProcessPoolExecutor(1, max_memory_per_child="1 GiB") as executor:
        assert len({executor.submit(growing.grow, MB).result(LIMIT)[0] for _ in range(30)}) == 1


def test_what_a_collection_frees_does_not_count() -> None:
    with fr.ProcessPoolExecutor(1, max_memory_per_child=SOME) as executor:
        assert len({executor.submit(growing.litter, 150 * MB).result(LIMIT) for _ in range(6)}) == 1


def test_what_waits_behind_a_long_task_of_a_process_that_is_over_runs_elsewhere(tmp_path: Path) -> None:
    started, go = Flag(tmp_path / "started"), Flag(tmp_path / "go")
    with fr.Executor(plan=fr.Plan(2, 2), max_memory_per_child=SOME) as executor:
        futures = [executor.submit(tasks.hold, Flag(tmp_path / f"on {number}"), go) for number in range(1)]
        long = executor.submit(growing.grow_beside, started, go, SOME)
        started.wait()
        try:
            others = [executor.submit(tasks.square, number) for number in range(40)]
            assert [future.result(LIMIT) for future in others] == [number * number for number in range(40)]
        finally:
            go.set()
        assert isinstance(long.result(LIMIT), int) and all(future.result(LIMIT) for future in futures)


def test_auto_replaces_the_processes_that_it_chose() -> None:
    with fr.Executor(max_tasks_per_child=2) as executor:
        futures = [executor.submit(growing.spend, number) for number in range(60)]
        counts = Counter(future.result(3 * LIMIT) for future in futures)
    here = counts.pop(tasks.pid(), 0)
    assert here < 60 and max(counts.values()) <= 2, counts
