"""Fits decision trees with scikit-learn: long computations without the GIL between some Python."""

import numpy as np
from sklearn.tree import DecisionTreeRegressor


def work(rows: int) -> int:
    values = np.random.default_rng(rows).random((rows, 8))
    return int(DecisionTreeRegressor(max_depth=8, random_state=0).fit(values, values.sum(axis=1)).tree_.node_count)


def items(scale: float = 1.0) -> list[int]:
    return [int(4_000 * scale) + number + 20 for number in range(24)]
