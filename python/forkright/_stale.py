"""Tells what a worker's fresh import would lose: what changed since the caller imported it.

Called on both sides for a function that reads modules of the user's: the caller's digest of what it reads must
be the worker's. Without it `settings.FACTOR = 5` or a patched helper would hold in this process and silently not in
a worker.

Both sides walk the same way, bounded by a count and not by time, so that unchanged code gives equal digests:
no ids, no hash order, no line numbers. Code is compared as compiled, not as source: `co_code` is the same
whether an interpreter has specialised it, or a tracer or coverage instruments it. Only where an import hook
compiled the module anew (pytest's assertions, type checkers) is it not comparable; there the digest ends in
`?` and agrees with any code of that name.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from _blake2 import blake2b  # by way of `hashlib` it would cost a worker ten times as much
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from opcode import opmap

from . import _functions, _pickling
from ._core import shared_place
from ._functions import importable, is_enum_member, is_script, is_users, is_users_file, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ._functions import Survey, Watch

_DEPTH = 8
_NAMES = 400
_ITEMS = 2000
_TRUNCATED = "…"
_CODE = "code "

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_PLAIN = {
    "builtins.range",
    "builtins.slice",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "decimal.Decimal",
    "fractions.Fraction",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib._local.PosixPath",
    "pathlib._local.PurePosixPath",
    "re.Pattern",
    "uuid.UUID",
}
_MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem"),
    *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
}
# What sets names that can't be told from the code.
_DYNAMIC = {"__dict__", "exec", "globals", "setattr", "vars"}
_STORES = frozenset(opmap[name] for name in ("STORE_SUBSCR", "DELETE_SUBSCR"))
_STORE_NAMES = frozenset(opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR"))
_STORE_GLOBAL = opmap["STORE_GLOBAL"]
_IMPORT = opmap["IMPORT_NAME"]
_EXTENDED = opmap["EXTENDED_ARG"]

# Looked at before each call: few, so that calls stay cheap.
_WATCHED = 8
_MOST_SENTENCES = 3
_MOST_WORDS = 2000


def digest(function: Callable[..., Any]) -> dict[str, str]:
    """What `function` reads in the user's modules: per name its value as people read it, or a hash."""
    return survey(function)[0]


def survey(function: Callable[..., Any]) -> Survey:
    """The digest of `function`, and those of the names it read that are worth watching between calls."""
    walk = _Walk()
    walk.callable(function, None, 0)
    return walk.found, tuple(walk.watch[:_WATCHED])


def assigned(function: Callable[..., Any]) -> set[str]:
    """The names of the globals that `function` sets, or what it calls of the script and the user's modules."""
    walk = _Walk()
    walk.callable(function, None, 0)
    return walk.assigned


def compare(function: Callable[..., Any], theirs: dict[str, str]) -> str | None:
    """In a worker: why `function` is not what it is at the caller's, whose digest is `theirs`."""
    try:
        found = disagree(*_unless_initialized(theirs, digest(function)))
    except Exception:  # as in `_functions.survey`
        return None
    if not found:
        return None
    rest = len(found) - _MOST_SENTENCES
    sentences = "; ".join(found[:_MOST_SENTENCES]) + (f"; and {rest} more" if rest > 0 else "")
    return f"`{name_of(function)}` is not the same in a worker process: {sentences}"[:_MOST_WORDS]


def _unless_initialized(*digests: dict[str, str]) -> list[dict[str, str]]:
    """The digests without what this worker's initializer set: that it differs is why there is an initializer."""
    if _functions.initializer is None:
        return list(digests)
    walk = _Walk()
    walk.callable(_functions.initializer, None, 0)
    if not _DYNAMIC.isdisjoint(walk.stored):
        return [{} for _ in digests]
    return [{name: text for name, text in found.items() if walk.stored.isdisjoint(_parts(name))} for found in digests]


def _parts(name: str) -> list[str]:
    return name.replace("[", ".").split(".")


def warn(reason: str) -> None:
    """Tell the user, at the line that called us, what `compare` found."""
    import warnings

    from ._errors import ForkrightWarning

    here = os.path.dirname(__file__)
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        frame, level = frame.f_back, level + 1
    advice = "pass what differs as an argument, or set it in an executor's `initializer`"
    warnings.warn(f"{reason}; {advice}", ForkrightWarning, level)


def disagree(mine: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """What differs between the caller's digest and that of a fresh import, in sentences."""
    found = []
    for name, here in mine.items():
        there = theirs.get(name)
        if there is None:
            if _TRUNCATED not in mine and _TRUNCATED not in theirs:
                found.append(f"`{name}` is {_words(here)} here; a fresh import does not have it")
        elif not _same(here, there):
            found.append(_difference(name, here, there))
    if not found and _TRUNCATED not in mine and _TRUNCATED not in theirs:
        missing = (name for name in theirs if name not in mine)
        found.extend(f"`{name}` is missing here; a fresh import has {_words(theirs[name])}" for name in missing)
    return found


def _same(here: str, there: str) -> bool:
    if here.startswith(_CODE) and there.startswith(_CODE) and (here.endswith("?") or there.endswith("?")):
        return here.rpartition(" ")[0] == there.rpartition(" ")[0]
    return here == there


def _difference(name: str, here: str, there: str) -> str:
    if here.startswith(_CODE) and there.startswith(_CODE):
        mine, fresh = here.split()[1], there.split()[1]
        if mine == fresh:
            changed = "it or its file changed since it was imported"
            return f"`{name}` runs other code here than after a fresh import: {changed}"
        return f"`{name}` is the function `{mine}` here; a fresh import has `{fresh}`"
    return f"`{name}` is {_words(here)} here; a fresh import has {_words(there)}"


def _words(text: str) -> str:
    return f"the function `{text.split()[1]}`" if text.startswith(_CODE) else text.partition(" #")[0]


class _Walk:
    """One walk from a function through the user's modules; `found` collects what it reads."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.watch: list[Watch] = []
        self.stored: set[str] = set()
        self.assigned: set[str] = set()
        self._seen: set[object] = set()
        self._kept: list[object] = []  # so that an id in `_seen` stays taken

    def callable(self, obj: Any, name: str | None, depth: int) -> None:
        """Whatever can be called, bound under `name` (None: what was sent itself)."""
        if isinstance(obj, functools.partial):
            self.callable(obj.func, name, depth)
        elif isinstance(obj, types.MethodType):
            self.callable(obj.__func__, name, depth)
            if isinstance(obj.__self__, type):
                self.cls(obj.__self__, depth)
            else:
                self.cls(type(obj.__self__), depth)
        elif isinstance(obj, functools._lru_cache_wrapper):
            if name is None and importable(obj):
                name = f"{obj.__module__}.{obj.__qualname__}"
            self.callable(obj.__wrapped__, name, depth)
        elif isinstance(obj, (staticmethod, classmethod)):
            self.callable(obj.__func__, name, depth)
        elif isinstance(obj, types.FunctionType):
            self.function(obj, name, depth)
        elif isinstance(obj, type):
            self.cls(obj, depth)
        elif type(obj).__module__ != "builtins":
            self.cls(type(obj), depth)

    def function(self, function: types.FunctionType, name: str | None, depth: int) -> None:
        home = function.__module__
        full = f"{home}.{function.__qualname__}"
        users = is_users(home)
        if not users and not is_script(home) and home not in sys.modules:
            # A closure came by value to a worker that has not imported its module.
            users = is_users_file(function.__globals__.get("__file__"))
        # What came with a function that travels by value does so too, unless it can be imported.
        sent = not users or (name is None and not importable(function))
        if name is None and not sent and "<" not in full:
            name = full
        if name is not None:
            self._note(name, f"{_CODE}{full} {_code_digest(function)}" if users else f"{_CODE}{full} -")
        if not users and not is_script(home) and function.__closure__ is None:
            return
        if not self._enter(function, depth):
            return
        for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                contents = cell.cell_contents
            except ValueError:
                continue
            # What a by-value function captured is sent with it; what a decorator captured at import is not.
            label = f"{full}({free})" if not sent and "<locals>" not in full else None
            if isinstance(contents, types.FunctionType):
                self.function(contents, label, depth + 1)
            elif isinstance(contents, types.ModuleType):
                self._module(contents, _use(function.__code__), depth + 1)
            elif label is not None and _is_atom(contents):
                self._note(label, _text(contents))
        if users or is_script(home):
            self._globals(function, sent, depth)

    def _globals(self, function: types.FunctionType, sent: bool, depth: int) -> None:
        """The globals that a function names; `sent`: their values come with it."""
        variables = function.__globals__
        module = str(variables.get("__name__"))
        use = _use(function.__code__)
        self.assigned |= use.assigned
        self.stored |= use.names if use.mutates else use.stored | (use.names & _DYNAMIC)
        for name in sorted(use.names):
            if name in variables and name not in use.stored:
                if not sent:
                    self._watch(variables, name)
                self.value(variables[name], None if sent else f"{module}.{name}", use, depth + 1)
        for name in sorted(use.imports):
            loaded = sys.modules.get(name)
            if loaded is None and _pickling.in_worker:
                # The function is about to import it here; only so can its values be compared.
                try:
                    loaded = importlib.import_module(name)
                except Exception:
                    continue
            if loaded is not None:
                self.value(loaded, None, use, depth + 1)

    def value(self, value: Any, name: str | None, use: _Use, depth: int) -> None:
        """What a function reads under `name` (None: it came with the function)."""
        if isinstance(value, types.ModuleType):
            self._module(value, use, depth)
        elif isinstance(value, (types.FunctionType, functools.partial, types.MethodType, functools._lru_cache_wrapper)):
            self.callable(value, name, depth)
        elif isinstance(value, type):
            if name is not None:
                self._note(name, f"the class `{value.__module__}.{value.__qualname__}`")
            self.cls(value, depth)
        elif name is None:
            self.cls(type(value), depth)
        elif isinstance(value, types.BuiltinFunctionType):
            self._note(name, f"the function `{value.__module__}.{value.__qualname__}`")
        elif _is_atom(value):
            self._note(name, _text(value))
        elif isinstance(value, (list, dict, set)):
            self._container(value, name, use, depth)
        elif type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
            if (place := shared_place(value)) is not None and value.flags.writeable:
                self._note(name, f"shared memory #{place[0]:x}")  # a fresh import shares other memory
            elif not use.mutates and not value.dtype.hasobject:
                self._note(name, f"an array of {value.dtype} {value.shape} #{_hash(value[:4096].tobytes())}")
        elif is_users(type(value).__module__) or isinstance(value, types.SimpleNamespace):
            self._instance(value, name, use, depth)

    def _module(self, module: types.ModuleType, use: _Use, depth: int) -> None:
        if not is_users(module.__name__):
            return
        for name in sorted(use.names):
            if name not in vars(module) or name in use.stored or name.startswith("__"):
                continue
            if self._enter((module.__name__, name), depth):
                self._watch(vars(module), name)
                self.value(vars(module)[name], f"{module.__name__}.{name}", use, depth + 1)

    def _container(self, value: list[Any] | dict[Any, Any] | set[Any], name: str, use: _Use, depth: int) -> None:
        if not use.mutates:  # else it is the work's own memo or tally, and no setting
            self._note(name, _text(value))
        if not isinstance(value, set):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(item, types.FunctionType):
                    self.callable(item, f"{name}[{key!r}]", depth + 1)

    def _instance(self, value: Any, name: str, use: _Use, depth: int) -> None:
        attributes = getattr(value, "__dict__", {})
        for attribute in sorted(use.names):
            if attribute in attributes and attribute not in use.stored and _is_atom(attributes[attribute]):
                self._note(f"{name}.{attribute}", _text(attributes[attribute]))
        self.cls(type(value), depth)

    def cls(self, cls: type, depth: int) -> None:
        """A class of the user's: its methods' code and its constants. One that can't be imported comes by value."""
        for base in cls.__mro__:
            if is_users(base.__module__) and importable(base) and self._enter(base, depth):
                self._class(base, f"{base.__module__}.{base.__qualname__}", depth)

    def _class(self, cls: type, name: str, depth: int) -> None:
        functions = [value for value in vars(cls).values() if isinstance(value, types.FunctionType)]
        stored = {attribute for function in functions for attribute in _use(function.__code__).stored}
        for attribute, value in sorted(vars(cls).items()):
            full = f"{name}.{attribute}"
            if isinstance(value, property):
                for part, function in (("", value.fget), (".setter", value.fset), (".deleter", value.fdel)):
                    if function is not None:
                        self.callable(function, full + part, depth + 1)
            elif isinstance(value, (types.FunctionType, staticmethod, classmethod, functools._lru_cache_wrapper)):
                self.callable(value, full, depth + 1)
            elif attribute.startswith("__") or attribute in stored or isinstance(value, cls):
                continue  # the class's own counters and members are no settings
            elif _is_atom(value):
                self._note(full, _text(value))

    def _watch(self, variables: dict[str, Any], name: str) -> None:
        value = variables[name]
        # A watch keeps what it holds alive.
        if isinstance(value, types.FunctionType) or _is_atom(value):
            self.watch.append((variables, name, value))

    def _note(self, name: str, text: str) -> None:
        if len(self.found) < _NAMES:
            self.found[name] = text
        else:
            self.found[_TRUNCATED] = _TRUNCATED

    def _enter(self, obj: object, depth: int) -> bool:
        key: object = obj if isinstance(obj, tuple) else id(obj)
        if key in self._seen:
            return False
        if depth >= _DEPTH or len(self.found) >= _NAMES:
            self.found[_TRUNCATED] = _TRUNCATED
            return False
        self._seen.add(key)
        self._kept.append(obj)
        return True


class _Use:
    """What a code object, and those within it, name, import and store; `assigned` is what of that are globals."""

    def __init__(self, code: types.CodeType) -> None:
        self.names: set[str] = set()
        self.imports: set[str] = set()
        self.stored: set[str] = set()
        self.assigned: set[str] = set()
        self.mutates = False
        for part in _codes(code):
            self.names.update(part.co_names)
            self._read(part)
        self.mutates = self.mutates or not _MUTATORS.isdisjoint(self.names)

    def _read(self, code: types.CodeType) -> None:
        content, high = code.co_code, 0
        for at in range(0, len(content), 2):
            op, arg = content[at], content[at + 1] | high
            high = arg << 8 if op == _EXTENDED else 0
            if op == _IMPORT:
                self.imports.add(code.co_names[arg])
            elif op in _STORE_NAMES:
                self.stored.add(code.co_names[arg])
                if op == _STORE_GLOBAL:
                    self.assigned.add(code.co_names[arg])
            elif op in _STORES:
                self.mutates = True


@functools.lru_cache(maxsize=1024)
def _use(code: types.CodeType) -> _Use:
    return _Use(code)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def _code_digest(function: types.FunctionType) -> str:
    code = function.__code__
    if _is_rewritten(function):
        return "?"
    parts = [_code_text(part) for part in _codes(code)]
    parts += [_text(value) if _is_atom(value) else type(value).__name__ for value in function.__defaults__ or ()]
    for key, value in sorted((function.__kwdefaults__ or {}).items()):
        parts.append(f"{key}={_text(value) if _is_atom(value) else type(value).__name__}")
    return _hash("\n".join(parts).encode("utf-8", "surrogatepass"))


def _code_text(code: types.CodeType) -> str:
    consts = [_text(const) for const in code.co_consts if not isinstance(const, types.CodeType)]
    arguments = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return repr((code.co_name, code.co_code, code.co_exceptiontable, consts, arguments, names))


def _is_rewritten(function: types.FunctionType) -> bool:
    """Whether an import hook compiled this function, so that a plain import compiles it otherwise."""
    if any(name.startswith("@") for part in _codes(function.__code__) for name in part.co_names + part.co_varnames):
        return True
    module = sys.modules.get(function.__module__)
    spec = getattr(module, "__spec__", None)
    if spec is None or function.__code__.co_filename != spec.origin:
        return False
    loader = type(spec.loader)
    # pytest's loader rewrites nothing but functions with assertions, which the names above betray.
    return loader not in (SourceFileLoader, SourcelessFileLoader) and loader.__name__ != "AssertionRewritingHook"


def _is_atom(value: object) -> bool:
    kind = type(value)
    if kind in _ATOMS or is_enum_member(value):
        return True
    if kind in (tuple, frozenset):
        return all(map(_is_atom, value))  # type: ignore[call-overload]
    return f"{kind.__module__}.{kind.__qualname__}" in _PLAIN


def _text(value: object) -> str:
    """A value as people read it; the same in every process, whatever its length."""
    text = _canonical(value, [_ITEMS])
    if len(text) <= 80:
        return text
    return f"{text[:60]}… #{_hash(text.encode('utf-8', 'surrogatepass'))}"


def _canonical(value: Any, left: list[int]) -> str:
    left[0] -= 1
    if left[0] < 0:
        return "…"
    kind = type(value)
    if is_enum_member(value):
        return f"{kind.__qualname__}.{value.name}"
    if kind is tuple:
        return f"({', '.join(_canonical(item, left) for item in value)}{',' if len(value) == 1 else ''})"
    if kind is list:
        return f"[{', '.join(_canonical(item, left) for item in value[:_ITEMS])}]" + _rest(value)
    if kind in (set, frozenset):
        if len(value) > _ITEMS:
            return f"a set of {len(value)} items"
        items = ", ".join(sorted(_canonical(item, [left[0]]) for item in value))
        left[0] -= len(value)
        return f"{{{items}}}" if value else f"{kind.__name__}()"
    if kind is dict:
        pairs = list(value.items())[:_ITEMS]
        return f"{{{', '.join(f'{_canonical(k, left)}: {_canonical(v, left)}' for k, v in pairs)}}}" + _rest(value)
    if kind in _ATOMS or f"{kind.__module__}.{kind.__qualname__}" in _PLAIN:
        return repr(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _rest(value: Any) -> str:
    return f" of {len(value)} items" if len(value) > _ITEMS else ""


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
