"""Fills a database in memory and asks it: SQLite releases the GIL around each step."""

import sqlite3


def work(count: int) -> int:
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a integer, b integer)")
    database.executemany("insert into t values (?, ?)", ((n, n % 97) for n in range(count)))
    total = database.execute("select sum(a * b) from t where b > 10").fetchone()[0]
    database.close()
    return int(total or 0)


def items(scale: float = 1.0) -> list[int]:
    return [int(30_000 * scale) + number + 20 for number in range(24)]
