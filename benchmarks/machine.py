"""Says what a benchmark ran on, so that its figures can be judged later. Runs are public: no paths, no host name."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import forkright as fr

REPOSITORY = Path(__file__).resolve().parent.parent


def describe() -> dict[str, Any]:
    """The machine, the interpreter and the build, as data for JSON."""
    return {
        "cpu": cpu_model(),
        "cores": fr.cpu_count(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "forkright": fr.__version__,
        "commit": commit(),
        # The extension may have been built before or after that commit; this at least tells of edits since.
        "edited": bool(_git("status", "--porcelain", "--", "crates", "python", "Cargo.toml", "Cargo.lock")),
    }


def sentence(machine: dict[str, Any]) -> str:
    """The same in one line."""
    commit = f"commit {machine['commit'][:12]}" if machine["commit"] else "no commit"
    edited = ", edited since" if machine["edited"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['python']}, "
        f"forkright {machine['forkright']} ({commit}{edited})"
    )


def commit() -> str:
    """That of the checkout; empty outside one."""
    return _git("rev-parse", "HEAD")


def load() -> list[float]:
    """The load averages over 1, 5 and 15 minutes: a benchmark beside other work is worth little."""
    return [round(value, 2) for value in os.getloadavg()]


def cpu_model() -> str:
    """What the CPU calls itself; aarch64 kernels often don't say."""
    try:
        listed = json.loads(subprocess.run(["lscpu", "--json"], capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return platform.machine()
    fields = {entry["field"].rstrip(":"): entry["data"] for entry in listed["lscpu"]}
    return str(fields.get("Model name", platform.machine()))


def slug(words: str) -> str:
    """The words as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _git(*arguments: str) -> str:
    """What git answers; nothing outside a checkout, or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
