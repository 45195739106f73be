"""What a pool costs by being there, and whether a million tasks change it."""

from __future__ import annotations

import os
import time

import peers
import processes
import tasks
from measures.shape import Figures, submit_and_take, warm_up

BATCHES = 100


def million(contestant: str, size: int, repeats: int) -> Figures:
    """So many tasks in a hundred batches: the time per task and the memory of all processes, in the first tenth and
    the last."""
    batch = size // BATCHES
    found: Figures = {name: [] for name in ("first", "last", "memory first", "memory last")}
    with peers.EXECUTORS[contestant](peers.PROCESSES) as workers:
        warm_up(workers)
        for number in range(BATCHES):
            took = submit_and_take(workers, batch) / batch
            if number < BATCHES // 10 or number >= BATCHES * 9 // 10:
                when = "first" if number < BATCHES // 2 else "last"
                found[when].append(took)
                found[f"memory {when}"].append(sum(map(processes.resident, processes.of(os.getpid()))))
    return found


def idle(contestant: str, size: int, repeats: int) -> Figures:
    """The share of a core that all processes use while nothing is to be done, for so many seconds."""
    with peers.EXECUTORS[contestant](peers.PROCESSES) as workers:
        warm_up(workers)
        # What follows a task, as the freeing of memory, is not idleness yet.
        time.sleep(1)
        members = processes.of(os.getpid())
        before, began = sum(map(processes.cpu, members)), time.perf_counter()
        time.sleep(size)
        used = sum(map(processes.cpu, members)) - before
        return {"cpu": [used / (time.perf_counter() - began)]}


def memory(contestant: str, size: int, repeats: int) -> Figures:
    """The memory (PSS) of a worker that has run tiny tasks, and of all processes but the caller."""
    with peers.EXECUTORS[contestant](peers.PROCESSES) as workers:
        warm_up(workers)
        submit, result = workers
        pids = {result(handle) for handle in [submit(tasks.worker) for _ in range(200)]}
        others = processes.of(os.getpid()) - {os.getpid()}
        found = [processes.proportional(pid) for pid in pids]
        return {"worker": [sum(found) / len(found)], "pool": [sum(map(processes.proportional, others))]}
