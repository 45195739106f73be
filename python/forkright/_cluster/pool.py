"""What an executor submits to whose calls run on a cluster: in the place of `_core.Pool`, with the same verbs."""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import os
import queue
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import forkright

from .. import _functions, _options, _pickling, _threads
from .._core import cpu_count
from .._errors import WorkerDied
from . import Cluster, parcel, remote, verdict

if TYPE_CHECKING:
    from .._future import Future
    from .._plan import Plan
    from .._seeding import Seeds

Call = tuple[tuple[Any, ...], dict[str, Any]]
Outcomes = tuple[list[Any], dict[int, BaseException]]
Settle = Callable[["Future[Any]", list[Any], dict[int, BaseException]], None]

# Functions that are kept ready to be sent again, the last ones used.
_KEPT = 64
# Messages by which the way is judged, the last ones.
_SAMPLES = 1000


class Pool:
    """Calls on a cluster, one or a chunk of them at a time, with at most `most` out if that is not None.

    Answers are taken by a thread of its own: those of clusters that bring them have other things to do.
    """

    kills = False

    def __init__(self, cluster: Cluster, plan: Plan, most: int | None) -> None:
        self.cluster = cluster
        self.meter = Meter()
        self._plan, self._most, self._pid = plan, most, os.getpid()
        self._sent = _Sent(cluster)
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._under_way: set[_Errand] = set()
        self._waiting: list[tuple[int, int, _Errand]] = []
        self._numbers = itertools.count()
        self._out = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._news = queue.SimpleQueue[Callable[[], None] | None]()
        self._dropped = weakref.finalize(self, self._news.put, None)
        _threads.remember(self)

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any] | None,
        calls: Callable[..., Any] | None = None,
        terms: _options.Terms | None = None,
    ) -> Future[Any]:
        """As `_core.Pool.submit`. ``calls`` is given for chunks alone, with the arguments of `_lazy.run_chunk`."""
        if self._pid != os.getpid():
            raise RuntimeError("the executor belongs to the process this one was forked from; make one here")
        seeds: Seeds | None
        if calls is None:
            fn, chunk, seeds, start = function, [(arguments, options or {})], None, 0
            settle: Settle = _settle_call
        else:
            fn, bare, seeds, start = arguments
            chunk, settle = [(call, {}) for call in bare], functools.partial(_settle_chunk, len(bare))
        try:
            sent = self.put(fn, seeds)
        except _pickling.UnpicklableError as error:
            return _failed(error)
        return self._submit(sent, chunk, start, False, terms or _options.NONE, settle)

    def submit_chunk(self, function: Function, calls: list[Call], start: int, return_errors: bool) -> Future[Outcomes]:
        """Make calls, the first of which has the index `start`, one after another on one worker.

        The future has what they returned up to the first that failed, or of all if exceptions are results; and the
        exceptions by their places.
        """
        return self._submit(function, calls, start, return_errors, _options.NONE, _settle_outcomes)

    def put(self, fn: Callable[..., Any], seeds: Seeds | None) -> Function:
        """Have the workers get a function, if they have not yet.

        Raises:
            UnpicklableError: If it can't travel.
        """
        return self._sent.get(fn, seeds)

    def now(self, function: Callable[..., Any]) -> tuple[int, int, int]:
        """As `_core.Pool.now`."""
        workers = self.workers()
        return workers, 1, workers

    def workers(self) -> int:
        """Tasks that run at a time, now."""
        there = max(self.cluster.workers(), 1)
        return min(there, self._most or there)

    def close(self, cancel: bool = False) -> None:
        if self._pid != os.getpid():
            return  # what is under way is the parent's
        with self._lock:
            self._closed = True
            under_way = list(self._under_way)
            if not under_way:
                self._end_thread()
        if cancel:
            for errand in under_way:
                errand.future.cancel()

    def dismiss(self, kill: bool) -> None:
        """Cancel everything: the workers are the cluster's, and stay."""
        self.close(True)

    def join(self, timeout: float | None = None) -> bool:
        if self._pid != os.getpid():
            return True
        with self._settled:
            over = self._settled.wait_for(lambda: not self._under_way, timeout)
        if over and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return over

    def report(self) -> str:
        return json.dumps(self.meter.told(None, self.cluster.name, self._plan, None))

    def _submit(
        self,
        function: Function,
        calls: list[Call],
        start: int,
        return_errors: bool,
        terms: _options.Terms,
        settle: Settle,
    ) -> Future[Any]:
        _, retries, priority = terms
        future: Future[Any] = forkright.Future()
        began = time.perf_counter()
        try:
            chunk = _encode(calls, start, return_errors, function.name)
        except _pickling.UnpicklableError as error:
            return _failed(error)
        errand = _Errand(future, function, chunk, len(calls), retries, priority, settle)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self.meter.send(errand, time.perf_counter() - began)
            self._under_way.add(errand)
            if self._thread is None:
                self._thread = _threads.start(functools.partial(_take_news, self._news), "forkright-cluster")
            errand.placed = ready = self._most is None or self._out < self._most
            if ready:
                self._out += 1
            else:
                heapq.heappush(self._waiting, (-priority, next(self._numbers), errand))
        future.add_done_callback(functools.partial(self._end, errand))
        if ready:
            self._send(errand)
        return future

    def _send(self, errand: _Errand) -> None:
        if errand.future.cancelled():
            return
        errand.sent = time.perf_counter()
        function = errand.function

        def done(answer: Any, error: BaseException | None) -> None:
            self._news.put(functools.partial(self._take, errand, time.perf_counter(), answer, error))

        try:
            errand.cancel = self.cluster.send(
                function.token, function.place, errand.chunk, function.name, errand.priority, done
            )
        except BaseException as error:
            done(None, error)
            if not isinstance(error, Exception):
                raise
        if errand.future.cancelled():
            errand.cancel()

    def _take(self, errand: _Errand, now: float, answer: Any, error: BaseException | None) -> None:
        """Settle what an answer is for, or send it again."""
        future, name = errand.future, errand.function.name
        if future.cancelled():
            return
        how = None if error is None else self.cluster.death(error)
        if how is not None and errand.retries > 0:
            errand.retries -= 1
            self.meter.retried += 1
            self._send(errand)
            return
        values: list[Any] = []
        failures: dict[int, BaseException]
        if error is None and isinstance(answer, str):
            error = _pickling.UnpicklableError(f"of a call of `{name}`, {answer}")
        if how is not None:
            found: BaseException = WorkerDied(name, 0, None, how)
            found.__cause__ = error
            failures = {0: found}
        elif error is not None:
            failures = {0: error}
        else:
            told = remote.Answer(*cast(Any, answer))
            began = time.perf_counter()
            values, failures = parcel.decode(told, name)
            self.meter.take(errand, told, now, time.perf_counter() - began, len(failures))
        if error is not None:
            self.meter.lose(errand, now)
        if future.set_running_or_notify_cancel():
            errand.settle(future, values, failures)

    def _end(self, errand: _Errand, future: Future[Any]) -> None:
        """Make room for what waits. Called whenever a future is done, however that came."""
        if future.cancelled():
            errand.cancel()
        ready = None
        with self._lock:
            self._under_way.discard(errand)
            if errand.placed:
                errand.placed = False
                self._out -= 1
                ready = self._next()
            if future.cancelled():
                self.meter.drop(errand)
            if not self._under_way:
                self._settled.notify_all()
                if self._closed:
                    self._end_thread()
        if ready is not None:
            self._send(ready)

    def _end_thread(self) -> None:
        # What came too late stays in the queue, and goes with it.
        self._dropped.detach()
        self._news.put(None)

    def _next(self) -> _Errand | None:
        """The first that waits and still has somebody who wants it; it gets a place."""
        while self._waiting:
            errand = heapq.heappop(self._waiting)[2]
            if not errand.future.cancelled():
                errand.placed = True
                self._out += 1
                return errand
        return None


def _take_news(news: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """What its thread runs, which must not keep the pool."""
    for take in iter(news.get, None):
        take()
        del take


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = forkright.Future()
    future.set_exception(error)
    return future


def _encode(calls: list[Call], start: int, return_errors: bool, name: str) -> bytes:
    role = f"the arguments of `{name}`"
    try:
        stream = parcel.dumps(calls, role)
    except _pickling.UnpicklableError:
        # The error is to name the argument as the call has it.
        for args, options in calls:
            parcel.dumps(args, role)
            parcel.dumps(options, role)
        raise
    return parcel.dumps((stream, start, return_errors), role)


def _settle_call(future: Future[Any], values: list[Any], failures: dict[int, BaseException]) -> None:
    if failures:
        future.set_exception(failures[0])
    else:
        future.set_result(values[0])


def _settle_chunk(calls: int, future: Future[Any], values: list[Any], failures: dict[int, BaseException]) -> None:
    """As `_lazy.run_chunk`: the values before the first failure, that, and how many calls it kept from being made."""
    first = min(failures, default=None)
    if first is None:
        future.set_result((values, None, 0))
    else:
        future.set_result((values[:first], failures[first], calls - first - 1))


def _settle_outcomes(future: Future[Any], values: list[Any], failures: dict[int, BaseException]) -> None:
    if not values and failures:
        future.set_exception(failures[0])
    else:
        future.set_result((values, failures))


class _Errand:
    """A chunk on its way."""

    __slots__ = (
        "cancel",
        "chunk",
        "function",
        "future",
        "items",
        "placed",
        "priority",
        "retries",
        "sent",
        "settle",
        "settled",
    )

    def __init__(
        self,
        future: Future[Any],
        function: Function,
        chunk: bytes,
        items: int,
        retries: int,
        priority: int,
        settle: Settle,
    ) -> None:
        self.future, self.function, self.chunk, self.items = future, function, chunk, items
        self.retries, self.priority, self.settle = retries, priority, settle
        self.sent = 0.0
        # Whether it has one of the places of those that may be out, and whether it was counted as over.
        self.placed = self.settled = False
        self.cancel: Callable[[], object] = lambda: None


class Function(NamedTuple):
    """A function that was put where workers find it."""

    fn: Callable[..., Any]
    seeds: Seeds | None
    watch: tuple[_functions.Watch, ...]
    volatile: bool
    token: str
    place: Any
    name: str


class _Sent:
    """Functions that were sent: each is pickled again only when what it rests on changed, or might have."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._known = OrderedDict[tuple[int, int], Function]()

    def get(self, fn: Callable[..., Any], seeds: Seeds | None) -> Function:
        """Raises `UnpicklableError` if it can't travel."""
        key = id(fn), id(seeds)  # both are kept
        with self._lock:
            known = self._known.get(key)
            if known is None or known.volatile or not _functions.holds(known.watch):
                known = self._put(fn, seeds, known)
            self._known[key] = known
            self._known.move_to_end(key)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return known

    def _put(self, fn: Callable[..., Any], seeds: Seeds | None, known: Function | None) -> Function:
        name = _functions.name_of(fn)
        role = f"the function `{name}`"
        reach = _functions.Reach()
        reach.visit(fn)
        try:
            payload = parcel.dumps((fn, seeds), role)
        except _pickling.UnpicklableError:
            parcel.dumps(fn, role)  # the error is to name its part
            raise
        token = blake2b(payload, digest_size=16).hexdigest()
        place = known.place if known is not None and known.token == token else self._cluster.put(payload)
        return Function(fn, seeds, tuple(reach.watch), reach.volatile, token, place, name)


class Meter:
    """What calls on a cluster did and what their way cost. Times are in seconds."""

    def __init__(self) -> None:
        self.tasks = self.done = self.made = self.failed = self.chunks = self.retried = 0
        self.busy = self.cpu = self.longest = self.travel = 0.0
        self.encode = self.decode = 0.0
        self.bytes_out = self.bytes_back = 0
        self._samples: deque[tuple[int, float]] = deque(maxlen=_SAMPLES)
        self._processes: dict[str, dict[str, Any]] = {}
        # When each thread of a worker was last heard of.
        self._lanes: dict[tuple[str, int], float] = {}
        # While something is under way.
        self._out = 0
        self._since = self._span = 0.0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float | None:
        """Of a call, if one has been measured."""
        return self.busy / self.made if self.made else None

    @property
    def hop(self) -> float:
        """Of a small message."""
        with self._lock:
            return verdict.way(self._samples).hop

    def send(self, errand: _Errand, encode: float) -> None:
        """A chunk is about to go."""
        with self._lock:
            if not self._out:
                self._since = time.perf_counter()
            self._out += 1
            self.tasks += errand.items
            self.chunks += 1
            self.encode += encode

    def take(self, errand: _Errand, told: remote.Answer, now: float, decode: float, failed: int) -> None:
        """The answer of a chunk came at the time `now`."""
        with self._lock:
            made = len(told.values)
            self.done += made
            self.made += made
            self.failed += failed
            self.busy += told.wall
            self.cpu += told.cpu
            self.longest = max(self.longest, told.longest)
            self.decode += decode
            lane = told.process, told.thread
            before = self._lanes.get(lane, 0.0)
            # What was sent while the worker had something else waited for that.
            travel = max(now - max(errand.sent, before) - told.wall, 0.0)
            back = sum(len(value or b"") for value in told.values)
            length = len(errand.chunk) + back
            if before <= errand.sent:
                self._samples.append((length, max(travel - told.rest, 0.0)))
            self._lanes[lane] = now
            self.travel += travel
            self.bytes_out += len(errand.chunk)
            self.bytes_back += back
            worker = self._processes.setdefault(told.process, {"tasks": 0, "busy": 0.0, "cpu": 0.0})
            worker["tasks"] += made
            worker["busy"] += told.wall
            worker["cpu"] += told.cpu
            self._settle(errand, now)

    def lose(self, errand: _Errand, now: float) -> None:
        """Nothing came of a chunk but an error."""
        with self._lock:
            self.done += errand.items
            self.failed += errand.items
            self._settle(errand, now)

    def drop(self, errand: _Errand) -> None:
        """A chunk was cancelled."""
        with self._lock:
            self._settle(errand, time.perf_counter())

    def told(self, name: str | None, cluster: str, plan: Plan, wall: float | None) -> dict[str, Any]:
        """A report's data."""
        with self._lock:
            span = self._span + (time.perf_counter() - self._since if self._out else 0.0)
            way = verdict.way(self._samples)
            case = verdict.Case(
                cluster=cluster,
                items=self.made,
                wall=span if wall is None else wall,
                busy=self.busy,
                cpu=self.cpu,
                longest=self.longest,
                travel=self.travel / max(len(self._lanes), 1),
                hop=way.hop,
                bytes=self.bytes_out + self.bytes_back,
                workers=max(len(self._lanes), 1),
                cores=cpu_count(),
            )
            judged = verdict.judge(case) if self.busy else None
            rows = [{"kind": "process", "id": process, **worker} for process, worker in self._processes.items()]
            return {
                "form": 3,
                "why": judged.sentence if judged else f"{plan}, of which nothing has come yet",
                "function": name,
                "chosen": False,
                "plan": {"processes": plan.processes, "threads": 1, "cluster": cluster},
                "verdicts": [],
                "tasks": self.tasks,
                "done": self.done,
                "failed": self.failed,
                "wall": case.wall,
                "cpu": self.cpu,
                "busy": self.busy,
                "pickling": {
                    "encode": self.encode,
                    "decode": self.decode,
                    "bytes_out": self.bytes_out,
                    "bytes_back": self.bytes_back,
                }
                if self.chunks
                else None,
                "workers": rows,
                "cluster": {
                    "name": cluster,
                    "hop": way.hop,
                    "per_byte": way.per_byte,
                    "travel": case.travel,
                    "chunks": self.chunks,
                    "retried": self.retried,
                    "paid": judged.paid if judged else None,
                    "serial": judged.serial if judged else None,
                    "cores": judged.cores if judged else None,
                },
            }

    def _settle(self, errand: _Errand, now: float) -> None:
        if errand.settled:  # its answer came while it was being cancelled
            return
        errand.settled = True
        self._out -= 1
        if not self._out:
            self._span += now - self._since
