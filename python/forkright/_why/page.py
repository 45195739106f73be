"""Puts a measurement onto one self-contained HTML page: verdict, totals, timeline, blame, threads.

Everything that can be read is HTML made here, so it is there without scripts, on paper and for a screen reader.
`assets/page.js` adds the timeline, from a compact copy of its pieces: 1.2 million of them stay a few megabytes.

The timeline's axes, cursor and selection are uPlot's (MIT), shipped in `assets/`. Compared on npm: uPlot 1.6.32 of May
2025 is 51 KB with no dependencies and has 1.2 million downloads a month; Apache ECharts 6.1.0 of May 2026 has 7.7
million and is more complete, but adds a megabyte to every page, for lanes that either would have us draw ourselves.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from .._report import count, figure, plan_of, seconds, times
from . import timeline
from .timeline import Pieces
from .words import away, clean, label, meaning

# So many functions of a thread, so many rows of the blame table: the rest is a click or the JSON away.
MOST_FUNCTIONS = 8
MOST_BLAME = 20
# Threads are told apart in the GIL's lane by so many shades; `assets/page.js` draws them.
SHADES = 4
# Where nothing could be read.
UNKNOWN: dict[str, Any] = {"seconds": None, "share": None, "error": None, "samples": None}


def render(data: dict[str, Any]) -> str:
    """The page as HTML text that can be written as UTF-8."""
    command = " ".join(clean(word) for word in data["program"].get("argv") or ["a part of a program"])
    return Template(_asset("page.html")).substitute(
        title=escape(f"{command[:80]} · forkright why"),
        command=_name(command),
        run=_run(data),
        verdict=_verdict(data["verdict"], away(data["program"])),
        predictions=_predictions(data),
        totals=_totals(data),
        legend=_legend(data["states"]),
        blame=_blame(data),
        processes="\n".join(_process(data, number) for number in range(len(data["processes"]))),
        meter=_meter(data["meter"]),
        library_css=_asset("uPlot.min.css"),
        css=_asset("page.css"),
        licence=_asset("uPlot.LICENSE"),
        library=_asset("uPlot.iife.min.js"),
        script=_asset("page.js"),
        data=_script_data(_timeline(data)),
    )


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")  # pyright: ignore[reportArgumentType]


def _name(text: object) -> str:
    """A name of the program's: cut to the room there is, whole in its title, its direction kept inside."""
    safe = escape(clean(text))
    return f'<bdi class="name" title="{safe}">{safe}</bdi>'


def _run(data: dict[str, Any]) -> str:
    program, machine = data["program"], data["machine"]
    threads = sum(len(process["threads"]) for process in data["processes"])
    ended = program.get("exit") or {}
    facts = [f"ran {_time(program['wall'])}"]
    if ended.get("signal"):
        facts.append(f"killed by {escape(clean(ended['signal']))}")
    elif ended.get("code") is not None:
        facts.append(f"exit code {ended['code']}")
    facts += [
        count(len(data["processes"]), "process", "processes"),
        count(threads, "thread"),
    ]
    facts += [count(machine["cores"], "core"), escape(clean(machine["system"]["architecture"]))]
    return _items(facts)


def _verdict(verdict: dict[str, Any], elsewhere: str) -> str:
    told = [*verdict["reasons"], *([elsewhere] if elsewhere else [])]
    reasons = "".join(f"<li>{escape(clean(reason))}</li>" for reason in told)
    said = clean(verdict["sentence"])
    sentence = f'<p class="sentence">{escape(said[:1].upper() + said[1:])}</p>'
    plan = f"<p>As a plan: <code>{plan_of(verdict['plan'])!r}</code></p>" if verdict["plan"] else ""
    return sentence + (f'<ul class="reasons">{reasons}</ul>' if reasons else "") + plan


def _predictions(data: dict[str, Any]) -> str:
    """How long it would take on so many cores, beside how long it took."""
    predictions = data["verdict"]["predictions"]
    wall = data["program"]["wall"]
    if not predictions:
        return ""
    longest = max([wall or 0.0, *(each["seconds"] or 0.0 for each in predictions)])
    rows = [_prediction("as it ran", "", wall, 1.0, longest)]
    for each in predictions:
        plan = plan_of(each["plan"])
        where = "here" if each.get("here") else count(each["cores"], "core")
        best = bool(each.get("here")) and each["plan"] == data["verdict"]["plan"]
        rows.append(_prediction(where, str(plan), each["seconds"], each["speed_up"], longest, best))
    return (
        '<table class="predictions"><caption>Predicted</caption><thead><tr><th scope="col">where</th>'
        '<th scope="col">plan</th><th scope="col" class="figure">time</th>'
        '<th scope="col" class="figure">speed-up</th><th scope="col" class="wide" aria-hidden="true"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _prediction(
    where: str, plan: str, time: float | None, speed_up: float | None, longest: float, best: bool = False
) -> str:
    bar = _bar((time or 0.0) / longest if longest else 0.0)
    return (
        f'<tr{" class=best" if best else ""}><th scope="row">{where}</th><td>{plan}</td>'
        f'<td class="figure">{_time(time)}</td><td class="figure">{_unknown(speed_up, times)}</td>'
        f'<td class="wide">{bar}</td></tr>'
    )


def _totals(data: dict[str, Any]) -> str:
    states, totals = data["states"], data["totals"]
    rows = "".join(_total(state, totals[state]) for state in states if state in totals)
    return (
        f"{_stack(states, totals)}<table class='totals'><thead><tr><th scope='col'>state</th>"
        "<th scope='col' class='figure'>time</th><th scope='col' class='figure'>share</th>"
        f"<th scope='col' class='figure'>samples</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _total(state: str, reading: dict[str, Any] | None) -> str:
    reading = reading or UNKNOWN
    share = _share(reading["share"])
    if reading["share"] is not None and reading.get("error") is not None:
        share += f" <small>± {reading['error'] * 100:.1f}</small>"
    return (
        f'<tr title="{escape(meaning(state))}"><th scope="row">{_swatch(state)}{escape(label(state))}</th>'
        f'<td class="figure">{_time(reading["seconds"])}</td><td class="figure">{share}</td>'
        f'<td class="figure">{_unknown(reading["samples"], "{:,}".format)}</td></tr>'
    )


def _stack(states: Sequence[str], parts: dict[str, Any]) -> str:
    """One bar with a piece for each state; what is unknown of its shares is left empty."""
    shares = [(state, (parts.get(state) or UNKNOWN)["share"]) for state in states]
    shares = [(state, share) for state, share in shares if share]
    words = ", ".join(f"{label(state)} {_share(share)}" for state, share in shares) or "shares unknown"
    pieces = "".join(
        f'<span data-state="{escape(state)}" style="width:{share * 100:.3f}%" '
        f'title="{escape(label(state))} {_share(share)}"></span>'
        for state, share in shares
    )
    return f'<div class="stack" role="img" aria-label="{escape(words)}">{pieces}</div>'


def _legend(states: Sequence[str]) -> str:
    return "".join(
        f"<div><dt>{_swatch(state)}{escape(label(state))}</dt><dd>{escape(meaning(state))}</dd></div>"
        for state in states
    )


def _swatch(state: str) -> str:
    return f'<span class="swatch" data-state="{escape(clean(state))}" aria-hidden="true"></span>'


def _blame(data: dict[str, Any]) -> str:
    blame = sorted(data["blame"], key=lambda row: -(row["seconds"] or 0.0))
    convoys = "".join(f"<li>{escape(clean(convoy['sentence']))}</li>" for convoy in data["convoys"])
    text = f'<ul class="convoys">{convoys}</ul>' if convoys else ""
    if not blame:
        return f"{text}<p>No function was seen waiting for the GIL.</p>"
    most = blame[0]["seconds"] or 1.0
    rows = "".join(
        f"<tr><td>{_function(data, row['waiting'], 'a thread outside every function seen')}</td>"
        f"<td>{_function(data, row['holding'], 'a thread Python did not start')}</td>"
        f'<td class="figure">{_time(row["seconds"])}{_bar((row["seconds"] or 0.0) / most)}</td>'
        f'<td class="figure samples">{_unknown(row["samples"], "{:,}".format)}</td></tr>'
        for row in blame[:MOST_BLAME]
    )
    rest = len(blame) - MOST_BLAME
    more = f"<p>{count(rest, 'smaller pair')} left out.</p>" if rest > 0 else ""
    return (
        f'{text}<table class="blame"><thead><tr><th scope="col">this waited for the GIL</th>'
        '<th scope="col">while this held it</th><th scope="col" class="figure">time</th>'
        f'<th scope="col" class="figure samples">samples</th></tr></thead><tbody>{rows}</tbody></table>{more}'
    )


def _function(data: dict[str, Any], number: int | None, otherwise: str) -> str:
    if number is None or number < 0:
        return f"<em>{otherwise}</em>"
    function = data["functions"][number]
    return f"<code>{_name(function['name'])}</code><small>{_name(_place(function))}</small>"


def _place(function: dict[str, Any]) -> str:
    return f"{function['file']}:{function['line']}"


def _process(data: dict[str, Any], number: int) -> str:
    process = data["processes"][number]
    facts = [f"pid {process['pid']}", f"parent {_unknown(process['parent'], str)}"]
    if process.get("python"):
        facts.append(f"Python {escape(clean(process['python']))}")
    facts += [
        f"{_time(process['began'])} to {_time(process['ended'])}",
        f"{_time(process['cpu'])} CPU",
        f"{_unknown(process['switches'], '{:,}'.format)} switches",
    ]
    threads = "".join(
        _thread(data, thread, f"thread-{number}-{index}") for index, thread in enumerate(process["threads"])
    )
    gil = f'<p class="note">The GIL could not be seen: {escape(clean(process["gil"]))}</p>' if process["gil"] else ""
    if threads:
        threads = f'<div class="threads">{threads}</div>'
    return (
        f'<section class="process" aria-labelledby="process-{number}">'
        f'<h3 id="process-{number}">{_name(process["name"])}</h3>'
        f"{_items(facts)}{gil}{threads or '<p>No thread was seen.</p>'}{_native(process['native'])}</section>"
    )


def _thread(data: dict[str, Any], thread: dict[str, Any], anchor: str) -> str:
    facts = [
        f"tid {_unknown(thread['tid'], str)}",
        f"{_time(thread['began'])} to {_time(thread['ended'])}",
        f"{_time(thread['cpu'])} CPU",
    ]
    rows = "".join(
        f'<tr><td class="figure">{_share(each["share"])}</td><td>{_function(data, each["function"], "unknown")}</td>'
        f'<td class="figure samples">{_unknown(each["samples"], "{:,}".format)}</td></tr>'
        for each in thread["functions"][:MOST_FUNCTIONS]
    )
    table = (
        '<table class="functions"><thead><tr><th scope="col" class="figure">share</th><th scope="col">function</th>'
        f'<th scope="col" class="figure samples">samples</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    return (
        f'<article class="thread" id="{anchor}" tabindex="-1"><h4>{_name(thread["name"])}</h4>{_items(facts)}'
        f"{_stack(data['states'], thread['parts'])}{table if rows else '<p>No function was seen.</p>'}</article>"
    )


def _native(native: Iterable[dict[str, Any]]) -> str:
    """Threads that nobody started through Python."""
    lines = "".join(
        f"<li>{_name(each['name'])} {count(each['threads'], 'thread')}, {_time(each['cpu'])} CPU</li>"
        for each in native
    )
    return f'<h4>Native threads</h4><ul class="native">{lines}</ul>' if lines else ""


def _meter(meter: dict[str, Any]) -> str:
    return (
        f"Measuring took {_time(meter['cpu'])} of CPU, {_share(meter['share'], 2)} of one core, "
        f"for {_unknown(meter['ticks'], '{:,}'.format)} looks."
    )


def _time(time: float | None) -> str:
    return "unknown" if time is None else "0 s" if time == 0 else figure(time) if time < 60 else seconds(time)


def _share(share: float | None, digits: int = 0) -> str:
    if share is None:
        return "unknown"
    return "&lt;1 %" if not digits and 0 < share < 0.005 else f"{share * 100:.{digits}f} %"


def _unknown(value: Any, form: Callable[[Any], str]) -> str:
    return "unknown" if value is None else form(value)


def _items(facts: Iterable[str]) -> str:
    return f'<ul class="facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>'


def _bar(share: float) -> str:
    return f'<span class="bar" style="width:{min(max(share, 0.0), 1.0) * 100:.2f}%" aria-hidden="true"></span>'


def _timeline(data: dict[str, Any]) -> dict[str, Any]:
    """What `assets/page.js` draws: names once, pieces packed."""
    wall = data["program"]["wall"]
    processes = []
    longest = timeline.micros(wall or 0.0)
    for process in data["processes"]:
        threads = [timeline.pieces(thread, wall) for thread in process["threads"]]
        longest = max([longest, *(thread.end for thread in threads)])
        turns = [] if process["gil"] else timeline.holders(threads, data["states"])
        processes.append(
            {
                "name": clean(process["name"]),
                "pid": process["pid"],
                "gil": _pack(_gil(turns)) if turns else None,
                "threads": [
                    {"name": clean(thread["name"]), "tid": thread["tid"], "pieces": _pack(pieces)}
                    for thread, pieces in zip(process["threads"], threads, strict=True)
                ],
            }
        )
    return {
        "end": longest,
        "states": [{"key": clean(state), "label": clean(label(state))} for state in data["states"]],
        "functions": [[clean(each["name"]), clean(_place(each))] for each in data["functions"]],
        "processes": processes,
    }


def _gil(turns: list[tuple[int, int]]) -> Pieces:
    """The GIL's lane in the form of a thread's: the state is 0 or the holder's shade, the function is the holder."""
    at = [time for time, _ in turns]
    who = [index for _, index in turns]
    return Pieces(at, [0 if index < 0 else 1 + index % SHADES for index in who], who, at[-1])


def _pack(pieces: Pieces) -> dict[str, Any]:
    """Lengths as u64, functions as i32, states as u8, one array after the other, deflated, in base 64."""
    lengths = array("Q", (later - at for at, later in zip(pieces.at, pieces.ends(), strict=True)))
    functions = array("i", pieces.functions)
    if sys.byteorder == "big":
        lengths.byteswap()
        functions.byteswap()
    whole = lengths.tobytes() + functions.tobytes() + bytes(pieces.states)
    return {
        "count": len(pieces.at),
        "begin": pieces.at[0] if pieces.at else 0,
        "packed": base64.b64encode(zlib.compress(whole)).decode(),
    }


def _script_data(value: object) -> str:
    """JSON that no text inside can end the script element with."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
