"""The instructions of a code object: decoded from `co_code` with a table, since `dis` costs 6 ms to import.

Read by `frame`, once per code object and check. Opcodes differ between versions of CPython, so whatever is
not in the table counts as unknown there, and a function that has one is not proven.
"""

from __future__ import annotations

import sys
from opcode import opmap, opname
from types import CodeType

VERSION = sys.version_info[:2]
EXTENDED_ARG = opmap["EXTENDED_ARG"]
CACHE = opmap.get("CACHE", 0)


class Handler:
    """Where an exception goes from a range of instructions, and how much of the stack it finds there."""

    __slots__ = ("depth", "pushes_offset", "target")

    def __init__(self, target: int, depth: int, pushes_offset: bool) -> None:
        self.target = target
        self.depth = depth
        self.pushes_offset = pushes_offset


class Instructions:
    """One code object, ready to be stepped through."""

    __slots__ = ("code", "handlers", "locals", "steps")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        cells = tuple(name for name in code.co_cellvars if name not in code.co_varnames)
        self.locals: tuple[str, ...] = code.co_varnames + cells + code.co_freevars
        self.steps: dict[int, tuple[int, int, int]] = _steps(code.co_code)
        self.handlers: dict[int, Handler] = _handlers(code.co_exceptiontable)

    def loads(self, name: str) -> bool:
        """Whether this code reads a global or an attribute of that name."""
        return any(self.named(offset) == name for offset, step in self.steps.items() if step[0] in _LOADS)

    def stores_attribute(self, name: str) -> bool:
        """Whether this code assigns an attribute of that name."""
        store = opmap["STORE_ATTR"]
        return any(op == store and self.code.co_names[arg] == name for op, arg, _ in self.steps.values())

    def named(self, offset: int) -> str:
        """The name that a load at `offset` uses."""
        op, argument, _ = self.steps[offset]
        shift = _LOADS[op]
        return self.code.co_names[argument >> shift]


_SHIFTS = {
    "LOAD_NAME": 0,
    "LOAD_GLOBAL": 1,
    "LOAD_ATTR": 1 if VERSION >= (3, 12) else 0,
    "LOAD_METHOD": 0,
}
_LOADS = {opmap[name]: shift for name, shift in _SHIFTS.items() if opmap.get(name, 256) < 256}


def _steps(code: bytes) -> dict[int, tuple[int, int, int]]:
    """Offset -> (opcode, argument, offset of the next instruction), inline caches skipped."""
    steps: dict[int, tuple[int, int, int]] = {}
    offset, extended, end = 0, 0, len(code)
    while offset < end:
        op, argument = code[offset], code[offset + 1] | extended
        following = offset + 2
        while following < end and code[following] == CACHE:
            following += 2
        extended = argument << 8 if op == EXTENDED_ARG else 0
        steps[offset] = (op, argument, following)
        offset = following
    return steps


def _handlers(table: bytes) -> dict[int, Handler]:
    """Offset -> handler, from the varints of the exception table (Objects/exception_handling_notes.txt)."""
    handlers: dict[int, Handler] = {}
    numbers: list[int] = []
    value = 0
    for byte in table:
        value = value << 6 | byte & 63
        if not byte & 64:
            numbers.append(value)
            value = 0
    for entry in range(0, len(numbers) - 3, 4):
        start, length, target, depth = numbers[entry : entry + 4]
        handler = Handler(target * 2, depth >> 1, bool(depth & 1))
        for offset in range(start * 2, (start + length) * 2, 2):
            handlers[offset] = handler
    return handlers


def name_of(op: int) -> str:
    """The name of an opcode."""
    return opname[op]
