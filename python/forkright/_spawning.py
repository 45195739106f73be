"""Carries what `multiprocessing` lets travel only to a process that is being started: locks, queues, connections.

Called for a `Process` and for the initializer of an executor. Without it `multiprocessing`'s own objects would refuse
to be pickled, or arrive as numbers of descriptors that mean something else in the worker.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
import threading
import weakref
from collections import ChainMap
from collections.abc import Callable
from typing import Any

from . import _pickling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from ._handover import Ticket

Reduced = tuple[Any, ...]


def encode(obj: object, role: str, initializer: Callable[..., object] | None = None) -> tuple[bytes, Lent]:
    """Pickle `obj` for a worker at its start; `_pickling.decode` gives it back there.

    What is returned beside the bytes must be kept until the worker has read them, or, if they are an `initializer`
    with its arguments, until no further worker will.
    """
    context = sys.modules.get("multiprocessing.context")
    lent = Lent(lasting=initializer is not None)
    places = _pickling.Places()
    if context is None:
        # Nobody has made anything that would need us.
        stream = _pickling.encode(obj, places, role, initializer)
        lent.keep(places)
        return places.complete(stream), lent
    before = context.get_spawning_popen()
    context.set_spawning_popen(lent)
    try:
        stream = _dumps(obj, role, lent, places, initializer)
        lent.keep(places)
        return places.complete(stream), lent
    except BaseException:
        lent.close()
        raise
    finally:
        context.set_spawning_popen(before)


class Lent:
    """Stands for the process that `multiprocessing` believes to be starting, and lends it descriptors.

    Each is fetched from `_handover` once, so that a pipe has no end left here, or, if `lasting`, by every worker that
    comes.
    """

    def __init__(self, lasting: bool) -> None:
        self._lasting = lasting
        self._lock = threading.Lock()
        self._waiting: dict[Ticket, int] = {}
        self._kept: list[object] = []
        self._withdraw: Any = None  # at the end of the interpreter it could not be imported any more

    def duplicate_for_child(self, descriptor: int) -> int:
        """As the standard library's: what `DupFd` shall be given."""
        return descriptor

    def DupFd(self, descriptor: int) -> Descriptor:
        """As the standard library's: what travels in place of the descriptor."""
        from . import _handover

        lender = weakref.ref(self)  # who hands it over must not keep what nobody else has any more

        def send(connection: Connection, pid: int) -> None:
            lent = lender()
            if lent is not None:
                lent._send(ticket, connection, pid)

        self._withdraw = _handover.withdraw
        ticket = _handover.offer(send)
        self._waiting[ticket] = os.dup(descriptor)
        return Descriptor(ticket)

    def _send(self, ticket: Ticket, connection: Connection, pid: int) -> None:
        from multiprocessing import reduction

        # Locked, so that it is not closed meanwhile, and another file sent that has its number.
        with self._lock:
            if ticket in self._waiting:
                reduction.send_handle(connection, self._waiting[ticket], pid)
                if not self._lasting:
                    self._withdraw(ticket)
                    os.close(self._waiting.pop(ticket))

    def keep(self, obj: object) -> None:
        """Keep what is not found any more when nobody here has it: named semaphores, shared memory."""
        self._kept.append(obj)

    def close(self) -> None:
        """Take back what has not been fetched."""
        self._kept.clear()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for ticket, duplicate in waiting.items():
            self._withdraw(ticket)
            os.close(duplicate)

    def __del__(self) -> None:
        self.close()


class Descriptor:
    """A descriptor on its way."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    def detach(self) -> int:
        """In the worker: fetch it."""
        from multiprocessing import reduction

        from . import _handover

        with _handover.ask(self._ticket) as connection:
            return reduction.recv_handle(connection)


# The main module
#
# What comes through a queue or a pipe of `multiprocessing` was pickled by it, and names classes of the main module. A
# worker did not run that, and asks its caller for what it lacks.

_offer: Ticket | None = None


def offer_main() -> Ticket:
    """Answer workers that ask for an attribute of the main module; where they must ask."""
    global _offer
    from . import _handover

    if _offer is None or not _handover.is_offered(_offer):
        _offer = _handover.offer(_answer)
    return _offer


def _answer(connection: Connection, pid: int) -> None:
    name = connection.recv()
    try:
        value = getattr(sys.modules["__main__"], name)
        answer = True, _pickling.encode(value, None, f"`{name}` of the main module")
    except Exception as error:
        connection.send((False, str(error)))
    else:
        connection.send(answer)


def ask_for_main(ticket: Ticket) -> None:
    """In the worker: have the main module ask there for what it lacks."""

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        from . import _handover

        try:
            with _handover.ask(ticket) as connection:
                connection.send(name)
                found, answer = connection.recv()
        except (OSError, EOFError) as error:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from error
        if not found:
            raise AttributeError(answer)
        return _pickling.decode(answer)

    sys.modules["__main__"].__getattr__ = missing  # type: ignore[method-assign]


# Pickling


def _dumps(
    obj: object, role: str, lent: Lent, places: _pickling.Places, initializer: Callable[..., object] | None
) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5, buffer_callback=places.append)
    reducers = _reducers()
    pickler.dispatch_table = ChainMap(reducers, copyreg.dispatch_table)  # type: ignore[arg-type]
    try:
        pickler.dump(obj)
        data = file.getvalue()
        if not any(sign in data for sign in _pickling.SIGNS):
            return data
    except Exception:  # what fails here is tried by value
        pass
    lent.close()  # or what was lent so far would stay open here
    places.clear()
    return _dumps_by_value(obj, role, reducers, places, initializer)


def _dumps_by_value(
    obj: object,
    role: str,
    reducers: dict[type, Any],
    places: _pickling.Places,
    initializer: Callable[..., object] | None,
) -> bytes:
    _pickling.expect_by_value()
    from . import _by_value

    class Pickler(_by_value.Pickler):
        def __init__(self, buffer_callback: Any = None, digest: bool = False, initializer: Any = initializer) -> None:
            # What only tells whether a global variable changed must lend nothing.
            known: dict[type, Any] = dict.fromkeys(reducers, _by_identity) if digest else reducers
            self.dispatch_table = ChainMap(known, _by_value.Pickler.dispatch_table)
            super().__init__(buffer_callback, digest, initializer)

    try:
        pickler = Pickler(places.append)
        pickler.dump(obj)
        table = _by_value._table(pickler.classes.values())
        return _by_value._declaration(table) + pickler.file.getvalue()
    except Exception:
        # The error in the user's words.
        _pickling.encode_by_value(obj, None, role, initializer)
        raise


def _by_identity(obj: object) -> Reduced:
    return int, (id(obj),)


def _reducers() -> dict[type, Any]:
    """What `multiprocessing` knows of how its objects travel, and what it does not."""
    from multiprocessing import reduction

    reducers: dict[type, Any] = dict(reduction.ForkingPickler._extra_reducers)  # type: ignore[attr-defined]
    synchronize = sys.modules.get("multiprocessing.synchronize")
    if synchronize is not None:
        for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
            reducers[getattr(synchronize, name)] = _reduce_semaphore
    return reducers


# Semaphores without a name

_names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_naming = threading.Lock()
_SIZE = 32  # of a sem_t, on all 64-bit systems
_FOLDER = "/dev/shm/sem."


def _reduce_semaphore(lock: Any) -> Any:
    from multiprocessing import context  # pyright: ignore[reportAttributeAccessIssue]

    context.get_spawning_popen().keep(lock)  # type: ignore[union-attr]
    if lock._semlock.name is not None:
        return lock.__reduce_ex__(5)
    with _naming:
        name = _names.get(lock)
        if name is None:
            name = _names[lock] = _give_name(lock)
    return _semaphore, (type(lock), lock._semlock.kind, lock._semlock.maxvalue, name)


def _semaphore(kind: Any, *state: object) -> Any:
    lock = kind.__new__(kind)
    lock.__setstate__((0, *state))
    return lock


def _give_name(lock: Any) -> str:
    """Let another process find a semaphore that was made under the start method fork, where none has a name.

    A named semaphore is a page of a file in /dev/shm. The page of such a file with the same contents is put in
    place of the one that has no file any more, under the feet of everybody in this process who has its address.
    Whoever shares or awaits the old page would be left behind with it: then it is refused.
    """
    import ctypes
    import mmap
    from multiprocessing import process, resource_tracker, util

    address = lock._semlock.handle
    children = [child for child in process._children if child.is_alive() and child._popen.method == "fork"]  # type: ignore[attr-defined]
    contents = ctypes.string_at(address, _SIZE) if _is_page_of_semaphore(address) else b""
    if children or sys.byteorder != "little" or not contents or any(contents[4:8]):
        raise RuntimeError("it was made for the start method fork; make it with multiprocessing.get_context('spawn')")
    name = lock._make_name()
    file = os.open(_FOLDER + name[1:], os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    resource_tracker.register(name, "semaphore")
    util.Finalize(lock, lock._cleanup, (name,), exitpriority=0)
    try:
        os.ftruncate(file, _SIZE)
        place = ctypes.PyDLL(None, use_errno=True).mmap
        place.restype = ctypes.c_void_p
        place.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        arguments = (address, _SIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED, file, 0)
        with mmap.mmap(file, _SIZE) as page:
            # Nobody runs Python between these two, and whoever acquires or releases it does so in Python.
            page[:] = ctypes.string_at(address, _SIZE)
            placed = place(*arguments)
        if placed != address:
            raise OSError(ctypes.get_errno(), "a semaphore can't be shared")
    finally:
        os.close(file)
    return str(name)


_MAP_FIXED = 0x10


def _is_page_of_semaphore(address: int) -> bool:
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.startswith(f"{address:x}-"):
                return _FOLDER in line and line.rstrip().endswith("(deleted)")
    return False
