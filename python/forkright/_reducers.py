"""How objects travel whose own pickling copies what it could leave where it is.

These are views of memory, arrays of dates, maps of files and frames of polars.

Called from `codec.rs` for values in which it saw one of them, and by `_by_value`. Without it they would travel all the
same, by two to four copies instead of one or none.
"""

from __future__ import annotations

import _pickle as pickle
import copyreg
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Reduced = tuple[Any, ...]


class Table(dict[type, "Callable[[Any], Reduced]"]):
    """As a pickler's `dispatch_table`: ours first, then what programs registered."""

    def __missing__(self, kind: type) -> Any:
        return copyreg.dispatch_table[kind]


def table() -> tuple[Table, set[type]]:
    """The reducers for what can be here by now, and the types of values that may hold what they are for."""
    reducers = Table({memoryview: _reduce_view})
    numpy, pandas, polars = (sys.modules.get(name) for name in ("numpy", "pandas", "polars"))
    # A module that is being imported lacks them yet.
    if numpy is not None and hasattr(numpy, "memmap"):
        reducers[numpy.ndarray] = _reduce_array
        reducers[numpy.memmap] = _reduce_map
    if polars is not None and hasattr(polars, "Series"):
        reducers[polars.DataFrame] = _reduce_frame
        reducers[polars.Series] = _reduce_series
    wide = set(reducers)
    if pandas is not None and hasattr(pandas, "DatetimeIndex"):
        wide |= {pandas.DataFrame, pandas.Series, pandas.DatetimeIndex}
    return reducers, wide


# Views


def _reduce_view(view: memoryview) -> Reduced:
    if not view.c_contiguous or len(view.format) != 1:
        return memoryview, (view.tobytes(),)
    return _view, (pickle.PickleBuffer(view), view.format, view.shape)


def _view(buffer: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer)
    return view if (format, len(shape)) == ("B", 1) else view.cast("B").cast(format, shape)  # type: ignore[call-overload]


# Arrays


def _reduce_array(array: Any) -> Reduced:
    """Arrays of dates have no format in the buffer protocol, and are as many integers."""
    if array.dtype.kind in "mM" and array.flags.forc:
        return _dated, (array.view("i8"), array.dtype)
    return array.__reduce_ex__(5)  # type: ignore[no-any-return]


def _dated(numbers: Any, dtype: Any) -> Any:
    return numbers.view(dtype)


def _reduce_map(array: Any) -> Reduced:
    """A map of a file is opened where it arrives, if what is in it is what is in the file."""
    place = _file_of(array) if array.flags.forc else None
    if place is None:
        return array.__reduce_ex__(5)  # type: ignore[no-any-return]
    path, file, offset = place
    order = "C" if array.flags.c_contiguous else "F"
    mode = "r+" if array.flags.writeable else "r"
    return _map, (path, file, array.dtype, mode, offset, array.shape, order)


def _map(
    path: str, file: tuple[int, int], dtype: Any, mode: str, offset: int, shape: tuple[int, ...], order: str
) -> Any:
    import numpy

    if _identity(path) != file:
        raise FileNotFoundError(f"{path!r} is not the file any more that the array was a map of")
    return numpy.memmap(path, dtype, mode, offset, shape, order)  # type: ignore[call-overload]


def _file_of(array: Any) -> tuple[str, tuple[int, int], int] | None:
    """Path and identity of the file that an array maps, and the offset of its first byte.

    None: some of its pages may be its own, or the file has gone.
    """
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            span, access, offset, _, inode, *path = line.rstrip("\n").split(maxsplit=5)
            start, end = (int(number, 16) for number in span.split("-"))
            if not start <= address < end:
                continue
            is_as_file = access[3] == "s" or access[1] != "w"
            if not is_as_file or not path or address + array.nbytes > end:
                return None
            identity = _identity(path[0])
            if identity is None or identity[1] != int(inode):
                return None
            return path[0], identity, int(offset, 16) + address - start
    return None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# Frames


def _reduce_frame(frame: Any) -> Reduced:
    """Arrow has the same memory, and pickles it out of band."""
    table = _arrow(frame)
    return frame.__reduce_ex__(5) if table is None else (_frame, (table,))


def _reduce_series(series: Any) -> Reduced:
    table = _arrow(series.to_frame())
    return series.__reduce_ex__(5) if table is None else (_series, (table,))


def _arrow(frame: Any) -> Any:
    """A frame as an Arrow table that comes back as the same; None if there is no such table, or no Arrow."""
    polars = sys.modules["polars"]
    if polars.Object in frame.dtypes:
        return None
    try:
        table = frame.to_arrow(compat_level=polars.CompatLevel.newest())
        return table if polars.from_arrow(table.slice(0, 0)).schema == frame.schema else None
    except Exception:  # its own pickling will do, or say why not
        return None


def _frame(table: Any) -> Any:
    import polars  # pyright: ignore[reportMissingImports]

    return polars.from_arrow(table)


def _series(table: Any) -> Any:
    return _frame(table).to_series()
