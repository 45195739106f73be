"""Puts a measurement into the Trace Event Format, the JSON that Perfetto and chrome://tracing open.

A track for each thread has one complete event ("X") for each piece of its time, a track named GIL says who held it, and
a flow ("s", "f") leads from the thread that gave the GIL up to the one that got it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from . import timeline
from .timeline import Pieces
from .words import clean, label

# Linux gives no process and no thread a higher number. What has none of its own takes one from here on.
FIRST_FREE = 1 << 22


def render(data: dict[str, Any]) -> str:
    """The trace as JSON text, an event a line."""
    return "".join(_parts(data))


def _parts(data: dict[str, Any]) -> Iterator[str]:
    program = data["program"]
    about = {"argv": [clean(word) for word in program["argv"]], "verdict": clean(data["verdict"]["sentence"])}
    yield f'{{"displayTimeUnit":"ms","otherData":{_json(about)},"traceEvents":[\n'
    for number, event in enumerate(_events(data)):
        yield f",\n{event}" if number else event
    yield "\n]}\n"


def _events(data: dict[str, Any]) -> Iterator[str]:
    numbers, flows = _Numbers(), iter(range(1, 1 << 53))
    name = _namer(data)
    for order, process in enumerate(data["processes"]):
        pid = numbers.take(process["pid"])
        threads = [timeline.pieces(thread, data["program"]["wall"]) for thread in process["threads"]]
        tids = [numbers.take(thread["tid"], pid) for thread in process["threads"]]
        yield from _names(process, order, pid, tids)
        for tid, thread in zip(tids, threads, strict=True):
            yield from _spans(pid, tid, thread, name)
        if not process["gil"]:
            turns = timeline.holders(threads, data["states"])
            yield from _gil(pid, numbers.take(None), turns, process["threads"])
            yield from _flows(pid, tids, turns, flows)


class _Numbers:
    """Keeps apart what the system gave one number to, one after the other."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._free = FIRST_FREE

    def take(self, number: int | None, owner: int | None = None) -> int:
        """`number` itself, if nothing had it before but `owner`, whose main thread has its number; else a free one."""
        if number is None or (number in self._taken and number != owner):
            self._free += 1
            return self._free
        self._taken.add(number)
        return number


def _namer(data: dict[str, Any]) -> Callable[[int, int], str]:
    """A function that gives the name and category of a piece as JSON: there are few, and a million pieces."""
    states, functions = data["states"], data["functions"]

    @cache
    def name(state: int, function: int) -> str:
        words = label(states[state])
        if function >= 0:
            words += f": {clean(functions[function]['name'])}"
        return f'"name":{_json(words)},"cat":{_json(states[state])}'

    return name


def _names(process: dict[str, Any], order: int, pid: int, tids: Iterable[int]) -> Iterator[str]:
    yield _metadata("process_name", pid, pid, name=clean(process["name"]))
    yield _metadata("process_sort_index", pid, pid, sort_index=order)
    labels = [f"Python {clean(process['python'])}"] if process.get("python") else []
    if process["gil"]:
        labels.append(f"GIL not seen: {clean(process['gil'])}")
    yield _metadata("process_labels", pid, pid, labels=", ".join(labels))
    for index, (tid, thread) in enumerate(zip(tids, process["threads"], strict=True)):
        yield _metadata("thread_name", pid, tid, name=clean(thread["name"]))
        yield _metadata("thread_sort_index", pid, tid, sort_index=index + 1)


def _metadata(kind: str, pid: int, tid: int, **arguments: object) -> str:
    return _json({"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": arguments})


def _spans(pid: int, tid: int, thread: Pieces, name: Callable[[int, int], str]) -> Iterator[str]:
    for begin, end, state, function in thread.spans():
        yield f'{{"ph":"X",{name(state, function)},"pid":{pid},"tid":{tid},"ts":{begin},"dur":{end - begin}}}'


def _gil(pid: int, tid: int, turns: list[tuple[int, int]], threads: list[dict[str, Any]]) -> Iterator[str]:
    yield _metadata("thread_name", pid, tid, name="GIL")
    yield _metadata("thread_sort_index", pid, tid, sort_index=0)
    names = [_json(clean(thread["name"])) for thread in threads]
    for (begin, who), (end, _) in pairwise(turns):
        if who != timeline.NOBODY:
            event = f'"name":{names[who]},"cat":"gil","pid":{pid},"tid":{tid},"ts":{begin},"dur":{end - begin}'
            yield f'{{"ph":"X",{event}}}'


def _flows(pid: int, tids: list[int], turns: list[tuple[int, int]], flows: Iterator[int]) -> Iterator[str]:
    """An arrow for each handover. It must begin and end inside slices, so it begins a microsecond earlier."""
    for at, giver, taker in timeline.handovers(turns):
        common = f'"name":"GIL handover","cat":"gil","id":{next(flows)},"pid":{pid}'
        yield f'{{"ph":"s",{common},"tid":{tids[giver]},"ts":{at - 1}}}'
        yield f'{{"ph":"f","bp":"e",{common},"tid":{tids[taker]},"ts":{at}}}'


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
