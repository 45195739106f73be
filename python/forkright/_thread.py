"""`Thread`: `threading.Thread` that keeps what its target returned or raised, and what it cost.

For whoever uses threads one by one; nothing else of forkright is needed for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


class Thread(threading.Thread, Generic[R]):
    """A `threading.Thread` with a result.

    Constructor, methods and subclassing with ``run`` are those of `threading.Thread`. What the target (or an
    overridden ``run``) returns or raises is had with `result`. An exception for which nobody waits there when
    it is raised goes to `threading.excepthook`, as always.
    """

    if TYPE_CHECKING:

        def __init__(
            self,
            group: None = None,
            target: Callable[..., R] | None = None,
            name: str | None = None,
            args: Iterable[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            *,
            daemon: bool | None = None,
        ) -> None: ...

    _value: Any = None
    _error: BaseException | None = None
    _waiting = 0
    _spent: tuple[float, float] | None = None
    _lock = threading.Lock()

    def start(self) -> None:
        if self.ident is None:
            # `threading` calls `run` and drops what it gives, whoever has overridden it.
            self.run = partial(self._observe, self.run)  # type: ignore[method-assign]
        super().start()

    def run(self) -> Any:
        try:
            if self._target is not None:  # type: ignore[attr-defined]
                return self._target(*self._args, **self._kwargs)  # type: ignore[attr-defined]
        finally:
            # As `threading` does: the thread must not keep what its target refers to.
            del self._target, self._args, self._kwargs  # type: ignore[attr-defined]

    def result(self, timeout: float | None = None) -> R:
        """Wait for the end of the thread; what its target returned.

        Raises:
            TimeoutError: If it runs for longer than `timeout` seconds.
            BaseException: Whatever the target raised.
            RuntimeError: If the thread was not started, or is the one that asks.
        """
        with self._lock:
            self._waiting += 1
        try:
            self.join(timeout)
        finally:
            with self._lock:
                self._waiting -= 1
        if self.is_alive():
            raise TimeoutError(f"{self.name} still runs")
        if self._error is not None:
            raise self._error
        value: R = self._value
        return value

    @property
    def reading(self) -> dict[str, float] | None:
        """What the target cost in seconds: ``{"wall": ..., "cpu": ...}``; None until it has ended."""
        return None if self._spent is None else dict(zip(("wall", "cpu"), self._spent, strict=True))

    def _observe(self, body: Callable[[], Any]) -> None:
        del self.run
        if self.run != body:
            # The thread had one of its own.
            self.run = body  # type: ignore[method-assign]
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            self._value = body()
        except BaseException as error:
            with self._lock:
                # Nobody wants to see where a thread was left, and that would keep alive what the target refers to.
                self._error = SystemExit(*error.args) if type(error) is SystemExit else error
                awaited = self._waiting > 0
            if not awaited:
                raise
        finally:
            self._spent = time.perf_counter() - wall, time.thread_time() - cpu
