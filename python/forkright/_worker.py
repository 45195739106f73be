"""What a worker process does from its first moment to its last; the loop between is `_core.Worker.serve`."""

from __future__ import annotations

import _pickle as pickle
import atexit
import faulthandler
import os
import sys

from . import _budget, _functions, _pickling
from ._core import Worker, die_with_parent, take_share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(fds: list[int], mask: int, parent: int) -> int:
    """Become the worker that the descriptors describe; returns the exit code."""
    if not die_with_parent(parent):
        return 1
    spec_fd, *fds = fds
    spec: dict[str, Any] = pickle.loads(os.pread(spec_fd, os.fstat(spec_fd).st_size, 0))
    os.close(spec_fd)
    for number in (1, 2):
        if mask >> number & 1:
            fd = fds.pop(0)
            os.dup2(fd, number)
            os.close(fd)
    *fds, last_words = fds
    if not faulthandler.is_enabled():
        # Whoever set it up himself, by an option or an environment variable, gets it where he asked for it.
        faulthandler.enable(last_words, all_threads=False)
    _settle_in(spec)
    worker = Worker(*fds)
    if not _initialize(worker, spec["initializer"]):
        return 1
    worker.ready()
    _work(worker)
    _leave()
    return 0


def _settle_in(spec: dict[str, Any]) -> None:
    """Take over what the caller has now: directory, environment, paths, arguments."""
    if spec["directory"] is not None:
        os.chdir(spec["directory"])
    os.umask(spec["umask"])
    _take_environment(spec["environment"])
    take_share(spec["share"])
    _budget.begin(spec["share"])
    sys.path[:] = spec["path"]
    sys.argv[:] = spec["argv"]
    if spec["authkey"] is not None:
        from multiprocessing import process

        process.current_process().authkey = spec["authkey"]
    if spec["start_method"] is not None:
        from multiprocessing import context  # pyright: ignore[reportAttributeAccessIssue]

        context._force_start_method(spec["start_method"])
    if spec["tracker"] is not None:
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._fd = os.open(spec["tracker"], os.O_WRONLY)  # type: ignore[attr-defined]
    _pickling.become_worker()
    if spec["logging"] is not None:
        from . import _logging

        _logging.attach(spec["logging"])
    for stream in (sys.stdout, sys.stderr):
        # Lines of several processes must not mix, and what was written must not be lost if this one is killed.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
    if spec["main"] is not None:
        from . import _spawning

        _spawning.ask_for_main(spec["main"])


def _take_environment(wanted: dict[bytes, bytes]) -> None:
    here = os.environb._data.copy()  # type: ignore[attr-defined]  # as in `_budget`
    if here != wanted:
        for name in here.keys() - wanted.keys():
            del os.environb[name]
        # Mostly all are there: to set 35 of them again took 0.2 ms of a start that takes 2.
        os.environb.update(wanted.items() - here.items())


def _initialize(worker: Worker, initializer: bytes | None) -> bool:
    if initializer is None:
        return True
    try:
        function, arguments = _pickling.decode(initializer)
        _functions.initializer = function
        function(*arguments)
    except BaseException as error:
        worker.unfit(error)
        return False
    return True


def _work(worker: Worker) -> None:
    others: list[Any] = []

    def grow(count: int) -> None:
        import threading

        for _ in range(count):
            index = len(others) + 1
            thread = threading.Thread(target=serve, args=(index,), name=f"forkright_{index}")
            others.append(thread)
            thread.start()

    def serve(index: int) -> None:
        try:
            worker.serve(index, grow)
        except BaseException:
            # A thread that ended alone would leave its task without an answer; the caller notices a death.
            sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
            os._exit(1)

    worker.serve(0, grow)
    for thread in others:
        thread.join()


def _leave() -> None:
    """What an interpreter does at its end, as far as a fork of another program should."""
    state = sys.modules.get("forkright._state")
    if state is not None:
        state.clear()
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
