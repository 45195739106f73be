"""What pages show of the machine that builds the site: figures of `forkright doctor`, timelines of `forkright why`.

Called by hooks.py where a page says `<!-- live: NAME -->`, or `<!-- live: timeline FILE -->` for the block of code with
that title on the same page. The pictures are drawn here, from the JSON of `forkright why`, so that building needs no
browser; the page with all of it, made by `forkright why --html`, lies beside them on the site.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

COMMANDS = ("", "compare", "check", "doctor", "why", "replay")
# In the words of `forkright why`, in the order of a legend.
STATES = {
    "held": "holds the GIL",
    "held_blocked": "holds it and waits",
    "gil_wait": "waits for the GIL",
    "off_gil": "computes without it",
    "io": "input, output, sleep",
    "lock_wait": "waits for a lock",
    "run_delay": "has no core",
    "idle": "idle",
}
WIDTH, NAMES, LANE = 760, 130, 22  # of a picture, in its units


def build(name: str, blocks: dict[str, str], pages: dict[str, str]) -> str:
    """The Markdown for a name. What belongs beside it on the site is put into `pages`, by path."""
    kind, _, argument = name.partition(" ")
    if kind == "doctor":
        return f"```text\n{_run('doctor')}```\n\n{_where()}"
    if kind == "help":
        return "\n\n".join(f"## `{f'forkright {it}'.strip()}`\n\n```text\n{_help(it)}```" for it in COMMANDS)
    if kind == "timeline":
        told, data, pages[f"timelines/{argument}.html"] = measure(argument, blocks[argument])
        return f"{picture(argument, data)}\n\n```text\n{told}```\n\n{_where()}"
    raise ValueError(f"`live: {name}` is nothing that can be shown")


def _help(command: str) -> str:
    return _run(*filter(None, (command, "--help")))


@functools.cache
def _run(*arguments: str, folder: str | None = None) -> str:
    # Whoever builds the site has the right to figures that are not those of earlier days.
    environment = os.environ | {"FORKRIGHT_CACHE": "off", "NO_COLOR": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "forkright", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    # `why` tells on standard error, beside what the program prints.
    return done.stdout if arguments[0] != "why" else done.stderr


@functools.cache
def measure(name: str, code: str) -> tuple[str, dict[str, Any], str]:
    """What `forkright why` says of a program: in words, as data, and as its page."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_text(code)
        told = _run("why", "--json", "data.json", "--html", "page.html", name, folder=folder)
        told = re.sub(r"\n+(wrote|the page|open) .*", "", told)
        return told, json.loads(Path(folder, "data.json").read_text()), Path(folder, "page.html").read_text()


def picture(name: str, data: dict[str, Any]) -> str:
    """The threads of a program over time, one lane each, with what the site says about it around."""
    lanes, most = list(_lanes(data)), 0.0
    begin = min(lane[1][0][0] for lane in lanes)
    most = max(lane[1][-1][1] for lane in lanes)
    scale, height = (WIDTH - NAMES) / (most - begin), LANE * len(lanes) + 24
    drawn = []
    for number, (label, pieces) in enumerate(lanes):
        top = number * LANE
        drawn.append(f'<text x="{NAMES - 8}" y="{top + 15}" text-anchor="end">{escape(label)}</text>')
        for start, end, state in pieces:
            x, width = NAMES + (start - begin) * scale, max((end - start) * scale, 0.4)
            title = f"{STATES.get(state, 'unknown')}, {(end - start) * 1000:.1f} ms"
            box = f'x="{x:.1f}" y="{top + 2}" width="{width:.1f}" height="{LANE - 4}"'
            drawn.append(f'<rect class="{state}" {box}><title>{title}</title></rect>')
    base = LANE * len(lanes)
    for tick in range(5):
        at = NAMES + (WIDTH - NAMES) * tick / 4
        anchor = ("start", "middle", "middle", "middle", "end")[tick]
        when = f"{(most - begin) * 250 * tick:.0f} ms"
        drawn.append(f'<text x="{at:.0f}" y="{base + 18}" text-anchor="{anchor}">{when}</text>')
    seen = {state for _, pieces in lanes for _, _, state in pieces}
    legend = " ".join(f'<span class="{state}">{told}</span>' for state, told in STATES.items() if state in seen)
    return (
        f'<figure class="timeline"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The threads of '
        f'{escape(name)} over time">{"".join(drawn)}</svg><figcaption>{legend}<br>'
        f'<a href="TIMELINES/{escape(name)}.html">All of it, to zoom into</a></figcaption></figure>'
    )


def _lanes(data: dict[str, Any]) -> Iterator[tuple[str, list[tuple[float, float, str]]]]:
    """The threads that did something, with their pieces: begin, end, state."""
    for number, process in enumerate(data["processes"]):
        for thread in process["threads"]:
            starts, states = thread["timeline"]["at"], thread["timeline"]["state"]
            ends = [*(at / 1e6 for at in starts[1:]), thread["ended"] or process["ended"]]
            pieces = [
                (at / 1e6, end, data["states"][state] if state >= 0 else "unknown")
                for at, end, state in zip(starts, ends, states, strict=True)
            ]
            if pieces and any(state not in ("idle", "unknown") for *_, state in pieces):
                name = thread["name"].removesuffix(" (calc)")
                yield f"child {number}, {name}" if number else name, pieces


@functools.cache
def _where() -> str:
    """On what machine that was, and when."""
    cores = len(os.sched_getaffinity(0))
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    on = f"{model[1]}, " if model else ""
    made = date.today()
    return (
        f'<small class="where">Measured when this page was built, on {made.day} {made:%B %Y}: {on}{cores} cores, '
        f"CPython {platform.python_version()}.</small>"
    )
