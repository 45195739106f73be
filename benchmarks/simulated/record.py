"""Records what the items of the suite's workloads do, for the simulated machine.

    PYTHONPATH=benchmarks python -m simulated.record [NAME...]

Each workload runs once, one item after another, in an interpreter of its own: clocks tell how long each item computed
and waited, the meter how much of the computing held the GIL. What an item and its result cost to pickle and what its
function imports are timed apart, and so is the same work on two threads, which tells what they cost each other. One
small file each in `recordings/`; neighbours that are alike are kept as their mean.
"""

from __future__ import annotations

import importlib
import itertools
import json
import pickle
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figures
import forkright as fr
import launch
from choice import workloads
from choice.workloads import server
from progress import say

RECORDINGS = Path(__file__).resolve().parent / "recordings"
PATIENCE = 60.0
# What one item after another can't tell: how many their server can bear at once.
LEFT_OUT = ("queueing_server", "collapsing_server")
# Clocks are read so often at most: with shorter items they would be most of what there is.
MOST_STAMPS = 2000
# Items whose pickling is timed, each so many that are alike at once, as they travel.
PICKLED = 20
TOGETHER = 100
# Items that differ by less are alike.
ALIKE = 0.1
# Two threads that need so many times the CPU of one are more than noise.
DRAGGING = 1.4

Stamp = tuple[float, float, float, int]


def stamp() -> Stamp:
    """Wall time, this thread's CPU time, that of programs that have ended, and how often it has waited."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.perf_counter(), time.thread_time(), children.ru_utime + children.ru_stime, waits


def stamped(work: Callable[[Any], Any], every: int, stamps: list[Stamp]) -> Callable[[Any], Any]:
    """The function, with the clocks read before each `every`th call."""
    count = 0

    def call(item: Any) -> Any:
        nonlocal count
        if count % every == 0:
            stamps.append(stamp())
        count += 1
        return work(item)

    return call


def record(workload: str) -> dict[str, Any]:
    """One workload, in this interpreter."""
    module = importlib.import_module(f"choice.workloads.{workload}")
    items = module.items()
    every = -(-len(items) // MOST_STAMPS)
    stamps: list[Stamp] = []
    results = fr.map(stamped(module.work, every, stamps), items, plan="serial")
    stamps.append(stamp())
    report = json.loads(fr.report().to_json())
    counts = [every] * (len(stamps) - 2) + [len(items) - every * (len(stamps) - 2)]
    rows = [row(count, *pair) for count, pair in zip(counts, itertools.pairwise(stamps), strict=True)]
    demand = report["given"]["demand"]
    held = share(demand["held"], demand["off"]) if demand["gil"] == "measured" else 1.0
    pickled = pickling(items, results)
    return {
        "workload": workload,
        "items": merged([split(one, held) for one in rows]),
        **pickled,
        "sleeps": workload == "sleeping",
        "stays": "it leaves something in its process" if hasattr(module, "outcome") else pickled["stays"],
    }


def row(count: int, before: Stamp, after: Stamp) -> dict[str, float]:
    """What each of `count` items did between two stamps, on average."""
    wall, cpu, programs, waits = ((b - a) / count for a, b in zip(before, after, strict=True))
    # Time off the core without having waited is the machine's doing.
    waiting = max(0.0, wall - cpu - programs) if waits else 0.0
    return {"count": count, "cpu": cpu, "waiting": waiting, "programs": programs, "rounds": max(1, round(waits))}


def split(one: dict[str, float], held: float) -> dict[str, float]:
    cpu = one.pop("cpu")
    return {"count": one.pop("count"), "held": cpu * held, "off": cpu * (1 - held), **one}


def share(one: float, other: float) -> float:
    return one / (one + other) if one + other > 0 else 1.0


def merged(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Neighbours that are alike as one, with their mean."""
    kept: list[dict[str, float]] = []
    for new in rows:
        last = kept[-1] if kept else None
        if last is not None and alike(last, new):
            both = last["count"] + new["count"]
            for key in ("held", "off", "waiting", "programs", "rounds"):
                last[key] = (last[key] * last["count"] + new[key] * new["count"]) / both
            last["count"] = both
        else:
            kept.append(dict(new))
    for one in kept:
        one["rounds"] = max(1, round(one["rounds"]))
        for key in ("held", "off", "waiting", "programs"):
            one[key] = float(f"{one[key]:.4g}")
    return kept


def alike(one: dict[str, float], other: dict[str, float]) -> bool:
    """By the time of the whole item, and of each of its parts."""
    parts = ("held", "off", "waiting", "programs")
    whole = max(sum(one[key] for key in parts), sum(other[key] for key in parts))
    return all(abs(one[key] - other[key]) <= ALIKE * whole for key in parts)


def pickling(items: list[Any], results: list[Any]) -> dict[str, Any]:
    """Seconds and bytes of an item and its result, here and in a worker; or why they can't leave."""
    here, there, size = [], [], []
    pairs = list(zip(items, results, strict=True))
    together = min(len(pairs), TOGETHER if len(pairs) > 20 * TOGETHER else 1)
    try:
        for start in range(0, len(pairs) - together + 1, max(1, len(pairs) // PICKLED)):
            times = []
            for values in zip(*pairs[start : start + together], strict=True):
                began = time.perf_counter()
                text = pickle.dumps(list(values), protocol=5)
                between = time.perf_counter()
                pickle.loads(text)
                times += [(between - began) / together, (time.perf_counter() - between) / together]
                size.append(len(text) / together)
            here.append(times[0] + times[3])
            there.append(times[1] + times[2])
    except Exception as error:
        return {"pickling_here": 0.0, "pickling_there": 0.0, "bytes": 0.0, "stays": f"it can't be pickled: {error}"}
    median = figures.median
    return {"pickling_here": median(here), "pickling_there": median(there), "bytes": 2 * median(size), "stays": None}


def threads(workload: str) -> dict[str, Any]:
    """CPU seconds of the workload on two threads."""
    module = importlib.import_module(f"choice.workloads.{workload}")
    fr.map(module.work, module.items(), plan=fr.Plan(0, 2))
    return {"cpu": json.loads(fr.report().to_json())["cpu"]}


def imports(workload: str) -> dict[str, Any]:
    """Seconds that a worker, which has forkright, needs to import the function's module."""
    began = time.perf_counter()
    importlib.import_module(f"choice.workloads.{workload}")
    return {"seconds": time.perf_counter() - began}


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        request = json.loads(sys.argv[1])
        print(json.dumps({"record": record, "threads": threads, "imports": imports}[request["what"]](request["of"])))
        return
    names = sys.argv[1:] or [name for name in workloads.names() if name not in LEFT_OUT]
    environment = server.environment()
    RECORDINGS.mkdir(exist_ok=True)

    def ask(what: str, name: str) -> dict[str, Any]:
        request = {"what": what, "of": name}
        return launch.ask_module("simulated.record", request, sys.executable, environment, PATIENCE)

    for name in names:
        if lacking := workloads.missing(name):
            say(f"{name}: left out, for want of {', '.join(lacking)}")
            continue
        say(f"{name}: recording")
        recorded = ask("record", name)
        del recorded["whole"]
        alone = sum(one["count"] * (one["held"] + one["off"]) for one in recorded["items"])
        two = min(ask("threads", name)["cpu"] for _ in range(2))
        # What waits is slow for other reasons.
        computes = alone > sum(one["count"] * (one["waiting"] + one["programs"]) for one in recorded["items"])
        recorded["drag"] = round(two / alone, 2) if computes and two > DRAGGING * alone else 1.0
        recorded["import"] = figures.median([ask("imports", name)["seconds"] for _ in range(3)])
        (RECORDINGS / f"{name}.json").write_text(json.dumps(recorded) + "\n")
    say("")


if __name__ == "__main__":
    main()
