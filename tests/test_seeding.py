"""With `seed=` each call draws the same numbers, whatever the plan, the chunks, the order and the reruns."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forkright as fr
from waiting import Flag

PLANS = ["serial", "threads", "processes", "hybrid", fr.Plan(2, 4), "auto"]
SEED = 20_240_611


@pytest.fixture(params=PLANS, ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


def draw(number: int, *, rng: np.random.Generator) -> tuple[int, float, int]:
    return number, rng.random(), int(rng.integers(1000))


def draw_with(number: int, scale: float, *, rng: np.random.Generator) -> float:
    return number + scale * rng.standard_normal()


def expected(count: int, seed: Any = SEED) -> list[tuple[int, float, int]]:
    children = np.random.SeedSequence(seed).spawn(count)
    return [draw(number, rng=np.random.default_rng(child)) for number, child in enumerate(children)]


def test_each_call_draws_from_the_generator_that_numpy_spawns_for_it(plan: Any) -> None:
    assert fr.map(draw, range(200), plan=plan, seed=SEED) == expected(200)
    assert fr.map(draw, list(range(20)), plan=plan, seed=SEED) == expected(20)


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_chunks_change_no_number(plan: Any, chunksize: int) -> None:
    assert fr.map(draw, range(100), plan=plan, seed=SEED, chunksize=chunksize) == expected(100)
    assert list(fr.imap(draw, range(100), plan=plan, seed=SEED, chunksize=chunksize)) == expected(100)


def test_all_that_maps_takes_a_seed(plan: Any) -> None:
    pairs = [(number, 0.5) for number in range(30)]
    wanted = fr.starmap(draw_with, pairs, plan="serial", seed=SEED)
    assert fr.starmap(draw_with, pairs, plan=plan, seed=SEED) == wanted
    assert fr.map(draw_with, range(30), [0.5] * 30, plan=plan, seed=SEED) == wanted
    assert sorted(fr.imap_unordered(draw, range(50), plan=plan, seed=SEED)) == expected(50)
    with fr.Executor(2, plan=plan if plan != "serial" else "auto") as executor:
        assert list(executor.map(draw, range(50), seed=SEED, chunksize=3)) == expected(50)
        assert list(executor.options(priority=1).map(draw, range(50), seed=SEED)) == expected(50)


def test_lambdas_draw_too(plan: Any) -> None:
    wanted = [number for _, number, _ in expected(40)]
    assert fr.map(lambda _, rng: rng.random(), range(40), plan=plan, seed=SEED) == wanted


def fail_once(number: int, flag: Flag, *, rng: np.random.Generator) -> float:
    drawn = rng.random()
    if number == 3 and not flag.is_set():
        flag.set()
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn


@pytest.mark.parametrize("plan", ["processes", "auto"])
def test_a_call_that_is_run_again_draws_the_same(plan: str, tmp_path: Path) -> None:
    flag = Flag(tmp_path / "died")
    drawn = fr.map(fail_once, range(10), [flag] * 10, plan=plan, workers=2, seed=SEED, retries=2, task_timeout=60)
    assert flag.is_set()
    assert drawn == [number for _, number, _ in expected(10)]


def fail_at_odd(number: int, *, rng: np.random.Generator) -> float:
    if number % 2:
        raise ValueError(rng.random())
    return rng.random()


def test_calls_that_fail_leave_the_others_their_numbers(plan: Any) -> None:
    results: list[Any] = fr.map(fail_at_odd, range(50), plan=plan, seed=SEED, on_error="return")
    drawn = [result.args[0] if isinstance(result, ValueError) else result for result in results]
    assert drawn == [number for _, number, _ in expected(50)]


@pytest.mark.parametrize("seed", [0, 2**70, [1, 2], (3,), np.int64(5)], ids=repr)
def test_a_seed_is_what_numpy_takes(seed: Any) -> None:
    assert fr.map(draw, range(5), seed=seed) == expected(5, seed)
    assert fr.map(draw, range(5), seed=np.random.SeedSequence(seed)) == expected(5, seed)


def test_a_seed_sequence_goes_on_where_it_is_and_stays_there() -> None:
    sequence = np.random.SeedSequence(SEED)
    sequence.spawn(2)
    first = [fr.map(draw, range(4), seed=sequence) for _ in range(2)]
    assert first[0] == first[1]
    children = sequence.spawn(4)
    assert first[0] == [draw(number, rng=np.random.default_rng(child)) for number, child in enumerate(children)]


@pytest.mark.parametrize(
    ("seed", "error"), [(True, TypeError), ("7", TypeError), (1.5, TypeError), ([1, "2"], TypeError), (-1, ValueError)]
)
def test_what_is_no_seed_is_refused(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must"):
        fr.map(draw, range(3), seed=seed)
    with pytest.raises(error, match="seed must"):
        fr.imap(draw, range(3), seed=seed)


def test_a_function_that_takes_no_generator_says_so(plan: Any) -> None:
    with pytest.raises(TypeError, match="'rng'"):
        fr.map(abs_of, range(3), plan=plan, seed=SEED)


def abs_of(number: int) -> int:
    return abs(number)


def test_the_callers_own_generators_stay_as_they_are(plan: Any) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), str(np.random.get_state())
    fr.map(draw, range(50), plan=plan, seed=SEED)
    assert before == (random.getstate(), str(np.random.get_state()))


def draw_slowly(number: int, *, rng: np.random.Generator) -> float:
    total = 0.0
    for _ in range(60_000):
        total += rng.random()
    return total


def test_drawing_from_its_generator_holds_no_work_back() -> None:
    chosen = fr.map(draw_slowly, range(40), seed=SEED)
    assert chosen == fr.map(draw_slowly, range(40), seed=SEED, plan="serial")
    assert "generator" not in fr.report().why


def test_numpy_is_imported_only_for_a_seed_and_its_absence_is_said() -> None:
    script = (
        "import sys\n"
        "import forkright as fr\n"
        "fr.map(abs, [1])\n"
        "print([name for name in sys.modules if name.startswith('numpy') or 'seeding' in name])\n"
        "sys.modules['numpy.random'] = None\n"
        "try:\n"
        "    fr.map(abs, [1], seed=1)\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n`seed=` needs NumPy: `pip install numpy`\n"
