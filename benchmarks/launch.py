"""Runs one measurement in an interpreter of its own and gives what it says.

Each timing gets a fresh interpreter because pools disturb one another: their threads wake up, a fork copies what the
others left, and a process that has forked, spawned and run threads is nobody's program.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Far more than anything here takes: whoever needs this long hangs.
PATIENCE = 60.0


class Failure(Exception):
    """The measurement gave no figure; says why in a line."""


def ask(script: str, request: dict[str, Any], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """What a script beside this one answers: the JSON of its last line, with the `whole` time of its process."""
    whole, said = run([sys.executable, str(HERE / script), json.dumps(request)], environment)
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer | {"whole": whole}


def ask_module(
    module: str, request: dict[str, Any], python: str, environment: dict[str, str], patience: float
) -> dict[str, Any]:
    """What a module of the benchmarks answers in another interpreter, which finds forkright in this checkout.

    As `ask`, with the `whole` time of its process.
    """
    path = os.pathsep.join([str(HERE), str(HERE.parent / "python")])
    command = [python, "-m", module, json.dumps(request)]
    whole, said = run(command, environment | {"PYTHONPATH": path}, patience)
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer | {"whole": whole}


def clock(statement: str) -> float:
    """Seconds from the start of an interpreter to its end, with one statement between."""
    return run([sys.executable, "-c", statement])[0]


def run(command: list[str], environment: dict[str, str] | None = None, patience: float = PATIENCE) -> tuple[float, str]:
    """The seconds from the program's start to its end, and what it printed."""
    began = time.perf_counter()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Each begins with the same figures of the machine, not with what earlier ones have measured.
        env=os.environ | {"FORKRIGHT_CACHE": "off"} | (environment or {}),
        # Worker processes of whatever hangs are ended with it.
        start_new_session=True,
    )
    try:
        said, complaint = child.communicate(timeout=patience)
    except BaseException as error:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failure(f"no result after {patience:.0f} s") from None
        raise
    took = time.perf_counter() - began
    if child.returncode != 0:
        lines = complaint.strip().splitlines()
        raise Failure(lines[-1] if lines else f"exit code {child.returncode}")
    return took, said
