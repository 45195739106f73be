"""The findings as tables, and as docs/no-hang.md beside the raw JSON."""

from __future__ import annotations

import importlib.metadata
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import shared_memory
from cells import CELLS, Cell
from finding import LIMIT, MEANINGS, End, Finding

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "no-hang.md"
_DISTRIBUTIONS = {"loky": "loky", "Pebble": "pebble", "MPIRE": "mpire"}

Findings = dict[Cell, Finding]

INTRODUCTION = """# No-hang: what survives what

Every pool meets values that will not pickle, code that crashes and workers that are killed. `tests/nohang` has one thing
go wrong at one step of one task's way, and sees what becomes of that task, of the others and of the executor: first
with nothing else to do, then with {load} innocent tasks before, beside and behind it. The worse of the two counts.

The steps are pickling, sending, unpickling, running, returning, a callback, the collection of garbage and shutdown; it
goes wrong in the arguments, the function, the result, the exception or, at shutdown, in what the worker does last. What
goes wrong is one of:

| deed | what it does |
|---|---|
| raise | raises an exception |
| exit | `sys.exit` |
| quit | `os._exit` |
| abort, segfault | crashes in native code |
| block | never returns; while a value is being returned: its process is stopped |

In the caller's own process nothing quits or crashes: that would end the user's program, whatever runs it. Of executors
that run tasks on threads only those cells are asked that make sense there. "auto" keeps these tasks on threads.

    make test-nohang                               # this page again, with the peers
    .venv/bin/python tests/nohang/run.py --only loky

How a cell can end, worst first:

| end | meaning |
|---|---|
{meanings}

Whatever has not happened after {limit:.0f} s counts as never. Of two tasks that share a worker process, as under a hybrid
plan, one ends with the other: that is not counted as a loss of others as long as the error says so.
"""


def markdown(findings: dict[str, Findings], missing: list[str]) -> str:
    """The counts for each executor, then where each kind of end was found."""
    lines = [_row("executor", "cells", *(end.value for end in End)), _row(*["---"] * (2 + len(End)))]
    for name, found in findings.items():
        counts = Counter(finding.end for finding in found.values())
        lines.append(_row(_titled(name), len(found), *(counts[end] or "" for end in End)))
    if missing:
        lines += ["", f"Not installed, so not tried: {', '.join(missing)}."]
    lines += ["", "Where it goes wrong, and the worst that came of it; in brackets, by which deeds.", ""]
    lines += [_row("step", "in", *findings), _row(*["---"] * (2 + len(findings)))]
    for (step, place), row in groupby(CELLS, key=lambda cell: cell[:2]):
        cells = list(row)
        lines.append(_row(step, place, *(_worst(cells, found) for found in findings.values())))
    return "\n".join(lines) + "\n"


def keep(findings: dict[str, Findings], missing: list[str]) -> None:
    """Writes the page, and all findings with their machine beside the benchmarks' runs."""
    sys.path.append(str(ROOT / "benchmarks"))
    import machine
    import store

    described = machine.describe()
    table = markdown(findings, missing)
    data: dict[str, Any] = {
        "machine": described,
        "limit": LIMIT,
        "versions": {name: _titled(name) for name in findings},
        "findings": {
            name: {str(cell): {"end": finding.end.value, "detail": finding.detail} for cell, finding in found.items()}
            for name, found in findings.items()
        },
    }
    folder = store.save("no-hang", "", data, table)
    meanings = "\n".join(f"| {end.value} | {meaning} |" for end, meaning in MEANINGS.items())
    from interpreter import AFTER, BEFORE, FOLLOWING

    page = INTRODUCTION.format(load=BEFORE + AFTER + FOLLOWING, meanings=meanings, limit=LIMIT)
    raw = folder.relative_to(ROOT) / "no-hang.json"
    shared = "" if shared_memory.own() else " Shared memory was not looked at: this machine allows no mount namespace."
    where = f"Measured on {machine.sentence(described)}. All findings: `{raw}`.{shared}"
    PAGE.write_text(f"{page}\n## Findings\n\n{where}\n\n{table}")


def _worst(cells: list[Cell], found: Findings) -> str:
    ends = {cell.deed: found[cell].end for cell in cells if cell in found}
    if not ends:
        return "—"
    worst = max(ends.values(), key=lambda end: end.badness)
    if all(end is worst for end in ends.values()) or worst.badness < End.ERROR.badness:
        return worst.value
    return f"{worst.value} ({', '.join(deed for deed, end in ends.items() if end is worst)})"


def _titled(name: str) -> str:
    """With the version of what came with a package."""
    distribution = _DISTRIBUTIONS.get(name)
    return f"{name} {importlib.metadata.version(distribution)}" if distribution else name


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
