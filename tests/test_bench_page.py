"""The page that `make bench` writes: pure functions of figures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import contests
import page
import processes
from contest import Contest, Row, Series, Target, each
from results import Results

OURS, PEER, OTHER = Series("fr", "task"), Series("peer", "task"), Series("other", "task")


def taken(figures: dict[str, list[list[float]]], row: Row, failures: dict[str, str] | None = None) -> Results:
    rounds = {name: [{"task": timings} for timings in found] for name, found in figures.items()}
    data = {"failures": failures or {}, "figures": rounds}
    return Results(Contest("tasks", "stream", tuple(figures), (row,)), data)


def verdict(row: Row, ours: list[list[float]], theirs: list[list[float]]) -> str:
    line = page.line(row, taken({"fr": ours, "peer": theirs}, row))
    assert line is not None
    return line[-1]


def test_a_promise_is_met_or_missed_by_the_median_of_the_rounds():
    row = Row("a task", OURS, (PEER,), Target("ratio", "at least", 10))
    assert verdict(row, [[1.0], [1.0], [1.0]], [[9.0], [10.0], [99.0]]) == "met"
    assert verdict(row, [[1.0], [1.0], [1.0]], [[9.0], [9.0], [99.0]]) == "MISSED"


def test_what_is_set_against_a_yardstick_is_better_the_less_it_is():
    row = Row("a task", OURS, (PEER,), Target("ratio", "at most", 1.5), cost=True)
    assert verdict(row, [[1.4]], [[1.0]]) == "met"
    assert verdict(row, [[1.6]], [[1.0]]) == "MISSED"


def test_without_a_promise_the_spread_decides_whether_one_can_tell_who_is_better():
    row = Row("a task", OURS, (PEER,))
    assert verdict(row, [[1.0]] * 3, [[2.0]] * 3) == "better"
    assert verdict(row, [[2.0]] * 3, [[1.0]] * 3) == "WORSE"
    assert verdict(row, [[1.0]] * 3, [[0.5], [1.0], [2.0]]) == "no clear difference"


def test_ratios_are_taken_within_the_rounds_in_which_both_took_part():
    row = Row("a task", OURS, (PEER,), reduce=each)
    assert taken({"fr": [[1.0, 2.0], [4.0, 4.0]], "peer": [[3.0, 8.0]]}, row).ratios(row, PEER) == [3.0, 4.0]


def test_the_best_peer_is_the_one_with_the_least_median():
    row = Row("a task", OURS, (PEER, OTHER))
    line = page.line(row, taken({"fr": [[1.0]], "peer": [[3.0]], "other": [[2.0]]}, row))
    assert line is not None
    assert line[2] == "other"


def test_what_fails_is_named_instead_of_left_out():
    row = Row("a task", OURS, (PEER,), Target("ratio", "at least", 10))
    line = page.line(row, taken({"peer": [[1.0]]}, row, {"fr": "it broke"}))
    assert line is not None
    assert line[1] == "failed" and line[-1] == "it broke"


def test_what_costs_nothing_has_no_ratio():
    row = Row("a task", OURS, (PEER,), Target("figure", "at most", 0.1))
    results = taken({"fr": [[0.0]], "peer": [[1.0]]}, row)
    assert results.ratios(row, PEER) == []
    assert verdict(row, [[0.0]], [[1.0]]) == "met"


def test_a_curve_has_least_median_and_most_of_the_medians_of_its_rounds():
    rounds = [{"10": [1.0, 2.0, 9.0]}, {"10": [3.0]}, {"10": [5.0], "100": [7.0]}]
    assert page.points(rounds) == {10: (2.0, 3.0, 5.0), 100: (7.0, 7.0, 7.0)}


@pytest.mark.parametrize("contest", contests.CONTESTS, ids=lambda contest: contest.name)
def test_every_row_sets_contestants_of_its_contest_against_each_other(contest: Contest):
    assert {series.contestant for row in contest.rows for series in row.series} <= set(contest.contestants)


def test_a_family_is_a_process_and_its_descendants():
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = processes.of(os.getpid())
        assert {os.getpid(), child.pid} < found
        assert len(processes.of(child.pid)) == 2
        assert all(processes.resident(pid) > 0 and processes.proportional(pid) > 0 for pid in found)
        child.communicate(b"\n")
    assert processes.resident(child.pid) == 0
