"""Groups a table with pandas."""

import numpy as np
import pandas as pd


def work(rows: int) -> int:
    numbers = np.arange(rows)
    table = pd.DataFrame({"key": numbers * 7919 % 101, "value": numbers})
    return int(table.groupby("key")["value"].sum().max())


def items(scale: float = 1.0) -> list[int]:
    return [int(800_000 * scale) + number + 1 for number in range(24)]
