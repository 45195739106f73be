"""`forkright compare`: the same calls under several plans, side by side.

`compare` is the command. It starts each run as a process of its own, which calls `run`: loads the user's file, makes
the items, times one map, and writes what it cost to a pipe. Nothing of the user's is loaded in the process that
compares.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from . import _core, _machine, _map, _plan
from ._report import Report, beaten, count, seconds, size, table, wrap
from ._terminal import Ink, Progress, Trouble

# Runs of each plan when the user says nothing: what fits into so many seconds, within these bounds ...
ENOUGH = 20.0
FEWEST, MOST = 3, 10
# ... unless a single round takes longer than this.
LONG = 10.0
# Memory is looked at this often, or at such a part of the time: it takes CPU from what is measured.
PERIOD = 0.05
SHARE = 0.05

LEGEND = (
    "wall: the median of {runs} ± half of the range, workers' start included; processes: all there were, with the "
    "caller and the helper that starts workers; GILs: those that tasks ran under; memory: the peak of all processes "
    "together"
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
        return statistics.median(run["wall"] for run in self.runs)

    @property
    def spread(self) -> float:
        walls = [run["wall"] for run in self.runs]
        return (max(walls) - min(walls)) / 2

    @property
    def typical(self) -> dict[str, Any]:
        """The run whose time is the median."""
        ordered = sorted(self.runs, key=lambda run: float(run["wall"]))
        return ordered[len(ordered) // 2]

    def median(self, name: str) -> float:
        """The median of what was measured under this name."""
        return statistics.median(run[name] for run in self.runs)

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
    file = command["file"]
    if not os.path.isfile(file):
        raise Trouble(f"there is no file `{file}`", hint=_similar_file(file))
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
    progress = Progress()
    request = {name: command[name] for name in ("file", "function", "items", "calls")}
    began = time.monotonic()
    wanted = command["runs"]
    finished = 0
    try:
        while wanted is None or finished < wanted:
            # Each round begins with another plan, so that none always follows the same one.
            first = finished % len(columns)
            for column in columns[first:] + columns[:first]:
                if column.failure:
                    continue
                of = f" of {wanted}" if wanted else ""
                progress.say(f"round {finished + 1}{of}: {column.label}")
                _run_once(column, request)
            if all(column.failure for column in columns):
                raise Trouble(columns[0].failure, code=1)
            finished += 1
            if wanted is None:
                took = time.monotonic() - began
                wanted = 1 if took > LONG else max(FEWEST, min(MOST, int(ENOUGH / took)))
    finally:
        progress.say("")


def _run_once(column: Column, request: dict[str, Any]) -> None:
    answer = _start(request | {"plan": column.asked})
    if "error" not in answer:
        column.runs.append(answer)
    elif answer["plan_only"]:
        column.failure = answer["error"]
        column.runs.clear()
    else:
        raise Trouble(answer["error"], hint=answer["hint"], details=answer["details"], code=answer["code"])


def _start(request: dict[str, Any]) -> dict[str, Any]:
    """One run in a new interpreter; gives what `run` wrote."""
    import subprocess
    import tempfile

    reader, writer = os.pipe()
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # -P: nothing in the working directory may stand in for a module of ours.
    command = [sys.executable, *flags, "-P", "-m", "forkright", "_run", json.dumps(request | {"pipe": writer})]
    with open(reader) as answers, tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, pass_fds=[writer]
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
            return {
                "error": f"`{request['function']}` ended its process ({_ending(code)}) before there was a result",
                "hint": "",
                "details": said.read().decode(errors="replace"),
                "code": 1,
                "plan_only": False,
            }
    return answer


def _watch(pid: int, answers: Any) -> dict[str, Any] | None:
    """Wait for what a run says; meanwhile look at the memory of its processes. None if it ends without a word."""
    ready = answers.readline()
    if not ready:
        return None
    others = set(json.loads(ready).get("others", ()))
    if not others and "error" in json.loads(ready):
        first: dict[str, Any] = json.loads(ready)
        return first
    peak, period = 0, PERIOD
    while not select.select([answers], [], [], period)[0]:
        began = time.monotonic()
        peak = max(peak, sum(_machine.memory(one) for one in _ours(pid, others)))
        period = max(PERIOD, (time.monotonic() - began) / SHARE)
    last = answers.readline()
    if not last:
        return None
    answer: dict[str, Any] = json.loads(last)
    if "memory" in answer:
        answer["memory"] = max(peak, answer["memory"])
    return answer


def _ours(pid: int, others: set[int]) -> list[int]:
    """A run's processes, without those that the user's file had started before."""
    return [pid, *(one for one in _machine.family(pid) if one not in others)]


def _ending(code: int) -> str:
    import signal

    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


# What follows, up to the next line like this one, runs in the process of one run.


def run(request: dict[str, Any]) -> None:
    """Do one run and write what it cost to the pipe."""
    pipe = request["pipe"]
    os.set_inheritable(pipe, False)  # what the user's file starts must not keep it open

    def say(answer: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(answer).encode() + b"\n")

    try:
        function, items = _prepare(request)
        others = set(_machine.family(os.getpid()))
        say({"others": sorted(others)})
        answer = _measure(request, function, items, others)
    except Trouble as trouble:
        code, hint, details = trouble.code, trouble.hint, trouble.details
        answer = {"error": str(trouble), "hint": hint, "details": details, "code": code, "plan_only": code == 0}
    say(answer)


def _prepare(request: dict[str, Any]) -> tuple[Callable[..., Any], list[tuple[Any, ...]]]:
    """The function, and the arguments of each call."""
    file, name = request["file"], request["function"]
    variables = _load(file)
    function = _look_up(variables, file, name)
    if request["items"] is not None:
        try:
            items = eval(request["items"], variables)
        except Exception as error:
            raise _failure(f"the expression for the items, `{request['items']}`,", error) from error
        source = f"`{request['items']}`"
    elif callable(variables.get("items")):
        with _blaming("`items()`"):
            items = variables["items"]()
        source = "`items()`"
    else:
        _check_needs_nothing(function, file, name)
        return function, [()] * (request["calls"] or _core.cpu_count())
    if not isinstance(items, Iterable):
        raise Trouble(f"{source} gives no items: `{items!r}` can't be iterated over")
    with _blaming(source):
        calls = [(item,) for item in items]
    if not calls:
        raise Trouble(f"{source} gives no items: it is empty")
    wanted = request["calls"] or len(calls)
    return function, (calls * -(-wanted // len(calls)))[:wanted]


def _load(file: str) -> dict[str, Any]:
    """Run the file as a script, except that it is not `__main__`; gives its namespace."""
    import types

    path = os.path.abspath(file)
    # No name that can be imported, so that a `requests.py` hides no package and workers get everything by value; and
    # with `__main__` in it, by which the pickling knows such a script.
    module = types.ModuleType(f"__main__ of {os.path.basename(file)}")
    module.__file__ = path
    sys.modules[module.__name__] = module
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [file]
    with _blaming(f"`{file}`"):
        with open(path, "rb") as source:
            code = compile(source.read(), path, "exec", dont_inherit=True)
        exec(code, vars(module))
    return vars(module)


def _look_up(variables: dict[str, Any], file: str, name: str) -> Callable[..., Any]:
    first, *rest = name.split(".")
    found = variables.get(first)
    for part in rest:
        found = getattr(found, part, None)
    if callable(found):
        return found
    if found is not None:
        raise Trouble(f"`{name}` in `{file}` is no function: it is of type `{type(found).__name__}`")
    candidates = [other for other, value in variables.items() if callable(value) and not other.startswith("_")]
    raise Trouble(f"`{file}` has no function `{name}`", hint=_similar(name, candidates))


def _check_needs_nothing(function: Callable[..., Any], file: str, name: str) -> None:
    import inspect

    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise Trouble(
            f"`{name}` needs an argument ({error}), and there are no items",
            hint=f"give them with `--items 'range(8)'`, or define `items()` in `{file}`, which returns a list of them",
        ) from error
    except ValueError:
        pass  # it does not tell what it takes


def _measure(
    request: dict[str, Any], function: Callable[..., Any], items: list[tuple[Any, ...]], others: set[int]
) -> dict[str, Any]:
    asked = request["plan"]
    plan = _plan.Plan(*asked) if isinstance(asked, list) else asked
    spent, began = time.process_time(), time.perf_counter()
    try:
        results = _map.starmap(function, items, plan=plan)
    except Exception as error:
        from ._pickling import UnpicklableError

        if isinstance(error, UnpicklableError):
            raise Trouble(str(error), code=0) from error
        raise _failure(f"`{request['function']}`", error) from error
    wall = time.perf_counter() - began
    ours = _ours(os.getpid(), others)
    cpu = time.process_time() - spent + sum(_machine.cpu(pid) for pid in ours[1:])
    memory = sum(_machine.memory(pid) for pid in ours)
    report = _map.report().data
    return {
        "wall": wall,
        "cpu": cpu,
        "memory": memory,
        "processes": len(ours),
        "gils": _gils(report["workers"]),
        "tasks": len(items),
        "results": fingerprint(results),
        "report": report,
    }


def _gils(workers: list[dict[str, Any]]) -> int:
    """How many GILs the tasks ran under."""
    if not _machine.describe()["python"]["gil"]:
        return 0
    processes = {worker["id"] for worker in workers if worker["kind"] == "process"}
    return len(processes) + any(worker["kind"] == "thread" for worker in workers)


@contextlib.contextmanager
def _blaming(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        raise _failure(what, error) from error


def _failure(what: str, error: BaseException) -> Trouble:
    """The trouble for something of the user's that raised, with the traceback from there on."""
    import traceback

    trace = error.__traceback__
    ours = os.path.dirname(__file__)
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == ours:
        trace = trace.tb_next
    details = "".join(traceback.format_exception(type(error), error, trace))
    said = f": {error}" if str(error) else ""
    return Trouble(f"{what} raised `{type(error).__name__}{said}`", details=details, code=1)


def fingerprint(results: list[Any]) -> str | None:
    """Tells whether two runs gave equal results; None where that can't be told."""
    import hashlib

    digest = hashlib.sha256()
    try:
        for result in results:
            digest.update(_canonical(result))
    except Exception:
        return None
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    """Bytes that are the same for equal values, wherever they have travelled."""
    if type(value) in (set, frozenset):
        return b"{" + b",".join(sorted(_canonical(item) for item in value)) + b"}"
    if type(value) in (list, tuple):
        return b"[" + b",".join(_canonical(item) for item in value) + b"]"
    if type(value) is dict:
        pairs = sorted(_canonical(key) + b":" + _canonical(item) for key, item in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return repr(value).encode(errors="surrogatepass")
    import pickle

    # Once there and back: what was one object or two equal ones before is the same afterwards.
    return pickle.dumps(pickle.loads(pickle.dumps(value)))


# In the process that compares again.


def _same_results(columns: list[Column]) -> bool | None:
    found = {run["results"] for column in columns for run in column.runs}
    if None in found:
        return None
    return len(found) <= 1


def _best(columns: Iterable[Column]) -> Column | None:
    return min(columns, key=lambda column: column.wall, default=None)


def _data(
    command: dict[str, Any], columns: list[Column], done: list[Column], same: bool | None
) -> dict[str, Any]:
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


def _text(
    command: dict[str, Any], columns: list[Column], done: list[Column], same: bool | None
) -> list[str]:
    ink = Ink(command["color"], sys.stdout)
    best = _best(done)
    runs = count(len(done[0].runs), "run")
    tasks = count(done[0].runs[0]["tasks"], "call")
    cores = count(_core.cpu_count(), "core")
    lines = [ink.strong(f"{command['file']}:{command['function']}, {tasks} on {cores}"), ""]
    heading, *rows = table(_rows(done))
    lines.append("  " + heading)
    for column, row in zip(done, rows, strict=True):
        lines.append(ink.best(f"* {row}") if column is best else f"  {row}")
    lines += [ink.faint(line) for line in wrap("  * the fastest; " + LEGEND.format(runs=runs))]
    lines += ["", *_verdict(done)]
    for column in columns:
        if column.failure:
            lines += ["", *wrap(f"{column.label} can't run this: {column.failure}")]
    if same is False:
        said = "the runs gave different results; that is fine for a function that makes random numbers or tells the time"
        lines += ["", *wrap(f"{ink.warning('warning:')} {said}, and a reason to look at any other")]
    return lines


def _rows(columns: list[Column]) -> list[list[str]]:
    serial = next((column for column in columns if column.plan == _plan.Plan()), None)
    rows = [["plan", "wall", "", *(["speed-up"] if serial else []), "CPU", "processes", "GILs", "memory"]]
    for column in columns:
        row = [column.label, seconds(column.wall), f"± {seconds(column.spread)}"]
        if serial:
            row.append(f"{serial.wall / column.wall:.2f}x")
        row += [seconds(column.median("cpu")), f"{column.median('processes'):.0f}"]
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
        times = f", {serial.wall / best.wall:.1f} times as fast as serial" if serial and serial is not best else ""
        return wrap(f"fastest: {best.label}{times}")
    report = Report(json.dumps(auto.typical["report"]))
    lines = wrap(f"auto took {report.why}")
    verdicts = report.data["verdicts"]
    if verdicts and (rivals := beaten(verdicts[-1]["verdict"])):
        lines += wrap(f"  not taken: {rivals}", indent=4)
    fixed = _best(column for column in columns if column is not auto)
    if fixed is not None:
        lines += wrap(_against(auto, fixed))
    return lines


def _against(auto: Column, fixed: Column) -> str:
    gap = auto.wall - fixed.wall
    if abs(gap) <= auto.spread + fixed.spread:
        return f"auto was as fast as the best fixed plan, {fixed.label}, as far as the spread lets one tell"
    share = f"{abs(gap) / fixed.wall * 100:.0f} % ({seconds(abs(gap))})"
    verb = "lost" if gap > 0 else "won"
    return f"auto {verb} {share} against the best fixed plan, {fixed.label}"


def _similar(name: str, candidates: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, candidates, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"it has {', '.join(f'`{other}`' for other in candidates[:8])}" if candidates else ""


def _similar_file(file: str) -> str:
    import difflib

    directory = os.path.dirname(file)
    try:
        names = [name for name in os.listdir(directory or ".") if name.endswith(".py")]
    except OSError:
        return ""
    near = difflib.get_close_matches(os.path.basename(file), names, 1)
    return f"did you mean `{os.path.join(directory, near[0])}`?" if near else ""
