"""Frames and tables travel as they are, copied no more than once where they leave, and can be shared.

`make test-libraries` installs what these need; without a library its tests are skipped and say so.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pytest

import forkright as fr
import tasks
from travelling import check
from waiting import LIMIT

COUNT = 100_000


@pytest.fixture(scope="module")
def executor() -> Iterator[fr.Executor]:
    with fr.Executor(plan=fr.Plan(1)) as executor:
        yield executor


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed; `make test-libraries` does that")


# Frames and tables


def test_pandas(executor: fr.Executor) -> None:
    pandas = library("pandas")
    frame = pandas.DataFrame(
        {
            "integers": np.arange(COUNT),
            "floats": np.random.default_rng(1).random(COUNT),
            "dates": pandas.date_range("2026-01-01", periods=COUNT, freq="s"),
            "zoned": pandas.date_range("2026-01-01", periods=COUNT, freq="s", tz="Europe/Zurich"),
            "codes": pandas.Categorical(np.arange(COUNT) % 3),
        },
        index=pandas.date_range("2026-01-01", periods=COUNT, freq="min"),
    )

    def is_equal(one: Any, other: Any) -> bool:
        pandas.testing.assert_frame_equal(one, other)
        return bool((one.dtypes == other.dtypes).all())

    check(executor, frame, is_equal, 4 * 8 * COUNT)
    words = pandas.DataFrame({"words": ["a", None, "c"] * 1000})
    assert is_equal(executor.submit(tasks.identity, words).result(LIMIT), words)
    series = executor.submit(tasks.identity, frame["floats"]).result(LIMIT)
    pandas.testing.assert_series_equal(series, frame["floats"])


def test_pandas_over_arrow(executor: fr.Executor) -> None:
    pandas = library("pandas")
    library("pyarrow")
    frame = pandas.DataFrame({"a": np.arange(COUNT), "b": ["text"] * COUNT}).convert_dtypes(dtype_backend="pyarrow")
    check(executor, frame, lambda one, other: one.equals(other) and (one.dtypes == other.dtypes).all(), 8 * COUNT)


def test_arrow(executor: fr.Executor) -> None:
    arrow = library("pyarrow")
    numbers = np.arange(COUNT)
    for value, size in (
        (arrow.table({"numbers": numbers, "words": ["word"] * COUNT}), 12 * COUNT),
        (arrow.record_batch({"numbers": numbers}), 8 * COUNT),
        (arrow.array(numbers), 8 * COUNT),
        (arrow.chunked_array([numbers, numbers]), 16 * COUNT),
        (arrow.py_buffer(bytes(COUNT)), COUNT),
    ):
        check(executor, value, lambda one, other: one.equals(other), size)


def test_polars(executor: fr.Executor) -> None:
    polars = library("polars")
    library("pyarrow")
    frame = polars.DataFrame(
        {
            "integers": np.arange(COUNT),
            "words": ["a word that is longer than twelve"] * COUNT,
            "lists": [[1, 2]] * COUNT,
            "structs": [{"x": 1.5, "y": None}] * COUNT,
            "dates": polars.Series([date(2026, 1, 1)] * COUNT),
            "categories": polars.Series(["a", "b"] * (COUNT // 2), dtype=polars.Categorical),
            "choices": polars.Series(["a", "b"] * (COUNT // 2), dtype=polars.Enum(["a", "b"])),
        }
    )
    check(executor, frame, lambda one, other: one.schema == other.schema and one.equals(other), 8 * COUNT)
    series = frame["integers"]
    check(executor, series, lambda one, other: one.name == other.name and one.equals(other), 8 * COUNT)
    check(executor, frame[100:-100], lambda one, other: one.equals(other), 0)


def test_polars_that_arrow_has_no_type_for_travels_by_its_own_pickling(executor: fr.Executor) -> None:
    polars = library("polars")
    frame = polars.DataFrame({"large": polars.Series([1, 2**100], dtype=polars.Int128)})
    back = executor.submit(tasks.identity, frame).result(LIMIT)
    assert back.schema == frame.schema and back.equals(frame)
    lazy = executor.submit(tasks.identity, frame.lazy()).result(LIMIT)
    assert lazy.collect().equals(frame)


# Shared


def test_frames_and_tables_are_shared(executor: fr.Executor) -> None:
    pandas, arrow = library("pandas"), library("pyarrow")
    frame = fr.share(pandas.DataFrame({"a": np.arange(COUNT), "b": np.ones(COUNT)}))
    table = fr.share(arrow.table({"a": np.arange(COUNT)}))
    assert executor.submit(sums, frame, table).result(LIMIT) == (sum(range(COUNT)), sum(range(COUNT)))
    assert executor._pool.memory()[0] == 0, "nothing was copied"


def sums(frame: Any, table: Any) -> tuple[int, int]:
    return int(frame["a"].sum()), int(np.sum(table["a"].to_numpy()))


def test_frames_of_polars_are_shared(executor: fr.Executor) -> None:
    polars = library("polars")
    library("pyarrow")
    frame = fr.share(polars.DataFrame({"a": np.arange(COUNT)}))
    assert type(frame) is polars.DataFrame
    assert executor.submit(lambda given: int(given["a"].sum()), frame).result(LIMIT) == sum(range(COUNT))
    assert executor._pool.memory()[0] == 0, "nothing was copied"
