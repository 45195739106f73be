"""Runs CPython's tests on all kinds of workers under several versions of Python; `make test-cpython` runs this.

    python tests/cpython/versions.py [--minors 11 12 13] [--kinds KIND...] [--keep]

The interpreters are those that lie beside this one. --keep writes docs/cpython-suite.md and the counts as JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import environments
import left_out
from environments import ROOT, Interpreter
from left_out import LeftOut

RUN = Path(__file__).parent / "run.py"
PAGE = ROOT / "docs" / "cpython-suite.md"
# One interpreter at a time, but some kinds side by side: most of their time is sleep.
JOBS = 3
LIMIT = 1800

KINDS = {
    "threads": "`ThreadPoolExecutor`",
    "processes": "`ProcessPoolExecutor`",
    "hybrid": "`Executor(plan=Plan(3, 2))`, tests of `ProcessPoolExecutor`",
    "auto-like-threads": "`Executor()`, tests of `ThreadPoolExecutor`",
    "auto-like-processes": "`Executor()`, tests of `ProcessPoolExecutor`",
    "futures": "`Future`",
    "pool": "`Pool`",
    "pool-threads": '`Pool(plan="threads")`',
    "pool-auto": '`Pool(plan="auto")`',
    "process": "`Process`",
    "thread": "`Thread`",
}

INTRODUCTION = """# CPython's own tests

forkright's executors, futures, pools, processes and threads stand in for the standard library's, so they have to pass
its tests: `test.test_concurrent_futures`, the pools and processes of `test._test_multiprocessing`, and what
`test.test_threading` has on `Thread`. The suite is the one that each interpreter brings; it is not edited, only the
names of the classes lead to forkright's. Where an interpreter was installed without a part of it, that part is of the
version that the table names.

    make test-cpython                              # this page again
    .venv/bin/python tests/cpython/run.py processes

A test is left out only if it looks into what is private to the standard library's implementation, or asks of threads
what only processes can do, or relies on what a fork inherits; one more contradicts a promise. Each is named below, the
kinds of workers as `run.py` calls them.
"""


class Ran(NamedTuple):
    interpreter: Interpreter
    suite: str
    kinds: dict[str, dict[str, Any]]


def interpreters(minors: list[int]) -> tuple[list[Interpreter], list[str]]:
    """One for each version, and why there is none for the others."""
    here = [environments.mine(), *environments.neighbours()]
    found, missing = [], []
    for minor in minors:
        candidates = [one for one in here if one.minor == minor]
        fit = next((one for one in candidates if environments.bring(one)), None)
        if fit is not None:
            found.append(fit)
        elif candidates:
            missing.append(f"{candidates[0].version} was installed without the suite: see tests/cpython/README.md")
        else:
            missing.append(f"there is no Python 3.{minor} beside this one")
    return found, missing


def run(interpreter: Interpreter, kinds: list[str]) -> Ran:
    """All kinds under one interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        python = environments.make(interpreter, Path(folder) / "made")

        def run_kind(kind: str) -> dict[str, Any]:
            place = Path(folder) / kind
            place.mkdir()
            result = place / "counts.json"
            command = [python, RUN, kind, "--json", result]
            ended = subprocess.run(
                command, cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT
            )
            print(ended.stdout, end="", flush=True)
            if not result.exists():
                return {"counts": {}, "not as listed": [f"the run ended with {ended.returncode}"]}
            return json.loads(result.read_text())[kind]  # type: ignore[no-any-return]

        with ThreadPoolExecutor(JOBS) as pool:
            return Ran(interpreter, interpreter.suite(), dict(zip(kinds, pool.map(run_kind, kinds), strict=True)))


def table(runs: list[Ran]) -> str:
    """The counts, a row for each kind."""
    titles = [f"{ran.interpreter.version}{_of_another(ran)}" for ran in runs]
    lines = [_row("in the place of the standard library's", *titles), _row(*["---"] * (1 + len(runs)))]
    for kind, title in KINDS.items():
        cells = [_cell(ran.kinds[kind]) if kind in ran.kinds else "" for ran in runs]
        if any(cells):
            lines.append(_row(f"{title} ({kind})", *cells))
    totals: list[Counter[str]] = []
    for ran in runs:
        totals.append(Counter())
        for told in ran.kinds.values():
            totals[-1].update(_grouped(told["counts"]))
    lines.append(_row("**all**", *(_words(total) for total in totals)))
    return "\n".join(lines) + "\n"


def _of_another(ran: Ran) -> str:
    return "" if ran.suite == ran.interpreter.version else f", `concurrent.futures` tests of {ran.suite}"


def _grouped(counts: dict[str, int]) -> Counter[str]:
    groups = Counter[str]()
    for outcome, count in counts.items():
        match outcome:
            case "failed as listed" | "not run":
                groups["left out"] += count
            case "passed at the second try":
                groups["passed"] += count
                groups["at the second try"] += count
            case _:
                groups[outcome] += count
    return groups


def _words(groups: Counter[str]) -> str:
    again = f" ({groups['at the second try']} at the second try)" if groups["at the second try"] else ""
    words = [f"{groups['passed']} passed{again}"]
    if groups["left out"]:
        words.append(f"{groups['left out']} left out")
    if groups["skipped by the suite"]:
        words.append(f"{groups['skipped by the suite']} skipped by the suite")
    if groups["NOT AS LISTED"]:
        words.append(f"**{groups['NOT AS LISTED']} failed**")
    return ", ".join(words)


def _cell(told: dict[str, Any]) -> str:
    return _words(_grouped(told["counts"])) if told["counts"] else "**did not end**"


def reasons() -> str:
    """What is left out, and why."""
    rows: tuple[LeftOut, ...] = (*left_out.FAILS, *left_out.NOT_RUN)
    lines = [_row("of", "tests", "because it"), _row("---", "---", "---")]
    for row in rows:
        tests = ", ".join(f"`{name}`" for name in row.tests.split())
        lines.append(_row(", ".join(row.kinds.split()), tests, row.reason))
    return "\n".join(lines) + "\n"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def keep(runs: list[Ran], missing: list[str]) -> None:
    """Writes the page, and the counts with their machine beside the benchmarks' runs."""
    sys.path.append(str(ROOT / "benchmarks"))
    import machine
    import store

    described = machine.describe()
    counts = table(runs)
    data = {
        "machine": described,
        "runs": [{"python": ran.interpreter.version, "suite": ran.suite, "kinds": ran.kinds} for ran in runs],
        "missing": missing,
    }
    folder = store.save("cpython-suite", "", data, counts)
    where = f"Run on {machine.sentence(described)}. As JSON: `{(folder / 'cpython-suite.json').relative_to(ROOT)}`."
    absent = "".join(f"\nNot run: {reason}.\n" for reason in missing)
    page = f"{INTRODUCTION}\n## Counts\n\n{where}\n{absent}\n{counts}\n## What is left out\n\n{reasons()}"
    PAGE.write_text(page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minors", nargs="+", type=int, default=[11, 12, 13])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--keep", action="store_true", help="write docs/cpython-suite.md and the raw JSON")
    options = parser.parse_args()
    found, missing = interpreters(options.minors)
    runs = [run(interpreter, options.kinds) for interpreter in found]
    print(table(runs))
    for reason in missing:
        print(f"not run: {reason}")
    if options.keep:
        keep(runs, missing)
    failed = [name for ran in runs for told in ran.kinds.values() for name in told["not as listed"]]
    return 1 if failed or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
