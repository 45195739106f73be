"""How many items travel to a cluster together, and how many chunks are out. Pure.

The rule is that of the engine's `chunk`, with one more term: a chunk is worth its hop, which takes milliseconds here.
"""

from __future__ import annotations

import math

# Seconds that a chunk should take at least: as on worker processes.
_WORTH = 0.01
# Hops that a chunk should be worth: its way then costs a twentieth of its time.
_HOPS = 20
# Seconds that a chunk should take at most, however far away its worker is: a person waits for the last ones.
_MOST = 2.0


def size(remaining: int, workers: int, seconds: float | None, seen: int, hop: float) -> int:
    """Items for the next chunk.

    By guided self-scheduling, a share of what remains, so that the last workers finish together; but no more than
    are worth their hop, and one at a time until the ``seconds`` per item are known. That is known of ``seen`` items,
    and those to come may be longer: no more than as many again go at once.
    """
    if seconds is None:
        return min(remaining, 1)
    fair = math.ceil(remaining / (2 * max(workers, 1)))
    worth = math.ceil(min(max(_WORTH, _HOPS * hop), _MOST) / max(seconds, 1e-9))
    return min(max(min(fair, worth, seen), 1), remaining)


def most_out(workers: int) -> int:
    """Chunks that may be out at a time: each worker runs one, and one is there when it ends."""
    return 2 * max(workers, 1)
