"""Draws how costs grow: one panel for each curve, both axes logarithmic, a line for each contestant."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import page
from results import Results

# Ours stand out; of the others, kin have a colour and members of it differ in their dashes.
LOOKS = {
    "fr.ProcessPoolExecutor": {"color": "tab:red", "linewidth": 2.5},
    "fr.ThreadPoolExecutor": {"color": "tab:red", "linewidth": 2.5, "linestyle": ":"},
    "futures, fork": {"color": "tab:blue"},
    "futures, forkserver": {"color": "tab:blue", "linestyle": "--"},
    "futures, spawn": {"color": "tab:blue", "linestyle": "-."},
    "futures, threads": {"color": "tab:blue", "linestyle": ":"},
    "Pool, fork": {"color": "tab:green"},
    "Pool, forkserver": {"color": "tab:green", "linestyle": "--"},
    "loky": {"color": "tab:purple"},
    "joblib": {"color": "tab:purple", "linestyle": "--"},
    "mpire": {"color": "tab:brown"},
    "pebble": {"color": "tab:brown", "linestyle": "--"},
    "Ray": {"color": "tab:gray"},
    "Dask": {"color": "tab:gray", "linestyle": "--"},
}


def draw(results: Sequence[Results], title: str, path: Path) -> bool:
    """Writes the picture; False if there is nothing to draw, or no matplotlib, which the tables don't need."""
    drawn = [result for result in results if result.contest.curve and result.found]
    if importlib.util.find_spec("matplotlib") is None or not drawn:
        return False
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    # The same data make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "forkright"
    pyplot = importlib.import_module("matplotlib.pyplot")
    ticker = importlib.import_module("matplotlib.ticker")
    figure, panels = pyplot.subplots(len(drawn), 1, figsize=(9, 4.6 * len(drawn)), layout="constrained", squeeze=False)
    for axes, result in zip(panels[:, 0], drawn, strict=True):
        curve = result.contest.curve
        for name, rounds in result.found.items():
            points = sorted(page.points(rounds).items())
            along = [value for value, _ in points]
            low, middle, high = ([1e6 * figures_[place] for _, figures_ in points] for place in range(3))
            look = LOOKS.get(name, {})
            axes.fill_between(along, low, high, color=look.get("color"), alpha=0.1, linewidth=0)
            axes.plot(along, middle, marker=".", label=name, **look)
        axes.set_xscale("log", base=curve.base)
        # 10 M and 100 M, which stand apart where all their digits don't.
        axes.xaxis.set_major_formatter(ticker.EngFormatter())
        axes.set_yscale("log")
        axes.set_title(curve.title, fontsize=10)
        axes.set_xlabel(curve.along)
        axes.set_ylabel("µs per task")
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
