"""One row under the oracle and the meter, in an interpreter of its own: `accuracy.py` starts this with a request.

Both see the same threads at the same time, so their figures differ by what the meter gets wrong and by nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# The programs that a row starts have nothing to do with the oracle.
PRELOADED = Path(os.environ.pop("LD_PRELOAD", ""))

from meter import oracle, workloads  # noqa: E402


class Shares(NamedTuple):
    """What the meter says of a thread. None: it does not know."""

    held: float | None
    wait: float | None
    samples: int


def sampled(run: Callable[[], None]) -> tuple[dict[str, Shares], str]:
    """What the meter says of each thread that the run starts, by name, and why it can't see the GIL, if so."""
    import forkright

    with forkright.why() as measured:
        run()
    process = measured.data["processes"][0]
    return {thread["name"]: _shares(thread["parts"]) for thread in process["threads"]}, process["gil"]


def _shares(parts: dict[str, dict[str, Any]]) -> Shares:
    """Who is blocked while holding the GIL holds it all the same. A part that was never seen may be absent."""
    held = [parts[part]["share"] for part in ("held", "held_blocked") if part in parts]
    wait = parts["gil_wait"]["share"] if "gil_wait" in parts else 0.0
    samples = sum(part["samples"] for name, part in parts.items() if name != "run_delay")
    return Shares(None if None in held else sum(held), wait, samples)


class Worker:
    """One thread that repeats its step until the time is over, and what the oracle knows of it."""

    def __init__(self, name: str, step: workloads.Step, watching: oracle.Oracle, seconds: float) -> None:
        self.name = name
        self.truth: dict[str, Any] = {}
        self._step = step
        self._watching = watching
        self._seconds = seconds

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=self.name)
        thread.start()
        return thread

    def _work(self) -> None:
        before = self._watching.read()
        delay = _run_delay()
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            self._step()
        delay = _run_delay() - delay
        self.truth = self._watching.since(before)._asdict() | {"run_delay": delay}


def _run_delay() -> float:
    """Seconds in which this thread could have run and had no core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def visit(row: workloads.Row, seconds: float, with_meter: bool) -> dict[str, Any]:
    """Runs the row and gives both sides' figures for each thread."""
    steps = [workload() for workload in row.workloads]
    watching = oracle.Oracle(PRELOADED)
    workers = [Worker(f"worker {number}", step, watching, seconds) for number, step in enumerate(steps)]

    def run() -> None:
        threads = [worker.start() for worker in workers]
        for thread in threads:
            thread.join()

    unseen = ""
    found: dict[str, Shares] = {}
    if with_meter:
        found, unseen = sampled(run)
    else:
        run()
    return {
        "python": platform.python_version(),
        "unseen": unseen,
        "contradictions": watching.contradictions(),
        "threads": [
            {"name": worker.name, "truth": worker.truth}
            | ({"sampled": found[worker.name]._asdict()} if worker.name in found else {})
            for worker in workers
        ],
    }


def main() -> None:
    request = json.loads(sys.argv[1])
    try:
        answer = visit(workloads.row(request["row"]), request["seconds"], request["meter"])
    except (workloads.Missing, oracle.Blind) as missing:
        answer = {"missing": str(missing)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
