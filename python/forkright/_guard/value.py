"""What is known of one value while code is read: where it came from, its type, and the real object where
there is one.

Every stack slot and local of a frame holds a `Value`. Without the place a value came from, a list made by the
call could not be told from a list that the whole program shares.

A value made by the call (FRESH) may contain others that were not: `inside` is what one gets by taking any
part of it, `parts` are the elements of a tuple one by one, `fields` the attributes of an instance. They grow
as stores are read.
"""

from __future__ import annotations

from collections import deque
from functools import reduce
from itertools import islice
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType

from .._core import shared_place

TYPE_CHECKING = False  # spares the import of typing
if TYPE_CHECKING:
    from collections.abc import Iterable

FRESH, ARGUMENT, SHARED = range(3)

ITEM = "<item>"
CHOICES = 12  # of a table of functions that are followed
NOWHERE: frozenset[str] = frozenset()


class _Unknown:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class Value:
    """One value: its place, the real object (or UNKNOWN), its name in the program, its type if known.

    `origin` names what its contents were computed from; `callee` says how to call it without an object.
    """

    __slots__ = ("callee", "fields", "inside", "kind", "name", "origin", "parts", "place", "thing")

    def __init__(
        self,
        place: int = FRESH,
        thing: object = UNKNOWN,
        name: str = "",
        *,
        kind: type | None = None,
        inside: Value | None = None,
        parts: tuple[Value, ...] | None = None,
        origin: frozenset[str] = NOWHERE,
        callee: Callee | None = None,
    ) -> None:
        self.place = place
        self.thing = thing
        self.name = name
        self.kind: type | None = kind if thing is UNKNOWN else type(thing)
        self.inside = inside
        self.parts = parts
        self.origin = origin
        self.callee = callee
        self.fields: dict[str, Value] | None = None

    def __repr__(self) -> str:
        return f"Value({('FRESH', 'ARGUMENT', 'SHARED')[self.place]}, {self.name!r}, {self.kind})"

    def carries(self) -> bool:
        """Whether this value, or anything in it, matters later: it is shared, or it can be called."""
        return bool(self.place or self.inside or self.parts or self.fields or self.callee)

    def tinged(self, origin: frozenset[str]) -> Value:
        """This value, computed from `origin` as well."""
        if origin <= self.origin:
            return self
        copy = Value(
            self.place,
            self.thing,
            self.name,
            kind=self.kind,
            inside=self.inside,
            parts=self.parts,
            origin=self.origin | origin,
            callee=self.callee,
        )
        copy.fields = self.fields
        return copy

    def put(self, part: Value) -> None:
        """Remember that `part` was stored somewhere in this value."""
        if self is not PLAIN and self is not NULL and not self.place:
            if part.carries():
                self.inside = joined(self.inside, part) if self.inside else part
                if self.parts is not None:
                    self.parts = None
            self.origin |= part.origin


class Cell:
    """A closure cell: made by the call, or (with its name and the real cell) by someone outside."""

    __slots__ = ("name", "outside", "value")

    def __init__(self, value: Value, name: str = "", outside: CellType | None = None) -> None:
        self.value = value
        self.name = name
        self.outside = outside


class Closure:
    """A Python function: the code, the globals it reads, its cells and its defaults."""

    __slots__ = ("cells", "code", "defaults", "globals", "keyword_defaults")

    def __init__(
        self,
        code: CodeType,
        globals: dict[str, object],
        cells: tuple[Cell, ...] = (),
        defaults: tuple[Value, ...] = (),
        keyword_defaults: dict[str, Value] | None = None,
    ) -> None:
        self.code = code
        self.globals = globals
        self.cells = cells
        self.defaults = defaults
        self.keyword_defaults = keyword_defaults or {}


class Bound:
    """A Python function, or any callable, tied to its first arguments."""

    __slots__ = ("arguments", "function", "keywords")

    def __init__(self, function: Value, arguments: tuple[Value, ...], keywords: dict[str, Value] | None = None) -> None:
        self.function = function
        self.arguments = arguments
        self.keywords = keywords or {}


class Method:
    """A method by its name, where there is no Python function to read; with arguments for `methodcaller`."""

    __slots__ = ("arguments", "name", "receiver")

    def __init__(self, name: str, receiver: Value | None, arguments: tuple[Value, ...] = ()) -> None:
        self.name = name
        self.receiver = receiver
        self.arguments = arguments


class Super:
    """`super()`: the receiver, and the class after which the search begins."""

    __slots__ = ("after", "receiver")

    def __init__(self, receiver: Value, after: Value) -> None:
        self.receiver = receiver
        self.after = after


class OneOf:
    """Several callables of which any may be meant, as in a table of functions."""

    __slots__ = ("choices",)

    def __init__(self, choices: tuple[Value, ...]) -> None:
        self.choices = choices


if TYPE_CHECKING:
    Callee = Cell | Closure | Bound | Method | Super | OneOf

PLAIN = Value()  # something fresh that holds nothing of interest
NULL = Value(name="<null>")

ATOMS: set[type] = {
    *(
        int,
        float,
        complex,
        bool,
        str,
        bytes,
        type(None),
        frozenset,
        range,
        slice,
        type(...),
        type(NotImplemented),
    ),
}
ATOM_NAMES = frozenset(
    (
        *("re.Pattern", "re.Match", "decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
        *("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta"),
        *("pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib._local.PosixPath"),
        # The default of a field that a factory makes: an `__init__` puts what that gives in its place.
        *("dataclasses._HAS_DEFAULT_FACTORY_CLASS", "attr._make._Nothing"),
    )
)


def is_atom(kind: type | None) -> bool:
    """Whether objects of this type cannot be changed. Named types need not be imported to be recognised."""
    return kind is not None and (kind in ATOMS or f"{kind.__module__}.{kind.__qualname__}" in ATOM_NAMES)


def is_for_all(thing: object) -> bool:
    """Whether this lies in memory of `fr.share`: what is written to it all processes see, if it can be written to."""
    return (is_array(type(thing)) or type(thing) is memoryview) and shared_place(thing) is not None


def is_array(kind: type | None) -> bool:
    """Whether this is NumPy's array type."""
    return kind is not None and kind.__name__ == "ndarray" and kind.__module__ == "numpy"


def is_frame(kind: type | None) -> bool:
    """Whether this type is from pandas or polars, whose methods return new frames unless told otherwise."""
    return kind is not None and kind.__module__.startswith(("pandas.", "polars."))


def is_iterator(value: Value) -> bool:
    """Whether taking from this value uses it up."""
    return (
        value.place != FRESH
        and value.kind is not None
        and any("__next__" in base.__dict__ for base in value.kind.__mro__)
    )


def real(place: int, thing: object, name: str, origin: frozenset[str] = NOWHERE) -> Value:
    """The value of a real object. What cannot be changed, or is for all processes, is as good as fresh."""
    if (
        is_atom(type(thing))
        or is_for_all(thing)
        or (isinstance(thing, tuple) and all(is_atom(type(one)) for one in islice(tuple.__iter__(thing), 16)))
    ):
        place = FRESH
    return Value(place, thing, name, origin=origin)


def looked_up(thing: object, name: str) -> Value:
    """The value of a real object that was found under a name in a module or a class."""
    if isinstance(thing, (ModuleType, type, FunctionType, BuiltinFunctionType)):
        return Value(SHARED, thing, name)
    return real(SHARED, thing, name, frozenset((name,)))


def _picked(size: int) -> tuple[int, ...]:
    return (0, size // 2, size - 1) if size else ()


def _witnesses(thing: object, keys: bool) -> tuple[object, ...] | None:
    """A few elements that stand for the others, or None where one may not look. Runs no code of theirs."""
    try:
        if isinstance(thing, dict):
            return tuple(islice(dict.keys(thing) if keys else dict.values(thing), 3))
        if isinstance(thing, list):
            return tuple(list.__getitem__(thing, index) for index in _picked(list.__len__(thing)))
        if isinstance(thing, tuple):
            return tuple(tuple.__getitem__(thing, index) for index in _picked(tuple.__len__(thing)))
        if isinstance(thing, deque):
            return tuple(islice(deque.__iter__(thing), 3))
        if isinstance(thing, set):
            return tuple(islice(set.__iter__(thing), 3))
    except (RuntimeError, IndexError):  # another thread changes its size
        pass
    return None


def _first(thing: dict[object, object] | list[object] | tuple[object, ...]) -> tuple[object, ...]:
    if isinstance(thing, dict):
        return tuple(islice(dict.values(thing), CHOICES))
    return tuple(islice(list.__iter__(thing) if isinstance(thing, list) else tuple.__iter__(thing), CHOICES))


def part(value: Value, keys: bool = False) -> Value:
    """What one gets by subscripting `value` with an unknown key, or by iterating over it."""
    if value.place == FRESH:
        if value.parts:
            return reduce(joined, value.parts)
        return value.inside or (Value(origin=value.origin) if value.origin else PLAIN)
    origin = value.origin | {value.name}
    thing = value.thing
    if is_frame(value.kind) or isinstance(thing, (bytearray, memoryview)):
        return Value(origin=origin)
    if is_array(value.kind):
        if thing is not UNKNOWN and thing.dtype.kind != "O" and thing.ndim <= 1:  # type: ignore[attr-defined]
            return Value(origin=origin)
        return Value(value.place, name=value.name, kind=value.kind, origin=origin)
    name = f"{value.name}[…]"
    seen = _witnesses(thing, keys)
    if not seen:
        return Value(value.place, name=name, origin=origin)
    chosen = next((one for one in seen if not is_atom(type(one))), None)
    if chosen is None:
        return Value(origin=origin)
    found = real(value.place, chosen, name, origin)
    if callable(chosen) and isinstance(thing, (dict, list, tuple)):
        choices = (one for one in _first(thing) if callable(one) and id(one) != id(chosen))
        found.callee = OneOf(tuple(Value(SHARED, one, name) for one in (chosen, *choices)))
    return found


def keys_of(value: Value) -> Value:
    """What iterating over `value` gives: of a dict its keys, of anything else its parts."""
    return part(value, keys=isinstance(value.thing, dict))


def _either(one: Value, other: Value) -> Callee | None:
    """How to call a value that may be either."""
    if one.callee is other.callee and (one.thing is other.thing or one.callee):
        return one.callee
    choices: dict[object, Value] = {}
    for value in (one, other):
        for choice in value.callee.choices if isinstance(value.callee, OneOf) else (value,):
            if choice.callee:
                choices[choice.callee] = choice
            elif choice.thing is not UNKNOWN and callable(choice.thing):
                choices[id(choice.thing)] = choice
    if len(choices) < 2:
        return one.callee or other.callee
    return OneOf(tuple(choices.values())[:CHOICES])


def joined(one: Value, other: Value) -> Value:
    """What is known of a value that may be either: the worse place to write to, and what both contain."""
    if one is other or other is NULL:
        return one
    if one is NULL or isinstance(other.callee, Cell):
        return other
    if isinstance(one.callee, Cell):
        return one
    if one.place < other.place:
        one, other = other, one
    origin = one.origin | other.origin
    inside = one.inside or other.inside
    if one.inside and other.inside and one.inside is not other.inside:
        inside = joined(one.inside, other.inside)
    if one.place > other.place or (one.thing is other.thing and one.name == other.name and one.kind is other.kind):
        if origin == one.origin and inside is one.inside and _either(one, other) is one.callee:
            return one
        both = Value(one.place, one.thing, one.name, kind=one.kind, inside=inside, parts=one.parts, origin=origin)
    else:
        kind = one.kind if one.kind is other.kind else None
        thing = one.thing if one.place or one.thing is other.thing else UNKNOWN
        both = Value(one.place, thing, one.name or other.name, kind=kind, inside=inside, origin=origin)
        if both.inside is None and (one.parts or other.parts):
            both.inside = reduce(joined, (*(one.parts or ()), *(other.parts or ())))
    both.callee = _either(one, other)
    both.fields = one.fields or other.fields
    return both


def alike(one: Value | None, other: Value | None) -> bool:
    """Whether reading on with `one` instead of `other` would tell nothing new."""
    if one is other:
        return True
    return (
        one is not None
        and other is not None
        and one.place == other.place
        and one.thing is other.thing
        and one.name == other.name
        and one.kind is other.kind
        and one.origin == other.origin
        and one.callee is other.callee
        and (one.inside is other.inside or (one.inside and one.inside.name) == (other.inside and other.inside.name))
    )


def gathered(values: Iterable[Value]) -> frozenset[str]:
    """The origins of all these values together."""
    return NOWHERE.union(*(value.origin for value in values))


def container(kind: type | None, inside: Value | None, origin: frozenset[str] = NOWHERE) -> Value:
    """A fresh container whose parts are `inside`; parts of no interest are left out."""
    return Value(kind=kind, inside=inside if inside and inside.carries() else None, origin=origin)
