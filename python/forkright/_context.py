"""`context=`: calls see the context variables of whoever asked for them, each in a context of its own.

Called by what takes `context=`; and by `_map` under "auto", where the calling thread runs calls, too: what they see
there they see everywhere. On a thread a call runs in a copy of the context. To a worker process goes what can be
pickled, as parcels; the context is rebuilt there from these.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from . import _functions, _pickling

if TYPE_CHECKING:
    Contextual = bool | Context | Iterable[ContextVar[Any]]

# How the C libraries name variables that no program can get hold of.
_DECIMAL = "decimal_context"
_NUMPY = "numpy.ufunc.extobj"
# What they do where nobody says otherwise.
_DECIMAL_CONTEXT = (
    "Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[], "
    "traps=[InvalidOperation, DivisionByZero, Overflow])"
)
_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


# Tells another process which variable is meant: a token, its name, where it is found, or else its default in bytes. A
# name alone stands for what a library keeps for itself.
Reference = tuple[str, str, tuple[str, ...] | None, bytes | None]

# Which variable is set to what, and whether that is in bytes.
Parcel = tuple[Reference | str, bool, Any]

# They travel as they are.
_ATOMS = (str, int, float, bool, bytes, type(None))


class Within(functools.partial[Any]):
    """A function that is called in a copy of a context.

    What `named` variables have must travel, and if `everywhere` what libraries' variables have does so, too; else what
    can't travel is left out.
    """

    context: Context
    named: bool
    everywhere: bool
    _inner: Callable[..., Any]
    _parcels: tuple[Parcel, ...] | None
    _number: Any

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.copy().run(self._inner, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "__qualname__":
            return _functions.name_of(self._inner)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def run(self, callee: Callable[..., Any], /, *args: Any) -> Any:
        """Call something else so."""
        return self.copy().run(callee, *args)

    def copy(self) -> Context:
        """A context for one call."""
        context = self.context.copy()
        if self._number is not None:
            # A decimal context is changed in place by those that have it.
            context.run(sys.modules["decimal"].setcontext, self._number.copy())
        return context

    def parcels(self) -> tuple[Parcel, ...]:
        """What of the context travels to other processes.

        Raises:
            UnpicklableError: If a variable was named whose value can't.
        """
        if self._parcels is None:
            self._parcels = tuple(_pack(self))
        return self._parcels

    def traveller(self) -> Callable[..., Any]:
        """What to send: the function alone where nothing has to travel with it."""
        return self if self.parcels() else self.inner()

    def lost(self, variables: Iterable[object]) -> str | None:
        """Which of these is set here and does not travel, by its name."""
        carried = {which[0] for which, _, _ in self.parcels() if not isinstance(which, str)}
        for variable in variables:
            if isinstance(variable, ContextVar) and variable in self.context and reference(variable)[0] not in carried:
                return variable.name
        return None

    def inner(self) -> Callable[..., Any]:
        """What is called."""
        return self._inner

    def __reduce__(self) -> Any:
        return rebuild, (self.inner(), self.parcels())


def within(fn: Callable[..., Any], context: Context, named: bool = False, everywhere: bool = True) -> Within:
    """`fn`, called in copies of `context`."""
    made = Within(fn)
    made._inner = fn
    made.context, made.named, made.everywhere, made._parcels = context, named, everywhere, None
    made._number = next((value for variable, value in context.items() if _is_decimal(variable)), None)
    return made


def bind(fn: Callable[..., Any], context: Contextual | None) -> Callable[..., Any]:
    """`fn`, called as a caller's `context=` asks for.

    Raises:
        TypeError: If that is nothing that tells a context.
    """
    if context is None or context is False or isinstance(fn, Within):
        return fn
    if context is True:
        return within(fn, contextvars.copy_context())
    if isinstance(context, Context):
        return within(fn, context.copy())
    chosen = Context()
    for variable in named(context):
        if (value := variable.get(_UNSET)) is not _UNSET:
            chosen.run(variable.set, value)
    return within(fn, chosen, named=True)


def named(context: Iterable[ContextVar[Any]]) -> tuple[ContextVar[Any], ...]:
    """The variables that `context=` names.

    Raises:
        TypeError: If it names none.
    """
    what = "context must be True, a contextvars.Context, several contextvars.ContextVar or None"
    try:
        variables = tuple(context)
    except TypeError:
        raise TypeError(f"{what}, not {context!r}") from None
    for variable in variables:
        if not isinstance(variable, ContextVar):
            raise TypeError(f"{what}, not {variable!r}")
    return variables


def check(context: Contextual) -> Contextual:
    """What was asked for, to be used for many calls.

    Raises:
        TypeError: If it makes no sense.
    """
    return context if isinstance(context, (bool, Context)) else named(context)


_UNSET = object()


def _is_decimal(variable: ContextVar[Any]) -> bool:
    return variable.name == _DECIMAL and "decimal" in sys.modules


# Sending


def _pack(bound: Within) -> Iterator[Parcel]:
    for variable, value in bound.context.items():
        if _is_decimal(variable):
            plain = value.copy()
            plain.clear_flags()
            if repr(plain) != _DECIMAL_CONTEXT:
                yield "decimal", True, _pickling.encode(value, None, "the decimal context")
        elif variable.name == _NUMPY and "numpy" in sys.modules:
            errors = bound.context.run(sys.modules["numpy"].geterr)
            if errors != _NUMPY_ERRORS:
                yield "numpy", False, errors
        elif bound.everywhere or _is_users(variable):
            if type(value) in _ATOMS:
                yield reference(variable), False, value
                continue
            try:
                yield reference(variable), True, _stream(variable, value)
            except _pickling.UnpicklableError:
                if bound.named:
                    raise


def _stream(variable: ContextVar[Any], value: object) -> bytes:
    """The value in bytes, from which it can be rebuilt."""
    role = f"the context variable `{variable.name}`"
    stream = _pickling.encode(value, None, role)
    try:
        _pickling.decode(stream)
        return stream
    except Exception as error:
        failure = error
    # Some, as OpenTelemetry's, are dicts that refuse the assignments by which pickle fills them.
    if isinstance(value, dict):
        stream = _pickling.encode(_Filled(type(value), dict(value)), None, role)
        with contextlib.suppress(Exception):
            _pickling.decode(stream)
            return stream
    raise _pickling.UnpicklableError(
        f"{role} can't be sent to another process: it could not be rebuilt there ({type(failure).__name__}: {failure})"
    ) from failure


class _Filled:
    """Travels as a dict of some class, and arrives as what that class makes of it."""

    def __init__(self, kind: type, content: dict[Any, Any]) -> None:
        self._reduced = kind, (content,)

    def __reduce__(self) -> Any:
        return self._reduced


def _is_users(variable: ContextVar[Any]) -> bool:
    place = reference(variable)[2]
    return place is None or _functions.is_users(place[0])


# By their addresses: variables can't be referred to weakly, and live for ever where they are made as they should be.
_references: dict[int, tuple[ContextVar[Any], Reference]] = {}
_variables: dict[str, ContextVar[Any]] = {}


def reference(variable: ContextVar[Any]) -> Reference:
    """What another process knows a variable by."""
    known = _references.get(id(variable))
    if known is not None:
        return known[1]
    stream = None
    with contextlib.suppress(LookupError, _pickling.UnpicklableError):
        stream = _pickling.encode(Context().run(variable.get), None, "a default")
    made: Reference = os.urandom(16).hex(), variable.name, _find(variable), stream
    # Another thread may have been faster.
    made = _references.setdefault(id(variable), (variable, made))[1]
    _variables[made[0]] = variable
    return made


def reduce(variable: ContextVar[Any]) -> Any:
    """As a pickler's reducer."""
    return resolve, reference(variable)


def _find(variable: ContextVar[Any]) -> tuple[str, ...] | None:
    """Its module and name there; or the name of what has it, and its name or key in that. None if it must be made."""
    modules, in_script = [], False
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if _functions.is_script(name):
            in_script |= any(value is variable for value in list(vars(module).values()))
        elif spec is not None:
            modules.append((name, spec, list(vars(module).items())))
    for name, spec, members in modules:
        for attribute, value in members:
            if value is variable and _functions.findable(name, spec):
                # The script may have imported it from there.
                return name, attribute
    if in_script:
        return None
    for name, spec, members in modules:
        for attribute, value in members:
            if (key := _key(value, variable)) is not None and _functions.findable(name, spec):
                return name, attribute, key
    return None


def _key(value: object, variable: object) -> str | None:
    """Under which name a dict, a class or an object has it."""
    try:
        parts = value if type(value) is dict else object.__getattribute__(value, "__dict__")
        return next((key for key, part in list(parts.items()) if part is variable and isinstance(key, str)), None)
    except Exception:  # of proxies and such that have something to say
        return None


# Arriving


def call(fn: Callable[..., Any], parcels: tuple[Parcel, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In a worker process: make one call in the context that travelled with it."""
    return _unpack(parcels).run(fn, *args, **kwargs)


def rebuild(fn: Callable[..., Any], parcels: tuple[Parcel, ...]) -> Within:
    """In another process: `fn` with the context that travelled with it."""
    made = within(fn, _unpack(parcels))
    made._parcels = parcels
    return made


def _unpack(parcels: tuple[Parcel, ...]) -> Context:
    context = Context()
    for which, packed, value in parcels:
        value = _pickling.decode(value) if packed else value
        if not isinstance(which, str):
            context.run(resolve(*which).set, value)
        elif which == "decimal":
            import decimal

            context.run(decimal.setcontext, value)
        else:
            import numpy

            context.run(functools.partial(numpy.seterr, **value))
    return context


def resolve(token: str, name: str, place: tuple[str, ...] | None, default: bytes | None) -> ContextVar[Any]:
    """The variable that is meant: this process's own if it has one, else the same one each time."""
    known = _variables.get(token)
    if known is not None:
        return known
    made = _make(name, default)
    if place is not None:
        made = _lookup(place, made)
    made = _variables.setdefault(token, made)
    _references.setdefault(id(made), (made, (token, name, place, default)))
    return made


def _make(name: str, default: bytes | None) -> ContextVar[Any]:
    if default is None:
        return ContextVar(name)
    value = _pickling.decode(default)
    return ContextVar(name, default=value)


def _lookup(place: tuple[str, ...], made: ContextVar[Any]) -> ContextVar[Any]:
    import importlib

    home, attribute, *key = place
    try:
        found: Any = getattr(importlib.import_module(home), attribute, None)
    except ImportError:  # it has the variable from the script, which is not here
        return made
    if key and type(found) is dict:
        # Some libraries make a variable for each name that somebody binds.
        found = found.setdefault(key[0], made)
    elif key:
        found = getattr(found, key[0], None)
    return found if isinstance(found, ContextVar) else made
