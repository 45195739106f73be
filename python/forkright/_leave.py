"""Whether work may leave for worker processes: imported only when a move is near."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def reason_to_stay(fn: Callable[..., Any], arguments: tuple[Any, ...]) -> str | None:
    """Why calls of `fn` with such arguments must stay in this process, in one sentence; None if nothing was found."""
    from . import _functions, _guard, _pickling

    opinion = _guard.check(fn, arguments)
    if opinion.findings:
        return opinion.findings[0].sentence
    try:
        _functions.describe(fn)
        _pickling.encode(arguments, [], f"the arguments of `{_functions.name_of(fn)}`")
    except _pickling.UnpicklableError as error:
        return str(error)
    return None
