"""Keeps a run: the raw timings as JSON and the tables beside as Markdown, in one directory for each day and CPU."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import machine

RUNS = Path(__file__).resolve().parent / "runs"


def save(name: str, kind: str, data: dict[str, Any], markdown: str) -> Path:
    """Writes both files and gives the directory.

    `kind` is "" for a whole run. Quick and partial ones go to a directory of their own, which git ignores: they
    must not replace a whole run of the same day.
    """
    folder = directory(kind, data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / f"{name}.md").write_text(markdown)
    return folder


def directory(kind: str, data: dict[str, Any]) -> Path:
    """Where the runs of this kind are kept that are made today on that machine."""
    words = [datetime.date.today().isoformat(), machine.slug(data["machine"]["cpu"]), kind]
    return RUNS / "-".join(filter(None, words))


def kind(quick: bool, partial: bool) -> str:
    """What `save` wants to know of a run."""
    return "-".join(word for word, applies in (("quick", quick), ("only", partial)) if applies)
