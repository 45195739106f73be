"""`forkright check`, as a shell sees it: what is against leaving, where, what was not seen; and that nothing runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from test_cli import call

SETTINGS = """\
FACTOR = 2
def scaled(x): return x * FACTOR
def same(x): return x + 1
"""
SCRIPT = """\
import os, random, threading
import check_settings as settings

settings.FACTOR = 5
seen = []
memo = {}
lock = threading.Lock()

class Holder:
    def __init__(self): self.lock = threading.Lock()

class Heavy:
    def __reduce__(self): return (int, ("no number",))

def count(n):
    seen.append(n)
    return n

def clean(n): return settings.same(n) * 2
def scaled(n): return settings.FACTOR * n
def locked(n): return lock.locked()
def change(table): table["done"] = True
def remembered(n):
    if n not in memo:
        memo[n] = n * n
    return memo[n]
def named(n): return getattr(os, str(n))()
def everything(n):
    seen.append(n)
    with lock:
        return settings.FACTOR
def leave(n):
    open("it ran", "w").close()
    os._exit(7)
def nothing(): return 1
number = 3

if __name__ == "__main__":
    settings.FACTOR = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some.py").write_text(SCRIPT)
    (tmp_path / "check_settings.py").write_text(SETTINGS)
    (tmp_path / "listed.py").write_text("def items(): return iter([1, 2])\ndef double(x): return 2 * x\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "reader.py").write_text(
        "memo = {}\n"
        "def remembered(n):\n"
        "    if n not in memo:\n"
        "        memo[n] = n * n\n"
        "    return memo[n]\n"
        "if __name__ == '__main__':\n"
        "    print(memo)\n"
    )
    return tmp_path


def checked(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, err = call(folder, "check", *arguments, "--json")
    assert err == ""
    data: dict[str, Any] = json.loads(out)
    assert data["form"] == 1
    assert data["may_leave"] is (code == 0) is (not data["findings"])
    return code, data


def test_a_finding_names_the_write_its_place_and_what_would_be_lost(folder: Path) -> None:
    code, out, err = call(folder, "check", "some.py:count", "--items", "[1]")
    assert (code, err) == (1, "")
    assert out.startswith(
        '`count` must stay in its process under plan="auto": 1 finding is against leaving it\n'
        "\n"
        "  some.py:16\n"
        "  `count` changes the global list `seen` (`.append()`, some.py:16); in a process that write would be\n"
        "  lost, so the work stays in this process (`shared_state=False` would let it leave)."
    )


def test_what_may_leave_is_said_with_what_was_looked_at_and_what_was_not(folder: Path) -> None:
    code, out, err = call(folder, "check", "listed.py:double")
    assert (code, err) == (0, "")
    first, _, rest = out.partition("\n\n")
    assert first.replace("\n  ", " ") == (
        '`double` may leave for worker processes under plan="auto": nothing is against it, as far as could be seen'
    )
    assert "sent to a worker process:\n  - the function, " in rest
    assert "  - the first item, " in rest
    assert "not seen:\n  - its results, which must be pickled, too: there are none before it is called\n" in rest
    assert "no item was given" not in rest and "__main__" not in rest


def test_the_function_is_not_called(folder: Path) -> None:
    assert checked(folder, "some.py:leave", "--items", "[1]")[0] == 0
    assert not (folder / "it ran").exists()


def test_a_setting_that_a_fresh_import_has_otherwise_is_found(folder: Path) -> None:
    code, data = checked(folder, "some.py:scaled")
    assert code == 1
    (finding,) = data["findings"]
    assert finding == {
        "kind": "stale",
        "sentence": "`scaled` is not the same in a worker process: "
        "`check_settings.FACTOR` is 5 here; a fresh import has 2",
        "name": "check_settings.FACTOR",
        "file": str(folder / "check_settings.py"),
        "line": None,
    }


def test_modules_that_are_as_a_fresh_import_has_them_are_no_reason_to_stay(folder: Path) -> None:
    assert checked(folder, "some.py:clean")[0] == 0


def test_a_function_that_is_imported_is_checked_by_its_name(folder: Path) -> None:
    code, data = checked(folder, "some.py:settings.scaled")
    assert (code, [one["name"] for one in data["findings"]]) == (1, ["check_settings.FACTOR"])
    assert checked(folder, "some.py:settings.same")[1]["sent"][0].endswith("by its name")


def test_a_function_that_cannot_be_pickled_is_told_by_its_part(folder: Path) -> None:
    code, data = checked(folder, "some.py:locked")
    assert code == 1
    finding = next(one for one in data["findings"] if one["kind"] == "pickling")
    assert "`lock` is a global used by `locked`, is of type `_thread.lock`" in finding["sentence"]
    assert (finding["file"], finding["line"]) == (str(folder / "some.py"), 21)


def test_an_item_is_tried_for_pickling_and_for_its_arrival(folder: Path) -> None:
    code, data = checked(folder, "some.py:clean", "--items", "[Holder()]")
    assert (code, [one["kind"] for one in data["findings"]]) == (1, ["pickling"])
    assert "`args[0].lock` is of type `_thread.lock`" in data["findings"][0]["sentence"]
    code, data = checked(folder, "some.py:clean", "--items", "[Heavy()]")
    assert (code, [one["kind"] for one in data["findings"]]) == (1, ["loading"])
    assert "the first item could not be rebuilt where it arrived: ValueError" in data["findings"][0]["sentence"]


def test_only_the_first_item_is_taken(folder: Path) -> None:
    assert checked(folder, "some.py:clean", "--items", "iter(lambda: 1, None)")[0] == 0


def test_all_that_is_against_it_is_told_at_once(folder: Path) -> None:
    code, data = checked(folder, "some.py:everything")
    assert code == 1
    assert {"write", "lock", "pickling"} <= {one["kind"] for one in data["findings"]}


def test_an_argument_that_is_changed_is_found_without_an_item(folder: Path) -> None:
    code, data = checked(folder, "some.py:change")
    assert (code, data["findings"][0]["kind"], data["findings"][0]["name"]) == (1, "argument", "table")
    assert any("no item was given" in text for text in data["unseen"])


def test_what_could_not_be_followed_is_said_and_is_no_finding(folder: Path) -> None:
    code, data = checked(folder, "some.py:named")
    assert code == 0
    assert "could not tell which attribute `getattr(os, …)` reads" in data["unseen"]
    assert any("__main__" in text for text in data["unseen"])


def test_a_memo_is_excused_unless_the_file_itself_reads_it(folder: Path) -> None:
    code, data = checked(folder, "some.py:remembered")
    assert code == 0
    assert data["notes"] == ["`memo` is a memo that nobody else reads; each process keeps its own"]
    code, data = checked(folder, "reader.py:remembered")
    assert (code, [one["kind"] for one in data["findings"]]) == (1, ["write"])
    assert "which `<module>` also reads" in data["findings"][0]["sentence"]


def test_a_function_without_arguments_needs_no_item(folder: Path) -> None:
    assert not any("item" in text for text in checked(folder, "some.py:nothing")[1]["unseen"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sum.py:f"], "error: there is no file `sum.py`\n\nhint: did you mean `some.py`?\n"),
        (["some.py:cuont"], "error: `some.py` has no function `cuont`\n\nhint: did you mean `count`?\n"),
        (["some.py:number"], "error: `number` in `some.py` is no function: it is of type `int`\n"),
        (["some.py:count", "--items", "5"], "error: `5` gives no items: `5` can't be iterated over\n"),
        (["some.py:count", "--items", "[]"], "error: `[]` gives no items: it is empty\n"),
        (["broken.py:f"], "error: `broken.py` raised `ZeroDivisionError: division by zero`\n"),
        (["some.py"], "error: invalid value 'some.py' for '<FILE.py:FUNCTION>': "),
    ],
)
def test_what_cannot_be_told_exits_with_2(folder: Path, arguments: list[str], message: str) -> None:
    code, out, err = call(folder, "check", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_the_help_says_what_the_exit_codes_mean(folder: Path) -> None:
    code, out, err = call(folder, "check", "--help")
    assert (code, err) == (0, "")
    assert "Exit codes:" in out and "Examples:" in out and "it must stay in its process" in out
