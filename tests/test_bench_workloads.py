"""Every workload of the suite gives the results of a plain loop, serially and on threads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from choice import workloads

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
# In an interpreter of their own: libraries keep threads, and the server of some ends with it.
PROGRAM = """
import json, sys
sys.path.append(sys.argv[1])
from choice import trial, workloads
said = {}
for name in workloads.names():
    try:
        answers = []
        for plan in (None, [0, 1], [0, 2]):
            sys.modules.pop(f"choice.workloads.{name}", None)  # some leave something in their module
            answers.append(trial.run(name, plan, 0.01)["results"])
        said[name] = answers
    except ModuleNotFoundError as error:
        said[name] = error.name
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def answers():
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(BENCHMARKS)], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", workloads.names())
def test_a_workload_gives_the_results_of_a_plain_loop(name, answers):
    answer = answers[name]
    if isinstance(answer, str):
        assert answer in ("numpy", "PIL", "pandas", "polars", "sklearn"), f"{name} can't import {answer}"
        pytest.skip(f"{name} needs {answer}: pip install -r requirements-bench.txt")
    assert answer == answer[:1] * 3


def test_there_are_at_least_forty_workloads_and_each_says_what_it_stands_for():
    assert len(workloads.names()) >= 40
    assert all(workloads.what(name) for name in workloads.names())
