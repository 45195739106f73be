"""CPython's own tests pass on every kind of worker, but for those `cpython/left_out.py` names.

They run in an interpreter of their own, as they change modules and watch for every thread and child: this one, or,
as some are installed without their tests, another that lies beside it. `make test-cpython` runs them on all versions.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "cpython"
sys.path.append(str(HERE))
import environments  # noqa: E402

KINDS = ["threads", "processes", "hybrid", "auto-like-threads", "auto-like-processes", "futures", "pool"]
LIMIT = 110


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One run for each kind, all at once: most of the suite's time is sleep."""
    found = next((one for one in (environments.mine(), *environments.neighbours()) if one.is_fit()), None)
    if found is None:
        pytest.skip("no interpreter here was installed with CPython's test suite: see tests/cpython/README.md")
    directory = tmp_path_factory.mktemp("cpython")
    python = environments.make(found, directory)
    started = {}
    for kind in KINDS:
        place = directory / kind
        place.mkdir()
        started[kind] = subprocess.Popen(
            [python, HERE / "run.py", kind], cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", KINDS)
def test_cpythons_own_tests_pass_but_for_those_left_out(runs: dict[str, subprocess.Popen[str]], kind: str) -> None:
    output, _ = runs[kind].communicate(timeout=LIMIT)
    print(output)
    assert runs[kind].returncode == 0, output
