"""Waits for events, under a watchdog: nothing in the tests sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 10.0


def until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as `condition` holds; fail, saying `what` was awaited, if it never does."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {LIMIT:.0f} s in vain: {what}")
        time.sleep(0.002)


class Flag:
    """An event that all processes see: a file. It travels to workers as its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self) -> None:
        self._path.touch()

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)

    def is_set(self) -> bool:
        return self._path.exists()

    def wait(self) -> None:
        until(self.is_set, f"{self._path.name} is set")


class Tally:
    """Marks that tasks leave, whatever process they run in: files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def mark(self, name: object) -> None:
        (self._folder / str(name)).touch(exist_ok=False)

    def marks(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()}
