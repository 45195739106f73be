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
from typing import Any, NamedTuple

import figures
import launch
import machine
import store
import table
from meter import interpreters, library, workloads
from progress import say

SAMPLES = 2500
# The meter's steady rate, from which the first guess of the time is made. Later ones are made of what came.
RATE = 200.0
# So much longer than it should take.
MARGIN = 1.1
ATTEMPTS = 4
# Percentage points that the two may differ by, while there are free cores and while there are none.
FREE, BUSY = 2.0, 5.0

HEADING = (
    "workload", "threads", "runnable",
    "held", "sampled", "off by", "waited", "sampled", "off by",
    "samples", "by chance", "limit", "verdict",
)  # fmt: skip
NUMBERS = tuple(range(1, 12))

LEGEND = """\
Shares are in percent of each thread's time, as the oracle counted them and as the meter sampled them, each for the
thread on which the two differ most. runnable: how many of the row's threads, on average, had a core or waited for one;
where that leaves less than half a core free, the cores count as busy. off by: in percentage points. samples: the least
of any thread. by chance: what 95 % of perfect samplers with so many independent samples would be off by at most."""


class Difference(NamedTuple):
    """A share in percent, as it was and as it was sampled."""

    exact: float
    sampled: float
    samples: int

    @property
    def points(self) -> float:
        return self.sampled - self.exact

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
    seconds = MARGIN * samples / RATE
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


def runnable(threads: list[dict[str, Any]]) -> float:
    """How many of the threads, on average, had a core or waited for one."""
    return sum((truth["cpu"] + truth["run_delay"]) / truth["wall"] for truth in _truths(threads))


def worst(threads: list[dict[str, Any]], exact: str, sampled: str) -> Difference | None:
    """The thread's difference that is largest; None where the meter does not know one."""
    found = []
    for thread in threads:
        if thread["sampled"][sampled] is None:
            return None
        share = 100 * thread["truth"][exact] / thread["truth"]["wall"]
        found.append(Difference(share, 100 * thread["sampled"][sampled], thread["sampled"]["samples"]))
    return max(found, key=lambda difference: abs(difference.points))


def line(row: str, answer: dict[str, Any], cores: int) -> list[str]:
    """The row's cells."""
    problem = answer.get("failed") or answer.get("missing") or answer.get("unseen")
    if problem:
        return [row, *[""] * (len(HEADING) - 2), f"none: {problem}"]
    threads = answer["threads"]
    held, waited = worst(threads, "held", "held"), worst(threads, "waited", "wait")
    if held is None or waited is None:
        return [row, *[""] * (len(HEADING) - 2), "unknown to the meter"]
    limit = BUSY if runnable(threads) > cores - 0.5 else FREE
    off = max(abs(held.points), abs(waited.points))
    cells = [f"{value:.1f}" for value in (held.exact, held.sampled)] + [f"{held.points:+.1f}"]
    cells += [f"{value:.1f}" for value in (waited.exact, waited.sampled)] + [f"{waited.points:+.1f}"]
    return [
        row,
        str(len(threads)),
        figures.three_figures(runnable(threads)),
        *cells,
        str(min(thread["sampled"]["samples"] for thread in threads)),
        f"±{max(held.chance, waited.chance):.1f}",
        f"{limit:.0f}",
        "within" if off <= limit else "OUTSIDE",
    ]


def report(data: dict[str, Any]) -> str:
    """The page that is printed and kept."""
    parts = [f"# The meter against the oracle, {data['date']}", f"{machine.sentence(data['machine'])}."]
    before, after = (" ".join(f"{value:.2f}" for value in data[when]) for when in ("load_before", "load_after"))
    parts.append(f"Load before {before}, after {after}. At least {data['samples']} samples of each thread.")
    cores = data["machine"]["cores"]
    for rows in data["pythons"]:
        lines = [line(row, answer, cores) for row, answer in rows.items()]
        versions = sorted({answer["python"] for answer in rows.values() if "python" in answer})
        within = sum(cells[-1] == "within" for cells in lines)
        parts.append(f"## Python {', '.join(versions) or 'unknown'}: {within} of {len(lines)} rows within their limit")
        contradictions = sum(answer.get("contradictions", 0) for answer in rows.values())
        if contradictions:
            parts.append(f"**The oracle contradicted itself {contradictions} times: these figures are worth nothing.**")
        parts.append(table.markdown(HEADING, lines, right=NUMBERS))
    return "\n\n".join([*parts, LEGEND, ""])


def _truths(threads: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [thread["truth"] for thread in threads]


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
        "pythons": [],
    }
    for python in _pythons(options.pythons):
        rows = {}
        for name in options.only:
            say(f"{python}: {name}")
            rows[name] = measure(name, python, options.samples)
        data["pythons"].append(rows)
    say("")
    data["load_after"] = machine.load()
    page = report(data)
    print(page)
    kind = store.kind(options.samples < SAMPLES, options.only != everything)
    directory = store.save(options.name, kind, data, page)
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    sys.exit(any("failed" in answer for rows in data["pythons"] for answer in rows.values()))


if __name__ == "__main__":
    main()
