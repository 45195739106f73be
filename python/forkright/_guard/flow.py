"""Opcodes that decide what comes next: jumps, loops, returns, exceptions, generators and `with`."""

from __future__ import annotations

from .frame import Frame
from .instructions import VERSION
from .names import nature
from .project import own_method
from .table import opcode
from .value import PLAIN, Value, container, keys_of, part


def test(frame: Frame, value: Value) -> None:
    """The truth of `value`, or whether it is None, decides."""
    frame.study.operate(value, "__bool__")
    if value.name:
        frame.tested.add(value.name)


@opcode("JUMP_FORWARD")
def jump_forward(frame: Frame, distance: int) -> bool:
    frame.flow_to(frame.following + 2 * distance)
    return True


@opcode("JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
def jump_backward(frame: Frame, distance: int) -> bool:
    frame.flow_to(frame.following - 2 * distance)
    return True


@opcode(
    *("POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE"),
    *("POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_FORWARD_IF_FALSE"),
    *("POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE"),
)
def pop_jump_forward(frame: Frame, distance: int) -> None:
    test(frame, frame.pop())
    frame.flow_to(frame.following + 2 * distance)


@opcode(
    *("POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE"),
    *("POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE"),
)
def pop_jump_backward(frame: Frame, distance: int) -> None:
    test(frame, frame.pop())
    frame.flow_to(frame.following - 2 * distance)


@opcode("JUMP_IF_FALSE_OR_POP", "JUMP_IF_TRUE_OR_POP")
def jump_or_pop(frame: Frame, distance: int) -> None:
    frame.flow_to(frame.following + 2 * distance)
    test(frame, frame.pop())


@opcode("GET_ITER", "GET_AITER")
def get_iter(frame: Frame, argument: int) -> None:
    value = frame.pop()
    study = frame.study
    if value.place and nature(value.kind) == "handle":
        study.trace("handle", value, "iteration")
    study.take(value)
    made = study.operate(value, "__iter__")
    found = part(made) if made is not None and made.carries() else keys_of(value)
    advanced = study.operate(made if made is not None else value, "__next__")
    frame.push(container(None, advanced if advanced is not None else found, found.origin))


@opcode("FOR_ITER")
def for_iter(frame: Frame, distance: int) -> None:
    stack = frame.stack
    exhausted = stack[:-1] if VERSION < (3, 12) else [*stack, PLAIN]
    frame.flow_to(frame.following + 2 * distance, exhausted)
    frame.push(part(stack[-1]))


@opcode("END_FOR")
def end_for(frame: Frame, argument: int) -> None:
    frame.pop_many(2 if VERSION == (3, 12) else 1)


@opcode("SEND")
def send(frame: Frame, distance: int) -> None:
    receiver = frame.stack[-2]
    kept = frame.stack[:-1] if VERSION >= (3, 12) else frame.stack[:-2]
    frame.flow_to(frame.following + 2 * distance, [*kept, receiver])
    frame.stack[-1] = part(receiver)


@opcode("END_SEND")
def end_send(frame: Frame, argument: int) -> None:
    del frame.stack[-2]


@opcode("CLEANUP_THROW")
def cleanup_throw(frame: Frame, argument: int) -> None:
    frame.pop_many(3)
    frame.stack += (PLAIN, PLAIN)


@opcode("GET_ANEXT")
def get_anext(frame: Frame, argument: int) -> None:
    frame.push(part(frame.stack[-1]))


@opcode("END_ASYNC_FOR")
def end_async_for(frame: Frame, argument: int) -> None:
    frame.pop_many(2)


@opcode("RETURN_VALUE")
def return_value(frame: Frame, argument: int) -> bool:
    frame.returned.append(frame.pop())
    return True


@opcode("RETURN_CONST")
def return_const(frame: Frame, index: int) -> bool:
    frame.returned.append(Value(thing=frame.code.co_consts[index]))
    return True


@opcode("RETURN_GENERATOR", "PUSH_EXC_INFO", "WITH_EXCEPT_START")
def push_plain(frame: Frame, argument: int) -> None:
    frame.push(PLAIN)


@opcode("YIELD_VALUE")
def yield_value(frame: Frame, argument: int) -> None:
    frame.yielded.append(frame.pop())
    frame.push(PLAIN)


@opcode("RAISE_VARARGS", "RERAISE")
def leave(frame: Frame, argument: int) -> bool:
    return True


@opcode("CHECK_EXC_MATCH")
def check_exc_match(frame: Frame, argument: int) -> None:
    frame.stack[-1] = PLAIN


@opcode("CHECK_EG_MATCH")
def check_eg_match(frame: Frame, argument: int) -> None:
    frame.stack[-2:] = (PLAIN, PLAIN)


@opcode("PREP_RERAISE_STAR")
def prep_reraise_star(frame: Frame, argument: int) -> None:
    frame.pop_many(2)
    frame.push(PLAIN)


@opcode("BEFORE_WITH")
def before_with(frame: Frame, argument: int) -> None:
    _enter(frame, "__enter__", "__exit__")


@opcode("BEFORE_ASYNC_WITH")
def before_async_with(frame: Frame, argument: int) -> None:
    _enter(frame, "__aenter__", "__aexit__")


def _enter(frame: Frame, enter: str, leave: str) -> None:
    value = frame.pop()
    study = frame.study
    if value.place and nature(value.kind) == "lock":
        study.trace("lock", value, "`with`")
    elif value.place and nature(value.kind) == "handle":
        study.trace("handle", value, "`with`")
    exits = own_method(value.kind, leave)
    if exits is not None:
        study.run_function(exits, [value, PLAIN, PLAIN, PLAIN])
    frame.push(PLAIN)  # the exit, read here once for all the ways out
    entered = study.operate(value, enter)
    if entered is None:
        entered = part(value) if value.kind is None and value.inside else value
    frame.push(entered)
