"""One call being read: a stack, locals, and the states in which every instruction can be reached.

`Study.run` makes one per function and kind of arguments; the table says what each instruction does to it.
Branches are both taken and their states joined, so a list that is shared on one path is shared afterwards.
"""

from __future__ import annotations

from functools import reduce

from .instructions import name_of
from .table import TABLE
from .value import (
    ARGUMENT,
    PLAIN,
    SHARED,
    Cell,
    Closure,
    Value,
    alike,
    container,
    gathered,
    joined,
    looked_up,
    part,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .study import Study, Trace

VISITS = 3  # of one instruction with a state that tells something new
GENERATOR, COLLECTS_POSITIONAL, COLLECTS_KEYWORDS = 0x20 | 0x200, 4, 8

State = tuple[list[Value], list["Value | None"]]


class Frame:
    """The call that is being read now."""

    def __init__(self, study: Study, closure: Closure, arguments: list[Value], keywords: dict[str, Value]) -> None:
        self.study = study
        self.closure = closure
        self.code = closure.code
        self.instructions = study.instructions(closure.code)
        self.offset = self.following = 0
        self.stack: list[Value] = []
        self.locals = self.parameters = self._bind(arguments, keywords)
        self.stored = False  # whether the last instruction changed a local
        self.keyword_names: tuple[str, ...] = ()
        self.names: dict[str, Value] = {}  # of a class body
        self.tested: set[str] = set()  # names whose truth or presence was looked at
        self.looked_up: set[str] = set()  # mappings in which a key was looked up
        self.entries: list[tuple[Value, Value, Trace]] = []  # container[...] = value
        self.returned: list[Value] = []
        self.yielded: list[Value] = []
        self._states: dict[int, State] = {0: ([], list(self.locals))}
        self._visits: dict[int, int] = {}
        self._pending = [0]

    def _bind(self, arguments: list[Value], keywords: dict[str, Value]) -> list[Value | None]:
        """The locals with which the call begins."""
        code, closure = self.code, self.closure
        count, names = code.co_argcount, code.co_varnames
        bound: list[Value | None] = [None] * len(self.instructions.locals)
        rest = part(keywords["**"]) if "**" in keywords else PLAIN
        for index in range(count + code.co_kwonlyargcount):
            name, default = names[index], index - (count - len(closure.defaults))
            if index < count and index < len(arguments):
                value = arguments[index]
            elif name in keywords:
                value = keywords[name]
            elif rest is not PLAIN:
                value = rest
            elif 0 <= default < len(closure.defaults):
                value = closure.defaults[default]
            else:
                value = closure.keyword_defaults.get(name, PLAIN)
            if value.place == ARGUMENT and not value.name:
                value = Value(ARGUMENT, value.thing, name, kind=value.kind, origin=value.origin)
            bound[index] = value
        index = count + code.co_kwonlyargcount
        if code.co_flags & COLLECTS_POSITIONAL:
            extra = tuple(arguments[count:])
            bound[index] = Value(kind=tuple, parts=extra or None, origin=gathered(extra))
            index += 1
        if code.co_flags & COLLECTS_KEYWORDS:
            more = [value for name, value in keywords.items() if name not in names[: index - 1] and name != "**"]
            if rest is not PLAIN:
                more.append(rest)
            bound[index] = container(dict, reduce(joined, more) if more else None, gathered(more))
        return bound

    # -- used by the opcodes

    def push(self, value: Value) -> None:
        """Push onto the stack."""
        self.stack.append(value)

    def pop(self) -> Value:
        """Pop from the stack."""
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Value]:
        """Pop `count` values, in the order in which they were pushed."""
        if not count:
            return []
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def line(self) -> int:
        """The line of the program that is being read."""
        for start, end, number in self.code.co_lines():
            if start <= self.offset < end:
                return number or 0
        return 0

    def cell(self, index: int) -> Cell:
        """The closure cell in a local."""
        box = self.locals[index]
        if box is None or not isinstance(box.callee, Cell):
            box = self.locals[index] = Value(callee=Cell(box or PLAIN))
        assert isinstance(box.callee, Cell)
        return box.callee

    def flow_to(self, target: int, stack: list[Value] | None = None) -> None:
        """The instruction at `target` may come next, with the state as it is now."""
        if stack is None:
            stack = self.stack
        known = self._states.get(target)
        if known is None:
            self._states[target] = (list(stack), list(self.locals))
            self._pending.append(target)
            return
        old_stack, old_locals = known
        new_stack = [joined(one, other) for one, other in zip(old_stack, stack, strict=True)]
        new_locals = [
            one if other is None or one is other else other if one is None else joined(one, other)
            for one, other in zip(old_locals, self.locals, strict=True)
        ]
        if self._visits.get(target, 0) >= VISITS:
            return
        if all(map(alike, new_stack, old_stack)) and all(map(alike, new_locals, old_locals)):
            return
        self._states[target] = (new_stack, new_locals)
        if target not in self._pending:
            self._pending.append(target)

    # -- reading

    def read(self) -> Value:
        """Read the code to its end and return what it returns."""
        while self._pending:
            offset = self._pending.pop()
            self._visits[offset] = self._visits.get(offset, 0) + 1
            stack, locals = self._states[offset]
            self.stack, self.locals = list(stack), list(locals)
            if not self._read_from(offset):
                break
        self._recognise_memos()
        if self.code.co_flags & GENERATOR:
            return container(None, reduce(joined, self.yielded, PLAIN), gathered(self.yielded))
        return reduce(joined, self.returned) if self.returned else PLAIN

    def _read_from(self, offset: int) -> bool:
        """Read instructions until the flow leaves them; False when there is one that nobody knows."""
        steps, handlers, study = self.instructions.steps, self.instructions.handlers, self.study
        guarded = None
        while offset in steps:
            study.step()
            op, argument, self.following = steps[offset]
            handler = handlers.get(offset)
            if handler is not None and (handler is not guarded or self.stored):
                self.flow_to(handler.target, self.stack[: handler.depth] + [PLAIN] * (1 + handler.pushes_offset))
            guarded = handler
            self.stored = False
            self.offset = offset
            act = TABLE[op]
            if act is None:
                study.doubt(f"`{self.code.co_name}` has an instruction that is not known ({name_of(op)})")
                return False
            if act(self, argument):
                break
            offset = self.following
            if offset in self._states:
                self.flow_to(offset)
                break
        return True

    def global_value(self, name: str) -> Value | None:
        """The object that a global name stands for now."""
        globals = self.closure.globals
        if name in globals:
            return looked_up(globals[name], name)
        builtins = globals.get("__builtins__", {})
        names = builtins if isinstance(builtins, dict) else vars(builtins)
        return Value(SHARED, names[name], name) if name in names else None

    def _recognise_memos(self) -> None:
        """Mark `d[k] = v` as a memo where `k` is looked up first, `v` is not from `d`, and the result is."""
        results = [one for one in self.returned if one.thing is not None]
        for store, stored, trace in self.entries:
            name = store.name
            if name not in self.looked_up or name in stored.origin or not results:
                continue
            if all(one is stored or name in one.origin or one.name.startswith(f"{name}[") for one in results):
                trace.excuse = "memo"
