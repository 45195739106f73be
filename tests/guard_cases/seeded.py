"""Random numbers in a program that seeds the global generator."""

import random

from . import keep


def begin() -> None:
    random.seed(42)


@keep("draws from the global generator, which the program seeds")
def draws_seeded(number: int) -> float:
    return random.random() + number


@keep("samples from the global generator, which the program seeds")
def samples_seeded(number: int) -> list[int]:
    return random.sample(range(100), 2)
