"""Words what a map or an executor did, for `forkright.report()`, `Executor.report()` and the command line.

`crates/python/src/report.rs` makes the data; without this module people would have to read JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ._plan import Cluster, Plan

MOST_ROWS = 8
WIDTH = 100
# From so many seconds on, a time is told times this in that.
UNITS = (0.9995, 1.0, "s"), (0.000_999_5, 1e3, "ms"), (0.0, 1e6, "µs")
# What a forecast is mostly made of, and what that means for somebody who wonders why it is not less.
BOUNDS = {
    "gil": "turns on the GIL",
    "cores": "all cores busy",
    "workers": "too few workers",
    "start": "starting workers",
    "transport": "pickling",
    "straggler": "the longest task",
}
# The parts of a reading, and what a task does in them.
PARTS = {
    "held": "holds the GIL",
    "off_gil": "computes without it",
    "gil_wait": "waits for the GIL",
    "lock_wait": "waits for another lock",
    "io": "reads, writes or sleeps",
    "held_blocked": "waits and keeps the GIL meanwhile",
    "run_delay": "is ready and has no core",
    "loop": "runs on its event loop",
}
# Samples of waits below which nobody is blamed for them.
ENOUGH = 20


class Report:
    """What ran where, why, and what it cost.

    ``print`` it, or look at the parts.

    Attributes:
        data: Everything, as in `to_json`: plain dicts and lists. Times are in seconds.
    """

    def __init__(self, text: str) -> None:
        self.data: dict[str, Any] = json.loads(text)
        self._json = text

    @property
    def plan(self) -> Plan | None:
        """Where most of the work was done; None for an executor that chooses for each function."""
        plan = self.data.get("plan")
        return None if plan is None else plan_of(plan)

    @property
    def why(self) -> str:
        """The reason for the plan, in one sentence."""
        if self.data.get("chosen") and self.data.get("functions"):
            return f"{count(len(self.data['functions']), 'function')}, for each of which a plan is chosen"
        verdicts = self.data.get("verdicts") or []
        if verdicts:
            return str(verdicts[_told(self.data)]["verdict"]["sentence"])
        if self.data.get("loop") or self.data.get("cluster"):
            return str(self.data["why"])
        if self.plan is None:
            return "nothing has been submitted yet"
        if not self.data.get("chosen"):
            return f"{self.plan}, as asked"
        return f"{self.plan}: nothing else would have saved enough to begin with it"

    def to_json(self) -> str:
        """The data as JSON.

        ``form`` is the version of its form, raised when a field changes its meaning: it is 3 since ``plan`` is where
        most of the work was done (before, the last one in force). ``told`` is the place among ``verdicts`` of the one
        that the text tells of.
        """
        return self._json

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return f"<forkright.Report {self.why}>"

    def _repr_html_(self) -> str:
        from html import escape

        # Lines end where the page has room for them, not where a terminal has. Colours are the page's own.
        grid = "display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; margin: 0.5em 1em"
        facts = "".join(
            f'<dt style="font-weight: normal; opacity: 0.7">{escape(name)}</dt>'
            f'<dd style="margin: 0">{escape(text)}</dd>'
            for name, text in self._facts()
        )
        rest = f'<dl style="{grid}">{facts}</dl>'
        if workers := _workers(self.data):
            rows = escape("\n".join(workers))
            rest += f'<pre style="white-space: pre; overflow-x: auto; margin: 0.5em 1em">{rows}</pre>'
        # The sentence is the summary already.
        rest += "".join(f'<div style="margin: 0.5em 1em">{part._repr_html_()}</div>' for part in self._parts())
        return f"<details><summary>{escape(self.why)}</summary>{rest}</details>"

    def _lines(self) -> list[str]:
        lines = wrap(self.why)
        for name, text in self._facts():
            lines += wrap(f"  {name:<11}{text}", indent=13)
        if workers := _workers(self.data):
            lines += ["", *(f"  {line}" for line in workers)]
        for part in self._parts():
            lines += ["", *part._lines()]
        return lines

    def _facts(self) -> list[tuple[str, str]]:
        """What stands below the sentence: names, and what is said of them."""
        return _facts(self.data)

    def _parts(self) -> Iterator[Report]:
        """A report for each function, where a plan was chosen for each."""
        for function in (self.data.get("functions") or []) if self.data.get("chosen") else []:
            yield Report(json.dumps(function))


def joined(report: str, others: list[str], abandoned: list[dict[str, Any]]) -> str:
    """An executor's report with those of its `others`, and the threads that were left to themselves."""
    if not others and not abandoned:
        return report
    data = json.loads(report)
    for other in map(json.loads, others):
        for name in ("tasks", "done", "failed", "cpu", "busy", "workers"):
            if name in other and name in data:
                data[name] += other[name]
    data["abandoned"] = abandoned
    return json.dumps(data)


def plan_of(data: dict[str, Any]) -> Plan:
    """The plan that a report's JSON names."""
    if "cluster" in data:
        return Cluster(data["processes"], data["cluster"])
    return Plan(data["processes"], data["threads"])


def _told(data: dict[str, Any]) -> int:
    """Which of its verdicts a report tells of first: that for the plan which did most of the work."""
    told = data.get("told")
    return len(data["verdicts"]) - 1 if told is None else int(told)


def _facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    verdicts = data.get("verdicts") or []
    told = _told(data) if verdicts else 0
    main = verdicts[told] if verdicts else None
    changes, later = _changes(verdicts[: told + 1]), _changes(verdicts[told:])[1:]
    facts: list[tuple[str, str]] = []
    if data.get("tasks"):
        facts.append(("ran", _ran(data)))
    if data.get("wall") is not None:
        facts.append(("time", _time(data, main, changes)))
    mixture = _read(data) or _mixture(data.get("per_task") or {})
    if mixture:
        facts.append(("a task", mixture))
    facts += _gil(data)
    for function in () if data.get("chosen") else data.get("functions") or ():
        if text := _read(function):
            facts.append(("a task", f"of `{function['function']}`, {text}"))
            facts += _gil(function)
    if loop := data.get("loop"):
        facts += _loop(data, loop)
    if (cluster := data.get("cluster")) and cluster["chunks"]:
        facts.append(("the way", _way(data, cluster)))
    pickling = _pickling(data)
    if pickling:
        facts.append(("pickling", pickling))
    if native := data.get("native"):
        facts.append(("native", _native(native)))
    if len(changes) > 1:
        facts.append(("before", ", then ".join(_from_when(entry) for entry in changes[:-1])))
    if later:
        facts.append(("at the end", ", then ".join(_from_when(entry) for entry in later)))
    if main is not None and (rivals := beaten(main["verdict"])):
        facts.append(("not taken", rivals))
    if meter := _meter(data.get("meter")):
        facts.append(("meter", meter))
    if draws := data.get("draws"):
        facts.append(("random", draws))
    for entry in data.get("abandoned") or ():
        facts.append(("abandoned", _abandoned(entry)))
    if data.get("shared_state") is False:
        facts.append(("shared", "not looked for: `shared_state=False`"))
    return facts


def _workers(data: dict[str, Any]) -> list[str]:
    """The lines of a table of several workers."""
    workers = data.get("workers") or []
    return table(_worker_rows(workers)) if len(workers) > 1 else []


def _abandoned(entry: dict[str, Any]) -> str:
    now = "still runs" if entry["running"] else "has ended by now"
    return f"the thread {entry['thread']} ran `{entry['task']}` for longer than {seconds(entry['limit'])} and {now}"


def _ran(data: dict[str, Any]) -> str:
    workers = data.get("workers") or []
    threads = sum(worker["kind"] == "thread" for worker in workers)
    processes = len(workers) - threads
    where = []
    if threads:
        where.append("this thread" if threads == 1 and not processes else f"{count(threads, 'thread')} here")
    if processes:
        where.append(count(processes, "worker process", "worker processes"))
    name = f"`{data['function']}`, " if data.get("function") else ""
    text = f"{name}{count(data['tasks'], 'task')}"
    if data.get("done", data["tasks"]) < data["tasks"]:
        text += f", {data['done']} of them done"
    if data.get("failed"):
        text += f", {data['failed']} of them failed"
    return f"{text} on {' and '.join(where)}" if where else text


def _changes(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The verdicts that changed the plan, without those that only renewed its forecast."""
    before = [None, *(entry["verdict"]["plan"] for entry in verdicts)]
    return [entry for entry, plan in zip(verdicts, before, strict=False) if entry["verdict"]["plan"] != plan]


def _is_guess(verdict: dict[str, Any]) -> bool:
    """Whether it was made before any call had ended, so that nobody knew how long they take."""
    return bool(verdict["case"]["demand"]["finished"] == 0)


def _time(data: dict[str, Any], main: dict[str, Any] | None, changes: list[dict[str, Any]]) -> str:
    text = seconds(data["wall"])
    if main is not None:
        foreseen = ""
        if not _is_guess(main["verdict"]):
            foreseen = f", {seconds(main['at'] + main['verdict']['seconds'])} predicted"
        text += f"{foreseen} (the choice came after {seconds(changes[-1]['at'])})"
    return f"{text}; {seconds(data.get('cpu', 0.0))} of CPU in tasks"


def _read(data: dict[str, Any]) -> str:
    """Where a task's time went, as it was measured; empty if most of it was not."""
    reading, tasks = data.get("reading"), data.get("done")
    if not reading or not tasks or reading["stands_for"] < 0.5 * data["busy"]:
        return ""
    known = [(reading[name], verb) for name, verb in PARTS.items() if reading.get(name) is not None]
    told = sorted(((part, verb) for part, verb in known if part["share"] >= 0.01), key=lambda it: -it[0]["share"])
    if not any(part["samples"] for part, _ in told):
        return ""
    text = f"{seconds(data['busy'] / tasks)}: {', '.join(f'{_share(part)} {verb}' for part, verb in told)}"
    rest = 1 - sum(part["share"] for part, _ in known)
    return f"{text}; {percent(rest)} is not known" if rest >= 0.05 else text


def _share(part: dict[str, float]) -> str:
    """A share with twice its standard error: true of 19 in 20."""
    error = 200 * part["error"]
    return f"{percent(part['share'])[:-2]} ± {max(error, 1):.0f} %" if error else percent(part["share"])


def _gil(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Who made the function wait for the GIL, if it did."""
    blame, wait = data.get("blame") or [], (data.get("reading") or {}).get("gil_wait")
    blamed = sum(entry["samples"] for entry in blame)
    lines = []
    if wait and wait["share"] >= 0.05 and blamed >= ENOUGH:
        shares = [(entry["samples"] / blamed, _holder(entry["by"], data["function"])) for entry in blame]
        told = [f"{percent(share)} while {holder} held it" for share, holder in shares if share >= 0.01]
        lines.append(("GIL waits", ", ".join(told)))
    return lines + [("convoy", _convoy(convoy)) for convoy in data.get("convoys") or [] if data.get("function")]


def _loop(data: dict[str, Any], loop: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """How busy the event loop was, and the call that kept the others from it for longest."""
    processes = data["plan"]["processes"]
    share = loop["steps"] / (data["wall"] * max(processes, 1)) if data["wall"] else 0.0
    text = f"at most {count(loop['most'], 'call')} under way at a time"
    yield "event loop", f"{text}; busy with them for {percent(min(share, 1.0))} of the time"
    if hog := loop["hog"]:
        took, computed = hog["seconds"], hog["cpu"]
        how = f"it computed for {seconds(computed)} of that"
        if computed < took / 10:
            how = "it hardly computed in that time: a call that blocks?"
        cure = "asyncio.to_thread() would keep it off the loop"
        if not processes:
            cure += ", plan='processes' would have more loops"
        told = f"`{hog['function']}` (item {hog['item']}) ran for {seconds(took)} without an await, and no other call"
        yield "hogged", f"{told} went on meanwhile; {how}; {cure}"


def _way(data: dict[str, Any], cluster: dict[str, Any]) -> str:
    """What the messages of a cluster cost, and how many there were."""
    sizes = f"{size(data['pickling']['bytes_out'])} out, {size(data['pickling']['bytes_back'])} back"
    text = f"{count(cluster['chunks'], 'chunk')}, {sizes}; each worker spent {seconds(cluster['travel'])} on it"
    if cluster["hop"]:
        text += f"; a hop takes {seconds(cluster['hop'])}"
    if cluster["per_byte"]:
        text += f"; a megabyte takes {seconds(cluster['per_byte'] * 1e6)}"
    return f"{text}; {cluster['retried']} sent again" if cluster["retried"] else text


def _holder(name: str | None, own: str) -> str:
    if name is None:
        return "a thread without a task"
    return "another of its calls" if name == own else f"`{name}`"


def _convoy(convoy: dict[str, Any]) -> str:
    return (
        f"`{convoy['starved']}` starves: it computes without the GIL, but waits for its turn to take it again for "
        f"{percent(convoy['wait'])} of its time, mostly while {_holder(convoy['hog'], '')} holds it; more threads make "
        "that worse, worker processes end it"
    )


def _native(native: dict[str, Any]) -> str:
    threads = native["threads"]
    names = sorted({thread["name"] for thread in threads if thread["name"]})
    whose = " or ".join(native["libraries"]) or ", ".join(f"`{name}`" for name in names)
    said = f"{seconds(native['cpu'])} of CPU went to {count(len(threads), 'thread')}"
    return f"{said} of {whose}" if whose else f"{said} that Python did not start"


def _meter(meter: dict[str, Any] | None) -> str:
    if not meter:
        return ""
    said = []
    if meter["unknown"]:
        said.append(f"the GIL can't be seen, so its part is not known: {meter['unknown']}")
    if meter["took"]:
        said.append(f"took {percent_of_little(meter['took']['share'])} of a core")
    return "; ".join(said)


def _mixture(task: dict[str, float | None]) -> str:
    """What a task's time went to, where few tasks were measured: what is called waiting may be for the GIL then."""
    wall, cpu = task.get("wall"), task.get("cpu")
    if not wall:
        return ""
    held, off, waiting = task.get("gil_held"), task.get("off_gil"), task.get("waiting")
    if held is None or off is None or waiting is None:
        if cpu is None:
            return seconds(wall)
        computes = percent(cpu / wall)
        return f"{seconds(wall)}: {computes} computes" + ("" if computes == "100 %" else ", the rest waits")
    parts = [(held, "holds the GIL"), (off, "computes without it"), (waiting, "waits")]
    parts.append((wall - held - off - waiting, "is in a queue for the GIL or a core"))
    parts = [(part / wall, verb) for part, verb in sorted(parts, reverse=True) if part >= 0.01 * wall]
    return f"{seconds(wall)}: {', '.join(f'{percent(share)} {verb}' for share, verb in parts)}"


def _pickling(data: dict[str, Any]) -> str:
    cost = data.get("pickling")
    if not cost:
        return ""
    spent = cost["encode"] + cost["decode"]
    # What nobody would notice is not worth a line.
    if spent < 0.01 * (data.get("wall") or data.get("busy") or 0.0):
        return ""
    sizes = f"{size(cost['bytes_out'])} out, {size(cost['bytes_back'])} back"
    return f"{seconds(spent)} in this process: {sizes}"


def _from_when(entry: dict[str, Any]) -> str:
    return f"{plan_of(entry['verdict']['plan'])} (from {seconds(entry['at'])} on)"


def beaten(verdict: dict[str, Any]) -> str:
    """The best forecast of each kind that was beaten, and what most of its time would have gone to."""
    best: dict[str, str] = {}
    for forecast in verdict["beaten"]:
        plan = plan_of(forecast["plan"])
        if plan.kind not in best:
            best[plan.kind] = f"{plan} {seconds(forecast['seconds'])} ({drawback(plan, forecast, verdict)})"
    return ", ".join(best.values())


def drawback(plan: Plan, forecast: dict[str, Any], verdict: dict[str, Any]) -> str:
    """Why a forecast is no better than what was taken."""
    if forecast["seconds"] <= verdict["seconds"] * 1.03:
        return "no faster"
    if plan.kind == "serial":
        return "one after another"
    bound: str = forecast["bound_by"]
    return BOUNDS.get(bound, bound)


def _worker_rows(workers: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["worker", "tasks", "in tasks", "CPU"]]
    if len(workers) <= MOST_ROWS:
        ordered = sorted(workers, key=lambda worker: (worker["kind"] != "thread", worker["id"]))
        for worker in ordered:
            name = f"{worker['kind']} {worker['id']}"
            rows.append([name, str(worker["tasks"]), seconds(worker["busy"]), seconds(worker["cpu"])])
        return rows
    for kind, plural in (("thread", "threads"), ("process", "processes")):
        same = [worker for worker in workers if worker["kind"] == kind]
        if same:
            each = [span([worker["tasks"] for worker in same], str)]
            each += [span([worker[name] for worker in same], seconds) for name in ("busy", "cpu")]
            rows.append([f"each of {count(len(same), kind, plural)}", *each])
    return rows


def span(values: list[Any], words: Any) -> str:
    """The least and the most, or one if they read the same."""
    low, high = words(min(values)), words(max(values))
    return str(low) if low == high else f"{low} to {high}"


def count(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def seconds(time: float) -> str:
    """A time as people say it: two figures and a unit."""
    for least, factor, unit in (60.0, 1 / 60, "min"), *UNITS:
        if time >= least:
            value = round(time * factor, 1)
            return f"{value:.1f} {unit}" if value < 10 and value % 1 else f"{value:.0f} {unit}"
    return "0 µs"


def figure(time: float) -> str:
    """A time in three figures, for tables."""
    for least, factor, unit in UNITS:
        if time >= least:
            value = time * factor
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return "0 µs"


def times(ratio: float) -> str:
    """How many times one thing is another."""
    return f"{ratio:.2g}x" if ratio < 0.1 else f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.1f}x"


def percent(share: float) -> str:
    """A share as people say it; never a false "all"."""
    return "100 %" if share >= 0.995 else f"{share * 100:.0f} %"


def percent_of_little(share: float) -> str:
    """A small share with one more figure."""
    return "under 0.1 %" if share < 0.0005 else f"{share * 100:.1f} %" if share < 0.0995 else percent(share)


def size(number: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.1f} {unit}" if unit != "bytes" and number < 10 else f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def table(rows: list[list[str]], right: bool = True) -> list[str]:
    """Rows in columns: the first to the left, the others to the right unless told otherwise."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        pairs = zip(others, widths[1:], strict=True)
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width in pairs]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def wrap(text: str, indent: int = 2) -> list[str]:
    """Lines of a sentence; those after the first are indented."""
    import re
    from textwrap import wrap

    # A number stays with its unit.
    glued = re.sub(r"(?<=[\d±]) (?=\S)", "\xa0", text)
    lines = wrap(glued, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]
