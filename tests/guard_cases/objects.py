"""Attributes, methods, properties, operators and classes."""

import dataclasses
import enum
import types
from collections import namedtuple
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

from . import keep, move

journal: list[Any] = []


class Account:
    def __init__(self) -> None:
        self.balance = 0
        self.history: dict[int, int] = {}

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return amount

    def enter(self, number: int) -> int:
        self.history[number] = number
        return number

    def doubled(self) -> int:
        return self.balance * 2


accounts = [Account(), Account()]
holder = types.SimpleNamespace(last=None)


@keep("assigns an attribute of a captured object", made=True)
def adds_to_captured() -> Callable[[int], int]:
    account = Account()

    def add(number: int) -> int:
        account.balance += number
        return number

    return add


@keep("is a bound method that writes to its object", made=True)
def is_bound_method() -> Callable[[int], int]:
    return Account().enter


@keep("calls a method of each object in a global list")
def pays_everyone(number: int) -> int:
    for account in accounts:
        account.deposit(number)
    return number


@keep("its item's own method changes the item", items=[Account() for _ in range(10)])
def pays_item(account: Account) -> int:
    account.deposit(5)
    return account.doubled()


@keep("setattr on a global object")
def sets_by_name(number: int) -> None:
    setattr(holder, "last", number)


@keep("deletes an attribute that it sets before")
def deletes_attribute(number: int) -> None:
    holder.extra = number
    del holder.extra


class Numbered:
    made = 0

    def __init__(self, number: int) -> None:
        Numbered.made += 1
        self.number = number


@keep("counts its instances on the class")
def counts_instances(number: int) -> int:
    return Numbered(number).number


class Listed:
    everyone: list[Any] = []

    def __init__(self, number: int) -> None:
        self.everyone.append(number)


@keep("enters each instance in a list of the class, through self")
def lists_instances(number: int) -> Listed:
    return Listed(number)


class Tally:
    seen = 0

    def see(self, number: int) -> int:
        type(self).seen += 1
        return number


@keep("counts on type(self)")
def counts_on_type(number: int) -> int:
    return Tally().see(number)


class Base:
    def __init__(self) -> None:
        self.queue: list[int] = []

    def put(self, number: int) -> None:
        self.queue.append(number)


class Derived(Base):
    def put(self, number: int) -> None:
        super().put(number * 2)


@keep("the method of the base class writes to a captured object", made=True)
def puts_through_super() -> Callable[[int], None]:
    derived = Derived()

    def put(number: int) -> None:
        derived.put(number)

    return put


class Wrapper:
    def __init__(self, target: list[Any]) -> None:
        self.target = target

    def push(self, number: int) -> None:
        self.target.append(number)


@keep("a wrapper made per call holds a global list")
def pushes_through_wrapper(number: int) -> None:
    Wrapper(journal).push(number)


@keep("wrappers in a local list hold a global list")
def pushes_through_wrappers(number: int) -> None:
    for wrapper in [Wrapper(journal)]:
        wrapper.push(number)


class Slotted:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


slots = [Slotted() for _ in range(4)]


@keep("writes to a slot of an object in a list")
def counts_in_slot(number: int) -> int:
    slots[number % 4].count += 1
    return number


class Link:
    def __init__(self, number: int) -> None:
        self.number = number
        self.next: Link | None = None


head = Link(0)


@keep("adds to the end of a linked list")
def links(number: int) -> int:
    link = head
    while link.next:
        link = link.next
    link.next = Link(number)
    return number


@keep("writes to the __dict__ of a captured object", made=True)
def updates_dict() -> Callable[[int], None]:
    account = Account()

    def update(number: int) -> None:
        vars(account).update(balance=number)

    return update


@keep("counts in the attribute of a function, by a decorator", made=True)
def counts_calls() -> Callable[[int], int]:
    def counted(function: Callable[[int], int]) -> Callable[[int], int]:
        def wrapper(number: int) -> int:
            wrapper.calls += 1  # type: ignore[attr-defined]
            return function(number)

        wrapper.calls = 0  # type: ignore[attr-defined]
        return wrapper

    return counted(lambda number: number * 3)


class Machine:
    def __init__(self, seed: int) -> None:
        self.state = seed
        self.log: list[int] = []

    def step(self) -> "Machine":
        self.state = self.state * 1103515245 % 2**31
        self.log.append(self.state)
        return self

    @property
    def mean(self) -> float:
        return sum(self.log) / len(self.log)


@move("an object made by the call, whose methods write to it")
def runs_machine(number: int) -> float:
    machine = Machine(number)
    for _ in range(5):
        machine.step()
    return machine.mean


@move("reads the attributes of its item", items=[Account() for _ in range(10)])
def reads_item(account: Account) -> int:
    found = [account.balance]
    found.append(account.doubled())
    return sum(found)


@dataclasses.dataclass
class Point:
    x: int
    y: int

    def moved(self, by: int) -> "Point":
        copy = dataclasses.replace(self)
        copy.x += by
        return copy


origin = Point(0, 0)


@move("changes a copy made by dataclasses.replace")
def moves_copy(number: int) -> int:
    return origin.moved(number).x


@dataclasses.dataclass
class Survey:
    seen: dict[int, int] = dataclasses.field(default_factory=dict)
    order: list[int] = dataclasses.field(default_factory=list)


@move("changes what a dataclass made for a field of a fresh object")
def surveys(number: int) -> list[int]:
    survey = Survey()
    survey.seen[number] = number
    survey.order.append(number)
    return survey.order


common = Survey()


@keep("changes what a dataclass made for a field of a global object")
def surveys_for_all(number: int) -> None:
    common.order.append(number)


class Table:
    def __init__(self, size: int) -> None:
        self.size = size

    @cached_property
    def squares(self) -> list[int]:
        return [i * i for i in range(self.size)]

    @cache
    def power(self, number: int) -> int:
        return 1 if number == 0 else 2 * self.power(number - 1)


table = Table(50)


@move("a cached_property of a global object fills itself")
def reads_squares(number: int) -> int:
    return table.squares[number] + Table(number + 1).squares[0]


@move("lru_cache on a method")
def reads_power(number: int) -> int:
    return table.power(number % 20)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


Place = namedtuple("Place", "x y")


@move("match, enums and named tuples")
def matches(number: int) -> Any:
    match Place(number % 3, number):
        case Place(x=0, y=y):
            return Colour.RED.value + y
        case Place(x=1):
            return Colour["BLUE"].name
        case _:
            return Place(1, 2)._replace(x=3)


class Globe:
    RADIUS = 6371.0

    @staticmethod
    def square(x: float) -> float:
        return x * x

    @classmethod
    def scaled(cls, by: int) -> "Globe":
        globe = cls()
        globe.radius = cls.RADIUS * by
        return globe


@move("class constants, static and class methods")
def measures(number: int) -> float:
    return Globe.square(Globe.scaled(number).radius)


@move("a class made within the function")
def makes_class(number: int) -> int:
    class Node:
        def __init__(self, value: int) -> None:
            self.value = value
            self.below: list[Node] = []

        def add(self, node: "Node") -> "Node":
            self.below.append(node)
            return self

    node = Node(number).add(Node(1))
    node.value += 1
    return node.value + len(node.below)


class Parser:
    def __init__(self, text: str) -> None:
        self.tokens = list(text)
        self.position = 0

    def next(self) -> str:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def total(self) -> int:
        value = int(self.next())
        while self.position < len(self.tokens):
            self.next()
            value += int(self.next())
        return value


@move("a parser object made by the call")
def parses(number: int) -> int:
    return Parser(f"{number % 10}+2+3").total()
