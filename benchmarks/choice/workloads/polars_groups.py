"""Groups a table with polars, whose own threads use every core."""

import polars as pl


def work(rows: int) -> int:
    table = pl.select(value=pl.int_range(rows)).with_columns(key=pl.col("value") * 7919 % 101)
    return int(table.group_by("key").agg(pl.col("value").sum())["value"].max())


def items(scale: float = 1.0) -> list[int]:
    return [int(1_500_000 * scale) + number + 1 for number in range(24)]
