"""The Trace Event Format, as far as our traces use it, as a strict check.

From the document that Perfetto and chrome://tracing refer to: which fields an event of each phase must and may have,
that complete events of a thread nest, and that a flow's ends lie in slices. Perfetto itself forgives more.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from itertools import pairwise
from typing import Any

COMMON = {"ph": str, "name": str, "pid": int, "tid": int, "ts": int}
# What each phase needs besides.
NEEDED: dict[str, dict[str, type]] = {
    "X": {"cat": str, "dur": int},
    "M": {"args": dict},
    "s": {"cat": str, "id": int},
    "f": {"cat": str, "id": int, "bp": str},
}
ARGUMENTS = {
    "process_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_name": ("name", str),
    "thread_sort_index": ("sort_index", int),
}
# pid 0 and tid 0 are the idle task's for Perfetto, which numbers in 32 bits.
NUMBERS = range(1, 1 << 31)


def check(text: str) -> list[dict[str, Any]]:
    """The events of a trace; raises `AssertionError` where it departs from the format."""
    text.encode("utf-8")
    trace = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse)
    assert set(trace) <= {"traceEvents", "displayTimeUnit", "otherData"}, set(trace)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events = trace["traceEvents"]
    assert isinstance(events, list)
    for event in events:
        _check_event(event)
    slices = _check_nesting(events)
    _check_flows(events, slices)
    _check_names(events)
    return events


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _check_event(event: dict[str, Any]) -> None:
    fields = COMMON | NEEDED[event["ph"]]
    assert set(event) == set(fields), event
    for key, kind in fields.items():
        assert type(event[key]) is kind, event
    assert event["pid"] in NUMBERS and event["tid"] in NUMBERS, event
    assert event["ts"] >= 0 and event.get("dur", 1) > 0, event
    assert event["name"] and event.get("bp", "e") == "e", event
    if event["ph"] == "M":
        key, kind = ARGUMENTS[event["name"]]
        assert set(event["args"]) == {key} and type(event["args"][key]) is kind, event


def _check_nesting(events: list[dict[str, Any]]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Slices of each track, which must follow one another: ours have no slices within slices."""
    slices = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for track in slices.values():
        track.sort()
        for (_, end), (begin, _) in pairwise(track):
            assert end <= begin, (end, begin)
    return slices


def _check_flows(events: list[dict[str, Any]], slices: dict[tuple[int, int], list[tuple[int, int]]]) -> None:
    ends: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["ph"] in "sf":
            ends[event["id"]].append(event)
    for pair in ends.values():
        assert [event["ph"] for event in pair] == ["s", "f"], pair
        assert pair[0]["ts"] <= pair[1]["ts"], pair
        for event in pair:
            track = slices[event["pid"], event["tid"]]
            begin, end = track[bisect_right(track, (event["ts"], 1 << 62)) - 1]
            assert begin <= event["ts"] < end, event


def _check_names(events: list[dict[str, Any]]) -> None:
    """Every process and every track has exactly one name."""
    named = [(event["name"], event["pid"], event["tid"]) for event in events if event["ph"] == "M"]
    assert len(set(named)) == len(named)
    threads = {(pid, tid) for name, pid, tid in named if name == "thread_name"}
    processes = {pid for name, pid, _ in named if name == "process_name"}
    for event in events:
        assert event["pid"] in processes, event
        assert event["ph"] == "M" or (event["pid"], event["tid"]) in threads, event
