"""The examples' HTTP server, in several kinds, and the examples that call it.

`choice/regret.py` starts one server of each kind for all runs and names them in the environment: the pages take a
second to make, which is no part of what a plan costs.
"""

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"
VARIABLE = "FORKRIGHT_BENCHMARK_SERVER"

# A network's delay for all. By name: what sets each apart.
DELAY, JITTER = 0.05, 0.005
KINDS: dict[str, dict[str, float]] = {
    "ready": {},
    # As many as it has connections to its database.
    "queueing": {"limit": 6},
    # With six requests in the queue an answer takes twice as long.
    "collapsing": {"limit": 6, "strain": 1 / 6},
}


def example(name: str) -> Any:
    """A module of the examples, which are no package: they import one another as scripts do."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    return importlib.import_module(name)


def pages() -> list[str]:
    """The modules that there are pages about."""
    return list(example("pages").MODULES)


@functools.cache
def address(kind: str = "ready") -> str:
    """The server that is running, or else a new one, which ends with this process."""
    if running := os.environ.get(variable(kind)):
        return running
    shown = pages() if kind == "ready" else []
    return str(example("_server").start(delay=DELAY, jitter=JITTER, pages=shown, **KINDS[kind]))


def environment() -> dict[str, str]:
    """What tells another process of the servers of this one."""
    return {variable(kind): address(kind) for kind in KINDS}


def variable(kind: str) -> str:
    return f"{VARIABLE}_{kind.upper()}"
