"""The code of docs/clusters.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import library
from scripts import run

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    library("distributed")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    run("\n".join(blocks), tmp_path)
