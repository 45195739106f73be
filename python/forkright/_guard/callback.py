"""Functions that are handed to library code, which may call them.

Called by `call` and `library` for every call that is not read. Without it `map(SEEN.append, xs)` would look
harmless.
"""

from __future__ import annotations

import functools
from functools import reduce
from types import BuiltinFunctionType, MethodType, ModuleType

from .project import CACHED, extends_library, functions_of, own_function, own_method, wrapped
from .value import PLAIN, SHARED, Bound, Closure, Method, OneOf, Value, joined, part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .study import Study


def arity(value: Value) -> int | None:
    """How many positional arguments a callable takes; None if it is none that could be followed."""
    how, thing = value.callee, value.thing
    if isinstance(how, Closure):
        return how.code.co_argcount
    if isinstance(how, Bound):
        inner = arity(how.function)
        return None if inner is None else max(inner - len(how.arguments), 0)
    if isinstance(how, Method):
        return 1
    if isinstance(how, OneOf):
        return arity(how.choices[0])
    if isinstance(thing, MethodType):
        return max((arity(Value(SHARED, thing.__func__)) or 1) - 1, 0)
    if isinstance(thing, (CACHED, functools.partial)):
        return 1
    if isinstance(thing, BuiltinFunctionType) and not isinstance(thing.__self__, (ModuleType, type(None))):
        return 1
    if own_method(value.kind, "__call__"):
        return 1
    if function := own_function(thing) or own_function(wrapped(thing)):
        return function.__code__.co_argcount
    return None


def callbacks(study: Study, arguments: list[Value], keywords: dict[str, Value], whole: bool = False) -> None:
    """Library code may call the callables among its arguments, with parts of the others or all of them."""
    given = [*arguments, *keywords.values()]
    for value in given:
        kind = value.thing if isinstance(value.thing, type) else value.kind
        if kind is not None and kind.__module__ != "builtins":
            framework(study, kind, Value(kind=kind) if isinstance(value.thing, type) else value)
        count = arity(value)
        if count is None:
            continue
        others = [one for one in given if one is not value]
        study.call(value, [reduce(joined, map(part, others), PLAIN)] * count, {})
        if whole:
            for one in others:
                if one.place and arity(one) is None:
                    study.call(value, [one] * count, {})


def framework(study: Study, kind: type, receiver: Value) -> None:
    """A class of the program on a library's base is in that library's hands: any method may be called."""
    if kind in study.frameworks:
        return
    study.frameworks.add(kind)
    if extends_library(kind):
        for base in kind.__mro__:
            for function in functions_of(base):
                study.run_function(function, [receiver] + [PLAIN] * (function.__code__.co_argcount - 1))
