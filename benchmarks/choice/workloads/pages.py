"""Fetches pages from a server on the loopback interface and parses them, as examples/pages.py does."""

from choice.workloads import server

work = server.example("pages").fetch_and_parse


def items(scale: float = 1.0) -> list[str]:
    addresses = [f"{server.address()}/pages/{module}" for module in server.pages()] * 2
    return addresses[: max(2, int(len(addresses) * scale))]
