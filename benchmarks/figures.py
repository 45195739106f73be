"""Medians, spreads and how figures are written.

Medians and percentiles, never means: on a shared machine a few timings are far off, always in the same direction.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Literal

# Seconds, bytes, and parts of a whole.
Unit = Literal["s", "B", "%"]
# From which size on a figure is written how.
WRITTEN: dict[Unit, tuple[tuple[float, float, str], ...]] = {
    "s": ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs")),
    "B": ((2**30, 2**-30, "GiB"), (2**20, 2**-20, "MiB"), (2**10, 2**-10, "KiB"), (0, 1, "B")),
    "%": ((0.0, 100.0, "%"),),
}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the others is, interpolated."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The 10th and the 90th percentile. With fewer than ten values that is nearly the least and the most."""
    return percentile(values, 0.1), percentile(values, 0.9)


def interval(values: Sequence[float], resamples: int = 10_000) -> tuple[float, float]:
    """The 95 % interval of the median: that of the medians of as many values drawn from these, again and again.

    Draws the same every time, so that a table can be made again from what was kept.
    """
    draw = random.Random(0)
    medians = [median(draw.choices(values, k=len(values))) for _ in range(resamples)]
    return percentile(medians, 0.025), percentile(medians, 0.975)


def duration(seconds: float) -> str:
    """A time in three figures. A difference of two times may be less than nothing."""
    return written(seconds, "s")


def written(value: float, unit: Unit) -> str:
    """A figure in three digits, with its unit."""
    _, factor, name = next(entry for entry in WRITTEN[unit] if abs(value) >= entry[0])
    return f"{three_figures(value * factor)} {name}"


def span(low: float, high: float, unit: Unit) -> str:
    """Two figures, with their unit once if both have the same."""
    first, last = written(low, unit), written(high, unit)
    number, name = first.split(" ")
    return f"{number} to {last}" if last.endswith(f" {name}") else f"{first} to {last}"


def three_figures(value: float) -> str:
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
