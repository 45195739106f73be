"""Workers get what they can't inherit from their caller, whatever becomes of other workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from forkright import _handover


def greet(connection: Connection, pid: int) -> None:
    connection.send(("hello", pid))


@pytest.fixture
def ticket() -> Iterator[_handover.Ticket]:
    offered = _handover.offer(greet)
    yield offered
    _handover.withdraw(offered)


def test_who_has_a_ticket_is_answered_until_it_is_withdrawn(ticket: _handover.Ticket) -> None:
    for _ in range(2):
        with _handover.ask(ticket) as connection:
            assert connection.recv() == ("hello", os.getpid())
    _handover.withdraw(ticket)
    assert not _handover.is_offered(ticket)
    with _handover.ask(ticket) as connection, pytest.raises(EOFError):
        connection.recv()


def test_who_hangs_up_is_no_news_and_keeps_nobody_waiting(
    ticket: _handover.Ticket, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(ticket[0])
    _handover.ask(ticket).close()
    with _handover.ask(ticket) as connection:
        assert connection.recv() == ("hello", os.getpid())
    assert capfd.readouterr() == ("", "")


def test_a_forked_child_does_not_answer_for_its_parent(ticket: _handover.Ticket) -> None:
    child = os.fork()
    if child == 0:
        os._exit(_handover.is_offered(ticket) or os.path.exists(ticket[0]) is False)
    assert os.waitpid(child, 0)[1] == 0
    with _handover.ask(ticket) as connection:
        assert connection.recv() == ("hello", os.getpid())


def test_after_it_was_stopped_it_begins_anew(ticket: _handover.Ticket) -> None:
    _handover.stop()
    assert not _handover.is_offered(ticket)
    again = _handover.offer(greet)
    with _handover.ask(again) as connection:
        assert connection.recv() == ("hello", os.getpid())
    _handover.withdraw(again)
