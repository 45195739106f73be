"""How the command line speaks: errors with hints, colours, progress. For `__main__` and the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO


class Trouble(Exception):
    """Ends a command: what is wrong, what to do about it, what to show before, the exit code."""

    def __init__(self, message: str, *, hint: str = "", details: str = "", code: int = 2) -> None:
        super().__init__(message)
        self.hint = hint
        self.details = details
        self.code = code


class Ink:
    """Colours for one stream, or none.

    Args:
        when: What ``--color`` says: "auto" for terminals only, "always" or "never".
        stream: What the text is for.
    """

    def __init__(self, when: str, stream: TextIO) -> None:
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not stream.isatty()
        self._colorful = when == "always" or (when == "auto" and not plain)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colorful else text

    def strong(self, text: str) -> str:
        """For what matters most."""
        return self._paint("1", text)

    def best(self, text: str) -> str:
        """For what won."""
        return self._paint("1;32", text)

    def faint(self, text: str) -> str:
        """For what explains the rest."""
        return self._paint("2", text)

    def bad(self, text: str) -> str:
        """For errors."""
        return self._paint("1;31", text)

    def warning(self, text: str) -> str:
        """For warnings."""
        return self._paint("1;33", text)

    def hint(self, text: str) -> str:
        """For what to do."""
        return self._paint("1;36", text)


def complain(trouble: Trouble, color: str) -> None:
    """Print why a command ended, to standard error."""
    ink = Ink(color, sys.stderr)
    if trouble.details:
        print(trouble.details.rstrip() + "\n", file=sys.stderr)
    print(f"{ink.bad('error:')} {trouble}", file=sys.stderr)
    if trouble.hint:
        print(f"\n{ink.hint('hint:')} {trouble.hint}", file=sys.stderr)


def similar(name: str, candidates: Iterable[str]) -> str:
    """What somebody may have meant by `name`; empty if nothing comes near."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(candidates), 1)), "")


class StatusLine:
    """One line on the terminal that tells what is going on; nothing where standard error is no terminal.

    Args:
        machine: The result is for a program to read: nothing is shown then either.
    """

    def __init__(self, machine: bool) -> None:
        self._shows = not machine and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """Show `text` instead of what was shown before; an empty one clears the line."""
        if self._shows:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
