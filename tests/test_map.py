"""`map` and `starmap` give the same list whatever the plan, run each item once, and end when they must."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from scripts import start
from waiting import LIMIT, Flag, Tally, until

PLANS = ["serial", "threads", "processes", fr.Plan(2, 4), "auto"]
PARALLEL = [fr.Plan(threads=2), fr.Plan(2), fr.Plan(2, 2)]


@pytest.fixture(params=PLANS, ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=PARALLEL, ids=str)
def parallel(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Flag]:
    flag = Flag(tmp_path / "go")
    yield flag
    flag.set()


# Results


def test_results_keep_the_order_of_the_items(plan: Any) -> None:
    assert fr.map(tasks.square, range(5000), plan=plan) == [number * number for number in range(5000)]


def test_every_item_runs_exactly_once(plan: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")
    fr.map(tally.mark, range(300), plan=plan)  # a mark that is left twice raises
    assert tally.marks() == {str(number) for number in range(300)}


def test_several_iterables_are_walked_together_and_the_shortest_ends_it(plan: Any) -> None:
    assert fr.map(tasks.add, range(1000), iter(range(10, 20)), plan=plan) == list(range(10, 30, 2))
    assert fr.map(tasks.everything, "ab", "cd", "ef", plan=plan) == [
        (("a", "c", "e"), {}),
        (("b", "d", "f"), {}),
    ]


def test_starmap_spreads_the_items(plan: Any) -> None:
    assert fr.starmap(tasks.add, [(1, 2), [3, 4], iter((5, 6))], plan=plan) == [3, 7, 11]
    assert fr.starmap(tasks.everything, [(), (1,), (1, 2, 3)], plan=plan) == [
        ((), {}),
        ((1,), {}),
        ((1, 2, 3), {}),
    ]


@pytest.mark.parametrize(
    "items",
    [
        [],
        (),
        [7],
        (1, 2),
        range(3),
        range(10, 0, -3),
        "text",
        b"bytes",
        {"a": 1, "b": 2},
        frozenset({1, 2, 3}),
    ],
    ids=repr,
)
def test_any_iterable_will_do(plan: Any, items: Any) -> None:
    assert fr.map(tasks.identity, items, plan=plan) == list(items)
    assert fr.map(tasks.identity, iter(items), plan=plan) == list(items)


def test_items_that_are_tuples_are_one_argument(plan: Any) -> None:
    assert fr.map(tasks.identity, [(1, 2), ()], plan=plan) == [(1, 2), ()]


def test_none_is_a_result(plan: Any) -> None:
    assert fr.map(tasks.identity, [None, 1, None], plan=plan) == [None, 1, None]


def test_a_list_changed_by_a_task_is_walked_as_it_was() -> None:
    items = list(range(50))

    def shrink(number: int) -> int:
        items.clear()
        return number

    for plan in ("serial", "threads", "auto"):
        items[:] = range(50)
        assert fr.map(shrink, items, plan=plan) == list(range(50))


def test_a_generator_that_raises_half_way_ends_the_map_before_any_call(plan: Any, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "ran")

    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more items")

    with pytest.raises(LookupError, match="no more items"):
        fr.map(tally.mark, items(), plan=plan)
    with pytest.raises(LookupError, match="no more items"):
        fr.map(tasks.add, [1, 2, 3], items(), plan=plan)
    assert tally.marks() == set()
    assert fr.map(tasks.square, range(3), plan=plan) == [0, 1, 4]


def test_a_generator_runs_in_the_calling_thread(plan: Any) -> None:
    def items() -> Iterator[int]:
        for _ in range(10):
            yield threading.get_ident()

    assert fr.map(tasks.identity, items(), plan=plan) == [threading.get_ident()] * 10


# Where


def test_the_plan_says_where_items_run(tmp_path: Path, go: Flag) -> None:
    tally = Tally(tmp_path / "ran")
    me = os.getpid(), threading.get_native_id()
    assert set(fr.map(tasks.place, range(50), plan="serial")) == {me}
    for plan, processes, workers in ((fr.Plan(threads=3), 1, 3), (fr.Plan(2), 2, 2), (fr.Plan(2, 3), 2, 6)):
        tally = Tally(tmp_path / f"ran {plan}")
        waiting = threading.Thread(target=_let_go_when, args=(tally, workers, go))
        waiting.start()
        places = fr.map(place_when_let_go, [(tally, number, go) for number in range(workers)], plan=plan, chunksize=1)
        waiting.join()
        (tmp_path / "go").unlink()
        assert len(set(places)) == workers
        assert len({pid for pid, _ in places}) == processes
        assert (os.getpid() in {pid for pid, _ in places}) == (plan.processes == 0)


def place_when_let_go(item: tuple[Tally, int, Flag]) -> tuple[int, int]:
    """Where this runs, known only when all have begun: so each has a worker of its own."""
    tally, name, go = item
    tally.mark(name)
    go.wait()
    return tasks.place()


def _let_go_when(tally: Tally, count: int, go: Flag) -> None:
    until(lambda: len(tally.marks()) == count, f"{count} items run at a time")
    go.set()


@pytest.mark.parametrize("plan", ["threads", "processes", "hybrid", fr.Plan(4, 4), fr.Plan(threads=9), "auto"], ids=str)
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_caps_what_runs_at_a_time(plan: Any, workers: int, tmp_path: Path) -> None:
    items = [tmp_path] * 60
    assert max(fr.map(count_running, items, plan=plan, workers=workers, chunksize=1)) <= workers


def count_running(folder: Path) -> int:
    """How many tasks run while this one does."""
    mine = folder / f"running {os.getpid()} {threading.get_ident()}"
    mine.touch(exist_ok=False)
    count = len(list(folder.glob("running *")))
    mine.unlink()
    return count


def nap(seconds: float) -> None:
    time.sleep(seconds)


def test_a_second_map_begins_with_what_the_first_has_learned() -> None:
    fr.map(nap, [0.05] * 60)
    fr.map(nap, [0.05] * 60)
    first = json.loads(fr.report().to_json())["verdicts"][0]
    # Before anything is known of a function, no more than 20 threads are let in.
    assert first["verdict"]["plan"]["threads"] > 20


def wait_or_set(item: tuple[threading.Event, bool] | None) -> None:
    if item is not None:
        event, waits = item
        assert not waits or event.wait(LIMIT)
        event.set()


def test_what_was_learned_of_short_calls_makes_no_chunk_of_long_ones() -> None:
    fr.map(wait_or_set, [None] * 5000)
    event = threading.Event()
    # In one chunk the first would wait in vain for what comes after it.
    fr.map(wait_or_set, [(event, number == 0) for number in range(20)])


def compute_a_lock(seconds: float) -> threading.Event:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return threading.Event()


def test_calls_whose_results_can_not_be_pickled_stay_here_and_the_report_says_so() -> None:
    outcomes = fr.map(compute_a_lock, [0.0, *[0.004] * 60])
    assert all(isinstance(outcome, threading.Event) for outcome in outcomes)
    assert "the result of `compute_a_lock`" in str(fr.report())


SPUN = [0]


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        SPUN[0] += 1


def spin_while_prepared(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], object]) -> None:
    """A map whose first task computes until `prepare` has returned, in the thread that asks whether it may leave."""
    stop = threading.Event()

    def consider(*_: object) -> tuple[str, None, None, int, None]:
        try:
            prepare()
        finally:
            stop.set()
        return "it counts here", None, None, 0, None

    monkeypatch.setattr("forkright._leave.consider", consider)
    fr.map(spin, [stop, stop])


def test_a_task_that_computes_rests_while_its_move_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def prepare() -> None:
        seen.append(SPUN[0])
        time.sleep(0.02)  # the GIL is free
        seen.append(SPUN[0])

    spin_while_prepared(monkeypatch, prepare)
    before, after = seen
    assert after == before > 0


def test_a_preparation_that_takes_long_holds_no_task_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare() -> None:
        before = SPUN[0]
        until(lambda: SPUN[0] > before, "the task goes on")

    spin_while_prepared(monkeypatch, prepare)


def test_the_main_thread_does_not_rest_for_a_task_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = [0]
    seen: list[int] = []

    def prepare() -> None:
        seen.append(ticks[0])
        time.sleep(0.05)  # half of the longest rest
        seen.append(ticks[0])

    mapping = threading.Thread(target=spin_while_prepared, args=(monkeypatch, prepare))
    mapping.start()
    while mapping.is_alive():
        ticks[0] += 1
        time.sleep(0.001)
    before, after = seen
    assert after > before


@pytest.mark.parametrize("chunksize", [1, 7, 1000, 100_000])
def test_any_chunk_size_gives_the_same_list(plan: Any, chunksize: int) -> None:
    assert fr.map(tasks.square, range(2000), plan=plan, chunksize=chunksize) == [n * n for n in range(2000)]


def test_tiny_items_travel_in_few_messages() -> None:
    items = 50_000
    fr.map(tasks.square, range(100), plan=fr.Plan(2))
    assert fr.map(tasks.square, range(items), plan=fr.Plan(2)) == [number * number for number in range(items)]
    # A message names its part of the range, in less than 100 bytes.
    assert json.loads(fr.report().to_json())["pickling"]["bytes_out"] < 500 * 100


def test_items_of_a_chunk_run_on_one_worker(parallel: Any) -> None:
    places = fr.map(tasks.place, range(60), plan=parallel, chunksize=6)
    assert all(len(set(places[start : start + 6])) == 1 for start in range(0, 60, 6))


def test_maps_may_run_in_many_threads_at_once(plan: Any) -> None:
    outcomes: list[list[int]] = []

    def run() -> None:
        outcomes.append(fr.map(tasks.square, range(500), plan=plan))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [[number * number for number in range(500)]] * 4


@pytest.mark.parametrize("inner", PLANS, ids=str)
def test_an_item_may_map_itself(plan: Any, inner: Any) -> None:
    def outer(number: int) -> list[int]:
        return fr.map(tasks.add, [number] * 3, range(3), plan=inner)

    assert fr.map(outer, range(4), plan=plan) == [[n, n + 1, n + 2] for n in range(4)]


# Errors


def test_the_exception_of_the_first_item_that_failed_is_raised(plan: Any) -> None:
    with pytest.raises(ValueError, match="item 300"):
        fr.map(tasks.fail_at, range(301), [300] * 301, plan=plan)
    assert fr.map(tasks.square, range(3), plan=plan) == [0, 1, 4]


def test_no_item_starts_after_one_failed(parallel: Any, tmp_path: Path, go: Flag) -> None:
    tally = Tally(tmp_path / "ran")
    with pytest.raises(ValueError, match="the worst"):
        fr.map(mark_or_fail, [tally] * 10_000, range(10_000), plan=parallel)
    ran = len(tally.marks())
    assert ran < 10_000
    assert fr.map(tasks.square, range(100), plan=parallel) == [number * number for number in range(100)]
    assert len(tally.marks()) == ran


def mark_or_fail(tally: Tally, number: int) -> None:
    tally.mark(number)
    if number == 5:
        raise ValueError("the worst")


class Noticed(Exception):
    """Tells when its map has heard of it: at its unpickling."""

    def __init__(self, go: Flag) -> None:
        self.go = go

    def __reduce__(self) -> Any:
        return notice, (self.go, os.getpid())


def notice(go: Flag, sender: int) -> Noticed:
    if os.getpid() != sender:
        go.set()
    return Noticed(go)


def fail_or_hold(tally: Tally, number: int, go: Flag) -> None:
    tally.mark(number)
    if number == 0:
        until(lambda: "1" in tally.marks(), "the other worker is busy")
        raise Noticed(go)
    while not go.is_set():
        time.sleep(0.2)  # long enough for the caller to do what comes after the unpickling


def test_after_an_error_nothing_begins_that_waits_for_a_busy_worker(tmp_path: Path, go: Flag) -> None:
    tally = Tally(tmp_path / "ran")
    # Of two that start yet, one may be sent both of the calls that wait for each other.
    fr.map(time.sleep, [0.05] * 4, plan=fr.Plan(2), chunksize=1)
    with pytest.raises(Noticed):
        fr.map(fail_or_hold, [tally] * 4, range(4), [go] * 4, plan=fr.Plan(2))
    # The worker that raised took what it had been sent before anybody heard of it.
    assert tally.marks() <= {"0", "1", "2"}


def test_after_an_error_the_rest_of_a_threads_chunk_does_not_begin() -> None:
    begun, failed, ran = threading.Event(), threading.Event(), list[int]()

    def call(number: int) -> None:
        ran.append(number)
        if number == 0:
            begun.set()
            assert failed.wait(LIMIT)
            time.sleep(0.2)  # long enough for the map to hear of it
        elif number == 10:
            assert begun.wait(LIMIT)
            failed.set()
            raise Unlucky

    with pytest.raises(Unlucky):
        fr.map(call, range(20), plan=fr.Plan(threads=2), chunksize=10)
    assert sorted(ran) == [0, 10]


class Unlucky(Exception):
    pass


def test_what_a_signals_handler_raises_takes_one_items_place_or_ends_the_map() -> None:
    inside, kept, ended = False, 0, 0

    def ring(*_: object) -> None:
        if inside:
            raise Unlucky

    def map_while_it_rings() -> None:
        nonlocal inside, kept, ended
        signal.setitimer(signal.ITIMER_REAL, 2e-4)
        try:
            inside = True
            results: list[Any] = fr.map(tasks.identity, range(20_000), plan="serial", on_error="return")
            inside = False
        except Unlucky:
            inside = False
            ended += 1
        else:
            others = [index for index, result in enumerate(results) if result != index]
            assert len(results) == 20_000 and len(others) <= 1
            assert all(isinstance(results[index], Unlucky) for index in others)
            kept += len(others)

    def has_met_both() -> bool:
        map_while_it_rings()
        return kept > 0 and ended > 0

    before = signal.signal(signal.SIGALRM, ring)
    try:
        until(has_met_both, "it rings within an item and between two of them")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_exceptions_take_the_places_of_results_if_asked_to(plan: Any) -> None:
    results: list[Any] = fr.map(tasks.fail_at, range(6), [4] * 6, plan=plan, on_error="return")
    assert results[:4] == [0, 1, 2, 3]
    assert [(type(error), str(error)) for error in results[4:]] == [
        (ValueError, "item 4"),
        (ValueError, "item 5"),
    ]


def test_exceptions_from_a_process_have_the_workers_traceback_as_their_cause() -> None:
    for plan in (fr.Plan(2), fr.Plan(2, 2)):
        with pytest.raises(ValueError, match="no luck") as caught:
            fr.map(tasks.fail, ["no luck"], plan=plan)
        assert "tasks.py" in str(caught.value.__cause__) and "in fail" in str(caught.value.__cause__)


def test_an_item_that_calls_sys_exit_ends_the_map_with_it_and_the_workers_go_on(plan: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        fr.map(tasks.leave, [3], plan=plan)
    assert caught.value.code == 3
    assert fr.map(tasks.square, range(10), plan=plan) == [number * number for number in range(10)]


def test_a_stop_iteration_of_an_item_is_an_error_like_any_other(plan: Any) -> None:
    with pytest.raises(StopIteration):
        fr.map(next, [iter(())], plan=plan)


# Time


def test_a_map_whose_time_is_up_raises_and_what_has_not_started_never_does(
    parallel: Any, tmp_path: Path, go: Flag
) -> None:
    tally = Tally(tmp_path / "ran")
    with pytest.raises(TimeoutError, match="mark_and_wait"):
        fr.map(tasks.mark_and_wait, [tally] * 100, range(100), [go] * 100, plan=parallel, timeout=0.5)
    go.set()
    # Whoever ran an item of it has done so before it takes one of these.
    assert fr.map(tasks.square, range(1000), plan=parallel) == [number * number for number in range(1000)]
    assert len(tally.marks()) <= parallel.workers


@pytest.mark.parametrize("shared", [fr.Plan(2), fr.Plan(2, 2)], ids=str)
def test_a_map_whose_time_is_up_costs_another_that_shares_its_workers_nothing(
    shared: Any, tmp_path: Path, go: Flag
) -> None:
    tally = Tally(tmp_path / "ran")
    results: list[Any] = []

    def other() -> None:
        results.append(fr.map(tasks.mark_and_wait, [tally] * 20, range(20), [go] * 20, plan=shared))

    thread = threading.Thread(target=other)
    thread.start()
    until(lambda: len(tally.marks()) == shared.workers, "the workers are busy")
    late = Tally(tmp_path / "late")
    with pytest.raises(TimeoutError):
        fr.map(tasks.mark_and_wait, [late] * 20, range(20), [go] * 20, plan=shared, timeout=0.3)
    go.set()
    thread.join()
    assert results == [list(range(20))]
    assert not late.marks()


def test_a_map_whose_time_is_up_takes_its_own_workers_with_it_and_no_others(tmp_path: Path, go: Flag) -> None:
    tally, late = Tally(tmp_path / "ran"), Tally(tmp_path / "late")
    results: list[Any] = []

    def other() -> None:
        results.append(fr.map(tasks.mark_and_wait, [tally] * 4, range(4), [go] * 4, plan=fr.Plan(2)))

    def fail_late() -> None:
        with pytest.raises(TimeoutError):
            fr.map(tasks.mark_and_wait, [late], [0], [Flag(tmp_path / "never")], plan=fr.Plan(2), timeout=1)

    first = threading.Thread(target=fail_late)
    first.start()
    until(late.marks, "one worker is busy")
    second = threading.Thread(target=other)
    second.start()
    until(tally.marks, "the other worker is busy")
    first.join()
    # In place of the worker that went there is another.
    until(lambda: len(tally.marks()) == 2, "a new worker takes what waits")
    go.set()
    second.join()
    assert results == [[0, 1, 2, 3]]


def test_a_map_that_ends_in_time_gives_its_results(plan: Any) -> None:
    assert fr.map(tasks.square, range(100), plan=plan, timeout=1000) == [number * number for number in range(100)]


def test_a_map_without_time_raises(plan: Any) -> None:
    with pytest.raises(TimeoutError):
        fr.map(time.sleep, [0.01] * 1000, plan=plan, timeout=0)


# Ctrl-C


@pytest.mark.parametrize("plan", ["serial", "threads", "processes", "hybrid", "auto"])
def test_ctrl_c_ends_a_map_with_one_traceback_and_leaves_nothing(tmp_path: Path, plan: str) -> None:
    with start(
        """
        import sys, time, forkright as fr
        def work(x):
            open(f"begun {x}", "x").close()
            # Signals interrupt the calling thread only: threads end with their item.
            for _ in range(20):
                time.sleep(0.01)
        fr.map(work, range(100_000), plan=sys.argv[1])
        """,
        tmp_path,
        arguments=(plan,),
    ) as script:
        until(lambda: len(list(tmp_path.glob("begun *"))) >= 2, "the map is under way")
        os.killpg(script.process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
        assert script.wait() == -signal.SIGINT, script.err
        assert script.err.count("Traceback") == 1 and script.err.endswith("KeyboardInterrupt\n"), script.err
        script.until_gone()


@pytest.mark.parametrize("calls", ["fr.map(work, items)", "list(fr.imap(work, items))", "list(pool.map(work, items))"])
def test_a_program_dies_of_ctrl_c_even_if_it_was_still_preparing_processes(tmp_path: Path, calls: str) -> None:
    with start(
        """
        import os, signal, sys, time, forkright as fr
        class Item:
            # Whether items can be pickled is asked in a thread beside the calls.
            def __reduce__(self):
                open("asked", "w").close()
                while not os.path.exists("interrupted"):
                    time.sleep(0.01)
                time.sleep(0.1)
                # As a named tuple does. CPython has forgotten an interrupt that was not handled before.
                exec("pass")
                return Item, ()
        def work(item):
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                pass
        def interrupt(*_):
            open("interrupted", "w").close()
            raise KeyboardInterrupt
        signal.signal(signal.SIGINT, interrupt)
        items = [Item() for _ in range(1_000)]
        with fr.Executor() as pool:
            eval(sys.argv[1])
        """,
        tmp_path,
        arguments=(calls,),
    ) as script:
        until((tmp_path / "asked").exists, "the items are looked at")
        os.killpg(script.process.pid, signal.SIGINT)
        assert script.wait() == -signal.SIGINT, script.err
        script.until_gone()


def test_ctrl_c_in_a_long_item_of_a_worker_process_does_not_wait_for_it(tmp_path: Path) -> None:
    with start(
        """
        import time, forkright as fr
        def work(x):
            open(f"begun {x}", "x").close()
            time.sleep(10_000)
        try:
            fr.map(work, range(2), plan=fr.Plan(2))
        except KeyboardInterrupt:
            print(fr.map(abs, [-1, -2], plan="processes"))
        """,
        tmp_path,
    ) as script:
        until(lambda: len(list(tmp_path.glob("begun *"))) == 2, "both items run")
        os.killpg(script.process.pid, signal.SIGINT)
        assert script.wait() == 0, script.err
        assert (script.out, script.err) == ("[1, 2]\n", "")
        script.until_gone()


def test_ctrl_c_while_results_are_awaited_is_raised_there(tmp_path: Path) -> None:
    with start(
        """
        import sys, time, forkright as fr
        def work():
            open("begun", "x").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
            return 5
        import os
        with fr.ProcessPoolExecutor(1) as pool:
            future = pool.submit(work)
            try:
                future.result()
            except KeyboardInterrupt:
                open("go", "x").close()
                print(future.result())
        """,
        tmp_path,
    ) as script:
        until((tmp_path / "begun").exists, "the call runs")
        os.killpg(script.process.pid, signal.SIGINT)
        assert script.wait() == 0, script.err
        assert script.out == "5\n"
        script.until_gone()


# The report


def test_the_report_tells_of_the_last_map(plan: Any) -> None:
    fr.map(tasks.square, range(25), plan=plan)
    report = fr.report()
    data = json.loads(report.to_json())
    assert data["tasks"] == data["done"] == 25 and data["function"] == "square" and data["failed"] == 0
    assert str(report)


@pytest.mark.skipif(fr.cpu_count() < 2, reason="one core needs no second thread")
def test_the_calling_thread_leaves_long_computations_without_the_gil_to_others() -> None:
    data = bytes(20_000_000)

    def digest(_: int) -> int:
        hashlib.sha256(data).digest()
        return threading.get_ident()

    ran_in = fr.map(digest, range(40), shared_state=True)
    assert threading.get_ident() not in ran_in[-4:]
    assert len(set(ran_in[-20:])) > 1
