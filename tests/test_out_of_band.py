"""Buffers, arrays and maps of files travel as they are, copied no more than once where they leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forkright as fr
import tasks
from travelling import apart, check
from waiting import LIMIT

COUNT = 100_000


@pytest.fixture(scope="module")
def executor() -> Iterator[fr.Executor]:
    with fr.Executor(plan=fr.Plan(1)) as executor:
        yield executor


# Buffers


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_plain_bytes_travel_in_one_piece(executor: fr.Executor, kind: Any) -> None:
    value = kind(os.urandom(300_000))
    for given in (value, [value] * 3, {"a": value, "b": [value]}, (value, b"small")):
        assert executor.submit(tasks.identity, given).result(LIMIT) == given


@pytest.mark.parametrize("format", ["B", "i", "d"])
def test_views_keep_their_format_and_shape(executor: fr.Executor, format: str) -> None:
    view = memoryview(bytes(8 * COUNT)).cast(format, [2, 8 * COUNT // 2 // np.dtype(format).itemsize])  # type: ignore[call-overload]
    back = executor.submit(tasks.identity, view).result(LIMIT)
    assert (back.format, back.shape, back.readonly) == (view.format, view.shape, True)
    assert back == view
    assert apart(view) < (1000, 8 * COUNT + 1)


def test_a_writable_view_is_written_to_alone(executor: fr.Executor) -> None:
    data = bytearray(COUNT)
    view = executor.submit(tasks.identity, memoryview(data)).result(LIMIT)
    view[0] = 1
    assert data[0] == 0


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[s]", "f8", "U3", "V5", "?"])
def test_arrays_of_any_type_travel_out_of_band(executor: fr.Executor, dtype: str) -> None:
    value = np.zeros((10, COUNT // 10), dtype)
    check(executor, value, lambda one, other: one.dtype == other.dtype and (one == other).all(), value.nbytes)
    check(executor, np.asfortranarray(value), lambda one, other: one.flags.f_contiguous, value.nbytes)


# Maps of files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.arange(COUNT, dtype="f8").tofile(tmp_path / "a file")
    return tmp_path / "a file"


def look(array: Any) -> Any:
    return type(array).__name__, getattr(array, "filename", None), array.flags.writeable, float(array.sum())


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_map_of_a_file_is_opened_where_it_arrives(executor: fr.Executor, file: Path, mode: Any) -> None:
    array = np.memmap(file, "f8", mode)
    expected = "memmap", str(file), mode == "r+", float(array.sum())
    assert executor.submit(look, array).result(LIMIT) == expected
    assert executor.submit(lambda: look(array)).result(LIMIT) == expected
    assert executor._pool.memory()[0] == 0
    part = np.memmap(file, "f8", mode, offset=80, shape=(100, 20), order="F")[:, 5:]
    back = executor.submit(tasks.identity, part).result(LIMIT)
    assert type(back) is np.memmap and (back == part).all() and back.flags.f_contiguous
    assert apart(array) < (1000, 1)


def test_what_is_written_to_a_shared_map_is_in_the_file(executor: fr.Executor, file: Path) -> None:
    array = np.memmap(file, "f8", "r+")
    executor.submit(tasks_fill, array).result(LIMIT)
    assert (array == 7).all() and (np.fromfile(file) == 7).all()


def tasks_fill(array: Any) -> None:
    array[:] = 7


def test_a_map_that_has_pages_of_its_own_is_copied(executor: fr.Executor, file: Path) -> None:
    array = np.memmap(file, "f8", "c")
    array[0] = 100
    _, _, _, total = executor.submit(look, array).result(LIMIT)
    assert total == float(array.sum())
    assert np.fromfile(file)[0] == 0


def test_a_map_of_a_file_that_was_replaced_or_removed_is_copied(executor: fr.Executor, file: Path) -> None:
    array = np.memmap(file, "f8", "r")
    expected = float(array.sum())
    np.zeros(COUNT).tofile(file.with_name("other"))
    file.with_name("other").rename(file)
    assert executor.submit(look, array).result(LIMIT)[3] == expected
    file.unlink()
    assert executor.submit(look, array).result(LIMIT)[3] == expected


def test_a_strided_part_of_a_map_is_copied(executor: fr.Executor, file: Path) -> None:
    array = np.memmap(file, "f8", "r")[::3]
    assert executor.submit(look, array).result(LIMIT)[3] == float(array.sum())
