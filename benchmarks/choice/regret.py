"""What the choice costs: auto beside every fixed plan and beside peers; `make bench-choice` runs this.

    PYTHONPATH=benchmarks python -m choice.regret [--quick] [--rounds NUMBER] [--only NAME...]

In each round every runner takes each workload once, in an interpreter of its own and with a cold start, and each round
begins with another runner. Nobody can know the best fixed plan beforehand: regret is what auto took over what that
took. README.md has the method.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import importlib.util
import sys
import time
from typing import Any

import figures
import launch
import machine
import store
import table
from choice import picture, workloads
from choice.score import (
    AUTO,
    BLIND,
    FORESEEN,
    PROMISED,
    SUMMARIES,
    UNNOTICED,
    Score,
    forecast_error,
    hopeless,
    judge,
    judged_by,
    lower_bound,
)
from choice.workloads import server
from progress import say

# By name: what `trial.py` gets, as [processes, threads].
FIXED_PLANS: dict[str, list[int]] = {
    "serial": [0, 1],
    "2 threads": [0, 2],
    "4 threads": [0, 4],
    "8 threads": [0, 8],
    "20 threads": [0, 20],
    "2 processes": [2, 1],
    "4 processes": [4, 1],
    "2 x 8": [2, 8],
}
FIXED = tuple(FIXED_PLANS)
PEERS = ("ThreadPoolExecutor", "ProcessPoolExecutor", "joblib")
QUICK = ("serial", "2 threads", "20 threads", "2 processes", AUTO)
RUNNERS: dict[str, Any] = FIXED_PLANS | {name: name for name in (AUTO, BLIND, *PEERS)}
ROUNDS, QUICK_ROUNDS = 7, 2
# A quick run begins no workload after so many seconds, and names those it left out.
QUICK_BUDGET = 540.0
PATIENCE = 60.0
# After so many rounds a fixed plan takes no further part if it took so many times as long as the best in each of them:
# it can't become the best. Peers, which nothing is judged by, take part in as many.
HEATS, HOPELESS = 3, 1.4

HEADING = (
    "workload",
    "best fixed",
    "regret",
    "gap",
    "A/A",
    "above A/A",
    "at least",
    "by CPU/wall",
    "forecast off by",
    "auto ended with",
)

LEGEND = f"""\
best fixed: the plan with the least median on one half of the rounds, each half in turn. regret: auto's median over
that plan's on the other half, so that the plan gets no credit for the luck it was chosen for; 1 is none. A/A: the best
fixed plan's odd rounds over its even ones, whichever is more: what this machine makes of no difference at all.
above A/A: the regret over that. at least: its one-sided 95 % lower bound, by bootstrap. by CPU/wall: the regret of auto
when it doesn't see the GIL. forecast off by: of the forecast that was in force for the longest, what the rest should
have taken against what it took, the median of auto's runs. Differences of less than {UNNOTICED * 1e3:.0f} ms count as
none."""

TIMES = f"""\
Medians with the 10th to 90th percentile, from just before the map to its results, workers' start included. The fastest
fixed plan is in bold. A fixed plan that took {HOPELESS} times as long as the best in each of the first {HEATS} rounds
took no part in the others, nor did peers: in brackets, then, is the spread of {HEATS}."""


class Trials:
    """Every run of one workload: by plan, in the order of the rounds."""

    def __init__(self, name: str, rounds: int, runners: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.runners = runners
        self.rounds = rounds
        self.environment = environment
        self.loop: dict[str, Any] = {}
        self.runs: dict[str, list[dict[str, Any]]] = {plan: [] for plan in runners}
        self.failures: dict[str, str] = {}

    def take(self) -> None:
        """Runs the plain loop, whose results all others must have, and then all rounds."""
        try:
            self.loop = self._ask(None)
        except launch.Failure as failure:
            self.failures["a plain loop"] = str(failure)
            return
        plans = self.runners
        for round_ in range(self.rounds):
            first = round_ % len(plans)
            runs_on = self._running_on(round_)
            for plan in plans[first:] + plans[:first]:
                if plan in runs_on:
                    say(f"{self.name}: round {round_ + 1} of {self.rounds}: {plan}")
                    self._run(plan)

    def _running_on(self, round_: int) -> list[str]:
        sound = [plan for plan in self.runners if plan not in self.failures]
        if round_ < HEATS:
            return sound
        return [
            plan for plan in sound if plan not in PEERS and plan not in hopeless(self.times(), FIXED, HEATS, HOPELESS)
        ]

    def _run(self, plan: str) -> None:
        try:
            answer = self._ask(RUNNERS[plan])
        except launch.Failure as failure:
            self.failures[plan] = str(failure)
            return
        if answer["results"] != self.loop["results"]:
            self.failures[plan] = "WRONG RESULTS: not those of a plain loop"
        self.runs[plan].append(answer)

    def _ask(self, plan: list[int] | str | None) -> dict[str, Any]:
        return launch.ask_module(
            "choice.trial", {"workload": self.name, "plan": plan}, sys.executable, self.environment, PATIENCE
        )

    def seconds(self, plan: str) -> list[float]:
        """The times of the maps; none if the plan failed."""
        return [] if plan in self.failures else [run["seconds"] for run in self.runs[plan]]

    def ended_with(self) -> str:
        """The plans that auto's runs ended with, the most frequent first."""
        counted = collections.Counter(run["ended_with"] for run in self.runs[AUTO])
        return ", ".join(f"{plan} ({count})" for plan, count in counted.most_common())

    def score(self) -> Score | None:
        """The regret of auto; None if there is none to tell of."""
        return judge(self.times(), FIXED)

    def blind(self) -> Score | None:
        """The same of auto that doesn't see the GIL."""
        return judge(self.times(), FIXED, BLIND)

    def bound(self) -> float | None:
        """What the regret above the floor is at least."""
        return lower_bound(self.times(), FIXED)

    def forecast_error(self) -> float | None:
        """By what share auto's forecasts were wrong, the median of its runs."""
        found = [error for run in self.runs[AUTO] if (error := forecast_error(run["report"])) is not None]
        return figures.median(found) if found else None

    def times(self) -> dict[str, list[float]]:
        """Of all runners that didn't fail."""
        return {plan: seconds for plan in self.runners if (seconds := self.seconds(plan))}

    def broken(self) -> list[str]:
        """What must not fail: the plain loop and auto. Others are ruled out, as a user would rule them out."""
        return [plan for plan in ("a plain loop", AUTO) if plan in self.failures]

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        score, blind = self.score(), self.blind()
        return {
            "workload": self.name,
            "what": workloads.what(self.name),
            "loop": self.loop,
            "failures": self.failures,
            "score": score and score._asdict(),
            "score_by_cpu_and_wall": blind and blind._asdict(),
            "above_floor_at_least": self.bound(),
            "forecast_error": self.forecast_error(),
            "runs": self.runs,
        }


def times_table(trials: list[Trials]) -> str:
    """The median of each plan, with its spread; the least in bold."""
    rows = []
    for trial in trials:
        medians = {plan: figures.median(times) for plan, times in trial.times().items()}
        least = min((medians[plan] for plan in FIXED if plan in medians), default=None)
        cells = []
        for plan in RUNNERS:
            if plan not in medians:
                cells.append("ruled out" if plan in trial.failures else "")
                continue
            low, high = figures.spread(trial.seconds(plan))
            mark = "**" if medians[plan] == least else ""
            cells.append(f"{mark}{milliseconds(medians[plan])}{mark} ({milliseconds(low)} to {milliseconds(high)})")
        rows.append([trial.name, *cells])
    return table.markdown(("ms", *RUNNERS), rows, right=range(1, len(RUNNERS) + 1))


def regret_table(trials: list[Trials]) -> str:
    rows, scores, bounds, blinds = [], [], [], []
    for trial in trials:
        score, bound, blind = trial.score(), trial.bound(), trial.blind()
        if score is None or bound is None:
            rows.append([trial.name, "", "failed", "", "", "", "", "", "", ""])
            continue
        scores.append(score)
        bounds.append(bound)
        cells = [f"{score.regret:.2f}", f"{score.gap * 1e3:+.0f} ms", f"{score.floor:.2f}"]
        cells += [f"{score.above_floor:.2f}", f"{bound:.2f}"]
        error = trial.forecast_error()
        cells += [f"{blind.regret:.2f}" if blind else "", "" if error is None else f"{error:.0%}", trial.ended_with()]
        if blind:
            blinds.append(blind.regret)
        rows.append([trial.name, " / ".join(score.best), *cells])
    if len(scores) > 1:
        regrets, above = [score.regret for score in scores], [score.above_floor for score in scores]
        for words, value in SUMMARIES.items():
            bound = f"{max(bounds):.2f}" if value is max else ""
            blind = f"{value(blinds):.2f}" if blinds else ""
            rows.append([words, "", f"{value(regrets):.2f}", "", "", f"{value(above):.2f}", bound, blind, "", ""])
    return table.markdown(HEADING, rows, right=range(2, 9))


def promised(trials: list[Trials]) -> list[str]:
    """Whether what is promised of the whole suite was kept."""
    above = [score.above_floor for trial in trials if (score := trial.score())]
    bounds = [bound for trial in trials if (bound := trial.bound())]
    if not above:
        return []
    said = [
        f"{words} {found:.2f} of at most {PROMISED[words]:.2f}: {'met' if found <= PROMISED[words] else 'NOT met'}"
        for words, found in judged_by(above, bounds).items()
    ]
    errors = [error for trial in trials if (error := trial.forecast_error()) is not None]
    if errors:
        found = figures.median(errors)
        low, high = figures.percentile(errors, 0.25), figures.percentile(errors, 0.75)
        met = "met" if found <= FORESEEN else "NOT met"
        said.append(
            f"forecast off by {found:.0%} (quartiles {low:.0%} to {high:.0%}), median of at most {FORESEEN:.0%}: {met}"
        )
    measured = f"{len(above)} of {len(workloads.names())} workloads"
    return [
        f"Promised above A/A, of the worst its lower bound ({measured}):",
        "\n".join(f"- {words}" for words in said),
    ]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def report(data: dict[str, Any], trials: list[Trials]) -> str:
    """The page that is printed and kept."""
    quick = " This was a quick run: too few rounds to quote." * data["quick"]
    before, after = (" ".join(f"{value:.2f}" for value in data[when]) for when in ("load_before", "load_after"))
    failed = [
        f"{'FAILED' if plan in trial.broken() else 'Ruled out'}: {trial.name}, {plan}: {why}"
        for trial in trials
        for plan, why in trial.failures.items()
    ]
    left_out = [f"Left out for want of time: {', '.join(data['left_out'])}."] if data["left_out"] else []
    missing = [f"Not measured, because not installed: {what}." for what in data["missing"]]
    what = [f"- {trial.name}: {workloads.what(trial.name)}" for trial in trials]
    return "\n\n".join(
        [
            f"# Regret of auto, {data['date']}",
            f"{machine.sentence(data['machine'])}.",
            f"Load before {before}, after {after}. {data['rounds']} rounds.{quick}",
            regret_table(trials),
            *promised(trials),
            LEGEND,
            "## Times",
            times_table(trials),
            TIMES,
            *missing,
            *left_out,
            *failed,
            "\n".join(what),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares auto with every fixed plan.")
    parser.add_argument("--quick", action="store_true", help="few rounds: a trial of the harness")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} if not given, {QUICK_ROUNDS} with --quick; at least 2")
    names = workloads.names()
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    if rounds < 2:
        parser.error("there must be two halves: at least 2 rounds")
    absent = [] if importlib.util.find_spec("joblib") else ["joblib"]
    runners = [name for name in (QUICK if options.quick else RUNNERS) if name not in absent]
    data: dict[str, Any] = {
        "form": 4,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "rounds": rounds,
        "missing": absent,
        "left_out": [],
        "machine": machine.describe(),
        "load_before": machine.load(),
    }
    environment = server.environment()
    began = time.monotonic()
    trials = []
    for name in options.only:
        if lacking := workloads.missing(name):
            data["missing"].append(f"{', '.join(lacking)} for {name}")
            continue
        if options.quick and time.monotonic() - began > QUICK_BUDGET:
            data["left_out"].append(name)
            continue
        trial = Trials(name, rounds, runners, environment)
        trial.take()
        trials.append(trial)
    say("")
    data |= {"load_after": machine.load(), "workloads": [trial.data() for trial in trials]}
    page = report(data, trials)
    print(page)
    directory = store.save("choice", store.kind(options.quick, options.only != names), data, page)
    title = f"Regret of auto on {data['machine']['cpu']}, {data['machine']['cores']} cores, {rounds} rounds"
    if not picture.draw(data["workloads"], title, directory / "choice.svg"):
        print("no picture: nothing to draw, or no matplotlib: pip install -r requirements-bench.txt")
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    sys.exit(any(trial.broken() for trial in trials))


if __name__ == "__main__":
    main()
