"""The page of a comparison: what was promised and what came of it, everyone's figures, and how costs grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import figures
import machine
import peers
import table
from contest import Row
from results import Results

HEADING = ("what", "forkright", "best peer", "its figure", "ratio", "10th to 90th", "pairs", "promised", "verdict")
NUMBERS = (1, 3, 4, 5, 6)

LEGEND = """\
Figures are medians. ratio: the peer's figure over forkright's, the median over the rounds, so more than 1 is for
forkright; "against" has forkright's over the other, so less is better. 10th to 90th: its percentiles. pairs: how many
it was taken from; without a ratio, how many figures there are. The best peer is the one with the least median among
those of the row. What is promised of a ratio ends in x, what is promised of forkright's own figure has its unit."""

QUICK = "This was a quick run: few rounds, few tasks, figures to try the benchmarks and not to quote."


def page(data: dict[str, Any], results: Sequence[Results]) -> str:
    """What is printed and kept."""
    rows = [line(row, result) for result in results for row in result.contest.rows]
    return "\n\n".join(
        [
            f"# forkright beside its peers, {data['date']}",
            f"{machine.sentence(data['machine'])}.",
            *([QUICK] if data["quick"] else []),
            *([table.markdown(HEADING, cells, right=NUMBERS), LEGEND] if (cells := list(filter(None, rows))) else []),
            *notes(data, results),
            *everyone(results),
            *growth(results),
            "## The contests",
            begun(results),
            "",
        ]
    )


def line(row: Row, results: Results) -> list[str] | None:
    """The row's cells; None if nobody of it was measured."""
    found = {peer: flat for peer in row.peers if (flat := flattened(results.figures(peer, row)))}
    best = min(found, key=lambda peer: figures.median(found[peer]), default=None)
    named, theirs = (str(best), figures.written(figures.median(found[best]), row.unit)) if best else ("", "")
    ours = flattened(results.figures(row.ours, row))
    if not ours:
        failure = results.failures.get(row.ours.contestant)
        return [row.what, "failed", named, theirs, "", "", "", promised(row), failure] if failure else None
    if row.peers and best is None:
        return None
    ratios = results.ratios(row, best) if best else []
    spread = " to ".join(map(figures.three_figures, figures.spread(ratios))) if ratios else ""
    return [
        row.what,
        figures.written(figures.median(ours), row.unit),
        named,
        theirs,
        f"{figures.three_figures(figures.median(ratios))}x" if ratios else "",
        spread,
        str(len(ratios) or len(ours)),
        promised(row),
        verdict(row, figures.median(ours), ratios),
    ]


def promised(row: Row) -> str:
    if row.target is None:
        return ""
    bound = f"{row.target.bound:g}x" if row.target.of == "ratio" else figures.written(row.target.bound, row.unit)
    return f"{'≥' if row.target.rule == 'at least' else '≤'} {bound}"


def verdict(row: Row, ours: float, ratios: list[float]) -> str:
    """Whether the promise is met; without one, who is better, if the spread lets one tell."""
    if row.target is not None:
        value = figures.median(ratios) if row.target.of == "ratio" else ours
        return "met" if row.target.met(value) else "MISSED"
    if row.cost or not ratios:
        return ""
    low, high = figures.spread(ratios)
    if low <= 1 <= high:
        return "no clear difference"
    return "better" if figures.median(ratios) > 1 else "WORSE"


def notes(data: dict[str, Any], results: Sequence[Results]) -> Iterator[str]:
    """What the tables do not show: who is missing, and who failed."""
    if data["absent"]:
        yield f"Not measured, because not here: {', '.join(data['absent'])}."
    if data["left_out"]:
        yield f"Left out for want of time: {', '.join(data['left_out'])}."
    for result in results:
        for name, failure in result.failures.items():
            yield f"FAILED in `{result.contest.name}`: {name}: {failure}"


def everyone(results: Sequence[Results]) -> Iterator[str]:
    """The median of each contestant in each row it takes part in: also of those who were not the best peer."""
    rows: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for row in result.contest.rows:
            for series in row.series:
                if found := flattened(result.figures(series, row)):
                    spread = figures.span(*figures.spread(found), row.unit)
                    cells = [row.what, str(series), figures.written(figures.median(found), row.unit), spread]
                    rows.setdefault((row.what, str(series)), cells)
    if rows:
        yield "## Everyone"
        yield table.markdown(("what", "who", "median", "10th to 90th"), list(rows.values()), right=(2, 3))


def growth(results: Sequence[Results]) -> Iterator[str]:
    """A table for each curve: everyone's medians along it."""
    for result in results:
        if (curve := result.contest.curve) is None:
            continue
        lines = {name: points(rounds) for name, rounds in result.found.items()}
        along = sorted({value for line in lines.values() for value in line})
        heading = [curve.along, *(f"{value:,}" for value in along)]
        rows = [
            [name, *(figures.duration(line[value][1]) if value in line else "" for value in along)]
            for name, line in lines.items()
        ]
        yield f"## {curve.title}"
        yield table.markdown(heading, rows, right=range(1, len(heading)))


def points(rounds: Sequence[dict[str, list[float]]]) -> dict[int, tuple[float, float, float]]:
    """For each value along a curve the least, the median and the most of the rounds' medians."""
    found: dict[int, list[float]] = {}
    for figures_ in rounds:
        for value, timings in figures_.items():
            found.setdefault(int(value), []).append(figures.median(timings))
    return {value: (min(medians), figures.median(medians), max(medians)) for value, medians in found.items()}


def begun(results: Sequence[Results]) -> str:
    """When each contest was measured, of which commit, and what else the machine had to do before."""
    rows = [
        [
            result.contest.name,
            result.data["date"],
            result.data["commit"][:12],
            " ".join(f"{value:.2f}" for value in result.data["load"]),
            f"{result.data['size']:,} {result.contest.of}" if result.data["size"] > 1 else "",
            fewer(result),
        ]
        for result in results
    ]
    return table.markdown(("contest", "begun", "commit", "load", "size", "of which"), rows)


def fewer(result: Results) -> str:
    """Which of the contestants had fewer tasks."""
    had = {peers.package(name) for name in result.found} & peers.FEWER.keys() if result.contest.of == "tasks" else set()
    return ", ".join(f"{name} 1/{peers.FEWER[name]}" for name in sorted(had)) if result.data["size"] > 1 else ""


def flattened(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [value for values in rounds for value in values]
