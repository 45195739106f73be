"""Calls that are not written as calls of a name: tables, decorators, callbacks, generators, coroutines."""

import ast
import asyncio
import contextlib
import functools
import html.parser
import json
import operator
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import keep, move

log: list[Any] = []


def _noop(number: int) -> int:
    return number


def _record(number: int) -> int:
    log.append(number)
    return number


HANDLERS = {"noop": _noop, "record": _record}


@keep("picks from a table of functions, one of which writes")
def dispatches(number: int) -> int:
    return HANDLERS["record" if number % 2 else "noop"](number)


@keep("either of two functions, one of which writes")
def chooses(number: int) -> int:
    act = _noop if number % 2 else _record
    return act(number)


class Desk:
    def __init__(self) -> None:
        self.calls = 0

    def open(self, number: int) -> int:
        self.calls += 1
        return number

    def answer(self, number: int) -> int:
        return getattr(self, f"on_{'even' if number % 2 == 0 else 'odd'}")(number)

    def on_even(self, number: int) -> int:
        self.calls += 1
        return number

    def on_odd(self, number: int) -> int:
        return -number


desk = Desk()
METHODS = {"open": desk.open}


@keep("fetches a bound method from a dict with get")
def fetches_method(number: int) -> Any:
    method = METHODS.get("open")
    return method and method(number)


@keep("getattr with a name made on the way")
def asks_desk(number: int) -> int:
    return desk.answer(number)


CODE = "log.append(number)"


@keep("exec of a string")
def executes(number: int) -> int:
    exec(CODE)
    return number


@keep("a callback of re.sub writes")
def substitutes(number: int) -> str:
    return re.sub(r"\d", lambda match: log.append(match.group()) or "x", str(number))


@keep("a key function writes")
def sorts_with_key(number: int) -> list[int]:
    return sorted([3, number], key=_record)


@keep("reduce is handed a function that writes")
def reduces(number: int) -> int:
    return functools.reduce(lambda left, right: _record(left + right), [1, 2, number])


def _pipeline(*steps: Callable[[int], int]) -> Callable[[int], int]:
    def run(number: int) -> int:
        for step in steps:
            number = step(number)
        return number

    return run


@keep("one step of a composed pipeline writes", made=True)
def composes() -> Callable[[int], int]:
    return _pipeline(_noop, _record)


@functools.singledispatch
def _show(thing: object) -> object:
    return thing


@_show.register
def _(thing: int) -> int:
    log.append(thing)
    return thing


@keep("an implementation of a singledispatch function writes")
def shows(number: int) -> object:
    return _show(number)


@contextlib.contextmanager
def _noted(number: int) -> Iterator[int]:
    log.append(number)
    yield number


@keep("a contextmanager's generator writes")
def notes_context(number: int) -> int:
    with _noted(number) as same:
        return same


def _noting(number: int) -> Iterator[int]:
    for i in range(number % 3):
        log.append(i)
        yield i


@keep("a generator of the program writes while it is consumed")
def consumes_generator(number: int) -> int:
    return sum(_noting(number))


async def _work(number: int) -> int:
    log.append(number)
    return number


@keep("a coroutine writes")
def runs_coroutine(number: int) -> int:
    return asyncio.run(_work(number))


@keep("a thread that it starts writes")
def starts_thread(number: int) -> None:
    thread = threading.Thread(target=lambda: log.append(number))
    thread.start()
    thread.join()


@keep("a pool of its own runs a bound append")
def uses_pool(number: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(log.append, [number]))


class Names(ast.NodeVisitor):
    def visit_Name(self, node: ast.Name) -> None:
        log.append(node.id)


@keep("a visitor that the standard library calls back writes")
def visits(number: int) -> None:
    Names().visit(ast.parse(f"a{number} + b"))


class Links(html.parser.HTMLParser):
    def handle_starttag(self, tag: str, attrs: Any) -> None:
        log.append(tag)


@keep("a handler of an HTML parser writes")
def parses_links(number: int) -> None:
    Links().feed(f"<a{number}>")


class Encoder(json.JSONEncoder):
    def default(self, thing: object) -> str:
        log.append(thing)
        return str(thing)


@keep("an encoder class handed to json writes")
def encodes(number: int) -> str:
    return json.dumps({"x": complex(number)}, cls=Encoder)


@keep("the caller passes on whatever it is given, and the end writes")
def passes_on(*arguments: int, **options: Any) -> int:
    def forward(*more: int, **others: Any) -> int:
        return _record(*more, **others)

    return forward(*arguments, **options)


depth = {"now": 0}


@keep("recursion that counts its depth in a global")
def recurses(number: int) -> int:
    depth["now"] += 1
    try:
        return 0 if number < 2 else recurses(number // 2)
    finally:
        depth["now"] -= 1


@move("a table of functions that only compute")
def computes_from_table(number: int) -> int:
    return {"add": operator.add, "mul": operator.mul}["add" if number % 2 else "mul"](number, 3)


def _retried(times: int) -> Callable[[Callable[[int], int]], Callable[[int], int]]:
    def decorate(function: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(function)
        def wrapper(*arguments: int) -> int:
            failure: Exception = ValueError()
            for _ in range(times):
                try:
                    return function(*arguments)
                except ValueError as error:
                    failure = error
            raise failure

        return wrapper

    return decorate


@move("a retry decorator", made=True)
def retries() -> Callable[[int], int]:
    return _retried(3)(lambda number: int(str(number)) + 1)


@move("a visitor that collects into itself")
def visits_itself(number: int) -> list[str]:
    class Own(ast.NodeVisitor):
        def __init__(self) -> None:
            self.names: list[str] = []

        def visit_Name(self, node: ast.Name) -> None:
            self.names.append(node.id)

    own = Own()
    own.visit(ast.parse(f"a{number} + b"))
    return own.names


class Collector(ast.NodeVisitor):
    def __init__(self) -> None:
        self.names: list[str] = []

    def visit_Name(self, node: ast.Name) -> None:
        self.names.append(node.id)


@move("a visitor of the module that collects into itself")
def visits_collector(number: int) -> list[str]:
    collector = Collector()
    collector.visit(ast.parse(f"a{number} + b"))
    return collector.names


@move("an event loop of its own")
def gathers(number: int) -> list[int]:
    async def one(i: int) -> int:
        await asyncio.sleep(0)
        return i * number

    async def all_of_them() -> list[int]:
        out = []
        for result in await asyncio.gather(*(one(i) for i in range(3))):
            out.append(result)
        return out

    return asyncio.run(all_of_them())


@move("lambdas, sorted, min and max over its own data")
def ranks(number: int) -> Any:
    things = [(number, "a"), (3, "b")]
    things.sort(key=lambda thing: thing[0])
    return max(things, key=operator.itemgetter(0)), min(t[0] for t in things)


@move("json there and back")
def speaks_json(number: int) -> Any:
    return json.loads(json.dumps({"a": number, "b": [number] * 3}))["b"].pop()


@move("regular expressions, whose module caches what it compiles")
def matches_text(number: int) -> str:
    return re.sub(r"(\d)(\d)", r"\2\1", str(number * 37)) + str(bool(re.match("1", str(number))))


@move("recursion over fresh lists")
def walks(number: int) -> list[int]:
    def walk(left: int, found: list[int]) -> list[int]:
        found.append(left)
        return walk(left - 1, found) if left > 0 else found

    return walk(number % 6, [])
