"""Bad input gets an error that says what to do, and nothing else is lost by it."""

from __future__ import annotations

import concurrent.futures
import json
import pickle
import re
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import forkright as fr
import tasks
from waiting import LIMIT

AWAY = [fr.Plan(2), fr.Plan(2, 2)]


@pytest.fixture(params=AWAY, ids=str)
def away(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def executor(away: Any) -> Iterator[fr.Executor]:
    with fr.Executor(plan=away) as executor:
        yield executor
        # Whatever a test did, the workers go on.
        assert executor.submit(tasks.square, 3).result(LIMIT) == 9
    assert fr.map(tasks.square, range(4), plan=away) == [0, 1, 4, 9]


class Holder:
    def __init__(self, value: object) -> None:
        self.value = value

    def give(self) -> object:
        return self.value


class Fragile:
    """Pickles; unpickling it raises, except where it was made."""

    def __reduce__(self) -> Any:
        return _break, ("it broke on the way",)


def _break(reason: str) -> object:
    raise LookupError(reason)


class Refuses:
    def __reduce__(self) -> Any:
        raise LookupError("it will not go")


# What can't travel


def test_an_argument_that_can_not_be_pickled_is_named_with_its_path(executor: fr.Executor, away: Any) -> None:
    item = {"jobs": [1, Holder(threading.Lock())]}
    with pytest.raises(fr.UnpicklableError) as caught:
        executor.submit(tasks.everything, 1, item).result(LIMIT)
    text = str(caught.value)
    assert "everything" in text and "_thread.lock" in text and "['jobs'][1].value" in text, text
    with pytest.raises(fr.UnpicklableError, match=re.escape("['jobs'][1].value")):
        executor.submit(tasks.everything, key=item).result(LIMIT)
    with pytest.raises(fr.UnpicklableError, match=re.escape("['jobs'][1].value")):
        fr.map(tasks.identity, [1, item, 2], plan=away, chunksize=1)


def test_items_beside_one_that_can_not_be_pickled_give_their_results(away: Any) -> None:
    items = [1, threading.Lock(), 3, 4]
    results = fr.map(tasks.identity, items, plan=away, chunksize=1, on_error="return")
    assert results[0] == 1 and results[2:] == [3, 4]
    assert isinstance(results[1], fr.UnpicklableError)


def test_what_pickling_itself_raises_is_told(executor: fr.Executor) -> None:
    with pytest.raises(fr.UnpicklableError, match="it will not go"):
        executor.submit(tasks.identity, [Refuses()]).result(LIMIT)


def test_a_result_that_can_not_be_pickled_is_named_with_its_path(executor: fr.Executor, away: Any) -> None:
    def locked(number: int) -> Any:
        return {"lock": [threading.Lock()]} if number == 1 else number

    with pytest.raises(fr.UnpicklableError) as caught:
        executor.submit(locked, 1).result(LIMIT)
    text = str(caught.value)
    assert "locked" in text and "['lock'][0]" in text and "_thread.lock" in text, text
    results = fr.map(locked, range(4), plan=away, on_error="return")
    assert results[0] == 0 and results[2:] == [2, 3]
    assert isinstance(results[1], fr.UnpicklableError) and "['lock'][0]" in str(results[1])


def test_a_function_that_can_not_be_pickled_is_named_with_what_it_holds(executor: fr.Executor, away: Any) -> None:
    guard = threading.Lock()

    def guarded(number: int) -> int:
        with guard:
            return number

    held = Holder(guard)
    with pytest.raises(fr.UnpicklableError, match=r"`guard`.*guarded.*_thread\.lock"):
        executor.submit(guarded, 1).result(LIMIT)
    with pytest.raises(fr.UnpicklableError, match=r"`guard`.*guarded.*_thread\.lock"):
        fr.map(guarded, [1, 2], plan=away)
    with pytest.raises(fr.UnpicklableError, match=r"value.*_thread\.lock"):
        executor.submit(held.give).result(LIMIT)


def test_generators_say_what_to_pass_instead(executor: fr.Executor) -> None:
    with pytest.raises(fr.UnpicklableError, match="pass a list"):
        executor.submit(tasks.identity, (number for number in range(3))).result(LIMIT)


def test_a_result_that_does_not_unpickle_is_the_futures_exception(executor: fr.Executor, away: Any) -> None:
    def fragile(number: int) -> Any:
        return Fragile() if number == 1 else number

    with pytest.raises(fr.UnpicklableError, match="it broke on the way") as caught:
        executor.submit(fragile, 1).result(LIMIT)
    # The standard library's pool breaks then, which programs may be ready for.
    assert isinstance(caught.value, BrokenProcessPool)
    results = fr.map(fragile, range(4), plan=away, on_error="return")
    assert results[0] == 0 and results[2:] == [2, 3]
    assert isinstance(results[1], fr.UnpicklableError) and "it broke on the way" in str(results[1])


def test_an_argument_that_does_not_unpickle_fails_its_call_alone(executor: fr.Executor, away: Any) -> None:
    with pytest.raises((fr.UnpicklableError, LookupError), match="it broke on the way"):
        executor.submit(tasks.identity, Fragile()).result(LIMIT)
    results = fr.map(tasks.identity, [0, Fragile(), 2], plan=away, on_error="return", chunksize=1)
    assert (results[0], results[2]) == (0, 2) and "it broke on the way" in str(results[1])


def test_an_exception_that_can_not_be_pickled_still_tells_what_happened(executor: fr.Executor) -> None:
    def complain() -> None:
        class Private(Exception):
            def __init__(self, one: object, two: object) -> None:
                super().__init__("private trouble")
                self.lock = threading.Lock()

        raise Private(1, 2)

    error = executor.submit(complain).exception(LIMIT)
    assert error is not None and "private trouble" in str(error)
    assert "in complain" in str(error.__cause__)


def test_an_exception_that_does_not_unpickle_still_tells_what_happened(executor: fr.Executor) -> None:
    def complain() -> None:
        class Broken(Exception):
            def __reduce__(self) -> Any:
                return _break, ("it broke on the way",)

        raise Broken("the trouble")

    error = executor.submit(complain).exception(LIMIT)
    assert error is not None and "the trouble" in str(error)


def test_threads_take_what_can_not_be_pickled() -> None:
    lock = threading.Lock()
    for plan in ("serial", "threads"):
        assert fr.map(tasks.identity, [lock, lock], plan=plan) == [lock, lock]  # type: ignore[arg-type]
    with fr.ThreadPoolExecutor(2) as executor:
        assert executor.submit(tasks.identity, lock).result(LIMIT) is lock


def test_where_it_is_chosen_work_that_can_not_be_pickled_stays_here_and_the_report_says_why() -> None:
    lock = threading.Lock()

    def spin(number: int) -> int:
        with lock:
            pass
        return sum(range(200_000)) * 0 + number

    assert fr.map(spin, range(60)) == list(range(60))
    report = json.loads(fr.report().to_json())
    assert report["plan"]["processes"] == 0, report
    assert "lock" in json.dumps(report["verdicts"])


# Nonsense


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2", 10**9])
def test_a_number_of_workers_that_makes_no_sense_is_refused(count: Any) -> None:
    for plan in ("auto", "threads", "processes", "serial", "hybrid", fr.Plan(2)):
        with pytest.raises((ValueError, TypeError), match="worker"):
            fr.map(tasks.square, range(3), plan=plan, workers=count)  # type: ignore[arg-type]
        with pytest.raises((ValueError, TypeError), match="worker"):
            fr.Executor(count, plan=plan)
    for pool in (fr.ThreadPoolExecutor, fr.ProcessPoolExecutor):
        if count is not True:
            with pytest.raises((ValueError, TypeError), match=r"worker|threads|processes"):
                pool(count)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2"])
def test_a_chunk_size_that_makes_no_sense_is_refused(size: Any) -> None:
    for plan in ("auto", "threads", "processes", "serial"):
        with pytest.raises((ValueError, TypeError), match="chunksize"):
            fr.map(tasks.square, range(3), plan=plan, chunksize=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", ["", "process", "Threads", None, 2, (2, 1), ["threads"], fr.Plan])
def test_a_plan_that_is_none_is_refused_and_the_names_are_told(plan: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="plan"):
        fr.map(tasks.square, range(3), plan=plan)
    with pytest.raises((ValueError, TypeError), match="plan"):
        fr.Executor(plan=plan)


@pytest.mark.parametrize(
    "counts",
    [
        {"processes": -1},
        {"threads": 0},
        {"threads": -1},
        {"processes": 1.0},
        {"threads": "2"},
        {"processes": True},
    ],
)
def test_a_plan_without_sense_is_refused(counts: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(counts))):
        fr.Plan(**counts)


def test_a_plan_with_more_workers_than_can_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"65.?536"):
        fr.Plan(processes=1000, threads=1000)


@pytest.mark.parametrize("value", ["ignore", None, True, 0])
def test_on_error_takes_two_words(value: Any) -> None:
    with pytest.raises(ValueError, match="on_error"):
        fr.map(tasks.square, range(3), on_error=value)


@pytest.mark.parametrize("function", [None, 5, "square"])
def test_what_is_not_callable_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        fr.map(function, range(3))
    for plan in ("threads", "processes", "auto"):
        with fr.Executor(2, plan=plan) as executor:  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="callable"):
                executor.submit(function).result(LIMIT)


def test_a_map_of_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="iterable"):
        fr.map(tasks.square)
    with pytest.raises(TypeError, match="iterable"):
        fr.map(tasks.square, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [float("nan"), "1"])
def test_a_time_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        fr.map(tasks.square, range(3), timeout=timeout)


def test_a_wrong_number_of_arguments_is_the_calls_error(away: Any) -> None:
    with pytest.raises(TypeError, match="square"):
        fr.map(tasks.square, [1], [2], plan=away)
    with fr.Executor(plan=away) as executor, pytest.raises(TypeError, match="square"):
        executor.submit(tasks.square).result(LIMIT)  # type: ignore[call-arg]


def test_submit_without_a_function_is_refused() -> None:
    with fr.Executor(2) as executor, pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]


@pytest.mark.parametrize("tasks_per_child", [0, -1, 1.5, "2", True])
def test_tasks_per_child_that_make_no_sense_are_refused(tasks_per_child: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="max_tasks_per_child"):
        fr.ProcessPoolExecutor(2, max_tasks_per_child=tasks_per_child)


@pytest.mark.parametrize("memory", [0, -1, 1.5, True, "", "much", "-1 GB", "1 apple", "0 MB"])
def test_memory_per_child_that_makes_no_sense_is_refused(memory: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="max_memory_per_child"):
        fr.ProcessPoolExecutor(2, max_memory_per_child=memory)


def test_an_initializer_that_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="initializer"):
        fr.Executor(2, initializer=5)  # type: ignore[arg-type]


def test_an_initializer_that_can_not_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(fr.UnpicklableError, match="initializer"):
        fr.ProcessPoolExecutor(2, initializer=tasks.identity, initargs=(lock,))


def test_our_errors_are_the_standard_ones_too() -> None:
    assert issubclass(fr.UnpicklableError, pickle.PicklingError)
    assert issubclass(fr.WorkerDied, BrokenProcessPool)
    assert issubclass(fr.BrokenWorkers, concurrent.futures.BrokenExecutor)
