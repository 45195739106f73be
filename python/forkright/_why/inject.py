"""Records the process it is imported in: puts itself where threads start and where the process forks.

Imported by the `sitecustomize` of a measured program and by `forkright.why()`; `_core` does the measuring.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Files of the standard library, and of forkright, in which a thread that waits waits for work or for other threads.
RESTS = (
    "threading.py",
    "queue.py",
    "concurrent/futures/_base.py",
    "concurrent/futures/process.py",
    "concurrent/futures/thread.py",
    "multiprocessing/connection.py",
    "multiprocessing/managers.py",
    "multiprocessing/pool.py",
    "multiprocessing/popen_fork.py",
    "multiprocessing/popen_forkserver.py",
    "multiprocessing/popen_spawn_posix.py",
    "multiprocessing/queues.py",
    "multiprocessing/resource_sharer.py",
    "multiprocessing/synchronize.py",
)
# Programs that only start others, or tidy up after them: what they run is told by their own words.
HELPERS = (
    "_zygote.main(",
    "from multiprocessing.forkserver import main",
    "from multiprocessing.resource_tracker import main",
)

_folder = ""
_thorough = False
_installed = False


def begin(folder: str, thorough: bool) -> None:
    """Record this process, and those it forks, into files in `folder`."""
    global _folder, _thorough
    _folder, _thorough = folder, thorough
    install()
    atexit.register(_core.end_recording)
    if not any(words in argument for words in HELPERS for argument in sys.orig_argv):
        begin_file(os.path.join(folder, file_name()))


def begin_block(folder: str, thorough: bool) -> None:
    """Record this process, and those it forks, into `folder` until `end_block`.

    Raises:
        RuntimeError: If it is being recorded already.
    """
    global _folder, _thorough
    if _folder:
        raise RuntimeError("this process is being measured already: measure one thing at a time")
    _folder, _thorough = folder, thorough
    install()
    try:
        begin_file(os.path.join(folder, file_name()))
    except BaseException:
        _folder = ""
        raise


def end_block() -> None:
    """End what `begin_block` began."""
    global _folder
    _folder = ""
    _core.end_recording()


def begin_file(file: str) -> None:
    """Record this process into `file`, with the calling thread first."""
    standard = os.path.dirname(os.__file__)
    own = os.path.dirname(os.path.dirname(__file__))
    rests = [os.path.join(standard, name) for name in RESTS]
    rests += [os.path.join(own, f"_{name}.py") for name in ("worker", "threads", "future", "handover", "map")]
    version = ".".join(map(str, sys.version_info[:3]))
    _core.begin_recording(file, version, sys.orig_argv, _libraries(own), standard, rests, _thorough)


def file_name() -> str:
    """A name that no other recording of this folder has, also after an exec or when pids come round."""
    import time

    return f"{os.getpid()}-{time.monotonic_ns()}.jsonl"


def install() -> None:
    """Have threads enlist as they start, and forks find no thread of ours."""
    global _installed
    if _installed:
        return
    _installed = True
    _wrap_thread_start()
    os.register_at_fork(
        before=_core.pause_recording,
        after_in_parent=_core.resume_recording,
        after_in_child=_begin_in_child,
    )


def _begin_in_child() -> None:
    if _folder:
        # A folder that is gone, or full, is no reason to fail in somebody's program.
        try:
            begin_file(os.path.join(_folder, file_name()))
        except OSError:
            return


def _libraries(own: str) -> list[str]:
    """Folders of what people install: where the program itself hardly ever is."""
    import site

    return [own, *site.getsitepackages(), site.getusersitepackages()]


def _wrap_thread_start() -> None:
    """Threads of `threading` enlist when they learn who they are; the recording finds others by itself."""
    # Typed as anything: these are threading's own names, the same from 3.11 to 3.15.
    thread: Any = threading.Thread
    set_ident = thread._set_ident

    def _set_ident(self: Any) -> None:
        set_ident(self)
        _core.enlist(self._name)

    thread._set_ident = _set_ident
