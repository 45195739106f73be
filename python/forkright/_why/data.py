"""What `forkright why` has measured, as one document: plain dicts and lists, the same as `--json` writes.

`crates/meter/src/account` counts, `crates/engine/src/advice.rs` advises; here both get the program around them.
docs/why.md describes the form.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from typing import Any

from .. import _core, _machine

FORM = 1


def read(folder: str, process: int | None = None) -> list[bytes]:
    """The recordings in a folder, or those of one process: `inject.file_name` says what they are called."""
    recordings = []
    names = "*.jsonl" if process is None else f"{process}-*.jsonl"
    for file in sorted(glob.glob(os.path.join(glob.escape(folder), names))):
        with open(file, "rb") as recording:
            recordings.append(recording.read())
    return recordings


def document(recordings: list[bytes], program: dict[str, Any], cores: list[int]) -> dict[str, Any]:
    """Everything that was measured, and what it comes to.

    Args:
        recordings: As `read` gives them.
        program: What is known of it from outside: "argv", and "wall" and "exit" where it has ended.
        cores: Numbers of cores to predict for, beside those there are.
    """
    found = json.loads(_core.account_recordings(recordings, cores))
    account, advice = found["account"], found["advice"]
    functions = account["functions"]
    for convoy in account["convoys"]:
        convoy["sentence"] = _sentence(convoy, functions)
    for process in account["processes"]:
        process["name"] = process_name(process["argv"])
        for thread in process["threads"]:
            thread["name"] = thread["name"] or f"thread {thread['tid']}"
    machine = _machine.describe()
    return {
        "form": FORM,
        "program": {"wall": account["wall"], **program},
        "machine": {**machine, "cores": machine["cores"]["usable"], "limits": machine["cores"]},
        "verdict": advice,
        "states": found["states"],
        **{name: account[name] for name in ("totals", "blame", "convoys", "functions", "meter", "work", "processes")},
    }


def process_name(argv: list[str]) -> str:
    """What a process is called: its script or module, or what it was told to do."""
    skip = False
    for index, argument in enumerate(argv[1:], 1):
        if skip:
            skip = False
        elif argument in ("-W", "-X"):
            skip = True
        elif argument == "-m":
            return argv[index + 1] if index + 1 < len(argv) else argument
        elif argument == "-c":
            code = argv[index + 1] if index + 1 < len(argv) else ""
            return "multiprocessing child" if "multiprocessing" in code else "-c"
        elif not argument.startswith("-") or argument == "-":
            return os.path.basename(argument) or argument
    return os.path.basename(sys.executable)


def _sentence(convoy: dict[str, Any], functions: list[dict[str, Any]]) -> str:
    from .._report import percent

    hog = convoy["hog"]
    by = "a thread that runs none of the program's functions" if hog is None else f"`{functions[hog]['name']}`"
    return (
        f"`{functions[convoy['function']]['name']}` computes without the GIL {percent(convoy['off_gil'])} of its CPU "
        f"time, and waits {percent(convoy['wait'])} of its time to get it back from {by}: a convoy, which a process "
        f"for either would end"
    )
