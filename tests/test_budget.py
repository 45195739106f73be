"""Worker processes share the cores: what BLAS, OpenMP, nested maps and nested joblib may take follows from their number."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

import forkright as fr
from forkright import _budget
from scripts import run

CORES = fr.cpu_count()


def native_threads(_: int = 0) -> set[int]:
    """Of each library with threads of its own that NumPy has loaded."""
    time.sleep(0.005)
    np.ones((4, 4)) @ np.ones((4, 4))
    return {library["num_threads"] for library in threadpool_info()}


@pytest.mark.parametrize("plan", [fr.Plan(1), fr.Plan(2), fr.Plan(3), fr.Plan(2, 2), fr.Plan(1, 2)], ids=str)
def test_blas_has_a_worker_processes_share_of_the_cores(plan: fr.Plan) -> None:
    share = max(1, CORES // (plan.processes * plan.threads))
    with fr.Executor(plan=plan) as executor:
        found = [future.result() for future in [executor.submit(native_threads) for _ in range(8)]]
    assert found == [{share}] * 8
    assert fr.map(native_threads, range(8), plan=plan) == [{share}] * 8


def test_the_share_follows_when_maps_ask_for_more_or_fewer_workers() -> None:
    for processes in (2, 1, 2, 1):
        plan = fr.Plan(processes)
        assert fr.map(native_threads, range(6), plan=plan) == [{max(1, CORES // processes)}] * 6
        assert fr.map(cores, range(6), plan=plan) == [max(1, CORES // processes)] * 6
        # What a task starts in turn goes by that; where it is all cores, nothing need say so.
        said = set(fr.map(openmp, range(6), plan=plan))
        assert said <= {str(max(1, CORES // processes)), *([None] if processes == 1 else [])}


def test_the_first_worker_leaves_cores_to_those_that_will_come(tmp_path: Path) -> None:
    lines = run(
        """
        import json, os, time
        import forkright as fr
        caller = os.getpid()

        def work(_):
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            return None if os.getpid() == caller else (fr.cpu_count(), os.environ.get("OPENBLAS_NUM_THREADS"))

        seen = {share for share in fr.map(work, range(60)) if share}
        plans = [verdict["verdict"]["plan"] for verdict in json.loads(fr.report().to_json())["verdicts"]]
        print({max(1, fr.cpu_count() // plan["processes"]) for plan in plans if plan["processes"]} or {fr.cpu_count()})
        print({cores for cores, _ in seen} or {fr.cpu_count()}, {int(blas or fr.cpu_count()) for _, blas in seen})
        """,
        tmp_path,
    )
    planned, *found = lines
    assert found == [f"{planned} {planned}"], "processes that were to come were not counted"


def openmp(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def cores(_: int = 0) -> int:
    return fr.cpu_count()


def test_the_initializer_finds_it_so_already() -> None:
    with fr.Executor(plan=fr.Plan(CORES), initializer=look) as executor:
        assert executor.submit(looked).result() == ({1}, 1)


def look() -> None:
    fr.worker_state().found = native_threads(), cores()


def looked() -> Any:
    return fr.worker_state().found


@pytest.mark.parametrize(
    ("mine", "wanted"),
    [
        ({"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": None, "NUMEXPR_NUM_THREADS": "1"}),
        ({"OPENBLAS_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "3"}),
        ({"LOKY_MAX_CPU_COUNT": "7"}, {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "7"}),
        ({}, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}),
    ],
    ids=str,
)
def test_what_the_users_environment_says_holds(
    mine: dict[str, str], wanted: dict[str, str | None], tmp_path: Path
) -> None:
    run(
        f"""
        import os
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
        for name in names:
            os.environ.pop(name, None)
        os.environ.update({mine!r})
        import forkright as fr

        def seen(_):
            return {{name: os.environ.get(name) for name in {list(wanted)!r}}}

        many = fr.Plan(fr.cpu_count())
        assert fr.map(seen, range(2), plan=many) == [{wanted!r}] * 2, fr.map(seen, [0], plan=many)
        assert {{name: os.environ.get(name) for name in {mine!r}}} == {mine!r}
        """,
        tmp_path,
    )


def test_threads_of_this_process_leave_blas_as_it_is() -> None:
    here = native_threads()
    assert fr.map(native_threads, range(6), plan="threads") == [here] * 6
    assert native_threads() == here


def families(_: int, plan: Any) -> tuple[int, set[int]]:
    """The process of a call, and those in which calls of its own run."""
    return os.getpid(), set(fr.map(work, range(12), plan=plan))


def work(_: int) -> int:
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        sum(range(100))
    return os.getpid()


@pytest.mark.parametrize("plan", ["auto", "processes"])
def test_maps_within_calls_keep_within_the_cores(plan: str) -> None:
    with fr.Executor(plan=fr.Plan(CORES)) as executor:
        found = list(executor.map(families, range(CORES), [plan] * CORES))
    for pid, inner in found:
        others = inner - {pid}
        assert len(others) <= 1 and (plan == "processes" or not others), f"{len(others)} processes more for one core"


def jobs(_: int) -> tuple[int, set[int]]:
    import joblib

    return joblib.effective_n_jobs(-1), set(joblib.Parallel(n_jobs=-1)(joblib.delayed(os.getpid)() for _ in range(6)))


def test_joblib_within_calls_keeps_within_the_cores() -> None:
    with fr.Executor(plan=fr.Plan(CORES)) as executor:
        pids = {future.result() for future in [executor.submit(os.getpid) for _ in range(8)]}
        for number, inner in executor.map(jobs, range(4)):
            assert number == 1
            assert len(inner) == 1 and inner <= {*pids, *executor._pool.pids()}


def test_numbas_threads_do_not_change_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        patch.setattr(_budget, "_CORES", 8)
        patch.setattr(_budget, "_LIBRARIES", ())
        _budget.begin(2)
        assert os.environ["NUMBA_NUM_THREADS"] == "2"
        patch.setitem(__import__("sys").modules, "numba", os)
        _budget.change(4)
        assert (os.environ["OMP_NUM_THREADS"], os.environ["NUMBA_NUM_THREADS"]) == ("4", "2")
