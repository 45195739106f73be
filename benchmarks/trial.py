"""One workload under one plan, in an interpreter of its own: `regret.py` starts this with a request in JSON.

The clock begins just before the map, when the workload and forkright are imported: the workers' start is part of it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import time
from typing import Any, Literal

import forkright as fr
import workloads


def run(workload: workloads.Workload, plan: Any) -> dict[str, Any]:
    """What it took, what came out, and what forkright reports. Without a plan: a plain loop, to compare with."""
    module = importlib.import_module(f"workloads.{workload.module}")
    function = getattr(module, workload.function)
    items = module.items()
    if plan is None:
        began = time.perf_counter()
        results = [function(item) for item in items]
        took = time.perf_counter() - began
        return {"seconds": took, "results": digest(results)}
    chosen: fr.Plan | Literal["auto"] = "auto" if plan == "auto" else fr.Plan(*plan)
    began = time.perf_counter()
    results = fr.map(function, items, plan=chosen)
    took = time.perf_counter() - began
    report = fr.report()
    answer = {"seconds": took, "results": digest(results), "ended_with": str(report.plan)}
    if plan == "auto":
        answer["report"] = json.loads(report.to_json())
    return answer


def digest(results: list[Any]) -> str:
    """The same for the same results in the same order."""
    return hashlib.sha256(repr(results).encode()).hexdigest()


def main() -> None:
    request = json.loads(sys.argv[1])
    print(json.dumps(run(workloads.WORKLOADS[request["workload"]], request["plan"])))


if __name__ == "__main__":
    main()
