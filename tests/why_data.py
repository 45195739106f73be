"""Made-up measurements in the form that `forkright why` hands to its page and its trace."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

STATES = ["held", "held_blocked", "off_gil", "gil_wait", "lock_wait", "io", "idle", "run_delay", "unknown"]
HELD, HELD_BLOCKED, OFF_GIL, GIL_WAIT, LOCK_WAIT, IO, IDLE, RUN_DELAY, UNKNOWN = range(9)

HOSTILE = (
    "</script><script>window.stolen = 1</script>",
    "<!--<script>",
    "<img src=x onerror='window.stolen = 2'>",
    '"\'&quot; onmouseover=window.stolen=3 x="',
    "${stolen} $$ $data {{ }} %s \\u003c",
    "naïve 🧵 \u202egnp.exe\u2066",
    "\ud800 half, \x00 nothing, \x1b[31m red\r\n\u2028",
    "x" * 5000,
)


# A real program, for real measurements.
PROGRAM = """
import threading

def calc():
    total = 0.0
    for number in range(3_000_000):
        total += number**0.5

threads = [threading.Thread(target=calc, name=name) for name in ("one", "<two>")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def taking_turns(seconds: float = 2.0, turn: int = 5000) -> dict[str, Any]:
    """One process whose two threads compute in turns, while the main one waits for them."""
    end = round(seconds * 1e6)
    at = list(range(1000, end, turn))
    states = [HELD if index % 2 else GIL_WAIT for index in range(len(at))]
    others = [GIL_WAIT if state == HELD else HELD for state in states]
    threads = [
        thread(0, "MainThread", [0, 1000, end - 800], [HELD, LOCK_WAIT, HELD], [0, 2, 0], seconds),
        thread(1, "Thread-1 (calc)", at, states, [1] * len(at), seconds),
        thread(2, "Thread-2 (calc)", at, others, [1] * len(at), seconds),
    ]
    functions = [
        function("<module>", "/home/me/project/threads.py", 1),
        function("calc", "/home/me/project/threads.py", 12),
        function("Thread.join", "/usr/lib/python3.11/threading.py", 1119),
    ]
    return document(
        [process(4242, "threads.py", threads, seconds)],
        functions,
        seconds,
        sentence="The threads took turns on one GIL. Processes would be about 1.9 times faster here.",
        reasons=["calc holds the GIL 97 % of its time", "2 cores, of which one was idle throughout"],
        plan={"processes": 2, "threads": 1},
        blame=[
            {"waiting": 1, "holding": 1, "seconds": seconds * 0.9, "samples": 160},
            {"waiting": 0, "holding": None, "seconds": 0.004, "samples": 2},
        ],
    )


def three_processes() -> dict[str, Any]:
    """A parent that waits and two workers, one of which has native threads, the other one pool threads in a convoy."""
    chance = random.Random(3)
    seconds = 4.0
    parent = process(100, "pages.py", [thread(0, "MainThread", [0, 300_000], [HELD, IO], [0, 3], seconds)], seconds)
    hog = made_up(chance, 0, "MainThread", 0.5, seconds, (HELD, HELD, GIL_WAIT, OFF_GIL), 3000)
    busy = process(101, "worker 1", [hog], seconds, began=0.4, native=[("OpenBLAS", 2, 1.5), ("Rayon", 1, None)])
    pool = [
        made_up(chance, index, f"ThreadPoolExecutor-0_{index}", 0.6 + index / 10, 3.7, tuple(range(8)), 2500)
        for index in range(4)
    ]
    served = process(102, "worker 2", pool, 3.8, began=0.5)
    functions = [function(name, f"/app/{name}.py", 10) for name in ("main", "parse", "fetch", "wait", "digest")]
    found = document([parent, busy, served], functions, seconds, sentence="Worker processes with threads suit this.")
    found["convoys"] = [{"sentence": "digest releases the GIL and waits 4.1 ms each time to get it back from parse"}]
    return found


def nothing() -> dict[str, Any]:
    """A program that ended before anything was seen."""
    found = document([], [], 0.0, sentence="The program ended before anything could be measured.")
    found["program"] |= {"wall": 0.0, "exit": {"signal": "SIGSEGV"}}
    return found


def unknown_gil() -> dict[str, Any]:
    """An interpreter whose GIL the meter can't find, and readings that are unknown."""
    seconds = 1.0
    threads = [thread(0, "MainThread", [0, 400_000], [UNKNOWN, IO], [0, -1], seconds)]
    strange = process(7, "odd.py", threads, seconds, gil="this is a free-threaded build, which has no GIL")
    strange |= {"python": "3.14.0t", "switches": None, "cpu": None}
    found = document([strange], [function("<module>", "odd.py", 1)], seconds, sentence="Nothing can be said.")
    for part in (found["totals"], strange["threads"][0]["parts"]):
        part.update(dict.fromkeys(part))
    found["verdict"]["predictions"] = []
    return found


def hostile() -> dict[str, Any]:
    """Names, arguments and reasons that try to break out of whatever they are put into."""
    seconds = 1.0
    threads = [
        thread(index, name, [0, 1000 * (index + 1)], [GIL_WAIT, HELD if index == 0 else IO], [index, index], seconds)
        for index, name in enumerate(HOSTILE)
    ]
    functions = [function(name, name, 1) for name in HOSTILE]
    found = document(
        [process(666, name, threads if name == HOSTILE[0] else [], seconds) for name in HOSTILE],
        functions,
        seconds,
        sentence=HOSTILE[0],
        reasons=list(HOSTILE),
        blame=[{"waiting": 0, "holding": index, "seconds": 0.1, "samples": 3} for index in range(len(HOSTILE))],
    )
    for index, each in enumerate(found["processes"]):
        each |= {"pid": 666 + index, "python": HOSTILE[index]}
        each["native"] = [{"name": HOSTILE[index], "threads": 1, "cpu": 0.1}]
    found["program"]["argv"] = list(HOSTILE)
    found["program"]["exit"] = {"signal": HOSTILE[0]}
    found["convoys"] = [{"sentence": name} for name in HOSTILE]
    found["machine"]["system"]["architecture"] = HOSTILE[0]
    return found


def worst_case(threads: int = 20, seconds: float = 60.0, every: int = 1000) -> dict[str, Any]:
    """Threads that change their state and function with every look at 1 kHz: 1.2 million pieces."""
    chance = random.Random(20)
    count = round(seconds * 1e6 / every)
    # The sampler's ticks are jittered, and the same for all threads.
    ticks = [index * every + chance.randrange(every // 2) for index in range(count)]
    holder = [chance.randrange(threads) for _ in range(count)]
    others = [GIL_WAIT, GIL_WAIT, GIL_WAIT, OFF_GIL, IO, LOCK_WAIT, IDLE]
    made = []
    for index in range(threads):
        states = [HELD if who == index else state for who, state in zip(holder, chance.choices(others, k=count))]
        made.append(thread(index, f"Thread-{index}", ticks, states, chance.choices(range(200), k=count), seconds))
    functions = [function(f"function_{number}", f"/app/module_{number % 17}.py", number) for number in range(200)]
    return document([process(1, "worst.py", made, seconds)], functions, seconds, sentence="All took turns.")


def measure(option: str, folder: Path) -> str:
    """What `forkright why` writes of `PROGRAM` with "--html" or "--trace"."""
    program, file = folder / "program.py", folder / "written"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "forkright", "why", option, str(file), str(program)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    return file.read_text(encoding="utf-8")


def document(
    processes: list[dict[str, Any]],
    functions: list[dict[str, Any]],
    wall: float,
    *,
    sentence: str,
    reasons: list[str] | None = None,
    plan: dict[str, int] | None = None,
    blame: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """All of a measurement."""
    predictions = [
        {
            "cores": cores,
            "here": cores == 2,
            "plan": {"processes": cores, "threads": 1},
            "seconds": wall / cores,
            "speed_up": cores * 0.95,
        }
        for cores in (2, 4, 16)
    ]
    threads = [thread for process in processes for thread in process["threads"]]
    lived = sum(thread["ended"] - thread["began"] for thread in threads)
    totals = _sum([thread["parts"] for thread in threads], lived)
    totals["run_delay"] = {"seconds": lived / 50, "share": 0.02, "error": 0.004, "samples": 50}
    return {
        "form": 1,
        "program": {"argv": ["threads.py", "--calls", "4"], "wall": wall, "exit": {"code": 0}},
        "machine": {"cores": 2, "system": {"architecture": "x86_64"}},
        "verdict": {"sentence": sentence, "reasons": reasons or [], "plan": plan, "predictions": predictions},
        "states": STATES,
        "totals": totals,
        "blame": blame or [],
        "convoys": [],
        "functions": functions,
        "meter": {"cpu": 0.05, "share": 0.004, "ticks": 2500},
        "processes": processes,
    }


def process(
    pid: int,
    name: str,
    threads: list[dict[str, Any]],
    ended: float,
    *,
    began: float = 0.0,
    gil: str = "",
    native: list[tuple[str, int, float | None]] | None = None,
) -> dict[str, Any]:
    """A process of a measurement."""
    return {
        "pid": pid,
        "parent": 99,
        "name": name,
        "python": "3.11.7",
        "began": began,
        "ended": ended,
        "gil": gil,
        "cpu": 0.9 * (ended - began),
        "switches": 4211,
        "native": [{"name": name, "threads": count, "cpu": cpu} for name, count, cpu in native or []],
        "threads": [thread | {"tid": pid + thread["id"]} for thread in threads],
    }


def thread(
    number: int, name: str, at: list[int], states: list[int], functions: list[int], ended: float
) -> dict[str, Any]:
    """A thread of a measurement; its parts are added up from its pieces."""
    began = at[0] / 1e6 if at else 0.0
    ends = [*at[1:], round(ended * 1e6)]
    seconds = [0.0] * len(STATES)
    lasted: dict[int, int] = {}
    for begin, end, state, what in zip(at, ends, states, functions):
        seconds[state] += (end - begin) / 1e6
        lasted[what] = lasted.get(what, 0) + end - begin
    whole = max(ended - began, 1e-6)
    most = sorted(lasted.items(), key=lambda item: -item[1])[:5]
    return {
        "id": number,
        "tid": number,
        "name": name,
        "began": began,
        "ended": ended,
        "cpu": seconds[HELD] + seconds[OFF_GIL],
        "parts": {state: _reading(time, whole) for state, time in zip(STATES, seconds)},
        "functions": [
            {"function": what, "share": time / 1e6 / whole, "samples": time // 1000} for what, time in most if what >= 0
        ],
        "timeline": {"at": at, "state": states, "function": functions},
    }


def made_up(
    chance: random.Random, number: int, name: str, began: float, ended: float, states: tuple[int, ...], mean: int
) -> dict[str, Any]:
    """A thread whose pieces last `mean` microseconds on average."""
    at = [round(began * 1e6)]
    while at[-1] < ended * 1e6 - 4 * mean:
        at.append(at[-1] + 1 + round(chance.expovariate(1 / mean)))
    found = [chance.choice(states) for _ in at]
    return thread(number, name, at, found, [chance.randrange(-1, 5) for _ in at], ended)


def function(name: str, file: str, line: int) -> dict[str, Any]:
    """A function of a measurement."""
    return {"name": name, "file": file, "line": line}


def _reading(seconds: float, whole: float) -> dict[str, Any]:
    return {"seconds": seconds, "share": seconds / whole, "error": 0.01, "samples": round(seconds * 1000)}


def _sum(parts: list[dict[str, Any]], whole: float) -> dict[str, Any]:
    return {state: _reading(sum(part[state]["seconds"] for part in parts), max(whole, 1e-6)) for state in STATES}
