"""Reads what the measurement says of time: pieces of threads, and who held the GIL when.

`page` and `trace` draw from it. It decides nothing: the states are the meter's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from .words import HOLDING

NOBODY = -1


class Pieces(NamedTuple):
    """A thread's time, cut where its state or function changes.

    Attributes:
        at: Where each piece begins, in microseconds since the program's start.
        states: The number of each piece's state in the document's ``states``.
        functions: The number of each piece's function in the document's ``functions``, or -1.
        end: Where the last piece ends.
    """

    at: list[int]
    states: list[int]
    functions: list[int]
    end: int

    def ends(self) -> list[int]:
        """Where each piece ends; a thread that was never looked at has none."""
        return [*self.at[1:], self.end] if self.at else []

    def spans(self) -> Iterator[tuple[int, int, int, int]]:
        """Begin, end, state and function of each piece that lasted at all."""
        for piece in zip(self.at, self.ends(), self.states, self.functions, strict=True):
            if piece[0] < piece[1]:
                yield piece


def pieces(thread: dict[str, Any], wall: float | None) -> Pieces:
    """The pieces of a thread; one that has no end of its own ends with the program."""
    timeline = thread["timeline"]
    ended = thread.get("ended")
    end = micros(wall or 0.0 if ended is None else ended)
    at = [int(time) for time in timeline["at"]]
    return Pieces(at, timeline["state"], timeline["function"], max(end, at[-1] if at else 0))


def micros(seconds: float) -> int:
    """Seconds in whole microseconds."""
    return round(seconds * 1e6)


def holders(threads: list[Pieces], states: list[str]) -> list[tuple[int, int]]:
    """Who holds a process's GIL from when on: times with the index of the thread, or `NOBODY`.

    Where two threads seem to hold it at once, as in a process with several GILs, the later one counts.
    """
    holding = {number for number, state in enumerate(states) if state in HOLDING}
    holds = [
        (begin, end, index)
        for index, thread in enumerate(threads)
        for begin, end, state, _ in thread.spans()
        if state in holding
    ]
    holds.sort(key=itemgetter(0))
    turns: list[tuple[int, int]] = []
    free = 0
    for begin, end, index in holds:
        if begin > free:
            _turn(turns, free, NOBODY)
        _turn(turns, begin, index)
        free = end
    _turn(turns, free, NOBODY)
    return turns


def _turn(turns: list[tuple[int, int]], at: int, who: int) -> None:
    if turns and turns[-1][0] == at:
        turns.pop()  # a hold that another one begins with lasted no time
    if not turns or turns[-1][1] != who:
        turns.append((at, who))


def handovers(turns: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """When the GIL passes straight from a thread to another: time, from whom, to whom."""
    for (_, giver), (at, taker) in pairwise(turns):
        if NOBODY not in (giver, taker):
            yield at, giver, taker
