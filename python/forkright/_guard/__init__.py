"""The guard: whether a function plainly writes state that its caller shares, told from its bytecode before it
moves.

`plan="auto"` calls `check` when it is about to move work to worker processes, and imports this package only
then. Without it a worker would change its own copy of a list, and the caller would never see it.

How it works: the function is read as if it ran (`study`, `frame`), but with values of which it is known only
where they came from (`value`): made by the call, handed in as an argument, or shared with the rest of the
program. Names resolve to the real objects of this program, so helpers, methods, properties and operators are
followed (`attribute`, `call`), and library code is known by name (`library`, `names`). What is written to an
argument or to something shared leaves a trace; `excuse` forgives what nobody would miss, and `sentence` puts
the rest into words.

No function of the program is run; only a class that overrides `__getattribute__` or `__class__` may notice
the look.
"""

from __future__ import annotations

from functools import partial
from types import CodeType, FunctionType, MethodType

from .. import _functions
from . import flow, loads, operators, sentence
from .excuse import SEED, Excuses
from .opinion import Finding, Opinion
from .project import class_attribute, name_of, underlying, wrapped
from .study import Study
from .value import UNKNOWN

__all__ = ["SEED", "UNKNOWN", "Finding", "Opinion", "check"]

READERS = (flow, loads, operators)  # importing them fills the table of opcodes
WRAPPERS = 8  # around a function that are looked through


def check(fn: object, args: tuple[object, ...], besides: tuple[CodeType, ...] = ()) -> Opinion:
    """What there is against calling `fn(*args)` in another process. Takes 20 ms at most.

    An argument may be `UNKNOWN`. `besides` is code that will run when `fn` is called, though it does not run now.
    """
    study = Study()
    try:
        study.begin(fn, args)
    except Exception as error:
        study.doubt(f"the guard failed to read it ({error!r})")
    return judge(fn, study, besides)


def judge(fn: object, study: Study, besides: tuple[CodeType, ...] = ()) -> Opinion:
    """The opinion that follows from what a study found."""
    function = _function_of(fn)
    who = name_of(fn) or name_of(function)
    if who in ("", "__call__"):
        # Of an instance, whose class it is says more.
        who = _functions.name_of(fn)
    excuses = Excuses(study, function.__globals__ if function else {}, besides)
    findings: list[Finding] = []
    notes = dict(study.notes)
    for trace in study.traces.values():
        excuse, objection = excuses.of(trace)
        if excuse:
            notes[excuse] = None
        else:
            findings.append(sentence.of_trace(who, trace, objection))
    findings += [sentence.of_output(who, deed) for deed in excuses.outputs()]
    return Opinion(tuple(findings), tuple(notes), tuple(study.doubts), tuple(study.variables))


def _function_of(fn: object) -> FunctionType | None:
    """The Python function that runs when `fn` is called, through methods, partials and caches."""
    for _ in range(WRAPPERS):
        if isinstance(fn, FunctionType):
            return fn
        if isinstance(fn, partial):
            fn = fn.func
        else:
            fn = wrapped(fn) or (
                underlying(fn) if isinstance(fn, MethodType) else class_attribute(type(fn), "__call__")
            )
    return None
