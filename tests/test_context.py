"""With `context=` calls see the caller's context variables, wherever they run, and nobody sees what they set.

Without it they see what they would on the standard library's pools, but under "auto" what they would in the calling
thread: all calls the same.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import decimal
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forkright as fr
from scripts import run
from waiting import Flag

PLANS = ["serial", "threads", "processes", "hybrid", fr.Plan(2, 4), "auto"]
POOLS = [plan for plan in PLANS if plan != "serial"]

number: ContextVar[int] = ContextVar("number", default=-1)
request: ContextVar[dict[str, Any]] = ContextVar("request")
lock: ContextVar[Any] = ContextVar("lock", default=None)


class Scope:
    """As libraries keep a variable: in an object, or made for a name when that is first bound."""

    def __init__(self) -> None:
        self.current: ContextVar[str] = ContextVar("current", default="nowhere")


scope = Scope()
by_name: dict[str, ContextVar[str]] = {}


@pytest.fixture(params=PLANS, ids=str)
def plan(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=POOLS, ids=str)
def pool(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """What a test sets is for it alone."""
    tokens = [(variable, variable.set(value)) for variable, value in ((number, -1), (lock, None))]
    before = decimal.getcontext().copy()
    yield
    decimal.setcontext(before)
    for variable, token in tokens:
        variable.reset(token)


def see(_: int) -> tuple[int, dict[str, Any]]:
    return number.get(), dict(request.get({}))


def spin() -> None:
    """Take long enough for "auto" to have it elsewhere."""
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        sum(range(100))


def see_and_set(item: int) -> int:
    seen = number.get()
    number.set(item)
    return seen


def test_calls_see_the_callers_variables(plan: Any) -> None:
    number.set(7)
    request.set({"user": "ada"})
    assert fr.map(see, range(40), plan=plan, context=True) == [(7, {"user": "ada"})] * 40
    assert fr.starmap(see, [(1,)] * 3, plan=plan, context=True) == [(7, {"user": "ada"})] * 3
    assert list(fr.imap(see, range(9), plan=plan, context=True, chunksize=2)) == [(7, {"user": "ada"})] * 9
    assert list(fr.imap_unordered(see, range(9), plan=plan, context=True)) == [(7, {"user": "ada"})] * 9


def test_what_a_call_sets_nobody_else_sees(plan: Any) -> None:
    number.set(7)
    assert fr.map(see_and_set, range(40), plan=plan, context=True) == [7] * 40
    assert list(fr.imap(see_and_set, range(40), plan=plan, context=True, chunksize=5)) == [7] * 40
    assert number.get() == 7


def test_the_context_is_that_of_the_moment_of_the_call(pool: Any) -> None:
    number.set(1)
    values = fr.imap(see, range(20), plan=pool, context=True)
    number.set(2)
    assert {seen for seen, _ in values} == {1}


def test_submitted_calls_have_the_context_of_their_submission(pool: Any) -> None:
    with fr.Executor(2, plan=pool, context=True) as executor:
        futures = []
        for value in range(10):
            number.set(value)
            futures.append(executor.submit(see_and_set, 100))
        assert [future.result() for future in futures] == list(range(10))
        number.set(20)
        assert list(executor.map(see_and_set, range(6), chunksize=3)) == [20] * 6
        lambdas = [executor.submit(lambda: number.get()) for _ in range(3)]
        assert [future.result() for future in lambdas] == [20] * 3


def test_a_view_of_an_executor_may_have_another_context(pool: Any) -> None:
    number.set(5)
    with fr.Executor(2, plan=pool) as executor:
        assert executor.submit(see, 0).result()[0] == -1
        view = executor.options(context=True)
        assert view.submit(see, 0).result()[0] == 5
        assert [seen for seen, _ in view.map(see, range(4))] == [5] * 4
        assert view.options(priority=3).submit(see, 0).result()[0] == 5
        assert view.options(context=None).submit(see, 0).result()[0] == -1


def test_an_executor_knows_a_function_by_itself_whatever_the_context() -> None:
    with fr.Executor(2, context=True) as executor:
        for value in range(8):
            number.set(value)
            assert executor.submit(see, 0).result()[0] == value
        functions = executor.report().data["functions"]
    assert [function["function"] for function in functions] == ["see"]


def test_only_the_named_variables_come_along(plan: Any) -> None:
    number.set(3)
    request.set({"user": "ada"})
    assert fr.map(see, range(5), plan=plan, context=[number]) == [(3, {})] * 5


def test_a_context_of_ones_own_is_taken(plan: Any) -> None:
    number.set(3)
    mine = contextvars.Context()
    mine.run(number.set, 11)
    assert fr.map(see, range(5), plan=plan, context=mine) == [(11, {})] * 5
    assert mine[number] == 11


def test_decimal_contexts_come_along(plan: Any) -> None:
    with decimal.localcontext() as here:
        here.prec = 6
        here.rounding = decimal.ROUND_UP
        values = fr.map(divide, range(1, 30), plan=plan, context=True)
        assert decimal.getcontext().prec == 6
    assert set(values) == {"0.142858"}


def divide(item: int) -> str:
    value = str(decimal.Decimal(1) / 7)
    decimal.getcontext().prec = item
    return value


def test_what_numpy_does_about_errors_comes_along(plan: Any) -> None:
    with np.errstate(divide="raise"):
        results = fr.map(np.log, [0.0] * 5, plan=plan, context=True, on_error="return")
    assert [type(result) for result in results] == [FloatingPointError] * 5


def test_variables_that_libraries_keep_in_objects_and_dicts_come_along(plan: Any) -> None:
    scope.current.set("here")
    by_name["late"] = ContextVar("late")
    by_name["late"].set("bound")
    assert fr.map(see_kept, range(5), plan=plan, context=True) == [("here", "bound")] * 5


def see_kept(_: int) -> tuple[str, str]:
    variable = by_name.get("late")
    return scope.current.get(), "unbound" if variable is None else variable.get("unset")


def test_what_cant_be_pickled_is_left_out_unless_it_was_named() -> None:
    number.set(4)
    lock.set(threading.Lock())
    assert fr.map(has_lock, range(4), plan="threads", context=True) == [(4, True)] * 4
    assert fr.map(has_lock, range(4), plan="processes", context=True) == [(4, False)] * 4
    with pytest.raises(fr.UnpicklableError, match="context variable `lock`"):
        fr.map(has_lock, range(4), plan="processes", context=[lock])
    with fr.Executor(1, plan="processes", context=[lock]) as executor:
        with pytest.raises(fr.UnpicklableError, match="context variable `lock`"):
            executor.submit(has_lock, 1).result()


def has_lock(_: int) -> tuple[int, bool]:
    return number.get(), lock.get() is not None


def has_lock_slowly(item: int) -> tuple[int, bool]:
    spin()
    return has_lock(item)


@pytest.mark.parametrize("context", [None, True])
def test_auto_keeps_calls_here_that_read_what_cant_travel(context: bool | None) -> None:
    number.set(4)
    lock.set(threading.Lock())
    assert fr.map(has_lock_slowly, range(40), context=context) == [(4, True)] * 40
    assert "reads the context variable `lock`" in fr.report().why


@pytest.mark.parametrize("context", [None, True])
def test_under_auto_all_calls_see_the_same(context: bool | None) -> None:
    number.set(9)
    request.set({"user": "ada"})
    assert set(map_until_some_leave(see_who, context)) == {(9, "ada")}
    assert fr.map(wait_and_see, range(60), context=context) == [9] * 60
    with decimal.localcontext() as here:
        here.prec = 6
        assert set(map_until_some_leave(divide_slowly, context)) == {"0.142857"}


def map_until_some_leave(fn: Any, context: bool | None) -> list[Any]:
    """Under "auto", which on a busy machine may not choose processes the first time."""
    for _ in range(10):
        results = fr.map(fn, range(100), context=context)
        if fr.report().plan.processes:
            return results
        assert len(set(results)) == 1
    raise AssertionError(f"none left: {fr.report()}")


def see_who(item: int) -> tuple[int, str]:
    spin()
    seen, who = see(item)
    return seen, who["user"]


def wait_and_see(_: int) -> int:
    time.sleep(0.005)
    return number.get()


def divide_slowly(_: int) -> str:
    spin()
    return str(decimal.Decimal(1) / 7)


def test_auto_keeps_calls_here_that_change_what_a_variable_has() -> None:
    shared: dict[str, Any] = {"calls": 0}
    request.set(shared)
    fr.map(count, range(40), context=True)
    assert shared["calls"] == 40
    assert "processes" in fr.report().why


def count(_: int) -> None:
    spin()
    request.get()["calls"] += 1


def test_without_it_workers_have_the_contexts_of_the_standard_librarys_pools() -> None:
    number.set(5)
    for plan in ("threads", "processes"):
        assert fr.map(see, range(4), plan=plan) == [(-1, {})] * 4
        with fr.Executor(2, plan=plan) as executor:
            assert executor.submit(see, 0).result() == (-1, {})
    with concurrent.futures.ThreadPoolExecutor(2) as reference:
        assert reference.submit(see, 0).result() == (-1, {})


def test_a_call_that_is_run_again_sees_the_same(tmp_path: Path) -> None:
    number.set(6)
    flag = Flag(tmp_path / "died")
    seen = fr.map(see_once_more, range(6), [flag] * 6, plan="processes", workers=2, retries=2, context=True)
    assert seen == [6] * 6
    assert flag.is_set()


def see_once_more(item: int, flag: Flag) -> int:
    seen = see_and_set(item)
    if item == 3 and not flag.is_set():
        flag.set()
        os.kill(os.getpid(), signal.SIGKILL)
    return seen


@pytest.mark.parametrize("plan", ["threads", "processes", "auto"])
def test_calls_with_a_limit_see_it_too(plan: str) -> None:
    number.set(6)
    assert [seen for seen, _ in fr.map(see, range(4), plan=plan, task_timeout=60, context=True)] == [6] * 4
    if plan == "auto":
        assert [seen for seen, _ in fr.map(see, range(4), plan=plan, task_timeout=60)] == [6] * 4


def test_seeds_and_contexts_go_together(plan: Any) -> None:
    number.set(2)
    drawn = fr.map(draw, range(20), plan=plan, seed=1, context=True)
    children = np.random.SeedSequence(1).spawn(20)
    assert drawn == [(2, np.random.default_rng(child).random()) for child in children]


def draw(_: int, *, rng: np.random.Generator) -> tuple[int, float]:
    return number.get(), rng.random()


@pytest.mark.parametrize("plan", ["auto", "threads", "processes"])
def test_coroutine_functions_and_asyncio_programs_have_it(plan: str) -> None:
    number.set(8)
    assert fr.map(see_awaiting, range(8), plan=plan, context=True) == [8] * 8
    mine = contextvars.Context()
    mine.run(number.set, 12)

    async def program() -> None:
        assert await fr.amap(see_and_set, range(8), plan=plan, context=True) == [8] * 8
        assert await fr.amap(see_awaiting, range(8), plan=plan, context=mine) == [12] * 8
        assert [seen async for seen in fr.aimap(see_and_set, range(8), plan=plan, context=True)] == [8] * 8
        assert [seen async for seen in fr.aimap(see_awaiting, range(8), plan=plan, context=mine)] == [12] * 8

    asyncio.run(program())


async def see_awaiting(item: int) -> int:
    seen = number.get()
    number.set(item)
    await asyncio.sleep(0)
    return seen


def test_variables_of_scripts_and_closures_come_along(tmp_path: Path) -> None:
    run(
        """
        from contextvars import ContextVar
        import forkright as fr

        user = ContextVar("user", default="nobody")

        def nested():
            inner = ContextVar("inner")
            inner.set("cell")
            return lambda _: (user.get(), inner.get("unset"))

        user.set("ada")
        for plan in ("serial", "threads", "processes", "hybrid", "auto"):
            assert fr.map(nested(), range(6), plan=plan, context=True) == [("ada", "cell")] * 6, plan
        assert fr.map(lambda _: user.get(), range(3), plan="processes") == ["nobody"] * 3
        same = fr.map(lambda _: user, range(3), plan="processes")
        assert all(variable is user for variable in same)
        """,
        tmp_path,
    )


def test_a_variable_that_a_script_imported_is_the_one_of_its_module(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from contextvars import ContextVar\n"
        "user = ContextVar('user', default='nobody')\n"
        "def greet(_):\n"
        "    return user.get()\n"
    )
    run(
        """
        from app import greet, user
        import forkright as fr

        user.set("ada")
        for context in (True, [user]):
            for plan in ("serial", "threads", "processes", "hybrid", "auto"):
                assert fr.map(greet, range(6), plan=plan, context=context) == ["ada"] * 6, (context, plan)
            assert fr.map(lambda _: user.get(), range(3), plan="processes", context=context) == ["ada"] * 3
        """,
        tmp_path,
    )


def test_a_variable_that_a_module_has_from_the_script_comes_along(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def register(variable):\n    global user\n    user = variable\n")
    (tmp_path / "late.py").write_text("from __main__ import user\n")
    run(
        """
        from contextvars import ContextVar
        import app
        import forkright as fr

        user = ContextVar("user", default="nobody")
        user.set("ada")
        assert fr.map(lambda _: user.get(), range(3), plan="processes", context=[user]) == ["ada"] * 3
        other = ContextVar("user", default="nobody")
        other.set("eve")
        app.register(other)
        assert fr.map(lambda _: other.get(), range(3), plan="processes", context=[other]) == ["eve"] * 3
        user = ContextVar("user", default="nobody")
        user.set("bob")
        import late
        assert fr.map(lambda _: user.get(), range(3), plan="processes", context=[user]) == ["bob"] * 3
        """,
        tmp_path,
    )


def test_errors_of_calls_come_as_without_it(pool: Any) -> None:
    for context in (None, True):
        with pytest.raises(ZeroDivisionError):
            fr.map(divide_by, [1, 0], plan=pool, context=context)
        with pytest.raises(fr.UnpicklableError, match="`give_lock`"):
            fr.map(give_lock, range(3), plan="processes", context=context)


def divide_by(item: int) -> float:
    return 1 / item


def give_lock(_: int) -> Any:
    return threading.Lock()


@pytest.mark.parametrize("context", [3, "number", [1], [number, None], object()])
def test_what_tells_no_context_is_refused(context: Any) -> None:
    with pytest.raises(TypeError, match="context must be"):
        fr.map(see, range(3), context=context)
    with pytest.raises(TypeError, match="context must be"):
        fr.Executor(context=context)
    with fr.Executor(1, plan="threads") as executor, pytest.raises(TypeError, match="context must be"):
        executor.options(context=context)


def test_programs_that_have_no_context_pay_for_none(tmp_path: Path) -> None:
    run(
        """
        import sys
        import forkright as fr

        fr.map(abs, range(100))
        assert "forkright._context" not in sys.modules
        assert "_contextvars" not in sys.modules
        """,
        tmp_path,
    )


class Immutable(dict[str, Any]):
    """As OpenTelemetry's: pickle fills a dict by assignments."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise ValueError


class Unmakeable:
    """It can be pickled, and not rebuilt."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_what_pickles_and_cant_be_rebuilt_costs_no_call() -> None:
    request.set(Immutable(user="ada"))
    assert fr.map(see, range(4), plan="processes", context=True) == [(-1, {"user": "ada"})] * 4
    lock.set(Unmakeable())
    assert fr.map(has_lock, range(4), plan="processes", context=True) == [(-1, False)] * 4
    with pytest.raises(fr.UnpicklableError, match=r"context variable `lock`.*could not be rebuilt"):
        fr.map(has_lock, range(4), plan="processes", context=[lock])
