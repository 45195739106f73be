"""What it is worth that worker processes share the cores for BLAS, and whether threads should: `make bench-blas`.

Worker processes have their share of the cores, or BLAS has all cores in each as it would by itself: that is had by
saying so in the environment, which forkright leaves as it is. Threads of this process have BLAS as it is, or limited to
one thread by `threadpoolctl`, which limits it for the whole program. Rounds take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

import forkright as fr
import machine
import store
from progress import say

# Of each: the function, the size of its matrices, calls.
WORK: dict[str, tuple[Callable[[Any], Any], int, int]] = {
    "matmul, 1000 x 1000": (lambda matrix: matrix @ matrix, 1000, 12),
    "matmul, 200 x 200": (lambda matrix: matrix @ matrix, 200, 800),
    "svd, 200 x 200": (np.linalg.svd, 200, 24),
}
CORES = fr.cpu_count()
KINDS = ("serial", "processes, shared", "processes, all", "threads, as it is", "threads, limited")


def call(name: str, seed: int) -> float:
    """One call on a matrix of its own; so little comes back that carrying it does not count."""
    function, size, _ = WORK[name]
    result = function(np.random.default_rng(seed).random((size, size)))
    return float(result[0][0][0] if isinstance(result, tuple) else result[0][0])


def processes(executor: fr.Executor) -> Callable[[str], object]:
    """Calls on the workers of an executor."""
    return lambda name: list(executor.map(call, [name] * WORK[name][2], range(WORK[name][2])))


def serial(name: str) -> None:
    for seed in range(WORK[name][2]):
        call(name, seed)


def threads(name: str) -> None:
    fr.map(call, [name] * WORK[name][2], range(WORK[name][2]), plan=fr.Plan(threads=CORES), chunksize=1)


def limited(name: str) -> None:
    with threadpool_limits(1):
        threads(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    plan = fr.Plan(CORES)
    with fr.Executor(plan=plan) as shared, fr.Executor(plan=plan) as whole:
        list(shared.map(warm, range(2 * CORES)))
        os.environ["OMP_NUM_THREADS"] = str(CORES)
        list(whole.map(warm, range(2 * CORES)))
        del os.environ["OMP_NUM_THREADS"]
        assert {*shared.map(native_threads, range(9))} == {1}
        assert {*whole.map(native_threads, range(9))} == {CORES}
        run = dict(zip(KINDS, (serial, processes(shared), processes(whole), threads, limited), strict=True))
        found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in WORK}
        for number in range(rounds + 1):
            for name in WORK:
                for kind, body in run.items():
                    say(f"round {number} of {rounds}: {name}, {kind}")
                    began = time.perf_counter()
                    body(name)
                    # The first round warms up.
                    if number:
                        found[name][kind].append(time.perf_counter() - began)
    say("")
    data = {"machine": machine.describe(), "rounds": rounds, "seconds": found}
    text = markdown(data)
    print(text)
    store.save("blas", store.kind(rounds < 7, False), data, text)


def warm(_: int) -> None:
    time.sleep(0.05)
    call("matmul, 200 x 200", 0)


def native_threads(_: int) -> int:
    return max(library["num_threads"] for library in threadpool_info())


def markdown(data: dict[str, Any]) -> str:
    """The medians in milliseconds, with the quartiles."""
    lines = [f"| all calls, ms | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for name, kinds in data["seconds"].items():
        cells = []
        for kind in KINDS:
            low, middle, high = (1000 * part for part in statistics.quantiles(kinds[kind], n=4))
            cells.append(f"{middle:.0f} ({low:.0f} to {high:.0f})")
        lines.append(f"| {WORK[name][2]} x {name} | {' | '.join(cells)} |")
    rounds = f"Medians of {data['rounds']} rounds, with quartiles."
    return "\n".join([*lines, "", f"{rounds} {machine.sentence(data['machine'])}.", ""])


if __name__ == "__main__":
    main()
