"""The engine, in Rust. Everything here is called by the package; people use what `forkright` exports.

Kept true by ``python -m mypy.stubtest forkright._core``.
"""

from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any, Self, final

from typing_extensions import disjoint_base

from ._context import Within
from ._seeding import Seeds
from ._spec import Initializer

__all__ = [
    "FutureBase",
    "Glimpse",
    "MapReport",
    "Pool",
    "Sink",
    "Worker",
    "__version__",
    "account_recordings",
    "answered",
    "begin_recording",
    "choose_again",
    "choose_elsewhere",
    "close_shared",
    "constants",
    "cores_are_taken",
    "cpu_count",
    "current_job",
    "die_with_parent",
    "end_recording",
    "enlist",
    "keep_workers",
    "limits",
    "meter",
    "open_shared",
    "parse_command",
    "pause_recording",
    "prepare_by_value",
    "prepare_process",
    "release_shared",
    "resume_recording",
    "run_map",
    "share",
    "shared_place",
    "take_share",
]

__version__: str

def parse_command(arguments: list[str]) -> str:
    """What the arguments after the program's name ask for, as JSON; prints help and usage errors itself.

    Raises:
        SystemExit: When there is nothing left to do; the code is 0 or 2.
    """

def cpu_count() -> int:
    """Cores this process may use: the least of its affinity and its control groups' quotas."""

def cores_are_taken() -> bool:
    """Whether more threads are ready to run than there are cores, on the whole machine; the one that asks counts."""

def current_job() -> int:
    """The map or executor whose call this thread runs; 0 for an executor that has the thread for itself."""

def take_share(cores: int) -> None:
    """Has this process, a worker, count no more cores than its share of them."""

def answered() -> int:
    """Tasks that worker processes of this process have finished."""

def limits() -> str:
    """What limits the cores, as JSON."""

def meter() -> str:
    """Why the GIL can't be seen from outside, in a sentence; empty if it can."""

def die_with_parent(parent: int) -> bool:
    """Has the kernel kill this process when its parent ends. False: the parent is gone already."""

def close_shared(timeout: float) -> None:
    """Ends the threads and worker processes that maps share; for the end of the interpreter.

    What was measured of this machine is kept for the next process.
    """

def release_shared(timeout: float) -> None:
    """Ends the threads and worker processes that maps share, those that are at work when that is done."""

def keep_workers(seconds: float) -> None:
    """For how long the threads and worker processes that maps share may have nothing to do from now on."""

def constants() -> str:
    """What a choice goes by on this machine, and where that is kept, as JSON."""

def choose_again(case: str) -> str | None:
    """The verdict of a report's case, both as JSON; None if no plan is allowed.

    Raises:
        ValueError: If it is no case.
    """

def choose_elsewhere(given: str, change: str, tasks: int) -> str | None:
    """The verdict about a whole map of so many tasks on a machine with other figures, as JSON.

    None if too little was measured.

    Raises:
        ValueError: If something is not in the form of a report.
    """

def run_map(
    function: Callable[..., Any],
    name: str,
    items: range | list[Any],
    star: bool,
    plan: tuple[int, int] | None,
    workers: int | None,
    chunksize: int | None,
    timeout: float | None,
    return_errors: bool,
    shared_state: bool | None,
    seeds: Seeds | None,
    glimpse: Glimpse | None,
    around: Within | None,
) -> tuple[list[Any], MapReport]:
    """Runs a map to its end; its results and its report. ``plan`` None: it is chosen on the way.

    ``glimpse`` tells others how far it is.
    """

@final
class Glimpse:
    """A map seen from outside, at any moment; it begins with the `run_map` that gets it."""

    def __new__(cls) -> Glimpse: ...
    def look(self) -> tuple[tuple[int, int], tuple[int, int, int]]:
        """Items that have ended and those that failed; processes, threads in each, and workers that are there."""

@final
class MapReport:
    """The report of a map that is over, worded when somebody asks."""

    def to_json(self) -> str: ...

@disjoint_base
class FutureBase:
    """What `forkright.Future` adds to `concurrent.futures.Future`: its methods come first."""

    def __new__(cls) -> Self: ...
    def __init__(self) -> None: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def running(self) -> bool: ...
    def cancel(self) -> bool: ...
    def kill(self) -> bool:
        """Ends the call: cancelled if it has not begun; else its worker process is killed."""
    def result(self, timeout: float | None = None) -> Any: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def add_done_callback(self, fn: Callable[[Any], object]) -> None: ...
    def set_running_or_notify_cancel(self) -> bool: ...
    def set_result(self, result: Any) -> None: ...
    def set_exception(self, exception: BaseException | None) -> None: ...
    def _failed(self) -> bool:
        """Whether it is over and has failed, as far as that is known without unpickling."""

    def reading(self) -> dict[str, float] | None:
        """What the call cost: seconds of wall clock and CPU; None while it is not known."""

@final
class Pool:
    """The native half of `forkright.Executor`: takes calls and hands them to threads or worker processes."""

    kills: bool

    def __new__(
        cls,
        plan: tuple[int, int] | None,
        serial: bool,
        workers: int | None,
        prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        pickled_initializer: Initializer | None,
        tasks_per_worker: int | None,
        memory_per_worker: int | None,
        shared_state: bool | None,
    ) -> Pool:
        """``plan`` is (processes, threads), or None for the choice to be made, among at most ``workers``.

        ``serial`` tells one thread of its own from the thread that submits.
        """

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any] | None,
        calls: Callable[..., Any] | None = None,
        terms: tuple[float | None, int, int] | None = None,
    ) -> Any:
        """Runs ``function(*arguments, **options)`` on a worker; its `forkright.Future`.

        ``calls`` is the function that ``function`` gets among its arguments and calls, if it is not the user's own.
        ``terms`` are seconds that it may run in a worker process, reruns after that one's death, and its priority.
        """

    def close(self, cancel: bool = False) -> None:
        """No more calls are taken. ``cancel`` cancels those that have not started."""

    def dismiss(self, kill: bool) -> None:
        """No more calls are taken, what waits is cancelled, and worker processes end with what they run.

        They are sent SIGTERM, or killed together with all that they started.
        """

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all workers are gone; False if ``timeout`` seconds passed first."""

    def kill(self, signal: int, busy: bool = False) -> None:
        """Signals all worker processes, or those that have something to do."""

    def pids(self) -> list[int]:
        """The pids of the worker processes."""

    def report(self) -> str:
        """What its workers did, and what was measured and chosen for each function, as JSON."""

    def now(self, function: Callable[..., Any]) -> tuple[int, int, int]:
        """How calls of this function run now: processes, threads in each, and workers that are there."""

    def memory(self) -> tuple[int, int]:
        """Bytes of shared memory in use and idle."""

@final
class Sink:
    """Takes pickle's buffers for one message; what is not worth a place of its own goes into the stream."""

    def append(self, buffer: object) -> bool:
        """As pickle's ``buffer_callback``."""

    def clear(self) -> None:
        """Forgets what it took."""

def prepare_by_value() -> None:
    """Has what functions need that travel by value imported where workers are forked, so that those to come have it."""

def prepare_process() -> None:
    """The same for what a ``forkright.Process`` needs."""

def share(buffers: list[PickleBuffer], writable: bool) -> list[Any]:
    """Copies buffers into memory that all processes see: the objects over it, in their order.

    Unless `writable`, nobody can write to it ever after.
    """

def shared_place(obj: object) -> tuple[int, int, int, int, int] | None:
    """Where in shared memory an object with the buffer protocol lies; None if it lies elsewhere.

    That is a key, an offset, a length, the process that has it, and its descriptor there.
    """

def open_shared(place: tuple[int, int, int, int, int]) -> Any:
    """An object over the shared memory that another process has at that place, and keeps meanwhile."""

@final
class Worker:
    """One worker process, from the inside."""

    def __new__(cls, line: int, results: int, arguments: int, bell: int) -> Worker:
        """Takes over the descriptors that a worker is handed."""

    def ready(self) -> None:
        """Says that tasks may run."""

    def unfit(self, exception: BaseException) -> None:
        """Says that this worker can't become ready, and why."""

    def serve(self, index: int, grow: Callable[[int], object]) -> None:
        """Runs what comes until the caller says stop; ``grow`` starts further threads."""

def begin_recording(
    file: str,
    python: str,
    argv: list[str],
    library: list[str],
    standard: str,
    rests: list[str],
    thorough: bool,
) -> None:
    """Begin to record this process into a file, with the calling thread first."""

def end_recording() -> None:
    """End the recording of this process, if there is one, in the thread that began it."""

def pause_recording() -> None:
    """Stop every thread of the meter, before a fork."""

def resume_recording() -> None:
    """Go on in the process that forked."""

def enlist(name: object) -> None:
    """Register the calling thread until it ends, or rename it."""

def account_recordings(recordings: list[bytes], others: list[int]) -> str:
    """What came of recordings, as JSON; `others` are numbers of cores to predict for."""
