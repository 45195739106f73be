"""Stores: into a name, an attribute, an element. Each tells the study, and remembers what fresh objects now
hold.

Called by the opcodes and by `setattr`. Lazy initialisation is recognised here, by what was tested before.
"""

from __future__ import annotations

from .names import nature
from .project import attributes, class_attribute, own_function, own_method
from .value import FRESH, ITEM, NULL, PLAIN, SHARED, UNKNOWN, Cell, Value, joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frame import Frame


def global_name(frame: Frame, name: str, value: Value, how: str = "global assignment") -> None:
    """`name = value` for a global, or `del name`."""
    now = frame.closure.globals.get(name, UNKNOWN)
    frame.study.trace("write", Value(SHARED, now, name), how, _laziness(frame, name, value, now))


def cell(frame: Frame, target: Cell, value: Value, how: str = "nonlocal assignment") -> None:
    """`name = value` for a variable that closures share."""
    if target.outside is not None:
        try:
            now = target.outside.cell_contents
        except ValueError:
            now = None
        excuse = _laziness(frame, target.name, value, now)
        frame.study.trace("write", Value(SHARED, now, target.name), how, excuse)
    target.value = value if target.value is PLAIN else joined(target.value, value)


def attribute(frame: Frame, target: Value, name: str, value: Value, how: str = "") -> None:
    """`target.name = value`."""
    study = frame.study
    kind = target.kind
    if target.place:
        path = f"{target.name}.{name}"
        now = attributes(target.thing).get(name)
        excuse = _laziness(frame, path, value, True if nature(kind) == "local" else now)
        study.write(Value(target.place, target.thing, path, kind=kind), how or f"assigns `.{name}`", excuse)
    if kind is not None and not isinstance(target.thing, type):
        found = class_attribute(kind, name)
        if isinstance(found, property) and (setter := own_function(found.fset)):
            study.run_function(setter, [target, value])
        elif descriptor := own_method(type(found), "__set__"):
            study.run_function(descriptor, [Value(SHARED, found, f"{kind.__name__}.{name}"), target, value])
        study.operate(target, "__setattr__", Value(thing=name), value)
    if target.place == FRESH and kind is not None and target is not PLAIN and target is not NULL:
        if target.fields is None:
            target.fields = {}
        before = target.fields.get(name)
        target.fields[name] = joined(before, value) if before else value


def element(frame: Frame, target: Value, key: Value, value: Value, how: str = "item assignment") -> None:
    """`target[key] = value`."""
    study = frame.study
    if study.operate(target, "__setitem__", key, value) is not None:
        return
    trace = study.write(target, how)
    if trace is not None and trace.kind == "write" and isinstance(target.thing, dict):
        frame.entries.append((target, value, trace))
    target.put(value)


def _laziness(frame: Frame, name: str, value: Value, now: object) -> str:
    """ "lazy" if this sets up, for all items alike, something that was tested before and is set by now."""
    own = ITEM not in value.origin and name not in value.origin
    is_set = now is not UNKNOWN and now is not None and now is not False
    return "lazy" if own and is_set and name in frame.tested else ""
