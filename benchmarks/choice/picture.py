"""Draws the regret of each workload, with what the machine makes of no difference beside it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any


def draw(kept: list[dict[str, Any]], path: Path) -> bool:
    """Writes the picture; False without matplotlib, which the tables don't need."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    scored = sorted((entry for entry in kept if entry["score"]), key=lambda entry: entry["score"]["regret"])
    names = [entry["workload"] for entry in scored]
    figure, axes = pyplot.subplots(figsize=(8, 1.5 + 0.22 * len(scored)), layout="constrained")
    axes.barh(names, [entry["score"]["floor"] - 1 for entry in scored], left=1, color="0.85", label="A/A floor")
    axes.plot([entry["score"]["regret"] for entry in scored], names, "o", color="tab:blue", label="regret of auto")
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set_xlabel("time over the best fixed plan's")
    axes.legend(loc="lower right")
    figure.savefig(path)
    pyplot.close(figure)
    return True
