"""Large arguments and results: NumPy arrays, on one worker, so that the same one has each."""

from __future__ import annotations

import time

import peers
import tasks
from measures.shape import Figures, warm_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MEMCPY = "memcpy"


def arrays(contestant: str, size: int, repeats: int) -> Figures:
    """An array of so many bytes as the argument, as the result, and as both; the first time apart."""
    import numpy

    array = numpy.ones(size // 8)
    if contestant == MEMCPY:
        return {"copy": _copies(array, repeats)}
    found: Figures = {}
    with peers.EXECUTORS[contestant](1) as (submit, result):
        warm_up((submit, result))
        # What the worker gives is there already: to make it is not what is timed.
        result(submit(tasks.prepare, size))
        for name, call in (
            ("in", lambda: result(submit(tasks.touch, array))),
            ("out", lambda: result(submit(tasks.give, size))),
            ("both", lambda: result(submit(tasks.echo, array))),
        ):
            first, *later = [_timed(call) for _ in range(repeats + 1)]
            found |= {f"{name}, first": [first], name: later}
    return found


def same(contestant: str, size: int, repeats: int) -> Figures:
    """One array passed to so many tasks at once; per task."""
    import numpy

    array = numpy.ones(size // 8)
    if contestant == MEMCPY:
        return {"task": _copies(array, repeats)}
    with peers.EXECUTORS[contestant](peers.PROCESSES) as (submit, result):
        warm_up((submit, result))
        result(submit(tasks.touch, array))

        def call() -> None:
            for handle in [submit(tasks.touch, array) for _ in range(repeats)]:
                result(handle)

        return {"task": [_timed(call) / repeats for _ in range(3)]}


def shared(contestant: str, size: int, repeats: int) -> Figures:
    """An array that was put in shared memory before, of 1 KB and of so many bytes, as an argument."""
    import numpy

    import forkright as fr

    found: Figures = {}
    with peers.EXECUTORS["fr.ProcessPoolExecutor"](1) as (submit, result):
        warm_up((submit, result))
        for name, bytes_ in (("small", 1024), ("large", size)):
            array = fr.share(numpy.ones(bytes_ // 8))
            result(submit(tasks.touch, array))
            found[name] = [_timed(lambda array=array: result(submit(tasks.touch, array))) for _ in range(repeats)]
    return found


def _copies(array: object, repeats: int) -> list[float]:
    """memcpy into memory that has its pages."""
    import numpy

    copy = numpy.array(array)
    return [_timed(lambda: numpy.copyto(copy, array)) for _ in range(repeats)]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    answer = call()
    took = time.perf_counter() - began
    del answer
    return took
