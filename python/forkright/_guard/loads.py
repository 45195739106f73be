"""Opcodes that move values: constants, locals, cells, globals, attributes, and the stack itself."""

from __future__ import annotations

import sys

from . import store
from .frame import Frame
from .instructions import VERSION
from .table import opcode
from .value import NULL, PLAIN, SHARED, Cell, Super, Value


@opcode("NOP", "RESUME", "CACHE", "PRECALL", "EXTENDED_ARG", "SETUP_ANNOTATIONS", "ASYNC_GEN_WRAP", "TO_BOOL")
def nothing(frame: Frame, argument: int) -> None:
    pass


@opcode("POP_TOP", "POP_EXCEPT", "PRINT_EXPR", "IMPORT_STAR")
def pop_top(frame: Frame, argument: int) -> None:
    frame.pop()


@opcode("PUSH_NULL")
def push_null(frame: Frame, argument: int) -> None:
    frame.push(NULL)


@opcode("COPY")
def copy(frame: Frame, depth: int) -> None:
    frame.push(frame.stack[-depth])


@opcode("SWAP")
def swap(frame: Frame, depth: int) -> None:
    stack = frame.stack
    stack[-1], stack[-depth] = stack[-depth], stack[-1]


@opcode("LOAD_CONST")
def load_const(frame: Frame, index: int) -> None:
    frame.push(Value(thing=frame.code.co_consts[index]))


@opcode("LOAD_ASSERTION_ERROR", "LOAD_LOCALS", "GET_LEN", "MATCH_MAPPING", "MATCH_SEQUENCE")
def push_plain(frame: Frame, argument: int) -> None:
    frame.push(PLAIN)


@opcode("LOAD_BUILD_CLASS")
def load_build_class(frame: Frame, argument: int) -> None:
    frame.push(Value(SHARED, __build_class__, "class"))


@opcode("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_CLOSURE")
def load_fast(frame: Frame, index: int) -> None:
    frame.push(frame.locals[index] or PLAIN)


@opcode("LOAD_FAST_AND_CLEAR")
def load_fast_and_clear(frame: Frame, index: int) -> None:
    frame.push(frame.locals[index] or PLAIN)
    frame.locals[index] = None


@opcode("LOAD_FAST_LOAD_FAST")
def load_fast_load_fast(frame: Frame, pair: int) -> None:
    load_fast(frame, pair >> 4)
    load_fast(frame, pair & 15)


@opcode("STORE_FAST")
def store_fast(frame: Frame, index: int) -> None:
    frame.locals[index] = frame.pop()
    frame.stored = True


@opcode("STORE_FAST_LOAD_FAST")
def store_fast_load_fast(frame: Frame, pair: int) -> None:
    store_fast(frame, pair >> 4)
    load_fast(frame, pair & 15)


@opcode("STORE_FAST_STORE_FAST")
def store_fast_store_fast(frame: Frame, pair: int) -> None:
    store_fast(frame, pair >> 4)
    store_fast(frame, pair & 15)


@opcode("DELETE_FAST")
def delete_fast(frame: Frame, index: int) -> None:
    frame.locals[index] = None


@opcode("MAKE_CELL")
def make_cell(frame: Frame, index: int) -> None:
    frame.locals[index] = Value(callee=Cell(frame.locals[index] or PLAIN))


@opcode("COPY_FREE_VARS")
def copy_free_vars(frame: Frame, count: int) -> None:
    cells = frame.closure.cells
    for index, cell in enumerate(cells):
        frame.locals[len(frame.locals) - count + index] = Value(callee=cell)


@opcode("LOAD_DEREF", "LOAD_CLASSDEREF")
def load_deref(frame: Frame, index: int) -> None:
    frame.push(frame.cell(index).value)


@opcode("LOAD_FROM_DICT_OR_DEREF")
def load_from_dict_or_deref(frame: Frame, index: int) -> None:
    frame.pop()
    frame.push(frame.cell(index).value)


@opcode("STORE_DEREF")
def store_deref(frame: Frame, index: int) -> None:
    store.cell(frame, frame.cell(index), frame.pop())


@opcode("DELETE_DEREF")
def delete_deref(frame: Frame, index: int) -> None:
    store.cell(frame, frame.cell(index), PLAIN, "`del` of a nonlocal")


@opcode("LOAD_GLOBAL")
def load_global(frame: Frame, argument: int) -> None:
    if argument & 1:
        frame.push(NULL)
    frame.push(frame.global_value(frame.code.co_names[argument >> 1]) or PLAIN)
    if argument & 1 and VERSION >= (3, 13):
        swap(frame, 2)


@opcode("LOAD_NAME")
def load_name(frame: Frame, index: int) -> None:
    name = frame.code.co_names[index]
    frame.push(frame.names.get(name) or frame.global_value(name) or PLAIN)


@opcode("LOAD_FROM_DICT_OR_GLOBALS")
def load_from_dict_or_globals(frame: Frame, index: int) -> None:
    frame.pop()
    load_name(frame, index)


@opcode("STORE_NAME")
def store_name(frame: Frame, index: int) -> None:
    frame.names[frame.code.co_names[index]] = frame.pop()


@opcode("DELETE_NAME")
def delete_name(frame: Frame, index: int) -> None:
    frame.names.pop(frame.code.co_names[index], None)


@opcode("STORE_GLOBAL")
def store_global(frame: Frame, index: int) -> None:
    store.global_name(frame, frame.code.co_names[index], frame.pop())


@opcode("DELETE_GLOBAL")
def delete_global(frame: Frame, index: int) -> None:
    store.global_name(frame, frame.code.co_names[index], PLAIN, "`del` of a global")


def _push_callable(frame: Frame, value: Value) -> None:
    if VERSION < (3, 13):
        frame.push(NULL)
        frame.push(value)
    else:
        frame.push(value)
        frame.push(NULL)


@opcode("LOAD_METHOD")
def load_method(frame: Frame, index: int) -> None:
    _push_callable(frame, frame.study.attribute(frame.pop(), frame.code.co_names[index]))


@opcode("LOAD_ATTR")
def load_attr(frame: Frame, argument: int) -> None:
    if VERSION < (3, 12):
        frame.push(frame.study.attribute(frame.pop(), frame.code.co_names[argument]))
        return
    value = frame.study.attribute(frame.pop(), frame.code.co_names[argument >> 1])
    if argument & 1:
        _push_callable(frame, value)
    else:
        frame.push(value)


@opcode("LOAD_SUPER_ATTR")
def load_super_attr(frame: Frame, argument: int) -> None:
    receiver, after, _ = frame.pop(), frame.pop(), frame.pop()
    value = frame.study.attribute(Value(callee=Super(receiver, after)), frame.code.co_names[argument >> 2])
    if argument & 1:
        _push_callable(frame, value)
    else:
        frame.push(value)


@opcode("STORE_ATTR")
def store_attr(frame: Frame, index: int) -> None:
    target, value = frame.pop(), frame.pop()
    store.attribute(frame, target, frame.code.co_names[index], value)


@opcode("DELETE_ATTR")
def delete_attr(frame: Frame, index: int) -> None:
    target = frame.pop()
    frame.study.operate(target, "__delattr__", PLAIN)
    frame.study.write(target, f"`del .{frame.code.co_names[index]}`")


@opcode("IMPORT_NAME")
def import_name(frame: Frame, index: int) -> None:
    wanted, level = frame.pop().thing, frame.pop().thing
    name = frame.code.co_names[index]
    if isinstance(level, int) and level:
        package = str(frame.closure.globals.get("__package__") or "")
        parents = package.split(".")[: package.count(".") + 2 - level]
        name = ".".join((*parents, name)) if name else ".".join(parents)
    elif not wanted and name in sys.modules:
        name = name.partition(".")[0]
    module = sys.modules.get(name)
    if module is None:
        frame.study.doubt(f"`{name}` is not imported yet, so what it does was not read")
    frame.push(Value(SHARED, module, name) if module else PLAIN)


@opcode("IMPORT_FROM")
def import_from(frame: Frame, index: int) -> None:
    frame.push(frame.study.attribute(frame.stack[-1], frame.code.co_names[index]))
