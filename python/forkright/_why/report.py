"""`forkright.why()`: measures what happens inside a `with` block, in this process and those it forks."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from .. import _core
from . import data, inject, text


class why:
    """Measure the threads of a ``with`` block: who holds the GIL, who waits for it, and what would suit them.

    ::

        with forkright.why() as measured:
            work()
        print(measured)

    All threads of this process and the processes forked inside the block are measured; the last line of the text says
    what that cost. forkright's worker processes are not: the text says how many tasks ran there. Blocks do not nest,
    and one is measured at a time.

    Args:
        cores: Numbers of cores to predict for, beside those there are.
        thorough: Look a thousand times a second to the end, which takes up to 5 % of a core, and not only in the first
            second.

    Attributes:
        data: All readings and the verdict, as plain dicts and lists: what ``forkright why --json`` writes, once the
            block has ended.

    Raises:
        RuntimeError: If something else is being measured in this process.
    """

    data: dict[str, Any]

    def __init__(self, *, cores: Sequence[int] = (4, 16, 64), thorough: bool = False) -> None:
        if not all(isinstance(count, int) and count > 0 for count in cores):
            raise ValueError(f"cores must be positive whole numbers, not {cores!r}")
        self._cores = list(cores)
        self._thorough = thorough
        self._folder = ""
        self._process = 0
        self._began = 0.0
        self._answered = 0

    def __enter__(self) -> why:
        # None that is removed at the interpreter's end: at the end of a forked child, too.
        self._folder = tempfile.mkdtemp(prefix="forkright-why-")
        self._process = os.getpid()
        try:
            inject.begin_block(self._folder, self._thorough)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._began, self._answered = time.monotonic(), _core.answered()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall = time.monotonic() - self._began
        inject.end_block()
        if os.getpid() == self._process:
            recordings = data.read(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
        else:
            # A forked child that leaves the block, too: the rest is its parent's.
            recordings = data.read(self._folder, os.getpid())
        program = {"argv": sys.argv or [""], "wall": wall, "away": _core.answered() - self._answered}
        self.data = data.document(recordings, program, self._cores)

    @property
    def verdict(self) -> str:
        """What would suit the program, in one sentence."""
        return str(self.data["verdict"]["sentence"])

    def to_json(self) -> str:
        """All readings and the verdict; ``form`` is the version of their form."""
        return json.dumps(self.data)

    def to_html(self) -> str:
        """A page with the timeline of all threads, for a browser; it needs no network."""
        from . import page

        return page.render(self.data)

    def to_trace(self) -> str:
        """A trace that Perfetto and Chrome open."""
        from . import trace

        return trace.render(self.data)

    def __str__(self) -> str:
        return "\n".join(text.lines(self.data))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For IPython in a terminal."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        from html import escape

        # In a frame of its own, so that neither page disturbs the other.
        page = escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0" title="forkright why"></iframe>'


def load_ipython_extension(shell: Any) -> None:
    """For `%load_ext forkright`: adds the magic `%%why`, which measures a cell."""
    shell.register_magic_function(_why_cell, "cell", "why")


def _why_cell(line: str, cell: str) -> why:
    """Measure this cell: who holds the GIL, who waits for it, and what threads or processes would do.

    The options are numbers of cores to predict for: ``%%why 4,16,64``.
    """
    from IPython import get_ipython

    cores = [int(word) for word in line.replace(",", " ").split()]
    with why(cores=cores or (4, 16, 64)) as measured:
        get_ipython().run_cell(cell)
    return measured
