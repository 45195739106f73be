"""Waits for a web API, as examples/requests.py does, with a server on the loopback interface."""

from workloads import server

request = server.example("requests").request


def items() -> list[str]:
    """The addresses of 20 users."""
    return [f"{server.address()}/users/{number}" for number in range(20)]
