"""Users' scripts, run by interpreters of their own, and the processes that are left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

from kinship import zygote
from waiting import LIMIT, until

_MARK = "FORKRIGHT_TEST_FAMILY"


class Script:
    """A script under way, and all processes that come of it."""

    def __init__(self, command: list[str], folder: Path, stdin: str | None) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        name, value = self._mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {name: value, "PYTHONPATH": str(Path(__file__).parent)},
            start_new_session=True,
        )
        self.stdin = stdin
        self.out = self.err = ""

    def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def wait(self) -> int:
        """Let it end; its exit code."""
        self.out, self.err = self.process.communicate(self.stdin, LIMIT)
        return self.process.returncode

    def family(self) -> set[int]:
        """The pids of all its processes, itself included."""
        mark = self._mark.encode()
        found = set()
        for entry in os.listdir("/proc"):
            # Processes end while we look, and a dead one that nobody collected has no environment.
            with contextlib.suppress(OSError):
                if entry.isdigit() and mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.add(int(entry))
        return found

    def zygote(self) -> int:
        """The process that forks its workers."""
        return zygote(self.process.pid)

    def until_alone(self) -> None:
        until(lambda: self.family() == {self.process.pid}, f"only the script is left; there are {self.family()}")

    def until_gone(self) -> None:
        until(lambda: not self.family(), f"nothing is left of the script; there are {self.family()}")


@contextlib.contextmanager
def start(
    text: str, folder: Path, *flags: str, arguments: tuple[str, ...] = (), stdin: str | None = None
) -> Iterator[Script]:
    """A script that runs beside the test; killed with all of its processes if the test ends before it."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    with _started(Script([*flags, str(path), *arguments], folder, stdin)) as script:
        yield script


@contextlib.contextmanager
def _started(script: Script) -> Iterator[Script]:
    try:
        yield script
    finally:
        for pid in script.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        script.process.wait()
        for stream in (script.process.stdin, script.process.stdout, script.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def run(text: str, folder: Path, *flags: str, arguments: tuple[str, ...] = ()) -> list[str]:
    """Run a script that must succeed and leave no process; the lines it printed."""
    with start(text, folder, *flags, arguments=arguments) as script:
        assert script.wait() == 0, script.err
        script.until_gone()
        assert script.err == ""
        return script.out.splitlines()


def start_command(
    command: list[str], folder: Path, stdin: str | None = None
) -> contextlib.AbstractContextManager[Script]:
    """As `start`, for an interpreter that is given its program in another way."""
    return _started(Script(command, folder, stdin))


def run_command(command: list[str], folder: Path, stdin: str | None = None) -> list[str]:
    """As `run`, for an interpreter that is given its program in another way."""
    with start_command(command, folder, stdin) as script:
        assert script.wait() == 0, script.err
        script.until_gone()
        return script.out.splitlines()
