"""Findings in words: who does what to which name, where, what a process would lose, and what is done about
it.

Called when an opinion is made. Nobody should have to read the program again to understand why work stayed.
"""

from __future__ import annotations

import os.path

from .opinion import Finding
from .value import UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .study import Trace

_DEEDS = {
    "write": "changes {what}",
    "argument": "changes its argument {name}",
    "lock": "uses the {type} {name}",
    "handle": "uses the open {type} {name}",
    "local": "changes the thread-local {name}",
    "generator": "draws from the generator {name}",
    "process": "changes the process itself with {name}",
}
_LOSSES = {
    "write": "in a process that write would be lost",
    "argument": "a process would change only a copy",
    "lock": "a process would have one of its own, tied to nothing here",
    "handle": "a process would have no such handle, or one of its own",
    "local": "in a process that write would be lost",
    "generator": "processes would draw other numbers",
    "process": "only the worker process would change",
    "output": "in a process that output would be lost",
}
_ENDING = "so the work stays in this process (`shared_state=False` would let it leave)."


def of_trace(who: str, trace: Trace, objection: str) -> Finding:
    """The finding for a trace that is not excused. `objection` says more than its kind does."""
    name = trace.value.name or "an item"
    file = trace.code.co_filename if trace.code else ""
    how = "" if objection else trace.how
    place = f"{os.path.basename(file)}:{trace.line}" if file else ""
    inner = f"in `{trace.code.co_name}`" if trace.code and trace.code.co_name != who else ""
    where = ", ".join(one for one in (how, place, inner) if one)
    deed = objection or _DEEDS[trace.kind].format(
        what=_what(trace), name=f"`{name}`", type=type(trace.value.thing).__name__
    )
    sentence = f"`{who}` {deed}{f' ({where})' if where else ''}; {_LOSSES[trace.kind]}, {_ENDING}"
    return Finding(trace.kind, sentence, name, file, trace.line)


def of_output(who: str, deed: str) -> Finding:
    """The finding for output that would not arrive."""
    return Finding("output", f"`{who}` {deed}; {_LOSSES['output']}, {_ENDING}", "", "", 0)


def _what(trace: Trace) -> str:
    """`the global dict STATE`, as far as that is known."""
    name, thing = trace.value.name, trace.value.thing
    words = []
    if name.isidentifier() and trace.code is not None:
        words.append("captured" if name in trace.code.co_freevars else "global")
    if thing is not UNKNOWN and thing is not None and not trace.how.startswith("assigns"):
        words.append(type(thing).__name__)
    return f"the {' '.join(words)} `{name}`" if words else f"`{name}`"
