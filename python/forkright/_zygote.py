"""The helper process that forks workers: started clean, one thread, with all that a worker needs imported.

The engine's warden talks to it over its standard input, a SEQPACKET socket; the words are in
`crates/engine/src/warden.rs`.
"""

from __future__ import annotations

# Not the module around it, which makes enums of numbers: a fork would have to copy the memory that this touches.
import _signal as signal  # type: ignore[import-not-found]
import _socket
import array
import contextlib
import gc
import os
import select
import sys

from . import _functions, _pickling, _stale, _worker  # noqa: F401 - imported here once instead of in each worker

# Milliseconds without an order after which there is time to prepare for more.
_IDLE = 50

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(caller: int) -> NoReturn:
    """Serve until the caller's process closes its end; with the word "single", become one worker instead.

    `caller` is its pid: its end of the socket may live on in children that it forked.
    """
    control = _socket.socket(fileno=_move_stdin())
    os.closerange(control.fileno() + 1, _limit())
    for number in range(3, control.fileno()):
        with contextlib.suppress(OSError):
            os.close(number)
    signal.signal(signal.SIGINT, _ignore)
    # What the caller blocks is its own affair: a worker that did not hear SIGTERM could not be ended by it.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if sys.argv[1:] == ["single"]:
        _serve_single(control)
    wake, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    life = _watch(caller)
    poll.register(life, select.POLLIN)
    control.send(b"H ready")
    gc.collect()
    gc.freeze()
    try:
        while True:
            ready = {number for number, _ in poll.poll(None if _is_prepared else _IDLE)}
            if not ready:
                # While nobody waits for a worker, so that those forked later have it.
                _prepare_by_value()
            if life in ready:
                os._exit(0)
            if wake in ready:
                os.read(wake, 4096)
                _reap(control)
            if control.fileno() in ready:
                _serve(control, (wake, alarm, life))
    except ConnectionError:
        # The caller ended in the middle of a conversation: our children die with us.
        os._exit(0)


_is_prepared = False


def _prepare_by_value() -> None:
    """Import what functions need that no worker can import."""
    global _is_prepared
    _is_prepared = True
    with contextlib.suppress(ImportError):
        from . import _by_value  # noqa: F401
    gc.freeze()


def _watch(caller: int) -> int:
    """A descriptor that can be read once the caller is dead."""
    try:
        life = os.pidfd_open(caller)
    except ProcessLookupError:
        os._exit(0)
    if os.getppid() != caller:
        # It died before, and the number means somebody else by now.
        os._exit(0)
    return life


def _serve(control: _socket.socket, ours: tuple[int, ...]) -> None:
    message, fds = _receive(control)
    if not message:
        # The caller is gone, or done with us: our children die with us.
        os._exit(0)
    if message == b"P":
        _prepare_by_value()
        return
    if message == b"M":
        from . import _process, _reducers  # noqa: F401

        gc.freeze()
        return
    _, token, mask = message.split()
    if len(os.listdir("/proc/self/task")) > 1:
        _close(fds)
        control.send(b"R something it imported started threads")
        return
    try:
        pid = os.fork()
    except OSError as error:
        _close(fds)
        control.send(b"E %s no process can be forked: %s" % (token, str(error).encode()))
        return
    if pid == 0:
        _become_worker(control, fds, int(mask), ours)
    _close(fds)
    # Opened before anybody reaps it, so it is the right process even if it is dead already.
    pidfd = os.pidfd_open(pid)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [pidfd]))
    control.sendmsg([b"S %s %d" % (token, pid)], [rights])
    os.close(pidfd)


def _become_worker(control: _socket.socket, fds: list[int], mask: int, ours: tuple[int, ...]) -> NoReturn:
    code = 1
    try:
        parent = os.getppid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _close([*ours, control.detach()])
        gc.unfreeze()
        code = _worker.main(fds, mask, parent)
    finally:
        os._exit(code)


def _serve_single(control: _socket.socket) -> NoReturn:
    parent = os.getppid()
    message, fds = _receive(control)
    if not message:
        os._exit(0)
    os.close(control.detach())
    code = 1
    try:
        code = _worker.main(fds, int(message.split()[2]), parent)
    finally:
        os._exit(code)


def _receive(control: _socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    space = _socket.CMSG_SPACE(16 * fds.itemsize)
    try:
        message, ancillary, _, _ = control.recvmsg(1024, space, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, list(fds)


def _reap(control: _socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(b"X %d %d" % (pid, status))


def _move_stdin() -> int:
    """Have nothing to read at descriptor 0, for workers too, and keep the socket elsewhere."""
    socket = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    return socket


def _limit() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd")) + 1


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _ignore(*_: object) -> None:
    # A handler rather than SIG_IGN, which programs that a task executes would inherit.
    pass
