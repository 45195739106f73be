"""`worker_state` is what a worker keeps between its calls: its own, its map's or executor's, and gone when it ends."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
from forkright import _guard
from scripts import run
from waiting import Flag, Tally, until

PLANS = ["serial", "threads", "processes", "hybrid", "auto"]
POOLS = [plan for plan in PLANS if plan != "serial"]

Worker = tuple[int, int]


@pytest.fixture(params=PLANS, ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=POOLS, ids=str)
def pool(request: pytest.FixtureRequest) -> Any:
    return request.param


def me() -> Worker:
    return os.getpid(), threading.get_ident()


def count(_: int) -> tuple[Worker, int]:
    time.sleep(0.002)
    state = fr.worker_state()
    state.calls = getattr(state, "calls", 0) + 1
    return me(), state.calls


def by_worker(counted: list[tuple[Worker, int]]) -> dict[Worker, list[int]]:
    found: dict[Worker, list[int]] = defaultdict(list)
    for worker, number in counted:
        found[worker].append(number)
    return found


def test_each_worker_has_its_own_for_all_calls_of_a_map(plan: Any) -> None:
    for _ in range(2):
        workers = by_worker(fr.map(count, range(60), plan=plan))
        assert sum(map(len, workers.values())) == 60
        for numbers in workers.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), "the state of another map, or of another worker"


def test_executors_do_not_share_theirs(pool: Any) -> None:
    for _ in range(2):
        with fr.Executor(2, plan=pool) as executor:
            workers = by_worker([future.result() for future in [executor.submit(count, 0) for _ in range(30)]])
        for numbers in workers.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_executors_that_share_worker_processes_do_not_share_theirs() -> None:
    first, second = fr.Executor(1), fr.Executor(1)
    with first, second:
        for _ in range(40):
            a, b = first.submit(count_slowly), second.submit(count_slowly)
            (worker, mine), (other, theirs) = a.result(), b.result()
            assert (mine, theirs) == (SEEN[first, worker] + 1, SEEN[second, other] + 1)
            SEEN[first, worker], SEEN[second, other] = mine, theirs


SEEN: dict[Any, int] = defaultdict(int)


def count_slowly() -> tuple[Worker, int]:
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        sum(range(100))
    return count(0)


def set_up(value: str) -> None:
    fr.worker_state().value = value


def value_of(_: int) -> str:
    time.sleep(0.002)
    return str(fr.worker_state().value)


def value_again(_: int) -> str:
    return value_of(0)


def test_an_initializer_may_fill_it_for_all_functions(pool: Any) -> None:
    with fr.Executor(2, plan=pool, initializer=set_up, initargs=("from the initializer",)) as executor:
        values = {*executor.map(value_of, range(20)), *executor.map(value_again, range(20), chunksize=3)}
    assert values == {"from the initializer"}


class Model:
    """What takes long to make."""

    made = 0

    def __init__(self, name: str) -> None:
        Model.made += 1
        self.name = name
        self.number = Model.made


def load(name: str) -> Model:
    return Model(name)


def score(_: int, name: str) -> tuple[Worker, str, int]:
    time.sleep(0.002)
    model = fr.worker_state(load, name)
    assert fr.worker_state(load, name) is model
    return me(), model.name, id(model)


def test_a_factory_is_called_once_in_each_worker_for_the_same_arguments(plan: Any) -> None:
    scored = fr.starmap(score, [(number, name) for number in range(40) for name in ("a", "b")], plan=plan)
    models: dict[tuple[Worker, str], set[int]] = defaultdict(set)
    for worker, name, model in scored:
        models[worker, name].add(model)
    assert {name for _, name in models} == {"a", "b"}
    assert all(len(found) == 1 for found in models.values())


def test_later_maps_find_what_a_factory_made() -> None:
    fr.map(abs, range(4), plan="processes")
    before, after = (
        {(worker, model) for worker, _, model in fr.map(score, range(40), ["kept"] * 40, plan="processes")}
        for _ in range(2)
    )
    assert before & after
    assert len({worker for worker, _ in before | after}) == len(before | after), "made again for the second map"


def test_functions_of_scripts_find_it_again(tmp_path: Path) -> None:
    run(
        """
        import os
        import forkright as fr

        def make(start, factor=1):
            open(f"made-{start}-{factor}-{os.getpid()}", "x").close()
            return [start * factor]

        def call(x):
            return fr.worker_state(make, 3, factor=2)[0] + fr.worker_state(lambda: [x])[0] - x

        for _ in range(3):
            assert fr.map(call, [5] * 20, plan="processes") == [6] * 20
        """,
        tmp_path,
    )


def test_what_a_factory_raises_is_raised_and_it_is_called_again(tmp_path: Path) -> None:
    flag = Flag(tmp_path / "there")
    with fr.Executor(1, plan="processes") as executor:
        with pytest.raises(FileNotFoundError):
            executor.submit(read, str(tmp_path / "there")).result()
        flag.set()
        assert executor.submit(read, str(tmp_path / "there")).result() == ""


def read(path: str) -> str:
    return fr.worker_state(open_and_read, path)


def open_and_read(path: str) -> str:
    return Path(path).read_text()


class Connection:
    """Tells of its end."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._name = f"{os.getpid()}-{threading.get_ident()}"
        tally.mark(f"opened-{self._name}")

    def __del__(self) -> None:
        self._tally.mark(f"closed-{self._name}")


def connect(_: int, tally: Tally) -> None:
    time.sleep(0.002)
    state = fr.worker_state()
    if not hasattr(state, "connection"):
        state.connection = Connection(tally)


@pytest.mark.parametrize("plan", [fr.Plan(threads=3), fr.Plan(2), fr.Plan(2, 2), "auto"], ids=str)
def test_what_is_kept_goes_when_a_worker_ends(plan: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "marks")
    with fr.Executor(plan=plan) as executor:
        list(executor.map(connect, range(40), [tally] * 40))
        assert tally.marks()
    opened = {mark.partition("-")[2] for mark in tally.marks() if mark.startswith("opened")}
    closed = {mark.partition("-")[2] for mark in tally.marks() if mark.startswith("closed")}
    assert opened == closed


def test_the_calling_threads_goes_with_the_map() -> None:
    kept: list[weakref.ref[Any]] = []

    def call(item: int) -> int:
        state = fr.worker_state()
        if not hasattr(state, "model"):
            state.model = Model("here")
            kept.append(weakref.ref(state.model))
        # One within another has its own.
        inner = fr.map(lambda _: hasattr(fr.worker_state(), "model"), [0], plan="serial")
        assert inner == [False]
        return item + hasattr(state, "model")

    assert fr.map(call, range(3), plan="serial") == [1, 2, 3]
    assert [reference() for reference in kept] == [None]


def test_release_lets_go_of_what_the_calling_thread_keeps() -> None:
    model = weakref.ref(fr.worker_state(load, "outside"))
    assert fr.worker_state(load, "outside") is model()
    fr.release()
    assert model() is None


def test_calls_with_a_limit_on_threads_have_their_workers(tmp_path: Path) -> None:
    with fr.Executor(1, plan="threads") as executor:
        limited = executor.options(task_timeout=60)
        assert [limited.submit(count, 0).result()[1] for _ in range(3)] == [1, 2, 3]
        release = Flag(tmp_path / "release")
        with pytest.raises(fr.TaskTimeoutError):
            executor.options(task_timeout=0.05).submit(release.wait).result()
        # The call that was left to itself has it now.
        assert limited.submit(count, 0).result()[1] == 1
        release.set()
    until(lambda: not any("limited" in thread.name for thread in threading.enumerate()), "the call ends")


def test_keeping_something_holds_no_work_back() -> None:
    for function in (count, read, value_of):
        assert not _guard.check(function, ("x",)).findings

    def remember(item: int) -> int:
        memo = fr.worker_state(dict)
        memo[item] = item
        fr.worker_state().last = item
        return len(memo)

    assert not _guard.check(remember, (1,)).findings


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(TypeError, match="must be callable"):
        fr.worker_state(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="only for a factory"):
        fr.worker_state(None, 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="must be hashable"):
        fr.worker_state(load, [])  # type: ignore[arg-type]
