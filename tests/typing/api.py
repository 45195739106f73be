"""What type checkers make of the public API: checked, never run. `make test-types` does so with mypy and pyright.

Lines that must be errors say which: an error that is missing is an error, too.
"""

from __future__ import annotations

import functools
import itertools
import json
import operator
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any, Literal, assert_type

import numpy as np
from numpy.random import Generator as Random

import forkright as fr


class Point:
    def __init__(self, x: int, y: int = 0) -> None:
        self.x, self.y = x, y

    def moved(self, by: int) -> Point:
        return Point(self.x + by)

    def __call__(self, scale: float) -> str:
        return f"{self.x * scale}"


def name(number: int) -> str:
    return str(number)


def add(a: int, b: int) -> float:
    return a + b


def scale(number: int, by: float = 2.0, *, deep: bool = False) -> float:
    return number * by


def total(*numbers: int) -> int:
    return sum(numbers)


def simulate(price: float, *, rng: Random) -> float:
    return price * rng.random()


def simulate_two(price: float, share: int, *, rng: Random) -> float:
    return price * share * rng.random()


async def fetch(url: str) -> bytes:
    return url.encode()


async def fetch_part(url: str, part: int) -> bytes:
    return url.encode()[part:]


def five(a: int, b: str, c: bytes, d: float, e: Path) -> tuple[int, Path]:
    return a, e


def show(progress: fr.Progress) -> None:
    assert_type(progress.done, int)
    assert_type(progress.total, int | None)
    assert_type(progress.rate, float)
    assert_type(progress.plan, str)


def maps(numbers: list[int], words: list[str], columns: list[list[int]]) -> None:
    assert_type(fr.map(name, numbers), list[str])
    assert_type(fr.map(add, numbers, range(3)), list[float])
    assert_type(fr.map(five, [1], ["b"], [b"c"], [1.5], [Path()]), list[tuple[int, Path]])
    assert_type(fr.map(total, numbers, numbers, numbers, numbers, numbers, numbers, numbers), list[int])
    assert_type(fr.map(total, *columns), list[int])

    # Whatever can be called.
    assert_type(fr.map(len, words), list[int])
    assert_type(fr.map(str.upper, words), list[str])
    assert_type(fr.map(scale, numbers), list[float])
    assert_type(fr.map(scale, numbers, [0.5]), list[float])
    assert_type(fr.map(functools.partial(add, b=1), numbers), list[float])
    assert_type(fr.map(functools.partial(scale, deep=True), numbers), list[float])
    assert_type(fr.map(Point(1).moved, numbers), list[Point])
    assert_type(fr.map(Point(1), [1.5]), list[str])
    assert_type(fr.map(Point, numbers), list[Point])
    assert_type(fr.map(Point, numbers, numbers), list[Point])
    assert_type(fr.map(Path, words), list[Path])
    assert_type(fr.map(int, words), list[int])
    assert_type(fr.map(lambda number: number / 2, numbers), list[float])
    assert_type(fr.map(lambda a, b: f"{a}{b}", numbers, words), list[str])
    assert_type(fr.map(lambda text: json.loads(text), words), list[Any])
    assert_type(fr.map(operator.neg, numbers), list[int])
    assert_type(fr.map(name, (number for number in numbers)), list[str])
    assert_type(fr.map(add, itertools.count(), numbers), list[float])

    # Coroutine functions.
    assert_type(fr.map(fetch, words), list[bytes])
    assert_type(fr.map(fetch_part, words, numbers, plan="processes"), list[bytes])
    assert_type(fr.map(functools.partial(fetch_part, part=1), words), list[bytes])

    # Options.
    assert_type(fr.map(name, numbers, plan=fr.Plan(2, 4), workers=3, timeout=1, progress=True), list[str])
    assert_type(fr.map(name, numbers, progress="names", task_timeout=1.5, retries=2), list[str])
    assert_type(fr.map(name, numbers, progress=show), list[str])
    assert_type(fr.map(name, numbers, on_error="return"), list[str | Exception])
    assert_type(fr.map(add, numbers, numbers, on_error="return"), list[float | Exception])
    assert_type(fr.map(fetch, words, on_error="return"), list[bytes | Exception])
    assert_type(fr.map(simulate, [1.5], on_error="return", seed=1), list[float | Exception])
    assert_type(fr.map(name, numbers, on_error="raise"), list[str])
    assert_type(fr.map(simulate, [1.5], seed=42), list[float])
    assert_type(fr.map(simulate, [1.5], seed=np.random.SeedSequence(1), chunksize=3), list[float])
    assert_type(fr.map(simulate_two, [1.5], numbers, seed=[1, 2]), list[float])
    assert_type(fr.map(lambda number, rng: number, numbers, seed=1), list[Any])
    assert_type(fr.map(name, numbers, seed=None), list[str])

    fr.map(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(add, numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(add, numbers, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(fetch, numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(simulate, [1.5])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(name, words, on_error="return")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(name, numbers, plan="fastest")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(name, numbers, workers="two")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(name, numbers, progress=name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.map(name, numbers, patience=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    fr.map(name)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    fr.map(3, numbers)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def on_error_of_a_variable(numbers: list[int], on_error: Literal["raise", "return"], seed: int | None) -> None:
    assert_type(fr.map(name, numbers, on_error=on_error), list[str | Exception] | list[str])
    fr.map(lambda number, rng=None: number, numbers, seed=seed)


def starmaps(numbers: list[int], words: list[str], rows: np.ndarray[Any, Any]) -> None:
    assert_type(fr.starmap(add, [(1, 2), (3, 4)]), list[float])
    assert_type(fr.starmap(add, zip(numbers, numbers)), list[float])
    assert_type(fr.starmap(lambda number, word: f"{number}{word}", enumerate(words)), list[str])
    assert_type(fr.starmap(five, zip([1], ["b"], [b"c"], [1.5], [Path()])), list[tuple[int, Path]])
    assert_type(fr.starmap(scale, zip(numbers, [1.5])), list[float])
    assert_type(fr.starmap(total, zip(numbers, numbers)), list[int])
    assert_type(fr.starmap(pow, itertools.product(numbers, numbers)), list[Any])
    assert_type(fr.starmap(Point, zip(numbers, numbers)), list[Point])
    assert_type(fr.starmap(add, [[1, 2], [3, 4]]), list[float])
    assert_type(fr.starmap(add, rows), list[float])
    assert_type(fr.starmap(fetch_part, zip(words, numbers)), list[bytes])
    assert_type(fr.starmap(fetch_part, zip(words, numbers), on_error="return"), list[bytes | Exception])
    assert_type(fr.starmap(add, zip(numbers, numbers), on_error="return"), list[float | Exception])
    assert_type(fr.starmap(simulate_two, zip([1.5], numbers), seed=1), list[float])

    fr.starmap(add, zip(numbers, words))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.starmap(add, zip(numbers))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.starmap(add, numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


def lazily(numbers: list[int], words: list[str]) -> None:
    assert_type(fr.imap(name, numbers), Generator[str, None, None])
    assert_type(fr.imap(name, itertools.count(), buffersize=10, chunksize=2), Generator[str, None, None])
    assert_type(fr.imap_unordered(add, numbers, numbers), Generator[float, None, None])
    assert_type(list(fr.imap_unordered(len, words, progress=True)), list[int])
    assert_type(next(fr.imap(simulate, [1.5], seed=1)), float)
    fr.imap(name, numbers).close()

    fr.imap(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fr.imap_unordered(add, numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fr.imap(name, numbers, on_error="return")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def in_asyncio(numbers: list[int], words: list[str], stream: AsyncIterator[int]) -> None:
    assert_type(await fr.amap(name, numbers), list[str])
    assert_type(await fr.amap(fetch, words, workers=10), list[bytes])
    assert_type(await fr.amap(add, numbers, numbers, progress=show), list[float])
    assert_type(await fr.amap(fetch, words, on_error="return"), list[bytes | Exception])
    assert_type(fr.aimap(name, numbers), AsyncGenerator[str, None])
    assert_type(fr.aimap(fetch, words), AsyncGenerator[bytes, None])
    assert_type(fr.aimap(add, stream, numbers), AsyncGenerator[float, None])
    async for result in fr.aimap(name, stream):
        assert_type(result, str)
    assert_type(await fr.Executor().submit(name, 1), str)

    await fr.amap(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await fr.amap(fetch, numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    fr.aimap(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


def executors(numbers: list[int], words: list[str]) -> None:
    with fr.Executor(4) as executor:
        assert_type(executor, fr.Executor)
        future = executor.submit(add, 1, b=2)
        assert_type(future, fr.Future[float])
        assert_type(future.result(), float)
        assert_type(future.exception(), BaseException | None)
        assert_type(executor.submit(len, "word").result(), int)
        assert_type(executor.submit(Point, 1, y=2).result(), Point)
        assert_type(executor.submit(lambda: "text").result(), str)
        future.add_done_callback(take_float)
        future.add_done_callback(take_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        executor.submit(add, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        executor.submit(add, 1, "two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        assert_type(executor.map(name, numbers), Generator[str, None, None])
        assert_type(list(executor.map(add, numbers, numbers, chunksize=3, progress=True)), list[float])
        assert_type(next(executor.map(simulate, [1.5], seed=1)), float)
        executor.map(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        urgent = executor.options(priority=1, task_timeout=2)
        assert_type(urgent.submit(name, 1), fr.Future[str])
        assert_type(list(urgent.map(name, numbers)), list[str])
        urgent.submit(name, "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        urgent.map(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(fr.ThreadPoolExecutor(2).submit(name, 1), fr.Future[str])
    assert_type(fr.ProcessPoolExecutor(2).submit(name, 1), fr.Future[str])


def take_float(future: fr.Future[float]) -> None: ...


def take_text(future: fr.Future[str]) -> None: ...


def pools(numbers: list[int], words: list[str]) -> None:
    with fr.Pool(2) as pool:
        assert_type(pool, fr.Pool)
        assert_type(pool.apply(name, (1,)), str)
        assert_type(pool.apply_async(add, (1,), {"b": 2}).get(), float)
        assert_type(pool.map(name, numbers), list[str])
        assert_type(pool.map_async(name, numbers).get(timeout=1), list[str])
        assert_type(pool.starmap(add, zip(numbers, numbers)), list[float])
        assert_type(pool.starmap(add, [[1, 2]]), list[float])
        assert_type(pool.starmap_async(add, [(1, 2)]).get(), list[float])
        assert_type(list(pool.imap(name, numbers)), list[str])
        assert_type(next(pool.imap_unordered(len, words)), int)
        pool.map(name, words)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pool.starmap(add, zip(numbers, words))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


class Job(fr.Thread[int]):
    def run(self) -> int:  # type: ignore[override]  # mypy holds it against threading.Thread, too
        return 1


class Errand(fr.Process):
    def run(self) -> str:  # type: ignore[override]
        return "done"


def threads_and_processes() -> None:
    thread = fr.Thread(target=name, args=(1,), daemon=True)
    assert_type(thread, fr.Thread[str])
    assert_type(thread.result(), str)
    assert_type(fr.Process(target=add, args=(1, 2)).result(timeout=1), float)
    assert_type(Job().result(), int)
    assert_type(Errand().result(), Any)
    fr.Thread(target=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def sharing(array: np.ndarray[tuple[int, int], np.dtype[np.float64]], tables: dict[str, list[int]]) -> None:
    assert_type(fr.share(array), np.ndarray[tuple[int, int], np.dtype[np.float64]])
    assert_type(fr.share(tables, writable=True), dict[str, list[int]])
    assert_type(fr.share(b"bytes"), memoryview)
    assert_type(fr.share(bytearray(3)), memoryview)


def others() -> None:
    assert_type(fr.report(), fr.Report)
    assert_type(fr.cpu_count(), int)
    assert_type(fr.Plan(2, 4).workers, int)
    make: Callable[..., Any] = fr.map
    make(name, [1])
