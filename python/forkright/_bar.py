"""The bar that `progress=True` shows: tqdm's, for a terminal or a notebook.

Made by `_progress`. Without it that module would need tqdm for callables too.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

try:
    from tqdm.auto import tqdm
except ImportError as error:
    raise ImportError(
        "`progress=True` and a description need tqdm: `pip install tqdm` or `pip install forkright[progress]`; "
        "a callable needs nothing"
    ) from error

from ._report import count

if TYPE_CHECKING:
    from ._progress import Progress

# Seconds after which a bar is drawn again although nothing has changed but the time.
_TURN = 1.0


class Bar(tqdm):  # type: ignore[type-arg]
    """A bar with the plan and its workers behind the numbers.

    Args:
        description: What stands before it.
        total: Calls that there are; None if that is not known.
    """

    # No thread of tqdm's: there is one that draws.
    monitor_interval = 0

    def __init__(self, description: str | None, total: int | None) -> None:
        # As tqdm has it: None draws on terminals and in notebooks only. What its own environment variable says goes.
        options: dict[str, Any] = {} if "TQDM_DISABLE" in os.environ else {"disable": None}
        super().__init__(
            desc=description, total=total, unit="call", mininterval=0, miniters=1, dynamic_ncols=True, **options
        )
        self._words = ""
        self._drawn = 0.0

    def show(self, progress: Progress) -> None:
        """Draw it as it is now, if that differs from what is there."""
        if self.disable:
            return
        words = _words(progress)
        self.set_postfix_str(words, refresh=False)
        drawn = self.update(progress.done - self.n)
        if not drawn and (words != self._words or time.monotonic() - self._drawn > _TURN):
            self.refresh()
            drawn = True
        if drawn:
            self._words, self._drawn = words, time.monotonic()
        if progress.over:
            self.close()


def _words(progress: Progress) -> str:
    words = [progress.plan]
    if progress.plan != "serial" and progress.workers:
        words.append(count(progress.workers, "call" if progress.plan == "event loop" else "worker"))
    elif progress.plan in ("processes", "hybrid") and not progress.over:
        words.append("starting")
    if progress.failed:
        words.append(f"{progress.failed} failed")
    return ", ".join(words)
