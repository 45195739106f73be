"""The builtin functions: which of them run methods of their arguments, change them, or reach the program's
state.

Called by `library.function`. A builtin that is not named here only looks at its arguments.
"""

from __future__ import annotations

from functools import reduce

from . import store
from .callback import callbacks
from .names import is_stream
from .value import PLAIN, SHARED, UNKNOWN, Value, container, joined, keys_of, part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .study import Study

# what they run of their first argument, where the program wrote it
_RUNS = {
    "len": "__len__",
    "repr": "__repr__",
    "hash": "__hash__",
    "abs": "__abs__",
    "round": "__round__",
    "format": "__format__",
    "divmod": "__divmod__",
    "iter": "__iter__",
    "sorted": "__iter__",
    "sum": "__iter__",
    "any": "__iter__",
    "all": "__iter__",
}
_COMPARES = ("sorted", "min", "max")
_CONSUMES = ("sum", "any", "all", "sorted", "iter", "min", "max")


def follow(
    study: Study, name: str, arguments: list[Value], keywords: dict[str, Value], origin: frozenset[str]
) -> Value:
    """What a builtin function gives."""
    first = arguments[0] if arguments else PLAIN
    special = _SPECIAL.get(name)
    if special is not None:
        return special(study, arguments, keywords).tinged(origin)
    if name in _RUNS:
        study.operate(first, _RUNS[name])
    if name in _CONSUMES:
        study.take(first)
    callbacks(study, arguments, keywords)
    if name in _COMPARES:
        one = part(first) if len(arguments) == 1 else first
        study.operate(one, "__lt__", one)
    if name in ("min", "max"):
        chosen = keys_of(first) if len(arguments) == 1 else reduce(joined, arguments, PLAIN)
        return chosen.tinged(origin)
    if name in ("iter", "sorted", "reversed"):
        return container(list if name == "sorted" else None, keys_of(first), origin)
    return Value(origin=origin)


def _print(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    for argument in arguments:
        study.operate(argument, "__str__")
    file = keywords.get("file")
    if file is None or file.thing is None or is_stream(file.thing):
        study.prints = True
    else:
        study.write(file, "`print(file=…)`")
    return PLAIN


def _input(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    study.trace("handle", Value(SHARED, name="sys.stdin"), "`input()`")
    return PLAIN


def _globals(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    return Value(SHARED, study.frame.closure.globals, "globals()") if study.frame else PLAIN


def _vars(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    return study.attribute(arguments[0], "__dict__") if arguments else PLAIN


def _exec(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    study.doubt("what `exec` and `eval` run was not read")
    return PLAIN


def _setattr(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    if len(arguments) < 2:
        return PLAIN
    target, name = arguments[0], arguments[1].thing
    if not isinstance(name, str):
        study.write(target, "`setattr()`")
    elif study.frame is not None:
        store.attribute(study.frame, target, name, arguments[2] if len(arguments) > 2 else PLAIN, "`setattr()`")
    return PLAIN


def _delattr(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    if arguments:
        study.write(arguments[0], "`delattr()`")
    return PLAIN


def _getattr(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    if len(arguments) < 2:
        return PLAIN
    target, name = arguments[0], arguments[1].thing
    if isinstance(name, str):
        found = study.attribute(target, name)
        path = f"{target.name}.{name}"
        if study.frame is not None:
            study.frame.tested.add(path)
        return reduce(joined, (one for one in arguments[2:] if one.carries()), found).tinged(frozenset((path,)))
    if target.place or (target.kind is not None and target.kind.__module__ != "builtins"):
        study.doubt(f"could not tell which attribute `getattr({target.name or '…'}, …)` reads")
    return Value(target.place, name=f"{target.name}.?") if target.place else PLAIN


def _hasattr(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    if len(arguments) > 1 and study.frame is not None:
        study.frame.tested.add(f"{arguments[0].name}.{arguments[1].thing}")
    return PLAIN


def _next(study: Study, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    if not arguments:
        return PLAIN
    target = arguments[0]
    if target.thing is UNKNOWN and target.kind is None:
        study.write(target, "`next()`")
    study.take(target)
    result = study.operate(target, "__next__")
    return result if result is not None else part(target)


_SPECIAL = {
    "print": _print,
    "input": _input,
    "breakpoint": _input,
    "globals": _globals,
    "vars": _vars,
    "exec": _exec,
    "eval": _exec,
    "setattr": _setattr,
    "delattr": _delattr,
    "getattr": _getattr,
    "hasattr": _hasattr,
    "next": _next,
    "anext": _next,
}
