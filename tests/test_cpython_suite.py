"""CPython's own tests of `concurrent.futures` pass on every kind of worker, but for those `cpython/left_out.py` names.

They run in an interpreter of their own, as they change modules and watch for every thread and child: this one, or,
as some are installed without their tests, another that lies beside it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

KINDS = ["threads", "processes", "hybrid", "auto", "futures"]
RUN = Path(__file__).parent / "cpython" / "run.py"
LIMIT = 110


def has_suite(python: Path) -> bool:
    script = "import sys, importlib.util as util; sys.exit(not util.find_spec('test.test_concurrent_futures'))"
    return subprocess.run([python, "-c", script], capture_output=True).returncode == 0


def neighbours() -> list[Path]:
    """Interpreters that a version manager installed beside this one, the nearest version first."""
    paths = Path(sys.base_prefix).parent.glob("*/bin/python3.*")
    minors = {path: int(minor) for path in paths if (minor := path.name.removeprefix("python3.")).isdigit()}
    fit = [path for path, minor in minors.items() if minor >= 11]
    return sorted(fit, key=lambda path: (abs(minors[path] - sys.version_info.minor), path))


def lend(python: Path, directory: Path) -> Path:
    """Make an environment for another interpreter that has forkright and what it needs, and nothing else."""
    lent = directory / "lent"
    lent.mkdir()
    for package in ("forkright", "cloudpickle"):
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        (lent / package).symlink_to(Path(spec.origin).parent)
    environment = directory / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3.*/site-packages")
    (packages / "lent.pth").write_text(f"{lent}\n")
    return environment / "bin" / "python"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One run for each kind, all at once: most of the suite's time is sleep."""
    directory = tmp_path_factory.mktemp("cpython")
    python = Path(sys.executable)
    if not has_suite(python):
        found = next(filter(has_suite, neighbours()), None)
        if found is None:
            pytest.skip("no interpreter here was installed with CPython's test suite: see tests/cpython/README.md")
        python = lend(found, directory)
    started = {
        kind: subprocess.Popen(
            [python, RUN, kind], cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for kind in KINDS
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", KINDS)
def test_cpythons_own_tests_pass_but_for_those_left_out(runs: dict[str, subprocess.Popen[str]], kind: str) -> None:
    output, _ = runs[kind].communicate(timeout=LIMIT)
    print(output)
    assert runs[kind].returncode == 0, output
