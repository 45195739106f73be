"""Takes one executor through cells, in an interpreter of its own: prints one line of JSON for each cell that is over.

    python interpreter.py EXECUTOR CELL...

Ends at once after a cell that leaves something behind; `run` goes on with the others in a new interpreter.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cells
import deeds
import executors
from cells import Cell
from executors.shape import Executor, Handle, Outcome
from family import workers
from finding import LIMIT, End, Finding

BEFORE = 24
AFTER = 24
FOLLOWING = 6
LARGE_ONES = 3


def main(name: str, wanted: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    make = executors.maker(name)
    print("ready", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        has_blocked = False
        for cell in map(cells.parse, wanted):
            begun = time.monotonic()
            found = _try(make, cell, Path(folder) / str(cell))
            seconds = round(time.monotonic() - begun, 3)
            print(json.dumps([str(cell), found.end.value, found.detail, seconds]), flush=True)
            has_blocked = has_blocked or cell.deed == "block"
            if found.end.badness >= End.NO_END.badness:
                os._exit(0)
    if has_blocked:
        # A thread of this process may be blocked for ever, as it was told to.
        os._exit(0)


def _try(make: Callable[[], Executor], cell: Cell, tally: Path) -> Finding:
    """The worst of two tries: with nothing else to do, and with many tasks before, beside and after."""
    found = []
    for is_loaded in (False, True):
        finding = Trial(make(), cell, Path(f"{tally}-{is_loaded}"), is_loaded).run()
        found.append(finding._replace(detail=f"{'under load' if is_loaded else 'alone'}: {finding.detail}"))
        if finding.end.badness >= End.NO_END.badness:
            break
    return Finding.worst(found)


class Guilty:
    """The task that has something go wrong, asked for by a thread of its own."""

    def __init__(self, executor: Executor, cell: Cell) -> None:
        self.handle: Handle | None = None
        self.outcome: Outcome | None = None
        self.task = cells.task(cell)
        self._executor = executor
        self._cell = cell
        self._was_refused = False
        self._handed = threading.Event()
        self._answered = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()
        # The load that follows is to be behind it; a thread that is stuck in handing it over can't say so.
        self._handed.wait(0.5 if cell.is_in_caller else LIMIT)

    def _ask(self) -> None:
        callback = deeds.acting(self._cell.deed) if self._cell.step == "callback" else None
        try:
            self.handle = self._executor.submit(self.task.function, *self.task.arguments, callback=callback)
        except BaseException as error:
            self.outcome = Outcome(None, error)
            self._was_refused = True
            self._handed.set()
            self._answered.set()
            return
        self._handed.set()
        try:
            while (outcome := self.handle.outcome(1.0)) is None:
                pass
            self.outcome = outcome
        except BaseException as error:
            self.outcome = Outcome(None, error)
        self._answered.set()

    def wait(self, limit: float) -> bool:
        return self._answered.wait(limit)

    def judge(self) -> Finding:
        """What it ended as, if that is all there was."""
        if self.outcome is None:
            return Finding(End.HANG, "the task did not end")
        if self.outcome.error is None:
            if self._cell.may_succeed:
                return Finding(End.FINE, "it has its result")
            return Finding(End.FINE if os.environ.get(deeds.IS_ONE_PROCESS) else End.LOST, "it seemed to succeed")
        if self._cell.may_succeed and isinstance(self.outcome.error, deeds.Trouble | deeds.ErrorAtDeath):
            return Finding(End.FINE, "it has its own exception")
        text = "".join(traceback.format_exception(self.outcome.error))
        kind = type(self.outcome.error).__name__
        if self._was_refused:
            return Finding(End.NAMED_ERROR, f"{kind} where it is submitted")
        if self.task.name in text:
            return Finding(End.NAMED_ERROR, f"{kind} names it")
        return Finding(End.ERROR, f"{kind}: {str(self.outcome.error)[:100]}")


class Innocents:
    """The other tasks."""

    def __init__(self, executor: Executor, tally: Path) -> None:
        self._executor = executor
        self._tally = tally
        self._numbers = itertools.count()
        self._handles: dict[int, Handle] = {}
        self._refused: list[BaseException] = []
        self._called: Counter[int] = Counter()
        self._lock = threading.Lock()

    def submit(self, count: int, payload: bytes = b"") -> None:
        for number in itertools.islice(self._numbers, count):
            try:
                self._handles[number] = self._executor.submit(
                    deeds.innocent, str(self._tally), number, payload, callback=self._calling(number)
                )
            except Exception as error:
                self._refused.append(error)

    def _calling(self, number: int) -> Callable[[object], None]:
        def call(_: object) -> None:
            with self._lock:
                self._called[number] += 1

        return call

    def judge(self, may_fail: int, may_wait: int = 0) -> Finding:
        end = time.monotonic() + LIMIT
        outcomes = {
            number: handle.outcome(max(0.0, end - time.monotonic())) for number, handle in self._handles.items()
        }
        missing = sum(outcome is None for outcome in outcomes.values())
        if missing > may_wait:
            return Finding(End.HANG, f"{missing} of {len(outcomes)} innocent tasks did not end")
        values = {number: outcome for number, outcome in outcomes.items() if outcome and outcome.error is None}
        if any(outcome.value != number * number for number, outcome in values.items()):
            return Finding(End.LOST, "an innocent task has a wrong value")
        ran = self._ran()
        if values.keys() - ran.keys():
            return Finding(End.LOST, "an innocent task has a value and did not run")
        if twice := [number for number, times in ran.items() if times > 1]:
            return Finding(End.DOUBLED, f"{len(twice)} innocent tasks ran twice")
        ended = {number for number, outcome in outcomes.items() if outcome is not None}
        while self._called.keys() != ended and time.monotonic() < end:
            time.sleep(0.002)
        if silent := ended - self._called.keys():
            return Finding(End.LOST, f"{len(silent)} callbacks of innocent tasks were not called")
        if max(self._called.values(), default=1) > 1:
            return Finding(End.DOUBLED, "a callback was called twice")
        errors = [outcome.error for outcome in outcomes.values() if outcome and outcome.error is not None]
        failed = errors + self._refused
        if len(errors) > may_fail or self._refused:
            return Finding(End.LOST_OTHERS, f"{len(failed)} innocent tasks failed: {type(failed[0]).__name__}")
        beside = len(errors) + missing
        return Finding(End.FINE, f"{beside} innocent tasks shared its process and its fate" if beside else "")

    def _ran(self) -> Counter[int]:
        if not self._tally.exists():
            return Counter()
        return Counter(number for (number,) in struct.iter_unpack("<I", self._tally.read_bytes()))


class Trial:
    """One try of a cell."""

    def __init__(self, executor: Executor, cell: Cell, tally: Path, is_loaded: bool) -> None:
        self._executor = executor
        self._cell = cell
        self._is_loaded = is_loaded
        self._innocents = Innocents(executor, tally)

    def run(self) -> Finding:
        cell, innocents = self._cell, self._innocents
        if self._is_loaded:
            innocents.submit(BEFORE)
        guilty = Guilty(self._executor, cell)
        if cell.step == "sending":
            innocents.submit(LARGE_ONES, bytes(deeds.LARGE // 4))
        if self._is_loaded:
            innocents.submit(AFTER)
        if cell.step == "shutdown":
            return self._shut(guilty)
        if cell.deed != "block" and not guilty.wait(LIMIT):
            return guilty.judge()
        innocents.submit(FOLLOWING)
        beside = 0 if cell.is_in_caller else self._executor.beside
        # A process that is stopped is stopped with all of its threads.
        others = innocents.judge(beside, beside if cell.deed == "block" else 0)
        if others.end.badness >= End.LEAK.badness:
            return others
        if cell.deed == "block":
            return Finding.worst([self._free(guilty), others])
        return Finding.worst([others, self._close(), guilty.judge()])

    def _shut(self, guilty: Guilty) -> Finding:
        """Close while the task runs, or with a worker that acts when it ends."""
        if self._cell.place == "worker" and not guilty.wait(LIMIT):
            return guilty.judge()
        closed = _begin(self._executor.close)
        if self._cell.deed == "block" and not closed.wait(1.0):
            return Finding.worst([self._innocents.judge(0), self._free(guilty, closed)])
        if not closed.wait(LIMIT):
            return Finding(End.HANG, "closing did not end")
        guilty.wait(LIMIT)
        return Finding.worst([self._innocents.judge(self._executor.beside), self._leak(), guilty.judge()])

    def _free(self, guilty: Guilty, closed: threading.Event | None = None) -> Finding:
        """End what blocks, and see that nobody waits any more."""
        if self._cell.is_in_caller:
            # A thread of the user's is stuck in the user's own code: it concerns nobody but itself.
            closed = _begin(self._executor.close)
            if closed.wait(LIMIT / 4):
                return Finding.worst([self._leak(), Finding(End.FINE, "only the blocked thread is blocked")])
        ended = _begin(lambda: self._executor.end([guilty.handle] if guilty.handle else []))
        if not ended.wait(LIMIT):
            return Finding(End.HANG, "ending it by force did not end")
        if not ended.result:
            return Finding(End.NO_END, "there is no means to end it")
        if ended.error is not None and not isinstance(ended.error, AttributeError):
            return Finding(End.HANG, f"ending it by force failed: {ended.error!r}")
        if ended.error is not None:
            return Finding(End.NO_END, "there is no means to end it")
        if not self._cell.is_in_caller and not guilty.wait(LIMIT):
            return Finding(End.HANG, "ended by force, the task still has no outcome")
        if not (closed or _begin(self._executor.close)).wait(LIMIT):
            is_thread = bool(os.environ.get(deeds.IS_ONE_PROCESS))
            return Finding(End.NO_END if is_thread else End.HANG, "closing did not end")
        if self._cell.is_in_caller:
            return Finding.worst([self._leak(), Finding(End.FINE, "ended by force")])
        return Finding.worst([self._leak(), guilty.judge()])

    def _close(self) -> Finding:
        closed = _begin(self._executor.close)
        if not closed.wait(LIMIT):
            return Finding(End.HANG, "closing did not end")
        return self._leak()

    def _leak(self) -> Finding:
        end = time.monotonic() + LIMIT / 2
        while left := workers():
            if time.monotonic() > end:
                return Finding(End.LEAK, f"{len(left)} processes are left")
            time.sleep(0.002)
        return Finding(End.FINE)


class _begin(threading.Event):
    """Does something in a thread of its own, and is set when that is done."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__()
        self.result: object = True
        self.error: BaseException | None = None
        threading.Thread(target=self._do, args=(what,), daemon=True).start()

    def _do(self, what: Callable[[], object]) -> None:
        try:
            self.result = what()
        except BaseException as error:
            self.error = error
        self.set()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
