"""How a cell can end, worst first."""

from __future__ import annotations

import enum
from typing import NamedTuple

# Seconds after which something that has not happened never will.
LIMIT = 10.0


class End(enum.Enum):
    CALLER_DIED = "caller died"
    HANG = "hang"
    LOST = "lost"
    DOUBLED = "doubled"
    LEAK = "leak"
    LOST_OTHERS = "lost others"
    NO_END = "no way to end it"
    ERROR = "error"
    NAMED_ERROR = "error that names the task"
    FINE = "fine"

    @property
    def badness(self) -> int:
        return -list(End).index(self)


MEANINGS = {
    End.CALLER_DIED: "the user's own process died",
    End.HANG: "a task, an innocent one or a closing executor did not end",
    End.LOST: "a task seemed to succeed that can't have, or gave a wrong value, or its callback was not called",
    End.DOUBLED: "a task ran twice, or its callback was called twice",
    End.LEAK: "processes or shared memory were left",
    End.LOST_OTHERS: "innocent tasks failed, or could no longer be submitted",
    End.NO_END: "others went on, but what blocks can only be ended with the user's process",
    End.ERROR: "the task failed; nobody else noticed",
    End.NAMED_ERROR: "the same, and the error or its traceback names the task",
    End.FINE: "nothing had to fail, and nothing did",
}


class Finding(NamedTuple):
    end: End
    detail: str = ""

    @staticmethod
    def worst(findings: list[Finding]) -> Finding:
        return max(findings, key=lambda finding: finding.end.badness, default=Finding(End.FINE))
