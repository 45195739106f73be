"""How instruction counts are judged: pure functions of counts, and of what callgrind writes."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from instructions import count

KEPT = {"pickling": 20_000, "map": 1_000}


def test_a_path_is_compared_with_what_was_kept():
    assert count.compare({"pickling": 20_000, "map": 1_200}, KEPT) == pytest.approx({"map": 0.2})


def test_another_interpreter_is_allowed_for_by_the_yardstick():
    elsewhere = {"pickling": 30_000, "map": 1_500}
    assert count.compare(elsewhere, KEPT) == pytest.approx({"map": 0.0})
    assert not count.is_same_place(elsewhere, KEPT)
    assert count.is_same_place({"pickling": 20_100, "map": 1_500}, KEPT)


def test_a_dump_is_read_by_its_name_and_what_ended_the_program_is_not(tmp_path: Path):
    dump = tmp_path / "1.1"
    dump.write_text("version: 1\ndesc: Trigger: Client Request: map\nsummary: 7\n\nfn=(1)\n5 2\n\ntotals: 42\n")
    assert count.read(dump) == ("map", 42)
    dump.write_text("version: 1\ndesc: Trigger: Program termination\nsummary: 7\n\ntotals: 42\n")
    assert count.read(dump) is None
