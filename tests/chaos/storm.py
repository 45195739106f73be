"""Thousands of tasks while workers and the zygote are killed at random and memory is short; counts what became of each.

    python storm.py --seed 7 --tasks 10000

Prints one line of JSON. Exits with 1 if a task has no outcome, two, or a wrong one, or if anything is left. The seed
decides the tasks, the plan and the kills; when a kill strikes is up to the machine.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import faulthandler
import gc
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import forkright as fr
from forkright import _handover

WATCHDOG = 300
HOWS = ("SIGKILL", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT", "SIGSTOP")
# What a worker may allocate beyond what it has when it is ready, and what a hungry task asks for.
ROOM = 192 << 20
HUNGER = 512 << 20
# The same for the caller, who holds what many tasks send.
OWN_ROOM = 1 << 30
KINDS = ("small",) * 70 + ("large",) * 12 + ("fails",) * 8 + ("hungry",) * 4 + ("dies",) * 2 + ("cancelled",) * 4


class Expected(Exception):
    """What a task that fails raises."""


def limit_memory() -> None:
    _limit(ROOM)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit(room: int) -> None:
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + room, resource.RLIM_INFINITY))


def task(tally: str, number: int, kind: str, payload: bytes) -> tuple[int, int, bytes]:
    """Leave a mark, then do what the kind says."""
    mark = os.open(tally, os.O_WRONLY | os.O_APPEND)
    os.write(mark, struct.pack("<I", number))
    os.close(mark)
    match kind:
        case "fails":
            raise Expected(number)
        case "hungry":
            bytearray(HUNGER)
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid(), payload[::-1]


class Killer(threading.Thread):
    """Kills workers that have proved to work, and now and then the zygote."""

    def __init__(self, executor: fr.Executor, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.kills: Counter[str] = Counter()
        self.working: set[int] = set()
        self._of_dead_zygotes: set[int] = set()
        self._executor = executor
        self._dice = dice
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._dice.uniform(0.005, 0.08)):
            if self._dice.random() < 0.03:
                self._kill_zygote()
            else:
                self._kill_worker()

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _working(self) -> set[int]:
        # A worker that dies before it is ready is another matter: too many of those break the executor, as they should.
        return self.working & set(self._executor._pool.pids())

    def _kill_worker(self) -> None:
        here = sorted(self._working())
        if not here:
            return
        pid = self._dice.choice(here)
        how = self._dice.choice(HOWS)
        self.working.discard(pid)
        self._send(pid, how)
        if how == "SIGSTOP":
            self._ended.wait(0.02)
            self._send(pid, "SIGKILL")

    def _kill_zygote(self) -> None:
        # Its workers die with it. The same again before one of the next has worked would be a start that fails.
        if not self._working() - self._of_dead_zygotes:
            return
        self._of_dead_zygotes = set(self._executor._pool.pids())
        for pid in children():
            with contextlib.suppress(FileNotFoundError):
                if b"_zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    self._send(pid, "SIGKILL", "the zygote")

    def _send(self, pid: int, how: str, name: str | None = None) -> None:
        try:
            os.kill(pid, getattr(signal, how))
        except ProcessLookupError:
            return
        self.kills[name or how] += 1


def children() -> set[int]:
    """The pids of this process's children."""
    found = set()
    for folder in Path("/proc/self/task").iterdir():
        try:
            found |= {int(pid) for pid in (folder / "children").read_text().split()}
        except OSError:  # that thread has just ended
            continue
    return found


def belongings() -> Counter[str]:
    """What this process holds: descriptors by what they are of, and threads by name, Python's and others."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            found["descriptor of " + os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]] += 1
        except FileNotFoundError:
            continue
    pythons = {thread.native_id: thread.name for thread in threading.enumerate()}
    for number in os.listdir("/proc/self/task"):
        try:
            if int(number) in pythons:
                found["Python's thread " + pythons[int(number)]] += 1
                continue
            found["thread " + Path(f"/proc/self/task/{number}/comm").read_text().strip()] += 1
        except OSError:
            continue
    return found


class Storm:
    """One run."""

    def __init__(self, seed: int, tasks: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.plan = self.dice.choice([fr.Plan(2), fr.Plan(4), fr.Plan(2, 2)])
        self.kinds = [self.dice.choice(KINDS) for _ in range(tasks)]
        self.tally = folder / "tally"
        self.tally.touch()
        self.futures: list[fr.Future[Any] | None] = [None] * tasks
        self.called: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self) -> dict[str, Any]:
        with fr.Executor(plan=self.plan, initializer=limit_memory) as executor:
            dice = [random.Random(self.dice.random()) for _ in range(4)]
            killer = Killer(executor, self.dice)
            submitters = [
                threading.Thread(target=self._submit, args=(executor, killer, start, dice[start])) for start in range(4)
            ]
            killer.start()
            for thread in submitters:
                thread.start()
            for thread in submitters:
                thread.join()
            submitted = [future for future in self.futures if future is not None]
            _, pending = concurrent.futures.wait(submitted, WATCHDOG / 2)
            killer.end()
            outcomes = self._outcomes()
            # What is left of it works as ever.
            after = [executor.submit(abs, -number) for number in range(100)]
            works = [future.result(WATCHDOG / 4) for future in after] == list(range(100))
        return {
            "plan": str(self.plan),
            "outcomes": outcomes,
            "kills": dict(killer.kills),
            "without an outcome": len(pending),
            "wrong": self._wrong(),
            "works afterwards": works,
        }

    def _submit(self, executor: fr.Executor, killer: Killer, start: int, dice: random.Random) -> None:
        for number in range(start, len(self.kinds), 4):
            kind = self.kinds[number]
            payload = dice.randbytes(dice.choice((1 << 12, 1 << 15, 1 << 19)) if kind == "large" else 8)
            try:
                future = executor.submit(task, str(self.tally), number, kind, payload)
            except (MemoryError, OSError) as error:
                self.refused[type(error).__name__] += 1
                continue
            self.futures[number] = future
            future.add_done_callback(self._calling(number, payload, killer))
            if kind == "cancelled":
                future.cancel()
            if number % 256 == start:
                # Not all at once: what waits would be the same for every kill.
                concurrent.futures.wait([future], WATCHDOG / 4)

    def _calling(self, number: int, payload: bytes, killer: Killer) -> Any:
        def call(future: fr.Future[Any]) -> None:
            with self._lock:
                self.called[number] += 1
            if not future.cancelled() and future.exception() is None:
                back, pid, reversed_payload = future.result()
                killer.working.add(pid)
                if (back, reversed_payload[::-1]) != (number, payload):
                    self.called[number] += 100

        return call

    def _outcomes(self) -> dict[str, int]:
        found: Counter[str] = Counter(f"refused: {name}" for name in self.refused.elements())
        for future in self.futures:
            if future is None or not future.done():
                continue
            error = None if future.cancelled() else future.exception()
            found["cancelled" if future.cancelled() else type(error).__name__ if error else "value"] += 1
        return dict(found)

    def _wrong(self) -> list[str]:
        """What must not be."""
        wrong = []
        ran = Counter(number for (number,) in struct.iter_unpack("<I", self.tally.read_bytes()))
        wrong += [f"task {number} ran {times} times" for number, times in ran.items() if times > 1]
        for number, (kind, future) in enumerate(zip(self.kinds, self.futures, strict=True)):
            if future is None or not future.done():
                continue
            if self.called[number] != 1:
                wrong.append(
                    f"task {number}: its callback was called {self.called[number]} times, or had a wrong value"
                )
            if future.cancelled():
                if kind != "cancelled" or number in ran:
                    wrong.append(f"task {number} ({kind}) was cancelled, and ran {ran[number]} times")
                continue
            error = future.exception()
            if error is None and (number not in ran or kind in ("fails", "dies")):
                wrong.append(f"task {number} ({kind}) has a value")
            if error is not None and not isinstance(error, fr.WorkerDied | MemoryError | OSError | Expected):
                wrong.append(f"task {number} ({kind}): {error!r}")
            if isinstance(error, Expected) and kind != "fails":
                wrong.append(f"task {number} ({kind}) failed")
        return wrong


def left(before: Counter[str]) -> dict[str, int]:
    """What is left after a moment, beyond what was there before."""
    end = time.monotonic() + 5
    while (more := belongings() - before) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    return dict(more)


def warm_up() -> None:
    """Have what is made once and kept until the interpreter ends: the zygote, the warden, the sampler, the thread that
    answers workers, which begins when something has imported multiprocessing."""
    _handover.offer(lambda *_: None)
    with fr.Executor(plan=fr.Plan(2, 2), initializer=limit_memory) as executor:
        future = executor.submit(abs, -1)
        future.add_done_callback(lambda _: None)
        concurrent.futures.wait([future])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warm_up()
    gc.collect()
    time.sleep(0.1)
    before = belongings()
    _limit(OWN_ROOM)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        storm = Storm(options.seed, options.tasks, Path(folder))
        found = storm.run()
    del storm
    told = {"seed": options.seed, "tasks": options.tasks, "seconds": round(time.monotonic() - begun, 1), **found}
    told["left"] = left(before)
    print(json.dumps(told))
    return int(bool(told["wrong"] or told["without an outcome"] or told["left"] or not told["works afterwards"]))


if __name__ == "__main__":
    sys.exit(main())
