"""A grid search of scikit-learn on forkright's workers: two lines beside what one would write anyway.

    python examples/gallery/grid_search.py [--workers 2]

`import forkright.joblib` registers the backend, and `joblib.parallel_config` has everything below it run there. Each
fit and its score is a task. joblib's callers expect processes, so that is what they get; `forkright.joblib.report()`
tells what became of them.
"""

from __future__ import annotations

import argparse

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import forkright as fr
import forkright.joblib

GRID = {"svc__C": [0.3, 1, 3, 10], "svc__gamma": [0.003, 0.01, 0.03]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Looks for the best support vector machine for handwritten digits.")
    parser.add_argument("--workers", type=int, default=max(fr.cpu_count(), 2), help="2 or more")
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    if options.workers < 2:
        parser.error("with one worker joblib runs a plain loop, and there is nothing to report")

    images, digits = load_digits(return_X_y=True)
    train, test, train_digits, test_digits = train_test_split(images, digits, random_state=0)
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), GRID, cv=options.folds)
    with joblib.parallel_config(backend="forkright", n_jobs=options.workers):
        search.fit(train, train_digits)

    order = np.argsort(search.cv_results_["rank_test_score"])
    print(f"{len(order)} candidates, {options.folds} folds each, on {options.workers} workers")
    for place in order[:3]:
        mean, deviation = (search.cv_results_[f"{name}_test_score"][place] for name in ("mean", "std"))
        print(f"{mean:.4f} ± {deviation:.4f}  {search.cv_results_['params'][place]}")
    print(f"the best is right about {search.score(test, test_digits):.1%} of the digits it has not seen")
    print(forkright.joblib.report())


if __name__ == "__main__":
    main()
