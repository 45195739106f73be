"""Opcodes that compute: operators, subscripts, building and unpacking of containers, functions and calls."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from functools import reduce

from . import store
from .callback import arity
from .flow import test
from .frame import Frame
from .instructions import VERSION
from .project import class_attribute
from .table import opcode
from .value import (
    NULL,
    PLAIN,
    Cell,
    Closure,
    Super,
    Value,
    container,
    gathered,
    is_array,
    is_frame,
    joined,
    part,
    real,
)

_OPERATORS = (
    *("add", "and", "floordiv", "lshift", "matmul", "mul", "mod"),
    *("or", "pow", "rshift", "sub", "truediv", "xor"),
)
_COMPARISONS = ("__lt__", "__le__", "__eq__", "__ne__", "__gt__", "__ge__")
_COMPARISON_SHIFT = {(3, 11): 0, (3, 12): 4}.get(VERSION, 5)


@opcode("UNARY_POSITIVE", "UNARY_NEGATIVE", "UNARY_INVERT", "CONVERT_VALUE", "FORMAT_SIMPLE")
def unary(frame: Frame, argument: int) -> None:
    frame.push(Value(origin=frame.pop().origin))


@opcode("UNARY_NOT")
def unary_not(frame: Frame, argument: int) -> None:
    test(frame, frame.stack[-1])
    unary(frame, argument)


@opcode("GET_AWAITABLE", "GET_YIELD_FROM_ITER", "LIST_TO_TUPLE", "CALL_INTRINSIC_1")
def unchanged(frame: Frame, argument: int) -> None:
    pass


@opcode("CALL_INTRINSIC_2")
def call_intrinsic_2(frame: Frame, argument: int) -> None:
    frame.pop()


@opcode("FORMAT_VALUE")
def format_value(frame: Frame, flags: int) -> None:
    if flags & 4:
        frame.pop()
    unary(frame, flags)


@opcode("FORMAT_WITH_SPEC")
def format_with_spec(frame: Frame, argument: int) -> None:
    frame.pop()
    unary(frame, argument)


@opcode("BINARY_OP")
def binary_op(frame: Frame, number: int) -> None:
    right, left = frame.pop(), frame.pop()
    study = frame.study
    name = _OPERATORS[number % len(_OPERATORS)]
    if number >= len(_OPERATORS):
        in_place = f"__i{name}__"
        result = study.operate(left, in_place, right)
        if result is not None:
            frame.push(result)
            return
        if left.kind is not None and class_attribute(left.kind, in_place):
            study.write(left, "in-place operator")
            left.put(part(right))
            frame.push(left)
            return
    result = study.operate(left, f"__{name}__", right)
    if result is None:
        result = study.operate(right, f"__r{name}__", left)
    if result is not None:
        frame.push(result)
        return
    origin = left.origin | right.origin
    array = next((one.kind for one in (left, right) if is_array(one.kind)), None)
    if array is not None:
        frame.push(Value(kind=array, origin=origin))
    else:  # `+` of sequences: the parts are those of both
        parts = [part(one) for one in (left, right) if one.carries()]
        frame.push(container(None, reduce(joined, parts) if parts else None, origin))


@opcode("COMPARE_OP")
def compare_op(frame: Frame, number: int) -> None:
    right, left = frame.pop(), frame.pop()
    frame.study.operate(left, _COMPARISONS[number >> _COMPARISON_SHIFT], right)
    if left.name:
        frame.tested.add(left.name)
    arrays = (one.kind for one in (left, right) if is_array(one.kind) or is_frame(one.kind))
    frame.push(Value(kind=next(arrays, None), origin=left.origin | right.origin))


@opcode("IS_OP")
def is_op(frame: Frame, argument: int) -> None:
    right, left = frame.pop(), frame.pop()
    if left.name:
        frame.tested.add(left.name)
    frame.push(Value(origin=left.origin | right.origin))


@opcode("CONTAINS_OP")
def contains_op(frame: Frame, argument: int) -> None:
    where, what = frame.pop(), frame.pop()
    if where.place:
        frame.looked_up.add(where.name)
        frame.study.take(where)
    frame.study.operate(where, "__contains__", what)
    frame.push(Value(origin=where.origin | what.origin))


@opcode("BINARY_SUBSCR")
def binary_subscr(frame: Frame, argument: int) -> None:
    key, target = frame.pop(), frame.pop()
    frame.push(_element(frame, target, key))


def _element(frame: Frame, target: Value, key: Value) -> Value:
    study, thing = frame.study, target.thing
    result = study.operate(target, "__getitem__", key)
    if result is not None:
        return result
    if not target.place:
        index = key.thing
        if target.parts and isinstance(index, int) and -len(target.parts) <= index < len(target.parts):
            return target.parts[index]
        return part(target).tinged(key.origin)
    study.operate(target, "__missing__", key)
    if isinstance(thing, defaultdict) and thing.default_factory is not None:
        study.write(target, "lookup in a defaultdict")
    if frame.offset in frame.instructions.handlers:
        frame.looked_up.add(target.name)
    if type(thing) in (dict, OrderedDict) and isinstance(key.thing, (str, int)) and key.thing in thing:  # type: ignore[operator]
        found = thing[key.thing]  # type: ignore[index]
        return real(target.place, found, f"{target.name}[{key.thing!r}]", target.origin | {target.name})
    if key.kind is slice:
        return _slice(target)
    if is_array(target.kind) and (key.kind is list or is_array(key.kind)):  # a copy, not a view
        return Value(kind=target.kind, origin=target.origin)
    return part(target).tinged(key.origin)


def _slice(target: Value) -> Value:
    if target.place and is_array(target.kind):
        return Value(target.place, name=target.name, kind=target.kind, origin=target.origin)
    return container(target.kind, part(target), target.origin)


@opcode("BINARY_SLICE")
def binary_slice(frame: Frame, argument: int) -> None:
    start, stop = frame.pop(), frame.pop()
    target = frame.pop()
    bounds = Value(kind=slice, origin=start.origin | stop.origin)
    result = frame.study.operate(target, "__getitem__", bounds)
    frame.push(result if result is not None else _slice(target))


@opcode("STORE_SUBSCR")
def store_subscr(frame: Frame, argument: int) -> None:
    key, target, value = frame.pop(), frame.pop(), frame.pop()
    store.element(frame, target, key, value)


@opcode("STORE_SLICE")
def store_slice(frame: Frame, argument: int) -> None:
    frame.pop_many(2)
    target, value = frame.pop(), frame.pop()
    store.element(frame, target, Value(kind=slice), part(value), "slice assignment")


@opcode("DELETE_SUBSCR")
def delete_subscr(frame: Frame, argument: int) -> None:
    key, target = frame.pop(), frame.pop()
    if frame.study.operate(target, "__delitem__", key) is None:
        frame.study.write(target, "`del` of an item")


@opcode("BUILD_TUPLE")
def build_tuple(frame: Frame, count: int) -> None:
    parts = tuple(frame.pop_many(count))
    frame.push(Value(kind=tuple, parts=parts or None, origin=gathered(parts)))


@opcode("BUILD_LIST")
def build_list(frame: Frame, count: int) -> None:
    _build(frame, list, frame.pop_many(count))


@opcode("BUILD_SET")
def build_set(frame: Frame, count: int) -> None:
    _build(frame, set, frame.pop_many(count))


@opcode("BUILD_MAP")
def build_map(frame: Frame, count: int) -> None:
    _build(frame, dict, frame.pop_many(2 * count))


@opcode("BUILD_CONST_KEY_MAP")
def build_const_key_map(frame: Frame, count: int) -> None:
    frame.pop()
    _build(frame, dict, frame.pop_many(count))


def _build(frame: Frame, kind: type, parts: list[Value]) -> None:
    carrying = [one for one in parts if one.carries()]
    frame.push(container(kind, reduce(joined, carrying) if carrying else None, gathered(parts)))


@opcode("BUILD_STRING")
def build_string(frame: Frame, count: int) -> None:
    frame.push(Value(kind=str, origin=gathered(frame.pop_many(count))))


@opcode("BUILD_SLICE")
def build_slice(frame: Frame, count: int) -> None:
    frame.push(Value(kind=slice, origin=gathered(frame.pop_many(count))))


@opcode("LIST_APPEND", "SET_ADD")
def append(frame: Frame, depth: int) -> None:
    value = frame.pop()
    frame.stack[-depth].put(value)


@opcode("MAP_ADD")
def map_add(frame: Frame, depth: int) -> None:
    value, _ = frame.pop(), frame.pop()
    frame.stack[-depth].put(value)


@opcode("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE")
def extend(frame: Frame, depth: int) -> None:
    values = frame.pop()
    frame.study.take(values)
    frame.stack[-depth].put(part(values))


@opcode("UNPACK_SEQUENCE")
def unpack_sequence(frame: Frame, count: int) -> None:
    value = frame.pop()
    frame.study.take(value)
    if value.parts and len(value.parts) == count:
        frame.stack += reversed(value.parts)
    elif value.place and isinstance(value.thing, tuple) and len(value.thing) == count:
        named = [
            real(value.place, one, f"{value.name}[{index}]", value.origin) for index, one in enumerate(value.thing)
        ]
        frame.stack += reversed(named)
    else:
        frame.stack += [part(value)] * count


@opcode("UNPACK_EX")
def unpack_ex(frame: Frame, counts: int) -> None:
    value = frame.pop()
    frame.study.take(value)
    one = part(value)
    frame.stack += [one] * (counts >> 8)
    frame.push(container(list, one, one.origin))
    frame.stack += [one] * (counts & 255)


@opcode("MATCH_CLASS")
def match_class(frame: Frame, count: int) -> None:
    names, kind, subject = frame.pop().thing, frame.pop().thing, frame.pop()
    matched = class_attribute(kind, "__match_args__") if isinstance(kind, type) else None
    positional = matched[:count] if isinstance(matched, tuple) else ()
    wanted = (*positional, *(names if isinstance(names, tuple) else ()))
    parts = tuple(frame.study.attribute(subject, str(name)) for name in wanted)
    frame.push(Value(kind=tuple, parts=parts or None, inside=None, origin=subject.origin))


@opcode("MATCH_KEYS")
def match_keys(frame: Frame, argument: int) -> None:
    subject = frame.stack[-2]
    frame.push(container(tuple, part(subject), subject.origin))


@opcode("KW_NAMES")
def kw_names(frame: Frame, index: int) -> None:
    frame.keyword_names = frame.code.co_consts[index]


@opcode("CALL")
def call(frame: Frame, count: int) -> None:
    names, frame.keyword_names = frame.keyword_names, ()
    _call(frame, count, names)


@opcode("CALL_KW")
def call_kw(frame: Frame, count: int) -> None:
    names = frame.pop().thing
    _call(frame, count, names if isinstance(names, tuple) else ())


def _call(frame: Frame, count: int, names: tuple[str, ...]) -> None:
    arguments = frame.pop_many(count)
    second, first = frame.pop(), frame.pop()
    callee = second if first is NULL else first
    if first is not NULL and second is not NULL:
        arguments = [second, *arguments]
    keywords: dict[str, Value] = {}
    if names:
        keywords = dict(zip(names, arguments[-len(names) :], strict=True))
        arguments = arguments[: -len(names)]
    if callee.thing is super and not arguments:
        frame.push(_super(frame))
    else:
        frame.push(frame.study.call(callee, arguments, keywords))


def _super(frame: Frame) -> Value:
    receiver = frame.parameters[0] if frame.parameters else None
    names = frame.code.co_freevars
    after = frame.closure.cells[names.index("__class__")].value if "__class__" in names else PLAIN
    return Value(name="super()", callee=Super(receiver or PLAIN, after))


@opcode("CALL_FUNCTION_EX")
def call_function_ex(frame: Frame, flags: int) -> None:
    keywords = {"**": frame.pop()} if flags & 1 else {}
    spread = frame.pop()
    second, first = frame.pop(), frame.pop()
    callee = first if second is NULL else second
    frame.study.take(spread)
    if spread.parts:
        arguments = list(spread.parts)
    elif spread.carries() or spread.kind is not tuple:
        arguments = [part(spread)] * (arity(callee) or 1)
    else:
        arguments = []
    frame.push(frame.study.call(callee, arguments, {name: one for name, one in keywords.items() if one.carries()}))


@opcode("MAKE_FUNCTION")
def make_function(frame: Frame, flags: int) -> None:
    code = frame.pop().thing
    cells = defaults = None
    if VERSION < (3, 13):
        cells = frame.pop() if flags & 8 else None
        frame.pop_many(bool(flags & 4) + bool(flags & 2))
        defaults = frame.pop() if flags & 1 else None
    closure = Closure(code, frame.closure.globals, _cells(cells), _defaults(defaults))  # type: ignore[arg-type]
    frame.push(Value(name=closure.code.co_name, callee=closure))


@opcode("SET_FUNCTION_ATTRIBUTE")
def set_function_attribute(frame: Frame, which: int) -> None:
    function, value = frame.stack[-1], frame.stack[-2]
    del frame.stack[-2]
    if isinstance(function.callee, Closure):
        if which == 8:
            function.callee.cells = _cells(value)
        elif which == 1:
            function.callee.defaults = _defaults(value)


def _cells(boxes: Value | None) -> tuple[Cell, ...]:
    parts = boxes.parts or () if boxes else ()
    return tuple(box.callee for box in parts if isinstance(box.callee, Cell))


def _defaults(given: Value | None) -> tuple[Value, ...]:
    if given is None:
        return ()
    if given.parts:
        return given.parts
    return (PLAIN,) * len(given.thing) if isinstance(given.thing, tuple) else ()
