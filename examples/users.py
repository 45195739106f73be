"""Calls to a web API: a task waits 100 ms for an answer and computes next to nothing.

20 requests to an HTTP server on the loopback interface, which answers after a delay such as a network has. A
waiting thread needs neither a core nor the GIL. Expect threads, as many as there are requests, and about the
time of the slowest single one.
"""

import http.client
import json
import urllib.parse

import _server
import forkright as fr


def request(url: str) -> str:
    """Asks the API for one user; gives the name."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    try:
        connection.request("GET", address.path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{url} answered {answer.status} {answer.reason}")
        return str(json.load(answer)["name"])
    finally:
        connection.close()


def items() -> list[str]:
    """The addresses of 20 users, at a server that this call starts."""
    server = _server.start(delay=0.1, jitter=0.01)
    return [f"{server}/users/{number}" for number in range(20)]


if __name__ == "__main__":
    print(", ".join(fr.map(request, items())))
    print(fr.report())
