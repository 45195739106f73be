"""`forkright compare`: the same calls under several plans, side by side.

Each run is a process of its own (`_trial`): nothing of the user's is loaded here, and no run profits from
another.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any, BinaryIO

from . import _core, _machine, _plan
from ._report import Report, beaten, count, figure, seconds, size, table, times, wrap
from ._terminal import Ink, StatusLine, Trouble, similar

# Runs of each plan when the user says nothing: what fits into so many seconds, within these bounds ...
ENOUGH = 22.0
FEWEST, MOST = 3, 10
# ... unless a single round takes longer than this.
LONG = 10.0
# Nobody notices a difference of so many seconds in one map, and one run or three can't show it.
UNNOTICED = 0.001
# Memory is looked at this often, or at such a part of the time: it takes CPU from what is measured.
PERIOD = 0.05
SHARE = 0.05

LEGEND = (
    "{wall}, workers' start included; processes: all there were, with the caller and the helper that starts "
    "workers; GILs: those that tasks ran under; memory: the peak of all processes together"
)

DIFFERENT = (
    "the runs gave different results; that is fine for a function that makes random numbers or tells the "
    "time, and a reason to look at any other"
)

PlanName = str | list[int]


class Column:
    """A plan and its runs."""

    def __init__(self, asked: PlanName) -> None:
        self.asked = asked
        self.plan = _plan.Plan(*asked) if isinstance(asked, list) else _plan.parse(asked, None)
        self.runs: list[dict[str, Any]] = []
        self.failure = ""

    @property
    def label(self) -> str:
        return "auto" if self.plan is None else str(self.plan)

    @property
    def wall(self) -> float:
        return self.median("wall")

    @property
    def spread(self) -> float:
        walls: list[float] = [run["wall"] for run in self.runs]
        return (max(walls) - min(walls)) / 2

    @property
    def typical(self) -> dict[str, Any]:
        """The run whose time is the median."""
        ordered = sorted(self.runs, key=lambda run: float(run["wall"]))
        return ordered[len(ordered) // 2]

    def median(self, name: str) -> float:
        """The median of what was measured under this name."""
        values: list[float] = [run[name] for run in self.runs]
        return statistics.median(values)

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        plan = self.plan and {"processes": self.plan.processes, "threads": self.plan.threads}
        data: dict[str, Any] = {"name": self.label, "plan": plan or "auto"}
        if self.runs:
            data["wall"] = {"median": self.wall, "spread": self.spread}
            names = ("cpu", "processes", "gils", "memory")
            data |= {name: self.median(name) for name in names}
            data["why"] = Report(json.dumps(self.typical["report"])).why
        if self.failure:
            data["failure"] = self.failure
        return data | {"runs": self.runs}


def compare(command: dict[str, Any]) -> None:
    """Run the command; prints its result."""
    expect(command["file"])
    columns: dict[object, Column] = {}
    for asked in command["plans"]:
        column = Column(asked)
        columns.setdefault(column.plan, column)
    taking_part = list(columns.values())
    _take_turns(command, taking_part)
    done = [column for column in taking_part if column.runs]
    same = _same_results(done)
    if command["json"]:
        print(json.dumps(_data(command, taking_part, done, same), indent=2))
    else:
        print("\n".join(_text(command, taking_part, done, same)))


def _take_turns(command: dict[str, Any], columns: list[Column]) -> None:
    status = StatusLine(command["json"])
    request = {name: command[name] for name in ("file", "function", "items", "calls")}
    began = time.monotonic()
    wanted = command["runs"]
    finished = made = 0
    try:
        while wanted is None or finished < wanted:
            # Each round begins with another plan, so that none always follows the same one.
            first = finished % len(columns)
            for column in columns[first:] + columns[:first]:
                if column.failure:
                    continue
                left = ""
                if made and wanted and (some := sum(not one.failure for one in columns) * wanted - made) > 0:
                    left = f", about {(time.monotonic() - began) / made * some:.0f} s left"
                of = f" of {wanted}" if wanted else ""
                status.say(f"round {finished + 1}{of}: {column.label}{left}")
                _run_once(column, request)
                made += 1
            if all(column.failure for column in columns):
                raise Trouble(columns[0].failure, code=1)
            finished += 1
            if wanted is None:
                took = time.monotonic() - began
                wanted = max(1 if took > LONG else FEWEST, min(MOST, int(ENOUGH / took)))
    finally:
        status.say("")


def _run_once(column: Column, request: dict[str, Any]) -> None:
    answer = ask(request | {"plan": column.asked})
    if "refusal" in answer:
        column.failure = answer["refusal"]
        column.runs.clear()
    else:
        column.runs.append(answer)


def expect(file: str) -> None:
    """Give up if there is no such file."""
    if not os.path.isfile(file):
        raise Trouble(f"there is no file `{file}`", hint=_similar_file(file))


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """One run in a new interpreter; gives what it says of itself."""
    import subprocess
    import tempfile

    reader, writer = os.pipe()
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # -P: nothing in the working directory may stand in for a module of ours.
    request = request | {"pipe": writer}
    command = [sys.executable, *flags, "-P", "-m", "forkright", "_run", json.dumps(request)]
    with open(reader, "rb") as answers, tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=[writer],
                # Sets of strings come in the same order in each run: their results are compared.
                env={"PYTHONHASHSEED": "0", **os.environ},
            )
        finally:
            os.close(writer)
        try:
            answer = _watch(child.pid, answers)
            code = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
        if answer is None:
            said.seek(0)
            details = said.read().decode(errors="replace")
            ended = f"`{request['function']}` ended its process ({_ending(code)}) before there was a result"
            raise Trouble(ended, details=details, code=1)
    if "error" in answer:
        raise Trouble(answer["error"], hint=answer["hint"], details=answer["details"], code=answer["code"])
    return answer


def _watch(pid: int, answers: BinaryIO) -> dict[str, Any] | None:
    """What a run says of itself, with the most memory its processes took; None if it ends without a word."""
    line = answers.readline()
    if not line:
        return None
    answer: dict[str, Any] = json.loads(line)
    if "others" not in answer:
        return answer
    others = set(answer["others"])
    peak, period = 0, PERIOD
    while not select.select([answers], [], [], period)[0]:
        began = time.monotonic()
        peak = max(peak, sum(_machine.memory(one) for one in _machine.family(pid, others)))
        period = max(PERIOD, (time.monotonic() - began) / SHARE)
    line = answers.readline()
    if not line:
        return None
    answer = json.loads(line)
    if "memory" in answer:
        answer["memory"] = max(peak, answer["memory"])
    return answer


def _ending(code: int) -> str:
    import signal

    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _same_results(columns: list[Column]) -> bool | None:
    found = {run["results"] for column in columns for run in column.runs}
    if None in found:
        return None
    return len(found) <= 1


def _best(columns: Iterable[Column]) -> Column | None:
    return min(columns, key=lambda column: column.wall, default=None)


def _data(command: dict[str, Any], columns: list[Column], done: list[Column], same: bool | None) -> dict[str, Any]:
    best = _best(done)
    auto = next((column for column in done if column.plan is None), None)
    return {
        "form": 1,
        "file": command["file"],
        "function": command["function"],
        "tasks": done[0].runs[0]["tasks"],
        "best": best and best.label,
        "verdict": _verdict(done) or None,
        "auto": auto and auto.data()["why"],
        "results_equal": same,
        "plans": [column.data() for column in columns],
        "machine": _machine.describe(),
    }


def _text(command: dict[str, Any], columns: list[Column], done: list[Column], same: bool | None) -> list[str]:
    ink = Ink(command["color"], sys.stdout)
    best = _best(done)
    runs = len(done[0].runs)
    wall = "wall: one run" if runs == 1 else f"wall: the median of {runs} runs ± half of the range"
    tasks = count(done[0].runs[0]["tasks"], "call")
    cores = count(_core.cpu_count(), "core")
    lines = [ink.strong(f"{command['file']}:{command['function']}, {tasks} on {cores}"), ""]
    heading, *rows = table(_rows(done))
    lines.append("  " + heading)
    for column, row in zip(done, rows, strict=True):
        lines.append(ink.best(f"* {row}") if column is best else f"  {row}")
    lines += [ink.faint(line) for line in wrap("  * the fastest; " + LEGEND.format(wall=wall))]
    lines += ["", *_verdict(done)]
    for column in columns:
        if column.failure:
            lines += ["", *wrap(f"{column.label} can't run this: {column.failure}")]
    if same is False:
        lines += ["", *wrap(f"{ink.warning('warning:')} {DIFFERENT}")]
    return lines


def _rows(columns: list[Column]) -> list[list[str]]:
    serial = next((column for column in columns if column.plan == _plan.Plan()), None)
    rows = [["plan", "wall", "", *(["speed-up"] if serial else []), "CPU", "processes", "GILs", "memory"]]
    for column in columns:
        spread = f"± {seconds(column.spread)}" if len(column.runs) > 1 else ""
        row = [column.label, figure(column.wall), spread]
        if serial:
            row.append(times(serial.wall / column.wall))
        row += [figure(column.median("cpu")), f"{column.median('processes'):.0f}"]
        row += [f"{column.median('gils'):.0f}", size(column.median("memory"))]
        rows.append(row)
    return rows


def _verdict(columns: list[Column]) -> list[str]:
    """What the figures come to, in sentences."""
    best = _best(columns)
    if best is None:
        return []
    auto = next((column for column in columns if column.plan is None), None)
    if auto is None:
        serial = next((column for column in columns if column.plan == _plan.Plan()), None)
        if serial is None or serial is best:
            return wrap(f"fastest: {best.label}")
        return wrap(f"fastest: {best.label}, {times(serial.wall / best.wall)} as fast as serial")
    report = Report(json.dumps(auto.typical["report"]))
    lines = wrap(f"auto took {report.why}")
    verdicts = report.data["verdicts"]
    if verdicts and (rivals := beaten(verdicts[report.data["told"]]["verdict"])):
        lines += wrap(f"  not taken: {rivals}", indent=4)
    fixed = _best(column for column in columns if column is not auto)
    if fixed is not None:
        lines += wrap(_against(auto, fixed))
    return lines


def _against(auto: Column, fixed: Column) -> str:
    gap = auto.wall - fixed.wall
    if abs(gap) < UNNOTICED:
        return f"auto was as fast as the best fixed plan, {fixed.label}, within a millisecond"
    if abs(gap) <= auto.spread + fixed.spread:
        return f"auto was as fast as the best fixed plan, {fixed.label}, as far as the spread lets one tell"
    share = f"{abs(gap) / fixed.wall * 100:.0f} % ({seconds(abs(gap))})"
    verb = "lost" if gap > 0 else "won"
    return f"auto {verb} {share} against the best fixed plan, {fixed.label}"


def _similar_file(file: str) -> str:
    directory = os.path.dirname(file)
    try:
        names = [name for name in os.listdir(directory or ".") if name.endswith(".py")]
    except OSError:
        return ""
    near = similar(os.path.basename(file), names)
    return near and f"did you mean `{os.path.join(directory, near)}`?"
