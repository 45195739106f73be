"""Takes executors through the suite, several interpreters at a time, each under a watchdog.

python tests/nohang/run.py                     all executors, and the table on standard output
python tests/nohang/run.py --only loky Pebble  some of them
python tests/nohang/run.py --keep              as `make test-nohang`: docs/no-hang.md and the raw JSON, too
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cells
import deeds
import executors
import family
from cells import Cell
from finding import LIMIT, End, Finding

HERE = Path(__file__).resolve().parent
# A cell waits for a few things, each no longer than the limit.
WATCHDOG = 8 * LIMIT
# Cells that one interpreter is given at once.
BATCH = 24

Findings = dict[Cell, Finding]


def cells_of(name: str) -> list[Cell]:
    if name in ("forkright threads", "ThreadPoolExecutor"):
        return list(cells.of_threads())
    if name == "forkright auto":
        return list(cells.of_either())
    return list(cells.CELLS)


def run(names: Iterable[str], jobs: int) -> dict[str, Findings]:
    """What became of each cell of each executor."""
    batches = [(name, batch) for name in names for batch in _batches(cells_of(name))]
    findings: dict[str, Findings] = {name: {} for name in names}
    with ThreadPoolExecutor(jobs) as pool:
        for (name, _), found in zip(batches, pool.map(lambda batch: run_batch(*batch), batches), strict=True):
            findings[name].update(found)
    return findings


def _batches(wanted: list[Cell]) -> Iterator[list[Cell]]:
    # What blocks comes last: its interpreter can do little afterwards.
    ordered = sorted(wanted, key=lambda cell: cell.deed == "block")
    count = -(-len(ordered) // BATCH)
    return (ordered[index::count] for index in range(count))


def run_batch(name: str, wanted: list[Cell]) -> Findings:
    findings: Findings = {}
    while rest := [cell for cell in wanted if cell not in findings]:
        findings.update(_run_interpreter(name, rest))
    return findings


def _run_interpreter(name: str, wanted: list[Cell]) -> Findings:
    """What an interpreter tells of its cells until it ends; at least of the first."""
    findings: Findings = {}
    mark = uuid.uuid4().hex
    environment = os.environ | {family.MARK: mark, "PYTHONPATH": str(HERE), "FORKRIGHT_CACHE": "off"}
    if cells_of(name) != list(cells.CELLS):
        environment[deeds.IS_ONE_PROCESS] = "1"
    before = family.unused_memory()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, HERE / "interpreter.py", name, *map(str, wanted)],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        lines = _lines(process)
        last = wanted[0]
        for cell in wanted:
            last = cell
            line = lines(WATCHDOG)
            if line is None:
                findings[cell] = Finding(End.HANG, "the watchdog ended it")
                break
            if line == "":
                code = process.wait()
                if code != 0:
                    findings[cell] = Finding(End.CALLER_DIED, f"exit code {code}")
                break
            _, end, detail, _ = json.loads(line)
            findings[cell] = Finding(End(end), detail)
        else:
            if lines(WATCHDOG) is None:
                findings[last] = Finding.worst([findings[last], Finding(End.HANG, "the interpreter did not end")])
        if not findings:
            errors.seek(0)
            raise RuntimeError(f"{name} can't be tried:\n{errors.read().decode()}")
    findings[last if last in findings else wanted[len(findings) - 1]] = _see_what_is_left(
        findings[last] if last in findings else findings[wanted[len(findings) - 1]], mark, before, process
    )
    return findings


def _see_what_is_left(finding: Finding, mark: str, before: set[str], process: subprocess.Popen[str]) -> Finding:
    """The finding, or a leak if that is worse; nothing is left afterwards."""
    is_stuck = finding.end is End.HANG
    end = time.monotonic() + (0 if is_stuck else LIMIT / 2)
    while (left := family.members(mark)) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in left:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    if left and not is_stuck:
        finding = Finding.worst([Finding(End.LEAK, f"{len(left)} processes are left after the end"), finding])
    if memory := family.unused_memory() - before:
        finding = Finding.worst([Finding(End.LEAK, f"shared memory is left: {len(memory)} entries"), finding])
    return finding


def _lines(process: subprocess.Popen[str]):  # type: ignore[no-untyped-def]
    """Gives its next line; "" at its end, None if none came in time."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    stream = process.stdout
    assert stream is not None

    def read() -> None:
        while line := stream.readline():
            found.put(line)
        found.put("")

    threading.Thread(target=read, daemon=True).start()

    def next_line(limit: float) -> str | None:
        try:
            return found.get(timeout=limit)
        except queue.Empty:
            return None

    return next_line


def installed(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The executors whose package is here, and those whose isn't."""
    here, missing = [], []
    for name in names:
        try:
            executors.maker(name)
        except ImportError:
            missing.append(name)
        else:
            here.append(name)
    return here, missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="EXECUTOR", choices=executors.PACKAGES, help="these executors")
    parser.add_argument("--jobs", type=int, default=6, help="interpreters at a time; most of their time is sleep")
    parser.add_argument("--keep", action="store_true", help="write docs/no-hang.md and the raw JSON")
    parser.add_argument("--json", action="store_true", help="print all findings as JSON instead of the table")
    options = parser.parse_args()
    here, missing = installed(options.only or executors.PACKAGES)
    findings = run(here, options.jobs)
    if options.json:
        told = {
            name: {str(cell): [finding.end.value, finding.detail] for cell, finding in found.items()}
            for name, found in findings.items()
        }
        print(json.dumps(told))
        return 0
    import table

    print(table.markdown(findings, missing))
    if options.keep:
        table.keep(findings, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
