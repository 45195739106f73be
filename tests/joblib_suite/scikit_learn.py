"""Runs scikit-learn's own tests of what it gives to joblib, on loky and with forkright's backend in its place;
`make test-joblib` runs this.

    python tests/joblib_suite/scikit_learn.py [--keep] [MODULE...]

The suite is the one that the installed scikit-learn brings, and is not edited. --keep writes the counts into
docs/joblib.md. What `left_out` names has to fail. Exits with 1 if another test does not pass with forkright that passes
with loky, if one passes that it names, or if forkright's worker processes got nothing to do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import pytest
import sklearn
from left_out import OF_SCIKIT_LEARN

from forkright.joblib import ForkrightBackend
from run import PAGE, take_its_place

# Those whose tests give work to other processes.
MODULES = (
    "sklearn.callback.tests.test_callback_context",
    "sklearn.callback.tests.test_callback_support",
    "sklearn.callback.tests.test_scoring_monitor",
    "sklearn.cluster.tests.test_mean_shift",
    "sklearn.compose.tests.test_column_transformer",
    "sklearn.decomposition.tests.test_dict_learning",
    "sklearn.decomposition.tests.test_online_lda",
    "sklearn.ensemble.tests.test_bagging",
    "sklearn.ensemble.tests.test_forest",
    "sklearn.ensemble.tests.test_iforest",
    "sklearn.ensemble.tests.test_stacking",
    "sklearn.ensemble.tests.test_voting",
    "sklearn.feature_selection.tests.test_mutual_info",
    "sklearn.feature_selection.tests.test_rfe",
    "sklearn.inspection.tests.test_permutation_importance",
    "sklearn.linear_model.tests.test_theil_sen",
    "sklearn.model_selection.tests.test_search",
    "sklearn.model_selection.tests.test_successive_halving",
    "sklearn.model_selection.tests.test_validation",
    "sklearn.tests.test_calibration",
    "sklearn.tests.test_config",
    "sklearn.tests.test_multiclass",
    "sklearn.tests.test_multioutput",
    "sklearn.utils.tests.test_parallel",
)
# What stands between these is ours to write.
PLACE = re.compile(r"(<!-- scikit_learn -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(eq=False)
class Told:
    """What became of each test, and the batches that forkright's worker processes ran meanwhile, by module."""

    outcomes: dict[str, str] = field(default_factory=dict)
    batches: Counter[str] = field(default_factory=Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            # Outside the root folder a node's id is without its file.
            path, _, name = report.location
            self.outcomes[f"{path}::{name}"] = report.outcome

    def counted(self) -> str:
        counts = Counter(self.outcomes.values())
        return ", ".join(
            f"{counts[name]} {name}" for name in ("passed", "left out", "skipped", "failed") if counts[name]
        )


def count_batches(told: Told) -> None:
    """Have what comes back from forkright's worker processes counted."""
    plain = ForkrightBackend.retrieve_result_callback

    def retrieve_result_callback(self: ForkrightBackend, out: Any) -> Any:
        result = plain(self, out)
        workers = self._workers
        if workers is not None and workers._plan is not None and workers._plan.processes:
            told.batches[os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]] += 1
        return result

    ForkrightBackend.retrieve_result_callback = retrieve_result_callback  # type: ignore[method-assign]


def run_suite(backend: str, modules: Iterable[str], kept: Path) -> int:
    """All of it in this process; writes what became of it."""
    told = Told()
    if backend == "forkright":
        take_its_place()
        count_batches(told)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        options = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider", "-q", "--pyargs", "--tb=short"]
        watchdog = ["-o", "faulthandler_timeout=300", "-o", "faulthandler_exit_on_timeout=true"]
        code = pytest.main([*options, *watchdog, *modules], plugins=[told])
    kept.write_text(json.dumps({"outcomes": told.outcomes, "batches": told.batches}))
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(code)


def suite(backend: str, modules: Iterable[str]) -> Told:
    """It, in an interpreter of its own: a backend stays."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "told.json"
        subprocess.run([sys.executable, __file__, "--suite", backend, str(kept), *modules], check=True)
        found = json.loads(kept.read_text())
        return Told(found["outcomes"], Counter(found["batches"]))


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--suite"]:
        return run_suite(arguments[1], arguments[3:], Path(arguments[2]))
    given = [argument for argument in arguments if argument != "--keep"]
    modules = given or list(MODULES)
    loky, ours = suite("loky", modules), suite("forkright", modules)
    for test, became in ours.outcomes.items():
        if test.rpartition("::")[2] in OF_SCIKIT_LEARN:
            ours.outcomes[test] = "left out" if became == "failed" else "failed"
    lost = sorted(
        test
        for test, became in loky.outcomes.items()
        if became == "passed" and ours.outcomes.get(test) not in ("passed", "left out")
    )
    reasons = "".join(f"| `{name}` | {why} |\n" for name, why in OF_SCIKIT_LEARN.items())
    text = (
        f"scikit-learn {sklearn.__version__}, joblib {joblib.__version__}, the tests of {len(modules)} modules that give "
        f"work to other processes: {ours.counted()}; on loky {loky.counted()}. forkright's worker processes ran "
        f"{ours.batches.total():,} batches.\n\n| left out | why |\n|---|---|\n{reasons}"
    )
    print(text, *(f"not as it has to be: {test}" for test in lost), sep="\n")
    if not ours.batches:
        print("forkright's worker processes got nothing to do")
    if "--keep" in arguments and not given:
        PAGE.write_text(PLACE.sub(lambda found: f"{found[1]}{text}{found[2]}", PAGE.read_text()))
    return 1 if lost or not ours.batches else 0


if __name__ == "__main__":
    sys.exit(main())
