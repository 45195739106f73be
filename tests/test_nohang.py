"""Whatever goes wrong at whatever step of a task's way, nothing hangs, and the error names the task: `nohang/` says how."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import forkright as fr

RUN = Path(__file__).parent / "nohang" / "run.py"
EXECUTORS = ["forkright threads", "forkright processes", "forkright hybrid", "forkright auto"]
HARMLESS = {"fine", "error that names the task"}
LIMIT = 300
# In the caller's own process nothing can be killed; the others went on.
UNENDABLE = {
    "forkright threads": {
        "running-function-block",
        "shutdown-function-block",
        "callback-result-block",
        "callback-exception-block",
    }
}
UNENDABLE["forkright auto"] = UNENDABLE["forkright threads"]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, list[str]]]]:
    """What became of each cell: all executors at once, as most of the time is spent waiting."""
    command = [sys.executable, str(RUN), "--json", "--jobs", "6", "--only", *EXECUTORS]
    folder = tmp_path_factory.mktemp("nohang")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0
    yield json.loads(output)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_whatever_goes_wrong_costs_its_own_task_at_most(
    findings: dict[str, dict[str, list[str]]], executor: str
) -> None:
    found = findings[executor]
    assert len(found) >= 16
    harmful = {
        cell: finding
        for cell, finding in found.items()
        if finding[0] not in HARMLESS and not (finding[0] == "no way to end it" and _can_not_be_ended(executor, cell))
    }
    assert not harmful, json.dumps(harmful, indent=1)


def _can_not_be_ended(executor: str, cell: str) -> bool:
    return cell.endswith("-block") and (cell in UNENDABLE.get(executor, ()) or not hasattr(fr.Future, "kill"))
