"""What the choice costs: forkright's auto against every fixed plan; `make bench` runs this. README.md has the method.

    python benchmarks/regret.py [--quick] [--only NAME...]

In each round every plan runs each workload once, in an interpreter of its own and with a cold start, and each round
begins with another plan. Nobody can know the best fixed plan beforehand: regret is what auto took over what that took.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import figures
import launch
import machine
import store
import table
from progress import say
from workloads import WORKLOADS, server

AUTO = "auto"
# By name: what `trial.py` gets, as [processes, threads].
PLANS: dict[str, list[int] | str] = {
    "serial": [0, 1],
    "2 threads": [0, 2],
    "4 threads": [0, 4],
    "20 threads": [0, 20],
    "2 processes": [2, 1],
    "2 x 8": [2, 8],
    AUTO: AUTO,
}
FIXED = tuple(plan for plan in PLANS if plan != AUTO)
# Nobody notices a difference of so many seconds in one map, and a few rounds can't show it.
UNNOTICED = 0.002
ROUNDS, QUICK_ROUNDS = 7, 3

LEGEND = f"""\
best fixed: the plan with the least median on one half of the rounds, each half in turn. regret: auto's median over
that plan's on the other half, so that the plan gets no credit for the luck it was chosen for; 1 is none. A/A: the best
fixed plan's odd rounds over its even ones, whichever is more: what this machine makes of no difference at all.
Differences of less than {UNNOTICED * 1e3:.0f} ms count as none."""

TIMES = """\
Medians with the 10th to 90th percentile, from just before the map to its results, workers' start included. The fastest
fixed plan is in bold."""


class Score(NamedTuple):
    """Auto against the best fixed plan of one workload. Ratios: 1 is no difference."""

    best: tuple[str, ...]
    regret: float
    # Seconds that auto took longer.
    gap: float
    floor: float


class Trials:
    """Every run of one workload: by plan, in the order of the rounds."""

    def __init__(self, name: str, rounds: int, environment: dict[str, str]) -> None:
        self.name = name
        self.rounds = rounds
        self.environment = environment
        self.loop: dict[str, Any] = {}
        self.runs: dict[str, list[dict[str, Any]]] = {plan: [] for plan in PLANS}
        self.failures: dict[str, str] = {}

    def take(self) -> None:
        """Runs the plain loop, whose results all others must have, and then all rounds."""
        try:
            self.loop = self._ask(None)
        except launch.Failure as failure:
            self.failures["a plain loop"] = str(failure)
            return
        plans = list(PLANS)
        for round_ in range(self.rounds):
            first = round_ % len(plans)
            for plan in plans[first:] + plans[:first]:
                if plan not in self.failures:
                    say(f"{self.name}: round {round_ + 1} of {self.rounds}: {plan}")
                    self._run(plan)

    def _run(self, plan: str) -> None:
        try:
            answer = self._ask(PLANS[plan])
        except launch.Failure as failure:
            self.failures[plan] = str(failure)
            return
        if answer["results"] != self.loop["results"]:
            self.failures[plan] = "WRONG RESULTS: not those of a plain loop"
        self.runs[plan].append(answer)

    def _ask(self, plan: list[int] | str | None) -> dict[str, Any]:
        return launch.ask("trial.py", {"workload": self.name, "plan": plan}, self.environment)

    def seconds(self, plan: str) -> list[float]:
        """The times of the maps; none if the plan failed."""
        return [] if plan in self.failures else [run["seconds"] for run in self.runs[plan]]

    def ended_with(self) -> str:
        """The plans that auto's runs ended with, the most frequent first."""
        counted = collections.Counter(run["ended_with"] for run in self.runs[AUTO])
        return ", ".join(f"{plan} ({count})" for plan, count in counted.most_common())

    def score(self) -> Score | None:
        """The regret; None if there is none to tell of."""
        return judge({plan: seconds for plan in PLANS if (seconds := self.seconds(plan))})

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        score = self.score()
        return {
            "workload": self.name,
            "what": WORKLOADS[self.name].what,
            "loop": self.loop,
            "failures": self.failures,
            "score": score and score._asdict(),
            "runs": self.runs,
        }


def judge(seconds: dict[str, list[float]]) -> Score | None:
    """The regret; None if auto or all the others failed. Reads no clock: times come by plan, in the order of rounds."""
    fixed = [plan for plan in FIXED if plan in seconds]
    if AUTO not in seconds or not fixed:
        return None
    halves = slice(0, None, 2), slice(1, None, 2)
    best, regrets, gaps, floors = [], [], [], []
    for chosen_on, scored_on in (halves, halves[::-1]):
        plan = min(fixed, key=lambda plan: figures.median(seconds[plan][chosen_on]))
        auto, rival = figures.median(seconds[AUTO][scored_on]), figures.median(seconds[plan][scored_on])
        same = figures.median(seconds[plan][chosen_on])
        best.append(plan)
        regrets.append(ratio(auto, rival))
        gaps.append(auto - rival)
        floors.append(max(ratio(same, rival), ratio(rival, same)))
    return Score(tuple(dict.fromkeys(best)), geometric_mean(regrets), sum(gaps) / len(gaps), geometric_mean(floors))


def ratio(one: float, other: float) -> float:
    """One time over another; 1 if nobody would notice the difference."""
    return 1.0 if abs(one - other) < UNNOTICED else one / other


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def times_table(trials: list[Trials]) -> str:
    """The median of each plan, with its spread; the least in bold."""
    rows = []
    for trial in trials:
        medians = {plan: figures.median(times) for plan in PLANS if (times := trial.seconds(plan))}
        least = min((medians[plan] for plan in FIXED if plan in medians), default=None)
        cells = []
        for plan in PLANS:
            if plan not in medians:
                cells.append("failed")
                continue
            low, high = figures.spread(trial.seconds(plan))
            mark = "**" if medians[plan] == least else ""
            cells.append(f"{mark}{milliseconds(medians[plan])}{mark} ({milliseconds(low)} to {milliseconds(high)})")
        rows.append([trial.name, *cells])
    return table.markdown(("ms", *PLANS), rows, right=range(1, len(PLANS) + 1))


def regret_table(trials: list[Trials]) -> str:
    rows, regrets = [], []
    for trial in trials:
        score = trial.score()
        if score is None:
            rows.append([trial.name, "", "failed", "", "", ""])
            continue
        regrets.append(score.regret)
        rows.append(
            [
                trial.name,
                " / ".join(score.best),
                f"{score.regret:.2f}",
                f"{score.gap * 1e3:+.0f} ms",
                f"{score.floor:.2f}",
                trial.ended_with(),
            ]
        )
    if len(regrets) > 1:
        rows.append(["geometric mean", "", f"{geometric_mean(regrets):.2f}", "", "", ""])
        rows.append(["worst", "", f"{max(regrets):.2f}", "", "", ""])
    return table.markdown(("workload", "best fixed", "regret", "gap", "A/A", "auto ended with"), rows, right=(2, 3, 4))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def report(data: dict[str, Any], trials: list[Trials]) -> str:
    """The page that is printed and kept."""
    quick = " This was a quick run: too few rounds to quote." * data["quick"]
    before, after = (" ".join(f"{value:.2f}" for value in data[when]) for when in ("load_before", "load_after"))
    failed = [f"FAILED: {trial.name}, {plan}: {why}" for trial in trials for plan, why in trial.failures.items()]
    what = [f"- {trial.name}: {WORKLOADS[trial.name].what}" for trial in trials]
    return "\n\n".join(
        [
            f"# Regret of auto, {data['date']}",
            f"{machine.sentence(data['machine'])}.",
            f"Load before {before}, after {after}. {data['rounds']} rounds.{quick}",
            regret_table(trials),
            LEGEND,
            "## Times",
            times_table(trials),
            TIMES,
            *failed,
            "\n".join(what),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares auto with every fixed plan.")
    parser.add_argument("--quick", action="store_true", help="few rounds: a trial of the harness")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} if not given, {QUICK_ROUNDS} with --quick; at least 2")
    names = list(WORKLOADS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    if rounds < 2:
        parser.error("there must be two halves: at least 2 rounds")
    data: dict[str, Any] = {
        "form": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "rounds": rounds,
        "machine": machine.describe(),
        "load_before": machine.load(),
    }
    environment = {server.VARIABLE: server.address()}
    trials = []
    for name in names:
        if name in options.only:
            trial = Trials(name, rounds, environment)
            trial.take()
            trials.append(trial)
    say("")
    data |= {"load_after": machine.load(), "workloads": [trial.data() for trial in trials]}
    page = report(data, trials)
    print(page)
    directory = store.save("regret", store.kind(options.quick, options.only != names), data, page)
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    sys.exit(any(trial.failures for trial in trials))


if __name__ == "__main__":
    main()
