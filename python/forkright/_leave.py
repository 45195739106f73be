"""Whether work may leave for worker processes: imported only when a move is near."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def consider(fn: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str | None, float, int]:
    """Why calls of `fn` with such arguments must stay in this process, in one sentence; None if nothing was found.

    Then also what pickling the arguments took: seconds, and the bytes they came to.
    """
    from . import _functions, _guard, _pickling

    opinion = _guard.check(fn, arguments)
    if opinion.findings:
        return opinion.findings[0].sentence, 0.0, 0
    try:
        _functions.describe(fn)
        buffers: list[Any] = []
        began = time.perf_counter()
        stream = _pickling.encode(arguments, buffers, f"the arguments of `{_functions.name_of(fn)}`")
        took = time.perf_counter() - began
    except _pickling.UnpicklableError as error:
        return str(error), 0.0, 0
    return None, took, len(stream) + sum(buffer.raw().nbytes for buffer in buffers)
