"""Programs run alone and under `forkright why`, to be compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from waiting import LIMIT

FORKRIGHT = Path(sys.executable).with_name("forkright")


class Ending(NamedTuple):
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str


class Measured(NamedTuple):
    """The same of a measured one, with the report apart from what the program said."""

    ending: Ending
    report: str
    data: dict[str, Any]

    def threads(self) -> dict[str, dict[str, Any]]:
        """Its threads by name, of all its processes."""
        return {thread["name"]: thread for process in self.data["processes"] for thread in process["threads"]}


def write(folder: Path, text: str, name: str = "program.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def command_of(
    arguments: list[str], flags: list[str], json_file: Path | None, python: str = sys.executable
) -> list[str]:
    """What is run: the interpreter itself, or `forkright why` in the same interpreter."""
    if json_file is None:
        return [python, *flags, *arguments]
    return [python, *flags, str(FORKRIGHT), "why", "--json", str(json_file), *arguments]


def run(
    command: list[str],
    folder: Path,
    *,
    stdin: str | None = "",
    environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Ending:
    done = subprocess.run(
        command,
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=6 * LIMIT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        preexec_fn=before,
    )
    return Ending(done.returncode, done.stdout, done.stderr)


def compare(
    program: str | list[str],
    folder: Path,
    *arguments: str,
    flags: tuple[str, ...] = (),
    python: str = sys.executable,
    **how: Any,
) -> Measured:
    """Run a program twice and check that measuring it made no difference to it; what was measured."""
    if isinstance(program, str):
        program = [write(folder, program).name]
    words = [*program, *arguments]
    alone = run(command_of(words, list(flags), None, python), folder, **how)
    file = folder / "measured.json"
    measured = run(command_of(words, list(flags), file, python), folder, **how)
    assert measured.out == alone.out
    assert measured.err[: len(alone.err)] == alone.err
    report = measured.err[len(alone.err) :]
    assert report.startswith("\n"), f"the program said more than alone: {report}"
    assert measured.code == alone.code, report
    data = json.loads(file.read_text()) if file.exists() else {}
    return Measured(alone, report, data)
