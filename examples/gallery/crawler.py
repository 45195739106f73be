"""A crawler with manners: no host gets more than a few requests at a time, or without a pause, or against its
robots.txt.

    python examples/gallery/crawler.py [URL] [--at-once 2] [--pause 0.05] [--pages 200]

Without a URL it crawls a site of three hosts that it serves itself. One thread keeps the manners: it knows when each
host may be asked again, and submits a page only then. The tasks know nothing of it: they fetch a page, read it and
give back its links, on whatever worker. Fetching waits and parsing holds the GIL, so the executor may take threads,
processes or both; its report tells which, and why.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import urllib.parse
import urllib.request
import urllib.robotparser
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import _site

import forkright as fr

AGENT = "forkright-example"


class Page(NamedTuple):
    """What a task found: one page, and the pages it links to."""

    title: str
    links: list[str]


class Outline(HTMLParser):
    """The title and the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "title":
            self.title += data


def visit(url: str) -> Page:
    """Fetches a page and reads it."""
    request = urllib.request.Request(url, headers={"User-Agent": AGENT})
    with urllib.request.urlopen(request, timeout=10) as answer:
        outline = Outline()
        outline.feed(answer.read().decode("utf-8", "replace"))
    absolute = (urllib.parse.urldefrag(urllib.parse.urljoin(url, link)).url for link in outline.links)
    return Page(outline.title, sorted({link for link in absolute if link.startswith(("http://", "https://"))}))


@dataclass
class Host:
    """A host, what is to be asked of it, and when it may be asked."""

    rules: urllib.robotparser.RobotFileParser
    at_once: int
    pause: float
    waiting: deque[str] = field(default_factory=deque)
    open: int = 0
    free_at: float = 0.0

    def is_free(self, now: float) -> bool:
        return bool(self.waiting) and self.open < self.at_once and now >= self.free_at


def meet(url: str, at_once: int, pause: float) -> Host:
    """Asks a host for its robots.txt; a pause that it wants there is kept, one request at a time."""
    rules = urllib.robotparser.RobotFileParser(urllib.parse.urljoin(url, "/robots.txt"))
    rules.read()
    delay, rate = rules.crawl_delay(AGENT), rules.request_rate(AGENT)
    wanted = max(float(delay or 0), rate.seconds / rate.requests if rate else 0.0)
    return Host(rules, 1, max(pause, wanted)) if wanted else Host(rules, at_once, pause)


def crawl(start: str, most: int, at_once: int, pause: float) -> tuple[dict[str, Page | Exception], fr.Report]:
    """The pages that can be reached from `start`, or why they could not be fetched, and how it went."""
    hosts: dict[str, Host] = {}
    found: dict[str, Page | Exception] = {}
    known: set[str] = set()

    def consider(url: str) -> None:
        """Has a page wait for its turn, unless it is known or forbidden."""
        name = urllib.parse.urlsplit(url).netloc
        if url in known or len(known) == most:
            return
        if name not in hosts:
            hosts[name] = meet(url, at_once, pause)
        if hosts[name].rules.can_fetch(AGENT, url):
            known.add(url)
            hosts[name].waiting.append(url)

    consider(start)
    under_way: dict[Future[Page], tuple[Host, str]] = {}
    with fr.Executor(max_workers=32) as executor:
        while under_way or any(host.waiting for host in hosts.values()):
            now = time.monotonic()
            for host in hosts.values():
                if host.is_free(now):
                    url = host.waiting.popleft()
                    host.open += 1
                    host.free_at = now + host.pause
                    under_way[executor.submit(visit, url)] = host, url
            pauses = [host.free_at - now for host in hosts.values() if host.waiting and host.open < host.at_once]
            soon = max(0.0, min(pauses)) if pauses else None
            if not under_way:
                time.sleep(soon or 0.0)
                continue
            for future in wait(under_way, soon, FIRST_COMPLETED).done:
                host, url = under_way.pop(future)
                host.open -= 1
                host.free_at = time.monotonic() + host.pause
                error = future.exception()
                if isinstance(error, (OSError, ValueError)):  # no such page, no answer, no such address
                    found[url] = error
                    continue
                found[url] = future.result()
                for link in future.result().links:
                    consider(link)
        return found, executor.report()


def main() -> None:
    parser = argparse.ArgumentParser(description="Crawls a site, politely.")
    parser.add_argument("url", nargs="?", help="where to begin; a site is served here if there is none")
    parser.add_argument("--at-once", type=int, default=4, help="requests that a host gets at a time, at most")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests to a host, at least")
    parser.add_argument("--pages", type=int, default=120, help="pages to fetch, at most")
    parser.add_argument("--size", type=int, default=60, help="pages of each host of the site that is served here")
    parser.add_argument("--log", type=Path, help="where the site that is served here writes its access log")
    options = parser.parse_args()
    if options.url:
        found, report = crawl(options.url, options.pages, options.at_once, options.pause)
    else:
        with (
            tempfile.TemporaryDirectory() as scratch,
            _site.site(options.log or Path(scratch, "access.log"), pages=options.size, delay=0.05) as start,
        ):
            found, report = crawl(start, options.pages, options.at_once, options.pause)
    pages = [page for page in found.values() if isinstance(page, Page)]
    links = sum(len(page.links) for page in pages)
    print(f"{len(pages)} pages of {len({urllib.parse.urlsplit(url).netloc for url in found})} hosts, {links} links")
    for url, error in found.items():
        if isinstance(error, Exception):
            print(f"{url}: {error}")
    print(report)


if __name__ == "__main__":
    main()
