"""What a worker process of `forkright.joblib` does first.

Imports nothing but `os`: libraries read these settings when they are loaded, and joblib loads NumPy.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def settle_in(
    environment: dict[str, str], initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """Limit the threads of libraries, then do what the user asked for."""
    os.environ.update(environment)
    if initializer is not None:
        initializer(*initargs)
