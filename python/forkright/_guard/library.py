"""Calls into library code, which is not read: what they change is told from their names and the types
involved.

Called by `call` for functions of libraries and for methods that the program did not write.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import reduce

from . import builtin
from .callback import callbacks, framework
from .names import (
    CHANGE_FIRST,
    CHANGE_PROCESS,
    CHANGE_SECOND,
    FRAME_MUTATORS,
    INSERTERS,
    METHODS_CHANGE_FIRST,
    MUTATORS,
    TAKERS,
    VIEW_FUNCTIONS,
    VIEWS,
    WHOLE,
    is_stream,
    nature,
)
from .value import (
    FRESH,
    PLAIN,
    SHARED,
    UNKNOWN,
    Value,
    container,
    is_array,
    is_atom,
    is_frame,
    joined,
    part,
    real,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .study import Study

ITERABLES = frozenset((list, tuple, set, dict, frozenset, enumerate, zip, reversed, map, filter, deque))
_NUMPY_CALLABLES = frozenset(("ufunc", "_ArrayFunctionDispatcher", "cython_function_or_method"))


def is_numpy_function(thing: object) -> bool:
    """Whether this is one of NumPy's own kinds of function."""
    return type(thing).__name__ in _NUMPY_CALLABLES


def module_of(function: object) -> str:
    """The package a function belongs to, C accelerators and aliases undone."""
    if type(function).__name__ in ("ufunc", "_ArrayFunctionDispatcher"):
        return "numpy"
    name = (getattr(function, "__module__", None) or "").partition(".")[0].lstrip("_")
    return "os" if name == "posix" else name


def function(
    study: Study, thing: object, arguments: list[Value], keywords: dict[str, Value], origin: frozenset[str]
) -> Value:
    """What calling a function of a library gives."""
    name, module = getattr(thing, "__name__", ""), module_of(thing)
    if module == "builtins":
        return builtin.follow(study, name, arguments, keywords, origin)
    first = arguments[0] if arguments else PLAIN
    for one in arguments:
        study.take(one)
    if module == "copy" and name == "deepcopy":
        return Value(kind=first.kind, origin=origin)
    if module == "copy" and name == "copy":
        return container(first.kind, part(first), origin)
    if module == "logging":
        study.loggers[sys.modules["logging"].root] = None
        return PLAIN
    if module == "decimal" and name == "getcontext":
        return Value(SHARED, name="decimal.getcontext()")
    _outputs(study, keywords)
    if type(thing).__name__ == "ufunc" and len(arguments) > thing.nin:  # type: ignore[attr-defined]
        study.write(arguments[thing.nin], f"{name}(…, out)")  # type: ignore[attr-defined]
    if name in CHANGE_FIRST.get(module, ()):
        study.write(first, f"`{name}()`")
        for one in arguments[1:]:
            first.put(one)
    if name in CHANGE_SECOND.get(module, ()) and len(arguments) > 1:
        study.write(arguments[1], f"`{name}()`")
    if name in CHANGE_PROCESS.get(module, ()):
        study.trace("process", Value(SHARED, name=f"{module}.{name}()"), "")
    callbacks(study, arguments, keywords, whole=True)
    if module == "numpy":
        if name in VIEW_FUNCTIONS and first.place:
            return Value(first.place, first.thing, first.name, kind=first.kind, origin=origin)
        return Value(kind=getattr(sys.modules.get("numpy"), "ndarray", None), origin=origin)
    carried = next((found for found in (part(one) for one in arguments if one.place) if found.place), None)
    return container(None, carried, origin)


def _outputs(study: Study, keywords: dict[str, Value]) -> None:
    if "out" in keywords:
        out = keywords["out"]
        for one in out.parts or (out,):
            study.write(one, "`out=`")


def method(study: Study, name: str, receiver: Value, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    """What calling a method gives that the program did not write."""
    kind = receiver.kind
    origin = receiver.origin.union(*(one.origin for one in (*arguments, *keywords.values())))
    if kind is not None and kind.__module__ != "builtins":
        framework(study, kind, receiver)
    if name == "__init__" or (kind is None and receiver.place == FRESH):
        callbacks(study, arguments, keywords)
        return Value(inside=receiver.inside, origin=origin)
    if is_frame(kind):
        in_place = keywords.get("inplace")
        if name in FRAME_MUTATORS or (in_place is not None and in_place.thing is not False):
            study.write(receiver, f"`.{name}()`")
        callbacks(study, arguments, keywords)
        return Value(kind=kind, origin=origin)
    if name in METHODS_CHANGE_FIRST and arguments:
        study.write(arguments[0], f"`{name}()`")
    if receiver.place != FRESH:
        special = _on_shared(study, name, receiver, arguments, keywords)
        if special is not None:
            return special
    elif name in INSERTERS:
        for one in arguments:
            receiver.put(part(one) if name in ("extend", "update") else one)
    _outputs(study, keywords)
    callbacks(study, arguments, keywords, whole=name in WHOLE)
    return _result(name, receiver, arguments, origin)


def _on_shared(
    study: Study, name: str, receiver: Value, arguments: list[Value], keywords: dict[str, Value]
) -> Value | None:
    """A method of an object that the caller can reach; None where the result is as for any object."""
    sort = nature(receiver.kind)
    if sort == "generator":
        _draw(study, name, receiver)
        return PLAIN
    if sort == "lock":
        study.trace("lock", receiver, f"`.{name}()`")
        return PLAIN
    if sort == "logger":
        study.loggers[getattr(receiver.thing, "logger", receiver.thing)] = None
        if name in ("setLevel", "addHandler", "removeHandler"):
            study.write(receiver, f"`.{name}()`")
        return PLAIN
    if sort == "handle":
        if is_stream(receiver.thing):
            study.prints = True
        else:
            study.trace("handle", receiver, f"`.{name}()`")
        return PLAIN
    if sort == "context":
        if name in ("set", "reset"):
            study.notes[f"`{receiver.name}` is a context variable; each call has a context of its own"] = None
        elif name == "get":
            return _read(study, receiver)
        return PLAIN
    if is_stream(receiver.thing):  # a replaced stream need not be a file
        study.prints = True
        return PLAIN
    if is_numpy_function(receiver.thing):
        if name == "at" and arguments:
            study.write(arguments[0], f"`{receiver.name}.at()`")
        return None
    if name in MUTATORS:
        study.write(receiver, f"`.{name}()`")
    if study.frame is not None and name in ("get", "__contains__"):
        study.frame.looked_up.add(receiver.name)
    return None


def _read(study: Study, receiver: Value) -> Value:
    """A context variable is read: what it has is the caller's, too, if that is the caller's context."""
    variable: Any = receiver.thing
    study.variables[variable] = None
    value = None if study.context is None else study.context.get(variable)
    return PLAIN if value is None else real(SHARED, value, f"{receiver.name}.get()")


def _draw(study: Study, name: str, receiver: Value) -> None:
    """A random generator that is shared: its state moves on."""
    if name == "seed":
        study.seeds_itself = True
    keeps_state = getattr(receiver.kind, "__name__", "") != "SystemRandom"
    if keeps_state and name not in ("getstate", "get_state"):
        study.trace("generator", receiver, f"`.{name}()`")


def _result(name: str, receiver: Value, arguments: list[Value], origin: frozenset[str]) -> Value:
    kind, place = receiver.kind, receiver.place
    if name in TAKERS:
        found = part(receiver)
        fallbacks = arguments[1:] if name in ("get", "setdefault", "pop") else ()
        return reduce(joined, (one for one in fallbacks if one.carries()), found).tinged(origin)
    if name == "copy":
        return container(kind, None if is_array(kind) else part(receiver), origin)
    if name == "items":
        pair = Value(kind=tuple, parts=(part(receiver, keys=True), part(receiver)), origin=origin)
        return Value(inside=pair, origin=origin)
    if name in ("values", "keys"):
        found = part(receiver, keys=name == "keys")
        return container(None, found, origin | found.origin)
    if is_array(kind):
        if name in VIEWS and place:
            return Value(place, name=receiver.name, kind=kind, origin=origin)
        return Value(kind=kind, origin=origin)
    if place == FRESH or is_atom(kind) or name in MUTATORS:
        return Value(inside=receiver.inside, origin=origin)
    if receiver.thing is UNKNOWN:
        return Value(place, name=f"{receiver.name}.{name}()", origin=origin)
    return Value(origin=origin)
