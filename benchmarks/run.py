"""Compares forkright with its peers and prints one table; `make bench` runs this. README.md says how to read it.

    python benchmarks/run.py [--quick] [--only NAME...]

The contests are in `contests.py`. In each round every contestant has its turn, in an interpreter of its own, and each
round begins with another one; ratios are taken within a round, so that a slow minute meets both sides.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from typing import Any

import contests
import figures
import launch
import machine
import peers
import store
import table
from contests import Contest, Row, Series
from progress import say

HEADING = ("what", "forkright", "best peer", "its time", "ratio", "10th to 90th", "rounds", "verdict")
NUMBERS = (1, 3, 4, 5, 6)

LEGEND = """\
Times are medians. ratio: the peer's time over forkright's, the median over the rounds, so more than 1 is for
forkright; from 4 threads at once it is that time over the time from 1 thread of the same pool, so 1 would be perfect.
10th to 90th: the percentiles of the ratio. The best peer is the one with the least median among those named below."""


class Results:
    """Every timing of one contest: by contestant, by round, by name."""

    def __init__(self, contest: Contest, quick: bool) -> None:
        self.contest = contest
        self.size = contest.size[quick]
        self.rounds = contest.rounds[quick]
        self.repeats = contest.repeats[quick]
        self.timings: dict[str, list[dict[str, list[float]]]] = {}
        self.failures: dict[str, str] = {}

    def take(self, absent: list[str]) -> None:
        """Runs all rounds. Who fails once is out, and the table says so."""
        taking_part = [name for name in self.contest.contestants if name not in absent]
        self.timings = {name: [] for name in taking_part}
        for round_ in range(self.rounds):
            first = round_ % len(taking_part)
            for name in taking_part[first:] + taking_part[:first]:
                if name not in self.failures:
                    say(f"{self.contest.name}: round {round_ + 1} of {self.rounds}: {name}")
                    self._visit(name)
        for name in self.failures:
            del self.timings[name]

    def _visit(self, name: str) -> None:
        try:
            if self.contest.measure == "interpreter":
                pairs = [(launch.clock(name), launch.clock("pass")) for _ in range(self.repeats)]
                timings = {"whole": [whole for whole, _ in pairs], "bare": [bare for _, bare in pairs]}
            else:
                request = {"measure": self.contest.measure, "contestant": name}
                answer = launch.ask("visit.py", request | {"size": self.size, "repeats": self.repeats})
                timings = answer["timings"]
        except launch.Failure as failure:
            self.failures[name] = str(failure)
        else:
            self.timings[name].append(timings)

    def figures(self, series: Series, row: Row) -> list[float] | None:
        """The figures of a series, in the order they were taken in; None if its contestant has none."""
        if series.contestant not in self.timings:
            return None
        rounds = self.timings[series.contestant]
        found = [figure for timings in rounds for figure in row.reduce(timings[series.timing])]
        if row.without is not None:
            bare = [figure for timings in rounds for figure in row.reduce(timings[row.without])]
            found = [figure - other for figure, other in zip(found, bare, strict=True)]
        return found

    def data(self) -> dict[str, Any]:
        """As JSON has it; nanoseconds are enough."""
        return {
            "contest": self.contest.name,
            "measure": self.contest.measure,
            "size": self.size,
            "repeats": self.repeats,
            "failures": self.failures,
            "seconds": {
                name: [
                    {timing: [round(value, 9) for value in values] for timing, values in timings.items()}
                    for timings in rounds
                ]
                for name, rounds in self.timings.items()
            },
        }


def line(row: Row, results: Results) -> list[str] | None:
    """The row's cells; None if all its peers are absent."""
    found = {peer: timings for peer in row.peers if (timings := results.figures(peer, row))}
    if not found:
        return None
    best = min(found, key=lambda peer: figures.median(found[peer]))
    ours = results.figures(row.ours, row)
    if ours is None:
        failure = results.failures[row.ours.contestant]
        return [row.what, "failed", str(best), figures.duration(figures.median(found[best])), "", "", "0", failure]
    pairs = list(zip(ours, found[best], strict=True))
    ratios = [mine / theirs if row.cost else theirs / mine for mine, theirs in pairs]
    low, high = figures.spread(ratios)
    return [
        row.what,
        figures.duration(figures.median(ours)),
        str(best),
        figures.duration(figures.median(found[best])),
        f"{figures.three_figures(figures.median(ratios))}x",
        f"{figures.three_figures(low)} to {figures.three_figures(high)}",
        str(len(ratios)),
        verdict(row, figures.median(ours), ratios),
    ]


def verdict(row: Row, ours: float, ratios: list[float]) -> str:
    """Whether the target is met; without one, who is faster, if the spread lets one tell."""
    ratio = figures.median(ratios)
    if row.target is not None:
        value = ratio if row.target.of == "ratio" else ours
        return f"{row.target}: {'met' if row.target.met(value) else 'NOT met'}"
    if row.cost:
        return "for comparison"
    low, high = figures.spread(ratios)
    if low <= 1 <= high:
        return "no clear difference"
    return "faster" if ratio > 1 else "SLOWER"


def everyone(results: list[Results]) -> str:
    """The median of each contestant in each row it takes part in: also of those who were not the best peer."""
    rows: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for row in result.contest.rows:
            for series in row.series:
                if timings := result.figures(series, row):
                    span = figures.durations(*figures.spread(timings))
                    cells = [row.what, str(series), figures.duration(figures.median(timings)), span]
                    rows.setdefault((row.what, str(series)), cells)
    return table.markdown(("what", "who", "median", "10th to 90th"), list(rows.values()), right=(2, 3))


def notes(results: list[Results], absent: list[str]) -> list[str]:
    """What the tables do not show: who is missing, and who failed."""
    lines = [f"Not measured, because not installed: {', '.join(absent)}."] if absent else []
    for result in results:
        for name, failure in result.failures.items():
            lines.append(f"FAILED in `{result.contest.name}`: {name}: {failure}")
    return lines


def report(data: dict[str, Any], results: list[Results], absent: list[str]) -> str:
    """The page that is printed and kept."""
    rows = [cells for result in results for row in result.contest.rows if (cells := line(row, result))]
    quick = " This was a quick run: few rounds, few tasks, figures to try the harness and not to quote." * data["quick"]
    sizes = ", ".join(f"{result.contest.name} {result.size:,}" for result in results if result.size > 1)
    before, after = (" ".join(f"{value:.2f}" for value in data[when]) for when in ("load_before", "load_after"))
    return "\n\n".join(
        [
            f"# forkright beside its peers, {data['date']}",
            f"{machine.sentence(data['machine'])}.",
            f"Load before {before}, after {after}.{quick}",
            table.markdown(HEADING, rows, right=NUMBERS),
            LEGEND + (f" Tasks of a timing: {sizes}." if sizes else ""),
            *notes(results, absent),
            "## Everyone",
            everyone(results),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares forkright with its peers.")
    parser.add_argument("--quick", action="store_true", help="few rounds and few tasks: a trial of the harness")
    names = [contest.name for contest in contests.CONTESTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args()
    absent = peers.missing()
    data: dict[str, Any] = {
        "form": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": machine.describe(),
        "load_before": machine.load(),
    }
    results = []
    for contest in contests.CONTESTS:
        if contest.name in options.only:
            result = Results(contest, options.quick)
            result.take(absent)
            results.append(result)
    say("")
    data |= {"load_after": machine.load(), "absent": absent, "contests": [result.data() for result in results]}
    page = report(data, results, absent)
    print(page)
    directory = store.save("run", store.kind(options.quick, options.only != names), data, page)
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    # A peer may fail; if forkright does, whoever runs this must notice.
    sys.exit(any(name.startswith(("fr.", "import forkright")) for result in results for name in result.failures))


if __name__ == "__main__":
    main()
