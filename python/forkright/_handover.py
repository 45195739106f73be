"""Answers worker processes that ask their caller for what they can't inherit, from a thread of its own.

Called by `_spawning` on both sides. Without it a worker would start without the descriptors of the queues and pipes
it was given. `multiprocessing.resource_sharer` answers its own processes in the same way, but prints a traceback for
each that is killed while it asks, and workers that nobody needs any more are.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import current_process
from typing import Any

Answer = Callable[[Connection, int], None]
"""Is given the connection to who asks, and its pid."""


Ticket = tuple[Any, int]
"""What a worker needs to ask: an address and a key."""


class _Counter:
    """The thread, where it listens, and what it has."""

    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.last = 0
        self._listener = Listener(family="AF_UNIX", backlog=128, authkey=bytes(current_process().authkey))
        self.address = self._listener.address
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="forkright-handover", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._closed:
            try:
                with self._listener.accept() as connection:
                    key, pid = connection.recv()
                    answer = self.answers.get(key)
                    if answer is not None:
                        answer(connection, pid)
            except Exception:  # whoever asked is gone, or was none of ours
                time.sleep(0.001)  # where descriptors have run out this must not spin

    def close(self) -> None:
        self._closed = True
        # It may wait for somebody to come; a word it may not hear any more would have to be waited for.
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect(self.address)
        self._thread.join()
        self.leave()

    def leave(self) -> None:
        """In a forked child: the thread and the file are the parent's."""
        self._listener.close()


_lock = threading.Lock()
_counter: _Counter | None = None


def offer(answer: Answer) -> Ticket:
    """Have workers answered that come with this ticket, until it is withdrawn."""
    global _counter
    with _lock:
        if _counter is None:
            _counter = _Counter()
        _counter.last += 1
        _counter.answers[_counter.last] = answer
        return _counter.address, _counter.last


def is_offered(ticket: Ticket) -> bool:
    """Whether there is still an answer to the ticket: a forked child has none of its parent's."""
    (address, key), counter = ticket, _counter
    return counter is not None and counter.address == address and key in counter.answers


def withdraw(ticket: Ticket) -> None:
    """Forget the answer to a ticket."""
    (address, key), counter = ticket, _counter
    if counter is not None and counter.address == address:
        counter.answers.pop(key, None)


def ask(ticket: Ticket) -> Connection:
    """In the worker: a connection by which the answer comes."""
    address, key = ticket
    connection = Client(address, authkey=bytes(current_process().authkey))
    connection.send((key, os.getpid()))
    return connection


def stop() -> None:
    """End the thread; all tickets are void."""
    global _counter
    with _lock:
        counter, _counter = _counter, None
    if counter is not None:
        counter.close()


def _after_fork() -> None:
    global _counter, _lock
    _lock = threading.Lock()
    counter, _counter = _counter, None
    if counter is not None:
        counter.leave()


os.register_at_fork(after_in_child=_after_fork)
