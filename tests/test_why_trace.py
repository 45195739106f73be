"""The trace of `forkright why` keeps to the Trace Event Format and says what was measured."""

from __future__ import annotations

import json

import pytest

import trace_format
import why_data
from forkright._why import timeline, trace

SMALL = [
    why_data.taking_turns,
    why_data.three_processes,
    why_data.nothing,
    why_data.unknown_gil,
    why_data.hostile,
]


@pytest.mark.parametrize("make", SMALL)
def test_traces_keep_to_the_format(make):
    trace_format.check(trace.render(make()))


def test_a_trace_of_over_a_million_pieces_keeps_to_the_format():
    data = why_data.worst_case()
    events = trace_format.check(trace.render(data))
    pieces = sum(len(thread["timeline"]["at"]) for thread in data["processes"][0]["threads"])
    assert pieces == 1_200_000
    assert sum(event["ph"] == "X" and event["cat"] != "gil" for event in events) == pieces


def test_each_piece_is_a_slice_of_its_thread_named_by_state_and_function():
    data = why_data.taking_turns(seconds=0.02)
    slices = [event for event in _events(data) if event["ph"] == "X" and event["cat"] != "gil"]
    first = [(event["ts"], event["dur"], event["name"], event["cat"]) for event in slices if event["tid"] == 4243]
    assert first == [
        (1000, 5000, "GIL wait: calc", "gil_wait"),
        (6000, 5000, "GIL held: calc", "held"),
        (11000, 5000, "GIL wait: calc", "gil_wait"),
        (16000, 4000, "GIL held: calc", "held"),
    ]
    assert {(event["pid"], event["tid"]) for event in slices} == {(4242, 4242), (4242, 4243), (4242, 4244)}


def test_tracks_have_the_names_of_processes_and_threads():
    events = _events(why_data.three_processes())
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names[102, 103] == "ThreadPoolExecutor-0_1"
    assert sorted(event["args"]["name"] for event in events if event["name"] == "process_name") == [
        "pages.py",
        "worker 1",
        "worker 2",
    ]
    assert list(names.values()).count("GIL") == 3


def test_the_track_of_the_gil_says_who_held_it():
    gil = [event for event in _events(why_data.taking_turns(seconds=0.02)) if event.get("cat") == "gil"]
    turns = [(event["ts"], event["dur"], event["name"]) for event in gil if event["ph"] == "X"]
    assert turns == [
        (0, 1000, "MainThread"),
        (1000, 5000, "Thread-2 (calc)"),
        (6000, 5000, "Thread-1 (calc)"),
        (11000, 5000, "Thread-2 (calc)"),
        (16000, 3200, "Thread-1 (calc)"),
        (19200, 800, "MainThread"),
    ]


def test_handovers_are_flows_from_the_giver_to_the_taker():
    flows = [event for event in _events(why_data.taking_turns(seconds=0.02)) if event["ph"] in "sf"]
    assert [(event["ph"], event["tid"], event["ts"]) for event in flows[:4]] == [
        ("s", 4242, 999),
        ("f", 4244, 1000),
        ("s", 4244, 5999),
        ("f", 4243, 6000),
    ]
    assert len(flows) == 2 * 5


def test_a_gil_that_is_not_seen_has_no_track_and_says_why():
    events = _events(why_data.unknown_gil())
    assert not [event for event in events if event.get("cat") == "gil"]
    labels = [event["args"]["labels"] for event in events if event["name"] == "process_labels"]
    assert labels == ["Python 3.14.0t, GIL not seen: this is a free-threaded build, which has no GIL"]


def test_a_process_and_a_thread_that_got_anothers_number_have_tracks_of_their_own():
    data = why_data.three_processes()
    data["processes"][2] |= {"pid": 101}
    data["processes"][2]["threads"][3]["tid"] = data["processes"][2]["threads"][2]["tid"]
    events = trace_format.check(trace.render(data))
    assert len({event["pid"] for event in events}) == 3
    tracks = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert len(tracks) == 6 + 3


def test_pieces_that_lasted_no_time_are_left_out():
    thread = why_data.thread(0, "MainThread", [0, 5, 5, 9], [0, 3, 0, 5], [0] * 4, 9e-6)
    data = why_data.document(
        [why_data.process(1, "x", [thread], 9e-6)], [why_data.function("f", "f.py", 1)], 9e-6, sentence=""
    )
    assert [event["dur"] for event in _events(data) if event["ph"] == "X" and event["cat"] != "gil"] == [5, 4]


def test_turns_join_what_one_thread_holds_and_leave_gaps_where_nobody_does():
    states = why_data.STATES
    one = timeline.Pieces([0, 10, 20, 50], [0, 1, 5, 0], [-1] * 4, 60)
    other = timeline.Pieces([20, 30], [0, 3], [-1] * 2, 60)
    turns = timeline.holders([one, other], states)
    assert turns == [(0, 0), (20, 1), (30, -1), (50, 0), (60, -1)]
    assert list(timeline.handovers(turns)) == [(20, 0, 1)]


def test_where_two_threads_seem_to_hold_the_gil_the_later_one_counts():
    one = timeline.Pieces([0], [0], [-1], 40)
    other = timeline.Pieces([10, 20], [0, 5], [-1] * 2, 60)
    assert timeline.holders([one, other], why_data.STATES) == [(0, 0), (10, 1), (20, -1)]


def test_what_the_command_writes_keeps_to_the_format(tmp_path):
    events = trace_format.check(why_data.measure("--trace", tmp_path))
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names >= {"GIL", "MainThread", "one", "<two>"}
    assert "GIL held: calc" in {event["name"] for event in events}


def _events(data):
    return json.loads(trace.render(data))["traceEvents"]
