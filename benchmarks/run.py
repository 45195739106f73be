"""Compares forkright with its peers and prints one table; `make bench` runs this. README.md says how to read it.

    python benchmarks/run.py [--quick] [--only NAME...] [--merge]

The contests are in `contests.py`. In each round every contestant has its turn, in an interpreter of its own, and each
round begins with another one; ratios are taken within a round, so that a slow minute meets both sides.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from typing import Any

import contests
import machine
import page
import peers
import picture
import store
from progress import say
from results import Results

# A quick run begins no contest after so many seconds.
QUICK_END = 240.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares forkright with its peers.")
    parser.add_argument("--quick", action="store_true", help="few rounds and few tasks: a trial of the benchmarks")
    names = [contest.name for contest in contests.CONTESTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--merge", action="store_true", help="put these contests into today's whole run")
    options = parser.parse_args()
    kind = store.kind(options.quick, options.only != names and not options.merge)
    absent = peers.missing()
    data: dict[str, Any] = {
        "form": 2,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": machine.describe(),
        "absent": absent,
        "left_out": [],
    }
    results = {name: Results(contest, kept) for name, contest, kept in earlier(data, kind)} if options.merge else {}
    began = time.monotonic()
    taken = []
    for contest in contests.CONTESTS:
        if contest.name not in options.only:
            continue
        if options.quick and time.monotonic() - began > QUICK_END:
            data["left_out"].append(contest.name)
            continue
        results[contest.name] = Results.take(contest, options.quick, absent)
        taken.append(results[contest.name])
    say("")
    ordered = [results[name] for name in names if name in results]
    written = page.page(data, ordered)
    print(written)
    directory = store.save("run", kind, data | {"contests": [result.data for result in ordered]}, written)
    picture.draw(ordered, f"forkright beside its peers, {data['date'][:10]}", directory / "growth.svg")
    print(f"kept in {directory.relative_to(machine.REPOSITORY)}")
    # A peer may fail; if forkright does, whoever runs this must notice.
    sys.exit(any(name.startswith(("fr.", "import forkright")) for result in taken for name in result.failures))


def earlier(data: dict[str, Any], kind: str) -> list[tuple[str, contests.Contest, dict[str, Any]]]:
    """The contests of today's run on this machine, as they were kept."""
    path = store.directory(kind, data) / "run.json"
    kept = {entry["contest"]: entry for entry in json.loads(path.read_text())["contests"]} if path.exists() else {}
    return [(contest.name, contest, kept[contest.name]) for contest in contests.CONTESTS if contest.name in kept]


if __name__ == "__main__":
    main()
