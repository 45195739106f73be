"""Pickles functions and arguments for a cluster's workers, which may have no forkright, and reads what they answer.

The streams of `_by_value` need forkright where they are read; these need cloudpickle, which Dask and Ray bring.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

from .. import _functions, _pickling
from . import remote

# Ours, and needed there.
_BY_VALUE = (remote.__name__, "forkright._seeding")


def dumps(obj: object, role: str) -> bytes:
    """Pickle `obj`, by value where another machine could not import it; `role` is its name in errors.

    Raises:
        UnpicklableError: If it can't be pickled.
    """
    try:
        data = pickle.dumps(obj, 5)
        if not any(sign in data for sign in _SIGNS):
            return data
    except Exception:  # what fails here is tried by value
        pass
    try:
        file = io.BytesIO()
        _Pickler(file, 5).dump(obj)
        return file.getvalue()
    except Exception as error:
        raise _pickling.unpicklable(obj, role, error) from error


_SIGNS = (*_pickling.SIGNS, *(name.encode() for name in _BY_VALUE))


def _reduce_code(code: types.CodeType) -> Any:
    """As cloudpickle does, but with the name of the file: tracebacks are to show it."""
    make, parts = cloudpickle._code_reduce(code)
    return make, tuple(code.co_filename if part == "<dynamic-code>" else part for part in parts)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with forkright's judgement of what can be imported elsewhere."""

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(  # pyright: ignore[reportAttributeAccessIssue]
        {types.CodeType: _reduce_code}
    )

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType and not _found_there(obj):
            return self._dynamic_function_reduce(obj)
        if (kind is type or issubclass(kind, type)) and obj.__module__ != "builtins" and not _found_there(obj):
            return cloudpickle._dynamic_class_reduce(obj)
        if (hidden := _hidden(obj)) is not None:
            return getattr, hidden
        return super().reducer_override(obj)


def _found_there(obj: Any) -> bool:
    module = obj.__module__
    if module in _BY_VALUE or module in cloudpickle.list_registry_pickle_by_value():
        return False
    return _functions.importable(obj)


def _hidden(obj: object) -> tuple[types.ModuleType, str] | None:
    """Where the generators behind `random.random` and `numpy.random.rand` are: a worker takes its own."""
    for name, attribute in (("random", "_inst"), ("numpy.random.mtrand", "_rand")):
        module = sys.modules.get(name)
        if module is not None and getattr(module, attribute, None) is obj:
            return module, attribute
    return None


class Carrier:
    """Calls a function of `remote`; arrives as that function, built there by cloudpickle, however it is pickled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (runner(self._function),)


@functools.cache
def runner(function: Callable[..., Any]) -> bytes:
    """A function of `remote`, pickled by value."""
    return dumps(function, "forkright's own runner")


def decode(told: remote.Answer, name: str) -> tuple[list[Any], dict[int, BaseException]]:
    """What an answer is about: values, None for calls that failed, and exceptions by their places."""
    role = f"the result of `{name}`"
    values: list[Any] = []
    failures: dict[int, BaseException] = {}
    for place, stream in enumerate(told.values):
        failure, value = told.failures.get(place), None
        if isinstance(failure, str):
            failures[place] = _pickling.UnpicklableError(f"{role} can't be sent to another process: {failure}")
        elif failure is not None:
            failures[place] = _pickling.decode_exception(failure)
        elif stream is not None:
            try:
                value = pickle.loads(stream)
            except BaseException as error:  # objects of the user's may raise anything
                failures[place] = _pickling.undecodable(error, role)
        values.append(value)
    return values, failures
