"""Counts the instructions of the hot paths and compares them with what was kept; `make test-instructions` runs this.

    PYTHONPATH=benchmarks python -m instructions.count [--keep]

Fails if a path takes a tenth more than was kept. Times on shared machines say nothing about a tenth; these counts are
the same to 3 % from run to run. They are judged by how they compare to plain pickling of the same calls in the same
run, which is the same to the instruction as long as interpreter, C library and CPU are: where it is not, other counts
can't be compared so closely, and the bound is a quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import table
from instructions import paths
from meter import library

HERE = Path(__file__).resolve().parent
KEPT = HERE / "counts.json"
YARDSTICK = "pickling"
# How much more is too much; and if the yardstick itself is not what it was.
BOUND, ELSEWHERE = 0.10, 0.25
# By how much the yardstick may differ to be what it was.
SAME = 0.01

Counts = dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the instructions of the hot paths.")
    parser.add_argument("--keep", action="store_true", help="keep these counts, to compare with from now on")
    keep = parser.parse_args().keep
    if reason := missing():
        print(f"==> SKIPPED: there is no {reason}; on Debian: apt install valgrind gcc")
        return
    counts = count()
    if keep:
        made_by = {"python": platform.python_version(), "rustc": version("rustc"), "valgrind": version("valgrind")}
        KEPT.write_text(json.dumps({"made_by": made_by, "instructions": counts}, indent=1) + "\n")
    kept: Counts = json.loads(KEPT.read_text())["instructions"]
    bound = BOUND if is_same_place(counts, kept) else ELSEWHERE
    changes = compare(counts, kept)
    rows = [
        [name, f"{kept[name]:,}", f"{counts[name]:,}", f"{change:+.1%}", "TOO MANY" if change > bound else ""]
        for name, change in changes.items()
    ]
    print(table.markdown(("instructions of one", "kept", "now", "change by pickling", ""), rows, right=(1, 2, 3)))
    if bound == ELSEWHERE:
        print(
            "==> Plain pickling takes another number of instructions than where these were kept: this is another "
            f"interpreter, C library or CPU. The bound is {bound:.0%} instead of {BOUND:.0%}."
        )
    if any(change < -bound for change in changes.values()):
        print("==> Fewer than before: keep them by --keep, so that they stay so.")
    sys.exit(any(change > bound for change in changes.values()))


def compare(counts: Counts, kept: Counts) -> dict[str, float]:
    """By how much each count has grown, measured by the yardstick of its own run."""
    return {
        name: (counts[name] / counts[YARDSTICK]) / (kept[name] / kept[YARDSTICK]) - 1
        for name in kept
        if name != YARDSTICK
    }


def is_same_place(counts: Counts, kept: Counts) -> bool:
    """Whether interpreter, C library and CPU are such that counts can be compared closely."""
    return abs(counts[YARDSTICK] / kept[YARDSTICK] - 1) <= SAME


def count() -> Counts:
    """The instructions of one task or item of each path, by name."""
    marks = library.build("marks", HERE)
    settings = {"PYTHONPATH": str(HERE / "under_valgrind"), "PYTHONHASHSEED": "0", "FORKRIGHT_CACHE": "off"}
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                *("valgrind", "--quiet", "--tool=callgrind", "--fair-sched=yes", "--trace-children=yes"),
                f"--callgrind-out-file={directory}/%p",
                *(sys.executable, str(HERE / "paths.py"), str(marks)),
            ],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode != 0:
            raise SystemExit(f"error: the paths failed under valgrind\n{done.stderr}")
        found = dict(filter(None, (read(path) for path in Path(directory).iterdir())))
    return {name: round(found[name] / times) for name, times in paths.PATHS.items()}


def read(path: Path) -> tuple[str, int] | None:
    """The path that callgrind has written this of, and its instructions."""
    text = path.read_text(errors="replace")
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    return (name[1], int(total[1])) if name and total else None


def missing() -> str:
    """What is not installed that counting needs."""
    if shutil.which("valgrind") is None:
        return "valgrind"
    try:
        library.build("marks", HERE)
    except (library.NoCompiler, subprocess.CalledProcessError):
        return "C compiler, or no header of valgrind"
    return ""


def version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
