"""Writes and reads JSON, which holds the GIL."""

import json


def work(count: int) -> int:
    text = json.dumps([{"id": number, "name": f"n{number}"} for number in range(count)])
    return sum(entry["id"] for entry in json.loads(text))


def items(scale: float = 1.0) -> list[int]:
    return [int(20_000 * scale) + number for number in range(24)]
