"""Waits for a server that six requests at once keep busy, and that each further one slows down for all."""

from choice.workloads import server

work = server.example("users").request


def items(scale: float = 1.0) -> list[str]:
    return [f"{server.address('collapsing')}/users/{number}" for number in range(max(2, int(60 * scale)))]
