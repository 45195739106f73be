"""What can be told of a function without calling it: `forkright check` asks, in a process of its own (`_trial`).

Three things are looked at, as a map does under `plan="auto"` before its work leaves: what the function writes that
its caller shares (`_guard`), whether it and an item can be pickled, and what it reads that a worker's fresh import
has otherwise (`_stale`). The last is found out by a real worker process, which loads the function and does not call
it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from . import _functions, _guard, _pickling, _stale
from ._executor import Executor
from ._plan import Plan
from ._report import size
from ._trial import items_of, load, look_up

Finding = dict[str, Any]


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """The findings about the function of a file, each with its place, and what could not be seen."""
    variables = load(request["file"])
    function = look_up(variables, request["file"], request["function"])
    calls = items_of(request, variables, most=1)
    needed = _needed(function)
    arguments = calls[0] if calls else (_guard.UNKNOWN,) * needed
    # When the function is called, the file's own code will be running.
    script = _code(request["file"])
    opinion = _guard.check(function, arguments, (script,))
    findings = [_finding(one.kind, one.sentence, one.name, one.file, one.line) for one in opinion.findings]
    unseen = list(opinion.doubts)
    sent: list[str] = []
    described = _describe(function, findings)
    if described is not None:
        sent.append(f"the function, {size(len(described.payload))}, {_way(described)}")
    item = _encode(function, calls[0], findings) if calls else None
    if item is not None:
        sent.append(f"the first item, {size(len(item))}")
    if described is not None:
        findings += _over_there(function, described.payload, item)
    if calls is None and needed:
        unseen.append("no item was given, so what it does to one is known as far as the code shows it (--items)")
    unseen.append("its results, which must be pickled, too: there are none before it is called")
    if "__main__" in script.co_consts:
        unseen.append('what the file does under `if __name__ == "__main__"` before it calls it')
    notes = [note for note in opinion.notes if note not in opinion.doubts]
    return {"findings": findings, "notes": notes, "sent": sent, "unseen": unseen}


def _finding(kind: str, sentence: str, name: str, file: str, line: int) -> Finding:
    return {"kind": kind, "sentence": sentence, "name": name, "file": file or None, "line": line or None}


def _needed(function: Callable[..., Any]) -> int:
    """How many arguments a call must have."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # it does not tell what it takes
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)


def _code(file: str) -> CodeType:
    with open(file, "rb") as source:
        return compile(source.read(), os.path.abspath(file), "exec", dont_inherit=True)


def _place(function: object) -> tuple[str, int]:
    """Where a function or class of Python's begins; nowhere for any other object."""
    import inspect

    try:
        found = inspect.unwrap(function)  # type: ignore[arg-type]
        code: CodeType = getattr(found, "__func__", found).__code__
    except (AttributeError, ValueError):
        return "", 0
    return code.co_filename, code.co_firstlineno


def _describe(function: Callable[..., Any], findings: list[Finding]) -> _functions.Function | None:
    try:
        return _functions.describe(function)
    except _pickling.UnpicklableError as error:
        findings.append(_finding("pickling", str(error), _functions.name_of(function), *_place(function)))
    return None


def _way(described: _functions.Function) -> str:
    return "with all it refers to" if described.by_value else "by its name"


def _encode(function: Callable[..., Any], item: tuple[Any, ...], findings: list[Finding]) -> bytes | None:
    name = _functions.name_of(function)
    try:
        return _pickling.encode(item, None, f"the arguments of `{name}`")
    except _pickling.UnpicklableError as error:
        findings.append(_finding("pickling", str(error), name, "", 0))
    return None


def _over_there(function: Callable[..., Any], payload: bytes, item: bytes | None) -> list[Finding]:
    """What a worker process says that has loaded the function and the item."""
    digest, _ = _functions.survey(function)
    name = _functions.name_of(function)
    with Executor(1, plan=Plan(processes=1)) as executor:
        try:
            trouble, differences = executor.submit(arrive, payload, item, digest).result()
        except Exception as error:  # the worker died, or could not start
            trouble, differences = [f"a worker process that was to load `{name}` failed: {error}"], []
    findings = [_finding("loading", sentence, name, *_place(function)) for sentence in trouble]
    for sentence in differences:
        changed = sentence.split("`")[1]
        text = f"`{name}` is not the same in a worker process: {sentence}"
        findings.append(_finding("stale", text, changed, *_home(changed)))
    return findings


def arrive(payload: bytes, item: bytes | None, digest: dict[str, str]) -> tuple[list[str], list[str]]:
    """In a worker: what can't be loaded here, and what of the caller's `digest` is otherwise."""
    trouble, differences = [], []
    try:
        function = _functions.load(payload)
        differences = _stale.disagree(digest, _stale.digest(function)) if digest else []
    except Exception as error:
        trouble.append(str(_pickling.undecodable(error, "the function")))
    try:
        if item is not None:
            _pickling.decode(item)
    except Exception as error:
        trouble.append(str(_pickling.undecodable(error, "the first item")))
    return trouble, differences


def _home(name: str) -> tuple[str, int]:
    """The file, and for functions the line, of what a digest calls `module.name`."""
    module, _, rest = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, inner = module.rpartition(".")
        rest = f"{inner}.{rest}"
    found: Any = sys.modules.get(module)
    file = getattr(found, "__file__", "")
    for part in rest.split("."):
        found = getattr(found, part, None)
    place = _place(found)
    return place if place[0] else (file or "", 0)
