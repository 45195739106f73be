"""The examples' HTTP server and the examples that call it.

`choice/regret.py` starts one server for all runs and names it in the environment: the pages take a second to make,
which is no part of what a plan costs.
"""

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"
VARIABLE = "FORKRIGHT_BENCHMARK_SERVER"


def example(name: str) -> Any:
    """A module of the examples, which are no package: they import one another as scripts do."""
    if str(EXAMPLES) not in sys.path:
        # Last: an example called as a library must not stand in for it.
        sys.path.append(str(EXAMPLES))
    return importlib.import_module(name)


def pages() -> list[str]:
    """The modules that there are pages about."""
    return list(example("pages").MODULES)


@functools.cache
def address() -> str:
    """The server that is running, or else a new one, which ends with this process."""
    running = os.environ.get(VARIABLE)
    return running or str(example("_server").start(delay=0.05, jitter=0.005, pages=pages()))
