"""Has CPython's suites know forkright's classes by the names of the standard library's."""

from __future__ import annotations

import functools
import multiprocessing
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import forkright as fr

# Scripts and worker processes find the adapted classes here.
HERE = str(Path(__file__).parent)


class Replaced:
    """Stands before a suite's class, and replaces names for one test."""

    def replace(self, owner: object, name: str, value: object) -> None:
        patch = mock.patch.object(owner, name, value)
        patch.start()
        self.addCleanup(patch.stop)  # type: ignore[attr-defined]

    def rewrite_scripts(self, rule: Callable[[str], str]) -> None:
        """Have the programs that a test starts run what `rule` makes of their words."""

        class Popen(subprocess.Popen):  # type: ignore[type-arg]
            def __init__(self, args: list[str], *more: Any, **options: Any) -> None:
                super().__init__([rule(word) if isinstance(word, str) else word for word in args], *more, **options)

        self.replace(subprocess, "Popen", Popen)


@functools.cache
def start_helpers() -> None:
    """Start the thread that serves what is shared with workers. It stays, and would be taken for a test's."""
    first = fr.Process(target=id, args=(multiprocessing.get_context("spawn").Queue(),))
    first.start()
    first.join()
