"""The workers that maps share: for how long they wait for the next map, and their end before that."""

from __future__ import annotations

import sys

from . import _core


def keep_workers(seconds: float) -> None:
    """Have the threads and worker processes that maps share wait so long for the next map before they end.

    Without a call of this, threads wait 10 s and worker processes 60 s. Executors are not meant: theirs wait until
    `Executor.shutdown`.

    Args:
        seconds: 0 has them end when a map does; ``math.inf`` keeps them until the program ends.

    Raises:
        ValueError, TypeError: If it is no such number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds must be a number, not {seconds!r}")
    # Not `isnan`, for which an integer may be too large.
    if seconds != seconds or seconds < 0:
        raise ValueError(f"seconds must not be negative, as {seconds} is")
    _core.keep_workers(float(min(seconds, sys.float_info.max)))


def release(timeout: float = 10.0) -> None:
    """End the threads and worker processes that maps share, and give back their memory: the next map begins anew.

    It waits for those that have nothing to do. What still runs, for a map of another thread, comes to its end first,
    and is not waited for. What `worker_state` keeps in the calling thread goes, too.

    Args:
        timeout: Seconds to wait, at most.
    """
    _core.release_shared(timeout)
    state = sys.modules.get("forkright._state")
    if state is not None:
        state.clear()
