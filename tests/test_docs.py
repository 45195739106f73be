"""The code in the how-to pages runs as it stands: all Python blocks of a page are one script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import run

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["asyncio.md", "context.md", "joblib.md", "workers.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    run("\n".join(blocks), tmp_path)
