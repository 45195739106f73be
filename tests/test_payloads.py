"""Large arguments and results arrive whole, belong to who gets them, and their memory comes back."""

from __future__ import annotations

import gc
import hashlib
import operator
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, until

MEGA = 1 << 20


@pytest.fixture(params=[fr.Plan(2), fr.Plan(2, 2)], ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def executor(plan: Any) -> Iterator[fr.Executor]:
    with fr.Executor(plan=plan) as executor:
        yield executor


def digest(data: Any) -> str:
    return hashlib.blake2b(data).hexdigest()


def pattern(size: int) -> bytes:
    return (b"0123456789abcdefg" * (size // 17 + 1))[:size]


def halves(array: Any) -> Any:
    return [array[::2], array[1::2], array.sum()]


def overwrite(array: Any) -> tuple[bool, float]:
    """What a worker sees after it writes to its argument."""
    if array.flags.writeable:
        array[:] = -1
    return bool(array.flags.writeable), float(array.ravel()[0])


def zeros(count: int) -> Any:
    return np.zeros(count)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65_535, 65_536, MEGA + 1, 100 * MEGA])
def test_bytes_of_any_size_go_out_and_come_back(executor: fr.Executor, size: int) -> None:
    data = pattern(size)
    assert executor.submit(digest, data).result(LIMIT) == digest(data)
    assert executor.submit(pattern, size).result(LIMIT) == data
    assert executor.submit(tasks.identity, data).result(LIMIT) == data


def test_mutable_buffers_come_back_as_what_they_were(executor: fr.Executor) -> None:
    data = bytearray(pattern(MEGA))
    back = executor.submit(tasks.identity, data).result(LIMIT)
    assert type(back) is bytearray and back == data
    back[0] = 0
    assert executor.submit(digest, memoryview(data)).result(LIMIT) == digest(data)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10),
        np.arange(3_000_000, dtype=np.float64),
        np.asfortranarray(np.arange(1_000_000).reshape(1000, 1000)),
        np.arange(2_000_000)[::3],
        np.array([], dtype=np.int8),
        np.array(5.0),
        np.arange(1000).reshape(10, 10, 10).transpose(2, 0, 1),
        np.array([{"a": 1}, None], dtype=object),
        np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
    ],
    ids=lambda array: f"{array.dtype.kind}{array.shape}",
)
def test_arrays_arrive_equal_with_their_type_and_order(executor: fr.Executor, array: Any) -> None:
    back = executor.submit(tasks.identity, array).result(LIMIT)
    assert type(back) is np.ndarray and back.dtype == array.dtype and back.shape == array.shape
    assert np.array_equal(back, array)
    assert back.flags.f_contiguous == array.flags.f_contiguous or not array.flags.forc
    [again] = fr.map(tasks.identity, [array], plan="processes")
    assert np.array_equal(again, array)


def test_what_a_worker_writes_to_an_array_is_not_seen_here(executor: fr.Executor, plan: Any) -> None:
    array = np.ones(1_000_000)
    writable, first = executor.submit(overwrite, array).result(LIMIT)
    assert first == (-1 if writable else 1)
    assert (array == 1).all()
    assert all(outcome == (writable, first) for outcome in fr.map(overwrite, [array] * 8, plan=plan))
    assert (array == 1).all()


def test_one_array_given_to_many_tasks_reaches_each_unchanged(executor: fr.Executor) -> None:
    array = np.ones(500_000)
    futures = [executor.submit(overwrite, array) for _ in range(10)]
    assert len({future.result(LIMIT) for future in futures}) == 1


def test_arguments_are_sent_as_they_were_at_submit(executor: fr.Executor) -> None:
    array = np.zeros(1_000_000)
    futures = []
    for number in range(20):
        array[:] = number
        futures.append(executor.submit(np.max, array))
    assert [future.result(LIMIT) for future in futures] == list(range(20))


def test_arrays_that_came_back_can_be_written_to_and_are_alone(executor: fr.Executor) -> None:
    first, second = (executor.submit(zeros, 1_000_000).result(LIMIT) for _ in range(2))
    first[:] = 7
    assert (second == 0).all()
    third = executor.submit(zeros, 1_000_000).result(LIMIT)
    assert (third == 0).all() and (first == 7).all()


def test_many_arrays_at_once_arrive_whole(executor: fr.Executor, plan: Any) -> None:
    arrays = [np.full(200_000, number, dtype=np.int32) for number in range(60)]
    futures = [executor.submit(halves, array) for array in arrays]
    for number, future in enumerate(futures):
        even, odd, total = future.result(LIMIT)
        assert (even == number).all() and (odd == number).all() and total == 200_000 * number
    results = fr.map(halves, arrays, plan=plan)
    assert [int(total) for _, _, total in results] == [200_000 * number for number in range(60)]


def test_many_arrays_in_one_object_arrive_whole(executor: fr.Executor) -> None:
    arrays = {number: np.full(50_000, number) for number in range(200)}
    back = executor.submit(tasks.identity, arrays).result(LIMIT)
    assert all((back[number] == number).all() for number in range(200))


def test_an_array_keeps_its_memory_after_its_executor_is_gone(plan: Any) -> None:
    with fr.Executor(plan=plan) as executor:
        array = executor.submit(np.arange, 1_000_000).result(LIMIT)
    del executor
    gc.collect()
    assert (array == np.arange(1_000_000)).all()


def test_memory_comes_back_when_arguments_are_used_and_results_dropped(executor: fr.Executor) -> None:
    pool = executor._pool
    for _ in range(3):
        futures = [executor.submit(tasks.identity, np.ones(1_000_000)) for _ in range(10)]
        results = [future.result(LIMIT) for future in futures]
        assert all((result == 1).all() for result in results)
        del futures, results
        gc.collect()
        until(lambda: pool.memory()[0] == 0, f"no memory is in use; {pool.memory()}")


def test_memory_of_results_nobody_took_comes_back(executor: fr.Executor) -> None:
    pool = executor._pool
    futures = [executor.submit(zeros, 1_000_000) for _ in range(10)]
    del futures
    gc.collect()
    executor.submit(tasks.square, 2).result(LIMIT)
    until(lambda: pool.memory()[0] == 0, f"no memory is in use; {pool.memory()}")


def test_memory_of_calls_that_failed_or_were_cancelled_or_died_comes_back(executor: fr.Executor) -> None:
    pool = executor._pool
    array = np.ones(1_000_000)
    futures = [executor.submit(operator.add, array, "no number") for _ in range(5)]
    futures += [executor.submit(die_with, array) for _ in range(3)]
    for future in futures:
        assert future.exception(LIMIT) is not None
    del futures, future
    more = [executor.submit(halves, array) for _ in range(40)]
    for left in more:
        left.cancel()
    executor.submit(tasks.square, 2).result(LIMIT)
    del more, left
    gc.collect()
    until(lambda: pool.memory()[0] == 0, f"no memory is in use; {pool.memory()}")


def die_with(array: Any) -> Any:
    tasks.die("SIGKILL")


def test_results_larger_than_arguments_flow_without_end(executor: fr.Executor) -> None:
    total = sum(len(executor.submit(pattern, 8 * MEGA).result(LIMIT)) for _ in range(40))
    assert total == 40 * 8 * MEGA


def test_thousands_of_middling_payloads_pass_through(plan: Any) -> None:
    items = [bytes([number % 256]) * 3000 for number in range(3000)]
    assert fr.map(tasks.identity, items, plan=plan) == items
    with fr.Executor(plan=plan) as executor:
        futures = [executor.submit(tasks.identity, item) for item in items]
        assert [future.result(LIMIT) for future in futures] == items


def hold(array: Any, gate: Flag) -> float:
    """Keeps its argument until the gate is open."""
    gate.wait()
    return float(array[0])


def results_memory(executor: fr.Executor) -> list[int]:
    """Bytes of memory behind the results of each worker."""
    found = []
    for pid in executor._pool.pids():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if "forkright-results" in os.readlink(entry):
                found.append(entry.stat().st_blocks * 512)
    return found


def test_one_array_given_to_many_tasks_is_stored_once_while_they_last(executor: fr.Executor, tmp_path: Path) -> None:
    gate = Flag(tmp_path / "gate")
    array = np.ones(1_000_000)
    futures = [executor.submit(hold, array, gate) for _ in range(12)]
    assert executor._pool.memory()[0] < 2 * array.nbytes
    array[-1] = 2
    futures += [executor.submit(hold, array, gate) for _ in range(2)]
    assert 2 * array.nbytes <= executor._pool.memory()[0] < 3 * array.nbytes
    gate.set()
    assert [future.result(LIMIT) for future in futures] == [1.0] * 14
    until(lambda: executor._pool.memory()[0] == 0, f"no memory is in use; {executor._pool.memory()}")


def test_idle_memory_goes_back_though_nobody_calls_any_more(executor: fr.Executor) -> None:
    array = executor.submit(operator.neg, np.ones(1_000_000)).result(LIMIT)
    assert max(results_memory(executor)) >= array.nbytes
    del array
    until(lambda: executor._pool.memory() == (0, 0), f"arguments' memory is gone; {executor._pool.memory()}")
    until(lambda: not any(results_memory(executor)), f"results' memory is gone; {results_memory(executor)}")


def test_a_worker_killed_while_it_holds_a_payload_leaks_nothing(executor: fr.Executor, tmp_path: Path) -> None:
    results = [executor.submit(zeros, 1_000_000).result(LIMIT) for _ in range(4)]
    future = executor.submit(hold, np.ones(1_000_000), Flag(tmp_path / "never"))
    until(future.running, "the task runs")
    for pid in executor._pool.pids():
        os.kill(pid, signal.SIGKILL)
    assert isinstance(future.exception(LIMIT), fr.WorkerDied)
    del future
    assert all((result == 0).all() for result in results), "what dead workers made stays"
    del results
    executor.submit(tasks.square, 2).result(LIMIT)
    until(lambda: executor._pool.memory()[0] == 0, f"no memory is in use; {executor._pool.memory()}")
