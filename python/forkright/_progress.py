"""What a map shows while it runs, for `progress=`: a bar of tqdm's, or numbers for a callable.

Whatever takes `progress=` makes a `Display` before any call runs, begins it with a way to look at the map, and ends it
when the map ends, however it does. A thread of its own looks: the caller may be in a long call.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, cycle, repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _functions, _plan
from ._errors import ForkrightWarning

if TYPE_CHECKING:
    from ._executor import Executor
    from ._future import Future
    from ._map import ProgressLike
    from ._options import Terms

# Seconds between two looks.
_PERIOD = 0.1
_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map is: what a callable that was given as ``progress=`` is called with.

    Attributes:
        done: Calls that have ended, failed ones included.
        total: Calls that there are; None if the length of what is mapped is not known.
        failed: Calls that raised, or whose worker died.
        elapsed: Seconds since the map began.
        rate: Calls that ended, per second since then.
        plan: Where calls run now: ``"serial"``, ``"threads"``, ``"processes"``, ``"hybrid"``, ``"event loop"`` or
            ``"cluster"``.
        workers: Workers that are there for them now; on an event loop, the calls that are under way.
        over: Whether the map has ended, finished or not: this is the last call.
    """

    done: int
    total: int | None
    failed: int
    elapsed: float
    rate: float
    plan: str
    workers: int
    over: bool


class Seen(NamedTuple):
    """What a look at a map gives; as in `Progress`."""

    done: int
    failed: int
    plan: str
    workers: int


class Display:
    """What was asked for as `progress=`: a description or True for a bar, or a callable.

    Args:
        wanted: That.
        iterables: Those of a lazy map; others set `total`.

    Raises:
        ImportError: If it is to be a bar, and there is no tqdm.
        TypeError: If it is none of these.
    """

    def __init__(self, wanted: ProgressLike, iterables: Iterable[Iterable[Any]]) -> None:
        self._callback: Callable[[Progress], object] | None = None
        self._bar: Any = None
        if isinstance(wanted, (bool, str)):
            from . import _bar

            self._make_bar = _bar.Bar
            self._description = wanted if isinstance(wanted, str) else None
        elif callable(wanted):
            self._callback = wanted
        else:
            raise TypeError(f"progress must be True, False, a description or a callable, not {wanted!r}")
        self._look: Callable[[], Seen]
        # Calls that there are, if that is known.
        self.total = _length(iterables)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._problem: BaseException | None = None

    def begin(self, look: Callable[[], Seen]) -> None:
        """Show from now on what `look` sees."""
        self._look, self._began = look, time.monotonic()
        if self._callback is None:
            # Here and not in the thread: what a notebook displays belongs to the cell that runs.
            self._bar = self._make_bar(self._description, self.total)
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._keep_showing,), name="forkright-progress")
        _shown.add(self)
        # At the end of the interpreter there are no more threads: it is shown once, at its end.
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def begin_map(self, total: int) -> _core.Glimpse:
        """Begin to show what `_core.run_map` does that gets the glimpse."""
        glimpse, self.total = _core.Glimpse(), total

        def look() -> Seen:
            (done, failed), now = glimpse.look()
            return Seen(done, failed, *_named(now, total))

        self.begin(look)
        return glimpse

    def begin_tally(self, executor: Executor, fn: Callable[..., Any], terms: Terms) -> Tally:
        """Begin to show what the tally is told of."""
        tally = Tally(executor, fn, terms, self.total)
        self.begin(tally.look)
        return tally

    def end(self, wait: bool = True) -> None:
        """Show the last state and close; return when that is done, unless told not to `wait`.

        Warns if the callable raised.
        """
        # It may be the garbage collector who closes a generator, in a thread that holds what is needed for showing.
        wait = wait and not isinstance(sys.exc_info()[1], GeneratorExit)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        _shown.discard(self)
        self._ended.set()
        if thread.ident is None:
            self._show(over=True)
        elif wait:
            thread.join()
        if self._problem is not None:
            _warn(self._problem, self._callback)

    def over(self, results: Iterator[Any]) -> Generator[Any, None, None]:
        """The results of a lazy map, with which the display ends, taken or not."""
        shown = self._with_end(results)
        # One that nobody has asked for anything has no end of its own.
        weakref.finalize(shown, self.end, wait=False).atexit = False
        return shown

    def _with_end(self, results: Iterator[Any]) -> Generator[Any, None, None]:
        try:
            yield from results
        finally:
            self.end()

    def _keep_showing(self) -> None:
        while not self._ended.wait(_PERIOD):
            self._show()
        self._show(over=True)

    def _show(self, over: bool = False) -> None:
        seen, elapsed = self._look(), time.monotonic() - self._began
        rate = seen.done / elapsed if elapsed else 0.0
        progress = Progress(seen.done, self.total, seen.failed, elapsed, rate, seen.plan, seen.workers, over)
        show = self._callback if self._bar is None else self._bar.show
        # Who raised once is not called again: the map must not depend on who watches it.
        if show is not None and self._problem is None:
            try:
                show(progress)
            except BaseException as error:
                self._problem = error


class Tally:
    """Counts the calls of a map that are submitted one by one, or a chunk at a time."""

    def __init__(self, executor: Executor, fn: Callable[..., Any], terms: Terms, total: int | None) -> None:
        # The one who shows it must not keep it.
        self._executor = weakref.ref(executor)
        self._fn, self._terms, self._total = fn, terms, total
        self._done = self._failed = 0
        self._now = "serial", 0
        # Several threads add to it, and one takes out. A lock could be held by whom the garbage collector interrupts.
        self._news = deque[tuple[int, int]]()

    def watch(self, future: Future[Any], calls: int = 1) -> None:
        """Count so many calls when this future is done, unless it was cancelled."""

        def take(future: Future[Any]) -> None:
            if not future.cancelled():
                self.add(calls, _has_failed(future))

        future.add_done_callback(take)

    def add(self, done: int, failed: int) -> None:
        """So many more have ended, or, if it is negative, are found not to have been run."""
        self._news.append((done, failed))

    def look(self) -> Seen:
        """What has become of the calls until now."""
        while self._news:
            done, failed = self._news.popleft()
            self._done += done
            self._failed += failed
        executor = self._executor()
        if executor is not None:
            self._now = _named(executor._now(self._fn, self._terms), self._total)
            if executor._cluster is not None:
                self._now = "cluster", self._now[1]
        return Seen(self._done, self._failed, *self._now)


def _length(iterables: Iterable[Iterable[Any]]) -> int | None:
    """Calls that a map of these makes, if it is known without reading them."""
    lengths = []
    for iterable in iterables:
        hint = length_hint(iterable, -1)
        if hint >= 0:
            lengths.append(hint)
        elif not isinstance(iterable, (count, cycle, repeat)):
            return None
    return min(lengths, default=None)


def _has_failed(future: Any) -> bool:
    """Whether a future that is done has failed, as far as that is known without unpickling what came of it."""
    if hasattr(future, "_failed"):
        return bool(future._failed())
    return future.exception() is not None


def _named(now: tuple[int, int, int], total: int | None) -> tuple[str, int]:
    """The kind of a plan, and its workers."""
    processes, threads, workers = now
    # No more workers can take part than there are calls.
    return _plan.Plan(processes, threads).kind, workers if total is None else min(workers, total)


def _warn(error: BaseException, callback: Callable[..., object] | None) -> None:
    """Give a warning, on the innermost line that is not forkright's, that showing went wrong."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    who = "the bar" if callback is None else f"the callable `{_functions.name_of(callback)}`"
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{who} that shows progress raised {error!r} ({where.filename}:{where.lineno}) and was not called again; "
        "the map went on",
        ForkrightWarning,
        level,
    )


# Those that have begun and not ended: an iterator that the program keeps to its end has one.
_shown: weakref.WeakSet[Display] = weakref.WeakSet()


def _end_all() -> None:
    for display in list(_shown):
        display.end()


# Registered after that of `_threads`, so called before it; without it, threads that show would keep the interpreter.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
