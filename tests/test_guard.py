"""The guard: what must stay is kept, what may move is not held back, and no bytecode makes it stumble."""

from __future__ import annotations

import builtins
import collections
import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from time import perf_counter

import pytest

import guard_cases
from forkright._guard import Opinion, check, frame, judge, project, study
from forkright._guard.instructions import VERSION
from forkright._guard.study import Study
from forkright._guard.table import NEWEST, TABLE

for _name in (
    "names",
    "objects",
    "containers",
    "calls",
    "outside",
    "randomness",
    "seeded",
    "memos",
    "special_methods",
):
    importlib.import_module(f"guard_cases.{_name}")
if importlib.util.find_spec("numpy"):
    importlib.import_module("guard_cases.arrays")

CASES = guard_cases.CASES

# what reading alone cannot decide: not proven, so nothing may be concluded from the absence of findings
UNDECIDED = {
    "asks_desk": "the name of the method is made on the way; only running it tells which one is called",
    "executes": "the code is in a string",
}
WRONGLY_MOVED: dict[str, str] = {}
WRONGLY_KEPT: dict[str, str] = {}

STANDARD_MODULES = """
argparse ast bdb calendar collections configparser contextlib copy csv dataclasses difflib doctest
enum fractions functools html.parser http.client inspect json.decoder json.encoder logging mailbox
optparse pickle random re._parser shlex statistics string subprocess tarfile tempfile textwrap
threading tokenize traceback typing unittest.mock urllib.parse zipfile asyncio.base_events
email.message
""".split()

known_bytecode = pytest.mark.skipif(VERSION > NEWEST, reason="this bytecode is not known: nothing is proven")


@pytest.fixture(scope="module", autouse=True)
def opened_files_are_closed() -> Iterator[None]:
    yield
    opened = sys.modules["guard_cases.outside"].opened
    while opened:
        opened.pop().close()


def verdict(opinion: Opinion) -> str:
    if opinion.keeps:
        return "keep"
    return "move" if opinion.conclusive else "undecided"


def read(function: object, *arguments: object) -> Opinion:
    """The opinion about a function; a mistake inside the guard is raised, not turned into a doubt."""
    own = Study()
    own.begin(function, arguments)
    return judge(function, own)


@known_bytecode
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.label}-{case.name}")
def test_labelled_function_is_judged_as_labelled(case: guard_cases.Case) -> None:
    function, item = case.warmed_up()
    expected = case.label
    if case.name in UNDECIDED:
        expected = "undecided"
    elif case.name in WRONGLY_MOVED or case.name in WRONGLY_KEPT:
        expected = {"keep": "move", "move": "keep"}[case.label]
    opinion = read(function, item)
    assert verdict(opinion) == expected, f"{case.story}: {opinion}"


def test_there_are_enough_cases_and_each_says_what_it_stands_for() -> None:
    assert len(CASES) >= 120
    assert all(case.story for case in CASES)
    names = [case.name for case in CASES]
    assert [name for name, times in collections.Counter(names).items() if times > 1] == []
    assert {*UNDECIDED, *WRONGLY_MOVED, *WRONGLY_KEPT} <= set(names)


def _functions_of(module: types.ModuleType) -> Iterator[types.FunctionType]:
    for thing in list(vars(module).values()):
        for member in list(vars(thing).values()) if isinstance(thing, type) else (thing,):
            function = getattr(member, "__func__", member)
            if isinstance(function, types.FunctionType):
                yield function


@pytest.mark.parametrize("name", STANDARD_MODULES)
def test_any_function_of_the_standard_library_is_read_without_a_mistake(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "LIBRARY", ("<frozen",))  # read it as if the user had written it
    monkeypatch.setattr(study, "INSTRUCTIONS", 1500)
    for function in _functions_of(importlib.import_module(name)):
        read(function, *[object()] * function.__code__.co_argcount)


@known_bytecode
def test_every_opcode_that_code_objects_hold_is_in_the_table() -> None:
    from opcode import opmap

    made_only_within_the_interpreter = {
        *("CACHE", "INTERPRETER_EXIT", "RESERVED", "ENTER_EXECUTOR", "EXIT_INIT_CHECK"),
    }
    unknown = {
        name
        for name, number in opmap.items()
        if number < 256 and TABLE[number] is None and not name.startswith("INSTRUMENTED_")
    }
    assert unknown - made_only_within_the_interpreter == set()


def test_an_unknown_opcode_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(number: int) -> int:
        return -number

    monkeypatch.setattr(frame, "TABLE", [None] * 256)
    opinion = check(function, (1,))
    assert not opinion.conclusive
    assert not opinion.keeps
    assert "not known" in opinion.notes[0]


def test_a_mistake_inside_the_guard_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*anything: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Study, "begin", fail)
    opinion = check(len, ([],))
    assert not opinion.conclusive
    assert "broken" in opinion.notes[0]


def test_the_limit_of_instructions_leaves_it_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(number: int) -> int:
        return sum(i * number for i in range(number)) + number - 1

    monkeypatch.setattr(study, "INSTRUCTIONS", 5)
    assert verdict(check(function, (1,))) == "undecided"


def test_the_limit_of_time_leaves_it_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\n".join("    number = number * 3 + 1" for _ in range(100))
    names: dict[str, types.FunctionType] = {}
    exec(compile(f"def function(number):\n{lines}\n    return number", "made.py", "exec"), names)
    monkeypatch.setattr(study, "SECONDS", 0)
    assert verdict(check(names["function"], (1,))) == "undecided"


RESULTS: dict[str, int] = {"n": 0}


def _enter(number: int) -> None:
    RESULTS.update(n=number)


def enters_result(number: int) -> None:
    _enter(number)


@known_bytecode
def test_a_finding_says_who_does_what_to_which_name_where_and_what_would_be_lost() -> None:
    (finding,) = check(enters_result, (3,)).findings
    line = _enter.__code__.co_firstlineno + 1
    assert (finding.kind, finding.name, finding.line) == ("write", "RESULTS", line)
    assert finding.file == __file__
    assert finding.sentence == (
        f"`enters_result` changes the global dict `RESULTS` (`.update()`, test_guard.py:{line}, in `_enter`); "
        "in a process that write would be lost, so the work stays in this process (`shared_state=False` would let it leave)."
    )


@known_bytecode
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("marks_item", "argument", "changes its argument `item` (item assignment"),
        ("holds_lock", "lock", "uses the lock `lock` (`with`"),
        ("counts_locally", "local", "changes the thread-local `local.count`"),
        ("writes_text", "handle", "uses the open StringIO `text` (`.write()`"),
        (
            "draws_seeded",
            "generator",
            "draws from the global generator (`random.random()`), seeded in `begin` (`seed=` gives each call one of its own)",
        ),
        ("changes_directory", "process", "changes the process itself with `os.chdir()`"),
        ("logs_to_memory", "output", "logs to a `Memory`, which keeps what it gets in this process"),
        ("remembers_for_others", "write", "fills the memo `read_later`, which `how_many` also reads"),
        ("collects_in_closure", "write", "changes the captured list `found`"),
    ],
)
def test_each_kind_of_finding_has_its_words(name: str, kind: str, words: str) -> None:
    function, item = next(case for case in CASES if case.name == name).warmed_up()
    findings = {finding.kind: finding.sentence for finding in check(function, (item,)).findings}
    assert words in findings[kind]


@known_bytecode
@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("remembers_square", "`_squares` is a memo that nobody else reads; each process keeps its own"),
        ("loads_model", "`model` is set up once, by each process for itself"),
        ("asks_fibonacci", "`_fibonacci` has an lru_cache, and each process fills its own"),
        ("sets_context", "`context` is a context variable; each call has a context of its own"),
        (
            "draws",
            "draws from the global generator (`random.random()`), which nothing seeds; each process has one"
            " (`seed=` gives each call one of its own)",
        ),
    ],
)
def test_what_is_excused_is_noted(name: str, note: str) -> None:
    function, item = next(case for case in CASES if case.name == name).warmed_up()
    opinion = check(function, (item,))
    assert note in opinion.notes
    assert not opinion.keeps


@known_bytecode
@pytest.mark.parametrize(("name", "expected"), [("known", "keep"), ("_known", "move")])
def test_in_a_notebook_only_a_memo_with_a_private_name_is_excused(
    name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = f"    if n not in {name}:\n        {name}[n] = n * n\n    return {name}[n]"
    source = f"{name} = {{}}\ndef function(n):\n{lookup}"
    names: dict[str, types.FunctionType] = {"__name__": "__main__"}  # type: ignore[dict-item]
    exec(compile(source, "cell.py", "exec"), names)
    assert verdict(check(names["function"], (1,))) == "move"
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert verdict(check(names["function"], (1,))) == expected


def test_a_replaced_standard_output_keeps_what_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pane:
        def write(self, text: str) -> int:
            return len(text)

    def function(number: int) -> None:
        print(number)

    monkeypatch.setattr(sys, "stdout", Pane())
    opinion = check(function, (1,))
    if VERSION <= NEWEST:
        assert [finding.kind for finding in opinion.findings] == ["output"]


@known_bytecode
def test_a_count_in_a_thread_local_is_kept_before_this_thread_has_one() -> None:
    function = next(case for case in CASES if case.name == "counts_locally").function
    opinions: list[Opinion] = []
    thread = threading.Thread(target=lambda: opinions.append(check(function, (1,))))
    thread.start()
    thread.join()
    assert [finding.kind for finding in opinions[0].findings] == ["local"]


def test_nothing_of_the_program_is_run() -> None:
    ran: list[str] = []

    class Trap:
        @property
        def value(self) -> int:
            ran.append("property")
            return 1

        def __getattr__(self, name: str) -> int:
            ran.append(name)
            return 1

        def __getitem__(self, key: object) -> int:
            ran.append("item")
            return 1

        def __iter__(self) -> Iterator[int]:
            ran.append("iter")
            return iter(())

        def __bool__(self) -> bool:
            ran.append("bool")
            return True

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return True

        def __hash__(self) -> int:
            ran.append("hash")
            return 1

        def __len__(self) -> int:
            ran.append("len")
            return 1

    trap, table = Trap(), {"key": Trap(), "other": 1}
    traps = [Trap(), Trap()]

    def function(item: Trap) -> object:
        if (trap and trap == item) or item in table:
            return trap.value, trap.unknown, trap[0], list(trap), len(trap), hash(trap), {trap: 1}
        for one in traps:
            one.anything = item.value
        return table["key"][0], [*item], item.missing

    check(function, (Trap(),))
    assert ran == []


@pytest.mark.parametrize(
    "thing",
    [
        len,
        int,
        "not callable",
        functools.partial(len),
        list.append,
        builtins.print,
        object(),
        types.SimpleNamespace,
    ],
    ids=repr,
)
def test_any_object_can_be_asked_about(thing: object) -> None:
    check(thing, ([],))
    check(thing, ())


def test_a_check_ends_at_its_limit_of_time() -> None:
    shapes = [
        "    if number > {0}:\n        number += helper(number, {0})",
        "    number -= helper({0}, number)",
    ]
    body = "\n".join(shapes[i % 2].format(i) for i in range(2000))
    source = f"def helper(one, two):\n    return [one, two][0]\ndef function(number):\n{body}\n    return number"
    names: dict[str, types.FunctionType] = {}
    exec(compile(source, "made.py", "exec"), names)
    begun = perf_counter()
    assert not check(names["function"], (1,)).conclusive
    assert perf_counter() - begun < 5  # a watchdog: without a limit this takes minutes


def test_importing_forkright_does_not_import_the_guard() -> None:
    code = "import sys, forkright; print([name for name in sys.modules if '_guard' in name])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert ran.stdout.strip() == "[]"


def test_importing_the_guard_imports_nothing_large() -> None:
    code = (
        "import sys, forkright; before = set(sys.modules); import forkright._guard;print(*(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    large = {
        "dis",
        "inspect",
        "logging",
        "typing",
        "re",
        "ast",
        "random",
        "pathlib",
        "threading",
        "weakref",
        "numpy",
    }
    assert large.isdisjoint(ran.stdout.split())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@known_bytecode
def test_a_module_that_runs_reads_a_memo_only_where_its_own_code_does() -> None:
    function = "def function(n):\n    if n not in memo:\n        memo[n] = n * n\n    return memo[n]\n"
    for rest, expected in (("", "move"), ("memo.get(1)\n", "keep")):
        code = compile(f"memo = {{}}\n{function}{rest}", "script.py", "exec")
        names: dict[str, types.FunctionType] = {"__name__": "script"}  # type: ignore[dict-item]
        exec(code, names)
        assert verdict(check(names["function"], (1,), (code,))) == expected
