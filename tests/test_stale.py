"""What a fresh import would lose is noticed, and nothing else is."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from far_process import Far
from forkright import _stale

SETTINGS = """
    FACTOR = 3
    NAMES = frozenset({"x", "y", "z", "a", "b"})
    LIMITS = {"low": 1, "high": [2, 3]}
    class Model:
        rate = 1
        made = 0
        def __init__(self): Model.made += 1
        def score(self, x): return self.rate * x
        @property
        def half(self): return self.rate / 2
    model = Model()
    model.level = 1
    def helper(x, by=2): return x * by
    def tally(x): MEMO[x] = x; return MEMO
    MEMO = {}
"""
WORK = """
    import functools
    import staled_settings as settings
    from staled_settings import FACTOR, helper, Model
    def logged(f):
        @functools.wraps(f)
        def wrapper(*a): return f(*a)
        return wrapper
    def constant(x): return x * FACTOR
    def attribute(x): return x * settings.FACTOR
    def local_import(x):
        import staled_settings
        return x * staled_settings.FACTOR
    def calls(x): return helper(x)
    def calls_attribute(x): return settings.helper(x)
    def model(x): return Model().score(x)
    def instance(x): return settings.model.level
    def names(x): return x in settings.NAMES
    def limits(x): return settings.LIMITS["low"]
    def memo(x): return settings.tally(x)
    @logged
    def decorated(x): return settings.FACTOR
    def asserts(x):
        assert x in (1, 2), "no"
        return [y for y in range(x) if (lambda: y)()]
    TABLE = {"h": helper, "l": lambda x: x}
    def table(x): return TABLE["h"](x)
"""
FUNCTIONS = "constant attribute local_import calls calls_attribute model instance names limits memo decorated asserts table".split()


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType, Far]]:
    (tmp_path / "staled_settings.py").write_text(textwrap.dedent(SETTINGS))
    (tmp_path / "staled_work.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(str(tmp_path))
    settings, work = importlib.import_module("staled_settings"), importlib.import_module("staled_work")
    with Far() as far:
        yield settings, work, far
    del sys.modules["staled_settings"], sys.modules["staled_work"]


def differences(function: Callable[..., Any], far: Far) -> list[str]:
    return _stale.disagree(_stale.digest(function), far.digest(function))


def test_unchanged_code_agrees(modules: tuple[ModuleType, ModuleType, Far]) -> None:
    _, work, far = modules
    for name in FUNCTIONS:
        function = getattr(work, name)
        function(1) if name != "table" else None
        for _ in range(3000):  # so that the interpreter specialises its code
            work.constant(1)
        assert differences(function, far) == [], name
        assert name in ("asserts",) or len(_stale.digest(function)) > 1, name


def helper_with_assertion(x: int) -> int:
    assert x == 1 or x > 2
    return x


def test_assertions_that_pytest_rewrote_agree() -> None:
    with Far() as far:
        mine = _stale.digest(helper_with_assertion)
        assert mine and differences(helper_with_assertion, far) == []


def test_a_tracer_changes_nothing(modules: tuple[ModuleType, ModuleType, Far]) -> None:
    _, work, far = modules
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        work.constant(1)
        assert differences(work.constant, far) == []
    finally:
        sys.settrace(before)


Change = Callable[[ModuleType, ModuleType], None]


def patch(module: int, name: str, value: Any) -> Change:
    def change(*modules: ModuleType) -> None:
        *path, last = name.split(".")
        target: Any = modules[module]
        for part in path:
            target = getattr(target, part)
        setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    ("function", "change", "words"),
    [
        ("attribute", patch(0, "FACTOR", 5), "`staled_settings.FACTOR` is 5 here; a fresh import has 3"),
        ("local_import", patch(0, "FACTOR", 5), "`staled_settings.FACTOR` is 5 here; a fresh import has 3"),
        ("constant", patch(1, "FACTOR", 5), "`staled_work.FACTOR` is 5 here; a fresh import has 3"),
        (
            "calls",
            patch(1, "helper", lambda x: x),
            "`staled_work.helper` is the function `test_stale.<lambda>` here",
        ),
        (
            "calls_attribute",
            patch(0, "helper", len),
            "`staled_settings.helper` is the function `builtins.len` here",
        ),
        ("calls", patch(0, "helper.__defaults__", (9,)), "`staled_work.helper` runs other code here"),
        ("model", patch(0, "Model.rate", 2), "`staled_settings.Model.rate` is 2 here; a fresh import has 1"),
        (
            "model",
            patch(0, "Model.extra", 2),
            "`staled_settings.Model.extra` is 2 here; a fresh import does not have it",
        ),
        (
            "model",
            patch(0, "Model.score", lambda self, x: x),
            "`staled_settings.Model.score` is the function",
        ),
        (
            "instance",
            patch(0, "model.level", 7),
            "`staled_settings.model.level` is 7 here; a fresh import has 1",
        ),
        ("names", patch(0, "NAMES", frozenset({"x"})), "`staled_settings.NAMES` is {'x'} here"),
        ("limits", lambda s, w: s.LIMITS.update(low=4), "`staled_settings.LIMITS` is {'low': 4"),
        ("decorated", patch(0, "FACTOR", 5), "`staled_settings.FACTOR` is 5 here; a fresh import has 3"),
        ("table", patch(0, "helper.__defaults__", (9,)), "`staled_work.TABLE['h']` runs other code here"),
    ],
)
def test_what_changed_is_named(
    modules: tuple[ModuleType, ModuleType, Far], function: str, change: Change, words: str
) -> None:
    settings, work, far = modules
    change(settings, work)
    found = differences(getattr(work, function), far)
    assert any(words in sentence for sentence in found), found


def test_a_file_edited_after_its_import_is_noticed(modules: tuple[ModuleType, ModuleType, Far], tmp_path: Path) -> None:
    _, work, far = modules
    text = (tmp_path / "staled_work.py").read_text().replace("return x * FACTOR", "return x * FACTOR + 1000")
    (tmp_path / "staled_work.py").write_text(text)
    found = differences(work.constant, far)
    assert found == [
        "`staled_work.constant` runs other code here than after a fresh import: it or its file changed since it was imported"
    ]


def test_a_file_that_only_moved_its_lines_agrees(modules: tuple[ModuleType, ModuleType, Far], tmp_path: Path) -> None:
    _, work, far = modules
    text = (tmp_path / "staled_work.py").read_text()
    (tmp_path / "staled_work.py").write_text("# a comment\n\n" + text)
    assert differences(work.constant, far) == []


def test_the_memo_of_the_work_itself_is_no_difference(modules: tuple[ModuleType, ModuleType, Far]) -> None:
    _, work, far = modules
    for x in range(20):
        work.memo(x)
    assert differences(work.memo, far) == []


def test_library_code_is_not_walked() -> None:
    import json

    assert _stale.digest(json.dumps) == {}
