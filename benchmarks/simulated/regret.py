"""What the choice costs on machines that nobody has: `make bench-simulated` runs this.

    PYTHONPATH=benchmarks python -m simulated.regret [--quick] [--against RUN.json]

The engine's choice runs over recorded and made-up workloads on a simulated machine (`crates/simulator`), beside an
oracle that knows what everything costs. Nothing here takes a real clock's word but the recordings. `--against` takes a
run of `make bench-choice` and shows what the simulation makes of its fixed plans on 2 cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import figures
import machine
import store
import table
from choice.score import UNNOTICED, ratio

RECORDINGS = Path(__file__).resolve().parent / "recordings"
SIMULATOR = machine.REPOSITORY / "target" / "release" / "forkright-simulator"
# So many of the worst are named.
WORST = 15

Row = dict[str, Any]
KINDS: dict[str, Callable[[Row], bool]] = {
    "recorded": lambda row: bool(row["recorded"]),
    "made up": lambda row: not row["recorded"],
}

LEGEND = f"""\
Regret: the time of auto over that of the best fixed plan, which was found by trying them all; workers' start is in
both. Differences of less than {UNNOTICED * 1e3:.0f} ms count as none. Each cell: median, 90th percentile, worst."""


def regret(row: Row, which: str) -> float:
    """1 is none. Less is possible: auto may do one thing first and another later."""
    return ratio(row[which]["seconds"], row["best_seconds"])


def summary(values: Sequence[float]) -> str:
    """The median, the 90th percentile and the worst."""
    return " / ".join(
        f"{value:.2f}" for value in (figures.median(values), figures.percentile(values, 0.9), max(values))
    )


def plan_name(plan: dict[str, int]) -> str:
    processes, threads = plan["processes"], plan["threads"]
    if not processes:
        return "serial" if threads == 1 else f"{threads} threads"
    return f"{processes} processes" if threads == 1 else f"{processes} x {threads}"


def by_machine(study: dict[str, Any], which: str, kind: str) -> str:
    """Cores down, starts across."""
    starts = [start for start, _, _ in study["starts"]]
    some = [row for row in study["rows"] if KINDS[kind](row)]
    rows = []
    for cores in sorted({row["cores"] for row in some}):
        cells = [
            summary([regret(row, which) for row in some if row["cores"] == cores and row["start"] == start])
            for start in starts
        ]
        rows.append([f"{cores:.0f}", *cells])
    return table.markdown(("cores", *starts), rows, right=range(len(starts) + 1))


def worst(study: dict[str, Any], kind: str) -> str:
    """By name, each on the machine where it is worst, with what the oracle took."""
    some: dict[str, Row] = {}
    for row in sorted(filter(KINDS[kind], study["rows"]), key=lambda row: -regret(row, "known")):
        some.setdefault(row["workload"], row)
    rows = [
        [
            row["workload"],
            f"{row['cores']:.0f}",
            row["start"],
            f"{regret(row, 'known'):.2f}",
            figures.duration(row["known"]["seconds"]),
            figures.duration(row["best_seconds"]),
            plan_name(row["best"]),
            plan_name(row["known"]["ended_with"]),
        ]
        for row in list(some.values())[:WORST]
    ]
    heading = ("workload", "cores", "start", "regret", "auto", "best", "the best plan", "auto ended with")
    return table.markdown(heading, rows, right=(1, 3, 4, 5))


def forecasts(study: dict[str, Any]) -> str:
    """By what share forecasts were wrong, by the kind of workload."""
    rows = []
    for kind, belongs in KINDS.items():
        found = [row["known"]["forecast_error"] for row in study["rows"] if belongs(row)]
        errors = [error for error in found if error is not None]
        if errors:
            cells = [f"{figures.percentile(errors, part):.0%}" for part in (0.25, 0.5, 0.75, 0.9)]
            rows.append([kind, str(len(errors)), *cells])
    return table.markdown(
        ("workloads", "forecasts", "lower quartile", "median", "upper quartile", "90 %"), rows, right=range(1, 6)
    )


def compared(study: dict[str, Any], run: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured of fixed plans, and what the simulation makes of them."""
    measured = {
        (one["workload"], plan): figures.median([each["seconds"] for each in runs])
        for one in run["workloads"]
        for plan, runs in one["runs"].items()
        if runs and plan not in one["failures"]
    }
    found = []
    for one in study["fixed"]:
        key = (one["workload"], plan_name(one["plan"]))
        if key in measured:
            found.append({"workload": key[0], "plan": key[1], "real": measured[key], "simulated": one["seconds"]})
    return found


def against(pairs: list[dict[str, Any]]) -> str:
    """Simulated over real time, by plan and in all; and what it would cost to believe the simulation."""
    rows = []
    by_plan = {one["plan"]: None for one in pairs}
    for plan in [*by_plan, "all"]:
        ratios = [one["simulated"] / one["real"] for one in pairs if plan in (one["plan"], "all")]
        cells = [f"{figures.percentile(ratios, part):.2f}" for part in (0.1, 0.25, 0.5, 0.75, 0.9)]
        rows.append([plan, str(len(ratios)), *cells])
    return table.markdown(("plan", "workloads", "10 %", "25 %", "median", "75 %", "90 %"), rows, right=range(1, 7))


def believed(pairs: list[dict[str, Any]]) -> list[float]:
    """For each workload, the real time of the plan that is best in the simulation over that of the really best."""
    losses = []
    for workload in dict.fromkeys(one["workload"] for one in pairs):
        plans = [one for one in pairs if one["workload"] == workload]
        taken = min(plans, key=lambda one: float(one["simulated"]))
        losses.append(ratio(taken["real"], min(one["real"] for one in plans)))
    return losses


def page(data: dict[str, Any]) -> str:
    """What is printed and kept."""
    study = data["study"]
    starts = "; ".join(
        f"{name}: {helper * 1e3:.0f} ms for the helper, {process * 1e3:.0f} ms for each process"
        for name, helper, process in study["starts"]
    )
    recorded = {row["workload"] for row in study["rows"] if row["recorded"]}
    made_up = {row["workload"] for row in study["rows"] if not row["recorded"]}
    parts = [
        f"# Regret of auto on simulated machines, {data['date']}",
        f"{len(recorded)} recorded workloads and {len(made_up)} made-up ones. Starts: {starts}.",
        f"{machine.sentence(data['machine'])} ran the simulation.",
    ]
    for kind in KINDS:
        parts += [f"## {kind.capitalize()} workloads", by_machine(study, "known", kind)]
        parts += [
            "The same where auto takes a start to cost what it does by default (60 ms and 3 ms):",
            by_machine(study, "unknown", kind),
        ]
        parts += ["The worst, each on the machine where it is worst:", worst(study, kind)]
    parts += [LEGEND, "## By how much forecasts were wrong", forecasts(study)]
    if pairs := data["against"]:
        losses = believed(pairs)
        parts += [
            "## Against real runs, 2 cores",
            "Simulated over measured time of fixed plans, percentiles over the workloads:",
            against(pairs),
            f"Whoever took, for each workload, the plan that is best in the simulation would really take "
            f"{summary(losses)} times as long as with the really best one (median, 90th percentile, worst).",
        ]
    return "\n\n".join([*parts, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the choice on simulated machines.")
    parser.add_argument("--quick", action="store_true", help="few machines: a trial of the study")
    parser.add_argument("--against", type=Path, metavar="RUN.json", help="real runs to hold the simulation against")
    options = parser.parse_args()
    recordings = sorted(str(path) for path in RECORDINGS.glob("*.json"))
    command = [str(SIMULATOR), *(["--quick"] if options.quick else []), *recordings]
    study = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    run = json.loads(options.against.read_text()) if options.against else None
    data = {
        "form": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "study": study,
        "against": compared(study, run) if run else [],
    }
    text = page(data)
    print(text)
    directory = store.save("simulated", store.kind(options.quick, False), data, text)
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")


if __name__ == "__main__":
    main()
