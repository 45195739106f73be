"""A choice against the best fixed plan, from times alone: no clock is read here."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import figures

AUTO = "auto"
# Auto that doesn't see the GIL.
BLIND = "auto by CPU/wall"
# Nobody notices a difference of so many seconds in one map, and a few rounds can't show it.
UNNOTICED = 0.002
# What is promised of the regret above the floor over all workloads, on 2 cores.
PROMISED = {"median": 1.03, "90th percentile": 1.10, "worst": 1.20}
# What is promised of the median forecast error.
FORESEEN = 0.15


class Score(NamedTuple):
    """A choice against the best fixed plan of one workload. Ratios: 1 is no difference."""

    best: tuple[str, ...]
    regret: float
    # Seconds that the choice took longer.
    gap: float
    floor: float

    @property
    def above_floor(self) -> float:
        """What of the regret the machine's own noise doesn't explain."""
        return max(1.0, self.regret / self.floor)


def judge(seconds: dict[str, list[float]], fixed: Sequence[str], choice: str = AUTO) -> Score | None:
    """The regret of a choice; None if it or all fixed plans failed. Times come by plan, in the order of rounds."""
    fixed = [plan for plan in fixed if plan in seconds]
    if choice not in seconds or not fixed:
        return None
    halves = slice(0, None, 2), slice(1, None, 2)
    best, regrets, gaps, floors = [], [], [], []
    for chosen_on, scored_on in (halves, halves[::-1]):
        plan = min(fixed, key=lambda plan: figures.median(seconds[plan][chosen_on]))
        chosen, rival = figures.median(seconds[choice][scored_on]), figures.median(seconds[plan][scored_on])
        same = figures.median(seconds[plan][chosen_on])
        best.append(plan)
        regrets.append(ratio(chosen, rival))
        gaps.append(chosen - rival)
        floors.append(max(ratio(same, rival), ratio(rival, same)))
    return Score(tuple(dict.fromkeys(best)), geometric_mean(regrets), sum(gaps) / len(gaps), geometric_mean(floors))


def hopeless(seconds: dict[str, list[float]], fixed: Sequence[str], heats: int, times: float) -> set[str]:
    """The fixed plans that took so many times as long as the best of them in each of the first rounds."""
    known = {plan: seconds[plan][:heats] for plan in fixed if plan in seconds}
    best = [min(round_) for round_ in zip(*known.values(), strict=True)]
    return {
        plan for plan, took in known.items() if all(one > times * least for one, least in zip(took, best, strict=True))
    }


def forecast_error(report: dict[str, Any]) -> float | None:
    """By what share a forecast was wrong: of the one that was in force for the longest, how long the rest would take
    against how long it took. None if nothing was forecast but by a guess, before any call had ended, or if what was
    left is too short to be noticed."""
    wall = report["wall"]
    founded = [choice for choice in report["verdicts"] if choice["verdict"]["case"]["demand"]["finished"] > 0]
    made = [(choice["at"], choice["verdict"]["seconds"]) for choice in founded]
    ends = [at for at, _ in made[1:]] + [wall]
    if not made:
        return None
    (at, seconds), _ = max(zip(made, ends, strict=True), key=lambda choice: choice[1] - choice[0][0])
    left = wall - at
    return abs(seconds - left) / left if left > UNNOTICED else None


def lower_bound(seconds: dict[str, list[float]], fixed: Sequence[str], resamples: int = 500) -> float | None:
    """The one-sided 95 % lower bound of the regret above the floor, by bootstrap.

    Each plan's runs are drawn again within their half, so that the plan is still scored on other runs than it was
    chosen on. Draws the same every time, so that a table can be made again from what was kept.
    """
    draw = random.Random(0)
    drawn = [judge({plan: resample(times, draw) for plan, times in seconds.items()}, fixed) for _ in range(resamples)]
    scores = [score.above_floor for score in drawn if score is not None]
    return figures.percentile(scores, 0.05) if scores else None


def resample(times: Sequence[float], draw: random.Random) -> list[float]:
    """As many of the times, drawn with replacement from every second one and from the others."""
    again = list(times)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        again[half] = draw.choices(times[half], k=len(times[half]))
    return again


def ratio(one: float, other: float) -> float:
    """One time over another; 1 if nobody would notice the difference."""
    return 1.0 if abs(one - other) < UNNOTICED else one / other


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


# What sums a column up.
SUMMARIES: dict[str, Callable[[Sequence[float]], float]] = {
    "geometric mean": geometric_mean,
    "median": figures.median,
    "90th percentile": functools.partial(figures.percentile, share=0.9),
    "worst": max,
}


def judged_by(above: Sequence[float], bounds: Sequence[float]) -> dict[str, float]:
    """What the promises are judged by: the regrets above the floor and, of the worst, their lower bounds.

    The worst of many noisy figures is mostly noise: it breaks the promise only if a lower bound does.
    """
    return {words: SUMMARIES[words](bounds if words == "worst" else above) for words in PROMISED}
