"""`forkright replay`: the choice of a report made again, as it was or on a machine with other figures.

The engine chooses (`crates/engine/src/replay.rs`); this module reads reports and words what came of it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from . import _core
from ._report import BOUNDS, count, drawback, figure, plan_of, seconds, table, wrap
from ._terminal import Ink, Trouble

# The form of reports, and the first one that keeps what its choices were made from.
FORM = 3
OLDEST = 2
HOW = (
    "write one with `fr.report().to_json()` or `executor.report().to_json()`, or take what "
    "`forkright compare FILE.py:function --json` prints"
)
UNASKED = (
    "nobody has looked whether the function may leave its process: it is taken to be so; "
    "`forkright check FILE.py:function` tells"
)


@dataclass
class Choice:
    """A verdict that was made again: of a moment of the map, or about a whole one on some machine."""

    verdict: dict[str, Any]
    # Seconds after the start of the map at which it was made first; None for a whole map.
    at: float | None = None
    # The plan that the report has for that moment.
    recorded: dict[str, int] | None = None
    # In what the machine differs from the one that was measured.
    change: dict[str, float] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        machine = self.verdict["case"]["machine"]
        cores, tasks = machine["cores"], self.verdict["case"]["remaining"]["tasks"]
        return {"at": self.at, "cores": cores, "items": tasks, "recorded": self.recorded, "verdict": self.verdict}


@dataclass
class Replay:
    """What came of one function's report."""

    # What it is called: the function, and in a comparison the plan that it ran under.
    name: str
    report: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # Why there is no choice.
    problem: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        data = {"function": self.report["function"], "name": self.name, "tasks": self.report["tasks"]}
        data |= {"notes": self.notes, "choices": [choice.data() for choice in self.choices]}
        return data | ({"problem": self.problem} if self.problem else {})


def replay(command: dict[str, Any]) -> None:
    """Run the command; prints its result."""
    document = _read(command["file"])
    try:
        replays = [_replay(name, report, command) for name, report in _reports(document, command["file"])]
        if command["json"]:
            said = json.dumps({"form": 1, "replays": [replay.data() for replay in replays]}, indent=2)
        else:
            said = "\n".join(_text(replays, Ink(command["color"], sys.stdout)))
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise Trouble(f"the report in `{command['file']}` is damaged: {what}", hint=HOW) from error
    if all(replay.problem for replay in replays):
        raise Trouble(replays[0].problem)
    print(said)


def _read(file: str) -> Any:
    try:
        if file == "-":
            return json.loads(sys.stdin.buffer.read())
        with open(file, "rb") as opened:
            return json.loads(opened.read())
    except OSError as error:
        raise Trouble(f"`{file}` can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Trouble(f"`{file}` is not JSON: {error}", hint=HOW) from error


def _reports(document: Any, file: str) -> list[tuple[str, dict[str, Any]]]:
    """The reports of single functions in a document, each with a name."""
    if not isinstance(document, dict):
        raise Trouble(f"there is no report in `{file}`", hint=HOW)
    if isinstance(document.get("plans"), list):
        found = [
            (f"{report['function']}, run as {column['name']}", report)
            for column in document["plans"]
            if (report := _typical(column["runs"])) is not None
        ]
    elif "chosen" in document and isinstance(document.get("functions"), list):
        found = [(report["function"], report) for report in document["functions"]]
        if not found:
            raise Trouble(f"the executor that `{file}` is about ran nothing")
    elif "chosen" in document and "plan" in document:
        found = [(document["function"], document)]
    else:
        found = []
    if not found:
        raise Trouble(f"there is no report in `{file}`", hint=HOW)
    for _, report in found:
        _check_form(report, file)
    return found


def _typical(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The report of the run whose time is the median."""
    ordered = sorted(runs, key=lambda run: float(run["wall"]))
    return ordered[len(ordered) // 2]["report"] if ordered else None


def _check_form(report: dict[str, Any], file: str) -> None:
    form = report.get("form")
    if "why" in report:
        raise Trouble(f"`{file}` has nothing to choose by: {report['why']}")
    if not isinstance(form, int):
        raise Trouble(f"the report in `{file}` does not say which form it has", hint=HOW)
    if form < OLDEST:
        raise Trouble(
            f"the report in `{file}` is of an older form ({form}), which does not have what a choice is made from",
            hint=f"run the work again with this version of forkright: its reports have form {FORM}",
        )
    if form > FORM:
        raise Trouble(
            f"the report in `{file}` was made by a later version of forkright: it has form {form}, and this version "
            f"knows those up to {FORM}",
        )


def _replay(name: str, report: dict[str, Any], command: dict[str, Any]) -> Replay:
    replay = Replay(name, report)
    starts = {name: command[name] for name in ("zygote_start", "process_start") if command[name] is not None}
    cores = [{"cores": float(cores)} for cores in command["cores"]]
    changes = [core | starts for core in cores] or ([starts] if starts else [])
    verdicts = report["verdicts"]
    if not isinstance(verdicts, list):
        raise TypeError(f"its verdicts are {verdicts!r}")
    if verdicts and not changes and command["items"] is None:
        for entry in verdicts:
            verdict = _core.choose_again(json.dumps(entry["verdict"]["case"]))
            if verdict is not None:
                recorded = entry["verdict"]["plan"]
                replay.choices.append(Choice(json.loads(verdict), at=entry["at"], recorded=recorded))
        return replay
    if not changes and not verdicts:
        replay.notes.append(
            "no choice was made: nothing else would have saved enough to begin with it"
            if report["chosen"]
            else f"the plan was fixed, {plan_of(report['plan'])}, so there is no choice to make again; "
            "this is what it would be"
        )
    tasks = report["tasks"] if command["items"] is None else command["items"]
    given = json.dumps(report["given"])
    # First the machine that was measured, to compare the others with.
    for change in [{}, *changes]:
        found = _core.choose_elsewhere(given, json.dumps(change), tasks)
        if found is None:
            replay.notes.clear()
            replay.problem = _too_little(report)
            break
        replay.choices.append(Choice(json.loads(found), change=change))
    if replay.choices and report["given"]["may_leave"] == "unknown" and _looks_beyond(replay.choices):
        replay.notes.append(UNASKED)
    return replay


def _too_little(report: dict[str, Any]) -> str:
    fixed = "" if report["chosen"] else f"its plan was fixed, {plan_of(report['plan'])}, so it has no choice, and "
    what = "too little was measured of its calls to make one"
    return f"the report of `{report['function']}` can't be replayed: {fixed}{what}"


def _looks_beyond(choices: list[Choice]) -> bool:
    return any(choice.verdict["plan"]["processes"] for choice in choices)


def _text(replays: list[Replay], ink: Ink) -> list[str]:
    lines: list[str] = []
    for replay in replays:
        title = f"{replay.name}: {count(replay.report['tasks'], 'call')}"
        if replay.choices:
            # The first is about the machine that was measured.
            title += f", measured on {_cores(replay.choices[0].verdict['case']['machine']['cores'])}"
        lines += ["", *map(ink.strong, wrap(title))] if lines else [*map(ink.strong, wrap(title))]
        if replay.problem:
            lines += wrap(replay.problem)
        for note in replay.notes:
            lines += wrap(f"{ink.hint('note:')} {note}")
        for choice in replay.choices:
            lines += ["", *_choice(choice, ink)]
    return lines


def _choice(choice: Choice, ink: Ink) -> list[str]:
    verdict = choice.verdict
    lines = [f"{_heading(choice)}:", *wrap(f"  {verdict['sentence']}", indent=4)]
    if choice.recorded not in (None, verdict["plan"]):
        lines += wrap(
            f"  {ink.warning('warning:')} the report has {plan_of(choice.recorded or {})} here: another version of "
            "forkright chose",
            indent=4,
        )
    rows = [["plan", "predicted", "of it start", "held up by"]]
    taken, *others = _forecasts(verdict)
    rows += [_row(taken, BOUNDS[taken["bound_by"]])]
    rows += [_row(forecast, drawback(plan_of(forecast["plan"]), forecast, verdict)) for forecast in others]
    heading, first, *rest = _table(rows)
    lines += ["    " + heading, ink.best(f"  * {first}"), *(f"    {row}" for row in rest)]
    for reason, kinds in _ruled_out(verdict).items():
        lines += wrap(f"  ruled out: {' and '.join(kinds)}: {reason}", indent=4)
    return lines


def _heading(choice: Choice) -> str:
    remaining = choice.verdict["case"]["remaining"]
    tasks = remaining["tasks"]
    if choice.at is not None:
        running = remaining["here"] + remaining["away"]
        beside = f" and {running} under way" if running else ""
        return f"as it was after {seconds(choice.at)}, with {count(round(tasks), 'call')} to begin{beside}"
    machine = choice.verdict["case"]["machine"]
    where = [f"on {_cores(machine['cores'])}"]
    if "zygote_start" in choice.change:
        where.append(f"the helper's start {seconds(machine['zygote_start'])}")
    if "process_start" in choice.change:
        where.append(f"a worker's start {seconds(machine['process_start'])}")
    measured = "" if choice.change else " where it was measured"
    return f"{', '.join(where)}{measured}, all {count(round(tasks), 'call')} from the start"


def _forecasts(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """What was taken, then the best forecast of each kind that was beaten."""
    found = [verdict]
    kinds = set()
    for forecast in verdict["beaten"]:
        kind = plan_of(forecast["plan"]).kind
        if kind not in kinds:
            kinds.add(kind)
            found.append(forecast)
    return found


def _row(forecast: dict[str, Any], held_up: str) -> list[str]:
    plan, start = plan_of(forecast["plan"]), forecast["parts"]["start"]
    return [str(plan), figure(forecast["seconds"]), figure(start) if start else "none", held_up]


def _table(rows: list[list[str]]) -> list[str]:
    """The rows in columns: figures to the right, the last column, of words, to the left."""
    figures = table([row[:-1] for row in rows])
    width = max(map(len, figures))
    return [f"{line.ljust(width)}  {row[-1]}" for line, row in zip(figures, rows, strict=True)]


def _ruled_out(verdict: dict[str, Any]) -> dict[str, list[str]]:
    """The kinds of plan that were ruled out, by the reason."""
    reasons: dict[str, list[str]] = {}
    for out in verdict["ruled_out"]:
        reasons.setdefault(out["reason"], []).append(out["kind"])
    return reasons


def _cores(cores: float) -> str:
    return "1 core" if cores == 1 else f"{cores:g} cores"
