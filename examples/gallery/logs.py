"""Parses large access logs: which pages are asked for most, and how long they take.

    python examples/gallery/logs.py [LOG ...] [--chunk 4]

A task reads a range of bytes of one file and gives back counts, which are small: nothing is carried to a worker but
a path and two numbers. A line belongs to the range in which it begins, so each is read once, whatever the ranges are.
Regular expressions hold the GIL: expect worker processes. Without a log it writes one, and throws it away.

The format is the combined one of nginx and Apache with the time of the request, in seconds, at the end.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import forkright as fr

LINE = re.compile(rb'\S+ \S+ \S+ \[[^\]]*\] "[A-Z]+ (?P<path>[^ ?"]+)[^"]*" (?P<status>\d{3}) .* (?P<took>[\d.]+)')
ENDPOINTS = {"/": 40, "/search": 25, "/items/{}": 20, "/users/{}": 10, "/export": 5}


@dataclass
class Tally:
    """What was counted in a part of a log."""

    lines: int = 0
    unread: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    # For each endpoint: how many of its requests took so many milliseconds.
    times: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, other: Tally) -> None:
        self.lines += other.lines
        self.unread += other.unread
        self.paths.update(other.paths)
        self.failures.update(other.failures)
        for endpoint, times in other.times.items():
            self.times[endpoint].update(times)


def ranges(files: list[Path], size: int) -> Iterator[tuple[Path, int, int]]:
    """All files, cut into pieces of at most `size` bytes."""
    for file in files:
        end = file.stat().st_size
        for start in range(0, end, size):
            yield file, start, min(start + size, end)


def count(file: Path, start: int, end: int) -> Tally:
    """Counts the lines that begin within a range of bytes of a file."""
    tally = Tally()
    with file.open("rb") as log:
        if start:
            log.seek(start - 1)
            log.readline()  # the rest of a line that began before
        while log.tell() < end and (line := log.readline()):
            tally.lines += 1
            if not (match := LINE.match(line)):
                tally.unread += 1
                continue
            path = match["path"].decode("utf-8", "replace")
            endpoint = re.sub(r"/\d+", "/{}", path)
            tally.paths[path] += 1
            tally.times[endpoint][round(float(match["took"]) * 1000)] += 1
            if match["status"] >= b"500":
                tally.failures[endpoint] += 1
    return tally


def percentile(times: Counter[int], share: float) -> int:
    """The least time, in milliseconds, within which such a share of the requests was done."""
    missing = share * times.total()
    for took in sorted(times):
        missing -= times[took]
        if missing <= 0:
            return took
    raise ValueError("there are no requests")


def write_log(file: Path, megabytes: float, seed: int = 1) -> None:
    """A log for want of a real one; one line in a thousand is cut short, as by a full disk."""
    dice = random.Random(seed)
    endpoints, weights = list(ENDPOINTS), list(ENDPOINTS.values())
    with file.open("w") as log:
        for number, endpoint in enumerate(dice.choices(endpoints, weights, k=int(megabytes * 8000))):
            path = endpoint.format(int(dice.paretovariate(1.2)))
            took = dice.lognormvariate(-4 + endpoints.index(endpoint) / 2, 0.6)
            status = 503 if dice.random() < 0.004 else 200
            line = (
                f"10.0.{number % 7}.{number % 251} - - [27/Nov/2026:10:{number // 60 % 60:02}:{number % 60:02} +0000] "
                f'"GET {path} HTTP/1.1" {status} {dice.randrange(200, 90_000)} "-" "Mozilla/5.0" {took:.3f}'
            )
            log.write((line[:40] if dice.random() < 0.001 else line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Tells what was asked for, and how long it took.")
    parser.add_argument("log", type=Path, nargs="*", help="access logs; one is written if there is none")
    parser.add_argument("--chunk", type=float, default=2.0, help="megabytes that a task reads")
    parser.add_argument("--megabytes", type=float, default=48.0, help="size of the log to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = options.log
        if not files:
            files = [Path(scratch, "access.log")]
            write_log(files[0], options.megabytes)
        total = Tally()
        for part in fr.starmap(count, ranges(files, int(options.chunk * 1e6))):
            total.add(part)
    print(f"{total.lines:,} lines, {total.unread:,} of them not understood")
    for path, asked in total.paths.most_common(5):
        print(f"{asked:9,}  {path}")
    print("endpoint       requests   median      p95   failed")
    for endpoint, times in sorted(total.times.items(), key=lambda entry: -entry[1].total()):
        median, slow = percentile(times, 0.5), percentile(times, 0.95)
        failed = total.failures[endpoint] / times.total()
        print(f"{endpoint:12} {times.total():10,}  {median:4} ms  {slow:4} ms  {failed:6.2%}")
    print(fr.report())


if __name__ == "__main__":
    main()
