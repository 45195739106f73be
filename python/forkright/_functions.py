"""Describes a function for the workers that will call it: what to send, and how to tell that it changed.

Called by the caller's side for each function it is about to send to processes, and by a worker to get it
back. Without it each task would carry its function, and a changed global or default would go unnoticed.

What a worker would read otherwise than the caller, since it imports modules afresh, is found by the worker:
with the function it gets the digest that `_stale` makes of it, unless the function is a library's. The caller
makes that digest anew at each map; between the calls submitted to an executor it only looks at what `watch`
names, so a list changed in place, or a helper's helper, goes unnoticed there.
"""

from __future__ import annotations

import _pickle as pickle
import functools
import os
import sys
import types
import weakref
from collections.abc import Callable

from . import _pickling

TYPE_CHECKING = False  # importing `typing` would cost more than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from ._context import Within
    from ._core import Sink

Watch = tuple[object, object, object]
Survey = tuple[dict[str, str], tuple[Watch, ...]]

SCRIPT = "__main__ of "
"""How the names of scripts begin that the command line loads: none can be imported."""

_HERE = os.path.dirname(__file__)
_LIBRARY = os.path.dirname(os.__file__)

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))


class Function:
    """A function ready to travel.

    `watch` holds what the payload rests on: (dict, key, value) where the dict has that value, or None for no
    such key; (cell, None, value); (weak reference to a function, attribute, value). While all of it holds and the
    function is not `volatile`, the payload is still right. A volatile one captured something mutable: its payload must
    be made again and compared. `parcels` are of the context that its calls run in.
    """

    __slots__ = ("by_value", "name", "parcels", "payload", "volatile", "watch")

    def __init__(self, payload: bytes, by_value: bool, name: str, watch: tuple[Watch, ...], volatile: bool) -> None:
        self.payload = payload
        self.by_value = by_value
        self.name = name
        self.watch = watch
        self.volatile = volatile
        self.parcels: tuple[Any, ...] = ()


def describe(
    function: Callable[..., Any],
    initializer: Callable[..., Any] | None = None,
    buffers: Sink | None = None,
) -> Function:
    """What workers need to call `function`; raises `UnpicklableError` where it can't travel.

    Its large parts go to `buffers`, if there are any. What the workers' `initializer` sets in each need not travel.
    """
    if (bound := bound_to_context(function)) is not None:
        described = describe(bound.inner(), initializer, buffers)
        described.parcels = bound.parcels()
        return described
    name = name_of(function)
    role = f"the function `{name}`"
    if importable(function):
        return Function(_pickling.encode(function, None, role), False, name, _home(function), False)
    reach = Reach()
    reach.visit(function)
    payload = _pickling.encode_by_value(function, buffers, role, initializer)
    return Function(payload, reach.by_value, name, tuple(reach.watch), reach.volatile)


class Parcel:
    """A function with what it reads at the caller's, to be compared by the worker, and the context to call it in."""

    __slots__ = ("context", "digest", "payload", "strict")

    def __init__(self, payload: bytes, digest: dict[str, str], strict: bool, context: tuple[Any, ...]) -> None:
        self.payload = payload
        self.digest = digest
        self.strict = strict
        self.context = context


def survey(function: Callable[..., Any]) -> Survey:
    """What `function` reads in modules that a worker imports afresh, and what of it is worth watching."""
    if importable(function) and not is_users(function.__module__):
        return {}, ()
    from . import _stale

    try:
        return _stale.survey(function)
    except Exception:  # objects of the user's may do anything; what can't be read is not compared
        return {}, ()


def parcel(described: Function, surveyed: Survey, strict: bool) -> tuple[bytes, tuple[Watch, ...], bool]:
    """The payload, what it rests on, and whether a worker compares; if `strict`, it runs nothing that differs."""
    digest, watch = surveyed
    if not digest and not described.parcels:
        return described.payload, described.watch, False
    payload = pickle.dumps(Parcel(described.payload, digest, strict, described.parcels), 5)
    return payload, described.watch + watch, bool(digest)


def unpack(payload: bytes | memoryview, buffers: list[Any]) -> tuple[Callable[..., Any], str | None, bool]:
    """In a worker: the function, what makes it differ here, and whether it must not run then."""
    found = _pickling.decode(payload, iter(buffers))
    if not isinstance(found, Parcel):
        return found, None, False
    function, differs = load(found.payload, buffers), None
    called = function
    if found.context:
        from . import _context

        # First, as it sets what the function may read in modules.
        called = _context.rebuild(function, found.context)
    if found.digest:
        from . import _stale

        differs = _stale.compare(function, found.digest)
    return called, differs, found.strict


def load(payload: bytes | memoryview, buffers: list[Any] | None = None) -> Callable[..., Any]:
    """The function that `describe` described."""
    function: Callable[..., Any] = _pickling.decode(payload, buffers)
    return function


def holds(watch: tuple[Watch, ...]) -> bool:
    """Whether everything is still as it was when it was described."""
    for holder, key, value in watch:
        if isinstance(holder, types.CellType):
            try:
                if holder.cell_contents is not value:
                    return False
            except ValueError:
                return False
        elif isinstance(holder, (dict, types.MappingProxyType)):
            if holder.get(key) is not value:
                return False
        elif getattr(holder(), str(key), None) is not value:  # type: ignore[operator]
            return False
    return True


def bound_to_context(function: Any) -> Within | None:
    """The function itself if its calls run in a context that somebody gave."""
    context = sys.modules.get("forkright._context")
    return function if context is not None and isinstance(function, context.Within) else None


def without_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """What is called, whatever the context."""
    bound = bound_to_context(function)
    return function if bound is None else bound.inner()


def name_of(function: object) -> str:
    """The function's name for people: of what wraps one, that function's; of an instance, its method's."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    if not isinstance(name, str):
        kind = type(function)
        # `Model` alone would be the class, whose calls make instances. What is not Python has no method to look up.
        written = isinstance(kind.__call__, types.FunctionType)
        name = f"{kind.__qualname__}.__call__" if written else kind.__qualname__
    return name.replace("<locals>.", "")


def importable(obj: Any) -> bool:
    """Whether a fresh interpreter finds `obj` itself by importing its module."""
    name = getattr(obj, "__qualname__", None)
    module_name = getattr(obj, "__module__", None)
    if not isinstance(name, str) or not isinstance(module_name, str) or module_name == "__main__":
        return False
    found: Any = sys.modules.get(module_name)
    module = found
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not obj or module is None:
        return False
    spec = getattr(module, "__spec__", None)
    if spec is None:  # not made by an import: its Python functions can't be had by one, what is not Python must be
        return not isinstance(obj, types.FunctionType)
    return findable(module_name, spec)


def is_script(name: str | None) -> bool:
    """Whether a module is the script itself, which no worker imports; the command line names one otherwise."""
    return name is not None and (name == "__main__" or name.startswith(SCRIPT))


def is_users(name: str | None) -> bool:
    """Whether a module is the user's: read from a file that is neither the standard library nor installed."""
    if name is None or is_script(name):
        return False
    return is_users_file(getattr(sys.modules.get(name), "__file__", None))


def is_users_file(file: object) -> bool:
    """Whether a module that was read from this file is the user's."""
    if not isinstance(file, str) or file.startswith(_HERE + os.sep):
        return False
    if "site-packages" in file or "dist-packages" in file:
        return False
    return not file.startswith(_LIBRARY + os.sep)


initializer: Callable[..., Any] | None = None
"""In a worker: what it called first."""

_found: dict[str, tuple[object, bool]] = {}


def findable(name: str, spec: Any) -> bool:
    """Whether an import finds the very module that is loaded here; one loaded from a path it does not."""
    known, answer = _found.get(name, (None, False))
    if known is not spec:
        answer = _find(name, spec)
        _found[name] = spec, answer
    return answer


def _find(name: str, spec: Any) -> bool:
    path = None
    package = name.rpartition(".")[0]
    if package:
        module = sys.modules.get(package)
        above = getattr(module, "__spec__", None)
        if above is not None and not findable(package, above):
            return False
        path = getattr(module, "__path__", None)
    if spec.origin is None or not spec.origin.endswith(".py"):
        return True  # built in, frozen, compiled, or made by its package
    for finder in sys.meta_path:
        found = finder.find_spec(name, path, None)
        if found is not None:
            return bool(found.origin == spec.origin)
    return False


def _home(function: Any) -> tuple[Watch, ...]:
    """The name under which an importable function is found must stay its own."""
    variables = vars(sys.modules[function.__module__])
    first = function.__qualname__.partition(".")[0]
    return ((variables, first, variables.get(first)),) if first in variables else ()


class Reach:
    """Everything that a payload by value rests on: `visit` collects it."""

    def __init__(self, classes: bool = True) -> None:
        self._classes = classes  # else they are somebody else's to watch
        self.watch: list[Watch] = []
        self.volatile = False
        self.by_value = False
        self._seen: set[int] = set()

    def visit(self, obj: Any) -> None:
        if (
            (isinstance(obj, _ATOMS) and type(obj) in _ATOMS)
            or isinstance(obj, types.ModuleType)
            or id(obj) in self._seen
        ):
            return
        self._seen.add(id(obj))
        if type(obj) in (tuple, frozenset):
            for item in obj:  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
                self.visit(item)
        elif isinstance(obj, types.FunctionType):
            if importable(obj):
                self.watch.extend(_home(obj))
            else:
                self._function(obj)
        elif isinstance(obj, type):
            if self._classes and not importable(obj):
                self._mutable()
        elif isinstance(obj, (types.BuiltinFunctionType, types.MethodWrapperType, types.MethodType)):
            self.visit(obj.__self__)
            self.visit(getattr(obj, "__func__", None))
        elif isinstance(obj, functools.partial):
            self.visit(obj.func)
            self.visit(obj.args)
            for value in obj.keywords.values():
                self.visit(value)
        elif isinstance(obj, (staticmethod, classmethod)):
            self.visit(obj.__func__)
        elif isinstance(obj, functools._lru_cache_wrapper):
            self.by_value = True
            self.visit(obj.__wrapped__)
        elif isinstance(obj, (types.WrapperDescriptorType, types.MethodDescriptorType, types.MemberDescriptorType)):
            pass
        elif _is_variable(obj):
            pass  # it travels as a name
        elif not (is_enum_member(obj) and (importable(type(obj)) or not self._classes)):
            self._mutable()

    def visit_class(self, cls: type) -> None:
        """What the body of a class rests on, beyond the values in its `__dict__` being the same objects."""
        for name, value in vars(cls).items():
            inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            if isinstance(inner, property):
                for function in (inner.fget, inner.fset, inner.fdel):
                    self.visit(function)
            elif isinstance(inner, types.FunctionType) or not name.startswith("_"):
                self.visit(inner)

    def _mutable(self) -> None:
        self.volatile = True
        self.by_value = True

    def _function(self, function: types.FunctionType) -> None:
        self.by_value = True
        from cloudpickle import cloudpickle  # type: ignore[import-untyped]

        # Weakly: what is watched for a function must not be what keeps it alive.
        itself = weakref.ref(function)
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.watch.append((itself, name, getattr(function, name)))
        self.visit(function.__defaults__)
        for key, value in (function.__kwdefaults__ or {}).items():
            self.watch.append((function.__kwdefaults__, key, value))
            self.visit(value)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name == "repr_running":
                continue  # the library's guard against recursion in a `__repr__`: empty between calls
            try:
                contents = cell.cell_contents
            except ValueError:
                self.volatile = True
                continue
            self.watch.append((cell, None, contents))
            self.visit(contents)
        variables = function.__globals__
        for name in cloudpickle._extract_code_globals(function.__code__):
            self.watch.append((variables, name, variables.get(name)))
            self.visit(variables.get(name))
        for name, value in function.__dict__.items():
            self.watch.append((function.__dict__, name, value))
            self.visit(value)


def _is_variable(obj: object) -> bool:
    contextvars = sys.modules.get("_contextvars")
    return contextvars is not None and isinstance(obj, contextvars.ContextVar)


def is_enum_member(obj: object) -> bool:
    enum = sys.modules.get("enum")
    return enum is not None and isinstance(obj, enum.Enum)
