"""`joblib.Parallel` on forkright's workers, with joblib's semantics, and scikit-learn on top of it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from scripts import run
from waiting import Flag, until

joblib = pytest.importorskip("joblib", reason="joblib is not installed")

import forkright.joblib  # noqa: E402
from forkright.joblib import _shelf  # noqa: E402


@pytest.fixture(autouse=True)
def on_forkright() -> Iterator[None]:
    with joblib.parallel_config(backend="forkright", n_jobs=2):
        yield
    _shelf.clear()


def call(function: Any, items: Any, **options: Any) -> list[Any]:
    return list(joblib.Parallel(**options)(joblib.delayed(function)(item) for item in items))


def name_of_thread(_: object) -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


def variable(name: str) -> str | None:
    return os.environ.get(name)


def backend_inside(_: object) -> tuple[str, int]:
    inner, _ = joblib.parallel.get_active_backend()
    return type(inner).__name__, inner.nesting_level


def square_inside(number: int) -> list[int]:
    return joblib.Parallel(n_jobs=2)(joblib.delayed(tasks.square)(number + more) for more in range(3))


def test_the_report_tells_of_the_workers_of_the_last_call() -> None:
    call(tasks.square, range(6), batch_size=1)
    report = forkright.joblib.report()
    assert report.plan == fr.Plan(processes=2)
    assert report.data["tasks"] == 6
    call(tasks.square, range(4), batch_size=2, prefer="threads")
    assert forkright.joblib.report().plan == fr.Plan(threads=2)
    assert forkright.joblib.report().data["tasks"] == 2


def test_a_report_of_nothing_is_an_error(tmp_path: Path) -> None:
    run(
        """
        import forkright.joblib
        try:
            forkright.joblib.report()
        except LookupError as error:
            assert "nothing has run" in str(error)
        else:
            raise AssertionError("there was a report")
        """,
        tmp_path,
    )


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 7}, {"prefer": "threads"}, {"pre_dispatch": "all"}, {"n_jobs": 1}]
)
def test_results_come_in_order(options: dict[str, Any]) -> None:
    assert call(tasks.square, range(200), **options) == [n * n for n in range(200)]


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_results_may_be_generated(kind: str) -> None:
    assert sorted(call(tasks.square, range(50), return_as=kind)) == [n * n for n in range(50)]


def test_lambdas_and_closures_travel() -> None:
    more = 3
    assert call(lambda number: number + more, range(3)) == [3, 4, 5]


def test_calls_run_in_worker_processes_and_leave_them_to_the_next() -> None:
    pids = set(call(tasks.pid, range(20)))
    assert os.getpid() not in pids
    assert _shelf._kept is not None
    kept = _shelf._kept[1]
    assert set(call(tasks.pid, range(20))) <= set(kept._pool.pids())


@pytest.mark.parametrize("options", [{"prefer": "threads"}, {"require": "sharedmem"}])
def test_calls_that_want_threads_or_shared_memory_get_them(options: dict[str, str]) -> None:
    found: list[int] = []
    call(found.append, range(10), **options)
    assert sorted(found) == list(range(10))
    [(pid, name)] = {(pid, name.partition("-")[0]) for pid, name in call(name_of_thread, range(9), **options)}
    assert (pid, name) == (os.getpid(), "forkright")


def test_nested_calls_run_on_threads_and_then_one_by_one() -> None:
    assert set(call(backend_inside, range(4))) == {("ThreadingBackend", 1)}
    assert call(square_inside, range(4)) == [[(n + more) ** 2 for more in range(3)] for n in range(4)]


def test_libraries_threads_are_limited_in_worker_processes() -> None:
    assert set(call(variable, ["OMP_NUM_THREADS"] * 4)) == {str(max(joblib.cpu_count() // 2, 1))}
    with joblib.parallel_config(backend="forkright", n_jobs=2, inner_max_num_threads=3):
        assert set(call(variable, ["OPENBLAS_NUM_THREADS"] * 4)) == {"3"}


def test_a_failure_ends_the_call_and_kills_what_runs(tmp_path: Path) -> None:
    started, go = Flag(tmp_path / "started"), Flag(tmp_path / "go")
    jobs = [joblib.delayed(tasks.hold)(started, go), joblib.delayed(fail_when)(started)]
    with pytest.raises(ValueError, match="no luck"):
        joblib.Parallel()(jobs)
    assert not go.is_set()
    assert call(tasks.square, range(3)) == [0, 1, 4]


def fail_when(started: Flag) -> None:
    started.wait()
    raise ValueError("no luck")


def test_a_call_that_takes_too_long_ends(tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    with pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=0.1)(joblib.delayed(tasks.hold)(Flag(tmp_path / f"{n}"), go) for n in range(2))


def test_a_worker_that_dies_costs_the_call_and_not_the_backend() -> None:
    with pytest.raises(fr.WorkerDied, match="SIGKILL"):
        call(tasks.die, ["SIGKILL"])
    assert call(tasks.square, range(3)) == [0, 1, 4]


def test_a_backend_that_is_kept_open_goes_on_after_a_failure() -> None:
    with joblib.Parallel(n_jobs=2) as parallel:
        with pytest.raises(ValueError, match="no luck"):
            parallel(joblib.delayed(tasks.fail)("no luck") for _ in range(3))
        assert parallel(joblib.delayed(tasks.square)(n) for n in range(3)) == [0, 1, 4]


@pytest.mark.parametrize("options", [{}, {"backend": "forkright"}])
def test_two_calls_at_a_time_both_go_on(options: dict[str, Any]) -> None:
    first = joblib.Parallel(n_jobs=2, return_as="generator", **options)(
        joblib.delayed(tasks.square)(n) for n in range(9)
    )
    assert next(first) == 0
    assert call(tasks.square, range(4), n_jobs=2, **options) == [0, 1, 4, 9]
    assert call(tasks.square, range(4), n_jobs=3, prefer="threads", **options) == [0, 1, 4, 9]
    assert list(first) == [n * n for n in range(1, 9)]


def test_idle_workers_end(tmp_path: Path) -> None:
    with joblib.parallel_config(backend="forkright", n_jobs=2, idle_worker_timeout=0.05):
        [pid] = set(call(tasks.pid, [1]))
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker has gone")


def test_a_program_ends_without_leaving_its_workers(tmp_path: Path) -> None:
    lines = run(
        """
        import joblib, forkright.joblib
        with joblib.parallel_config(backend="forkright"):
            print(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-n) for n in range(4)))
            print(joblib.Parallel(n_jobs=-1)(joblib.delayed(lambda n: n + 1)(n) for n in range(4)))
        """,
        tmp_path,
    )
    assert lines == ["[0, 1, 2, 3]", "[1, 2, 3, 4]"]


def test_scikit_learn_gives_what_it_gives_with_loky_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    script = tmp_path / "script.py"
    script.write_text(
        """
import joblib, forkright.joblib
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import DecisionTreeClassifier

X, y = make_classification(300, 10, random_state=0)

def forest():
    return RandomForestClassifier(20, random_state=1, n_jobs=2).fit(X, y).predict_proba(X).tolist()

def search():
    found = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0]}, n_jobs=2).fit(X, y)
    return found.best_params_, found.cv_results_["mean_test_score"].tolist()

def validation():
    return cross_val_score(DecisionTreeClassifier(random_state=2), X, y, n_jobs=2).tolist()

for work in forest, search, validation:
    with joblib.parallel_config(backend="loky", n_jobs=2):
        reference = work()
    with joblib.parallel_config(backend="forkright", n_jobs=2):
        print(work.__name__, work() == reference)
"""
    )
    # scikit-learn takes each of the four processes more than a second to import.
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=110)
    assert done.stdout.splitlines() == ["forest True", "search True", "validation True"], done.stderr
