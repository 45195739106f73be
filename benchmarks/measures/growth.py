"""How the cost of a task grows: with the workers, with what is passed, and with how many wait.

The figures are named by the values along which they grow. A value that would take too long by the one before is left
out, and so are those above: nobody waits minutes for a point that shows what the last one did.
"""

from __future__ import annotations

import time

import peers
import tasks
from measures.shape import Figures, submit_and_take, warm_up

WORKERS = (1, 2, 4, 8, 16, 32, 64)
PAYLOADS = (10, 1_000, 10_000, 100_000, 1_000_000, 16_000_000, 256_000_000)
QUEUES = (1, 10, 100, 1_000, 10_000, 100_000)
TASKS = 2_000
PATIENCE = 4.0


def by_workers(contestant: str, size: int, repeats: int) -> Figures:
    """Tasks on 1 to so many workers, each in a pool of its own; per task."""
    found: Figures = {}
    took = 0.0
    for workers in WORKERS:
        # The pool starts and ends, too: that takes twice as long for twice the workers.
        if workers > size or 2 * took > 3 * PATIENCE:
            break
        began = time.perf_counter()
        with peers.EXECUTORS[contestant](workers) as opened:
            warm_up(opened, 200 + 20 * workers)
            found[str(workers)] = [submit_and_take(opened, TASKS) / TASKS for _ in range(repeats)]
        took = time.perf_counter() - began
    return found


def by_payload(contestant: str, size: int, repeats: int) -> Figures:
    """Bytes as the argument, up to so many, one task at a time."""
    found: Figures = {}
    each = 0.0
    with peers.EXECUTORS[contestant](1) as (submit, result):
        warm_up((submit, result))
        for length in PAYLOADS:
            if length > size or 16 * each * repeats > PATIENCE:
                break
            payload = bytes(length)
            found[str(length)] = timings = []
            for _ in range(repeats if length >= 1_000_000 else 10 * repeats):
                began = time.perf_counter()
                result(submit(tasks.touch, payload))
                timings.append(time.perf_counter() - began)
            each = min(timings)
    return found


def by_queue(contestant: str, size: int, repeats: int) -> Figures:
    """1 to so many tasks that are submitted before the first result is asked for; per task."""
    found: Figures = {}
    each = 0.0
    with peers.EXECUTORS[contestant](peers.PROCESSES) as workers:
        warm_up(workers)
        for length in QUEUES:
            if length > size or length * each > PATIENCE:
                break
            found[str(length)] = [submit_and_take(workers, length) / length for _ in range(repeats)]
            each = min(found[str(length)])
    return found
