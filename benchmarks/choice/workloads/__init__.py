"""What `choice/regret.py` runs: one workload a module, with `work` for one item, `items(scale)` and what it stands for.

The module's first line says the latter. `outcome()`, where there is one, gives what the work left in this process: it
must be right as well. At scale 1 each takes 0.3 to 5 s as a plain loop: what is regretted must be large beside what a
clock shows, and small enough for many rounds.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

# What helps workloads and is none.
HELPERS = ("__init__", "server")


def names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in HELPERS)


def what(name: str) -> str:
    """What the workload stands for. Doesn't import it: its libraries may be missing."""
    return (ast.get_docstring(_tree(name)) or "").splitlines()[0]


def missing(name: str) -> list[str]:
    """The packages that it imports and that are not installed."""
    imported: set[str] = set()
    for statement in _tree(name).body:
        match statement:
            case ast.Import(names=aliases):
                imported.update(alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(module=str(module)):
                imported.add(module.partition(".")[0])
    return sorted(package for package in imported if importlib.util.find_spec(package) is None)


def _tree(name: str) -> ast.Module:
    return ast.parse((Path(__file__).parent / f"{name}.py").read_text())
