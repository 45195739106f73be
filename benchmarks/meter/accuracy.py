"""Checks forkright's meter against the oracle and prints a table for each Python; `make bench-meter` runs this.

    PYTHONPATH=benchmarks python -m meter.accuracy [--pythons found | PYTHON...] [--only ROW...] [--samples N]

Each row of `workloads.py` runs in a fresh interpreter under both at once, until there are enough samples of each
thread. What is kept has the figures of every thread; the table has, of each row, those on which the two differ most.
"""

from __future__ import annotations

import argparse
import datetime
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import figures
import launch
import machine
import store
import table
from meter import interpreters, library, workloads
from progress import say

SAMPLES = 2500
# A row runs for so long at least: some eight hundred turns on the GIL, and at the rate of `thorough` thousands of
# samples.
SECONDS = 4.0
# So much longer than it should take, where that was not enough.
MARGIN = 1.1
ATTEMPTS = 4
# Percentage points that the two may differ by, while there are free cores and while there are none.
FREE, BUSY = 2.0, 5.0
# Of a core: what a host takes is on no clock of the threads that had it, and goes for waiting.
STOLEN = 0.02

HEADING = (
    "workload", "threads", "runnable", "others", "stolen",
    "held", "measured", "off by", "waited", "measured", "off by",
    "samples", "by chance", "limit", "verdict", "held, seen", "waited, seen",
)  # fmt: skip
NUMBERS = (*range(1, 14), 15, 16)

LEGEND = """\
Shares are in percent of each thread's time, as the oracle counted them and as forkright's report has them, each for
the thread on which the two differ most. held: with the GIL, computing or blocked. waited: blocked until the GIL could
be had. Neither has the time in which the thread was ready and without a core; a report has that by itself. runnable:
how many of the row's threads, on average, had a core or were ready for one. others: how many cores other programs
took. stolen: how many the host of this virtual machine took, time that no clock of a thread has. Where runnable and
others leave less than half a core free, or a fiftieth of one is stolen, the cores count as busy. off by: in percentage
points.
samples: the least of any thread. by chance: what 95 % of perfect samplers with so many independent samples would be
off by at most. held, seen and waited, seen: in percentage points, what the samples alone are off by from all time with
the GIL and all time from asking for it to having it, with a core or without."""


class Difference(NamedTuple):
    """A share in percent, as it was and as it was measured."""

    exact: float
    measured: float
    samples: int

    @property
    def points(self) -> float:
        return self.measured - self.exact

    @property
    def chance(self) -> float:
        """The half-width of the 95 % interval of independent samples."""
        share = min(max(self.exact / 100, 0.0), 1.0)
        return 196 * math.sqrt(share * (1 - share) / max(self.samples, 1))


def measure(row: str, python: str, samples: int) -> dict[str, Any]:
    """The row's answer, with enough samples of each thread; or what prevented it, as `missing` or `failed`."""
    environment = {"LD_PRELOAD": str(library.build("oracle"))}
    # A thread of a row is one thread: BLAS starts none of its own.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    seconds = SECONDS * min(samples / SAMPLES, 1.0)
    answer: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        request = {"row": row, "seconds": seconds, "meter": True}
        try:
            answer = launch.ask_module("meter.visit", request, python, environment, seconds + launch.PATIENCE)
        except launch.Failure as failure:
            return {"failed": str(failure)}
        answer["seconds"] = seconds
        if answer.get("missing") or answer.get("unseen"):
            return answer
        absent = [thread["name"] for thread in answer["threads"] if "sampled" not in thread]
        if absent:
            return answer | {"failed": f"the meter says nothing of {', '.join(absent)}"}
        least = min(thread["sampled"]["samples"] for thread in answer["threads"])
        if least >= samples:
            return answer
        seconds *= min(MARGIN * samples / max(least, 1), 4.0)
    return answer | {"failed": f"only {least} samples after {ATTEMPTS} attempts"}


class Share(NamedTuple):
    """A thread's share: as the oracle counts it, of the times in each state, and as the meter says it."""

    exact: Callable[[dict[str, Any]], float]
    measured: Callable[[dict[str, Any]], float | None]


HELD = Share(
    lambda truth: truth["holding"]["wall"] - truth["holding"]["delay"],
    lambda shares: _sum(shares["held"], shares["held_blocked"]),
)
WAITED = Share(
    lambda truth: truth["waiting"]["wall"] - truth["waiting"]["cpu"] - truth["waiting"]["delay"],
    lambda shares: shares["wait"],
)
SEEN_HELD = Share(lambda truth: truth["holding"]["wall"], lambda shares: shares["seen_held"])
SEEN_WAITED = Share(lambda truth: truth["waiting"]["wall"], lambda shares: shares["seen_wait"])


def worst(threads: list[dict[str, Any]], share: Share) -> Difference | None:
    """The thread's difference that is largest; None where the meter does not know one."""
    found = []
    for thread in threads:
        measured = share.measured(thread["sampled"])
        if measured is None:
            return None
        exact = share.exact(thread["truth"]) / thread["truth"]["total"]["wall"]
        found.append(Difference(100 * exact, 100 * measured, thread["sampled"]["samples"]))
    return max(found, key=lambda difference: abs(difference.points))


def runnable(threads: list[dict[str, Any]]) -> float:
    """How many of the threads, on average, had a core or were ready for one."""
    totals: list[dict[str, float]] = [thread["truth"]["total"] for thread in threads]
    return sum((total["cpu"] + total["delay"]) / total["wall"] for total in totals)


def verdict(threads: list[dict[str, Any]], others: float, stolen: float, cores: int) -> tuple[float, bool | None]:
    """The limit, and whether the row is within it; None where the meter does not know."""
    limit = BUSY if runnable(threads) + others > cores - 0.5 or stolen > STOLEN else FREE
    found = [worst(threads, HELD), worst(threads, WAITED)]
    return limit, None if None in found else all(abs(one.points) <= limit for one in found if one)


def line(row: str, answer: dict[str, Any], cores: int) -> list[str]:
    """The row's cells."""
    problem = answer.get("failed") or answer.get("missing") or answer.get("unseen")
    if problem:
        return _told(row, f"none: {problem}")
    threads = answer["threads"]
    held, waited = worst(threads, HELD), worst(threads, WAITED)
    seen = [worst(threads, SEEN_HELD), worst(threads, SEEN_WAITED)]
    if held is None or waited is None:
        return _told(row, "unknown to the meter")
    limit, within = verdict(threads, answer["others"], answer["stolen"], cores)
    cells = []
    for difference in (held, waited):
        cells += [f"{difference.exact:.1f}", f"{difference.measured:.1f}", f"{difference.points:+.1f}"]
    return [
        row,
        str(len(threads)),
        figures.three_figures(runnable(threads)),
        figures.three_figures(answer["others"]),
        figures.three_figures(answer["stolen"]),
        *cells,
        str(min(thread["sampled"]["samples"] for thread in threads)),
        f"±{max(held.chance, waited.chance):.1f}",
        f"{limit:.0f}",
        "within" if within else "OUTSIDE",
        *(f"{difference.points:+.1f}" if difference else "" for difference in seen),
    ]


def summary(pythons: list[dict[str, Any]], cores: int) -> str:
    """Of all rows, by how many points the shares of each Python are off; in bold where that is more than the limit."""
    versions = [next((row["python"] for row in rows.values() if "python" in row), "unknown") for rows in pythons]
    heading = ["workload", *(f"{version}: {what}" for version in versions for what in ("held", "waited"))]
    lines = []
    for name in pythons[0]:
        cells = [name]
        for rows in pythons:
            threads = rows.get(name, {}).get("threads", [])
            told = all("sampled" in thread for thread in threads)
            for found in (worst(threads, HELD), worst(threads, WAITED)) if threads and told else (None, None):
                limit, _ = verdict(threads, rows[name]["others"], rows[name]["stolen"], cores) if found else (0, None)
                points = f"{found.points:+.1f} of {limit:.0f}" if found else "unknown"
                cells.append(f"**{points}**" if found and abs(found.points) > limit else points)
        lines.append(cells)
    return table.markdown(heading, lines, right=range(1, len(heading)))


def report(data: dict[str, Any]) -> str:
    """The page that is printed and kept."""
    parts = [f"# The meter against the oracle, {data['date']}", f"{machine.sentence(data['machine'])}."]
    before, after = (" ".join(f"{value:.2f}" for value in data[when]) for when in ("load_before", "load_after"))
    parts.append(f"Load before {before}, after {after}. At least {data['samples']} samples of each thread.")
    cores = data["machine"]["cores"]
    parts.append(summary(data["pythons"], cores))
    for rows in data["pythons"]:
        lines = [line(row, answer, cores) for row, answer in rows.items()]
        versions = sorted({answer["python"] for answer in rows.values() if "python" in answer})
        within = sum("within" in cells for cells in lines)
        parts.append(f"## Python {', '.join(versions) or 'unknown'}: {within} of {len(lines)} rows within their limit")
        contradictions = sum(answer.get("contradictions", 0) for answer in rows.values())
        if contradictions:
            parts.append(f"**The oracle contradicted itself {contradictions} times: these figures are worth nothing.**")
        parts.append(table.markdown(HEADING, lines, right=NUMBERS))
    return "\n\n".join([*parts, LEGEND, ""])


def _sum(*shares: float | None) -> float | None:
    known = [share for share in shares if share is not None]
    return sum(known) if len(known) == len(shares) else None


def _told(row: str, words: str) -> list[str]:
    """A row without figures."""
    place = HEADING.index("verdict")
    return [row, *[""] * (place - 1), words, *[""] * (len(HEADING) - place - 1)]


def _pythons(asked: list[str]) -> list[str]:
    if asked == ["found"]:
        return [interpreters.prepare(version, python) for version, python in interpreters.find().items()]
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks forkright's meter against an exact count.")
    everything = [row.name for row in workloads.ROWS]
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="interpreters, or the word `found`")
    parser.add_argument("--only", nargs="+", choices=everything, default=everything, metavar="ROW")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="the least number of samples of a thread")
    parser.add_argument("--name", default="meter", help="the name of what is kept")
    options = parser.parse_args()
    library.build("spin")
    data: dict[str, Any] = {
        "form": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "samples": options.samples,
        "load_before": machine.load(),
    }
    kind = store.kind(options.samples < SAMPLES, options.only != everything)
    found = _pythons(options.pythons)
    data["pythons"] = [{} for _ in found]
    # Row by row, so that a slow minute of the machine meets every Python.
    for name in options.only:
        for python, rows in zip(found, data["pythons"], strict=True):
            say(f"{name}: {python}")
            rows[name] = measure(name, python, options.samples)
        data["load_after"] = machine.load()
        # A run that is stopped keeps what it has.
        store.save(options.name, "-".join(filter(None, ("begun", kind))), data, report(data))
    say("")
    page = report(data)
    print(page)
    directory = store.save(options.name, kind, data, page)
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    sys.exit(any("failed" in answer for rows in data["pythons"] for answer in rows.values()))


if __name__ == "__main__":
    main()
