"""Locks, queues, events, files, threads' own data, contexts, logs and the standard streams."""

import contextvars
import csv
import decimal
import hashlib
import io
import logging
import os
import queue
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from typing import Any

from . import keep, move

lock = threading.Lock()
event = threading.Event()
inbox: queue.Queue[int] = queue.Queue()
local = threading.local()
sink = io.StringIO()
opened: list[Any] = []  # so that none is closed by the garbage collector, with a warning
context: contextvars.ContextVar[int] = contextvars.ContextVar("context", default=0)
# made by hand, since test runners add handlers to every logger that `getLogger` knows
log = logging.Logger("log", logging.WARNING)
kept = logging.Logger("kept")


class Memory(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


kept.addHandler(Memory())
log.addHandler(logging.StreamHandler(sys.__stderr__))


@keep("holds a global lock")
def holds_lock(number: int) -> int:
    with lock:
        return number


@keep("acquires and releases a captured lock", made=True)
def acquires_lock() -> Callable[[int], int]:
    mine = threading.RLock()

    def acquire(number: int) -> int:
        mine.acquire()
        try:
            return number
        finally:
            mine.release()

    return acquire


@keep("puts into a global queue")
def puts(number: int) -> None:
    inbox.put(number)


@keep("sets an event that the program waits for")
def sets_event(number: int) -> None:
    event.set()


@keep("a semaphore limits how many run at once", made=True)
def limits() -> Callable[[int], int]:
    slots = threading.BoundedSemaphore(2)

    def run(number: int) -> int:
        with slots:
            return number

    return run


@keep("counts in a threading.local")
def counts_locally(number: int) -> int:
    local.count = getattr(local, "count", 0) + 1
    return local.count


@keep("writes to an open file", made=True)
def writes_file() -> Callable[[int], None]:
    file = tempfile.TemporaryFile("w+")
    opened.append(file)

    def write(number: int) -> None:
        file.write(f"{number}\n")

    return write


@keep("reads on in an open file", made=True)
def reads_file() -> Callable[[int], str]:
    file = open(__file__)
    opened.append(file)
    return lambda number: file.readline()


@keep("iterates over an open file", made=True)
def iterates_file() -> Callable[[int], Any]:
    file = open(__file__)
    opened.append(file)

    def read(number: int) -> Any:
        for line in file:
            return line
        return None

    return read


@keep("writes to a captured StringIO", made=True)
def writes_text() -> Callable[[int], None]:
    text = io.StringIO()

    def write(number: int) -> None:
        text.write(str(number))

    return write


@keep("prints to a global StringIO")
def prints_to_sink(number: int) -> None:
    print(number, file=sink)


@keep("a captured csv writer", made=True)
def writes_rows() -> Callable[[int], None]:
    writer = csv.writer(io.StringIO())

    def write(number: int) -> None:
        writer.writerow([number, number])

    return write


@keep("a captured database connection", made=True)
def inserts() -> Callable[[int], None]:
    database = sqlite3.connect(":memory:")
    opened.append(database)
    database.execute("create table t(x)")

    def insert(number: int) -> None:
        database.execute("insert into t values (?)", (number,))

    return insert


@keep("logs to a handler that keeps its records")
def logs_to_memory(number: int) -> None:
    kept.warning("number %s", number)


@keep("sets the thread's decimal context")
def sets_precision(number: int) -> decimal.Decimal:
    decimal.getcontext().prec = 30
    return decimal.Decimal(number + 1).sqrt()


@move("a lock and a queue of its own")
def uses_own_lock(number: int) -> int:
    own, box = threading.Lock(), queue.Queue()
    with own:
        box.put(number)
    return box.get()


@move("one session per thread, made on first use")
def uses_session(number: int) -> int:
    if not hasattr(local, "session"):
        local.session = {"timeout": 3}
    return local.session["timeout"] + number


@move("opens and reads a file of its own")
def opens_file(number: int) -> int:
    with open(__file__) as file:
        return sum(1 for line in file if line.strip()) + number


@move("a temporary file of its own")
def uses_temporary(number: int) -> int:
    with tempfile.TemporaryFile("w+") as file:
        file.write("a\n" * number)
        file.seek(0)
        return len(file.readlines())


@move("a database of its own")
def uses_own_database(number: int) -> Any:
    database = sqlite3.connect(":memory:")
    cursor = database.cursor()
    cursor.execute("create table t(x)")
    cursor.executemany("insert into t values (?)", [(number,), (number + 1,)])
    database.commit()
    total = cursor.execute("select sum(x) from t").fetchone()[0]
    database.close()
    return total


@move("logs to the usual handlers")
def logs(number: int) -> int:
    log.debug("number %s", number)
    return number


@move("prints to the real standard error on a rare branch")
def prints(number: int) -> int:
    if number < 0:
        print("negative", number, file=sys.stderr)
    return abs(number)


@move("sets a context variable for what it calls")
def sets_context(number: int) -> int:
    token = context.set(number)
    try:
        return context.get()
    finally:
        context.reset(token)


@move("a decimal context of its own")
def uses_local_context(number: int) -> decimal.Decimal:
    with decimal.localcontext() as own:
        own.prec = 30
        return decimal.Decimal(number + 1).sqrt()


@move("hashes with an object of its own")
def hashes(number: int) -> str:
    digest = hashlib.sha256()
    digest.update(str(number).encode())
    return digest.hexdigest()


@move("looks at the file system")
def lists_files(number: int) -> list[str]:
    return sorted(os.listdir(os.path.dirname(__file__)))[:number]


@move("warns on a rare branch")
def warns(number: int) -> int:
    if number < 0:
        warnings.warn(f"negative {number}", stacklevel=2)
    return number
