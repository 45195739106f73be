"""Which code is the program's own: read instruction by instruction, while libraries are known by their names
only.

Asked by everything that decides whether to follow a call. Without it one call of `json.dumps` would be
hundreds of functions to read.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
)

LIBRARY = (
    os.path.dirname(os.__file__),
    os.path.dirname(os.path.dirname(__file__)),
    "<frozen",
    "<__array_function__",
)
_PLAIN_BASES = frozenset(("builtins", "abc", "typing", "enum", "collections.abc", "_collections_abc", "dataclasses"))


CACHED = type(lru_cache(len))


def owns(code: CodeType) -> bool:
    """Whether this code belongs to the program and not to a library."""
    file = code.co_filename
    return not (file.startswith(LIBRARY) or "site-packages" in file or "dist-packages" in file)


def own_function(thing: object) -> FunctionType | None:
    """`thing` if it is a Python function of the program."""
    return thing if isinstance(thing, FunctionType) and owns(thing.__code__) else None


def own_method(kind: type | None, name: str) -> FunctionType | None:
    """The method of that name which the program itself wrote for this type, if it did."""
    if kind is None or kind.__module__ == "builtins":
        return None
    return own_function(class_attribute(kind, name))


def class_attribute(kind: type, name: str) -> object:
    """What the classes of this type hold under that name, descriptors as they are; None if nothing."""
    for base in kind.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def underlying(thing: object) -> object:
    """The function within a static method, class method or bound method; else the thing itself."""
    return thing.__func__ if isinstance(thing, (staticmethod, classmethod, MethodType)) else thing


def wrapped(thing: object) -> object:
    """What a wrapper made with functools wraps, or None."""
    return vars(thing).get("__wrapped__") if isinstance(thing, (FunctionType, CACHED)) else None


def attributes(thing: object) -> dict[str, object]:
    """The attributes that an object itself holds; none where only its own code could tell."""
    slot = class_attribute(type(thing), "__dict__")
    if isinstance(slot, (GetSetDescriptorType, MemberDescriptorType)):
        return dict(slot.__get__(thing)) if isinstance(thing, type) else slot.__get__(thing)
    hooks = ("__dict__", "__getattr__", "__getattribute__")
    if any(isinstance(class_attribute(type(thing), hook), (FunctionType, property)) for hook in hooks):
        return {}
    return getattr(thing, "__dict__", {})


def functions_of(kind: type) -> list[FunctionType]:
    """The program's functions in the body of this class."""
    found = (own_function(underlying(member)) for member in list(kind.__dict__.values()))
    return [function for function in found if function]


def extends_library(kind: type) -> bool:
    """Whether this is the program's class on a library's base, which may call any of its methods."""
    if kind.__module__ in sys.stdlib_module_names or not functions_of(kind):
        return False
    return any(
        isinstance(member, FunctionType)
        for base in kind.__mro__[1:]
        if base.__module__ not in _PLAIN_BASES and not functions_of(base)
        for member in list(base.__dict__.values())
    )


def name_of(thing: object) -> str:
    """The name of a function, method or class; "" for any other object."""
    named = (FunctionType, BuiltinFunctionType, MethodType, type)
    return thing.__name__ if isinstance(thing, named) else ""
