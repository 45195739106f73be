"""Takes executors through the suite, several interpreters at a time, each under a watchdog.

python tests/nohang/run.py                     all executors, and the table on standard output
python tests/nohang/run.py --only loky Pebble  some of them
python tests/nohang/run.py --keep              as `make test-nohang`: docs/no-hang.md and the raw JSON, too
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
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
import shared_memory
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
    command = [sys.executable, str(HERE / "interpreter.py"), name, *map(str, wanted)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*shared_memory.own(), *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        lines = Lines(process)
        if not lines.next():
            errors.seek(0)
            raise RuntimeError(f"{name} can't be tried:\n{errors.read().decode()}")
        with shared_memory.Look(process.pid) as shared:
            for cell in wanted:
                line = lines.next()
                if line is None:
                    findings[cell] = Finding(End.HANG, "the watchdog ended it")
                    break
                if not line:
                    if code := process.wait():
                        findings[cell] = Finding(End.CALLER_DIED, f"exit code {code}")
                    break
                _, end, detail, _ = json.loads(line)
                findings[cell] = Finding(End(end), detail)
            last = list(findings)[-1]
            if findings[last].end is not End.HANG and lines.next() is None:
                findings[last] = Finding(End.HANG, "the interpreter did not end")
            findings[last] = _see_what_is_left(findings[last], mark, process, shared)
    return findings


def _see_what_is_left(
    finding: Finding, mark: str, process: subprocess.Popen[str], shared: shared_memory.Look
) -> Finding:
    """The finding, or a leak if that is worse; no process is left afterwards."""
    end = time.monotonic() + (0 if finding.end is End.HANG else LIMIT / 2)
    while ((left := family.members(mark)) or shared.entries()) and time.monotonic() < end:
        time.sleep(0.01)
    entries = shared.entries()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    if finding.end is End.HANG:
        return finding
    if left:
        finding = Finding.worst([Finding(End.LEAK, f"{len(left)} processes are left after the end"), finding])
    if entries:
        finding = Finding.worst([Finding(End.LEAK, f"shared memory is left: {len(entries)} entries"), finding])
    return finding


class Lines:
    """What an interpreter prints, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._found: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            while line := stream.readline():
                self._found.put(line)

    def next(self) -> str | None:
        """The next line; "" when the interpreter has ended, None if the watchdog would end it.

        The end of the stream says nothing: workers that outlive the interpreter hold it open.
        """
        end = time.monotonic() + WATCHDOG
        while time.monotonic() < end:
            has_ended = self._process.poll() is not None
            try:
                return self._found.get(timeout=0.2 if has_ended else 0.05)
            except queue.Empty:
                if has_ended:
                    return ""
        return None


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
