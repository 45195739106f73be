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
# The suite's own limits are 30 s and 5 min: here a listed failure waits that long each time.
support.SHORT_TIMEOUT = 10
support.LONG_TIMEOUT = 30
support.verbose = 0


class Comparison(unittest.TestResult):
    """Counts what was expected, and words what was not."""

    def __init__(self, kind: str, family: str, failing: frozenset[str], counts: Counter[str]) -> None:
        super().__init__()
        self._place = f"{kind}.{family}"
        self._failing = failing
        self._counts = counts
        self._problem: str | None = None
        self._skipped = False

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)
        self._problem = None
        self._skipped = False
        support.environment_altered = False

    def addError(self, test: unittest.TestCase, err: object) -> None:
        super().addError(test, err)  # type: ignore[arg-type]
        self._problem = self.errors[-1][1]

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        super().addFailure(test, err)  # type: ignore[arg-type]
        self._problem = self.failures[-1][1]

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        super().addSubTest(test, subtest, err)  # type: ignore[arg-type]
        if err is not None:
            self._problem = (self.failures + self.errors)[-1][1]

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._skipped = True

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        name = test.id().rpartition(".")[2]
        if self._problem is None and support.environment_altered:
            self._problem = "it left threads or processes behind: see the warnings above\n"
        if self._skipped:
            self._counts["skipped by the suite"] += 1
        elif (self._problem is None) == (name not in self._failing):
            self._counts["failed as listed" if self._problem else "passed"] += 1
        else:
            self._counts["NOT AS LISTED"] += 1
            problem = self._problem or "it passes now: take it out of left_out.py\n"
            print(f"\n{self._place}.{name}:\n{problem}", flush=True)


def run(kind: str, family: str, case: type[unittest.TestCase], counts: Counter[str]) -> None:
    import left_out

    unrun = left_out.names(left_out.NOT_RUN, kind, family)
    names = unittest.defaultTestLoader.getTestCaseNames(case)
    counts["not run"] += len(unrun.intersection(names))
    suite = unittest.TestSuite(case(name) for name in names if name not in unrun)
    suite.run(Comparison(kind, family, left_out.names(left_out.FAILS, kind, family), counts))


def main(kinds: list[str]) -> int:
    from adapted import CASES

    surprised = False
    for wanted in kinds:
        counts: Counter[str] = Counter()
        for (kind, family), case in CASES.items():
            if kind == wanted:
                run(kind, family, case, counts)
        words = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        print(f"{wanted} on CPython {platform.python_version()}: {words}", flush=True)
        surprised = surprised or counts["NOT AS LISTED"] > 0 or counts["passed"] == 0
    return int(surprised)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["threads", "processes", "hybrid", "auto", "futures"]))
