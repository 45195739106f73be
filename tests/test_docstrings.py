"""What `help()` and editors show of the public API. What types they know is checked by tests/typing."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import forkright as fr
from scripts import run

NAMES = [name for name in fr.__all__ if name != "__version__"]
METHODS = [
    "Executor.submit",
    "Executor.map",
    "Executor.options",
    "Executor.shutdown",
    "Future.result",
    "Future.exception",
    "Future.cancel",
    "Future.kill",
    "Future.add_done_callback",
    "Plan.workers",
    "Pool.map",
    "Pool.starmap",
    "Pool.imap",
    "Process.result",
    "Report.why",
    "Thread.result",
]


def found(name: str) -> object:
    value: object = fr
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_help_shows_what_a_name_is_for(name: str) -> None:
    assert inspect.getdoc(found(name))


# In a process of its own: jedi starts another, which it keeps.
ASK = """
import json, sys
import jedi

def shown(name):
    source = f"import forkright as fr\\nfr.{name}"
    return [entry.docstring() for entry in jedi.Script(source).help(2, len(f"fr.{name}"))]

print(json.dumps({name: shown(name) for name in sys.argv[1:]}))
import forkright as fr
print(json.dumps([entry.docstring() for entry in jedi.Interpreter("fr.amap", [{"fr": fr}]).help(1, 7)]))
"""


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("editor")
    return run(ASK, folder, arguments=(*NAMES, *METHODS))


@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_editors_show_what_a_name_is_for(name: str, editor: list[str]) -> None:
    """They read the source alone, where names are imported for type checkers only and have signatures of their own."""
    shown = json.loads(editor[0])[name]
    assert shown, f"nothing is known of fr.{name}"
    first = inspect.getdoc(found(name)).partition("\n")[0]  # type: ignore[union-attr]
    words = first.replace("`", "").split()[:3]
    assert any(all(word in text.replace("`", "") for word in words) for text in shown), first


def test_a_notebook_knows_what_is_not_imported_yet(editor: list[str]) -> None:
    [shown] = json.loads(editor[1])
    assert "awaited: the event loop goes on meanwhile" in shown
