"""`Process`: `multiprocessing.Process` on a worker of forkright, with the result of its target.

For whoever uses processes one by one. Everything that `multiprocessing` has around its processes (`active_children`,
`current_process`, the joining of children at the end) works, for ours are of its kind: only their start is not.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # as in `_zygote`
import itertools
import os
import sys
import threading
import time
from multiprocessing import process as _multiprocessing
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

# The process imports this module, too: what only its parent needs is imported there.
from . import _pickling, _spawning
from ._core import Pool, prepare_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")

# The exit code of a process of which nobody can tell how it ended, as multiprocessing has it.
_UNKNOWN = 255


class Process(_multiprocessing.BaseProcess, Generic[R]):
    """A `multiprocessing.Process` with a result.

    Constructor, methods and subclassing with ``run`` are those of `multiprocessing.Process`, as under its start
    method spawn: the process begins clean, and what it is given must pickle (functions may be lambdas or nested).
    The main module is not imported and needs no guard; standard input is the caller's.
    """

    if TYPE_CHECKING:

        def __init__(
            self,
            group: None = None,
            target: Callable[..., R] | None = None,
            name: str | None = None,
            args: Iterable[Any] = (),
            kwargs: Mapping[str, Any] = {},
            *,
            daemon: bool | None = None,
        ) -> None: ...

    _popen: _Launch | None

    @staticmethod
    def _Popen(process: Process) -> _Launch:
        return _Launch(process)

    def run(self) -> Any:
        if self._target is not None:  # type: ignore[attr-defined]
            return self._target(*self._args, **self._kwargs)  # type: ignore[attr-defined]
        return None

    def result(self, timeout: float | None = None) -> R:
        """Wait for the target's end; what it returned. The process itself ends a moment later: see `join`.

        Raises:
            TimeoutError: If it takes longer than `timeout` seconds.
            WorkerDied: If the process was killed or left without ending its target.
            UnpicklableError: If the value can't travel.
            BaseException: Whatever the target raised, with the process's traceback as the cause.
            ValueError: If the process was not started, or is closed.
        """
        self._check_closed()  # type: ignore[attr-defined]
        if self._popen is None:
            raise ValueError("process not started")
        value: R = self._popen.result(timeout)
        return value

    @property
    def reading(self) -> dict[str, float] | None:
        """What the target cost in seconds: ``{"wall": ..., "cpu": ...}``; None until it has ended."""
        return None if self._popen is None else self._popen.reading()


class _Outcome(NamedTuple):
    """What a process says of its target."""

    exitcode: int
    succeeded: bool
    stream: bytes
    buffers: list[Any]
    wall: float
    cpu: float


class _Launch:
    """A process that was started: what `multiprocessing` calls a popen."""

    method = "forkright"

    def __init__(self, process: Process) -> None:
        from multiprocessing import util

        # At the end of the interpreter, when it is joined, these could not be imported any more.
        from . import _errors  # noqa: F401

        self._name = process.name
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._decoded: tuple[bool, Any] | None = None
        self._signal = 0
        self.returncode: int | None = None
        prepare_process()
        payload, self._lent = _spawning.encode(process, f"the process {self._name}")
        # Two tasks, after which its worker ends by itself. It has both before it starts.
        self._pool = Pool((1, 1), False, 1, self._name, None, (), None, 2, None, None)
        pid = self._pool.submit(_tell_pid, (), None)
        self._future = self._pool.submit(_run, (payload,), None)
        self._pool.close()
        self.pid: int = pid.result()
        self.sentinel = _open(self.pid)
        self.close = util.Finalize(self, os.close, (self.sentinel,))

    def poll(self, flag: int = 0) -> int | None:
        """The exit code if the process is gone."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process is gone; its exit code, or None if it still runs after `timeout` seconds."""
        # A forked child asks about a process that is not its own.
        if self.returncode is None and self._owner == os.getpid() and self._pool.join(timeout):
            from ._errors import WorkerDied

            told = self._told(None)
            if isinstance(told, WorkerDied):
                self.returncode = _UNKNOWN if told.exitcode is None else told.exitcode
            else:
                self.returncode = told.exitcode if isinstance(told, _Outcome) else _UNKNOWN
            if self._lent is not None:
                self._lent.close()
        return self.returncode

    def interrupt(self) -> None:
        self._send(signal.SIGINT)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def result(self, timeout: float | None) -> Any:
        told = self._told(timeout)
        if not isinstance(told, _Outcome):
            raise told
        with self._lock:
            if self._decoded is None:
                self._decoded = _decode(told, self._name)
        succeeded, value = self._decoded
        if succeeded:
            return value
        raise value

    def reading(self) -> dict[str, float] | None:
        told = self._told(0) if self._future.done() else None
        return {"wall": told.wall, "cpu": told.cpu} if isinstance(told, _Outcome) else None

    def _told(self, timeout: float | None) -> _Outcome | BaseException:
        """What became of the target, once that is known."""
        from concurrent.futures import CancelledError

        from ._errors import WorkerDied

        try:
            error = self._future.exception(timeout)
        except CancelledError:
            return WorkerDied(self._name, self.pid, -self._signal, "it was ended before it began")
        if isinstance(error, WorkerDied):
            return WorkerDied(self._name, self.pid, error.exitcode, error._how)
        return error or _Outcome(*self._future.result())

    def _send(self, number: int) -> None:
        if self.returncode is None and self._owner == os.getpid():
            self._signal = number
            # What has not begun must not begin in another worker.
            self._future.cancel()
            self._pool.kill(number)


def _decode(told: _Outcome, name: str) -> tuple[bool, Any]:
    if not told.succeeded:
        return False, _pickling.decode_exception(told.stream)
    try:
        return True, _pickling.decode(told.stream, told.buffers)
    except Exception as error:
        return False, _pickling.undecodable(error, f"the result of {name}")


def _open(pid: int) -> int:
    """A descriptor that is ready when the process is gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        ready, other = os.pipe()
        os.close(other)
        return ready


def _end_all() -> None:
    """End daemons and join the others, as `multiprocessing` does a little later, when it has ended what serves them."""
    children = [child for child in _multiprocessing.active_children() if isinstance(child, Process)]
    for child in children:
        if child.daemon:
            child.terminate()
    for child in children:
        child.join()


threading._register_atexit(_end_all)  # type: ignore[attr-defined]


# In the process


_told_pid = False


def _tell_pid() -> int:
    global _told_pid
    _told_pid = True
    return os.getpid()


def _run(payload: bytes) -> tuple[int, bool, bytes, list[Any], float, float]:
    """Become the process that was pickled, and run its target."""
    # Ctrl-C ends it, as it does any program.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wall, cpu = time.perf_counter(), time.process_time()
    name, code, value, failure = "?", 0, None, None
    try:
        process = _begin(payload)
        name = process.name
        wall, cpu = time.perf_counter(), time.process_time()
        value = process.run()
    except BaseException as error:
        code, failure = _report(error, name), error
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    buffers: list[Any] = []
    if failure is None:
        try:
            stream = _pickling.encode(value, buffers, f"the result of {name}")
            return (code, True, stream, buffers, wall, cpu)
        except _pickling.UnpicklableError as error:
            # The target did its work all the same.
            failure = error
    return (code, False, _pickling.encode_exception(failure), [], wall, cpu)


def _begin(payload: bytes) -> Process:
    if not _told_pid:
        raise ChildProcessError("the process was lost before it began")
    process: Any = _pickling.decode(payload)
    multiprocessing: Any = _multiprocessing
    parent = process._parent_name, process._parent_pid, _open(process._parent_pid)
    multiprocessing._parent_process = multiprocessing._ParentProcess(*parent)
    multiprocessing._current_process = process
    multiprocessing._process_counter = itertools.count(1)
    multiprocessing._children = set()
    return process  # type: ignore[no-any-return]


def _report(error: BaseException, name: str) -> int:
    """Say on standard error what `multiprocessing` would; the exit code."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    import traceback

    sys.stderr.write(f"Process {name}:\n")
    traceback.print_exception(error)
    return 1
