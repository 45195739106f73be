"""Tells the oracle in `oracle.c` where this interpreter's GIL is, and reads it.

Where the GIL is comes from the offsets that CPython declares (3.13 and later) or that its headers have (3.11, 3.12).
forkright finds it in another way, by what is in it, so that each checks the other.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

# Where the pieces of `struct _gil_runtime_state` are, in every version.
HOLDER, LOCKED = 8, 16


class Blind(Exception):
    """The oracle does not see the GIL here; says why in a line."""


STATES = ("apart", "waiting", "holding")
CLOCKS = ("wall", "cpu", "delay")


class _Time(ctypes.Structure):
    _fields_ = [(clock, ctypes.c_uint64) for clock in CLOCKS]


class _Reading(ctypes.Structure):
    _fields_ = [*((state, _Time) for state in STATES), ("acquisitions", ctypes.c_uint64)]


class Time(NamedTuple):
    """Seconds in one state: all of them, those on a core, and those ready to run without one."""

    wall: float
    cpu: float
    delay: float


class Truth(NamedTuple):
    """What one thread did between two readings of its own."""

    apart: Time
    waiting: Time
    holding: Time
    acquisitions: int

    def data(self) -> dict[str, Any]:
        """For JSON, with the sum of the states."""
        states = {name: getattr(self, name) for name in STATES}
        total = Time(*map(sum, zip(*states.values(), strict=True)))
        named = {name: time._asdict() for name, time in (states | {"total": total}).items()}
        return named | {"acquisitions": self.acquisitions}


class Oracle:
    """The preloaded library, watching this interpreter's GIL."""

    def __init__(self, library: Path) -> None:
        # PyDLL keeps the GIL during the call: the oracle reads what the calling thread's next drop would change.
        self._library = ctypes.PyDLL(str(library))
        self._library.oracle_watch.argtypes = [ctypes.c_void_p]
        self._library.oracle_watch.restype = None
        self._library.oracle_read.restype = None
        self._library.oracle_contradictions.restype = ctypes.c_uint64
        self._library.oracle_watch(gil())
        before = self.read()
        time.sleep(0.001)
        if self._library.oracle_knows_no_delays():
            raise Blind("this kernel does not say how long a thread had no core (/proc/thread-self/schedstat)")
        # A copy that was loaded now instead of preloaded stands in for nobody.
        if self.read().acquisitions == before.acquisitions:
            raise Blind("the oracle saw no event: it was not preloaded, or this Python does not call the C library")

    def read(self) -> _Reading:
        """What the calling thread has done since the oracle began."""
        reading = _Reading()
        self._library.oracle_read(ctypes.byref(reading))
        return reading

    def since(self, before: _Reading) -> Truth:
        """What the calling thread has done since that reading."""
        now = self.read()

        def passed(state: str) -> Time:
            later, earlier = getattr(now, state), getattr(before, state)
            return Time(*((getattr(later, clock) - getattr(earlier, clock)) / 1e9 for clock in CLOCKS))

        states = {state: passed(state) for state in STATES}
        return Truth(**states, acquisitions=now.acquisitions - before.acquisitions)

    def contradictions(self) -> int:
        """How often the GIL was not in the state that the events say."""
        return int(self._library.oracle_contradictions())


def gil() -> int:
    """The address of the main interpreter's GIL, checked by what must be in it."""
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    version = sys.version_info[:2]
    if version >= (3, 13):
        address = _declared(runtime)
    elif version == (3, 12):
        # _PyRuntime.interpreters.main, and its ceval.gil
        address = _word(_word(runtime + 48) + 384)
    elif version == (3, 11):
        # _PyRuntime.ceval.gil
        address = runtime + 360
    else:
        raise Blind(f"no offsets are known for Python {version[0]}.{version[1]}")
    current = ctypes.pythonapi.PyThreadState_Get
    current.restype = ctypes.c_void_p
    interval = round(sys.getswitchinterval() * 1e6)
    locked = ctypes.c_int.from_address(address + LOCKED).value
    if (_word(address), _word(address + HOLDER), locked) != (interval, current(), 1):
        raise Blind("what is where the offsets lead is not the GIL")
    return address


def _declared(runtime: int) -> int:
    """Follows `_Py_DebugOffsets`: the interpreters, the main one among them, its GIL."""
    later = sys.version_info >= (3, 14)
    words = struct.unpack_from("<19Q", ctypes.string_at(runtime, 160), 8)
    if ctypes.string_at(runtime, 8) != b"xdebugpy" or words[0] != sys.hexversion:
        raise Blind("this Python does not declare its own layout")
    if words[1]:
        raise Blind("this Python is a free-threaded build")
    head, identity, following = words[4], words[6], words[7]
    # 3.14 has `threads_main` before what comes between the threads and the GIL.
    to_gil = words[14 if later else 13]
    interpreter = _word(runtime + head)
    while interpreter and _word(interpreter + identity) != 0:
        interpreter = _word(interpreter + following)
    if not interpreter:
        raise Blind("there is no main interpreter where the declared layout leads")
    return _word(interpreter + to_gil)


def _word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value
