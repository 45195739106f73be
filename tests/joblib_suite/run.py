"""Runs joblib's own `test_parallel` with forkright's backend wherever it says loky; `make test-joblib` runs this.

    python tests/joblib_suite/run.py [--keep] [ARGUMENT OF PYTEST...]

The suite is the one that the installed joblib brings, and is not edited: the backend takes loky's name before it is
imported. What `left_out` names has to fail. --keep writes the counts into docs/joblib.md. Exits with 1 if a test fails
that `left_out` doesn't name, or if one passes that it does.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import joblib
import joblib._parallel_backends
import pytest
from left_out import LEFT_OUT, reason

from forkright.joblib import ForkrightBackend

PAGE = Path(__file__).parents[2] / "docs" / "joblib.md"
# What stands between these is ours to write.
PLACE = re.compile(r"(<!-- joblib_suite -->\n).*?(<!-- end -->)", re.DOTALL)


class Watch:
    """Marks what is left out, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if why := reason(item.name):
                item.add_marker(pytest.mark.xfail(reason=why, strict=True))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            left_out = getattr(report, "wasxfail", None) in LEFT_OUT.values()
            self.counts["left out" if left_out else report.outcome] += 1


def take_its_place() -> None:
    """Have joblib find forkright's backend by loky's name, and by its own no more: each test runs once."""
    joblib._parallel_backends.LokyBackend = ForkrightBackend
    joblib.register_parallel_backend("loky", ForkrightBackend)
    del joblib.parallel.BACKENDS["forkright"]


def told(counts: Counter[str]) -> str:
    """The counts and the table, for the page."""
    named = ", ".join(f"{counts[name]} {name}" for name in ("passed", "left out", "skipped", "failed") if counts[name])
    rows = "".join(f"| `{name.replace('[[]', '[')}` | {why} |\n" for name, why in LEFT_OUT.items())
    return f"joblib {joblib.__version__}: {named}.\n\n| left out | why |\n|---|---|\n{rows}"


def main() -> int:
    arguments = sys.argv[1:]
    keep = "--keep" in arguments
    take_its_place()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        options = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider", "-q", "--pyargs"]
        watchdog = ["-o", "faulthandler_timeout=180", "-o", "faulthandler_exit_on_timeout=true"]
        given = [argument for argument in arguments if argument != "--keep"]
        code = pytest.main([*options, *watchdog, "joblib.test.test_parallel", *given], plugins=[watch])
    text = told(watch.counts)
    print(text)
    if keep and not given:
        PAGE.write_text(PLACE.sub(lambda found: f"{found[1]}{text}{found[2]}", PAGE.read_text()))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
