"""What holds for the whole suite: it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinship import children, command
from waiting import until

# A shell's background job ignores what the keyboard sends, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
# As does, under nohup, what the end of a terminal sends.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# What is measured of a machine full of tests is not for the user's cache, and what is there is not for the tests.
os.environ["FORKRIGHT_CACHE"] = "off"
# Helpers that assert say what they saw, as tests do.
pytest.register_assert_rewrite("measuring")


# What pyarrow's allocator starts as pyarrow is imported, which scikit-learn does by way of pandas, and never ends.
ARROWS = "jemalloc_bg_thd"


@pytest.fixture(scope="session", autouse=True)
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process, thread, descriptor or shared memory is left when all tests are done, but the idle zygote."""
    _warm_up()
    before = _belongings()
    yield
    # Workers first: what they hold keeps the tracker alive that the helpers wait for.
    _close()
    _end_helpers()
    _close()
    if request.session.testsfailed:
        return  # pytest keeps the frames of tests that failed, and with them what they hold
    # Threads and processes that were let go end a moment later.
    until(lambda: not _belongings() - before, f"nothing is left but {_belongings() - before}")


def _warm_up() -> None:
    """Have what is made once and kept until the interpreter ends: the zygote, the warden, the sampler."""
    import forkright

    forkright.map(abs, range(4), plan="processes")
    forkright.map(abs, range(4), plan="threads")
    forkright.map(time.sleep, [0.02] * 3)
    _close()


def _end_helpers() -> None:
    """End what `multiprocessing` starts for its own and leaves until the interpreter ends."""
    from multiprocessing import heap, resource_sharer, resource_tracker

    from forkright import _handover

    heap.BufferWrapper._heap = heap.Heap()  # type: ignore[attr-defined]
    gc.collect()
    resource_sharer.stop()  # type: ignore[attr-defined]
    _handover.stop()
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def _close() -> None:
    from forkright import _core

    _core.close_shared(5)


def _belongings() -> Counter[str]:
    """What this process has, by kind, so that the difference says what is left."""
    return Counter([*_descriptors(), *_children(), *_threads(), *_shared_memory()])


def _descriptors() -> Iterator[str]:
    folder = Path("/proc/self/fd")
    for number in os.listdir(folder):
        try:
            target = os.readlink(folder / number)
        except FileNotFoundError:  # the descriptor that lists the others
            continue
        # Sockets and pipes have numbers, which change when a zygote is replaced.
        yield "descriptor of " + target.partition(":[")[0]


def _children() -> Iterator[str]:
    for child in children(os.getpid()):
        called = command(child)
        yield "zygote" if b"_zygote" in called else f"process {child} {called!r}"


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        yield f"thread {thread.name}"
    for task in os.listdir("/proc/self/task"):
        try:
            name = Path(f"/proc/self/task/{task}/comm").read_text().strip()
        except OSError:
            continue
        if name != ARROWS:
            yield f"native thread {name}"


def _shared_memory() -> Iterator[str]:
    """Entries of /dev/shm but those that programs that have nothing to do with us are using."""
    entries = [f"/dev/shm/{entry}" for entry in os.listdir("/dev/shm")]
    if entries:
        ours = f"PPid:\t{os.getpid()}\n"
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and ours not in (process / "status").read_text():
                    maps = (process / "maps").read_text()
                    entries = [entry for entry in entries if entry not in maps]
            except OSError:
                continue
    yield from entries
