"""Words what `forkright why` found, for terminals."""

from __future__ import annotations

import os
from typing import Any

from .._report import count, percent, plan_of, seconds, table, times, wrap
from .words import away, label

# Lines for threads; more are told together.
MOST_THREADS = 12
WIDEST = 40
# A part of a thread's time from which on a function is worth naming, and a wait worth blaming.
NOTABLE = 0.05
COLUMNS = ("held", "gil_wait", "off_gil", "io", "lock_wait", "idle")
# These get a column only where there is something in it.
RARE = ("held_blocked", "run_delay")


def lines(data: dict[str, Any]) -> list[str]:
    """The whole answer, the verdict first."""
    processes = data["processes"]
    if not processes:
        return ["nothing was measured: the program ended before it began, or let nothing of its environment through"]
    said = [*wrap(_opening(data)), "", *wrap(_verdict(data))]
    for reason in data["verdict"]["reasons"]:
        said += wrap(f"  - {reason}", indent=4)
    for convoy in data["convoys"]:
        said += wrap(f"  - {convoy['sentence']}", indent=4)
    if elsewhere := away(data["program"]):
        said += wrap(f"  - {elsewhere}", indent=4)
    said += ["", *_time_table(data)]
    for title, text in (*_blame(data), *_predictions(data), *_natives(data), *_unknown(data), _cost(data)):
        said += wrap(f"{title}: {text}")
    return [_printable(line) for line in said]


def _printable(line: str) -> str:
    """Names are the program's: what steers a terminal, or turns text round, is made visible."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def _opening(data: dict[str, Any]) -> str:
    processes = data["processes"]
    threads = sum(len(process["threads"]) for process in processes)
    gils = sum(any(_share(thread, "held") for thread in process["threads"]) for process in processes)
    program = data["program"]
    text = (
        f"{_program_name(data)} took {seconds(program['wall'])}: {count(threads, 'thread')} in "
        f"{count(len(processes), 'process', 'processes')}, {count(max(gils, 1), 'GIL')}"
    )
    ended = program.get("exit") or {}
    if ended.get("signal"):
        text += f"; killed by {ended['signal']}"
    elif ended.get("code"):
        text += f"; exit code {ended['code']}"
    return text


def _program_name(data: dict[str, Any]) -> str:
    argv = data["program"].get("argv") or []
    return f"`{os.path.basename(argv[0])}`" if argv else "it"


def _verdict(data: dict[str, Any]) -> str:
    sentence: str = data["verdict"]["sentence"]
    return sentence[:1].upper() + sentence[1:]


def _share(thread: dict[str, Any], name: str) -> float | None:
    part = thread["parts"].get(name)
    return None if part is None else float(part["share"])


def _time_table(data: dict[str, Any]) -> list[str]:
    columns = [*COLUMNS, *(column for column in RARE if _is_notable(data, column))]
    rows = [["where time went", *(label(column) for column in columns), ""]]
    rows.append(["all threads", *(_cell(data["totals"].get(column)) for column in columns), ""])
    threads = [(process, thread) for process in data["processes"] for thread in process["threads"]]
    threads.sort(key=lambda pair: _busy(pair[1]), reverse=True)
    several = len(data["processes"]) > 1
    alike: dict[tuple[str, ...], list[str]] = {}
    for process, thread in threads:
        where = f"{process['name']} {process['pid']}: " if several else ""
        cells = [_cell(thread["parts"].get(column)) for column in columns]
        alike.setdefault((where, *cells, _functions(thread, data)), []).append(thread["name"])
    shown = list(alike.items())[:MOST_THREADS]
    for (where, *cells), (name, *others) in shown:
        more = f", {len(others)} more like it" if others else ""
        rows.append([_shorten(f"{where}{name}", WIDEST - len(more)) + more, *cells])
    *head, last = zip(*rows, strict=True)
    lined = table([list(row) for row in zip(*head, strict=True)])
    made = [f"{line}  {text}".rstrip() for line, text in zip(lined, last, strict=True)]
    rest = len(threads) - sum(len(names) for _, names in shown)
    if rest:
        made.append(f"and {count(rest, 'thread')} that did less")
    return made


def _is_notable(data: dict[str, Any], name: str) -> bool:
    threads = [thread for process in data["processes"] for thread in process["threads"]]
    return any((_share(thread, name) or 0.0) >= NOTABLE for thread in threads)


def _cell(part: dict[str, Any] | None) -> str:
    if part is None:
        return "?"
    error = part["error"] * 100
    return percent(part["share"]) if error < 1.5 else f"{percent(part['share'])} ± {error:.0f}"


def _busy(thread: dict[str, Any]) -> float:
    idle = thread["seen"].get("idle", 0.0)
    return float((thread["ended"] - thread["began"]) * (1.0 - idle))


def _functions(thread: dict[str, Any], data: dict[str, Any]) -> str:
    places = [place for place in thread["functions"] if (place["share"] or 0.0) >= NOTABLE][:2]
    named = []
    for place in places:
        function = data["functions"][place["function"]]
        where = f"{function['name']} ({os.path.basename(function['file'])}:{function['line']})"
        named.append(where if place["share"] >= 0.95 else f"{where} {percent(place['share'])}")
    return ", ".join(named)


def _blame(data: dict[str, Any]) -> list[tuple[str, str]]:
    wall = data["program"]["wall"]
    worst = [blame for blame in data["blame"] if blame["seconds"] >= NOTABLE * wall][:3]
    if not worst:
        return []
    said = []
    for blame in worst:
        waiting, holding = _function(data, blame["waiting"]), _function(data, blame["holding"])
        if waiting == holding:
            said.append(f"{waiting} waited {seconds(blame['seconds'])} for the GIL while another thread ran it too")
        else:
            said.append(f"{waiting} waited {seconds(blame['seconds'])} for the GIL that {holding} held")
    return [("who made whom wait", "; ".join(said))]


def _function(data: dict[str, Any], number: int | None) -> str:
    return "a thread that could not be asked" if number is None else f"`{data['functions'][number]['name']}`"


def _predictions(data: dict[str, Any]) -> list[tuple[str, str]]:
    here, elsewhere = [], []
    for one in data["verdict"]["predictions"]:
        told = f"{plan_of(one['plan'])} {seconds(one['seconds'])} ({times(one['speed_up'])})"
        if one["here"]:
            here.append(told)
        else:
            elsewhere.append(f"{count(one['cores'], 'core')}: {told}")
    titled = [("predicted here", here), ("predicted elsewhere", elsewhere)]
    return [(title, ", ".join(told)) for title, told in titled if told]


def _natives(data: dict[str, Any]) -> list[tuple[str, str]]:
    said = []
    for process in data["processes"]:
        for native in process["native"]:
            if not native["cpu"]:
                continue
            threads = count(native["threads"], "thread")
            said.append(f"{seconds(native['cpu'])} of CPU in {threads} of {native['name']}")
    return [("beside Python's threads", ", ".join(said))] if said else []


def _unknown(data: dict[str, Any]) -> list[tuple[str, str]]:
    reasons = {process["gil"] for process in data["processes"] if process["gil"]}
    return [("the GIL could not be seen", reason) for reason in sorted(reasons)]


def _cost(data: dict[str, Any]) -> tuple[str, str]:
    meter = data["meter"]
    return "measuring took", f"{meter['share'] * 100:.1f} % of a core, for {count(meter['ticks'], 'look')}"


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
