"""What `choice/regret.py` runs: one workload a module, with `work` for one item, `items(scale)` and what it stands for.

The module's first line says the latter. `outcome()`, where there is one, gives what the work left in this process: it
must be right as well. At scale 1 each takes 0.3 to 5 s as a plain loop: what is regretted must be large beside what a
clock shows, and small enough for many rounds.
"""

from __future__ import annotations

import ast
from pathlib import Path

# What helps workloads and is none.
HELPERS = ("__init__", "server")


def names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in HELPERS)


def what(name: str) -> str:
    """What the workload stands for. Doesn't import it: its libraries may be missing."""
    text = (Path(__file__).parent / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
