"""Whether a cluster paid for its work, and what the way to it costs. Pure: figures in, a sentence out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .._report import count, seconds, size

# Bytes from which a message tells what bytes cost; what smaller ones take is the hop.
LARGE = 100_000
# Times that differ by less are the same.
_CLEAR = 0.1
# Seconds of work that nobody would divide here.
_TRIFLE = 0.01
# Threads on which calls that wait would wait here, at most.
_THREADS = 32


class Way(NamedTuple):
    """What a message costs there and back, beside what its calls take."""

    hop: float
    """Seconds of a small one; 0 if there was none."""
    per_byte: float
    """Seconds for each byte more; 0 if all were small."""


def way(samples: Iterable[tuple[int, float]]) -> Way:
    """From messages that found their worker idle, as bytes and seconds. The first of them brought the function, and
    others met with whatever else went on: the hop is what a quarter of the small ones took less than."""
    pairs = list(samples)
    small = sorted(took for length, took in pairs if length < LARGE)
    large = sorted((length, took) for length, took in pairs if length >= LARGE)
    if not pairs:
        return Way(0.0, 0.0)
    if not small:
        least = min(took / length for length, took in large)
        return Way(0.0, max(least, 0.0))
    hop = max(small[len(small) // 4], 0.0)
    rates = sorted(max(took - hop, 0.0) / length for length, took in large)
    return Way(hop, rates[len(rates) // 2] if rates else 0.0)


class Case(NamedTuple):
    """What was measured of the calls of a map or an executor. Times are in seconds."""

    cluster: str
    items: int
    wall: float
    """From the first message to the last answer."""
    busy: float
    """In the calls, all workers together."""
    cpu: float
    """Of that, computing."""
    longest: float
    """The longest call."""
    travel: float
    """What each worker on average had to do with the way of its messages: it had been given work, and ran none."""
    hop: float
    bytes: int
    """Both ways."""
    workers: int
    """Of the cluster."""
    cores: int
    """Of this machine."""


class Verdict(NamedTuple):
    """What came of it."""

    paid: bool | None
    """None if it made no clear difference."""
    serial: float
    """Seconds that the calls would take one after another here, on cores like the workers'."""
    cores: float
    """Seconds on this machine's cores; what only waits would do so on threads."""
    sentence: str


def judge(case: Case) -> Verdict:
    """Compare what the cluster took with what this machine would take."""
    serial = case.busy
    lanes = max(min(case.items, _THREADS), case.cores)
    cores = serial if serial < _TRIFLE else min(max(case.cpu / case.cores, case.busy / lanes, case.longest), serial)
    alone = cores > serial * (1 - _CLEAR)
    items = f"{count(case.items, 'item')} of {seconds(case.busy / max(case.items, 1))}"
    took = f"{items} took {seconds(case.wall)} on {count(case.workers, 'worker')} of {case.cluster}"
    here = f"{seconds(serial)} in this process"
    if not alone:
        here += f", {seconds(cores)} on {_own(case)}"
    if case.wall < cores * (1 - _CLEAR):
        return Verdict(True, serial, cores, f"the cluster paid: {took}, and would take {here}")
    hop = f"hop {seconds(case.hop)}, " if case.hop else ""
    spent = f"{seconds(case.travel)} of it on the way ({hop}{size(case.bytes)})"
    if case.wall <= cores * (1 + _CLEAR):
        return Verdict(None, serial, cores, f"the cluster made no difference: {took}, and would take {here}")
    return Verdict(False, serial, cores, f"the cluster did not pay: {took}, {spent}, and would take {here}")


def _own(case: Case) -> str:
    if case.cpu / case.cores >= case.busy / max(min(case.items, _THREADS), case.cores):
        return f"the {case.cores} cores here"
    return "threads here"
