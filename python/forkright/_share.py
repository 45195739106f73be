"""Puts arrays where all processes see them: `fr.share`.

What lies there is recognised by its address whenever it is pickled for a worker, wherever in the arguments it is, and
travels as its place. Without it an array that many calls read would be copied for each of them.
"""

from __future__ import annotations

import _pickle as pickle
import io
import sys
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _core, _reducers

if TYPE_CHECKING:
    from array import array
    from mmap import mmap

T = TypeVar("T")


@overload
def share(obj: bytes | bytearray | array[Any] | mmap, /, *, writable: bool = False) -> memoryview: ...
@overload
def share(obj: T, /, *, writable: bool = False) -> T: ...
def share(obj: Any, /, *, writable: bool = False) -> Any:
    """An equal object whose arrays lie in shared memory: passing it to a call costs the same whatever its size.

    These two lines give the same sums; the first copies the array for each call, the second did so once::

        sums = fr.map(total, [(array, row) for row in rows], plan="processes")
        sums = fr.map(total, [(shared, row) for row in rows], plan="processes")  # shared = fr.share(array)

    It works wherever a worker process gets it from: arguments, containers of them, what a function captured, its
    globals, an initializer. Slices of it that are contiguous travel as it does, and so do results that lie in it; other
    slices and whatever is computed are copied. Threads see the very object. In a plain `pickle`, and in processes that
    forkright did not start, it is a copy; a forked child has it as its parent does.

    The memory is freed some seconds after nobody has it any more: no object here or in a worker, however it ended. Each
    call of `share` takes one descriptor in each process that has it.

    Args:
        obj: A NumPy array, which gives an array of the class `numpy.ndarray`; `bytes` or anything else with the buffer
            protocol, which gives a `memoryview` of the same format and shape; or an object that pickles its buffers out
            of band, such as a frame of pandas or polars, an Arrow table or a dict of arrays, which gives the same
            around shared buffers.
        writable: False: nobody can write to it, in no process, this one included. True: what one process or thread
            writes all see, in no order but that of their locks; `plan="auto"` takes such writes for no obstacle.

    Raises:
        TypeError: If there is nothing in it that can be shared: no buffer, or objects instead of numbers.
        OSError: If there is no memory or no descriptor left, or the system keeps this process's memory to itself.
    """
    if not isinstance(writable, bool):
        raise TypeError(f"writable must be True or False, not {writable!r}")
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(obj, numpy.ndarray):
        if type(obj) in (numpy.ndarray, numpy.memmap):
            return _array(numpy, obj, writable)
    elif not hasattr(obj, "dtype"):
        try:
            view = memoryview(obj)
        except TypeError:
            pass
        else:
            return _view(view, writable)
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = pickle.Pickler(file, 5, buffer_callback=buffers.append)
    pickler.dispatch_table = _reducers.table()[0]
    try:
        pickler.dump(obj)
    except (pickle.PicklingError, AttributeError) as error:
        raise TypeError(f"a `{type(obj).__qualname__}` can't be shared, as it can't be pickled: {error}") from error
    if not buffers:
        raise TypeError(f"a `{type(obj).__qualname__}` has no buffers of its own that could be shared")
    return pickle.loads(file.getvalue(), buffers=_core.share(buffers, writable))


def _array(numpy: Any, array: Any, writable: bool) -> Any:
    """Without pickle, which takes arrays of dates for objects."""
    if array.dtype.hasobject:
        raise TypeError("an array of Python objects can't be shared, only their values could")
    array = numpy.asarray(array if array.flags.forc else array.copy(order="K"))
    if not array.flags.forc:  # "K" keeps strides that are neither
        array = array.copy(order="C")
    flat = array.reshape(-1, order="A").view(numpy.uint8) if array.nbytes else numpy.empty(0, numpy.uint8)
    [window] = _core.share([pickle.PickleBuffer(flat)], writable)
    return numpy.ndarray(array.shape, array.dtype, window, strides=array.strides)


def _view(view: memoryview, writable: bool) -> memoryview:
    if not view.contiguous or (view.ndim > 1 and not view.c_contiguous):
        raise TypeError("a memoryview must be contiguous to be shared")
    [window] = _core.share([pickle.PickleBuffer(view)], writable)
    flat = memoryview(window)
    if (view.format, view.ndim) == ("B", 1):
        return flat
    try:
        return flat.cast(view.format, view.shape)  # type: ignore[call-overload,no-any-return]
    except ValueError:
        raise TypeError(f"a buffer of the format {view.format!r} can't be shared, a NumPy array of it can") from None
