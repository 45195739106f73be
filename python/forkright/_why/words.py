"""The words for what threads do, and the cleaning of words that come from the measured program.

`page` and `trace` say the same thing by the same name. Names of functions, threads and files are the program's:
they may hold anything that a Python string can.
"""

from __future__ import annotations

import re
from typing import Any

from .._report import count

# What each state is called, and what it means for somebody who never heard of it.
STATES = {
    "held": ("GIL held", "runs Python code; no other thread of its process can meanwhile"),
    "held_blocked": ("blocked with GIL", "waits for something and keeps the GIL: nobody else can run Python code"),
    "off_gil": ("off-GIL CPU", "computes without the GIL, as NumPy, hashing and compression do"),
    "gil_wait": ("GIL wait", "could run Python code, but another thread holds the GIL"),
    "lock_wait": ("lock wait", "waits for a lock, a queue or an event of the program"),
    "io": ("I/O, sleep", "waits for a network, a disk, another process or the clock"),
    "idle": ("idle", "has nothing to do"),
    "unknown": ("unknown", "could not be told; never a guess"),
    "run_delay": ("no core", "ready to run, but no core was free"),
}
# The states in which a thread has the GIL.
HOLDING = ("held", "held_blocked")

# Control characters draw nothing, or break what is drawn; half surrogates have no UTF-8 form.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def label(state: str) -> str:
    """What people call a state; a newer meter's states keep their own name."""
    return STATES[state][0] if state in STATES else state.replace("_", " ")


def meaning(state: str) -> str:
    """What a state means, in a sentence's worth; empty for states unknown here."""
    return STATES[state][1] if state in STATES else ""


def away(program: dict[str, Any]) -> str:
    """What a block did not see, in a sentence; empty if it saw everything."""
    tasks = program.get("away")
    if not tasks:
        return ""
    ran = f"{count(tasks, 'task')} ran in forkright's worker processes, which are not part of this"
    return f"{ran}: `forkright.report()` tells of them"


def clean(text: object) -> str:
    """The program's text with every character that has no form on a page, on a terminal or in UTF-8 made visible."""
    return _UNFIT.sub("\ufffd", str(text))
