"""The statistics of the suite of the choice: pure functions of times."""

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from choice import score

FIXED = ("serial", "2 threads")


def test_the_best_plan_is_scored_on_runs_it_was_not_chosen_on():
    # Each fixed plan is lucky in one half; chosen there, it is scored by its bad half.
    times = {"serial": [1.0, 2.0] * 3, "2 threads": [2.0, 1.0] * 3, "auto": [2.0] * 6}
    judged = score.judge(times, FIXED)
    assert set(judged.best) == set(FIXED)
    assert judged.regret == pytest.approx(1.0)
    assert judged.floor == pytest.approx(2.0)


def test_auto_that_takes_a_third_longer_has_that_regret_and_bound():
    times = {"serial": [3.0] * 7, "2 threads": [5.0] * 7, "auto": [4.0] * 7}
    judged = score.judge(times, FIXED)
    assert judged.best == ("serial",)
    assert judged.regret == pytest.approx(4 / 3)
    assert judged.gap == pytest.approx(1.0)
    assert score.lower_bound(times, FIXED) == pytest.approx(4 / 3)


def test_a_plan_is_hopeless_only_if_it_was_far_behind_in_each_of_the_first_rounds():
    times = {"a": [1.0, 1.0, 1.0, 9.0], "b": [2.0, 1.3, 2.0], "c": [1.5, 1.5, 1.5], "auto": [9.0, 9.0, 9.0]}
    assert score.hopeless(times, ["a", "b", "c", "missing"], 3, 1.4) == {"c"}
    assert score.hopeless({}, ["a"], 3, 1.4) == set()


def test_a_forecast_is_judged_by_the_choice_that_was_in_force_for_the_longest():
    def report(wall: float, *made: tuple[float, float], finished: int = 4) -> dict[str, object]:
        case = {"demand": {"finished": finished}}
        verdicts = [{"at": at, "verdict": {"seconds": seconds, "case": case}} for at, seconds in made]
        return {"wall": wall, "verdicts": verdicts}

    assert score.forecast_error(report(1.0, (0.0, 5.0), (0.2, 0.4), (0.95, 0.1))) == pytest.approx(0.5)
    assert score.forecast_error(report(1.0, (0.2, 0.8))) == pytest.approx(0.0)
    assert score.forecast_error(report(1.0)) is None
    assert score.forecast_error(report(0.011, (0.01, 0.5))) is None, "nobody notices a millisecond"
    assert score.forecast_error(report(1.0, (0.2, 0.8), finished=0)) is None, "a guess is no forecast"


def test_another_choice_is_scored_as_auto_is():
    times = {"serial": [3.0] * 7, "auto": [3.0] * 7, score.BLIND: [6.0] * 7}
    assert score.judge(times, FIXED).regret == pytest.approx(1.0)
    assert score.judge(times, FIXED, score.BLIND).regret == pytest.approx(2.0)
    assert score.judge({"serial": [3.0] * 7, "auto": [3.0] * 7}, FIXED, score.BLIND) is None


def test_the_worst_breaks_its_promise_only_by_its_lower_bound():
    judged = score.judged_by(above=[1.0, 1.02, 1.5], bounds=[1.0, 1.0, 1.19])
    assert judged == pytest.approx({"median": 1.02, "90th percentile": 1.404, "worst": 1.19})
    assert judged.keys() == score.PROMISED.keys()


def test_a_difference_nobody_notices_is_none():
    assert score.ratio(0.0119, 0.0100) == 1.0
    assert score.ratio(0.0300, 0.0100) == pytest.approx(3.0)


def test_the_bound_is_below_the_regret_and_the_same_each_time():
    draw = random.Random(1)
    times = {plan: [base + draw.random() * 0.3 for _ in range(7)] for plan, base in (("serial", 1.0), ("auto", 1.5))}
    bound = score.lower_bound(times, FIXED)
    assert bound == score.lower_bound(times, FIXED)
    assert 1.0 <= bound <= score.judge(times, FIXED).above_floor


def test_runs_are_drawn_again_only_within_their_half():
    again = score.resample([1, 10, 1, 10, 1], random.Random(0))
    assert again == [1, 10, 1, 10, 1]


def test_without_auto_or_any_fixed_plan_there_is_no_score():
    assert score.judge({"serial": [1.0, 1.0]}, FIXED) is None
    assert score.judge({"auto": [1.0, 1.0]}, FIXED) is None
