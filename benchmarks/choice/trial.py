"""One workload under one runner, in an interpreter of its own: `regret.py` starts this with a request in JSON.

The clock begins just before the map, when the workload and the runner's library are imported and the items made: the
workers' start is part of it.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forkright as fr
from choice import score
from forkright import _core


def pool(kind: Callable[[], concurrent.futures.Executor]) -> Callable[..., list[Any]]:
    def run(work: Callable[[Any], Any], items: Any) -> list[Any]:
        with kind() as executor:
            return list(executor.map(work, items))

    return run


def joblib_map() -> Callable[..., list[Any]]:
    """All cores, since without `n_jobs` joblib is a plain loop; the rest is its default."""
    joblib = importlib.import_module("joblib")
    return lambda work, items: list(joblib.Parallel(n_jobs=-1)(joblib.delayed(work)(item) for item in items))


def runner(plan: Any) -> Callable[..., list[Any]]:
    """What maps a function over items. Without a plan: a plain loop, to compare with."""
    match plan:
        case None:
            return lambda work, items: [work(item) for item in items]
        case "ThreadPoolExecutor":
            return pool(concurrent.futures.ThreadPoolExecutor)
        case "ProcessPoolExecutor":
            return pool(concurrent.futures.ProcessPoolExecutor)
        case "joblib":
            return joblib_map()
        case score.AUTO | score.BLIND:
            return lambda work, items: fr.map(work, items, plan="auto")
        case _:
            return lambda work, items: fr.map(work, items, plan=fr.Plan(*plan))


def run(workload: str, plan: Any, scale: float = 1.0) -> dict[str, Any]:
    """What it took, what came out, and what forkright reports of itself."""
    module = importlib.import_module(f"choice.workloads.{workload}")
    items = module.items(scale)
    mapped = runner(plan)
    if plan == score.BLIND:
        hide_gil()
    began = time.perf_counter()
    results = mapped(module.work, items)
    took = time.perf_counter() - began
    left = module.outcome() if hasattr(module, "outcome") else None
    answer: dict[str, Any] = {"seconds": took, "results": digest([*results, left])}
    if plan == score.BLIND and not _core.meter():
        raise RuntimeError("the meter saw the GIL")
    if plan in (score.AUTO, score.BLIND):
        answer["ended_with"] = ended_with(fr.report())
    if plan == score.AUTO:
        answer["report"] = json.loads(fr.report().to_json())
    return answer


def ended_with(report: fr.Report) -> str:
    """The last plan that was chosen; the report's own is the one that did most of the work."""
    verdicts = report.data["verdicts"]
    last = verdicts[-1]["verdict"]["plan"] if verdicts else report.data["plan"]
    return str(fr.Plan(**last))


def hide_gil() -> None:
    """Has forkright choose without the GIL: in this process and in the workers that it starts from now on."""
    blind = Path(__file__).resolve().parent / "blind"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(blind), os.environ.get("PYTHONPATH")]))
    importlib.import_module("choice.blind.sitecustomize")


def digest(results: list[Any]) -> str:
    """The same for the same results in the same order."""
    digested = hashlib.sha256()
    for result in results:
        # Large results as they are: their text would take longer to make than they took.
        digested.update(result if isinstance(result, bytes) else repr(result).encode())
        digested.update(b"\0")
    return digested.hexdigest()


def main() -> None:
    request = json.loads(sys.argv[1])
    print(json.dumps(run(**request)))


if __name__ == "__main__":
    main()
