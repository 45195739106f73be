"""How many modules a worker process must import before it can run a function: its start takes that long too.

Called by `_leave` when a move is near. Nobody can tell what an import takes without making it; but a module takes about
as long as another, and how many there will be is seen here, where they have been imported.
"""

from __future__ import annotations

import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# Whoever starts a worker has most of these.
_THERE = frozenset({*sys.stdlib_module_names, "__main__", "__mp_main__", "forkright", "cloudpickle"})


def count(function: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
    """The modules of all packages that `function` and the classes of `arguments` need, as far as they are loaded here.

    A package counts with all that is loaded of it, and so do the packages that its modules refer to.
    """
    loaded: dict[str, list[types.ModuleType]] = {}
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        if package not in _THERE:
            loaded.setdefault(package, []).append(module)
    waiting = {package for name in _roots(function, arguments) if (package := name.partition(".")[0]) in loaded}
    needed = set(waiting)
    while waiting:
        for module in filter(_is_module, loaded[waiting.pop()]):
            found = {name.partition(".")[0] for name in _references(vars(module))}
            new = (found & loaded.keys()) - needed
            needed |= new
            waiting |= new
    return sum(len(loaded[package]) for package in needed)


def _roots(function: Any, arguments: tuple[Any, ...]) -> Iterator[str]:
    """The modules that unpickling a call begins with."""
    for value in arguments:
        yield _name(type(value))
    # What is bound or partial has the function that it calls.
    while (inner := getattr(function, "__func__", None) or getattr(function, "func", None)) is not None:
        yield from (_name(type(value)) for value in (function, getattr(function, "__self__", None)))
        function = inner
    if not isinstance(function, types.FunctionType):
        yield _name(function if isinstance(function, type) else type(function))
        return
    yield _text(function.__module__)
    # One that travels by value takes along what it names.
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        yield from _references({name: function.__globals__.get(name) for name in code.co_names})


def _references(names: dict[str, Any]) -> Iterator[str]:
    """The modules that values of a module's names are, or come from."""
    for value in list(names.values()):
        if _is_module(value):
            yield _text(value.__name__)
        elif isinstance(value, types.FunctionType):
            yield _text(value.__module__)
        elif isinstance(value, type):
            yield _name(value)


def _is_module(value: object) -> bool:
    # By its type alone: `isinstance` would ask a proxy for its class, which runs the user's code.
    return type(value) is types.ModuleType


def _name(cls: type) -> str:
    return _text(type.__getattribute__(cls, "__dict__").get("__module__"))


def _text(name: object) -> str:
    return name if isinstance(name, str) else ""
