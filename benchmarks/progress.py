"""Says what is being measured, for whoever watches; the figures go to standard output."""

from __future__ import annotations

import sys


def say(words: str) -> None:
    """Puts these words in place of the last ones; without words, leaves the line empty."""
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)
