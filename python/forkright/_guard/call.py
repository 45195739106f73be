"""Following a call: into a function of the program, or to what is known of a library's.

Called by `Study.call`. Without it a write one helper away would not be seen.
"""

from __future__ import annotations

import functools
import operator
from functools import reduce
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)

from .._functions import bound_to_context
from . import library
from .callback import callbacks
from .project import CACHED, name_of, own_function, own_method, underlying, wrapped
from .value import (
    FRESH,
    PLAIN,
    SHARED,
    UNKNOWN,
    Bound,
    Closure,
    Method,
    OneOf,
    Value,
    container,
    gathered,
    joined,
    keys_of,
    part,
    real,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .study import Study

_C_METHODS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)


def follow(study: Study, callee: Value, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    """What calling `callee` gives, after reading what it does."""
    how, thing = callee.callee, callee.thing
    origin = callee.origin | gathered(arguments) | gathered(keywords.values())
    if isinstance(how, OneOf):
        return reduce(joined, (study.call(choice, arguments, keywords) for choice in how.choices))
    if isinstance(how, Closure):
        return study.run(how, arguments, keywords).tinged(origin)
    if isinstance(how, Bound):
        return _bound(study, how, arguments, keywords)
    if isinstance(how, Method):
        if how.receiver is None:
            method = study.attribute(arguments[0], how.name) if arguments else PLAIN
            return study.call(method, [*how.arguments, *arguments[1:]], keywords)
        return library.method(study, how.name, how.receiver, arguments, keywords)
    if thing is UNKNOWN:
        if callee.place != FRESH:
            study.doubt(f"could not follow `{callee.name}()`")
        callbacks(study, arguments, keywords)
        carried = next((one for one in arguments if one.place), None)
        return container(None, part(carried) if carried else None, origin)
    if isinstance(thing, FunctionType):
        return _function(study, thing, callee.name, arguments, keywords).tinged(origin)
    if isinstance(thing, type):
        return construct(study, thing, callee, arguments, keywords, origin)
    if isinstance(thing, MethodType):
        receiver = real(SHARED, thing.__self__, callee.name.rpartition(".")[0] or "self")
        if not isinstance(thing.__func__, FunctionType):
            return library.method(study, thing.__name__, receiver, arguments, keywords)
        function = Value(SHARED, thing.__func__, callee.name)
        return _bound(study, Bound(function, (receiver,)), arguments, keywords)
    if isinstance(thing, BuiltinFunctionType):
        owner = thing.__self__
        if owner is None or isinstance(owner, ModuleType):
            return library.function(study, thing, arguments, keywords, origin)
        receiver = real(SHARED, owner, callee.name.rpartition(".")[0] or callee.name)
        return library.method(study, thing.__name__, receiver, arguments, keywords)
    return _object(study, thing, callee, arguments, keywords, origin)


def _bound(study: Study, bound: Bound, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    function = bound.function
    arguments = [*bound.arguments, *arguments]
    keywords = {**bound.keywords, **keywords}
    thing = function.thing
    if isinstance(thing, FunctionType) and not own_function(thing) and not own_function(wrapped(thing)):
        return library.method(study, thing.__name__, arguments[0], arguments[1:], keywords)
    return study.call(function, arguments, keywords)


def _function(
    study: Study, function: FunctionType, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    if own_function(function):
        return study.run_function(function, arguments, keywords)
    implementations = vars(function).get("registry")  # of a functools.singledispatch function
    if implementations is not None and "dispatch" in vars(function):
        return reduce(
            joined,
            (study.call(Value(SHARED, one, name), arguments, keywords) for one in implementations.values()),
        )
    inner = wrapped(function)
    if isinstance(inner, FunctionType) and inner.__code__ is not function.__code__:
        return study.call(Value(SHARED, inner, name), arguments, keywords)
    return library.function(study, function, arguments, keywords, gathered(arguments))


def _object(
    study: Study,
    thing: object,
    callee: Value,
    arguments: list[Value],
    keywords: dict[str, Value],
    origin: frozenset[str],
) -> Value:
    """A callable object that is neither a function nor a class."""
    if isinstance(thing, functools.partial):
        if (bound := bound_to_context(thing)) is not None:
            study.context = bound.context
        given = [real(SHARED, one, f"{callee.name}.args") for one in thing.args]
        named = {name: real(SHARED, one, name) for name, one in thing.keywords.items()}
        inner = Value(SHARED, thing.func, name_of(thing.func) or callee.name)
        return study.call(inner, [*given, *arguments], {**named, **keywords})
    if isinstance(thing, CACHED):
        study.notes[f"`{callee.name}` has an lru_cache, and each process fills its own"] = None
        return study.call(Value(SHARED, wrapped(thing), callee.name), arguments, keywords)
    if isinstance(thing, operator.methodcaller):
        made = thing.__reduce__()  # (methodcaller, (name, ...)) or (partial(methodcaller, name, ...), ...)
        name = made[0].args[0] if isinstance(made[0], functools.partial) else made[1][0]
        return study.call(Value(callee=Method(name, None)), arguments, {})
    if isinstance(thing, (operator.itemgetter, operator.attrgetter)) and arguments:
        return part(arguments[0])
    if isinstance(thing, _C_METHODS) and arguments:
        return library.method(study, thing.__name__, arguments[0], arguments[1:], keywords)
    if library.is_numpy_function(thing):
        return library.function(study, thing, arguments, keywords, origin)
    if call := own_method(type(thing), "__call__"):
        return study.run_function(call, [callee, *arguments], keywords)
    callbacks(study, arguments, keywords)
    return Value(origin=origin)


def construct(
    study: Study,
    kind: type,
    callee: Value,
    arguments: list[Value],
    keywords: dict[str, Value],
    origin: frozenset[str],
) -> Value:
    """The instance that calling a class gives."""
    if kind is type and len(arguments) == 1:
        known = arguments[0].kind
        return Value(SHARED, known, known.__name__) if known else PLAIN
    if kind is functools.partial and arguments:
        return Value(origin=origin, callee=Bound(arguments[0], tuple(arguments[1:]), keywords))
    if kind is operator.methodcaller and arguments and isinstance(arguments[0].thing, str):
        return Value(callee=Method(arguments[0].thing, None, tuple(arguments[1:])))
    if kind is memoryview and arguments and arguments[0].place:
        return arguments[0]
    if kind in library.ITERABLES:
        return _collected(study, kind, arguments, keywords, origin)
    if meta := own_method(type(kind), "__call__"):
        study.run_function(meta, [callee, *arguments], keywords)
    instance = Value(kind=kind, origin=origin)
    if new := own_function(underlying(kind.__dict__.get("__new__"))):
        study.run_function(new, [callee, *arguments], keywords)
    if issubclass(kind, tuple):
        instance.parts = tuple(arguments) or None
    elif init := own_method(kind, "__init__"):
        instance.fields = {}
        study.run_function(init, [instance, *arguments], keywords)
    else:
        if kind.__module__ in ("builtins", "itertools", "collections"):
            for argument in arguments:
                study.take(argument)
        callbacks(study, arguments, keywords)
        held = (one for one in (*arguments, *keywords.values()) if one.place)
        instance.inside = next((one for one in held if not callable(one.thing)), None)
    return instance if not issubclass(kind, (int, float, str)) else Value(origin=origin)


def _collected(
    study: Study, kind: type, arguments: list[Value], keywords: dict[str, Value], origin: frozenset[str]
) -> Value:
    """What `list`, `zip`, `map` and their like make of the elements they are given."""
    for argument in arguments:
        study.take(argument)
        study.operate(argument, "__iter__")
    if kind is map and arguments:
        result = study.call(arguments[0], [keys_of(one) for one in arguments[1:]], {})
        return container(kind, result, origin | result.origin)
    if kind is not enumerate and kind is not zip:
        callbacks(study, arguments, keywords)
    if kind is enumerate and arguments:
        return Value(kind=kind, inside=Value(kind=tuple, parts=(PLAIN, keys_of(arguments[0])), origin=origin))
    if kind is zip and arguments:
        return Value(kind=kind, inside=Value(kind=tuple, parts=tuple(map(keys_of, arguments)), origin=origin))
    carrying = [keys_of(one) for one in (*arguments, *keywords.values()) if one.carries()]
    return container(kind, reduce(joined, carrying) if carrying else None, origin)
