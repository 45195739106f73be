"""Draws the regret of each workload, with what the machine makes of no difference beside it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

# What stands further off would press the others together: it gets its figure at the edge.
EDGE = 3.0
# By what JSON calls the score; the later ones are drawn over the others.
DOTS: dict[str, tuple[str, dict[str, str]]] = {
    "score_by_cpu_and_wall": ("auto by CPU/wall", {"facecolors": "none", "edgecolors": "tab:orange"}),
    "score": ("auto", {"color": "tab:blue"}),
}


def draw(kept: list[dict[str, Any]], title: str, path: Path) -> bool:
    """Writes the picture; False without matplotlib, which the tables don't need."""
    scored = sorted((entry for entry in kept if entry["score"]), key=lambda entry: entry["score"]["regret"])
    if importlib.util.find_spec("matplotlib") is None or not scored:
        return False
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    # The same data make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "forkright"
    pyplot = importlib.import_module("matplotlib.pyplot")
    names = [entry["workload"] for entry in scored]
    rows = range(len(scored))
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.22 * len(scored)), layout="constrained")
    floors = [entry["score"]["floor"] for entry in scored]
    # Luck goes either way.
    lefts, rights = [1 / min(floor, EDGE) for floor in floors], [min(floor, EDGE) for floor in floors]
    widths = [right - left for left, right in zip(lefts, rights, strict=True)]
    axes.barh(rows, widths, left=lefts, color="0.85", label="A/A: no difference at all")
    for key, (label, look) in DOTS.items():
        seen = [(row, entry[key]["regret"]) for row, entry in zip(rows, scored, strict=True) if entry[key]]
        if seen:
            axes.scatter([min(regret, EDGE) for _, regret in seen], [row for row, _ in seen], s=24, label=label, **look)
        for row, regret in seen:
            if regret > EDGE:
                axes.annotate(f"{regret:.1f}", (EDGE, row), (6, 0), textcoords="offset points", va="center", fontsize=7)
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.7, len(scored) - 0.3)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time over that of the best fixed plan; 1 is no regret")
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, reverse=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
