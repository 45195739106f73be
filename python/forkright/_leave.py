"""Whether work may leave for worker processes: imported only when a move is near."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Tried = tuple[float, int]  # what pickling took: seconds, and the bytes it came to

_LOST = (
    "`{}` reads the context variable `{}`, whose value does not travel to other processes, so the work stays in this "
    "one; named by `context=[...]`, it travels, or it is told why it can't"
)

# Pickling that takes less than this, s, may be mostly the start of a pickler.
_SHORT = 1e-4

# The shortest of so many tries is what it takes.
_TRIES = 5


def consider(
    fn: Callable[..., Any], arguments: tuple[Any, ...], result: object, guarded: bool
) -> tuple[str | None, Tried | None, Tried | None, int, str | None]:
    """Why calls of `fn` with such arguments must stay in this process, in one sentence; None if nothing was found.

    Then also what pickling the arguments took, and what pickling such a result took, unless it is None; and how many
    modules a worker process would import; and what its user may like to know of its random numbers. If not `guarded`,
    the caller answers for shared state, and only what can't be pickled is found.
    """
    from . import _functions, _guard, _imports, _pickling

    name, draws = _functions.name_of(fn), None
    try:
        if guarded:
            opinion = _guard.check(fn, arguments)
            if opinion.findings:
                return opinion.findings[0].sentence, None, None, 0, None
            draws = next((f"`{name}` {note}" for note in opinion.notes if _guard.SEED in note), None)
            bound = _functions.bound_to_context(fn)
            if bound is not None and (lost := bound.lost(opinion.variables)) is not None:
                return _LOST.format(name, lost), None, None, 0, None
        _functions.describe(fn)
        there = _try(arguments, f"the arguments of `{name}`")
        back = None if result is None else _try(result, f"the result of `{name}`")
    except _pickling.UnpicklableError as error:
        return str(error), None, None, 0, None
    return None, there, back, _imports.count(fn, arguments), draws


def _try(obj: object, role: str) -> Tried:
    from . import _pickling

    def encode(what: object) -> tuple[float, int]:
        buffers: list[Any] = []
        began = time.perf_counter()
        stream = _pickling.encode(what, buffers, role)
        took = time.perf_counter() - began
        return took, len(stream) + sum(buffer.raw().nbytes for buffer in buffers)

    took, size = encode(obj)
    if took < _SHORT:
        # Small items travel many at a time: what starting a pickler takes is not theirs, nor what the first one takes.
        # The difference may be less than what one try differs from the next.
        own, start = (min(encode(what)[0] for _ in range(_TRIES)) for what in (obj, None))
        took = max(0.0, own - start)
    return took, size
