"""The page of `forkright why`: one file that needs no network, says everything without scripts, and trusts no name.

What a browser makes of it is in tests/browser.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from importlib.resources import files

import pytest

import why_data
from forkright._why import page, trace

ALL = [
    why_data.taking_turns,
    why_data.three_processes,
    why_data.nothing,
    why_data.unknown_gil,
    why_data.hostile,
]
# Elements that need no end.
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """What a page holds; complains when elements don't nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.data, self._open = [], [], "", []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), attributes
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag, tag

    def handle_data(self, text):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if attributes.get("id") == "data":
            self.data += text
        elif tag not in ("script", "style"):
            self.text.append(text)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.mark.parametrize("make", ALL)
def test_the_page_is_whole_and_refers_to_nothing_outside(make):
    text = page.render(make())
    text.encode("utf-8")
    reader = Reader(text)
    for tag, attributes in reader.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form"), tag
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:,")), attributes
    numbers = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(set(numbers)) == len(numbers)
    policies = [a["content"] for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"]
    assert "eval(" not in text and "new Function" not in text


def test_the_verdict_comes_first_with_its_reasons_and_predictions():
    words = Reader(page.render(why_data.taking_turns())).words
    parts = [
        "The threads took turns on one GIL. Processes would be about 1.9 times faster here.",
        "calc holds the GIL 97 % of its time",
        "2 cores, of which one was idle throughout",
        "Plan(processes=2, threads=1)",
        "as it ran 2.00 s 1.00x",
        "here 2 processes 1.00 s 1.90x",
        "16 cores 16 processes 125 ms 15.2x",
        "Where the threads' time went",
        "GIL held 2.00 s 33 % ± 1.0 2,001",
        "no core 120 ms 2 % ± 0.4 50",
        "Timeline",
        "Who made whom wait",
        "calc /home/me/project/threads.py:12 calc /home/me/project/threads.py:12 1.80 s 160",
        "a thread Python did not start 4.00 ms 2",
        "Processes and threads",
        "Thread-1 (calc)",
        "Measuring took 50.0 ms of CPU, 0.40 % of one core, for 2,500 looks.",
    ]
    places = [words.find(part) for part in parts]
    assert -1 not in places, [part for part, place in zip(parts, places) if place < 0]
    assert places == sorted(places)


def test_native_threads_and_convoys_are_named():
    words = Reader(page.render(why_data.three_processes())).words
    assert "OpenBLAS 2 threads, 1.50 s CPU" in words
    assert "Rayon 1 thread, unknown CPU" in words
    assert "digest releases the GIL and waits 4.1 ms each time to get it back from parse" in words


def test_what_is_unknown_is_called_unknown():
    reader = Reader(page.render(why_data.unknown_gil()))
    assert "GIL held unknown unknown unknown" in reader.words
    assert "unknown CPU unknown switches" in reader.words
    assert "The GIL could not be seen: this is a free-threaded build, which has no GIL" in reader.words
    assert json.loads(reader.data)["processes"][0]["gil"] is None
    assert "Predicted" not in reader.words


def test_a_program_that_showed_nothing_has_a_page_that_says_so():
    words = Reader(page.render(why_data.nothing())).words
    assert "The program ended before anything could be measured." in words
    assert "killed by SIGSEGV" in words
    assert "No function was seen waiting for the GIL." in words


@pytest.mark.parametrize("name", why_data.HOSTILE)
def test_names_of_the_program_stay_text(name):
    text = page.render(why_data.hostile())
    reader = Reader(text)
    # The library's script, the data and ours, and none of the program's.
    assert [tag for tag, _ in reader.elements].count("script") == 3
    assert "img" not in [tag for tag, _ in reader.elements]
    shown = re.sub("[\x00-\x1f\ud800-\udfff]", "\ufffd", name)
    titles = [attributes["title"] for _, attributes in reader.elements if "title" in attributes]
    assert shown in titles
    assert shown in [function[0] for function in json.loads(reader.data)["functions"]]


def test_no_asset_can_end_its_element_early():
    assets = files("forkright._why") / "assets"
    for asset in assets.iterdir():
        text = asset.read_text(encoding="utf-8")
        if asset.name != "page.html":
            assert not re.search("</(script|style)|<!--", text, re.IGNORECASE), asset.name
    assert "*/" not in (assets / "uPlot.LICENSE").read_text(encoding="utf-8")


def test_the_librarys_licence_is_on_the_page():
    text = page.render(why_data.nothing())
    assert "Permission is hereby granted, free of charge" in text
    assert "Copyright (c) 2022 Leon Sorokin" in text


def test_a_thread_links_from_its_lane_to_its_table():
    data = why_data.three_processes()
    anchors = [a["id"] for tag, a in Reader(page.render(data)).elements if tag == "article"]
    assert anchors == ["thread-0-0", "thread-1-0", *(f"thread-2-{number}" for number in range(4))]


def test_the_timeline_holds_every_piece():
    data = why_data.three_processes()
    packed = json.loads(Reader(page.render(data)).data)
    for process, drawn in zip(data["processes"], packed["processes"], strict=True):
        for thread, lane in zip(process["threads"], drawn["threads"], strict=True):
            expected = thread["timeline"]
            at, functions, states = _unpack(lane["pieces"])
            assert at[:-1] == expected["at"]
            assert at[-1] == round(thread["ended"] * 1e6)
            assert functions == expected["function"]
            assert states == expected["state"]


def test_a_piece_may_last_hours():
    seconds = 3 * 3600.0
    thread = why_data.thread(0, "MainThread", [0, 1000], [0, 5], [0, -1], seconds)
    data = why_data.document(
        [why_data.process(1, "x", [thread], seconds)], [why_data.function("f", "f", 1)], seconds, sentence=""
    )
    lane = json.loads(Reader(page.render(data)).data)["processes"][0]["threads"][0]["pieces"]
    assert _unpack(lane)[0] == [0, 1000, 10_800_000_000]


def test_a_thread_that_ended_before_any_look_has_an_empty_lane():
    data = why_data.taking_turns()
    data["processes"][0]["threads"][0]["timeline"] = {"at": [], "state": [], "function": []}
    assert "<h1" in page.render(data) and trace.render(data)


def test_the_lane_of_the_gil_says_who_holds_it():
    packed = json.loads(Reader(page.render(why_data.taking_turns(seconds=0.02))).data)
    at, holders, shades = _unpack(packed["processes"][0]["gil"])
    assert at == [0, 1000, 6000, 11000, 16000, 19200, 20000, 20000]
    assert holders == [0, 2, 1, 2, 1, 0, -1]
    assert shades == [1, 3, 2, 3, 2, 1, 0]


def test_a_million_pieces_stay_a_few_megabytes():
    assert len(page.render(why_data.worst_case())) < 8_000_000


def test_the_command_writes_a_page_of_what_it_measured(tmp_path):
    reader = Reader(why_data.measure("--html", tmp_path))
    (process,) = json.loads(reader.data)["processes"]
    assert [thread["name"] for thread in process["threads"]][:3] == ["MainThread", "one", "<two>"]
    assert process["gil"]["count"] > 1
    assert all(thread["pieces"]["count"] for thread in process["threads"][:3])
    assert "calc" in reader.words


def _unpack(lane):
    raw, count = zlib.decompress(base64.b64decode(lane["packed"])), lane["count"]
    at = [lane["begin"]]
    for length in struct.unpack(f"<{count}Q", raw[: 8 * count]):
        at.append(at[-1] + length)
    return at, list(struct.unpack(f"<{count}i", raw[8 * count : 12 * count])), list(raw[12 * count :])
