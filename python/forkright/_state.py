"""`worker_state`: what a worker keeps from one call to the next.

A worker is a thread, so all of it is local to the thread and ends with it. What several maps share is told apart by the
job whose call the worker runs, which the engine knows.
"""

from __future__ import annotations

import threading
from types import FunctionType, SimpleNamespace

from ._core import current_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, ParamSpec, TypeVar, overload

    P = ParamSpec("P")
    T = TypeVar("T")

# Maps and executors whose state a shared worker has at a time: those that it worked for last.
_MOST_JOBS = 4


class WorkerState(SimpleNamespace):
    """Whatever calls put there: attributes may be set freely."""


class Store:
    """All that one worker keeps."""

    def __init__(self) -> None:
        self.states: dict[int, WorkerState] = {}
        self.made: dict[Hashable, Any] = {}

    def state(self) -> WorkerState:
        """That of the job whose call runs."""
        job = current_job()
        state = self.states.pop(job, None) or WorkerState()
        # The last is the one that was used last.
        self.states[job] = state
        while len(self.states) > _MOST_JOBS:
            del self.states[next(iter(self.states))]
        return state

    def make(self, factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the factory made of these arguments, now or before."""
        key = _key(factory), args, tuple(sorted(kwargs.items()))
        try:
            return self.made[key]
        except KeyError:
            pass
        except TypeError as error:
            raise TypeError(f"the arguments of a worker's state must be hashable: {error}") from None
        made = self.made[key] = factory(*args, **kwargs)
        return made


class _Local(threading.local):
    def __init__(self) -> None:
        self.store = Store()


_local = _Local()


if TYPE_CHECKING:

    @overload
    def worker_state() -> WorkerState: ...
    @overload
    def worker_state(factory: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


def worker_state(factory: Any = None, /, *args: Any, **kwargs: Any) -> Any:
    """What the worker that runs this call keeps for the calls after it.

    A worker is one thread: of this process, the calling one included while it runs calls of a map, or of a worker
    process. So nothing here is ever used by two calls at a time.

    With a factory, what that made: it is called once in each worker for the same arguments::

        def score(row):
            model = forkright.worker_state(load_model, "weights.bin")
            return model.predict(row)

    It is kept for as long as the worker lives, for later maps, too. As with `functools.cache`, what the factory reads
    besides its arguments is not looked at again.

    Without, an object that is empty at first, to which attributes may be set. It belongs to the executor, whose
    ``initializer`` may fill it, or to the map: another one finds it empty.

    Outside of calls it is the calling thread's.

    Args:
        factory: Makes what is kept.
        *args, **kwargs: Its arguments; they must be hashable.

    Raises:
        TypeError: If an argument is not hashable, or there is a factory that can't be called.
        BaseException: What the factory raises; it is called again the next time.
    """
    if factory is None:
        if args or kwargs:
            raise TypeError("worker_state() takes arguments only for a factory")
        return _local.store.state()
    if not callable(factory):
        raise TypeError(f"the factory of a worker's state must be callable, not {factory!r}")
    return _local.store.make(factory, args, kwargs)


def mine() -> Store:
    """What this thread keeps."""
    return _local.store


def adopt(store: Store) -> None:
    """Have this thread go on with what another one kept."""
    _local.store = store


def clear() -> None:
    """Let go of all that this thread keeps."""
    _local.store = Store()


def leave_map() -> None:
    """In the thread that called a map which is over: its state ends."""
    states = _local.store.states
    job = current_job()
    for other in [other for other in states if other not in (0, job)]:
        del states[other]


def _key(factory: Callable[..., Any]) -> Hashable:
    """What makes factories the same: a function that travelled may have been made anew."""
    if type(factory) is not FunctionType:
        return factory
    cells = tuple(_contents(cell) for cell in factory.__closure__ or ())
    key = factory.__module__, factory.__qualname__, factory.__code__, factory.__defaults__, cells
    try:
        hash(key)
    except TypeError:
        return factory
    return key


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
