"""Carries arguments, results and exceptions between processes as bytes.

Called on both sides of a worker process for what plain pickle alone can't carry. Without it only objects of
importable modules would travel, and errors would lose the traceback that explains them.
"""

from __future__ import annotations

import _pickle as pickle  # the rest of it would cost a first move ten milliseconds
import sys

TYPE_CHECKING = False  # importing `typing` would cost more than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from ._core import Sink

    Place = tuple[int, int, int, int, int]

# What in a plain pickle says that it must be made again by value: objects of the script itself, and the
# state of the hidden generators behind `random.random` and `numpy.random.rand`, which workers must not share.
SIGNS = (b"__main__", b"\x8c\x06random\x94\x8c\x06Random\x94", b"__randomstate_ctor")

in_worker = False


class UnpicklableError(pickle.PicklingError):
    """Something can't travel between processes; the message says which part of it, and what to do."""


class RemoteError(Exception):
    """Stands for an exception of a worker that could not travel; its text names the type and the message."""


class RemoteTraceback(Exception):
    """The traceback of an exception as it was in the worker that raised it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}\n"""'


def become_worker() -> None:
    """Make this process ready for another one's functions: an empty `__main__`, generators of its own."""
    global in_worker
    import types

    in_worker = True
    sys.modules["__main__"] = types.ModuleType("__main__")
    reseed()


def reseed() -> None:
    """Give this process random numbers of its own; a generator imported later seeds itself."""
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


def encode(obj: object, buffers: list[Any] | Sink | Places | None, role: str, initializer: Any = None) -> bytes:
    """Pickle `obj`, by value where another process could not import it; `role` is its name in errors.

    What `buffers.append` is given and does not answer with true is left out of the stream. Without `buffers` all is in
    it, but of what is shared its place: whoever reads it must do so while it is there. Global variables that can't be
    pickled are left to the readers' `initializer`, if it sets them.
    """
    if buffers is None:
        places = Places()
        return places.complete(encode(obj, places, role, initializer))
    try:
        data = pickle.dumps(obj, 5, buffer_callback=buffers.append)
        if not any(sign in data for sign in SIGNS):
            return data
    except Exception:  # what fails here is tried by value
        pass
    buffers.clear()
    return encode_by_value(obj, buffers, role, initializer)


def encode_by_value(
    obj: object, buffers: list[Any] | Sink | Places | None, role: str, initializer: Any = None
) -> bytes:
    """As `encode`, for what is known to need it."""
    if buffers is None:
        places = Places()
        return places.complete(encode_by_value(obj, places, role, initializer))
    expect_by_value()
    from . import _by_value

    try:
        return _by_value.dumps(obj, buffers, initializer)
    except Exception as error:
        raise unpicklable(obj, role, error, initializer) from error


def expect_by_value() -> None:
    """Something is about to travel by value: workers that are yet to come begin with what that needs."""
    if not in_worker:
        from ._core import prepare_by_value  # not at the top, as below

        prepare_by_value()


class Places:
    """Takes of buffers only those that are shared, and of these their places; keeps them there meanwhile."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._buffers: list[object] = []

    def append(self, buffer: Any) -> bool:
        """As pickle's `buffer_callback`."""
        from ._core import shared_place  # not at the top: what stands in for it imports this module

        place = shared_place(buffer)
        if place is not None:
            self._places.append(place)
            self._buffers.append(buffer)
        return place is None

    def clear(self) -> None:
        """Forget what it took."""
        self._places.clear()
        self._buffers.clear()

    def complete(self, stream: bytes) -> bytes:
        """The stream with the places."""
        return pickle.dumps(_Completed(stream, self._places), 5) if self._places else stream


class _Completed:
    """Travels as a stream with the places of its buffers, and arrives as what the stream is of."""

    def __init__(self, stream: bytes, places: list[Place]) -> None:
        self._reduced = (_complete, (stream, places))

    def __reduce__(self) -> Any:
        return self._reduced


def _complete(stream: bytes, places: list[Place]) -> Any:
    from ._core import open_shared

    return pickle.loads(stream, buffers=[open_shared(place) for place in places])


def decode(data: bytes | memoryview, buffers: Any = None) -> Any:
    """The object that `encode` took; what its unpickling raises is let out."""
    return pickle.loads(data, buffers=buffers)


def undecodable(error: BaseException, role: str) -> UnpicklableError:
    """The error that says that `role` arrived but could not be rebuilt because of `error`."""
    from ._errors import UndecodableError

    found = UndecodableError(f"{role} could not be rebuilt where it arrived: {type(error).__name__}: {error}")
    found.__cause__ = error
    return found


def unpicklable(obj: object, role: str, error: Exception, initializer: Any = None) -> UnpicklableError:
    """The error that says which part of `role` can't be pickled, which failed with `error`."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return UnpicklableError(f"{role} can't be sent to another process: it is nested too deeply")
    from . import _culprit

    stem = "result" if "result" in role else ("args" if isinstance(obj, tuple) else "argument")
    name = getattr(obj, "__name__", stem) if "function" in role else stem
    path, origin, kind, advice = _culprit.find(obj, name, initializer)
    why = "" if "cannot pickle" in str(error) else f" ({error})"
    origin = origin and f"{origin},"
    return UnpicklableError(
        f"{role} can't be sent to another process: "
        f"`{path}`{origin} is of type `{kind}`, which can't be pickled{why}; {advice}"
    )


def encode_exception(error: BaseException) -> bytes:
    """Pickle an exception, what it came from, and its traceback as text; never fails for what `error` is.

    What a hostile exception raises meanwhile, `SystemExit` too, must not end the worker.
    """
    return pickle.dumps((_link(error, set()), _traceback(error)), 5)


def decode_exception(data: bytes | memoryview) -> BaseException:
    """The exception that `encode_exception` took, its traceback as its cause."""
    link, text = pickle.loads(data)
    error = _unlink(link)
    error.__context__ = error.__cause__ or error.__context__
    error.__cause__ = RemoteTraceback(text)
    return error


def _link(error: BaseException | None, seen: set[int]) -> Any:
    """The exception and those behind it: (payload, summary, suppressed, cause, context)."""
    if error is None or id(error) in seen:
        return None
    seen.add(id(error))
    cause, context = _link(error.__cause__, seen), _link(error.__context__, seen)
    return _payload(error), _summary(error), error.__suppress_context__, cause, context


def _unlink(link: Any) -> BaseException:
    payload, summary, suppressed, cause, context = link
    try:
        found = decode(payload)
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException:
        found = None
    error = found if isinstance(found, BaseException) else RemoteError(summary)
    error.__cause__ = cause and _unlink(cause)
    error.__context__ = context and _unlink(context)
    error.__suppress_context__ = suppressed
    return error


def _payload(error: BaseException) -> bytes:
    """The exception as it is (a group: by members), or rebuilt without `__init__`, or a `RemoteError`."""
    kind = type(error)
    state = {name: value for name, value in vars(error).items() if _travels(value)}
    if isinstance(error, BaseExceptionGroup):
        members = [_link(member, set()) for member in error.exceptions]
        candidates: list[object] = [_Rebuilt(_regroup, (kind, error.message, members), state)]
    else:
        args = tuple(arg if _travels(arg) else repr(arg) for arg in error.args)
        candidates = [error, _Rebuilt(_rebuild, (kind, args), state)]
    for candidate in (*candidates, RemoteError(_summary(error))):
        try:
            payload = encode(candidate, None, "an exception")
            if type(decode(payload)) in (kind, RemoteError):
                return payload
        except BaseException:  # the next candidate asks less
            continue
    raise AssertionError("a RemoteError always travels")


class _Rebuilt:
    """Travels as an exception that is made otherwise than by its own rules."""

    def __init__(self, make: Any, args: tuple[Any, ...], state: dict[str, Any]) -> None:
        self._reduced = (make, args, state)

    def __reduce__(self) -> Any:
        return self._reduced


def _rebuild(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _regroup(kind: Any, message: str, members: list[Any]) -> Any:
    return kind(message, [_unlink(member) for member in members])


def _travels(value: object) -> bool:
    try:
        decode(encode(value, None, "a part of an exception"))
    except BaseException:
        return False
    return True


def _summary(error: BaseException) -> str:
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        return f"{name}: {error}"
    except BaseException:
        return name


def _traceback(error: BaseException) -> str:
    """The traceback as people read it, beginning with the task: the frames that led to it are ours."""
    import os
    import traceback

    ours = os.path.dirname(__file__)
    try:
        whole = traceback.TracebackException.from_exception(error)
        left: list[traceback.TracebackException | None] = [whole]
        while left:
            part = left.pop()
            if part is not None:
                while part.stack and part.stack[0].filename.startswith(ours):
                    del part.stack[0]
                left += (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))
        return "".join(whole.format())
    except BaseException:  # a hostile `__str__` or `__cause__` must not cost the task its error
        return _summary(error)
