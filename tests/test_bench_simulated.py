"""What the study of simulated machines makes of recordings and rows: pure functions."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from simulated import record, regret


def item(count=1, held=0.0, off=0.0, waiting=0.0, programs=0.0, rounds=1):
    return {"count": count, "held": held, "off": off, "waiting": waiting, "programs": programs, "rounds": rounds}


def total(rows):
    return sum(one["count"] * (one["held"] + one["off"] + one["waiting"] + one["programs"]) for one in rows)


def test_time_off_the_core_counts_as_waiting_only_if_the_thread_has_waited():
    waited = record.row(2, (0.0, 0.0, 0.0, 0), (1.0, 0.2, 0.4, 6))
    assert waited == pytest.approx({"count": 2, "cpu": 0.1, "waiting": 0.2, "programs": 0.2, "rounds": 3})
    without_a_core = record.row(1, (0.0, 0.0, 0.0, 5), (1.0, 0.7, 0.0, 5))
    assert without_a_core["waiting"] == 0.0


def test_neighbours_that_are_alike_are_one_and_no_time_is_lost():
    rows = [item(held=0.100), item(held=0.104), item(held=0.3), item(held=0.1, waiting=0.2), item(waiting=0.3)]
    merged = record.merged(rows)
    assert [one["count"] for one in merged] == [2, 1, 1, 1]
    assert total(merged) == pytest.approx(total(rows))
    assert rows[0]["count"] == 1, "what is given is left alone"


def test_what_cannot_be_pickled_stays_and_says_why():
    assert "pickled" in record.pickling([lambda: 1], [1])["stays"]
    free = record.pickling([b"x" * 1000] * 50, [b"y" * 3000] * 50)
    assert free["stays"] is None
    assert 4000 < free["bytes"] < 4300


def test_the_recordings_that_are_kept_have_what_the_simulator_reads():
    names = {"workload", "items", "pickling_here", "pickling_there", "bytes", "import", "drag", "sleeps", "stays"}
    recordings = [record.json.loads(path.read_text()) for path in record.RECORDINGS.glob("*.json")]
    assert recordings
    for recording in recordings:
        assert recording.keys() == names
        assert total(recording["items"]) > 0.0
        assert recording["drag"] >= 1.0


def test_a_gap_that_nobody_notices_is_no_regret():
    row = {"known": {"seconds": 0.0119}, "best_seconds": 0.01}
    assert regret.regret(row, "known") == 1.0
    assert regret.regret(row | {"best_seconds": 0.0099 / 2}, "known") > 2.0


def test_fixed_plans_are_compared_with_what_they_really_took():
    plan = {"processes": 0, "threads": 2}
    study = {
        "fixed": [{"workload": "calc", "plan": plan, "seconds": 1.1}, {"workload": "x", "plan": plan, "seconds": 1}]
    }
    runs = {"2 threads": [{"seconds": 1.0}, {"seconds": 3.0}, {"seconds": 0.9}], "serial": [{"seconds": 2.0}]}
    run = {"workloads": [{"workload": "calc", "runs": runs, "failures": {"serial": "it failed"}}]}
    assert regret.compared(study, run) == [{"workload": "calc", "plan": "2 threads", "real": 1.0, "simulated": 1.1}]


def test_believing_the_simulation_costs_what_its_best_plan_really_took():
    def pair(workload, plan, real, simulated):
        return {"workload": workload, "plan": plan, "real": real, "simulated": simulated}

    right = [pair("a", "serial", 2.0, 5.0), pair("a", "2 threads", 1.0, 3.0)]
    wrong = [pair("b", "serial", 2.0, 1.0), pair("b", "2 threads", 1.0, 1.1)]
    assert regret.believed([*right, *wrong]) == pytest.approx([1.0, 2.0])
