"""Fetch and parse: every task waits 50 ms for a web page, then computes about 25 ms with the GIL held.

The pages are the documentation of the standard library, as `pydoc` writes it, from an HTTP server on the
loopback interface. Threads overlap the waiting but take turns at parsing; processes parse side by side, but
one per core is too few to overlap the waiting. Expect processes with threads inside, ahead of either alone.
"""

import html.parser
import http.client
import urllib.parse

import _server
import forkright as fr

MODULES = [
    "argparse",
    "calendar",
    "ftplib",
    "ipaddress",
    "logging",
    "optparse",
    "pathlib",
    "tarfile",
    "threading",
]


class Outline(html.parser.HTMLParser):
    """Collects what a search index wants of a page: its title, its words, where it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.words: set[str] = set()
        self.links: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        self.words.update(data.lower().split())


def fetch_and_parse(url: str) -> tuple[str, int, int]:
    """Gets one page; gives its title, how many different words it has and how many links."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    try:
        connection.request("GET", address.path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{url} answered {answer.status} {answer.reason}")
        page = answer.read().decode()
    finally:
        connection.close()
    outline = Outline()
    outline.feed(page)
    outline.close()
    return outline.title.strip(), len(outline.words), len(outline.links)


def items() -> list[str]:
    """The addresses of nine pages, each visited four times, at a server that this call starts."""
    server = _server.start(delay=0.05, jitter=0.005, pages=MODULES)
    return [f"{server}/pages/{module}" for module in MODULES] * 4


if __name__ == "__main__":
    for title, words, links in sorted(set(fr.map(fetch_and_parse, items()))):
        print(f"{title:32} {words:5} words {links:4} links")
    print(fr.report())
