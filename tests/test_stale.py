"""What a fresh import would lose is noticed, and nothing else is."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import forkright as fr
from far_process import Far
from forkright import _core, _functions, _stale, _trial
from scripts import run

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


def test_a_script_that_the_command_line_loads_agrees_as_one_that_is_run(
    modules: tuple[ModuleType, ModuleType, Far], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _, far = modules
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setitem(sys.modules, f"{_functions.SCRIPT}script", ModuleType("none yet"))
    (tmp_path / "script.py").write_text("import staled_settings as s\ndef scaled(x): return s.helper(x) * s.FACTOR\n")
    scaled = _trial.load(str(tmp_path / "script.py"))["scaled"]
    assert _stale.digest(scaled) and differences(scaled, far) == []
    settings.FACTOR = 5
    assert differences(scaled, far) == ["`staled_settings.FACTOR` is 5 here; a fresh import has 3"]


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


# Through the workers

SLOW = """
    import os, time
    import staled_settings as settings
    PID = os.getpid()
    def slowly(x):
        until = time.thread_time() + 0.02
        while time.thread_time() < until: pass
        return x * settings.FACTOR
    def scaled(x): return x * settings.FACTOR
    def own(x): return PID
    class Scale:
        def by(self, x): return x * settings.FACTOR
    def configure(factor): settings.FACTOR = factor
    def connect(name):
        global NAME
        NAME = name
        DATA.append(name)
    def connect_all(**names): globals().update(names)
    NAME = None
    DATA = []
    def connected(x): return NAME, list(DATA)
"""


@pytest.fixture
def live(
    modules: tuple[ModuleType, ModuleType, Far], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ModuleType, Any]]:
    (tmp_path / "staled_slow.py").write_text(textwrap.dedent(SLOW))
    _core.close_shared(5)  # workers that are up would not find the modules
    yield modules[0], importlib.import_module("staled_slow")
    del sys.modules["staled_slow"]
    _core.close_shared(5)


def warned(record: pytest.WarningsRecorder) -> list[str]:
    return [str(warning.message) for warning in record.list if warning.category is fr.ForkrightWarning]


def test_what_a_fresh_import_would_lose_stays_here_and_the_report_says_why(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.FACTOR = 5
    assert fr.map(slow.slowly, range(60)) == [5 * x for x in range(60)]
    report = fr.report()
    assert "`staled_settings.FACTOR` is 5 here; a fresh import has 3" in report.why
    assert all(worker["kind"] == "thread" for worker in report.data["workers"])


def test_an_unchanged_module_moves_without_a_word(
    live: tuple[ModuleType, Any], recwarn: pytest.WarningsRecorder
) -> None:
    _, slow = live
    assert fr.map(slow.slowly, range(60)) == [3 * x for x in range(60)]
    assert any(worker["kind"] == "process" for worker in fr.report().data["workers"])
    assert fr.map(slow.scaled, range(9), plan="processes") == [3 * x for x in range(9)]
    assert warned(recwarn) == []


def test_a_fixed_plan_runs_and_warns_once(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with pytest.warns(fr.ForkrightWarning) as record:
        for _ in range(3):
            assert fr.map(slow.scaled, range(9), plan="processes", chunksize=1) == [3 * x for x in range(9)]
    assert [str(warning.message) for warning in record] == [
        "`scaled` is not the same in a worker process: `staled_settings.FACTOR` is 5 here; a fresh import has 3; "
        "pass what differs as an argument, or set it in an executor's `initializer`"
    ]
    assert record[0].filename == __file__


def test_a_change_between_two_maps_is_noticed_at_the_second(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.LIMITS["low"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", fr.ForkrightWarning)
        fr.map(slow.scaled, range(9), plan="processes")
    settings.FACTOR = 7
    with pytest.warns(fr.ForkrightWarning, match="`staled_settings.FACTOR` is 7 here; a fresh import has 3"):
        fr.map(slow.scaled, range(9), plan="processes")
    settings.FACTOR = 8
    with pytest.warns(fr.ForkrightWarning, match="`staled_settings.FACTOR` is 8 here"):
        fr.map(slow.scaled, range(9), plan="processes")


def test_where_warnings_are_errors_the_map_fails(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with warnings.catch_warnings():
        warnings.simplefilter("error", fr.ForkrightWarning)
        with pytest.raises(fr.ForkrightWarning, match="FACTOR"):
            fr.map(slow.scaled, range(9), plan="processes")
        with fr.ProcessPoolExecutor(1) as executor, pytest.raises(fr.ForkrightWarning, match="FACTOR"):
            executor.submit(slow.scaled, 1).result()


def test_what_travels_with_a_function_is_no_difference(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setitem(globals(), "LEVEL", 5)
    assert fr.map(lambda x: x * LEVEL, range(3), plan="processes") == [0, 5, 10]
    assert warned(recwarn) == []


def test_classes_of_a_file_that_no_import_finds_travel_too_and_are_no_difference(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "loaded.py"
    path.write_text(
        "class Adder:\n"
        "    def __init__(self): self.step = 1\n"
        "    def add(self, number): return number + self.step\n"
        "def work(number): return Adder().add(number)\n"
    )
    spec = importlib.util.spec_from_file_location("loaded from a path", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        assert _stale.digest(module.work) == {}
        assert fr.map(module.work, range(3), plan="processes") == [1, 2, 3]
        assert warned(recwarn) == []
    finally:
        del sys.modules[spec.name]


def test_what_differs_in_each_process_is_said(live: tuple[ModuleType, Any]) -> None:
    _, slow = live
    with pytest.warns(fr.ForkrightWarning, match=f"`staled_slow.PID` is {os.getpid()} here"):
        fr.map(slow.own, range(2), plan="processes")


LEVEL = 1


def calls(executor: fr.Executor, slow: Any, kind: str) -> list[int]:
    match kind:
        case "submit":
            return [future.result() for future in [executor.submit(slow.scaled, x) for x in range(20)]]
        case "method":
            scale = slow.Scale()
            return [future.result() for future in [executor.submit(scale.by, x) for x in range(20)]]
        case "partial":
            return [executor.submit(functools.partial(slow.scaled, x)).result() for x in range(20)]
        case "lambda":
            factor = LEVEL
            futures = [executor.submit(lambda x: slow.scaled(x) * factor * LEVEL, x) for x in range(20)]
            return [future.result() for future in futures]
        case "map":
            return list(executor.map(slow.scaled, range(20)))
    return list(executor.map(slow.scaled, range(20), chunksize=7))


KINDS = ["submit", "method", "partial", "lambda", "map", "chunks"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_executor_warns_once(live: tuple[ModuleType, Any], kind: str) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with pytest.warns(fr.ForkrightWarning) as record, fr.ProcessPoolExecutor(2) as executor:
        assert calls(executor, slow, kind) == [3 * x for x in range(20)]
    assert len(record) == 1
    assert "`staled_settings.FACTOR` is 5 here; a fresh import has 3" in str(record[0].message)


@pytest.mark.parametrize("kind", KINDS)
def test_an_initializer_may_set_it(live: tuple[ModuleType, Any], recwarn: pytest.WarningsRecorder, kind: str) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with fr.ProcessPoolExecutor(2, initializer=slow.configure, initargs=(5,)) as executor:
        assert calls(executor, slow, kind) == [5 * x for x in range(20)]
    assert warned(recwarn) == []


def test_what_an_initializer_sets_in_workers_alone_is_meant_so(
    live: tuple[ModuleType, Any], recwarn: pytest.WarningsRecorder
) -> None:
    _, slow = live
    with fr.ProcessPoolExecutor(1, initializer=slow.connect, initargs=("a",)) as executor:
        assert executor.submit(slow.connected, 0).result() == ("a", ["a"])
    update = functools.partial(slow.connect_all, NAME="b")
    with fr.ProcessPoolExecutor(1, initializer=update) as executor:
        assert executor.submit(slow.connected, 0).result() == ("b", [])
    assert warned(recwarn) == []


def test_an_initializer_that_leaves_it_alone_excuses_nothing(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with fr.ProcessPoolExecutor(1, initializer=slow.connect, initargs=("a",)) as executor:
        with pytest.warns(fr.ForkrightWarning, match="FACTOR"):
            executor.submit(slow.scaled, 0).result()


def test_a_setting_changed_between_submits_is_noticed(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    with fr.ProcessPoolExecutor(1) as executor:
        assert executor.submit(slow.scaled, 1).result() == 3
        settings.FACTOR = 5
        with pytest.warns(fr.ForkrightWarning, match="is 5 here"):
            executor.submit(slow.scaled, 1).result()


def test_nobody_need_ask_for_the_result_to_be_warned(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with pytest.warns(fr.ForkrightWarning, match="is 5 here"), fr.ProcessPoolExecutor(1) as executor:
        executor.submit(slow.scaled, 1)


@pytest.mark.parametrize("how", ["submit", "method", "imap"])
def test_an_executor_that_chooses_keeps_it_here(live: tuple[ModuleType, Any], how: str) -> None:
    settings, slow = live
    settings.FACTOR = 5
    if how == "imap":
        assert list(fr.imap(slow.slowly, range(60))) == [5 * x for x in range(60)]
        return
    with fr.Executor() as executor:
        function = slow.slowly if how == "submit" else functools.partial(slow.slowly)
        futures = [executor.submit(function, x) for x in range(60)]
        assert [future.result() for future in futures] == [5 * x for x in range(60)]
        assert "`staled_settings.FACTOR` is 5 here" in " ".join(str(executor.report()).split())


def test_an_initializer_may_set_it_where_the_place_is_chosen(live: tuple[ModuleType, Any]) -> None:
    settings, slow = live
    settings.FACTOR = 5
    with fr.Executor(initializer=slow.configure, initargs=(5,)) as executor:
        futures = [executor.submit(slow.slowly, x) for x in range(60)]
        assert [future.result() for future in futures] == [5 * x for x in range(60)]
        workers = executor.report().data["functions"][0]["workers"]
        assert any(worker["kind"] == "process" for worker in workers)


def test_a_closure_agrees_in_a_worker_that_has_not_imported_its_module(tmp_path: Path) -> None:
    (tmp_path / "staled_settings.py").write_text("def helper(x): return x * 2\n")
    (tmp_path / "staled_maker.py").write_text(
        "import staled_settings\ndef make(n): return lambda x: staled_settings.helper(x) + n\n"
    )
    script = """
        import warnings
        import forkright as fr
        import staled_maker
        warnings.simplefilter("error")
        print(fr.map(staled_maker.make(1), range(4), plan="processes"))
    """
    assert run(script, tmp_path) == ["[1, 3, 5, 7]"]
