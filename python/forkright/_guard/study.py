"""One study: everything learnt about a function while its code and the code it reaches is read.

`check` starts it and `excuse` judges what it collected. It holds the limits: without them one large program
would be read while its user waits.
"""

from __future__ import annotations

from time import perf_counter
from types import CellType, CodeType, FunctionType

from . import attribute, call
from .frame import Frame
from .instructions import Instructions
from .names import nature
from .project import name_of, own_method
from .value import ARGUMENT, FRESH, ITEM, PLAIN, SHARED, Cell, Closure, Value, is_atom, is_iterator, real

DEPTH = 8  # calls within calls
REPEATS = 3  # the same code within itself: more would tell nothing new
INSTRUCTIONS = 6000
SECONDS = 0.02
TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Context

_SORTS = {
    "lock": "lock",
    "handle": "handle",
    "local": "local",
}  # kinds of trace for a write to such an object


class Spent(Exception):
    """The study has reached a limit."""


class Trace:
    """A write, or another use of what is shared, before it is judged: what was done to what, and where."""

    __slots__ = ("code", "excuse", "how", "kind", "line", "namespace", "value")

    def __init__(self, kind: str, value: Value, how: str, excuse: str, frame: Frame | None) -> None:
        self.kind = kind
        self.value = value
        self.how = how
        self.excuse = excuse
        self.code = frame.code if frame else None
        self.line = frame.line() if frame else 0
        self.namespace = frame.closure.globals if frame else None


class Study:
    """The traces found so far, the notes, the code that was read, and what is left of the limits."""

    def __init__(self) -> None:
        self.traces: dict[tuple[str, str, CodeType | None, int], Trace] = {}
        self.notes: dict[str, None] = {}
        self.doubts: dict[str, None] = {}
        self.codes: set[CodeType] = set()
        self.loggers: dict[object, None] = {}
        self.context: Context | None = None  # the one that calls will run in
        self.variables: dict[object, None] = {}  # of a context, that are read
        self.prints = False
        self.seeds_itself = False
        self.frame: Frame | None = None
        self.frameworks: set[type] = set()
        self._deadline = perf_counter() + SECONDS
        self._left = INSTRUCTIONS
        self._depth = 0
        self._active: list[CodeType] = []
        self._instructions: dict[CodeType, Instructions] = {}
        self._cells: dict[int, tuple[CellType, Cell]] = {}
        self._known: dict[object, tuple[Value, list[Value], Closure]] = {}

    def begin(self, function: object, arguments: tuple[object, ...]) -> None:
        """Read `function` as it would run with these arguments."""
        values = [
            Value(kind=type(one), origin=frozenset((ITEM,)))
            if is_atom(type(one))
            else real(ARGUMENT, one, "", frozenset((ITEM,)))
            for one in arguments
        ]
        try:
            self.call(Value(SHARED, function, name_of(function) or "self"), values, {})
        except Spent:
            self.doubt("the limit of what is read was reached")

    def doubt(self, why: str) -> None:
        """Something could not be followed: what was found holds, what was not found proves nothing."""
        self.doubts[why] = None
        self.notes[why] = None

    def step(self) -> None:
        """Account for one instruction."""
        self._left -= 1
        if self._left < 0 or (not self._left & 63 and perf_counter() > self._deadline):
            raise Spent

    def instructions(self, code: CodeType) -> Instructions:
        """The decoded instructions of `code`."""
        found = self._instructions.get(code)
        if found is None:
            found = self._instructions[code] = Instructions(code)
        return found

    # -- what is found

    def trace(self, kind: str, value: Value, how: str, excuse: str = "") -> Trace:
        """Keep a trace at the instruction that is being read."""
        found = Trace(kind, value, how, excuse, self.frame)
        return self.traces.setdefault((kind, value.name, found.code, found.line), found)

    def write(self, value: Value, how: str, excuse: str = "") -> Trace | None:
        """`value` is changed. Only what the caller can reach counts."""
        if value.place == FRESH or is_atom(value.kind):
            return None
        if value.place == ARGUMENT:
            return self.trace("argument", value, how, excuse)
        return self.trace(_SORTS.get(nature(value.kind), "write"), value, how, excuse)

    def take(self, value: Value) -> None:
        """Parts are taken from `value`: an iterator that is shared moves on."""
        if is_iterator(value):
            self.write(value, "takes from the iterator")

    # -- what is followed

    def attribute(self, value: Value, name: str) -> Value:
        """Read an attribute."""
        return attribute.read(self, value, name)

    def call(self, callee: Value, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        """Call a value."""
        return call.follow(self, callee, arguments, keywords)

    def operate(self, value: Value, method: str, *arguments: Value) -> Value | None:
        """Read the program's own special method that an operator on `value` runs; None if there is none."""
        if isinstance(value.thing, type) or (function := own_method(value.kind, method)) is None:
            return None
        return self.run_function(function, [value, *arguments])

    def run_function(
        self, function: FunctionType, arguments: list[Value], keywords: dict[str, Value] | None = None
    ) -> Value:
        """Read a Python function of the program that is called with these values."""
        code = function.__code__
        outer = zip(code.co_freevars, function.__closure__ or (), strict=True)
        cells = tuple(self._cell(name, cell) for name, cell in outer)
        defaults = function.__defaults__ or ()
        first = code.co_argcount - len(defaults)
        names = code.co_varnames[first : code.co_argcount]
        closure = Closure(
            code,
            function.__globals__,
            cells,
            tuple(real(SHARED, one, f"{name}=") for name, one in zip(names, defaults, strict=True)),
            {name: real(SHARED, one, f"{name}=") for name, one in (function.__kwdefaults__ or {}).items()},
        )
        return self.run(closure, arguments, keywords or {})

    def run(self, closure: Closure, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        """Read the code of a function once for each kind of arguments it is called with."""
        code = closure.code
        key = (
            code,
            id(closure.globals),
            tuple(map(_signature, arguments)),
            tuple((name, _signature(value)) for name, value in keywords.items()),
            tuple((id(cell), cell.value.name, cell.value.kind) for cell in closure.cells),
        )
        known = self._known.get(key)
        if known is not None:
            for now, then in zip(arguments, known[1], strict=False):
                _learn(now, then)
            return known[0]
        if self._active.count(code) >= REPEATS:
            return PLAIN
        if self._depth >= DEPTH:
            self.doubt(f"calls more than {DEPTH} deep were not read")
            return PLAIN
        caller, self.frame = self.frame, Frame(self, closure, arguments, keywords)
        self.codes.add(code)
        self._active.append(code)
        self._depth += 1
        try:
            result = self.frame.read()
        finally:
            self._depth -= 1
            self._active.pop()
            self.frame = caller
        self._known[key] = (result, arguments, closure)
        return result

    def _cell(self, name: str, cell: CellType) -> Cell:
        known = self._cells.get(id(cell))
        if known is None:
            try:
                value = real(SHARED, cell.cell_contents, name, frozenset((name,)))
            except ValueError:  # not filled yet
                value = PLAIN
            known = self._cells[id(cell)] = (cell, Cell(value, name, cell))
        return known[1]


def _signature(value: Value) -> object:
    """What makes reading a function again worth while, if its argument differs in it."""
    callee = value.callee
    return (
        value.place,
        value.name,
        value.kind,
        id(value.thing) if value.place or isinstance(value.thing, str) else 0,
        callee.code if isinstance(callee, Closure) else callee,
        value.inside and value.inside.name,
        tuple((name, one.place, one.name) for name, one in value.fields.items() if one.carries())
        if value.fields
        else (),
        tuple(map(_signature, value.parts)) if value.parts else (),
    )


def _learn(now: Value, then: Value) -> None:
    """A function that was read before would do to `now` what it did to `then`."""
    if now is then or now is PLAIN or now.place != FRESH:
        return
    if then.inside is not None and now.inside is None:
        now.inside = then.inside
    if then.fields:
        now.fields = {**then.fields, **(now.fields or {})}
