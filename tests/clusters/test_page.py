"""The code of docs/clusters.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import library
from scripts import start

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    library("distributed")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    # Dask may have something to say on standard error as it ends.
    with start("\n".join(blocks), tmp_path) as script:
        assert script.wait() == 0, script.err
        assert "the cluster" in script.out
