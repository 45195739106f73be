"""What `make bench-meter` measures the meter by is right itself: the oracle, on programs whose shares are known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
# Last: both have a module `tasks`.
sys.path.append(str(BENCHMARKS))

import launch  # noqa: E402
from meter import accuracy, interpreters, library  # noqa: E402


@pytest.fixture(scope="module")
def oracle() -> Path:
    try:
        library.build("spin")
        return library.build("oracle")
    except library.NoCompiler as reason:
        pytest.skip(f"nothing checks the oracle here: {reason}")


def visit(oracle: Path, row: str, seconds: float, *, meter: bool = False) -> list[dict[str, Any]]:
    """What the oracle, and perhaps the meter, say of the row's threads."""
    request = {"row": row, "seconds": seconds, "meter": meter}
    environment = {"LD_PRELOAD": str(oracle)}
    answer = launch.ask_module("meter.visit", request, sys.executable, environment, launch.PATIENCE)
    assert answer["contradictions"] == 0
    assert not answer["unseen"]
    for thread in answer["threads"]:
        for time in thread["truth"].values():
            # Three clocks, read one after another at each edge: none may run ahead of the others.
            assert not isinstance(time, dict) or time["cpu"] + time["delay"] <= 1.01 * time["wall"] + 0.002
    return answer["threads"]


def share(thread: dict[str, Any], state: str, clock: str = "wall") -> float:
    return thread["truth"][state][clock] / thread["truth"]["total"]["wall"]


@pytest.mark.parametrize(
    ("row", "least", "most"),
    [
        ("python", 0.9, 1),
        ("hash 1000 B", 0.9, 1),
        ("blocked with the GIL", 0.9, 1),
        ("hash 16 MB", 0, 0.1),
        ("sleep", 0, 0.1),
    ],
)
def test_a_thread_alone_holds_the_gil_for_the_share_that_is_known(oracle: Path, row: str, least: float, most: float):
    [thread] = visit(oracle, row, 0.4)
    assert least <= share(thread, "holding") <= most
    assert share(thread, "waiting") <= 0.1


@pytest.mark.parametrize(("row", "expected"), [("spin 300 off, 100 on", 0.25), ("spin 30 off, 70 on", 0.7)])
def test_a_thread_that_computes_with_and_without_the_gil_does_so_in_the_ratio_that_is_known(
    oracle: Path, row: str, expected: float
):
    # Of its CPU time: a busy machine may stop it for longer in one half than in the other.
    [thread] = visit(oracle, row, 0.4)
    assert share(thread, "holding", "cpu") / share(thread, "total", "cpu") == pytest.approx(expected, abs=0.1)


def test_two_threads_of_python_hold_one_gil_between_them_and_wait_the_rest(oracle: Path):
    threads = visit(oracle, "python x 2", 0.6)
    assert 0.9 <= sum(share(thread, "holding") for thread in threads) <= 1.05
    for thread in threads:
        # Between dropping the GIL and asking for it again, a busy machine may stop a thread.
        known = share(thread, "holding") + share(thread, "waiting")
        assert known <= 1.001
        assert known + share(thread, "apart", "delay") >= 0.9


def test_beside_python_a_thread_that_gives_the_gil_up_waits_for_it_most_of_its_time(oracle: Path):
    computing, hashing = visit(oracle, "convoy: python + hash 64 KB", 0.6)
    assert share(computing, "holding") > share(hashing, "holding")
    assert share(hashing, "waiting") > share(hashing, "holding")


def test_cpu_time_while_holding_is_told_from_blocking_while_holding(oracle: Path):
    [computing] = visit(oracle, "python", 0.3)
    [blocked] = visit(oracle, "blocked with the GIL", 0.3)
    assert share(computing, "holding", "cpu") == pytest.approx(share(computing, "total", "cpu"), abs=0.1)
    assert share(blocked, "holding", "cpu") <= 0.3 < 0.9 <= share(blocked, "holding")


def test_an_oracle_that_stands_in_for_nobody_says_so(oracle: Path):
    script = "import sys, pathlib; from meter import oracle; oracle.Oracle(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run([sys.executable, "-c", script, oracle], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Blind: the oracle saw no event: it was not preloaded" in done.stderr


@pytest.mark.parametrize("version", interpreters.VERSIONS)
def test_the_meter_finds_the_gil_of_every_python_here(version: str):
    python = sys.executable if sys.version.startswith(f"{version}.") else interpreters.find().get(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    # One extension serves them all.
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent / "python")}
    script = "from forkright import _core; print(repr(_core.meter()))"
    done = subprocess.run([python, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout == "''\n", done.stderr


def thread_of(held: float, measured: float | None, *, cpu: float = 5.0) -> dict[str, Any]:
    """A thread of 10 s as `visit` has it."""
    truth = {"holding": 10 * held, "waiting": 0.0, "total": 10.0}
    times = {state: {"wall": wall, "cpu": 0.0, "delay": 0.0} for state, wall in truth.items()}
    times["total"]["cpu"] = cpu
    shares = {"held": measured, "held_blocked": 0.0, "wait": 0.0, "seen_held": measured, "seen_wait": 0.0}
    return {"name": "worker", "truth": times, "sampled": shares | {"samples": 2500}}


@pytest.mark.parametrize(
    ("threads", "others", "stolen", "limit", "within"),
    [
        ([thread_of(0.5, 0.515)], 0.1, 0.0, 2, True),
        ([thread_of(0.5, 0.53)], 0.1, 0.0, 2, False),
        # The thread that is furthest off decides, in whichever direction.
        ([thread_of(0.5, 0.5), thread_of(0.5, 0.47)], 0.1, 0.0, 2, False),
        ([thread_of(0.5, 0.53, cpu=10), thread_of(0.5, 0.5, cpu=10)], 0.0, 0.0, 5, True),
        ([thread_of(0.5, 0.56, cpu=10), thread_of(0.5, 0.5, cpu=10)], 0.0, 0.0, 5, False),
        ([thread_of(0.5, 0.53)], 1.5, 0.0, 5, True),
        ([thread_of(0.5, 0.53)], 0.1, 0.1, 5, True),
        # What the meter does not know is not called right.
        ([thread_of(0.5, None)], 0.1, 0.0, 2, None),
    ],
)
def test_a_row_may_be_further_off_only_where_all_cores_are_busy(
    threads: list[dict[str, Any]], others: float, stolen: float, limit: float, within: bool | None
):
    assert accuracy.verdict(threads, others, stolen, cores=2) == (limit, within)


def test_a_row_without_figures_says_why():
    assert "unknown to the meter" in accuracy.line("row", {"threads": [thread_of(0.5, None)]}, cores=2)
    assert "none: no GIL was found" in accuracy.line("row", {"unseen": "no GIL was found"}, cores=2)


@pytest.mark.parametrize("row", ["python", "sleep", "hash 16 MB", "spin 30 off, 70 on", "python x 2"])
def test_the_meter_agrees_with_the_oracle(oracle: Path, row: str):
    threads = visit(oracle, row, 1.5, meter=True)
    for what in (accuracy.HELD, accuracy.WAITED):
        found = accuracy.worst(threads, what)
        assert found is not None
        assert abs(found.points) <= 15
