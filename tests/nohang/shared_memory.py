"""A /dev/shm of an interpreter's own, so that what is left there is known to be its own.

That takes a mount namespace, which not every machine allows: there, nothing is said of shared memory.
"""

from __future__ import annotations

import functools
import os
import subprocess

_MOUNT = 'mount -t tmpfs none /dev/shm && exec "$@"'


@functools.cache
def own() -> tuple[str, ...]:
    """What to put before a command so that it has its own; nothing if that can't be had."""
    for flags in (("-m",), ("-r", "-m")):
        command = ("unshare", *flags, "sh", "-c", _MOUNT, "sh")
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return ()


class Look:
    """Looks into the /dev/shm of a process that lives, and can look on when it is gone."""

    def __init__(self, pid: int) -> None:
        self._folder = os.open(f"/proc/{pid}/root/dev/shm", os.O_RDONLY | os.O_DIRECTORY) if own() else None

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            os.close(self._folder)

    def entries(self) -> list[str]:
        return [] if self._folder is None else os.listdir(self._folder)
