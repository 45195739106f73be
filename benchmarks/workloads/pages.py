"""Fetches pages and parses them, as examples/pages.py does, with a server on the loopback interface."""

from workloads import server

fetch_and_parse = server.example("pages").fetch_and_parse


def items() -> list[str]:
    """The addresses of nine pages, each visited twice."""
    return [f"{server.address()}/pages/{module}" for module in server.pages()] * 2
