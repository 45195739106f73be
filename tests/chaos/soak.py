"""All kinds of work for a long time: memory, descriptors, threads and processes must stay what they are.

    python soak.py --minutes 60

Four executors live as long as the soak; one of them has its workers killed all along. Others come and go with each cycle, as
do maps, pools and threads. After each cycle everything rests, and what there is is counted. Of descriptors, threads and
processes there must be no more than after the first cycles; memory must not grow from the second quarter of the time to
the last. Prints a line of JSON for each cycle, then the sum. Exits with 1 if anything grew or any result was wrong.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import gc
import json
import os
import random
import resource
import signal
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from storm import belongings

import forkright as fr

LIMIT = 60
CYCLE = 5.0
# Cycles after which everything there ever is has been there.
WARM = 3
# What memory may differ by and be called flat: pages come and go.
SLACK = 4 << 20
SHARE = 0.03
# Of each crew of processes that stays: the executors' three, and the one that maps share, which starts its thread when
# calls first have to wait for a worker. That may be late.
MAY_BE = Counter({"Python's thread forkright-collector": 4})

PLANS = {"threads": fr.Plan(threads=4), "processes": fr.Plan(2), "hybrid": fr.Plan(2, 2)}


def small(number: int) -> int:
    return number + 1


def large(data: bytes) -> bytes:
    return data[::-1]


def fails(number: int) -> int:
    raise ValueError(number)


def dies(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


class Soak:
    """The executors that stay, and what is done with them and others in a cycle."""

    def __init__(self, stack: contextlib.ExitStack, dice: random.Random) -> None:
        self.tasks: Counter[str] = Counter()
        self.old = {name: stack.enter_context(fr.Executor(plan=plan)) for name, plan in PLANS.items()}
        self.battered = stack.enter_context(fr.Executor(plan=fr.Plan(2)))
        self._dice = dice

    def cycle(self) -> None:
        end = time.monotonic() + CYCLE
        while time.monotonic() < end:
            for executor in self.old.values():
                self._use(executor)
            self._batter()
            self._come_and_go()
            self._map()

    def _use(self, executor: fr.Executor) -> None:
        data = self._dice.randbytes(self._dice.choice((10, 20_000, 1_000_000)))
        called: list[object] = []
        futures = [executor.submit(small, number) for number in range(300)]
        for future in futures:
            future.add_done_callback(called.append)
        carried = [executor.submit(large, data) for _ in range(4)]
        failing = [executor.submit(fails, number) for number in range(20)]
        cancelled = executor.submit(small, 1)
        cancelled.cancel()
        self._expect([future.result(LIMIT) for future in futures] == list(range(1, 301)), "values")
        self._expect(all(future.result(LIMIT) == data[::-1] for future in carried), "large values")
        self._expect(all(isinstance(future.exception(LIMIT), ValueError) for future in failing), "exceptions")
        with contextlib.suppress(concurrent.futures.CancelledError):
            cancelled.result(LIMIT)
        self.tasks["on executors that stay"] += len(futures) + len(carried) + len(failing) + 1

    def _batter(self) -> None:
        executor = self.battered
        waiting = [executor.submit(small, number) for number in range(20)]
        dead = [executor.submit(dies, number) for number in range(2)]
        late = executor.options(task_timeout=0.05).submit(sleeps, LIMIT)
        self._expect([future.result(LIMIT) for future in waiting] == list(range(1, 21)), "values beside deaths")
        self._expect(all(isinstance(future.exception(LIMIT), fr.WorkerDied) for future in dead), "deaths")
        self._expect(isinstance(late.exception(LIMIT), fr.TaskTimeoutError), "a limit")
        self.tasks["beside deaths"] += len(waiting) + 3

    def _come_and_go(self) -> None:
        for plan in (*PLANS.values(), "auto"):
            with fr.Executor(plan=plan) as executor:
                found = list(executor.map(small, range(50), timeout=LIMIT))
            self._expect(found == list(range(1, 51)), "values of executors that go")
            self.tasks["on executors that go"] += 50
        with fr.Pool(2) as pool:
            self._expect(pool.map(small, range(50)) == list(range(1, 51)), "values of pools")
        thread = fr.Thread(target=small, args=(1,))
        thread.start()
        thread.join(LIMIT)
        self.tasks["on pools and threads"] += 51

    def _map(self) -> None:
        for plan in (*PLANS.values(), "auto"):
            self._expect(fr.map(small, range(500), plan=plan) == list(range(1, 501)), "values of maps")
            lazy: Any = fr.imap_unordered(small, range(200), plan=plan)
            self._expect(sorted(lazy) == list(range(1, 201)), "values of lazy maps")
            self.tasks["in maps"] += 700
        fr.report().to_json()

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise SystemExit(f"{what} are wrong")

    def rest(self) -> None:
        """Every executor that stays has its workers, and nothing to do."""
        for name, executor in {**self.old, "battered": self.battered}.items():
            if name == "threads":
                continue
            end = time.monotonic() + LIMIT
            pids: set[int] = set()
            while len(pids) < 2:
                futures = [executor.submit(sleeps, 0.05) for _ in range(8)]
                pids = {future.result(LIMIT) for future in futures} & set(executor._pool.pids())
                if time.monotonic() > end:
                    raise SystemExit(f"{name}: its workers are not there")


def look() -> dict[str, Any]:
    """What there is now, once it is no more than it was for a moment."""
    # What is let go ends a moment later.
    time.sleep(0.5)
    gc.collect()
    memory, count = 0, 0
    for pid in family():
        with contextlib.suppress(OSError):
            memory += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
            count += 1
    own = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return {"own memory": own, "memory of all": memory, "processes": count, "belongings": belongings()}


def family() -> set[int]:
    """This process and all that came of it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def grown(looks: list[dict[str, Any]]) -> list[str]:
    """What there is more of at the end."""
    most = Counter(MAY_BE)
    for there in looks[:WARM]:
        most |= there["belongings"]
    processes = max(there["processes"] for there in looks[:WARM])
    last = looks[-1]
    found = [f"{count} times {name}" for name, count in (last["belongings"] - most).items()]
    if last["processes"] > processes:
        found.append(f"{last['processes'] - processes} processes")
    quarter = max(len(looks) // 4, 1)
    for what in ("own memory", "memory of all"):
        before = statistics.median(there[what] for there in looks[quarter : 2 * quarter])
        after = statistics.median(there[what] for there in looks[-quarter:])
        if after > before * (1 + SHARE) + SLACK:
            found.append(f"{(after - before) / 1e6:.1f} MB of {what}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    looks: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        soak = Soak(stack, random.Random(options.seed))
        while len(looks) < 2 * WARM or time.monotonic() - begun < options.minutes * 60:
            soak.cycle()
            soak.rest()
            looks.append(look())
            if len(looks) > WARM + 1:
                # Only the first and the last are asked what there was: hundreds of others would be memory that grows.
                del looks[-2]["belongings"]
            there = {name: value for name, value in looks[-1].items() if name != "belongings"}
            descriptors = sum(n for name, n in looks[-1]["belongings"].items() if name.startswith("descriptor"))
            threads = sum(n for name, n in looks[-1]["belongings"].items() if "thread " in name)
            told = {"seconds": round(time.monotonic() - begun), **there, "descriptors": descriptors, "threads": threads}
            print(json.dumps(told), flush=True)
    more = grown(looks)
    minutes = (time.monotonic() - begun) / 60
    print(f"{minutes:.1f} minutes, {len(looks)} cycles, {soak.tasks.total()} tasks: {dict(soak.tasks)}")
    print(f"there is more: {', '.join(more)}" if more else "memory, descriptors, threads and processes are flat")
    return int(bool(more))


if __name__ == "__main__":
    sys.exit(main())
