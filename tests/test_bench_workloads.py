"""Every workload of the suite gives the results of a plain loop, serially and on threads, and what it calls is as said."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from choice import workloads

BENCHMARKS = Path(workloads.__file__).resolve().parent.parent.parent
PREAMBLE = """
import json, sys
from choice import trial, workloads
from choice.workloads import server
"""
ANSWERS = """
said = {}
for name in workloads.names():
    if not workloads.missing(name):
        said[name] = []
        for plan in (None, [0, 1], [0, 2]):
            sys.modules.pop(f"choice.workloads.{name}", None)  # some leave something in their module
            said[name].append(trial.run(name, plan, 0.01)["results"])
print(json.dumps(said))
"""


def ask(program):
    """What a program prints last, as JSON. In an interpreter of its own: libraries keep threads, and servers end with
    it."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=110,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers():
    return ask(ANSWERS)


@pytest.mark.parametrize("name", workloads.names())
def test_a_workload_gives_the_results_of_a_plain_loop(name, answers):
    if lacking := workloads.missing(name):
        assert set(lacking) <= {"numpy", "PIL", "pandas", "polars", "sklearn"}
        pytest.skip(f"{name} needs {', '.join(lacking)}: pip install -r requirements-bench.txt")
    assert answers[name] == answers[name][:1] * 3


def test_there_are_at_least_forty_workloads_and_each_says_what_it_stands_for():
    assert len(workloads.names()) >= 40
    assert all(workloads.what(name) for name in workloads.names())


def test_a_server_with_a_limit_lets_others_queue_and_one_that_collapses_takes_longer_the_more_they_are():
    slept = ask(
        """
        import asyncio

        yield_, working, most, slept = asyncio.sleep, [], 0, []

        async def sleep(seconds):
            global most
            slept.append(seconds)
            working.append(asyncio.Event())
            most = max(most, len(working))
            await working[-1].wait()

        async def main():
            gate = server.example("_server").Gate(limit=2, strain=0.5)
            asyncio.sleep = sleep
            tasks = [asyncio.create_task(gate.work(1.0)) for _ in range(5)]
            while not all(task.done() for task in tasks):
                for _ in range(10):  # all that can go on do
                    await yield_(0)
                if working:
                    working.pop(0).set()
                await yield_(0)

        asyncio.run(main())
        print(json.dumps({"most": most, "slept": slept}))
        """
    )
    assert slept == {"most": 2, "slept": [1.0, 1.0, 2.0, 1.5, 1.0]}


def test_auto_by_cpu_and_wall_sees_the_gil_neither_in_the_caller_nor_in_a_worker():
    program = """
        import forkright as fr
        from forkright import _core
        from choice.workloads.calc import work

        HIDE
        readings = []
        for plan in (fr.Plan(threads=2), fr.Plan(processes=2, threads=2)):
            fr.map(work, [1_000_000] * 8, plan=plan)
            readings.append(fr.report().data["reading"]["held"])
        print(json.dumps({"why": _core.meter(), "held": readings, "interval": sys.getswitchinterval()}))
        """
    blind, sighted = ask(program.replace("HIDE", "trial.hide_gil()")), ask(program.replace("HIDE", ""))
    assert sighted["why"] == "" and None not in sighted["held"]
    assert blind["why"] and blind["held"] == [None, None]
    assert blind["interval"] == sighted["interval"]
