"""`forward_logging`: what worker processes log reaches the caller's loggers.

All workers write to one pipe, a record in parts that the system keeps whole; a thread of the caller reads it and hands
each record to the logger of its name. What is in the pipe stays there when its writer dies.
"""

from __future__ import annotations

import contextlib
import io
import logging
import marshal
import os
import pickle
import select
import struct
import threading
from collections.abc import Iterator
from typing import Any

# Process, record of that process, whether it is the last part, and the part's length.
_HEAD = struct.Struct("=iqBH")
_ROOM = select.PIPE_BUF - _HEAD.size
# Marks in the pipe that are no record have this for a process.
_MARK = 0
# Seconds that whoever waits for the records before a mark has, so that a handler that hangs hangs nobody else.
_PATIENCE = 5.0

_USUAL = frozenset(logging.makeLogRecord({}).__dict__)

_reader: _Reader | None = None
_lock = threading.Lock()


def forward_logging() -> None:
    """Have the records that worker processes log handled by the loggers of this process, as if they were logged here.

    Call it once, after the loggers are set up and before workers start. These then have the levels that loggers have
    here, and send warnings if `logging.captureWarnings` is in use::

        logging.basicConfig(level=logging.INFO)
        forkright.forward_logging()

    Records come in order from each worker, and from all of them as they were written. Messages are formatted there, and
    so are tracebacks, as text; what ``extra`` has travels as a pickle, or as its ``repr`` if it can't. When `fr.map` or
    `Executor.shutdown` returns, all that their workers wrote has been handled, also by workers that were killed.
    """
    global _reader
    with _lock:
        if _reader is None or _reader.owner != os.getpid():
            _reader = _Reader()


def offer() -> dict[str, Any] | None:
    """What a new worker must know to forward what it logs; None if it does not."""
    reader = _reader
    if reader is None:
        return None
    if reader.owner != os.getpid():
        # The thread is in the process that this one was forked from.
        forward_logging()
        reader = _reader
        assert reader is not None
    manager = logging.Logger.manager
    named = {
        name: logger.level for name, logger in list(manager.loggerDict.items()) if isinstance(logger, logging.Logger)
    }
    return {
        "pipe": f"/proc/{reader.owner}/fd/{reader.inlet}",
        "levels": {"": logging.root.level} | {name: level for name, level in named.items() if level},
        "disabled": manager.disable,
        "warnings": logging._warnings_showwarning is not None,  # type: ignore[attr-defined]
    }


def drain() -> None:
    """Wait until what is in the pipe by now has been handled."""
    reader = _reader
    if reader is not None and reader.owner == os.getpid():
        reader.drain()


class _Reader:
    """The caller's end."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._outlet, self.inlet = os.pipe2(os.O_CLOEXEC)
        self._marks: dict[int, threading.Event] = {}
        self._thread = threading.Thread(target=self._read, name="forkright-logging", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        if threading.current_thread() is self._thread:
            return
        passed = threading.Event()
        number = id(passed)
        self._marks[number] = passed
        # A full pipe, that nobody empties as a handler hangs, must not hold us.
        poll = select.poll()
        poll.register(self.inlet, select.POLLOUT)
        if poll.poll(_PATIENCE * 1000):
            os.write(self.inlet, _HEAD.pack(_MARK, number, True, 0))
            passed.wait(_PATIENCE)
        self._marks.pop(number, None)

    def _read(self) -> None:
        unfinished: dict[int, tuple[int, io.BytesIO]] = {}
        for process, number, is_last, part in self._parts():
            if process == _MARK:
                if (passed := self._marks.get(number)) is not None:
                    passed.set()
                continue
            known, text = unfinished.pop(process, (number, io.BytesIO()))
            if known != number:
                # The writer died within a record, and its number is another's now.
                text = io.BytesIO()
            text.write(part)
            if is_last:
                _handle(text.getvalue())
            else:
                unfinished[process] = number, text

    def _parts(self) -> Iterator[tuple[int, int, int, bytes]]:
        with open(self._outlet, "rb") as pipe:
            while len(head := pipe.read(_HEAD.size)) == _HEAD.size:
                process, number, is_last, length = _HEAD.unpack(head)
                yield process, number, is_last, pipe.read(length)


def _handle(data: bytes) -> None:
    usual, extra = marshal.loads(data)
    for name, (pickled, text) in extra.items():
        try:
            usual[name] = pickle.loads(pickled)
        except Exception:
            usual[name] = text
    record = logging.makeLogRecord(usual)
    logger = logging.getLogger(record.name)
    # What a handler raises is its own affair, as where it is called by a logger.
    try:
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        logging.Handler().handleError(record)


def attach(offered: dict[str, Any]) -> None:
    """In a worker: forward what is logged here from now on."""
    try:
        inlet = os.open(offered["pipe"], os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        # The caller is gone, and this process is about to be.
        return
    for name, level in offered["levels"].items():
        logging.getLogger(name or None).setLevel(level)
    logging.disable(offered["disabled"])
    if offered["warnings"]:
        logging.captureWarnings(True)
    logging.root.addHandler(_Writer(inlet))


class _Writer(logging.Handler):
    """A worker's end."""

    def __init__(self, inlet: int) -> None:
        super().__init__()
        self._inlet = inlet
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = marshal.dumps(self._pack(record))
            self._number += 1
            process = os.getpid()
            for start in range(0, len(data), _ROOM):
                part = data[start : start + _ROOM]
                is_last = start + _ROOM >= len(data)
                # Whole, as it is no longer than PIPE_BUF.
                os.write(self._inlet, _HEAD.pack(process, self._number, is_last, len(part)) + part)
        except Exception:
            self.handleError(record)

    def _pack(self, record: logging.LogRecord) -> tuple[dict[str, Any], dict[str, tuple[bytes, str]]]:
        usual = {name: value for name, value in record.__dict__.items() if name in _USUAL}
        usual |= {"msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info and not record.exc_text:
            usual["exc_text"] = (self.formatter or _PLAIN).formatException(record.exc_info)
        extra = {name: value for name, value in record.__dict__.items() if name not in _USUAL}
        return usual, {name: _pickled(value) for name, value in extra.items()}


_PLAIN = logging.Formatter()


def _pickled(value: object) -> tuple[bytes, str]:
    pickled, text = b"", f"<{type(value).__name__}>"
    with contextlib.suppress(Exception):
        text = repr(value)
    with contextlib.suppress(Exception):
        pickled = pickle.dumps(value, 5)
    return pickled, text
