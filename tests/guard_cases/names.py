"""Globals, closure cells, defaults and arguments."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import keep, ledger, move

orders: list[int] = []
visits = 0
limit = 10
last_error = None
settings: dict[str, Any] = {"depth": 2, "steps": [1, 2, 3]}
note_order = orders.append
model = None
tables = None
started = False


@keep("appends to a list of its module")
def collects_orders(number: int) -> int:
    orders.append(number)
    return number + 1


@keep("counts in a global")
def counts_visits(number: int) -> int:
    global visits
    visits += 1
    return number


@keep("deletes a global and sets it again")
def replaces_global(number: int) -> int:
    global last_error
    del last_error
    last_error = number  # noqa: F841 - it is a global
    return number


@keep("sets a flag that the program waits for, not yet set")
def raises_flag(number: int) -> int:
    global started
    if not started:
        started = number > 100
    return number


@keep("calls a bound append that the module gave a name")
def collects_by_alias(number: int) -> None:
    note_order(number)


@keep("writes through a local alias of a global dict")
def changes_by_alias(number: int) -> int:
    options = settings
    options["depth"] = number
    return number


@keep("writes to a list inside a global dict")
def changes_inner_list(number: int) -> int:
    settings["steps"].append(number)
    return len(settings["steps"])


@keep("writes through globals()")
def writes_namespace(number: int) -> int:
    globals()["limit"] = number
    return number


@keep("writes to the namespace of its module by way of sys.modules")
def writes_module(number: int) -> int:
    sys.modules[__name__].__dict__["limit"] = number
    return number


@keep("sets a name in another module of the program")
def sets_other_module(number: int) -> int:
    ledger.latest = number
    return number


@keep("calls another module of the program, which appends to its list")
def calls_other_module(number: int) -> int:
    ledger.enter(number)
    return number


def _bump(where: dict[str, Any], by: int) -> None:
    where["depth"] += by


def _account(number: int) -> None:
    _bump(settings, number)


@keep("a helper of a helper changes the global that it is handed")
def changes_two_calls_down(number: int) -> int:
    _account(number)
    return number


def _settings() -> dict[str, Any]:
    return settings


@keep("changes the global that an accessor returns")
def changes_through_accessor(number: int) -> None:
    _settings().update(depth=number)


@keep("adds to a variable of the enclosing function", made=True)
def counts_in_closure() -> Callable[[int], int]:
    total = 0

    def add(number: int) -> int:
        nonlocal total
        total += number
        return number

    return add


@keep("a function two levels further in adds to the closure", made=True)
def counts_deep_in_closure() -> Callable[[int], int]:
    total = 0

    def outer(number: int) -> int:
        def middle() -> None:
            def inner() -> None:
                nonlocal total
                total += number

            inner()

        middle()
        return number

    return outer


@keep("appends to a captured list", made=True)
def collects_in_closure() -> Callable[[int], None]:
    found: list[int] = []
    return lambda number: found.append(number)


@keep("remembers in a default argument")
def remembers_in_default(number: int, seen: list[int] = []) -> int:
    seen.append(number)
    return len(seen)


@keep("remembers in a keyword-only default argument")
def remembers_in_keyword(number: int, *, seen: set[int] = set()) -> int:
    seen |= {number}
    return len(seen)


def _into(number: int, sink: list[int]) -> int:
    sink.append(number)
    return number


@keep("a partial holds the list that is changed", made=True)
def collects_through_partial() -> Callable[[int], int]:
    return partial(_into, sink=orders)


@keep("changes the dict that is its item", items=[{"n": n} for n in range(10)])
def marks_item(item: dict[str, int]) -> int:
    item["done"] = 1
    return item["n"]


@keep("changes a list inside its item", items=[{"tags": ["a"]} for _ in range(10)])
def tags_item(item: dict[str, list[str]]) -> int:
    for tags in item.values():
        tags.append("b")
    return len(item)


@keep("sorts its item in place", items=[[3, 1, 2] for _ in range(10)])
def sorts_item(item: list[int]) -> int:
    item.sort()
    return item[0]


@keep("takes the last element off its item, through a helper", items=[[3, 1, 2] for _ in range(10)])
def shortens_item(item: list[int]) -> int:
    def last(of: list[int]) -> int:
        return of.pop()

    return last(item)


@keep("sets a variable of the environment")
def sets_environment(number: int) -> None:
    os.environ["GUARD_CASE"] = str(number)


@keep("changes the working directory of the process")
def changes_directory(number: int) -> None:
    os.chdir(".")


@move("plain arithmetic")
def sums_squares(number: int) -> int:
    total = 0
    for i in range(number + 10):
        total += i * i ^ number
    return total


@move("reads globals and closes over its own variables")
def reads_limit(number: int) -> list[int]:
    found: list[int] = []
    best = 0

    def see(value: int) -> None:
        nonlocal best
        best = max(best, value)
        found.append(value)

    for i in range(limit):
        see(i * number % 7)
    return [best, *found]


@move("reads a captured list", made=True)
def reads_captured() -> Callable[[int], int]:
    weights = [3, 1, 4]
    return lambda number: weights[number % 3] + sum(weights)


@move("copies a global dict and changes the copy")
def changes_copy(number: int) -> list[str]:
    options = dict(settings)
    options["depth"] = number
    options.pop("steps")
    return sorted(options)


@move("copies its item before it changes it", items=[[3, 1, 2] for _ in range(10)])
def sorts_copy(item: list[int]) -> list[int]:
    item = list(item)
    item.sort()
    rest = item[1:]
    rest.append(item.pop())
    return rest + sorted(item)


@move("a local name hides a global one")
def hides_global(number: int) -> list[int]:
    orders = [number]
    orders.append(number + 1)
    return orders


@move("its own default is replaced by a fresh list")
def makes_default(number: int, into: list[int] | None = None) -> list[int]:
    if into is None:
        into = []
    into.append(number)
    return into


@move("unpacks its item", items=[(n, [n, 2, 3]) for n in range(10)])
def unpacks_item(item: tuple[int, list[int]]) -> int:
    first, (second, *others) = item
    first += 1
    second *= 2
    others.append(first)
    return first + second + len(others)


@move("takes the head of a global list and changes the fresh tail")
def takes_tail(number: int) -> list[int]:
    head, *tail = settings["steps"]
    tail.append(head + number)
    return tail


@move("loads a model once into a global")
def loads_model(number: int) -> int:
    return _model()[number]


def _model() -> dict[int, int]:
    global model
    if model is None:
        model = {i: i * 3 for i in range(100)}
    return model


@move("fills a global by `if not`, once")
def loads_tables(number: int) -> int:
    global tables
    if not tables:
        tables = [i**2 for i in range(100)]
    return tables[number]


@move("keeps a table on the function, once")
def keeps_table(number: int) -> int:
    if not hasattr(keeps_table, "table"):
        keeps_table.table = [i**3 for i in range(100)]
    return keeps_table.table[number]


@move("a helper of another module that only reads")
def calls_reader(number: int) -> int:
    return ledger.scaled(number)
