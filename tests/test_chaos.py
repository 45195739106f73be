"""Workers and the zygote are killed at random while memory is short: each task has one outcome. `chaos/storm.py` does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STORM = Path(__file__).parent / "chaos" / "storm.py"
# A storm ends itself before, with all tracebacks.
LIMIT = 400


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_task_of_a_storm_has_one_outcome_and_nothing_is_left(seed: int) -> None:
    command = [sys.executable, str(STORM), "--seed", str(seed), "--tasks", "1500"]
    storm = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert storm.returncode == 0, f"seed {seed}:\n{storm.stdout}{storm.stderr}"
    told = json.loads(storm.stdout)
    assert sum(told["outcomes"].values()) == 1500, told
    # A storm in which nobody is killed shows nothing.
    assert told["kills"] and told["outcomes"]["WorkerDied"], told
