"""What being measured costs a program, beside gilknocker and py-spy; `make bench-meter` runs this.

    PYTHONPATH=benchmarks python -m meter.overhead [--only PROGRAM...] [--rounds N]

In each round every tool has its turn with a program, and none has one too; each round begins with another. A ratio is
taken within a round, so that a slow minute of the machine meets both sides.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures
import launch
import machine
import store
import table
from meter import programs
from progress import say

ROUNDS = 16
SCRIPT = str(Path(programs.__file__).resolve())

# The command that runs a program under a tool, which may leave a file of that name.
Command = Callable[[str, str], list[str]]

NONE = "no tool"
OURS = "forkright why"
TOOLS: dict[str, Command] = {
    NONE: lambda program, file: [sys.executable, SCRIPT, program],
    OURS: lambda program, file: [sys.executable, "-m", "forkright", "why", "--json", file, SCRIPT, program],
    "gilknocker, 1 ms": lambda program, file: [sys.executable, SCRIPT, program, "--knock"],
    "py-spy record --gil": lambda program, file: [
        *(str(_py_spy()), "record", "--gil", "--format", "raw", "--output", file),
        *("--", sys.executable, SCRIPT, program),
    ],
}

HEADING = ("program", "tool", "seconds", "slow-down", "95 % interval", "its CPU", "95 % interval", "meter", "rounds")
NUMBERS = (2, 3, 4, 5, 6, 7, 8)

LEGEND = """\
seconds: the median of the program's own time, from its first thread's start to its last one's end. slow-down: that
time over the time without a tool in the same round, the median over the rounds; the interval is of that median, by
bootstrap over the rounds. its CPU: what the whole run took of CPU time, children included, more than the run without
a tool, as a share of the program's time: one core is 100 %. It contains the tool's start and the writing of its
report, which weigh the more the shorter the program. meter: CPU time of forkright's sampling alone, by its own report,
as a share of the same."""


def missing() -> dict[str, str]:
    """The tools that are not here, with the reason."""
    absent = {}
    if importlib.util.find_spec("gilknocker") is None:
        absent["gilknocker, 1 ms"] = "gilknocker is not installed"
    if _py_spy() is None:
        absent["py-spy record --gil"] = "py-spy is not installed"
    return absent


def visit(tool: str, program: str) -> dict[str, float]:
    """One run: the program's own seconds, and the CPU of the whole."""
    before = _children_cpu()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "report"
        path = os.pathsep.join([str(launch.HERE), str(machine.REPOSITORY / "python")])
        _, said = launch.run(TOOLS[tool](program, str(file)), {"PYTHONPATH": path})
        # The tools print, too.
        figure = next(line for line in said.splitlines() if line.startswith('{"seconds"'))
        taken: dict[str, float] = json.loads(figure) | {"cpu": _children_cpu() - before}
        if tool == OURS:
            taken["meter"] = json.loads(file.read_text())["meter"]["cpu"]
    return taken


class Results:
    """Every run of one program: by tool, by round."""

    def __init__(self, program: str, tools: list[str]) -> None:
        self.program = program
        self.runs: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
        self.failures: dict[str, str] = {}

    def take(self, rounds: int) -> None:
        """Runs all rounds. A tool that fails once is out, and the table says so."""
        tools = list(self.runs)
        for round_ in range(rounds):
            first = round_ % len(tools)
            for tool in tools[first:] + tools[:first]:
                if tool in self.failures:
                    continue
                say(f"{self.program}: round {round_ + 1} of {rounds}: {tool}")
                try:
                    self.runs[tool].append(visit(tool, self.program))
                except launch.Failure as failure:
                    self.failures[tool] = str(failure)

    def line(self, tool: str) -> list[str]:
        """The tool's cells."""
        what = programs.PROGRAMS[self.program].what
        if tool in self.failures or NONE in self.failures:
            return [what, tool, *[""] * (len(HEADING) - 3), "failed"]
        runs = self.runs[tool]
        seconds = figures.duration(figures.median([run["seconds"] for run in runs]))
        meter = _percent(figures.median([run["meter"] / run["seconds"] for run in runs])) if tool == OURS else ""
        if tool == NONE:
            return [what, tool, seconds, *[""] * (len(HEADING) - 4), str(len(runs))]
        pairs = list(zip(runs, self.runs[NONE], strict=True))
        ratios = [run["seconds"] / alone["seconds"] for run, alone in pairs]
        cpu = [(run["cpu"] - alone["cpu"]) / run["seconds"] for run, alone in pairs]
        low, high = figures.interval(ratios)
        least, most = figures.interval(cpu)
        return [
            what,
            tool,
            seconds,
            f"{figures.median(ratios):.3f}x",
            f"{low:.3f} to {high:.3f}",
            _percent(figures.median(cpu)),
            f"{100 * least:.1f} to {100 * most:.1f}",
            meter,
            str(len(runs)),
        ]


def report(data: dict[str, Any], results: list[Results]) -> str:
    """The page that is printed and kept."""
    before, after = (" ".join(f"{value:.2f}" for value in data[when]) for when in ("load_before", "load_after"))
    lines = [result.line(tool) for result in results for tool in result.runs]
    absent = [f"Not measured: {tool}: {why}." for tool, why in data["absent"].items()]
    failed = [
        f"FAILED with `{result.program}`: {tool}: {failure}"
        for result in results
        for tool, failure in result.failures.items()
    ]
    return "\n\n".join(
        [
            f"# What being measured costs, {data['date']}",
            f"{machine.sentence(data['machine'])}.",
            f"Load before {before}, after {after}.",
            table.markdown(HEADING, lines, right=NUMBERS),
            LEGEND,
            *absent,
            *failed,
            "",
        ]
    )


def _children_cpu() -> float:
    """CPU seconds of the programs that were run so far, and of what they ran."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _py_spy() -> str | None:
    """The program, beside this interpreter or on the path."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("py-spy", path=beside)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what being measured costs a program.")
    everything = list(programs.PROGRAMS)
    parser.add_argument("--only", nargs="+", choices=everything, default=everything, metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    absent = missing()
    data: dict[str, Any] = {
        "form": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": machine.load(),
        "absent": absent,
    }
    results = []
    for program in options.only:
        result = Results(program, [tool for tool in TOOLS if tool not in absent])
        result.take(options.rounds)
        results.append(result)
    say("")
    data |= {
        "load_after": machine.load(),
        "programs": {result.program: {"runs": result.runs, "failures": result.failures} for result in results},
    }
    page = report(data, results)
    print(page)
    kind = store.kind(options.rounds < ROUNDS, options.only != everything)
    directory = store.save("meter-overhead", kind, data, page)
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    # A peer may fail; if forkright does, whoever runs this must notice.
    sys.exit(any(OURS in result.failures or NONE in result.failures for result in results))


if __name__ == "__main__":
    main()
