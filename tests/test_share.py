"""What was shared is seen by all processes as it is, costs no copies, and is gone when nobody has it any more."""

from __future__ import annotations

import array
import gc
import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forkright as fr
import tasks
from waiting import LIMIT, Flag, until

PLANS = [fr.Plan(2), fr.Plan(2, 2), fr.Plan(threads=2), "serial", "auto"]


@pytest.fixture(params=PLANS, ids=str)
def executor(request: pytest.FixtureRequest) -> Iterator[fr.Executor]:
    with fr.Executor(plan=request.param) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[fr.Executor]:
    with fr.Executor(plan=fr.Plan(2)) as executor:
        yield executor


def total(array: Any) -> float:
    return float(array.sum())


def nature(array: Any) -> Any:
    return type(array), array.dtype, array.shape, array.strides, bool(array.flags.writeable)


def write(array: Any, index: Any, value: float) -> str:
    try:
        array[index] = value
    except ValueError as error:
        return str(error)
    return "written"


def is_shared_memory(array: Any) -> bool:
    """Whether an array lies in shared memory in the process that asks."""
    address = array.__array_interface__["data"][0]
    for line in _maps():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return "forkright-share" in line
    return False


def inode(array: Any) -> int:
    """The file behind an array that was shared."""
    address = array.__array_interface__["data"][0]
    return next(int(line.split()[4]) for line in _maps() if int(line.split("-")[0], 16) == address)


def _maps() -> list[str]:
    return Path("/proc/self/maps").read_text().splitlines()


def owners(executor: fr.Executor, inode: int) -> set[int]:
    """The processes that have a descriptor of that file."""
    return {pid for pid in (os.getpid(), *executor._pool.pids()) if inode in set(_inodes(pid))}


def _inodes(pid: int) -> Iterator[int]:
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            yield os.stat(entry.path).st_ino
        except FileNotFoundError:  # that of the folder itself
            continue


def until_gone(executor: fr.Executor, inode: int) -> None:
    gc.collect()
    until(lambda: not owners(executor, inode), f"nobody has the share; {owners(executor, inode)}")


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize(
    "made",
    [
        np.arange(10),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(100)[::3],
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        np.array(5.0),
        np.array([], dtype=np.int8),
        np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
        np.array(["2026-01-01", "NaT"], dtype="datetime64[D]"),
        np.array([1 + 2j], dtype=np.complex64),
        np.array(["ab", "c"]),
        np.arange(3, dtype=">i2"),
    ],
    ids=lambda made: f"{made.dtype.str}{made.shape}",
)
def test_an_array_is_an_equal_array(processes: fr.Executor, made: Any, writable: bool) -> None:
    shared = fr.share(made, writable=writable)
    assert type(shared) is np.ndarray and shared.dtype == made.dtype and shared.shape == made.shape
    assert shared.flags.writeable is writable
    np.testing.assert_array_equal(shared, made)
    back = processes.submit(tasks.identity, shared).result(LIMIT)
    assert back.dtype == made.dtype
    np.testing.assert_array_equal(back, made)


def test_what_was_shared_is_a_copy(executor: fr.Executor) -> None:
    made = np.ones(10)
    shared = fr.share(made)
    made[:] = 2
    assert total(shared) == executor.submit(total, shared).result(LIMIT) == 10


def test_an_array_is_read_in_place_by_every_plan(executor: fr.Executor) -> None:
    shared = fr.share(np.arange(1000.0))
    assert executor.submit(total, shared).result(LIMIT) == 499_500
    assert executor.submit(nature, shared).result(LIMIT) == nature(shared)
    assert executor.submit(is_shared_memory, shared).result(LIMIT)
    assert list(executor.map(total, [shared[:10], shared[10:20]])) == [45, 145]


def test_threads_see_the_very_object() -> None:
    shared = fr.share(np.arange(10))
    with fr.Executor(plan="threads") as executor:
        assert executor.submit(tasks.identity, shared).result(LIMIT) is shared


def test_it_is_found_in_containers_closures_globals_and_defaults(processes: fr.Executor) -> None:
    shared = fr.share(np.arange(100_000.0))

    def captured() -> tuple[bool, float]:
        return is_shared_memory(shared), total(shared)

    def default(array: Any = shared) -> tuple[bool, float]:
        return is_shared_memory(array), total(array)

    def inside(deep: Any) -> tuple[bool, float]:
        found = deep["here"][0].array
        return is_shared_memory(found), total(found)

    expected = (True, total(shared))
    assert processes.submit(captured).result(LIMIT) == expected
    assert processes.submit(default).result(LIMIT) == expected
    assert processes.submit(inside, {"here": [Holder(shared)]}).result(LIMIT) == expected
    assert fr.map(lambda _: captured(), range(20), plan=fr.Plan(2)) == [expected] * 20
    assert processes._pool.memory() == (0, 0), "nothing was copied"


class Holder:
    def __init__(self, array: Any) -> None:
        self.array = array


def test_slices_and_results_that_lie_in_it_are_not_copied(processes: fr.Executor) -> None:
    shared = fr.share(np.arange(100_000.0))
    part = processes.submit(tasks.identity, shared[500:]).result(LIMIT)
    assert np.shares_memory(part, shared) or is_shared_memory(part)
    np.testing.assert_array_equal(part, shared[500:])
    assert part.__array_interface__["data"][0] == shared[500:].__array_interface__["data"][0]
    assert processes._pool.memory() == (0, 0)


def test_a_result_that_lies_in_it_outlives_the_callers_own(processes: fr.Executor) -> None:
    shared = fr.share(np.arange(1000.0))
    future = processes.submit(tasks.identity, [shared])
    del shared
    gc.collect()
    [back] = future.result(LIMIT)
    assert total(back) == 499_500


def test_nobody_writes_to_what_is_not_writable(executor: fr.Executor) -> None:
    shared = fr.share(np.zeros(1000))
    assert executor.submit(write, shared, 0, 1).result(LIMIT) == "assignment destination is read-only"
    assert write(shared, 0, 1) == "assignment destination is read-only"
    with pytest.raises(ValueError, match="WRITEABLE"):
        shared.flags.writeable = True
    assert total(shared) == 0


def test_writes_to_what_is_writable_are_seen_by_all(executor: fr.Executor) -> None:
    shared = fr.share(np.zeros((4, 3)), writable=True)
    for row in range(4):
        assert executor.submit(write, shared, row, row).result(LIMIT) == "written"
    assert total(shared) == 18
    shared[0] = 7
    assert executor.submit(total, shared).result(LIMIT) == 39
    assert executor.submit(write, shared[1:], (0, 0), 100).result(LIMIT) == "written"
    assert shared[1, 0] == 100


@pytest.mark.parametrize("size", [1, 8, 1 << 20])
def test_one_of_any_size_is_shared(processes: fr.Executor, size: int) -> None:
    shared = fr.share(np.zeros(size, np.int8), writable=True)
    assert processes.submit(write, shared, size - 1, 1).result(LIMIT) == "written"
    assert shared[-1] == 1


@pytest.mark.parametrize("made", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), array.array("d", [1.5, 2])])
def test_other_buffers_become_views(executor: fr.Executor, made: Any) -> None:
    shared = fr.share(made)
    assert type(shared) is memoryview and shared == memoryview(made) and shared.format == memoryview(made).format
    assert shared.readonly
    assert executor.submit(bytes, shared).result(LIMIT) == bytes(made)
    view = fr.share(made, writable=True)
    view[0] = memoryview(made)[1]
    assert executor.submit(list, view).result(LIMIT) == [*([memoryview(made)[1]] * 2), *list(memoryview(made))[2:]]


def test_objects_made_of_arrays_are_rebuilt_around_shared_ones(processes: fr.Executor) -> None:
    made = {"a": np.arange(10.0), "b": [np.ones(3), "text"]}
    shared = fr.share(made)
    assert shared is not made and list(shared) == ["a", "b"]
    assert is_shared_memory(shared["a"]) and is_shared_memory(shared["b"][0])
    assert processes.submit(lambda given: is_shared_memory(given["b"][0]), shared).result(LIMIT)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (np.array([{}, None], dtype=object), "objects"),
        ([1, 2, 3], "`list` has no buffers"),
        ("text", "`str` has no buffers"),
        (5, "`int` has no buffers"),
        (memoryview(b"abcdef")[::2], "contiguous"),
    ],
)
def test_what_has_nothing_to_share_is_refused_in_words(made: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        fr.share(made)


def test_an_initializer_gets_it_as_it_is() -> None:
    shared = fr.share(np.zeros(3), writable=True)
    with fr.ProcessPoolExecutor(1, initializer=write, initargs=(shared, 1, 5.0)) as executor:
        executor.submit(tasks.square, 2).result(LIMIT)
        assert shared[1] == 5


def test_a_process_gets_it_as_it_is() -> None:
    shared = fr.share(np.zeros(3), writable=True)
    process = fr.Process(target=write, args=(shared, 2, 5.0))
    process.start()
    process.join()
    assert shared[2] == 5


def test_a_worker_passes_it_on_to_its_own_workers(processes: fr.Executor) -> None:
    shared = fr.share(np.zeros(3), writable=True)
    assert processes.submit(write_further, shared).result(LIMIT) == "written"
    assert shared[0] == 9


def write_further(array: Any) -> str:
    with fr.ProcessPoolExecutor(1) as executor:
        return executor.submit(write, array, 0, 9.0).result(LIMIT)


def test_what_a_worker_shares_comes_back_as_a_copy(processes: fr.Executor) -> None:
    back = processes.submit(make_shared, 1000).result(LIMIT)
    assert total(back) == 1000 and not is_shared_memory(back)


def make_shared(size: int) -> Any:
    return fr.share(np.ones(size))


def test_plain_pickle_makes_a_copy() -> None:
    shared = fr.share(np.arange(1000), writable=True)
    copy = pickle.loads(pickle.dumps(shared))
    copy[0] = 5
    assert shared[0] == 0 and not is_shared_memory(copy)
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        assert executor.submit(np.sum, shared).result(LIMIT) == 499_500


def test_a_forked_child_has_it_as_its_parent_does() -> None:
    shared = fr.share(np.zeros(3), writable=True)
    pid = os.fork()
    if pid == 0:
        shared[0] = 4
        with fr.ProcessPoolExecutor(1) as executor:
            executor.submit(write, shared, 1, 5.0).result(LIMIT)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.tolist() == [4, 5, 0]


def test_it_is_gone_when_nobody_has_it_any_more(processes: fr.Executor) -> None:
    shared = fr.share(np.ones(1000))
    file = inode(shared)
    assert [processes.submit(total, shared).result(LIMIT) for _ in range(4)] == [1000.0] * 4
    assert os.getpid() in owners(processes, file)
    del shared
    until_gone(processes, file)


def keep(array: Any) -> None:
    globals()["kept"] = array


def kept_total() -> float:
    return total(globals()["kept"])


def drop() -> None:
    del globals()["kept"]


def test_a_worker_that_keeps_it_keeps_the_memory() -> None:
    with fr.ProcessPoolExecutor(1) as executor:
        shared = fr.share(np.ones(1000))
        file = inode(shared)
        executor.submit(keep, shared).result(LIMIT)
        del shared
        gc.collect()
        assert executor.submit(kept_total).result(LIMIT) == 1000
        assert {*executor._pool.pids()} <= owners(executor, file)
        executor.submit(drop).result(LIMIT)
        until_gone(executor, file)


def test_a_function_that_is_gone_keeps_nothing(processes: fr.Executor) -> None:
    def use() -> int:
        shared = fr.share(np.ones(1000))
        assert processes.submit(lambda: total(shared)).result(LIMIT) == 1000
        assert fr.map(lambda _: total(shared), range(4), plan=fr.Plan(2)) == [1000.0] * 4
        return inode(shared)

    until_gone(processes, use())


def test_a_worker_killed_while_it_has_it_leaks_nothing(processes: fr.Executor, tmp_path: Path) -> None:
    shared = fr.share(np.ones(1000))
    file = inode(shared)
    future = processes.submit(hold, shared, Flag(tmp_path / "never"))
    until(lambda: owners(processes, file) & {*processes._pool.pids()}, "a worker has the share")
    for pid in processes._pool.pids():
        os.kill(pid, signal.SIGKILL)
    assert isinstance(future.exception(LIMIT), fr.WorkerDied)
    assert processes.submit(total, shared).result(LIMIT) == 1000
    del shared, future
    until_gone(processes, file)


def hold(array: Any, gate: Flag) -> float:
    gate.wait()
    return total(array)


def fill(array: Any, row: int) -> None:
    array[row] = row


def test_auto_takes_writes_to_what_is_shared_for_no_obstacle() -> None:
    from forkright import _guard

    plain, shared = np.zeros((4, 3)), fr.share(np.zeros((4, 3)), writable=True)
    assert _guard.check(fill, (plain, 1)).findings
    assert not _guard.check(fill, (shared, 1)).findings
    assert not _guard.check(lambda row: fill(shared, row), (1,)).findings
    assert _guard.check(lambda row: fill(plain, row), (1,)).findings
