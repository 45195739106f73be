"""Random numbers in a program that never sets where they begin."""

import random
from typing import Any

from . import keep, move

dice = random.Random()


@keep("draws from a generator of its module")
def rolls(number: int) -> int:
    return dice.randrange(6) + number


@keep("shuffles a global list with a generator of its own")
def shuffles_global(number: int) -> int:
    random.Random(number).shuffle(deck)
    return deck[0]


deck = list(range(52))


@move("draws from the generator of the random module")
def draws(number: int) -> float:
    return random.random() + random.choice([1, 2]) + number


@move("a generator made from the item")
def simulates(number: int) -> list[float]:
    own = random.Random(number)
    values = [own.random() for _ in range(5)]
    own.shuffle(values)
    return values


class Walk:
    def __init__(self, number: int) -> None:
        self.dice = random.Random(number)
        self.path = [0]

    def step(self) -> None:
        self.path.append(self.path[-1] + self.dice.choice((-1, 1)))


@move("an object with a generator of its own")
def strolls(number: int) -> Any:
    walk = Walk(number)
    for _ in range(5):
        walk.step()
    return walk.path
