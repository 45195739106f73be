"""Pickles functions and classes that another process could not import, by what they are made of.

Called by `_pickling` when plain pickle names `__main__` or fails, and by the streams it wrote. Without it, a
script's own functions, lambdas and classes could run only in the process that defined them.

A stream begins with a table of the classes it needs. Each class has a token, so that it is built once per
process, is the same class in every later message, and comes back to its home as the very class that left. A
function is built anew from each stream, for two streams may hold different captured values, but also comes
home as itself. Global variables of one module share one namespace per worker: what an initializer sets is
there for the tasks. Versions of classes and of globals tell a worker what changed at home since it last
heard, and leave alone what its own tasks changed.
"""

from __future__ import annotations

import builtins
import functools
import io
import marshal
import pickle
import sys
import types
import typing
import uuid
import weakref
from _blake2 import blake2b  # hashlib loads OpenSSL first, which takes longer than all of this
from _thread import RLock
from abc import ABCMeta
from collections import ChainMap
from collections.abc import Callable, Iterable
from operator import is_, mul
from typing import Any, NamedTuple

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

from . import _pickling, _reducers
from ._core import shared_place
from ._functions import Reach, Watch, holds, importable

_Reduced = tuple[Any, ...] | Any


class _Body(NamedTuple):
    """What a class is made of, as it travels."""

    version: int
    skeleton: bytes
    state: bytes
    needs: tuple[str, ...]


class _Made(NamedTuple):
    """A body, and what it was made of: while that is the same, so is the body."""

    cls: type
    names: tuple[str, ...]
    values: tuple[object, ...]
    watch: tuple[Watch, ...]
    body: _Body


_lock = RLock()
_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_functions: weakref.WeakValueDictionary[str, types.FunctionType] = weakref.WeakValueDictionary()
_received: weakref.WeakKeyDictionary[type, _Body] = weakref.WeakKeyDictionary()
_sent: weakref.WeakKeyDictionary[type, _Body] = weakref.WeakKeyDictionary()
_made: dict[int, _Made] = {}
_MADE_AT_MOST = 256  # it keeps classes alive
_sent_globals: dict[tuple[str, str], tuple[object, int]] = {}
_namespaces: dict[str, dict[str, Any]] = {}
_heard: dict[tuple[str, str], int] = {}
_placed: dict[str, str] = {}
_arriving: list[dict[str, _Body]] = []


# Sending


def dumps(obj: object, buffers: Any, initializer: Callable[..., Any] | None = None) -> bytes:
    """Pickle `obj`, taking by value what can't be imported; large buffers are appended to `buffers`."""
    pickler = Pickler(buffers.append, initializer=initializer)
    pickler.dump(obj)
    table = _table(pickler.classes.values())
    return _declaration(table) + pickler.file.getvalue()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """One stream; `classes` collects the classes that its reader must know."""

    dispatch_table: ChainMap[type, Callable[[Any], _Reduced]]

    def __init__(
        self,
        buffer_callback: Callable[[Any], Any] | None = None,
        digest: bool = False,
        initializer: Callable[..., Any] | None = None,
    ) -> None:
        self.file = io.BytesIO()
        self.initializer = initializer
        self.classes: dict[int, type] = {}
        self._digest = digest
        self._spaces: dict[int, object] = {}
        self._versions: dict[tuple[str, str], int] = {}
        # Before the base's `__init__`, which reads the table once.
        self.dispatch_table = self.dispatch_table.new_child(dict(_reducers.table()[0]))
        numpy_random = sys.modules.get("numpy.random.mtrand")
        if numpy_random is not None:
            self.dispatch_table = self.dispatch_table.new_child({numpy_random.RandomState: _reduce_numpy_random})
        random = sys.modules.get("random")
        if random is not None:
            self.dispatch_table = self.dispatch_table.new_child({random.Random: _reduce_random})
        contextvars = sys.modules.get("_contextvars")
        if contextvars is not None:
            self.dispatch_table = self.dispatch_table.new_child({contextvars.ContextVar: _reduce_variable})
        super().__init__(self.file, 5, buffer_callback)

    def reducer_override(self, obj: Any) -> _Reduced:
        kind = type(obj)
        if kind is types.FunctionType:
            return NotImplemented if importable(obj) else self._function(obj)
        if kind is type or issubclass(kind, type):
            if obj.__module__ == "builtins":
                return cloudpickle._class_reduce(obj)
            if importable(obj):
                return NotImplemented
            if (derived := _derived(obj)) is not None:
                return derived
            self.classes[id(obj)] = obj
            return _class, (_class_token(obj),)
        return NotImplemented

    def _function(self, function: types.FunctionType) -> _Reduced:
        token = _function_token(function)
        named = _module_of(function.__globals__)
        code = function.__code__
        names = cloudpickle._extract_code_globals(code)
        found = {name: function.__globals__[name] for name in names if name in function.__globals__}
        cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        state = {
            "__name__": function.__name__,
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__annotations__": _annotations(function),
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
        }
        if named is not None and self._digest:
            found = {}  # each has a version of its own
        entries = {}
        for name, value in found.items():
            try:
                entries[name] = self._version(named, name, value), value
            except Exception:
                if not self._initialized(name):
                    raise
        # Held only to be imported where the stream is read: `a.b.c` needs more than `a`.
        submodules = cloudpickle._find_imported_submodules(code, [*found.values(), *cells])
        return (
            _function,
            (token, code, self._space(named, function.__globals__), function.__closure__),
            (state, dict(function.__dict__), entries, submodules),
            None,
            None,
            _fill,
        )

    def _initialized(self, name: str) -> bool:
        if self.initializer is None:
            return False
        from . import _stale

        return name in _stale.assigned(self.initializer)

    def _space(self, named: str | None, variables: dict[str, Any]) -> object:
        space = self._spaces.get(id(variables))
        if space is None:
            keys = ("__name__", "__package__", "__path__", "__file__")
            about = {key: variables[key] for key in keys if key in variables}
            space = about if named is None else _Space(named, about)
            self._spaces[id(variables)] = space
        return space

    def _version(self, module: str | None, name: str, value: object) -> int:
        if module is None:
            return 0
        version = self._versions.get((module, name))
        if version is None:
            version = self._versions[module, name] = _global_version(module, name, value, type(self))
        return version


class _Space:
    """Stands for the global variables of a module, which are those of the reader."""

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self._reduced = (_namespace, (name, about))

    def __reduce__(self) -> _Reduced:
        return self._reduced


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def _annotations(function: types.FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except NameError:  # Python 3.14 evaluates them only now; a name may exist for type checkers alone
        return {}


def _module_of(variables: dict[str, Any]) -> str | None:
    name = variables.get("__name__")
    if not isinstance(name, str):
        return None
    module = sys.modules.get(name)
    if _namespaces.get(name) is variables or (module is not None and vars(module) is variables):
        return name
    return None


def _class_token(cls: type) -> str:
    with _lock:
        token = _tokens.get(cls)
        if token is None:
            token = _tokens[cls] = uuid.uuid4().hex
            _classes[token] = cls
        return token


def _function_token(function: types.FunctionType) -> str:
    with _lock:
        token = _tokens.get(function)
        if token is None:
            token = _tokens[function] = uuid.uuid4().hex
            _functions[token] = function
        return token


def _global_version(module: str, name: str, value: object, kind: type[Pickler]) -> int:
    """The number of times this global was seen to change."""
    digest = _digest(value, kind)
    with _lock:
        known, version = _sent_globals.get((module, name), (None, 0))
        if known != digest:
            version += 1
            _sent_globals[module, name] = digest, version
        return version


def _digest(value: object, kind: type[Pickler]) -> object:
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return type(value), repr(value)
    buffers: list[Any] = []
    pickler = kind(buffers.append, digest=True)
    pickler.dump(value)
    digest = blake2b(pickler.file.getbuffer(), digest_size=16)
    for buffer in buffers:
        raw = buffer.raw()
        place = shared_place(raw)
        # Where it is says enough of what all see.
        digest.update(raw if place is None else repr(place).encode())
    return digest.digest()


def _table(classes: Iterable[type]) -> dict[str, _Body]:
    table: dict[str, _Body] = {}
    left = list(classes)
    while left:
        cls = left.pop()
        token = _class_token(cls)
        if token not in table:
            body = table[token] = _received.get(cls) or _body(cls)
            left.extend(known for need in body.needs if (known := _classes.get(need)) is not None)
    return table


def _body(cls: type) -> _Body:
    names, values = tuple(vars(cls)), tuple(vars(cls).values())
    made = _made.get(id(cls))
    if made is not None and made.names == names and all(map(is_, made.values, values)) and holds(made.watch):
        return made.body
    maker, made_of, state, *_ = cloudpickle._dynamic_class_reduce(cls)
    *made_of, _tracker, extra = made_of
    slots = vars(cls).get("__slots__")
    if slots and maker is cloudpickle._make_skeleton_class and isinstance(slots, (str, tuple, list, dict)):
        made_of[3]["__slots__"] = slots  # only a class made with slots has no `__dict__`  # pyright: ignore[reportIndexIssue]
    state[0]["__qualname__"] = cls.__qualname__  # pickle finds a class in another by it
    if _is_structure(cls):
        state = _state_of_structure(*state)
    first, second = Pickler(), Pickler()
    first.dump((maker, (*made_of, None, extra)))
    second.dump(state)
    skeleton, content = first.file.getvalue(), second.file.getvalue()
    needs = tuple(_class_token(need) for need in {**first.classes, **second.classes}.values() if need is not cls)
    reach = Reach(classes=False)
    reach.visit_class(cls)
    stays = not reach.volatile and not isinstance(cls, ABCMeta)  # whose registry can't be watched
    with _lock:
        body = _sent.get(cls, _Body(0, b"", b"", ()))
        if (body.skeleton, body.state) != (skeleton, content):
            body = _sent[cls] = _Body(body.version + 1, skeleton, content, needs)
        if stays:
            if len(_made) >= _MADE_AT_MOST:
                _made.clear()
            _made[id(cls)] = _Made(cls, names, values, tuple(reach.watch), body)
        return body


def _is_structure(cls: type) -> bool:
    """Whether `ctypes` lays out the instances of a class."""
    ctypes = sys.modules.get("_ctypes")
    return ctypes is not None and issubclass(cls, (ctypes.Structure, ctypes.Union))


def _state_of_structure(content: dict[str, Any], slots: dict[str, Any]) -> _Reduced:
    """Without the descriptors of the fields, which come with `_fields_`; first what `ctypes` must know before that."""
    layout = ("_swappedbytes_", "_pack_", "_align_", "_layout_", "_anonymous_", "_fields_")
    state = {name: content.pop(name) for name in layout if name in content}
    return state | {name: value for name, value in content.items() if type(value).__name__ != "CField"}, slots


def _derived(cls: Any) -> _Reduced:
    """How to have a type of `ctypes` that is no attribute of a module; None for any other.

    These are its metaclasses, and what it makes of another type, once for each: pointers, arrays, the other byte order.
    """
    ctypes = sys.modules.get("ctypes")
    if ctypes is None:
        return None
    if issubclass(cls, type):
        bases = (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._Pointer, ctypes._SimpleCData, ctypes._CFuncPtr)
        return next(((type, (base,)) for base in bases if type(base) is cls), None)
    if not hasattr(cls, "_type_"):
        return None
    if issubclass(cls, ctypes.Array) and cls._type_ * cls._length_ is cls:
        return mul, (cls._type_, cls._length_)
    if issubclass(cls, ctypes._Pointer) and ctypes.POINTER(cls._type_) is cls:
        return ctypes.POINTER, (cls._type_,)
    if vars(cls).get("__ctype_be__") is cls:
        return getattr, (cls.__ctype_le__, "__ctype_be__")
    return None


def _declaration(table: dict[str, _Body]) -> bytes:
    """A pickle's beginning that makes the classes of `table` known.

    It goes before another stream, so it must not number anything in the memo (`fast`), and leaves the classes
    on the reader's stack, where they outlive the rest of the reading.
    """
    if not table:
        return b""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.fast = True
    pickler.dump(_Declared({token: tuple(body) for token, body in table.items()}))
    return file.getvalue()[:-1]


class _Declared:
    def __init__(self, table: dict[str, tuple[Any, ...]]) -> None:
        self._table = table

    def __reduce__(self) -> _Reduced:
        return _declare, (self._table,)


def _reduce_code(code: types.CodeType) -> _Reduced:
    try:
        return marshal.loads, (marshal.dumps(code, 2),)  # later versions depend on reference counts
    except ValueError:
        return cloudpickle._code_reduce(code)


def _reduce_cell(cell: types.CellType) -> _Reduced:
    if not _filled(cell):
        return types.CellType, ()
    # The contents follow as state, for they may contain the function the cell belongs to.
    return types.CellType, (), (cell.cell_contents,), None, None, _fill_cell


def _reduce_file(file: io.TextIOWrapper) -> _Reduced:
    for name in ("stdout", "stderr", "stdin"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError("cannot pickle an open file")


def _reduce_cached(function: Any) -> _Reduced:
    if importable(function):
        return str(function.__qualname__)
    return _cached, (function.__wrapped__, function.cache_parameters()), vars(function)


def _reduce_cached_property(cached: Any) -> _Reduced:
    state = {name: value for name, value in vars(cached).items() if name != "lock"}  # Python 3.11 has one
    return functools.cached_property, (cached.func,), state


def _reduce_weak_keys(mapping: weakref.WeakKeyDictionary[Any, Any]) -> _Reduced:
    return weakref.WeakKeyDictionary, (dict(mapping),)


def _reduce_new_type(new_type: Any) -> _Reduced:
    if importable(new_type):
        return str(new_type.__qualname__)
    return typing.NewType, (new_type.__name__, new_type.__supertype__)


def _reduce_random(generator: Any) -> _Reduced:
    hidden = generator is sys.modules["random"]._inst
    return (_own_random, ()) if hidden else generator.__reduce__()


def _reduce_variable(variable: Any) -> _Reduced:
    from . import _context

    return _context.reduce(variable)


def _reduce_numpy_random(generator: Any) -> _Reduced:
    hidden = generator is sys.modules["numpy.random.mtrand"]._rand
    return (_own_numpy_random, ()) if hidden else generator.__reduce__()


Pickler.dispatch_table = ChainMap(
    {
        functools._lru_cache_wrapper: _reduce_cached,
        functools.cached_property: _reduce_cached_property,
        weakref.WeakKeyDictionary: _reduce_weak_keys,
        typing.NewType: _reduce_new_type,
        types.CodeType: _reduce_code,
        types.CellType: _reduce_cell,
        io.TextIOWrapper: _reduce_file,
    },
    cloudpickle.Pickler.dispatch_table,  # pyright: ignore[reportArgumentType]
)


# Receiving: the functions that streams name


def _declare(table: dict[str, tuple[Any, ...]]) -> list[type]:
    with _lock:
        bodies = {token: _Body(*body) for token, body in table.items()}
        _arriving.append(bodies)
        try:
            classes = [_class(token) for token in bodies]
            for cls, (token, body) in zip(classes, bodies.items(), strict=True):
                _update_class(cls, token, body)
            return classes
        finally:
            _arriving.pop()


def _class(token: str) -> type:
    with _lock:
        cls = _classes.get(token)
        if cls is None:
            body = next((bodies[token] for bodies in reversed(_arriving) if token in bodies), None)
            if body is None:
                raise pickle.UnpicklingError("the class of an object did not come with it")
            maker, made_of = pickle.loads(body.skeleton)
            cls = maker(*made_of)
            _tokens[cls] = token
            _classes[token] = cls
            _received[cls] = _Body(0, b"", b"", ())
        return cls


def _update_class(cls: type, token: str, body: _Body) -> None:
    known = _received.get(cls)
    if known is None or known.version >= body.version:
        return  # at home here, or nothing new
    _received[cls] = body  # first: the state may contain the class
    try:
        content, slots = pickle.loads(body.state)
        if _is_structure(cls) and "_fields_" in vars(cls):
            del content["_fields_"]  # can be set once
        cloudpickle._class_setstate(cls, (content, slots))
    except BaseException:
        _received[cls] = known
        raise
    _place(cls, token)


def _function(
    token: str, code: types.CodeType, variables: dict[str, Any], closure: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    home = _functions.get(token)
    if home is not None:
        return home
    variables.setdefault("__builtins__", builtins)
    function = types.FunctionType(code, variables, None, None, closure)
    _tokens[function] = token
    return function


def _fill(function: types.FunctionType, content: tuple[dict[str, Any], dict[str, Any], dict[str, Any], Any]) -> None:
    token = _tokens[function]
    if _functions.get(token) is function:
        return  # at home: the original stays as it is
    state, attributes, entries, _submodules = content
    for name, value in state.items():
        setattr(function, name, value)
    function.__dict__.update(attributes)
    variables = function.__globals__
    module = _module_of(variables)
    at_home = module is not None and not _pickling.in_worker and module not in _namespaces
    for name, (version, value) in entries.items():
        if module is None:
            variables[name] = value
        elif at_home:
            variables.setdefault(name, value)
        elif name not in variables or version > _heard.get((module, name), 0):
            _heard[module, name] = version
            variables[name] = value
    _place(function, token)


def _fill_cell(cell: types.CellType, state: tuple[object]) -> None:
    (cell.cell_contents,) = state  # a tuple, for pickle takes a state of None for no state


def _namespace(name: str, about: dict[str, Any]) -> dict[str, Any]:
    module = sys.modules.get(name)
    if module is not None and (name == "__main__" or not _pickling.in_worker):
        return vars(module)
    with _lock:
        return _namespaces.setdefault(name, about)


def _place(obj: Any, token: str) -> None:
    """Let a worker's `__main__` show what came from the caller's: tasks may pickle by reference."""
    name = obj.__qualname__
    if _pickling.in_worker and obj.__module__ == "__main__" and name.isidentifier():
        variables = vars(sys.modules["__main__"])
        if name not in variables or _placed.get(name) == token:
            _placed[name] = token
            variables[name] = obj


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _own_random() -> Any:
    import random

    return random._inst


def _own_numpy_random() -> Any:
    import numpy.random

    return numpy.random.mtrand._rand
