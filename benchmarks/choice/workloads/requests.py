"""Waits for a web API on the loopback interface, as examples/users.py does."""

from choice.workloads import server

work = server.example("users").request


def items(scale: float = 1.0) -> list[str]:
    return [f"{server.address()}/users/{number}" for number in range(max(2, int(20 * scale)))]
