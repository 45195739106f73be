"""Waits for a server that works on six requests at once and lets others queue: more than six threads gain nothing."""

from choice.workloads import server

work = server.example("users").request


def items(scale: float = 1.0) -> list[str]:
    return [f"{server.address('queueing')}/users/{number}" for number in range(max(2, int(60 * scale)))]
