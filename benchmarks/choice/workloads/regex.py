"""Searches text with a regular expression, which holds the GIL."""

import re

PATTERN = re.compile(r"(\w+)@(\w+)\.com")


def work(count: int) -> int:
    text = " ".join(f"user{number}@host{number}.com or not" for number in range(count))
    return len(PATTERN.findall(text))


def items(scale: float = 1.0) -> list[int]:
    return [int(15_000 * scale) + number for number in range(24)]
