"""The table of what each opcode does to a frame, filled by `flow`, `loads` and `operators`.

Indexed by `Frame.read`. An opcode without an entry is not known: the function that has it is not proven.
"""

from __future__ import annotations

from opcode import opmap

from .instructions import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .frame import Frame

    # returns True when the next instruction is not reached from here
    Act = Callable[[Frame, int], "bool | None"]

NEWEST = (3, 13)  # later versions gave known names another meaning: there every opcode is unknown

TABLE: list[Act | None] = [None] * 256


def opcode(*names: str) -> Callable[[Act], Act]:
    """Enter a function for the opcodes of these names, as far as this version of CPython has them."""

    def enter(act: Act) -> Act:
        for name in names:
            number = opmap.get(name, 256)
            if number < 256 and VERSION <= NEWEST:
                TABLE[number] = act
        return act

    return enter
