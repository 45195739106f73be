"""A worker process that writes nonsense into the memory that it shares with its caller: tasks may fail, nothing else."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT, until

RING = 3 * 128 + (256 << 10)
DOWN = 4096
UP = DOWN + -(-RING // 4096) * 4096
# What of its line a worker spoils: from where, how much, and with what.
PARTS = {
    "all": (0, UP + RING),
    "what it is sent": (DOWN, RING),
    "what it says": (UP, RING),
    "where it reads": (DOWN + 128, 8),
    "where its caller writes": (DOWN + 256, 8),
    "where its caller reads": (UP + 128, 8),
    "where it writes": (UP + 256, 8),
    "its bell": (0, 16),
}
FILLS: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "noise": lambda length: random.Random(7).randbytes(length),
}


def spoil(offset: int, garbage: bytes) -> int:
    """Write into the line of the worker that runs this."""
    line = r"^([0-9a-f]+)-[0-9a-f]+ rw-s \S+ \S+ \S+ +/memfd:forkright-line"
    [start] = re.findall(line, Path("/proc/self/maps").read_text(), re.M)
    ctypes.memmove(int(start, 16) + offset, garbage, len(garbage))
    return os.getpid()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("plan", [fr.Plan(2), fr.Plan(2, 2)], ids=str)
def test_a_worker_that_spoils_its_line_costs_no_more_than_what_it_was_sent(plan: Any, fill: str) -> None:
    # Side by side, as most of the time is spent waiting.
    with concurrent.futures.ThreadPoolExecutor(len(PARTS)) as threads:
        runs = {part: threads.submit(_live_through, plan, part, FILLS[fill]) for part in PARTS}
    for part, run in runs.items():
        assert run.result() is None, part


def _live_through(plan: Any, part: str, fill: Callable[[int], bytes]) -> None:
    offset, length = PARTS[part]
    with fr.Executor(plan=plan) as executor:
        before = [executor.submit(tasks.square, number) for number in range(20)]
        bad = executor.submit(spoil, offset, fill(length))
        after = [executor.submit(tasks.square, number) for number in range(20)]
        for number, future in enumerate(before + after):
            error = future.exception(LIMIT)
            assert isinstance(error, fr.WorkerDied) if error else future.result() == (number % 20) ** 2
        error = bad.exception(LIMIT)
        assert error is None or (isinstance(error, fr.WorkerDied) and "`spoil`" in str(error)), error
        # What is sent to it before it dies may fail, too.
        until(lambda: _runs_all(executor), "the executor works as ever")


def _runs_all(executor: fr.Executor) -> bool:
    futures = [executor.submit(tasks.square, number) for number in range(20)]
    return all(future.exception(LIMIT) is None for future in futures)


@pytest.mark.parametrize("length", [10, 100_000])
def test_what_a_failing_initializer_raised_is_told_whatever_its_length(length: int) -> None:
    text = "x" * length
    with fr.ProcessPoolExecutor(2, initializer=tasks.fail, initargs=(text,)) as executor:
        error: BaseException | None = executor.submit(tasks.square, 2).exception(LIMIT)
    chain = []
    while error is not None:
        chain.append(str(error))
        error = error.__cause__
    assert any(text in said for said in chain)
