"""What the meter is checked on: each function makes what one thread repeats, and `ROWS` says which run together.

Whatever takes time to make is made here, before anything is measured. The shares of the GIL that are known
beforehand are in tests/test_oracle.py; the oracle knows the others.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from meter import library

Step = Callable[[], object]
Workload = Callable[[], Step]


class Missing(Exception):
    """This workload needs what is not installed here."""


def python() -> Step:
    """A loop of bytecode: holds the GIL whenever it may."""

    def step() -> None:
        total = 0
        for number in range(20_000):
            total += number * number

    return step


def sleep() -> Step:
    """Sleeps for 10 ms: a thread that waits, and has nothing else to do."""
    return functools.partial(time.sleep, 0.01)


def socket_wait() -> Step:
    """Waits up to 5 ms for bytes on a socket: a client whose server is slow."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0.005)

    def step() -> None:
        try:
            ours.recv(1)
        except TimeoutError:
            # The other end must live as long as this one.
            theirs.fileno()

    return step


def socket_exchange() -> Step:
    """Sends 4 KB to itself and receives them: system calls that are over at once."""
    ours, theirs = socket.socketpair()
    message = b"m" * 4096

    def step() -> None:
        for _ in range(20):
            ours.sendall(message)
            theirs.recv(4096)

    return step


def lock_wait() -> Step:
    """Waits up to 20 ms for a lock that is never given back."""
    lock = threading.Lock()
    lock.acquire()
    return functools.partial(lock.acquire, timeout=0.02)


_shared = threading.Lock()


def lock_shared() -> Step:
    """Keeps one lock, the same for all, while it sleeps for 1 ms: only one of them does, the others wait for it."""

    def step() -> None:
        with _shared:
            time.sleep(0.001)

    return step


def hash_small() -> Step:
    """Hashes 1,000 bytes, for which hashlib keeps the GIL."""
    data = b"x" * 1000

    def step() -> None:
        for _ in range(100):
            hashlib.sha256(data)

    return step


def hash_64k() -> Step:
    """Hashes 64 KB without the GIL, and takes it back after each: some ten thousand times a second."""
    data = os.urandom(64 << 10)
    return lambda: hashlib.sha256(data)


def hash_large() -> Step:
    """Hashes 16 MB without the GIL: native code that comes back rarely."""
    data = os.urandom(16 << 20)
    return lambda: hashlib.sha256(data)


def compress() -> Step:
    """Compresses 64 KB of text with zlib, without the GIL."""
    data = (__doc__ or "").encode() * ((64 << 10) // len(__doc__ or "") + 1)
    return lambda: zlib.compress(data)


def numpy_matmul() -> Step:
    """Multiplies matrices of 300 x 300 in NumPy, without the GIL."""
    matrix = _numpy().random.rand(300, 300)
    return lambda: matrix @ matrix


def numpy_sort() -> Step:
    """Sorts a million floats in NumPy, without the GIL."""
    numpy = _numpy()
    values = numpy.random.rand(1_000_000)
    return lambda: numpy.sort(values)


def numpy_from_list() -> Step:
    """Makes an array of a list of 100,000 floats: NumPy that keeps the GIL."""
    numpy = _numpy()
    values = [float(number) for number in range(100_000)]
    return lambda: numpy.array(values)


def regex() -> Step:
    """Searches 100 KB with a regular expression: one long call into C that keeps the GIL."""
    text = "the quick brown fox jumps over 13 lazy dogs " * 2300
    pattern = re.compile(r"(\w+) (\d+) (\w+)")
    return lambda: pattern.findall(text)


def sqlite() -> Step:
    """Selects from a database in memory: gives the GIL up for each row, for a very short time."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("create table numbers (number integer, square integer)")
    database.executemany("insert into numbers values (?, ?)", [(number, number**2) for number in range(2000)])
    query = "select sum(square) from numbers where number % 7 = ? group by number % 3"
    return lambda: [database.execute(query, (rest,)).fetchall() for rest in range(7)]


def subprocess_wait() -> Step:
    """Runs another program for 20 ms and waits for it."""
    return lambda: subprocess.run(["sleep", "0.02"], check=True)


def file_read() -> Step:
    """Reads 1 MB from a file that the kernel has in memory."""
    file, path = tempfile.mkstemp()
    os.unlink(path)
    os.write(file, os.urandom(1 << 20))
    return lambda: os.pread(file, 1 << 20, 0)


def held_blocked() -> Step:
    """Sleeps for 2 ms in C and keeps the GIL: an extension that forgot to give it up."""
    usleep = ctypes.PyDLL(None).usleep
    return functools.partial(usleep, 2000)


def spin(off: int, on: int) -> Workload:
    """Computes in C for so many microseconds of CPU time without the GIL, then with it: a known share."""

    def workload() -> Step:
        file = str(library.build("spin"))
        free, keeping = ctypes.CDLL(file).spin, ctypes.PyDLL(file).spin

        def step() -> None:
            free(off)
            keeping(on)

        return step

    return workload


def sleep_then_python() -> Step:
    """Sleeps for 1 ms, then computes for about as long: a handler of requests."""
    compute = python()

    def step() -> None:
        time.sleep(0.001)
        compute()

    return step


def fetch_then_parse() -> Step:
    """Waits up to 5 ms for a socket, then parses 60 KB of JSON, which keeps the GIL."""
    wait = socket_wait()
    text = json.dumps([{"name": f"user {number}", "tags": ["a", "b", "c"]} for number in range(1000)])

    def step() -> None:
        wait()
        json.loads(text)

    return step


def hash_then_python() -> Step:
    """Hashes 1 MB without the GIL, then computes in Python."""
    data = os.urandom(1 << 20)
    compute = python()

    def step() -> None:
        hashlib.sha256(data)
        compute()

    return step


class Row(NamedTuple):
    """What runs in one interpreter at once, a thread each."""

    name: str
    workloads: list[Workload]


ROWS = [
    Row("python", [python]),
    Row("python x 2", [python] * 2),
    Row("python x 8", [python] * 8),
    Row("sleep", [sleep]),
    Row("sleep x 8", [sleep] * 8),
    Row("socket wait", [socket_wait]),
    Row("socket wait x 8", [socket_wait] * 8),
    Row("socket exchange", [socket_exchange]),
    Row("lock wait", [lock_wait]),
    Row("lock shared x 2", [lock_shared] * 2),
    Row("lock shared x 8", [lock_shared] * 8),
    Row("hash 1000 B", [hash_small]),
    Row("hash 64 KB", [hash_64k]),
    Row("hash 64 KB x 2", [hash_64k] * 2),
    Row("hash 16 MB", [hash_large]),
    Row("hash 16 MB x 2", [hash_large] * 2),
    Row("hash 16 MB x 8", [hash_large] * 8),
    Row("zlib", [compress]),
    Row("zlib x 2", [compress] * 2),
    Row("numpy matmul", [numpy_matmul]),
    Row("numpy sort", [numpy_sort]),
    Row("numpy sort x 2", [numpy_sort] * 2),
    Row("numpy from list", [numpy_from_list]),
    Row("numpy from list x 2", [numpy_from_list] * 2),
    Row("regex", [regex]),
    Row("regex x 2", [regex] * 2),
    Row("sqlite", [sqlite]),
    Row("sqlite x 2", [sqlite] * 2),
    Row("subprocess wait", [subprocess_wait]),
    Row("file read", [file_read]),
    Row("file read x 8", [file_read] * 8),
    Row("blocked with the GIL", [held_blocked]),
    Row("blocked with the GIL x 2", [held_blocked] * 2),
    Row("spin 300 off, 100 on", [spin(300, 100)]),
    Row("spin 30 off, 70 on", [spin(30, 70)]),
    Row("spin 300 off, 100 on x 2", [spin(300, 100)] * 2),
    Row("spin 300 off, 100 on x 8", [spin(300, 100)] * 8),
    Row("sleep then python x 2", [sleep_then_python] * 2),
    Row("sleep then python x 8", [sleep_then_python] * 8),
    Row("fetch then parse x 8", [fetch_then_parse] * 8),
    Row("hash then python x 2", [hash_then_python] * 2),
    Row("convoy: python + hash 64 KB", [python, hash_64k]),
    Row("convoy: python + sleep x 7", [python, *[sleep] * 7]),
    Row("python + numpy sort", [python, numpy_sort]),
]


def row(name: str) -> Row:
    """The row of that name."""
    return next(found for found in ROWS if found.name == name)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise Missing("NumPy is not installed") from None
    return numpy
