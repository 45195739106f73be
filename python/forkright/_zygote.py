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

from . import (  # imported here once instead of in each worker
    _core,
    _functions,  # noqa: F401
    _pickling,  # noqa: F401
    _stale,  # noqa: F401
    _worker,
)

# Milliseconds without an order after which there is time to prepare for more, if a core is free.
_IDLE = 1000

# Milliseconds without an order after which a worker that was forked ahead is let go.
_PATIENCE = 2000

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
    life = _watch(caller)
    control.send(b"H ready")
    gc.collect()
    gc.freeze()
    try:
        _Zygote(control, wake, alarm, life).serve()
    except ConnectionError:
        # The caller ended in the middle of a conversation: our children die with us.
        os._exit(0)


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


class _Zygote:
    """Serves the caller's orders, and gets ready for more meanwhile."""

    def __init__(self, control: _socket.socket, wake: int, alarm: int, life: int) -> None:
        self._control = control
        self._wake = wake
        self._alarm = alarm
        self._life = life
        # Whether it has what functions need that travel by value.
        self._is_prepared = False
        # Whether some workers are processes of multiprocessing's kind, which come one by one.
        self._serves_processes = False
        # Whether the next worker is forked before it is ordered, and that worker: its pid, and the line on which it
        # waits for its order.
        self._forks_ahead = False
        self._spare: tuple[int, _socket.socket] | None = None

    def serve(self) -> NoReturn:
        control, wake, life = self._control.fileno(), self._wake, self._life
        poll = select.poll()
        for number in (control, wake, life):
            poll.register(number, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll(self._patience())}
            if not ready:
                self._use_idle_time()
            if life in ready:
                os._exit(0)
            if wake in ready:
                os.read(wake, 4096)
                self._reap()
            if control in ready:
                self._heed()

    def _patience(self) -> int | None:
        """Milliseconds without an order until there is time for something else."""
        if self._forks_ahead and self._spare is None:
            return 0
        if not self._is_prepared:
            return _IDLE
        return None if self._spare is None else _PATIENCE

    def _use_idle_time(self) -> None:
        if self._forks_ahead and self._spare is None:
            try:
                self._fork_ahead()
            except OSError:
                # Whoever orders a worker will be told.
                self._forks_ahead = False
        elif not self._is_prepared:
            # While nobody waits for a worker, so that those forked later have it; what those there are do comes first.
            if not _core.cores_are_taken():
                self._prepare_by_value()
        else:
            self._forks_ahead = False
            self._let_spare_go()

    def _heed(self) -> None:
        message, fds = _receive(self._control)
        if not message:
            # The caller is gone, or done with us: our children die with us.
            os._exit(0)
        if message == b"P":
            self._prepare_by_value()
        elif message == b"M":
            self._prepare_process()
        else:
            self._start(message, fds)

    def _prepare_by_value(self) -> None:
        """Import what functions need that no worker can import."""
        self._is_prepared = True
        with contextlib.suppress(ImportError):
            from . import _by_value  # noqa: F401
        self._freeze()

    def _prepare_process(self) -> None:
        from . import _process, _reducers  # noqa: F401

        self._serves_processes = True
        self._freeze()

    def _freeze(self) -> None:
        gc.freeze()
        # It was forked without what is there now.
        self._let_spare_go()

    def _start(self, order: bytes, fds: list[int]) -> None:
        _, token, mask = order.split()
        if len(os.listdir("/proc/self/task")) > 1:
            _close(fds)
            self._control.send(b"R something it imported started threads")
            return
        parent = os.getpid()
        try:
            pid = self._take_spare(order, fds) or self._fork()
        except OSError as error:
            _close(fds)
            self._control.send(b"E %s no process can be forked: %s" % (token, str(error).encode()))
            return
        if pid == 0:
            _become_worker(fds, int(mask), parent)
        _close(fds)
        self._forks_ahead = self._serves_processes
        # Opened before anybody reaps it, so it is the right process even if it is dead already.
        pidfd = os.pidfd_open(pid)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [pidfd]))
        self._control.sendmsg([b"S %s %d" % (token, pid)], [rights])
        os.close(pidfd)

    def _fork(self) -> int:
        """As `os.fork`; the child has nothing of ours any more."""
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _close([self._wake, self._alarm, self._life, self._control.detach()])
                self._let_spare_go()
            except BaseException:
                # It must not go on as if it were us.
                os._exit(1)
        return pid

    def _fork_ahead(self) -> None:
        """Have the next worker forked, so that whoever orders it need not wait for that."""
        line, its_end = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        pid = self._fork()
        if pid == 0:
            line.close()
            gc.unfreeze()
            _serve_single(its_end)
        its_end.close()
        self._spare = pid, line

    def _take_spare(self, order: bytes, fds: list[int]) -> int:
        """Hand an order to the worker that was forked ahead; its pid, or 0 if there is none."""
        if self._spare is None:
            return 0
        pid, line = self._spare
        try:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))
            line.sendmsg([order], [rights])
        except ConnectionError:
            # It was killed.
            return 0
        finally:
            self._let_spare_go()
        return pid

    def _let_spare_go(self) -> None:
        """Close the line to the worker that was forked ahead: without an order it ends."""
        if self._spare is not None:
            self._spare[1].close()
            self._spare = None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._spare is not None and pid == self._spare[0]:
                # Whatever ended it may end the next one, too.
                self._forks_ahead = False
                self._let_spare_go()
            self._control.send(b"X %d %d" % (pid, status))


def _become_worker(fds: list[int], mask: int, parent: int) -> NoReturn:
    code = 1
    try:
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
    _become_worker(fds, int(message.split()[2]), parent)


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
