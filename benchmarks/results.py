"""Takes a contest's figures, round by round, and gives those of a row, paired by the round they were taken in."""

from __future__ import annotations

import datetime
from typing import Any

import launch
import machine
import peers
from contest import Contest, Row, Series
from progress import say

# Peers beyond the standard library take part in so many rounds: they are slow, and far from what is promised.
GUESTS_ROUNDS = (3, 1)


class Results:
    """Every figure of one contest: by contestant, by round, by name."""

    def __init__(self, contest: Contest, data: dict[str, Any]) -> None:
        self.contest = contest
        self.data = data
        self.failures: dict[str, str] = data["failures"]
        self.found: dict[str, list[dict[str, list[float]]]] = data["figures"]

    @classmethod
    def take(cls, contest: Contest, quick: bool, absent: list[str]) -> Results:
        """Runs all rounds. Who fails once is out, and the table says so."""
        request = {"measure": contest.measure, "size": contest.size[quick], "repeats": contest.repeats[quick]}
        data: dict[str, Any] = {
            "contest": contest.name,
            **request,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": machine.commit(),
            "load": machine.load(),
            "failures": {},
        }
        taking_part = [name for name in contest.contestants if peers.package(name) not in absent]
        data["figures"] = {name: [] for name in taking_part}
        results = cls(contest, data)
        for round_ in range(contest.rounds[quick]):
            first = round_ % max(len(taking_part), 1)
            for name in taking_part[first:] + taking_part[:first]:
                guest = peers.package(name) in peers.EXTRA and round_ >= GUESTS_ROUNDS[quick]
                if name not in results.failures and not guest:
                    say(f"{contest.name}: round {round_ + 1} of {contest.rounds[quick]}: {name}")
                    results._visit(name, request)
        for name in results.failures:
            del results.found[name]
        return results

    def _visit(self, name: str, request: dict[str, Any]) -> None:
        try:
            if request["measure"] == "interpreter":
                pairs = [(launch.clock(name), launch.clock("pass")) for _ in range(request["repeats"])]
                found = {"whole": [whole for whole, _ in pairs], "bare": [bare for _, bare in pairs]}
            else:
                fewer = peers.FEWER.get(peers.package(name), 1) if self.contest.of == "tasks" else 1
                size = request["size"] // fewer
                found = launch.ask("visit.py", request | {"contestant": name, "size": size})["figures"]
        except launch.Failure as failure:
            self.failures[name] = str(failure)
        else:
            # Nanoseconds are enough.
            self.found[name].append({what: [round(value, 9) for value in values] for what, values in found.items()})

    def figures(self, series: Series, row: Row) -> list[list[float]]:
        """The figures of a series, for each round; empty if its contestant has none."""
        rounds = [list(row.reduce(found[series.figure])) for found in self.found.get(series.contestant, [])]
        if row.without is None:
            return rounds
        bare = [row.reduce(found[row.without]) for found in self.found.get(series.contestant, [])]
        return [[value - other for value, other in zip(*pair, strict=True)] for pair in zip(rounds, bare, strict=True)]

    def ratios(self, row: Row, peer: Series) -> list[float]:
        """Those of the rounds in which both took part; none of what has no ratio, since one of them cost nothing."""
        upper, lower = (row.ours, peer) if row.cost else (peer, row.ours)
        return [
            over / under
            for rounds in zip(self.figures(upper, row), self.figures(lower, row), strict=False)
            for over, under in zip(*rounds, strict=True)
            if under
        ]
