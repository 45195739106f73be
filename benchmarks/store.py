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
    words = [datetime.date.today().isoformat(), machine.slug(data["machine"]["cpu"]), kind]
    directory = RUNS / "-".join(filter(None, words))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    (directory / f"{name}.md").write_text(markdown)
    return directory


def kind(quick: bool, partial: bool) -> str:
    """What `save` wants to know of a run."""
    return "-".join(word for word, applies in (("quick", quick), ("only", partial)) if applies)
