"""Every kind of function reaches a worker, and a change to what it rests on is noticed."""

from __future__ import annotations

import enum
import functools
import importlib.util
import math
import operator
import os.path
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from far_process import Far, run_script
from forkright import _functions


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    with Far() as process:
        yield process


class Tool:
    scale = 2

    def __init__(self, n: int) -> None:
        self.n = n

    def method(self, x: int) -> int:
        return self.n * x

    def __call__(self, x: int) -> int:
        return self.n + x

    @classmethod
    def of_class(cls, x: int) -> int:
        return cls.scale * x

    @staticmethod
    def static(x: int) -> int:
        return x + 100


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def make_functions() -> list[tuple[str, Any, tuple[Any, ...], Any]]:
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    def even(n: int) -> bool:
        return True if n == 0 else odd(n - 1)

    def odd(n: int) -> bool:
        return False if n == 0 else even(n - 1)

    @logged
    def decorated(x: int, *, y: int = 3) -> int:
        return x + y

    @functools.lru_cache(maxsize=7)
    def cached(n: int) -> int:
        return n if n < 2 else int(cached(n - 1) + cached(n - 2))

    class Local:
        def method(self, x: int) -> Any:
            return type(self) is Local and x

        @classmethod
        def of_class(cls, x: int) -> Any:
            return cls is Local and x

    def generate(n: int) -> Any:
        yield from range(n)

    return [
        ("imported", os.path.join, ("a", "b"), "a/b"),
        ("builtin", math.sqrt, (4.0,), 2.0),
        ("recursive", factorial, (5,), 120),
        ("mutually recursive", even, (10,), True),
        ("decorated", decorated, (1,), 4),
        ("cached", cached, (20,), 6765),
        ("local method", Local().method, (3,), 3),
        ("local class method", Local.of_class, (3,), 3),
        ("method", Tool(3).method, (4,), 12),
        ("class method", Tool.of_class, (4,), 8),
        ("static method", Tool.static, (4,), 104),
        ("callable instance", Tool(3), (4,), 7),
        ("class", Tool, None, None),
        ("partial", functools.partial(operator.add, 1), (4,), 5),
        ("partial of a lambda", functools.partial(lambda a, b: a - b, b=1), (4,), 3),
        ("itemgetter", operator.itemgetter(1), ([1, 2],), 2),
        ("method of a string", "abc".upper, (), "ABC"),
        ("method of a builtin type", str.upper, ("abc",), "ABC"),
        ("lambda", lambda x: x * 2, (4,), 8),
        ("generator", lambda n: list(generate(n)), (3,), [0, 1, 2]),
        ("exec", eval("lambda x: x + one", {"one": 1}), (1,), 2),
    ]


@pytest.mark.parametrize("name", [row[0] for row in make_functions()])
def test_it_works_in_another_process(far: Far, name: str) -> None:
    _, function, args, expected = next(row for row in make_functions() if row[0] == name)
    if args is None:
        assert type(far.call(function, 3)) is function
    else:
        assert far.call(function, *args) == expected


def test_numpy_functions_work(far: Far) -> None:
    numpy = pytest.importorskip("numpy")
    assert far.call(numpy.add, 1, 2) == 3
    assert far.call(numpy.linalg.norm, [3.0, 4.0]) == 5.0


def test_all_kinds_work_from_a_script(tmp_path: Path) -> None:
    text = """
import functools
def plain(x: int) -> int: return helper(x) + 1
def helper(x): return x * FACTOR
FACTOR = 2
@functools.lru_cache
def cached(n): return n if n < 2 else cached(n - 1) + cached(n - 2)
@functools.singledispatch
def kind(x): return "any"
@kind.register
def _(x: int): return "int"
class Counter:
    total = 5
    def add(self, x): return self.total + x
    @classmethod
    def make(cls): return cls()
    @staticmethod
    def twice(x): return x * 2
    @property
    def half(self): return self.total / 2
print(far.call(plain, 3), far.call(cached, 10), far.call(Counter().add, 1), far.call(Counter.twice, 4))
print(type(far.call(Counter.make)) is Counter, far.call(lambda c: c.half, Counter()))
print(far.call(lambda: [cached(5), plain(1)]), far.call(kind, 1), far.call(kind, ""))
"""
    assert run_script(text, tmp_path).splitlines() == ["7 55 6 8", "True 2.5", "[5, 3] int any"]


def test_what_a_process_can_import_goes_by_reference() -> None:
    for function in (os.path.join, math.sqrt, make_functions, Tool.static):
        described = _functions.describe(function)
        assert not described.by_value and not described.volatile
        assert len(described.payload) < 100


def test_a_module_that_an_import_would_not_find_goes_by_value(tmp_path: Path, far: Far) -> None:
    (tmp_path / "hidden_module.py").write_text("def f(x): return x + K\nK = 4\n")
    spec = importlib.util.spec_from_file_location("hidden_module", tmp_path / "hidden_module.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hidden_module"] = module
    try:
        spec.loader.exec_module(module)
        assert _functions.describe(module.f).by_value
        assert far.call(module.f, 1) == 5
    finally:
        del sys.modules["hidden_module"]


LIMIT = 3
ITEMS = [1]


def make_closure(value: Any) -> tuple[Callable[..., Any], Callable[[Any], None]]:
    def reads(extra: Any = 1) -> Any:
        return value, extra, LIMIT, later_name  # type: ignore[name-defined]  # noqa: F821

    def change(new: Any) -> None:
        nonlocal value
        value = new

    return reads, change


def test_a_changed_cell_default_code_or_global_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, change = make_closure(1)
    described = _functions.describe(reads)
    assert described.by_value and not described.volatile and _functions.holds(described.watch)

    change(2)
    assert not _functions.holds(described.watch)
    described = _functions.describe(reads)
    reads.__defaults__ = (5,)
    assert not _functions.holds(described.watch)
    described = _functions.describe(reads)
    reads.__code__ = make_closure(1)[0].__code__.replace(co_name="x")
    assert not _functions.holds(described.watch)
    described = _functions.describe(reads)
    monkeypatch.setitem(globals(), "LIMIT", 4)
    assert not _functions.holds(described.watch)
    described = _functions.describe(reads)
    monkeypatch.setitem(globals(), "later_name", 1)
    assert not _functions.holds(described.watch)


def test_a_change_deep_inside_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, change = make_closure(1)

    def outer() -> int:
        return inner()

    described = _functions.describe(outer)
    assert _functions.holds(described.watch)
    change(2)
    assert not _functions.holds(described.watch)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value", [None, 1, "a", (1, (2, "b")), frozenset({1}), math, math.sqrt, os.path.join, Colour.RED, int]
)
def test_what_cant_change_need_not_be_looked_at_again(value: object) -> None:
    assert not _functions.describe(lambda: value).volatile


@pytest.mark.parametrize("value", [[], {}, ([],), Tool(1), bytearray(), Tool(1).method, functools.partial(print, [])])
def test_what_can_change_is_looked_at_each_time(value: object) -> None:
    assert _functions.describe(lambda: value).volatile


def test_a_mutable_global_makes_another_payload_only_when_it_changed() -> None:
    function = types.FunctionType((lambda: ITEMS).__code__, globals())
    function.__qualname__ = "made"
    first = _functions.describe(function)
    assert first.volatile and _functions.describe(function).payload == first.payload
    ITEMS.append(2)
    changed = _functions.describe(function).payload
    ITEMS.pop()
    assert len({first.payload, changed, _functions.describe(function).payload}) == 3


def test_names_are_for_people() -> None:
    def local() -> None: ...

    assert _functions.describe(Tool.static).name == "Tool.static"
    assert _functions.describe(functools.partial(local)).name == "test_names_are_for_people.local"
    assert _functions.describe(Tool(1)).name == "Tool.__call__"
