"""`shared_state=` says in the guard's place whether calls share state with their caller."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import forkright as fr

ITEMS = range(4)
PROCESSES = fr.Plan(processes=2)
seen: list[int] = []


def note(item: int) -> int:
    """Computes for longer than a process takes to start, and leaves a trace here."""
    seen.append(item)
    total = 0
    for number in range(4_000_000):
        total += number
    return os.getpid()


def compute(item: int) -> int:
    """The same without the trace."""
    total = 0
    for number in range(4_000_000):
        total += number
    return os.getpid()


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


def with_executor(function: Callable[[int], int], shared_state: bool | None) -> list[int]:
    with fr.Executor(shared_state=shared_state) as executor:
        futures = [executor.submit(function, item) for item in ITEMS]
        return [future.result() for future in futures]


MAPS: dict[str, Callable[[Callable[[int], int], bool | None], list[int]]] = {
    "map": lambda function, shared: fr.map(function, ITEMS, shared_state=shared),
    "starmap": lambda function, shared: fr.starmap(function, [(item,) for item in ITEMS], shared_state=shared),
    "imap": lambda function, shared: list(fr.imap(function, ITEMS, shared_state=shared)),
    "imap_unordered": lambda function, shared: list(fr.imap_unordered(function, ITEMS, shared_state=shared)),
    "Executor": with_executor,
}


@pytest.mark.parametrize("how", MAPS)
@pytest.mark.parametrize("shared_state", [None, True])
def test_what_shares_state_stays_found_or_said(how: str, shared_state: bool | None) -> None:
    assert set(MAPS[how](note, shared_state)) == {os.getpid()}
    assert sorted(seen) == list(ITEMS)


@pytest.mark.parametrize("how", MAPS)
def test_calls_leave_whose_caller_answers_for_what_they_share(how: str) -> None:
    pids = MAPS[how](note, False)
    assert set(pids) - {os.getpid()}, "some ran elsewhere"
    assert len(seen) == pids.count(os.getpid()), "those leave no trace here"


@pytest.mark.parametrize("how", MAPS)
def test_calls_that_share_nothing_stay_if_their_caller_says_they_do(how: str) -> None:
    assert set(MAPS[how](compute, True)) == {os.getpid()}


def test_the_report_says_who_said_so() -> None:
    fr.map(compute, ITEMS, shared_state=True)
    assert "`shared_state=True` says that `compute` shares state with this process" in " ".join(
        str(fr.report()).split()
    )
    assert json.loads(fr.report().to_json())["shared_state"] is True
    fr.map(compute, ITEMS, shared_state=False)
    assert "shared     not looked for: `shared_state=False`" in str(fr.report())
    fr.map(compute, range(20))
    assert "shared_state" not in str(fr.report())
    assert json.loads(fr.report().to_json())["shared_state"] is None


def test_the_guards_sentence_tells_of_the_parameter() -> None:
    fr.map(note, ITEMS)
    assert "(`shared_state=False` would let it leave)" in " ".join(str(fr.report()).split())


setting = "as imported"


def read_setting(item: int) -> str:
    compute(item)
    return setting


def test_what_a_fresh_import_loses_holds_nothing_back_that_its_caller_answers_for(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setitem(globals(), "setting", "changed")
    assert set(fr.map(read_setting, ITEMS)) == {"changed"}
    assert "as imported" in fr.map(read_setting, ITEMS, shared_state=False)
    assert set(fr.map(read_setting, ITEMS, plan=PROCESSES, shared_state=False)) == {"as imported"}
    assert not recwarn.list
    with pytest.warns(fr.ForkrightWarning, match="setting"):
        fr.map(read_setting, ITEMS, plan=PROCESSES)


def test_what_cannot_be_pickled_stays_all_the_same() -> None:
    lock = threading.Lock()

    def locked(item: int) -> int:
        with lock:
            return compute(item)

    assert set(fr.map(locked, ITEMS, shared_state=False)) == {os.getpid()}


@pytest.mark.parametrize("plan", ["processes", "hybrid", PROCESSES])
def test_a_plan_that_leaves_contradicts_shared_state(plan: Any) -> None:
    for call in (
        lambda: fr.map(compute, ITEMS, plan=plan, shared_state=True),
        lambda: fr.starmap(compute, [(0,)], plan=plan, shared_state=True),
        lambda: fr.imap(compute, ITEMS, plan=plan, shared_state=True),
        lambda: fr.imap_unordered(compute, ITEMS, plan=plan, shared_state=True),
        lambda: fr.Executor(plan=plan, shared_state=True),
    ):
        with pytest.raises(ValueError, match="take plan='threads', or leave one of the two out"):
            call()


@pytest.mark.parametrize("plan", ["serial", "threads"])
def test_a_plan_that_stays_agrees_with_it(plan: Any) -> None:
    assert fr.map(abs, ITEMS, plan=plan, shared_state=True) == list(ITEMS)


@pytest.mark.parametrize("nonsense", [1, 0, "yes", [], 1.0])
def test_nothing_but_true_false_and_none_makes_sense(nonsense: Any) -> None:
    with pytest.raises(TypeError, match="shared_state must be True, False or None"):
        fr.map(abs, ITEMS, shared_state=nonsense)
    with pytest.raises(TypeError, match="shared_state must be True, False or None"):
        fr.Executor(shared_state=nonsense)


def draw(item: int) -> float:
    """Computes, and draws as it does."""
    compute(item)
    return random.random()


def test_the_report_of_work_that_draws_random_numbers_names_seed() -> None:
    fr.map(draw, range(20))
    told = fr.report().data["draws"]
    assert told.startswith("`draw` draws from the global generator (`random.random()`), which nothing seeds")
    assert "`seed=` gives each call one of its own" in " ".join(str(fr.report()).split())
    fr.map(compute, range(20))
    assert fr.report().data["draws"] is None and "random" not in str(fr.report())
