"""Runs CPython's tests on kinds of forkright's workers, and compares with `left_out`.

    python tests/cpython/run.py [KIND...] [--json FILE] [--only WORD]

Exits with 1 if a test fails that `left_out` doesn't name, or if one passes that it says fails. --json writes the counts
and what was not as listed; --only runs the tests whose name has the word.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import platform
import sys
import unittest
from collections import Counter
from pathlib import Path

from test import support

# A test that hangs shows every thread's stack and ends the run.
WATCHDOG = 60
# The suite's own limits are 30 s and 5 min: a listed failure may wait that long each time.
support.SHORT_TIMEOUT = 10
support.LONG_TIMEOUT = 30
support.verbose = 0


# Where the classes of each kind of worker come from.
KINDS = {
    "threads": "adapted",
    "processes": "adapted",
    "hybrid": "adapted",
    "auto-like-threads": "adapted",
    "auto-like-processes": "adapted",
    "futures": "adapted",
    "pool": "adapted_multiprocessing",
    "pool-threads": "adapted_multiprocessing",
    "pool-auto": "adapted_multiprocessing",
    "process": "adapted_multiprocessing",
    "thread": "adapted_threading",
}


class Watch(unittest.TestResult):
    """What became of one test."""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()

    @property
    def problems(self) -> list[str]:
        found = [text for _, text in self.failures + self.errors]
        if not found and support.environment_altered:
            return ["it left threads or processes behind: see the warnings above\n"]
        return found


def watch(case: type[unittest.TestCase], name: str) -> tuple[Watch, list[str]]:
    """Run one test; its problems."""
    result = Watch()
    support.environment_altered = False
    # A suite also runs what its class and its module set up and tear down.
    unittest.TestSuite([case(name)]).run(result)
    return result, result.problems


def run(case: type[unittest.TestCase], name: str, fails: bool) -> str:
    """One test's outcome in a few words, printing what nobody expected."""
    result, problems = watch(case, name)
    if problems and not fails:
        # The tests take sleeps for clocks, so they are run again on a busy machine, as CPython's own runner does.
        _, again = watch(case, name)
        if not again:
            print(f"\n{case.__name__}.{name}: passed at the second try, after\n{problems[0]}")
            return "passed at the second try"
    if result.skipped:
        return "skipped by the suite"
    if bool(problems) == fails:
        return "failed as listed" if fails else "passed"
    print(f"\n{case.__name__}.{name}:\n{problems[0] if problems else 'it passes: left_out lists it'}")
    return "NOT AS LISTED"


def main() -> int:
    import left_out

    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=list(KINDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    told: dict[str, dict[str, object]] = {}
    as_listed = True
    for wanted in arguments.kinds:
        counts: Counter[str] = Counter()
        wrong = []
        for (kind, family), case in importlib.import_module(KINDS[wanted]).CASES.items():
            if kind != wanted:
                continue
            fails = left_out.names(left_out.FAILS, kind, family)
            not_run = left_out.names(left_out.NOT_RUN, kind, family)
            for name in unittest.defaultTestLoader.getTestCaseNames(case):
                if arguments.only not in name:
                    continue
                outcome = "not run" if name in not_run else run(case, name, name in fails)
                counts[outcome] += 1
                if outcome == "NOT AS LISTED":
                    wrong.append(f"{family}.{name}")
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        print(f"{wanted} on CPython {platform.python_version()}: {words}", flush=True)
        told[wanted] = {"counts": counts, "not as listed": wrong}
        as_listed = as_listed and counts["passed"] > 0 and not wrong
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told))
    return 0 if as_listed else 1


if __name__ == "__main__":
    sys.exit(main())
