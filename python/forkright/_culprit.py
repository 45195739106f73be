"""Finds the part of an object that can't be pickled.

Called by `_pickling` after a failure, to name the part in the error. Without it people would read that a lock
can't be pickled and not where in their object it is.
"""

from __future__ import annotations

import copyreg
import functools
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

from . import _by_value, _stale
from ._functions import importable

_DEPTH = 30
_SECONDS = 0.5

_ELSEWHERE = 'or keep the work in this process with plan="threads"'
_ADVICE = {
    "_thread.lock": "make the lock where it is used",
    "_thread.RLock": "make the lock where it is used",
    "builtins.generator": "pass a list of what it yields",
    "builtins.coroutine": "await it first and pass its result",
    "builtins.module": "import it inside the function",
    "builtins.frame": "pass the values it holds",
    "builtins.traceback": "pass its text",
    "_io.TextIOWrapper": "pass the file's path and open it in the task",
    "_io.BufferedReader": "pass the file's path and open it in the task",
    "_io.BufferedWriter": "pass the file's path and open it in the task",
    "_io.FileIO": "pass the file's path and open it in the task",
    "socket.socket": "connect in the task",
    "sqlite3.Connection": "connect in the task",
}
_GLOBAL = "a global used by"
_USUAL = "make it in the task or in an initializer, leave it out in its class's `__getstate__`,"


class Culprit(NamedTuple):
    """The innermost part that can't be pickled: how it is reached, whence, what it is, what to do."""

    path: str
    origin: str
    kind: str
    advice: str


class _Part(NamedTuple):
    suffix: str
    value: object
    variable: str = ""
    relation: str = ""


def find(obj: object, stem: str, initializer: Callable[..., Any] | None = None) -> Culprit:
    """Descend from `obj`, called `stem`, into parts that can't be pickled for as long as there is one.

    Global variables that `initializer` sets are no such parts.
    """
    initialized = _stale.assigned(initializer) if initializer is not None else set()
    end = time.monotonic() + _SECONDS
    path, origin = stem, ""
    seen = {id(obj)}
    for _ in range(_DEPTH):
        for part in _parts(obj):
            if time.monotonic() > end:
                break
            if part.variable in initialized and part.relation == _GLOBAL:
                continue
            if id(part.value) not in seen and not _travels(part.value, initializer):
                seen.add(id(part.value))
                obj = part.value
                if part.variable:
                    origin = f", where `{part.variable}` is {part.relation} `{path}`{origin}"
                    path = part.variable
                else:
                    path += part.suffix
                break
        else:
            break
    name = f"{type(obj).__module__}.{type(obj).__qualname__}"
    advice = _ADVICE.get(name, _USUAL.rstrip(","))
    return Culprit(path, origin, name.removeprefix("builtins."), f"{advice}, {_ELSEWHERE}")


def _travels(value: object, initializer: Callable[..., Any] | None) -> bool:
    try:
        _by_value.dumps(value, [], initializer)
    except Exception:
        return False
    return True


def _parts(obj: Any) -> Iterator[_Part]:
    try:
        yield from _parts_of(obj)
    except Exception:
        return  # what can't even say what it consists of is itself the culprit


def _parts_of(obj: Any) -> Iterator[_Part]:
    if isinstance(obj, dict):
        for key, value in list(obj.items()):
            yield _Part(f"[{_short(key)}]", value)
            yield _Part("", key, variable=_short(key), relation="a key of")
    elif isinstance(obj, (list, tuple)):
        for index, value in enumerate(obj):
            yield _Part(f"[{index}]", value)
    elif isinstance(obj, (set, frozenset)):
        for value in obj:
            yield _Part("", value, variable=_short(value), relation="an item of")
    elif isinstance(obj, types.FunctionType):
        if not importable(obj):
            yield from _parts_of_function(obj)
    elif isinstance(obj, types.MethodType):
        yield _Part(".__self__", obj.__self__)
        yield _Part(".__func__", obj.__func__)
    elif isinstance(obj, types.BuiltinFunctionType):
        yield _Part(".__self__", obj.__self__)
    elif isinstance(obj, functools.partial):
        yield _Part(".func", obj.func)
        yield from (_Part(f".args[{index}]", value) for index, value in enumerate(obj.args))
        yield from (_Part(f".keywords[{key!r}]", value) for key, value in obj.keywords.items())
    elif isinstance(obj, (staticmethod, classmethod)):
        yield _Part(".__func__", obj.__func__)
    elif isinstance(obj, property):
        yield from (_Part(f".{name}", getattr(obj, name)) for name in ("fget", "fset", "fdel"))
    elif isinstance(obj, type):
        if not importable(obj):
            yield from (_Part(f".{name}", value) for name, value in vars(obj).items() if name != "__dict__")
            yield from (_Part("", base, variable=base.__name__, relation="a base of") for base in obj.__bases__)
    elif hasattr(obj, "__wrapped__") and isinstance(obj, functools._lru_cache_wrapper):
        yield _Part(".__wrapped__", obj.__wrapped__)
    else:
        yield from _parts_of_instance(obj)
    if isinstance(obj, (dict, list, tuple, set, frozenset)) and hasattr(obj, "__dict__"):
        yield from (_Part(f".{name}", value) for name, value in vars(obj).items())


def _parts_of_function(function: types.FunctionType) -> Iterator[_Part]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield _Part("", cell.cell_contents, variable=name, relation="captured by")
        except ValueError:
            continue
    for name in cloudpickle._extract_code_globals(function.__code__):
        if name in function.__globals__:
            yield _Part("", function.__globals__[name], variable=name, relation=_GLOBAL)
    yield from (_Part(f".__defaults__[{index}]", value) for index, value in enumerate(function.__defaults__ or ()))
    yield from (_Part(f".__kwdefaults__[{key!r}]", value) for key, value in (function.__kwdefaults__ or {}).items())
    yield from (_Part(f".{name}", value) for name, value in vars(function).items())


def _parts_of_instance(obj: Any) -> Iterator[_Part]:
    reduce = copyreg.dispatch_table.get(type(obj))
    reduced: Any = reduce(obj) if reduce is not None else obj.__reduce_ex__(5)
    if isinstance(reduced, str):
        return
    make, args = reduced[:2]
    state = reduced[2] if len(reduced) > 2 else None
    for content in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(content, dict):
            yield from (_Part(f".{name}", value) for name, value in content.items())
        elif content is not None:
            yield _Part(".__getstate__()", content)
    yield _Part(".__class__", type(obj))
    made_by_class = make in (copyreg.__newobj__, copyreg._reconstructor)  # type: ignore[attr-defined]
    for index, value in enumerate(args[1:] if made_by_class else args):
        yield _Part(f".__reduce__()[1][{index}]", value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
