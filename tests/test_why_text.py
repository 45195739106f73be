"""The answer in the terminal: the verdict first, a line for each thread or kind of threads, nothing that isn't text."""

from __future__ import annotations

import pytest

import why_data
from forkright._why import text


def lines(data: dict) -> list[str]:
    # As `data.document` has them.
    for process in data["processes"]:
        process.setdefault("name", "program.py")
        for thread in process["threads"]:
            thread.setdefault("seen", {})
    return text.lines(data)


def test_the_verdict_comes_before_the_figures() -> None:
    said = lines(why_data.taking_turns())
    verdict = next(index for index, line in enumerate(said) if "GIL" in line and not line.startswith("where"))
    assert verdict < next(index for index, line in enumerate(said) if line.startswith("where time went"))


def test_threads_that_are_alike_share_a_line() -> None:
    data = why_data.taking_turns()
    (process,) = data["processes"]
    one = process["threads"][1]
    process["threads"] = [process["threads"][0], *({**one, "name": f"worker {number}"} for number in range(30))]
    said = [line for line in lines(data) if line.startswith("worker")]
    assert len(said) == 1 and said[0].startswith("worker 0, 29 more like it"), said


def test_threads_beyond_what_fits_are_counted() -> None:
    data = why_data.taking_turns()
    (process,) = data["processes"]
    one = process["threads"][1]
    held = one["parts"]["held"]
    process["threads"] = [
        {**one, "name": f"worker {number}", "parts": {**one["parts"], "held": {**held, "share": number / 100}}}
        for number in range(30)
    ]
    said = lines(data)
    assert sum(line.startswith("worker") for line in said) == text.MOST_THREADS
    assert "and 18 threads that did less" in said


@pytest.mark.parametrize(
    "make", [why_data.taking_turns, why_data.three_processes, why_data.unknown_gil, why_data.hostile]
)
def test_every_line_is_text_that_a_terminal_can_show(make) -> None:  # type: ignore[no-untyped-def]
    said = lines(make())
    assert said and all(line.isprintable() or line == "" for line in said), said


def test_what_is_unknown_is_a_question_mark_and_says_why() -> None:
    said = lines(why_data.unknown_gil())
    assert any("the GIL could not be seen" in line for line in said)
    assert any("?" in line for line in said)


def test_a_program_that_could_not_be_measured_has_an_answer() -> None:
    assert len(lines(why_data.nothing())) == 1
