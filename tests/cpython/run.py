"""Runs CPython's tests of `concurrent.futures` on kinds of forkright's workers, and compares with `left_out`.

    python tests/cpython/run.py threads processes hybrid auto futures

Exits with 1 if a test fails that `left_out` doesn't name, or if one passes that it says fails.
"""

from __future__ import annotations

import faulthandler
import platform
import sys
import unittest
from collections import Counter

from test import support

# A test that hangs shows every thread's stack and ends the run.
WATCHDOG = 60
# The suite's own limits are 30 s and 5 min: a listed failure may wait that long each time.
support.SHORT_TIMEOUT = 10
support.LONG_TIMEOUT = 30
support.verbose = 0


class Watch(unittest.TestResult):
    """What became of one test."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        support.environment_altered = False
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        self.problems = [text for _, text in self.failures + self.errors]
        if not self.problems and support.environment_altered:
            self.problems = ["it left threads or processes behind: see the warnings above\n"]


def watch(case: type[unittest.TestCase], name: str) -> Watch:
    result = Watch()
    # A suite also runs what its module sets up.
    unittest.TestSuite([case(name)]).run(result)
    return result


def run(case: type[unittest.TestCase], name: str, fails: bool) -> str:
    """One test's outcome in a few words, printing what nobody expected."""
    result = watch(case, name)
    if result.problems and not fails:
        # The tests take sleeps for clocks, so they are run again on a busy machine, as CPython's own runner does.
        again = watch(case, name)
        if not again.problems:
            print(f"\n{case.__name__}.{name}: passed at the second try, after\n{result.problems[0]}")
            return "passed at the second try"
    if result.skipped:
        return "skipped by the suite"
    if bool(result.problems) == fails:
        return "failed as listed" if fails else "passed"
    print(f"\n{case.__name__}.{name}:\n{result.problems[0] if result.problems else 'it passes: left_out lists it'}")
    return "NOT AS LISTED"


def main(kinds: list[str]) -> int:
    import left_out
    from adapted import CASES

    as_listed = True
    for wanted in kinds:
        counts: Counter[str] = Counter()
        for (kind, family), case in CASES.items():
            if kind != wanted:
                continue
            fails = left_out.names(left_out.FAILS, kind, family)
            not_run = left_out.names(left_out.NOT_RUN, kind, family)
            for name in unittest.defaultTestLoader.getTestCaseNames(case):
                counts["not run" if name in not_run else run(case, name, name in fails)] += 1
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        print(f"{wanted} on CPython {platform.python_version()}: {words}", flush=True)
        as_listed = as_listed and counts["passed"] > 0 and not counts["NOT AS LISTED"]
    return 0 if as_listed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["threads", "processes", "hybrid", "auto", "futures"]))
