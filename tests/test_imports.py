"""What a worker would have to import counts against worker processes, and what the first call imports says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
from forkright import _imports


def test_the_main_thread_stays_the_main_thread_to_threading(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import forkright as fr, time\n"
        "fr.map(time.sleep, [0.02] * 10)\n"
        "import threading\n"
        "print(threading.main_thread() is threading.current_thread())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of 30 modules that refers to another of 5."""
    for name, count, head in ("inner_of_test", 5, ""), ("outer_of_test", 30, "import inner_of_test\n"):
        folder = tmp_path / name
        folder.mkdir()
        parts = [f"part{number}" for number in range(count - 1)]
        for part in parts:
            (folder / f"{part}.py").write_text("class Thing:\n    def call(self): return 1\ndef call(*_): return 1\n")
        (folder / "__init__.py").write_text(head + "".join(f"from . import {part}\n" for part in parts))
    monkeypatch.syspath_prepend(tmp_path)
    yield "outer_of_test"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("inner_of_test", "outer_of_test")]:
        del sys.modules[name]


def test_a_package_counts_with_all_that_is_loaded_of_it_and_of_what_it_refers_to(package: str) -> None:
    outer = __import__(package)
    assert _imports.count(outer.part0.call, ()) == 35
    assert _imports.count(outer.inner_of_test.part0.call, ()) == 5


def test_an_item_of_a_package_brings_it_and_so_does_what_wraps_a_function(package: str) -> None:
    outer = __import__(package)
    assert _imports.count(abs, (outer.part0.Thing(),)) == 35
    assert _imports.count(partial(partial(outer.part0.call, 1), 2), ()) == 35
    assert _imports.count(outer.part0.Thing().call, ()) == 35


def test_a_function_that_travels_by_value_brings_what_it_names(package: str) -> None:
    outer = __import__(package)
    names: dict[str, Any] = {"__name__": "__main__", "outer": outer}
    exec("def plain(x): return x\ndef inner(x): return [(lambda: outer.part0.call(x))() for _ in range(2)]", names)
    assert _imports.count(names["inner"], ()) == 35
    assert _imports.count(names["plain"], ()) == 0


def test_the_standard_library_counts_for_nothing() -> None:
    assert _imports.count(json.dumps, ({},)) == 0


def test_modules_that_are_none_and_odd_names_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = types.ModuleType("odd_of_test")
    odd.__dict__.update({"__name__": 7, "none": None, "cls": type("cls", (), {"__module__": 3})})
    monkeypatch.setitem(sys.modules, "odd_of_test", odd)
    monkeypatch.setitem(sys.modules, "odd_of_test.no_module", 7)  # type: ignore[arg-type]
    call = types.FunctionType(compile("def f(): return odd", "f", "exec").co_consts[0], {"odd": odd})
    call.__module__ = "odd_of_test"
    assert _imports.count(call, ()) == 2


def test_what_the_first_call_imports_is_not_taken_for_work_to_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It computes as it is imported, for much longer than a task that is to be moved needs to be noticed.
    (tmp_path / "slow_of_test.py").write_text(
        "import time\n"
        "importing.append(1)\n"
        "end = time.monotonic() + 0.3\n"
        "while time.monotonic() < end: pass\n"
        "importing.clear()\n".replace("importing", "__import__('builtins').importing_of_test")
    )
    monkeypatch.syspath_prepend(tmp_path)
    importing: list[int] = []
    asked: list[bool] = []
    monkeypatch.setattr("builtins.importing_of_test", importing, raising=False)

    def consider(*_: object) -> tuple[str, None, None, int, None]:
        asked.append(bool(importing))
        return "it counts here", None, None, 0, None

    monkeypatch.setattr("forkright._leave.consider", consider)

    def work(number: int) -> int:
        import slow_of_test

        return number if slow_of_test else 0

    assert fr.map(work, range(4)) == list(range(4))
    assert True not in asked
    sys.modules.pop("slow_of_test", None)
