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
    """What the meter says of a thread, as parts of its time. None: it does not know."""

    # By samples and clocks, as reports have it: computing with the GIL, blocked with it, blocked for it.
    held: float | None
    held_blocked: float | None
    wait: float | None
    # By samples alone: having the GIL, and wanting it.
    seen_held: float | None
    seen_wait: float | None
    samples: int


def sampled(run: Callable[[], None]) -> tuple[dict[str, Shares], str]:
    """What the meter says of each thread that the run starts, by name, and why it can't see the GIL, if so."""
    import forkright

    with forkright.why(thorough=True) as measured:
        run()
    process = measured.data["processes"][0]
    return {thread["name"]: _shares(thread) for thread in process["threads"]}, process["gil"]


def _shares(thread: dict[str, Any]) -> Shares:
    def part(name: str) -> float | None:
        found = thread["parts"].get(name)
        return None if found is None else float(found["share"])

    # What was never seen is left out.
    seen = {name: seconds / sum(thread["seen"].values()) for name, seconds in thread["seen"].items()}
    known = part("held") is not None
    return Shares(
        held=part("held"),
        held_blocked=part("held_blocked"),
        wait=part("gil_wait"),
        seen_held=seen.get("held", 0.0) + seen.get("held_blocked", 0.0) if known else None,
        seen_wait=seen.get("gil_wait", 0.0) if known else None,
        samples=thread["samples"],
    )


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
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            self._step()
        self.truth = self._watching.since(before).data()


class Others:
    """What other programs take of this machine, meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy, self._stolen = _taken()
        self._busy -= time.process_time()

    def cores(self) -> tuple[float, float]:
        """On average: taken by programs of this machine, and by the machine it is a part of."""
        wall = time.monotonic() - self._began
        busy, stolen = _taken()
        return max(0.0, (busy - time.process_time() - self._busy) / wall), (stolen - self._stolen) / wall


def _taken() -> tuple[float, float]:
    """Seconds of all cores since the machine's start: in which they worked, and in which the host had taken them."""
    user, nice, system, _idle, _io, interrupts, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / tick, steal / tick


def visit(row: workloads.Row, seconds: float, with_meter: bool) -> dict[str, Any]:
    """Runs the row and gives both sides' figures for each thread."""
    steps = [workload() for workload in row.workloads]
    watching = oracle.Oracle(PRELOADED)
    workers = [Worker(f"worker {number}", step, watching, seconds) for number, step in enumerate(steps)]

    def run() -> None:
        threads = [worker.start() for worker in workers]
        for thread in threads:
            thread.join()

    others = Others()
    unseen = ""
    found: dict[str, Shares] = {}
    if with_meter:
        found, unseen = sampled(run)
    else:
        run()
    taken, stolen = others.cores()
    return {
        "python": platform.python_version(),
        "unseen": unseen,
        "others": taken,
        "stolen": stolen,
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
