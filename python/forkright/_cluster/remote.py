"""What a cluster's worker runs: a chunk of calls, measured, with all that came of it as bytes.

It travels by value, so that a worker needs cloudpickle and no forkright: it must import nothing else that is not the
standard library's. `parcel` sends it, `pool` and `driver` read its answers.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

# Functions that a worker process keeps, the last ones that it called: what they captured may be large.
_KEPT = 4
# Answered if the function was left out of the message and this process does not have it.
MISSING = "missing"

Call = tuple[Any, ...]


class Answer(NamedTuple):
    """What came of a chunk. It travels as a plain tuple: its class is not known where it is made."""

    values: list[bytes | None]
    """What the calls returned, in order, each pickled by itself: one that can't travel costs no other. None for those
    that failed."""
    failures: dict[int, bytes | str]
    """By their places: exceptions as `_pickling.decode_exception` takes them, or why a result can't be pickled."""
    wall: float
    """Seconds in the calls."""
    cpu: float
    """Of that, seconds of computing in their thread."""
    longest: float
    """Seconds of the longest call."""
    rest: float
    """Seconds for unpickling what came and pickling what goes back."""
    process: str
    """The worker process: host and pid."""
    thread: int
    """Of that process."""


def call(token: str, function: Any, chunk: bytes, fetch: Callable[[Any], bytes] | None = None) -> Any:
    """Make the calls of a chunk in turn; an `Answer` as a tuple, `MISSING`, or what could not be rebuilt here, and why.

    ``function`` is pickled, or what ``fetch`` gets it by, or None if this process had it before: it is kept under its
    ``token``. The first call that fails ends the chunk unless exceptions are results.
    """
    began = time.perf_counter()
    what = "the function"
    try:
        kept, lock = _kept()
        with lock:  # one thread rebuilds it, and others of the process wait for that
            entry = kept.pop(token, None)
            if entry is None:
                if function is None:
                    return MISSING
                entry = pickle.loads(function if fetch is None else fetch(function))
            kept[token] = entry
            if len(kept) > _KEPT:
                del kept[next(iter(kept))]
        what = "an argument"
        parcel, start, return_errors = pickle.loads(chunk)
        calls = pickle.loads(parcel)
    except Exception as error:
        return f"{what} could not be rebuilt on the cluster's worker {os.uname().nodename}: {_advised(error)}"
    fn, seeds = entry
    failures: dict[int, bytes | str] = {}
    values: list[bytes | None] = []
    wall = cpu = longest = 0.0
    for place, (args, kwargs) in enumerate(calls):
        if seeds is not None:
            kwargs = {**kwargs, "rng": seeds.generator(start + place)}
        # That of the process would have what other threads of the worker compute.
        computed, called = time.thread_time(), time.perf_counter()
        failure = value = None
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            failure = error
        took = time.perf_counter() - called
        cpu += time.thread_time() - computed
        wall += took
        longest = max(longest, took)
        try:
            values.append(_dumps(value) if failure is None else None)
        except Exception as error:
            values.append(None)
            failures[place] = f"an object of type `{type(value).__qualname__}` can't be pickled ({error})"
        if failure is not None:
            failures[place] = _encode_exception(failure)
            if not (return_errors and isinstance(failure, Exception)):
                break
    failure = None  # its traceback has this frame
    rest = time.perf_counter() - began - wall
    return values, failures, wall, cpu, longest, rest, f"{os.uname().nodename}:{os.getpid()}", threading.get_ident()


def call_on_ray(token: str, place: list[Any], chunk: bytes) -> Any:
    """As `call`, for a function that lies in Ray's object store and is got from there once."""
    import ray  # pyright: ignore[reportMissingImports]

    return call(token, place, chunk, lambda place: ray.get(place[0]))


def _advised(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        text += (
            f"; have the module `{error.name}` there, too, or send it with what uses it: "
            f"`cloudpickle.register_pickle_by_value({error.name})`"
        )
    return text


def _kept() -> tuple[dict[str, Any], Any]:
    """Functions by their tokens, the last used at the end, and the lock on them. What is here may be built anew for
    each message, so they are somewhere else."""
    home = sys.modules.setdefault("_forkright_kept", types.ModuleType("_forkright_kept")).__dict__
    return home.setdefault("functions", {}), home.setdefault("lock", threading.RLock())


def _dumps(obj: object) -> bytes:
    """Pickle, by value what only the script has. Functions and classes that came by value fail in a plain pickle."""
    try:
        data = pickle.dumps(obj, 5)
        if b"__main__" not in data:
            return data
    except Exception:
        pass
    return cloudpickle.dumps(obj, 5)  # type: ignore[no-any-return]


def _encode_exception(error: BaseException) -> bytes:
    """As `_pickling.encode_exception`, in the same form: links, and the traceback as text."""
    return pickle.dumps((_link(error, set()), _traceback(error)), 5)


def _link(error: BaseException | None, seen: set[int]) -> Any:
    """The exception and those behind it: (payload, summary, suppressed, cause, context)."""
    if error is None or id(error) in seen:
        return None
    seen.add(id(error))
    cause, context = _link(error.__cause__, seen), _link(error.__context__, seen)
    return _payload(error), _summary(error), error.__suppress_context__, cause, context


def _payload(error: BaseException) -> bytes:
    """The exception as it is, or rebuilt without `__init__`; empty if it can't travel."""
    kind = type(error)
    state = {name: value for name, value in vars(error).items() if _travels(value)}
    args = tuple(arg if _travels(arg) else repr(arg) for arg in error.args)
    for candidate in (error, _Rebuilt(kind, args, state)):
        try:
            payload = _dumps(candidate)
            if type(pickle.loads(payload)) is kind:
                return payload
        except BaseException:  # the next candidate asks less
            continue
    return b""


class _Rebuilt:
    """Travels as an exception that is made otherwise than by its own rules."""

    def __init__(self, kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> None:
        self._reduced = (_rebuild, (kind, args), state)

    def __reduce__(self) -> Any:
        return self._reduced


def _rebuild(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _travels(value: object) -> bool:
    try:
        pickle.loads(_dumps(value))
    except BaseException:
        return False
    return True


def _summary(error: BaseException) -> str:
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        return f"{name}: {error}"
    except BaseException:
        return name


def _traceback(error: BaseException) -> str:
    """The traceback as people read it, beginning with the task: the frames that led to it are ours."""
    ours = _traceback.__code__.co_filename
    try:
        whole = traceback.TracebackException.from_exception(error)
        left: list[traceback.TracebackException | None] = [whole]
        while left:
            part = left.pop()
            if part is not None:
                while part.stack and part.stack[0].filename == ours:
                    del part.stack[0]
                left += (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))
        return "".join(whole.format())
    except BaseException:  # a hostile `__str__` or `__cause__` must not cost the task its error
        return _summary(error)
