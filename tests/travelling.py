"""How tests check what travels: that it comes back as it was, and that its bytes are not in the stream."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import forkright as fr
import tasks
from forkright import _reducers
from waiting import LIMIT


def apart(value: Any) -> tuple[int, int]:
    """Bytes of the stream, and of the buffers that need not be in it."""
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = pickle.Pickler(file, 5, buffer_callback=buffers.append)
    pickler.dispatch_table = _reducers.table()[0]
    pickler.dump(value)
    return len(file.getvalue()), sum(buffer.raw().nbytes for buffer in buffers)


def check(executor: fr.Executor, value: Any, is_equal: Callable[[Any, Any], object], size: int) -> None:
    """It comes back equal, of the same type, alone and among others; `size` bytes of it travel out of band."""
    for given in (value, [value, 1], {"key": value}):
        back = executor.submit(tasks.identity, given).result(LIMIT)
        [again] = fr.map(tasks.identity, [given], plan="processes")
        for found in (back, again):
            assert type(found) is type(given)
            inner = next(iter(found.values())) if isinstance(found, dict) else found[0] if given is not value else found
            assert type(inner) is type(value)
            assert is_equal(inner, value)
    stream, buffers = apart(value)
    assert stream < 4000 + size / 50 and buffers >= size, f"{stream} in the stream, {buffers} beside it"
