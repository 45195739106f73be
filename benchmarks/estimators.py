"""scikit-learn and plain joblib on forkright's workers and on loky's, `make bench-joblib`.

Each workload runs on both backends in turn, in one process, on workers that have started; the ratio is taken within a
round. `cold` is the first call of a fresh interpreter that has imported everything. Fair: the same code, the same
number of workers, and each backend begins every second round. --keep writes the table into docs/joblib.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

import figures
import forkright.joblib  # noqa: F401 - registers the backend
import machine
import store

PAGE = machine.REPOSITORY / "docs" / "joblib.md"

X, y = make_classification(2000, 20, random_state=0)
LARGE = np.tile(X, (60, 1)), np.tile(y, 60)


def square(number: int) -> int:
    return number * number


def tiny() -> Any:
    """10,000 squares, joblib's batches."""
    return joblib.Parallel()(joblib.delayed(square)(number) for number in range(10_000))


def short() -> Any:
    """200 sums of a millisecond each."""
    return joblib.Parallel()(joblib.delayed(sum)(range(50_000)) for _ in range(200))


def forest() -> Any:
    """A random forest of 100 trees, which prefers threads."""
    return RandomForestClassifier(100, random_state=1, n_jobs=2).fit(X, y).predict_proba(X).tolist()


def search() -> Any:
    """A grid search: logistic regression, 8 parameters, 5 folds."""
    grid = {"C": [0.001, 0.01, 0.1, 1.0], "fit_intercept": [True, False]}
    return GridSearchCV(LogisticRegression(), grid, n_jobs=2).fit(X, y).cv_results_["mean_test_score"].tolist()


def validation() -> Any:
    """Cross-validation of a decision tree, 20 folds."""
    return cross_val_score(DecisionTreeClassifier(random_state=2), X, y, cv=20, n_jobs=2).tolist()


def large() -> Any:
    """Cross-validation of naive Bayes on 19 MB of data, 10 folds."""
    return cross_val_score(GaussianNB(), *LARGE, cv=10, n_jobs=2).tolist()


WORKLOADS: dict[str, Callable[[], Any]] = {
    function.__name__: function for function in (tiny, short, forest, search, validation, large)
}
# The last is joblib without a word: threads for the forest, loky for all else.
BACKENDS: dict[str, dict[str, Any]] = {
    "loky": {"backend": "loky"},
    "forkright": {"backend": "forkright"},
    "default": {},
}


def timed(work: Callable[[], Any], backend: str) -> tuple[float, Any]:
    with joblib.parallel_config(n_jobs=2, **BACKENDS[backend]):
        began = time.perf_counter()
        results = work()
        return time.perf_counter() - began, results


def compare(work: Callable[[], Any], peer: str, rounds: int) -> dict[str, list[float]]:
    contestants = [peer, "forkright"]
    warm = [timed(work, backend)[1] for backend in contestants]
    if warm[0] != warm[1]:
        raise SystemExit(f"error: `{work.__name__}` gives other results on forkright's workers")
    times: dict[str, list[float]] = {backend: [] for backend in contestants}
    for number in range(rounds):
        for backend in contestants[:: 1 if number % 2 else -1]:
            times[backend].append(timed(work, backend)[0])
    return times


def cold(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"loky": [], "forkright": []}
    for number in range(rounds):
        for backend in list(times)[:: 1 if number % 2 else -1]:
            done = subprocess.run([sys.executable, __file__, "--cold", backend], capture_output=True, check=True)
            times[backend].append(float(done.stdout))
    return times


def row(name: str, about: str, peer: str, times: dict[str, list[float]]) -> str:
    ratios = [there / here for there, here in zip(times[peer], times["forkright"], strict=True)]
    low, high = figures.spread(ratios)
    theirs, ours = (figures.duration(figures.median(times[backend])) for backend in (peer, "forkright"))
    verdict = "no clear difference" if low <= 1 <= high else "faster" if low > 1 else "slower"
    ratio = f"{figures.median(ratios):.2f} ({low:.2f} to {high:.2f})"
    return f"| `{name}` | {about} | {peer} {theirs} | {ours} | {ratio} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=[*WORKLOADS, "cold"])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--cold", choices=list(BACKENDS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cold:
        print(timed(validation, options.cold)[0])
        return
    load = machine.load()
    rows, raw = [], {}
    for name, work in WORKLOADS.items():
        for peer in ["loky", "default"] if name == "forest" else ["loky"]:
            if not options.only or name in options.only:
                times = raw[f"{name}, {peer}"] = compare(work, peer, options.rounds)
                rows.append(row(name, (work.__doc__ or "").rstrip("."), peer, times))
    if not options.only or "cold" in options.only:
        times = raw["cold"] = cold(max(options.rounds // 3, 3))
        rows.append(row("cold", "The first `validation` of an interpreter", "loky", times))
    described = machine.describe()
    text = (
        f"Measured on {machine.sentence(described)}, joblib {joblib.__version__}; medians of {options.rounds} rounds "
        f"in turn, a third as many for `cold`, with 2 workers; load before: {load[0]}.\n\n"
        "| workload | what | peer | forkright | peer / forkright (10th to 90th percentile) | forkright is |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )
    print(text)
    if options.keep:
        place = re.compile(r"(<!-- estimators -->\n).*?(<!-- end -->)", re.DOTALL)
        PAGE.write_text(place.sub(lambda found: f"{found[1]}{text}{found[2]}", PAGE.read_text(), count=1))
    kind = store.kind(quick=options.rounds < 15, partial=bool(options.only))
    store.save("joblib", kind, {"machine": described, "load": load, "seconds": raw}, text)


if __name__ == "__main__":
    main()
