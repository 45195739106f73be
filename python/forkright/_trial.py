"""One run of a comparison, in a process of its own: `forkright _run`, which `_compare` starts.

Loads the user's file, makes the items, times one map and writes what it cost to a pipe. What `forkright check` finds
is found in such a process, too (`_inspection`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import _core, _functions, _machine, _map, _plan
from ._terminal import Trouble, similar


def run(request: dict[str, Any]) -> None:
    """Do what is asked, a run or an inspection, and write what came of it to the pipe."""
    pipe = request["pipe"]
    os.set_inheritable(pipe, False)  # what the user's file starts must not keep it open

    def say(answer: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(answer).encode() + b"\n")

    try:
        if request.get("inspect"):
            from ._inspection import examine

            say(examine(request))
            return
        function, items = _prepare(request)
        others = set(_machine.family(os.getpid())[1:])
        say({"others": sorted(others)})
        say(_measure(request, function, items, others))
    except Trouble as trouble:
        say({"error": str(trouble), "hint": trouble.hint, "details": trouble.details, "code": trouble.code})


def _prepare(request: dict[str, Any]) -> tuple[Callable[..., Any], list[tuple[Any, ...]]]:
    """The function, and the arguments of each call."""
    file, name = request["file"], request["function"]
    variables = load(file)
    function = look_up(variables, file, name)
    calls = items_of(request, variables)
    if calls is None:
        _check_needs_nothing(function, file, name)
        return function, [()] * (request["calls"] or _core.cpu_count())
    wanted = request["calls"] or len(calls)
    return function, (calls * -(-wanted // len(calls)))[:wanted]


def items_of(
    request: dict[str, Any], variables: dict[str, Any], most: int | None = None
) -> list[tuple[Any, ...]] | None:
    """The arguments of each call, of the first `most` if given; None where nothing says what the items are."""
    if request["items"] is not None:
        try:
            items = eval(request["items"], variables)
        except Exception as error:
            raise Trouble(f"`{request['items']}` raised {_named(error)}") from error
        source = f"`{request['items']}`"
    elif callable(variables.get("items")):
        with _blaming("`items()`"):
            items = variables["items"]()
        source = "`items()`"
    else:
        return None
    if not isinstance(items, Iterable):
        raise Trouble(f"{source} gives no items: `{items!r}` can't be iterated over")
    with _blaming(source):
        calls = [(item,) for item in itertools.islice(items, most)]
    if not calls:
        raise Trouble(f"{source} gives no items: it is empty")
    return calls


def load(file: str) -> dict[str, Any]:
    """Run the file as a script, except that it is not `__main__`; gives its namespace."""
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.abspath(file)
    stem = os.path.splitext(os.path.basename(file))[0].replace(".", "_")
    # No name that can be imported, so that a `requests.py` hides no package and workers get everything by
    # value; and with `__main__` in it, by which the pickling knows such a script.
    spec = spec_from_file_location(f"{_functions.SCRIPT}{stem}", path, loader=SourceFileLoader(stem, path))
    assert spec is not None  # a loader was given
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [file]
    with _blaming(f"`{file}`"):
        with open(path, "rb") as source:
            code = compile(source.read(), path, "exec", dont_inherit=True)
        exec(code, vars(module))
    return vars(module)


def look_up(variables: dict[str, Any], file: str, name: str) -> Callable[..., Any]:
    first, *rest = name.split(".")
    found: Any = variables.get(first)
    for part in rest:
        found = getattr(found, part, None)
    if callable(found):
        function: Callable[..., Any] = found
        return function
    if found is not None:
        raise Trouble(f"`{name}` in `{file}` is no function: it is of type `{type(found).__name__}`")
    others = [other for other, value in variables.items() if callable(value) and not other.startswith("_")]
    near = similar(name, others)
    hint = f"did you mean `{near}`?" if near else f"it has {', '.join(f'`{other}`' for other in others[:8])}"
    raise Trouble(f"`{file}` has no function `{name}`", hint=hint if others else "")


def _check_needs_nothing(function: Callable[..., Any], file: str, name: str) -> None:
    import inspect

    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise Trouble(
            f"`{name}` needs an argument ({error}), and there are no items",
            hint=f"give them with `--items 'range(8)'`, or define `items()` in `{file}` to return a list",
        ) from error
    except ValueError:
        pass  # it does not tell what it takes


def _measure(
    request: dict[str, Any], function: Callable[..., Any], items: list[tuple[Any, ...]], others: set[int]
) -> dict[str, Any]:
    asked = request["plan"]
    plan = _plan.Plan(*asked) if isinstance(asked, list) else asked
    spent, began = time.process_time(), time.perf_counter()
    try:
        results = _map.starmap(function, items, plan=plan)
    except Exception as error:
        from ._pickling import UnpicklableError

        if isinstance(error, UnpicklableError):
            return {"refusal": str(error)}
        raise _failure(f"`{request['function']}`", error) from error
    wall = time.perf_counter() - began
    ours = _machine.family(os.getpid(), others)
    cpu = time.process_time() - spent + sum(_machine.cpu(pid) for pid in ours[1:])
    memory = sum(_machine.memory(pid) for pid in ours)
    report = _map.report().data
    return {
        "wall": wall,
        "cpu": cpu,
        "memory": memory,
        "processes": len(ours),
        "gils": _gils(report["workers"]),
        "tasks": len(items),
        "results": fingerprint(results),
        "report": report,
    }


def _gils(workers: list[dict[str, Any]]) -> int:
    """How many GILs the tasks ran under."""
    if not _machine.describe()["python"]["gil"]:
        return 0
    processes = {worker["id"] for worker in workers if worker["kind"] == "process"}
    return len(processes) + any(worker["kind"] == "thread" for worker in workers)


@contextlib.contextmanager
def _blaming(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        raise _failure(what, error) from error


def _failure(what: str, error: BaseException) -> Trouble:
    """The trouble for something of the user's that raised, with the traceback from there on."""
    import traceback

    trace = error.__traceback__
    ours = os.path.dirname(__file__)
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == ours:
        trace = trace.tb_next
    details = "".join(traceback.format_exception(type(error), error, trace))
    return Trouble(f"{what} raised {_named(error)}", details=details, code=1)


def _named(error: BaseException) -> str:
    said = f": {error}" if str(error) else ""
    return f"`{type(error).__name__}{said}`"


def fingerprint(results: list[Any]) -> str | None:
    """Tells whether two runs gave equal results; None where that can't be told."""
    import hashlib

    digest = hashlib.sha256()
    try:
        for result in results:
            digest.update(_canonical(result))
    except Exception:
        return None
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    """Bytes that are the same for equal values, wherever they have travelled."""
    if type(value) in (set, frozenset):
        return b"{" + b",".join(sorted(_canonical(item) for item in value)) + b"}"
    if type(value) in (list, tuple):
        return b"[" + b",".join(_canonical(item) for item in value) + b"]"
    if type(value) is dict:
        pairs = sorted(_canonical(key) + b":" + _canonical(item) for key, item in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return repr(value).encode(errors="surrogatepass")
    import pickle

    # Once there and back: what was one object or two equal ones before is the same afterwards.
    return pickle.dumps(pickle.loads(pickle.dumps(value)))
