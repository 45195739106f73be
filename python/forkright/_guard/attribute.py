"""Reading an attribute: of a module, a class, an instance that exists, or one that the code being read has
made.

Called by `Study.attribute`. Looks where the interpreter would look, but runs none of the program's code:
properties, descriptors and `__getattr__` are read like any other function.
"""

from __future__ import annotations

import sys
from collections import _tuplegetter  # type: ignore[attr-defined]
from functools import cached_property
from types import (
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)

from .names import VIEWS
from .project import attributes, class_attribute, own_function, own_method, underlying, wrapped
from .value import (
    FRESH,
    PLAIN,
    SHARED,
    UNKNOWN,
    Bound,
    Method,
    Super,
    Value,
    is_array,
    is_atom,
    is_frame,
    looked_up,
    part,
    real,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .study import Study

# types of descriptors in C that only fetch; the last is the one of named tuples
_FIELDS = (MemberDescriptorType, GetSetDescriptorType, _tuplegetter)
_C_METHODS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)


def read(study: Study, value: Value, name: str) -> Value:
    """What `value.name` gives."""
    if isinstance(value.callee, Super):
        return _after(value.callee, name)
    if value.kind is None:
        return _of_unknown(value, name)
    thing = value.thing
    path = f"{value.name}.{name}"
    if name == "__dict__" and thing is not UNKNOWN:
        return Value(value.place, attributes(thing), f"{value.name}.__dict__")
    if isinstance(thing, ModuleType):
        return _of_module(thing, name, path)
    if name == "__class__":
        return Value(SHARED, value.kind, value.kind.__name__)
    if isinstance(thing, type):
        return _of_class(thing, value, name, path)
    if is_frame(value.kind) and value.place:
        return _of_frame(value, name)
    found = _of_type(study, value, value.kind, name, path)
    return found if found is not None else _of_instance(study, value, value.kind, name, path)


def _of_unknown(value: Value, name: str) -> Value:
    if value.place == FRESH:
        if value.fields and name in value.fields:
            return value.fields[name]
        return value.inside or (Value(origin=value.origin) if value.origin else PLAIN)
    if name in VIEWS:
        return Value(value.place, name=value.name, origin=value.origin)
    return Value(
        value.place,
        name=f"{value.name}.{name}",
        origin=value.origin | {value.name},
        callee=Method(name, value),
    )


def _of_module(module: ModuleType, name: str, path: str) -> Value:
    namespace = vars(module)
    if name in namespace:
        return looked_up(namespace[name], path)
    submodule = sys.modules.get(f"{module.__name__}.{name}")
    return Value(SHARED, submodule, path) if submodule else PLAIN


def _of_class(owner: type, value: Value, name: str, path: str) -> Value:
    found = class_attribute(owner, name)
    if found is None and (meta := own_method(type(owner), name)):
        return Value(name=path, callee=Bound(Value(SHARED, meta, path), (value,)))
    if found is None:
        return Value(SHARED, name=path, callee=Method(name, value))
    if isinstance(found, staticmethod):
        return Value(SHARED, found.__func__, path)
    if isinstance(found, classmethod):
        return Value(name=path, callee=Bound(Value(SHARED, found.__func__, path), (value,)))
    if isinstance(found, _C_METHODS):
        return Value(SHARED, found, path)
    return looked_up(found, path)


def _of_frame(value: Value, name: str) -> Value:
    if name in ("loc", "iloc", "at", "iat"):
        return Value(value.place, value.thing, value.name, kind=value.kind, origin=value.origin)
    if callable(getattr(value.kind, name, None)):
        return Value(name=f"{value.name}.{name}", callee=Method(name, value))
    return Value(kind=value.kind, origin=value.origin)


def _of_type(study: Study, value: Value, kind: type, name: str, path: str) -> Value | None:
    """What the class of the instance decides: methods, properties and other descriptors."""
    found = class_attribute(kind, name)
    if found is None:
        return None
    if isinstance(found, FunctionType):
        return Value(name=path, callee=Bound(Value(SHARED, found, path), (value,)))
    if isinstance(found, classmethod):
        owner = Value(SHARED, kind, kind.__name__)
        return Value(name=path, callee=Bound(Value(SHARED, found.__func__, path), (owner,)))
    if isinstance(found, staticmethod):
        return Value(SHARED, found.__func__, path)
    if isinstance(found, property):
        getter = own_function(found.fget)
        return study.run_function(getter, [value]) if getter else Value(value.place, name=path, origin=value.origin)
    if isinstance(found, cached_property):
        return _of_cached_property(study, value, found, name, path)
    if getter := own_method(type(found), "__get__"):
        return study.run_function(getter, [looked_up(found, f"{kind.__name__}.{name}"), value, PLAIN])
    if cached := own_function(wrapped(found)):  # lru_cache on a method
        return Value(name=path, callee=Bound(Value(SHARED, cached, path), (value,)))
    compiled = callable(found) and not isinstance(found, type) and class_attribute(type(found), "__get__")
    if compiled or isinstance(found, _C_METHODS):
        return Value(name=path, callee=Method(name, value))
    if type(found) in _FIELDS and value.thing is not UNKNOWN:
        if is_array(kind) and name in VIEWS:
            return Value(value.place, name=value.name, kind=kind, origin=value.origin)
        try:
            return real(value.place, found.__get__(value.thing, kind), path, value.origin)  # type: ignore[attr-defined]
        except Exception:
            return Value(value.place, name=path)
    return None


def _of_cached_property(study: Study, value: Value, found: cached_property[object], name: str, path: str) -> Value:
    """What it cached if it has run on this object, else what its function returns. Caching is harmless."""
    cached = attributes(value.thing).get(name, UNKNOWN)
    if cached is not UNKNOWN:
        return real(value.place, cached, path, value.origin)
    function = own_function(found.func)
    return study.run_function(function, [value]) if function else Value(value.place, name=path)


def _of_instance(study: Study, value: Value, kind: type, name: str, path: str) -> Value:
    """What the instance holds, or its class holds for all instances."""
    thing = value.thing
    shared = class_attribute(kind, name)
    if value.fields and name in value.fields:
        return value.fields[name]
    if thing is not UNKNOWN:
        own = attributes(thing)
        if name in own:
            return real(value.place, own[name], path, value.origin | {path})
        if shared is not None:
            return real(SHARED, shared, path, value.origin)
        if hook := own_method(kind, "__getattr__"):
            return study.run_function(hook, [value, Value(thing=name)])
        return Value(value.place, name=path, origin=value.origin | {path}, callee=Method(name, value))
    changeable = shared is not None and not is_atom(type(shared)) and not class_attribute(type(shared), "__get__")
    if changeable and not _assigned_by_methods(study, kind, name):  # one object for all instances
        owner = kind.__name__ if value.place == FRESH else value.name
        return looked_up(shared, f"{owner}.{name}")
    if value.place != FRESH:
        return Value(
            value.place,
            name=path,
            inside=value.inside,
            origin=value.origin,
            callee=Method(name, value),
        )
    return part(value)


def _assigned_by_methods(study: Study, kind: type, name: str) -> bool:
    members = (member for base in kind.__mro__ for member in list(base.__dict__.values()))
    codes = (member.__code__ for member in members if isinstance(member, FunctionType))
    return any(name in code.co_names and study.instructions(code).stores_attribute(name) for code in codes)


def _after(where: Super, name: str) -> Value:
    """`super().name`."""
    receiver, after = where.receiver, where.after.thing
    kind = receiver.thing if isinstance(receiver.thing, type) else receiver.kind
    if kind is not None and isinstance(after, type) and after in kind.__mro__:
        for base in kind.__mro__[kind.__mro__.index(after) + 1 :]:
            found = base.__dict__.get(name)
            function = underlying(found)
            if isinstance(function, FunctionType):
                arguments = () if isinstance(found, staticmethod) else (receiver,)
                return Value(name=name, callee=Bound(Value(SHARED, function, name), arguments))
            if found is not None:
                return Value(name=name, callee=Method(name, receiver))
    return Value(name=name)
